//! The forms of an incident's page: taking it over, silencing it, ending a silence. Plain HTML, without a script; what
//! follows a form is the page again.

use std::sync::Arc;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State as With};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::render::{Absent, Frame};
use super::view::{Moment, incident_path};
use crate::incident::Incident;
use crate::web::State;
use crate::web::api::{self, Asked, MuteBody, Problem};

/// What a form says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    ask: Ask,
    #[serde(default)]
    author: String,
    #[serde(default)]
    reason: String,
    #[serde(default, rename = "for")]
    length: String,
    /// `scenario`, or the name of a tag: what of the incident is silenced.
    #[serde(default)]
    what: String,
    /// Of what is to end.
    #[serde(default)]
    id: String,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ask {
    Ack,
    Silence,
    End,
}

/// `POST /incident/<dedup key>`
pub(super) async fn asked(
    With(state): With<Arc<State>>,
    Path(key): Path<String>,
    headers: HeaderMap,
    form: Result<Form<Said>, FormRejection>,
) -> Response {
    match carry_out(&state, &key, &headers, form).await {
        Ok(()) => Redirect::to(&format!("{}#silence", incident_path(&key))).into_response(),
        Err(Problem(status, text)) => Absent::Refused(status, text, incident_path(&key)).page(&Frame::new(&state)),
    }
}

async fn carry_out(
    state: &State,
    key: &str,
    headers: &HeaderMap,
    form: Result<Form<Said>, FormRejection>,
) -> Result<(), Problem> {
    if !is_own_page(headers) {
        return Err(api::foreign());
    }
    let said = form.map_err(|refused| api::bad(refused.body_text()))?.0;
    let asked = match said.ask {
        Ask::Ack => api::taking_over(key.to_owned(), said.author)?,
        Ask::End => Asked::Expire { id: said.id },
        Ask::Silence => {
            let incident = state.store.incident(key).await?;
            let incident = incident.ok_or_else(|| api::bad(format!("there is no incident `{key}`")))?;
            let value = match said.what.as_str() {
                "scenario" => Some(incident.subject.as_str()),
                tag => incident.tags.get(tag).map(String::as_str),
            };
            let value = value.ok_or_else(|| api::bad(format!("the incident has no tag `{}`", said.what)))?;
            let matches = [(said.what.clone(), value.to_owned())].into();
            MuteBody { matches, length: said.length, author: said.author, reason: said.reason }.asked(false)?
        }
    };
    api::put(state, asked).await.map(drop)
}

/// Whether a form was sent by a page of this agent: browsers say where a form comes from, in a header that no page can
/// change. A page elsewhere must not be able to make a visitor's browser silence anything.
fn is_own_page(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    // Browsers that talk plain HTTP say only this.
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, origin)| Some(origin) == text(header::HOST))
}

/// What mutes an incident now.
#[derive(Debug, Serialize)]
pub(super) struct MuteRow {
    id: String,
    what: &'static str,
    pairs: String,
    until: Option<Moment>,
    author: String,
    reason: String,
}

/// Of what alerting remembers: the silences and maintenance that match an incident.
pub(super) fn mutes(
    memory: &[(String, Json)],
    incident: &Incident,
    now: chrono::DateTime<chrono::Utc>,
) -> Vec<MuteRow> {
    let word = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let fits = |key: &str, value: &Json| {
        let fact = match key {
            "severity" => Some(incident.severity.as_str()),
            "scenario" => Some(incident.subject.as_str()),
            "location" => Some(incident.location.as_str()),
            "kind" => Some(incident.kind.as_str()),
            tag => incident.tags.get(tag).map(String::as_str),
        };
        fact.is_some() && fact == value.as_str()
    };
    let mutes = memory.iter().filter(|(key, _)| key.starts_with(crate::names::MUTES)).map(|(_, mute)| mute);
    let pairs = |mute: &Json| mute["match"].as_object().cloned().unwrap_or_default();
    mutes
        .filter(|mute| pairs(mute).iter().all(|(key, value)| fits(key, value)))
        .map(|mute| {
            let pairs: Vec<String> = pairs(mute).iter().map(|(key, value)| format!("{key}={}", word(value))).collect();
            let until = mute["until"].as_str().and_then(|at| at.parse().ok());
            MuteRow {
                id: word(&mute["id"]),
                what: if mute["maintenance"] == true { "maintenance" } else { "silenced" },
                pairs: if pairs.is_empty() { "everything".to_owned() } else { pairs.join(" ") },
                until: until.map(|at| Moment::new(at, now)),
                author: word(&mute["author"]),
                reason: word(&mute["reason"]),
            }
        })
        .collect()
}
