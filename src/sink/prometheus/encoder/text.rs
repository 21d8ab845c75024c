//! Text formats of Prometheus and OpenMetrics, which differ only slightly.
//!
//! Sources: Prometheus' page "Exposition formats", version 0.0.4; the specification of OpenMetrics 1.0.

use crate::names::MetricKind;

use super::super::state::Example;
use super::sample::{Head, Pairs, Value, trace_id};

/// Integers below this limit are written without an exponent.
const WHOLE: f64 = 1e15;

/// Encoder of text.
pub(in super::super) struct Encoder {
    is_open: bool,
    pub(super) out: Vec<u8>,
    /// Name of the family in samples.
    name: String,
    /// Lines before the first sample of the family.
    head: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(is_open: bool) -> Self {
        Self { is_open, out: Vec::new(), name: String::new(), head: Vec::new() }
    }

    pub(super) fn begin(&mut self, head: Head) {
        self.name.clear();
        self.name.push_str(head.name);
        self.head.clear();
        let (family, kind) = match head.kind {
            MetricKind::Gauge => (head.name, "gauge"),
            // OpenMetrics names a family without the suffix of its samples.
            MetricKind::Counter if self.is_open => (head.name.strip_suffix("_total").unwrap_or(head.name), "counter"),
            MetricKind::Counter => (head.name, "counter"),
            MetricKind::Histogram => (head.name, "histogram"),
        };
        self.head.extend_from_slice(b"# HELP ");
        self.head.extend_from_slice(family.as_bytes());
        self.head.push(b' ');
        escape(&mut self.head, head.help, self.is_open);
        self.head.extend_from_slice(b"\n# TYPE ");
        self.head.extend_from_slice(family.as_bytes());
        self.head.push(b' ');
        self.head.extend_from_slice(kind.as_bytes());
        self.head.push(b'\n');
    }

    pub(super) fn sample(&mut self, base: Pairs, further: Pairs, value: Value) {
        self.out.append(&mut self.head);
        match value {
            Value::Gauge(value) => self.line("", base, further, None, value, None),
            Value::Counter(of) => {
                let example = of.example.map(|example| (example, 1.0));
                self.line("", base, further, None, of.total, example);
            }
            Value::Histogram(of) => {
                let count = of.cumulative.last().copied().unwrap_or_default();
                let mut example = of.example;
                for (bound, cumulative) in of.bounds.iter().copied().chain([f64::INFINITY]).zip(of.cumulative) {
                    // The exemplar belongs to the first bucket that includes it.
                    let fits = example.take_if(|example| example.seconds <= bound);
                    let shown = fits.map(|example| (example, example.seconds));
                    self.line("_bucket", base, further, Some(bound), *cumulative as f64, shown);
                }
                self.line("_sum", base, further, None, of.sum, None);
                self.line("_count", base, further, None, count as f64, None);
            }
        }
    }

    pub(super) fn end(&mut self) {
        if self.is_open {
            self.out.extend_from_slice(b"# EOF\n");
        }
    }

    fn line(
        &mut self,
        suffix: &str,
        base: Pairs,
        further: Pairs,
        bound: Option<f64>,
        value: f64,
        example: Option<(&Example, f64)>,
    ) {
        let (is_open, out) = (self.is_open, &mut self.out);
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        let mut before = b'{';
        for (name, value) in base.iter().chain(further) {
            out.push(before);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"=\"");
            escape(out, value, true);
            out.push(b'"');
            before = b',';
        }
        if let Some(bound) = bound {
            out.push(before);
            out.extend_from_slice(b"le=\"");
            number(out, bound);
            // Canonical number format of OpenMetrics.
            if is_open && bound.is_finite() && bound.fract() == 0.0 {
                out.extend_from_slice(b".0");
            }
            out.push(b'"');
            before = b',';
        }
        if before == b',' {
            out.push(b'}');
        }
        out.push(b' ');
        number(out, value);
        if let Some((example, value)) = example.filter(|_| is_open) {
            out.extend_from_slice(b" # {trace_id=\"");
            out.extend_from_slice(trace_id(example, &mut [0; 32]).as_bytes());
            out.extend_from_slice(b"\"} ");
            number(out, value);
            out.push(b' ');
            number(out, example.at);
        }
        out.push(b'\n');
    }
}

fn escape(out: &mut Vec<u8>, text: &str, quotes: bool) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\n') || (quotes && *byte == b'"')) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(if rest[at] == b'\n' { b'n' } else { rest[at] });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Writes a number in the format of Prometheus.
fn number(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if value.fract() == 0.0 && value.abs() < WHOLE {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number that fits")]
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Counter, Histogram};
    use super::*;
    use crate::outcome::RunId;

    fn written(is_open: bool, kind: MetricKind, value: Value) -> String {
        let mut encoder = Encoder::new(is_open);
        encoder.begin(Head { name: "nothing", help: "Has no samples.", kind: MetricKind::Gauge });
        encoder.begin(Head { name: "some_total", help: "A \"b\" \\ c\nd.", kind });
        encoder.sample(&[("a", "x\"\\\n")], &[("b", "")], value);
        encoder.end();
        String::from_utf8(encoder.out).unwrap()
    }

    #[test]
    fn values_have_the_form_of_their_format() {
        let run = RunId("01932c07-223e-7000-8000-0123456789ab".parse().unwrap());
        let example = Example { run, seconds: 0.25, at: 1_800_000_000.5 };
        let counter = Value::Counter(Counter { total: 3.0, created_at: Some(1.0), example: Some(&example) });
        let labels = "some_total{a=\"x\\\"\\\\\\n\",b=\"\"}";
        assert_eq!(
            written(false, MetricKind::Counter, counter),
            format!("# HELP some_total A \"b\" \\\\ c\\nd.\n# TYPE some_total counter\n{labels} 3\n")
        );
        let exemplar = "# {trace_id=\"01932c07223e700080000123456789ab\"}";
        assert_eq!(
            written(true, MetricKind::Counter, counter),
            format!(
                "# HELP some A \\\"b\\\" \\\\ c\\nd.\n# TYPE some counter\n{labels} 3 {exemplar} 1 1800000000.5\n# EOF\n"
            )
        );
        let histogram = Value::Histogram(Histogram {
            bounds: &[0.1, 1.0],
            cumulative: &[0, 2, 2],
            sum: 0.5,
            native: None,
            created_at: None,
            example: Some(&example),
        });
        let lines: Vec<_> = ["_bucket", "_sum", "_count"].iter().map(|end| format!("some_total{end}")).collect();
        let text = written(true, MetricKind::Histogram, histogram);
        let ends: Vec<_> =
            text.lines().skip(2).map(|line| line.split_once("b=\"\"").map_or(line, |(_, end)| end)).collect();
        let in_bucket = format!(",le=\"1.0\"}} 2 {exemplar} 0.25 1800000000.5");
        assert_eq!(ends, [",le=\"0.1\"} 0", &in_bucket, ",le=\"+Inf\"} 2", "} 0.5", "} 2", "# EOF"]);
        assert!(lines.iter().all(|line| text.contains(line.as_str())), "{text}");
        assert!(written(false, MetricKind::Histogram, histogram).contains(",le=\"1\"} 2\n"));
    }

    #[test]
    fn numbers_are_as_prometheus_reads_them() {
        let check = |value: f64, expected: &str| {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(0.0, "0");
        check(-3.0, "-3");
        check(1_800_000_000.5, "1800000000.5");
        check(0.000_002_5, "2.5e-6");
        check(1e300, "1e+300");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Inf");
    }
}
