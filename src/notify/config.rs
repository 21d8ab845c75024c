//! The agent's file, `alerting:`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::alive::Alive;
use super::credential::Credential;
use super::template::Templates;

use chrono::{DateTime, Utc};

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
    /// Tags, or `severity`, `scenario`, `location`, `kind` and their values: all must be equal. Empty: everything.
    pub matches: BTreeMap<String, String>,
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
}

impl Window {
    /// When it begins for the first time strictly after a point in time.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.begins {
            Begins::Cron { expression, timezone } => Cron::parse(expression).ok()?.next_after(*timezone, after),
            Begins::At(at) => Some(*at).filter(|at| *at > after),
        }
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
}

impl ReceiverKind {
    /// All that has to stay hidden.
    pub fn credentials(&self) -> Vec<&Credential> {
        match self {
            Self::Log => Vec::new(),
            Self::Webhook(webhook) => {
                std::iter::once(&webhook.url).chain(webhook.headers.iter().map(|(_, value)| value)).collect()
            }
            Self::Alertmanager(alertmanager) => alertmanager.urls.iter().collect(),
            Self::PagerDuty(pagerduty) => vec![&pagerduty.routing_key],
            Self::Slack(Slack::Token { token, .. }) => vec![token],
            Self::Slack(Slack::Hook { url }) => vec![url],
            Self::Teams(teams) => vec![&teams.url],
            Self::Telegram(telegram) => vec![&telegram.token],
            Self::Email(email) => email.login.iter().map(|(_, password)| password).collect(),
            Self::Ntfy(ntfy) => std::iter::once(&ntfy.topic).chain(&ntfy.token).collect(),
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
    pub ca: Option<PathBuf>,
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

/// Which incidents go to whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// Tags, or `severity`, `scenario`, `location`, `kind` and their values: all must be equal. Empty: everything.
    pub matches: BTreeMap<String, String>,
    /// Names of receivers.
    pub to: Vec<String>,
    /// Tags, or `severity`, `scenario`, `location`, `kind`, whose values must be equal within a group. The cause
    /// always must.
    pub group_by: Vec<String>,
    /// How long a group gathers before it is told; none: 30 seconds, for critical ones none.
    pub group_wait: Option<std::time::Duration>,
}
