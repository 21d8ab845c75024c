//! The dispatcher with a clock controlled by the tests: the started runs with their times, and no others.

use std::sync::Mutex;

use chrono::TimeDelta;
use tokio::time::Instant;

use super::*;
use crate::scenario::{Lookup, LookupError, load};

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }
    fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// Midnight, the start of the tests.
fn midnight() -> DateTime<Utc> {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

/// Creates scenarios with cron schedules, for readable due times: `a: "*/10 * * * * *"`.
fn scenarios(lines: &[(&str, &str)]) -> Scenarios {
    let mut text = "checks:\n".to_owned();
    for (id, more) in lines {
        text.push_str(&format!("  {id}: {{tcp: \"a:1\", {more}}}\n"));
    }
    let loaded = load("checks.yaml", &text, &Nothing);
    assert!(!loaded.is_refused(), "{:?}", loaded.diagnostics);
    Arc::new(loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)).collect())
}

const TEN: &str = "cron: \"*/10 * * * * *\"";

/// Calls of the hooks.
#[derive(Default)]
struct Heard {
    started: Vec<String>,
    planned: Vec<(RunId, i64)>,
    withdrawn: Vec<RunId>,
    runs: Vec<RunId>,
}

struct Bench {
    began: Instant,
    heard: Arc<Mutex<Heard>>,
    /// Time for which the machine was suspended, and change of the wall clock.
    jump: Arc<Mutex<TimeDelta>>,
    set: Arc<Mutex<TimeDelta>>,
    metrics: Metrics,
    scenarios: watch::Sender<Scenarios>,
    asked: mpsc::Sender<ScenarioId>,
    stop: CancellationToken,
    tracker: TaskTracker,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn start(first: &Scenarios, resumed: HashMap<(ScenarioId, DateTime<Utc>), RunId>) -> Self {
        let began = Instant::now();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let jump = Arc::new(Mutex::new(TimeDelta::zero()));
        let jumped = Arc::clone(&jump);
        let set = Arc::new(Mutex::new(TimeDelta::zero()));
        let (slept, was_set) = (Arc::clone(&jump), Arc::clone(&set));
        let elapsed = move || began.elapsed() + slept.lock().unwrap().to_std().unwrap();
        let now = move || {
            let passed = TimeDelta::from_std(began.elapsed()).unwrap() + *jumped.lock().unwrap();
            midnight() + passed + *was_set.lock().unwrap()
        };
        let (run_heard, plan_heard, withdraw_heard) = (Arc::clone(&heard), Arc::clone(&heard), Arc::clone(&heard));
        let run_now = now.clone();
        let hooks = Hooks {
            run: Arc::new(move |due: DueRun| {
                let second = (run_now() - midnight()).num_seconds();
                let late = if run_now() == due.due_at {
                    String::new()
                } else {
                    format!(" of {}", (due.due_at - midnight()).num_seconds())
                };
                let id = due.scenario.id.value.to_string();
                {
                    let mut heard = run_heard.lock().unwrap();
                    heard.started.push(format!("{second} {id}{late}"));
                    heard.runs.push(due.run);
                }
                assert!(!id.starts_with("panics"), "a defect");
                let waits = id.starts_with("waits");
                Box::pin(async move {
                    if waits {
                        tokio::time::sleep(Duration::from_secs(25)).await;
                    }
                })
            }),
            plan: Arc::new(move |due: &DueRun| {
                let second = (due.due_at - midnight()).num_seconds();
                plan_heard.lock().unwrap().planned.push((due.run, second));
                let (done, written) = oneshot::channel();
                let _ = done.send(());
                written
            }),
            withdraw: Arc::new(move |run| withdraw_heard.lock().unwrap().withdrawn.push(run)),
            now: Arc::new(now),
            elapsed: Arc::new(elapsed),
        };
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let tracker = TaskTracker::new();
        let stop = CancellationToken::new();
        let (sender, receiver) = watch::channel(Arc::clone(first));
        let (asked, looks) = mpsc::channel(10);
        let dispatcher = Dispatcher::new(hooks, metrics.clone(), &tracker, resumed).asked(looks);
        let task = tokio::spawn(dispatcher.run(receiver, stop.clone()));
        Self { began, heard, jump, set, metrics, scenarios: sender, asked, stop, tracker, task }
    }

    /// Advances the time to a second in small steps, so that every timer fires at its own time.
    async fn until(&self, second: u64) {
        tokio::time::sleep_until(self.began + Duration::from_secs(second) + Duration::from_millis(1)).await;
    }

    /// Returns the runs started since the last call.
    fn started(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap().started)
    }

    fn skipped(&self, cause: &str) -> u64 {
        self.metrics.skipped.with_label_values(&[cause]).get()
    }

    async fn end(self) -> Heard {
        self.stop.cancel();
        self.task.await.expect("ends");
        self.tracker.close();
        self.tracker.wait().await;
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn starts_when_due() {
    let bench = Bench::start(&scenarios(&[("a", TEN), ("b", "cron: \"15,30 * * * * *\"")]), HashMap::new());
    bench.until(40).await;
    assert_eq!(bench.started(), ["10 a", "15 b", "20 a", "30 a", "30 b", "40 a"]);
    assert_eq!((bench.skipped(skipped::OVERLAP), bench.skipped(skipped::MISSED)), (0, 0));
    assert_eq!(bench.metrics.lag.get_sample_count(), 6);
    assert!(bench.metrics.lag.get_sample_sum() < 0.01);
    let heard = bench.end().await;
    // Each run was planned under its id before it was due; the remaining plans are cancelled.
    let planned: Vec<_> = heard.planned.iter().map(|(run, _)| *run).collect();
    assert!(heard.runs.iter().all(|run| planned.contains(run)));
    let mut left: Vec<_> = planned.into_iter().filter(|run| !heard.runs.contains(run)).collect();
    let mut withdrawn = heard.withdrawn;
    left.sort();
    withdrawn.sort();
    assert_eq!((left.len(), left), (2, withdrawn));
}

#[tokio::test(start_paused = true)]
async fn a_scenario_never_overlaps_itself() {
    let bench = Bench::start(&scenarios(&[("waits", TEN), ("b", "cron: \"20 * * * * *\"")]), HashMap::new());
    bench.until(60).await;
    // From 10 to 35, from 40 to 65.
    assert_eq!(bench.started(), ["10 waits", "20 b", "40 waits"]);
    assert_eq!(bench.skipped(skipped::OVERLAP), 4);
    // Neither another schedule nor a removal and return during the run causes an overlap.
    bench.scenarios.send_replace(scenarios(&[("waits", "cron: \"2 * * * * *\"")]));
    bench.until(61).await;
    bench.scenarios.send_replace(scenarios(&[("b", "cron: \"20 * * * * *\"")]));
    bench.until(62).await;
    bench.scenarios.send_replace(scenarios(&[("waits", "cron: \"*/4 * * * * *\"")]));
    bench.until(68).await;
    assert_eq!(bench.started(), ["68 waits"]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_counted_and_run_once() {
    let bench = Bench::start(&scenarios(&[("a", TEN)]), HashMap::new());
    bench.until(12).await;
    // The machine was suspended for a while.
    *bench.jump.lock().unwrap() = TimeDelta::seconds(43);
    bench.until(25).await;
    // The clock is checked every five seconds: 20, 30 and 40 are missed, 50 is started late, and 60 on time.
    assert_eq!(bench.started(), ["10 a", "58 a of 50", "60 a"]);
    assert_eq!(bench.skipped(skipped::MISSED), 3);
    bench.until(30).await;
    assert_eq!(bench.started(), ["70 a"]);
    let heard = bench.end().await;
    assert_eq!(heard.planned.iter().map(|(_, second)| *second).collect::<Vec<_>>(), [10, 20, 50, 60, 70, 80]);
    // The plan for 20 was cancelled, and that for 80 at the end.
    assert_eq!(heard.withdrawn, [heard.planned[1].0, heard.planned[5].0]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_touches_only_what_changed() {
    let every = "every: 10s";
    let bench = Bench::start(&scenarios(&[("a", every), ("b", TEN), ("gone", TEN)]), HashMap::new());
    bench.until(12).await;
    let before = bench.started();
    let phase = before.iter().find_map(|line| line.strip_suffix(" a")?.parse::<u64>().ok()).expect("ran");
    // `a` keeps its schedule with another timeout, `b` gets another one, `gone` is removed, and `new` is added.
    bench.scenarios.send_replace(scenarios(&[
        ("a", "every: 10s, timeout: 3s"),
        ("b", "cron: \"17 * * * * *\""),
        ("new", TEN),
    ]));
    bench.until(21).await;
    let mut expected = vec![(phase + 10, "a"), (17, "b"), (20, "new")];
    expected.sort_by_key(|(second, _)| *second);
    let mut started = bench.started();
    started.retain(|line| !line.starts_with(&format!("{phase} ")));
    let seconds = |line: &String| line.split(' ').next().unwrap().parse::<u64>().unwrap();
    let shown: Vec<_> = started.iter().map(|line| (seconds(line), line.split(' ').nth(1).unwrap())).collect();
    assert_eq!(shown, expected.into_iter().filter(|(second, _)| *second <= 21).collect::<Vec<_>>());
    let heard = bench.end().await;
    // The plans of `b` and `gone` at 20 are cancelled by the reload; three more at the end.
    assert_eq!(heard.withdrawn.len(), 5);
    assert!(heard.withdrawn.iter().all(|run| !heard.runs.contains(run)));
}

#[tokio::test(start_paused = true)]
async fn runs_planned_before_a_restart_keep_their_ids() {
    let (known, stale, strange) = (RunId::new(), RunId::new(), RunId::new());
    let due = |second| midnight() + TimeDelta::seconds(second);
    let resumed = HashMap::from([
        (("a".into(), due(10)), known),
        // Its schedule has changed in the meantime.
        (("a".into(), due(15)), stale),
        // Its scenario was removed.
        (("gone".into(), due(10)), strange),
    ]);
    let bench = Bench::start(&scenarios(&[("a", TEN)]), resumed);
    bench.until(10).await;
    {
        let heard = bench.heard.lock().unwrap();
        assert_eq!(heard.runs, [known]);
        let withdrawn: std::collections::BTreeSet<_> = heard.withdrawn.iter().copied().collect();
        assert_eq!(withdrawn, [stale, strange].into());
        assert_eq!(heard.planned.iter().map(|(_, second)| *second).collect::<Vec<_>>(), [20]);
    }
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_defect_in_a_run_frees_its_scenario() {
    let bench = Bench::start(&scenarios(&[("panics", TEN)]), HashMap::new());
    bench.until(30).await;
    assert_eq!(bench.started(), ["10 panics", "20 panics", "30 panics"]);
    assert_eq!(bench.skipped(skipped::OVERLAP), 0);
    bench.end().await;
}

#[test]
fn differences() {
    let shown = |old: &[(&str, &str)], new: &[(&str, &str)]| {
        let (old, mut new) = (scenarios(old), scenarios(new));
        // Unchanged scenarios keep the same value, like in the catalog.
        let map = Arc::get_mut(&mut new).unwrap();
        for (id, scenario) in map.iter_mut() {
            if let Some(known) = old.get(id).filter(|known| {
                known.alert == scenario.alert
                    && known.timeout == scenario.timeout
                    && known.schedule == scenario.schedule
            }) {
                *scenario = Arc::clone(known);
            }
        }
        let changes = diff(&old, &new);
        let ids = |list: &[Arc<Scenario>]| {
            list.iter().map(|scenario| scenario.id.value.to_string()).collect::<Vec<_>>().join(" ")
        };
        let withdrawn: Vec<_> = changes.withdraw.iter().map(ToString::to_string).collect();
        format!("plan {} | replace {} | withdraw {}", ids(&changes.plan), ids(&changes.replace), withdrawn.join(" "))
    };
    let (a, slow, later) = (("a", TEN), ("a", "cron: \"*/10 * * * * *\", timeout: 3s"), ("a", "every: 7s"));
    assert_eq!(shown(&[("b", TEN)], &[a, ("b", TEN), ("c", TEN)]), "plan a c | replace  | withdraw ");
    assert_eq!(shown(&[a], &[a]), "plan  | replace  | withdraw ");
    assert_eq!(shown(&[a], &[slow]), "plan  | replace a | withdraw ");
    assert_eq!(shown(&[a], &[later]), "plan a | replace  | withdraw a");
    assert_eq!(shown(&[a, ("b", TEN)], &[("b", TEN)]), "plan  | replace  | withdraw a");
    assert_eq!(shown(&[a, ("b", TEN)], &[later, ("c", TEN)]), "plan a c | replace  | withdraw a b");
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_runs_at_once_and_never_beside_itself() {
    let bench = Bench::start(&scenarios(&[("a", TEN), ("waits", "cron: \"5 * * * * *\"")]), HashMap::new());
    bench.until(3).await;
    for id in ["a", "nobody"] {
        bench.asked.send(id.into()).await.unwrap();
    }
    bench.until(7).await;
    bench.asked.send("waits".into()).await.unwrap();
    bench.until(12).await;
    assert_eq!(bench.started(), ["3 a", "5 waits", "10 a"]);
    assert_eq!(bench.skipped(skipped::OVERLAP), 0);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_times_the_clock_is_set_and_nothing_waits_or_runs_twice() {
    let all = [("a", "every: 1s"), ("b", "every: 7s"), ("c", "every: 60s"), ("d", "cron: \"* * * * *\"")];
    let intervals: HashMap<&str, u64> = HashMap::from([("a", 1), ("b", 7), ("c", 60), ("d", 60)]);
    let bench = Bench::start(&scenarios(&all), HashMap::new());
    let began = bench.began;
    let mut random = 7_u64;
    let mut last: HashMap<String, Duration> = HashMap::new();
    let (mut now, mut runs) = (0.0_f64, 0);
    for _ in 0..100 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = [2, 90, 3_600, 86_400, 2_600_000][(random >> 33) as usize % 5];
        let seconds = i64::try_from((random >> 17) % (2 * size)).unwrap() - i64::try_from(size).unwrap();
        *bench.set.lock().unwrap() += TimeDelta::seconds(seconds);
        // Twenty seconds in steps, to determine the start of each run.
        for _ in 0..200 {
            now += 0.1;
            tokio::time::sleep_until(began + Duration::from_secs_f64(now)).await;
            for started in bench.started() {
                let id = started.split(' ').nth(1).unwrap().to_owned();
                let at = began.elapsed();
                if let Some(before) = last.insert(id.clone(), at) {
                    // Up to five seconds may pass before a change is noticed, but only if no other scenario is due. A
                    // cron job that is due less often than the clock was set back waits for its time.
                    let by_cron = if id == "d" { 60 } else { 0 };
                    let longest = Duration::from_secs(intervals[id.as_str()] + by_cron) + Duration::from_millis(1_200);
                    let waited = at.saturating_sub(before);
                    assert!(waited <= longest, "`{id}` waited {waited:?} after a change of {seconds}s");
                }
                runs += 1;
            }
        }
    }
    assert!(last.len() == 4 && runs >= 2_000 + 285 + 66, "{runs}");
    let heard = bench.end().await;
    let due: std::collections::BTreeSet<RunId> = heard.runs.iter().copied().collect();
    assert_eq!(due.len(), heard.runs.len(), "each run once");
    // The maximum number of runs within two thousand seconds; more would be duplicates.
    assert!(runs <= 2_000 + 286 + 2 * 34 + 400, "{runs}");
}
