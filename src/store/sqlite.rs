//! The embedded store: SQLite in write-ahead mode, one writer, nothing to install.

use std::collections::HashMap;
use std::str::FromStr as _;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use sqlx::query_builder::Separated;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{QueryBuilder, Row as _, Sqlite as Db, SqliteConnection, SqlitePool};

use super::{
    Archive, Batch, Beat, Beats, Delivery, Durations, Ended, Heard, History, Incidents, Intent, KeptDecision,
    NoticeState, Outbox, Page, Recent, Result, Runs, StoreError, Tallies, Tally,
};
use crate::incident::{Decision, Incident, Notice, Subject};
use crate::names::Reason;
use crate::outcome::{Outcome, RunId};

/// The version of the tables; a file of a newer one is refused, not guessed at.
const SCHEMA_VERSION: i64 = 1;

/// So many rows are written with one statement.
const ROWS: usize = 64;

/// The scenarios that have outcomes, found by jumping through the index: a `DISTINCT` would read all of it.
macro_rules! each {
    () => {
        "WITH RECURSIVE s (scenario) AS (SELECT min(scenario) FROM outcomes UNION ALL
         SELECT (SELECT min(scenario) FROM outcomes WHERE scenario > s.scenario) FROM s WHERE s.scenario IS NOT NULL) "
    };
}

/// The last runs of a scenario at a location since then that passed or were degraded.
macro_rules! good {
    () => {
        "FROM outcomes WHERE scenario = ?1 AND location = ?2 AND ended_at >= ?3
         AND verdict IN ('passed', 'degraded') ORDER BY ended_at DESC LIMIT ?4"
    };
}

/// The embedded store.
#[derive(Debug, Clone)]
pub struct Sqlite {
    /// One connection, so that writers never wait for each other's locks.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

impl Sqlite {
    /// Opens `sqlite:FILE` or `sqlite::memory:`, and makes its tables.
    pub async fn open(url: &str) -> Result<Self> {
        Self::open_tables(url).await.map_err(|error| StoreError(format!("{url} does not open: {}", error.0)))
    }

    async fn open_tables(url: &str) -> Result<Self> {
        let memory = url == "sqlite::memory:";
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A group commit is rare enough to wait for the disk: what was decided survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            // What a statement needs for itself makes no files.
            .pragma("temp_store", "MEMORY")
            .busy_timeout(std::time::Duration::from_secs(5));
        let never = |options: SqlitePoolOptions| options.idle_timeout(None).max_lifetime(None);
        let writer = never(SqlitePoolOptions::new()).max_connections(1).connect_with(options.clone()).await?;
        let version: i64 = sqlx::query("PRAGMA user_version").fetch_one(&writer).await?.get(0);
        if version > SCHEMA_VERSION {
            return Err(newer(version));
        }
        sqlx::raw_sql(include_str!("schema/sqlite.sql")).execute(&writer).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA user_version = {SCHEMA_VERSION}"))).execute(&writer).await?;
        // A database in memory belongs to its one connection.
        let readers = if memory {
            writer.clone()
        } else {
            never(SqlitePoolOptions::new()).max_connections(4).connect_with(options.read_only(true)).await?
        };
        Ok(Self { writer, readers })
    }

    /// Opens `sqlite:FILE` to be read only, also while an agent writes to it. Nothing is made that is not there.
    pub async fn open_to_read(url: &str) -> Result<Self> {
        let open = async || {
            let options = SqliteConnectOptions::from_str(url)?
                .read_only(true)
                .pragma("temp_store", "MEMORY")
                .busy_timeout(std::time::Duration::from_secs(5));
            let readers = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
            let version: i64 = sqlx::query("PRAGMA user_version").fetch_one(&readers).await?.get(0);
            match version {
                SCHEMA_VERSION => Ok(Self { writer: readers.clone(), readers }),
                0 => Err(StoreError("no wachta has written it".into())),
                _ => Err(newer(version)),
            }
        };
        open().await.map_err(|error| StoreError(format!("{url} does not open: {}", error.0)))
    }

    /// Closes the file; what is written is written.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn count(&self, asked: &Tallies<'_>, before: i64) -> Result<Vec<Tally>> {
        // Answered by the index alone.
        let rows = sqlx::query(
            "SELECT ended_at / ?1, count(*), sum(verdict = 'failed') FROM outcomes
             WHERE scenario = ?2 AND ended_at >= ?3 AND ended_at < ?4 AND verdict <> 'unknown' GROUP BY 1 ORDER BY 1",
        )
        .bind(asked.slot.max(1).saturating_mul(1_000_000))
        .bind(asked.scenario.to_owned())
        .bind(micros(asked.since))
        .bind(before)
        .fetch_all(&self.readers)
        .await?;
        let tally = |row: &SqliteRow| Tally {
            slot: row.get(0),
            runs: row.get::<i64, _>(1).unsigned_abs(),
            failed: row.get::<i64, _>(2).unsigned_abs(),
        };
        Ok(rows.iter().map(tally).collect())
    }

    async fn outcomes(&self, query: &'static str, binds: &[&str], limit: Option<u32>) -> Result<Vec<Outcome>> {
        let mut query = sqlx::query(query);
        for bind in binds {
            query = query.bind((*bind).to_owned());
        }
        if let Some(limit) = limit {
            query = query.bind(limit);
        }
        query.fetch_all(&self.readers).await?.iter().map(|row| body(row, 0)).collect()
    }
}

fn newer(version: i64) -> StoreError {
    StoreError(format!("it was written by a newer wachta (tables {version}, known {SCHEMA_VERSION})"))
}

fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| StoreError(e.to_string()))
}

/// Writes what every run brings: many rows with a statement, since each is a trip to the thread of the database, and that
/// costs more than a row. `bind` gives the values of a row.
async fn insert<'r, R: Sync>(
    connection: &mut SqliteConnection,
    into: &'static str,
    rows: &'r [R],
    bind: impl Fn(Separated<'_, Db, &'static str>, &'r R),
) -> Result<()> {
    for rows in rows.chunks(ROWS) {
        let mut query = QueryBuilder::<Db>::new(into);
        query.push_values(rows, &bind);
        // A statement of another length seldom comes again.
        query.build().persistent(rows.len() == ROWS).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Decisions of one subject that say the same, in a row.
struct Alike<'d> {
    first_at: DateTime<Utc>,
    last: &'d Decision,
    count: i64,
}

/// Keeps decisions: one that says the same as the last one of its subject is counted there. Nearly every run brings one.
async fn keep(connection: &mut SqliteConnection, decisions: &[Decision]) -> Result<()> {
    let mut alike: Vec<Alike<'_>> = Vec::new();
    let mut last_of: HashMap<&Subject, usize> = HashMap::new();
    for decision in decisions {
        let last = last_of.get(&decision.subject).map(|at| &mut alike[*at]);
        match last.filter(|alike| alike.last.why == decision.why) {
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
    let subjects: Vec<&str> = last_of.keys().map(|subject| subject.as_str()).collect();
    let rows = sqlx::query(
        "SELECT kept.subject, kept.id, kept.why FROM json_each(?) subjects JOIN decisions kept ON kept.id =
         (SELECT id FROM decisions WHERE subject = subjects.value ORDER BY id DESC LIMIT 1)",
    )
    .bind(json(&subjects)?)
    .fetch_all(&mut *connection)
    .await?;
    let mut kept: HashMap<&str, (i64, &str)> = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let (mut again, mut new) = (Vec::new(), Vec::new());
    for alike in alike {
        let body = json(alike.last)?;
        // Only the first of a subject can follow what is kept.
        match kept.remove(alike.last.subject.as_str()) {
            Some((id, why)) if why == alike.last.why.as_str() => again.push((id, alike, body)),
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
    let into = "INSERT INTO decisions (subject, why, first_at, last_at, count, body) ";
    insert(connection, into, &new, |mut row, (alike, body)| {
        row.push_bind(alike.last.subject.as_str()).push_bind(alike.last.why.as_str()).push_bind(micros(alike.first_at));
        row.push_bind(micros(alike.last.at)).push_bind(alike.count).push_bind(body);
    })
    .await
}

/// A verdict or reason out of its name.
fn word<T: DeserializeOwned>(name: &str) -> Result<T> {
    serde_json::from_value(name.into()).map_err(|e| StoreError(format!("a row does not read: {e}")))
}

fn body<T: DeserializeOwned>(row: &SqliteRow, column: usize) -> Result<T> {
    serde_json::from_str(row.get::<&str, _>(column)).map_err(|e| StoreError(format!("a row does not read: {e}")))
}

/// How a notice stands: body, state, `done_at`, problem.
fn state(row: &SqliteRow) -> Result<NoticeState> {
    Ok(NoticeState {
        notice: body(row, 0)?,
        state: row.get(1),
        done_at: row.get::<Option<i64>, _>(2).map(time),
        problem: row.get(3),
    })
}

#[async_trait]
impl Runs for Sqlite {
    async fn commit(&self, batch: &Batch) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        let intents: Vec<_> =
            batch.intents.iter().map(|intent| Ok((intent, json(&intent.kind)?))).collect::<Result<_>>()?;
        let into = "INSERT OR REPLACE INTO intents (run, scenario, name, kind, location, due_at) ";
        insert(&mut tx, into, &intents, |mut row, (intent, kind)| {
            row.push_bind(intent.run.to_string()).push_bind(intent.scenario.as_str()).push_bind(&intent.name);
            row.push_bind(kind).push_bind(&intent.location).push_bind(micros(intent.due_at));
        })
        .await?;
        let outcomes: Vec<_> =
            batch.outcomes.iter().map(|outcome| Ok((outcome, json(outcome)?))).collect::<Result<_>>()?;
        let into =
            "INSERT OR IGNORE INTO outcomes (run, scenario, location, ended_at, verdict, reason, seconds, body) ";
        insert(&mut tx, into, &outcomes, |mut row, (outcome, body)| {
            row.push_bind(outcome.run.to_string()).push_bind(outcome.scenario.as_str()).push_bind(&outcome.location);
            row.push_bind(micros(outcome.ended_at)).push_bind(outcome.verdict.as_str());
            row.push_bind(outcome.reason.map(Reason::as_str)).push_bind(outcome.duration.as_secs_f64()).push_bind(body);
        })
        .await?;
        let over: Vec<_> = batch.withdrawn.iter().chain(batch.outcomes.iter().map(|outcome| &outcome.run)).collect();
        if !over.is_empty() {
            sqlx::query("DELETE FROM intents WHERE run IN (SELECT value FROM json_each(?))")
                .bind(json(&over)?)
                .execute(&mut *tx)
                .await?;
        }
        let watches: Vec<_> =
            batch.watches.iter().map(|(subject, watch)| Ok((subject, json(watch)?))).collect::<Result<_>>()?;
        insert(&mut tx, "INSERT OR REPLACE INTO watches (subject, body) ", &watches, |mut row, (subject, watch)| {
            row.push_bind(subject.as_str()).push_bind(watch);
        })
        .await?;
        for (key, body) in &batch.memory {
            let query = match body {
                Some(body) => sqlx::query("INSERT OR REPLACE INTO memory (key, body) VALUES (?, ?)")
                    .bind(key)
                    .bind(body.to_string()),
                None => sqlx::query("DELETE FROM memory WHERE key = ?").bind(key),
            };
            query.execute(&mut *tx).await?;
        }
        for incident in &batch.incidents {
            sqlx::query("INSERT OR REPLACE INTO incidents (id, opened_at, resolved_at, body) VALUES (?, ?, ?, ?)")
                .bind(incident.dedup_key())
                .bind(micros(incident.opened_at))
                .bind(incident.resolved_at.map(micros))
                .bind(json(incident)?)
                .execute(&mut *tx)
                .await?;
        }
        keep(&mut tx, &batch.decisions).await?;
        for notice in &batch.notices {
            sqlx::query("INSERT OR IGNORE INTO notices (id, receiver, incident, owed_at, body) VALUES (?, ?, ?, ?, ?)")
                .bind(&notice.id)
                .bind(&notice.receiver)
                .bind(&notice.key)
                .bind(micros(notice.owed_at))
                .bind(json(notice)?)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn open_intents(&self, location: &str) -> Result<Vec<Intent>> {
        let rows =
            sqlx::query("SELECT run, scenario, name, kind, due_at FROM intents WHERE location = ? ORDER BY due_at")
                .bind(location.to_owned())
                .fetch_all(&self.readers)
                .await?;
        rows.iter()
            .map(|row| {
                let bad = |e: &dyn std::fmt::Display| StoreError(format!("an intent does not read: {e}"));
                Ok(Intent {
                    run: RunId(row.get::<&str, _>(0).parse().map_err(|e| bad(&e))?),
                    scenario: row.get::<&str, _>(1).into(),
                    name: row.get(2),
                    kind: body(row, 3)?,
                    location: location.to_owned(),
                    due_at: time(row.get(4)),
                })
            })
            .collect()
    }

    async fn prune(&self, before: DateTime<Utc>) -> Result<Vec<RunId>> {
        let mut tx = self.writer.begin().await?;
        // The last outcome of a scenario stays, however old: metrics and the page begin with it.
        let rows = sqlx::query(
            "DELETE FROM outcomes WHERE ended_at < ?1 AND EXISTS
             (SELECT 1 FROM outcomes newer WHERE newer.scenario = outcomes.scenario AND newer.ended_at > outcomes.ended_at)
             RETURNING run",
        )
        .bind(micros(before))
        .fetch_all(&mut *tx)
        .await?;
        for query in [
            "DELETE FROM notices WHERE state <> 'owed' AND incident IN (SELECT id FROM incidents WHERE resolved_at < ?)",
            "DELETE FROM incidents WHERE resolved_at < ? AND NOT EXISTS (SELECT 1 FROM notices WHERE notices.incident = incidents.id)",
            "DELETE FROM decisions WHERE last_at < ?",
            "DELETE FROM memos WHERE kept_at < ?",
        ] {
            sqlx::query(query).bind(micros(before)).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(rows.iter().filter_map(|row| row.get::<&str, _>(0).parse().ok().map(RunId)).collect())
    }
}

#[async_trait]
impl History for Sqlite {
    async fn latest(&self) -> Result<Vec<Outcome>> {
        self.outcomes(
            concat!(
                each!(),
                "SELECT o.body FROM s JOIN outcomes AS o ON o.run =
                 (SELECT run FROM outcomes WHERE scenario = s.scenario ORDER BY ended_at DESC LIMIT 1)"
            ),
            &[],
            None,
        )
        .await
    }

    async fn latest_conclusive(&self) -> Result<Vec<Outcome>> {
        self.outcomes(
            concat!(
                each!(),
                "SELECT o.body FROM s
                 JOIN outcomes AS last ON last.verdict = 'unknown' AND last.run =
                 (SELECT run FROM outcomes WHERE scenario = s.scenario ORDER BY ended_at DESC LIMIT 1)
                 JOIN outcomes AS o ON o.run = (SELECT run FROM outcomes
                 WHERE scenario = s.scenario AND verdict <> 'unknown' ORDER BY ended_at DESC LIMIT 1)"
            ),
            &[],
            None,
        )
        .await
    }

    async fn recent(&self, scenario: Option<&str>, limit: u32) -> Result<Vec<Outcome>> {
        match scenario {
            Some(scenario) => {
                self.outcomes(
                    "SELECT body FROM outcomes WHERE scenario = ? ORDER BY ended_at DESC LIMIT ?",
                    &[scenario],
                    Some(limit),
                )
                .await
            }
            None => self.outcomes("SELECT body FROM outcomes ORDER BY ended_at DESC LIMIT ?", &[], Some(limit)).await,
        }
    }

    async fn recent_of_each(&self, limit: u32) -> Result<Vec<Recent>> {
        let rows = sqlx::query(concat!(
            each!(),
            "SELECT o.run, o.scenario, o.ended_at, o.verdict, o.reason, o.seconds FROM s JOIN outcomes AS o
                 ON o.scenario = s.scenario AND o.ended_at >= coalesce((SELECT ended_at FROM outcomes
                 WHERE scenario = s.scenario ORDER BY ended_at DESC LIMIT 1 OFFSET ? - 1), 0)
                 ORDER BY o.scenario, o.ended_at DESC"
        ))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let bad = |e: &dyn std::fmt::Display| StoreError(format!("a run does not read: {e}"));
                Ok(Recent {
                    run: RunId(row.get::<&str, _>(0).parse().map_err(|e| bad(&e))?),
                    scenario: row.get::<&str, _>(1).into(),
                    ended_at: time(row.get(2)),
                    duration: std::time::Duration::try_from_secs_f64(row.get(5)).map_err(|e| bad(&e))?,
                    verdict: word(row.get(3))?,
                    reason: row.get::<Option<&str>, _>(4).map(word).transpose()?,
                })
            })
            .collect()
    }

    async fn durations(&self, asked: &Durations<'_>) -> Result<Vec<(DateTime<Utc>, std::time::Duration)>> {
        let mut query = match asked.step {
            None => sqlx::query(concat!("SELECT ended_at, seconds ", good!())),
            Some(_) => sqlx::query(concat!(
                "SELECT ended_at, json_extract(step.value, '$.duration') FROM (SELECT ended_at, body ",
                good!(),
                ") AS good, json_each(good.body, '$.steps') AS step
                 WHERE json_extract(step.value, '$.name') = ?5 AND json_extract(step.value, '$.status') = 'passed'
                 ORDER BY ended_at DESC"
            )),
        };
        query = query
            .bind(asked.scenario.to_owned())
            .bind(asked.location.to_owned())
            .bind(micros(asked.since))
            .bind(asked.limit);
        if let Some(step) = asked.step {
            query = query.bind(step.to_owned());
        }
        let bad = |e: &dyn std::fmt::Display| StoreError(format!("a duration does not read: {e}"));
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                let seconds = row.try_get(1).map_err(|e| bad(&e))?;
                Ok((time(row.get(0)), std::time::Duration::try_from_secs_f64(seconds).map_err(|e| bad(&e))?))
            })
            .collect()
    }

    async fn tallies(&self, asked: &Tallies<'_>) -> Result<Vec<Tally>> {
        self.count(asked, i64::MAX).await
    }

    async fn run(&self, run: RunId) -> Result<Option<Outcome>> {
        Ok(self.outcomes("SELECT body FROM outcomes WHERE run = ?", &[&run.to_string()], None).await?.pop())
    }
}

#[async_trait]
impl Incidents for Sqlite {
    async fn watches(&self) -> Result<Vec<(Subject, Json)>> {
        let rows = sqlx::query("SELECT subject, body FROM watches").fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((Subject(row.get::<&str, _>(0).into()), body(row, 1)?))).collect()
    }

    async fn memory(&self) -> Result<Vec<(String, Json)>> {
        let rows = sqlx::query("SELECT key, body FROM memory ORDER BY key").fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row.get(0), body(row, 1)?))).collect()
    }

    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>> {
        let rows = sqlx::query("SELECT body FROM incidents ORDER BY resolved_at IS NOT NULL, opened_at DESC LIMIT ?")
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| body(row, 0)).collect()
    }

    async fn incident(&self, key: &str) -> Result<Option<Incident>> {
        let row = sqlx::query("SELECT body FROM incidents WHERE id = ?")
            .bind(key.to_owned())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(|row| body(row, 0)).transpose()
    }

    async fn decisions(&self, subject: &Subject, limit: u32) -> Result<Vec<KeptDecision>> {
        let rows =
            sqlx::query("SELECT body, first_at, count FROM decisions WHERE subject = ? ORDER BY id DESC LIMIT ?")
                .bind(subject.as_str())
                .bind(limit)
                .fetch_all(&self.readers)
                .await?;
        rows.iter()
            .map(|row| {
                Ok(KeptDecision {
                    decision: body::<Decision>(row, 0)?,
                    first_at: time(row.get(1)),
                    count: row.get::<i64, _>(2).unsigned_abs(),
                })
            })
            .collect()
    }
}

#[async_trait]
impl Outbox for Sqlite {
    async fn owed(&self, receiver: &str, limit: u32) -> Result<Vec<Notice>> {
        let rows = sqlx::query(
            "SELECT body, uncertain FROM notices WHERE receiver = ? AND state = 'owed' ORDER BY seq LIMIT ?",
        )
        .bind(receiver.to_owned())
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok(Notice { repeat: row.get::<i64, _>(1) > 0, ..body(row, 0)? })).collect()
    }

    async fn creditors(&self) -> Result<Vec<String>> {
        let rows =
            sqlx::query("SELECT DISTINCT receiver FROM notices WHERE state = 'owed'").fetch_all(&self.readers).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn trying(&self, notice: &str) -> Result<()> {
        // 1: a try runs; 2: an earlier try may have arrived, which no later refusal undoes.
        sqlx::query("UPDATE notices SET uncertain = CASE uncertain WHEN 0 THEN 1 ELSE 2 END WHERE id = ?")
            .bind(notice.to_owned())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    async fn delivered(&self, notice: &str, delivery: &Delivery, at: DateTime<Utc>) -> Result<()> {
        let query = match delivery {
            Delivery::Sent => "UPDATE notices SET state = 'sent', done_at = ?1, problem = ?2 WHERE id = ?3",
            Delivery::Failed(_) => "UPDATE notices SET state = 'failed', done_at = ?1, problem = ?2 WHERE id = ?3",
            Delivery::Refused(_) => {
                "UPDATE notices SET uncertain = CASE uncertain WHEN 2 THEN 2 ELSE 0 END, problem = ?2 WHERE id = ?3"
            }
            Delivery::Unsure(_) => "UPDATE notices SET uncertain = 2, problem = ?2 WHERE id = ?3",
        };
        let problem = match delivery {
            Delivery::Sent => None,
            Delivery::Failed(problem) | Delivery::Refused(problem) | Delivery::Unsure(problem) => Some(problem.clone()),
        };
        sqlx::query(query).bind(micros(at)).bind(problem).bind(notice.to_owned()).execute(&self.writer).await?;
        Ok(())
    }

    async fn notices(&self, incident: &str) -> Result<Vec<NoticeState>> {
        let rows = sqlx::query("SELECT body, state, done_at, problem FROM notices WHERE incident = ? ORDER BY seq")
            .bind(incident.to_owned())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(state).collect()
    }

    async fn memo(&self, receiver: &str, key: &str) -> Result<Option<Json>> {
        let row = sqlx::query("SELECT body FROM memos WHERE receiver = ? AND key = ?")
            .bind(receiver.to_owned())
            .bind(key.to_owned())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(|row| body(row, 0)).transpose()
    }

    async fn memos(&self, receiver: &str) -> Result<Vec<(String, Json)>> {
        let rows = sqlx::query("SELECT key, body FROM memos WHERE receiver = ? ORDER BY key")
            .bind(receiver.to_owned())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((row.get(0), body(row, 1)?))).collect()
    }

    async fn keep_memo(&self, receiver: &str, key: &str, memo: Option<&Json>, at: DateTime<Utc>) -> Result<()> {
        let query = match memo {
            Some(_) => "INSERT OR REPLACE INTO memos (receiver, key, kept_at, body) VALUES (?1, ?2, ?3, ?4)",
            None => "DELETE FROM memos WHERE receiver = ?1 AND key = ?2",
        };
        let mut query = sqlx::query(query).bind(receiver.to_owned()).bind(key.to_owned());
        if let Some(memo) = memo {
            query = query.bind(micros(at)).bind(memo.to_string());
        }
        query.execute(&self.writer).await?;
        Ok(())
    }
}

#[async_trait]
impl Beats for Sqlite {
    async fn beat(&self, name: &str, beat: Beat, at: DateTime<Utc>) -> Result<()> {
        let (query, code) = match beat {
            Beat::Started => (
                "INSERT INTO beats (name, started_at) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET started_at = ?2",
                None,
            ),
            Beat::Ended(code) => (
                "INSERT INTO beats (name, ended_at, code) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET ended_at = ?2, code = ?3",
                Some(code),
            ),
        };
        let mut query = sqlx::query(query).bind(name.to_owned()).bind(micros(at));
        if let Some(code) = code {
            query = query.bind(code);
        }
        query.execute(&self.writer).await?;
        Ok(())
    }

    async fn beats(&self, name: &str) -> Result<Option<Heard>> {
        let row = sqlx::query("SELECT started_at, ended_at, code FROM beats WHERE name = ?")
            .bind(name.to_owned())
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.map(|row| Heard {
            started_at: row.get::<Option<i64>, _>(0).map(time),
            ended: row
                .get::<Option<i64>, _>(1)
                .map(|at| Ended { at: time(at), code: row.get::<Option<u8>, _>(2).unwrap_or(super::FAILED) }),
        }))
    }
}

#[async_trait]
impl Archive for Sqlite {
    async fn ended(&self, page: &Page, after: Option<&Outcome>) -> Result<Vec<Outcome>> {
        // The index by time has the run as well, since it is the table's key: nothing is sorted.
        let (at, run) =
            after.map_or((page.since, String::new()), |outcome| (outcome.ended_at, outcome.run.to_string()));
        let rows = sqlx::query(
            "SELECT body FROM outcomes WHERE (ended_at, run) > (?, ?) AND ended_at <= ? ORDER BY ended_at, run LIMIT ?",
        )
        .bind(micros(at))
        .bind(run)
        .bind(micros(page.until))
        .bind(page.limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| body(row, 0)).collect()
    }

    async fn told(&self, page: &Page, after: i64) -> Result<Vec<(i64, NoticeState)>> {
        let rows = sqlx::query(
            "SELECT body, state, done_at, problem, seq FROM notices
             WHERE seq > ? AND owed_at BETWEEN ? AND ? ORDER BY seq LIMIT ?",
        )
        .bind(after)
        .bind(micros(page.since))
        .bind(micros(page.until))
        .bind(page.limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((row.get(4), state(row)?))).collect()
    }

    async fn open_at(&self, at: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        let row = sqlx::query(
            "SELECT min(opened_at) FROM incidents
             WHERE opened_at < ?1 AND (resolved_at IS NULL OR resolved_at >= ?1)",
        )
        .bind(micros(at))
        .fetch_one(&self.readers)
        .await?;
        Ok(row.get::<Option<i64>, _>(0).map(time))
    }

    async fn tallies_before(&self, asked: &Tallies<'_>, before: DateTime<Utc>) -> Result<Vec<Tally>> {
        self.count(asked, micros(before)).await
    }
}
