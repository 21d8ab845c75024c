//! Content encodings (RFC 9110, section 8.4): gzip, deflate, Brotli and Zstandard, decoded while the body arrives.

use std::io;

use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::zstd::params::DParameter;
use compression_codecs::{BrotliDecoder, DecodeV2, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use hyper::header::{CONTENT_ENCODING, HeaderMap};

use super::too_large;
use crate::names::Reason;
use crate::outcome::Failure;

/// Maximum number of encodings applied to one body.
const MAX_LAYERS: usize = 4;
/// Maximum window size of Zstandard on the web, 8 MiB (RFC 9659).
const WINDOW_LOG: u32 = 23;
/// Size of the pieces in which decoded data is passed on, in bytes.
const PIECE: usize = 16 << 10;

/// A content encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// No encoding.
    Identity,
    /// gzip (RFC 1952), with any number of members.
    Gzip,
    /// `deflate`, which means zlib (RFC 1950). Raw deflate data is accepted as well, because some servers send it.
    Deflate,
    /// Raw deflate data (RFC 1951).
    RawDeflate,
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878), with any number of frames.
    Zstd,
}

impl Encoding {
    /// Returns the encoding with a name as in `Content-Encoding`. Returns `None` if it is not supported.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "br" => Self::Brotli,
            "zstd" => Self::Zstd,
            "identity" | "" => Self::Identity,
            _ => return None,
        })
    }

    /// Returns the bytes with which another member or frame begins. Empty if there can be only one.
    fn magic(self) -> &'static [u8] {
        match self {
            Self::Gzip => &[0x1f, 0x8b],
            Self::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            Self::Identity | Self::Deflate | Self::RawDeflate | Self::Brotli => &[],
        }
    }

    /// Creates the codec for data that begins with these bytes. Returns `None` without an encoding.
    fn codec(self, start: &[u8]) -> Option<Codec> {
        let is_zlib = matches!(start, [a, b, ..] if a & 0x0f == 8 && u16::from_be_bytes([*a, *b]).is_multiple_of(31));
        Some(match self {
            Self::Identity => return None,
            Self::Gzip => Box::new(GzipDecoder::new()),
            Self::Deflate if is_zlib => Box::new(ZlibDecoder::new()),
            Self::Deflate | Self::RawDeflate => Box::new(DeflateDecoder::new()),
            Self::Brotli => Box::new(BrotliDecoder::new()),
            Self::Zstd => Box::new(ZstdDecoder::new_with_params(&[DParameter::window_log_max(WINDOW_LOG)])),
        })
    }
}

type Codec = Box<dyn DecodeV2 + Send>;

/// Decodes one encoding of a body whose parts are added as they arrive.
pub struct Decoder {
    encoding: Encoding,
    state: State,
    /// `None` until the first bytes have arrived.
    codec: Option<Codec>,
    /// Bytes that do not yet determine how the data continues.
    held: Vec<u8>,
    piece: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The data begins with the next bytes.
    Start,
    /// A member is being decoded.
    Within,
    /// A member has ended. Only the start of another one is still read.
    Between,
    /// The last member has ended. Padding and other data behind it are ignored, as in browsers and curl.
    Ended,
}

impl Decoder {
    /// Creates a decoder.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, state: State::Start, codec: None, held: Vec::new(), piece: Vec::new() }
    }

    /// Decodes the next bytes and passes the result to `sink`, piece by piece.
    pub fn push<E: From<io::Error>>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.encoding == Encoding::Identity {
            return sink(bytes);
        }
        let joined;
        let mut rest = bytes;
        if !self.held.is_empty() {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(bytes);
            joined = held;
            rest = &joined;
        }
        while !rest.is_empty() {
            match self.state {
                State::Start => {
                    // The second byte distinguishes zlib from raw deflate data.
                    if self.encoding == Encoding::Deflate && rest.len() < 2 {
                        self.held = rest.to_vec();
                        return Ok(());
                    }
                    self.codec = self.encoding.codec(rest);
                    self.piece.resize(PIECE, 0);
                    self.state = State::Within;
                }
                State::Within => {
                    let taken = self.decode(rest, sink)?;
                    rest = &rest[taken..];
                }
                State::Between => {
                    let magic = self.encoding.magic();
                    if rest.len() < magic.len() && magic.starts_with(rest) {
                        self.held = rest.to_vec();
                        return Ok(());
                    }
                    self.state = match &mut self.codec {
                        Some(codec) if !magic.is_empty() && rest.starts_with(magic) => {
                            codec.reinit()?;
                            State::Within
                        }
                        _ => State::Ended,
                    };
                }
                State::Ended => return Ok(()),
            }
        }
        Ok(())
    }

    /// Decodes up to the end of a member and returns the number of bytes read.
    fn decode<E: From<io::Error>>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let codec = self.codec.as_mut().expect("created at the start");
        let mut input = PartialBuffer::new(bytes);
        loop {
            let before = input.written_len();
            let mut output = WriteBuffer::new_initialized(&mut self.piece);
            let ended = codec.decode(&mut input, &mut output);
            let (is_full, is_stuck) =
                (output.has_no_spare_space(), input.written_len() == before && output.written_len() == 0);
            if output.written_len() > 0 {
                sink(output.written())?;
            }
            if ended? {
                self.state = State::Between;
                return Ok(input.written_len());
            }
            if input.unwritten().is_empty() {
                // The codecs of deflate report an error if they are called without input. Zstandard must be called
                // again to detect the end.
                if !is_full || self.encoding != Encoding::Zstd {
                    return Ok(bytes.len());
                }
            } else if is_stuck {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the decoder makes no progress").into());
            }
        }
    }

    /// Ends the body. Fails if the data is incomplete.
    pub fn finish<E: From<io::Error>>(&mut self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if self.encoding == Encoding::Identity || matches!(self.state, State::Between | State::Ended) {
            return Ok(());
        }
        let incomplete = || io::Error::new(io::ErrorKind::UnexpectedEof, "the data is incomplete");
        let Some(codec) = &mut self.codec else { return Err(incomplete().into()) };
        let mut is_flushed = false;
        loop {
            let mut output = WriteBuffer::new_initialized(&mut self.piece);
            let done = if is_flushed { codec.finish(&mut output) } else { codec.flush(&mut output) };
            if output.written_len() > 0 {
                sink(output.written())?;
            }
            match done {
                Ok(true) if is_flushed => return Ok(()),
                Ok(true) => is_flushed = true,
                Ok(false) => {}
                Err(_) => return Err(incomplete().into()),
            }
        }
    }
}

/// An error of decoding.
enum DecodeError {
    Invalid(io::Error),
    TooLarge,
}

impl From<io::Error> for DecodeError {
    fn from(error: io::Error) -> Self {
        Self::Invalid(error)
    }
}

/// Decodes a whole body, the outermost encoding first. The decoded size is limited, because a few kilobytes can expand to
/// many gigabytes. Decoding stops at an unsupported encoding.
pub fn decode(headers: &HeaderMap, body: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    if body.is_empty() {
        return Ok(());
    }
    let texts = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let names: Vec<String> = texts.flat_map(|text| text.split(',')).map(|name| name.trim().to_lowercase()).collect();
    if names.len() > MAX_LAYERS {
        return Err(Failure::new(Reason::Protocol, format!("the body is encoded more than {MAX_LAYERS} times")));
    }
    for name in names.iter().rev() {
        let Some(encoding) = Encoding::of_name(name) else { return Ok(()) };
        if encoding == Encoding::Identity {
            continue;
        }
        let (mut decoder, mut decoded) = (Decoder::new(encoding), Vec::new());
        let mut sink = |part: &[u8]| {
            if decoded.len() + part.len() > limit {
                return Err(DecodeError::TooLarge);
            }
            decoded.extend_from_slice(part);
            Ok(())
        };
        let done = decoder.push(body, &mut sink).and_then(|()| decoder.finish(&mut sink));
        done.map_err(|error| match error {
            DecodeError::TooLarge => too_large(limit),
            DecodeError::Invalid(error) => Failure::new(Reason::Protocol, format!("the body is not {name}: {error}")),
        })?;
        *body = decoded;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use async_compression::tokio::bufread::{BrotliEncoder, ZstdEncoder};
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn encoded(encoding: Encoding, text: &[u8]) -> Vec<u8> {
        let effort = Compression::default();
        let mut out = Vec::new();
        match encoding {
            Encoding::Identity => out.extend_from_slice(text),
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(&mut out, effort);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap();
            }
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(&mut out, effort);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap();
            }
            Encoding::RawDeflate => {
                let mut encoder = DeflateEncoder::new(&mut out, effort);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap();
            }
            Encoding::Brotli => drop(BrotliEncoder::new(text).read_to_end(&mut out).await.unwrap()),
            Encoding::Zstd => drop(ZstdEncoder::new(text).read_to_end(&mut out).await.unwrap()),
        }
        out
    }

    fn decoded(encoding: Encoding, bytes: &[u8], size: usize) -> io::Result<Vec<u8>> {
        let (mut decoder, mut out) = (Decoder::new(encoding), Vec::new());
        let mut sink = |part: &[u8]| {
            out.extend_from_slice(part);
            Ok::<_, io::Error>(())
        };
        bytes.chunks(size).try_for_each(|part| decoder.push(part, &mut sink))?;
        decoder.finish(&mut sink)?;
        Ok(out)
    }

    #[tokio::test]
    async fn encodings_are_decoded_whatever_the_size_of_the_parts() {
        let noise: Vec<u8> = (0..50_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole_pieces = vec![b'x'; 4 * PIECE];
        for text in [&b""[..], b"a", b"hello hello hello", &noise, &whole_pieces] {
            for encoding in [
                Encoding::Identity,
                Encoding::Gzip,
                Encoding::Deflate,
                Encoding::RawDeflate,
                Encoding::Brotli,
                Encoding::Zstd,
            ] {
                let bytes = encoded(encoding, text).await;
                for size in [1, 2, 3, 1000, usize::MAX] {
                    let out = decoded(encoding, &bytes, size.min(bytes.len().max(1)));
                    assert!(out.as_ref().is_ok_and(|out| out == text), "{encoding:?} {} {size}: {out:?}", text.len());
                }
                if encoding != Encoding::Identity {
                    let cut = decoded(encoding, &bytes[..bytes.len() - 1], 7);
                    assert!(cut.is_err(), "{encoding:?} {}", text.len());
                    assert!(decoded(encoding, b"", 1).is_err());
                }
            }
        }
        let raw = encoded(Encoding::RawDeflate, b"hello").await;
        assert_eq!(decoded(Encoding::Deflate, &raw, 1).unwrap(), b"hello");
        assert!(decoded(Encoding::RawDeflate, &encoded(Encoding::Deflate, b"hello").await, 1).is_err());
        for encoding in [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd] {
            assert!(decoded(encoding, b"hello world", 4).is_err(), "{encoding:?}");
        }
    }

    #[tokio::test]
    async fn members_follow_each_other_and_padding_follows_the_last() {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let (one, two) = (encoded(encoding, b"one ").await, encoded(encoding, b"two").await);
            for padding in [&b""[..], &[0; 600], b"garbage", &encoding.magic()[..1], b"\n"] {
                for size in [1, 5, 10_000] {
                    let bytes = [&one[..], &two, padding].concat();
                    assert_eq!(decoded(encoding, &bytes, size).unwrap(), b"one two", "{encoding:?} {padding:?} {size}");
                }
            }
        }
        // Very many members neither exhaust the stack nor take long.
        let bytes = encoded(Encoding::Gzip, b"x").await.repeat(100_000);
        assert_eq!(decoded(Encoding::Gzip, &bytes, 10_000).unwrap().len(), 100_000);
    }

    #[tokio::test]
    async fn bodies_are_decoded_from_the_outermost_encoding_up_to_the_limit() {
        let check = |names: &[&str], bytes: &[u8], limit, expected: Result<&[u8], &str>| {
            let mut headers = HeaderMap::new();
            for name in names {
                headers.append(CONTENT_ENCODING, name.parse().unwrap());
            }
            let mut body = bytes.to_vec();
            let done = decode(&headers, &mut body, limit);
            let done = done.as_ref().map(|()| &body[..]).map_err(|failure| failure.message.as_str());
            assert_eq!(done, expected, "{names:?}");
        };
        let gzip = encoded(Encoding::Gzip, b"hello").await;
        let both = encoded(Encoding::Brotli, &gzip).await;
        check(&[], b"hello", 5, Ok(b"hello"));
        check(&["GZip"], &gzip, 5, Ok(b"hello"));
        check(&["gzip"], &gzip, 4, Err("the response body is larger than 4 bytes"));
        check(&["gzip, br"], &both, 100, Ok(b"hello"));
        check(&["gzip", "identity", "br"], &both, 100, Ok(b"hello"));
        check(&["gzip", "unknown"], &gzip, 100, Ok(&gzip));
        check(&["gzip"], &gzip[..12], 100, Err("the body is not gzip: the data is incomplete"));
        check(&["br"], b"", 100, Ok(b""));
        check(&["br,br,br,br,br"], b"x", 100, Err("the body is encoded more than 4 times"));
    }
}
