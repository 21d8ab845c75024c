//! Trapper protocol: one request and one response per connection. Encoding and decoding; pure.
//!
//! A frame consists of `ZBXD`, a byte of flags, the length of the payload and a reserved word (both 32 bits, little
//! endian), and the payload, which is JSON (Zabbix manual, "Header and data length" and "Sender protocol"). A payload
//! of more than [`COMPRESSED_FROM`] bytes is compressed with zlib, which every server since 4.0 supports; the reserved
//! word then contains its uncompressed length, and the response may be compressed as well. `session` and `id` of rows
//! are deliberately not used, because 7.0 ignores them and 6.0 rejects rows that it considers repeated. A row is
//! identified by its clock and ns, which makes sending an unchanged request again harmless.

use std::io::Read as _;

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use serde::Serialize;
use serde_json::Value;

use super::items::ItemValue;

/// First bytes of every frame.
const MAGIC: &[u8; 4] = b"ZBXD";
/// Number of bytes before the payload.
pub const HEADER: usize = 13;
/// Flag of every frame.
const FLAG_PROTOCOL: u8 = 0x01;
/// Flag of a payload compressed with zlib.
const FLAG_COMPRESSED: u8 = 0x02;
/// Payload size in bytes above which it is compressed.
const COMPRESSED_FROM: usize = 1024;
/// Maximum size of a response in bytes, compressed or not. A real one has about a hundred.
const MAX_ANSWER: u32 = 64 * 1024;

/// Response of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Number of accepted rows. The response contains neither their positions nor the reasons for rejecting the others.
    Processed(usize),
    /// The host is assigned to another member of the proxy group (7.0 and later).
    Redirect {
        /// Address of the member, as `host:port`.
        address: String,
        /// Number that increases with every change of the group's assignments.
        revision: u64,
    },
    /// The proxy group has no other member: another address must be tried.
    Reset,
    /// The server considers the request invalid, with its error message.
    Rejected(String),
}

/// Length and encoding of the payload of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Number of bytes that follow.
    pub length: usize,
    is_compressed: bool,
}

/// Encodes a request that sends rows of a host.
pub fn request(host: &str, rows: &[ItemValue]) -> Vec<u8> {
    frame(&payload(host, rows))
}

fn payload(host: &str, rows: &[ItemValue]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Request<'a> {
        request: &'static str,
        data: Vec<Item<'a>>,
    }
    #[derive(Serialize)]
    struct Item<'a> {
        host: &'a str,
        #[serde(flatten)]
        row: &'a ItemValue,
    }
    let data = rows.iter().map(|row| Item { host, row }).collect();
    serde_json::to_vec(&Request { request: "sender data", data }).expect("strings and integers always serialize")
}

/// Encodes a payload with its header.
fn frame(payload: &[u8]) -> Vec<u8> {
    let word = |length: usize| u32::try_from(length).expect("a batch is far below four gigabytes").to_le_bytes();
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(MAGIC);
    if payload.len() <= COMPRESSED_FROM {
        frame.push(FLAG_PROTOCOL);
        frame.extend_from_slice(&word(payload.len()));
        frame.extend_from_slice(&word(0));
        frame.extend_from_slice(payload);
        return frame;
    }
    frame.push(FLAG_PROTOCOL | FLAG_COMPRESSED);
    frame.extend_from_slice(&word(0));
    frame.extend_from_slice(&word(payload.len()));
    ZlibEncoder::new(payload, Compression::fast()).read_to_end(&mut frame).expect("memory can be read");
    let length = word(frame.len() - HEADER);
    frame[5..9].copy_from_slice(&length);
    frame
}

/// Decodes a header. A length above the limit is rejected before memory is allocated. The error describes the problem.
pub fn header(header: &[u8; HEADER]) -> Result<Header, String> {
    let [m0, m1, m2, m3, flags, l0, l1, l2, l3, r0, r1, r2, r3] = *header;
    if [m0, m1, m2, m3] != *MAGIC {
        return Err("it does not begin with ZBXD".into());
    }
    if flags & !FLAG_COMPRESSED != FLAG_PROTOCOL {
        return Err(format!("flags {flags:#04x} were not asked for"));
    }
    let is_compressed = flags & FLAG_COMPRESSED != 0;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let decoded = if is_compressed { u32::from_le_bytes([r0, r1, r2, r3]) } else { length };
    let longest = length.max(decoded);
    if longest > MAX_ANSWER {
        return Err(format!("{longest} bytes, more than {MAX_ANSWER}"));
    }
    let length = usize::try_from(length).map_err(|_| format!("{length} bytes"))?;
    Ok(Header { length, is_compressed })
}

/// Decodes the payload of a response. The error describes the problem.
pub fn answer(header: Header, payload: &[u8]) -> Result<Answer, String> {
    if !header.is_compressed {
        return parse(payload);
    }
    let mut decoded = Vec::new();
    let decoder = ZlibDecoder::new(payload);
    let read = decoder.take(u64::from(MAX_ANSWER) + 1).read_to_end(&mut decoded);
    read.map_err(|error| format!("its compression is broken: {error}"))?;
    if decoded.len() as u64 > u64::from(MAX_ANSWER) {
        return Err(format!("more than {MAX_ANSWER} bytes"));
    }
    parse(&decoded)
}

fn parse(payload: &[u8]) -> Result<Answer, String> {
    let answer: Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    let info = answer["info"].as_str().unwrap_or_default();
    if answer["response"] == "success" {
        // Example: `processed: 3; failed: 0; total: 3; seconds spent: 0.000123`.
        let count = info.split(';').find_map(|part| part.trim().strip_prefix("processed:"));
        let count = count.and_then(|count| count.trim().parse().ok());
        return count.map(Answer::Processed).ok_or_else(|| format!("no number of processed rows in {info:?}"));
    }
    let redirect = &answer["redirect"];
    if redirect["reset"] == true || redirect["reset"] == "true" {
        return Ok(Answer::Reset);
    }
    if let (Some(address), Some(revision)) = (redirect["address"].as_str(), redirect["revision"].as_u64()) {
        return Ok(Answer::Redirect { address: address.to_owned(), revision });
    }
    Ok(Answer::Rejected(if info.is_empty() { answer.to_string() } else { info.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::zabbix::items::{Stamp, ValueClass};

    #[test]
    fn a_request_is_framed_as_the_manual_says() {
        let row = ItemValue {
            key: r#"wachta.step.success["shop","click \"Buy\""]"#.into(),
            value: "1".into(),
            at: Some(Stamp { clock: 1_795_352_834, ns: 999_999_999 }),
            weight: ValueClass::Detail,
        };
        let clockless =
            ItemValue { key: "wachta.agent".into(), value: "{}".into(), at: None, weight: ValueClass::Upkeep };
        let expected = concat!(
            r#"{"request":"sender data","data":[{"host":"waw-1","#,
            r#""key":"wachta.step.success[\"shop\",\"click \\\"Buy\\\"\"]","value":"1","clock":1795352834,"ns":999999999},"#,
            r#"{"host":"waw-1","key":"wachta.agent","value":"{}"}]}"#
        );
        let sent = request("waw-1", &[row, clockless]);
        let length = u8::try_from(expected.len()).unwrap();
        assert_eq!(sent[..HEADER], [b'Z', b'B', b'X', b'D', 1, length, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(String::from_utf8_lossy(&sent[HEADER..]), expected);
    }

    #[test]
    fn a_long_payload_is_compressed() {
        let payload = vec![b'a'; COMPRESSED_FROM + 1];
        let sent = frame(&payload);
        let length = u32::from_le_bytes(sent[5..9].try_into().unwrap());
        assert_eq!((sent[4], usize::try_from(length).unwrap()), (3, sent.len() - HEADER));
        assert_eq!(sent[9..13], u32::try_from(payload.len()).unwrap().to_le_bytes());
        let mut decoded = Vec::new();
        ZlibDecoder::new(&sent[HEADER..]).read_to_end(&mut decoded).unwrap();
        assert_eq!(decoded, payload);
        assert_eq!(frame(&payload[1..])[4], 1);
    }

    #[test]
    fn answers_are_read_and_others_refused() {
        let check = |payload: &str, expected: Result<Answer, &str>| {
            assert_eq!(parse(payload.as_bytes()), expected.map_err(str::to_owned), "{payload}");
        };
        let rejected = |words: &str| Ok(Answer::Rejected(words.into()));
        let taken = r#"{"response":"success","info":"processed: 3; failed: 1; total: 4; seconds spent: 0.000123"}"#;
        check(taken, Ok(Answer::Processed(3)));
        check(r#"{"response":"failed","info":"cannot find pair"}"#, rejected("cannot find pair"));
        check(r#"{"response":"failed"}"#, rejected(r#"{"response":"failed"}"#));
        let redirect = Answer::Redirect { address: "10.0.0.2:10051".into(), revision: 17 };
        check(r#"{"response":"failed","redirect":{"revision":17,"address":"10.0.0.2:10051"}}"#, Ok(redirect));
        check(r#"{"response":"failed","redirect":{"reset":true}}"#, Ok(Answer::Reset));
        check(r#"{"response":"failed","redirect":{"reset":"true"}}"#, Ok(Answer::Reset));
        check(
            r#"{"response":"failed","redirect":{"address":"10.0.0.2"}}"#,
            rejected(r#"{"response":"failed","redirect":{"address":"10.0.0.2"}}"#),
        );
        check(r#"{"response":"success"}"#, Err(r#"no number of processed rows in """#));
        check("nonsense", Err("expected ident at line 1 column 2"));
    }

    #[test]
    fn a_header_is_refused_before_anything_is_allocated() {
        let check = |bytes: &[u8; HEADER], expected: Option<(usize, bool)>| {
            let read = header(bytes).ok().map(|header| (header.length, header.is_compressed));
            assert_eq!(read, expected, "{bytes:?}");
        };
        check(b"ZBXD\x01\x5a\0\0\0\0\0\0\0", Some((90, false)));
        check(b"ZBXD\x01\xff\xff\xff\x7f\0\0\0\0", None);
        check(b"ZBXD\x03\x5a\0\0\0\x60\0\0\0", Some((90, true)));
        check(b"ZBXD\x03\x5a\0\0\0\0\0\x02\0", None);
        check(b"ZBXD\x05\x5a\0\0\0\0\0\0\0", None);
        check(b"HTTP/1.1 400 ", None);
    }

    #[test]
    fn an_answer_that_says_less_than_it_unpacks_to_is_refused() {
        let bomb = frame(&vec![b' '; 1 << 20]);
        let read = answer(Header { length: 0, is_compressed: true }, &bomb[HEADER..]);
        assert_eq!(read, Err("more than 65536 bytes".into()));
        let good = br#"{"response":"success","info":"processed: 1; failed: 0; total: 1"}"#;
        let padded: Vec<u8> = good.iter().copied().chain(vec![b' '; COMPRESSED_FROM]).collect();
        let read = answer(Header { length: 0, is_compressed: true }, &frame(&padded)[HEADER..]);
        assert_eq!(read, Ok(Answer::Processed(1)));
        let broken = answer(Header { length: 0, is_compressed: true }, b"nonsense").unwrap_err();
        assert!(broken.starts_with("its compression is broken: "), "{broken}");
    }
}
