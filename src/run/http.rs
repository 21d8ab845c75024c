//! Requests: sending, and holding the answer against what is expected.
//!
//! One [`Session`] per run keeps the cookies. HTTP/1.1 or HTTP/2, redirects followed up to 10, bodies up to 10 MiB.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::cookie::Jar;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;
use serde_json_path::JsonPath;

use super::expect::{Filled, Seen, pattern_of};
use super::{Values, tls};
use crate::names::Reason;
use crate::outcome::{Failure, HttpResult};
use crate::scenario::{Body, Pretty, Request, ResponseFact, ResponseSource};

/// The largest body that is read.
const LARGEST_BODY: usize = 10 << 20;
/// How many redirects are followed.
const REDIRECTS: usize = 10;
/// How much of a body is kept as evidence.
const EVIDENCE_BODY: usize = 64 << 10;
/// Headers whose values are other people's sessions; evidence shows their names only.
const PRIVATE_HEADERS: [&str; 4] = ["set-cookie", "cookie", "authorization", "proxy-authorization"];

/// The requests of one run.
pub(super) struct Session {
    tls: tls::Trusted,
    cookies: Arc<Jar>,
    /// One client per set of roots: connections and cookies are kept within the run.
    clients: HashMap<Option<String>, reqwest::Client>,
    last: Option<Answer>,
}

/// A name, what is saved as it, and whether that is a secret.
pub(super) type Saved = (String, Json, bool);

struct Answer {
    method: String,
    url: String,
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    took: Duration,
    certificate_expires_at: Option<DateTime<Utc>>,
}

impl Session {
    pub(super) fn new(tls: tls::Trusted) -> Self {
        Self { tls, cookies: Arc::default(), clients: HashMap::new(), last: None }
    }

    fn client(&mut self, request: &Request, values: &Values) -> Result<reqwest::Client, Failure> {
        let key = request.trust.ca.as_ref().map(|ca| ca.raw().to_owned());
        if let Some(client) = self.clients.get(&key) {
            return Ok(client.clone());
        }
        let mut config = (*self.tls.config(&request.trust, values)?).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .tls_info(true)
            .cookie_provider(Arc::clone(&self.cookies))
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
            .user_agent(concat!("wachta/", env!("CARGO_PKG_VERSION")))
            .referer(false)
            .no_proxy()
            .build()
            .map_err(|e| Failure::new(Reason::Configuration, format!("no HTTP client: {e}")))?;
        self.clients.insert(key, client.clone());
        Ok(client)
    }

    /// Sends a request and reads its answer.
    pub(super) async fn send(&mut self, request: &Request, values: &Values, timeout: Duration) -> Result<(), Failure> {
        self.last = None;
        let url = values.url(&request.url).map_err(|failure| failure.at(request.url.span))?;
        let client = self.client(request, values)?;
        let method = reqwest::Method::from_bytes(request.method.as_bytes())
            .map_err(|e| Failure::new(Reason::Configuration, format!("`{}` is not a method: {e}", request.method)))?;
        let mut builder = client.request(method, url);
        let pairs = |list: &[(String, crate::diagnostic::At<crate::scenario::Template>)]| -> Result<Vec<(String, String)>, Failure> {
            list.iter().map(|(name, value)| Ok((name.clone(), values.fill(value).map_err(|f| f.at(value.span))?))).collect()
        };
        if !request.query.is_empty() {
            builder = builder.query(&pairs(&request.query)?);
        }
        match &request.body {
            None => {}
            Some(Body::Json(value)) => builder = builder.json(&values.fill_value(value)?),
            Some(Body::Form(fields)) => builder = builder.form(&pairs(fields)?),
            Some(Body::Text(text)) => builder = builder.body(values.fill(text)?),
        }
        // After the body, so that a Content-Type of the scenario's replaces the one that goes with the body.
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let bad = |e: &dyn std::fmt::Display| {
                Failure::new(Reason::Configuration, format!("header `{name}`: {e}")).at(value.span)
            };
            let text = values.fill(value).map_err(|failure| failure.at(value.span))?;
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|e| bad(&e))?;
            headers.append(key, HeaderValue::from_str(&text).map_err(|e| bad(&e))?);
        }
        let began = Instant::now();
        let exchange = async {
            let mut response = builder.headers(headers).send().await.map_err(|e| failure(&e))?;
            let certificate_expires_at = response
                .extensions()
                .get::<reqwest::tls::TlsInfo>()
                .and_then(reqwest::tls::TlsInfo::peer_certificate)
                .and_then(tls::expiry);
            let mut answer = Answer {
                method: request.method.clone(),
                url: response.url().to_string(),
                status: response.status().as_u16(),
                headers: response.headers().clone(),
                body: Vec::new(),
                took: Duration::ZERO,
                certificate_expires_at,
            };
            let ended = loop {
                match response.chunk().await {
                    Ok(Some(chunk)) if answer.body.len() + chunk.len() > LARGEST_BODY => {
                        break Err(Failure::new(Reason::TooLarge, "the answer's body is larger than 10 MiB"));
                    }
                    Ok(Some(chunk)) => answer.body.extend_from_slice(&chunk),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(failure(&error)),
                }
            };
            answer.took = began.elapsed();
            // What came before the failure is evidence.
            self.last = Some(answer);
            ended
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(ended) => ended,
            Err(_) => {
                Err(Failure::new(Reason::Timeout, format!("no complete answer within {}", Pretty(timeout)))
                    .waited(timeout))
            }
        }
    }

    /// What the last answer was like.
    pub(super) fn result(&self, values: &Values) -> Option<HttpResult> {
        self.last.as_ref().map(|answer| HttpResult {
            method: answer.method.clone(),
            url: values.masker().mask(&answer.url),
            status: answer.status,
            bytes: answer.body.len() as u64,
        })
    }

    pub(super) fn certificate_expires_at(&self) -> Option<DateTime<Utc>> {
        self.last.as_ref()?.certificate_expires_at
    }

    /// Holds the last answer against what is expected, and gives what is to be saved. What is there is saved also when
    /// an expectation did not hold: `finally` needs it to clean up, and a secret in it must be masked in the evidence.
    pub(super) fn check(&self, request: &Request, values: &Values) -> (Vec<Saved>, Result<(), Failure>) {
        let Some(answer) = &self.last else { return (Vec::new(), Ok(())) };
        let mut body = BodyView { answer, json: None };
        let mut held = holds(request, answer, &mut body, values);
        let mut saved = Vec::new();
        for save in &request.save {
            let found = find(&save.source, answer, &mut body, values).and_then(|found| {
                found.ok_or_else(|| {
                    Failure::new(Reason::Assertion, format!("nothing to save as `{}`", save.name.value))
                        .compared(save_source(&save.source), "nothing")
                        .at(save.name.span)
                })
            });
            match found {
                Ok(value) => saved.push((save.name.value.clone(), value, save.secret)),
                Err(failure) => held = held.and(Err(failure)),
            }
        }
        (saved, held)
    }

    /// The last answer for people: its head and the beginning of its body.
    pub(super) fn evidence(&self, values: &Values) -> Option<Vec<u8>> {
        let answer = self.last.as_ref()?;
        let mut text = format!("{} {}\nHTTP {}\n", answer.method, answer.url, answer.status);
        for (name, value) in &answer.headers {
            let value = if PRIVATE_HEADERS.contains(&name.as_str()) {
                "***".into()
            } else {
                String::from_utf8_lossy(value.as_bytes())
            };
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        // Cut after masking: half a secret is one as well.
        let body = values.masker().mask_bytes(&answer.body);
        bytes.extend_from_slice(&body[..body.len().min(EVIDENCE_BODY)]);
        Some(bytes)
    }
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The body, read as JSON at most once.
struct BodyView<'a> {
    answer: &'a Answer,
    json: Option<Json>,
}

impl BodyView<'_> {
    fn find(&mut self, path: &str) -> Result<Seen, Failure> {
        if self.json.is_none() {
            let json = serde_json::from_slice(&self.answer.body).map_err(|error| {
                Failure::new(Reason::Assertion, format!("the body is not JSON ({error})"))
                    .compared("a JSON body", Json::from(self.answer.text()).to_string())
            })?;
            self.json = Some(json);
        }
        let parsed = JsonPath::parse(path)
            .map_err(|e| Failure::new(Reason::Configuration, format!("`{path}` is not a JSONPath: {e}")))?;
        let found = parsed.query(self.json.as_ref().expect("read above")).all();
        Ok(match found.as_slice() {
            [] => Seen::Nothing,
            [one] => Seen::One((*one).clone()),
            many => Seen::Many(many.iter().map(|value| (*value).clone()).collect()),
        })
    }
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    let all: Vec<_> =
        answer.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    if all.is_empty() { None } else { Some(all.join(", ")) }
}

/// Whether all that is expected of an answer holds.
fn holds(request: &Request, answer: &Answer, body: &mut BodyView<'_>, values: &Values) -> Result<(), Failure> {
    if !request.expect.iter().any(|expectation| matches!(expectation.what, ResponseFact::Status(_)))
        && !(200..300).contains(&answer.status)
    {
        return Err(Failure::new(Reason::Status, format!("{} answered {}", request.method, answer.status))
            .compared("a status from 200 to 299", answer.status.to_string()));
    }
    for expectation in &request.expect {
        answer_holds(&expectation.what, answer, body, values).map_err(|failure| failure.at(expectation.span))?;
    }
    Ok(())
}

/// What is to be saved of an answer, if it is there.
fn find(
    source: &ResponseSource,
    answer: &Answer,
    body: &mut BodyView<'_>,
    values: &Values,
) -> Result<Option<Json>, Failure> {
    Ok(match source {
        ResponseSource::Json(path) => match body.find(path)? {
            Seen::One(value) => Some(value),
            Seen::Many(values) => Some(Json::Array(values)),
            Seen::Nothing => None,
        },
        ResponseSource::Header(name) => header(answer, name).map(Json::String),
        ResponseSource::Body(None) => Some(Json::String(answer.text())),
        ResponseSource::Body(Some(pattern)) => {
            let pattern = pattern_of(&values.fill(pattern)?)?;
            let text = answer.text();
            pattern.captures(&text).and_then(|c| c.get(1).or_else(|| c.get(0)).map(|m| Json::from(m.as_str())))
        }
    })
}

fn save_source(source: &ResponseSource) -> String {
    match source {
        ResponseSource::Json(path) => format!("`{path}` in the body"),
        ResponseSource::Header(name) => format!("header `{name}`"),
        ResponseSource::Body(_) => "a match in the body".into(),
    }
}

fn answer_holds(fact: &ResponseFact, answer: &Answer, body: &mut BodyView<'_>, values: &Values) -> Result<(), Failure> {
    let held = |what: String, reason: Reason, matcher: &crate::scenario::Matcher, seen: &Seen| {
        let filled = Filled::new(matcher, values)?;
        if filled.holds(seen) { Ok(()) } else { Err(Failure::new(reason, what).compared(filled.show(), seen.show())) }
    };
    match fact {
        ResponseFact::Status(matcher) => {
            held(format!("the status is {}", answer.status), Reason::Status, matcher, &Seen::One(answer.status.into()))
        }
        ResponseFact::Header(name, matcher) => {
            let seen = header(answer, name).map_or(Seen::Nothing, Seen::text);
            held(format!("header `{name}`"), Reason::Assertion, matcher, &seen)
        }
        ResponseFact::Json(path, matcher) => {
            let seen = body.find(path)?;
            held(format!("`{path}` in the body"), Reason::Assertion, matcher, &seen)
        }
        ResponseFact::Body(matcher) => held("the body".into(), Reason::Assertion, matcher, &Seen::text(answer.text())),
        ResponseFact::Contains(text) => {
            let text = values.fill(text)?;
            let body = answer.text();
            if body.contains(&text) {
                Ok(())
            } else {
                Err(Failure::new(Reason::Assertion, "the body")
                    .compared(format!("contains {}", Json::from(text)), Json::from(body).to_string()))
            }
        }
        ResponseFact::FasterThan(limit) => {
            if answer.took < *limit {
                Ok(())
            } else {
                Err(Failure::new(Reason::Slow, "the answer was slow")
                    .compared(format!("faster than {}", Pretty(*limit)), Pretty(answer.took).to_string())
                    .waited(answer.took))
            }
        }
    }
}

/// What an error of a request means for the target.
fn failure(error: &reqwest::Error) -> Failure {
    if let Some(error) = tls::rustls_error(error) {
        return tls::failure(error);
    }
    let mut chain = Vec::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = next {
        chain.push(inner.to_string());
        next = inner.source();
    }
    let root = chain.last().cloned().unwrap_or_else(|| error.to_string());
    if error.is_redirect() {
        Failure::new(Reason::Protocol, format!("too many redirects (more than {REDIRECTS})"))
    } else if chain.iter().any(|text| text.contains("dns error")) {
        Failure::new(Reason::Dns, format!("the name did not resolve: {root}"))
    } else if error.is_connect() {
        Failure::new(Reason::Connect, format!("no connection: {root}"))
    } else if error.is_timeout() {
        Failure::new(Reason::Timeout, "no answer in time")
    } else {
        Failure::new(Reason::Protocol, format!("the answer broke off or is not HTTP: {root}"))
    }
}
