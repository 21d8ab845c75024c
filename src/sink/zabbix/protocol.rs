//! The trapper protocol: one request and one answer on one TCP connection.
//!
//! A frame is `ZBXD`, a byte of flags, the payload's length and a reserved word (both 32 bits, little endian), and
//! the payload, which is JSON (Zabbix manual, "Header and data length" and "Sender protocol"). Requests are sent as
//! they are, so answers are not compressed either. Deliberately absent: `session` and `id` of rows, since 7.0 ignores
//! them and 6.0 refuses what it takes for a repetition; a row's identity is its clock and ns, which makes sending a
//! request again unchanged harmless.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::items::Row;

/// How every frame begins.
const MAGIC: &[u8; 4] = b"ZBXD";
/// Bytes before the payload.
const HEADER: usize = 13;
/// The flag that every frame has.
const FLAG_PROTOCOL: u8 = 0x01;
/// The longest answer that is read, in bytes; a real one has about a hundred.
const MAX_ANSWER: u32 = 64 * 1024;

/// Why a request got no usable answer. All of these are worth another try.
#[derive(Debug)]
pub enum Error {
    /// No connection, or it broke.
    Io(std::io::Error),
    /// Nothing came in time.
    Timeout(&'static str),
    /// What came is not an answer of a trapper.
    Answer(String),
    /// The server took the request for a bad one; its own words.
    Rejected(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Timeout(what) => write!(f, "{what} took too long"),
            Self::Answer(what) => write!(f, "not an answer of a Zabbix trapper: {what}"),
            Self::Rejected(info) => write!(f, "the server rejected the request: {info}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Sends rows for a host to `address` (`host:port`) and returns how many the server took.
///
/// # Errors
///
/// When there is no connection within `connect`, no answer within `answer`, or the answer is not one.
pub async fn send(
    address: &str,
    host: &str,
    rows: &[Row],
    connect: Duration,
    answer: Duration,
) -> Result<usize, Error> {
    let mut stream =
        timeout(connect, TcpStream::connect(address)).await.map_err(|_| Error::Timeout("connecting"))??;
    let exchange = async {
        stream.write_all(&frame(&request(host, rows))).await?;
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).await?;
        let mut payload = vec![0; payload_length(&header)?];
        stream.read_exact(&mut payload).await?;
        processed(&payload)
    };
    timeout(answer, exchange).await.map_err(|_| Error::Timeout("the answer"))?
}

/// The JSON of a request.
fn request(host: &str, rows: &[Row]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Request<'a> {
        request: &'static str,
        data: Vec<Item<'a>>,
    }
    #[derive(Serialize)]
    struct Item<'a> {
        host: &'a str,
        #[serde(flatten)]
        row: &'a Row,
    }
    let data = rows.iter().map(|row| Item { host, row }).collect();
    serde_json::to_vec(&Request { request: "sender data", data }).expect("strings and integers always serialize")
}

/// A payload with its header.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a batch is far below four gigabytes");
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(MAGIC);
    frame.push(FLAG_PROTOCOL);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&0u32.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// How many bytes follow a header; refused before anything is allocated for them.
fn payload_length(header: &[u8; HEADER]) -> Result<usize, Error> {
    let [m0, m1, m2, m3, flags, l0, l1, l2, l3, ..] = *header;
    if [m0, m1, m2, m3] != *MAGIC {
        return Err(Error::Answer("it does not begin with ZBXD".into()));
    }
    if flags != FLAG_PROTOCOL {
        return Err(Error::Answer(format!("flags {flags:#04x} were not asked for")));
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length > MAX_ANSWER {
        return Err(Error::Answer(format!("{length} bytes, more than {MAX_ANSWER}")));
    }
    usize::try_from(length).map_err(|_| Error::Answer(format!("{length} bytes")))
}

/// The number of rows taken, from `processed: 3; failed: 0; total: 3; seconds spent: 0.000123`.
fn processed(payload: &[u8]) -> Result<usize, Error> {
    let answer: Value = serde_json::from_slice(payload).map_err(|error| Error::Answer(error.to_string()))?;
    let info = answer["info"].as_str().unwrap_or_default();
    if answer["response"] != "success" {
        let words = if info.is_empty() { answer.to_string() } else { info.to_owned() };
        return Err(Error::Rejected(words));
    }
    info.split(';')
        .find_map(|part| part.trim().strip_prefix("processed:"))
        .and_then(|count| count.trim().parse().ok())
        .ok_or_else(|| Error::Answer(format!("no number of processed rows in {info:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::zabbix::items::{Stamp, Weight};

    #[test]
    fn a_request_is_framed_as_the_manual_says() {
        let row = Row {
            key: r#"wachta.step.success["shop","click \"Buy\""]"#.into(),
            value: "1".into(),
            at: Some(Stamp { clock: 1_795_352_834, ns: 999_999_999 }),
            weight: Weight::Detail,
        };
        let clockless = Row { key: "wachta.agent".into(), value: "{}".into(), at: None, weight: Weight::Upkeep };
        let payload = concat!(
            r#"{"request":"sender data","data":[{"host":"waw-1","#,
            r#""key":"wachta.step.success[\"shop\",\"click \\\"Buy\\\"\"]","value":"1","clock":1795352834,"ns":999999999},"#,
            r#"{"host":"waw-1","key":"wachta.agent","value":"{}"}]}"#
        );
        let sent = frame(&request("waw-1", &[row, clockless]));
        let length = u8::try_from(payload.len()).unwrap();
        assert_eq!(sent[..HEADER], [b'Z', b'B', b'X', b'D', 1, length, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(String::from_utf8_lossy(&sent[HEADER..]), payload);
    }

    #[test]
    fn answers_are_read_and_others_refused() {
        let check = |payload: &str, expected: &str| {
            let shown = match processed(payload.as_bytes()) {
                Ok(count) => count.to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected);
        };
        check(r#"{"response":"success","info":"processed: 3; failed: 1; total: 4; seconds spent: 0.000123"}"#, "3");
        check(
            r#"{"response":"failed","info":"cannot find pair"}"#,
            "the server rejected the request: cannot find pair",
        );
        check(
            r#"{"response":"failed","redirect":{"reset":true}}"#,
            r#"the server rejected the request: {"response":"failed","redirect":{"reset":true}}"#,
        );
        check(r#"{"response":"success"}"#, r#"not an answer of a Zabbix trapper: no number of processed rows in """#);
        check("nonsense", "not an answer of a Zabbix trapper: expected ident at line 1 column 2");
    }

    #[test]
    fn a_header_is_refused_before_anything_is_allocated() {
        let check = |header: &[u8; HEADER], expected: Option<usize>| {
            assert_eq!(payload_length(header).ok(), expected, "{header:?}");
        };
        check(b"ZBXD\x01\x5a\0\0\0\0\0\0\0", Some(90));
        check(b"ZBXD\x01\xff\xff\xff\x7f\0\0\0\0", None);
        check(b"ZBXD\x03\x5a\0\0\0\0\0\0\0", None);
        check(b"HTTP/1.1 400 ", None);
    }
}
