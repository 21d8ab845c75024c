//! `/api/v1`: incidents and why, silences, maintenance, taking over. JSON in, JSON out; what is wrong is told as
//! `{"error": …}`. Changes are asked for by messages that `app` answers once they are written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State as With};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::State;
use crate::incident::{Incident, Subject};
use crate::scenario::units;
use crate::store::{Incidents, StoreError};

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
        /// Tags, or `severity`, `scenario`, `location`, `kind` and their values.
        matches: BTreeMap<String, String>,
        /// For how long from now.
        length: Duration,
        /// Who asks.
        author: String,
        /// Why.
        reason: String,
    },
    /// End one of these now.
    Expire {
        /// Its id.
        id: String,
    },
    /// Take an incident over.
    Acknowledge {
        /// Its key, or that of its notice.
        key: String,
        /// Who.
        author: String,
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

/// Decisions about a scenario, or about the one that an incident is of, newest first.
pub(super) async fn why(With(state): With<Arc<State>>, Path(id): Path<String>) -> Answer {
    match decisions_in(&*state.store, &id).await? {
        Some(decisions) => Ok(Json(decisions)),
        None => Err(Problem(StatusCode::NOT_FOUND, format!("nothing was decided about `{id}`"))),
    }
}

/// The decisions in a store about a scenario, or about the one that an incident is of, newest first, as the API gives
/// them; none: nothing was decided.
pub async fn decisions_in(store: &(impl Incidents + ?Sized), id: &str) -> Result<Option<Value>, StoreError> {
    let incident = store.incident(id).await?;
    let subject = incident.map_or(Subject(id.into()), |incident| incident.subject);
    let decisions = store.decisions(&subject, LISTED).await?;
    let shown = decisions.iter().map(|kept| {
        json!({
            "why": kept.decision.why.as_str(),
            "detail": kept.decision.detail,
            "count": kept.count,
            "first_at": kept.first_at,
            "at": kept.decision.at,
            "run": kept.decision.run,
        })
    });
    Ok((!decisions.is_empty()).then(|| shown.collect()))
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

/// Taking over, or what is wrong with it.
pub fn taking_over_asked(key: String, author: String) -> Result<Asked, String> {
    taking_over(key, author).map_err(|Problem(_, problem)| problem)
}

/// What a silence or maintenance is asked for with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MuteBody {
    #[serde(rename = "match", default)]
    pub(super) matches: BTreeMap<String, String>,
    #[serde(rename = "for")]
    pub(super) length: String,
    #[serde(default)]
    pub(super) author: String,
    #[serde(default)]
    pub(super) reason: String,
}

impl MuteBody {
    /// What is asked for with it, or what is wrong with it.
    pub(super) fn asked(self, maintenance: bool) -> Result<Asked, Problem> {
        let length = units::duration(&self.length).map_err(|problem| bad(format!("`for`: {problem}")))?;
        if length.is_zero() || length > LONGEST_MUTE {
            return Err(bad("`for` must be above 0 and at most a year"));
        }
        let texts = self.matches.iter().flat_map(|(key, value)| [key, value]).chain([&self.author, &self.reason]);
        if self.matches.len() > PAIRS || texts.into_iter().any(|text| text.chars().count() > LONGEST) {
            return Err(bad(format!("at most {PAIRS} pairs under `match`, and {LONGEST} characters in a text")));
        }
        if !maintenance && (self.author.is_empty() || self.reason.is_empty()) {
            return Err(bad("a silence needs `author` and `reason`"));
        }
        if self.matches.is_empty() {
            return Err(bad("`match` is empty; `location` and the agent's location match everything of this agent"));
        }
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        Ok(Asked::Mute {
            maintenance,
            matches: self.matches,
            length,
            author: or(self.author, "the API"),
            reason: or(self.reason, "maintenance"),
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

/// Who takes an incident over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AckBody {
    author: String,
}

/// Takes an incident over.
pub(super) async fn acknowledge(
    With(state): With<Arc<State>>,
    headers: HeaderMap,
    Path(key): Path<String>,
    body: Result<Json<AckBody>, JsonRejection>,
) -> Answer {
    ask(&state, &headers, taking_over(key, said(body)?.author)?).await
}

/// Taking over, or what is wrong with it.
pub(super) fn taking_over(key: String, author: String) -> Result<Asked, Problem> {
    if author.is_empty() || author.chars().count() > LONGEST {
        return Err(bad(format!("`author` must have 1 to {LONGEST} characters")));
    }
    Ok(Asked::Acknowledge { key, author })
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
