//! Handlers of the page, which read the store and render the templates.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State as With};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use minijinja::context;

use super::detail;
use super::render::{PageError, PageLayout, page, shown};
use super::svg;
use super::view::{self, DecisionRow, IncidentView, NotificationRow, ProbeRow, RunRow, ScenarioRow, SinkRow, TimeView};
use crate::incident::{DecisionReason, Incident, Subject};
use crate::notify::Window;
use crate::outcome::{EvidenceKind, Outcome, RunId, Verdict};
use crate::scenario::{Scenario, ScenarioId};
use crate::web::{Overview, State};

/// Maximum number of incidents to search for those on a page.
const INCIDENTS: u32 = 500;
/// Maximum number of runs to search for those of an incident.
const RUNS_OF_INCIDENT: u32 = 200;

/// Result of a handler.
type Page = Result<Response, PageError>;

/// Handles `/`: shows the present problems first, then everything else.
pub(super) async fn overview(With(state): With<Arc<State>>) -> Response {
    let frame = PageLayout::new(&state);
    overview_page(&state, &frame).await.unwrap_or_else(|absent| absent.page(&frame))
}

async fn overview_page(state: &State, frame: &PageLayout) -> Page {
    let now = Utc::now();
    let overview = state.overview.borrow().clone();
    let incidents = state.store.incidents(INCIDENTS).await?;
    let (open, resolved): (Vec<&Incident>, Vec<&Incident>) = incidents.iter().partition(|found| found.is_open());
    let recent = state.store.run_summaries(u32::try_from(svg::STRIP).unwrap_or(30)).await?;
    let mut runs: HashMap<&str, Vec<_>> = HashMap::new();
    for run in &recent {
        runs.entry(run.scenario.as_str()).or_default().push(run.clone());
    }
    let by_subject: HashMap<&Subject, &Incident> = open.iter().map(|found| (&found.subject, *found)).collect();
    let mut rows: Vec<ScenarioRow> = overview
        .scenarios
        .values()
        .map(|scenario| {
            let id = scenario.id.as_str();
            let runs = runs.get(id).map_or(&[][..], Vec::as_slice);
            ScenarioRow::new(scenario, runs, by_subject.get(&Subject::from(&scenario.id.value)).copied(), now)
        })
        .collect();
    rows.sort_by_cached_key(ScenarioRow::order);
    let counts: Vec<(&str, usize)> = Verdict::ALL
        .into_iter()
        .map(|verdict| (verdict.as_str(), rows.iter().filter(|row| row.verdict() == Some(verdict.as_str())).count()))
        .collect();
    let waiting = rows.iter().filter(|row| row.verdict().is_none()).count();
    let count = |verdict: Verdict| counts[usize::from(verdict.code())].1;
    let latest = state.store.recent(None, 20).await?;
    let mut open: Vec<&Incident> = open;
    open.sort_by(|a, b| b.severity.cmp(&a.severity).then(b.opened_at.cmp(&a.opened_at)));
    let mutings = super::form::mutings(&state.store.alerting_entries().await?, now);
    let content = context! {
        mutes => shown(super::form::rows(mutings, now)),
        windows => windows(&overview, now, |_| true),
        paused => shown(overview.paused.iter().map(|it| (it.name.clone(), it.source.place(it.id.span))).collect::<Vec<_>>()),
        open => shown(open.iter().map(|found| IncidentView::new(found, now)).collect::<Vec<_>>()),
        resolved => shown(resolved.iter().take(5).map(|found| IncidentView::new(found, now)).collect::<Vec<_>>()),
        problems => shown(&overview.problems),
        notes => shown(&overview.notes),
        refused => shown(&overview.refused),
        scenarios => shown(rows),
        failed => count(Verdict::Failed),
        unknown => count(Verdict::Unknown),
        degraded => count(Verdict::Degraded),
        passed => count(Verdict::Passed),
        waiting,
        probes => shown(state.probes.recent().iter().map(|kept| ProbeRow::new(kept, now)).collect::<Vec<_>>()),
        sinks => shown((state.sinks)().iter().map(|status| SinkRow::new(status, now)).collect::<Vec<_>>()),
        runs => shown(latest.iter().map(|run| RunRow::new(run, now)).collect::<Vec<_>>()),
    };
    Ok(page(StatusCode::OK, "overview.html", frame, content))
}

/// Returns the maintenance windows of the agent configuration that are open and match.
fn windows(overview: &Overview, now: DateTime<Utc>, is_meant: impl Fn(&Window) -> bool) -> Vec<String> {
    let open = overview.maintenance.iter().filter(|window| is_meant(window));
    let open = open.filter_map(|window| Some((window.open_until(now)?, &window.matches)));
    open.map(|(until, matches)| format!("{matches} until {} by the agent configuration", until.format("%F %T UTC")))
        .collect()
}

/// Handles `/scenario/<id>`.
pub(super) async fn scenario(With(state): With<Arc<State>>, Path(id): Path<String>) -> Response {
    let frame = PageLayout::new(&state);
    scenario_page(&state, &frame, &id).await.unwrap_or_else(|absent| absent.page(&frame))
}

async fn scenario_page(state: &State, frame: &PageLayout, id: &str) -> Page {
    let now = Utc::now();
    let overview = state.overview.borrow().clone();
    let scenario = overview.scenarios.get(id);
    let runs = state.store.recent(Some(id), 50).await?;
    let Some(name) = scenario.map(|found| found.name.clone()).or_else(|| runs.first().map(|run| run.name.clone()))
    else {
        return Err(PageError::Unknown(format!("There is no scenario with the id “{id}”, and no stored run of one.")));
    };
    let subject = Subject::from(id);
    let decisions = state.store.decisions(&subject, 50).await?;
    let incidents = state.store.incidents(INCIDENTS).await?;
    let incidents: Vec<_> = incidents
        .iter()
        .filter(|found| found.subject.monitor_id() == id)
        .map(|found| IncidentView::new(found, now))
        .collect();
    let mut mutings = super::form::mutings(&state.store.alerting_entries().await?, now);
    mutings.retain(|mute| scenario.is_some_and(|it| mute.matches.fits_scenario(it, &overview.location, None)));
    let windows = windows(&overview, now, |window| {
        scenario.is_some_and(|it| window.matches.fits_scenario(it, &overview.location, None))
    });
    let facts = scenario.map(|scenario| {
        context! {
            kind => scenario.kind.as_str(),
            schedule => scenario.schedule.to_string(),
            next => shown(scenario.next_after(now).map(|due| TimeView::new(due, now))),
            severity => scenario.alert.severity.as_str(),
            alert => view::alert_text(scenario),
            timeout => view::spent(scenario.timeout),
            tags => shown(view::tags(scenario)),
            place => scenario.source.place(scenario.id.span),
            base_url => scenario.base_url.as_ref().map(|url| scenario.source.shown(url.value.raw())),
            steps => shown(detail::planned(scenario)),
            source => shown(detail::source(scenario)),
        }
    });
    let paused = overview.paused.iter().any(|paused| paused.id.as_str() == id);
    let content = context! {
        mutes => shown(super::form::rows(mutings, now)),
        windows,
        paused,
        id, name, facts, decisions => shown(decisions.iter().map(|kept| DecisionRow::new(kept, now)).collect::<Vec<_>>()),
        incidents => shown(incidents),
        last => shown(runs.first().map(|run| RunRow::new(run, now))),
        chart => svg::chart(&points(&runs)),
        runs => shown(runs.iter().map(|run| RunRow::new(run, now)).collect::<Vec<_>>()),
    };
    Ok(page(StatusCode::OK, "scenario.html", frame, content))
}

/// Converts runs to chart points, oldest first.
fn points(runs: &[Outcome]) -> Vec<svg::Point> {
    runs.iter()
        .rev()
        .map(|run| svg::Point {
            verdict: run.verdict,
            seconds: run.duration.as_secs_f64(),
            at: run.ended_at,
            link: format!("{}{}", crate::names::path::RUN, run.run),
        })
        .collect()
}

/// Handles `/run/<run id>`.
pub(super) async fn run(With(state): With<Arc<State>>, Path(id): Path<String>) -> Response {
    let frame = PageLayout::new(&state);
    run_page(&state, &frame, &id).await.unwrap_or_else(|absent| absent.page(&frame))
}

async fn run_page(state: &State, frame: &PageLayout, id: &str) -> Page {
    let now = Utc::now();
    let missing = || PageError::Unknown(format!("There is no run “{id}”. Old runs are deleted."));
    let run = RunId(id.parse().map_err(|_| missing())?);
    let outcome = state.store.run(run).await?.ok_or_else(missing)?;
    let total = outcome.duration.as_secs_f64();
    let lag = (outcome.started_at - outcome.due_at).to_std().unwrap_or_default();
    let content = context! {
        row => shown(RunRow::new(&outcome, now)),
        kind => outcome.kind.as_str(),
        location => outcome.location.as_str(),
        due => shown(TimeView::new(outcome.due_at, now)),
        started => shown(TimeView::new(outcome.started_at, now)),
        lag => view::spent(lag),
        axis => svg::axis(total),
        steps => shown(detail::steps(&outcome, now)),
        differences => shown(&outcome.differences),
        evidence => shown(detail::evidence(&outcome)),
        frames => shown(detail::filmstrip(&outcome)),
        pages => shown(detail::pages(&outcome)),
        page_times => shown(detail::TIMES),
        findings => shown(findings(state, &outcome).await),
        browser => outcome.browser.as_ref().map(|browser| format!("{} {}", browser.engine, browser.version)),
    };
    Ok(page(StatusCode::OK, "run.html", frame, content))
}

/// Returns the console messages and failed requests found in the evidence. Deleted evidence is skipped.
async fn findings(state: &State, outcome: &Outcome) -> Vec<detail::PageFindings> {
    /// Each failed step leaves one; more of them rarely add information.
    const PIECES: usize = 5;
    let mut found = Vec::new();
    for piece in outcome.evidence.iter().filter(|piece| piece.kind == EvidenceKind::Page).take(PIECES) {
        let bytes = state.evidence.read(outcome.run, &piece.name).await;
        found.extend(bytes.and_then(|bytes| detail::findings(outcome, &piece.name, &bytes)));
    }
    found
}

/// Handles `/incident/<dedup key>`.
pub(super) async fn incident(With(state): With<Arc<State>>, Path(key): Path<String>) -> Response {
    let frame = PageLayout::new(&state);
    incident_page(&state, &frame, &key).await.unwrap_or_else(|absent| absent.page(&frame))
}

async fn incident_page(state: &State, frame: &PageLayout, key: &str) -> Page {
    let now = Utc::now();
    let found = state.store.incident(key).await?.ok_or_else(|| {
        PageError::Unknown(format!("There is no incident “{key}”. Old resolved incidents are deleted."))
    })?;
    let until = found.resolved_at.unwrap_or(now);
    let scenario = found.subject.scenario().map(ScenarioId::as_str);
    let all = state.store.recent(scenario, RUNS_OF_INCIDENT).await?;
    let of_it: Vec<&Outcome> = all.iter().filter(|run| view::concerns(run, &found.subject)).collect();
    let during = of_it.iter().filter(|run| (found.began()..=until).contains(&run.ended_at));
    // The runs that led to the incident are shown as well.
    let before = of_it.iter().filter(|run| run.ended_at < found.began()).take(5);
    let runs: Vec<Outcome> = during.chain(before).take(60).map(|run| (**run).clone()).collect();
    let decisions = state.store.decisions(&found.subject, 50).await?;
    let raised: Vec<DecisionRow> = decisions
        .iter()
        .filter(|kept| {
            kept.decision.reason == DecisionReason::SeverityRaised
                && (found.opened_at..=until).contains(&kept.decision.at)
        })
        .map(|kept| DecisionRow::new(kept, now))
        .collect();
    let notifications = state.store.notifications(key).await?;
    let overview = state.overview.borrow().clone();
    let mut mutings = super::form::mutings(&state.store.alerting_entries().await?, now);
    mutings.retain(|mute| mute.matches.fits(&found));
    let windows = windows(&overview, now, |window| window.matches.fits(&found));
    // The effect of each choice is shown before it is made.
    let open = state.store.incidents(INCIDENTS).await?;
    let hits = |what: &str| {
        let Some(matches) = super::form::matches(&found, what) else { return String::new() };
        let incidents = open.iter().filter(|other| other.is_open() && matches.fits(other)).count();
        let fits = |scenario: &&Arc<Scenario>| matches.fits_scenario(scenario, &overview.location, None);
        let scenarios = overview.scenarios.values().filter(fits).count();
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        format!("{scenarios} scenario{}, {incidents} open incident{}", plural(scenarios), plural(incidents))
    };
    let tags = found.tags.iter().map(|(name, value)| context! { name, value, hits => hits(name) });
    let tags: Vec<_> = tags.collect();
    let content = context! {
        incident => shown(IncidentView::new(&found, now)),
        raised => shown(raised),
        mutes => shown(super::form::rows(mutings, now)),
        windows,
        hits => hits("scenario"),
        tags,
        chart => svg::chart(&points(&runs)),
        runs => shown(runs.iter().map(|run| RunRow::new(run, now)).collect::<Vec<_>>()),
        notifications => shown(notifications.iter().map(|notification| NotificationRow::new(notification, now)).collect::<Vec<_>>()),
        decisions => shown(decisions.iter().map(|kept| DecisionRow::new(kept, now)).collect::<Vec<_>>()),
    };
    let mut page = page(StatusCode::OK, "incident.html", frame, content);
    // The forms of this page need a referrer so that their origin can be checked.
    page.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    Ok(page)
}

/// Handles `/evidence/<run>/<name>`: serves images as images and everything else as plain text, regardless of the
/// content type sent by the target.
pub(super) async fn evidence(With(state): With<Arc<State>>, Path((run, name)): Path<(String, String)>) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; sandbox; frame-ancestors 'none'; base-uri 'none'";
    let bytes = match run.parse() {
        Ok(run) => state.evidence.read(RunId(run), &name).await,
        Err(_) => None,
    };
    let Some(bytes) = bytes else {
        let absent = PageError::Unknown("There is no such evidence. It is deleted together with its run.".to_owned());
        return absent.page(&PageLayout::new(&state));
    };
    let kind = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        _ => "text/plain; charset=utf-8",
    };
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CONTENT_DISPOSITION, "inline"),
            (header::CACHE_CONTROL, "private, max-age=3600"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ],
        bytes,
    )
        .into_response()
}
