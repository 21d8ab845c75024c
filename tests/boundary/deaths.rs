//! What happens to a browser while it is driven, and what the run must say of it: a table, drawn from again and again.
//! `WACHTA_SOAK_DEATHS` says how often, `WACHTA_SEED` in which order. And many users at once
//! (`WACHTA_SOAK_USERS`), none of whom meets another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::response::{Html, IntoResponse, Response};
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;
use wachta::browser::{BrowserPool, Config, Metrics};
use wachta::demo::Demo;
use wachta::names::Reason;
use wachta::outcome::{Outcome, RunId, Verdict};
use wachta::run::{self, RunRequest, RunServices};
use wachta::scenario::{Engine, Lookup, LookupError, Scenario, load};
use wachta::store::evidence::EvidenceFolder;
use wachta::store::{History as _, Runs as _, Sqlite};

use crate::support::agent::Agent;
use crate::support::leases::{leases, listeners, listening, processes, session_leases, sessions, signal};
use crate::support::{Folder, until};

const SOON: Duration = Duration::from_secs(120);

/// What is done to a run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Blow {
    /// Nothing at all.
    None,
    /// A signal to a process, once the page has asked for `/gate`.
    Signal(&'static str, Signal),
    /// The page is this one.
    Page(&'static str),
    /// The agent itself is killed, and started again.
    Agent,
}

/// What is done, to which browser, and what the run must say: any of these.
struct Row {
    engine: Engine,
    blow: Blow,
    verdict: Verdict,
    reasons: &'static [Reason],
}

const fn row(engine: Engine, blow: Blow, verdict: Verdict, reasons: &'static [Reason]) -> Row {
    Row { engine, blow, verdict, reasons }
}

const CHROMIUM: Engine = Engine::Chromium;
const FIREFOX: Engine = Engine::Firefox;
const GONE: &[Reason] = &[Reason::Browser, Reason::Driver];

/// Every blow, with what must come of it.
const ROWS: &[Row] = &[
    row(CHROMIUM, Blow::None, Verdict::Passed, &[]),
    row(CHROMIUM, Blow::Signal("chromedriver", Signal::SIGKILL), Verdict::Unknown, GONE),
    row(CHROMIUM, Blow::Signal("chromium", Signal::SIGKILL), Verdict::Unknown, &[Reason::Browser]),
    // The page dies with nobody to blame, and does not when the run is repeated.
    row(CHROMIUM, Blow::Signal("--type=renderer", Signal::SIGKILL), Verdict::Unknown, &[Reason::Browser]),
    row(CHROMIUM, Blow::Signal("chromedriver", Signal::SIGSTOP), Verdict::Unknown, &[Reason::Driver]),
    row(CHROMIUM, Blow::Signal("chromium", Signal::SIGSTOP), Verdict::Unknown, &[Reason::Browser]),
    row(CHROMIUM, Blow::Signal("--type=renderer", Signal::SIGSTOP), Verdict::Unknown, &[Reason::Browser]),
    row(CHROMIUM, Blow::Page("/never"), Verdict::Failed, &[Reason::Timeout]),
    row(CHROMIUM, Blow::Page("/spins"), Verdict::Failed, &[Reason::Timeout]),
    row(CHROMIUM, Blow::Page("/eats"), Verdict::Failed, &[Reason::Crash]),
    row(CHROMIUM, Blow::Page("/talks"), Verdict::Failed, &[Reason::Timeout, Reason::NotFound]),
    row(CHROMIUM, Blow::Agent, Verdict::Unknown, &[Reason::Lost]),
    row(FIREFOX, Blow::None, Verdict::Passed, &[]),
    row(FIREFOX, Blow::Signal("geckodriver", Signal::SIGKILL), Verdict::Unknown, GONE),
    row(FIREFOX, Blow::Signal("firefox", Signal::SIGKILL), Verdict::Unknown, GONE),
    row(FIREFOX, Blow::Page("/never"), Verdict::Failed, &[Reason::Timeout]),
    row(FIREFOX, Blow::Page("/spins"), Verdict::Failed, &[Reason::Timeout]),
];

/// The server of the pages; `/gate` stays shut until the blow was struck.
#[derive(Default)]
struct Site {
    asked: AtomicUsize,
    open: std::sync::atomic::AtomicBool,
}

async fn page(site: Arc<Site>, request: Request) -> Response {
    let html = |body: &str| Html(format!("<!doctype html><title>page</title>{body}")).into_response();
    match request.uri().path() {
        "/" => html(
            "<h1>Welcome</h1><script>const ask = async () => {\
             if (await (await fetch('/gate')).text() !== 'open') return setTimeout(ask, 50);\
             document.body.append(Object.assign(document.createElement('p'), {textContent: 'Ready'})) }; ask()</script>",
        ),
        "/gate" => {
            site.asked.fetch_add(1, Ordering::Relaxed);
            if site.open.load(Ordering::Relaxed) { "open" } else { "shut" }.into_response()
        }
        "/never" => std::future::pending().await,
        "/spins" => html("<script>setTimeout(() => { for (;;) {} }, 100)</script>"),
        "/eats" => {
            html("<script>const all = []; setInterval(() => { all.push(new Uint8Array(3e7).fill(1)) }, 5)</script>")
        }
        "/talks" => html("<script>setTimeout(() => { for (;;) alert('again') }, 100)</script>"),
        _ => axum::http::StatusCode::NOT_FOUND.into_response(),
    }
}

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.into()))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

fn scenario(text: &str) -> Arc<Scenario> {
    let loaded = load("deaths.yaml", text, &Nothing);
    assert!(!loaded.is_refused(), "{:?}", loaded.diagnostics);
    Arc::clone(&loaded.scenarios[0])
}

fn tools(folder: &Path, config: Config) -> (BrowserPool, RunServices) {
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let guard = PathBuf::from(env!("CARGO_BIN_EXE_wachta"));
    let config = Config { loopback_only: true, ..config };
    let browsers = BrowserPool::new(config, folder.join("browsers"), guard, metrics);
    let tools = RunServices {
        dialer: wachta::wire::Dialer::default(),
        limits: wachta::wire::limits::Limits::default(),
        tokens: run::Tokens::default(),
        line: run::ConnectivityMonitor::default(),
        tls: wachta::wire::tls::Trusted::system(),
        browsers: Some(browsers.clone()),
        lookup: Arc::new(Nothing),
        evidence: EvidenceFolder::new(folder.join("evidence")),
        beats: None,
        baseline: None,
        footprints: None,
        clock: None,
        location: "here".into(),
    };
    (browsers, tools)
}

async fn serve<F, A>(answer: F) -> String
where
    F: Fn(Request) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    base
}

/// The next number below this, as the seed says.
pub fn random(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

/// What came of one run.
struct Seen {
    runs: Vec<RunId>,
    verdict: Verdict,
    reason: Option<Reason>,
    said: String,
    /// The sockets on which its browser listened.
    sockets: BTreeSet<u64>,
}

/// One run with one blow, some time after the page has asked for `/gate`.
async fn struck(number: usize, row: &Row, tools: &RunServices, folder: &Path, pause: Duration) -> Seen {
    let site = Arc::new(Site::default());
    let shared = Arc::clone(&site);
    let base = serve(move |request| page(Arc::clone(&shared), request)).await;
    let path = if let Blow::Page(path) = row.blow { path } else { "/" };
    // Chromium's headless shell and the whole browser take turns.
    let headless = if number.is_multiple_of(2) { "shell" } else { "full" };
    let text = format!(
        "scenario: Struck\nevery: 1s\nbase_url: {base}\ntimeout: 60s\ndefaults: {{timeout: 3s}}\nbrowser: {{engine: {}, headless: {headless}}}\nsteps:\n  - \
         goto: {path}\n  - expect: {{visible: {{text: Ready}}}}\n  - expect: {{visible: {{heading: Welcome}}}}\n",
        row.engine
    );
    if row.blow == Blow::Agent {
        return agent_killed(&text, &site, pause).await;
    }
    let scenario = scenario(&text);
    let running = run::run(&scenario, tools, RunRequest::default());
    let strike = async {
        let Blow::Signal(victim, how) = row.blow else {
            site.open.store(true, Ordering::Relaxed);
            return BTreeSet::new();
        };
        until("the page asks", SOON, async || (site.asked.load(Ordering::Relaxed) > 0).then_some(())).await;
        tokio::time::sleep(pause).await;
        // One session at a time, so it is the run's.
        let leases = session_leases(folder);
        let sockets = leases.iter().flat_map(|lease| listeners(lease)).collect();
        let struck = leases.into_iter().any(|lease| signal(&lease, victim, how));
        assert!(struck, "there is no {victim}");
        site.open.store(true, Ordering::Relaxed);
        sockets
    };
    let (outcome, sockets) = tokio::join!(running, strike);
    Seen {
        runs: vec![outcome.run],
        verdict: outcome.verdict,
        reason: outcome.reason,
        said: format!("{outcome:#?}"),
        sockets,
    }
}

/// An agent that is killed while its run waits on the page. The next one closes that run, and no process is left.
async fn agent_killed(scenario: &str, site: &Site, pause: Duration) -> Seen {
    let folder = Folder::new("killed-agent");
    folder.write(
        "wachta.yaml",
        "location: here\nscenarios: [scenarios/]\nstore: sqlite:wachta.db\nweb: {listen: \"127.0.0.1:0\"}\n",
    );
    folder.write("scenarios/struck.yaml", scenario);
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let mut agent = Agent::serve(folder.path(), &shop).await;
    until("the page asks", SOON, async || (site.asked.load(Ordering::Relaxed) > 0).then_some(())).await;
    tokio::time::sleep(pause).await;
    let browsers = folder.path().join("wachta.state/browsers");
    let marks = leases(&browsers);
    let sockets = session_leases(&browsers).iter().flat_map(|lease| listeners(lease)).collect();
    agent.kill();
    until("no process is left", SOON, async || (processes(&marks) == 0).then_some(())).await;
    site.open.store(true, Ordering::Relaxed);
    let store = async || Sqlite::open(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();
    let was = store().await;
    let now = chrono::Utc::now();
    let open = was.open_planned_runs("here").await.unwrap();
    was.close().await;
    let lost: Vec<RunId> = open.iter().filter(|intent| intent.due_at < now).map(|intent| intent.run).collect();

    let agent = Agent::serve(folder.path(), &shop).await;
    assert_eq!(agent.stop().await, Some(0));
    let is = store().await;
    let outcomes = is.recent(None, 1000).await.unwrap();
    assert_eq!(is.open_planned_runs("here").await.unwrap(), []);
    is.close().await;
    assert_eq!((processes(&marks), sessions(&browsers)), (0, 0), "something is left of the agent");
    stop.cancel();
    let of: Vec<&Outcome> = outcomes.iter().filter(|outcome| lost.contains(&outcome.run)).collect();
    let said = format!("{lost:?}: {outcomes:#?}");
    assert!(!lost.is_empty() && of.len() == lost.len(), "one outcome for each run: {said}");
    let wrong = of.iter().find(|outcome| outcome.reason != Some(Reason::Lost));
    let shown = wrong.unwrap_or(&of[0]);
    Seen {
        runs: outcomes.iter().map(|outcome| outcome.run).collect(),
        verdict: shown.verdict,
        reason: shown.reason,
        said,
        sockets,
    }
}

/// What the lanes draw from and add to.
struct Ledger {
    seed: u64,
    order: Vec<usize>,
    begun: usize,
    runs: usize,
    seen: BTreeSet<RunId>,
    sockets: BTreeSet<u64>,
    wrong: Vec<String>,
    counts: BTreeMap<String, usize>,
}

impl Ledger {
    /// The next row and a pause; none when there were enough. Each round has every row once, in another order.
    fn draw(&mut self) -> Option<(usize, &'static Row, Duration)> {
        if self.begun == self.runs {
            return None;
        }
        if self.begun.is_multiple_of(ROWS.len()) {
            for at in (1..self.order.len()).rev() {
                let with = usize::try_from(random(&mut self.seed, at as u64 + 1)).unwrap();
                self.order.swap(at, with);
            }
        }
        let row = &ROWS[self.order[self.begun % ROWS.len()]];
        self.begun += 1;
        Some((self.begun, row, Duration::from_millis(random(&mut self.seed, 700))))
    }

    fn note(&mut self, number: usize, row: &Row, seen: Seen, took: Duration) {
        for run in seen.runs {
            assert!(self.seen.insert(run), "an outcome came twice");
        }
        self.sockets.extend(seen.sockets);
        let right =
            seen.verdict == row.verdict && seen.reason.map_or(row.reasons.is_empty(), |r| row.reasons.contains(&r));
        eprintln!("{number}: {} {:?} in {took:.1?}: {:?} {:?}", row.engine, row.blow, seen.verdict, seen.reason);
        *self.counts.entry(format!("{} {:?}", row.engine, row.blow)).or_default() += 1;
        if !right {
            eprintln!("WRONG: {}", seen.said);
            self.wrong.push(format!("{} {:?}: {}", row.engine, row.blow, seen.said));
        }
    }
}

/// One browser at a time, until there were enough runs.
async fn lane(ledger: &Mutex<Ledger>, name: &str) {
    let folder = Folder::new(name);
    let config = Config { max_sessions: 1, max_memory: 600 << 20, ..Config::default() };
    let (browsers, tools) = tools(folder.path(), config);
    let of_browsers = folder.path().join("browsers");
    loop {
        let drawn = ledger.lock().unwrap().draw();
        let Some((number, row, pause)) = drawn else { break };
        let since = Instant::now();
        let seen = struck(number, row, &tools, &of_browsers, pause).await;
        ledger.lock().unwrap().note(number, row, seen, since.elapsed());
    }
    let marks = leases(&of_browsers);
    browsers.shutdown().await;
    assert_eq!((processes(&marks), sessions(&of_browsers)), (0, 0), "something is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_browser_the_verdict_is_right() {
    let runs: usize = std::env::var("WACHTA_SOAK_DEATHS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROWS.len());
    let seed: u64 = std::env::var("WACHTA_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0x5eed);
    let since = Instant::now();
    let ledger = Mutex::new(Ledger {
        seed,
        order: (0..ROWS.len()).collect(),
        begun: 0,
        runs,
        seen: BTreeSet::new(),
        sockets: BTreeSet::new(),
        wrong: Vec::new(),
        counts: BTreeMap::new(),
    });
    if runs > 10 * ROWS.len() {
        tokio::join!(lane(&ledger, "deaths-1"), lane(&ledger, "deaths-2"), lane(&ledger, "deaths-3"));
    } else {
        lane(&ledger, "deaths").await;
    }
    let ledger = ledger.into_inner().unwrap();
    let left: Vec<_> = listening().intersection(&ledger.sockets).copied().collect();
    assert_eq!(left, [0_u64; 0], "somebody still listens");
    assert!(!ledger.sockets.is_empty());
    assert!(ledger.wrong.is_empty(), "{} of {runs}: {}", ledger.wrong.len(), ledger.wrong.join("\n"));
    eprintln!("{runs} runs in {:.0?}: {:?}", since.elapsed(), ledger.counts);
}

/// A shop of its own: `/` greets by the cookie, `/login` gives one.
#[derive(Default)]
struct Door {
    logins: Mutex<Vec<String>>,
}

fn door(door: &Door, request: &Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let cookie = request.headers().get("cookie").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    match request.uri().path() {
        "/" => {
            let name = cookie.strip_prefix("user=").unwrap_or("stranger").to_owned();
            Html(format!(
                "<!doctype html><title>Door</title><h1>Hello {name}</h1><p id=kept></p>\
                 <form action=/login><label>Name <input name=user></label><button>Sign in</button></form>\
                 <script>document.getElementById('kept').textContent = 'kept ' + (localStorage.getItem('user') || 'nothing');\
                 document.forms[0].onsubmit = () => localStorage.setItem('user', document.forms[0].user.value)</script>"
            ))
            .into_response()
        }
        "/login" => {
            let name = query.trim_start_matches("user=").to_owned();
            door.logins.lock().unwrap().push(name.clone());
            Response::builder()
                .status(303)
                .header("set-cookie", format!("user={name}; Path=/; Max-Age=10000"))
                .header("location", "/")
                .body(axum::body::Body::empty())
                .unwrap()
        }
        _ => axum::http::StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_the_same_login_never_meet() {
    let runs: usize = std::env::var("WACHTA_SOAK_USERS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let opened = Arc::new(Door::default());
    let shared = Arc::clone(&opened);
    let base = serve(move |request| std::future::ready(door(&shared, &request))).await;
    let folder = Folder::new("users");
    // As many users in one browser as there can be.
    let config = Config { max_sessions: 2, max_runs: u32::MAX, ..Config::default() };
    let (browsers, tools) = tools(folder.path(), config);
    let scenario = scenario(&format!(
        "scenario: Login\nbase_url: {base}\ntimeout: 60s\nsteps:\n  - goto: /\n  - expect:\n      visible: {{heading: Hello \
         stranger}}\n      element: {{id: kept}}\n      text: kept nothing\n  - fill: {{label: Name}}\n    with: \
         u${{run.id}}\n  - click: {{button: Sign in}}\n  - expect:\n      visible: {{heading: \"Hello u${{run.id}}\"}}\n      \
         element: {{id: kept}}\n      text: \"kept u${{run.id}}\"\n"
    ));
    let next = AtomicUsize::new(0);
    let one_after_the_other = async || {
        let mut bad = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < runs {
            let outcome = run::run(&scenario, &tools, RunRequest::default()).await;
            if outcome.verdict != Verdict::Passed {
                bad.push(format!("{outcome:#?}"));
            }
        }
        bad
    };
    let (first, second, third) = tokio::join!(one_after_the_other(), one_after_the_other(), one_after_the_other());
    let bad = [first, second, third].concat();
    assert!(bad.is_empty(), "{} of {runs}: {}", bad.len(), bad.join("\n"));
    let mut names = opened.logins.lock().unwrap().clone();
    assert_eq!(names.len(), runs);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), runs, "each was somebody else");
    assert_eq!(browsers.metrics().started.get(), 2.min(runs as u64), "in two browsers");
    let marks = leases(&folder.path().join("browsers"));
    browsers.shutdown().await;
    assert_eq!(processes(&marks), 0);
}
