//! What a scrape of very many checks costs while runs go on: CPU time of the scrape, bytes, memory, and how long runs wait
//! for it. `WACHTA_BENCH_CHECKS` says how many checks there are (100,000).
//!
//! No limits: look at the figures, and at what docs/benchmarks.md says they should be.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::Utc;
use nix::sys::resource::{UsageWho, getrusage};
use wachta::names::Reason;
use wachta::names::metric::Detail;
use wachta::outcome::{Hop, HttpResult, Outcome, Phases, RunId, StepResult, StepStatus, Verdict};
use wachta::scenario::{Lookup, LookupError, Scenario, ScenarioId, load};
use wachta::sink::prometheus::{Config, Format, Prometheus, ScrapeRequest, Selection};

/// Runs a second that end beside the scrapes.
const RUNS_PER_SECOND: u64 = 1000;

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_THREAD).expect("this thread has a usage");
    let of = |time: nix::sys::time::TimeVal| {
        let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros(u64::try_from(micros).expect("time is not negative"))
    };
    of(used.user_time()) + of(used.system_time())
}

/// A line of `/proc/self/status`, in kB.
fn memory(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("a line of that name");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

fn scenarios(count: usize) -> BTreeMap<ScenarioId, Arc<Scenario>> {
    let mut all = BTreeMap::new();
    for first in (0..count).step_by(1000) {
        let checks: String = (first..count.min(first + 1000))
            .map(|n| {
                let tags = format!("tags: {{team: t{}}}", n % 10);
                format!("  shop {n}: {{http: \"https://shop-{n}.example.com/health\", status: 200, {tags}}}\n")
            })
            .collect();
        let text = format!("defaults: {{every: 1m, timeout: 10s}}\nchecks:\n{checks}");
        let loaded = load(&format!("checks-{first}.yaml"), &text, &Nothing);
        assert!(loaded.diagnostics.is_empty());
        all.extend(loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)));
    }
    all
}

/// Every fiftieth run fails, and every fiftieth is unknown.
fn outcome(scenario: &Scenario, n: usize) -> Outcome {
    let (verdict, reason, status) = match n % 50 {
        0 => (Verdict::Failed, Some(Reason::Status), StepStatus::Failed),
        1 => (Verdict::Unknown, Some(Reason::Network), StepStatus::Unknown),
        _ => (Verdict::Passed, None, StepStatus::Passed),
    };
    let micros = |micros: u64| Duration::from_micros(micros);
    let took = micros(15_001 + n as u64 % 50_000);
    let phases = Phases {
        resolve: micros(310),
        connect: micros(420),
        tls: Some(micros(1530)),
        processing: took.saturating_sub(micros(3000)),
        transfer: micros(230),
    };
    let hop = Hop {
        method: "GET".into(),
        url: "https://shop.example.com/health".into(),
        status: Some(200),
        phases,
        ..Hop::default()
    };
    let http = HttpResult {
        method: "GET".into(),
        url: "https://shop.example.com/health".into(),
        status: 200,
        bytes: 10,
        hops: vec![hop],
    };
    let step = StepResult {
        name: scenario.step_names()[0].to_owned(),
        depth: 0,
        finally: false,
        optional: false,
        span_id: "0123456789abcdef".into(),
        offset: Duration::ZERO,
        duration: took,
        status,
        place: "checks.yaml:1:1".into(),
        failure: None,
        http: Some(http),
        certificate_expires_at: Some(Utc::now()),
        earlier_requests: Vec::new(),
        notes: Vec::new(),
        snippet: None,
        retried: false,
        page: None,
    };
    Outcome {
        run: RunId::new(),
        scenario: scenario.id.value.clone(),
        name: scenario.name.clone(),
        kind: scenario.kind,
        location: "waw-1".into(),
        due_at: Utc::now(),
        started_at: Utc::now(),
        ended_at: Utc::now(),
        duration: took,
        verdict,
        reason,
        message: None,
        failed_step: None,
        steps: vec![step],
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
        seq: 0,
        streak: None,
    }
}

/// Hands over outcomes until `stop` is set. Returns how long handing over an outcome took, sorted.
fn keep_running(view: &Prometheus, known: &[Arc<Scenario>], stop: &AtomicBool) -> Vec<Duration> {
    let (began, mut took) = (Instant::now(), Vec::new());
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let outcome = outcome(&known[n * 7919 % known.len()], n);
        let before = Instant::now();
        view.outcome(&outcome);
        took.push(before.elapsed());
        let due = began + Duration::from_micros(n as u64 * 1_000_000 / RUNS_PER_SECOND);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    took.sort();
    took
}

/// Answers a scrape as the web server does, and returns how many bytes and series it has, and how many bytes are sent.
fn scrape(view: &Prometheus, format: Format, is_compressed: bool) -> (usize, usize, usize) {
    let request = ScrapeRequest { format, selection: Selection::All, scraper: 1 };
    let mut scrape = view.scrape(&request).expect("there is a place");
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(64 << 10), flate2::Compression::new(1));
    let (mut bytes, mut series, mut sent) = (0, 0, 0);
    while let Some(piece) = scrape.next_piece() {
        bytes += piece.len();
        if is_compressed {
            encoder.write_all(&piece).expect("memory takes it");
            sent += encoder.get_ref().len();
            encoder.get_mut().clear();
        } else {
            sent += piece.len();
            series += piece.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"wachta_scenario_")).count();
        }
    }
    sent += if is_compressed { encoder.finish().expect("memory takes it").len() } else { 0 };
    (bytes, series, sent)
}

fn main() {
    let count = std::env::var("WACHTA_BENCH_CHECKS").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000);
    let known = scenarios(count);
    let flat: Vec<Arc<Scenario>> = known.values().cloned().collect();
    for detail in [Detail::Basic, Detail::Full] {
        let before = memory("VmRSS");
        let view = Prometheus::new(prometheus::Registry::new(), "waw-1");
        view.load(&known, &Config { detail: Some(detail), ..Config::default() });
        for n in 0..3 * count {
            view.outcome(&outcome(&flat[n % count], n / count * 17 + n));
        }
        let state = memory("VmRSS").saturating_sub(before);
        println!("{}: {count} checks, {state} kB of state, {} B a check", detail.as_str(), state * 1024 / count as u64);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let running = scope.spawn(|| keep_running(&view, &flat, &stop));
            std::thread::sleep(Duration::from_secs(2));
            for (name, format, is_compressed) in [
                ("text", Format::Text, false),
                ("text, gzip", Format::Text, true),
                ("OpenMetrics, gzip", Format::OpenMetrics, true),
                ("protobuf, gzip", Format::Protobuf, true),
            ] {
                for _ in 0..2 {
                    // The peak is that of this scrape.
                    let _ = std::fs::write("/proc/self/clear_refs", "5");
                    let (rss, began) = (memory("VmRSS"), cpu());
                    let (bytes, series, sent) = scrape(&view, format, is_compressed);
                    let (took, more) = (cpu().saturating_sub(began), memory("VmHWM").saturating_sub(rss));
                    println!(
                        "  {name:<18} {took:>10.3?} CPU {bytes:>10} bytes {sent:>10} sent {series:>8} lines {more:>6} kB more"
                    );
                }
            }
            stop.store(true, Ordering::Relaxed);
            let took = running.join().expect("it does not panic");
            let at = |percent: usize| took[(took.len() - 1) * percent / 100];
            println!("  {} runs handed over: median {:?}, p99 {:?}, longest {:?}", took.len(), at(50), at(99), at(100));
        });
    }
}
