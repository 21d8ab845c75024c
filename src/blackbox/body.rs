//! Response body: decompressed while it arrives, counted, and stored only if it has to be searched.

use std::io;

use super::module::Compression;
use crate::wire::encoding::{Decoder, Encoding};

/// Maximum size of a body that is stored for searching, in bytes. A body that is only counted has no limit.
const MOST_KEPT: usize = 32 << 20;

/// A body while it arrives.
pub(super) struct Body {
    decoder: Decoder,
    sink: Sink,
}

/// Destination of decompressed bytes.
#[derive(Debug)]
pub(super) struct Sink {
    /// Number of bytes received.
    pub(super) count: u64,
    /// Bytes received, if they are stored.
    pub(super) kept: Option<Vec<u8>>,
    limit: u64,
}

impl Sink {
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = usize::try_from(self.limit - self.count).unwrap_or(usize::MAX);
        let taken = bytes.len().min(room);
        self.count += taken as u64;
        if let Some(kept) = &mut self.kept {
            if kept.len() + taken > MOST_KEPT {
                let message = "the body is too large to be searched: only 32 MiB of it are";
                return Err(io::Error::other(message));
            }
            kept.extend_from_slice(&bytes[..taken]);
        }
        if taken < bytes.len() { Err(io::Error::other("the body is larger than `body_size_limit`")) } else { Ok(()) }
    }
}

impl Body {
    /// Creates an empty body. A `limit` of 0 means no limit.
    pub(super) fn new(compression: Option<Compression>, limit: u64, keep: bool) -> Self {
        let encoding = match compression {
            None | Some(Compression::Identity) => Encoding::Identity,
            Some(Compression::Gzip) => Encoding::Gzip,
            Some(Compression::Deflate) => Encoding::RawDeflate,
            Some(Compression::Brotli) => Encoding::Brotli,
        };
        let limit = if limit == 0 { u64::MAX } else { limit };
        Self { decoder: Decoder::new(encoding), sink: Sink { count: 0, kept: keep.then(Vec::new), limit } }
    }

    /// Adds the next bytes as received.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.decoder.push(bytes, &mut |part: &[u8]| self.sink.add(part))
    }

    /// Finishes the body. Fails if the compressed data is incomplete.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.decoder.finish(&mut |part: &[u8]| self.sink.add(part))
    }

    /// Returns the received bytes and their number.
    pub(super) fn sink(&self) -> &Sink {
        &self.sink
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use flate2::Compression as Effort;
    use flate2::write::{DeflateEncoder, GzEncoder};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Effort::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Effort::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_are_decompressed_counted_and_bounded() {
        let check = |compression, bytes: &[u8], limit, expected: Result<&str, &str>| {
            let mut body = Body::new(compression, limit, true);
            let pushed = bytes.chunks(3).try_for_each(|chunk| body.push(chunk)).and_then(|()| body.end());
            let kept = String::from_utf8(body.sink().kept.clone().unwrap()).unwrap();
            assert_eq!(body.sink().count, kept.len() as u64);
            match (pushed, expected) {
                (Ok(()), Ok(text)) => assert_eq!(kept, text),
                (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
                (pushed, _) => panic!("{pushed:?}, expected {expected:?}"),
            }
        };
        // Brotli encoding of an uncompressed block with the text "hello".
        let brotli = [0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03];
        check(None, b"hello", 0, Ok("hello"));
        check(Some(Compression::Identity), b"hello", 5, Ok("hello"));
        check(None, b"hello", 4, Err("body_size_limit"));
        check(Some(Compression::Gzip), &gzip(b"hello"), 0, Ok("hello"));
        check(Some(Compression::Gzip), &gzip(b"hello")[..12], 0, Err(""));
        check(Some(Compression::Gzip), b"hello", 0, Err(""));
        check(Some(Compression::Gzip), &gzip(&vec![b'x'; 100_000]), 1000, Err("body_size_limit"));
        check(Some(Compression::Deflate), &deflate(b"hello"), 0, Ok("hello"));
        check(Some(Compression::Brotli), &brotli, 0, Ok("hello"));
        check(Some(Compression::Brotli), b"hello world", 0, Err(""));
    }

    #[test]
    fn what_is_only_counted_is_not_kept() {
        let part = vec![0; 1 << 20];
        let mut body = Body::new(None, 0, false);
        for _ in 0..64 {
            body.push(&part).unwrap();
        }
        assert_eq!((body.sink().count, body.sink().kept.is_none()), (64 << 20, true));
        let mut body = Body::new(None, 0, true);
        let pushed: io::Result<()> = (0..64).try_for_each(|_| body.push(&part));
        assert!(pushed.unwrap_err().to_string().contains("too large to be searched"));
    }
}
