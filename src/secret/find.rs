//! Search for a secret in a text, regardless of its encoding there.
//!
//! A secret is compared unit by unit. A unit of the text is a plain byte or an escape that represents one character:
//! percent-encoding, a JSON, shell, Python or C escape, an HTML entity, quoted-printable, a doubled quote. The first
//! and last characters of an escape may themselves be escaped, up to [`DEPTH`] times, so that mixed and nested
//! encodings are found as well. ASCII letters are compared case-insensitively.

use std::collections::HashMap;

/// Maximum number of nested encodings.
const DEPTH: u8 = 3;

/// Maximum number of units tried per starting position and unit of the pattern. Only a malicious text needs more.
const MAX_STEPS: usize = 10;

/// Character sequences that mark the position where a text was cut.
const CUT_MARKS: [&[u8]; 3] = ["…".as_bytes(), b"...", b"\\u2026"];

/// Minimum number of characters of a secret before a cut mark that are masked.
const MIN_BEFORE_CUT: usize = 3;

/// Comparison mode of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Literal text.
    Text,
    /// Part of a base64 text: case-sensitive, with line breaks ignored.
    Base64,
    /// Hexadecimal digits, optionally with `:`, `-` or a space between two bytes.
    Hex,
}

/// Unit of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte(u8),
    /// One or more white space characters.
    Space,
    /// Line break: white space in any form, or an empty text, as in a single-line field.
    LineEnd,
}

/// Text to search for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    units: Vec<Unit>,
    form: Form,
    /// Minimum number of units of a prefix that is masked as well. If it is `None`, only the entire pattern is masked.
    prefix: Option<usize>,
}

impl Pattern {
    /// Creates a pattern from a non-empty text.
    pub(super) fn new(text: &str, form: Form) -> Self {
        let mut units = Vec::with_capacity(text.len());
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c.is_whitespace() && form == Form::Text {
                let mut has_line_end = matches!(c, '\n' | '\r');
                while let Some(next) = chars.next_if(|next| next.is_whitespace()) {
                    has_line_end |= matches!(next, '\n' | '\r');
                }
                units.push(if has_line_end { Unit::LineEnd } else { Unit::Space });
            } else {
                let mut buffer = [0; 4];
                units.extend(c.encode_utf8(&mut buffer).bytes().map(Unit::Byte));
            }
        }
        Self { units, form, prefix: None }
    }

    /// Sets the minimum number of units of a prefix that is masked as well.
    #[must_use]
    pub(super) fn with_prefix(mut self, from: usize) -> Self {
        self.prefix = (from < self.units.len()).then_some(from);
        self
    }

    /// Returns whether both patterns search for the same text, regardless of prefixes. In that case, keeps the shorter
    /// prefix.
    pub(super) fn absorb(&mut self, other: &Self) -> bool {
        let same = self.units == other.units && self.form == other.form;
        if same && let Some(from) = other.prefix {
            self.prefix = Some(self.prefix.map_or(from, |own| own.min(from)));
        }
        same
    }

    fn first(&self) -> Option<u8> {
        match self.units.first() {
            Some(Unit::Byte(byte)) => Some(byte.to_ascii_lowercase()),
            _ => None,
        }
    }
}

/// Patterns of a masker.
#[derive(Debug, Clone, Default)]
pub(super) struct Finder {
    patterns: Vec<Pattern>,
    /// Patterns by their first byte, with letters in lower case.
    by_first: Vec<Vec<u32>>,
    /// Patterns by their first two bytes: even of very many patterns, few share both.
    by_pair: HashMap<(u8, u8), Vec<u32>>,
    /// Patterns by their first byte if white space follows it.
    before_space: HashMap<u8, Vec<u32>>,
}

impl Finder {
    /// Adds a pattern. Returns false if it was present already.
    pub(super) fn add(&mut self, pattern: Pattern) -> bool {
        let Some(first) = pattern.first() else { return false };
        if self.by_first.is_empty() {
            self.by_first = vec![Vec::new(); 256];
        }
        let known = &self.by_first[usize::from(first)];
        if known.iter().any(|index| self.patterns[*index as usize].absorb(&pattern)) {
            return false;
        }
        let index = u32::try_from(self.patterns.len()).unwrap_or(u32::MAX);
        self.by_first[usize::from(first)].push(index);
        match pattern.units.get(1) {
            Some(Unit::Byte(second)) => {
                self.by_pair.entry((first, second.to_ascii_lowercase())).or_default().push(index);
            }
            _ => self.before_space.entry(first).or_default().push(index),
        }
        self.patterns.push(pattern);
        true
    }

    /// Returns whether there are no patterns.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Replaces every match in the text. Returns `None` if there are no matches.
    pub(super) fn replace(&self, text: &[u8], mask: &[u8]) -> Option<Vec<u8>> {
        let mut out: Option<Vec<u8>> = None;
        let (mut at, mut copied) = (0, 0);
        while at < text.len() {
            let Some(end) = self.longest_at(text, at) else {
                at += 1;
                continue;
            };
            let out = out.get_or_insert_with(|| Vec::with_capacity(text.len()));
            out.extend_from_slice(&text[copied..at]);
            out.extend_from_slice(mask);
            (at, copied) = (end, end);
        }
        let mut out = out?;
        out.extend_from_slice(&text[copied..]);
        Some(out)
    }

    /// Returns the end of the longest match that begins at `at`.
    fn longest_at(&self, text: &[u8], at: usize) -> Option<usize> {
        let byte = text[at];
        let mut longest = None;
        let mut attempt = |patterns: &[u32]| {
            for index in patterns {
                let end = Match::at(text, at, &self.patterns[*index as usize]);
                longest = longest.max(end);
            }
        };
        let first = byte.to_ascii_lowercase();
        match text.get(at + 1) {
            // The next byte is neither an escape nor white space, so only its literal value can match.
            Some(next) if !begins_escape(*next) && !next.is_ascii_whitespace() => {
                attempt(self.by_pair.get(&(first, next.to_ascii_lowercase())).map_or(&[], Vec::as_slice));
                attempt(self.before_space.get(&first).map_or(&[], Vec::as_slice));
            }
            _ => attempt(&self.by_first[usize::from(first)]),
        }
        if begins_escape(byte) {
            let mut seen = Vec::new();
            escapes(text, at, DEPTH, &mut |read| {
                let first = read.bytes[0].to_ascii_lowercase();
                if first != byte.to_ascii_lowercase() && !seen.contains(&first) {
                    seen.push(first);
                }
            });
            for first in seen {
                attempt(&self.by_first[usize::from(first)]);
            }
        }
        // A match must not end in the middle of a character.
        longest.map(|mut end| {
            while text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
                end += 1;
            }
            end
        })
    }
}

/// Comparison of one pattern at one position.
struct Match<'a> {
    text: &'a [u8],
    pattern: &'a Pattern,
    steps: usize,
    /// Longest partial match: the number of its units and its end.
    farthest: (usize, usize),
}

impl<'a> Match<'a> {
    fn at(text: &'a [u8], at: usize, pattern: &'a Pattern) -> Option<usize> {
        let mut comparison = Self { text, pattern, steps: 0, farthest: (0, at) };
        if let Some(end) = comparison.from(0, at) {
            return Some(end);
        }
        let (units, end) = comparison.farthest;
        if pattern.prefix.is_some_and(|from| units >= from) {
            return Some(end);
        }
        let is_cut = || CUT_MARKS.iter().any(|mark| text[end..].starts_with(mark));
        (pattern.form == Form::Text && units >= MIN_BEFORE_CUT && is_cut()).then_some(end)
    }

    fn reached(&mut self, units: usize, at: usize) {
        self.farthest = self.farthest.max((units, at));
    }

    /// Returns the end of the units from `unit` on if they match at `at`.
    fn from(&mut self, mut unit: usize, mut at: usize) -> Option<usize> {
        loop {
            self.steps += 1;
            if self.steps > MAX_STEPS * self.pattern.units.len() {
                return None;
            }
            let Some(wanted) = self.pattern.units.get(unit) else { return Some(at) };
            let wanted = match wanted {
                Unit::Byte(wanted) => *wanted,
                Unit::Space | Unit::LineEnd => {
                    let end = skip_space(self.text, at);
                    if end == at && *wanted == Unit::Space {
                        return None;
                    }
                    (unit, at) = (unit + 1, end);
                    continue;
                }
            };
            let found = *self.text.get(at)?;
            let same = match self.pattern.form {
                Form::Base64 => found == wanted,
                Form::Text | Form::Hex => found.eq_ignore_ascii_case(&wanted),
            };
            if !begins_escape(found) {
                if !same {
                    match self.pattern.form {
                        // Line breaks and separators between two bytes are ignored.
                        Form::Base64 if unit > 0 && matches!(found, b'\r' | b'\n') => at += 1,
                        Form::Hex if unit > 0 && unit.is_multiple_of(2) && matches!(found, b':' | b'-' | b' ') => {
                            at += 1;
                        }
                        _ => return None,
                    }
                    continue;
                }
                (unit, at) = (unit + 1, at + 1);
                self.reached(unit, at);
                continue;
            }
            return self.escaped(unit, at, same);
        }
    }

    fn escaped(&mut self, unit: usize, at: usize, same: bool) -> Option<usize> {
        let mut ways: Vec<(usize, usize)> = Vec::new();
        if same {
            ways.push((unit + 1, at + 1));
        }
        let rest = &self.pattern.units[unit..];
        escapes(self.text, at, DEPTH, &mut |read| {
            let bytes = &read.bytes[..read.length];
            let fits = bytes.len() <= rest.len()
                && bytes.iter().zip(rest).all(|(found, wanted)| match wanted {
                    Unit::Byte(wanted) => found.eq_ignore_ascii_case(wanted),
                    _ => false,
                });
            let way = (unit + bytes.len(), read.end);
            if fits && !ways.contains(&way) {
                ways.push(way);
            }
        });
        // In quoted-printable, a broken line continues after the soft line break.
        if self.text[at] == b'=' && unit > 0 {
            for line_end in [&b"\r\n"[..], b"\n"] {
                if self.text[at + 1..].starts_with(line_end) {
                    ways.push((unit, at + 1 + line_end.len()));
                }
            }
        }
        let mut longest = None;
        for (unit, at) in ways {
            self.reached(unit, at);
            longest = longest.max(self.from(unit, at));
        }
        longest
    }
}

/// Returns the end of the white space that begins at `at`, in any encoding.
fn skip_space(text: &[u8], mut at: usize) -> usize {
    const BREAKS: [&[u8]; 5] = [b"<br>", b"<br/>", b"<br />", b"&lt;br&gt;", b"&nbsp;"];
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        if byte.is_ascii_whitespace() || byte == b'+' {
            at += 1;
        } else if rest.starts_with("\u{a0}".as_bytes()) {
            at += 2;
        } else if let Some(found) = BREAKS.iter().find(|found| rest.starts_with(found)) {
            at += found.len();
        } else {
            let mut end = at;
            if begins_escape(byte) {
                escapes(text, at, DEPTH, &mut |read| {
                    // The two bytes of a non-breaking space, each escaped separately.
                    if read.bytes[..read.length] == [0xc2] {
                        escapes(text, read.end, DEPTH, &mut |second| {
                            if second.bytes[..second.length] == [0xa0] {
                                end = end.max(second.end);
                            }
                        });
                    }
                    if matches!(&read.bytes[..read.length], [b' ' | b'\t' | b'\n' | b'\r'] | [0xc2, 0xa0]) {
                        end = end.max(read.end);
                    }
                });
            }
            if end == at {
                return at;
            }
            at = end;
        }
    }
    at
}

/// Returns whether an escape may begin with this byte.
fn begins_escape(byte: u8) -> bool {
    matches!(byte, b'%' | b'&' | b'\\' | b'=' | b'\'' | b'"')
}

/// Decoded escape.
struct Read {
    bytes: [u8; 4],
    length: usize,
    end: usize,
}

impl Read {
    fn char(c: char, end: usize) -> Self {
        let mut bytes = [0; 4];
        let length = c.encode_utf8(&mut bytes).len();
        Self { bytes, length, end }
    }

    fn byte(byte: u8, end: usize) -> Self {
        Self { bytes: [byte, 0, 0, 0], length: 1, end }
    }
}

/// Calls `found` with every possible meaning of an escape that begins at `at`.
fn escapes(text: &[u8], at: usize, depth: u8, found: &mut dyn FnMut(Read)) {
    if depth == 0 {
        return;
    }
    let Some(&first) = text.get(at) else { return };
    if !begins_escape(first) {
        return;
    }
    escape_of(first, text, at + 1, depth, found);
    // The first character of an escape may itself be escaped.
    let mut heads: Vec<(u8, usize)> = Vec::new();
    if depth > 1 {
        escapes(text, at, depth - 1, &mut |read| {
            let head = (read.bytes[0], read.end);
            if read.length == 1 && begins_escape(head.0) && !heads.contains(&head) {
                heads.push(head);
            }
        });
    }
    for (head, end) in heads {
        escape_of(head, text, end, depth, found);
    }
}

/// Decodes the escapes that begin with `head` and continue at `at`.
fn escape_of(head: u8, text: &[u8], at: usize, depth: u8, found: &mut dyn FnMut(Read)) {
    let rest = text.get(at..).unwrap_or_default();
    match head {
        b'%' | b'=' => {
            if let Some(byte) = hex_byte(rest) {
                found(Read::byte(byte, at + 2));
                if byte >= 0x80 {
                    // Percent-encoded ISO 8859-1.
                    found(Read::char(char::from(byte), at + 2));
                }
            }
        }
        b'\\' => backslash(rest, text, at, depth, found),
        b'&' => entity(rest, text, at, depth, found),
        b'"' | b'\'' => {
            // A doubled quote as in CSV, SQL and YAML, or the shell idiom for a quote inside quotes.
            if rest.first() == Some(&head) {
                found(Read::byte(head, at + 1));
            }
            let quotes: &[&[u8]] = if head == b'\'' { &[b"\\''", b"\"'\"'"] } else { &[b"'\"'\""] };
            for quote in quotes {
                if rest.starts_with(quote) {
                    found(Read::byte(head, at + quote.len()));
                }
            }
        }
        _ => {}
    }
}

fn backslash(rest: &[u8], text: &[u8], at: usize, depth: u8, found: &mut dyn FnMut(Read)) {
    let Some(&next) = rest.first() else { return };
    let control = match next {
        b'n' => Some('\n'),
        b'r' => Some('\r'),
        b't' => Some('\t'),
        b'b' => Some('\u{8}'),
        b'f' => Some('\u{c}'),
        _ => None,
    };
    if let Some(control) = control {
        found(Read::char(control, at + 1));
    }
    match next {
        b'u' if rest.get(1) == Some(&b'{') => {
            let digits = rest[2..].iter().take(7).take_while(|byte| byte.is_ascii_hexdigit()).count();
            if rest.get(2 + digits) == Some(&b'}')
                && let Some(c) = hex(&rest[2..2 + digits]).and_then(char::from_u32)
            {
                found(Read::char(c, at + 3 + digits));
            }
        }
        b'u' => {
            let Some(unit) = rest.get(1..5).and_then(hex) else { return };
            if let Some(c) = char::from_u32(unit) {
                found(Read::char(c, at + 5));
            } else if let Some((low, end)) = low_surrogate(text, at + 5, depth) {
                let joined = char::decode_utf16([u16::try_from(unit).unwrap_or(0), low]).next();
                if let Some(Ok(c)) = joined {
                    found(Read::char(c, end));
                }
            }
        }
        b'U' => {
            if let Some(c) = rest.get(1..9).and_then(hex).and_then(char::from_u32) {
                found(Read::char(c, at + 9));
            }
        }
        b'x' => {
            if let Some(byte) = rest.get(1..).and_then(hex_byte) {
                found(Read::byte(byte, at + 3));
                if byte >= 0x80 {
                    found(Read::char(char::from(byte), at + 3));
                }
            }
        }
        b'0'..=b'3' => {
            let octal = rest.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
            if let Some(&[a, b, c]) = octal {
                found(Read::byte((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'), at + 3));
            }
        }
        _ if next.is_ascii_punctuation() || next == b' ' => found(Read::byte(next, at + 1)),
        _ => {}
    }
    // The character after the backslash may be escaped as well: `\&quot;`.
    if depth > 1 && begins_escape(next) {
        escapes(text, at, depth - 1, &mut |read| {
            if read.length == 1 && read.bytes[0].is_ascii_punctuation() {
                found(read);
            }
        });
    }
}

/// Decodes the second half of a UTF-16 surrogate pair, after another backslash.
fn low_surrogate(text: &[u8], at: usize, depth: u8) -> Option<(u16, usize)> {
    let digits_behind = |end: usize| {
        let rest = text.get(end..)?;
        let unit = rest.strip_prefix(b"u")?.get(..4).and_then(hex)?;
        Some((u16::try_from(unit).ok()?, end + 5))
    };
    if text.get(at) == Some(&b'\\')
        && let Some(found) = digits_behind(at + 1)
    {
        return Some(found);
    }
    let mut low = None;
    escapes(text, at, depth - 1, &mut |read| {
        if read.bytes[..read.length] == *b"\\" {
            low = low.or(digits_behind(read.end));
        }
    });
    low
}

fn entity(rest: &[u8], text: &[u8], at: usize, depth: u8, found: &mut dyn FnMut(Read)) {
    // The `;` may be escaped or missing; if it is missing, the next character ends the entity.
    let mut end_behind = |c: char, at: usize| {
        if text.get(at) == Some(&b';') {
            return found(Read::char(c, at + 1));
        }
        found(Read::char(c, at));
        let mut ends = Vec::new();
        escapes(text, at, depth - 1, &mut |read| {
            if read.bytes[..read.length] == *b";" {
                ends.push(read.end);
            }
        });
        for end in ends {
            found(Read::char(c, end));
        }
    };
    let mut numbers: Vec<usize> = Vec::new();
    if rest.first() == Some(&b'#') {
        numbers.push(1);
    }
    if depth > 1 {
        escapes(text, at, depth - 1, &mut |read| {
            if read.bytes[..read.length] == *b"#" {
                numbers.push(read.end - at);
            }
        });
    }
    for from in numbers {
        let (from, radix) = match rest.get(from) {
            Some(b'x' | b'X') => (from + 1, 16),
            _ => (from, 10),
        };
        let digits = rest.get(from..).unwrap_or_default();
        let count = digits.iter().take(8).take_while(|digit| char::from(**digit).is_digit(radix)).count();
        let number = std::str::from_utf8(&digits[..count]).ok().and_then(|text| u32::from_str_radix(text, radix).ok());
        if let Some(c) = number.and_then(char::from_u32) {
            end_behind(c, at + from + count);
        }
    }
    let length = rest.iter().take(10).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    if let Some(&(_, c)) = ENTITIES.iter().find(|(name, _)| name.as_bytes() == &rest[..length]) {
        end_behind(c, at + length);
    }
    if let Some(c) = latin_letter(&rest[..length]) {
        end_behind(c, at + length);
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    digits.get(..2).and_then(hex).and_then(|number| u8::try_from(number).ok())
}

fn hex(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u32::from_str_radix(text, 16).ok()
}

/// Named entities of ASCII punctuation and of the Latin-1 letters without an accent (HTML, section 13.5).
const ENTITIES: [(&str, char); 55] = [
    ("amp", '&'),
    ("AMP", '&'),
    ("lt", '<'),
    ("LT", '<'),
    ("gt", '>'),
    ("GT", '>'),
    ("quot", '"'),
    ("QUOT", '"'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("excl", '!'),
    ("num", '#'),
    ("dollar", '$'),
    ("percnt", '%'),
    ("lpar", '('),
    ("rpar", ')'),
    ("ast", '*'),
    ("midast", '*'),
    ("plus", '+'),
    ("comma", ','),
    ("period", '.'),
    ("sol", '/'),
    ("colon", ':'),
    ("semi", ';'),
    ("equals", '='),
    ("quest", '?'),
    ("commat", '@'),
    ("lsqb", '['),
    ("lbrack", '['),
    ("bsol", '\\'),
    ("rsqb", ']'),
    ("rbrack", ']'),
    ("Hat", '^'),
    ("lowbar", '_'),
    ("UnderBar", '_'),
    ("grave", '`'),
    ("lcub", '{'),
    ("lbrace", '{'),
    ("verbar", '|'),
    ("vert", '|'),
    ("rcub", '}'),
    ("rbrace", '}'),
    ("szlig", 'ß'),
    ("oslash", 'ø'),
    ("Oslash", 'Ø'),
    ("aelig", 'æ'),
    ("AElig", 'Æ'),
    ("eth", 'ð'),
    ("thorn", 'þ'),
    ("pound", '£'),
    ("sect", '§'),
    ("euro", '€'),
    ("copy", '©'),
];

/// Decodes the name of an accented letter, such as `auml` or `Eacute`.
fn latin_letter(name: &[u8]) -> Option<char> {
    const ACCENTS: [(&[u8], &str, &str); 7] = [
        (b"uml", "aeiouyAEIOU", "äëïöüÿÄËÏÖÜ"),
        (b"acute", "aeiouyAEIOUY", "áéíóúýÁÉÍÓÚÝ"),
        (b"grave", "aeiouAEIOU", "àèìòùÀÈÌÒÙ"),
        (b"circ", "aeiouAEIOU", "âêîôûÂÊÎÔÛ"),
        (b"tilde", "anoANO", "ãñõÃÑÕ"),
        (b"cedil", "cC", "çÇ"),
        (b"ring", "aA", "åÅ"),
    ];
    let (letter, accent) = name.split_first()?;
    let (_, plain, accented) = ACCENTS.iter().find(|(name, ..)| *name == accent)?;
    let place = plain.bytes().position(|plain| plain == *letter)?;
    accented.chars().nth(place)
}
