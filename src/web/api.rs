//! `/api/v1`: incidents and why, silences, maintenance, taking over. JSON in, JSON out; what is wrong is told as
//! `{"error": …}`. Changes are asked for by messages that `app` answers once they are written.

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

use super::State;
use crate::incident::{Incident, Matchers, Notice, Subject};
use crate::notify::During;
use crate::scenario::units;
use crate::sink::Status;
use crate::store::{Incidents, NoticeState, Outbox, StoreError};

/// How many incidents and decisions are listed.
const LISTED: u32 = 500;
/// The longest text of a request, in characters.
const LONGEST: usize = 500;
/// The most pairs of a `match`.
const PAIRS: usize = 20;
/// The longest silence.
const LONGEST_MUTE: Duration = Duration::from_hours(366 * 24);

/// What is asked of alerting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Tell nothing of what matches, for a while.
    Mute {
        /// Whether it is maintenance, and not a silence.
        maintenance: bool,
        /// What incidents it is meant for.
        matches: Matchers,
        /// For how long from now.
        length: Duration,
        /// The times within it that it is limited to.
        during: Option<During>,
        /// Who asks.
        author: String,
        /// Why.
        reason: String,
        /// Whether it is wanted also when it matches nothing now.
        confirmed: bool,
    },
    /// Say what a match is meant for at present.
    Preview {
        /// What would be silenced.
        matches: Matchers,
    },
    /// End one of these now.
    Expire {
        /// Its id.
        id: String,
    },
    /// Work on an incident.
    Acknowledge {
        /// Its key, or that of its notice.
        key: String,
        /// Who.
        author: String,
        /// For how long; none: until it is over.
        length: Option<Duration>,
    },
    /// Work on an incident no longer.
    Unacknowledge {
        /// Its key, or that of its notice.
        key: String,
        /// Who says so.
        author: String,
    },
    /// Resolve an incident by hand.
    Resolve {
        /// Its key, or that of its notice.
        key: String,
        /// Who.
        author: String,
        /// Why.
        reason: String,
    },
}

/// Asks something of alerting.
pub struct AlertRequest {
    /// What.
    pub asked: Asked,
    answer: oneshot::Sender<Result<String, String>>,
}

impl AlertRequest {
    /// Answers it: with what was done, or with what is wrong.
    pub fn answer(self, answer: Result<String, String>) {
        // Who asked may have gone.
        let _ = self.answer.send(answer);
    }
}

/// What went wrong.
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

type Answer = Result<Json<Value>, Problem>;

pub(super) fn bad(message: impl Into<String>) -> Problem {
    Problem(StatusCode::BAD_REQUEST, message.into())
}

/// A page elsewhere asked.
pub(super) fn foreign() -> Problem {
    Problem(StatusCode::FORBIDDEN, "asked for by another site".into())
}

/// What a request says, or what is wrong with it.
fn said<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|body| body.0).map_err(|refused| bad(refused.body_text()))
}

/// Incidents, the open ones first.
pub(super) async fn incidents(With(state): With<Arc<State>>) -> Answer {
    Ok(Json(incidents_in(&*state.store).await?))
}

/// The incidents in a store, the open ones first, as the API gives them.
pub async fn incidents_in(store: &(impl Incidents + ?Sized)) -> Result<Value, StoreError> {
    Ok(store.incidents(LISTED).await?.iter().map(incident).collect())
}

fn incident(incident: &Incident) -> Value {
    let mut body = serde_json::to_value(incident).expect("plain data becomes JSON");
    body["key"] = incident.dedup_key().into();
    body
}

/// How the agent and its sinks are: whether it does its work, how far behind each destination is, since when it fails, the
/// last error, and what it refused for good.
pub(super) async fn status(With(state): With<Arc<State>>) -> Answer {
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

/// Which decisions are asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyQuery {
    /// From when on: a point in time, or how long ago.
    #[serde(default)]
    pub since: Option<String>,
    /// How many at most.
    #[serde(default)]
    pub limit: Option<u32>,
}

impl WhyQuery {
    /// The point in time from which on decisions are asked for.
    fn since(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, String> {
        let Some(since) = &self.since else { return Ok(None) };
        if let Ok(at) = DateTime::parse_from_rfc3339(since) {
            return Ok(Some(at.to_utc()));
        }
        let ago = units::duration(since).map_err(|problem| format!("`since`: {problem}"))?;
        Ok(TimeDelta::from_std(ago).ok().and_then(|ago| now.checked_sub_signed(ago)))
    }
}

/// Decisions about a scenario, or about the one that an incident is of, and how their notices fared, newest first.
pub(super) async fn why(
    With(state): With<Arc<State>>,
    Path(id): Path<String>,
    query: Result<Query<WhyQuery>, QueryRejection>,
) -> Answer {
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
        // It is there, and there is nothing to say of it yet.
        Ok(Json(json!([])))
    } else {
        Err(Problem(StatusCode::NOT_FOUND, format!("there is no scenario, incident or agent `{id}`")))
    }
}

/// The decisions in a store about a scenario, or about the one that an incident is of, with how their notices fared,
/// newest first, as the API gives them; none: the store knows nothing of it.
pub async fn decisions_in(
    store: &(impl Incidents + Outbox + ?Sized),
    id: &str,
    query: &WhyQuery,
) -> Result<Option<Value>, StoreError> {
    let incident = store.incident(id).await?;
    let subject = incident.map_or(Subject(id.into()), |incident| incident.subject);
    let decisions = store.decisions(&subject, LISTED).await?;
    if decisions.is_empty() {
        return Ok(None);
    }
    let since = query.since(Utc::now()).unwrap_or_default();
    let mut keys: Vec<&str> = decisions.iter().filter_map(|kept| notice_key(&kept.decision.detail)).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut lines: Vec<(DateTime<Utc>, Value)> = Vec::new();
    for key in keys {
        lines.extend(
            store.notices(key).await?.iter().map(|state| (state.done_at.unwrap_or(state.notice.owed_at), fared(state))),
        );
    }
    // What was done of a notice stands above the decision that led to it.
    lines.reverse();
    lines.extend(decisions.iter().map(|kept| {
        let shown = json!({
            "why": kept.decision.why.as_str(),
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

/// The key of the notice that a decision led to: `opened as shop:3 for team`.
fn notice_key(detail: &str) -> Option<&str> {
    let (key, _) = detail.split_once("as ").map(|(_, rest)| rest)?.split_once(" for ")?;
    (key.contains(':') && !key.contains(' ')).then_some(key)
}

/// How a notice fared.
fn fared(state: &NoticeState) -> Value {
    let Notice { event, key, receiver, owed_at, .. } = &state.notice;
    let (event, problem) = (event.as_str(), state.problem.as_deref());
    let because = problem.map(|problem| format!(": {problem}")).unwrap_or_default();
    let (why, detail) = match (state.state.as_str(), state.done_at) {
        ("sent", _) => ("delivered", format!("{event} as {key} to {receiver}")),
        ("failed", _) => ("undelivered", format!("{event} as {key} to {receiver} was given up{because}")),
        _ => ("undelivered", format!("{event} as {key} to {receiver} has not arrived yet{because}")),
    };
    let at = state.done_at.unwrap_or(*owed_at);
    json!({"why": why, "detail": detail, "count": 1, "first_at": at, "at": at, "run": null})
}

/// Silences and maintenance that people asked for and that have not ended.
pub(super) async fn silences(With(state): With<Arc<State>>) -> Answer {
    Ok(Json(mutes_in(&*state.store).await?))
}

/// Silences and maintenance in a store, as the API gives them.
pub async fn mutes_in(store: &(impl Incidents + ?Sized)) -> Result<Value, StoreError> {
    let memory = store.memory().await?;
    let mutes = memory.into_iter().filter(|(key, _)| key.starts_with(crate::names::MUTES));
    Ok(mutes.map(|(_, body)| body).collect())
}

/// A silence out of what the API takes, or what is wrong with it.
pub fn silence_asked(body: Value) -> Result<Asked, String> {
    let body: MuteBody = serde_json::from_value(body).map_err(|e| e.to_string())?;
    body.asked(false).map_err(|Problem(_, problem)| problem)
}

/// Acknowledging out of what the API takes, or what is wrong with it.
pub fn acknowledge_asked(key: String, author: String, length: Option<&str>) -> Result<Asked, String> {
    acknowledging(key, author, length).map_err(|Problem(_, problem)| problem)
}

/// Taking an acknowledgement back, or what is wrong with it.
pub fn unacknowledge_asked(key: String, author: String) -> Result<Asked, String> {
    plain(&author, "author").map_err(|Problem(_, problem)| problem)?;
    Ok(Asked::Unacknowledge { key, author })
}

/// Resolving by hand, or what is wrong with it.
pub fn resolve_asked(key: String, author: String, reason: String) -> Result<Asked, String> {
    resolving(key, author, reason).map_err(|Problem(_, problem)| problem)
}

/// What a silence or maintenance is asked for with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MuteBody {
    #[serde(rename = "match", default)]
    pub(super) matches: Matchers,
    #[serde(rename = "for")]
    pub(super) length: String,
    /// The times within it that it is limited to.
    #[serde(default)]
    pub(super) during: Option<During>,
    #[serde(default)]
    pub(super) author: String,
    #[serde(default)]
    pub(super) reason: String,
    /// Whether it is wanted also when it matches nothing now.
    #[serde(default)]
    pub(super) confirmed: bool,
    /// Whether to say only what it matches now.
    #[serde(default)]
    pub(super) dry_run: bool,
}

impl MuteBody {
    /// What is asked for with it, or what is wrong with it.
    pub(super) fn asked(self, maintenance: bool) -> Result<Asked, Problem> {
        let length = units::duration(&self.length).map_err(|problem| bad(format!("`for`: {problem}")))?;
        if length.is_zero() || length > LONGEST_MUTE {
            return Err(bad("`for` must be above 0 and at most a year"));
        }
        let pairs = self.matches.0.iter().flat_map(|(key, matcher)| [key.as_str(), matcher.value()]);
        let texts = pairs.chain([self.author.as_str(), self.reason.as_str()]);
        if self.matches.0.len() > PAIRS || texts.into_iter().any(|text| text.chars().count() > LONGEST) {
            return Err(bad(format!("at most {PAIRS} pairs under `match`, and {LONGEST} characters in a text")));
        }
        let is_empty = self.matches.is_empty() || self.matches.0.values().any(|matcher| matcher.value().is_empty());
        if is_empty {
            return Err(bad("an empty `match` is refused; for everything write {\"scenario\": {\"matches\": \".\"}}"));
        }
        if self.dry_run {
            return Ok(Asked::Preview { matches: self.matches });
        }
        if !maintenance && (self.author.trim().is_empty() || self.reason.trim().is_empty()) {
            return Err(bad("a silence needs `author` and `reason`"));
        }
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        Ok(Asked::Mute {
            maintenance,
            matches: self.matches,
            length,
            during: self.during,
            author: or(self.author, "the API"),
            reason: or(self.reason, "maintenance"),
            confirmed: self.confirmed,
        })
    }
}

/// Silences.
pub(super) async fn silence(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    body: Result<Json<MuteBody>, JsonRejection>,
) -> Answer {
    ask(&state, &headers, said(body)?.asked(false)?).await
}

/// Opens a window of maintenance.
pub(super) async fn maintain(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    body: Result<Json<MuteBody>, JsonRejection>,
) -> Answer {
    ask(&state, &headers, said(body)?.asked(true)?).await
}

/// Ends a silence or maintenance.
pub(super) async fn expire(With(state): With<Arc<State>>, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    ask(&state, &headers, Asked::Expire { id }).await
}

/// Who works on an incident.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AckBody {
    author: String,
    /// For how long.
    #[serde(default, rename = "for")]
    length: Option<String>,
}

/// Acknowledges an incident.
pub(super) async fn acknowledge(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    Path(key): Path<String>,
    body: Result<Json<AckBody>, JsonRejection>,
) -> Answer {
    let body = said(body)?;
    ask(&state, &headers, acknowledging(key, body.author, body.length.as_deref())?).await
}

/// Takes an acknowledgement back.
pub(super) async fn unacknowledge(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    Path(key): Path<String>,
    body: Result<Json<AckBody>, JsonRejection>,
) -> Answer {
    let asked = unacknowledge_asked(key, said(body)?.author).map_err(bad)?;
    ask(&state, &headers, asked).await
}

/// Who resolves an incident, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveBody {
    author: String,
    reason: String,
}

/// Resolves an incident by hand.
pub(super) async fn resolve(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    Path(key): Path<String>,
    body: Result<Json<ResolveBody>, JsonRejection>,
) -> Answer {
    let body = said(body)?;
    ask(&state, &headers, resolving(key, body.author, body.reason)?).await
}

/// A text that people give must be there, and bounded.
fn plain(text: &str, what: &str) -> Result<(), Problem> {
    if text.trim().is_empty() || text.chars().count() > LONGEST {
        return Err(bad(format!("`{what}` must have 1 to {LONGEST} characters")));
    }
    Ok(())
}

/// Acknowledging, or what is wrong with it.
pub(super) fn acknowledging(key: String, author: String, length: Option<&str>) -> Result<Asked, Problem> {
    plain(&author, "author")?;
    let length = length.filter(|length| !length.is_empty()).map(units::duration).transpose();
    let length = length.map_err(|problem| bad(format!("`for`: {problem}")))?;
    if length.is_some_and(|length| length.is_zero() || length > LONGEST_MUTE) {
        return Err(bad("`for` must be above 0 and at most a year"));
    }
    Ok(Asked::Acknowledge { key, author, length })
}

/// Resolving by hand, or what is wrong with it.
pub(super) fn resolving(key: String, author: String, reason: String) -> Result<Asked, Problem> {
    plain(&author, "author")?;
    plain(&reason, "reason")?;
    Ok(Asked::Resolve { key, author, reason })
}

async fn ask(state: &State, headers: &HeaderMap, asked: Asked) -> Answer {
    // A page elsewhere must not be able to make a visitor's browser silence anything. Without the header it cannot:
    // browsers ask before they send JSON elsewhere.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(foreign());
    }
    Ok(Json(json!({"done": put(state, asked).await?})))
}

/// Asks, and waits until it is written.
pub(super) async fn put(state: &State, asked: Asked) -> Result<String, Problem> {
    let stopping = || Problem(StatusCode::SERVICE_UNAVAILABLE, "wachta is stopping".into());
    let (answer, heard) = oneshot::channel();
    state.alerts.send(AlertRequest { asked, answer }).await.map_err(|_| stopping())?;
    heard.await.map_err(|_| stopping())?.map_err(|problem| Problem(StatusCode::NOT_FOUND, problem))
}
