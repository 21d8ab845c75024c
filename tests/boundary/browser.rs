//! What a SIGKILL of the agent leaves is ended by its guard, and what the guard leaves by the next start.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wachta::browser::{BrowserPool, Config, ContextOptions, Metrics};
use wachta::names::Reason;
use wachta::wire::tls;

use crate::support::front::Front;
use crate::support::grid::Grid;
use crate::support::leases::{leases, processes, sessions};
use crate::support::until;

const FOLDER: &str = "WACHTA_TEST_FOLDER";
/// What the agent of these tests says when it has a session.
const READY: &str = "a session is open";

fn browsers(folder: &Path, agent: &str) -> BrowserPool {
    let config = Config { loopback_only: true, ..Config::default() };
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    BrowserPool::new(config, folder.to_owned(), PathBuf::from(agent), metrics)
}

/// The agent of the tests below: it opens a session, says so, and waits to be killed.
#[tokio::test(flavor = "multi_thread")]
async fn agent() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let agent = std::env::var("WACHTA_TEST_AGENT").unwrap();
    let browsers = browsers(&folder, &agent);
    let page = browsers.open(ContextOptions::default(), Instant::now() + Duration::from_secs(60)).await.unwrap();
    println!("{READY}");
    std::future::pending::<()>().await;
    drop(page);
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an agent with a session in `folder`. It says so on its standard output, which ends with it.
fn start(folder: &Path, guard: &str) -> Agent {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "browser::agent", "--nocapture"])
        .env(FOLDER, folder)
        .env("WACHTA_TEST_AGENT", guard)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let agent = Agent(child);
    assert!(said.lines().map_while(Result::ok).any(|line| line.ends_with(READY)), "the agent has no session");
    agent
}

async fn gone(what: &str, is_gone: impl Fn() -> bool) {
    until(what, Duration::from_secs(30), async || is_gone().then_some(())).await;
}

fn temporary() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("wachta-test-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guard_ends_what_a_killed_agent_leaves() {
    let folder = temporary();
    let mut agent = start(&folder, env!("CARGO_BIN_EXE_wachta"));
    let leases = leases(&folder);
    assert!(processes(&leases) > 0);
    assert_eq!(sessions(&folder), 1);
    agent.0.kill().unwrap();
    gone("the guard ends the browser", || processes(&leases) == 0).await;
    gone("the guard removes its folder", || sessions(&folder) == 0).await;
    // The next start finds nothing to end, and clears what is left of the agent's own folder.
    agent.0.wait().unwrap();
    assert_eq!(browsers(&folder, "/nonexistent/wachta").reap_leftovers().await, 0);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_guard_the_next_start_does_it() {
    let folder = temporary();
    let mut agent = start(&folder, "/nonexistent/wachta");
    let leases = leases(&folder);
    let next = browsers(&folder, "/nonexistent/wachta");
    assert_eq!(next.reap_leftovers().await, 0, "the agent lives");
    assert!(processes(&leases) > 0);
    agent.0.kill().unwrap();
    agent.0.wait().unwrap();
    assert_eq!(next.reap_leftovers().await, 1);
    gone("the browser is gone", || processes(&leases) == 0).await;
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_of_a_private_authority_is_trusted_where_it_is_named() {
    let grid = Grid::up("private-grid", 1).await;
    let front = Front::before(grid.url.authority(), &[]).await;
    let folder = temporary();
    let open = async |roots| {
        let mut capabilities = Grid::capabilities();
        // The front passes on requests alone.
        capabilities.insert("webSocketUrl".into(), serde_json::Value::Null);
        let webdriver = Some(front.url.parse().unwrap());
        let config = Config { loopback_only: true, webdriver, capabilities, roots, ..Config::default() };
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let browsers = BrowserPool::new(config, folder.clone(), PathBuf::from(env!("CARGO_BIN_EXE_wachta")), metrics);
        let opened = browsers.open(ContextOptions::default(), Instant::now() + Duration::from_secs(60)).await;
        let told = match opened {
            Ok(page) => {
                page.close().await;
                None
            }
            Err(failure) => Some((failure.reason, failure.message)),
        };
        browsers.shutdown().await;
        told
    };
    assert_eq!(open(tls::certificates(front.ca.as_bytes()).unwrap()).await, None);
    let (reason, message) = open(Vec::new()).await.expect("nobody vouches for it");
    assert_eq!(reason, Reason::Driver);
    assert!(message.contains("certificate"), "{message}");
    tokio::task::spawn_blocking(move || drop(grid)).await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}
