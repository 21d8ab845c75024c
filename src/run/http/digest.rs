//! HTTP Digest authentication (RFC 7616), which proves a password without sending it.

use hyper::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use md5::Md5;
use sha2::Sha256;
use sha2::digest::Digest as _;
use uuid::Uuid;

use super::hop::HopRequest;
use crate::names::Reason;
use crate::outcome::Failure;

/// A challenge of the server.
#[derive(Debug, Default, PartialEq)]
struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Option<String>,
    qop: Option<String>,
    /// Whether only the nonce of the rejected request was too old.
    stale: bool,
}

/// Answers to one challenge, which may authenticate any number of requests.
pub(super) struct Digest {
    challenge: Challenge,
    algorithm: Algorithm,
    /// Whether the session variant of the algorithm is used, which hashes the nonces as well.
    session: bool,
    cnonce: String,
    /// Number of requests that were authenticated with the nonce.
    count: u32,
}

impl Digest {
    /// Selects the challenge of a 401 response that will be answered. Returns `None` if there is no digest challenge.
    pub(super) fn new(headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = texts.flat_map(challenges).collect();
        let Some(first) = challenges.first() else { return Ok(None) };
        let unsupported = format!("unsupported digest algorithm: {}", first.algorithm.as_deref().unwrap_or_default());
        // The strongest supported algorithm is used, regardless of order (RFC 7616, section 3.7).
        let known = challenges.into_iter().filter_map(|challenge| Some((algorithm(&challenge)?, challenge)));
        let strongest = known.max_by_key(|((algorithm, _), _)| *algorithm == Algorithm::Sha256);
        let Some(((algorithm, session), challenge)) = strongest else {
            return Err(Failure::new(Reason::Protocol, unsupported));
        };
        let cnonce = Uuid::now_v7().simple().to_string();
        Ok(Some(Self { challenge, algorithm, session, cnonce, count: 0 }))
    }

    /// Returns whether the server only rejected the nonce of the last request as too old.
    pub(super) fn is_stale(&self) -> bool {
        self.challenge.stale
    }

    /// Returns the `Authorization` value for a request.
    pub(super) fn authorize(&mut self, ask: &HopRequest, user: &str, password: &str) -> Result<HeaderValue, Failure> {
        self.count += 1;
        let text = self
            .answer(ask.method.as_str(), ask.target(), user, password)
            .ok_or_else(|| Failure::new(Reason::Protocol, "unsupported digest protection `auth-int`"))?;
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            Failure::new(Reason::Protocol, "the server's challenge contains characters that a header cannot contain")
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn answer(&self, method: &str, target: &str, user: &str, password: &str) -> Option<String> {
        let Self { algorithm, cnonce, .. } = self;
        let Challenge { realm, nonce, opaque, qop, .. } = &self.challenge;
        let mut who = algorithm.hash(&format!("{user}:{realm}:{password}"));
        if self.session {
            who = algorithm.hash(&format!("{who}:{nonce}:{cnonce}"));
        }
        let what = algorithm.hash(&format!("{method}:{target}"));
        let with_qop = match qop {
            None => false,
            Some(offered) if offered.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth")) => true,
            Some(_) => return None,
        };
        let count = format!("{:08x}", self.count);
        let response = if with_qop {
            algorithm.hash(&format!("{who}:{nonce}:{count}:{cnonce}:auth:{what}"))
        } else {
            algorithm.hash(&format!("{who}:{nonce}:{what}"))
        };
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut text = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{response}\"",
            quoted(user),
            quoted(realm),
            quoted(nonce),
            quoted(target)
        );
        if let Some(name) = &self.challenge.algorithm {
            text.push_str(&format!(", algorithm={name}"));
        }
        if with_qop {
            text.push_str(&format!(", qop=auth, nc={count}, cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = opaque {
            text.push_str(&format!(", opaque=\"{}\"", quoted(opaque)));
        }
        Some(text)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hexadecimal(&Md5::digest(text.as_bytes())),
            Self::Sha256 => hexadecimal(&Sha256::digest(text.as_bytes())),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the algorithm, and whether it is a session variant that hashes the nonces as well.
fn algorithm(challenge: &Challenge) -> Option<(Algorithm, bool)> {
    match challenge.algorithm.as_deref().unwrap_or("MD5").to_ascii_uppercase().as_str() {
        "MD5" => Some((Algorithm::Md5, false)),
        "MD5-SESS" => Some((Algorithm::Md5, true)),
        "SHA-256" => Some((Algorithm::Sha256, false)),
        "SHA-256-SESS" => Some((Algorithm::Sha256, true)),
        _ => None,
    }
}

/// Returns the digest challenges of one header, which may contain other schemes in between (RFC 9110, section 11.6.1).
fn challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut in_digest = false;
    for item in items(header) {
        let (name, value) = match item.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => (item.trim(), ""),
        };
        // A scheme precedes its first parameter, separated by a space.
        let name = match name.split_once(char::is_whitespace) {
            Some((scheme, name)) => {
                in_digest = begin(scheme, &mut found);
                name.trim()
            }
            None if value.is_empty() => {
                in_digest = begin(name, &mut found);
                continue;
            }
            None => name,
        };
        let Some(challenge) = found.last_mut().filter(|_| in_digest) else { continue };
        let value = unquoted(value);
        match name.to_ascii_lowercase().as_str() {
            "realm" => challenge.realm = value,
            "nonce" => challenge.nonce = value,
            "opaque" => challenge.opaque = Some(value),
            "algorithm" => challenge.algorithm = Some(value),
            "qop" => challenge.qop = Some(value),
            "stale" => challenge.stale = value.eq_ignore_ascii_case("true"),
            _ => {}
        }
    }
    found
}

fn begin(scheme: &str, found: &mut Vec<Challenge>) -> bool {
    let is_digest = scheme.eq_ignore_ascii_case("digest");
    if is_digest {
        found.push(Challenge::default());
    }
    is_digest
}

/// Splits a header at the commas outside of quotes.
fn items(header: &str) -> Vec<&str> {
    let (mut items, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in header.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                items.push(&header[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&header[start..]);
    items
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        text.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_of_rfc_7616() {
        // Section 3.9.1, and section 3.5 of RFC 2617 for the variant without a session.
        let header = "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=SHA-256, \
                      nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
        for (header, expected) in [
            (header.to_owned(), "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            (header.replace("SHA-256", "MD5"), "8ca523f5e9506fed4657c9700eebdbec"),
        ] {
            let mut headers = HeaderMap::new();
            let header = format!("Basic realm=\"a, b\", {header}, Negotiate");
            headers.insert(WWW_AUTHENTICATE, header.parse().unwrap());
            let mut digest = super::Digest::new(&headers).unwrap().unwrap();
            digest.cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".to_owned();
            digest.count = 1;
            let text = digest.answer("GET", "/dir/index.html", "Mufasa", "Circle of Life").unwrap();
            assert!(text.contains(&format!("response=\"{expected}\"")), "{text}");
        }
    }

    #[test]
    fn challenges_are_told_apart() {
        let found = challenges("Digest realm=\"a\\\"b\", nonce=n, qop=auth-int, Basic realm=\"x\", Digest nonce=\"m\"");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].realm.as_str(), found[0].qop.as_deref()), ("a\"b", Some("auth-int")));
        assert_eq!((found[1].realm.as_str(), found[1].nonce.as_str()), ("", "m"));
        let (algorithm, session) = (Algorithm::Md5, false);
        let challenge = found.into_iter().next().unwrap();
        let digest = super::Digest { challenge, algorithm, session, cnonce: "c".to_owned(), count: 1 };
        assert_eq!(digest.answer("GET", "/", "u", "p"), None);
        let stale =
            ["stale=TRUE", "stale=\"true\"", "stale=false", "a=b"].map(|item| challenges(&format!("Digest {item}")));
        assert_eq!(stale.map(|found| found[0].stale), [true, true, false, false]);
        assert_eq!(challenges("Basic realm=\"Digest\", Bearer"), []);
    }
}
