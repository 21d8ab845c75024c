//! Query of a DNS check, and its answer with records in presentation format.

use std::net::IpAddr;

use super::message::{self, Message};
use crate::scenario::check::dns::RecordType;

/// Class of internet records.
const IN: u16 = 1;

/// A DNS response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsResponse {
    /// Name of the response code.
    pub rcode: String,
    /// Whether the response was truncated and has to be requested over TCP.
    pub truncated: bool,
    /// Whether the server has validated the answer (AD, RFC 4035).
    pub verified: bool,
    /// Records of the requested type, in presentation format.
    pub records: Vec<String>,
}

fn number(record: RecordType) -> u16 {
    message::kind(record.as_str()).expect("every type of a check is one of DNS")
}

/// Encodes a query with recursion desired and a buffer size of 1232 bytes. Returns `None` if `name` is not a valid
/// domain name.
pub fn query(id: u16, name: &str, record: RecordType) -> Option<Vec<u8>> {
    let mut bytes = message::question(id, name, number(record), IN, true)?;
    // AD asks the server to report whether it validated the answer (RFC 6840, section 5.7). One additional record
    // follows.
    (bytes[3], bytes[11]) = (0x20, 1);
    // EDNS (RFC 6891): root name, OPT, 1232 bytes, and DO, because some servers compute AD only with it.
    bytes.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0]);
    Some(bytes)
}

/// Decodes the response to a query. Returns `None` if it answers another query or cannot be parsed.
pub fn answer(bytes: &[u8], query: &[u8], record: RecordType) -> Option<DnsResponse> {
    let (message, query) = (Message::parse(bytes)?, Message::parse(query)?);
    // A server that cannot parse the query may omit it from the response.
    let repeated = message.asked == query.asked || message.asked.is_empty() && message.rcode != 0;
    if !message.response || message.id != query.id || !repeated {
        return None;
    }
    let wanted = number(record);
    let of_type = message.answers.iter().filter(|one| (one.kind, one.class) == (wanted, IN));
    let records = of_type.map(|one| Some(plain(record, one.data()?))).collect::<Option<Vec<_>>>()?;
    let rcode = match message::rcode_name(message.rcode) {
        "unknown" => message.rcode.to_string(),
        name => name.to_owned(),
    };
    Some(DnsResponse { rcode, truncated: message.truncated, verified: message.verified, records })
}

/// Converts zone file data into plain text: names without the final dot, TXT strings joined.
fn plain(record: RecordType, data: &str) -> String {
    let undotted = |name: &str| {
        // The root name stays a single dot.
        let rest = name.strip_suffix('.').filter(|rest| !rest.is_empty() && !rest.ends_with(' '));
        rest.unwrap_or(name).to_owned()
    };
    match record {
        RecordType::A | RecordType::Aaaa | RecordType::Caa => data.to_owned(),
        RecordType::Txt => unquoted(data),
        RecordType::Cname | RecordType::Ns | RecordType::Ptr | RecordType::Mx | RecordType::Srv => undotted(data),
        RecordType::Soa => {
            let mut words: Vec<String> = data.split(' ').map(ToOwned::to_owned).collect();
            for name in words.iter_mut().take(2) {
                *name = undotted(name);
            }
            words.join(" ")
        }
    }
}

/// Joins the strings of a TXT record. Invalid UTF-8 is replaced.
fn unquoted(data: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = data.bytes();
    let mut within = false;
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => within = !within,
            b'\\' => match rest.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    let number = [Some(digit), rest.next(), rest.next()].into_iter().flatten();
                    let number = number.fold(0_u32, |sum, digit| sum * 10 + u32::from(digit.wrapping_sub(b'0')));
                    bytes.push(u8::try_from(number).unwrap_or(b'?'));
                }
                Some(other) => bytes.push(other),
                None => {}
            },
            byte if within => bytes.push(byte),
            _ => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the name for the reverse lookup of an address. Anything else is taken as such a name and returned unchanged.
pub fn reverse_name(text: &str) -> String {
    match text.parse() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(address)) => {
            let digits: String =
                address.octets().iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 0xf, byte >> 4)).collect();
            format!("{digits}ip6.arpa")
        }
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a response by hand according to RFC 1035: `example.com` with records of one type.
    fn reply(question: &[u8], flags: u16, record: RecordType, data: &[&[u8]]) -> Vec<u8> {
        let end = question.len() - 11;
        let mut bytes = question[..2].to_vec();
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(&[0, 1, 0, u8::try_from(data.len()).unwrap(), 0, 0, 0, 0]);
        bytes.extend_from_slice(&question[12..end]);
        for one in data {
            bytes.extend_from_slice(&[0xc0, 12]);
            bytes.extend_from_slice(&number(record).to_be_bytes());
            bytes.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            bytes.extend_from_slice(&u16::try_from(one.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(one);
        }
        bytes
    }

    #[test]
    fn every_record_is_written_as_people_write_it() {
        let check = |record: RecordType, data: &[u8], expected: &str| {
            let question = query(7, "Example.com.", record).unwrap();
            let read = answer(&reply(&question, 0x81a0, record, &[data]), &question, record).unwrap();
            assert_eq!((read.rcode.as_str(), read.records.as_slice()), ("NOERROR", &[expected.to_owned()][..]));
            assert!(read.verified && !read.truncated);
        };
        check(RecordType::A, &[203, 0, 113, 10], "203.0.113.10");
        check(RecordType::Aaaa, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], "2001:db8::1");
        check(RecordType::Cname, &[1, b'a', 0xc0, 12], "a.Example.com");
        check(RecordType::Ns, &[3, b'n', b's', b'1', 0xc0, 12], "ns1.Example.com");
        check(RecordType::Ptr, &[1, b'.', 0], "\\.");
        check(RecordType::Mx, &[0, 10, 4, b'm', b'a', b'i', b'l', 0xc0, 12], "10 mail.Example.com");
        check(RecordType::Mx, &[0, 0, 0], "0 .");
        check(RecordType::Txt, &[3, b'a', b'=', b'1', 2, b';', b'b'], "a=1;b");
        check(RecordType::Srv, &[0, 1, 0, 2, 0x1f, 0x90, 1, b's', 0], "1 2 8080 s");
        check(RecordType::Caa, b"\x00\x05issueca.example", "0 issue \"ca.example\"");
        let soa =
            [&[1, b'm', 0, 1, b'r', 0][..], &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 1, 0][..]].concat();
        check(RecordType::Soa, &soa, "m r 1 2 3 4 256");
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let question = query(7, "example.com", RecordType::A).unwrap();
        let good = reply(&question, 0x8180, RecordType::A, &[&[1, 2, 3, 4], &[1, 2, 3, 5]]);
        assert_eq!(answer(&good, &question, RecordType::A).unwrap().records.len(), 2);
        // Truncated at any position, it is rejected without a panic.
        for end in 0..good.len() {
            assert_eq!(answer(&good[..end], &question, RecordType::A), None, "{end}");
        }
        let other = super::query(8, "example.com", RecordType::A).unwrap();
        assert_eq!(answer(&good, &other, RecordType::A), None, "another id");
        let other = super::query(7, "example.org", RecordType::A).unwrap();
        assert_eq!(answer(&good, &other, RecordType::A), None, "another name");
        assert_eq!(answer(&question, &question, RecordType::A), None, "a question");
        // A name that points to itself, and one that points ahead.
        for pointer in [[0xc0, 29 + 12], [0xc0, 0xff]] {
            let lying = reply(&question, 0x8180, RecordType::Cname, &[&pointer]);
            assert_eq!(answer(&lying, &question, RecordType::Cname), None);
        }
        assert_eq!(answer(&reply(&question, 0x8180, RecordType::A, &[&[1, 2, 3]]), &question, RecordType::A), None);
        let refused = answer(&reply(&question, 0x8185, RecordType::A, &[]), &question, RecordType::A).unwrap();
        assert_eq!((refused.rcode.as_str(), refused.records.len()), ("REFUSED", 0));
        for bad in ["a..b", &"a".repeat(64), &"a.".repeat(200)] {
            assert_eq!(super::query(1, bad, RecordType::A), None, "{bad}");
        }
    }

    #[test]
    fn addresses_are_turned_around() {
        assert_eq!(reverse_name("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(reverse_name("2001:db8::1"), six);
        assert_eq!(reverse_name("a.example"), "a.example");
    }
}
