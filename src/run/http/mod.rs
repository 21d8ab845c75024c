//! Requests: sending, and holding the answer against what is expected.
//!
//! One [`Session`] per run keeps cookies and connections. Redirects are followed here, so that every hop has its times.
//! HTTP/1.1 or HTTP/2, redirects up to 10, bodies up to 10 MiB, as they come and decoded.

mod answer;
mod body;
mod check;
mod cookies;
mod decode;
mod digest;
mod link;
mod plan;
mod redirect;
mod tokens;

#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cookie_store::CookieStore;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderValue};
use rustls::pki_types::CertificateDer;

use self::answer::Answer;
use self::check::Around;
use self::link::{Agreed, Link};
use self::plan::{Ask, Plan, Proof};
use super::Tools;
use super::check::certificate::Shown;
use super::record::span_id;
use super::xpath::Found;
use crate::names::{Reason, ReasonClass};
use crate::outcome::{Failure, Hop, HttpResult, RunId};
use crate::scenario::{Eventually, Pretty, Request};
use crate::values::Values;
use crate::wire::limits::{self, Limits, Room, UNCOUNTED};
use crate::wire::tls;
use crate::wire::{Dialer, Protocol, too_large};

pub use self::tokens::Tokens;

/// The largest body that is read, as it comes and decoded.
const LARGEST_BODY: usize = 10 << 20;
/// So much of a redirect's body is read, so that its connection can be used again.
const LARGEST_ASIDE: usize = 64 << 10;
/// How many redirects are followed.
const REDIRECTS: usize = 10;
/// How many requests of earlier tries of a step its result has at most.
const MAX_EARLIER: usize = 64;
/// How many connections are kept between two requests.
const KEPT: usize = 8;
/// How long a connection is kept that nobody uses: many servers close theirs after a minute at most.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// A name, what is saved as it, and whether that is a secret.
pub(super) type Saved = (String, serde_json::Value, bool);

/// The requests of one run.
pub(super) struct Session {
    tls: tls::Trusted,
    dialer: Dialer,
    limits: Limits,
    tokens: Tokens,
    cookies: CookieStore,
    /// Connections that wait for the next request. Locked by nobody else: it is what makes the session fit to be shared.
    kept: Mutex<Vec<Link>>,
    /// The run's trace, and whether requests say so that ask for nothing else.
    trace: Trace,
    /// When the step began that sends requests now.
    step_began: Instant,
    /// Which try of the step this is, from 0.
    attempt: u32,
    /// Every request of the last try.
    trail: Vec<Hop>,
    /// Those of the tries of the step before it.
    earlier: Vec<Hop>,
    stage: Stage,
    last: Option<Answer>,
    /// The memory that the last answer's body takes, where it is counted.
    room: Option<Room>,
    /// What the server of the last hop has shown, accepted or not.
    chain: Vec<CertificateDer<'static>>,
    /// What was agreed with it; none without TLS.
    agreed: Option<Agreed>,
    /// What is known of the last answer beside itself.
    around: Option<Around>,
}

/// The trace that the requests of a run belong to.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    /// The run, whose id is the trace id.
    pub(super) run: RunId,
    /// Whether requests carry a `traceparent` where the scenario does not say.
    pub(super) is_sent: bool,
}

/// What is waited for.
enum Stage {
    Token,
    /// A name's addresses.
    Resolve(Instant, String),
    Connect(Instant),
    Handshake(Instant),
    Answer(Instant),
    /// Memory for the body.
    Room,
    Body(Instant),
}

impl Stage {
    /// As people say it.
    fn name(&self) -> String {
        match self {
            Self::Token => "waiting for a token".into(),
            Self::Resolve(_, host) => format!("resolving `{host}`"),
            Self::Connect(_) => "connecting".into(),
            Self::Handshake(_) => "shaking hands".into(),
            Self::Answer(_) => "waiting for the answer".into(),
            Self::Room => "waiting for memory".into(),
            Self::Body(_) => "reading the body".into(),
        }
    }
}

impl Session {
    pub(super) fn new(tools: &Tools, trace: Trace) -> Self {
        let session = Self::of(tools.tls.clone(), tools.dialer.clone(), tools.limits.clone(), tools.tokens.clone());
        Self { trace, ..session }
    }

    /// Returns a session of the same run that shares neither cookies nor connections with this one.
    fn aside(&self) -> Self {
        Self::of(self.tls.clone(), self.dialer.clone(), self.limits.clone(), Tokens::default())
    }

    fn of(tls: tls::Trusted, dialer: Dialer, limits: Limits, tokens: Tokens) -> Self {
        Self {
            tls,
            dialer,
            limits,
            tokens,
            cookies: CookieStore::default(),
            kept: Mutex::default(),
            trace: Trace::default(),
            step_began: Instant::now(),
            attempt: 0,
            trail: Vec::new(),
            earlier: Vec::new(),
            stage: Stage::Token,
            last: None,
            room: None,
            chain: Vec::new(),
            agreed: None,
            around: None,
        }
    }

    /// Sends a request, again and again where that is asked for, and holds its answer against what is expected. Gives
    /// what is to be saved. What is there is saved also when an expectation did not hold: `finally` needs it to clean up,
    /// and a secret in it must be masked in the evidence. `timeout` is for one try, `left` for all of them; `began` is when
    /// the step did.
    pub(super) async fn ask(
        &mut self,
        request: &Request,
        values: &Values,
        timeout: Duration,
        left: Duration,
        began: Instant,
    ) -> (Vec<Saved>, Result<(), Failure>) {
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
    ) -> (Vec<Saved>, Result<(), Failure>) {
        let (saved, held) = match self.send(request, values, timeout).await {
            Ok(()) => match &self.last {
                Some(answer) => {
                    let _room = match self.room_to_look(request, answer, timeout).await {
                        Ok(room) => room,
                        Err(failure) => return (Vec::new(), Err(failure)),
                    };
                    let around = self.look_around(request, answer).await;
                    check::check(request, answer, self.around.insert(around), &self.cookies, values)
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

    /// Waits for the memory that looking into an answer takes; none is counted for a small one.
    async fn room_to_look(
        &self,
        request: &Request,
        answer: &Answer,
        timeout: Duration,
    ) -> Result<Option<Room>, Failure> {
        let uses = check::uses(request);
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

    /// What is to be known of an answer that does not stand in it as it is.
    async fn look_around(&self, request: &Request, answer: &Answer) -> Around {
        let expressions = check::xpaths(request);
        let found = if expressions.is_empty() {
            Found::default()
        } else {
            Found::look(expressions, answer.text(), answer.header("content-type")).await
        };
        let unreadable = || Failure::new(Reason::Certificate, "the certificate does not read");
        let shown = match self.agreed {
            Some((version, cipher)) if check::asks_for_certificate(request) => {
                Some(Shown::new(&self.chain, version, cipher).ok_or_else(unreadable))
            }
            _ => None,
        };
        Around { found, shown }
    }

    /// Asks again until what is expected holds, what ends it holds, or the time is over.
    async fn poll(
        &mut self,
        request: &Request,
        values: &Values,
        timeout: Duration,
        every: Duration,
        within: Duration,
    ) -> (Vec<Saved>, Result<(), Failure>) {
        let began = Instant::now();
        let mut tries = 0;
        let mut before: Option<Failure> = None;
        loop {
            let left = within.saturating_sub(began.elapsed());
            self.attempt = tries;
            let (saved, held) = self.attempt(request, values, timeout.min(left)).await;
            tries += 1;
            let Err(failure) = held else { return (saved, held) };
            // What is ours to mend does not get better by asking again.
            if failure.reason.class() == ReasonClass::Unknown || failure.reason == Reason::MissingValue {
                return (saved, Err(failure));
            }
            if let (Some(answer), Some(around)) = (&self.last, &self.around)
                && !request.give_up_if.is_empty()
            {
                match check::all_hold(&request.give_up_if, answer, around, values) {
                    Ok(false) => {}
                    Ok(true) => {
                        let message = format!("gave up, since what `give_up_if` says holds: {}", failure.message);
                        return (saved, Err(Failure { reason: Reason::GaveUp, message, ..failure }));
                    }
                    Err(failure) => return (saved, Err(failure)),
                }
            }
            let left = within.saturating_sub(began.elapsed());
            // A try that was cut off by the end says less than the one before it.
            let cut_off = left.is_zero() && failure.reason == Reason::Timeout;
            let failure = match (cut_off, before.take()) {
                (true, Some(before)) => before,
                _ => failure,
            };
            if left <= every {
                let message = format!("{} (asked {tries} times within {})", failure.message, Pretty(within));
                return (saved, Err(Failure { message, ..failure }.waited(began.elapsed())));
            }
            before = Some(failure);
            tokio::time::sleep(every).await;
        }
    }

    /// Sends a request and reads its answer.
    async fn send(&mut self, request: &Request, values: &Values, timeout: Duration) -> Result<(), Failure> {
        self.last = None;
        self.room = None;
        self.around = None;
        self.set_trail_aside();
        self.chain.clear();
        let mut plan = Plan::new(request, values, &self.tls)?;
        plan.traceparent = request.traceparent.unwrap_or(self.trace.is_sent);
        let began = Instant::now();
        let ended = tokio::time::timeout(timeout, self.follow(&plan, values, began)).await;
        let ended = ended.unwrap_or_else(|_| {
            self.account_for_the_rest();
            if matches!(self.stage, Stage::Room) {
                return Err(no_memory(timeout));
            }
            let message = format!("no complete answer within {}: still {}", Pretty(timeout), self.stage.name());
            Err(Failure::new(Reason::Timeout, message).waited(timeout))
        });
        if let (Err(failure), Some(hop)) = (&ended, self.trail.last_mut()) {
            hop.reason = Some(failure.reason);
        }
        ended
    }

    /// Keeps the requests of the try before this one.
    fn set_trail_aside(&mut self) {
        self.earlier.append(&mut self.trail);
        keep_ends(&mut self.earlier, MAX_EARLIER);
    }

    /// The time that went into what was not finished.
    fn account_for_the_rest(&mut self) {
        let Some(hop) = self.trail.last_mut() else { return };
        match &self.stage {
            Stage::Token | Stage::Room => {}
            Stage::Resolve(since, _) => hop.phases.resolve = since.elapsed(),
            Stage::Connect(since) => hop.phases.connect = since.elapsed(),
            Stage::Handshake(since) => hop.phases.tls = Some(since.elapsed()),
            Stage::Answer(since) => hop.phases.processing = since.elapsed(),
            Stage::Body(since) => hop.phases.transfer = since.elapsed(),
        }
    }

    /// From hop to hop, up to the answer that is meant.
    async fn follow(&mut self, plan: &Plan, values: &Values, began: Instant) -> Result<(), Failure> {
        let mut ask = plan.ask.clone();
        let mut redirects = 0;
        let mut proven = false;
        if let Proof::OAuth2(client) = &plan.proof {
            self.stage = Stage::Token;
            let token = self.tokens.get(client, plan, self.aside(), values).await?;
            ask.headers.insert(AUTHORIZATION, bearer(&token)?);
        }
        loop {
            self.hop(plan, &ask, values).await?;
            let answer = self.last.as_mut().expect("a hop that succeeds leaves its answer");
            if answer.status == 401 && !proven && plan.is_home(&ask.url) {
                proven = true;
                match &plan.proof {
                    Proof::Digest { user, password } => {
                        if let Some(value) = digest::respond(&answer.headers, &ask, user, password)? {
                            ask.headers.insert(AUTHORIZATION, value);
                            continue;
                        }
                    }
                    Proof::OAuth2(client) => {
                        self.stage = Stage::Token;
                        let used = ask.headers.remove(AUTHORIZATION);
                        let used = used.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
                        self.tokens.forget(client, used.trim_start_matches("Bearer "));
                        let token = self.tokens.get(client, plan, self.aside(), values).await?;
                        ask.headers.insert(AUTHORIZATION, bearer(&token)?);
                        continue;
                    }
                    Proof::None => {}
                }
            }
            if plan.follow
                && let Some(next) = redirect::next(&ask, answer.status, &answer.headers, values)?
            {
                redirects += 1;
                if redirects > REDIRECTS {
                    return Err(Failure::new(Reason::Protocol, format!("too many redirects (more than {REDIRECTS})")));
                }
                ask = next;
                continue;
            }
            answer.took = began.elapsed();
            let decoded = answer.decode(LARGEST_BODY).await;
            if let Some(room) = &mut self.room {
                room.shrink_to(answer.body.len());
            }
            return decoded;
        }
    }

    /// One request on a connection of this session, new or kept, and its answer.
    async fn hop(&mut self, plan: &Plan, ask: &Ask, values: &Values) -> Result<(), Failure> {
        self.last = None;
        self.room = None;
        self.chain.clear();
        self.agreed = None;
        let mut fresh = false;
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
            if plan.traceparent && plan.is_home(&ask.url) {
                let value = format!("00-{}-{}-01", self.trace.run.0.simple(), hop.span_id);
                let value = HeaderValue::from_str(&value).expect("it has hexadecimal digits alone");
                // One that the scenario has written counts.
                request.headers_mut().entry("traceparent").or_insert(value);
            }
            self.stage = Stage::Answer(Instant::now());
            let mut answer = match link.connection.exchange(request).await {
                Ok(answer) => answer,
                // A server may close a connection that it was to keep: what it has not answered is sent again, unless that
                // could do something twice.
                Err(unanswered) if was_kept && (unanswered.unsent || ask.method.is_idempotent()) => {
                    self.trail.pop();
                    fresh = true;
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
            self.stage = Stage::Body(Instant::now());
            cookies::keep(&mut self.cookies, &answer.head.headers, &ask.url);
            let headers = std::mem::take(&mut answer.head.headers);
            let aside = plan.follow && redirect::leads_on(answer.head.status.as_u16(), &headers);
            let last = self.last.insert(Answer {
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
                // What is encoded may become as large as a body can be, and so may one whose length is not said.
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
                                let stage = std::mem::replace(&mut self.stage, Stage::Room);
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
                // Where a redirect leads does not depend on what else it says.
                Err(_) if aside => {}
                Err(failure) => return Err(failure),
            }
            return Ok(());
        }
    }

    fn take(&mut self, plan: &Plan, ask: &Ask) -> Option<Link> {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        loop {
            // A server may have closed a connection without our knowing yet. What may not be sent twice is not risked on
            // it; a server of HTTP/2 says which requests it has not looked at.
            let at = kept.iter().position(|link| {
                let safe = ask.method.is_idempotent() || link.connection.protocol() == Protocol::Http2;
                safe && link.leads_to(plan, &ask.url)
            })?;
            let mut link = kept.swap_remove(at);
            if link.kept_at.elapsed() < MAX_IDLE && link.connection.is_open() {
                return Some(link);
            }
        }
    }

    fn keep(&mut self, mut link: Link) {
        link.kept_at = Instant::now();
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(link);
    }

    /// What the last answer was like, and the requests of the step that did not lead to it.
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

    /// When the certificate that was shown last expires, accepted or not.
    pub(super) fn certificate_expires_at(&self) -> Option<DateTime<Utc>> {
        tls::expiry(self.chain.first()?)
    }

    /// The last answer for people: the hops that led to it, its head and the beginning of its body.
    pub(super) fn evidence(&self, values: &Values) -> Option<Vec<u8>> {
        answer::evidence(&self.trail, self.last.as_ref(), values.masker())
    }
}

/// Keeps the first and the last items of a list that is longer than `most`, half each.
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

/// The failure of a run for whose answer there was no memory.
fn no_memory(timeout: Duration) -> Failure {
    let message =
        format!("no memory for the answer within {}: those of other runs take all that runs may", Pretty(timeout));
    Failure::new(Reason::Resources, message).waited(timeout)
}

/// The value of `Authorization` for a token.
fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Failure::new(Reason::Configuration, "the token cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
