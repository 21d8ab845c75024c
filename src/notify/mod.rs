//! Delivery of notifications: one file per kind of receiver, and the service that delivers the outbox.
//!
//! A notifier reports the result of an attempt and the delay that the receiver asked for. The service decides about
//! further attempts. A new kind of receiver needs a file here, its keys in the agent configuration, and a line in
//! [`notifier`].

mod alertmanager;
mod alerts;
mod config;
mod delivery_service;
mod delivery_task;
pub mod during;
mod email;
mod ends;
mod exchange;
mod feedback;
mod headline;
mod log;
mod message;
mod ntfy;
mod outbound_heartbeat;
mod pagerduty;
mod pagerduty_poll;
mod retry;
mod slack;
mod slack_socket;
mod teams;
mod telegram;
pub mod template;
mod test_notification;
mod truncate;
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
use crate::incident::{Event, Notification};
use crate::outcome::RunId;
use crate::secret::Masker;
use crate::store::DeliveryStatus;
use crate::store::evidence::EvidenceFolder;
use feedback::FeedbackChannel;

pub use config::{
    Alerting, Alertmanager, Begins, Causes, Email, Escalation, MailTls, Ntfy, PagerDuty, PagerDutyApi, Receiver,
    ReceiverKind, Route, Slack, Teams, Telegram, Webhook, WebhookFormat, Window, Zabbix, renamed,
};
pub use delivery_service::{DeliveryService, Metrics};
pub use during::During;
pub use email::is_mailbox;
pub use feedback::{Feedback, OperatorAction};
pub use headline::headline;
pub use outbound_heartbeat::{OutboundHeartbeat, run_outbound_heartbeat};
pub use test_notification::{TestNotification, send_test};
pub use zabbix::{DEFAULT_INTERVAL as ZABBIX_INTERVAL, ZabbixAccess, ZabbixApi, ZabbixConnect};

/// Name of the built-in receiver that writes to the log.
pub const LOG: &str = "log";

/// Services that notifiers use.
#[derive(Clone)]
pub struct NotifierServices {
    /// HTTP client; does not follow redirects.
    pub client: reqwest::Client,
    /// Folder of the screenshots.
    pub evidence: EvidenceFolder,
    /// Resolver for the names of hosts that are not reached by HTTP.
    pub resolve: Resolve,
    /// TLS settings of connections other than HTTP.
    pub tls: Arc<rustls::ClientConfig>,
    /// Opens the API of Zabbix.
    pub zabbix: ZabbixConnect,
}

impl fmt::Debug for NotifierServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools").field("evidence", &self.evidence).finish_non_exhaustive()
    }
}

/// Resolves the name of a host, or parses an address. The list of addresses is never empty; the error describes the
/// problem.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Vec<IpAddr>, String>> + Send + Sync>;

/// Result of a delivery attempt, with the consequences for the next one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeliveryResult {
    /// Result of the attempt.
    delivery: DeliveryStatus,
    /// Delay that the receiver asked for.
    wait: Option<Duration>,
    /// Whether the problem affects all notifications to the receiver and not only this one.
    blocks_receiver: bool,
    /// New receiver state for the dedup key, or `None` to keep the current one.
    receiver_state: Option<Json>,
    /// Response of the receiver, for people.
    response: String,
}

impl DeliveryResult {
    fn new(delivery: DeliveryStatus, response: String) -> Self {
        Self { delivery, wait: None, blocks_receiver: false, receiver_state: None, response }
    }

    /// Creates the result for a notification that the receiver accepted, with its response.
    fn sent(response: impl Into<String>) -> Self {
        Self::new(DeliveryStatus::Delivered, response.into())
    }

    /// Creates the result for a notification that the receiver surely did not accept, but may accept later.
    fn retryable(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::new(DeliveryStatus::Retryable(problem.clone()), problem)
    }

    /// Creates the result for a notification that the receiver may have accepted.
    fn uncertain(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::new(DeliveryStatus::Uncertain(problem.clone()), problem)
    }

    /// Creates the result for a notification that can never be delivered.
    fn failed(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::new(DeliveryStatus::Failed(problem.clone()), problem)
    }

    /// Marks the problem as affecting all notifications, because the receiver is unreachable or limits their rate.
    fn blocks_receiver(mut self, wait: Option<Duration>) -> Self {
        self.blocks_receiver = true;
        self.wait = wait;
        self
    }

    fn remember(mut self, receiver_state: Json) -> Self {
        self.receiver_state = Some(receiver_state);
        self
    }

    /// Masks the secrets in all texts.
    fn masked(mut self, masker: &Masker) -> Self {
        for text in [&mut self.response].into_iter().chain(match &mut self.delivery {
            DeliveryStatus::Delivered => None,
            DeliveryStatus::Retryable(problem)
            | DeliveryStatus::Uncertain(problem)
            | DeliveryStatus::Failed(problem) => Some(problem),
        }) {
            *text = masker.mask(text);
        }
        self
    }
}

/// Implementation of a kind of receiver.
#[async_trait]
pub(crate) trait Notifier: Send + Sync {
    /// Makes one delivery attempt. `receiver_state` is the receiver state of the notification's dedup key.
    async fn notify(&self, notification: &Notification, receiver_state: Option<&Json>) -> DeliveryResult;

    /// Returns whether the notifier keeps receiver state.
    fn keeps_state(&self) -> bool {
        false
    }

    /// Adds optional details after a notification was delivered and recorded. Errors are handled by the notifier
    /// itself.
    async fn after_delivery(&self, _notice: &Notification, _memo: Option<&Json>) {}

    /// Returns the minimum time between two attempts, according to the receiver's own rules.
    fn min_interval(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns the interval at which open incidents are sent again, or `None` if they are not.
    fn resend_interval(&self) -> Option<Duration> {
        None
    }

    /// Returns whether the notifier receives the actions of operators at the receiver.
    fn has_feedback(&self) -> bool {
        false
    }

    /// Forwards the actions of operators at the receiver while it is polled. Never returns.
    async fn receive(&self, _channel: &FeedbackChannel) {
        std::future::pending::<()>().await;
    }

    /// Sends all open incidents again, given by their receiver states. Returns the keys to delete.
    async fn resend(&self, _memos: &[(String, Json)], _now: DateTime<Utc>) -> Vec<String> {
        Vec::new()
    }
}

/// Creates the notifier of a receiver.
fn notifier(receiver: &Receiver, links: &Links, tools: &NotifierServices) -> Box<dyn Notifier> {
    let wording = message::MessageRenderer::new(&receiver.templates, links);
    let client = tools.client.clone();
    match receiver.kind.clone() {
        ReceiverKind::Log => Box::new(log::Log { wording }),
        ReceiverKind::Webhook(config) => Box::new(webhook::WebhookNotifier { client, config, wording }),
        ReceiverKind::Alertmanager(config) => Box::new(alertmanager::AlertmanagerNotifier { client, config, wording }),
        ReceiverKind::PagerDuty(config) => Box::new(pagerduty::PagerDutyNotifier { client, config, wording }),
        ReceiverKind::Slack(config) => {
            let (evidence, resolve, tls) = (tools.evidence.clone(), Arc::clone(&tools.resolve), Arc::clone(&tools.tls));
            Box::new(slack::SlackNotifier { client, config, wording, evidence, resolve, tls })
        }
        ReceiverKind::Teams(config) => Box::new(teams::TeamsNotifier { client, config, wording }),
        ReceiverKind::Telegram(config) => Box::new(telegram::Bot { client, config, wording }),
        ReceiverKind::Email(config) => Box::new(email::EmailNotifier {
            config,
            wording,
            evidence: tools.evidence.clone(),
            resolve: Arc::clone(&tools.resolve),
        }),
        ReceiverKind::Ntfy(config) => Box::new(ntfy::NtfyNotifier { client, config, wording }),
        ReceiverKind::Zabbix(config) => Box::new(zabbix::Problems { config, connect: Arc::clone(&tools.zabbix) }),
    }
}

/// Returns a masker for all secrets that may occur in the responses of a receiver.
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

/// Links below `web.external_url`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    base: Option<url::Url>,
}

impl Links {
    /// Creates the links below `base`. If it is absent, all methods return `None`.
    pub fn new(base: Option<url::Url>) -> Self {
        Self { base }
    }

    /// Returns the URL of the incident page, for the incident that the dedup key belongs to.
    pub fn incident(&self, notification: &Notification) -> Option<String> {
        let key =
            percent_encoding::utf8_percent_encode(&notification.key, percent_encoding::NON_ALPHANUMERIC).to_string();
        self.to(crate::names::path::INCIDENT, &key)
    }

    /// Returns the URL where the incident can be silenced and acknowledged, while it is open.
    pub fn silence(&self, notification: &Notification) -> Option<String> {
        let is_over = notification.event == Event::Resolved || !notification.incident.is_open();
        (!is_over).then(|| self.incident(notification)).flatten().map(|page| format!("{page}#silence"))
    }

    /// Returns the URL of the run page of a notification.
    pub fn run(&self, notification: &Notification) -> Option<String> {
        self.run_of(notification.incident.last_run)
    }

    /// Returns the URL of a run page.
    pub fn run_of(&self, run: RunId) -> Option<String> {
        self.to(crate::names::path::RUN, &run.to_string())
    }

    /// Returns the URL of a notification's screenshot.
    pub fn screenshot(&self, notification: &Notification) -> Option<String> {
        self.to(crate::names::path::EVIDENCE, notification.incident.screenshot.as_deref()?)
    }

    /// Returns the base of all links.
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
