//! A PostgreSQL check: one query in a read-only transaction whose duration the server limits as well.

use percent_encoding::percent_decode_str;
use serde_json::Value as Json;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode, PgValueRef};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, TypeInfo as _, ValueRef as _};

use super::connection_plan::ConnectionPlan;
use super::context::{CheckContext, configuration, faster_than};
use super::relay::Relay;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::postgres::{PostgresCheck, trust_problem, url};
use crate::scenario::{Trust, check};
use crate::values::expect::Actual;
use crate::wire::{Stream, host, of_io, tls};

/// Runs the check.
pub async fn check(check: &PostgresCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let (value, took) = around.bounded(ask(check, around)).await?;
    let seen = match value {
        Json::Null => Actual::Nothing,
        value => Actual::One(value),
    };
    around.held(check.value.as_ref(), "the first value", &seen)?;
    faster_than(check.faster_than.as_ref(), took)
}

async fn ask(check: &PostgresCheck, around: &CheckContext<'_>) -> Result<Json, Failure> {
    let text = around.values.fill(&check.url)?;
    let url = url(&text).map_err(|problem| configuration("`postgres`", &check.url, &problem))?;
    nothing_of_the_environment(|name| std::env::var_os(name).is_some())
        .map_err(|failure| failure.at(check.url.span))?;
    let sql = match &check.sql {
        Some(sql) => around.values.fill(sql)?,
        None => "SELECT 1".to_owned(),
    };
    if let Some(problem) = check.connection.trust.as_ref().and_then(|trust| trust_problem(&url, trust)) {
        return Err(configuration("`postgres`", &check.url, problem));
    }
    let plan = ConnectionPlan::new(&check.connection, around)?;
    let host = check::host_of(&url).expect("checked when the URL was read");
    let opened = around.open(&plan.route(&host, url.port().unwrap_or(5432))).await;
    let Stream::Plain(stream) = opened.map_err(|refused| refused.failure)?.stream else {
        unreachable!("the client library starts TLS")
    };
    let relay = Relay::open()?;
    let options = options(&url, &host, check.connection.trust.as_ref(), around)?;
    let options = options.socket(relay.folder()).port(super::relay::PORT);
    // The relay ends before the conversation only on an error, or when either side has closed the connection.
    let relayed = relay.run(stream);
    // The future of the client library is large, and the future of a check is moved several times.
    let mut talk = Box::pin(talk(options, &sql, around));
    tokio::pin!(relayed);
    tokio::select! {
        biased;
        value = &mut talk => value,
        ended = &mut relayed => match ended {
            Err(failure) => Err(failure),
            Ok(()) => talk.await,
        },
    }
}

/// Opens the connection and runs the query.
async fn talk(options: PgConnectOptions, sql: &str, around: &CheckContext<'_>) -> Result<Json, Failure> {
    let mut connection: PgConnection = options.connect().await.map_err(|error| failure(&error))?;
    let limit = format!("SET LOCAL statement_timeout = {}", around.timeout.as_millis().max(1));
    let query = async || {
        let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
        sqlx::query(sqlx::AssertSqlSafe(limit)).persistent(false).execute(&mut *transaction).await?;
        // The extended protocol allows only one statement, so a statement that ends the transaction also ends the
        // check.
        let row = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
            .persistent(false)
            .fetch_optional(&mut *transaction)
            .await?;
        let value = row.as_ref().map(first).transpose();
        transaction.rollback().await?;
        Ok(value)
    };
    let value = query().await.map_err(|error: sqlx::Error| failure(&error))?;
    // The result is complete, so an error while closing the connection does not matter.
    let _ = connection.close().await;
    value.map(Option::unwrap_or_default)
}

/// Environment variables that the client library always reads: certificates and options of the agent that the scenario
/// may not use.
const TAKEN: [&str; 4] = ["PGOPTIONS", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"];

fn nothing_of_the_environment(is_set: impl Fn(&str) -> bool) -> Result<(), Failure> {
    match TAKEN.iter().find(|name| is_set(name)) {
        Some(name) => {
            let text =
                format!("the environment variable `{name}` must not be set for checks; start the agent without it");
            Err(Failure::new(Reason::Configuration, text))
        }
        None => Ok(()),
    }
}

/// Creates connection options that use nothing from the agent's environment, `.pgpass` included.
fn options(
    url: &url::Url,
    host: &str,
    trust: Option<&Trust>,
    around: &CheckContext<'_>,
) -> Result<PgConnectOptions, Failure> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = decoded(url.username());
    let password = decoded(url.password().unwrap_or_default());
    around.hide(&password);
    let database = decoded(url.path().trim_start_matches('/'));
    let mode = url.query_pairs().find(|(key, _)| key == "sslmode").map(|(_, value)| value.into_owned());
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&host::ascii(host)?)
        .port(url.port().unwrap_or(5432))
        .database(if database.is_empty() { &user } else { &database })
        .username(&user)
        .password(&password)
        .application_name("wachta")
        .ssl_mode(match mode.as_deref() {
            Some("disable") => PgSslMode::Disable,
            Some("require") => PgSslMode::Require,
            Some("verify-ca") => PgSslMode::VerifyCa,
            Some("verify-full") => PgSslMode::VerifyFull,
            _ => PgSslMode::Prefer,
        })
        .statement_cache_capacity(0)
        .disable_statement_logging();
    if let Some(trust) = trust {
        if let Some(ca) = &trust.ca {
            options = options.ssl_root_cert_from_pem(around.values.file(&ca.value)?);
        }
        if let Some((certificate, key)) = &trust.identity {
            let (certificate, key) = (around.values.file(&certificate.value)?, around.values.file(&key.value)?);
            options = options.ssl_client_cert_from_pem(certificate).ssl_client_key_from_pem(key);
        }
    }
    Ok(options)
}

/// Returns the failure for an error of the client library.
fn failure(error: &sqlx::Error) -> Failure {
    if let Some(error) = tls::rustls_error(error) {
        return tls::failure(error);
    }
    match error {
        sqlx::Error::Database(problem) => {
            Failure::new(Reason::Assertion, format!("the server returned an error: {}", problem.message()))
        }
        sqlx::Error::Io(problem) => match problem.kind() {
            std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::HostUnreachable
            | std::io::ErrorKind::NetworkUnreachable
            | std::io::ErrorKind::TimedOut => Failure::new(Reason::Connect, format!("no connection: {problem}")),
            _ => super::connection::broken(problem),
        },
        sqlx::Error::Tls(problem) => Failure::new(Reason::Tls, format!("no TLS: {problem}")),
        other => of_io(other, Reason::Protocol, other.to_string()),
    }
}

/// Returns the first column of a row.
fn first(row: &PgRow) -> Result<Json, Failure> {
    if row.is_empty() {
        return Ok(Json::Null);
    }
    let value = row.try_get_raw(0).map_err(|error| failure(&error))?;
    if value.is_null() {
        return Ok(Json::Null);
    }
    let name = value.type_info().name().to_owned();
    json(&name, &value).ok_or_else(|| {
        let message = format!("the first value has the unsupported type {name}; cast it: `…::text`");
        Failure::new(Reason::Configuration, message)
    })
}

/// Converts a value in binary format to JSON.
fn json(kind: &str, value: &PgValueRef<'_>) -> Option<Json> {
    let bytes = value.as_bytes().ok()?;
    Some(match kind {
        "BOOL" => (bytes.first()? != &0).into(),
        "INT2" => i16::from_be_bytes(bytes.try_into().ok()?).into(),
        "INT4" => i32::from_be_bytes(bytes.try_into().ok()?).into(),
        "INT8" => i64::from_be_bytes(bytes.try_into().ok()?).into(),
        "OID" => u32::from_be_bytes(bytes.try_into().ok()?).into(),
        "FLOAT4" => f32::from_be_bytes(bytes.try_into().ok()?).into(),
        "FLOAT8" => f64::from_be_bytes(bytes.try_into().ok()?).into(),
        "NUMERIC" => number(bytes)?,
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "BPCHAR" => std::str::from_utf8(bytes).ok()?.into(),
        "JSON" => serde_json::from_slice(bytes).ok()?,
        // A version byte precedes the content.
        "JSONB" => serde_json::from_slice(bytes.get(1..)?).ok()?,
        "UUID" => uuid::Uuid::from_slice(bytes).ok()?.to_string().into(),
        "TIMESTAMPTZ" | "TIMESTAMP" => {
            // The value is in microseconds since 2000.
            let micros = i64::from_be_bytes(bytes.try_into().ok()?).checked_add(946_684_800_000_000)?;
            let at = chrono::DateTime::from_timestamp_micros(micros)?;
            let zone = kind == "TIMESTAMPTZ";
            if zone { at.to_rfc3339() } else { at.naive_utc().format("%FT%T%.f").to_string() }.into()
        }
        "DATE" => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?).checked_add(10_957)?;
            chrono::DateTime::from_timestamp(i64::from(days) * 86_400, 0)?.format("%F").to_string().into()
        }
        _ => return None,
    })
}

/// Decodes a `numeric` value: digits in base 10000 with the position of the decimal point.
fn number(bytes: &[u8]) -> Option<Json> {
    let word = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (count, sign) = (usize::from(word(0)?), word(4)?);
    let weight = i32::from(word(2)?.cast_signed());
    if sign != 0 && sign != 0x4000 {
        return Some(Json::Null); // Not a number, or without end.
    }
    let scale = usize::from(word(6)?);
    let mut whole = String::new();
    let mut fraction = String::new();
    for at in 0..count {
        let digits = format!("{:04}", word(8 + 2 * at)?);
        if i32::try_from(at).ok()? <= weight { whole.push_str(&digits) } else { fraction.push_str(&digits) }
    }
    // Groups of zeros are omitted on both sides of the decimal point.
    let groups = usize::try_from(weight + 1).unwrap_or(0);
    whole.extend(std::iter::repeat_n('0', (groups.saturating_sub(count.min(groups))) * 4));
    let skipped = usize::try_from(-weight - 1).unwrap_or(0);
    let mut fraction = format!("{}{fraction}", "0".repeat(skipped * 4));
    fraction.truncate(scale);
    fraction.extend(std::iter::repeat_n('0', scale.saturating_sub(fraction.len())));
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let sign = if sign == 0 { "" } else { "-" };
    let text = if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numerics_are_numbers() {
        let check = |words: &[u16], expected: Json| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(number(&bytes), Some(expected), "{words:?}");
        };
        check(&[0, 0, 0, 0], json!(0));
        check(&[1, 0, 0, 0, 42], json!(42));
        check(&[2, 1, 0, 0, 1, 5000], json!(15000));
        let exact = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        check(&[3, 1, 0, 4, 90, 719, 9254], exact("900719.9254"));
        check(&[5, 4, 0, 0, 1, 8446, 7440, 7370, 9551], exact("18446744073709551"));
        check(&[1, 1, 0, 0, 3], json!(30000));
        check(&[2, 0, 0x4000, 2, 1, 2500], json!(-1.25));
        check(&[1, 0xffff, 0, 4, 25], json!(0.0025));
        check(&[0, 0, 0xc000, 0], Json::Null);
        assert_eq!(number(&[0, 5, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_check_gets_nothing_of_the_agents_environment() {
        for (name, refused) in [
            ("PGOPTIONS", true),
            ("PGSSLROOTCERT", true),
            ("PGSSLCERT", true),
            ("PGSSLKEY", true),
            // Variables that the check sets itself.
            ("PGPASSWORD", false),
            ("PGHOST", false),
            ("PGUSER", false),
            ("PATH", false),
        ] {
            let checked = nothing_of_the_environment(|set| set == name);
            assert_eq!(checked.is_err(), refused, "{name}");
        }
    }
}
