//! The same five steps in a browser, side by side: wachta with warm and with fresh sessions, Playwright, Selenium.
//!
//! All run in turn, round by round, on the demo shop, with the same Chromium. No limits: the figures are printed with
//! what they should be, and it ends well whatever they are. docs/benchmarks.md says what each number means.

mod peers;
mod processes;
mod report;
mod steps;
mod wachta;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ::wachta::demo::{Demo, DemoLookup, PASSWORD, USER};
use ::wachta::scenario::{Engine, Headless, Lookup, Scenario, load};
use tokio_util::sync::CancellationToken;

use self::peers::Peer;
use self::report::{Mode, Row};
use self::wachta::Agent;

/// Runs of a variant straight after one another: one to get into step, and those that are measured.
const BACK_TO_BACK: usize = 6;
/// The pause before a run with an idle gap.
const IDLE: Duration = Duration::from_secs(1);
/// In so many rounds the memory is looked at.
const WEIGHED: usize = 5;

const FLOW: &str = "
scenario: Sign in
timeout: 60s
base_url: ${env.SHOP_URL}
secrets:
  password: {env: SHOP_PASSWORD}
steps:
  - goto: /login
  - fill: {label: Email}
    with: ${env.SHOP_USER}
  - fill: {label: Password}
    with: ${secret.password}
  - click: {button: Sign in}
  - expect: {visible: {heading: My account}}
";

/// A scenario from its text.
pub fn scenario(text: &str, lookup: &Arc<dyn Lookup>) -> Arc<Scenario> {
    let loaded = load("flow.yaml", text, lookup.as_ref());
    let words: Vec<&str> = loaded.diagnostics.iter().map(|one| one.message.as_str()).collect();
    assert!(words.is_empty(), "{words:?}");
    Arc::clone(&loaded.scenarios[0])
}

enum Tool {
    Wachta(Box<Agent>),
    Peer(Box<Peer>),
}

/// CPU time in milliseconds: the tool's own, and that of the driver and the browser.
struct Cpu {
    own: f64,
    browser: f64,
}

struct Variant {
    tool: Tool,
    row: Row,
}

impl Variant {
    async fn run(&mut self, flow: &Arc<Scenario>) -> Result<f64, String> {
        let due = Instant::now();
        match &mut self.tool {
            Tool::Wachta(agent) => drop(Box::pin(agent.run(flow, None)).await?),
            Tool::Peer(peer) => peer.run(false).await?,
        }
        Ok(due.elapsed().as_secs_f64() * 1e3)
    }

    /// Waits until all that follows a run is done, and gives the CPU time so far.
    async fn settle(&mut self, shop: i32) -> Result<Cpu, String> {
        match &mut self.tool {
            Tool::Wachta(agent) => agent.settle().await,
            Tool::Peer(peer) => {
                peer.settle().await?;
                processes::end_adopted();
            }
        }
        // What is read below costs this program something as well.
        let ours = processes::own_cpu(shop);
        // What a browser leaves ends a little later.
        for _ in 0..200 {
            if processes::reap() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let roots = match &self.tool {
            Tool::Wachta(agent) => agent.roots(),
            Tool::Peer(peer) => peer.roots(),
        };
        let mut cpu = Cpu { own: 0.0, browser: processes::ended() };
        for one in processes::trees(&roots) {
            cpu.browser += one.ended;
            if one.is_tool() {
                cpu.own += one.own;
            } else {
                cpu.browser += one.own;
            }
        }
        if matches!(self.tool, Tool::Wachta(_)) {
            cpu.own = ours;
        }
        Ok(cpu)
    }

    async fn measured(&mut self, flow: &Arc<Scenario>, mode: Mode, shop: i32) -> Result<(), String> {
        self.settle(shop).await?;
        let runs = match mode {
            Mode::BackToBack => BACK_TO_BACK,
            Mode::IdleGaps => {
                tokio::time::sleep(IDLE).await;
                1
            }
        };
        let mut before = self.settle(shop).await?;
        if matches!(self.tool, Tool::Wachta(_)) {
            before.own = processes::own_cpu(shop);
        }
        let mut walls = Vec::new();
        for _ in 0..runs {
            walls.push(self.run(flow).await?);
        }
        let after = self.settle(shop).await?;
        if mode == Mode::BackToBack {
            // It did not follow another run.
            walls.remove(0);
        }
        let runs = runs as f64;
        self.row.add(mode, &walls, ((after.own - before.own) / runs, (after.browser - before.browser) / runs));
        Ok(())
    }

    async fn weigh(&mut self, flow: &Arc<Scenario>, shop: i32) -> Result<(), String> {
        self.settle(shop).await?;
        let weight = match &mut self.tool {
            Tool::Wachta(agent) => agent.weigh(flow).await?,
            Tool::Peer(peer) => {
                peer.run(true).await?;
                let (own, browser): (Vec<_>, Vec<_>) =
                    processes::trees(&peer.roots()).into_iter().partition(processes::Process::is_tool);
                let weight = (processes::pss(&own), processes::pss(&browser));
                peer.go_on().await?;
                weight
            }
        };
        self.row.weigh(weight);
        self.settle(shop).await.map(drop)
    }

    async fn round(&mut self, number: usize, flow: &Arc<Scenario>, shop: i32) {
        if self.row.failed.is_some() {
            return;
        }
        let done = async {
            self.measured(flow, Mode::BackToBack, shop).await?;
            self.measured(flow, Mode::IdleGaps, shop).await?;
            if number < WEIGHED { self.weigh(flow, shop).await } else { Ok(()) }
        };
        if let Err(failed) = done.await {
            eprintln!("{}: {failed}", self.row.name);
            self.row.failed = Some(failed);
        }
    }
}

/// Opens the shop in a thread of its own, so that its CPU time is known; gives the thread's id and where it is.
fn open_shop(stop: CancellationToken) -> (i32, String, DemoLookup) {
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let demo = Demo::open(0, 0, &stop).await.expect("loopback");
            let thread = nix::unistd::gettid().as_raw();
            let _ = say.send((thread, format!("http://{}", demo.http), DemoLookup::new(&demo)));
            stop.cancelled().await;
        });
    });
    said.recv().expect("the shop opens")
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin"));
    std::env::split_paths(&path).chain(home).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Flags that all get beside their own: what wachta gives to Chromium, but for what each tool says itself.
fn arguments() -> Vec<String> {
    let mut arguments = vec![
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-default-apps",
        "--disable-domain-reliability",
        "--disable-client-side-phishing-detection",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    ];
    if nix::unistd::geteuid().is_root() {
        arguments.push("--no-sandbox");
    }
    arguments.into_iter().map(ToOwned::to_owned).collect()
}

async fn peers(url: &str) -> Vec<Variant> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let (Some(chromium), Some(driver)) = (find("chromium"), find("chromedriver")) else { return Vec::new() };
    let shell = find("chromium-headless-shell").unwrap_or_else(|| chromium.clone());
    let flow = [url, USER, PASSWORD].map(ToOwned::to_owned);
    let [chromium, shell, driver] = [chromium, shell, driver].map(|path| path.display().to_string());
    let with = |front: &[&str], back: &[String]| -> Vec<String> {
        let front = front.iter().map(ToString::to_string);
        front.chain(flow.clone()).chain(back.iter().cloned()).chain(arguments()).collect()
    };
    let (full, browser) = (std::slice::from_ref(&chromium), std::slice::from_ref(&shell));
    let mut found = Vec::new();
    for (row, script, arguments) in [
        (Row::new("Playwright, new context", report::SHELL), "with_playwright.py", with(&["context"], browser)),
        (Row::new("Playwright, new context", report::FULL), "with_playwright.py", with(&["context"], full)),
        (Row::new("Playwright, fresh browser", report::SHELL), "with_playwright.py", with(&["fresh"], browser)),
        (Row::new("Selenium, fresh session", report::SHELL), "with_selenium.py", with(&[], &[shell.clone(), driver])),
    ] {
        match Peer::start(&folder, script, &arguments).await {
            Ok(peer) => found.push(Variant { tool: Tool::Peer(Box::new(peer)), row }),
            Err(error) => eprintln!("{} is left out: {error} (see benches/peers/install.sh)", row.name),
        }
    }
    found
}

fn agents(folder: &Path, lookup: &Arc<dyn Lookup>) -> Vec<Variant> {
    let mut found = Vec::new();
    let (shell, full) = (Headless::Shell, Headless::Full);
    for (engine, headless, browser, driver) in [
        (Engine::Chromium, shell, report::SHELL, "chromedriver"),
        (Engine::Chromium, full, report::FULL, "chromedriver"),
        (Engine::Firefox, shell, "Firefox", "geckodriver"),
    ] {
        if find(driver).is_none() {
            eprintln!("wachta on {browser} is left out: there is no {driver}");
            continue;
        }
        for (name, warm) in [("wachta, warm", true), ("wachta, fresh", false)] {
            let own = folder.join(format!("{browser}-{warm}"));
            let tool = Tool::Wachta(Box::new(Agent::new(engine, headless, warm, &own, Arc::clone(lookup))));
            found.push(Variant { tool, row: Row::new(name, browser) });
        }
    }
    found
}

async fn stop_all(variants: Vec<Variant>) {
    for variant in variants {
        match variant.tool {
            Tool::Wachta(agent) => agent.stop().await,
            Tool::Peer(peer) => peer.stop().await,
        }
    }
}

async fn measure() {
    let rounds = std::env::var("WACHTA_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let stop = CancellationToken::new();
    let (shop, url, surroundings) = open_shop(stop.clone());
    let lookup: Arc<dyn Lookup> = Arc::new(surroundings);
    let flow = scenario(FLOW, &lookup);
    let folder = std::env::temp_dir().join(format!("wachta-bench-{}", std::process::id()));
    let mut variants = agents(&folder, &lookup);
    variants.extend(peers(&url).await);
    // `cargo bench --bench browser -- "warm Chromium" Playwright`: only the variants whose name and browser are like that.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let (mut variants, others): (Vec<_>, Vec<_>) =
        variants.into_iter().partition(|one| wanted.is_empty() || wanted.iter().any(|part| one.row.is_like(part)));
    stop_all(others).await;
    // Programs and pages get into the memory of the machine, and warm browsers are started.
    for variant in &mut variants {
        if let Err(failed) = variant.run(&flow).await {
            eprintln!("{}: {failed}", variant.row.name);
            variant.row.failed = Some(failed);
        }
        let _ = variant.settle(shop).await;
    }
    for number in 0..rounds {
        for at in 0..variants.len() {
            let turn = (at + number) % variants.len();
            variants[turn].round(number, &flow, shop).await;
        }
        eprintln!("round {} of {rounds}", number + 1);
    }
    let rows: Vec<Row> = variants.iter().map(|variant| variant.row.clone()).collect();
    stop_all(variants).await;
    report::flows(&rows, rounds);
    let steps = steps::measure(&folder, &lookup, &url, shop, rounds.max(5)).await;
    report::steps(&steps);
    report::goals(&rows, &steps);
    stop.cancel();
    let _ = std::fs::remove_dir_all(&folder);
}

fn main() {
    // `cargo test --benches` only asks whether it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // Processes whose parents die are adopted, so that their time is not lost.
    nix::sys::prctl::set_child_subreaper(true).expect("Linux");
    steps::count_commands();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(Box::pin(measure()));
}
