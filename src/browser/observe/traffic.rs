//! Requests and responses: the `network` events of both engines in a common form.
//!
//! The engines differ as follows (measured with Chromium 156 and Firefox 153). Chromium reports times relative to
//! `timeOrigin` and calls the end of the head `responseEnd`, so the end of a body is only known from the arrival of the
//! event; its `bodySize` is everything received from the network, and its `headersSize` excludes the status line.
//! Firefox reports absolute times, and `content.size` is 0 for requests of scripts. A time of 0 and an interval of
//! length zero were not measured.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Value as Json, json};

use super::bounds::{kept, time};
use crate::outcome::PageTotals;
use crate::scenario::Engine;

/// Maximum number of stored requests; further ones are counted.
const REQUESTS: usize = 5000;
/// Maximum total size of the stored heads of all requests, in bytes.
const ROOM: usize = 24 << 20;
/// Maximum length of a stored URL, header value or body, in bytes.
const LONGEST: usize = 16 << 10;
/// Maximum number of stored headers or cookies per message.
const HEADERS: usize = 200;

/// Kind of a `network` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetworkEvent {
    Sent,
    Started,
    Completed,
    Failed,
}

impl NetworkEvent {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "beforeRequestSent" => Some(Self::Sent),
            "responseStarted" | "authRequired" => Some(Self::Started),
            "responseCompleted" => Some(Self::Completed),
            "fetchError" => Some(Self::Failed),
            _ => None,
        }
    }
}

/// A request and its response.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Position of the document that it belongs to.
    pub(super) document: Option<usize>,
    pub(super) step: usize,
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) cookies: Vec<String>,
    pub(super) headers_size: Option<u64>,
    pub(super) body_size: Option<u64>,
    pub(super) post_data: Option<String>,
    /// Resource type in the terms of Chromium's developer tools: `document`, `stylesheet`, `fetch` …
    pub(super) resource: String,
    pub(super) initiator: Json,
    /// Start in milliseconds since 1970.
    pub(super) started: f64,
    pub(super) timings: Timings,
    pub(super) response: Option<Response>,
    pub(super) error: Option<String>,
    /// Whether the request has ended, successfully or not.
    pub(super) done: bool,
    /// Whether the browser sent the request on its own.
    background: bool,
}

/// Durations of the phases, in milliseconds. `None` if a phase was not measured.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timings {
    pub(super) blocked: Option<f64>,
    pub(super) dns: Option<f64>,
    /// Includes TLS.
    pub(super) connect: Option<f64>,
    pub(super) tls: Option<f64>,
    pub(super) wait: Option<f64>,
    pub(super) receive: Option<f64>,
}

/// A response.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) status_text: String,
    pub(super) protocol: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) mime_type: String,
    /// Size on the network including the head; 0 from the cache.
    pub(super) bytes: u64,
    pub(super) headers_size: Option<u64>,
    /// Size of the body on the network.
    pub(super) body_size: Option<u64>,
    /// Size of the decoded body.
    pub(super) content_size: Option<u64>,
    pub(super) from_cache: bool,
}

/// Status of the request that opens a document.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) url: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) error: Option<String>,
}

/// A request of a page in its current state.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Position in `Outcome.steps` of the step during which it was sent.
    pub step: usize,
    /// HTTP method.
    pub method: &'a str,
    /// URL, not masked.
    pub url: &'a str,
    /// Status of the response, once it has arrived.
    pub status: Option<u16>,
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRequest {
    /// Position in `Outcome.steps` of the step during which it was sent.
    pub step: usize,
    /// HTTP method.
    pub method: String,
    /// URL, not masked.
    pub url: String,
    /// Status of the response, if there was one.
    pub status: Option<u16>,
    /// Error code of the browser if there was no response.
    pub error: Option<String>,
    /// Resource type: `document`, `image`, `fetch` …
    pub resource: String,
}

impl FailedRequest {
    pub(super) fn json(&self) -> Json {
        json!({
            "method": self.method, "url": self.url, "status": self.status, "error": self.error,
            "resource": self.resource, "step": self.step,
        })
    }
}

impl fmt::Display for FailedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)?;
        match (self.status, &self.error) {
            (Some(status), _) => write!(f, " returned status {status}"),
            (None, Some(error)) => write!(f, ": {error}"),
            (None, None) => f.write_str(" received no response"),
        }
    }
}

/// Counts for one document.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) failed_requests: u64,
    pub(super) bytes: u64,
}

/// Requests of a run.
#[derive(Debug)]
pub(super) struct Traffic {
    engine: Engine,
    exchanges: Vec<Exchange>,
    by_id: HashMap<(String, u64), usize>,
    room: usize,
    dropped: u64,
}

impl Traffic {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, exchanges: Vec::new(), by_id: HashMap::new(), room: ROOM, dropped: 0 }
    }

    /// Records an event and returns the state of its request. Returns `None` for requests that do not use the network.
    pub(super) fn event(
        &mut self,
        stage: NetworkEvent,
        params: &Json,
        document: Option<usize>,
        step: usize,
        received: f64,
    ) -> Option<Answered> {
        let request = &params["request"];
        let url = request["url"].as_str()?;
        if !goes_over_the_network(url) {
            return None;
        }
        // Chromium sometimes reports a response before its request, so either event creates the entry.
        let redirects = params["redirectCount"].as_u64().unwrap_or(0);
        let index = match self.by_id.get(&(request["request"].as_str()?.to_owned(), redirects)) {
            Some(index) => *index,
            None => self.begin(request, redirects, document, step)?,
        };
        let engine = self.engine;
        let mut room = self.room;
        let exchange = self.exchanges.get_mut(index)?;
        exchange.request(request, &mut room);
        exchange.started = started(engine, &request["timings"]).or(time(&params["timestamp"])).unwrap_or(received);
        // The head that starts a response on Chromium may still be that of the previous redirect.
        let is_stale = stage == NetworkEvent::Started
            && redirects > 0
            && params["response"]["status"].as_u64().is_some_and(|status| (300..400).contains(&status));
        if params["response"].is_object() && !is_stale {
            exchange.response = Some(response(engine, &params["response"], &exchange.method, &mut room));
        }
        match stage {
            NetworkEvent::Sent | NetworkEvent::Started => {}
            NetworkEvent::Completed => exchange.done = true,
            NetworkEvent::Failed => {
                exchange.done = true;
                exchange.error = Some(kept(params["errorText"].as_str().unwrap_or("no response"), 300));
            }
        }
        // A cached response has the times of the original response, or none.
        if exchange.done && !exchange.response.as_ref().is_some_and(|response| response.from_cache) {
            exchange.timings = timings(engine, &request["timings"], received - exchange.started);
        }
        let answered = Answered {
            url: Some(exchange.url.clone()),
            status: exchange.response.as_ref().map(|response| response.status).filter(|status| *status > 0),
            error: exchange.error.clone().filter(|_| !exchange.was_cancelled()),
        };
        self.room = room;
        Some(answered)
    }

    fn begin(&mut self, request: &Json, redirects: u64, document: Option<usize>, step: usize) -> Option<usize> {
        if self.exchanges.len() >= REQUESTS {
            self.dropped += 1;
            return None;
        }
        let id = request["request"].as_str()?;
        let exchange = Exchange { document, step, ..Exchange::default() };
        self.exchanges.push(exchange);
        let index = self.exchanges.len() - 1;
        self.by_id.insert((id.to_owned(), redirects), index);
        Some(index)
    }

    pub(super) fn all(&self) -> &[Exchange] {
        &self.exchanges
    }

    /// Returns the number of events of requests that were not stored.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn asked(&self) -> impl Iterator<Item = Asked<'_>> {
        self.exchanges.iter().filter(|exchange| !exchange.background).map(|exchange| Asked {
            step: exchange.step,
            method: &exchange.method,
            url: &exchange.url,
            status: exchange.response.as_ref().map(|response| response.status).filter(|status| *status > 0),
        })
    }

    pub(super) fn failed(&self) -> Vec<FailedRequest> {
        let failed = self.exchanges.iter().filter(|exchange| exchange.has_failed());
        let told = failed.map(|exchange| FailedRequest {
            step: exchange.step,
            method: exchange.method.clone(),
            url: exchange.url.clone(),
            status: exchange.response.as_ref().map(|response| response.status).filter(|status| *status >= 400),
            error: exchange.error.clone(),
            resource: exchange.resource.clone(),
        });
        told.collect()
    }

    /// Returns the counts by position of the document.
    pub(super) fn counts(&self) -> HashMap<usize, Counts> {
        let mut counts: HashMap<usize, Counts> = HashMap::new();
        for exchange in self.exchanges.iter().filter(|exchange| !exchange.background) {
            if let Some(document) = exchange.document {
                let of = counts.entry(document).or_default();
                of.requests += 1;
                of.failed_requests += u64::from(exchange.has_failed());
                of.bytes = of.bytes.saturating_add(exchange.bytes());
            }
        }
        counts
    }

    pub(super) fn totals(&self) -> PageTotals {
        let mut totals = PageTotals { requests: self.dropped, ..PageTotals::default() };
        for exchange in self.exchanges.iter().filter(|exchange| !exchange.background) {
            totals.requests += 1;
            totals.failed_requests += u64::from(exchange.has_failed());
            totals.bytes = totals.bytes.saturating_add(exchange.bytes());
        }
        totals
    }
}

impl Exchange {
    fn request(&mut self, request: &Json, room: &mut usize) {
        self.method = kept(request["method"].as_str().unwrap_or("GET"), 40);
        self.url = without_password(request["url"].as_str().unwrap_or_default());
        self.headers = headers(&request["headers"], room);
        // In later events, Chromium lists some headers twice: as requested and as sent.
        let mut seen = std::collections::HashSet::new();
        self.headers.retain(|(name, value)| seen.insert((name.to_ascii_lowercase(), value.clone())));
        self.cookies = request["cookies"].as_array().map_or_else(Vec::new, |cookies| {
            let names = cookies.iter().filter_map(|cookie| cookie["name"].as_str());
            names.take(HEADERS).map(|name| kept(name, 300)).collect()
        });
        self.headers_size = request["headersSize"].as_u64();
        self.body_size = request["bodySize"].as_u64();
        if let Some(body) = request["goog:postData"].as_str() {
            self.post_data = Some(fitting(body, room));
        }
        self.resource = resource(request);
        self.initiator = initiator(request);
        self.background = is_favicon(&self.url);
    }

    fn was_cancelled(&self) -> bool {
        matches!(self.error.as_deref(), Some("net::ERR_ABORTED" | "NS_BINDING_ABORTED" | "NS_ERROR_ABORT"))
    }

    /// Returns whether the request failed, by its status or because there was no response.
    fn has_failed(&self) -> bool {
        if self.background {
            return false;
        }
        // The status counts when it arrives: Chromium does not complete a response whose body nobody reads.
        let is_refused = self.response.as_ref().is_some_and(|response| response.status >= 400);
        is_refused || self.done && self.error.is_some() && !self.was_cancelled()
    }

    fn bytes(&self) -> u64 {
        self.response.as_ref().map_or(0, |response| response.bytes)
    }
}

fn response(engine: Engine, json: &Json, method: &str, room: &mut usize) -> Response {
    let text = |name: &str| kept(json[name].as_str().unwrap_or_default(), 300);
    let status = json["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
    let headers = headers(&json["headers"], room);
    let header =
        |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|found| &found.1);
    let from_cache = json["fromCache"].as_bool().unwrap_or(false);
    let bytes = if from_cache { 0 } else { json["bytesReceived"].as_u64().unwrap_or(0) };
    let (status_text, protocol) = (text("statusText"), text("protocol"));
    let given = json["headersSize"].as_u64();
    let (headers_size, body_size) = match engine {
        _ if from_cache => (None, Some(0)),
        Engine::Firefox => (given, json["bodySize"].as_u64()),
        Engine::Chromium => {
            let length = header("content-length").and_then(|length| length.parse::<u64>().ok());
            let has_body = method != "HEAD" && status != 304 && status != 204;
            // "HTTP/1.1 200 OK", its line break and the empty line after the head.
            let line = if protocol.starts_with("http/1") { 8 + 1 + 3 + 1 + status_text.len() as u64 + 4 } else { 0 };
            let head = given.filter(|size| *size > 0).map(|size| size.saturating_add(line));
            if bytes == 0 {
                // For a redirect, the received size is not reported.
                (head, Some(0))
            } else {
                let rest = bytes - head.unwrap_or(0).min(bytes);
                let body = length.filter(|length| has_body && *length <= bytes).unwrap_or(rest);
                (Some(bytes - body), Some(body))
            }
        }
    };
    let is_encoded = header("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"));
    let content_size = match json["content"]["size"].as_u64() {
        Some(size) if size > 0 => Some(size),
        _ if from_cache || is_encoded => None,
        _ => body_size,
    };
    Response {
        status,
        status_text,
        protocol,
        mime_type: text("mimeType"),
        headers,
        bytes,
        headers_size,
        body_size,
        content_size,
        from_cache,
    }
}

/// Returns the start of a request in milliseconds since 1970.
fn started(engine: Engine, timings: &Json) -> Option<f64> {
    match engine {
        Engine::Chromium => time(&timings["timeOrigin"]),
        Engine::Firefox => time(&timings["requestTime"]),
    }
}

/// Converts points in time to intervals. `elapsed` is the time from the start to the arrival of the last event, in
/// milliseconds.
fn timings(engine: Engine, json: &Json, elapsed: f64) -> Timings {
    let origin = match engine {
        Engine::Chromium => 0.0,
        Engine::Firefox => json["requestTime"].as_f64().unwrap_or(0.0),
    };
    // No request lasts an hour, so a longer time belongs to something else.
    let sensible = |millis: &f64| (0.0..=3_600_000.0).contains(millis);
    let at = |name: &str| json[name].as_f64().filter(|at| *at > 0.0).map(|at| at - origin).filter(sensible);
    let between = |from: Option<f64>, upto: Option<f64>| Some(upto? - from?).filter(|length| *length > 0.0);
    let elapsed = Some(elapsed).filter(sensible);
    let (sent, first) = (at("requestStart"), at("responseStart"));
    let dns = between(at("dnsStart"), at("dnsEnd"));
    let connect = between(at("connectStart"), at("connectEnd"));
    let tls = between(at("tlsStart"), at("tlsEnd").or(at("connectEnd"))).filter(|_| connect.is_some());
    let end = match engine {
        Engine::Chromium => elapsed.into_iter().chain(at("responseEnd")).reduce(f64::max),
        Engine::Firefox => at("responseEnd"),
    };
    Timings {
        blocked: sent.map(|sent| (sent - dns.unwrap_or(0.0) - connect.unwrap_or(0.0)).max(0.0)),
        dns,
        connect,
        tls,
        wait: match (sent, first) {
            (Some(sent), Some(first)) => Some((first - sent).max(0.0)),
            // Without a response, all of the time was spent waiting.
            (sent, _) => elapsed.map(|elapsed| (elapsed - sent.unwrap_or(0.0)).max(0.0)),
        },
        receive: between(first, end),
    }
}

fn headers(list: &Json, room: &mut usize) -> Vec<(String, String)> {
    let Some(list) = list.as_array() else { return Vec::new() };
    let read = |header: &Json, room: &mut usize| {
        let value = &header["value"];
        let text = match value["value"].as_str() {
            Some(text) if value["type"] != "base64" => fitting(text, room),
            Some(_) => "(bytes)".to_owned(),
            None => String::new(),
        };
        Some((kept(header["name"].as_str()?, 300), text))
    };
    list.iter().take(HEADERS).filter_map(|header| read(header, room)).collect()
}

/// Returns a text if there is room for it. A text that is too long is omitted entirely, because a part of a secret
/// could not be masked.
fn fitting(text: &str, room: &mut usize) -> String {
    if text.len() > LONGEST || text.len() > *room {
        return format!("({} bytes, not stored)", text.len());
    }
    *room -= text.len();
    text.to_owned()
}

/// Removes the password from a URL, and the query if the URL is too long to be stored.
fn without_password(text: &str) -> String {
    if text.len() > LONGEST {
        let path = text.split(['?', '#']).next().unwrap_or_default();
        return if path.len() <= LONGEST { format!("{path}?…") } else { "(URL too long)".into() };
    }
    let has_user = text
        .split_once("://")
        .is_some_and(|(_, rest)| rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')));
    match url::Url::parse(text) {
        Ok(mut url) if has_user && url.password().is_some() => {
            let _ = url.set_password(Some(crate::secret::MASK));
            url.into()
        }
        _ => text.to_owned(),
    }
}

fn goes_over_the_network(url: &str) -> bool {
    let scheme = url.split(':').next().unwrap_or_default();
    !["data", "about", "blob", "chrome", "chrome-error", "chrome-extension", "moz-extension", "resource", "javascript"]
        .contains(&scheme)
}

/// Returns whether a URL is the icon that browsers request from every site, which Firefox reports and Chromium does
/// not.
fn is_favicon(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.ends_with("/favicon.ico")
}

/// Returns the resource type in the terms of Chromium's developer tools.
fn resource(request: &Json) -> String {
    if let Some(resource) = request["goog:resourceType"].as_str() {
        return kept(resource, 40).to_lowercase();
    }
    let known = match (request["destination"].as_str(), request["initiatorType"].as_str()) {
        (Some("document" | "frame" | "iframe"), _) => "document",
        (Some("style"), _) => "stylesheet",
        (Some("audio" | "video" | "track"), _) => "media",
        (Some("" | "empty") | None, Some("xmlhttprequest")) => "xhr",
        (Some("" | "empty") | None, Some("fetch")) => "fetch",
        (Some("" | "empty") | None, _) => "other",
        (Some(other), _) => return kept(other, 40),
    };
    known.to_owned()
}

fn initiator(request: &Json) -> Json {
    let given = &request["goog:resourceInitiator"];
    let kind = given["type"].as_str().or(request["initiatorType"].as_str()).unwrap_or("other");
    let mut initiator = json!({"type": kept(kind, 40)});
    let frame = &given["stack"]["callFrames"][0];
    let place = if frame.is_object() { frame } else { given };
    if let Some(url) = place["url"].as_str().filter(|url| !url.is_empty()) {
        initiator["url"] = without_password(url).into();
        if let Some(line) = place["lineNumber"].as_u64() {
            initiator["lineNumber"] = line.into();
        }
    }
    initiator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_password_and_nothing_else() {
        for (url, expected) in [
            ("http://a/b?c=d@e#f", "http://a/b?c=d@e#f"),
            ("http://u:p@a/", "http://u:***@a/"),
            ("http://u@a/x y", "http://u@a/x y"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(without_password(url), expected);
        }
        assert_eq!(without_password(&format!("http://a/?{}", "x".repeat(LONGEST))), "http://a/?…");
    }
}
