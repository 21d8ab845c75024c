//! Embedded store: SQLite in write-ahead mode, with one writer and without any installation.
//!
//! Invariants: a connection is closed after a failed call, because SQLite's own rollback and the driver's view of open
//! transactions may differ; a row that cannot be read is logged and skipped in lists.

mod encoding;
mod salvage;
mod write;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Connection as _, Row as _, SqlSafeStr as _, SqliteConnection, SqlitePool};

use super::{
    Archive, AttemptChange, Batch, CheckIn, CheckInEnd, CheckInState, CheckIns, Database, DecisionRecord,
    DeliveryStatus, DurationQuery, History, Identity, Incidents, NotificationRecord, Numbered, Opener, Outbox,
    PlannedRun, Positions, ReceiverStateChange, Recorded, Result, RunSummary, Runs, SlotCount, SlotCountQuery,
    StoreError, StoreFault, TimeRange, Uncertainty, WorkingSet,
};
use crate::incident::{Decision, Incident, Notification, Subject};
use crate::outcome::{Outcome, RunId};
use encoding::{micros, number};

/// Version of the tables after all migrations. A file with a newer version is rejected.
const SCHEMA_VERSION: i64 = 5;
/// Migrations of the tables, oldest first. A released migration is never changed.
const MIGRATIONS: [(i64, &str, &str); 5] = [
    (1, "tables", include_str!("migrations/sqlite/0001_tables.sql")),
    (2, "identity", include_str!("migrations/sqlite/0002_identity.sql")),
    (3, "positions", include_str!("migrations/sqlite/0003_positions.sql")),
    (4, "changes", include_str!("migrations/sqlite/0004_changes.sql")),
    (5, "words", include_str!("migrations/sqlite/0005_words.sql")),
];
/// Maximum time that a call waits for a lock held by another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Delay between attempts to open the file where SQLite itself does not wait.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Maximum time that a call waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Selects the scenarios with outcomes by skipping through the index; a `DISTINCT` would read all of it.
macro_rules! each {
    () => {
        "WITH RECURSIVE s (scenario) AS (SELECT min(scenario) FROM outcomes UNION ALL
         SELECT (SELECT min(scenario) FROM outcomes WHERE scenario > s.scenario) FROM s WHERE s.scenario IS NOT NULL) "
    };
}

/// Selects the last passed and degraded runs of a scenario at a location since a given time.
macro_rules! good {
    () => {
        "FROM outcomes WHERE scenario = ?1 AND location = ?2 AND ended_at >= ?3
         AND verdict IN ('passed', 'degraded') ORDER BY ended_at DESC LIMIT ?4"
    };
}

/// First bytes of a database file.
const HEADER: &[u8; 16] = b"SQLite format 3\0";

/// Queries that read every page that alerting depends on, and the pages to which the next outcomes are written.
const CHECKS: [&str; 8] = [
    "SELECT count(*), total(length(body)) FROM alert_states",
    "SELECT count(*), total(length(body)) FROM alerting_entries",
    "SELECT count(*), total(length(body)) FROM incidents",
    "SELECT count(*), total(length(kind)) FROM planned_runs",
    concat!(
        each!(),
        "SELECT total(length(o.body)) FROM s JOIN outcomes AS o ON o.run =
         (SELECT run FROM outcomes WHERE scenario = s.scenario ORDER BY ended_at DESC LIMIT 1)"
    ),
    "SELECT ended_at FROM outcomes ORDER BY ended_at DESC LIMIT 1",
    "SELECT length(body) FROM outcomes ORDER BY rowid DESC LIMIT 1",
    "SELECT count(*), total(length(body)) FROM notifications WHERE state = 'queued'",
];

/// Embedded store.
#[derive(Debug, Clone)]
pub struct Sqlite {
    /// A single connection, so that writers never wait for each other's locks.
    writer: SqlitePool,
    readers: SqlitePool,
    options: SqliteConnectOptions,
    /// The file with its device and inode when it was opened; `None` for a database in memory.
    file: Option<(PathBuf, u64, u64)>,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let fault = match &error {
            // See <https://www.sqlite.org/rescode.html>; the lowest byte is the primary code.
            E::Database(database) => {
                match database.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0) & 0xff {
                    5 | 6 => StoreFault::Locked,
                    11 | 26 => StoreFault::Corrupt,
                    // TOOBIG, CONSTRAINT, MISMATCH, RANGE
                    18 | 19 | 20 | 25 => StoreFault::Refused,
                    _ => StoreFault::Unavailable,
                }
            }
            E::Encode(_) | E::Decode(_) | E::ColumnDecode { .. } | E::TypeNotFound { .. } => StoreFault::Refused,
            _ => StoreFault::Unavailable,
        };
        Self { fault, message: error.to_string() }
    }
}

/// File of an embedded store, which [`super::WriteBuffer`] reopens when necessary.
#[derive(Debug, Clone)]
pub struct SqliteFile {
    url: String,
    /// Whether the file is known to belong to an agent. Only then it is set aside if it is damaged.
    is_ours: Arc<AtomicBool>,
}

impl SqliteFile {
    /// Creates an opener for `sqlite:FILE` or `sqlite::memory:`. `is_ours` states that an agent used the file before,
    /// which also holds after it was opened once.
    pub fn new(url: &str, is_ours: bool) -> Self {
        Self { url: url.to_owned(), is_ours: Arc::new(AtomicBool::new(is_ours)) }
    }
}

#[async_trait]
impl Opener for SqliteFile {
    async fn open(&self) -> Result<Arc<dyn Database>> {
        let store = Sqlite::open(&self.url).await?;
        self.is_ours.store(true, Ordering::Relaxed);
        Ok(Arc::new(store))
    }

    async fn open_to_read(&self) -> Result<Arc<dyn Database>> {
        let store = Sqlite::open_unwritable(&self.url).await?;
        self.is_ours.store(true, Ordering::Relaxed);
        Ok(Arc::new(store))
    }

    async fn set_aside(&self) -> Result<String> {
        let options = SqliteConnectOptions::from_str(&self.url)?;
        let file = options.get_filename().to_path_buf();
        if !self.is_ours.load(Ordering::Relaxed) {
            let message = format!("{} is not a wachta store; set another file as `store`", file.display());
            return Err(StoreError { fault: StoreFault::Corrupt, message });
        }
        let unavailable = |error: std::io::Error| StoreError::unavailable(format!("{}: {error}", file.display()));
        let ending = format!("damaged-{}", Utc::now().format("%Y%m%dT%H%M%SZ"));
        let aside = with_ending(&file, &format!(".{ending}"));
        for end in ["-wal", "-shm"] {
            match std::fs::rename(with_ending(&file, end), with_ending(&aside, end)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(unavailable(error)),
                _ => {}
            }
        }
        std::fs::rename(&file, &aside).map_err(unavailable)?;
        Ok(aside.display().to_string())
    }

    async fn salvage(&self, from: &str) -> Result<Vec<String>> {
        salvage::salvage(&SqliteConnectOptions::from_str(&self.url)?, from).await
    }
}

impl Sqlite {
    /// Opens `sqlite:FILE` or `sqlite::memory:`, and creates or migrates its tables.
    pub async fn open(url: &str) -> Result<Self> {
        let until = Instant::now() + BUSY_TIMEOUT;
        loop {
            match Self::open_tables(url).await {
                // SQLite does not wait if another connection changes the journal mode of the file.
                Err(error) if error.fault == StoreFault::Locked && Instant::now() < until => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                opened => return opened.map_err(|error| does_not_open(url, &error)),
            }
        }
    }

    async fn open_tables(url: &str) -> Result<Self> {
        let memory = url == "sqlite::memory:";
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Group commits are rare enough to wait for the disk, so that decisions survive a power failure.
            .synchronous(SqliteSynchronous::Full)
            // Avoids temporary files.
            .pragma("temp_store", "MEMORY")
            .busy_timeout(BUSY_TIMEOUT);
        let pool =
            |options: SqlitePoolOptions| options.idle_timeout(None).max_lifetime(None).acquire_timeout(ACQUIRE_TIMEOUT);
        let writer = pool(SqlitePoolOptions::new()).max_connections(1).connect_with(options.clone()).await?;
        let version: i64 = sqlx::query("PRAGMA user_version").fetch_one(&writer).await?.get(0);
        if version > SCHEMA_VERSION {
            return Err(newer(version));
        }
        migrate(&writer, version).await?;
        // A database in memory exists only in its single connection.
        let readers = if memory {
            writer.clone()
        } else {
            pool(SqlitePoolOptions::new()).max_connections(4).connect_with(options.clone().read_only(true)).await?
        };
        let file = if memory { None } else { Some(place(&options)?) };
        Ok(Self { writer, readers, options, file })
    }

    /// Checks the header of the file itself. While there is a log, SQLite reads its copy of the first page instead, but
    /// a start after a crash needs the one in the file (<https://www.sqlite.org/fileformat.html#the_database_header>).
    fn has_header(&self) -> Result<()> {
        let Some((path, ..)) = &self.file else { return Ok(()) };
        let mut header = [0; HEADER.len()];
        let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut header));
        match read {
            Ok(()) if header == *HEADER => Ok(()),
            // The file is empty before the first checkpoint.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
            Ok(()) => {
                let message = format!("{}: the file is not an SQLite database", path.display());
                Err(StoreError { fault: StoreFault::Corrupt, message })
            }
            Err(error) => Err(StoreError::unavailable(error.to_string())),
        }
    }

    /// Reads through a new connection. A database in memory only has its single connection.
    async fn by_another_connection<T>(&self, read: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T>) -> Result<T> {
        if self.file.is_none() {
            return read(&mut *self.writer.acquire().await?).await;
        }
        let options = self.options.clone().create_if_missing(false).read_only(true);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let read = read(&mut connection).await;
        connection.close().await?;
        read
    }

    /// Writes through the single writing connection, which is closed after an error.
    async fn write<T>(&self, write: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T>) -> Result<T> {
        let mut connection = self.writer.acquire().await?;
        let done = write(&mut connection).await;
        if done.is_err() {
            connection.close_on_drop();
        }
        done
    }

    /// Opens `sqlite:FILE` for reading, even while an agent writes to it. No file is created.
    pub async fn open_to_read(url: &str) -> Result<Self> {
        let open = async || {
            let options = SqliteConnectOptions::from_str(url)?.read_only(true).busy_timeout(BUSY_TIMEOUT * 5);
            Self::open_tables_to_read(options).await
        };
        open().await.map_err(|error| does_not_open(url, &error))
    }

    /// Opens `sqlite:FILE` for reading when nothing can be written, not even the index of the log, which readers share
    /// and which is recreated after a clean shutdown (<https://www.sqlite.org/wal.html#read_only_databases>).
    async fn open_unwritable(url: &str) -> Result<Self> {
        let options = SqliteConnectOptions::from_str(url)?.busy_timeout(BUSY_TIMEOUT);
        let read_only = options.read_only(true);
        let log = std::fs::metadata(with_ending(read_only.get_filename(), "-wal"));
        // Without a log, all written data is in the file itself.
        let has_log = log.map_or_else(|error| error.kind() != ErrorKind::NotFound, |log| log.len() > 0);
        let opened = match Self::open_tables_to_read(read_only.clone()).await {
            Err(_) if !has_log => Self::open_tables_to_read(read_only.clone().immutable(true)).await,
            other => other,
        };
        let store = opened.map_err(|error| does_not_open(url, &error))?;
        Ok(Self { file: Some(place(&read_only)?), ..store })
    }

    async fn open_tables_to_read(options: SqliteConnectOptions) -> Result<Self> {
        let options = options.pragma("temp_store", "MEMORY");
        let readers = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let version: i64 = sqlx::query("PRAGMA user_version").fetch_one(&readers).await?.get(0);
        match version {
            SCHEMA_VERSION => Ok(Self { writer: readers.clone(), readers, options, file: None }),
            0 => Err(StoreError::refused("it was not written by wachta")),
            older if older < SCHEMA_VERSION => Err(StoreError::refused(
                "it was written by an older version of wachta; start the agent once to upgrade it",
            )),
            _ => Err(newer(version)),
        }
    }

    /// Closes the file. All written data is kept.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn count(&self, asked: &SlotCountQuery<'_>, before: i64) -> Result<Vec<SlotCount>> {
        // Answered from the index alone.
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
        let tally = |row: &SqliteRow| SlotCount {
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
        let rows = query.fetch_all(&self.readers).await?;
        Ok(readable(&rows, "an outcome", |row| body(row, 0)))
    }
}

fn with_ending(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Returns the file with its device and inode.
fn place(options: &SqliteConnectOptions) -> Result<(PathBuf, u64, u64)> {
    let path = options.get_filename().to_path_buf();
    let metadata = std::fs::metadata(&path).map_err(|e| StoreError::unavailable(e.to_string()))?;
    Ok((path, metadata.dev(), metadata.ino()))
}

fn newer(version: i64) -> StoreError {
    StoreError::refused(format!(
        "it was written by a newer version of wachta (tables {version}, known {SCHEMA_VERSION})"
    ))
}

fn does_not_open(url: &str, error: &StoreError) -> StoreError {
    StoreError { message: format!("cannot open {url}: {}", error.message), fault: error.fault }
}

/// Migrates the tables in one transaction that locks out others, because the migrator itself does not take an SQLite
/// lock, and two processes that open one new file would both create its tables. `version` is the current version of the
/// tables.
async fn migrate(pool: &SqlitePool, version: i64) -> Result<()> {
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
    let done = if version == SCHEMA_VERSION {
        // Only a comparison, without waiting for a lock.
        migrator.run_direct(None, &mut *pool.acquire().await?, false).await
    } else {
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        let done = migrator.run_direct(None, &mut *transaction, false).await;
        if done.is_ok() {
            transaction.commit().await?;
        }
        done
    };
    done.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMissing(version) => newer(version),
        other => StoreError::unavailable(format!("cannot upgrade the tables: {other}")),
    })
}

/// Reads rows one by one. A row that cannot be read is logged, identified by its first column, and skipped.
fn readable<T>(rows: &[SqliteRow], what: &str, read: impl Fn(&SqliteRow) -> Result<T>) -> Vec<T> {
    let read = |row: &SqliteRow| {
        read(row)
            .inspect_err(|error| {
                let key: String = row.try_get(0).unwrap_or_default();
                let key: String = key.chars().take(100).collect();
                tracing::error!(key, %error, "{what} cannot be read: skipped");
            })
            .ok()
    };
    rows.iter().filter_map(read).collect()
}

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// Parses the name of a verdict or reason.
fn word<T: DeserializeOwned>(name: &str) -> Result<T> {
    serde_json::from_value(name.into()).map_err(|e| StoreError::refused(format!("cannot read a row: {e}")))
}

fn body<T: DeserializeOwned>(row: &SqliteRow, column: usize) -> Result<T> {
    serde_json::from_str(row.try_get::<&str, _>(column)?)
        .map_err(|e| StoreError::refused(format!("cannot read a row: {e}")))
}

fn run_id(row: &SqliteRow) -> Result<RunId> {
    let text: &str = row.try_get(0)?;
    text.parse().map(RunId).map_err(|e| StoreError::refused(format!("cannot read the run id: {e}")))
}

fn seconds(seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|e| StoreError::refused(format!("cannot read a duration: {e}")))
}

/// Reads the latest check-ins of a heartbeat: last start, last end and its exit code, starting at a column.
fn check_in(row: &SqliteRow, from: usize) -> Result<CheckInState> {
    let code: Option<u8> = row.try_get(from + 2)?;
    let ended: Option<i64> = row.try_get(from + 1)?;
    Ok(CheckInState {
        started_at: row.try_get::<Option<i64>, _>(from)?.map(time),
        ended: ended.map(|at| CheckInEnd { at: time(at), code: code.unwrap_or(super::FAILED) }),
    })
}

/// Reads a notification with its delivery state: body, state, `done_at`, problem.
fn state(row: &SqliteRow) -> Result<NotificationRecord> {
    Ok(NotificationRecord {
        notification: body(row, 0)?,
        state: row.try_get(1)?,
        done_at: row.try_get::<Option<i64>, _>(2)?.map(time),
        problem: row.try_get(3)?,
    })
}

#[async_trait]
impl Runs for Sqlite {
    async fn commit(&self, batch: &Batch) -> Result<()> {
        self.write(async |connection| write::batch(connection, batch).await).await
    }

    async fn open_planned_runs(&self, location: &str) -> Result<Vec<PlannedRun>> {
        let rows = sqlx::query(
            "SELECT run, scenario, name, kind, due_at FROM planned_runs WHERE location = ? ORDER BY due_at",
        )
        .bind(location.to_owned())
        .fetch_all(&self.readers)
        .await?;
        Ok(readable(&rows, "a planned run", |row| {
            Ok(PlannedRun {
                run: run_id(row)?,
                scenario: row.try_get::<&str, _>(1)?.into(),
                name: row.try_get(2)?,
                kind: body(row, 3)?,
                location: location.to_owned(),
                due_at: time(row.try_get(4)?),
            })
        }))
    }

    async fn prune(&self, before: DateTime<Utc>) -> Result<Vec<RunId>> {
        self.write(async |connection| prune(connection, before).await).await
    }
}

/// Deletes old data, and returns the runs whose evidence is to be deleted as well.
async fn prune(connection: &mut SqliteConnection, before: DateTime<Utc>) -> Result<Vec<RunId>> {
    let mut tx = connection.begin().await?;
    // The last outcome of a scenario is kept, regardless of its age, because metrics and the page start with it.
    let rows = sqlx::query(
            "DELETE FROM outcomes WHERE ended_at < ?1 AND EXISTS
             (SELECT 1 FROM outcomes newer WHERE newer.scenario = outcomes.scenario AND newer.ended_at > outcomes.ended_at)
             RETURNING run",
        )
        .bind(micros(before))
        .fetch_all(&mut *tx)
        .await?;
    for query in [
        "DELETE FROM notifications WHERE state <> 'queued' AND incident IN (SELECT id FROM incidents WHERE resolved_at < ?)",
        "DELETE FROM incidents WHERE resolved_at < ? AND NOT EXISTS (SELECT 1 FROM notifications WHERE notifications.incident = incidents.id)",
        "DELETE FROM incident_changes WHERE at < ?",
        "DELETE FROM decisions WHERE last_at < ?",
        "DELETE FROM receiver_states WHERE kept_at < ?",
    ] {
        sqlx::query(query).bind(micros(before)).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(rows.iter().filter_map(|row| row.get::<&str, _>(0).parse().ok().map(RunId)).collect())
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

    async fn run_summaries(&self, limit: u32) -> Result<Vec<RunSummary>> {
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
        Ok(readable(&rows, "a run", |row| {
            Ok(RunSummary {
                run: run_id(row)?,
                scenario: row.try_get::<&str, _>(1)?.into(),
                ended_at: time(row.try_get(2)?),
                duration: seconds(row.try_get(5)?)?,
                verdict: word(row.try_get(3)?)?,
                reason: row.try_get::<Option<&str>, _>(4)?.map(word).transpose()?,
            })
        }))
    }

    async fn durations(&self, asked: &DurationQuery<'_>) -> Result<Vec<(DateTime<Utc>, std::time::Duration)>> {
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
        let rows = query.fetch_all(&self.readers).await?;
        Ok(readable(&rows, "a duration", |row| Ok((time(row.try_get(0)?), seconds(row.try_get(1)?)?))))
    }

    async fn slot_counts(&self, asked: &SlotCountQuery<'_>) -> Result<Vec<SlotCount>> {
        self.count(asked, i64::MAX).await
    }

    async fn run(&self, run: RunId) -> Result<Option<Outcome>> {
        Ok(self.outcomes("SELECT body FROM outcomes WHERE run = ?", &[&run.to_string()], None).await?.pop())
    }
}

#[async_trait]
impl Incidents for Sqlite {
    async fn alert_states(&self) -> Result<Vec<(Subject, Json)>> {
        let rows = sqlx::query("SELECT subject, body FROM alert_states").fetch_all(&self.readers).await?;
        Ok(readable(&rows, "the alerting state of a subject", |row| {
            Ok((Subject::from(row.try_get::<&str, _>(0)?), body(row, 1)?))
        }))
    }

    async fn alerting_entries(&self) -> Result<Vec<(String, Json)>> {
        let rows = sqlx::query("SELECT key, body FROM alerting_entries ORDER BY key").fetch_all(&self.readers).await?;
        Ok(readable(&rows, "an entry of alerting", |row| Ok((row.try_get(0)?, body(row, 1)?))))
    }

    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>> {
        let rows = sqlx::query("SELECT body FROM incidents ORDER BY resolved_at IS NOT NULL, opened_at DESC LIMIT ?")
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        Ok(readable(&rows, "an incident", |row| body(row, 0)))
    }

    async fn incident(&self, key: &str) -> Result<Option<Incident>> {
        let row = sqlx::query("SELECT body FROM incidents WHERE id = ?")
            .bind(key.to_owned())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(|row| body(row, 0)).transpose()
    }

    async fn decisions(&self, subject: &Subject, limit: u32) -> Result<Vec<DecisionRecord>> {
        let rows =
            sqlx::query("SELECT body, first_at, count FROM decisions WHERE subject = ? ORDER BY id DESC LIMIT ?")
                .bind(subject.to_string())
                .bind(limit)
                .fetch_all(&self.readers)
                .await?;
        Ok(readable(&rows, "a decision", |row| {
            Ok(DecisionRecord {
                decision: body::<Decision>(row, 0)?,
                first_at: time(row.try_get(1)?),
                count: row.try_get::<i64, _>(2)?.unsigned_abs(),
            })
        }))
    }
}

#[async_trait]
impl Outbox for Sqlite {
    async fn queued(&self, receiver: &str, limit: u32) -> Result<Vec<Notification>> {
        let rows = sqlx::query(
            "SELECT body, uncertain FROM notifications WHERE receiver = ? AND state = 'queued' ORDER BY seq LIMIT ?",
        )
        .bind(receiver.to_owned())
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        Ok(readable(&rows, "a queued notification", |row| {
            Ok(Notification { repeat: row.try_get::<i64, _>(1)? > 0, ..body(row, 0)? })
        }))
    }

    async fn receivers_with_queued(&self) -> Result<Vec<String>> {
        let rows = sqlx::query("SELECT DISTINCT receiver FROM notifications WHERE state = 'queued'")
            .fetch_all(&self.readers)
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn attempt_started(&self, notification: &str) -> Result<()> {
        let attempts = vec![(notification.to_owned(), AttemptChange::Started, Utc::now())];
        self.commit(&Batch { attempts, ..Batch::default() }).await
    }

    async fn attempt_finished(&self, notification: &str, delivery: &DeliveryStatus, at: DateTime<Utc>) -> Result<()> {
        let attempts = vec![(notification.to_owned(), AttemptChange::Finished(delivery.clone()), at)];
        self.commit(&Batch { attempts, ..Batch::default() }).await
    }

    async fn notifications(&self, incident: &str) -> Result<Vec<NotificationRecord>> {
        let rows =
            sqlx::query("SELECT body, state, done_at, problem FROM notifications WHERE incident = ? ORDER BY seq")
                .bind(incident.to_owned())
                .fetch_all(&self.readers)
                .await?;
        Ok(readable(&rows, "a notification", state))
    }

    async fn receiver_state(&self, receiver: &str, key: &str) -> Result<Option<Json>> {
        let row = sqlx::query("SELECT body FROM receiver_states WHERE receiver = ? AND key = ?")
            .bind(receiver.to_owned())
            .bind(key.to_owned())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(|row| body(row, 0)).transpose()
    }

    async fn receiver_states(&self, receiver: &str) -> Result<Vec<(String, Json)>> {
        let rows = sqlx::query("SELECT key, body FROM receiver_states WHERE receiver = ? ORDER BY key")
            .bind(receiver.to_owned())
            .fetch_all(&self.readers)
            .await?;
        Ok(readable(&rows, "the state of a receiver", |row| Ok((row.try_get(0)?, body(row, 1)?))))
    }

    async fn set_receiver_state(
        &self,
        receiver: &str,
        key: &str,
        receiver_state: Option<&Json>,
        at: DateTime<Utc>,
    ) -> Result<()> {
        let change = ReceiverStateChange {
            receiver: receiver.to_owned(),
            key: key.to_owned(),
            receiver_state: receiver_state.cloned(),
            at,
        };
        self.commit(&Batch { receiver_states: vec![change], ..Batch::default() }).await
    }
}

#[async_trait]
impl CheckIns for Sqlite {
    async fn check_in(&self, name: &str, beat: CheckIn, at: DateTime<Utc>) -> Result<()> {
        self.commit(&Batch { check_ins: vec![(name.to_owned(), beat, at)], ..Batch::default() }).await
    }

    async fn check_in_state(&self, name: &str) -> Result<Option<CheckInState>> {
        let row = sqlx::query("SELECT started_at, ended_at, code FROM check_ins WHERE name = ?")
            .bind(name.to_owned())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(|row| check_in(row, 0)).transpose()
    }
}

#[async_trait]
impl Archive for Sqlite {
    async fn outcomes_between(&self, page: &TimeRange, after: Option<&Outcome>) -> Result<Vec<Outcome>> {
        // The index by time contains the run as well, because it is the primary key, so that nothing has to be sorted.
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
        Ok(readable(&rows, "an outcome", |row| body(row, 0)))
    }

    async fn notifications_between(&self, page: &TimeRange, after: i64) -> Result<Vec<(i64, NotificationRecord)>> {
        let rows = sqlx::query(
            "SELECT body, state, done_at, problem, seq FROM notifications
             WHERE seq > ? AND queued_at BETWEEN ? AND ? ORDER BY seq LIMIT ?",
        )
        .bind(after)
        .bind(micros(page.since))
        .bind(micros(page.until))
        .bind(page.limit)
        .fetch_all(&self.readers)
        .await?;
        Ok(readable(&rows, "a notification", |row| Ok((row.try_get(4)?, state(row)?))))
    }

    async fn earliest_open_at(&self, at: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        let row = sqlx::query(
            "SELECT min(opened_at) FROM incidents
             WHERE opened_at < ?1 AND (resolved_at IS NULL OR resolved_at >= ?1)",
        )
        .bind(micros(at))
        .fetch_one(&self.readers)
        .await?;
        Ok(row.get::<Option<i64>, _>(0).map(time))
    }

    async fn slot_counts_before(&self, asked: &SlotCountQuery<'_>, before: DateTime<Utc>) -> Result<Vec<SlotCount>> {
        self.count(asked, micros(before)).await
    }
}

#[async_trait]
impl Positions for Sqlite {
    async fn numbered(&self, from: u64, to: u64, limit: u32) -> Result<Numbered> {
        let query = "SELECT body, seq, 0 FROM outcomes WHERE seq BETWEEN ?1 AND ?2
                     UNION ALL SELECT body, seq, 1 FROM incident_changes WHERE seq BETWEEN ?1 AND ?2
                     ORDER BY seq LIMIT ?3";
        let query = sqlx::query(query).bind(number(from)).bind(number(to)).bind(limit);
        let rows = query.fetch_all(&self.readers).await?;
        let last = rows.last().map(|row| row.try_get::<i64, _>(1)).transpose()?.map(i64::unsigned_abs);
        let through = if rows.len() < limit as usize { to } else { last.unwrap_or(to) };
        let records = readable(&rows, "an outcome or a change of an incident", |row| {
            Ok(match row.try_get::<i64, _>(2)? {
                0 => Recorded::Outcome(Arc::new(body(row, 0)?)),
                _ => Recorded::Change(Arc::new(body(row, 0)?)),
            })
        });
        Ok(Numbered { records, through })
    }

    async fn positions(&self) -> Result<BTreeMap<String, u64>> {
        let rows = sqlx::query("SELECT sink, seq FROM positions").fetch_all(&self.readers).await?;
        let position = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)?.unsigned_abs()));
        Ok(readable(&rows, "the position of a sink", position).into_iter().collect())
    }

    async fn last_seq(&self) -> Result<u64> {
        // The newest outcome is never pruned, but a store that replaced a damaged one only has positions.
        let query = "SELECT max(coalesce((SELECT max(seq) FROM outcomes WHERE seq IS NOT NULL), 0),
                     coalesce((SELECT max(seq) FROM incident_changes), 0),
                     coalesce((SELECT max(seq) FROM positions), 0))";
        Ok(sqlx::query(query).fetch_one(&self.readers).await?.try_get::<i64, _>(0)?.unsigned_abs())
    }

    async fn set_positions(&self, positions: BTreeMap<String, Option<u64>>) -> Result<()> {
        self.commit(&Batch { positions, ..Batch::default() }).await
    }
}

#[async_trait]
impl Database for Sqlite {
    async fn working_set(&self) -> Result<WorkingSet> {
        let id: String = sqlx::query("SELECT identity FROM store").fetch_one(&self.readers).await?.try_get(0)?;
        let rows = sqlx::query("SELECT key FROM unqualified_keys").fetch_all(&self.readers).await?;
        let unqualified = readable(&rows, "a key", |row| Ok(row.try_get(0)?)).into_iter().collect();
        let rows = sqlx::query("SELECT id, body, uncertain FROM notifications WHERE state = 'queued' ORDER BY seq")
            .fetch_all(&self.readers)
            .await?;
        let queued = readable(&rows, "a queued notification", |row| {
            let uncertainty = match row.try_get(2)? {
                0 => Uncertainty::None,
                1 => Uncertainty::Attempt,
                _ => Uncertainty::Earlier,
            };
            Ok((body(row, 1)?, uncertainty))
        });
        let rows =
            sqlx::query("SELECT receiver, key, body, kept_at FROM receiver_states").fetch_all(&self.readers).await?;
        let receiver_states = readable(&rows, "the state of a receiver", |row| {
            Ok((row.try_get(0)?, row.try_get(1)?, body(row, 2)?, time(row.try_get(3)?)))
        });
        let rows =
            sqlx::query("SELECT name, started_at, ended_at, code FROM check_ins").fetch_all(&self.readers).await?;
        let check_ins = readable(&rows, "a check-in", |row| Ok((row.try_get(0)?, check_in(row, 1)?)));
        let (positions, last_seq) = (self.positions().await?, self.last_seq().await?);
        Ok(WorkingSet {
            identity: Identity { id, unqualified },
            queued,
            receiver_states,
            check_ins,
            positions,
            last_seq,
        })
    }

    async fn check(&self) -> Result<()> {
        // An existing connection may have cached pages that are damaged on the disk.
        self.by_another_connection(async |connection| {
            for query in CHECKS {
                sqlx::query(query).fetch_optional(&mut *connection).await?;
            }
            Ok(())
        })
        .await
    }

    async fn last_commit(&self) -> Result<i64> {
        self.has_header()?;
        let query = "SELECT last_commit FROM store";
        self.by_another_connection(async |connection| Ok(sqlx::query(query).fetch_one(connection).await?.try_get(0)?))
            .await
    }

    fn is_in_place(&self) -> bool {
        let Some((path, device, inode)) = &self.file else { return true };
        std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (*device, *inode))
    }

    async fn close(&self) {
        Sqlite::close(self).await;
    }
}
