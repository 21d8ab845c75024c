//! Remote write messages, version 2.0 and 1.0. Pure.
//!
//! Sources: the specifications "Prometheus Remote-Write 2.0" (release candidate 4) and "1.0", and Prometheus' own
//! definitions (`prompb/io/prometheus/write/v2/types.proto`, `prompb/types.proto`).

use std::collections::HashMap;

use prost::Message;

use crate::names::MetricKind;
use crate::sink::prometheus::{Exemplar, Sample, Series};

/// Exemplar label that contains a trace id.
const TRACE_ID: &str = "trace_id";
/// Units that can be the suffix of a metric name.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// Protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Version 2.0: each text is sent once per request, and each series contains its metadata.
    V2,
    /// Version 1.0.
    V1,
}

impl Version {
    /// Returns the value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            Self::V1 => "application/x-protobuf",
        }
    }

    /// Returns the value of the header `X-Prometheus-Remote-Write-Version`.
    pub fn number(self) -> &'static str {
        match self {
            Self::V2 => "2.0.0",
            Self::V1 => "0.1.0",
        }
    }

    /// Returns the other version.
    pub fn other(self) -> Self {
        match self {
            Self::V2 => Self::V1,
            Self::V1 => Self::V2,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Point>,
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<LabelledExemplar>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelledExemplar {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub value: f64,
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

/// Sample, identical in both versions except for its start time, which version 1.0 does not have.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Point {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    #[prost(int64, tag = "3")]
    pub start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<SymbolSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SymbolSeries {
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Point>,
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<SymbolExemplar>,
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SymbolExemplar {
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    pub value: f64,
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Metadata {
    /// 1 for a counter, 2 for a gauge, 3 for a histogram.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(uint32, tag = "3")]
    pub help_ref: u32,
    #[prost(uint32, tag = "4")]
    pub unit_ref: u32,
}

/// Samples and exemplars of one series.
struct Group<'a> {
    series: &'a Series,
    points: Vec<Point>,
    exemplars: Vec<Exemplar>,
}

/// Groups the samples by series, in chronological order. Of two samples with the same time, only the later one is kept.
fn grouped<'a>(samples: &[&'a Sample], version: Version) -> Vec<Group<'a>> {
    let mut places: HashMap<&[(String, String)], usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for sample in samples {
        let place = *places.entry(&sample.series.labels).or_insert_with(|| {
            groups.push(Group { series: &sample.series, points: Vec::new(), exemplars: Vec::new() });
            groups.len() - 1
        });
        let start = sample.start.filter(|_| version == Version::V2).unwrap_or_default();
        let point = Point { value: sample.series.value, timestamp: sample.at, start_timestamp: start };
        groups[place].points.push(point);
        groups[place].exemplars.extend(sample.series.exemplar);
    }
    for group in &mut groups {
        group.points.sort_by_key(|point| point.timestamp);
        group.points.dedup_by(|later, kept| {
            let is_same = later.timestamp == kept.timestamp;
            if is_same {
                *kept = *later;
            }
            is_same
        });
        group.exemplars.sort_by_key(|exemplar| exemplar.at);
    }
    groups
}

/// Returns the unit at the end of a family's name, or an empty text.
fn unit(series: &Series) -> &'static str {
    let name = series.labels.iter().find(|(name, _)| name == "__name__").map_or("", |(_, value)| value.as_str());
    let endings: &[&str] = match series.kind {
        MetricKind::Counter => &["_total"],
        MetricKind::Gauge => &[],
        MetricKind::Histogram => &["_bucket", "_sum", "_count"],
    };
    let family = endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    let last = family.rsplit('_').next().unwrap_or_default();
    UNITS.into_iter().find(|unit| *unit == last).unwrap_or_default()
}

/// Returns the body of a request: protobuf, compressed with the Snappy block format.
pub(super) fn body(samples: &[&Sample], version: Version) -> Vec<u8> {
    let message = match version {
        Version::V1 => v1(samples).encode_to_vec(),
        Version::V2 => v2(samples).encode_to_vec(),
    };
    snap::raw::Encoder::new().compress_vec(&message).expect("a batch is far below the 4 GiB that Snappy takes")
}

fn v1(samples: &[&Sample]) -> WriteRequest {
    let label = |(name, value): &(String, String)| Label { name: name.clone(), value: value.clone() };
    let exemplar = |of: Exemplar| LabelledExemplar {
        labels: vec![Label { name: TRACE_ID.to_owned(), value: of.run.0.simple().to_string() }],
        value: of.value,
        timestamp: of.at,
    };
    let series = grouped(samples, Version::V1).into_iter().map(|group| TimeSeries {
        labels: group.series.labels.iter().map(label).collect(),
        samples: group.points,
        exemplars: group.exemplars.into_iter().map(exemplar).collect(),
    });
    WriteRequest { timeseries: series.collect() }
}

/// Table of texts that are sent once. The first one is empty.
struct Symbols<'a> {
    all: Vec<String>,
    places: HashMap<&'a str, u32>,
}

impl<'a> Symbols<'a> {
    fn new() -> Self {
        Self { all: vec![String::new()], places: HashMap::from([("", 0)]) }
    }

    /// Returns the index of a text.
    fn place(&mut self, text: &'a str) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.push(text.to_owned());
        self.places.insert(text, place);
        place
    }

    /// Adds a text that occurs once, and returns its index.
    fn push(&mut self, text: String) -> u32 {
        let place = u32::try_from(self.all.len()).expect("a batch has fewer texts than 2^32");
        self.all.push(text);
        place
    }
}

fn v2(samples: &[&Sample]) -> Request {
    let mut symbols = Symbols::new();
    let mut timeseries = Vec::new();
    for group in grouped(samples, Version::V2) {
        let of = group.series;
        let mut labels_refs = Vec::with_capacity(2 * of.labels.len());
        for (name, value) in &of.labels {
            labels_refs.extend([symbols.place(name), symbols.place(value)]);
        }
        let mut exemplars = Vec::new();
        for exemplar in group.exemplars {
            let trace = symbols.push(exemplar.run.0.simple().to_string());
            let labels_refs = vec![symbols.place(TRACE_ID), trace];
            exemplars.push(SymbolExemplar { labels_refs, value: exemplar.value, timestamp: exemplar.at });
        }
        let kind = match of.kind {
            MetricKind::Counter => 1,
            MetricKind::Gauge => 2,
            MetricKind::Histogram => 3,
        };
        let metadata = Metadata { kind, help_ref: symbols.place(&of.help), unit_ref: symbols.place(unit(of)) };
        timeseries.push(SymbolSeries { labels_refs, samples: group.points, exemplars, metadata: Some(metadata) });
    }
    Request { symbols: symbols.all, timeseries }
}
