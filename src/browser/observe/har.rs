//! HAR 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>). Custom fields begin with `_`; `_resourceType`,
//! `_initiator` and `_fromCache` are those of Chromium's developer tools.
//!
//! Bodies of responses, addresses of servers and ids of connections are deliberately absent, because `WebDriver BiDi`
//! does not provide them.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value as Json, json};

use super::documents::{Document, Documents};
use super::traffic::{Exchange, Traffic};
use crate::outcome::BrowserResult;
use crate::secret::{MASK, Masker};

/// Headers whose values grant access and are never shown; parts of names in lower case.
const HIDDEN: [&str; 8] = ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey", "session"];

pub(super) fn render(documents: &Documents, traffic: &Traffic, browser: &BrowserResult, masker: &Masker) -> Json {
    let mut exchanges: Vec<&Exchange> = traffic.all().iter().collect();
    exchanges.sort_by(|a, b| a.started.total_cmp(&b.started));
    let all = documents.all();
    let has_entry = |index: usize| exchanges.iter().any(|exchange| exchange.document == Some(index));
    let pages: Vec<Json> = all.iter().enumerate().filter(|(index, _)| has_entry(*index)).map(page).collect();
    let entries: Vec<Json> = exchanges.iter().map(|exchange| entry(exchange)).collect();
    let mut log = json!({
        "version": "1.2",
        "creator": {"name": "wachta", "version": env!("CARGO_PKG_VERSION")},
        "browser": {"name": browser.engine.as_str(), "version": browser.version},
        "pages": pages,
        "entries": entries,
    });
    if traffic.dropped() > 0 {
        log["comment"] = format!("{} events of further requests were not stored", traffic.dropped()).into();
    }
    let mut har = json!({"log": log});
    mask(&mut har, masker);
    har
}

fn page((index, document): (usize, &Document)) -> Json {
    let since = |at: Option<f64>| at.map(|at| millis((at - document.started).max(0.0)));
    // Measurements by the page itself are more precise than the arrival of an event.
    let measured =
        |seconds: Option<f64>, at: Option<f64>| seconds.map(|seconds| millis(seconds * 1000.0)).or(since(at));
    json!({
        "startedDateTime": date(document.started),
        "id": format!("page_{}", index + 1),
        "title": document.url,
        "pageTimings": {
            "onContentLoad": or_unknown(measured(document.timing.interactive, document.content_loaded)),
            "onLoad": or_unknown(measured(document.timing.loaded, document.loaded)),
        },
        "_step": document.step,
    })
}

fn entry(exchange: &Exchange) -> Json {
    let timings = &exchange.timings;
    let part = |part: Option<f64>| or_unknown(part.map(millis));
    let time: f64 = [timings.blocked, timings.dns, timings.connect, timings.wait, timings.receive]
        .into_iter()
        .flatten()
        .map(millis)
        .fold(0.0, |sum, part| sum + part);
    let mut entry = json!({
        "startedDateTime": date(exchange.started),
        "time": millis(time),
        "request": request(exchange),
        "response": response(exchange),
        "cache": {},
        "timings": {
            "blocked": part(timings.blocked),
            "dns": part(timings.dns),
            "connect": part(timings.connect),
            "ssl": part(timings.tls),
            // Neither engine reports when the last byte was sent, but these three fields are required.
            "send": 0,
            "wait": millis(timings.wait.unwrap_or(0.0)),
            "receive": millis(timings.receive.unwrap_or(0.0)),
        },
        "_resourceType": exchange.resource,
        "_initiator": exchange.initiator,
        "_step": exchange.step,
    });
    if let Some(document) = exchange.document {
        entry["pageref"] = format!("page_{}", document + 1).into();
    }
    if exchange.response.as_ref().is_some_and(|response| response.from_cache) {
        entry["_fromCache"] = true.into();
    }
    if let Some(error) = &exchange.error {
        entry["_error"] = error.as_str().into();
    } else if !exchange.done {
        entry["_error"] = "still under way when the run ended".into();
    }
    entry
}

fn request(exchange: &Exchange) -> Json {
    let query = url::Url::parse(&exchange.url).map_or_else(
        |_| Vec::new(),
        |url| url.query_pairs().map(|(name, value)| json!({"name": name, "value": value})).collect(),
    );
    let cookies: Vec<Json> = exchange.cookies.iter().map(|name| json!({"name": name, "value": MASK})).collect();
    let mut request = json!({
        "method": exchange.method,
        "url": exchange.url,
        "httpVersion": exchange.response.as_ref().map_or("", |response| response.protocol.as_str()),
        "cookies": cookies,
        "headers": headers(&exchange.headers),
        "queryString": query,
        "headersSize": size(exchange.headers_size),
        "bodySize": size(exchange.body_size),
    });
    if let Some(text) = &exchange.post_data {
        request["postData"] =
            json!({"mimeType": find(&exchange.headers, "content-type").unwrap_or_default(), "text": text});
    }
    request
}

fn response(exchange: &Exchange) -> Json {
    let Some(response) = &exchange.response else {
        return json!({
            "status": 0, "statusText": "", "httpVersion": "", "cookies": [], "headers": [],
            "content": {"size": 0, "mimeType": ""}, "redirectURL": "", "headersSize": -1, "bodySize": -1,
        });
    };
    let is_redirect = (300..400).contains(&response.status) && response.status != 304;
    let target = find(&response.headers, "location").filter(|_| is_redirect).unwrap_or_default();
    let mut content = json!({"size": size(response.content_size), "mimeType": response.mime_type});
    if let (Some(decoded), Some(body)) = (response.content_size, response.body_size)
        && decoded > body
        && !response.from_cache
    {
        content["compression"] = (decoded - body).into();
    }
    json!({
        "status": response.status,
        "statusText": response.status_text,
        "httpVersion": response.protocol,
        "cookies": set_cookies(&response.headers),
        "headers": headers(&response.headers),
        "content": content,
        "redirectURL": target,
        "headersSize": size(response.headers_size),
        "bodySize": size(response.body_size),
    })
}

fn headers(headers: &[(String, String)]) -> Vec<Json> {
    let shown = headers.iter().map(|(name, value)| {
        let lower = name.to_ascii_lowercase();
        let value = if HIDDEN.iter().any(|part| lower.contains(part)) { MASK } else { value };
        json!({"name": name, "value": value})
    });
    shown.collect()
}

/// Returns the cookies that a response sets, without their values (RFC 6265, 5.2).
fn set_cookies(headers: &[(String, String)]) -> Vec<Json> {
    let all = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    // Several headers may have been joined with line breaks.
    let lines = all.flat_map(|(_, value)| value.split('\n'));
    let read = |line: &str| {
        let mut parts = line.split(';').map(str::trim);
        let (name, _) = parts.next()?.split_once('=')?;
        let mut cookie = json!({"name": name, "value": MASK, "httpOnly": false, "secure": false});
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key.to_ascii_lowercase().as_str() {
                "path" => cookie["path"] = value.into(),
                "domain" => cookie["domain"] = value.into(),
                "httponly" => cookie["httpOnly"] = true.into(),
                "secure" => cookie["secure"] = true.into(),
                "expires" => {
                    if let Ok(at) = DateTime::parse_from_rfc2822(value) {
                        cookie["expires"] = at.to_rfc3339_opts(SecondsFormat::Millis, true).into();
                    }
                }
                _ => {}
            }
        }
        Some(cookie)
    };
    lines.filter_map(read).collect()
}

fn find<'a>(headers: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
}

/// Returns -1 for an unknown size, as defined by HAR.
fn size(size: Option<u64>) -> Json {
    size.map_or_else(|| json!(-1), Json::from)
}

fn or_unknown(millis: Option<f64>) -> Json {
    millis.map_or_else(|| json!(-1), Json::from)
}

/// Limits the precision to microseconds, that of the measurements.
fn millis(millis: f64) -> f64 {
    (millis * 1000.0).round() / 1000.0
}

fn date(millis: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "times are checked to be sensible when they come in")]
    let at = DateTime::from_timestamp_micros((millis * 1000.0) as i64).unwrap_or_default();
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn mask(value: &mut Json, masker: &Masker) {
    match value {
        Json::String(text) => *text = masker.mask(text),
        Json::Array(items) => items.iter_mut().for_each(|item| mask(item, masker)),
        Json::Object(fields) => fields.values_mut().for_each(|field| mask(field, masker)),
        _ => {}
    }
}
