//! Protobuf format: messages of `io.prometheus.client.MetricFamily`, each preceded by its length.
//!
//! Source: `io/prometheus/client/metrics.proto` of Prometheus' client model. The encoding is implemented by hand
//! because the messages are few and only written, and because a family of very many scenarios is split into several
//! messages, so that none has to be held as a whole.

use crate::names::MetricKind;

use super::super::histogram::Native;
use super::super::state::Example;
use super::sample::{Counter, Head, Histogram, Pairs, Value, trace_id};

/// Size from which on a family continues in another message, in bytes.
const MAX_FAMILY_BYTES: usize = 256 << 10;

/// Encoder of messages.
#[derive(Default)]
pub(in super::super) struct Encoder {
    pub(super) out: Vec<u8>,
    /// Name, help text and type of the family.
    head: Vec<u8>,
    /// Samples of the family so far.
    metrics: Vec<u8>,
}

impl Encoder {
    pub(super) fn begin(&mut self, head: Head) {
        self.flush();
        self.head.clear();
        text(&mut self.head, 1, head.name);
        text(&mut self.head, 2, head.help);
        let kind = match head.kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
            MetricKind::Histogram => 4,
        };
        unsigned(&mut self.head, 3, kind);
    }

    pub(super) fn sample(&mut self, base: Pairs, further: Pairs, value: Value) {
        message(&mut self.metrics, 4, |metric| {
            for (name, value) in base.iter().chain(further) {
                pair(metric, name, value);
            }
            match value {
                Value::Gauge(value) => message(metric, 2, |gauge| double(gauge, 1, value)),
                Value::Counter(of) => message(metric, 3, |out| counter(out, of)),
                Value::Histogram(of) => message(metric, 7, |out| histogram(out, of)),
            }
        });
        if self.metrics.len() >= MAX_FAMILY_BYTES {
            self.flush();
        }
    }

    pub(super) fn end(&mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        if !self.metrics.is_empty() {
            varint(&mut self.out, (self.head.len() + self.metrics.len()) as u64);
            self.out.extend_from_slice(&self.head);
            self.out.append(&mut self.metrics);
        }
    }
}

fn counter(out: &mut Vec<u8>, of: Counter) {
    double(out, 1, of.total);
    if let Some(of) = of.example {
        message(out, 2, |out| exemplar(out, of, 1.0));
    }
    if let Some(at) = of.created_at {
        message(out, 3, |out| timestamp(out, at));
    }
}

fn histogram(out: &mut Vec<u8>, of: Histogram) {
    unsigned(out, 1, of.cumulative.last().copied().unwrap_or_default());
    double(out, 2, of.sum);
    let mut example = of.example;
    for (bound, cumulative) in of.bounds.iter().copied().chain([f64::INFINITY]).zip(of.cumulative) {
        message(out, 3, |bucket| {
            unsigned(bucket, 1, *cumulative);
            double(bucket, 2, bound);
            if let Some(of) = example.take_if(|example| example.seconds <= bound) {
                message(bucket, 3, |out| exemplar(out, of, of.seconds));
            }
        });
    }
    if let Some(of) = of.native {
        native(out, of);
    }
    if let Some(at) = of.created_at {
        message(out, 15, |out| timestamp(out, at));
    }
    if let (Some(of), true) = (of.example, of.native.is_some()) {
        message(out, 16, |out| exemplar(out, of, of.seconds));
    }
}

/// Writes a native histogram: schema, zero bucket, spans of adjacent buckets, and the differences of their counts.
fn native(out: &mut Vec<u8>, of: &Native) {
    signed(out, 5, of.schema.into());
    double(out, 6, Native::ZERO_THRESHOLD);
    unsigned(out, 7, of.zero.into());
    let mut next = 0;
    let mut rest = of.buckets.as_slice();
    while let Some((first, _)) = rest.first() {
        let length = rest.iter().zip(*first..).take_while(|((index, _), expected)| index == expected).count();
        message(out, 12, |span| {
            signed(span, 1, (*first - next).into());
            unsigned(span, 2, length as u64);
        });
        next = rest[length - 1].0 + 1;
        rest = &rest[length..];
    }
    if of.buckets.is_empty() {
        // Distinguishes it from a histogram without native buckets.
        message(out, 12, |span| {
            signed(span, 1, 0);
            unsigned(span, 2, 0);
        });
    }
    let mut before = 0;
    for (_, count) in &of.buckets {
        signed(out, 13, i64::from(*count) - before);
        before = (*count).into();
    }
}

fn exemplar(out: &mut Vec<u8>, of: &Example, value: f64) {
    pair(out, "trace_id", trace_id(of, &mut [0; 32]));
    double(out, 2, value);
    message(out, 3, |out| timestamp(out, of.at));
}

/// Writes a label, which is field 1 of samples and exemplars.
fn pair(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, 1, |pair| {
        text(pair, 1, name);
        text(pair, 2, value);
    });
}

/// Writes a `google.protobuf.Timestamp`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times since 1970")]
fn timestamp(out: &mut Vec<u8>, at: f64) {
    unsigned(out, 1, at.floor() as u64);
    unsigned(out, 2, (at.fract() * 1e6).round().clamp(0.0, 999_999.0) as u64 * 1000);
}

/// Writes a message field. One byte is reserved for its length, which is sufficient for most messages.
fn message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    varint(out, (field << 3) | 2);
    let length_at = out.len();
    out.push(0);
    write(out);
    let length = out.len() - length_at - 1;
    match u8::try_from(length) {
        Ok(length) if length < 128 => out[length_at] = length,
        _ => {
            let (mut bytes, body_at) = (Vec::with_capacity(4), length_at + 1);
            varint(&mut bytes, length as u64);
            out.splice(length_at..body_at, bytes);
        }
    }
}

fn text(out: &mut Vec<u8>, field: u64, text: &str) {
    varint(out, (field << 3) | 2);
    varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn unsigned(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

/// Writes a field of type `sint32` or `sint64`.
#[expect(clippy::cast_sign_loss, reason = "the sign moves to the lowest bit")]
fn signed(out: &mut Vec<u8>, field: u64, value: i64) {
    unsigned(out, field, ((value << 1) ^ (value >> 63)) as u64);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, (field << 3) | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(0x80 | (value & 0x7f) as u8);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_client_model() {
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            out.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
        };
        let check = |write: &dyn Fn(&mut Vec<u8>), expected: &str| assert_eq!(written(write), expected);
        check(&|out| unsigned(out, 1, 300), "08 ac 02");
        check(&|out| signed(out, 5, -3), "28 05");
        check(&|out| signed(out, 13, i64::MIN), "68 ff ff ff ff ff ff ff ff ff 01");
        check(&|out| double(out, 2, 1.0), "11 00 00 00 00 00 00 f0 3f");
        check(&|out| pair(out, "a", "bc"), "0a 07 0a 01 61 12 02 62 63");
        check(&|out| timestamp(out, 2.5), "08 02 10 80 ca b5 ee 01");
        let long = "x".repeat(200);
        check(&|out| message(out, 4, |out| text(out, 1, &long)), &format!("22 cb 01 0a c8 01{}", " 78".repeat(200)));
        // Two spans: two buckets from -2, and one bucket three after its end; counts 5, 4, 7 as differences.
        let of = Native { schema: 3, zero: 2, buckets: vec![(-2, 5), (-1, 4), (3, 7)] };
        let threshold = written(&|out| double(out, 6, Native::ZERO_THRESHOLD));
        let spans = "62 04 08 03 10 02 62 04 08 06 10 01 68 0a 68 01 68 06";
        check(&|out| native(out, &of), &format!("28 06 {threshold} 38 02 {spans}"));
        let threshold_and_span = format!("28 06 {threshold} 38 00 62 04 08 00 10 00");
        check(&|out| native(out, &Native::default()), &threshold_and_span);
    }

    #[test]
    fn large_families_go_on_in_another_message() {
        let mut encoder = Encoder::default();
        encoder.begin(Head { name: "a", help: "b", kind: MetricKind::Gauge });
        let long = "x".repeat(1000);
        for _ in 0..600 {
            encoder.sample(&[("l", &long)], &[], Value::Gauge(1.0));
        }
        encoder.end();
        let (mut rest, mut messages) = (encoder.out.as_slice(), 0);
        while !rest.is_empty() {
            let (mut length, mut shift) = (0_usize, 0);
            loop {
                let byte = rest[0];
                rest = &rest[1..];
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            assert!(length < MAX_FAMILY_BYTES + 2000 && rest.starts_with(b"\x0a\x01a\x12\x01b\x18\x01\x22"));
            rest = &rest[length..];
            messages += 1;
        }
        assert_eq!(messages, 3);
    }
}
