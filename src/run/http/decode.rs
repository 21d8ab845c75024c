//! Content encodings (RFC 9110, section 8.4): gzip, deflate, Brotli and Zstandard. The decoded size is limited, because
//! a few kilobytes can expand to many gigabytes.

use std::pin::pin;

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::names::Reason;
use crate::outcome::Failure;
use crate::wire::too_large;

/// Maximum number of encodings applied to one body.
const LAYERS: usize = 4;
/// Maximum window size of Zstandard on the web, 8 MiB (RFC 9659).
const WINDOW_LOG: u32 = 23;

/// Decodes a body, the outermost encoding first. An unknown encoding is not decoded.
pub(super) async fn decode(headers: &HeaderMap, body: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    if body.is_empty() {
        return Ok(());
    }
    let texts = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let names: Vec<String> = texts.flat_map(|text| text.split(',')).map(|name| name.trim().to_lowercase()).collect();
    if names.len() > LAYERS {
        return Err(Failure::new(Reason::Protocol, format!("the body is encoded more than {LAYERS} times")));
    }
    for name in names.iter().rev() {
        let bytes = body.as_slice();
        let decoded = match name.as_str() {
            "gzip" | "x-gzip" => {
                let mut decoder = GzipDecoder::new(bytes);
                decoder.multiple_members(true);
                read(decoder, name, limit).await?
            }
            // `deflate` means zlib (RFC 1950), but some servers send raw deflate data.
            "deflate" if is_zlib(bytes) => read(ZlibDecoder::new(bytes), name, limit).await?,
            "deflate" => read(DeflateDecoder::new(bytes), name, limit).await?,
            "br" => read(BrotliDecoder::new(bytes), name, limit).await?,
            "zstd" => {
                let decoder = ZstdDecoder::with_params(bytes, &[DParameter::window_log_max(WINDOW_LOG)]);
                read(decoder, name, limit).await?
            }
            "identity" | "" => continue,
            _ => return Ok(()),
        };
        *body = decoded;
    }
    Ok(())
}

fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [a, b, ..] if a & 0x0f == 8 && (u16::from(*a) << 8 | u16::from(*b)) % 31 == 0)
}

async fn read(decoder: impl AsyncRead, name: &str, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut decoded = Vec::new();
    let mut decoder = pin!(decoder.take(limit as u64 + 1));
    decoder
        .read_to_end(&mut decoded)
        .await
        .map_err(|error| Failure::new(Reason::Protocol, format!("the body is not {name}: {error}")))?;
    if decoded.len() > limit { Err(too_large(limit)) } else { Ok(decoded) }
}
