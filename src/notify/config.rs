//! The agent's file, `alerting:`.

use std::path::PathBuf;
use std::time::Duration;

use super::alive::Alive;
use super::credential::Credential;
use super::template::Templates;

use chrono::{DateTime, Datelike as _, NaiveTime, TimeDelta, Utc, Weekday};

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
}

impl Window {
    /// When it begins for the first time strictly after a point in time.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.begins {
            Begins::Cron { expression, timezone } => Cron::parse(expression).ok()?.next_after(*timezone, after),
            Begins::At(at) => Some(*at).filter(|at| *at > after),
        }
    }

    /// When it ends, if it is open now.
    pub fn open_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
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

/// A time of the day on some days of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct During {
    /// The days on which it begins.
    pub weekdays: Vec<Weekday>,
    /// When it begins.
    pub from: NaiveTime,
    /// When it ends; not after `from`: on the day after. None: at the end of the day.
    pub until: Option<NaiveTime>,
    /// The zone of these times.
    pub timezone: chrono_tz::Tz,
}

impl During {
    /// Whether it is that time.
    pub fn contains(&self, now: DateTime<Utc>) -> bool {
        let local = now.with_timezone(&self.timezone);
        let (day, time) = (local.weekday(), local.time());
        let on = |day: Weekday| self.weekdays.contains(&day);
        match self.until {
            None => on(day) && self.from <= time,
            Some(until) if until > self.from => on(day) && self.from <= time && time < until,
            // It goes on after midnight, and belongs to the day on which it began.
            Some(until) => (on(day) && self.from <= time) || (on(day.pred()) && time < until),
        }
    }
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
