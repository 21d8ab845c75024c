//! Forms of the incident page: acknowledge the incident, silence it, end a silence. Plain HTML without scripts; a form
//! leads back to the page.

use std::sync::Arc;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State as With};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::render::{PageError, PageLayout};
use super::view::{TimeView, incident_path};
use crate::incident::{AlertCommand, During, Incident, Matchers, Subject};
use crate::web::State;
use crate::web::api::{self, MuteBody, Problem};

/// Content of a form.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IncidentForm {
    ask: FormAction,
    #[serde(default)]
    author: String,
    #[serde(default)]
    reason: String,
    #[serde(default, rename = "for")]
    length: String,
    /// Scope of a silence: `scenario`, or the name of a tag.
    #[serde(default)]
    what: String,
    /// Id of the silence to end.
    #[serde(default)]
    id: String,
}

/// Action requested by a form.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormAction {
    Ack,
    Unack,
    Resolve,
    Silence,
    End,
}

/// Handles `POST /incident/<dedup key>`.
pub(super) async fn asked(
    With(state): With<Arc<State>>,
    Path(key): Path<String>,
    headers: HeaderMap,
    form: Result<Form<IncidentForm>, FormRejection>,
) -> Response {
    match carry_out(&state, &key, &headers, form).await {
        Ok(()) => Redirect::to(&format!("{}#silence", incident_path(&key))).into_response(),
        Err(Problem(status, text)) => {
            PageError::Refused(status, text, incident_path(&key)).page(&PageLayout::new(&state))
        }
    }
}

async fn carry_out(
    state: &State,
    key: &str,
    headers: &HeaderMap,
    form: Result<Form<IncidentForm>, FormRejection>,
) -> Result<(), Problem> {
    if !is_own_page(headers) {
        return Err(api::foreign());
    }
    let said = form.map_err(|refused| api::bad(refused.body_text()))?.0;
    let asked = match said.ask {
        FormAction::Ack => api::acknowledging(key.to_owned(), said.author, Some(&said.length))?,
        FormAction::Unack => api::unacknowledge_asked(key.to_owned(), said.author).map_err(api::bad)?,
        FormAction::Resolve => api::resolving(key.to_owned(), said.author, said.reason)?,
        FormAction::End => AlertCommand::Expire { id: said.id },
        FormAction::Silence => {
            let incident = state.store.incident(key).await?;
            let incident = incident.ok_or_else(|| api::bad(format!("no incident with the key `{key}`")))?;
            let matches = matches(&incident, &said.what);
            let matches = matches.ok_or_else(|| api::bad(format!("the incident has no tag `{}`", said.what)))?;
            // No confirmation is needed because the page shows what the silence matches: at least this incident.
            MuteBody {
                matches,
                length: said.length,
                during: None,
                author: said.author,
                reason: said.reason,
                confirmed: true,
                dry_run: false,
            }
            .asked(false)?
        }
    };
    api::put(state, asked).await.map(drop)
}

/// Returns the matchers of a silence: for the scenario of an incident, for its error budget only if the incident is
/// about that, or for everything with one of its tags.
pub(super) fn matches(incident: &Incident, what: &str) -> Option<Matchers> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    match what {
        "scenario" => {
            pairs.push(("scenario".into(), incident.subject.monitor_id().into_owned()));
            if matches!(incident.subject, Subject::Objective(_)) {
                pairs.push(("kind".into(), incident.kind.clone()));
            }
        }
        tag => pairs.push((tag.to_owned(), incident.tags.get(tag)?.clone())),
    }
    Some(pairs.into_iter().collect())
}

/// Returns whether a form was sent by a page of this agent, according to a header that browsers set and that no page
/// can change. Another site must not be able to make a visitor's browser silence anything.
fn is_own_page(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    // Over plain HTTP, browsers send only these headers.
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, origin)| Some(origin) == text(header::HOST))
}

/// Mute that applies to an incident at present.
#[derive(Debug, Serialize)]
pub(super) struct MuteRow {
    id: String,
    what: &'static str,
    pairs: String,
    until: Option<TimeView>,
    author: String,
    reason: String,
}

/// Silence or maintenance window created by an operator that has not ended, with the fields shown on a page.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Muting {
    id: String,
    maintenance: bool,
    #[serde(rename = "match")]
    pub(super) matches: Matchers,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    #[serde(default)]
    during: Option<During>,
    author: String,
    reason: String,
}

/// Returns the active silences and maintenance windows from the state of alerting.
pub(super) fn mutings(memory: &[(String, Json)], now: DateTime<Utc>) -> Vec<Muting> {
    let mutes = memory.iter().filter(|(key, _)| key.starts_with(crate::names::MUTES));
    let mutes = mutes.filter_map(|(_, mute)| serde_json::from_value::<Muting>(mute.clone()).ok());
    let is_time = |mute: &Muting| mute.during.as_ref().is_none_or(|during| during.contains(now));
    mutes.filter(|mute| mute.from <= now && now < mute.until && is_time(mute)).collect()
}

/// Converts mutes to table rows.
pub(super) fn rows(mutings: Vec<Muting>, now: DateTime<Utc>) -> Vec<MuteRow> {
    let row = |mute: Muting| MuteRow {
        what: if mute.maintenance { "maintenance" } else { "silenced" },
        pairs: match &mute.during {
            Some(during) => format!("{}, {during}", mute.matches),
            None => mute.matches.to_string(),
        },
        until: Some(TimeView::new(mute.until, now)),
        id: mute.id,
        author: mute.author,
        reason: mute.reason,
    };
    mutings.into_iter().map(row).collect()
}
