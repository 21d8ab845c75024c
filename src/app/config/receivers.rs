//! Sections `alerting.receivers` and `alerting.templates` of the agent configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::shape::key;
use super::value::http_url;
use crate::bounded::SmallFile;
use crate::bounded::credential::{self, Credential};
use crate::notify::template::{self, Templates};
use crate::notify::{
    Alertmanager, Email, MailTls, Ntfy, PagerDuty, PagerDutyApi, Receiver, ReceiverKind, Slack, Teams, Telegram,
    Webhook, WebhookFormat, ZABBIX_INTERVAL, Zabbix, ZabbixAccess, is_mailbox,
};
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::tree::{Entry, Node, NodeKind};
use crate::sink::zabbix::api::Login;
use crate::sink::{Destination, SinkConfig};

pub(super) use crate::bounded::credential::SECRET;

/// Keys of a receiver: one kind, and further settings.
pub(super) const RECEIVER: &[Key] = &[
    key("webhook", Shape::Keys(&[WEBHOOK]), "POST requests with JSON"),
    key("alertmanager", Shape::Keys(&[ALERTMANAGER]), "Prometheus Alertmanager"),
    key("pagerduty", Shape::Keys(&[PAGERDUTY]), "PagerDuty"),
    key("slack", Shape::Keys(&[SLACK]), "Slack, with a bot token or an incoming webhook"),
    key("teams", Shape::Keys(&[TEAMS]), "Microsoft Teams, with a workflow"),
    key("telegram", Shape::Keys(&[TELEGRAM]), "Telegram, with a bot"),
    key("email", Shape::Keys(&[EMAIL]), "e-mail over SMTP"),
    key("ntfy", Shape::Keys(&[NTFY]), "push notifications of ntfy"),
    key("zabbix", Shape::Keys(&[ZABBIX]), "acknowledgements to and from Zabbix through `zabbix.api`"),
    key("log", Shape::Keys(&[&[]]), "lines in the log of the agent"),
    key("template", Shape::Keys(&[TEMPLATES]), "templates of this receiver (default: `alerting.templates`)"),
    key(
        "limit",
        Shape::Text,
        "maximum rate of notifications, such as `6 per hour`; further ones are sent as one digest (default: no limit)",
    ),
    key(
        "fallback",
        Shape::Text,
        "name of the receiver that is notified as well while this one has accepted nothing for five minutes (default: none)",
    ),
];
/// Keys of a receiver in addition to its kind.
const BESIDE: [&str; 3] = ["template", "limit", "fallback"];
/// Minimum polling interval of PagerDuty's REST API.
const MIN_API_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum rate limit of a receiver.
const MOST: u32 = 1000;
/// Keys of templates.
pub(super) const TEMPLATES: &[Key] = &[
    key("title", Shape::Text, "Minijinja template of the title, in one line"),
    key("text", Shape::Text, "Minijinja template of the text"),
];
const WEBHOOK: &[Key] = &[
    key("url", SECRET, "URL of the requests; required"),
    key("headers", Shape::Map(&SECRET), "additional headers of the requests, by name"),
    key("format", Shape::Words(FORMATS), "format of the JSON (default: wachta)"),
];
const FORMATS: &[&str] = &["wachta", "alertmanager"];
const ALERTMANAGER: &[Key] = &[
    key(
        "urls",
        Shape::List(&SECRET),
        "URLs of all peers of the cluster, such as `http://alertmanager-0:9093`; required",
    ),
    key("resend", Shape::Duration, "interval at which open incidents are sent again (default: 1m)"),
];
const PAGERDUTY: &[Key] = &[
    key("routing_key", SECRET, "integration key of the service; required"),
    key("url", Shape::Text, "URL of the Events API (default: `https://events.pagerduty.com/v2/enqueue`)"),
    key(
        "api_token",
        SECRET,
        "key of the REST API, to apply acknowledgements and resolutions made in PagerDuty (default: they are not applied)",
    ),
    key(
        "api_url",
        Shape::Text,
        "with `api_token`: URL of the API, in Europe `https://api.eu.pagerduty.com` (default: `https://api.pagerduty.com`)",
    ),
    key(
        "api_interval",
        Shape::Duration,
        "with `api_token`: polling interval while incidents are open, at least 5s (default: 30s)",
    ),
];
const SLACK: &[Key] = &[
    key("token", SECRET, "bot token with the scopes `chat:write` and `files:write`; required without `url`"),
    key("channel", Shape::Text, "channel id or `\"#name\"`; required with `token`"),
    key(
        "url",
        SECRET,
        "URL of an incoming webhook; with `token`: base URL of the API (default: `https://slack.com/api/`)",
    ),
    key(
        "app_token",
        SECRET,
        "with `token`: app-level token with the scope `connections:write`, for a button that acknowledges (default: no button)",
    ),
];
const TEAMS: &[Key] = &[key("url", SECRET, "URL of the workflow; required")];
const TELEGRAM: &[Key] = &[
    key("token", SECRET, "token of the bot; required"),
    key("chat", Shape::Text, "chat id, or `\"@channel\"`; required"),
    key("thread", Shape::Count, "topic id in a group with topics"),
    key("url", Shape::Text, "URL of the API (default: `https://api.telegram.org`)"),
];
const EMAIL: &[Key] = &[
    key(
        "server",
        Shape::Text,
        "`HOST` or `HOST:PORT`; required (default port: 587, with `tls: implicit` 465, with `tls: none` 25)",
    ),
    key("tls", Shape::Words(TLS), "encryption of the connection (default: starttls)"),
    key("ca", Shape::Text, "PEM file with root certificates in addition to those of the system, relative to this file"),
    key("username", Shape::Text, "user name for the login, together with `password` (default: no login)"),
    key("password", SECRET, "password of `username`"),
    key("from", Shape::Text, "address of the sender, or `Name <address>`; required"),
    key("to", Shape::OneOrMany(&Shape::Text), "addresses of the recipients; required"),
];
const TLS: &[&str] = &["starttls", "implicit", "none"];
const NTFY: &[Key] = &[
    key("topic", SECRET, "name of the topic; required"),
    key("url", Shape::Text, "URL of the server (default: `https://ntfy.sh`)"),
    key("token", SECRET, "access token (default: none)"),
];

const ZABBIX: &[Key] = &[
    key(
        "sink",
        Shape::Text,
        "sink whose `api` is used if there are several, such as `zabbix/NAME` (default: the first with an `api`)",
    ),
    key("interval", Shape::Duration, "polling interval while incidents are open, at least 5s (default: 30s)"),
];

/// Parses a receiver.
pub(super) fn receiver(r: &mut Reader, entry: &Entry, linked: bool, words: &Templates) -> Option<Receiver> {
    let fields = r.fields(&entry.value, "a receiver", &[RECEIVER])?;
    let own = fields.get("template").map(|node| templates(r, node, "`template`")).unwrap_or_default();
    let limit = fields.get("limit").and_then(|node| limit(r, node));
    let kinds: Vec<_> = fields.iter().filter(|entry| !BESIDE.contains(&entry.key.as_str())).collect();
    let [kind] = kinds.as_slice() else {
        let nothing_else_is_wrong = entry.value.entries().is_some_and(|all| all.len() == fields.iter().count());
        if nothing_else_is_wrong {
            let names: Vec<_> = RECEIVER.iter().filter(|key| !BESIDE.contains(&key.name)).map(|key| key.name).collect();
            let message = format!("receiver `{}` needs one kind", entry.key);
            r.fail_with(entry.key_span, message, format!("one of {}", names.join(", ")));
        }
        return None;
    };
    let node = &kind.value;
    let read = match kind.key.as_str() {
        "webhook" => webhook(r, node).map(ReceiverKind::Webhook),
        "alertmanager" => alertmanager(r, node).map(ReceiverKind::Alertmanager),
        "pagerduty" => pagerduty(r, node).map(ReceiverKind::PagerDuty),
        "slack" => slack(r, node).map(ReceiverKind::Slack),
        "teams" => teams(r, node).map(ReceiverKind::Teams),
        "telegram" => telegram(r, node).map(ReceiverKind::Telegram),
        "email" => email(r, node).map(ReceiverKind::Email),
        "ntfy" => ntfy(r, node).map(ReceiverKind::Ntfy),
        "zabbix" => zabbix(r, node).map(ReceiverKind::Zabbix),
        _ => r.fields(node, "`log`", &[&[]]).map(|_| ReceiverKind::Log),
    };
    let read = read?;
    if !linked && read != ReceiverKind::Log {
        r.warn(entry.key_span, "its notifications contain no links", "set `web.external_url`");
    }
    let templates =
        Templates { title: own.title.or_else(|| words.title.clone()), text: own.text.or_else(|| words.text.clone()) };
    let fallback = fields.get("fallback").and_then(|node| r.text(node, "`fallback`")).map(|text| text.value);
    Some(Receiver { name: entry.key.clone(), kind: read, templates, limit, fallback })
}

fn zabbix(r: &mut Reader, node: &Node) -> Option<Zabbix> {
    let fields = r.fields(node, "`zabbix`", &[ZABBIX])?;
    let interval = fields.get("interval").and_then(|node| Some((node, r.duration(node, "`interval`")?)));
    if let Some((node, _)) = interval.filter(|(_, interval)| *interval < MIN_API_INTERVAL) {
        r.fail(node.span, format!("`interval` must be at least {}s", MIN_API_INTERVAL.as_secs()));
    }
    let interval = interval.map_or(ZABBIX_INTERVAL, |(_, interval)| interval);
    let sink = fields.get("sink").and_then(|node| r.text(node, "`sink`")).map(|text| text.value);
    Some(Zabbix { sink, host: String::new(), access: None, interval })
}

/// Connects each receiver of the kind `zabbix` to the API of its sink.
pub(super) fn connect_zabbix(r: &mut Reader, node: &Node, sinks: &[Destination], receivers: &mut [Receiver]) {
    let with_api = |destination: &'_ Destination| match &destination.config {
        SinkConfig::Zabbix(config) => Some((destination.name.to_string(), config.clone(), config.api.clone()?)),
        _ => None,
    };
    let known: Vec<_> = sinks.iter().filter_map(with_api).collect();
    for receiver in receivers {
        let ReceiverKind::Zabbix(config) = &mut receiver.kind else { continue };
        let wanted = config.sink.as_deref();
        let found = known.iter().find(|(name, ..)| wanted.is_none_or(|wanted| wanted == name));
        let Some((_, sink, api)) = found else {
            let message = match wanted {
                None => format!("receiver `{}` needs the API of Zabbix", receiver.name),
                Some(wanted) => format!("receiver `{}`: there is no sink `{wanted}` with an `api`", receiver.name),
            };
            let names: Vec<_> = known.iter().map(|(name, ..)| name.as_str()).collect();
            let advice = match names.as_slice() {
                [] => "add `zabbix: {host: …, api: {url: …, token: …}}`".to_owned(),
                names => format!("those with one: {}", names.join(", ")),
            };
            r.fail_with(node.span, message, advice);
            continue;
        };
        config.host.clone_from(&sink.host);
        let (user, credential) = match &api.login {
            Login::Token(token) => (None, token.clone()),
            Login::User(user, password) => (Some(user.clone()), password.clone()),
        };
        config.access = Some(ZabbixAccess { url: api.url.clone(), user, credential, ca: api.ca.clone() });
    }
}

/// Parses a rate limit like `6 per hour`.
fn limit(r: &mut Reader, node: &Node) -> Option<u32> {
    let text = r.text(node, "`limit`")?;
    let count = text.value.strip_suffix(" per hour").and_then(|count| count.trim().parse().ok());
    let count = count.filter(|count| (1..=MOST).contains(count));
    if count.is_none() {
        r.fail_with(
            node.span,
            "`limit` is not a number of notifications per hour",
            format!("write it like 6 per hour, up to {MOST}"),
        );
    }
    count
}

/// Parses templates, and checks each of them.
pub(super) fn templates(r: &mut Reader, node: &Node, what: &str) -> Templates {
    let Some(fields) = r.fields(node, what, &[TEMPLATES]) else { return Templates::default() };
    let mut read = |name: &str| fields.get(name).and_then(|node| template(r, node, name));
    Templates { title: read("title"), text: read("text") }
}

fn template(r: &mut Reader, node: &Node, name: &str) -> Option<String> {
    let text = r.text(node, &format!("`{name}`"))?.value;
    match template::check(&text) {
        Ok(()) => Some(text),
        Err(problem) => {
            let span = problem.range.map_or(node.span, |range| place(r, node, &text, range));
            let message = format!("template `{name}`: {}", problem.message);
            match problem.near {
                Some(near) => r.fail_with(span, message, format!("did you mean `{near}`?")),
                None => r.fail(span, message),
            }
            None
        }
    }
}

/// Returns the position of a part of a template in the file, even in a block scalar, where each line has the same text
/// as in the template.
fn place(r: &Reader, node: &Node, text: &str, range: std::ops::Range<usize>) -> crate::diagnostic::Span {
    let within = r.within(node, range.clone());
    if within != node.span {
        return within;
    }
    let line_start = text[..range.start.min(text.len())].rfind('\n').map_or(0, |at| at + 1);
    let Some(line) = text[line_start..].lines().next().filter(|line| !line.trim().is_empty()) else { return node.span };
    let from = node.span.start as usize;
    let Some(rest) = r.source.text.get(from..node.span.end as usize) else { return node.span };
    // The same line may occur several times: the match is the one with the same number of equal lines before it.
    let before = text[..line_start].lines().filter(|other| *other == line).count();
    let Some(found) = rest.match_indices(line).nth(before).map(|(at, _)| from + at + range.start - line_start) else {
        return node.span;
    };
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let head = &r.source.text[..found];
    let begins = head.rfind('\n').map_or(0, |at| at + 1);
    crate::diagnostic::Span {
        line: number(head.matches('\n').count() + 1),
        column: number(head[begins..].chars().count() + 1),
        start: number(found),
        end: number(found + range.len().max(1).min(line.len())),
    }
}

fn webhook(r: &mut Reader, node: &Node) -> Option<Webhook> {
    let fields = r.fields(node, "`webhook`", &[WEBHOOK])?;
    let url = needed(r, &fields, "webhook", "url", secret_url);
    let mut headers = Vec::new();
    for entry in fields.get("headers").and_then(|node| r.entries(node, "`headers`")).unwrap_or_default() {
        if reqwest::header::HeaderName::from_bytes(entry.key.as_bytes()).is_err() {
            r.fail(entry.key_span, format!("`{}` is not the name of a header", entry.key));
        }
        let value = secret(r, &entry.value, &format!("`{}`", entry.key));
        if let Some(Credential::Text(text)) = &value
            && reqwest::header::HeaderValue::from_str(text.expose()).is_err()
        {
            r.fail(entry.value.span, format!("the value of `{}` is not valid in a header", entry.key));
        }
        headers.extend(value.map(|value| (entry.key.clone(), value)));
    }
    let format = match fields.get("format").and_then(|node| r.word(node, "format", FORMATS)) {
        Some("alertmanager") => WebhookFormat::Alertmanager,
        _ => WebhookFormat::Wachta,
    };
    Some(Webhook { url: url?, headers, format })
}

fn alertmanager(r: &mut Reader, node: &Node) -> Option<Alertmanager> {
    let fields = r.fields(node, "`alertmanager`", &[ALERTMANAGER])?;
    let Some(list) = fields.get("urls") else {
        r.fail_with(
            fields.span,
            "`alertmanager` needs `urls:`",
            "list every peer, not a load balancer in front of them",
        );
        return None;
    };
    let items = r.list(list, "`urls`")?;
    if items.is_empty() {
        r.fail(list.span, "`urls` is empty");
    }
    let urls: Vec<_> = items.iter().filter_map(|item| secret_url(r, item, "`urls`")).collect();
    let resend = fields.get("resend").and_then(|node| r.duration(node, "`resend`"));
    Some(Alertmanager { urls, resend: resend.unwrap_or(Duration::from_mins(1)) })
}

fn pagerduty(r: &mut Reader, node: &Node) -> Option<PagerDuty> {
    let fields = r.fields(node, "`pagerduty`", &[PAGERDUTY])?;
    let routing_key = needed(r, &fields, "pagerduty", "routing_key", secret);
    let url = url_or(r, &fields, "https://events.pagerduty.com/v2/enqueue");
    let api = pagerduty_api(r, &fields)?;
    Some(PagerDuty { routing_key: routing_key?, url: url?, api })
}

/// Parses the settings of the REST API, if there is a token for it. The outer `None` stands for an error.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
fn pagerduty_api(r: &mut Reader, fields: &Fields) -> Option<Option<PagerDutyApi>> {
    let Some(node) = fields.get("api_token") else {
        for name in ["api_url", "api_interval"] {
            if let Some(entry) = fields.entry(name) {
                r.fail(entry.key_span, format!("`{name}` needs `api_token:`"));
                return None;
            }
        }
        return Some(None);
    };
    let token = secret(r, node, "`api_token`");
    let url = match fields.get("api_url") {
        Some(node) => http_url(r, node, "`api_url`"),
        None => url::Url::parse("https://api.pagerduty.com").ok(),
    };
    let interval = match fields.get("api_interval") {
        None => Some(Duration::from_secs(30)),
        Some(node) => r.duration(node, "`api_interval`").filter(|interval| {
            let is_long_enough = *interval >= MIN_API_INTERVAL;
            if !is_long_enough {
                r.fail(node.span, "`api_interval` must be at least 5s");
            }
            is_long_enough
        }),
    };
    Some(Some(PagerDutyApi { token: token?, url: url?, interval: interval? }))
}

fn slack(r: &mut Reader, node: &Node) -> Option<Slack> {
    let fields = r.fields(node, "`slack`", &[SLACK])?;
    let (token, channel) = (fields.entry("token"), fields.entry("channel"));
    if token.is_none() && channel.is_none() {
        if let Some(entry) = fields.entry("app_token") {
            r.fail_with(entry.key_span, "`app_token` needs `token:`", "an incoming webhook has no buttons");
            return None;
        }
        let Some(url) = fields.get("url") else {
            r.fail_with(
                fields.span,
                "`slack` needs `token:` and `channel:`, or `url:`",
                "a token's messages are updated in place",
            );
            return None;
        };
        return Some(Slack::Hook { url: secret_url(r, url, "`url`")? });
    }
    let token = needed(r, &fields, "slack", "token", secret);
    let channel = needed(r, &fields, "slack", "channel", |r, node, what| Some(r.text(node, what)?.value));
    let mut url = url_or(r, &fields, "https://slack.com/api/")?;
    // Methods are joined to this URL.
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    let app_token = match fields.get("app_token") {
        Some(node) => Some(secret(r, node, "`app_token`")?),
        None => None,
    };
    Some(Slack::Token { token: token?, channel: channel?, url, app_token })
}

fn teams(r: &mut Reader, node: &Node) -> Option<Teams> {
    let fields = r.fields(node, "`teams`", &[TEAMS])?;
    Some(Teams { url: needed(r, &fields, "teams", "url", secret_url)? })
}

fn telegram(r: &mut Reader, node: &Node) -> Option<Telegram> {
    let fields = r.fields(node, "`telegram`", &[TELEGRAM])?;
    let token = needed(r, &fields, "telegram", "token", secret);
    let chat = needed(r, &fields, "telegram", "chat", |r, node, what| {
        let chat = r.text(node, what)?.value;
        let is_id = chat.strip_prefix('-').unwrap_or(&chat).chars().all(|c| c.is_ascii_digit()) && !chat.is_empty();
        if is_id || chat.len() > 1 && chat.starts_with('@') {
            return Some(chat);
        }
        r.fail_with(
            node.span,
            format!("{what} is neither a chat id nor a channel"),
            "write it like -1001234567890 or \"@channel\"",
        );
        None
    });
    let thread = fields.get("thread").and_then(|node| r.count(node, "`thread`"));
    let url = url_or(r, &fields, "https://api.telegram.org");
    Some(Telegram { token: token?, chat: chat?, thread, url: url? })
}

fn email(r: &mut Reader, node: &Node) -> Option<Email> {
    let fields = r.fields(node, "`email`", &[EMAIL])?;
    let (tls, default_port) = match fields.get("tls").and_then(|node| r.word(node, "tls", TLS)) {
        Some("implicit") => (MailTls::Implicit, 465),
        Some("none") => (MailTls::None, 25),
        _ => (MailTls::StartTls, 587),
    };
    let server = needed(r, &fields, "email", "server", |r, node, what| {
        let text = r.text(node, what)?;
        let split = |text: &str| match text.rsplit_once(':') {
            None => Some((text.to_owned(), default_port)),
            Some((host, port)) => {
                Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok().filter(|port| *port > 0)?))
            }
        };
        let found = split(&text).filter(|(host, _)| !host.is_empty() && !host.contains(['/', ' ', '@']));
        if found.is_none() {
            r.fail_with(
                node.span,
                format!("{what} must be a host and perhaps a port"),
                "write it like mail.example.com:587",
            );
        }
        found
    });
    let ca = fields.get("ca").and_then(|node| r.text(node, "`ca`")).map(|path| beside(r, &path.value));
    let login = match (fields.entry("username"), fields.entry("password")) {
        (None, None) => None,
        (Some(user), Some(password)) => {
            let user = r.text(&user.value, "`username`").map(|text| text.value);
            user.zip(secret(r, &password.value, "`password`"))
        }
        (Some(entry), None) | (None, Some(entry)) => {
            r.fail(entry.key_span, "`username` and `password` go together");
            None
        }
    };
    if login.is_some() && tls == MailTls::None {
        let span = fields.entry("tls").map_or(fields.span, |entry| entry.value.span);
        r.warn(span, "the password is sent without encryption", "use `tls: none` only for servers without login");
    }
    let address = |r: &mut Reader, node: &Node, what: &str| {
        let text = r.text(node, what)?.value;
        if is_mailbox(&text) {
            return Some(text);
        }
        r.fail_with(
            node.span,
            format!("{what} is not an address"),
            "write it like on-call@example.com, or Name <address>",
        );
        None
    };
    let from = needed(r, &fields, "email", "from", address);
    let to = needed(r, &fields, "email", "to", |r, node, what| match &node.kind {
        NodeKind::List(items) if items.is_empty() => {
            r.fail(node.span, "`to` is empty");
            None
        }
        NodeKind::List(items) => items.iter().map(|item| address(r, item, what)).collect(),
        _ => Some(vec![address(r, node, what)?]),
    });
    let (host, port) = server?;
    Some(Email { host, port, tls, ca: ca.map(SmallFile::from), login, from: from?, to: to? })
}

fn ntfy(r: &mut Reader, node: &Node) -> Option<Ntfy> {
    let fields = r.fields(node, "`ntfy`", &[NTFY])?;
    let topic = needed(r, &fields, "ntfy", "topic", secret);
    let token = fields.get("token").map(|node| secret(r, node, "`token`"));
    let url = url_or(r, &fields, "https://ntfy.sh");
    Some(Ntfy { url: url?, topic: topic?, token: token.flatten() })
}

/// Parses the value of a required key.
fn needed<T>(
    r: &mut Reader,
    fields: &Fields,
    kind: &str,
    key: &str,
    read: impl Fn(&mut Reader, &Node, &str) -> Option<T>,
) -> Option<T> {
    if let Some(node) = fields.get(key) {
        return read(r, node, &format!("`{key}`"));
    }
    r.fail(fields.span, format!("`{kind}` needs `{key}:`"));
    None
}

fn url_or(r: &mut Reader, fields: &Fields, default: &str) -> Option<url::Url> {
    match fields.get("url") {
        Some(node) => http_url(r, node, "`url`"),
        None => url::Url::parse(default).ok(),
    }
}

/// Parses a credential.
pub(super) fn secret(r: &mut Reader, node: &Node, what: &str) -> Option<Credential> {
    Credential::from_config(r, node, what)
}

/// Parses a URL that may contain a secret.
pub(super) fn secret_url(r: &mut Reader, node: &Node, what: &str) -> Option<Credential> {
    if matches!(node.kind, NodeKind::Map(_)) {
        return secret(r, node, what);
    }
    let url = http_url(r, node, what)?;
    credential::hide(r, node.scalar().map_or("", |scalar| &scalar.text));
    Some(Credential::text(url.as_str()))
}

/// Returns a path relative to the agent configuration.
fn beside(r: &Reader, path: &str) -> PathBuf {
    Path::new(&r.source.path).parent().unwrap_or(Path::new("")).join(path)
}

#[cfg(test)]
mod tests;
