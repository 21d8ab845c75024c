//! Samples to encode: the head of a family, labels and values.

use crate::names::MetricKind;
use crate::sink::prometheus::histogram::Native;
use crate::sink::prometheus::state::Example;

/// Names and values of labels.
pub(in super::super) type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Common properties of all samples of a family.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Head<'a> {
    pub name: &'a str,
    pub help: &'a str,
    pub kind: MetricKind,
}

/// Value of one sample.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Value<'a> {
    Gauge(f64),
    Counter(Counter<'a>),
    Histogram(Histogram<'a>),
}

/// Value of a counter.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Counter<'a> {
    pub total: f64,
    /// Time at which the counter was 0, in seconds since 1970.
    pub created_at: Option<f64>,
    /// Example of a counted run.
    pub example: Option<&'a Example>,
}

/// Value of a histogram.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Histogram<'a> {
    /// Upper bounds, except that of the last bucket.
    pub bounds: &'a [f64],
    /// Cumulative counts up to each bound, and the total.
    pub cumulative: &'a [u64],
    pub sum: f64,
    /// Same runs in narrow buckets.
    pub native: Option<&'a Native>,
    /// Time at which the histogram was empty, in seconds since 1970.
    pub created_at: Option<f64>,
    /// Example of a counted run.
    pub example: Option<&'a Example>,
}

/// Formats the trace id of a run for an exemplar: 32 hexadecimal digits.
pub(super) fn trace_id<'a>(example: &Example, buffer: &'a mut [u8; 32]) -> &'a str {
    example.run.0.simple().encode_lower(buffer)
}
