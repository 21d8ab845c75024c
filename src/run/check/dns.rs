//! A DNS check: one query to one server, over UDP, TCP, TLS or HTTPS.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::Value as Json;

use super::connection::broken;
use super::connection_plan::ConnectionPlan;
use super::context::{CheckContext, configuration, faster_than};
use crate::names::Reason;
use crate::outcome::{Failure, RunId};
use crate::scenario::check::dns::{DnsCheck, NEEDS_TLS, RecordType, Server};
use crate::values::expect::{Actual, ResolvedMatcher};
use crate::wire::AlpnOffer;
use crate::wire::dns::{self, DnsResponse};
use crate::wire::host;
use crate::wire::udp::PacketSocket;

/// Time to wait for a response before the query is sent again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Runs the check.
pub async fn check(check: &DnsCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let (answer, took) = around.bounded(ask(check, around)).await?;
    match &check.rcode {
        Some(_) => around.held(check.rcode.as_ref(), "the response code", &Actual::text(&answer.rcode))?,
        None if answer.rcode != "NOERROR" => {
            let failure = Failure::new(Reason::Dns, "the name did not resolve");
            return Err(failure.compared("NOERROR", answer.rcode).at(check.name.span));
        }
        None => {}
    }
    match &check.answer {
        Some(expected) => {
            let filled =
                ResolvedMatcher::new(&expected.matcher, around.values).map_err(|failure| failure.at(expected.span))?;
            if !holds(&filled, &answer.records) {
                let seen =
                    if answer.records.is_empty() { "nothing".to_owned() } else { list(&answer.records).to_string() };
                let failure = Failure::new(Reason::Assertion, format!("the {} records", check.record.as_str()));
                return Err(failure.compared(filled.show(), seen).at(expected.span));
            }
        }
        None if answer.records.is_empty() && check.rcode.is_none() => {
            let failure = Failure::new(Reason::Dns, format!("the name has no {} records", check.record.as_str()));
            return Err(failure.at(check.name.span));
        }
        None => {}
    }
    if let Some(wanted) = &check.dnssec
        && wanted.value != answer.verified
    {
        let word = |verified| if verified { "verified (AD)" } else { "not verified" };
        let failure = Failure::new(Reason::Assertion, "DNSSEC validation reported by the server");
        return Err(failure.compared(word(wanted.value), word(answer.verified)).at(wanted.span));
    }
    faster_than(check.faster_than.as_ref(), took)
}

/// Checks the answers against the expectation, regardless of their order. A text condition must hold for every answer,
/// `contains` for at least one, and a list must match all of them.
fn holds(filled: &ResolvedMatcher, answers: &[String]) -> bool {
    match filled {
        ResolvedMatcher::Not(inner) => !holds(inner, answers),
        ResolvedMatcher::Count(_) => {
            filled.holds(&Actual::Many(answers.iter().map(|one| Json::from(one.as_str())).collect()))
        }
        ResolvedMatcher::Exists(wanted) => answers.is_empty() != *wanted,
        ResolvedMatcher::Equals(Json::Array(expected)) => {
            let mut expected: Vec<_> = expected.iter().filter_map(Json::as_str).map(normal).collect();
            let mut seen: Vec<_> = answers.iter().map(|one| normal(one)).collect();
            expected.sort_unstable();
            seen.sort_unstable();
            expected == seen
        }
        ResolvedMatcher::Contains(_) => answers.iter().any(|one| one_holds(filled, one)),
        _ => !answers.is_empty() && answers.iter().all(|one| one_holds(filled, one)),
    }
}

fn one_holds(filled: &ResolvedMatcher, answer: &str) -> bool {
    match filled {
        ResolvedMatcher::Equals(Json::String(expected)) => normal(expected) == normal(answer),
        ResolvedMatcher::OneOf(expected) => {
            expected.iter().filter_map(Json::as_str).any(|one| normal(one) == normal(answer))
        }
        _ => filled.holds(&Actual::text(answer)),
    }
}

/// Normalizes a name for comparison: lower case, without the dot at the end.
fn normal(text: &str) -> String {
    text.strip_suffix('.').filter(|rest| !rest.is_empty() && !rest.ends_with(' ')).unwrap_or(text).to_ascii_lowercase()
}

fn list(records: &[String]) -> Json {
    Json::Array(records.iter().map(|one| Json::from(one.as_str())).collect())
}

async fn ask(check: &DnsCheck, around: &CheckContext<'_>) -> Result<DnsResponse, Failure> {
    let plan = ConnectionPlan::new(&check.connection, around)?;
    let name = around.values.fill(&check.name)?;
    let name = if check.record == RecordType::Ptr { dns::reverse_name(&name) } else { name };
    let server = match &check.server {
        Some(server) => {
            let text = around.values.fill(server)?;
            let problem = |problem: &str| configuration("`server`", server, problem);
            let parsed = Server::parse(&text).map_err(|error| problem(&error))?;
            if let Some(key) = parsed.unusable(&check.connection) {
                return Err(problem(&format!("`{key}` {NEEDS_TLS}")));
            }
            parsed
        }
        None => system_server()?,
    };
    let bytes = RunId::new().0.into_bytes();
    // RFC 8484, section 4.1: with an id of 0, HTTP caches can store the responses.
    let id = if matches!(server, Server::Https(_)) { 0 } else { u16::from_be_bytes([bytes[14], bytes[15]]) };
    let ascii = host::ascii(&name).map_err(|failure| failure.at(check.name.span))?;
    let query = dns::query(id, &ascii, check.record)
        .ok_or_else(|| configuration("`dns`", &check.name, &format!("`{name}` is not a domain name")))?;
    let wrong = || Failure::new(Reason::Protocol, "the response does not match the query");
    let read = |bytes: &[u8]| dns::answer(bytes, &query, check.record);
    let opened = match &server {
        Server::Plain(host, port) => {
            let dial = plan.dial_options(*port);
            let answer = around.first(host, *port, &dial, |address| over_udp(address, &query, read)).await?;
            if !answer.truncated {
                return Ok(answer);
            }
            around.open(&plan.route(host, *port)).await
        }
        Server::Tls(host, port) => around.open(&plan.tls_route(host, *port, AlpnOffer::Nothing)).await,
        Server::Https(url) => {
            return read(&over_https(&plan, url, query.clone(), around).await?).ok_or_else(wrong);
        }
    };
    let mut stream = opened.map_err(|refused| refused.failure)?.stream;
    read(&dns::over_stream(&mut stream, &query).await.map_err(|error| broken(&error))?).ok_or_else(wrong)
}

fn system_server() -> Result<Server, Failure> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let first = text.lines().filter_map(|line| line.strip_prefix("nameserver")).map(str::trim).next();
    first.and_then(|address| Server::parse(address).ok()).ok_or_else(|| {
        Failure::new(Reason::Configuration, "this machine has no name server in /etc/resolv.conf; write `server:`")
    })
}

/// Sends the query until a response arrives. Responses to other queries are ignored.
async fn over_udp(
    address: SocketAddr,
    query: &[u8],
    read: impl Fn(&[u8]) -> Option<DnsResponse>,
) -> Result<DnsResponse, Failure> {
    let socket = PacketSocket::connect(address, None).await?;
    // The buffer is on the heap, because the future of a check is moved several times.
    dns::over_udp(&socket, query, Some(RETRY_AFTER), &mut vec![0; 4096], read).await
}

async fn over_https(
    plan: &ConnectionPlan,
    url: &url::Url,
    query: Vec<u8>,
    around: &CheckContext<'_>,
) -> Result<Vec<u8>, Failure> {
    let kind = "application/dns-message";
    let request = hyper::Request::post("/")
        .header("content-type", kind)
        .header("accept", kind)
        .header("user-agent", concat!("wachta/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(query)))
        .expect("every part of it is fixed");
    let (head, body) = around.fetch_over(plan, url, request, usize::from(u16::MAX)).await?;
    if head.status != 200 {
        let failure = Failure::new(Reason::Status, "the server rejected the query");
        return Err(failure.compared("status 200", head.status.as_str()));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_compared_in_any_order() {
        let check = |filled: ResolvedMatcher, answers: &[&str], expected: bool| {
            let answers: Vec<_> = answers.iter().map(ToString::to_string).collect();
            assert_eq!(holds(&filled, &answers), expected, "{} {answers:?}", filled.show());
        };
        let one = || ResolvedMatcher::Equals(json!("A.example."));
        check(one(), &["a.example"], true);
        check(one(), &["a.example", "a.example"], true);
        check(one(), &["a.example", "b.example"], false);
        check(one(), &[], false);
        let all = || ResolvedMatcher::Equals(json!(["1.1.1.1", "1.0.0.1"]));
        check(all(), &["1.0.0.1", "1.1.1.1"], true);
        check(all(), &["1.0.0.1"], false);
        check(ResolvedMatcher::Contains("1.0.0".into()), &["1.1.1.1", "1.0.0.1"], true);
        check(ResolvedMatcher::Not(Box::new(ResolvedMatcher::Contains("9".into()))), &["1.1.1.1"], true);
        check(ResolvedMatcher::OneOf(vec![json!("1.1.1.1"), json!("1.0.0.1")]), &["1.0.0.1"], true);
        check(ResolvedMatcher::OneOf(vec![json!("1.1.1.1")]), &["1.1.1.1", "6.6.6.6"], false);
        check(ResolvedMatcher::Count(Box::new(ResolvedMatcher::Equals(json!(2)))), &["a", "b"], true);
        check(ResolvedMatcher::Exists(false), &[], true);
        check(ResolvedMatcher::Exists(true), &[], false);
        assert_eq!(normal("0 ."), "0 .");
    }
}
