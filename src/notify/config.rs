//! The agent's file, `alerting:`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::alive::Alive;
use super::credential::Credential;
use super::during::During;
use super::template::Templates;
use crate::bounded::SmallFile;

use chrono::{DateTime, TimeDelta, Utc};

use crate::incident::Matchers;
use crate::scenario::timing::Cron;

/// Who is told, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alerting {
    /// Everyone who can be told. Empty: the log alone, under the name `log`.
    pub receivers: Vec<Receiver>,
    /// The first that matches, top down. No route at all: every receiver. None that matches: the log.
    pub routes: Vec<Route>,
    /// How many locations must agree that a scenario is bad. None: a majority of those that report.
    pub quorum: Option<u32>,
    /// When nothing is told, and of what.
    pub maintenance: Vec<Window>,
    /// Who is told as well while nobody has acknowledged, where a route does not say it.
    pub escalate: Vec<Escalation>,
    /// Who notices when the agent is gone.
    pub alive: Option<Alive>,
}

/// A window of maintenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// When it begins.
    pub begins: Begins,
    /// How long it lasts.
    pub length: std::time::Duration,
    /// The times within it that it is limited to; without them, all of it.
    pub during: Option<During>,
    /// What incidents it is meant for. Empty: everything.
    pub matches: Matchers,
}

/// When a window begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begins {
    /// Over and over.
    Cron {
        /// The expression, which reads.
        expression: String,
        /// The zone its times are in.
        timezone: chrono_tz::Tz,
    },
    /// Once.
    At(DateTime<Utc>),
    /// It has begun and does not end; `during` limits it.
    Always,
}

impl Window {
    /// When it begins for the first time strictly after a point in time.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.begins {
            Begins::Cron { expression, timezone } => Cron::parse(expression).ok()?.next_after(*timezone, after),
            Begins::At(at) => Some(*at).filter(|at| *at > after),
            Begins::Always => None,
        }
    }

    /// When it ends, if it is open now.
    pub fn open_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let during = self.during.as_ref().map(|during| during.open_until(now));
        match (&self.begins, during) {
            (_, Some(None)) | (Begins::Always, None) => None,
            (Begins::Always, Some(until)) => until,
            (_, Some(Some(until))) => self.whole_until(now).map(|end| end.min(until)),
            (_, None) => self.whole_until(now),
        }
    }

    /// When it ends, if it is open now, whatever `during` says.
    fn whole_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let length = TimeDelta::from_std(self.length).ok()?;
        // The first beginning that is recent enough for the window to be open still.
        let mut begins = self.next_after(now.checked_sub_signed(length)?)?;
        if begins > now {
            return None;
        }
        // Where windows overlap, they are one.
        while let Some(again) = self.next_after(begins).filter(|again| *again <= now) {
            begins = again;
        }
        begins.checked_add_signed(length)
    }
}

/// Someone who can be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receiver {
    /// The name that routes use.
    pub name: String,
    /// How.
    pub kind: ReceiverKind,
    /// In which words: its own, else those of all receivers, else the default ones.
    pub templates: Templates,
    /// How many pages an hour at most; what is more waits for a digest.
    pub limit: Option<u32>,
    /// The receiver that is notified as well while this one takes nothing.
    pub fallback: Option<String>,
}

/// How a receiver is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ReceiverKind {
    /// A line in the agent's log.
    #[default]
    Log,
    /// A POST of JSON.
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
    /// Returns what stands for where it sends to: its kind and its address, whatever it is called. A hash, since addresses
    /// may hold tokens. A credential that cannot be read now stands for itself by its place.
    pub async fn address(&self) -> String {
        use sha2::{Digest as _, Sha256};

        let mut hash = Sha256::new();
        for part in self.kind.address().await {
            // With its length, so that no two lists of parts are the same text.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Returns which receivers were renamed: those of `before` whose name is gone and whose address a name that is new has,
/// as (old name, new name).
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
    /// The kind and what says where it sends to.
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

    /// All that has to stay hidden.
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

/// A POST of JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where to; it may hold a token.
    pub url: Credential,
    /// Further headers, by name.
    pub headers: Vec<(String, Credential)>,
    /// What the JSON looks like.
    pub format: WebhookFormat,
}

/// What a webhook's JSON looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WebhookFormat {
    /// `docs/webhook.md`.
    #[default]
    Wachta,
    /// What Alertmanager posts to its webhooks, version 4.
    Alertmanager,
}

/// Prometheus Alertmanager: its API, version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alertmanager {
    /// Every peer of the cluster, never a load balancer before them.
    pub urls: Vec<Credential>,
    /// How often it is told again of what is open.
    pub resend: Duration,
}

/// PagerDuty: its Events API, version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagerDuty {
    /// The integration key.
    pub routing_key: Credential,
    /// Where events are posted to.
    pub url: url::Url,
    /// Where it is asked what operators do there; without it, that is not known here.
    pub api: Option<PagerDutyApi>,
}

/// PagerDuty's REST API, version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagerDutyApi {
    /// An API key, which may be read-only.
    pub token: Credential,
    /// The URL below which its methods are.
    pub url: url::Url,
    /// How often it is asked.
    pub interval: Duration,
}

/// Slack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slack {
    /// Its Web API: messages are updated in place, and show the screenshot.
    Token {
        /// A bot's token.
        token: Credential,
        /// A channel's id or `#name`.
        channel: String,
        /// What the API's methods are below.
        url: url::Url,
        /// An app-level token: with it messages have a button to acknowledge.
        app_token: Option<Credential>,
    },
    /// An incoming webhook: messages alone.
    Hook {
        /// Where to; it is a token itself.
        url: Credential,
    },
}

/// Microsoft Teams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Teams {
    /// The workflow's URL; it holds a signature.
    pub url: Credential,
}

/// Telegram: its Bot API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telegram {
    /// The bot's token.
    pub token: Credential,
    /// A chat's id or `@channel`.
    pub chat: String,
    /// The topic in a group that has topics.
    pub thread: Option<u32>,
    /// What `/bot<token>/…` is below.
    pub url: url::Url,
}

/// E-mail by SMTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// The server's name or address.
    pub host: String,
    /// Its port; by default what belongs to the way of encryption.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: MailTls,
    /// A PEM file with roots besides the system's.
    pub ca: Option<SmallFile>,
    /// User and password; none: the server takes mail without.
    pub login: Option<(String, Credential)>,
    /// Who it is from, `Name <address>` or an address.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MailTls {
    /// Begins plain and must switch (RFC 3207).
    #[default]
    StartTls,
    /// From the first byte (RFC 8314).
    Implicit,
    /// Not at all: for a server on this machine.
    None,
}

/// ntfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ntfy {
    /// The server.
    pub url: url::Url,
    /// The topic; who knows it can read it.
    pub topic: Credential,
    /// An access token.
    pub token: Option<Credential>,
}

/// Problems in Zabbix, which it opens by itself: acknowledgements to and from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zabbix {
    /// The name of the sink whose API it uses; none for the first one that has an API.
    pub sink: Option<String>,
    /// The technical name of the host that has the problems.
    pub host: String,
    /// The API; the agent configuration has it beside the receivers.
    pub access: Option<super::ZabbixAccess>,
    /// How often it is asked.
    pub interval: Duration,
}

/// Whether different causes are different groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Causes {
    /// They are, until so many incidents of one host or service open that what follows is one group.
    #[default]
    Widening,
    /// They always are.
    Apart,
    /// They never are.
    Together,
}

/// Who is told as well while nobody has acknowledged an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// How long after the first notice.
    pub after: Duration,
    /// Names of receivers.
    pub to: Vec<String>,
}

/// Which incidents go to whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// What incidents it is meant for. Empty: everything.
    pub matches: Matchers,
    /// Names of receivers.
    pub to: Vec<String>,
    /// Tags, or `severity`, `scenario`, `name`, `location`, `kind`, `host`, whose values must be equal within a group.
    pub group_by: Vec<String>,
    /// Whether different causes are different groups.
    pub causes: Causes,
    /// When it applies; none: always.
    pub during: Option<During>,
    /// Who is told as well while nobody has acknowledged; none: what holds for all routes.
    pub escalate: Option<Vec<Escalation>>,
    /// How long a group gathers before it is told; none: 30 seconds, for critical ones none.
    pub group_wait: Option<std::time::Duration>,
}
