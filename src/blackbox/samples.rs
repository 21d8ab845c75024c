//! Samples of a probe and their text format. They are formatted directly, because a registry per probe would cost more
//! than the probe.

use std::borrow::Cow;

use super::metric::{self, Metric, Phase};

/// Maximum length of a label value, in characters: longer than any name in a certificate, but short enough to limit
/// memory.
const LONGEST_LABEL: usize = 4096;
/// Limit below which whole numbers are formatted as integers, which `f64` represents exactly.
const WHOLE: f64 = 1e15;

/// Samples of one probe.
#[derive(Debug)]
pub struct Samples {
    /// Samples without labels, by the rank of their metric.
    plain: [Option<f64>; metric::ALL.len()],
    labelled: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    metric: Metric,
    /// Labels in text format, including the braces.
    labels: Cow<'static, str>,
    value: f64,
}

impl Default for Samples {
    fn default() -> Self {
        Self { plain: [None; metric::ALL.len()], labelled: Vec::with_capacity(8) }
    }
}

impl Samples {
    /// Sets a metric without labels.
    pub(super) fn set(&mut self, metric: Metric, value: f64) {
        self.plain[metric.rank] = Some(value);
    }

    /// Sets a metric with labels.
    pub(super) fn set_with(&mut self, metric: Metric, labels: &[(&str, &str)], value: f64) {
        let mut written = String::with_capacity(24 * labels.len());
        let mut sorted = labels.to_vec();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        for (i, (name, text)) in sorted.iter().enumerate() {
            written.push_str(if i == 0 { "{" } else { "," });
            written.push_str(name);
            written.push_str("=\"");
            escape(&mut written, text);
            written.push('"');
        }
        if written.is_empty() {
            return self.set(metric, value);
        }
        written.push('}');
        *self.series(metric, written.into()) = value;
    }

    /// Adds seconds to a phase.
    pub(super) fn add_phase(&mut self, metric: Metric, phase: Phase, seconds: f64) {
        *self.series(metric, phase.0.into()) += seconds;
    }

    fn series(&mut self, metric: Metric, labels: Cow<'static, str>) -> &mut f64 {
        let known = self.labelled.iter().position(|known| known.metric.rank == metric.rank && known.labels == labels);
        let at = known.unwrap_or_else(|| {
            self.labelled.push(Series { metric, labels, value: 0.0 });
            self.labelled.len() - 1
        });
        &mut self.labelled[at].value
    }

    /// Renders the text format of Prometheus, in the order of its client libraries.
    pub fn render(&mut self) -> String {
        self.labelled.sort_unstable_by(|a, b| (a.metric.rank, &*a.labels).cmp(&(b.metric.rank, &*b.labels)));
        let mut labelled = self.labelled.iter().peekable();
        let mut out = String::with_capacity(4096);
        for (metric, plain) in metric::ALL.iter().zip(self.plain) {
            let mut of_metric = || labelled.next_if(|series| series.metric.rank == metric.rank);
            let mut next = plain.map(|value| ("", value));
            let mut series = move || next.take().or_else(|| of_metric().map(|one| (&*one.labels, one.value)));
            let Some(first) = series() else { continue };
            out.push_str(metric.head);
            for (labels, value) in std::iter::once(first).chain(std::iter::from_fn(series)) {
                out.push_str(metric.name);
                out.push_str(labels);
                out.push(' ');
                write(&mut out, value);
                out.push('\n');
            }
        }
        out
    }
}

/// Formats a value for Prometheus.
fn write(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if value.fract() == 0.0 && value.abs() < WHOLE {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number that fits")]
        out.push_str(itoa::Buffer::new().format(value as i64));
    } else {
        out.push_str(zmij::Buffer::new().format_finite(value));
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars().take(LONGEST_LABEL) {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metric;
    use super::*;

    #[test]
    fn samples_are_sorted_and_escaped() {
        let mut samples = Samples::default();
        samples.set(metric::SUCCESS, 1.0);
        samples.set_with(metric::EXPECT_INFO, &[("b", "x\"\\\n"), ("a", "")], 1.0);
        samples.add_phase(metric::HTTP_DURATION, metric::TLS, 0.25);
        samples.add_phase(metric::HTTP_DURATION, metric::CONNECT, 0.5);
        samples.add_phase(metric::HTTP_DURATION, metric::TLS, 0.25);
        samples.set(metric::SUCCESS, 0.0);
        assert_eq!(
            samples.render(),
            "# HELP probe_expect_info Explicit content matched\n# TYPE probe_expect_info gauge\n\
             probe_expect_info{a=\"\",b=\"x\\\"\\\\\\n\"} 1\n\
             # HELP probe_http_duration_seconds Duration of http request by phase, summed over all redirects\n\
             # TYPE probe_http_duration_seconds gauge\n\
             probe_http_duration_seconds{phase=\"connect\"} 0.5\nprobe_http_duration_seconds{phase=\"tls\"} 0.5\n\
             # HELP probe_success Displays whether or not the probe was a success\n# TYPE probe_success gauge\n\
             probe_success 0\n"
        );
    }

    #[test]
    fn values_are_written_as_prometheus_reads_them() {
        let values = [0.0, -0.0, 4.0, 200.0, -1.0, 3_668_918_509.0, 1e15, 0.1, 0.000_042_5, 1e300, 1.5e-9];
        for value in values {
            let mut out = String::new();
            write(&mut out, value);
            assert!((out.parse::<f64>().unwrap() - value).abs() <= 0.0, "{out} for {value}");
        }
        for (value, text) in [(200.0, "200"), (0.25, "0.25"), (f64::NAN, "NaN"), (f64::NEG_INFINITY, "-Inf")] {
            let mut out = String::new();
            write(&mut out, value);
            assert_eq!(out, text);
        }
    }
}
