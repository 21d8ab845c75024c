//! Another configuration over what the store holds: what would have been told, beside what was.
//!
//! The store is only read, page by page, also while an agent writes to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::alert::replay::{Line, Replay, begin, compare};
use crate::alert::{Mute, Scenarios};
use crate::names::MUTES;
use crate::notify::Alerting;
use crate::outcome::Outcome;
use crate::scenario::ScenarioId;
use crate::store::{Archive, Incidents, Page, StoreError, Tallies};

/// How much is read at once.
const PAGE: u32 = 500;

/// What is replayed, and over what.
pub struct Asked {
    /// Where the agent looks from.
    pub location: String,
    /// Who is told, and of what.
    pub alerting: Arc<Alerting>,
    /// The scenarios of the files.
    pub scenarios: Scenarios,
    /// The first point in time that counts.
    pub since: DateTime<Utc>,
    /// The last one.
    pub until: DateTime<Utc>,
}

/// What a replay led to.
pub struct Report {
    /// From when on runs were read.
    pub begin: DateTime<Utc>,
    /// When the first run that was read ended.
    pub first: Option<DateTime<Utc>>,
    /// What was told and what would be, in order of time.
    pub lines: Vec<Line>,
    /// What would not have been told, by reason.
    pub suppressed: BTreeMap<&'static str, u64>,
    /// The runs of each scenario within the span, also of those that the files do not have.
    pub runs: BTreeMap<ScenarioId, u64>,
    /// How many notices are given up, and how many still owed, of those that were told then.
    pub not_sent: (usize, usize),
    /// How many silences of people were known.
    pub mutes: usize,
}

/// Replays what was asked for. `progress` hears which share of the time has passed.
pub async fn replay(
    store: &(impl Archive + Incidents),
    asked: Asked,
    progress: impl Fn(f64),
) -> Result<Report, StoreError> {
    let Asked { location, alerting, scenarios, since, until } = asked;
    let begin = begin(since, store.open_at(since).await?, scenarios.values().map(|scenario| &**scenario));
    let mut mutes = Vec::new();
    for (key, body) in store.memory().await? {
        if key.starts_with(MUTES) {
            let mute: Mute = serde_json::from_value(body)
                .map_err(|e| StoreError::refused(format!("what alerting remembers under {key} does not read: {e}")))?;
            mutes.push(mute);
        }
    }
    let known = mutes.len();
    let mut replay = Replay::new(&location, (alerting, scenarios), mutes, (begin, since));
    while let Some((scenario, spans)) = replay.unread() {
        let mut history = Vec::new();
        for span in spans {
            let asked = Tallies { scenario: scenario.as_str(), since: span.since, slot: span.slot };
            history.push((span.window, store.tallies_before(&asked, begin).await?));
        }
        replay.read(&scenario, &history);
    }

    let (page, all) = (Page { since: begin, until, limit: PAGE }, (until - begin).as_seconds_f64());
    let (mut last, mut first): (Option<Outcome>, _) = (None, None);
    loop {
        let read = store.ended(&page, last.as_ref()).await?;
        let Some(end) = read.last().cloned() else { break };
        progress((end.ended_at - begin).as_seconds_f64() / all);
        first = first.or(read.first().map(|outcome| outcome.ended_at));
        last = Some(end);
        for outcome in read {
            replay.outcome(outcome);
        }
    }
    let replayed = replay.finish(until);

    let (mut then, mut at, mut not_sent) = (Vec::new(), 0, (0, 0));
    loop {
        let read = store.told(&Page { since, ..page }, at).await?;
        let Some((end, _)) = read.last() else { break };
        at = *end;
        for (_, kept) in &read {
            not_sent.0 += usize::from(kept.state == "failed");
            not_sent.1 += usize::from(kept.state == "owed");
            then.push((&kept.notification).into());
        }
    }
    let lines = compare(then, replayed.told);
    Ok(Report { begin, first, lines, suppressed: replayed.suppressed, runs: replayed.runs, not_sent, mutes: known })
}
