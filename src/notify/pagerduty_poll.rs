//! Actions of operators at PagerDuty, read by its REST API, version 2: `GET /incidents` with `incident_key` finds
//! incidents by the keys of their alerts, and `GET /incidents/ID/alerts` returns these keys. Lists are paginated by
//! `limit` and `offset`, with `"more": false` on the last page. A 429 response has `ratelimit-reset`.
//!
//! An acknowledgement or resolution by a person is forwarded once. Actions by services, or by wachta's own events, are
//! ignored. An incident that was merged into another one is not really resolved: its alerts belong to the other one
//! from then on. Nothing is forwarded unless the incident has an alert with exactly wachta's key.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value as Json, json};

use super::config::PagerDutyApi;
use super::exchange::{Reply, exchange_within};
use super::feedback::{FEEDBACK, FeedbackChannel, OperatorAction};
use super::truncate;

/// Name of the receiver kind, for the author of an action.
const PLACE: &str = "PagerDuty";
/// Maximum size of a page, in bytes.
const MAX_PAGE_BYTES: usize = 2 << 20;
/// Maximum number of alerts checked in one round; the next rounds continue with the others.
const MAX_ALERTS_PER_ROUND: usize = 20;
/// Maximum number of entries in a page.
const PAGE_LENGTH: usize = 25;
/// Maximum number of pages read from one list.
const MAX_PAGES: usize = 8;
/// Maximum number of incidents checked for an alert with the key.
const MAX_CANDIDATES: usize = 4;
/// Maximum number of characters of a person's name.
const MAX_NAME_CHARS: usize = 100;
/// Maximum delay between two rounds, unless PagerDuty asks for more.
const MAX_BACKOFF: Duration = Duration::from_mins(10);
/// Delay after a 429 response without a time.
const RATE_LIMIT_PAUSE: Duration = Duration::from_mins(1);

/// State of an alert at the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The incident does not exist there, or the response has no usable state.
    Absent,
    /// The alert is not acknowledged.
    Triggered,
    /// A person acknowledged the alert.
    Acknowledged(String),
    /// A person resolved the alert.
    Resolved(String),
    /// A service or wachta itself acknowledged or resolved the alert.
    Automatic,
}

/// Change of an alert: an operator command with its author, if there is one, and the record to store afterwards.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    command: Option<(OperatorAction, String)>,
    note: Option<Json>,
}

/// Error of a round, with the delay that PagerDuty asked for.
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

/// Open alert of wachta.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alert<'a> {
    /// Dedup key of the notification, as stored.
    pub(super) key: &'a str,
    /// Dedup key at the receiver.
    dedup_key: &'a str,
    /// Whether wachta acknowledged the alert at the receiver.
    is_acknowledged: bool,
}

/// Checks the open alerts periodically while it is polled. Never returns.
pub(super) async fn watch(client: &reqwest::Client, api: &PagerDutyApi, channel: &FeedbackChannel) {
    let (mut position, mut failures, mut reported) = (0, 0_u32, None);
    loop {
        let ended = round(client, api, channel, &mut position).await;
        let (problem, wait) = match ended {
            Ok(()) => (None, None),
            Err(failure) => (Some(failure.problem), failure.wait),
        };
        failures = if problem.is_some() { failures.saturating_add(1) } else { 0 };
        // Each problem is logged once, and its end is logged once.
        if problem != reported {
            let receiver = &channel.receiver;
            match &problem {
                Some(problem) => tracing::warn!(receiver, problem, "cannot read acknowledgements from PagerDuty"),
                None => tracing::info!(receiver, "reading acknowledgements from PagerDuty works again"),
            }
            reported = problem;
        }
        tokio::time::sleep(pause(api.interval, failures, wait)).await;
    }
}

/// Returns the delay before the next round, given the number of consecutive failed rounds.
pub(super) fn pause(interval: Duration, failures: u32, wait: Option<Duration>) -> Duration {
    let backoff = interval.saturating_mul(1 << failures.min(8)).min(MAX_BACKOFF.max(interval));
    backoff.max(wait.unwrap_or_default())
}

/// Checks some of the open alerts. `position` continues from round to round.
pub(super) async fn round(
    client: &reqwest::Client,
    api: &PagerDutyApi,
    channel: &FeedbackChannel,
    position: &mut usize,
) -> Result<(), Failure> {
    let stored =
        channel.stored().await.map_err(|error| Failure::new(format!("the store is not responding: {error}")))?;
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

/// Returns the alert of a receiver state, if the state belongs to the notifier and the alert is open.
pub(super) fn alert<'a>(key: &'a str, state: &'a Json) -> Option<Alert<'a>> {
    let is_open = !key.starts_with(FEEDBACK) && state["over"] != true;
    let dedup_key = state["key"].as_str().filter(|_| is_open)?;
    Some(Alert { key, dedup_key, is_acknowledged: state["acknowledged"] == true })
}

pub(super) async fn keep(channel: &FeedbackChannel, key: &str, note: Option<&Json>) -> Result<(), Failure> {
    channel.note(key, note).await.map_err(|error| Failure::new(format!("the store is not responding: {error}")))
}

/// Sends the command of a change. The change is recorded before, so that its consequences are not sent back to the
/// receiver, and after. `place` is the name of the receiver kind.
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
                tracing::info!(receiver, done, place, "operator action applied");
            }
            Some(Err(problem)) => {
                tracing::info!(receiver, problem, place, "cannot apply operator action");
            }
        }
    }
    keep(channel, key, change.note.as_ref()).await
}

/// Reads the state of an alert and returns its change.
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

/// Returns whether one of the incident's alerts has the key.
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

/// Reads all pages of a list, whose field has the name of the last path segment.
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
        url.path_segments_mut()
            .map_err(|()| Failure::new("`api_url` cannot be a base URL"))?
            .pop_if_empty()
            .extend(path);
        let (limit, offset) = (PAGE_LENGTH.to_string(), (page * PAGE_LENGTH).to_string());
        url.query_pairs_mut().extend_pairs(query).append_pair("limit", &limit).append_pair("offset", &offset);
        let request = client.get(url).header("authorization", format!("Token token={token}"));
        let request = request.header("accept", "application/vnd.pagerduty+json;version=2");
        let reply = exchange_within(request, MAX_PAGE_BYTES).await.map_err(|tried| Failure::new(tried.response))?;
        let body = body(&reply)?;
        let found = path.last().and_then(|name| body[*name].as_array());
        let found = found.ok_or_else(|| {
            Failure::new(format!("unexpected response of the PagerDuty API: no list: {}", reply.response()))
        })?;
        entries.extend(found.iter().take(PAGE_LENGTH).cloned());
        if body["more"] != true || found.is_empty() {
            break;
        }
    }
    Ok(entries)
}

/// Returns the body of a response.
fn body(reply: &Reply) -> Result<Json, Failure> {
    let response = || format!("the PagerDuty API returned status {}", reply.response());
    match reply.status {
        StatusCode::TOO_MANY_REQUESTS => {
            let wait = reply.retry_after.or(reply.rate_limit_reset).unwrap_or(RATE_LIMIT_PAUSE);
            Err(Failure { problem: response(), wait: Some(wait) })
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Failure::new(format!("{}; check `api_token`", response())))
        }
        status if !status.is_success() => Err(Failure { problem: response(), wait: reply.retry_after }),
        _ => reply.json().filter(Json::is_object).ok_or_else(|| {
            Failure::new(format!(
                "the PagerDuty API did not return a JSON object of at most 2 MiB: {}",
                reply.response()
            ))
        }),
    }
}

/// Returns the index of the incident that determines the state of an alert: an open one, preferably acknowledged,
/// otherwise the last one.
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

/// Returns the state of an alert from its incident.
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

/// Returns the name of a person, or `None` for any other actor.
fn person(who: &Json) -> Option<String> {
    let is_person = matches!(who["type"].as_str(), Some("user" | "user_reference"));
    let names = ["summary", "name", "id"].into_iter().filter_map(|name| who[name].as_str());
    let name = names.map(|name| truncate::chars(&truncate::line(name), MAX_NAME_CHARS)).find(|name| !name.is_empty());
    name.filter(|_| is_person)
}

/// Compares the state of an alert with the recorded one and returns the change. `place` is the name of the receiver
/// kind.
pub(super) fn decide(alert: Alert<'_>, note: Option<&Json>, standing: &Standing, place: &str) -> Option<Change> {
    // A record of another alert of the same notification, from before its severity was raised, does not apply to this
    // one.
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
