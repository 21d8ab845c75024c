//! Statements of a commit: one function for each kind of row, all in one transaction.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::query_builder::Separated;
use sqlx::{Connection as _, QueryBuilder, Row as _, Sqlite as Db, SqliteConnection};

use super::encoding::{json, micros, number};
use crate::incident::{Decision, Subject};
use crate::names::Reason;
use crate::store::{AttemptChange, Batch, CheckIn, DeliveryStatus, Identity, ReceiverStateChange, Result};

/// Number of rows written with one statement.
const ROWS: usize = 64;

/// Writes a batch in one transaction, completely or not at all.
pub(super) async fn batch(connection: &mut SqliteConnection, batch: &Batch) -> Result<()> {
    let mut tx = connection.begin().await?;
    runs(&mut tx, batch).await?;
    alerting(&mut tx, batch).await?;
    for change in &batch.changes {
        sqlx::query("INSERT OR IGNORE INTO incident_changes (seq, at, body) VALUES (?, ?, ?)")
            .bind(number(change.seq))
            .bind(micros(change.at))
            .bind(json(change)?)
            .execute(&mut *tx)
            .await?;
    }
    keep(&mut tx, &batch.decisions).await?;
    for notification in &batch.notifications {
        sqlx::query(
            "INSERT OR IGNORE INTO notifications (id, receiver, incident, state, queued_at, body) VALUES (?, ?, ?, 'queued', ?, ?)",
        )
        .bind(&notification.id)
        .bind(&notification.receiver)
        .bind(&notification.key)
        .bind(micros(notification.queued_at))
        .bind(json(notification)?)
        .execute(&mut *tx)
        .await?;
    }
    for (notification, change, at) in &batch.attempts {
        attempt(&mut tx, notification, change, *at).await?;
    }
    for change in &batch.receiver_states {
        receiver_state(&mut tx, change).await?;
    }
    for (name, beat, at) in &batch.check_ins {
        check_in(&mut tx, name, *beat, *at).await?;
    }
    for (sink, seq) in &batch.positions {
        position(&mut tx, sink, *seq).await?;
    }
    if let Some(new) = &batch.identity {
        identity(&mut tx, new).await?;
    }
    if batch.number != 0 {
        sqlx::query("UPDATE store SET last_commit = ?").bind(batch.number).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Writes planned runs and outcomes.
async fn runs(connection: &mut SqliteConnection, batch: &Batch) -> Result<()> {
    let intents: Vec<_> =
        batch.intents.iter().map(|intent| Ok((intent, json(&intent.kind)?))).collect::<Result<_>>()?;
    let into = "INSERT OR REPLACE INTO planned_runs (run, scenario, name, kind, location, due_at) ";
    insert(connection, into, &intents, |mut row, (intent, kind)| {
        row.push_bind(intent.run.to_string()).push_bind(intent.scenario.as_str()).push_bind(&intent.name);
        row.push_bind(kind).push_bind(&intent.location).push_bind(micros(intent.due_at));
    })
    .await?;
    let outcomes: Vec<_> = batch.outcomes.iter().map(|outcome| Ok((outcome, json(outcome)?))).collect::<Result<_>>()?;
    let into =
        "INSERT OR IGNORE INTO outcomes (run, scenario, location, ended_at, verdict, reason, seconds, body, seq) ";
    insert(connection, into, &outcomes, |mut row, (outcome, body)| {
        row.push_bind(outcome.run.to_string()).push_bind(outcome.scenario.as_str()).push_bind(&outcome.location);
        row.push_bind(micros(outcome.ended_at)).push_bind(outcome.verdict.as_str());
        row.push_bind(outcome.reason.map(Reason::as_str)).push_bind(outcome.duration.as_secs_f64()).push_bind(body);
        row.push_bind((outcome.seq > 0).then(|| number(outcome.seq)));
    })
    .await?;
    let over: Vec<_> = batch.withdrawn.iter().chain(batch.outcomes.iter().map(|outcome| &outcome.run)).collect();
    if !over.is_empty() {
        sqlx::query("DELETE FROM planned_runs WHERE run IN (SELECT value FROM json_each(?))")
            .bind(json(&over)?)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Writes the state of alerting and incidents.
async fn alerting(connection: &mut SqliteConnection, batch: &Batch) -> Result<()> {
    let alert_states: Vec<_> =
        batch.alert_states.iter().map(|(subject, watch)| Ok((subject, json(watch)?))).collect::<Result<_>>()?;
    insert(
        connection,
        "INSERT OR REPLACE INTO alert_states (subject, body) ",
        &alert_states,
        |mut row, (subject, watch)| {
            row.push_bind(subject.text()).push_bind(watch);
        },
    )
    .await?;
    for (key, body) in &batch.alerting_entries {
        let query = match body {
            Some(body) => sqlx::query("INSERT OR REPLACE INTO alerting_entries (key, body) VALUES (?, ?)")
                .bind(key)
                .bind(body.to_string()),
            None => sqlx::query("DELETE FROM alerting_entries WHERE key = ?").bind(key),
        };
        query.execute(&mut *connection).await?;
    }
    for incident in &batch.incidents {
        sqlx::query("INSERT OR REPLACE INTO incidents (id, opened_at, resolved_at, body) VALUES (?, ?, ?, ?)")
            .bind(incident.dedup_key())
            .bind(micros(incident.opened_at))
            .bind(incident.resolved_at.map(micros))
            .bind(json(incident)?)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Writes the start or the end of a delivery attempt.
async fn attempt(
    connection: &mut SqliteConnection,
    notification: &str,
    change: &AttemptChange,
    at: DateTime<Utc>,
) -> Result<()> {
    // 1: an attempt is in progress; 2: an earlier one may have arrived, which a later rejection does not undo.
    let query = match change {
        AttemptChange::Started => {
            "UPDATE notifications SET uncertain = CASE uncertain WHEN 0 THEN 1 ELSE 2 END WHERE id = ?3"
        }
        AttemptChange::Finished(DeliveryStatus::Delivered) => {
            "UPDATE notifications SET state = 'sent', done_at = ?1, problem = ?2 WHERE id = ?3"
        }
        AttemptChange::Finished(DeliveryStatus::Failed(_)) => {
            "UPDATE notifications SET state = 'failed', done_at = ?1, problem = ?2 WHERE id = ?3"
        }
        AttemptChange::Finished(DeliveryStatus::Retryable(_)) => {
            "UPDATE notifications SET uncertain = CASE uncertain WHEN 2 THEN 2 ELSE 0 END, problem = ?2 WHERE id = ?3"
        }
        AttemptChange::Finished(DeliveryStatus::Uncertain(_)) => {
            "UPDATE notifications SET uncertain = 2, problem = ?2 WHERE id = ?3"
        }
    };
    let problem = match change {
        AttemptChange::Started | AttemptChange::Finished(DeliveryStatus::Delivered) => None,
        AttemptChange::Finished(
            DeliveryStatus::Failed(problem) | DeliveryStatus::Retryable(problem) | DeliveryStatus::Uncertain(problem),
        ) => Some(problem),
    };
    sqlx::query(query).bind(micros(at)).bind(problem).bind(notification).execute(connection).await?;
    Ok(())
}

/// Stores the change of a receiver state.
async fn receiver_state(connection: &mut SqliteConnection, change: &ReceiverStateChange) -> Result<()> {
    let query = match &change.receiver_state {
        Some(receiver_state) => {
            sqlx::query("INSERT OR REPLACE INTO receiver_states (receiver, key, kept_at, body) VALUES (?1, ?2, ?3, ?4)")
                .bind(&change.receiver)
                .bind(&change.key)
                .bind(micros(change.at))
                .bind(receiver_state.to_string())
        }
        None => sqlx::query("DELETE FROM receiver_states WHERE receiver = ?1 AND key = ?2")
            .bind(&change.receiver)
            .bind(&change.key),
    };
    query.execute(connection).await?;
    Ok(())
}

/// Writes a check-in.
async fn check_in(connection: &mut SqliteConnection, name: &str, beat: CheckIn, at: DateTime<Utc>) -> Result<()> {
    let query = match beat {
        CheckIn::Started => sqlx::query(
            "INSERT INTO check_ins (name, started_at) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET started_at = ?2",
        )
        .bind(name)
        .bind(micros(at)),
        CheckIn::CheckInEnd(code) => sqlx::query(
            "INSERT INTO check_ins (name, ended_at, code) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET ended_at = ?2, code = ?3",
        )
        .bind(name)
        .bind(micros(at))
        .bind(code),
    };
    query.execute(connection).await?;
    Ok(())
}

/// Stores the position of a sink, or deletes it if it is `None`.
async fn position(connection: &mut SqliteConnection, sink: &str, seq: Option<u64>) -> Result<()> {
    let query = match seq {
        Some(seq) => {
            let query = "INSERT OR REPLACE INTO positions (sink, seq) VALUES (?, ?)";
            sqlx::query(query).bind(sink.to_owned()).bind(number(seq))
        }
        None => sqlx::query("DELETE FROM positions WHERE sink = ?").bind(sink.to_owned()),
    };
    query.execute(connection).await?;
    Ok(())
}

/// Replaces the identity of the store by that of the store it takes the place of.
async fn identity(connection: &mut SqliteConnection, identity: &Identity) -> Result<()> {
    sqlx::query("UPDATE store SET identity = ?").bind(&identity.id).execute(&mut *connection).await?;
    sqlx::query("INSERT OR IGNORE INTO unqualified_keys (key) SELECT value FROM json_each(?)")
        .bind(json(&identity.unqualified)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Inserts many rows with one statement, because each statement is passed to the thread of the database, which costs
/// more than a row. `bind` provides the values of a row.
async fn insert<'r, R: Sync>(
    connection: &mut SqliteConnection,
    into: &'static str,
    rows: &'r [R],
    bind: impl Fn(Separated<'_, Db, &'static str>, &'r R),
) -> Result<()> {
    for rows in rows.chunks(ROWS) {
        let mut query = QueryBuilder::<Db>::new(into);
        query.push_values(rows, &bind);
        // A statement of another length is rarely repeated.
        query.build().persistent(rows.len() == ROWS).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Consecutive decisions about one subject with the same reason.
struct Alike<'d> {
    first_at: DateTime<Utc>,
    last: &'d Decision,
    count: i64,
}

/// Stores decisions. A decision with the same reason as the last one of its subject only increases the count there,
/// because nearly every run makes one.
async fn keep(connection: &mut SqliteConnection, decisions: &[Decision]) -> Result<()> {
    let mut alike: Vec<Alike<'_>> = Vec::new();
    let mut last_of: HashMap<&Subject, usize> = HashMap::new();
    for decision in decisions {
        let last = last_of.get(&decision.subject).map(|at| &mut alike[*at]);
        match last.filter(|alike| alike.last.reason == decision.reason) {
            Some(alike) => (alike.last, alike.count) = (decision, alike.count + 1),
            None => {
                last_of.insert(&decision.subject, alike.len());
                alike.push(Alike { first_at: decision.at, last: decision, count: 1 });
            }
        }
    }
    if alike.is_empty() {
        return Ok(());
    }
    let subjects: Vec<&Subject> = last_of.keys().copied().collect();
    let rows = sqlx::query(
        "SELECT kept.subject, kept.id, kept.reason FROM json_each(?) subjects JOIN decisions kept ON kept.id =
         (SELECT id FROM decisions WHERE subject = subjects.value ORDER BY id DESC LIMIT 1)",
    )
    .bind(json(&subjects)?)
    .fetch_all(&mut *connection)
    .await?;
    let mut kept: HashMap<&str, (i64, &str)> = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let (mut again, mut new) = (Vec::new(), Vec::new());
    for alike in alike {
        let body = json(alike.last)?;
        // Only the first decision of a subject can continue the stored one.
        match kept.remove(&*alike.last.subject.text()) {
            Some((id, why)) if why == alike.last.reason.as_str() => again.push((id, alike, body)),
            _ => new.push((alike, body)),
        }
    }
    for rows in again.chunks(ROWS) {
        let mut query = QueryBuilder::<Db>::new(
            "UPDATE decisions SET last_at = new.column2, count = count + new.column3, body = new.column4 FROM (",
        );
        query.push_values(rows, |mut row, (id, alike, body)| {
            row.push_bind(id).push_bind(micros(alike.last.at)).push_bind(alike.count).push_bind(body);
        });
        query.push(") AS new WHERE id = new.column1");
        query.build().persistent(rows.len() == ROWS).execute(&mut *connection).await?;
    }
    let into = "INSERT INTO decisions (subject, reason, first_at, last_at, count, body) ";
    insert(connection, into, &new, |mut row, (alike, body)| {
        row.push_bind(alike.last.subject.text())
            .push_bind(alike.last.reason.as_str())
            .push_bind(micros(alike.first_at));
        row.push_bind(micros(alike.last.at)).push_bind(alike.count).push_bind(body);
    })
    .await
}
