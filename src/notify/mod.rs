//! Telling people: one file per kind of receiver, and the courier that delivers what is owed.
//!
//! A notifier says how a try ended and what it was told about the next one; whether and when to try again is the
//! courier's. A new kind of receiver is a file here, its keys in the agent's file, and a line in [`notifier`].

mod alertmanager;
mod alerts;
mod alive;
mod config;
mod courier;
mod cut;
mod delivering;
pub mod during;
mod email;
mod ends;
mod exchange;
mod feedback;
mod headline;
mod log;
mod message;
mod ntfy;
mod pace;
mod pagerduty;
mod pagerduty_poll;
mod slack;
mod slack_socket;
mod teams;
mod telegram;
pub mod template;
mod trial;
mod webhook;
mod zabbix;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde_json::Value as Json;

pub use crate::bounded::credential;
use crate::diagnostic::credentials;
use crate::incident::{Event, Notice};
use crate::outcome::RunId;
use crate::secret::Masker;
use crate::store::Delivery;
use crate::store::evidence::EvidenceFolder;
use feedback::FeedbackChannel;

pub use alive::{Alive, keep_calling};
pub use config::{
    Alerting, Alertmanager, Begins, Causes, Email, Escalation, MailTls, Ntfy, PagerDuty, PagerDutyApi, Receiver,
    ReceiverKind, Route, Slack, Teams, Telegram, Webhook, WebhookFormat, Window, Zabbix, renamed,
};
pub use courier::{Courier, Metrics};
pub use during::During;
pub use email::is_mailbox;
pub use feedback::{Feedback, OperatorAction};
pub use headline::headline;
pub use trial::{Trial, trial};
pub use zabbix::{DEFAULT_INTERVAL as ZABBIX_INTERVAL, ZabbixAccess, ZabbixApi, ZabbixConnect};

/// The name of the receiver that is always there.
pub const LOG: &str = "log";

/// What notifiers work with.
#[derive(Clone)]
pub struct Tools {
    /// Talks HTTP; follows no redirects.
    pub client: reqwest::Client,
    /// Where screenshots are.
    pub evidence: EvidenceFolder,
    /// Resolves the names of hosts that are not reached by HTTP.
    pub resolve: Resolve,
    /// Settings of TLS for connections that are not HTTP.
    pub tls: Arc<rustls::ClientConfig>,
    /// Opens the API of Zabbix.
    pub zabbix: ZabbixConnect,
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools").field("evidence", &self.evidence).finish_non_exhaustive()
    }
}

/// Resolves the name of a host, or gives the address that it is; the error says what is wrong. It never gives none.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Vec<IpAddr>, String>> + Send + Sync>;

/// How a try ended, and what that means for the next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tried {
    /// How it ended.
    delivery: Delivery,
    /// How long the receiver wants to be left alone.
    wait: Option<Duration>,
    /// Whether what stood in the way stands in the way of every notice, and not of this one alone.
    holds_all: bool,
    /// What has to be remembered of the notice's key from now on; none: what was remembered stays.
    memo: Option<Json>,
    /// What the receiver said, for people.
    said: String,
}

impl Tried {
    fn new(delivery: Delivery, said: String) -> Self {
        Self { delivery, wait: None, holds_all: false, memo: None, said }
    }

    /// The receiver took it, and said this.
    fn sent(said: impl Into<String>) -> Self {
        Self::new(Delivery::Sent, said.into())
    }

    /// It surely did not take it; it may later.
    fn refused(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::new(Delivery::Refused(problem.clone()), problem)
    }

    /// It may have taken it.
    fn unsure(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::new(Delivery::Unsure(problem.clone()), problem)
    }

    /// It never will.
    fn failed(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::new(Delivery::Failed(problem.clone()), problem)
    }

    /// The receiver is away, or has had enough: nothing else gets through either.
    fn holds_all(mut self, wait: Option<Duration>) -> Self {
        self.holds_all = true;
        self.wait = wait;
        self
    }

    fn remember(mut self, memo: Json) -> Self {
        self.memo = Some(memo);
        self
    }

    /// Without secrets.
    fn masked(mut self, masker: &Masker) -> Self {
        for text in [&mut self.said].into_iter().chain(match &mut self.delivery {
            Delivery::Sent => None,
            Delivery::Refused(problem) | Delivery::Unsure(problem) | Delivery::Failed(problem) => Some(problem),
        }) {
            *text = masker.mask(text);
        }
        self
    }
}

/// One way to tell people.
#[async_trait]
pub(crate) trait Notifier: Send + Sync {
    /// Tries once. `memo` is what was remembered of the notice's key.
    async fn notify(&self, notice: &Notice, memo: Option<&Json>) -> Tried;

    /// Whether it remembers anything.
    fn remembers(&self) -> bool {
        false
    }

    /// What is added once a notice is taken and marked; a failure is its own.
    async fn embellish(&self, _notice: &Notice, _memo: Option<&Json>) {}

    /// The least time between two tries, by the receiver's own rules.
    fn gap(&self) -> Duration {
        Duration::ZERO
    }

    /// How often it is told again of all that is remembered.
    fn resends_every(&self) -> Option<Duration> {
        None
    }

    /// Whether it learns what operators do at the receiver.
    fn has_feedback(&self) -> bool {
        false
    }

    /// Hands over what operators do at the receiver, as long as it is polled; never returns.
    async fn receive(&self, _channel: &FeedbackChannel) {
        std::future::pending::<()>().await;
    }

    /// Tells it again of all that is remembered, by key; gives the keys that are over.
    async fn resend(&self, _memos: &[(String, Json)], _now: DateTime<Utc>) -> Vec<String> {
        Vec::new()
    }
}

/// What tells a receiver.
fn notifier(receiver: &Receiver, links: &Links, tools: &Tools) -> Box<dyn Notifier> {
    let wording = message::Wording::new(&receiver.templates, links);
    let client = tools.client.clone();
    match receiver.kind.clone() {
        ReceiverKind::Log => Box::new(log::Log { wording }),
        ReceiverKind::Webhook(config) => Box::new(webhook::Hook { client, config, wording }),
        ReceiverKind::Alertmanager(config) => Box::new(alertmanager::Peers { client, config, wording }),
        ReceiverKind::PagerDuty(config) => Box::new(pagerduty::Pager { client, config, wording }),
        ReceiverKind::Slack(config) => {
            let (evidence, resolve, tls) = (tools.evidence.clone(), Arc::clone(&tools.resolve), Arc::clone(&tools.tls));
            Box::new(slack::Channel { client, config, wording, evidence, resolve, tls })
        }
        ReceiverKind::Teams(config) => Box::new(teams::Workflow { client, config, wording }),
        ReceiverKind::Telegram(config) => Box::new(telegram::Bot { client, config, wording }),
        ReceiverKind::Email(config) => Box::new(email::Mailer {
            config,
            wording,
            evidence: tools.evidence.clone(),
            resolve: Arc::clone(&tools.resolve),
        }),
        ReceiverKind::Ntfy(config) => Box::new(ntfy::Topic { client, config, wording }),
        ReceiverKind::Zabbix(config) => Box::new(zabbix::Problems { config, connect: Arc::clone(&tools.zabbix) }),
    }
}

/// Knows all that a receiver's answers must not show.
async fn masker(receiver: &Receiver) -> Masker {
    let masker = Masker::default();
    for credential in receiver.kind.credentials() {
        let Ok(value) = credential.read().await else { continue };
        masker.add(&value);
        for part in credentials::parts_of_url(&value) {
            masker.add(&part);
        }
    }
    masker
}

/// Links that begin with `web.external_url`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    base: Option<url::Url>,
}

impl Links {
    /// Without a base there are no links.
    pub fn new(base: Option<url::Url>) -> Self {
        Self { base }
    }

    /// The page of the incident that a notice is about: the one that its key is of.
    pub fn incident(&self, notice: &Notice) -> Option<String> {
        let key = percent_encoding::utf8_percent_encode(&notice.key, percent_encoding::NON_ALPHANUMERIC).to_string();
        self.to(crate::names::path::INCIDENT, &key)
    }

    /// Where it can be silenced and taken over, while it is open.
    pub fn silence(&self, notice: &Notice) -> Option<String> {
        let is_over = notice.event == Event::Resolved || !notice.incident.is_open();
        (!is_over).then(|| self.incident(notice)).flatten().map(|page| format!("{page}#silence"))
    }

    /// The page of the run that a notice is about.
    pub fn run(&self, notice: &Notice) -> Option<String> {
        self.run_of(notice.incident.last_run)
    }

    /// The page of a run.
    pub fn run_of(&self, run: RunId) -> Option<String> {
        self.to(crate::names::path::RUN, &run.to_string())
    }

    /// The screenshot of a notice.
    pub fn screenshot(&self, notice: &Notice) -> Option<String> {
        self.to(crate::names::path::EVIDENCE, notice.incident.screenshot.as_deref()?)
    }

    /// What links begin with.
    pub fn base(&self) -> Option<&url::Url> {
        self.base.as_ref()
    }

    fn to(&self, path: &str, id: &str) -> Option<String> {
        let base = self.base.as_ref()?.as_str().trim_end_matches('/');
        Some(format!("{base}{path}{id}"))
    }
}

#[cfg(test)]
mod tests;
