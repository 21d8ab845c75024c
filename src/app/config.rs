//! The agent configuration, composed of the `Config` types of the parts.

mod metrics;
mod network;
mod pipeline;
mod receivers;
mod shape;
mod value;

use std::path::Path;

use crate::blackbox::Pattern;
use crate::bounded;
use crate::diagnostic::{Diagnostic, Source, Span, Spanned};
use crate::notify::Route;
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::{Reader, cut};
use crate::scenario::tree::{self, Node, NodeKind, Resolved};
use crate::store::evidence::Limits;
use crate::wire::NetworkPattern;
use crate::{blackbox, browser, notify, run, sink, web, wire};
use shape::{TEXTS, key};
use value::{http_url, known_receiver, receiver_names, texts};

/// Agent configuration, parsed and validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the location that this agent runs from.
    pub location: String,
    /// Files and folders of scenarios, relative to the agent configuration.
    pub scenarios: Vec<String>,
    /// Environment variables, files, programs and addresses of the agent that scenarios may use.
    pub allow: Allow,
    /// URL of the store: `sqlite:FILE` or `sqlite::memory:`.
    pub store: String,
    /// Settings of the web server.
    pub web: web::Config,
    /// Settings of browsers.
    pub browser: browser::Config,
    /// Content of `/metrics`.
    pub metrics: sink::prometheus::Config,
    /// Export destinations of outcomes.
    pub sinks: Vec<sink::Destination>,
    /// Limits of the stored evidence.
    pub evidence: Limits,
    /// Settings of `/probe`; absent if there are no modules for it.
    pub probe: Option<blackbox::Config>,
    /// Targets of the connectivity check.
    pub network: run::NetworkConfig,
    /// Receivers, routes and other settings of alerting.
    pub alerting: notify::Alerting,
}

/// Resources that scenarios may use. Each is empty unless configured; files in the folder of the scenario are always
/// allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// Names of variables, with `*` for any characters.
    pub env: Vec<String>,
    /// Files, or folders with a `/` at the end.
    pub files: Vec<String>,
    /// Programs that checks may run, exactly as named in the check.
    pub exec: Vec<String>,
    /// Ports and sockets of this machine that are otherwise closed to checks.
    pub network: Vec<NetworkPattern>,
}

/// Parses the agent configuration. Every problem is a diagnostic; after an error there is no configuration.
pub fn read(path: &str, text: &str) -> (Option<Config>, Vec<Diagnostic>) {
    let source = Source::new(path, text);
    let root = match tree::parse(&source) {
        Ok(root) => root,
        Err(diagnostic) => return (None, vec![diagnostic]),
    };
    let mut r = Reader::new(&source);
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let config = config(&mut r, &root, folder);
    let errors = r.errors();
    let omitted = r.omitted();
    let mut diagnostics = r.diagnostics;
    diagnostics.sort_by_key(|found| (found.span.line, found.span.column));
    diagnostics.extend(omitted);
    (config.filter(|_| errors == 0), diagnostics)
}

/// Returns the JSON Schema of the agent configuration.
pub fn schema() -> serde_json::Value {
    crate::scenario::schema::of_tables("wachta agent configuration", KEYS, &["location", "scenarios"])
}

/// Maximum size of a file with root certificates, in bytes.
const LARGEST_PEM: u64 = 4 << 20;

/// Keys of the agent configuration. Their shapes lead to all others.
pub const KEYS: &[&[Key]] = &[TOP, sink::KEYS];

const TOP: &[Key] = &[
    key("location", Shape::Text, "name of the location that this agent runs from; required"),
    key("scenarios", TEXTS, "files and folders of scenarios, relative to this file; required"),
    key("allow", Shape::Keys(&[ALLOW]), "resources of this machine that scenarios may use (default: none)"),
    key(
        "store",
        Shape::Text,
        "URL of the store: `sqlite:FILE`, relative to this file, or `sqlite::memory:` (default: `sqlite:wachta.db`)",
    ),
    key("web", Shape::Keys(&[WEB]), "web server of the agent"),
    key("browser", Shape::Keys(&[BROWSER]), "browser sessions and their limits"),
    key("evidence", Shape::Keys(&[EVIDENCE]), "limits of the stored evidence"),
    key("metrics", Shape::Keys(&[metrics::METRICS]), "metrics exported by `/metrics`"),
    key("probe", Shape::Keys(&[PROBE]), "modules and targets of `/probe`"),
    key("alerting", Shape::Keys(&[ALERTING]), "receivers, routes and other settings of alerting"),
    key("network", Shape::Keys(&[network::NETWORK]), "targets of the connectivity check"),
];
const ALLOW: &[Key] = &[
    key("env", TEXTS, "names of environment variables, with `*` for any characters"),
    key(
        "files",
        TEXTS,
        "files, or folders with a `/` at the end; files in the folder of the scenario are always allowed",
    ),
    key("exec", TEXTS, "programs that `exec` checks may run, exactly as written in the check"),
    key(
        "network",
        TEXTS,
        "ports of the agent and Unix sockets that checks may reach: `HOST:PORT`, `unix:/PATH`, with `*` for any characters",
    ),
];
const WEB: &[Key] = &[
    key("listen", Shape::Text, "address and port to listen on (default: `127.0.0.1:9815`)"),
    key("external_url", Shape::Text, "base URL of links in notifications (default: notifications without links)"),
    key(
        "hosts",
        TEXTS,
        "further host names that requests may use, in addition to addresses, this machine and the host of `external_url`",
    ),
    key(
        "config_file",
        Shape::Text,
        "file with TLS settings and users in the format of Prometheus exporters, relative to this file",
    ),
    key("insecure", Shape::Bool, "whether other machines may reach the agent without authentication (default: false)"),
    key(
        "beat_token",
        receivers::SECRET,
        "token required by `/beat`, as `Authorization: Bearer TOKEN` or `?token=TOKEN` (default: no token is required)",
    ),
];
const BROWSER: &[Key] = &[
    key("max_sessions", Shape::Count, "maximum number of browser sessions (default: 2)"),
    key(
        "webdriver",
        Shape::Text,
        "URL of a WebDriver endpoint (default: the agent starts `chromedriver` or `geckodriver`)",
    ),
    key(
        "trust",
        Shape::Keys(&[BROWSER_TRUST]),
        "certificates trusted for the WebDriver endpoint, in addition to those of the system",
    ),
    key(
        "headless",
        Shape::Words(crate::scenario::Headless::WORDS),
        "binary of Chromium: `shell` is the headless shell if it is installed, `full` the full browser (default: shell)",
    ),
    key(
        "capabilities",
        Shape::Any,
        "map of WebDriver capabilities, merged into the requested ones; `null` removes one",
    ),
    key("warm", Shape::Bool, "whether a browser session is used for several runs (default: true)"),
    key("max_runs", Shape::Count, "number of runs after which a browser session is replaced (default: 200)"),
    key("max_age", Shape::Duration, "age at which a browser session is replaced (default: 1h)"),
    key("max_memory", Shape::Text, "memory above which a browser session is ended, even during a run (default: 2GiB)"),
    key("min_free_memory", Shape::Text, "free memory that is required to start a browser (default: 400MiB)"),
];
const BROWSER_TRUST: &[Key] = &[key("ca", Shape::Text, "PEM file with additional root certificates")];
const EVIDENCE: &[Key] = &[
    key(
        "max_size",
        Shape::Text,
        "maximum size of all evidence, such as `500MB`; the oldest is deleted first (default: 1GB)",
    ),
    key("keep", Shape::Duration, "age at which evidence is deleted, at most 30d (default: 30d)"),
];
const PROBE: &[Key] = &[
    key("modules", Shape::Text, "file of modules in the format of blackbox_exporter, relative to this file; required"),
    key(
        "targets",
        TEXTS,
        "allowed targets, such as `https://*.example.com/*`; required unless the agent listens on loopback (default: any)",
    ),
    key("max_probes", Shape::Count, "maximum number of simultaneous probes (default: 200)"),
];
const ALERTING: &[Key] = &[
    key(
        "receivers",
        Shape::Map(&Shape::Keys(&[receivers::RECEIVER])),
        "receivers, by name; `log` exists without being listed",
    ),
    key("routes", Shape::List(&Shape::Keys(&[ROUTE])), "routes; the first that matches is used"),
    key(
        "templates",
        Shape::Keys(&[receivers::TEMPLATES]),
        "templates of receivers without their own (default: built-in texts)",
    ),
    key("quorum", Shape::Count, "number of locations that must agree (default: a majority of those that report)"),
    key("maintenance", Shape::List(&Shape::Keys(&[pipeline::MAINTENANCE])), "planned times without notifications"),
    key(
        "escalate",
        pipeline::ESCALATE,
        "escalation of incidents that are not acknowledged, for routes without their own (default: none)",
    ),
    key(
        "dead_mans_switch",
        Shape::Keys(&[pipeline::ALIVE]),
        "outbound heartbeat: calls to an external service while the agent is healthy",
    ),
];
const ROUTE: &[Key] = &[
    key(
        "match",
        pipeline::MATCH,
        "conditions that must all hold, on tags, severity, scenario, name, location, kind or host (default: none)",
    ),
    key(
        "during",
        Shape::Keys(&[pipeline::DURING]),
        "weekdays and times of day at which the route applies (default: always)",
    ),
    key("to", TEXTS, "names of receivers; required"),
    key(
        "group_by",
        TEXTS,
        "tags, severity, scenario, name, location, kind or host: incidents with the same values share a notification",
    ),
    key(
        "causes",
        Shape::Text,
        "notifications for different causes: `apart` or `together` (default: apart, until many scenarios of one host fail)",
    ),
    key(
        "escalate",
        pipeline::ESCALATE,
        "escalation of incidents that are not acknowledged; `[]` for none (default: `alerting.escalate`)",
    ),
    key(
        "group_wait",
        Shape::Duration,
        "delay of the first notification of a group, at most 15m (default: 30s; for critical incidents 0s)",
    ),
];

fn config(r: &mut Reader, root: &Node, folder: &Path) -> Option<Config> {
    let fields = r.fields(root, "the agent configuration", KEYS)?;
    let mut required = |name: &str| {
        let found = fields.get(name);
        if found.is_none() && root.get(name).is_none() {
            let begin = Span { end: root.span.start + 1, ..root.span };
            r.fail(begin, format!("`{name}:` is missing"));
        }
        found
    };
    let (location, scenarios) = (required("location"), required("scenarios"));
    let location = location.and_then(|node| location_name(r, node));
    let scenarios = scenarios.and_then(|node| texts(r, node, "`scenarios`"));
    let allow = fields.get("allow").map(|node| allow(r, node)).unwrap_or_default();
    let store = match fields.get("store") {
        Some(node) => store(r, node),
        None => Some("sqlite:wachta.db".to_owned()),
    };
    let web = fields.get("web").map_or_else(web::Config::default, |node| web_config(r, node));
    let browser = fields.get("browser").map_or_else(browser::Config::default, |node| browser_config(r, node, folder));
    let metrics = fields.get("metrics").map(|node| metrics::metrics(r, node)).unwrap_or_default();
    let mut sinks = Vec::new();
    for key in sink::KEYS {
        sinks.extend(
            fields.get(key.name).map(|node| sink::Destination::read_all(key.name, r, node)).unwrap_or_default(),
        );
    }
    let evidence = fields.get("evidence").map_or_else(Limits::default, |node| evidence_config(r, node));
    let probe = fields.get("probe").and_then(|node| probe_config(r, node, &web));
    let network = fields.get("network").map(|node| network::network(r, node)).unwrap_or_default();
    let linked = web.external_url.is_some();
    let mut alerting = fields.get("alerting").map(|node| alerting_config(r, node, linked)).unwrap_or_default();
    if let Some(node) = fields.get("alerting") {
        receivers::connect_zabbix(r, node, &sinks, &mut alerting.receivers);
    }
    Some(Config {
        location: location?,
        scenarios: scenarios?,
        allow,
        store: store?,
        web,
        browser,
        metrics,
        sinks,
        evidence,
        probe,
        network,
        alerting,
    })
}

/// Parses the location, which is limited to characters without quoting, because it is a metric label and a part of
/// `agent/<location>`.
fn location_name(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.text(node, "`location`")?;
    let plain = !text.is_empty() && text.len() <= 64;
    if plain && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Some(text.value);
    }
    r.fail(node.span, "`location` must be 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`");
    None
}

fn allow(r: &mut Reader, node: &Node) -> Allow {
    let Some(fields) = r.fields(node, "`allow`", &[ALLOW]) else { return Allow::default() };
    Allow {
        env: fields.get("env").and_then(|node| texts(r, node, "`env`")).unwrap_or_default(),
        files: fields.get("files").and_then(|node| texts(r, node, "`files`")).unwrap_or_default(),
        exec: fields.get("exec").and_then(|node| texts(r, node, "`exec`")).unwrap_or_default(),
        network: fields.get("network").map(|node| network::patterns(r, node)).unwrap_or_default(),
    }
}

fn store(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.text(node, "`store`")?;
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        r.fail(node.span, "`store: postgres://…` is not supported yet");
    } else if text.strip_prefix("sqlite:").is_some_and(|file| !file.is_empty()) {
        return Some(text.value);
    } else {
        r.fail_with(node.span, "unknown store", "write sqlite:FILE or sqlite::memory:");
    }
    None
}

fn web_config(r: &mut Reader, node: &Node) -> web::Config {
    let mut config = web::Config::default();
    let Some(fields) = r.fields(node, "`web`", &[WEB]) else { return config };
    if let Some(node) = fields.get("listen")
        && let Some(text) = r.text(node, "`listen`")
    {
        match text.parse() {
            Ok(address) => config.listen = address,
            Err(_) => r.fail_with(node.span, "`listen` must be an address and a port", "write it like 127.0.0.1:9815"),
        }
    }
    config.external_url = fields.get("external_url").and_then(|node| http_url(r, node, "`external_url`"));
    for item in fields.get("hosts").and_then(|node| r.list(node, "`hosts`")).unwrap_or_default() {
        let Some(name) = r.text(item, "`hosts`") else { continue };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || !name.chars().all(is_plain) {
            r.fail_with(item.span, format!("`{}` is not a host name", cut(&name)), "write it without a port");
        } else {
            config.hosts.push(name.value);
        }
    }
    config.config_file = fields.get("config_file").and_then(|node| match r.text(node, "`config_file`") {
        Some(name) if !name.is_empty() => Some(name.value.into()),
        Some(_) => {
            r.fail(node.span, "`config_file` is empty");
            None
        }
        None => None,
    });
    config.insecure = fields.get("insecure").and_then(|node| r.boolean(node, "`insecure`")).unwrap_or(false);
    config.beat_token = fields.get("beat_token").and_then(|node| receivers::secret(r, node, "`beat_token`"));
    if config.must_ask() && fields.get("config_file").is_none() {
        let span = fields.get("listen").map_or(node.span, |node| node.span);
        let message =
            "other machines could reach this agent without a password: anyone could silence, acknowledge and reload";
        let found = Diagnostic::error(&r.source, span, message);
        let found = found.label("set `config_file` to a file with TLS and users");
        r.report(
            found.note("help: or write `insecure: true` beside it, if only trusted machines can reach that address"),
        );
    }
    config
}

fn browser_config(r: &mut Reader, node: &Node, folder: &Path) -> browser::Config {
    let mut config = browser::Config::default();
    let Some(fields) = r.fields(node, "`browser`", &[BROWSER]) else { return config };
    if let Some(count) = fields.get("max_sessions").and_then(|node| r.count(node, "`max_sessions`")) {
        config.max_sessions = count as usize;
    }
    config.webdriver = fields.get("webdriver").and_then(|node| http_url(r, node, "`webdriver`"));
    config.roots = fields.get("trust").map(|node| roots(r, node, folder)).unwrap_or_default();
    if let Some(headless) = fields.get("headless").and_then(|node| crate::scenario::headless(r, node)) {
        config.headless = headless;
    }
    if let Some(node) = fields.get("capabilities") {
        match json(node) {
            serde_json::Value::Object(wanted) => config.capabilities = wanted,
            _ => r.fail_with(node.span, "`capabilities` must be a map", "write it like {\"se:name\": wachta}"),
        }
    }
    if let Some(warm) = fields.get("warm").and_then(|node| r.boolean(node, "`warm`")) {
        config.warm = warm;
    }
    if let Some(runs) = fields.get("max_runs").and_then(|node| r.count(node, "`max_runs`")) {
        config.max_runs = runs;
    }
    if let Some(age) = fields.get("max_age").and_then(|node| r.duration(node, "`max_age`")) {
        config.max_age = age;
    }
    if let Some(bytes) = fields.get("max_memory").and_then(|node| r.size(node, "`max_memory`")) {
        config.max_memory = bytes;
    }
    if let Some(bytes) = fields.get("min_free_memory").and_then(|node| r.size(node, "`min_free_memory`")) {
        config.min_free_memory = bytes;
    }
    config
}

/// Parses `browser: {trust: …}`, and reads the file, whose path is relative to the agent configuration.
fn roots(r: &mut Reader, node: &Node, folder: &Path) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    let Some(fields) = r.fields(node, "`trust`", &[BROWSER_TRUST]) else { return Vec::new() };
    let Some((node, path)) = fields.get("ca").and_then(|node| Some((node, r.text(node, "`ca`")?))) else {
        return Vec::new();
    };
    let read = bounded::read(&folder.join(&path.value), LARGEST_PEM).map_err(|error| error.to_string());
    match read.and_then(|pem| wire::tls::certificates(&pem)) {
        Ok(roots) => roots,
        Err(why) => {
            r.fail(node.span, format!("`{}` cannot be used: {why}", path.value));
            Vec::new()
        }
    }
}

fn evidence_config(r: &mut Reader, node: &Node) -> Limits {
    let mut limits = Limits::default();
    let Some(fields) = r.fields(node, "`evidence`", &[EVIDENCE]) else { return limits };
    if let Some(node) = fields.get("max_size") {
        match r.size(node, "`max_size`") {
            Some(0) => r.fail_with(node.span, "`max_size` must be a size above 0", "write it like 500MB or 2GB"),
            Some(bytes) => limits.max_size = bytes,
            None => {}
        }
    }
    if let Some(node) = fields.get("keep")
        && let Some(keep) = r.duration(node, "`keep`")
    {
        if keep > Limits::default().keep {
            r.fail_with(node.span, "`keep` must be at most 30d", "runs are deleted after 30d");
        } else {
            limits.keep = keep;
        }
    }
    limits
}

fn probe_config(r: &mut Reader, node: &Node, web: &web::Config) -> Option<blackbox::Config> {
    let fields = r.fields(node, "`probe`", &[PROBE])?;
    let modules = match fields.get("modules") {
        Some(node) => r.text(node, "`modules`"),
        None => {
            r.fail_with(node.span, "`probe` needs `modules:`", "set it to a blackbox.yml");
            None
        }
    };
    let targets = match fields.get("targets") {
        None => None,
        Some(node) => {
            let mut patterns = Vec::new();
            for item in r.list(node, "`targets`").unwrap_or_default() {
                let Some(text) = r.text(item, "`targets`") else { continue };
                match Pattern::parse(&text) {
                    Ok(pattern) => patterns.push(pattern),
                    Err(why) => r.fail_with(item.span, format!("`{}` is not a pattern of targets", text.value), why),
                }
            }
            Some(patterns)
        }
    };
    if targets.is_none() && !web.listen.ip().is_loopback() {
        let message = "other machines can reach this agent, and could make it probe any target";
        r.fail_with(node.span, message, "list the allowed targets under `targets`");
    }
    let max_probes = fields.get("max_probes").and_then(|node| r.count(node, "`max_probes`"));
    let max_probes = max_probes.map_or(blackbox::Config::MAX_PROBES, |count| count as usize);
    Some(blackbox::Config { modules: modules?.value, targets, max_probes })
}

/// Converts a part of the file to JSON, to be passed on as is.
fn json(node: &Node) -> serde_json::Value {
    match &node.kind {
        NodeKind::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect(),
        NodeKind::List(items) => items.iter().map(json).collect(),
        NodeKind::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => serde_json::Value::Null,
            Resolved::Bool(yes) => yes.into(),
            Resolved::Number => serde_json::from_str(&scalar.text).unwrap_or_else(|_| scalar.text.as_str().into()),
            Resolved::Text => scalar.text.as_str().into(),
        },
    }
}

fn alerting_config(r: &mut Reader, node: &Node, linked: bool) -> notify::Alerting {
    let mut alerting = notify::Alerting::default();
    let Some(fields) = r.fields(node, "`alerting`", &[ALERTING]) else { return alerting };
    let mut names: Vec<&str> = Vec::new();
    let words = fields.get("templates").map(|node| receivers::templates(r, node, "`templates`")).unwrap_or_default();
    for entry in fields.get("receivers").and_then(|node| r.entries(node, "`receivers`")).unwrap_or_default() {
        names.push(&entry.key);
        alerting.receivers.extend(receivers::receiver(r, entry, linked, &words));
    }
    // The log is always available, even if it is not configured.
    names.push("log");
    for entry in fields.get("receivers").and_then(Node::entries).unwrap_or_default() {
        let Some(node) = entry.value.get("fallback") else { continue };
        // A value that is not text was already reported when the receiver was parsed.
        let Some(name) = node.scalar().map(|scalar| Spanned::new(scalar.text.clone(), node.span)) else { continue };
        if name.value == entry.key {
            r.fail(name.span, "a receiver cannot be its own fallback");
        } else {
            known_receiver(r, &name, &names);
        }
    }
    for item in fields.get("routes").and_then(|node| r.list(node, "`routes`")).unwrap_or_default() {
        alerting.routes.extend(route(r, item, &names));
    }
    for item in fields.get("maintenance").and_then(|node| r.list(node, "`maintenance`")).unwrap_or_default() {
        alerting.maintenance.extend(pipeline::maintenance(r, item));
    }
    if let Some(node) = fields.get("escalate") {
        alerting.escalate = pipeline::escalate(r, node, &names).unwrap_or_default();
    }
    alerting.quorum = fields.get("quorum").and_then(|node| quorum(r, node));
    alerting.alive = fields.get("dead_mans_switch").and_then(|node| pipeline::alive(r, node));
    alerting
}

fn quorum(r: &mut Reader, node: &Node) -> Option<u32> {
    let quorum = r.count(node, "`quorum`")?;
    if quorum > 1 {
        r.warn(
            node.span,
            "`quorum` above 1 has no effect with a single location",
            "counts as 1 until other locations report",
        );
    }
    Some(quorum)
}

fn route(r: &mut Reader, node: &Node, receivers: &[&str]) -> Option<Route> {
    let fields = r.fields(node, "a route", &[ROUTE])?;
    let matches = pipeline::matches(r, &fields);
    let Some(to) = fields.get("to") else {
        r.fail(node.span, "a route needs `to:`");
        return None;
    };
    let names = receiver_names(r, to, receivers)?;
    let (group_by, group_wait) = pipeline::grouping(r, &fields);
    let causes = pipeline::causes(r, &fields);
    let during = fields.get("during").and_then(|node| pipeline::during(r, node));
    let escalate = fields.get("escalate").and_then(|node| pipeline::escalate(r, node, receivers));
    Some(Route { matches, to: names, group_by, group_wait, causes, during, escalate })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
location: waw-1
scenarios: [scenarios/]
allow: {env: [\"SHOP_*\"], files: [/run/secrets/], exec: []}
store: sqlite:wachta.db
web: {listen: 0.0.0.0:9815, insecure: true, hosts: [wachta.lan], beat_token: word-of-mouth, external_url: https://wachta.example.com}
browser: {max_sessions: 3, webdriver: http://grid:4444, capabilities: {'se:name': wachta, webSocketUrl: null}, warm: false, max_memory: 1GiB}
zabbix: {server: zabbix.internal:10051, host: wachta-waw-1}
evidence: {max_size: 2.5GB, keep: 7d}
probe: {modules: blackbox.yml, targets: [\"https://*.example.com/*\"], max_probes: 20}
alerting:
  receivers:
    tickets: {webhook: {url: \"http://127.0.0.1:8080/hook\"}}
    console: {log: {}}
  routes:
    - {match: {severity: critical}, to: [tickets, console]}
    - {to: [console], group_by: [service, location], group_wait: 45s}
";

    #[test]
    fn roots_are_relative_to_the_file() {
        let folder = std::env::temp_dir().join(format!("wachta-roots-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let authority = rcgen::generate_simple_self_signed(["grid.test".to_owned()]).unwrap();
        std::fs::write(folder.join("ca.pem"), authority.cert.pem()).unwrap();
        let text = "location: a\nscenarios: [b]\nbrowser: {trust: {ca: ca.pem}}\n";
        let path = folder.join("wachta.yaml").display().to_string();
        let (config, problems) = read(&path, text);
        assert_eq!(config.map(|config| config.browser.roots.len()), Some(1), "{problems:?}");
        let (config, _) = read("wachta.yaml", text);
        assert!(config.is_none(), "the working directory has no such file");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_good_file_is_read() {
        let (config, found) = read("wachta.yaml", GOOD);
        assert_eq!(found, []);
        let config = config.unwrap();
        assert_eq!((config.location.as_str(), config.store.as_str()), ("waw-1", "sqlite:wachta.db"));
        assert_eq!((config.web.listen.port(), config.browser.max_sessions), (9815, 3));
        assert_eq!((config.browser.warm, config.browser.max_memory), (false, 1 << 30));
        let wanted = serde_json::json!({"se:name": "wachta", "webSocketUrl": null});
        assert_eq!(serde_json::Value::Object(config.browser.capabilities), wanted);
        assert_eq!(config.evidence, Limits { max_size: 2_500_000_000, keep: std::time::Duration::from_hours(7 * 24) });
        let probe = config.probe.unwrap();
        assert_eq!((probe.modules.as_str(), probe.targets.unwrap().len(), probe.max_probes), ("blackbox.yml", 1, 20));
        assert_eq!(config.alerting.routes[0].to, ["tickets", "console"]);
        let grouped = |n: usize| (&config.alerting.routes[n].group_by, config.alerting.routes[n].group_wait);
        let wait = std::time::Duration::from_secs(45);
        assert_eq!(grouped(0), (&Vec::new(), None));
        assert_eq!(grouped(1), (&vec!["service".to_owned(), "location".to_owned()], Some(wait)));
        assert_eq!(config.alerting.receivers[1].kind, notify::ReceiverKind::Log);
    }

    #[test]
    fn sinks_are_read_and_mistakes_of_theirs_reported() {
        let check = |written: &str, expected: Result<&str, &str>| {
            let text = format!("location: a\nscenarios: []\n{written}");
            let (config, found) = read("conf/wachta.yaml", &text);
            let shown = config.map(|config| {
                let each = config.sinks.iter().map(|sink| format!("{}: {}", sink.name, sink.config.describe()));
                each.collect::<Vec<_>>().join("; ")
            });
            let problem = found.first().map_or("", |found| found.message.as_str());
            assert_eq!(shown.as_deref().ok_or(problem), expected, "{written}");
        };
        check("", Ok(""));
        check("zabbix: {server: z, host: h}", Ok("zabbix: host h at z:10051"));
        check("zabbix: {server: z}", Err("`zabbix` needs `host:`"));
        let two = |second: &str| format!("zabbix: [{{server: z, host: h}}, {{server: y, host: h{second}}}]");
        check(&two(", name: dr"), Ok("zabbix: host h at z:10051; zabbix/dr: host h at y:10051"));
        check(&two(""), Err("duplicate name `zabbix`"));
        check(&two(", name: d/r"), Err("`name` must be 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`"));
        check(&two(", name: dr, hosts: d"), Err("unknown key `hosts`"));
        check("zabbix: [{name: a, server: z, host: h}]", Ok("zabbix/a: host h at z:10051"));
        check(
            "zabbix: [{name: a, server: z, host: h}, {name: b, server: z, host: h}]",
            Err("`zabbix/b` is the same destination as `zabbix/a`"),
        );
        check("zabbix: []", Ok(""));
        let zabbix = |api: &str| format!("zabbix: {{server: z, host: h, api: {{{api}}}}}");
        check(&zabbix("url: \"https://z/zabbix\", token: {file: t}"), Ok("zabbix: host h at z:10051"));
        check(&zabbix("url: \"https://z\", user: u, password: {env: P}, ca: c.pem"), Ok("zabbix: host h at z:10051"));
        check(&zabbix("token: {file: t}"), Err("`api` needs `url:`"));
        check(&zabbix("url: z, token: {file: t}"), Err("`url` is not a URL"));
        check(&zabbix("url: \"https://u:p@z\", token: {file: t}"), Err("`url` must hold no credentials"));
        let login = "`api` needs either `token`, or `user` and `password`";
        check(&zabbix("url: \"https://z\""), Err(login));
        check(&zabbix("url: \"https://z\", user: u"), Err(login));
        check(&zabbix("url: \"https://z\", token: {env: T}, user: u, password: {env: P}"), Err(login));
        check("ecs: {file: o.ndjson, max_size: 1MB, keep: 0}", Ok("ecs: conf/o.ndjson"));
        check("ecs: {}", Err("`ecs` needs `file:`"));
        check("ecs: {file: \"\"}", Err("`file` is empty"));
        check("ecs: {file: o, max_size: 0MB}", Err("`max_size` must be a size above 0"));
        check("ecs: {file: o, keep: 5000}", Err("`keep` must be at most 1000"));
        check("ecs: {file: o, kep: 5}", Err("unknown key `kep`"));
        let elastic = |more: &str| format!("elasticsearch: {{url: \"https://e:9200/x\"{more}}}");
        check(&elastic(""), Ok("elasticsearch: wachta at https://e:9200/x"));
        check(&elastic(", data_stream: runs, api_key: {file: key}"), Ok("elasticsearch: runs at https://e:9200/x"));
        check(&elastic(", user: u, password: correct-horse"), Ok("elasticsearch: wachta at https://e:9200/x"));
        let both = "credentials are either `api_key`, or `user` and `password`";
        check(&elastic(", user: u"), Err(both));
        check(&elastic(", api_key: {env: K}, user: u, password: {env: P}"), Err(both));
        check(&elastic(", index: a, data_stream: b"), Err("`index` and `data_stream` exclude each other"));
        let plain = "`index` must be 1 to 200 of the characters a-z, 0-9, `.`, `_` and `-`, a letter or digit first";
        check(&elastic(", index: Runs"), Err(plain));
        check(&elastic(", index: _runs"), Err(plain));
        check("elasticsearch: {index: a}", Err("`elasticsearch` needs `url:`"));
        check("elasticsearch: {url: \"ftp://e\"}", Err("`url` is not a URL"));
        check("elasticsearch: {url: \"https://u:p@e\"}", Err("`url` must hold no credentials"));
        let written = |more: &str| format!("remote_write: {{url: \"https://p/api/v1/write?db=a\"{more}}}");
        check(&written(""), Ok("remote_write: https://p/api/v1/write"));
        check(
            &written(
                ", user: u, password: {env: P}, ca: r.pem, headers: {X-Scope-OrgID: a}, labels: {instance: b, job: \"\"}",
            ),
            Ok("remote_write: https://p/api/v1/write"),
        );
        check(&written(", token: {file: t}, detail: basic, repeat: 3m"), Ok("remote_write: https://p/api/v1/write"));
        let both = "credentials are either `token`, or `user` and `password`";
        check(&written(", user: u"), Err(both));
        check(&written(", token: {env: T}, user: u, password: {env: P}"), Err(both));
        check(
            &written(", token: {env: T}, headers: {Authorization: {env: T}}"),
            Err("`authorization` is the protocol's own header"),
        );
        check(&written(", headers: {Content-Type: text}"), Err("`content-type` is the protocol's own header"));
        check(&written(", labels: {a-b: c}"), Err("`a-b` is not the name of a label"));
        check(&written(", labels: {__a: c}"), Err("`__a` is not the name of a label"));
        check(&written(", repeat: 4m"), Err("`repeat` must be from 10s to 3m"));
        check(&written(", repeat: 5s"), Err("`repeat` must be from 10s to 3m"));
        check("remote_write: {token: {env: T}}", Err("`remote_write` needs `url:`"));
        check("remote_write: {url: \"ftp://p\"}", Err("`url` is not a URL"));
        check("remote_write: {url: \"https://u:p@p\"}", Err("`url` must hold no credentials"));
        let otlp = |more: &str| format!("otlp: {{endpoint: \"http://c:4318\"{more}}}");
        check(&otlp(""), Ok("otlp: traces and logs by HTTP to http://c:4318/"));
        check(
            &otlp(", protocol: grpc, signals: [logs], compression: gzip, timeout: 5s, ca: r.pem"),
            Ok("otlp: logs by gRPC to http://c:4318/"),
        );
        check(
            &otlp(", headers: {X-Tenant: a, Authorization: {env: TOKEN}}, resource: {a.b: c}"),
            Ok("otlp: traces and logs by HTTP to http://c:4318/"),
        );
        check("otlp: {}", Err("`otlp` needs `endpoint:`"));
        check("otlp: {endpoint: \"collector:4318\"}", Err("`endpoint` is not a URL"));
        check("otlp: {endpoint: \"https://u:p@c\"}", Err("`endpoint` must hold no credentials"));
        check("otlp: {endpoint: \"https://c/?key=1\"}", Err("`endpoint` must have neither a query nor a fragment"));
        check("otlp: {endpoint: \"https://c/otlp/v1/traces\"}", Err("`endpoint` must be the base URL"));
        check("otlp: {endpoint: \"https://c/x\", protocol: grpc}", Err("`endpoint` must have no path with gRPC"));
        check(&otlp(", signals: []"), Err("`signals` is empty"));
        check(&otlp(", signals: [logs, logs]"), Err("`logs` is listed twice"));
        check(&otlp(", headers: {Content-Type: text}"), Err("`content-type` is the protocol's own header"));
        check(&otlp(", headers: {\"a b\": text}"), Err("`a b` is not the name of a header"));
        check(&otlp(", timeout: 10m"), Err("`timeout` must be above 0 and at most 5m"));
        check(&otlp(", compression: brotli"), Err("unknown compression `brotli`"));
    }

    #[test]
    fn evidence_is_bounded_whatever_is_written() {
        let check = |written: &str, expected: Result<(u64, u64), &str>| {
            let text = format!("location: a\nscenarios: []\n{written}");
            let (config, found) = read("wachta.yaml", &text);
            let seen = config.map(|config| (config.evidence.max_size, config.evidence.keep.as_secs()));
            let problem = found.first().map_or("", |found| found.message.as_str());
            assert_eq!(seen.ok_or(problem), expected, "{written}");
        };
        let month = 30 * 86_400;
        check("", Ok((1_000_000_000, month)));
        check("evidence: {max_size: 200MB}", Ok((200_000_000, month)));
        check("evidence: {max_size: 1GiB, keep: 12h}", Ok((1 << 30, 43_200)));
        for (wrong, why) in [
            ("0GB", "`max_size` must be a size above 0"),
            ("500", "`max_size`: `500` has no unit"),
            ("1TB", "`max_size`: unknown unit `TB`"),
            ("-1MB", "`max_size`: `-1MB` is not a size"),
            ("MB", "`max_size`: `MB` is not a size"),
        ] {
            check(&format!("evidence: {{max_size: {wrong}}}"), Err(why));
        }
        check("evidence: {keep: 60d}", Err("`keep` must be at most 30d"));
        check("evidence: {kep: 1d}", Err("unknown key `kep`"));
    }

    #[test]
    fn a_quorum_is_taken_and_what_it_counts_as_is_said() {
        let check = |text: &str, quorum: Option<u32>, problems: &[&str]| {
            let text = format!("location: a\nscenarios: []\nalerting: {text}\n");
            let (config, found) = read("wachta.yaml", &text);
            let found: Vec<_> = found.iter().map(|found| format!("{}: {}", found.place(), found.message)).collect();
            assert_eq!(
                (config.map(|config| config.alerting.quorum), found),
                (Some(quorum), problems.iter().map(|p| (*p).to_owned()).collect())
            );
        };
        check("{}", None, &[]);
        check("{quorum: 1}", Some(1), &[]);
        check("{quorum: 2}", Some(2), &["wachta.yaml:3:20: `quorum` above 1 has no effect with a single location"]);
    }

    #[test]
    fn nobody_is_open_by_accident() {
        let check = |web: &str, expected: &[&str]| {
            let text = format!("location: a\nscenarios: []\nweb: {web}\n");
            let (config, found) = read("wachta.yaml", &text);
            let problems: Vec<_> = found.iter().map(|found| found.message.as_str()).collect();
            assert_eq!((problems.as_slice(), config.is_some()), (expected, expected.is_empty()), "{web}");
        };
        let open =
            "other machines could reach this agent without a password: anyone could silence, acknowledge and reload";
        for loopback in ["127.0.0.1:9815", "127.9.9.9:9815", "'[::1]:9815'"] {
            check(&format!("{{listen: {loopback}}}"), &[]);
        }
        for others in ["0.0.0.0:9815", "'[::]:9815'", "192.0.2.1:9815", "'[fe80::1]:9815'"] {
            check(&format!("{{listen: {others}}}"), &[open]);
            check(&format!("{{listen: {others}, insecure: false}}"), &[open]);
            check(&format!("{{listen: {others}, insecure: true}}"), &[]);
        }
        // The content of this file is checked when it is read.
        check("{listen: '0.0.0.0:9815', config_file: web.yml}", &[]);
        check("{config_file: web.yml}", &[]);
        check("{config_file: ''}", &["`config_file` is empty"]);
        check("{config_file: [web.yml]}", &["`config_file` must be text, not a list"]);
        check("{hosts: ['a:80']}", &["`a:80` is not a host name"]);
        check("{beat_token: abc}", &["`beat_token` must have at least 4 characters"]);
        check("{insecure: maybe}", &["`insecure` must be `true` or `false`, not text"]);
    }

    #[test]
    fn probes_off_loopback_need_targets() {
        let check = |web: &str, probe: &str, expected: &[&str]| {
            let text = format!("location: a\nscenarios: []\nweb: {{listen: {web}, insecure: true}}\nprobe: {probe}\n");
            let (config, found) = read("wachta.yaml", &text);
            let problems: Vec<_> = found.iter().map(|found| found.message.as_str()).collect();
            assert_eq!((problems.as_slice(), config.is_some()), (expected, expected.is_empty()), "{web} {probe}");
        };
        check("127.0.0.1:9815", "{modules: blackbox.yml}", &[]);
        check("'[::1]:9815'", "{modules: blackbox.yml}", &[]);
        check("0.0.0.0:9815", "{modules: blackbox.yml, targets: ['*.example.com']}", &[]);
        check("0.0.0.0:9815", "{modules: blackbox.yml, targets: []}", &[]);
        let open = "other machines can reach this agent, and could make it probe any target";
        check("0.0.0.0:9815", "{modules: blackbox.yml}", &[open]);
        check(
            "127.0.0.1:9815",
            "{targets: ['ftp://a']}",
            &["`probe` needs `modules:`", "`ftp://a` is not a pattern of targets"],
        );
        check(
            "127.0.0.1:9815",
            "{modules: a, max_probes: 0}",
            &["`max_probes` must be a whole number above 0, not `0`"],
        );
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = "\
scenario: [a]
location: w 1
store: postgres://x
allow: {exec: [pytest], evn: [A]}
web: {listen: here}
otlp: {endpoint: x}
alerting:
  receivers:
    tickets: {webhook: {url: \"http://127.0.0.1/hook\"}}
    chat: {slak: {}}
  routes:
    - {match: {severity: loud}, to: [tickts]}
  quorum: 0
";
        let (config, found) = read("wachta.yaml", text);
        assert!(config.is_none());
        let shown: Vec<_> = found.iter().map(|d| format!("{}: {}", d.place(), d.message)).collect();
        assert_eq!(
            shown,
            [
                "wachta.yaml:1:1: unknown key `scenario`",
                "wachta.yaml:1:1: `scenarios:` is missing",
                "wachta.yaml:2:11: `location` must be 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`",
                "wachta.yaml:3:8: `store: postgres://…` is not supported yet",
                "wachta.yaml:4:25: unknown key `evn`",
                "wachta.yaml:5:15: `listen` must be an address and a port",
                "wachta.yaml:6:18: `endpoint` is not a URL",
                "wachta.yaml:9:5: its notifications contain no links",
                "wachta.yaml:10:12: unknown key `slak`",
                "wachta.yaml:12:26: unknown severity `loud`",
                "wachta.yaml:12:38: unknown receiver `tickts`",
                "wachta.yaml:13:11: `quorum` must be a whole number above 0, not `0`",
            ]
        );
    }
}
