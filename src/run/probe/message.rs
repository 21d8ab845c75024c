//! Messages of DNS (RFC 1035): a question as bytes, and bytes as an answer. Whatever the bytes are, reading them ends:
//! names are followed backwards only.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::scenario::probe::dns::Record;

/// The response codes, by their number (RFC 6895, section 2.3).
const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
    "NOTZONE",
];

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The response code by its name.
    pub rcode: String,
    /// Whether the answer was cut: it is to be asked for over TCP.
    pub truncated: bool,
    /// Whether the server says that it has verified the answer (AD, RFC 4035).
    pub verified: bool,
    /// The records of the type that was asked for, as people write them.
    pub records: Vec<String>,
}

/// The number of a type of record.
fn number(record: Record) -> u16 {
    match record {
        Record::A => 1,
        Record::Ns => 2,
        Record::Cname => 5,
        Record::Soa => 6,
        Record::Ptr => 12,
        Record::Mx => 15,
        Record::Txt => 16,
        Record::Aaaa => 28,
        Record::Srv => 33,
        Record::Caa => 257,
    }
}

/// A question, with recursion desired and room for 1232 bytes; none where the name is none.
pub fn question(id: u16, name: &str, record: Record) -> Option<Vec<u8>> {
    let mut bytes = id.to_be_bytes().to_vec();
    // RD and AD: whoever verifies may say so (RFC 6840, section 5.7). One question, one additional record.
    bytes.extend_from_slice(&[0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1]);
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.is_empty() {
        for label in name.split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            bytes.push(length);
            bytes.extend_from_slice(label.as_bytes());
        }
    }
    bytes.push(0);
    if bytes.len() > 12 + 255 {
        return None;
    }
    bytes.extend_from_slice(&number(record).to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    // EDNS (RFC 6891): the root, OPT, 1232 bytes, and DO, without which AD is not computed by some.
    bytes.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0]);
    Some(bytes)
}

/// Reads the answer to a question; none where it answers another one, or does not read.
pub fn answer(bytes: &[u8], question: &[u8], record: Record) -> Option<Answer> {
    let mut read = Read { bytes, at: 0 };
    let (id, flags) = (read.word()?, read.word()?);
    let [questions, answers, _, _] = [read.word()?, read.word()?, read.word()?, read.word()?];
    let response = flags & 0x8000 != 0;
    if !response || id.to_be_bytes() != question.get(..2)? {
        return None;
    }
    let asked = Read { bytes: question, at: 12 }.asked()?;
    match questions {
        1 if read.asked()? == asked => {}
        // Who cannot even read the question may leave it out.
        0 if flags & 0xf != 0 => {}
        _ => return None,
    }
    let mut records = Vec::new();
    for _ in 0..answers {
        read.name()?;
        let (kind, class) = (read.word()?, read.word()?);
        read.take(4)?;
        let length = usize::from(read.word()?);
        let end = read.at.checked_add(length).filter(|end| *end <= bytes.len())?;
        if (kind, class) == (number(record), 1) {
            // A record may point into the message before it, and must not go on beyond its end.
            let mut inner = Read { bytes: &bytes[..end], at: read.at };
            records.push(inner.record(record)?);
        }
        read.at = end;
    }
    let code = usize::from(flags & 0xf);
    Some(Answer {
        rcode: RCODES.get(code).map_or_else(|| code.to_string(), |name| (*name).to_owned()),
        truncated: flags & 0x0200 != 0,
        verified: flags & 0x0020 != 0,
        records,
    })
}

struct Read<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Read<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn word(&mut self) -> Option<u16> {
        self.take(2).map(|word| u16::from_be_bytes([word[0], word[1]]))
    }

    fn long(&mut self) -> Option<u32> {
        Some(u32::from(self.word()?) << 16 | u32::from(self.word()?))
    }

    /// A question: its name in lower case, its type and class.
    fn asked(&mut self) -> Option<(String, u16, u16)> {
        Some((self.name()?.to_ascii_lowercase(), self.word()?, self.word()?))
    }

    /// A name without the dot at its end; the root is a dot.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        // Where the name that is being read began: a pointer leads before it.
        let (mut at, mut first) = (self.at, self.at);
        let mut after = None;
        loop {
            let length = usize::from(*self.bytes.get(at)?);
            match length {
                0 => {
                    self.at = after.unwrap_or(at + 1);
                    return Some(if name.is_empty() { ".".to_owned() } else { name });
                }
                1..=63 => {
                    let label = self.bytes.get(at + 1..=at + length)?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(&text(label, b'.'));
                    at += 1 + length;
                    if name.len() > 1024 {
                        return None;
                    }
                }
                0xc0.. => {
                    let to = (length & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    if to >= first {
                        return None;
                    }
                    after.get_or_insert(at + 2);
                    (at, first) = (to, to);
                }
                _ => return None,
            }
        }
    }

    /// The data of a record, as people write it.
    fn record(&mut self, record: Record) -> Option<String> {
        Some(match record {
            Record::A => Ipv4Addr::from(<[u8; 4]>::try_from(self.take(4)?).ok()?).to_string(),
            Record::Aaaa => Ipv6Addr::from(<[u8; 16]>::try_from(self.take(16)?).ok()?).to_string(),
            Record::Cname | Record::Ns | Record::Ptr => self.name()?,
            Record::Mx => format!("{} {}", self.word()?, self.name()?),
            Record::Srv => format!("{} {} {} {}", self.word()?, self.word()?, self.word()?, self.name()?),
            Record::Soa => {
                let mut words = vec![self.name()?, self.name()?];
                for _ in 0..5 {
                    words.push(self.long()?.to_string());
                }
                words.join(" ")
            }
            Record::Txt => {
                let mut whole = String::new();
                while self.at < self.bytes.len() {
                    let length = usize::from(self.byte()?);
                    whole.push_str(&String::from_utf8_lossy(self.take(length)?));
                }
                whole
            }
            Record::Caa => {
                let (flags, length) = (self.byte()?, usize::from(self.byte()?));
                let tag = text(self.take(length)?, b'"');
                let value = text(self.take(self.bytes.len() - self.at)?, b'"');
                format!("{flags} {tag} \"{value}\"")
            }
        })
    }
}

/// Bytes as text; what is not plain is written as its number (RFC 1035, section 5.1).
fn text(bytes: &[u8], special: u8) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            byte if *byte == special => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            0x21..=0x7e | b' ' => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\{byte:03}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of a real server, by hand out of RFC 1035: `example.com` with records of one type.
    fn reply(question: &[u8], flags: u16, record: Record, data: &[&[u8]]) -> Vec<u8> {
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
        let check = |record: Record, data: &[u8], expected: &str| {
            let question = question(7, "Example.com.", record).unwrap();
            let read = answer(&reply(&question, 0x81a0, record, &[data]), &question, record).unwrap();
            assert_eq!((read.rcode.as_str(), read.records.as_slice()), ("NOERROR", &[expected.to_owned()][..]));
            assert!(read.verified && !read.truncated);
        };
        check(Record::A, &[203, 0, 113, 10], "203.0.113.10");
        check(Record::Aaaa, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], "2001:db8::1");
        check(Record::Cname, &[1, b'a', 0xc0, 12], "a.Example.com");
        check(Record::Ns, &[3, b'n', b's', b'1', 0xc0, 12], "ns1.Example.com");
        check(Record::Ptr, &[1, b'.', 0], "\\.");
        check(Record::Mx, &[0, 10, 4, b'm', b'a', b'i', b'l', 0xc0, 12], "10 mail.Example.com");
        check(Record::Mx, &[0, 0, 0], "0 .");
        check(Record::Txt, &[3, b'a', b'=', b'1', 2, b';', b'b'], "a=1;b");
        check(Record::Srv, &[0, 1, 0, 2, 0x1f, 0x90, 1, b's', 0], "1 2 8080 s");
        check(Record::Caa, b"\x00\x05issueca.example", "0 issue \"ca.example\"");
        let soa =
            [&[1, b'm', 0, 1, b'r', 0][..], &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 1, 0][..]].concat();
        check(Record::Soa, &soa, "m r 1 2 3 4 256");
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let question = question(7, "example.com", Record::A).unwrap();
        let good = reply(&question, 0x8180, Record::A, &[&[1, 2, 3, 4], &[1, 2, 3, 5]]);
        assert_eq!(answer(&good, &question, Record::A).unwrap().records.len(), 2);
        // Cut anywhere it does not read, and nothing breaks.
        for end in 0..good.len() {
            assert_eq!(answer(&good[..end], &question, Record::A), None, "{end}");
        }
        let other = super::question(8, "example.com", Record::A).unwrap();
        assert_eq!(answer(&good, &other, Record::A), None, "another id");
        let other = super::question(7, "example.org", Record::A).unwrap();
        assert_eq!(answer(&good, &other, Record::A), None, "another name");
        assert_eq!(answer(&question, &question, Record::A), None, "a question");
        // A name that points at itself, and one that points ahead.
        for pointer in [[0xc0, 29 + 12], [0xc0, 0xff]] {
            let lying = reply(&question, 0x8180, Record::Cname, &[&pointer]);
            assert_eq!(answer(&lying, &question, Record::Cname), None);
        }
        assert_eq!(answer(&reply(&question, 0x8180, Record::A, &[&[1, 2, 3]]), &question, Record::A), None);
        let refused = answer(&reply(&question, 0x8185, Record::A, &[]), &question, Record::A).unwrap();
        assert_eq!((refused.rcode.as_str(), refused.records.len()), ("REFUSED", 0));
        for bad in ["a..b", &"a".repeat(64), &"a.".repeat(200)] {
            assert_eq!(super::question(1, bad, Record::A), None, "{bad}");
        }
    }
}
