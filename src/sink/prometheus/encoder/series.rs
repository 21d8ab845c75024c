//! Encoder of single samples, for a sink that pushes them.

use std::sync::Arc;

use crate::names::MetricKind;
use crate::outcome::RunId;

use super::super::state::Example;
use super::sample::{Head, Pairs, Value};

/// Label that contains the metric name.
const NAME: &str = "__name__";

/// Series with one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Labels sorted by name without duplicates, including `__name__`.
    pub labels: Vec<(String, String)>,
    /// Value of the sample.
    pub value: f64,
    /// Type of the family.
    pub kind: MetricKind,
    /// Help text of the family.
    pub help: Arc<str>,
    /// Example of a counted run.
    pub exemplar: Option<Exemplar>,
}

/// Run that represents the value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar {
    /// Id of the run, which is also its trace id.
    pub run: RunId,
    /// Counted value: 1, or the duration of the run in seconds.
    pub value: f64,
    /// End of the run, in milliseconds since 1970.
    pub at: i64,
}

impl Exemplar {
    fn new(of: &Example, value: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a time since 1970")]
        let at = (of.at * 1e3).round() as i64;
        Self { run: of.run, value, at }
    }
}

/// Encoder that collects samples.
pub(in super::super) struct Encoder {
    /// Labels of every sample.
    common: Vec<(String, String)>,
    name: String,
    help: Arc<str>,
    kind: MetricKind,
    pub(super) out: Vec<Series>,
}

impl Encoder {
    pub(super) fn new(labels: &[(String, String)]) -> Self {
        let common = labels.to_vec();
        Self { common, name: String::new(), help: Arc::default(), kind: MetricKind::Gauge, out: Vec::new() }
    }

    pub(super) fn begin(&mut self, head: Head) {
        head.name.clone_into(&mut self.name);
        (self.help, self.kind) = (head.help.into(), head.kind);
    }

    pub(super) fn sample(&mut self, base: Pairs, further: Pairs, value: Value) {
        match value {
            Value::Gauge(value) => self.push("", base, further, None, value, None),
            Value::Counter(of) => {
                self.push("", base, further, None, of.total, of.example.map(|of| Exemplar::new(of, 1.0)));
            }
            Value::Histogram(of) => {
                let mut example = of.example;
                for (bound, cumulative) in of.bounds.iter().copied().chain([f64::INFINITY]).zip(of.cumulative) {
                    // The exemplar belongs to the first bucket that includes it.
                    let fits = example.take_if(|example| example.seconds <= bound);
                    let exemplar = fits.map(|of| Exemplar::new(of, of.seconds));
                    self.push("_bucket", base, further, Some(bound), *cumulative as f64, exemplar);
                }
                self.push("_sum", base, further, None, of.sum, None);
                let count = of.cumulative.last().copied().unwrap_or_default();
                self.push("_count", base, further, None, count as f64, None);
            }
        }
    }

    fn push(
        &mut self,
        suffix: &str,
        base: Pairs,
        further: Pairs,
        bound: Option<f64>,
        value: f64,
        exemplar: Option<Exemplar>,
    ) {
        // A label without a value is equivalent to a missing one, and receivers reject it.
        let pairs = base.iter().chain(further).filter(|(_, value)| !value.is_empty());
        let mut labels: Vec<_> = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        labels.push((NAME.to_owned(), format!("{}{suffix}", self.name)));
        if let Some(bound) = bound {
            labels.push(("le".to_owned(), if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() }));
        }
        // The sort is stable, so the first label of a name is kept.
        labels.extend_from_slice(&self.common);
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        labels.dedup_by(|later, earlier| later.0 == earlier.0);
        self.out.push(Series { labels, value, kind: self.kind, help: Arc::clone(&self.help), exemplar });
    }
}
