//! `wachta alerts`: lists and explains incidents, acknowledges and silences them, through the API of a running agent or
//! with the store of a stopped one; tests a receiver; replays history with another configuration.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::config_file::agents_file;
use super::credentials::Credentials;
use super::http_url::http_url;
use super::replay::{ReplayArgs, checked, replayed};
use super::serve::{DEFAULT_CONFIG, folder_of, store_places};
use super::terminal::say_error;
use super::test_notification::{TestArgs, test};
use crate::app::{config, deferred_commands};
use crate::bounded;
use crate::diagnostic::Source;
use crate::incident::{AlertCommand, During, Matchers};
use crate::names::{exit, path};
use crate::scenario::tree::{self, MAX_BYTES};
use crate::store::{Sqlite, StoreError};
use crate::web::{
    self, WhyQuery, acknowledge_asked, decisions_in, incidents_in, mutes_in, resolve_asked, silence_asked,
    unacknowledge_asked,
};
use crate::wire;

/// Timeout of a request to the agent.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Arguments of `wachta alerts`.
#[derive(clap::Args)]
pub(super) struct AlertsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Send a test notification to a receiver and show its response
    Test(TestArgs),
    /// Replay stored outcomes with another configuration and compare the notifications
    Replay(ReplayArgs),
    /// List open incidents, silences and maintenance windows
    List {
        #[command(flatten)]
        agent: Address,
    },
    /// Show the alert decisions for a scenario or incident and its deliveries, newest first
    Why {
        /// Id of a scenario, or key of an incident such as shop-checkout:3
        id: String,
        /// Start of the time range: 2h, or 2027-01-15T08:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Maximum number of lines
        #[arg(long, value_name = "COUNT")]
        limit: Option<u32>,
        #[command(flatten)]
        agent: Address,
    },
    /// Acknowledge an incident, notify its receivers, and stop reminders and escalation
    Ack {
        /// Key of the incident, or of its notification
        key: String,
        /// Duration (default: until the incident is resolved)
        #[arg(long = "for", value_name = "DURATION")]
        length: Option<String>,
        /// Author (default: current user)
        #[arg(long, value_name = "NAME", env = "USER")]
        author: Option<String>,
        #[command(flatten)]
        agent: Address,
    },
    /// Remove an acknowledgement
    Unack {
        /// Key of the incident, or of its notification
        key: String,
        /// Author (default: current user)
        #[arg(long, value_name = "NAME", env = "USER")]
        author: Option<String>,
        #[command(flatten)]
        agent: Address,
    },
    /// Resolve an incident manually; a new one opens only after its scenario has passed and is bad again
    Resolve {
        /// Key of the incident, or of its notification
        key: String,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Author (default: current user)
        #[arg(long, value_name = "NAME", env = "USER")]
        author: Option<String>,
        #[command(flatten)]
        agent: Address,
    },
    /// Silence matching incidents for a limited time; with --end, end a silence or maintenance window
    Silence {
        /// Tags, or severity, scenario, name, location, kind, host: team=shop, team!=shop, name=~'^shop-', name!~test
        #[arg(value_name = "KEY=VALUE", required_unless_present = "end")]
        matches: Vec<String>,
        /// Duration: 2h, 30m
        #[arg(long = "for", value_name = "DURATION", required_unless_present = "end")]
        length: Option<String>,
        /// Limit the silence to recurring times: "mon-fri 22:00-06:00 Europe/Warsaw"; days, times and zone are optional
        #[arg(long, value_name = "TIMES", conflicts_with = "end")]
        during: Option<String>,
        /// Reason
        #[arg(long, value_name = "TEXT", required_unless_present = "end")]
        reason: Option<String>,
        /// Author (default: current user)
        #[arg(long, value_name = "NAME", env = "USER")]
        author: Option<String>,
        /// Id of the silence or maintenance window to end now
        #[arg(long, value_name = "ID", conflicts_with_all = ["matches", "length", "reason"])]
        end: Option<String>,
        /// Create the silence even if it matches no open incident and no scenario now
        #[arg(long)]
        yes: bool,
        /// Only show what the silence would match
        #[arg(long, conflicts_with = "end")]
        dry_run: bool,
        #[command(flatten)]
        agent: Address,
    },
}

#[derive(clap::Args)]
struct Address {
    /// URL of the agent (default: that of the agent configuration)
    #[arg(long, value_name = "URL", value_parser = http_url)]
    url: Option<url::Url>,
    /// Agent configuration, for the address of the agent (default: wachta.yaml, if it exists)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "store"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    credentials: Credentials,
    /// Store of a stopped agent, such as sqlite:wachta.db; changes are applied when the agent starts
    #[arg(long, value_name = "URL", conflicts_with_all = ["url", "ca", "client_cert"])]
    store: Option<String>,
}

/// Returns the value, or prints the error and ends the command.
macro_rules! or_refuse {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(problem) => return refuse(&problem),
        }
    };
}

/// Returns the author of a command: the given one, or the name of the user who runs the program.
fn author_of(given: Option<String>) -> Result<String, String> {
    let own = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    given.or_else(own).ok_or_else(|| "the current user has no name; set one with --author".to_owned())
}

/// Runs the command and prints the result.
pub(super) async fn alerts(args: AlertsArgs) -> u8 {
    let shown = match args.what {
        What::Test(args) => return test(&args).await,
        What::Replay(args) => replayed(&args).await,
        What::List { agent } => list(&agent).await,
        What::Why { id, since, limit, agent } => {
            decisions(&agent, &id, WhyQuery { since, limit }).await.map(|found| why(&id, &found))
        }
        What::Ack { key, length, author, agent } => {
            let author = or_refuse!(author_of(author));
            let asked = acknowledge_asked(key.clone(), author.clone(), length.as_deref());
            agent.change(&key, "ack", asked, &json!({"author": author, "for": length})).await
        }
        What::Unack { key, author, agent } => {
            let author = or_refuse!(author_of(author));
            let asked = unacknowledge_asked(key.clone(), author.clone());
            agent.change(&key, "unack", asked, &json!({"author": author})).await
        }
        What::Resolve { key, reason, author, agent } => {
            let author = or_refuse!(author_of(author));
            let asked = resolve_asked(key.clone(), author.clone(), reason.clone());
            agent.change(&key, "resolve", asked, &json!({"author": author, "reason": reason})).await
        }
        What::Silence { end: Some(id), agent: Address { store: Some(store), .. }, .. } => {
            left(&store, Ok(AlertCommand::Expire { id })).await
        }
        What::Silence { end: Some(id), agent, .. } => {
            let place = format!("{}/{}", path::API_SILENCES, encoded(&id));
            agent.send(reqwest::Method::DELETE, &place, None).await.map(|done| said(&done))
        }
        What::Silence { matches, length, during, reason, author, end: None, yes, dry_run, agent } => {
            let author = or_refuse!(author_of(author));
            let matches = or_refuse!(Matchers::parse(&matches));
            let during = during.map(|text| text.parse::<During>()).transpose();
            let during = or_refuse!(during.map_err(|problem| format!("--during: {problem}")));
            let body = json!({
                "match": matches, "for": length, "during": during, "reason": reason, "author": author, "confirmed": yes,
                "dry_run": dry_run,
            });
            match &agent.store {
                Some(_) if dry_run => Err("a preview needs a running agent; leave out --store".into()),
                Some(store) => left(store, silence_asked(body)).await,
                None => {
                    let sent = agent.send(reqwest::Method::POST, path::API_SILENCES, Some(&body)).await;
                    sent.map(|done| said(&done)).map_err(|problem| problem.replace("; confirm it to", "; add --yes to"))
                }
            }
        }
    };
    match shown {
        Ok(text) => {
            // The reader of the output may be gone.
            let _ = std::io::stdout().write_all(text.as_bytes());
            exit::PASSED
        }
        Err(problem) => refuse(&problem),
    }
}

fn refuse(problem: &str) -> u8 {
    say_error(problem);
    exit::USAGE
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Address {
    /// Changes an incident, with a request to the agent or with a deferred command in the store.
    async fn change(
        &self,
        key: &str,
        what: &str,
        asked: Result<AlertCommand, String>,
        body: &Value,
    ) -> Result<String, String> {
        match &self.store {
            Some(store) => left(store, asked).await,
            None => {
                asked?;
                let place = format!("{}/{}/{what}", path::API_INCIDENTS, encoded(key));
                self.send(reqwest::Method::POST, &place, Some(body)).await.map(|done| said(&done))
            }
        }
    }

    /// Returns the URL of the agent: the given one, that of the agent configuration, or the default.
    fn base(&self) -> Result<url::Url, String> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let default = Path::new(DEFAULT_CONFIG);
        match &self.config {
            Some(file) => Ok(web_url(&agents_file(file)?.web, &folder_of(file))),
            // A file that belongs to something else is no reason to fail.
            None if default.is_file() => {
                let text = bounded::read_text(default, MAX_BYTES as u64).unwrap_or_default();
                let config = config::read(DEFAULT_CONFIG, &text).0;
                Ok(web_url(&config.map(|config| config.web).unwrap_or_default(), Path::new("")))
            }
            None => Ok(web_url(&web::Config::default(), Path::new(""))),
        }
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        self.send(reqwest::Method::GET, path, None).await
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let url = self.base()?;
        let base = url.as_str().trim_end_matches('/');
        let mut request = self.credentials.client()?.request(method, format!("{base}{path}")).timeout(TIMEOUT);
        request = self.credentials.sign(request)?;
        if let Some(body) = body {
            request = request.json(body);
        }
        let shown = without_password(&url);
        let answer = request.send().await.map_err(|error| not_answered(&shown, &error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| format!("the response ended early: {e}"))?;
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(body);
        }
        if status == reqwest::StatusCode::UNAUTHORIZED {
            return Err("the agent requires authentication; set --user and --password-file".into());
        }
        Err(body["error"]
            .as_str()
            .map_or_else(|| format!("the agent returned status {status}: {}", text.trim()), str::to_owned))
    }
}

/// Returns the URL at which an agent on this machine can be reached. `folder` is that of its configuration.
fn web_url(web: &web::Config, folder: &Path) -> url::Url {
    let mut address = web.listen;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    let scheme =
        if web.config_file.as_deref().is_some_and(|file| has_tls(&folder.join(file))) { "https" } else { "http" };
    url::Url::parse(&format!("{scheme}://{address}/")).expect("an address makes a valid URL")
}

/// Returns whether a web configuration file has TLS settings. One that this user must not read probably has them.
fn has_tls(file: &Path) -> bool {
    let Ok(text) = bounded::read_text(file, MAX_BYTES as u64) else { return true };
    let root = tree::parse(&Source::new(file.display().to_string(), text)).ok();
    root.is_some_and(|root| root.get("tls_server_config").is_some_and(|node| !node.is_null()))
}

/// Formats a URL with its password replaced.
fn without_password(url: &url::Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        let _ = url.set_password(Some("***"));
    }
    url.as_str().trim_end_matches('/').to_owned()
}

/// Describes the reason for a missing response.
fn not_answered(shown: &str, error: &reqwest::Error) -> String {
    if let Some(error) = wire::tls::rustls_error(error) {
        let why = wire::tls::failure(error).message;
        return format!("{why} (at {shown}); set its CA with --ca, and a client certificate with --cert and --key");
    }
    format!("no agent is reachable at {shown}; set its address with --url")
}

/// Opens the store of an agent that may not be running, for reading only.
async fn opened(url: &str) -> Result<Sqlite, String> {
    Sqlite::open_to_read(&checked(url)?).await.map_err(|e| e.to_string())
}

/// Stores a deferred command.
async fn left(url: &str, asked: Result<AlertCommand, String>) -> Result<String, String> {
    let url = checked(url)?;
    let (_, folder) = store_places(&url, Path::new(""));
    let left = deferred_commands::leave(&url, &folder, asked?).await?;
    Ok(format!("queued: {left}; applied when the agent starts\n"))
}

async fn decisions(agent: &Address, id: &str, query: WhyQuery) -> Result<Value, String> {
    let Some(url) = &agent.store else {
        let pairs = [("since", query.since), ("limit", query.limit.map(|limit| limit.to_string()))];
        let pairs = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))));
        let pairs: Vec<String> = pairs.collect();
        return agent.get(&format!("{}/{}?{}", path::API_WHY, encoded(id), pairs.join("&"))).await;
    };
    let store = opened(url).await?;
    let found = decisions_in(&store, id, &query).await;
    store.close().await;
    found.map_err(|e| e.to_string())?.ok_or_else(|| format!("no data about `{id}` in this store"))
}

async fn list(agent: &Address) -> Result<String, String> {
    let Some(url) = &agent.store else {
        return Ok(listed(&agent.get(path::API_INCIDENTS).await?, &agent.get(path::API_SILENCES).await?));
    };
    let store = opened(url).await?;
    let found = book(&store).await;
    store.close().await;
    let (incidents, mutes, left) = found.map_err(|e| e.to_string())?;
    let mut text = listed(&incidents, &mutes);
    text.extend(left.iter().map(|request| format!("queued: {request}\n")));
    Ok(text)
}

/// Returns the incidents, the silences and the deferred commands.
async fn book(store: &Sqlite) -> Result<(Value, Value, Vec<AlertCommand>), StoreError> {
    Ok((incidents_in(store).await?, mutes_in(store).await?, deferred_commands::left(store).await?))
}

fn listed(incidents: &Value, mutes: &Value) -> String {
    let open = incidents.as_array().into_iter().flatten().filter(|incident| incident["resolved_at"].is_null());
    let mut text = String::new();
    for incident in open {
        let acknowledged = &incident["acknowledged"];
        let who = acknowledged["author"].as_str().map(|author| {
            let until = acknowledged["until"].is_string().then(|| format!(" until {}", time(&acknowledged["until"])));
            format!("  (acknowledged by {author}{})", until.unwrap_or_default())
        });
        let unwatched = &incident["unwatched"];
        let unwatched = unwatched["reason"]
            .as_str()
            .map(|reason| format!("  (no runs since {}: {reason})", time(&unwatched["since"])));
        text.push_str(&format!(
            "{}  {}  since {}  {}{}{}{}\n",
            word(&incident["dedup_key"]),
            word(&incident["severity"]),
            time(&incident["opened_at"]),
            word(&incident["name"]),
            incident["message"].as_str().map(|message| format!(": {message}")).unwrap_or_default(),
            who.unwrap_or_default(),
            unwatched.unwrap_or_default(),
        ));
    }
    if text.is_empty() {
        text.push_str("no open incident\n");
    }
    for mute in mutes.as_array().into_iter().flatten() {
        let what = if mute["maintenance"] == true { "maintenance" } else { "silenced" };
        let pairs: Matchers = serde_json::from_value(mute["match"].clone()).unwrap_or_default();
        let (id, until, author, reason) =
            (word(&mute["id"]), time(&mute["until"]), word(&mute["author"]), word(&mute["reason"]));
        let during = serde_json::from_value::<During>(mute["during"].clone()).ok();
        let during = during.map(|during| format!(", {during}")).unwrap_or_default();
        text.push_str(&format!("{what} {id}  {pairs}{during}  until {until}  by {author}: {reason}\n"));
    }
    text
}

/// Formats decisions as lines with their time, reason, count and details.
fn why(id: &str, decisions: &Value) -> String {
    if decisions.as_array().is_some_and(Vec::is_empty) {
        return format!("no decisions recorded for `{id}` in that time: it did not run, or is paused\n");
    }
    let line = |decision: &Value| {
        let count = decision["count"].as_u64().unwrap_or(1);
        let times = if count > 1 { format!(" ×{count} since {}", time(&decision["first_at"])) } else { String::new() };
        let detail = decision["detail"].as_str().filter(|detail| !detail.is_empty());
        let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
        format!("{}  {}{times}{detail}\n", time(&decision["at"]), word(&decision["reason"]))
    };
    decisions.as_array().into_iter().flatten().map(line).collect()
}

fn said(answer: &Value) -> String {
    format!("{}\n", word(&answer["done"]))
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Formats a time with a precision of one second.
fn time(value: &Value) -> String {
    let at = value.as_str().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    at.map(|at| at.to_utc().format("%F %TZ").to_string()).unwrap_or_default()
}
