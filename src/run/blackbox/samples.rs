//! What a probe measured, and its text form: written directly, since a registry for each probe would cost more than the
//! probe.

use std::fmt::Write as _;

use super::metric::Metric;

/// The longest value of a label, in characters: more than any name of a certificate, less than what fills a memory.
const LONGEST_LABEL: usize = 4096;

/// Samples of one probe.
#[derive(Debug, Default)]
pub struct Samples {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    metric: Metric,
    /// Labels as they are written, braces included, and the value.
    series: Vec<(String, f64)>,
}

impl Samples {
    /// Sets a metric that has no labels.
    pub(super) fn set(&mut self, metric: Metric, value: f64) {
        self.put(metric, String::new(), value);
    }

    /// Sets a series.
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
        if !written.is_empty() {
            written.push('}');
        }
        self.put(metric, written, value);
    }

    fn put(&mut self, metric: Metric, labels: String, value: f64) {
        let Some(family) = self.families.iter_mut().find(|family| family.metric.name == metric.name) else {
            self.families.push(Family { metric, series: vec![(labels, value)] });
            return;
        };
        match family.series.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, known)) => *known = value,
            None => family.series.push((labels, value)),
        }
    }

    /// Adds to a phase's seconds.
    pub(super) fn add_phase(&mut self, metric: Metric, phase: &str, seconds: f64) {
        let is_it = |labels: &str| {
            labels
                .strip_prefix("{phase=\"")
                .and_then(|rest| rest.strip_suffix("\"}"))
                .is_some_and(|known| known == phase)
        };
        let family = self.families.iter_mut().find(|family| family.metric.name == metric.name);
        match family.and_then(|family| family.series.iter_mut().find(|(known, _)| is_it(known))) {
            Some((_, known)) => *known += seconds,
            None => self.put(metric, format!("{{phase=\"{phase}\"}}"), seconds),
        }
    }

    /// The text format of Prometheus, sorted as its clients sort.
    pub fn render(&mut self) -> String {
        self.families.sort_unstable_by_key(|family| family.metric.name);
        let mut out = String::with_capacity(160 * self.families.len());
        for family in &mut self.families {
            let Metric { name, help } = family.metric;
            for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " gauge\n"] {
                out.push_str(part);
            }
            family.series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            for (labels, value) in &family.series {
                out.push_str(name);
                out.push_str(labels);
                out.push(' ');
                if value.is_infinite() {
                    out.push_str(if *value > 0.0 { "+Inf" } else { "-Inf" });
                } else {
                    let _ = write!(out, "{value}");
                }
                out.push('\n');
            }
        }
        out
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
        samples.add_phase(metric::HTTP_DURATION, "tls", 0.25);
        samples.add_phase(metric::HTTP_DURATION, "connect", 0.5);
        samples.add_phase(metric::HTTP_DURATION, "tls", 0.25);
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
}
