//! Interpretation of the responses of a remote write receiver. Pure.
//!
//! Sources: the specifications "Prometheus Remote-Write 2.0" and "1.0"; the error messages are those of Prometheus,
//! Mimir, Cortex and Thanos, because the status alone does not distinguish a late sample from an invalid one.

use std::time::Duration;

use super::message::Version;

/// Maximum length of a stored reason, in characters.
const MAX_REASON_CHARS: usize = 300;
/// Error messages about a sample that is not newer than the last one of its series.
const LATE: [&str; 6] = [
    "out of order sample",
    "out-of-order",
    "sample timestamp out of order",
    "duplicate sample",
    "repeated timestamp",
    "same timestamp",
];

/// Response of a receiver.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// Protocol version of the request.
    pub version: Version,
    /// Status code.
    pub status: u16,
    /// Delay requested by `Retry-After`.
    pub after: Option<Duration>,
    /// Whether the response contains the number of written samples, as version 2.0 requires.
    pub is_confirmed: bool,
    /// Whether this or an earlier response contains that number.
    pub has_confirmed: bool,
    /// Beginning of the body.
    pub body: &'a [u8],
}

/// Result of writing samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The receiver has accepted the samples.
    Taken,
    /// The receiver has a sample of the same series with the same time or a later one. It may have accepted the others.
    Late(String),
    /// The receiver has rejected one of the samples. It may have accepted the others.
    Refused(String),
    /// The receiver may accept the samples later.
    Retry {
        /// Minimum delay, if the receiver requests one.
        after: Option<Duration>,
        /// Description of the error.
        reason: String,
    },
}

/// Interpretation of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The receiver supports this protocol version.
    Written(Written),
    /// The receiver may support the other version. The text contains the reason why it does not support this one.
    OtherVersion(String),
}

/// Interprets a response.
pub fn answer(of: &Response) -> Answer {
    let text = String::from_utf8_lossy(of.body);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_REASON_CHARS).collect();
    let reason = format!("status {}: {line}", of.status);
    let is_late = || LATE.iter().any(|words| reason.to_lowercase().contains(words));
    Answer::Written(match of.status {
        // A receiver of version 1.0 that does not check the content type reads no samples from a message of version 2.0
        // and reports success.
        200..=299 if of.version == Version::V2 && !of.is_confirmed => {
            return Answer::OtherVersion("it does not confirm samples of 2.0".to_owned());
        }
        200..=299 => Written::Taken,
        415 => return Answer::OtherVersion(reason),
        400 if is_late() => Written::Late(reason),
        // Some receivers of version 1.0 cannot parse a message of version 2.0.
        400 if of.version == Version::V2 && !of.has_confirmed => return Answer::OtherVersion(reason),
        // Thanos provides no further details.
        409 => Written::Late(reason),
        400 | 413 | 422 => Written::Refused(reason),
        _ => Written::Retry { after: of.after, reason },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_mean_what_the_specification_says() {
        let check = |version, status, confirmed: (bool, bool), body: &str, expected: Answer| {
            let after = (status == 429).then_some(Duration::from_secs(7));
            let (is_confirmed, has_confirmed) = confirmed;
            let response = Response { version, status, after, is_confirmed, has_confirmed, body: body.as_bytes() };
            assert_eq!(answer(&response), expected, "{response:?}");
        };
        let (no, yes) = ((false, false), (true, true));
        let written = Answer::Written;
        let text = |status: u16, body: &str| format!("status {status}: {body}");
        check(Version::V1, 204, no, "", written(Written::Taken));
        check(Version::V2, 204, yes, "", written(Written::Taken));
        for before in [false, true] {
            let nothing = Answer::OtherVersion("it does not confirm samples of 2.0".into());
            check(Version::V2, 204, (false, before), "", nothing);
        }
        for version in [Version::V1, Version::V2] {
            check(version, 415, no, "a", Answer::OtherVersion(text(415, "a")));
            for status in [401, 403, 404, 408, 500, 502, 503] {
                let retry = Written::Retry { after: None, reason: text(status, "a b") };
                check(version, status, no, "a\n b", written(retry));
            }
            let retry = Written::Retry { after: Some(Duration::from_secs(7)), reason: text(429, "slow") };
            check(version, 429, no, "slow", written(retry));
            check(version, 413, no, "large", written(Written::Refused(text(413, "large"))));
            check(version, 409, no, "conflict", written(Written::Late(text(409, "conflict"))));
            for late in [
                "out of order sample",
                "duplicate sample for timestamp",
                "user=a: sample timestamp out of order; last timestamp: 1",
                "sample with repeated timestamp but different value",
                "the sample has been rejected because another sample with the same timestamp, but a different value, came",
                "a more recent timestamp has already been ingested and Out-of-order samples are not allowed",
            ] {
                check(version, 400, no, late, written(Written::Late(text(400, late))));
            }
            // A sample that is too old will never be accepted, and the receiver does not have it.
            for bad in ["out of bounds", "too old sample", "label name is not valid"] {
                check(version, 400, yes, bad, written(Written::Refused(text(400, bad))));
            }
        }
        check(Version::V1, 400, no, "bad", written(Written::Refused(text(400, "bad"))));
        check(Version::V2, 400, no, "bad", Answer::OtherVersion(text(400, "bad")));
        check(Version::V2, 400, (false, true), "bad", written(Written::Refused(text(400, "bad"))));
    }
}
