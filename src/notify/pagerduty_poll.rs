//! What operators do at PagerDuty, by its REST API, version 2: `GET /incidents` with `incident_key`, which finds incidents
//! by the keys of their alerts, and `GET /incidents/ID/alerts`, which has those keys; lists come in pages of `limit` and
//! `offset` and say `"more": false` on the last; a 429 has `ratelimit-reset`.
//!
//! An acknowledgement or resolution by a person is handed over once. What a service did by itself, or wachta by its own
//! events, is nobody's. An incident that was merged into another is resolved by that only in name: its alerts are the
//! other's from then on. Nothing is handed over before the incident was seen to have an alert with exactly our key.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value as Json, json};

use super::config::PagerDutyApi;
use super::cut;
use super::exchange::{Reply, exchange_within};
use super::feedback::{FEEDBACK, FeedbackChannel, OperatorAction};

/// Where people are said to have acknowledged.
const PLACE: &str = "PagerDuty";
/// The largest page that is read.
const MAX_PAGE_BYTES: usize = 2 << 20;
/// How many alerts are asked about in one round; the others follow in the next ones.
const MAX_ALERTS_PER_ROUND: usize = 20;
/// How many entries a page has at most.
const PAGE_LENGTH: usize = 25;
/// How many pages of one list are read.
const MAX_PAGES: usize = 8;
/// How many incidents with one key are looked at for the one that has it.
const MAX_CANDIDATES: usize = 4;
/// How many characters of a person's name are kept.
const MAX_NAME_CHARS: usize = 100;
/// The longest pause between two rounds, unless PagerDuty asks for more.
const MAX_BACKOFF: Duration = Duration::from_mins(10);
/// The pause after a 429 that names no time.
const RATE_LIMIT_PAUSE: Duration = Duration::from_mins(1);

/// How an alert stands at PagerDuty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// PagerDuty does not know the incident, or its response does not say how it is.
    Absent,
    /// Nobody has acknowledged it.
    Triggered,
    /// A person has acknowledged it.
    Acknowledged(String),
    /// A person has resolved it.
    Resolved(String),
    /// A service or wachta itself has acknowledged or resolved it.
    Automatic,
}

/// What is to be done about an alert: a command with its author, if one is due, and the note to keep afterwards.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    command: Option<(OperatorAction, String)>,
    note: Option<Json>,
}

/// Why a round was broken off, and how long PagerDuty asks to be left alone.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) problem: String,
    pub(super) wait: Option<Duration>,
}

impl Failure {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), wait: None }
    }
}

/// An open alert of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alert<'a> {
    /// The key of the notification here.
    pub(super) key: &'a str,
    /// The dedup key there.
    dedup_key: &'a str,
    /// Whether wachta has acknowledged it there.
    is_acknowledged: bool,
}

/// Asks over and over, as long as it is polled; never returns.
pub(super) async fn watch(client: &reqwest::Client, api: &PagerDutyApi, channel: &FeedbackChannel) {
    let (mut position, mut failures, mut reported) = (0, 0_u32, None);
    loop {
        let ended = round(client, api, channel, &mut position).await;
        let (problem, wait) = match ended {
            Ok(()) => (None, None),
            Err(failure) => (Some(failure.problem), failure.wait),
        };
        failures = if problem.is_some() { failures.saturating_add(1) } else { 0 };
        // Once for each problem, and once when it is over.
        if problem != reported {
            let receiver = &channel.receiver;
            match &problem {
                Some(problem) => tracing::warn!(receiver, problem, "cannot read acknowledgements from PagerDuty"),
                None => tracing::info!(receiver, "acknowledgements are read from PagerDuty again"),
            }
            reported = problem;
        }
        tokio::time::sleep(pause(api.interval, failures, wait)).await;
    }
}

/// The pause before the next round, after so many failed ones in a row.
pub(super) fn pause(interval: Duration, failures: u32, wait: Option<Duration>) -> Duration {
    let backoff = interval.saturating_mul(1 << failures.min(8)).min(MAX_BACKOFF.max(interval));
    backoff.max(wait.unwrap_or_default())
}

/// Asks about some of the open alerts; `position` goes on from round to round.
pub(super) async fn round(
    client: &reqwest::Client,
    api: &PagerDutyApi,
    channel: &FeedbackChannel,
    position: &mut usize,
) -> Result<(), Failure> {
    let stored = channel.stored().await.map_err(|error| Failure::new(format!("the store does not answer: {error}")))?;
    let open: Vec<Alert<'_>> = stored.iter().filter_map(|(key, state)| alert(key, state)).collect();
    let notes = || stored.iter().filter_map(|(key, note)| Some((key.strip_prefix(FEEDBACK)?, note)));
    for (key, _) in notes().filter(|(key, _)| !open.iter().any(|alert| alert.key == *key)) {
        keep(channel, key, None).await?;
    }
    if open.is_empty() {
        return Ok(());
    }
    let token = api.token.read().await.map_err(Failure::new)?;
    for _ in 0..open.len().min(MAX_ALERTS_PER_ROUND) {
        let alert = open[*position % open.len()];
        *position = (*position + 1) % open.len();
        let note = notes().find(|(key, _)| *key == alert.key).map(|(_, note)| note);
        let asked = change(client, api, &token, alert, note).await;
        let asked = asked.map_err(|Failure { problem, wait }| Failure {
            problem: problem.replace(&token, crate::secret::MASK),
            wait,
        });
        if let Some(change) = asked? {
            carry_out(channel, alert.key, change, PLACE).await?;
        }
    }
    Ok(())
}

/// The alert that is open there by what is stored under a key, if it is a notifier's state of one.
pub(super) fn alert<'a>(key: &'a str, state: &'a Json) -> Option<Alert<'a>> {
    let is_open = !key.starts_with(FEEDBACK) && state["over"] != true;
    let dedup_key = state["key"].as_str().filter(|_| is_open)?;
    Some(Alert { key, dedup_key, is_acknowledged: state["acknowledged"] == true })
}

pub(super) async fn keep(channel: &FeedbackChannel, key: &str, note: Option<&Json>) -> Result<(), Failure> {
    channel.note(key, note).await.map_err(|error| Failure::new(format!("the store does not answer: {error}")))
}

/// Hands a command over, noted before, so that its own consequences are not sent back, and after.
/// `place` is the name of the receiver's kind.
pub(super) async fn carry_out(
    channel: &FeedbackChannel,
    key: &str,
    change: Change,
    place: &str,
) -> Result<(), Failure> {
    if let Some((action, author)) = change.command {
        if let Some(note) = &change.note {
            let mut pending = note.clone();
            pending["pending"] = true.into();
            keep(channel, key, Some(&pending)).await?;
        }
        let receiver = &channel.receiver;
        match channel.send(key, action, author).await {
            None => return Ok(()),
            Some(Ok(done)) => {
                tracing::info!(receiver, done, place, "an action of an operator was taken over");
            }
            Some(Err(problem)) => {
                tracing::info!(receiver, problem, place, "an action of an operator was not taken over");
            }
        }
    }
    keep(channel, key, change.note.as_ref()).await
}

/// Asks how an alert stands and returns what is new of it.
async fn change(
    client: &reqwest::Client,
    api: &PagerDutyApi,
    token: &str,
    alert: Alert<'_>,
    note: Option<&Json>,
) -> Result<Option<Change>, Failure> {
    let query = [("incident_key", alert.dedup_key), ("date_range", "all")];
    let mut incidents = list(client, api, token, &["incidents"], &query).await?;
    for _ in 0..MAX_CANDIDATES {
        let Some(at) = decisive(&incidents) else { return Ok(None) };
        let Some(change) = decide(alert, note, &standing(&incidents[at]), PLACE) else { return Ok(None) };
        if has_alert(client, api, token, &incidents[at], alert.dedup_key).await? {
            return Ok(Some(change));
        }
        incidents.swap_remove(at);
    }
    Ok(None)
}

/// Whether one of the incident's alerts has the key.
async fn has_alert(
    client: &reqwest::Client,
    api: &PagerDutyApi,
    token: &str,
    incident: &Json,
    key: &str,
) -> Result<bool, Failure> {
    if incident["incident_key"] == key {
        return Ok(true);
    }
    let id = incident["id"].as_str().filter(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()));
    let Some(id) = id else { return Ok(false) };
    let alerts = list(client, api, token, &["incidents", id, "alerts"], &[]).await?;
    Ok(alerts.iter().any(|alert| alert["alert_key"] == key))
}

/// Reads a list, page by page. It has the name of the last segment.
async fn list(
    client: &reqwest::Client,
    api: &PagerDutyApi,
    token: &str,
    path: &[&str],
    query: &[(&str, &str)],
) -> Result<Vec<Json>, Failure> {
    let mut entries = Vec::new();
    for page in 0..MAX_PAGES {
        let mut url = api.url.clone();
        url.path_segments_mut().map_err(|()| Failure::new("`api_url` leads nowhere"))?.pop_if_empty().extend(path);
        let (limit, offset) = (PAGE_LENGTH.to_string(), (page * PAGE_LENGTH).to_string());
        url.query_pairs_mut().extend_pairs(query).append_pair("limit", &limit).append_pair("offset", &offset);
        let request = client.get(url).header("authorization", format!("Token token={token}"));
        let request = request.header("accept", "application/vnd.pagerduty+json;version=2");
        let reply = exchange_within(request, MAX_PAGE_BYTES).await.map_err(|tried| Failure::new(tried.said))?;
        let body = body(&reply)?;
        let found = path.last().and_then(|name| body[*name].as_array());
        let found = found.ok_or_else(|| Failure::new(format!("PagerDuty's API gave no list: {}", reply.said())))?;
        entries.extend(found.iter().take(PAGE_LENGTH).cloned());
        if body["more"] != true || found.is_empty() {
            break;
        }
    }
    Ok(entries)
}

/// The body of an answer.
fn body(reply: &Reply) -> Result<Json, Failure> {
    let said = || format!("PagerDuty's API answered {}", reply.said());
    match reply.status {
        StatusCode::TOO_MANY_REQUESTS => {
            let wait = reply.retry_after.or(reply.rate_limit_reset).unwrap_or(RATE_LIMIT_PAUSE);
            Err(Failure { problem: said(), wait: Some(wait) })
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::new(format!("{}; check `api_token`", said()))),
        status if !status.is_success() => Err(Failure { problem: said(), wait: reply.retry_after }),
        _ => reply.json().filter(Json::is_object).ok_or_else(|| {
            Failure::new(format!("PagerDuty's API did not answer with a JSON object within 2 MiB: {}", reply.said()))
        }),
    }
}

/// The index of the incident that says how an alert stands: one that is open, acknowledged rather than not, else the last.
fn decisive(incidents: &[Json]) -> Option<usize> {
    let rank = |incident: &Json| match incident["status"].as_str() {
        Some("acknowledged") => Some(2),
        Some("triggered") => Some(1),
        Some("resolved") if incident["resolve_reason"]["type"] != "merge_resolve_reason" => Some(0),
        _ => None,
    };
    let ranked = incidents.iter().enumerate().filter_map(|(at, incident)| {
        let created = incident["created_at"].as_str().unwrap_or_default();
        Some((rank(incident)?, created, at))
    });
    ranked.max().map(|(_, _, at)| at)
}

/// How an alert stands by its incident.
fn standing(incident: &Json) -> Standing {
    match incident["status"].as_str() {
        Some("triggered") => Standing::Triggered,
        Some("acknowledged") => {
            let all = incident["acknowledgements"].as_array().into_iter().flatten();
            let last = all.rev().find_map(|acknowledgement| person(&acknowledgement["acknowledger"]));
            last.map_or(Standing::Automatic, Standing::Acknowledged)
        }
        Some("resolved") => person(&incident["last_status_change_by"]).map_or(Standing::Automatic, Standing::Resolved),
        _ => Standing::Absent,
    }
}

/// The name of a person; `None` for anything else that can do something there.
fn person(who: &Json) -> Option<String> {
    let is_person = matches!(who["type"].as_str(), Some("user" | "user_reference"));
    let names = ["summary", "name", "id"].into_iter().filter_map(|name| who[name].as_str());
    let name = names.map(|name| cut::chars(&cut::line(name), MAX_NAME_CHARS)).find(|name| !name.is_empty());
    name.filter(|_| is_person)
}

/// What is new of an alert: how it stands against what was noted. `place` is the name of the receiver's kind.
pub(super) fn decide(alert: Alert<'_>, note: Option<&Json>, standing: &Standing, place: &str) -> Option<Change> {
    // What was noted of another alert of the same notification, before its severity was raised, says nothing of this one.
    let note = note.filter(|note| note["alert"] == alert.dedup_key);
    let by = note.and_then(|note| note["by"].as_str());
    let is_pending = note.is_some_and(|note| note["pending"] == true);
    let was_resolved = note.is_some_and(|note| note["resolved"] == true);
    let author = |name: &str| format!("{name} ({place})");
    let noted = |author: &str, resolved: bool| {
        let mut note = json!({"alert": alert.dedup_key, "by": author});
        if resolved {
            note["resolved"] = true.into();
        }
        Some(note)
    };
    match standing {
        Standing::Resolved(name) if !was_resolved || is_pending => {
            let author = author(name);
            Some(Change { note: noted(&author, true), command: Some((OperatorAction::Resolve, author)) })
        }
        Standing::Acknowledged(name) if by.is_none() && !alert.is_acknowledged || is_pending && !was_resolved => {
            let author = by.map_or_else(|| author(name), ToOwned::to_owned);
            Some(Change { note: noted(&author, false), command: Some((OperatorAction::Acknowledge, author)) })
        }
        Standing::Triggered => {
            let of = by?.to_owned();
            let back = (OperatorAction::Unacknowledge { of }, place.to_owned());
            Some(Change { command: (!was_resolved).then_some(back), note: None })
        }
        _ => None,
    }
}
