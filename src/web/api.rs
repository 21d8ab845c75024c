//! `/api/v1`: incidents and decisions, silences, maintenance, acknowledgement. Requests and responses are JSON; errors
//! have the form `{"error": …}`. Changes are sent as messages to `app`, which replies after they are written.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State as With};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::State;
use super::alert_request::AlertRequest;
use crate::incident::{AlertCommand, During, Incident, Matchers, Mute, Notification, Subject};
use crate::scenario::units;
use crate::sink::Status;
use crate::store::{Incidents, NotificationRecord, Outbox, StoreError};

/// Maximum number of incidents and decisions in a list.
const LISTED: u32 = 500;
/// Maximum length of a text in a request, in characters.
const LONGEST: usize = 500;
/// Maximum number of pairs in `match`.
const PAIRS: usize = 20;
/// Maximum duration of a silence.
const LONGEST_MUTE: Duration = Duration::from_hours(366 * 24);

/// Error response: status and message.
pub(super) struct Problem(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

type ApiResult = Result<Json<Value>, Problem>;

pub(super) fn bad(message: impl Into<String>) -> Problem {
    Problem(StatusCode::BAD_REQUEST, message.into())
}

/// Returns the error for a request from another site.
pub(super) fn foreign() -> Problem {
    Problem(StatusCode::FORBIDDEN, "cross-site request rejected".into())
}

/// Returns the body of a request, or the error response if it is not valid.
fn said<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|body| body.0).map_err(|refused| bad(refused.body_text()))
}

/// Returns the incidents, open ones first.
pub(super) async fn incidents(With(state): With<Arc<State>>) -> ApiResult {
    Ok(Json(incidents_in(&*state.store).await?))
}

/// Returns the incidents in a store in the format of the API, open ones first.
pub async fn incidents_in(store: &(impl Incidents + ?Sized)) -> Result<Value, StoreError> {
    Ok(store.incidents(LISTED).await?.iter().map(incident).collect())
}

fn incident(incident: &Incident) -> Value {
    let mut body = serde_json::to_value(incident).expect("plain data becomes JSON");
    body["dedup_key"] = incident.dedup_key().into();
    body
}

/// Returns the state of the agent and its sinks: whether the agent works, and for each destination its delay, the start
/// of its failure, the last error and the values it has rejected permanently.
pub(super) async fn status(With(state): With<Arc<State>>) -> ApiResult {
    let overview = Arc::clone(&state.overview.borrow());
    let sinks: Vec<Value> = (state.sinks)().iter().map(sink).collect();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "location": overview.location,
        "problem": state.works.borrow().problem(),
        "scenarios": {
            "loaded": overview.scenarios.len(),
            "paused": overview.paused.len(),
            "refused": overview.refused.len(),
        },
        "loaded_at": overview.loaded_at,
        "sinks": sinks,
    })))
}

fn sink(status: &Status) -> Value {
    json!({
        "name": status.name,
        "destination": status.destination,
        "waiting": status.waiting,
        "oldest": status.oldest,
        "sent": status.sent,
        "dropped": status.dropped,
        "failing_since": status.failing_since,
        "last_error": status.last_error.as_ref().map(|(at, error)| json!({"at": at, "error": error})),
        "refused": status.refused,
    })
}

/// Query parameters that select decisions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyQuery {
    /// Start of the time range: a point in time, or a duration before now.
    #[serde(default)]
    pub since: Option<String>,
    /// Maximum number of decisions.
    #[serde(default)]
    pub limit: Option<u32>,
}

impl WhyQuery {
    /// Returns the start of the time range.
    fn since(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, String> {
        let Some(since) = &self.since else { return Ok(None) };
        if let Ok(at) = DateTime::parse_from_rfc3339(since) {
            return Ok(Some(at.to_utc()));
        }
        let ago = units::duration(since).map_err(|problem| format!("`since`: {problem}"))?;
        Ok(TimeDelta::from_std(ago).ok().and_then(|ago| now.checked_sub_signed(ago)))
    }
}

/// Returns the decisions about a scenario, or about the subject of an incident, and the delivery status of its
/// notifications, newest first.
pub(super) async fn why(
    With(state): With<Arc<State>>,
    Path(id): Path<String>,
    query: Result<Query<WhyQuery>, QueryRejection>,
) -> ApiResult {
    let query = query.map_err(|refused| bad(refused.body_text()))?.0;
    query.since(Utc::now()).map_err(bad)?;
    if let Some(decisions) = decisions_in(&*state.store, &id, &query).await? {
        return Ok(Json(decisions));
    }
    let overview = state.overview.borrow();
    let is_known = overview.scenarios.contains_key(id.as_str())
        || overview.paused.iter().any(|scenario| scenario.id.as_str() == id)
        || overview.refused.iter().any(|(known, _)| *known == id);
    if is_known {
        // The scenario exists but has no decisions yet.
        Ok(Json(json!([])))
    } else {
        Err(Problem(StatusCode::NOT_FOUND, format!("no scenario, incident or agent with the id `{id}`")))
    }
}

/// Returns the decisions in a store about a scenario, or about the subject of an incident, with the delivery status of
/// its notifications, newest first and in the format of the API. `None` if the store has no data about the id.
pub async fn decisions_in(
    store: &(impl Incidents + Outbox + ?Sized),
    id: &str,
    query: &WhyQuery,
) -> Result<Option<Value>, StoreError> {
    let incident = store.incident(id).await?;
    let subject = incident.map_or(Subject::from(id), |incident| incident.subject);
    let decisions = store.decisions(&subject, LISTED).await?;
    if decisions.is_empty() {
        return Ok(None);
    }
    let since = query.since(Utc::now()).unwrap_or_default();
    let mut keys: Vec<&str> = decisions.iter().filter_map(|kept| notification_key(&kept.decision.detail)).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut lines: Vec<(DateTime<Utc>, Value)> = Vec::new();
    for key in keys {
        lines.extend(
            store
                .notifications(key)
                .await?
                .iter()
                .map(|state| (state.done_at.unwrap_or(state.notification.queued_at), fared(state))),
        );
    }
    // In reversed order, the delivery of a notification is listed above the decision that led to it.
    lines.reverse();
    lines.extend(decisions.iter().map(|kept| {
        let shown = json!({
            "reason": kept.decision.reason.as_str(),
            "detail": kept.decision.detail,
            "count": kept.count,
            "first_at": kept.first_at,
            "at": kept.decision.at,
            "run": kept.decision.run,
        });
        (kept.decision.at, shown)
    }));
    lines.retain(|(at, _)| since.is_none_or(|since| *at >= since));
    lines.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    lines.truncate(query.limit.unwrap_or(LISTED) as usize);
    Ok(Some(lines.into_iter().map(|(_, line)| line).collect()))
}

/// Extracts the dedup key of the notification from the detail of a decision, such as `opened as shop:3 for team`.
fn notification_key(detail: &str) -> Option<&str> {
    let (key, _) = detail.split_once("as ").map(|(_, rest)| rest)?.split_once(" for ")?;
    (key.contains(':') && !key.contains(' ')).then_some(key)
}

/// Formats the delivery status of a notification.
fn fared(state: &NotificationRecord) -> Value {
    let Notification { event, key, receiver, queued_at, .. } = &state.notification;
    let (event, problem) = (event.as_str(), state.problem.as_deref());
    let because = problem.map(|problem| format!(": {problem}")).unwrap_or_default();
    let (why, detail) = match (state.state.as_str(), state.done_at) {
        ("sent", _) => ("delivered", format!("{event} as {key} to {receiver}")),
        ("failed", _) => ("undelivered", format!("{event} as {key} to {receiver} failed{because}")),
        _ => ("undelivered", format!("{event} as {key} to {receiver} is not delivered yet{because}")),
    };
    let at = state.done_at.unwrap_or(*queued_at);
    json!({"reason": why, "detail": detail, "count": 1, "first_at": at, "at": at, "run": null})
}

/// Returns the silences and maintenance windows created by operators that have not ended.
pub(super) async fn silences(With(state): With<Arc<State>>) -> ApiResult {
    Ok(Json(mutes_in(&*state.store).await?))
}

/// Returns the silences and maintenance windows in a store in the format of the API.
pub async fn mutes_in(store: &(impl Incidents + ?Sized)) -> Result<Value, StoreError> {
    let memory = store.alerting_entries().await?;
    let mutes = memory.into_iter().filter(|(key, _)| key.starts_with(crate::names::MUTES));
    Ok(mutes.map(|(_, body)| body).collect())
}

/// Parses a silence from the format of the API.
pub fn silence_asked(body: Value) -> Result<AlertCommand, String> {
    let body: MuteBody = serde_json::from_value(body).map_err(|e| e.to_string())?;
    body.asked(false).map_err(|Problem(_, problem)| problem)
}

/// Parses an acknowledgement from the format of the API.
pub fn acknowledge_asked(key: String, author: String, length: Option<&str>) -> Result<AlertCommand, String> {
    acknowledging(key, author, length).map_err(|Problem(_, problem)| problem)
}

/// Creates the command that removes an acknowledgement. Returns an error if the author is not valid.
pub fn unacknowledge_asked(key: String, author: String) -> Result<AlertCommand, String> {
    plain(&author, "author").map_err(|Problem(_, problem)| problem)?;
    Ok(AlertCommand::Unacknowledge { key, author, of: None })
}

/// Creates the command that resolves an incident manually. Returns an error if a text is not valid.
pub fn resolve_asked(key: String, author: String, reason: String) -> Result<AlertCommand, String> {
    resolving(key, author, reason).map_err(|Problem(_, problem)| problem)
}

/// Request body of a silence or maintenance window.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MuteBody {
    #[serde(rename = "match", default)]
    pub(super) matches: Matchers,
    #[serde(rename = "for")]
    pub(super) length: String,
    /// Recurring times to which the mute is limited within its duration.
    #[serde(default)]
    pub(super) during: Option<During>,
    #[serde(default)]
    pub(super) author: String,
    #[serde(default)]
    pub(super) reason: String,
    /// Whether to create the mute even if it matches nothing at present.
    #[serde(default)]
    pub(super) confirmed: bool,
    /// Whether to respond only with the present matches, without creating the mute.
    #[serde(default)]
    pub(super) dry_run: bool,
}

impl MuteBody {
    /// Converts the body to a command. Returns an error response if it is not valid.
    pub(super) fn asked(self, maintenance: bool) -> Result<AlertCommand, Problem> {
        let length = units::duration(&self.length).map_err(|problem| bad(format!("`for`: {problem}")))?;
        if length.is_zero() || length > LONGEST_MUTE {
            return Err(bad("`for` must be above 0 and at most a year"));
        }
        let pairs = self.matches.0.iter().flat_map(|(key, matcher)| [key.as_str(), matcher.value()]);
        let texts = pairs.chain([self.author.as_str(), self.reason.as_str()]);
        if self.matches.0.len() > PAIRS || texts.into_iter().any(|text| text.chars().count() > LONGEST) {
            return Err(bad(format!("at most {PAIRS} pairs under `match`, and {LONGEST} characters per text")));
        }
        let is_empty = self.matches.is_empty() || self.matches.0.values().any(|matcher| matcher.value().is_empty());
        if is_empty {
            return Err(bad("`match` is empty; to silence everything, write {\"scenario\": {\"matches\": \".\"}}"));
        }
        if self.dry_run {
            return Ok(AlertCommand::Preview { matches: self.matches });
        }
        if !maintenance && (self.author.trim().is_empty() || self.reason.trim().is_empty()) {
            return Err(bad("a silence needs `author` and `reason`"));
        }
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        let from = Utc::now();
        Ok(AlertCommand::Mute(Mute {
            // Short enough to be typed, and unique.
            id: Uuid::now_v7().simple().to_string().split_off(20),
            maintenance,
            matches: self.matches,
            from,
            until: from + TimeDelta::from_std(length).unwrap_or_default(),
            during: self.during,
            author: or(self.author, "the API"),
            reason: or(self.reason, "maintenance"),
            confirmed: self.confirmed,
        }))
    }
}

/// Creates a silence.
pub(super) async fn silence(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    body: Result<Json<MuteBody>, JsonRejection>,
) -> ApiResult {
    ask(&state, &headers, said(body)?.asked(false)?).await
}

/// Creates a maintenance window.
pub(super) async fn maintain(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    body: Result<Json<MuteBody>, JsonRejection>,
) -> ApiResult {
    ask(&state, &headers, said(body)?.asked(true)?).await
}

/// Ends a silence or maintenance window.
pub(super) async fn expire(With(state): With<Arc<State>>, headers: HeaderMap, Path(id): Path<String>) -> ApiResult {
    ask(&state, &headers, AlertCommand::Expire { id }).await
}

/// Request body of an acknowledgement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AckBody {
    author: String,
    /// Duration of the acknowledgement.
    #[serde(default, rename = "for")]
    length: Option<String>,
}

/// Acknowledges an incident.
pub(super) async fn acknowledge(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    Path(key): Path<String>,
    body: Result<Json<AckBody>, JsonRejection>,
) -> ApiResult {
    let body = said(body)?;
    ask(&state, &headers, acknowledging(key, body.author, body.length.as_deref())?).await
}

/// Removes an acknowledgement.
pub(super) async fn unacknowledge(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    Path(key): Path<String>,
    body: Result<Json<AckBody>, JsonRejection>,
) -> ApiResult {
    let asked = unacknowledge_asked(key, said(body)?.author).map_err(bad)?;
    ask(&state, &headers, asked).await
}

/// Request body of a manual resolution.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveBody {
    author: String,
    reason: String,
}

/// Resolves an incident manually.
pub(super) async fn resolve(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    Path(key): Path<String>,
    body: Result<Json<ResolveBody>, JsonRejection>,
) -> ApiResult {
    let body = said(body)?;
    ask(&state, &headers, resolving(key, body.author, body.reason)?).await
}

/// Checks whether a text is present and within the length limit.
fn plain(text: &str, what: &str) -> Result<(), Problem> {
    if text.trim().is_empty() || text.chars().count() > LONGEST {
        return Err(bad(format!("`{what}` must have 1 to {LONGEST} characters")));
    }
    Ok(())
}

/// Creates the command that acknowledges an incident. Returns an error response if an argument is not valid.
pub(super) fn acknowledging(key: String, author: String, length: Option<&str>) -> Result<AlertCommand, Problem> {
    plain(&author, "author")?;
    let length = length.filter(|length| !length.is_empty()).map(units::duration).transpose();
    let length = length.map_err(|problem| bad(format!("`for`: {problem}")))?;
    if length.is_some_and(|length| length.is_zero() || length > LONGEST_MUTE) {
        return Err(bad("`for` must be above 0 and at most a year"));
    }
    Ok(AlertCommand::Acknowledge { key, author, length })
}

/// Creates the command that resolves an incident manually. Returns an error response if an argument is not valid.
pub(super) fn resolving(key: String, author: String, reason: String) -> Result<AlertCommand, Problem> {
    plain(&author, "author")?;
    plain(&reason, "reason")?;
    Ok(AlertCommand::Resolve { key, author, reason })
}

async fn ask(state: &State, headers: &HeaderMap, asked: AlertCommand) -> ApiResult {
    // Another site must not be able to make a visitor's browser silence anything. A browser that does not send this
    // header cannot do so either: browsers send a preflight request before they send JSON to another origin.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(foreign());
    }
    Ok(Json(json!({"done": put(state, asked).await?})))
}

/// Sends a command and waits until its effect is written.
pub(super) async fn put(state: &State, asked: AlertCommand) -> Result<String, Problem> {
    let stopping = || Problem(StatusCode::SERVICE_UNAVAILABLE, "wachta is stopping".into());
    let (answer, answered) = oneshot::channel();
    state.alerts.send(AlertRequest { asked, answer }).await.map_err(|_| stopping())?;
    answered.await.map_err(|_| stopping())?.map_err(|problem| Problem(StatusCode::NOT_FOUND, problem))
}
