//! The pool: warm sessions, and isolation between runs.

use super::super::errors::CommandError;
use super::super::processes;
use super::*;
use crate::names::Reason;
use crate::scenario::{Engine, WindowChange};

const SOON: Duration = Duration::from_secs(10);

fn started(browsers: &BrowserPool) -> u64 {
    browsers.metrics().started.get()
}

fn sessions(browsers: &BrowserPool, state: &str) -> i64 {
    browsers.metrics().sessions.with_label_values(&[state]).get()
}

/// Leaves all kinds of data behind, and returns what was found.
const TRACES: &str = "
    const found = {cookie: document.cookie, local: localStorage.getItem('k'), session: sessionStorage.getItem('k'),
                   databases: (await indexedDB.databases()).map(one => one.name), name: window.name,
                   caches: await caches.keys(), workers: (await navigator.serviceWorker.getRegistrations()).length,
                   geolocation: (await navigator.permissions.query({name: 'geolocation'})).state};
    document.cookie = 'k=v; max-age=1000';
    localStorage.setItem('k', 'v');
    sessionStorage.setItem('k', 'v');
    window.name = 'k';
    await new Promise((done, fail) => {
        const open = indexedDB.open('k');
        open.onsuccess = done;
        open.onerror = fail;
    });
    await caches.open('k');
    await navigator.serviceWorker.register('/worker.js');
    return found;";

/// Number of runs in one browser.
const ROUNDS: usize = 5;

async fn traces(page: &mut Page) -> serde_json::Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    page.evaluate(TRACES, &[], deadline).await.unwrap()["value"].take()
}

async fn leaves_nothing_to_the_next(engine: Engine) {
    let folder = Temporary::new();
    let browsers = configured(&folder, Config { max_sessions: 1, engine: Some(engine), ..Config::default() });
    let counted = counting().await;
    let values = values(&counted.base);
    let (mut first, mut many) = (None, None);
    for round in 0..ROUNDS {
        let mut page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
        page.act(&goto("/"), &[], &values, Duration::from_secs(20)).await.unwrap();
        let found = traces(&mut page).await;
        let first = first.get_or_insert_with(|| found.clone());
        assert_eq!(found, *first, "round {round}");
        assert_eq!(
            (&found["cookie"], &found["workers"], &found["local"]),
            (&"".into(), &0.into(), &serde_json::Value::Null)
        );
        assert_eq!(page.browser().warm, round > 0);
        let users = page.ask("browser.getUserContexts", serde_json::json!({}), Duration::from_secs(10)).await.unwrap();
        let users = users["userContexts"].as_array().unwrap().len();
        assert_eq!(users, *many.get_or_insert(users), "no user stays, however many a browser begins with");
        page.close().await;
        assert_eq!((sessions(&browsers, "idle"), sessions(&browsers, "busy")), (1, 0));
    }
    assert_eq!(started(&browsers), 1, "one browser for all");
    // Cacheable files are requested again in each run.
    assert_eq!(counted.count("/cached.css"), ROUNDS);
    browsers.shutdown().await;
    assert_eq!((sessions(&browsers, "idle"), sessions(&browsers, "busy")), (0, 0));
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
    for cause in ["cancelled", "timeout", "crashed", "shutdown"] {
        assert_eq!(browsers.metrics().reaped.with_label_values(&[cause]).get(), 0, "{cause}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_leaves_nothing_to_the_next() {
    leaves_nothing_to_the_next(Engine::Chromium).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_leaves_nothing_to_the_next_in_firefox() {
    leaves_nothing_to_the_next(Engine::Firefox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_not_see_the_user_that_is_made_for_the_next_one() {
    let folder = Temporary::new();
    let browsers = browsers(&folder, 1);
    let values = values(&site(&[("/", "<title>mine</title><input autofocus>")]).await);
    let count = async |page: &mut Page| {
        let users = page.ask("browser.getUserContexts", serde_json::json!({}), Duration::from_secs(10)).await.unwrap();
        users["userContexts"].as_array().unwrap().len()
    };
    let mut begin = None;
    for round in 0..4 {
        let mut page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
        page.session_mut().is_removed().await.unwrap();
        let users = count(&mut page).await;
        assert_eq!(users, *begin.get_or_insert(users), "no user stays");
        page.step(0, "", false);
        page.act(&goto("/"), &[], &values, Duration::from_secs(20)).await.unwrap();
        page.session_mut().hurried = round > 0;
        page.step(1, "", false);
        let end = soon();
        // A run that does not follow another one at once is not slowed down for the next one.
        while count(&mut page).await < users + usize::from(round > 0) {
            assert!(Instant::now() < end);
        }
        let deadline = tokio::time::Instant::now() + Duration::from_millis(200);
        let window = page.change_window(&WindowChange::New, &values, deadline).await.unwrap_err();
        assert_eq!((window.reason, window.seen.as_deref()), (Reason::NotFound, Some("1 windows, none of them new")));
        let script = "return [document.hasFocus(), document.visibilityState, document.title]";
        let seen = page.evaluate(script, &[], tokio::time::Instant::now() + SOON).await.unwrap();
        assert_eq!(seen["value"], serde_json::json!([true, "visible", "mine"]));
        page.close().await;
    }
    assert_eq!(started(&browsers), 1);
    // A run that ends before its context is ready leaves nothing behind either.
    let mut page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
    page.session_mut().hurried = true;
    page.step(1, "", false);
    drop(page);
    browsers.shutdown().await;
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_replaced_in_time() {
    let folder = Temporary::new();
    let browsers = configured(&folder, Config { max_sessions: 1, max_runs: 2, ..Config::default() });
    let mut warm = Vec::new();
    for _ in 0..4 {
        let page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
        warm.push(page.browser().warm);
        page.close().await;
    }
    // The replacement was started before the third run.
    assert_eq!((warm, started(&browsers)), (vec![false, true, true, true], 3));
    browsers.shutdown().await;

    let folder = Temporary::new();
    let browsers =
        configured(&folder, Config { max_sessions: 1, max_age: Duration::from_millis(1), ..Config::default() });
    browsers.open(ContextOptions::default(), soon()).await.unwrap().close().await;
    assert_eq!(started(&browsers), 2);
    let end = soon();
    // An idle session that is too old ends by itself.
    while sessions(&browsers, "idle") > 0 {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    browsers.shutdown().await;
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_that_dies_or_stops_is_not_used() {
    let folder = Temporary::new();
    let browsers = browsers(&folder, 1);
    browsers.open(ContextOptions::default(), soon()).await.unwrap().close().await;
    let lease = browsers.lease().unwrap();
    let group = processes::groups_with_lease(&lease)[0].0;
    // If it is killed, its owner notices at once.
    processes::kill_group(group);
    let end = soon();
    while sessions(&browsers, "idle") > 0 {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(browsers.metrics().reaped.with_label_values(&["crashed"]).get(), 1);

    let page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
    assert!(!page.browser().warm);
    page.close().await;
    let group = processes::groups_with_lease(&lease)[0].0;
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGSTOP).unwrap();
    let page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
    assert!(!page.browser().warm, "one that does not answer is ended");
    page.close().await;
    browsers.shutdown().await;
    assert_eq!(processes::groups_with_lease(&lease), []);
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_never_more_browsers_than_allowed() {
    let folder = Temporary::new();
    let browsers = browsers(&folder, 1);
    browsers.open(ContextOptions::default(), soon()).await.unwrap().close().await;
    let firefox = ContextOptions { engine: Some(Engine::Firefox), ..ContextOptions::default() };
    let page = browsers.open(firefox, soon()).await.unwrap();
    assert_eq!(page.browser().engine, Engine::Firefox);
    assert_eq!((sessions(&browsers, "idle"), sessions(&browsers, "busy")), (0, 1), "Chromium made room");
    let waits =
        browsers.open(ContextOptions::default(), Instant::now() + Duration::from_millis(50)).await.err().unwrap();
    assert_eq!(
        (waits.reason, waits.message.as_str()),
        (Reason::Resources, "no free browser session: all 1 are in use")
    );
    page.close().await;
    browsers.shutdown().await;

    // More memory than any machine has.
    let folder = Temporary::new();
    let browsers = configured(&folder, Config { min_free_memory: 1 << 60, ..Config::default() });
    let waits =
        browsers.open(ContextOptions::default(), Instant::now() + Duration::from_millis(50)).await.err().unwrap();
    assert_eq!(waits.reason, Reason::Resources);
    assert!(waits.message.starts_with("not enough memory for a browser: "), "{}", waits.message);
    assert_eq!(browsers.metrics().waiting.with_label_values(&["memory"]).get(), 0);
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_takes_too_much_memory_ends_its_session() {
    let folder = Temporary::new();
    let browsers = configured(&folder, Config { max_sessions: 1, max_memory: 700 << 20, ..Config::default() });
    let eats = "<title>x</title><script>const all = []; setInterval(() => { all.push(new Uint8Array(30e6).fill(1)) }, 20)</script>";
    let values = values(&site(&[("/", eats)]).await);
    let mut page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
    page.act(&goto("/"), &[], &values, Duration::from_secs(20)).await.unwrap();
    let never = expect(PageFact::Visible(role("button", "never")));
    let failure = page.act(&never, &[], &values, Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Crash, "{failure:?}");
    assert!(failure.message.contains("MiB of memory"), "{failure:?}");
    page.close().await;
    assert_eq!(browsers.metrics().reaped.with_label_values(&["memory"]).get(), 1);
    browsers.shutdown().await;
}

/// The page of the driver's `BiDi` implementation must not be laid out: it lists every message. The full browser shows it
/// in no window.
#[tokio::test(flavor = "multi_thread")]
async fn the_drivers_own_page_is_minimized() {
    for headless in [crate::scenario::Headless::Shell, crate::scenario::Headless::Full] {
        let folder = Temporary::new();
        let browsers = configured(&folder, Config { headless, ..Config::default() });
        let mut page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
        let is_shell = page.session().program.is_some();
        let mut states = Vec::new();
        let targets = cdp(&mut page, "Target.getTargets", serde_json::json!({})).await.unwrap();
        for target in targets["targetInfos"].as_array().unwrap() {
            let id = serde_json::json!({"targetId": target["targetId"]});
            let Ok(window) = cdp(&mut page, "Browser.getWindowForTarget", id).await else { continue };
            let is_drivers = target["title"] == "BiDi-CDP Mapper";
            states.push((is_drivers, window["bounds"]["windowState"].as_str().unwrap().to_owned()));
        }
        states.sort();
        states.dedup();
        let mut expected = vec![(false, "normal".to_owned())];
        expected.extend(is_shell.then(|| (true, "minimized".to_owned())));
        states.retain(|(is_drivers, _)| is_shell || !is_drivers);
        assert_eq!(states, expected, "{headless:?}");
        page.close().await;
        browsers.shutdown().await;
    }
}

async fn cdp(page: &mut Page, method: &str, params: serde_json::Value) -> Result<serde_json::Value, CommandError> {
    let command = serde_json::json!({"method": method, "params": params});
    page.ask("goog:cdp.sendCommand", command, SOON).await.map(|mut answer| answer["result"].take())
}
