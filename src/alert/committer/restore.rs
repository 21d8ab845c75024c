//! Reading of the stored state of alerting at a start.

use std::collections::HashSet;

use chrono::Utc;

use crate::alert::changes::Changes;
use crate::alert::pipeline::Pipeline;
use crate::incident::{AlertCommand, Incident};
use crate::names::REQUESTS;
use crate::store::{Incidents as _, StoreError, WriteBuffer};

/// Returns the deferred commands among the stored alerting entries, in the order in which they were stored.
pub fn deferred_commands(memory: &[(String, serde_json::Value)]) -> Result<Vec<(String, AlertCommand)>, StoreError> {
    let of = |(key, body): &(String, serde_json::Value)| {
        let unread = |e| StoreError::refused(format!("cannot read the alerting entry {key}: {e}"));
        serde_json::from_value(body.clone()).map(|command| (key.clone(), command)).map_err(unread)
    };
    memory.iter().filter(|(key, _)| key.starts_with(REQUESTS)).map(of).collect()
}

/// Logs an entry that is skipped because it cannot be read.
pub(super) fn skip(error: &StoreError) {
    tracing::error!(%error, "cannot read a row: skipped");
}

/// Restores the stored state entry by entry. Entries that cannot be read are skipped, and the open incidents of their
/// subjects are adopted from the stored incidents.
pub(super) async fn restore(
    pipeline: &mut Pipeline,
    store: &WriteBuffer,
    alerting_entries: Vec<(String, serde_json::Value)>,
) -> Result<Changes, StoreError> {
    let mut restored = HashSet::new();
    for (subject, body) in store.alert_states().await? {
        match pipeline.restore(vec![(subject.clone(), body)], Vec::new()) {
            Ok(()) => drop(restored.insert(subject)),
            Err(error) => skip(&StoreError::refused(error)),
        }
    }
    for row in alerting_entries {
        pipeline.restore(Vec::new(), vec![row]).map_err(StoreError::refused).unwrap_or_else(|error| skip(&error));
    }
    let open: Vec<_> = store.incidents(u32::MAX).await?.into_iter().filter(Incident::is_open).collect();
    for incident in &open {
        if !restored.contains(&incident.subject) {
            tracing::warn!(
                incident = incident.dedup_key(),
                "alerting state is lost: continuing from the open incident"
            );
            pipeline.adopt(incident.clone());
        }
    }
    for subject in pipeline.regroup(Utc::now()) {
        tracing::warn!(%subject, "the notification group of an incident is lost: its receivers are notified of the resolution");
    }
    Ok(Changes::new(open.iter().map(|incident| (incident, pipeline.cause_of(incident).key.clone()))))
}
