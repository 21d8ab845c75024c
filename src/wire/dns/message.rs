//! DNS messages (RFC 1035): encodes queries and decodes records into zone file format.
//!
//! All input is untrusted: lengths are checked against the available data, and compression pointers cannot form loops.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;

const TYPES: &[(u16, &str)] = &[
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (17, "RP"),
    (18, "AFSDB"),
    (24, "SIG"),
    (25, "KEY"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (36, "KX"),
    (37, "CERT"),
    (39, "DNAME"),
    (41, "OPT"),
    (42, "APL"),
    (43, "DS"),
    (44, "SSHFP"),
    (45, "IPSECKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (49, "DHCID"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (53, "SMIMEA"),
    (55, "HIP"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (61, "OPENPGPKEY"),
    (62, "CSYNC"),
    (63, "ZONEMD"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (108, "EUI48"),
    (109, "EUI64"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
    (32768, "TA"),
    (32769, "DLV"),
];
const CLASSES: &[(u16, &str)] = &[(1, "IN"), (2, "CS"), (3, "CH"), (4, "HS"), (254, "NONE"), (255, "ANY")];
const RCODES: &[(u16, &str)] = &[
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (16, "BADVERS"),
    (16, "BADSIG"),
    (17, "BADKEY"),
    (18, "BADTIME"),
    (19, "BADMODE"),
    (20, "BADNAME"),
    (21, "BADALG"),
    (22, "BADTRUNC"),
    (23, "BADCOOKIE"),
];
/// `SOA`, whose serial number is exported as a metric.
pub const SOA: u16 = 6;
/// `OPT`, where the first byte of the TTL extends the response code (RFC 6891).
const OPT: u16 = 41;
/// Maximum number of compression pointers in a name.
const MOST_JUMPS: usize = 64;

fn number(table: &[(u16, &str)], name: &str) -> Option<u16> {
    table.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}

fn named(table: &[(u16, &'static str)], wanted: u16) -> Option<&'static str> {
    table.iter().find(|(number, _)| *number == wanted).map(|(_, name)| *name)
}

/// Returns the number of a record type.
pub fn kind(name: &str) -> Option<u16> {
    number(TYPES, name)
}

/// Returns the number of a class.
pub fn class(name: &str) -> Option<u16> {
    number(CLASSES, name)
}

/// Returns the number of a response code.
pub fn rcode(name: &str) -> Option<u16> {
    number(RCODES, name)
}

/// Returns the name of a response code.
pub fn rcode_name(code: u16) -> &'static str {
    named(RCODES, code).unwrap_or("unknown")
}

/// Returns the name of a record type.
pub fn kind_name(kind: u16) -> &'static str {
    named(TYPES, kind).unwrap_or("unknown")
}

/// Returns the name of a class.
pub fn class_name(class: u16) -> &'static str {
    named(CLASSES, class).unwrap_or("unknown")
}

/// Encodes a DNS query. Returns `None` if `name` is not a valid domain name.
pub fn question(id: u16, name: &str, kind: u16, class: u16, recursion: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(32 + name.len());
    out.extend(id.to_be_bytes());
    out.extend([u8::from(recursion), 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let begin = out.len();
    for label in name.trim_end_matches('.').split('.').filter(|_| !name.trim_end_matches('.').is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        out.push(length);
        out.extend(label.as_bytes());
    }
    out.push(0);
    if out.len() - begin > 255 {
        return None;
    }
    out.extend(kind.to_be_bytes());
    out.extend(class.to_be_bytes());
    Some(out)
}

/// A DNS response.
#[derive(Debug, Default)]
pub struct Message {
    pub id: u16,
    pub response: bool,
    /// Whether the response was truncated and has to be requested over TCP (TC).
    pub truncated: bool,
    /// Whether the server has validated the answer (AD, RFC 4035).
    pub verified: bool,
    pub rcode: u16,
    /// Repeated questions: name in lower case, type, class.
    pub asked: Vec<(String, u16, u16)>,
    pub answers: Vec<ResourceRecord>,
    pub authorities: Vec<ResourceRecord>,
    pub additionals: Vec<ResourceRecord>,
}

/// A resource record.
#[derive(Debug)]
pub struct ResourceRecord {
    /// Record in zone file format: name, TTL, class, type and data, separated by tabs.
    pub text: String,
    pub kind: u16,
    pub class: u16,
    /// Position of the data in the text. `None` if the data does not match the type and is shown as bytes.
    data: Option<usize>,
    /// Serial number of a SOA record.
    pub serial: Option<u32>,
}

impl ResourceRecord {
    /// Returns the data in zone file format, or `None` if it does not match the type.
    pub fn data(&self) -> Option<&str> {
        self.data.map(|at| &self.text[at..])
    }
}

impl Message {
    /// Decodes a response. Returns `None` if it is malformed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes, at: 0 };
        let id = reader.u16()?;
        let flags = reader.u16()?;
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let mut message = Self {
            id,
            response: flags & 0x8000 != 0,
            truncated: flags & 0x0200 != 0,
            verified: flags & 0x0020 != 0,
            rcode: flags & 15,
            ..Self::default()
        };
        for _ in 0..counts[0] {
            message.asked.push((reader.name()?.to_ascii_lowercase(), reader.u16()?, reader.u16()?));
        }
        let mut high = 0;
        for (count, part) in
            counts[1..].iter().zip([&mut message.answers, &mut message.authorities, &mut message.additionals])
        {
            for _ in 0..*count {
                part.push(reader.record(&mut high)?);
            }
        }
        message.rcode |= high;
        Some(message)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Decodes a name, including the final dot.
    fn name(&mut self) -> Option<String> {
        let (mut out, mut at, mut end, mut jumps) = (String::new(), self.at, None, 0);
        loop {
            let length = usize::from(*self.bytes.get(at)?);
            match length >> 6 {
                0 if length == 0 => {
                    self.at = end.unwrap_or(at + 1);
                    return Some(if out.is_empty() { ".".into() } else { out });
                }
                0 => {
                    let label = self.bytes.get(at + 1..at + 1 + length)?;
                    for byte in label {
                        escape(&mut out, *byte, b".() ;@\"\\");
                    }
                    out.push('.');
                    at += 1 + length;
                }
                3 => {
                    let low = usize::from(*self.bytes.get(at + 1)?);
                    end.get_or_insert(at + 2);
                    at = ((length & 63) << 8) | low;
                    jumps += 1;
                    if jumps > MOST_JUMPS {
                        return None;
                    }
                }
                _ => return None,
            }
            // A name has at most 255 bytes, and escaping multiplies that by at most four.
            if out.len() > 1024 {
                return None;
            }
        }
    }

    fn record(&mut self, high: &mut u16) -> Option<ResourceRecord> {
        let name = self.name()?;
        let (kind, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let end = self.at.checked_add(length)?;
        let data = self.bytes.get(self.at..end)?;
        if kind == OPT {
            *high = u16::try_from(ttl >> 24).unwrap_or(0) << 4;
        }
        // Names within the data may refer to any earlier part of the message. Therefore they are read from the whole
        // message, but they must end where the data ends.
        let mut within = Reader { bytes: &self.bytes[..end], at: self.at };
        let mut serial = None;
        let text = within.data(kind, data, &mut serial).filter(|_| within.at == end);
        self.at = end;
        let class_text = named(CLASSES, class).map_or_else(|| format!("CLASS{class}"), ToOwned::to_owned);
        let kind_text = named(TYPES, kind).map_or_else(|| format!("TYPE{kind}"), ToOwned::to_owned);
        let head = format!("{name}\t{ttl}\t{class_text}\t{kind_text}\t");
        let (at, text) = match text {
            Some(text) => (Some(head.len()), text),
            None => (None, format!("\\# {length} {}", hexadecimal(data))),
        };
        Some(ResourceRecord { text: head + &text, kind, class, data: at, serial })
    }

    fn data(&mut self, kind: u16, data: &[u8], serial: &mut Option<u32>) -> Option<String> {
        let end = self.bytes.len();
        Some(match kind {
            1 => Ipv4Addr::from(<[u8; 4]>::try_from(self.take(4)?).ok()?).to_string(),
            28 => Ipv6Addr::from(<[u8; 16]>::try_from(self.take(16)?).ok()?).to_string(),
            2 | 5 | 12 | 39 => self.name()?,
            6 => {
                let (server, mail) = (self.name()?, self.name()?);
                let number = self.u32()?;
                *serial = Some(number);
                let (refresh, retry, expire, minimum) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
                format!("{server} {mail} {number} {refresh} {retry} {expire} {minimum}")
            }
            13 | 16 | 99 => self.strings(end)?,
            15 | 18 | 36 => format!("{} {}", self.u16()?, self.name()?),
            17 => format!("{} {}", self.name()?, self.name()?),
            33 => format!("{} {} {} {}", self.u16()?, self.u16()?, self.u16()?, self.name()?),
            35 => {
                let (order, preference) = (self.u16()?, self.u16()?);
                let (flags, service, regexp) = (self.string()?, self.string()?, self.string()?);
                format!("{order} {preference} {flags} {service} {regexp} {}", self.name()?)
            }
            43 | 59 => {
                let (tag, algorithm, digest) = (self.u16()?, self.u8()?, self.u8()?);
                format!("{tag} {algorithm} {digest} {}", hexadecimal(self.rest()?))
            }
            44 => format!("{} {} {}", self.u8()?, self.u8()?, hexadecimal(self.rest()?)),
            48 | 60 => {
                let (flags, protocol, algorithm) = (self.u16()?, self.u8()?, self.u8()?);
                let key = base64::engine::general_purpose::STANDARD.encode(self.rest()?);
                format!("{flags} {protocol} {algorithm} {key}")
            }
            52 | 53 => {
                let (usage, selector, matching) = (self.u8()?, self.u8()?, self.u8()?);
                format!("{usage} {selector} {matching} {}", hexadecimal(self.rest()?).to_lowercase())
            }
            257 => {
                let (flag, length) = (self.u8()?, self.u8()?);
                let tag = String::from_utf8_lossy(self.take(usize::from(length))?).into_owned();
                format!("{flag} {tag} {}", quoted(self.rest()?))
            }
            _ => {
                self.take(data.len())?;
                return None;
            }
        })
    }

    fn rest(&mut self) -> Option<&'a [u8]> {
        self.take(self.bytes.len().checked_sub(self.at)?)
    }

    fn string(&mut self) -> Option<String> {
        let length = usize::from(self.u8()?);
        self.take(length).map(quoted)
    }

    fn strings(&mut self, end: usize) -> Option<String> {
        let mut all = Vec::new();
        while self.at < end {
            all.push(self.string()?);
        }
        Some(all.join(" "))
    }
}

fn escape(out: &mut String, byte: u8, special: &[u8]) {
    if special.contains(&byte) {
        out.push('\\');
        out.push(char::from(byte));
    } else if (b' '..=b'~').contains(&byte) {
        out.push(char::from(byte));
    } else {
        let _ = write!(out, "\\{byte:03}");
    }
}

fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for byte in bytes {
        escape(&mut out, *byte, b"\"\\");
    }
    out.push('"');
    out
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(records: &[u8], count: u8) -> Vec<u8> {
        let mut message = question(7, "www.Example.com", 1, 1, true).unwrap();
        (message[2], message[7]) = (0x81, count);
        message.extend(records);
        message
    }

    #[test]
    fn records_read_as_in_a_zone_file() {
        let check = |kind: u16, data: &[u8], expected: &str| {
            let mut record = vec![0xc0, 12];
            record.extend(kind.to_be_bytes());
            record.extend([0, 1, 0, 0, 1, 44]);
            record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            record.extend(data);
            let message = Message::parse(&answer(&record, 1)).unwrap();
            let text = &message.answers[0].text;
            assert_eq!(text.strip_prefix("www.Example.com.\t300\tIN\t"), Some(expected), "{text}");
            assert_eq!((message.id, message.response, message.rcode), (7, true, 0));
        };
        check(1, &[127, 0, 0, 1], "A\t127.0.0.1");
        check(28, &[0; 16], "AAAA\t::");
        check(5, &[0xc0, 16], "CNAME\tExample.com.");
        check(2, &[2, b'n', b's', 0xc0, 16], "NS\tns.Example.com.");
        check(15, &[0, 10, 0], "MX\t10 .");
        check(16, b"\x02ok\x05a\"\\\xff ", "TXT\t\"ok\" \"a\\\"\\\\\\255 \"");
        check(33, &[0, 1, 0, 2, 0, 80, 0xc0, 12], "SRV\t1 2 80 www.Example.com.");
        check(
            6,
            &[0xc0, 16, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4],
            "SOA\tExample.com. . 9 1 2 3 4",
        );
        check(257, b"\x00\x05issueca.org", "CAA\t0 issue \"ca.org\"");
        check(43, &[0, 5, 8, 2, 0xab, 0xcd], "DS\t5 8 2 ABCD");
        check(65, &[1, 2], "HTTPS\t\\# 2 0102");
        check(4711, &[], "TYPE4711\t\\# 0 ");
        // Data that does not match its type is shown as bytes.
        check(1, &[127, 0, 0], "A\t\\# 3 7F0000");
        check(5, &[0xc0, 16, 0], "CNAME\t\\# 3 C01000");
    }

    #[test]
    fn lies_are_no_answers() {
        let loops = [0xc0, 33, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
        assert!(Message::parse(&answer(&loops, 1)).is_none());
        assert!(Message::parse(&answer(&[], 1)).is_none());
        assert!(Message::parse(&answer(&[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 9, 1], 1)).is_none());
        assert!(Message::parse(&[0; 11]).is_none());
        assert!(question(1, "a..b", 1, 1, true).is_none());
        assert!(question(1, &"a".repeat(64), 1, 1, true).is_none());
        assert!(question(1, &"abc.".repeat(64), 1, 1, true).is_none());
        assert_eq!(question(1, "", 6, 1, false).unwrap()[12..], [0, 0, 6, 0, 1]);
    }

    proptest! {
        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0_u8..5) {
            let _ = Message::parse(&bytes);
            let _ = Message::parse(&answer(&bytes, count));
        }
    }
}
