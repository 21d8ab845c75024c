//! What a step costs wachta itself, how many commands it takes, and how long it waits for an element to be at rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::wachta::run::{Progress, ProgressEvent};
use ::wachta::scenario::{Engine, Headless, Lookup};
use fantoccini::{ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::report::Step;
use crate::wachta::Agent;
use crate::{arguments, processes, scenario};

/// Commands so far, of WebDriver and of its `BiDi`.
static COMMANDS: AtomicU64 = AtomicU64::new(0);

struct Counter;

impl<S: tracing::Subscriber> Layer<S> for Counter {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        ["wachta::browser::command", "wachta::browser::bidi"].contains(&metadata.target())
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::TRACE {
            COMMANDS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts the commands that wachta gives from now on; it says each one in its log.
pub fn count_commands() {
    tracing_subscriber::registry().with(Counter).init();
}

/// One of each kind; where it is plain, it is an action on one element of a page without frames.
const KINDS: &str = "
scenario: Kinds of steps
timeout: 60s
base_url: ${env.SHOP_URL}
secrets:
  password: {env: SHOP_PASSWORD}
steps:
  - name: goto
    goto: /login
  - name: hover
    hover: {button: Sign in}
  - name: click that changes nothing
    click: {heading: Sign in}
  - name: fill
    fill: {label: Email}
    with: ${env.SHOP_USER}
  - name: fill
    fill: {label: Password}
    with: ${secret.password}
  - name: click that opens a page
    click: {button: Sign in}
  - name: expect
    expect: {visible: {heading: My account}}
  - name: goto
    goto: /products/blue-mug
  - name: click that waits for a late button
    click: {button: Add to cart}
  - name: save
    save: {count: {element: {testid: cart-count}}}
  - name: goto
    goto: /checkout
  - name: select
    select: {label: Shipping}
    option: Express
  - name: press
    press: Tab
";

/// What was seen of steps.
pub struct Steps {
    /// By name.
    pub kinds: Vec<Step>,
    /// In milliseconds: a click of wachta on a page that stays, the driver's own command for the same click, and what two
    /// frames of an animation take, which is how long the script looks whether an element is at rest.
    pub click: Option<(f64, f64, f64)>,
}

#[derive(Default)]
struct Seen {
    commands: Vec<f64>,
    cpu: Vec<f64>,
    wall: Vec<f64>,
}

/// Runs one scenario of all kinds again and again.
pub async fn measure(folder: &Path, lookup: &Arc<dyn Lookup>, url: &str, shop: i32, rounds: usize) -> Steps {
    let kinds = scenario(KINDS, lookup);
    let agent = Agent::new(Engine::Chromium, Headless::Shell, true, &folder.join("steps"), Arc::clone(lookup));
    let seen: Arc<Mutex<BTreeMap<String, Seen>>> = Arc::default();
    let mut order: Vec<String> = Vec::new();
    for step in &kinds.steps {
        let name = step.name.split(" (").next().unwrap_or_default();
        if !order.iter().any(|one| one == name) {
            order.push(name.to_owned());
        }
    }
    for round in 0..=rounds {
        let into = Arc::clone(&seen);
        let began = Mutex::new((0, 0.0, Instant::now()));
        let progress: Progress = Arc::new(move |stage| {
            let now = (COMMANDS.load(Ordering::Relaxed), processes::own_cpu(shop), Instant::now());
            let mut began = began.lock().expect("nobody panics");
            if let ProgressEvent::StepFinished(step) = stage
                && round > 0
            {
                let mut seen = into.lock().expect("nobody panics");
                // Names that repeat are numbered.
                let name = step.name.split(" (").next().unwrap_or_default();
                let seen = seen.entry(name.to_owned()).or_default();
                seen.commands.push((now.0 - began.0) as f64);
                seen.cpu.push(now.1 - began.1);
                seen.wall.push(now.2.duration_since(began.2).as_secs_f64() * 1e3);
            }
            *began = (COMMANDS.load(Ordering::Relaxed), processes::own_cpu(shop), Instant::now());
        });
        if let Err(failed) = Box::pin(agent.run(&kinds, Some(progress))).await {
            eprintln!("steps: {failed}");
            break;
        }
        agent.settle().await;
        // Where runs follow at once, the next user's window is made meanwhile, and its commands are none of the step's.
        tokio::time::sleep(2 * crate::IDLE).await;
    }
    agent.stop().await;
    let mut seen = std::mem::take(&mut *seen.lock().expect("nobody panics"));
    let mut found = Vec::new();
    for name in order {
        if let Some(Seen { commands, cpu, wall }) = seen.remove(&name) {
            found.push(Step { name, commands, cpu, wall });
        }
    }
    let still = found.iter().find(|step| step.name == "click that changes nothing").map(Step::wall);
    let raw = raw(url, rounds).await.inspect_err(|error| eprintln!("raw commands: {error}")).ok();
    let click = still.zip(raw).map(|(click, (raw, frames))| (click, raw, frames));
    Steps { kinds: found, click }
}

/// The same click as one command, and what two frames take, with no wachta between; medians in milliseconds.
async fn raw(url: &str, rounds: usize) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let mut driver = tokio::process::Command::new("chromedriver")
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(driver.stdout.take().ok_or("no output")?).lines();
    let port = loop {
        let line = lines.next_line().await?.ok_or("chromedriver has ended")?;
        if let Some((_, port)) = line.split_once("successfully on port ") {
            break port.trim_end_matches('.').to_owned();
        }
    };
    let mut options = arguments();
    options.push("--headless".into());
    let serde_json::Value::Object(wanted) = json!({"goog:chromeOptions": {"args": options}}) else { unreachable!() };
    let client = ClientBuilder::new(HttpConnector::new())
        .capabilities(wanted)
        .connect(&format!("http://127.0.0.1:{port}"))
        .await?;
    client.goto(&format!("{url}/login")).await?;
    let (mut clicks, mut plain, mut framed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds * 3 {
        let heading = client.find(Locator::Css("h1")).await?;
        let began = Instant::now();
        heading.click().await?;
        clicks.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        client.execute("return Promise.resolve(1)", Vec::new()).await?;
        plain.push(began.elapsed().as_secs_f64() * 1e3);
        let frames =
            "const frame = () => new Promise(done => requestAnimationFrame(done)); return frame().then(frame);";
        let began = Instant::now();
        client.execute(frames, Vec::new()).await?;
        framed.push(began.elapsed().as_secs_f64() * 1e3);
    }
    client.close().await?;
    let _ = tokio::time::timeout(Duration::from_secs(5), driver.kill()).await;
    let middle = crate::report::median;
    Ok((middle(&clicks), middle(&framed) - middle(&plain)))
}
