//! Section `alerting:` of the agent configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use super::credential::Credential;
use super::outbound_heartbeat::OutboundHeartbeat;
use super::template::Templates;
use crate::bounded::SmallFile;

use chrono::{DateTime, TimeDelta, Utc};

use crate::incident::{During, Matchers};
use crate::scenario::timing::Cron;

/// Receivers, routes and other settings of alerting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alerting {
    /// All receivers. If empty, only the built-in receiver `log`.
    pub receivers: Vec<Receiver>,
    /// Routes, of which the first match is used, top down. Without routes, every receiver is notified. If no route
    /// matches, the receiver `log` is used.
    pub routes: Vec<Route>,
    /// Number of locations that must agree that a scenario is bad. Absent for a majority of the locations that report.
    pub quorum: Option<u32>,
    /// Maintenance windows.
    pub maintenance: Vec<Window>,
    /// Escalation steps of routes that have none of their own.
    pub escalate: Vec<Escalation>,
    /// Outbound heartbeat (dead man's switch).
    pub alive: Option<OutboundHeartbeat>,
}

/// Maintenance window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Start of the window.
    pub begins: Begins,
    /// Length of the window.
    pub length: std::time::Duration,
    /// Times within the window that it is limited to; absent for the whole window.
    pub during: Option<During>,
    /// Conditions on the incidents to suppress; all incidents if empty.
    pub matches: Matchers,
}

/// Start of a maintenance window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begins {
    /// Repeated, by a cron expression.
    Cron {
        /// Cron expression, already validated.
        expression: String,
        /// Timezone of the expression.
        timezone: chrono_tz::Tz,
    },
    /// A single time.
    Once(DateTime<Utc>),
    /// Always active, limited only by `during`.
    Always,
}

impl Window {
    /// Returns the first start of the window strictly after a time.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.begins {
            Begins::Cron { expression, timezone } => Cron::parse(expression).ok()?.next_after(*timezone, after),
            Begins::Once(at) => Some(*at).filter(|at| *at > after),
            Begins::Always => None,
        }
    }

    /// Returns the end of the window if it is active at `now`.
    pub fn open_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let during = self.during.as_ref().map(|during| during.open_until(now));
        match (&self.begins, during) {
            (_, Some(None)) | (Begins::Always, None) => None,
            (Begins::Always, Some(until)) => until,
            (_, Some(Some(until))) => self.whole_until(now).map(|end| end.min(until)),
            (_, None) => self.whole_until(now),
        }
    }

    /// Returns the end of the window regardless of `during`, if it is active at `now`.
    fn whole_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let length = TimeDelta::from_std(self.length).ok()?;
        // The earliest start that is recent enough for the window to be still active.
        let mut begins = self.next_after(now.checked_sub_signed(length)?)?;
        if begins > now {
            return None;
        }
        // Overlapping windows count as one.
        while let Some(again) = self.next_after(begins).filter(|again| *again <= now) {
            begins = again;
        }
        begins.checked_add_signed(length)
    }
}

/// A configured receiver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receiver {
    /// Name used in routes.
    pub name: String,
    /// Kind of the receiver, with its settings.
    pub kind: ReceiverKind,
    /// Message templates: those of this receiver, otherwise those for all receivers, otherwise the built-in ones.
    pub templates: Templates,
    /// Maximum number of notifications per hour, except resolutions. Further ones are summarized in a digest.
    pub limit: Option<u32>,
    /// Name of the receiver that is notified as well while this one is unreachable.
    pub fallback: Option<String>,
}

/// Kind of a receiver, with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ReceiverKind {
    /// Line in the agent's log.
    #[default]
    Log,
    /// POST request with JSON.
    Webhook(Webhook),
    /// Prometheus Alertmanager.
    Alertmanager(Alertmanager),
    /// PagerDuty.
    PagerDuty(PagerDuty),
    /// Slack.
    Slack(Slack),
    /// Microsoft Teams, by a workflow.
    Teams(Teams),
    /// Telegram.
    Telegram(Telegram),
    /// E-mail.
    Email(Email),
    /// ntfy.
    Ntfy(Ntfy),
    /// Problems in Zabbix.
    Zabbix(Zabbix),
}

impl Receiver {
    /// Returns a hash of the receiver's kind and address, independent of its name. It is a hash because addresses may
    /// contain tokens. A credential that cannot be read is replaced by the place of its configuration.
    pub async fn address(&self) -> String {
        use sha2::{Digest as _, Sha256};

        let mut hash = Sha256::new();
        for part in self.kind.address().await {
            // Each part is preceded by its length, so that no two lists of parts give the same text.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Returns the renamed receivers as (old name, new name): names that were removed and whose address now belongs to a
/// new name.
pub fn renamed(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut new: Vec<(&String, &String)> = now.iter().filter(|(name, _)| !before.contains_key(*name)).collect();
    let gone = before.iter().filter(|(name, _)| !now.contains_key(*name));
    let pair = |(old, address): (&String, &String)| {
        let at = new.iter().position(|(_, other)| *other == address)?;
        Some((old.clone(), new.remove(at).0.clone()))
    };
    gone.filter_map(pair).collect()
}

impl ReceiverKind {
    /// Returns the kind and the parts of the address.
    async fn address(&self) -> Vec<String> {
        let read = async |credential: &Credential| {
            credential.read().await.unwrap_or_else(|_| format!("{:?}", credential.place()))
        };
        match self {
            Self::Log => vec!["log".into()],
            Self::Webhook(webhook) => vec!["webhook".into(), read(&webhook.url).await],
            Self::Alertmanager(alertmanager) => {
                let mut urls = futures_util::future::join_all(alertmanager.urls.iter().map(read)).await;
                urls.sort_unstable();
                urls.insert(0, "alertmanager".into());
                urls
            }
            Self::PagerDuty(pagerduty) => {
                vec!["pagerduty".into(), pagerduty.url.to_string(), read(&pagerduty.routing_key).await]
            }
            Self::Slack(Slack::Token { channel, url, .. }) => vec!["slack".into(), url.to_string(), channel.clone()],
            Self::Slack(Slack::Hook { url }) => vec!["slack".into(), read(url).await],
            Self::Teams(teams) => vec!["teams".into(), read(&teams.url).await],
            Self::Telegram(telegram) => {
                let thread = telegram.thread.map(|thread| thread.to_string()).unwrap_or_default();
                vec!["telegram".into(), telegram.url.to_string(), telegram.chat.clone(), thread]
            }
            Self::Email(email) => {
                let mut parts = vec!["email".into(), email.host.clone(), email.port.to_string()];
                parts.extend(email.to.iter().cloned());
                parts
            }
            Self::Ntfy(ntfy) => vec!["ntfy".into(), ntfy.url.to_string(), read(&ntfy.topic).await],
            Self::Zabbix(zabbix) => {
                let url = zabbix.access.as_ref().map(|access| access.url.to_string()).unwrap_or_default();
                vec!["zabbix".into(), url, zabbix.host.clone()]
            }
        }
    }

    /// Returns all credentials of the receiver.
    pub fn credentials(&self) -> Vec<&Credential> {
        match self {
            Self::Log => Vec::new(),
            Self::Webhook(webhook) => {
                std::iter::once(&webhook.url).chain(webhook.headers.iter().map(|(_, value)| value)).collect()
            }
            Self::Alertmanager(alertmanager) => alertmanager.urls.iter().collect(),
            Self::PagerDuty(pagerduty) => {
                std::iter::once(&pagerduty.routing_key).chain(pagerduty.api.iter().map(|api| &api.token)).collect()
            }
            Self::Slack(Slack::Token { token, app_token, .. }) => std::iter::once(token).chain(app_token).collect(),
            Self::Slack(Slack::Hook { url }) => vec![url],
            Self::Teams(teams) => vec![&teams.url],
            Self::Telegram(telegram) => vec![&telegram.token],
            Self::Email(email) => email.login.iter().map(|(_, password)| password).collect(),
            Self::Ntfy(ntfy) => std::iter::once(&ntfy.topic).chain(&ntfy.token).collect(),
            Self::Zabbix(zabbix) => zabbix.access.iter().map(|access| &access.credential).collect(),
        }
    }
}

/// Webhook: POST request with JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// URL, which may contain a token.
    pub url: Credential,
    /// Additional headers, by name.
    pub headers: Vec<(String, Credential)>,
    /// Format of the JSON.
    pub format: WebhookFormat,
}

/// Format of a webhook's JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WebhookFormat {
    /// wachta's own format, described in `docs/webhook.md`.
    #[default]
    Wachta,
    /// Format of Alertmanager's webhooks, version 4.
    Alertmanager,
}

/// Prometheus Alertmanager API, version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alertmanager {
    /// URLs of all peers of the cluster, without a load balancer in front.
    pub urls: Vec<Credential>,
    /// Interval at which open incidents are sent again.
    pub resend: Duration,
}

/// PagerDuty Events API, version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagerDuty {
    /// Integration key.
    pub routing_key: Credential,
    /// URL of the Events API.
    pub url: url::Url,
    /// REST API for reading the actions of operators; absent if these are not read.
    pub api: Option<PagerDutyApi>,
}

/// PagerDuty REST API, version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagerDutyApi {
    /// API key; a read-only key is sufficient.
    pub token: Credential,
    /// Base URL of the API.
    pub url: url::Url,
    /// Polling interval.
    pub interval: Duration,
}

/// Slack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slack {
    /// Web API: messages are updated in place and include the screenshot.
    Token {
        /// Bot token.
        token: Credential,
        /// Id of a channel, or `#name`.
        channel: String,
        /// Base URL of the API methods.
        url: url::Url,
        /// App-level token, with which messages have a button to acknowledge.
        app_token: Option<Credential>,
    },
    /// Incoming webhook: messages only.
    Hook {
        /// URL of the webhook, which is a secret itself.
        url: Credential,
    },
}

/// Microsoft Teams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Teams {
    /// URL of the workflow, which contains a signature.
    pub url: Credential,
}

/// Telegram Bot API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telegram {
    /// Bot token.
    pub token: Credential,
    /// Id of a chat, or `@channel`.
    pub chat: String,
    /// Id of the topic, for a group with topics.
    pub thread: Option<u32>,
    /// Base URL of `/bot<token>/…`.
    pub url: url::Url,
}

/// E-mail by SMTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// Host name or address of the server.
    pub host: String,
    /// Port of the server (default: the standard port of the encryption mode).
    pub port: u16,
    /// Encryption of the connection.
    pub tls: MailTls,
    /// PEM file with root certificates in addition to those of the system.
    pub ca: Option<SmallFile>,
    /// User and password; absent if the server requires no login.
    pub login: Option<(String, Credential)>,
    /// Sender, as `Name <address>` or an address.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
}

/// Encryption of the connection to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MailTls {
    /// STARTTLS: starts in plain text and must switch to TLS (RFC 3207).
    #[default]
    StartTls,
    /// TLS from the start (RFC 8314).
    Implicit,
    /// No encryption, for a server on the same machine.
    None,
}

/// ntfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ntfy {
    /// URL of the server.
    pub url: url::Url,
    /// Topic, secret because its name is sufficient to read it.
    pub topic: Credential,
    /// Access token.
    pub token: Option<Credential>,
}

/// Problems in Zabbix, which Zabbix opens itself; acknowledgements are synchronized in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zabbix {
    /// Name of the sink whose API is used; absent for the first sink with an API.
    pub sink: Option<String>,
    /// Technical name of the host with the problems.
    pub host: String,
    /// Access to the API, configured outside of the receivers.
    pub access: Option<super::ZabbixAccess>,
    /// Polling interval.
    pub interval: Duration,
}

/// Whether different failure fingerprints form different groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Causes {
    /// Different fingerprints form different groups until enough incidents of one host or service are open that further
    /// ones join a common group.
    #[default]
    Widening,
    /// Different fingerprints always form different groups.
    Apart,
    /// Different fingerprints share a group.
    Together,
}

/// Escalation step: further receivers to notify while an incident is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// Delay after the first notification.
    pub after: Duration,
    /// Names of the receivers.
    pub to: Vec<String>,
}

/// Rule that selects receivers for incidents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// Conditions on the incidents; all incidents if empty.
    pub matches: Matchers,
    /// Names of the receivers.
    pub to: Vec<String>,
    /// Tags, or `severity`, `scenario`, `name`, `location`, `kind`, `host`, whose values must be equal within a group.
    pub group_by: Vec<String>,
    /// Whether different failure fingerprints form different groups.
    pub causes: Causes,
    /// Times at which the route applies; absent for always.
    pub during: Option<During>,
    /// Escalation steps; absent for those of all routes.
    pub escalate: Option<Vec<Escalation>>,
    /// Group wait (default: 30 seconds, without a wait for critical incidents).
    pub group_wait: Option<std::time::Duration>,
}
