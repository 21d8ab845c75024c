//! What a damaged database still holds is taken over by the new one that is made in its place.
//!
//! Only what alerting and deliveries go on from is taken: outcomes and decisions stay in the file that was set aside.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

use super::Result;

/// The tables that are taken over, each with the columns of its primary key.
const TABLES: [(&str, &str); 9] = [
    ("unqualified_keys", "key"),
    ("watches", "subject"),
    ("memory", "key"),
    ("incidents", "id"),
    ("notices", "seq"),
    ("memos", "receiver, key"),
    ("beats", "name"),
    ("positions", "sink"),
    ("intents", "run"),
];
/// How many rows are copied at once while nothing is damaged.
const STEP: u64 = 1 << 20;

/// Copies what can be read from the damaged file into an open database that has its tables. Returns the names of those
/// tables that were not read to their end.
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
    for (table, key) in TABLES {
        if !copy_table(connection, table, key).await {
            incomplete.push(table.to_owned());
        }
    }
    Ok(incomplete)
}

/// Copies a table from its beginning as far as it can be read, and then from its end. Returns whether that was all of it.
async fn copy_table(connection: &mut SqliteConnection, table: &str, key: &str) -> bool {
    // A file of an older version has fewer columns.
    let shared = "SELECT group_concat(name, ', ') FROM pragma_table_info(?1, 'damaged')
                  WHERE name IN (SELECT name FROM pragma_table_info(?1, 'main'))";
    let columns = sqlx::query(shared).bind(table.to_owned()).fetch_one(&mut *connection).await;
    let Ok(Some(columns)) = columns.and_then(|row| row.try_get::<Option<String>, _>(0)) else { return false };
    let descending = key.replace(", ", " DESC, ") + " DESC";
    for order in [key, &descending] {
        let (mut copied, mut step) = (0, STEP);
        while step > 0 {
            let query = format!(
                "INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {columns} FROM damaged.{table}
                 ORDER BY {order} LIMIT {step} OFFSET {copied}"
            );
            match sqlx::query(AssertSqlSafe(query)).execute(&mut *connection).await {
                // Those of the way from the beginning are all new: fewer than asked for are the last ones.
                Ok(done) if order == key && done.rows_affected() < step => return true,
                Ok(_) => copied += step,
                Err(_) => step /= 2,
            }
        }
    }
    false
}
