//! Replay of the stored outcomes with another configuration: the notifications that would have been sent, compared to
//! those that were.
//!
//! The store is only read, page by page, even while an agent writes to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::alert::Scenarios;
use crate::alert::replay::{NotificationDiff, Replay, begin, compare};
use crate::incident::Mute;
use crate::names::MUTES;
use crate::notify::Alerting;
use crate::outcome::Outcome;
use crate::scenario::ScenarioId;
use crate::store::{Archive, Incidents, SlotCountQuery, StoreError, TimeRange};

/// Number of rows read at once.
const PAGE: u32 = 500;

/// Parameters of a replay.
pub struct ReplayRequest {
    /// Name of the location that the agent runs from.
    pub location: String,
    /// Alerting configuration.
    pub alerting: Arc<Alerting>,
    /// Scenarios of the configuration.
    pub scenarios: Scenarios,
    /// Start of the replayed range.
    pub since: DateTime<Utc>,
    /// End of the replayed range.
    pub until: DateTime<Utc>,
}

/// Report of a replay.
pub struct ReplayReport {
    /// Start of the outcomes that were read.
    pub begin: DateTime<Utc>,
    /// End of the first run that was read.
    pub first: Option<DateTime<Utc>>,
    /// Sent notifications compared to those of the replay, in order of time.
    pub lines: Vec<NotificationDiff>,
    /// Number of notifications suppressed in the replay, by reason.
    pub suppressed: BTreeMap<&'static str, u64>,
    /// Number of runs of each scenario within the range, including scenarios that the configuration lacks.
    pub runs: BTreeMap<ScenarioId, u64>,
    /// Numbers of the original notifications that were given up, and that are still queued.
    pub not_sent: (usize, usize),
    /// Number of silences and maintenance windows by operators that were included.
    pub mutes: usize,
}

/// Runs a replay. `progress` receives the replayed share of the time.
pub async fn replay(
    store: &(impl Archive + Incidents),
    asked: ReplayRequest,
    progress: impl Fn(f64),
) -> Result<ReplayReport, StoreError> {
    let ReplayRequest { location, alerting, scenarios, since, until } = asked;
    let begin = begin(since, store.earliest_open_at(since).await?, scenarios.values().map(|scenario| &**scenario));
    let mut mutes = Vec::new();
    for (key, body) in store.alerting_entries().await? {
        if key.starts_with(MUTES) {
            let mute: Mute = serde_json::from_value(body)
                .map_err(|e| StoreError::refused(format!("cannot read the alerting entry {key}: {e}")))?;
            mutes.push(mute);
        }
    }
    let known = mutes.len();
    let mut replay = Replay::new(&location, (alerting, scenarios), mutes, (begin, since));
    while let Some((scenario, spans)) = replay.unread() {
        let mut history = Vec::new();
        for span in spans {
            let asked = SlotCountQuery { scenario: scenario.as_str(), since: span.since, slot: span.slot };
            history.push((span.window, store.slot_counts_before(&asked, begin).await?));
        }
        replay.read(&scenario, &history);
    }

    let (page, all) = (TimeRange { since: begin, until, limit: PAGE }, (until - begin).as_seconds_f64());
    let (mut last, mut first): (Option<Outcome>, _) = (None, None);
    loop {
        let read = store.outcomes_between(&page, last.as_ref()).await?;
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
        let read = store.notifications_between(&TimeRange { since, ..page }, at).await?;
        let Some((end, _)) = read.last() else { break };
        at = *end;
        for (_, kept) in &read {
            not_sent.0 += usize::from(kept.state == "failed");
            not_sent.1 += usize::from(kept.state == "queued");
            then.push((&kept.notification).into());
        }
    }
    let lines = compare(then, replayed.notifications);
    Ok(ReplayReport {
        begin,
        first,
        lines,
        suppressed: replayed.suppressed,
        runs: replayed.runs,
        not_sent,
        mutes: known,
    })
}
