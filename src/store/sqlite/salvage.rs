//! Recovery of the readable contents of a damaged database into its replacement.
//!
//! Only the data that alerting and deliveries depend on is copied. Outcomes and decisions stay in the file that was set
//! aside.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use crate::store::Result;

/// Tables to copy: name, columns of the primary key, and the name before version 5.
const TABLES: [(&str, &str, &str); 9] = [
    ("unqualified_keys", "key", "unqualified_keys"),
    ("alert_states", "subject", "watches"),
    ("alerting_entries", "key", "memory"),
    ("incidents", "id", "incidents"),
    ("notifications", "seq", "notices"),
    ("receiver_states", "receiver, key", "memos"),
    ("check_ins", "name", "beats"),
    ("positions", "sink", "positions"),
    ("planned_runs", "run", "intents"),
];
/// Columns of damaged files before version 5, with their present names.
const FORMER_COLUMNS: [(&str, &str); 1] = [("owed_at", "queued_at")];
/// Number of rows copied at once while no damage was found.
const STEP: u64 = 1 << 20;

/// Copies everything readable from the damaged file into an open database that has its tables. Returns the names of the
/// tables that could not be read completely.
pub(super) async fn salvage(options: &SqliteConnectOptions, damaged: &str) -> Result<Vec<String>> {
    let mut connection = SqliteConnection::connect_with(options).await?;
    let done = copy(&mut connection, damaged).await;
    connection.close().await?;
    done
}

async fn copy(connection: &mut SqliteConnection, damaged: &str) -> Result<Vec<String>> {
    sqlx::query("ATTACH DATABASE ? AS damaged").bind(damaged.to_owned()).execute(&mut *connection).await?;
    let mut incomplete = Vec::new();
    let identity = "UPDATE main.store SET identity = (SELECT identity FROM damaged.store)";
    if sqlx::query(identity).execute(&mut *connection).await.is_err() {
        incomplete.push("store".to_owned());
    }
    let version: i64 = sqlx::query_scalar("PRAGMA damaged.user_version").fetch_one(&mut *connection).await.unwrap_or(0);
    for (table, key, former) in TABLES {
        let source = if (1..5).contains(&version) { former } else { table };
        if !copy_table(connection, table, key, source).await {
            incomplete.push(table.to_owned());
        }
    }
    Ok(incomplete)
}

/// Copies the readable rows of a table, from its start up to the first damage and then from its end. Returns whether
/// all rows were copied.
async fn copy_table(connection: &mut SqliteConnection, table: &str, key: &str, source: &str) -> bool {
    // A file of an older version has fewer columns.
    let present = "SELECT name FROM pragma_table_info(?1, 'damaged')";
    let wanted = "SELECT name FROM pragma_table_info(?1, 'main')";
    let Ok(present) = sqlx::query_scalar::<_, String>(present).bind(source).fetch_all(&mut *connection).await else {
        return false;
    };
    let Ok(wanted) = sqlx::query_scalar::<_, String>(wanted).bind(table).fetch_all(&mut *connection).await else {
        return false;
    };
    let now = |name: &str| {
        FORMER_COLUMNS.iter().find(|(was, _)| *was == name).map_or(name.to_owned(), |(_, is)| (*is).to_owned())
    };
    let shared: Vec<(String, String)> =
        present.into_iter().map(|was| (now(&was), was)).filter(|(is, _)| wanted.contains(is)).collect();
    if shared.is_empty() {
        return false;
    }
    // Queued notifications had the state `owed` before version 5.
    let read = |(_, was): &(String, String)| match (source, was.as_str()) {
        ("notices", "state") => "replace(state, 'owed', 'queued')".to_owned(),
        _ => was.clone(),
    };
    let columns = shared.iter().map(|(is, _)| is.as_str()).collect::<Vec<_>>().join(", ");
    let values = shared.iter().map(read).collect::<Vec<_>>().join(", ");
    let descending = key.replace(", ", " DESC, ") + " DESC";
    for order in [key, &descending] {
        let (mut copied, mut step) = (0, STEP);
        while step > 0 {
            let query = format!(
                "INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {values} FROM damaged.{source}
                 ORDER BY {order} LIMIT {step} OFFSET {copied}"
            );
            match sqlx::query(AssertSqlSafe(query)).execute(&mut *connection).await {
                // All rows copied from the start are new, so that fewer than requested means that the end was reached.
                Ok(done) if order == key && done.rows_affected() < step => return true,
                Ok(_) => copied += step,
                Err(_) => step /= 2,
            }
        }
    }
    false
}
