//! Failure fingerprint: the common features of failures with one cause. Pure.
//!
//! A fingerprint consists of the reason, the host, the failed step where it matters, and the message without everything
//! that differs between runs: numbers, durations, ids and quoted values. If there was no connection, or a gateway
//! responded in place of the application, the step is omitted, because every request would have failed. The key is
//! text, so that a person can read why two failures were grouped.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use serde::{Deserialize, Serialize};

use crate::incident::Incident;
use crate::names::Reason;
use crate::outcome::{Outcome, StepResult, Verdict};
use crate::scenario::{Scenario, ScenarioKind};

/// Maximum length of a key, in characters.
const LONGEST: usize = 300;

/// Failure fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FailureFingerprint {
    /// Key, equal for failures with one cause: `status · shop.example.com · POST /login · the status is N`.
    pub key: String,
    /// Summary in a few words, for `was …, is …`: `timeout at step 3`.
    pub brief: String,
    /// Host and port of the failed target, if the failure has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl FailureFingerprint {
    /// Returns the fingerprint of an agent's own incident, the same for all of them, because there is only one at a
    /// time.
    pub fn of_agent() -> Self {
        Self { key: "agent".into(), brief: "agent".into(), host: None }
    }

    /// Derives the fingerprint of an incident from its own data, if nothing else is available.
    pub fn of_incident(incident: &Incident) -> Self {
        let reason = incident.reason.map_or(incident.verdict.as_str(), Reason::as_str).to_owned();
        Self { key: cut(&format!("{reason} · {}", incident.subject)), brief: reason, host: None }
    }

    /// Returns the fingerprint of an error budget's incident, which groups those of one host.
    pub fn of_budget(scenario: &Scenario) -> Self {
        let host = host_of_scenario(scenario).unwrap_or_else(|| scenario.id.value.to_string());
        Self { key: cut(&format!("error budget · {host}")), brief: "error budget".into(), host: None }
    }

    /// Returns a quick hash of everything that [`FailureFingerprint::of`] reads from an outcome: equal hashes mean equal
    /// fingerprints. Much cheaper for failures that repeat every minute.
    pub fn quick_hash(outcome: &Outcome) -> u64 {
        let mut hasher = DefaultHasher::new();
        (outcome.verdict.as_str(), outcome.reason.map(Reason::as_str), &outcome.message, outcome.failed_step)
            .hash(&mut hasher);
        if let Some(step) = outcome.deciding_step() {
            (&step.name, step.failure.as_ref().map(|failure| &failure.message)).hash(&mut hasher);
            let http = step.http.as_ref().map(|http| (http.status, http.hops.last().map_or(&http.url, |hop| &hop.url)));
            (http, step.page.as_ref().map(|page| &page.url)).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Returns the fingerprint of a bad outcome.
    pub fn of(scenario: &Scenario, outcome: &Outcome) -> Self {
        let step = outcome.deciding_step();
        let reason = outcome.reason.map_or(outcome.verdict.as_str(), Reason::as_str);
        let message = step.and_then(|step| step.failure.as_ref()).map(|failure| failure.message.as_str());
        let message = message.or(outcome.message.as_deref()).unwrap_or_default();
        let host = step.and_then(host_of_step).or_else(|| host_of_scenario(scenario));
        let status = step.and_then(|step| step.http.as_ref()).map(|http| http.status);
        let brief = match status.filter(|_| outcome.reason == Some(Reason::Status)) {
            Some(status) => format!("{reason} {status}"),
            None => reason.to_owned(),
        };
        let brief = match outcome.failed_step {
            Some(index) if outcome.steps.len() > 1 => {
                let name = step.map(|step| step.name.as_str()).unwrap_or_default();
                format!("{brief} at {}", scenario.step_number(name, index))
            }
            _ => brief,
        };
        let whole_host = host.is_some() && is_host_failure(outcome, status);
        let mut parts = vec![reason.to_owned()];
        parts.extend(host.clone());
        if outcome.verdict == Verdict::Degraded {
            // A soft limit belongs to its scenario: two scenarios that violate theirs have nothing else in common.
            parts.push(outcome.scenario.to_string());
        } else if let (false, Some(step)) = (whole_host, step) {
            parts.push(without_number(&step.name).to_owned());
        }
        match status {
            // The message contains the path of the request; the status alone is sufficient.
            Some(status) if outcome.reason == Some(Reason::Status) => parts.push(status.to_string()),
            // The phase that timed out (name lookup, connection or response) differs between runs.
            _ if outcome.reason == Some(Reason::Timeout) && whole_host => {}
            _ => parts.push(normalised(message)),
        }
        parts.retain(|part| !part.is_empty());
        Self { key: cut(&parts.join(" · ")), brief, host }
    }
}

/// Returns whether the failure concerns the whole host: no connection, no response at all, or a response by a gateway
/// in place of the application.
fn is_host_failure(outcome: &Outcome, status: Option<u16>) -> bool {
    match outcome.reason {
        Some(Reason::Dns | Reason::Connect | Reason::Tls | Reason::Certificate) => true,
        Some(Reason::Timeout) => status.is_none() && outcome.kind != ScenarioKind::Browser,
        Some(Reason::Status) => matches!(status, Some(502..=504)),
        _ => false,
    }
}

fn host_of_step(step: &StepResult) -> Option<String> {
    let url = match (&step.http, &step.page) {
        (Some(http), _) => http.hops.last().map_or(http.url.as_str(), |hop| hop.url.as_str()),
        (None, Some(page)) => page.url.as_str(),
        (None, None) => step.name.split_whitespace().find(|word| word.contains("://"))?,
    };
    host(url)
}

/// Returns the host of a scenario's target, for failed steps that do not name one.
pub fn host_of_scenario(scenario: &Scenario) -> Option<String> {
    if let Some(base) = &scenario.base_url {
        return Some(host(base.raw()).unwrap_or_else(|| base.raw().to_owned()));
    }
    let check = !matches!(scenario.kind, ScenarioKind::Browser | ScenarioKind::Api);
    let name = || scenario.steps.first().map(|step| step.name.clone());
    let host_of = |name: String| name.split_whitespace().find_map(host).unwrap_or(name);
    check.then(name).flatten().map(host_of)
}

/// Returns the host and port of a URL.
fn host(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Strips the ` (2)` of a repetition from the name of a step.
fn without_number(name: &str) -> &str {
    let repeat = |number: &str| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    match name.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")) {
        Some((name, number)) if repeat(number) => name,
        _ => name,
    }
}

/// Removes everything that differs between runs from a message. Addresses are kept, because they identify the target.
pub fn normalised(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut quote: Option<char> = None;
    for word in message.split_whitespace() {
        if let Some(end) = quote {
            if closes(word, end) {
                quote = None;
            }
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        let bare = word.trim_matches(|c: char| ",;:()`".contains(c)).trim_end_matches('.');
        if bare.parse::<core::net::IpAddr>().is_ok() || bare.parse::<core::net::SocketAddr>().is_ok() {
            out.push_str(bare);
            continue;
        }
        if let Some(end) = word.trim_start_matches(['(', '[']).chars().next().and_then(closing) {
            out.push_str("\"…\"");
            let rest = word.trim_start_matches(['(', '[']);
            if !closes(&rest[rest.chars().next().map_or(0, char::len_utf8)..], end) {
                quote = Some(end);
            }
            continue;
        }
        push_word(&mut out, word);
    }
    cut(&out)
}

fn closing(open: char) -> Option<char> {
    match open {
        '"' => Some('"'),
        '\'' => Some('\''),
        '“' => Some('”'),
        _ => None,
    }
}

fn closes(word: &str, end: char) -> bool {
    word.trim_end_matches([',', ';', ':', '.', ')', ']']).ends_with(end)
}

/// Appends a word: numbers, with their units, are replaced by N, and apparent ids by ID.
fn push_word(out: &mut String, word: &str) {
    let core = word.trim_matches(|c: char| !c.is_alphanumeric());
    let (digits, letters) =
        (core.bytes().filter(u8::is_ascii_digit).count(), core.bytes().filter(u8::is_ascii_alphabetic).count());
    let plain = core.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if plain && core.len() >= 8 && digits >= 2 && (letters >= 1 || core.contains('-')) {
        let start = word.find(core).unwrap_or(0);
        out.push_str(&word[..start]);
        out.push_str("ID");
        out.push_str(&word[start + core.len()..]);
        return;
    }
    let mut rest = word;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        out.push('N');
        let number = &rest[at..];
        let end = number.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(number.len());
        // A full stop or comma after a number is not part of it.
        let end = number[..end].trim_end_matches(['.', ',']).len();
        rest = &number[end..];
        let unit = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        if ["ms", "s", "m", "h", "d", "us", "µs", "ns", "min"].contains(&&rest[..unit]) {
            rest = &rest[unit..];
        }
    }
    out.push_str(rest);
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => text[..at].to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "fingerprint_tests.rs"]
mod tests;
