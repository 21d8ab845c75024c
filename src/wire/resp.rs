//! RESP2, the protocol of Redis: one command and one reply. Everything that is read is limited in size.

use std::io;

use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// Maximum size of a reply with all of its parts, in bytes.
const LARGEST: usize = 1 << 20;
/// Maximum number of parts in a reply.
const MOST: usize = 10_000;
/// Maximum nesting depth of lists.
const DEEPEST: u8 = 8;

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub enum RespReply {
    /// A value. Nil becomes null.
    Value(Json),
    /// An error reply of the server.
    Error(String),
}

/// Encodes a command.
pub fn command(words: &[String]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// Reads one reply.
pub async fn answer<R: AsyncBufRead + Unpin + Send>(from: &mut R) -> io::Result<RespReply> {
    Reader { from, left: LARGEST, parts: MOST }.part(0).await
}

struct Reader<'a, R> {
    from: &'a mut R,
    left: usize,
    parts: usize,
}

impl<R: AsyncBufRead + Unpin + Send> Reader<'_, R> {
    /// Reads one part of a reply. The future is boxed because lists contain parts.
    fn part(&mut self, depth: u8) -> BoxFuture<'_, io::Result<RespReply>> {
        Box::pin(async move {
            self.parts = self.parts.checked_sub(1).filter(|_| depth <= DEEPEST).ok_or_else(too_much)?;
            let line = self.line().await?;
            let (kind, rest) = line.split_at_checked(1).ok_or_else(bad)?;
            Ok(RespReply::Value(match kind {
                "+" => rest.into(),
                "-" => return Ok(RespReply::Error(rest.to_owned())),
                ":" => rest.parse::<i64>().map_err(|_| bad())?.into(),
                "$" => match length(rest)? {
                    Some(length) => {
                        self.left = self.left.checked_sub(length).ok_or_else(too_much)?;
                        let mut bytes = vec![0; length + 2];
                        self.from.read_exact(&mut bytes).await?;
                        bytes.truncate(length);
                        String::from_utf8_lossy(&bytes).into()
                    }
                    None => Json::Null,
                },
                "*" => match length(rest)? {
                    Some(length) => {
                        let mut items = Vec::new();
                        for _ in 0..length {
                            match self.part(depth + 1).await? {
                                RespReply::Value(value) => items.push(value),
                                // The error of one of several commands, as EXEC reports it.
                                error @ RespReply::Error(_) => return Ok(error),
                            }
                        }
                        items.into()
                    }
                    None => Json::Null,
                },
                _ => return Err(bad()),
            }))
        })
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        (&mut *self.from).take(self.left as u64).read_until(b'\n', &mut bytes).await?;
        self.left -= bytes.len();
        match String::from_utf8_lossy(&bytes).strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None if self.left == 0 => Err(too_much()),
            None if bytes.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Err(bad()),
        }
    }
}

/// Parses a length. -1 means nil.
fn length(text: &str) -> io::Result<Option<usize>> {
    if text == "-1" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| bad())
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a response of a Redis server")
}

fn too_much() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "the response is larger than 1 MiB")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn answers_are_read_and_bounded() {
        let check = async |bytes: &str, expected: Result<RespReply, io::ErrorKind>| {
            let mut from = bytes.as_bytes();
            let read = answer(&mut from).await.map_err(|error| error.kind());
            assert_eq!(read, expected, "{:?}", &bytes[..bytes.len().min(60)]);
        };
        let value = |value| Ok(RespReply::Value(value));
        check("+OK\r\n", value(json!("OK"))).await;
        check(":-7\r\n", value(json!(-7))).await;
        check("$5\r\na\r\nb!\r\n", value(json!("a\r\nb!"))).await;
        check("$-1\r\n", value(Json::Null)).await;
        check("*3\r\n$1\r\na\r\n:2\r\n*1\r\n$-1\r\n", value(json!(["a", 2, [null]]))).await;
        check("-ERR no\r\n", Ok(RespReply::Error("ERR no".into()))).await;
        check("HTTP/1.1 400 Bad Request\r\n", Err(io::ErrorKind::InvalidData)).await;
        check("", Err(io::ErrorKind::UnexpectedEof)).await;
        check("$10\r\nabc\r\n", Err(io::ErrorKind::UnexpectedEof)).await;
        check("$99999999999\r\n", Err(io::ErrorKind::FileTooLarge)).await;
        check("$-5\r\n", Err(io::ErrorKind::InvalidData)).await;
        check(&format!("+{}", "x".repeat(2 << 20)), Err(io::ErrorKind::FileTooLarge)).await;
        check(&format!("*20000\r\n{}", ":1\r\n".repeat(20_000)), Err(io::ErrorKind::FileTooLarge)).await;
        check(&"*1\r\n".repeat(100), Err(io::ErrorKind::FileTooLarge)).await;
    }
}
