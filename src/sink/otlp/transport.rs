//! Transport of an OTLP request and its response, over HTTP or as a unary gRPC call.
//!
//! Both use the same HTTP client. A unary call is a POST over HTTP/2 whose message is preceded by a frame of five bytes
//! and whose status is in the trailers (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>), so that no
//! gRPC library is needed.

use std::io::Write as _;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::Utc;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Limited};
use reqwest::header::{self, HeaderMap};
use url::Url;

use super::answer::{Export, GrpcAnswer, HttpAnswer, of_grpc, of_http};
use super::config::{Config, Protocol, Signal};
use crate::bounded::answer::{retry_after, root};
use crate::sink::http::{Headers, header_map};

/// Maximum size of a response, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Decoder for gRPC metadata, which may have padding or not.
const METADATA: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Connection to a receiver.
pub(super) struct Transport {
    endpoint: Url,
    protocol: Protocol,
    headers: Headers,
    is_compressed: bool,
    client: reqwest::Client,
}

impl Transport {
    pub(super) fn new(config: &Config, client: reqwest::Client) -> Self {
        Self {
            endpoint: config.endpoint.clone(),
            protocol: config.protocol,
            headers: config.headers.clone(),
            is_compressed: config.is_compressed,
            client,
        }
    }

    /// Sends an encoded message.
    pub(super) async fn export(&self, signal: Signal, message: Vec<u8>) -> Export {
        match self.exchange(signal, message).await {
            Ok(export) => export,
            Err(reason) => Export::Retry { after: None, reason },
        }
    }

    async fn exchange(&self, signal: Signal, message: Vec<u8>) -> Result<Export, String> {
        let message = if self.is_compressed { gzip(&message) } else { message };
        let mut request = self.client.post(self.url(signal)).headers(header_map(&self.headers).await?);
        request = match self.protocol {
            Protocol::Http => {
                let request = request.header(header::CONTENT_TYPE, "application/x-protobuf").body(message);
                if self.is_compressed { request.header(header::CONTENT_ENCODING, "gzip") } else { request }
            }
            Protocol::Grpc => {
                let request = request
                    .header(header::CONTENT_TYPE, "application/grpc")
                    .header(header::TE, "trailers")
                    .body(frame(&message, self.is_compressed));
                if self.is_compressed { request.header("grpc-encoding", "gzip") } else { request }
            }
        };
        let response = request.send().await.map_err(|error| root(&error.without_url()))?;
        let head = response.headers().clone();
        let status = response.status().as_u16();
        let text = |headers: &HeaderMap, name: &str| {
            headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let body = Limited::new(reqwest::Body::from(response), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| format!("the response ended early: {error}"))?;
        match self.protocol {
            Protocol::Http => Ok(of_http(
                signal,
                &HttpAnswer {
                    status,
                    content_type: text(&head, header::CONTENT_TYPE.as_str()).unwrap_or_default(),
                    retry_after: text(&head, header::RETRY_AFTER.as_str())
                        .and_then(|text| retry_after(&text, Utc::now())),
                    body: body.to_bytes().to_vec(),
                },
            )),
            Protocol::Grpc => {
                // A receiver that fails immediately sends its status in the headers.
                let trailers = body.trailers().cloned().unwrap_or_default();
                let ends = if trailers.contains_key("grpc-status") { &trailers } else { &head };
                let message = text(ends, "grpc-message").unwrap_or_default();
                let message = percent_encoding::percent_decode_str(&message).decode_utf8_lossy().into_owned();
                let details = text(ends, "grpc-status-details-bin").unwrap_or_default();
                let answer = GrpcAnswer {
                    http_status: status,
                    code: text(ends, "grpc-status").and_then(|code| code.parse().ok()),
                    message,
                    details: METADATA.decode(details).unwrap_or_default(),
                    body: unframed(&body.to_bytes()).unwrap_or_default().to_vec(),
                };
                Ok(of_grpc(signal, &answer))
            }
        }
    }

    fn url(&self, signal: Signal) -> Url {
        let mut url = self.endpoint.clone();
        let base = url.path().trim_end_matches('/');
        let path = match (self.protocol, signal) {
            (Protocol::Http, signal) => format!("{base}/v1/{}", signal.as_str()),
            (Protocol::Grpc, Signal::Traces) => {
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export".to_owned()
            }
            (Protocol::Grpc, Signal::Logs) => "/opentelemetry.proto.collector.logs.v1.LogsService/Export".to_owned(),
        };
        url.set_path(&path);
        url
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes what is written to it");
    encoder.finish().expect("memory takes what is written to it")
}

/// Adds the gRPC frame to a message.
fn frame(message: &[u8], is_compressed: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(5 + message.len());
    frame.push(u8::from(is_compressed));
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// Returns the message in an uncompressed gRPC frame. Receivers do not compress responses without being asked to.
fn unframed(frame: &[u8]) -> Option<&[u8]> {
    let (&[compressed, a, b, c, d], message) = frame.split_first_chunk()?;
    (compressed == 0 && u32::from_be_bytes([a, b, c, d]) as usize == message.len()).then_some(message)
}
