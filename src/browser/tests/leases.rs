//! Every session ends on every path.

use super::super::processes;
use super::*;
use crate::names::{Reason, ReasonClass};

/// Waits until no process with the lease runs and the folder contains only what is expected.
pub(super) async fn all_gone(lease: &str, folder: &std::path::Path) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let groups = processes::groups_with_lease(lease);
        // The agent's own folder may stay, with its lock, but those of sessions may not.
        let sessions = std::fs::read_dir(folder.join(lease))
            .map_or(0, |entries| entries.flatten().filter(|entry| entry.file_name() != "lock").count());
        if groups.is_empty() && sessions == 0 {
            return;
        }
        assert!(Instant::now() < end, "left: groups {groups:?}, {sessions} folders");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn reaped(browsers: &BrowserPool, cause: &str) -> u64 {
    browsers.metrics().reaped.with_label_values(&[cause]).get()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_its_run_is_dropped_closed_or_shut_down() {
    let folder = Temporary::new();
    let browsers = configured(&folder, Config { max_sessions: 1, warm: false, ..Config::default() });
    let base = site(&[("/", "<title>x</title>")]).await;
    let values = values(&base);

    let page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
    let lease = browsers.lease().unwrap();
    assert_ne!(processes::groups_with_lease(&lease), []);
    assert_eq!(browsers.metrics().sessions.with_label_values(&["busy"]).get(), 1);
    // The only slot is taken.
    let failure =
        browsers.open(ContextOptions::default(), Instant::now() + Duration::from_millis(50)).await.err().unwrap();
    assert_eq!(failure.reason, Reason::Resources);
    page.close().await;
    assert_eq!(processes::groups_with_lease(&lease), []);
    all_gone(&lease, &folder.0).await;

    // Dropped during a command that does not return.
    let mut page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
    let hang = goto("/hang");
    let act = page.act(&hang, &[], &values, Duration::from_secs(60));
    assert!(tokio::time::timeout(Duration::from_millis(300), act).await.is_err());
    drop(page);
    all_gone(&lease, &folder.0).await;
    assert_eq!(reaped(&browsers, "cancelled"), 1);

    // Panicked.
    let page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
    let panicked = tokio::spawn(async move {
        let _page = page;
        panic!("on purpose");
    });
    assert!(panicked.await.is_err());
    all_gone(&lease, &folder.0).await;

    // Dropped while starting.
    for millis in [1, 20, 100, 250] {
        let open = browsers.open(ContextOptions::default(), soon());
        let _ = tokio::time::timeout(Duration::from_millis(millis), open).await;
        all_gone(&lease, &folder.0).await;
    }

    // Shut down while in use.
    let page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
    browsers.shutdown().await;
    assert_eq!(processes::groups_with_lease(&lease), []);
    // A start after the shutdown must not restore what the shutdown waits for.
    assert_eq!(browsers.used().err().map(|failure| failure.reason), Some(Reason::Lost));
    assert_eq!(reaped(&browsers, "shutdown"), 1);
    drop(page);
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
    assert_eq!(browsers.open(ContextOptions::default(), soon()).await.err().unwrap().reason, Reason::Lost);
    assert_eq!(browsers.metrics().sessions.with_label_values(&["busy"]).get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_folder_is_no_obstacle() {
    let folder = Temporary::new();
    let mut long = browsers(&folder, 1);
    let deep = folder.0.join("a-rather-long-name-for-a-folder-of-state").join("and-another-one-to-go-beyond-the-limit");
    long = BrowserPool::new(long.config().clone(), deep.clone(), PathBuf::new(), long.metrics().clone());
    let page = long.open(ContextOptions::default(), soon()).await.unwrap();
    page.close().await;
    long.shutdown().await;
    assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_agent_left_is_ended_and_nothing_else() {
    let folder = Temporary::new();
    let living = browsers(&folder, 1);
    let page = living.open(ContextOptions::default(), soon()).await.unwrap();

    // A terminated agent: its folder has no lock, but its processes are still running.
    let lease = "0123456789ab";
    std::fs::create_dir_all(folder.0.join(lease).join("1")).unwrap();
    let mut orphan = tokio::process::Command::new("sleep")
        .arg("60")
        .env(processes::LEASE, lease)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stranger = browsers(&folder, 1);
    assert_eq!(stranger.reap_leftovers().await, 1);
    assert!(!orphan.wait().await.unwrap().success());
    assert!(!folder.0.join(lease).exists());
    assert_eq!(reaped(&stranger, "leftover"), 1);

    assert_ne!(processes::groups_with_lease(&living.lease().unwrap()), [], "the living are left alone");
    page.close().await;
    living.shutdown().await;
}

/// Kills drivers, browsers and renderers at random moments. The small generator makes failures reproducible.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_is_cleaned_up_and_never_called_their_fault() {
    let folder = Temporary::new();
    let browsers = browsers(&folder, 1);
    let spins = "<title>x</title><button>Go</button>";
    let base = site(&[("/", spins)]).await;
    let mut seed: u64 = std::env::var("WACHTA_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0x5eed);
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..rounds() {
        let mut page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
        let lease = browsers.lease().unwrap();
        let group = processes::groups_with_lease(&lease)[0].0;
        let victim = ["chromedriver", "type=renderer", "chromium"][usize::try_from(random(3)).unwrap()];
        let pause = Duration::from_millis(random(400));
        let values = values(&base);
        let killer = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let end = Instant::now() + Duration::from_secs(10);
            while !kill(group, victim) {
                assert!(Instant::now() < end, "there is no {victim}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let end = soon();
        let failure = loop {
            assert!(Instant::now() < end, "round {round}: killing {victim} was not noticed");
            let actions = [goto("/"), click(role("button", "Go")), expect(PageFact::Visible(role("button", "Go")))];
            let mut failed = None;
            for action in &actions {
                if let Err(failure) = page.act(action, &[], &values, Duration::from_secs(5)).await {
                    failed = Some(failure);
                    break;
                }
            }
            if let Some(failure) = failed {
                break failure;
            }
        };
        killer.await.unwrap();
        // A renderer that died while loading a page cannot be distinguished from one that never finishes loading.
        let looks_slow = victim == "type=renderer" && failure.reason == Reason::Timeout;
        assert!(
            looks_slow || failure.reason.class() == ReasonClass::Unknown || failure.reason == Reason::Crash,
            "round {round}, {victim} after {pause:?}: {failure:?}"
        );
        page.evidence().await;
        page.close().await;
        assert!(!processes::group_runs(group), "round {round}: {victim}");
        all_gone(&lease, &folder.0).await;
    }
    browsers.shutdown().await;
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
}

/// Kills the processes of a group whose command line contains a text.
fn kill(group: i32, victim: &str) -> bool {
    let mut pids: Vec<i32> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let of = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(2)?.parse().ok());
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let program = line.split(['\0', ' ']).next().unwrap_or_default();
            of == Some(group)
                && line.contains(victim)
                && (victim != "chromium" || (is_chromium(program) && !line.contains("--type=")))
        })
        .collect();
    // One of the renderers may be a spare that no page uses.
    pids.retain(|&pid| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).is_ok()
    });
    !pids.is_empty()
}

/// Returns whether a program is Chromium or its headless shell, but not its driver.
fn is_chromium(program: &str) -> bool {
    ["/chromium", "/chromium-headless-shell"].iter().any(|name| program.ends_with(name))
}
