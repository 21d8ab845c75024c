//! What it costs an agent to send 10,000 values a second to a real Zabbix 6.0 server: flows of four steps, each a value with
//! the run and two for each step, from which the server makes further ones.
//!
//! The process has the sink with all that belongs to it (queue, batches, compression, positions) and makes the outcomes; it
//! runs no scenarios. Its CPU is that of all its threads. At the end every run must be in the server's history. Needs root,
//! as `tests/support/zabbix.sh` does.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wachta::bounded::credential::Credential;
use wachta::outcome::{Outcome, RunId};
use wachta::scenario::{Lookup, LookupError, Scenario, load};
use wachta::sink::prometheus::Prometheus;
use wachta::sink::zabbix::Config;
use wachta::sink::zabbix::api::{self, Api};
use wachta::sink::{Context, Destination, Metrics, Parts, Scenarios, Sinks, Timing};
use wachta::store::Sqlite;
use wachta::store::evidence::EvidenceFolder;
use wachta::tasks::Tasks;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How many scenarios there are.
const SCENARIOS: usize = 200;
/// Names of the steps of each.
const STEPS: [&str; 4] = ["open", "login", "search", "buy"];
/// How many values a run is sent as.
const VALUES: usize = 1 + 2 * STEPS.len();
/// Values a second.
const RATE: usize = 10_000;
/// How long they are sent.
const LASTS: Duration = Duration::from_secs(60);
/// The host in Zabbix.
const HOST: &str = "wachta-bench";

/// Ends the server.
struct Server;

impl Drop for Server {
    fn drop(&mut self) {
        let _ = script("down");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script(action: &str) -> Result<String> {
    let output = Command::new(root().join("tests/support/zabbix.sh")).arg(action).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> std::result::Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }

    fn file(&self, path: &Path, _: &str) -> std::result::Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

fn scenarios() -> Result<Scenarios> {
    let one = |number: usize| -> Result<Arc<Scenario>> {
        let steps: Vec<_> =
            STEPS.iter().map(|step| format!("  - {{GET: \"http://127.0.0.1/\", name: {step}}}\n")).collect();
        let text = format!("scenario: Flow {number}\nid: flow-{number}\nevery: 1m\nsteps:\n{}", steps.concat());
        let loaded = load("bench.yaml", &text, &Nothing);
        loaded.scenarios.first().cloned().ok_or_else(|| format!("{:?}", loaded.diagnostics).into())
    };
    let all: Result<_> =
        (0..SCENARIOS).map(|number| Ok((format!("flow-{number}").as_str().into(), one(number)?))).collect();
    Ok(Arc::new(all?))
}

/// A run as a flow of requests leaves it.
fn outcome(number: usize) -> Result<Outcome> {
    let phases = json!({"resolve": 0.001, "connect": 0.002, "tls": 0.01, "processing": 0.05, "transfer": 0.004});
    let step = |name: &&str| {
        let hop = json!({"method": "GET", "url": "https://shop.example.com/", "status": 200, "phases": phases});
        json!({
            "name": name, "span_id": "0123456789abcdef", "offset": 0.0, "duration": 0.25, "status": "passed",
            "place": "shop.yaml:3:5",
            "http": {"method": "GET", "url": "https://shop.example.com/", "status": 200, "bytes": 5000, "hops": [hop]},
        })
    };
    let now = Utc::now();
    Ok(serde_json::from_value(json!({
        "run": RunId::new(), "scenario": format!("flow-{number}"), "name": format!("Flow {number}"), "kind": "api",
        "location": "here", "due_at": now, "started_at": now, "ended_at": now, "duration": 1.0, "verdict": "passed",
        "steps": STEPS.iter().map(step).collect::<Vec<_>>(), "evidence": [],
    }))?)
}

/// Deletes the host if it exists, and creates it with the template.
async fn provision(api: &Api) -> Result<String> {
    let template = std::fs::read_to_string(root().join("deploy/zabbix/template-wachta-6.0.yaml"))?;
    let all = json!({"createMissing": true, "updateExisting": true});
    let rules = json!({
        "groups": {"createMissing": true}, "templates": all, "valueMaps": all, "items": all, "triggers": all,
        "graphs": all, "discoveryRules": all, "templateDashboards": all,
    });
    api.call("configuration.import", &json!({"format": "yaml", "source": template, "rules": rules})).await?;
    for host in api.get("host.get", &json!({"filter": {"host": HOST}, "output": ["hostid"]})).await? {
        api.call("host.delete", &json!([host["hostid"]])).await?;
    }
    let template = api.get("template.get", &json!({"filter": {"host": "wachta"}, "output": ["templateid"]})).await?;
    let groups = api.get("hostgroup.get", &json!({"filter": {"name": "Discovered hosts"}})).await?;
    let host = json!({
        "host": HOST, "groups": [{"groupid": groups[0]["groupid"]}],
        "templates": [{"templateid": template[0]["templateid"]}],
    });
    let made = api.call("host.create", &host).await?;
    Ok(api::text(&made["hostids"][0]))
}

/// How many runs the server has in its history.
async fn stored(api: &Api, host: &str) -> Result<usize> {
    let items = json!({"hostids": host, "search": {"key_": "wachta.run["}, "startSearch": true, "output": ["itemid"]});
    let items: Vec<Value> = api.get("item.get", &items).await?.iter().map(|item| item["itemid"].clone()).collect();
    if items.is_empty() {
        return Ok(0);
    }
    let count = api.call("history.get", &json!({"history": 4, "itemids": items, "countOutput": true})).await?;
    Ok(api::text(&count).parse()?)
}

/// The CPU of all threads of this process.
fn cpu() -> Result<Duration> {
    let used = getrusage(UsageWho::RUSAGE_SELF)?;
    let of = |time: nix::sys::time::TimeVal| -> Result<Duration> {
        Ok(Duration::new(u64::try_from(time.tv_sec())?, u32::try_from(time.tv_usec())? * 1000))
    };
    Ok(of(used.user_time())? + of(used.system_time())?)
}

async fn run() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = script("up")?;
    let _server = Server;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
    let url = api::url_of(&value("ZABBIX_API="))?;
    let login = api::Login::User("Admin".into(), Credential::text("zabbix"));
    let api = Api::connect(&api::Config { url, login, ca: None }, reqwest::Client::new()).await?;
    let host = provision(&api).await?;

    let metrics = Metrics::new(&prometheus::Registry::new())?;
    let sinks = Sinks::open(Parts {
        store: Arc::new(Sqlite::open("sqlite::memory:").await?),
        is_durable: false,
        context: Context {
            location: "here".into(),
            agent_state: Arc::new(|| json!({})),
            http_client: Arc::new(|_| Err("no HTTP client is needed".into())),
            evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence")),
            prometheus: Arc::new(Prometheus::new(prometheus::Registry::new(), "here")),
        },
        metrics,
        tasks: Tasks::unregistered(CancellationToken::new()),
        timing: Timing::default(),
    })
    .await?;
    let config = Config { servers: vec![value("ZABBIX_TRAPPER=")], host: HOST.into(), ..Config::default() };
    sinks.load(&[Destination::from(config)], &scenarios()?, &[]).await;
    let waiting = || sinks.status().first().map_or(0, |status| status.waiting);

    // The first runs wait until the server knows all items.
    let mut sent = 0;
    for number in 0..SCENARIOS {
        sinks.outcome(outcome(number)?, None, |_| {});
        sent += 1;
    }
    while stored(&api, &host).await? < sent || waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let templates: Vec<Outcome> = (0..SCENARIOS).map(outcome).collect::<Result<_>>()?;
    let (began, used) = (Instant::now(), cpu()?);
    let (mut made, mut most) = (0, 0);
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while began.elapsed() < LASTS {
        tick.tick().await;
        let due = (began.elapsed().as_secs_f64() * RATE as f64 / VALUES as f64).floor();
        while (made as f64) < due {
            let outcome = Outcome { run: RunId::new(), ended_at: Utc::now(), ..templates[made % SCENARIOS].clone() };
            sinks.outcome(outcome, None, |_| {});
            made += 1;
        }
        most = most.max(waiting());
    }
    let (lasted, used) = (began.elapsed(), cpu()?.saturating_sub(used));
    sent += made;
    let left = waiting();
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut there = 0;
    while there < sent && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(500)).await;
        there = stored(&api, &host).await?;
    }
    sinks.stop().await;
    // Tests use the same server, and the template stays as long as a host has it.
    api.call("host.delete", &json!([host])).await?;
    let rate = (made * VALUES) as f64 / lasted.as_secs_f64();
    let cores = used.as_secs_f64() / lasted.as_secs_f64();
    println!("{rate:.0} values a second for {:.0} s ({made} runs of {VALUES} values)", lasted.as_secs_f64());
    println!(
        "CPU of the process: {cores:.3} cores (goal: under 0.25); runs that waited: at most {most}, {left} at the end"
    );
    println!("in history: {there} of {sent} runs");
    if there != sent {
        return Err("not every run arrived".into());
    }
    Ok(())
}

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run())
}
