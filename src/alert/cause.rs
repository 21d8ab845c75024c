//! The fingerprint of a failure: what two failures have in common when one thing broke both. Pure.
//!
//! Made of the reason, the host, the deciding step where it matters, and the message without what differs from run to
//! run: numbers, durations, ids, quoted values. Where no connection came about, or a gateway answered for the
//! application, the step is left out: whoever asked would have failed. The key is text, so that a person can read
//! why two failures were taken for one.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use serde::{Deserialize, Serialize};

use crate::incident::Incident;
use crate::names::Reason;
use crate::outcome::{Outcome, StepResult, Verdict};
use crate::scenario::{Kind, Scenario};

/// The longest key, in characters.
const LONGEST: usize = 300;

/// What a failure is taken for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// Equal for failures of one cause: `status · shop.example.com · POST /login · the status is N`.
    pub key: String,
    /// In a few words, for `was …, is …`: `timeout at step 3`.
    pub brief: String,
    /// The host and port that it failed at, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Cause {
    /// The cause of an agent's own incident: there is one at a time.
    pub fn of_agent() -> Self {
        Self { key: "agent".into(), brief: "agent".into(), host: None }
    }

    /// The cause of an incident of which no more is known than what it says of itself.
    pub fn of_incident(incident: &Incident) -> Self {
        let reason = incident.reason.map_or(incident.verdict.as_str(), Reason::as_str).to_owned();
        Self { key: cut(&format!("{reason} · {}", incident.subject)), brief: reason, host: None }
    }

    /// The cause of an error budget's incident: those of one host are told together.
    pub fn of_budget(scenario: &Scenario) -> Self {
        let host = host_of_scenario(scenario).unwrap_or_else(|| scenario.id.value.to_string());
        Self { key: cut(&format!("error budget · {host}")), brief: "error budget".into(), host: None }
    }

    /// A number of all that [`Cause::of`] looks at in an outcome: what has the same one has the same cause. Far
    /// cheaper, for what fails in the same way minute by minute.
    pub fn print(outcome: &Outcome) -> u64 {
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

    /// The cause of an outcome that is not good.
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
            Some(index) if outcome.steps.len() > 1 => format!("{brief} at step {}", index + 1),
            _ => brief,
        };
        let whole_host = host.is_some() && anybody_would_fail(outcome, status);
        let mut parts = vec![reason.to_owned()];
        parts.extend(host.clone());
        if outcome.verdict == Verdict::Degraded {
            // A budget is the scenario's own: two that miss theirs have that in common, no more.
            parts.push(outcome.scenario.to_string());
        } else if let (false, Some(step)) = (whole_host, step) {
            parts.push(without_number(&step.name).to_owned());
        }
        match status {
            // The message names the path that was asked for; the status says it all.
            Some(status) if outcome.reason == Some(Reason::Status) => parts.push(status.to_string()),
            // Whether it was the name's lookup or the answer that took too long differs from run to run.
            _ if outcome.reason == Some(Reason::Timeout) && whole_host => {}
            _ => parts.push(normalised(message)),
        }
        parts.retain(|part| !part.is_empty());
        Self { key: cut(&parts.join(" · ")), brief, host }
    }
}

/// Whether the failure is that of a whole host: no connection, no answer at all, or a gateway that answered for it.
fn anybody_would_fail(outcome: &Outcome, status: Option<u16>) -> bool {
    match outcome.reason {
        Some(Reason::Dns | Reason::Connect | Reason::Tls | Reason::Certificate) => true,
        Some(Reason::Timeout) => status.is_none() && outcome.kind != Kind::Browser,
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

/// What a scenario is about, where its failed step does not say it.
pub fn host_of_scenario(scenario: &Scenario) -> Option<String> {
    if let Some(base) = &scenario.base_url {
        return Some(host(base.raw()).unwrap_or_else(|| base.raw().to_owned()));
    }
    let check = !matches!(scenario.kind, Kind::Browser | Kind::Api);
    let name = || scenario.steps.first().map(|step| step.name.clone());
    let host_of = |name: String| name.split_whitespace().find_map(host).unwrap_or(name);
    check.then(name).flatten().map(host_of)
}

/// Host and port of a URL.
fn host(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// A step's name without the ` (2)` of a repeat.
fn without_number(name: &str) -> &str {
    let repeat = |number: &str| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    match name.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")) {
        Some((name, number)) if repeat(number) => name,
        _ => name,
    }
}

/// A message without what differs from run to run. Addresses stay: they are whom it is about.
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

/// A number, with its unit if it has one, becomes N; what looks like an id becomes ID.
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
        // A full stop or a comma behind a number is not part of it.
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
#[path = "cause_tests.rs"]
mod tests;
