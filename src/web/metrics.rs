//! `/metrics`: negotiates the format and streams the response in pieces. Each piece is encoded after the previous one
//! was read.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_compression::Level;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State as With};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _, ReadBuf};

use super::State;
use crate::sink::prometheus::{Format, MAX_SCRAPES, Scrape, ScrapeRequest, Selection};

/// Size of the parts in which a response is sent, in bytes.
const PART_BYTES: usize = 16 << 10;
/// Number of pieces encoded before the task yields, which is about a millisecond of work.
const PIECES_IN_A_ROW: u32 = 8;

/// Time series are very similar, so the savings of a higher compression level do not justify its time.
const LEVEL: Level = Level::Precise(1);

/// Source address of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub IpAddr);

/// Serves a scrape.
pub(super) async fn metrics(With(state): With<Arc<State>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let selection = match Selection::parse(query) {
        Ok(selection) => selection,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let headers = request.headers();
    let (format, encoding) = (format(headers), Encoding::of(headers));
    let scraper = scraper(request.extensions().get::<Peer>(), headers, query);
    let Some(scrape) = state.prometheus.scrape(&ScrapeRequest { format, selection, scraper }) else {
        let text = format!("{MAX_SCRAPES} scrapes are already in progress; try again\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response();
    };
    let pieces = Pieces { scrape, piece: Vec::new(), at: 0, in_a_row: 0 };
    let mut response = body(pieces, encoding).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    if let Some(name) = encoding.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

fn body(pieces: Pieces, encoding: Encoding) -> Body {
    match encoding {
        Encoding::Identity => parts(pieces),
        Encoding::Gzip => parts(GzipEncoder::with_quality(pieces, LEVEL)),
        Encoding::Zstd => parts(ZstdEncoder::with_quality(pieces, LEVEL)),
    }
}

/// Returns an identifier of the scraper and the part of the metrics that it requests.
fn scraper(peer: Option<&Peer>, headers: &HeaderMap, query: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    peer.map(|peer| peer.0).hash(&mut hasher);
    headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).hash(&mut hasher);
    query.hash(&mut hasher);
    hasher.finish()
}

/// Creates a body that streams the data of a reader in parts.
fn parts(reader: impl AsyncRead + Send + Unpin + 'static) -> Body {
    Body::from_stream(stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        let mut part = Vec::with_capacity(PART_BYTES);
        match reader.read_buf(&mut part).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(Bytes::from(part)), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// Reader of a scrape. It yields to other tasks from time to time.
struct Pieces {
    scrape: Scrape,
    piece: Vec<u8>,
    at: usize,
    /// Number of pieces since the last yield.
    in_a_row: u32,
}

impl AsyncBufRead for Pieces {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.at == this.piece.len() {
            if this.in_a_row == PIECES_IN_A_ROW {
                this.in_a_row = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.in_a_row += 1;
            this.piece = this.scrape.next_piece().unwrap_or_default();
            this.at = 0;
        }
        Poll::Ready(Ok(&this.piece[this.at..]))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().at += amount;
    }
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = std::task::ready!(self.as_mut().poll_fill_buf(context))?;
        let length = read.len().min(into.remaining());
        into.put_slice(&read[..length]);
        self.consume(length);
        Poll::Ready(Ok(()))
    }
}

/// Compression of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// Returns the preferred encoding. Among equally preferred ones it is Zstandard, which takes the least time.
    fn of(headers: &HeaderMap) -> Self {
        let (mut best, mut best_quality) = (Self::Identity, 0.0);
        for choice in choices(headers, &header::ACCEPT_ENCODING) {
            let encoding = match choice.name.as_str() {
                "zstd" => Self::Zstd,
                "gzip" | "x-gzip" => Self::Gzip,
                _ => continue,
            };
            let is_equal = choice.quality.total_cmp(&best_quality).is_eq();
            if choice.quality > best_quality || (is_equal && choice.quality > 0.0 && encoding == Self::Zstd) {
                (best, best_quality) = (encoding, choice.quality);
            }
        }
        best
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Returns the preferred format, the first one among equals; the text format if the header names no supported format.
fn format(headers: &HeaderMap) -> Format {
    let (mut best, mut best_quality) = (Format::Text, 0.0);
    for choice in choices(headers, &header::ACCEPT) {
        let format = match (choice.name.as_str(), choice.parameter("version").unwrap_or_default()) {
            ("application/vnd.google.protobuf", _)
                if choice.parameter("proto") == Some("io.prometheus.client.MetricFamily")
                    && choice.parameter("encoding") == Some("delimited") =>
            {
                Format::Protobuf
            }
            ("application/openmetrics-text", "1.0.0") => Format::OpenMetrics,
            ("application/openmetrics-text", "0.0.1" | "") => Format::OpenMetricsDraft,
            ("text/plain" | "text/*" | "*/*", _) => Format::Text,
            _ => continue,
        };
        if choice.quality > best_quality {
            (best, best_quality) = (format, choice.quality);
        }
    }
    best
}

/// Alternative in a content negotiation header (RFC 9110, section 12.4.2).
struct Choice {
    /// Name in lower case.
    name: String,
    parameters: Vec<(String, String)>,
    /// Preference from 0 (not acceptable) to 1.
    quality: f32,
}

impl Choice {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn choices(headers: &HeaderMap, name: &HeaderName) -> Vec<Choice> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let read = |choice: &str| {
        let mut parts = choice.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let pairs = parts.filter_map(|part| part.split_once('='));
        let parameters: Vec<_> = pairs
            .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
            .collect();
        let quality = parameters.iter().find(|(key, _)| key == "q").map_or(Some(1.0), |(_, q)| q.parse().ok());
        let quality = quality.filter(|quality: &f32| (0.0..=1.0).contains(quality)).unwrap_or(0.0);
        Choice { name, parameters, quality }
    };
    values.flat_map(|value| value.split(',')).map(read).collect()
}

#[cfg(test)]
mod tests;
