//! Checks against real servers: PostgreSQL.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use wachta::app::lookup::Environment;
use wachta::outcome::{Outcome, RunId, Verdict};
use wachta::run::{RunRequest, RunServices, Tokens, run};
use wachta::scenario::load;
use wachta::store::evidence::EvidenceFolder;
use wachta::wire::tls;

use crate::support::until;

/// A PostgreSQL of its own, on a free port, gone with the test.
struct Postgres {
    folder: PathBuf,
    server: Child,
    port: u16,
}

impl Postgres {
    fn start() -> Self {
        let bin = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed: tests/support/packages.sh");
        let bin = bin.map(|entry| entry.unwrap().path().join("bin")).find(|bin| bin.join("initdb").exists()).unwrap();
        let folder = std::env::temp_dir().join(format!("wachta-postgres-{}", RunId::new()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("password"), "hidden").unwrap();
        // It refuses to run as root.
        let root = nix::unistd::geteuid().is_root();
        if root {
            assert!(Command::new("chown").args(["-R", "postgres"]).arg(&folder).status().unwrap().success());
        }
        let command = |program: &str| {
            let program = bin.join(program);
            if root {
                // It becomes the program, so that its id is the server's.
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
                command
            } else {
                Command::new(program)
            }
        };
        let made = command("initdb")
            .args(["-A", "scram-sha-256", "-U", "wachta", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(folder.join("data"))
            .arg(format!("--pwfile={}", folder.join("password").display()))
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = command("postgres")
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c"])
            .arg(format!("unix_socket_directories={}", folder.display()))
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { folder, server, port }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its fast shutdown: it ends its own processes.
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.server.id()).unwrap());
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT);
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn checked(check: &str) -> Outcome {
    let environment = Environment::everything();
    let loaded = load("t.yaml", &format!("checks:\n  a: {{{check}}}\n"), &environment);
    assert!(loaded.diagnostics.is_empty(), "{check}: {:?}", loaded.diagnostics);
    let tools = RunServices {
        dialer: wachta::wire::Dialer::default(),
        limits: wachta::wire::limits::Limits::default(),
        tls: tls::Trusted::system(),
        browsers: None,
        lookup: Arc::new(environment),
        evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence")),
        beats: None,
        baseline: None,
        footprints: None,
        clock: None,
        tokens: Tokens::default(),
        line: wachta::run::ConnectivityMonitor::default(),
        location: "here".into(),
    };
    run(&loaded.scenarios[0], &tools, RunRequest::default()).await
}

/// The verdict, and what is told.
fn shown(outcome: &Outcome) -> String {
    let reason = outcome.reason.map_or("", wachta::names::Reason::as_str);
    format!("{} {reason} {}", outcome.verdict, outcome.message.as_deref().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_asked() {
    let postgres = Postgres::start();
    let url = format!("postgres://wachta:hidden@127.0.0.1:{}/postgres", postgres.port);
    until("PostgreSQL answers", Duration::from_secs(120), async || {
        let passed = checked(&format!("postgres: \"{url}\"")).await.verdict == Verdict::Passed;
        passed.then_some(())
    })
    .await;
    let check = async |sql: &str, expect: &str, expected: &str| {
        let outcome = checked(&format!("postgres: \"{url}\", sql: \"{sql}\", expect: {{value: {expect}}}")).await;
        let seen = shown(&outcome);
        let fits = if expected == "passed" { outcome.verdict == Verdict::Passed } else { seen.starts_with(expected) };
        assert!(fits, "{sql}\n saw      {seen}\n expected {expected}");
        assert!(!serde_json::to_string(&outcome).unwrap().contains("hidden"), "{sql}");
    };
    for (sql, expect) in [
        ("SELECT count(*) FROM pg_class", "{greater_than: 100}"),
        ("SELECT 7::smallint", "7"),
        ("SELECT -7", "-7"),
        ("SELECT sum(a) FROM (VALUES (1.25), (20000.5)) AS v (a)", "20001.75"),
        ("SELECT sum(a::bigint) FROM generate_series(1, 100000) AS a", "5000050000"),
        ("SELECT 0.5::real", "0.5"),
        ("SELECT true", "true"),
        ("SELECT 'a text'", "a text"),
        ("SELECT 'a'::name", "a"),
        ("SELECT NULL", "{exists: false}"),
        ("SELECT 1 WHERE false", "{exists: false}"),
        ("SELECT '{\\\"a\\\": [1, null]}'::jsonb", "{equals: {a: [1, null]}}"),
        ("SELECT '[1]'::json", "[1]"),
        ("SELECT timestamptz '2026-11-23 02:00:00+02'", "{starts_with: \"2026-11-23T00:00:00\"}"),
        ("SELECT date '1999-12-31'", "1999-12-31"),
        ("SELECT '00000000-0000-0000-0000-0000000000ff'::uuid", "{ends_with: ff}"),
        ("SELECT current_setting('transaction_read_only')", "'on'"),
        ("SELECT current_setting('application_name')", "wachta"),
    ] {
        check(sql, expect, "passed").await;
    }
    check("SELECT 1", "2", "failed assertion the first value: expected 2, got 1").await;
    check("SELECT 1 FROM gone", "1", "failed assertion the server returned an error: relation \"gone\" does not exist")
        .await;
    check(
        "CREATE TABLE a (b int)",
        "1",
        "failed assertion the server returned an error: cannot execute CREATE TABLE in a read-only transaction",
    )
    .await;
    check("SELECT 1; SELECT 2", "1", "failed assertion the server returned an error: cannot insert multiple commands")
        .await;
    check("SELECT interval '1 day'", "1", "unknown configuration the first value has the unsupported type INTERVAL")
        .await;
    let slow = checked(&format!("postgres: \"{url}\", sql: SELECT pg_sleep(600), timeout: 700ms")).await;
    assert_eq!(slow.verdict, Verdict::Failed, "{}", shown(&slow));
    let at = |address: &str| format!("postgres: \"{}\"", url.replacen("wachta:hidden@127.0.0.1", address, 1));
    let refused = shown(&checked(&at("wachta:another@127.0.0.1")).await);
    assert!(
        refused.starts_with("failed assertion the server returned an error: password authentication failed"),
        "{refused}"
    );
    let plain = shown(&checked(&format!("postgres: \"{url}?sslmode=require\"")).await);
    assert!(plain.starts_with("failed tls no TLS: "), "{plain}");
    let gone = shown(&checked(&at("wachta:hidden@nobody.invalid")).await);
    assert!(gone.starts_with("failed dns `nobody.invalid` did not resolve"), "{gone}");
    drop(postgres);
    let closed = shown(&checked(&format!("postgres: \"{url}\"")).await);
    assert!(closed.starts_with("failed connect no connection to 127.0.0.1:"), "{closed}");
}
