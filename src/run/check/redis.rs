//! A Redis check: connects, authenticates, selects the database and sends one command.

use percent_encoding::percent_decode_str;
use serde_json::Value as Json;
use tokio::io::{AsyncWriteExt as _, BufReader};

use super::connection::broken;
use super::connection_plan::ConnectionPlan;
use super::context::{CheckContext, configuration, faster_than};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check;
use crate::scenario::check::redis::{NEEDS_TLS, RedisCheck, url};
use crate::values::expect::{Actual, cut};
use crate::wire::AlpnOffer;
use crate::wire::resp::{self, RespReply};

/// Runs the check.
pub async fn check(check: &RedisCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let (value, took) = around.bounded(ask(check, around)).await?;
    let seen = match value {
        Json::Null => Actual::Nothing,
        value => Actual::One(value),
    };
    around.held(check.value.as_ref(), "the response", &seen)?;
    faster_than(check.faster_than.as_ref(), took)
}

async fn ask(check: &RedisCheck, around: &CheckContext<'_>) -> Result<Json, Failure> {
    let text = around.values.fill(&check.url)?;
    let url = url(&text).map_err(|problem| configuration("`redis`", &check.url, &problem))?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let is_secure = url.scheme() == "rediss";
    if check.connection.trust.is_some() && !is_secure {
        return Err(configuration("`redis`", &check.url, &format!("`trust` {NEEDS_TLS}")));
    }
    let plan = ConnectionPlan::new(&check.connection, around)?;
    let mut commands = Vec::new();
    if let Some(password) = url.password().map(decoded) {
        around.hide(&password);
        let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
        commands.push(["AUTH".to_owned()].into_iter().chain(user).chain([password]).collect());
    }
    let database = url.path().trim_start_matches('/');
    if !database.is_empty() && database != "0" {
        commands.push(vec!["SELECT".to_owned(), database.to_owned()]);
    }
    let mut last = check.command.iter().map(|word| around.values.fill(word)).collect::<Result<Vec<_>, _>>()?;
    if last.is_empty() {
        last.push("PING".to_owned());
    }
    commands.push(last);

    let host = check::host_of(&url).expect("checked when the URL was read");
    let port = url.port().unwrap_or(6379);
    let route = if is_secure { plan.tls_route(&host, port, AlpnOffer::Nothing) } else { plan.route(&host, port) };
    let opened = around.open(&route).await;
    let mut stream = BufReader::new(opened.map_err(|refused| refused.failure)?.stream);
    let mut value = Json::Null;
    for words in commands {
        stream.write_all(&resp::command(&words)).await.map_err(|e| broken(&e))?;
        stream.flush().await.map_err(|e| broken(&e))?;
        value = match resp::answer(&mut stream).await {
            Ok(RespReply::Value(value)) => value,
            Ok(RespReply::Error(error)) => {
                let message = format!("the server rejected `{}`", cut(&words[0], 40));
                return Err(Failure::new(Reason::Assertion, message).compared("a response", cut(&error, 200)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                return Err(Failure::new(Reason::TooLarge, error.to_string()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(Failure::new(Reason::Protocol, error.to_string()));
            }
            Err(error) => return Err(broken(&error)),
        };
    }
    Ok(value)
}
