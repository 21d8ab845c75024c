//! httpbin, which nobody here wrote, driven by one scenario of many assertions.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use wachta::outcome::{StepStatus, Verdict};
use wachta::run::{RunRequest, RunServices, Tokens, run};
use wachta::scenario::{Action, Lookup, LookupError, Step, load};
use wachta::store::evidence::EvidenceFolder;
use wachta::wire::tls;

use super::support::group::{Group, free_port, tools};
use super::support::{Folder, until};

struct Surroundings(String);

impl Lookup for Surroundings {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Ok(if name == "HTTPBIN" { self.0.clone() } else { format!("value-of-{name}") })
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path);
        std::fs::read(&path).map_err(|error| LookupError::Missing(error.to_string()))
    }
}

/// How many things the steps expect of answers.
fn assertions(steps: &[Step]) -> usize {
    let count = |step: &Step| match &step.action {
        Action::Group(group) => assertions(&group.steps),
        Action::Request(request) => request.expect.len() + request.save.len(),
        _ => 0,
    };
    steps.iter().map(count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_assertions_over_httpbin() {
    let (folder, tools_folder, port) = (Folder::new("httpbin"), tools("httpbin/bin/gunicorn"), free_port());
    let mut command = Command::new(tools_folder.join("httpbin/bin/gunicorn"));
    command
        .args(["--bind", &format!("127.0.0.1:{port}"), "--workers", "1", "--threads", "4", "httpbin:app"])
        .arg("--chdir")
        .arg(folder.path())
        .current_dir(folder.path());
    let mut group = Group::start(&mut command, &folder.path().join("httpbin.log"));
    until("httpbin is ready", Duration::from_secs(60), async || {
        group.must_live();
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(|_| ())
    })
    .await;
    let lookup = Arc::new(Surroundings(format!("http://127.0.0.1:{port}")));
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/httpbin.yaml")).unwrap();
    let loaded = load("httpbin.yaml", &text, &*lookup);
    assert_eq!(loaded.diagnostics, []);
    let scenario = &loaded.scenarios[0];
    assert!(assertions(&scenario.steps) >= 60, "only {} assertions", assertions(&scenario.steps));
    let tools = RunServices {
        dialer: wachta::wire::Dialer::default(),
        limits: wachta::wire::limits::Limits::default(),
        tls: tls::Trusted::system(),
        browsers: None,
        lookup,
        evidence: EvidenceFolder::new(folder.path().join("evidence")),
        tokens: Tokens::default(),
        line: wachta::run::ConnectivityMonitor::default(),
        beats: None,
        baseline: None,
        footprints: None,
        clock: None,
        location: "here".into(),
    };
    let outcome = run(scenario, &tools, RunRequest::default()).await;
    let failed: Vec<_> = outcome.steps.iter().filter(|step| step.status != StepStatus::Passed).collect();
    assert_eq!(outcome.verdict, Verdict::Passed, "{failed:#?}\n{}", group.log());
    // One connection serves nearly all of it: no step connects but where the server has closed.
    let of = |name: &str| {
        let step = outcome.steps.iter().find(|step| step.name == name).unwrap();
        step.http.clone().unwrap().hops
    };
    assert_eq!(of("GET /redirect/3").len(), 4);
    assert_eq!(of("GET /absolute-redirect/2").len(), 3);
    let slow = of("GET /delay/0.3");
    assert!(slow[0].phases.processing >= Duration::from_millis(300), "{slow:?}");
    let drip = of("GET /drip?duration=0.3&numbytes=7&delay=0");
    assert!(drip[0].phases.transfer > Duration::from_millis(100), "{drip:?}");
}
