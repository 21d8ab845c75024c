//! Requests: sends them and checks the responses against the expectations.
//!
//! One [`Session`] per run keeps cookies and connections. Redirects are followed here, so that every hop has its own
//! times. Supports HTTP/1.1 and HTTP/2, up to 10 redirects, and bodies up to 10 MiB, both encoded and decoded.

mod body;
mod connect;
mod digest;
mod expectations;
mod fields;
mod hop;
mod link;
mod plan;
mod redirect;
mod response;
mod tokens;

#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderValue};
use rustls::pki_types::CertificateDer;

use self::digest::Digest;
use self::expectations::ResponseContext;
use self::hop::HopRequest;
use self::link::{NegotiatedTls, PooledConnection};
use self::plan::{ChallengeAuth, RequestPlan};
use self::response::{HttpResponse, LARGEST_BODY};
use super::RunServices;
use super::check::certificate::PeerCertificate;
use super::recorder::span_id;
use super::xpath::Found;
use crate::names::{Reason, ReasonClass};
use crate::outcome::{Failure, Hop, HttpResult, RunId};
use crate::scenario::{Eventually, HumanDuration, Request};
use crate::values::Values;
use crate::wire::authorization::bearer;
use crate::wire::cookies::Cookies;
use crate::wire::limits::{self, Limits, Room, UNCOUNTED};
use crate::wire::tls;
use crate::wire::{Dialer, Protocol, too_large};

pub(super) use self::expectations::SavedValue;
pub use self::tokens::Tokens;

/// Maximum size of a redirect's body that is read so that its connection can be reused.
const LARGEST_ASIDE: usize = 64 << 10;
/// Maximum number of redirects that are followed.
const REDIRECTS: usize = 10;
/// Maximum number of requests from earlier attempts of a step in its result.
const MAX_EARLIER: usize = 64;
/// Maximum number of idle connections.
const KEPT: usize = 8;
/// Maximum idle time of a connection; many servers close theirs after at most a minute.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// HTTP session of one run.
pub(super) struct Session {
    tls: tls::Trusted,
    dialer: Dialer,
    limits: Limits,
    tokens: Tokens,
    cookies: Cookies,
    /// Idle connections. The lock is never contended; it only makes the session `Sync`.
    kept: Mutex<Vec<PooledConnection>>,
    /// Trace of the run.
    trace: Trace,
    /// Start of the current step.
    step_began: Instant,
    /// Number of the attempt of the step, starting at 0.
    attempt: u32,
    /// Requests of the current attempt.
    trail: Vec<Hop>,
    /// Requests of the earlier attempts of the step.
    earlier: Vec<Hop>,
    stage: RequestPhase,
    last: Option<HttpResponse>,
    /// Memory reserved for the last response's body, if it is accounted for.
    room: Option<Room>,
    /// Certificate chain of the last hop's server, accepted or not.
    chain: Vec<CertificateDer<'static>>,
    /// TLS parameters negotiated with that server. `None` without TLS.
    agreed: Option<NegotiatedTls>,
    /// Additional data about the last response.
    around: Option<ResponseContext>,
}

/// Trace that the requests of a run belong to.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    /// Run whose id is the trace id.
    pub(super) run: RunId,
    /// Whether requests carry a `traceparent` header unless the scenario decides otherwise.
    pub(super) is_sent: bool,
}

/// Current phase of a request.
enum RequestPhase {
    Token,
    /// Resolving a host name.
    Resolve(Instant, String),
    Connect(Instant),
    Handshake(Instant),
    Answer(Instant),
    /// Waiting for memory for the body.
    Room,
    Body(Instant),
}

impl RequestPhase {
    /// Returns the description of the phase for users.
    fn name(&self) -> String {
        match self {
            Self::Token => "waiting for a token".into(),
            Self::Resolve(_, host) => format!("resolving `{host}`"),
            Self::Connect(_) => "connecting".into(),
            Self::Handshake(_) => "shaking hands".into(),
            Self::Answer(_) => "waiting for the response".into(),
            Self::Room => "waiting for memory".into(),
            Self::Body(_) => "reading the body".into(),
        }
    }
}

impl Session {
    pub(super) fn new(tools: &RunServices, trace: Trace) -> Self {
        Self {
            tls: tools.tls.clone(),
            dialer: tools.dialer.clone(),
            limits: tools.limits.clone(),
            tokens: tools.tokens.clone(),
            cookies: Cookies::default(),
            kept: Mutex::default(),
            trace,
            step_began: Instant::now(),
            attempt: 0,
            trail: Vec::new(),
            earlier: Vec::new(),
            stage: RequestPhase::Token,
            last: None,
            room: None,
            chain: Vec::new(),
            agreed: None,
            around: None,
        }
    }

    /// Sends a request, repeatedly if it is polled, checks its response and returns the values to save. Values are
    /// saved even if an expectation does not hold: `finally` needs them to clean up, and secrets among them must be
    /// masked in the evidence. `timeout` is for one attempt, `left` for all of them; `began` is the start of the step.
    pub(super) async fn ask(
        &mut self,
        request: &Request,
        values: &Values,
        timeout: Duration,
        left: Duration,
        began: Instant,
    ) -> (Vec<SavedValue>, Result<(), Failure>) {
        (self.step_began, self.attempt) = (began, 0);
        self.trail.clear();
        self.earlier.clear();
        match request.eventually {
            None => self.attempt(request, values, timeout).await,
            Some(Eventually { every, within }) => self.poll(request, values, timeout, every, within.min(left)).await,
        }
    }

    async fn attempt(
        &mut self,
        request: &Request,
        values: &Values,
        timeout: Duration,
    ) -> (Vec<SavedValue>, Result<(), Failure>) {
        let (saved, held) = match self.send(request, values, timeout).await {
            Ok(()) => match &self.last {
                Some(answer) => {
                    let _room = match self.room_to_look(request, answer, timeout).await {
                        Ok(room) => room,
                        Err(failure) => return (Vec::new(), Err(failure)),
                    };
                    let around = self.collect_context(request, answer).await;
                    expectations::check(request, answer, self.around.insert(around), &self.cookies, values)
                }
                None => (Vec::new(), Ok(())),
            },
            Err(failure) => (Vec::new(), Err(failure)),
        };
        let held = held.map_err(|failure| match self.trail.iter().rev().find(|hop| !hop.withheld.is_empty()) {
            Some(hop) => {
                let left_out = hop.withheld.join(", ");
                let message =
                    format!("{} (a redirect led to another origin, where {left_out} was not sent)", failure.message);
                Failure { message, ..failure }
            }
            None => failure,
        });
        (saved, held)
    }

    /// Reserves memory for parsing a response. Returns `None` for small responses, which are not accounted for.
    async fn room_to_look(
        &self,
        request: &Request,
        answer: &HttpResponse,
        timeout: Duration,
    ) -> Result<Option<Room>, Failure> {
        let uses = expectations::uses(request);
        if answer.body.len() <= UNCOUNTED / 4 || !(uses.json || uses.markup) {
            return Ok(None);
        }
        let text = answer.text();
        let json = if uses.json { limits::json_tree(&text) } else { 0 };
        let markup = if uses.markup { limits::markup_tree(&text) } else { 0 };
        drop(text);
        match tokio::time::timeout(timeout, self.limits.tree(json.saturating_add(markup))).await {
            Ok(room) => Ok(Some(room)),
            Err(_) => Err(no_memory(timeout)),
        }
    }

    /// Collects additional data about a response: XPath results and certificate.
    async fn collect_context(&self, request: &Request, answer: &HttpResponse) -> ResponseContext {
        let expressions = expectations::xpaths(request);
        let found = if expressions.is_empty() {
            Found::default()
        } else {
            Found::look(expressions, answer.text(), answer.header("content-type")).await
        };
        let unreadable = || Failure::new(Reason::Certificate, "cannot parse the certificate");
        let shown = match self.agreed {
            Some((version, cipher)) if expectations::asks_for_certificate(request) => {
                Some(PeerCertificate::new(&self.chain, version, cipher).ok_or_else(unreadable))
            }
            _ => None,
        };
        ResponseContext { found, shown }
    }

    /// Repeats the request until the expectations hold, `give_up_if` holds, or the time is over.
    async fn poll(
        &mut self,
        request: &Request,
        values: &Values,
        timeout: Duration,
        every: Duration,
        within: Duration,
    ) -> (Vec<SavedValue>, Result<(), Failure>) {
        let began = Instant::now();
        let mut tries = 0;
        let mut before: Option<Failure> = None;
        loop {
            let left = within.saturating_sub(began.elapsed());
            self.attempt = tries;
            let (saved, held) = self.attempt(request, values, timeout.min(left)).await;
            tries += 1;
            let Err(failure) = held else { return (saved, held) };
            // Agent faults and configuration errors do not go away by repeating the request.
            if failure.reason.class() == ReasonClass::Unknown || failure.reason == Reason::MissingValue {
                return (saved, Err(failure));
            }
            if let (Some(answer), Some(around)) = (&self.last, &self.around)
                && !request.give_up_if.is_empty()
            {
                match expectations::all_hold(&request.give_up_if, answer, around, values) {
                    Ok(false) => {}
                    Ok(true) => {
                        let message = format!("gave up, because `give_up_if` holds: {}", failure.message);
                        return (saved, Err(Failure { reason: Reason::GaveUp, message, ..failure }));
                    }
                    Err(failure) => return (saved, Err(failure)),
                }
            }
            let left = within.saturating_sub(began.elapsed());
            // An attempt that was cut off by the deadline is less informative than the one before it.
            let cut_off = left.is_zero() && failure.reason == Reason::Timeout;
            let failure = match (cut_off, before.take()) {
                (true, Some(before)) => before,
                _ => failure,
            };
            if left <= every {
                let message = format!("{} ({tries} attempts within {})", failure.message, HumanDuration(within));
                return (saved, Err(Failure { message, ..failure }.waited(began.elapsed())));
            }
            before = Some(failure);
            tokio::time::sleep(every).await;
        }
    }

    /// Sends a request and reads its response.
    async fn send(&mut self, request: &Request, values: &Values, timeout: Duration) -> Result<(), Failure> {
        self.last = None;
        self.room = None;
        self.around = None;
        self.set_trail_aside();
        self.chain.clear();
        let mut plan = RequestPlan::new(request, values, &self.tls)?;
        plan.traceparent = request.traceparent.unwrap_or(self.trace.is_sent);
        let began = Instant::now();
        let ended = tokio::time::timeout(timeout, self.follow(&plan, values, began)).await;
        let ended = ended.unwrap_or_else(|_| {
            self.account_for_the_rest();
            if matches!(self.stage, RequestPhase::Room) {
                return Err(no_memory(timeout));
            }
            let message = format!("timed out after {}: still {}", HumanDuration(timeout), self.stage.name());
            Err(Failure::new(Reason::Timeout, message).waited(timeout))
        });
        if let (Err(failure), Some(hop)) = (&ended, self.trail.last_mut()) {
            hop.reason = Some(failure.reason);
        }
        ended
    }

    /// Moves the requests of the current attempt to those of earlier attempts.
    fn set_trail_aside(&mut self) {
        self.earlier.append(&mut self.trail);
        keep_ends(&mut self.earlier, MAX_EARLIER);
    }

    /// Adds the time of the unfinished phase to the last hop.
    fn account_for_the_rest(&mut self) {
        let Some(hop) = self.trail.last_mut() else { return };
        match &self.stage {
            RequestPhase::Token | RequestPhase::Room => {}
            RequestPhase::Resolve(since, _) => hop.phases.resolve = since.elapsed(),
            RequestPhase::Connect(since) => hop.phases.connect = since.elapsed(),
            RequestPhase::Handshake(since) => hop.phases.tls = Some(since.elapsed()),
            RequestPhase::Answer(since) => hop.phases.processing = since.elapsed(),
            RequestPhase::Body(since) => hop.phases.transfer = since.elapsed(),
        }
    }

    /// Follows redirects and authentication challenges up to the final response.
    async fn follow(&mut self, plan: &RequestPlan, values: &Values, began: Instant) -> Result<(), Failure> {
        let mut ask = plan.ask.clone();
        let mut redirects = 0;
        let mut proven = false;
        let mut digest: Option<Digest> = None;
        let mut renewed_nonce = false;
        if let ChallengeAuth::OAuth2(client) = &plan.proof {
            self.stage = RequestPhase::Token;
            let token = self.tokens.get(client, &plan.token_options(), &self.dialer, values).await?;
            ask.headers.insert(AUTHORIZATION, bearer(&token)?);
        }
        loop {
            if let (ChallengeAuth::Digest { user, password }, Some(digest)) = (&plan.proof, &mut digest)
                && plan.is_same_origin(&ask.url)
            {
                ask.headers.insert(AUTHORIZATION, digest.authorize(&ask, user, password)?);
            }
            self.hop(plan, &ask, values).await?;
            let answer = self.last.as_mut().expect("a hop that succeeds leaves its answer");
            if answer.status == 401 && plan.is_same_origin(&ask.url) {
                match &plan.proof {
                    ChallengeAuth::Digest { .. } => {
                        // A challenge is answered once per URL, and once more if only the nonce was too old.
                        let challenged = Digest::new(&answer.headers)?;
                        let renews = !renewed_nonce && challenged.as_ref().is_some_and(Digest::is_stale);
                        if challenged.is_some() && (!proven || renews) {
                            renewed_nonce |= proven;
                            proven = true;
                            digest = challenged;
                            continue;
                        }
                    }
                    ChallengeAuth::OAuth2(client) if !proven => {
                        proven = true;
                        self.stage = RequestPhase::Token;
                        let used = ask.headers.remove(AUTHORIZATION);
                        let used = used.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
                        self.tokens.forget(client, used.trim_start_matches("Bearer "));
                        let token = self.tokens.get(client, &plan.token_options(), &self.dialer, values).await?;
                        ask.headers.insert(AUTHORIZATION, bearer(&token)?);
                        continue;
                    }
                    ChallengeAuth::OAuth2(_) | ChallengeAuth::None => {}
                }
            }
            if plan.follow
                && let Some(next) = redirect::next(&ask, answer.status, &answer.headers, values)?
            {
                redirects += 1;
                if redirects > REDIRECTS {
                    return Err(Failure::new(Reason::Protocol, format!("too many redirects (more than {REDIRECTS})")));
                }
                // Another page may belong to another realm.
                proven &= digest.is_none();
                ask = next;
                continue;
            }
            answer.took = began.elapsed();
            let decoded = answer.decode(LARGEST_BODY);
            if let Some(room) = &mut self.room {
                room.shrink_to(answer.body.len());
            }
            return decoded;
        }
    }

    /// Sends one request on a new or idle connection of this session and reads its response.
    async fn hop(&mut self, plan: &RequestPlan, ask: &HopRequest, values: &Values) -> Result<(), Failure> {
        self.last = None;
        self.room = None;
        self.chain.clear();
        self.agreed = None;
        let (mut fresh, mut was_refused) = (false, false);
        loop {
            self.trail.push(Hop {
                span_id: span_id(),
                offset: self.step_began.elapsed(),
                attempt: self.attempt,
                method: ask.method.to_string(),
                url: values.masker().mask(ask.url.as_str()),
                status: None,
                address: None,
                http_version: None,
                phases: crate::outcome::Phases::default(),
                reason: None,
                withheld: ask.withheld.clone(),
            });
            let kept = if fresh { None } else { self.take(plan, ask) };
            let was_kept = kept.is_some();
            let mut link = match kept {
                Some(link) => link,
                None => self.open(plan, ask).await?,
            };
            let hop = self.trail.last_mut().expect("pushed above");
            hop.address = Some(link.peer);
            self.chain.clone_from(&link.chain);
            self.agreed = link.agreed;
            let mut request = ask.request(&link, &self.cookies)?;
            if plan.traceparent && plan.is_same_origin(&ask.url) {
                let value = format!("00-{}-{}-01", self.trace.run.0.simple(), hop.span_id);
                let value = HeaderValue::from_str(&value).expect("it has hexadecimal digits alone");
                // A header written in the scenario takes precedence.
                request.headers_mut().entry("traceparent").or_insert(value);
            }
            self.stage = RequestPhase::Answer(Instant::now());
            let mut answer = match link.connection.exchange(request).await {
                Ok(answer) => answer,
                // A server may close an idle connection at any time. A request without a response is sent again unless
                // repeating it could have side effects.
                Err(unanswered) if was_kept && (unanswered.unsent || ask.method.is_idempotent()) => {
                    self.trail.pop();
                    fresh = true;
                    continue;
                }
                Err(unanswered) if unanswered.refused && !was_refused => {
                    self.trail.pop();
                    (fresh, was_refused) = (true, true);
                    continue;
                }
                Err(unanswered) => {
                    self.account_for_the_rest();
                    return Err(unanswered.failure);
                }
            };
            hop.phases.processing = answer.processing;
            hop.status = Some(answer.head.status.as_u16());
            hop.http_version = Some(version(answer.head.version).to_owned());
            let proxy = link.proxy.as_ref().filter(|_| link.secure.is_none());
            if let Some(failure) = proxy.and_then(|proxy| proxy.rejection(answer.head.status, &ask.url)) {
                return Err(failure);
            }
            self.stage = RequestPhase::Body(Instant::now());
            self.cookies.store(&answer.head.headers, &ask.url);
            let headers = std::mem::take(&mut answer.head.headers);
            let aside = plan.follow && redirect::leads_on(answer.head.status.as_u16(), &headers);
            let last = self.last.insert(HttpResponse {
                method: ask.method.to_string(),
                url: ask.url.clone(),
                status: answer.head.status.as_u16(),
                headers,
                body: Vec::new(),
                took: Duration::ZERO,
            });
            let ended = if aside {
                answer.read(&mut last.body, LARGEST_ASIDE).await
            } else {
                // An encoded body may grow up to the maximum size, and so may one of unknown length.
                let encoded = last.headers.contains_key(CONTENT_ENCODING);
                let said = answer.length().and_then(|length| usize::try_from(length).ok());
                let whole = said.filter(|_| !encoded).unwrap_or(LARGEST_BODY).min(LARGEST_BODY);
                let uncounted = if encoded { UNCOUNTED / 8 } else { UNCOUNTED };
                let body = &mut last.body;
                loop {
                    match answer.chunk().await {
                        Ok(None) => break Ok(()),
                        Ok(Some(chunk)) if body.len() + chunk.len() > LARGEST_BODY => {
                            break Err(too_large(LARGEST_BODY));
                        }
                        Ok(Some(chunk)) => {
                            if self.room.is_none() && body.len() + chunk.len() > uncounted {
                                let stage = std::mem::replace(&mut self.stage, RequestPhase::Room);
                                self.room = Some(self.limits.body(whole).await);
                                self.stage = stage;
                                if let Some(said) = said {
                                    body.reserve(said.min(LARGEST_BODY).saturating_sub(body.len()));
                                }
                            }
                            body.extend_from_slice(&chunk);
                        }
                        Err(failure) => break Err(failure),
                    }
                }
            };
            hop.phases.transfer = answer.since_head();
            match ended {
                Ok(()) => self.keep(link),
                // The target of a redirect does not depend on its body.
                Err(_) if aside => {}
                Err(failure) => return Err(failure),
            }
            return Ok(());
        }
    }

    fn take(&mut self, plan: &RequestPlan, ask: &HopRequest) -> Option<PooledConnection> {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        loop {
            // A server may have closed a connection without the agent having noticed. A request that must not be
            // repeated is therefore not sent on an idle connection, except with HTTP/2, where the server reports which
            // requests it has not processed.
            let at = kept.iter().position(|link| {
                let safe = ask.method.is_idempotent() || link.connection.protocol() == Protocol::Http2;
                safe && link.can_reuse_for(plan, &ask.url)
            })?;
            let mut link = kept.swap_remove(at);
            if link.kept_at.elapsed() < MAX_IDLE && link.connection.is_open() {
                return Some(link);
            }
        }
    }

    fn keep(&mut self, mut link: PooledConnection) {
        link.kept_at = Instant::now();
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(link);
    }

    /// Returns the result of the last response, and the requests of the step that did not lead to it.
    pub(super) fn result(&self, values: &Values) -> (Option<HttpResult>, Vec<Hop>) {
        let masked = |hop: &Hop| Hop { url: values.masker().mask(&hop.url), ..hop.clone() };
        let mut earlier: Vec<Hop> = self.earlier.iter().map(masked).collect();
        let trail: Vec<Hop> = self.trail.iter().map(masked).collect();
        let Some(answer) = &self.last else {
            earlier.extend(trail);
            return (None, earlier);
        };
        let result = HttpResult {
            method: answer.method.clone(),
            url: values.masker().mask(answer.url.as_str()),
            status: answer.status,
            bytes: answer.body.len() as u64,
            hops: trail,
        };
        (Some(result), earlier)
    }

    /// Returns the expiry of the certificate that was presented last, accepted or not.
    pub(super) fn certificate_expires_at(&self) -> Option<DateTime<Utc>> {
        tls::expiry(self.chain.first()?)
    }

    /// Formats the last response for users: the hops that led to it, its head and the start of its body.
    pub(super) fn evidence(&self, values: &Values) -> Option<Vec<u8>> {
        response::evidence(&self.trail, self.last.as_ref(), values.masker())
    }
}

/// Keeps the first and last items of a list that is longer than `most`, half of the limit each.
fn keep_ends<T>(items: &mut Vec<T>, most: usize) {
    if let Some(excess) = items.len().checked_sub(most) {
        items.drain(most / 2..most / 2 + excess);
    }
}

fn version(version: hyper::Version) -> &'static str {
    match version {
        hyper::Version::HTTP_09 => "0.9",
        hyper::Version::HTTP_10 => "1.0",
        hyper::Version::HTTP_11 => "1.1",
        hyper::Version::HTTP_2 => "2",
        _ => "3",
    }
}

/// Returns the failure of a run that got no memory for its response.
fn no_memory(timeout: Duration) -> Failure {
    let message = format!(
        "no memory for the response within {}: responses of other runs use the whole limit",
        HumanDuration(timeout)
    );
    Failure::new(Reason::Resources, message).waited(timeout)
}
