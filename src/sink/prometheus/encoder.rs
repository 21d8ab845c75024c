//! Encoding of samples: the text format, OpenMetrics, or protobuf.

mod protobuf;
mod sample;
mod series;
mod text;

pub(super) use sample::{Counter, Head, Histogram, Pairs, Value};
pub use series::{Exemplar, Series};

/// Exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text format of Prometheus, version 0.0.4.
    Text,
    /// OpenMetrics 0.0.1.
    OpenMetricsDraft,
    /// OpenMetrics 1.0.0, with exemplars.
    OpenMetrics,
    /// Length-delimited messages of `io.prometheus.client.MetricFamily`, with exemplars and native histograms.
    Protobuf,
}

impl Format {
    /// Returns the media type of responses.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetricsDraft => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Encoder of families in sequence, each followed by its samples. A family without samples is not written.
pub(super) enum Encoder {
    Text(text::Encoder),
    Protobuf(protobuf::Encoder),
    Series(series::Encoder),
}

impl Encoder {
    pub fn new(format: Format) -> Self {
        match format {
            Format::Text => Self::Text(text::Encoder::new(false)),
            Format::OpenMetricsDraft | Format::OpenMetrics => Self::Text(text::Encoder::new(true)),
            Format::Protobuf => Self::Protobuf(protobuf::Encoder::default()),
        }
    }

    /// Creates an encoder that collects single samples. Each has these labels in addition to its own, which take
    /// precedence. [`Encoder::take_series`] returns the samples.
    pub fn series(labels: &[(String, String)]) -> Self {
        Self::Series(series::Encoder::new(labels))
    }

    /// Returns the collected samples.
    pub fn take_series(&mut self) -> Vec<Series> {
        match self {
            Self::Series(encoder) => std::mem::take(&mut encoder.out),
            Self::Text(_) | Self::Protobuf(_) => Vec::new(),
        }
    }

    /// Begins a family.
    pub fn begin(&mut self, head: Head) {
        match self {
            Self::Text(encoder) => encoder.begin(head),
            Self::Protobuf(encoder) => encoder.begin(head),
            Self::Series(encoder) => encoder.begin(head),
        }
    }

    /// Adds a sample with the labels of both lists.
    pub fn sample(&mut self, base: Pairs, further: Pairs, value: Value) {
        match self {
            Self::Text(encoder) => encoder.sample(base, further, value),
            Self::Protobuf(encoder) => encoder.sample(base, further, value),
            Self::Series(encoder) => encoder.sample(base, further, value),
        }
    }

    /// Ends the last family and the exposition.
    pub fn end(&mut self) {
        match self {
            Self::Text(encoder) => encoder.end(),
            Self::Protobuf(encoder) => encoder.end(),
            Self::Series(_) => {}
        }
    }

    /// Returns the number of bytes that can be taken.
    pub fn ready(&self) -> usize {
        match self {
            Self::Text(encoder) => encoder.out.len(),
            Self::Protobuf(encoder) => encoder.out.len(),
            Self::Series(_) => 0,
        }
    }

    /// Takes the written bytes and reserves the same capacity again.
    pub fn take(&mut self, capacity: usize) -> Vec<u8> {
        let out = match self {
            Self::Text(encoder) => &mut encoder.out,
            Self::Protobuf(encoder) => &mut encoder.out,
            Self::Series(_) => return Vec::new(),
        };
        std::mem::replace(out, Vec::with_capacity(capacity))
    }
}
