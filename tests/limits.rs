//! Every kind of check in a process that has no file descriptor left: what cannot be tested for that is never the
//! target's failure. It stands alone in its binary, since descriptors belong to the whole process.

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use wachta::app::lookup::Environment;
use wachta::names::Reason;
use wachta::outcome::Verdict;
use wachta::run::{ConnectivityMonitor, RunRequest, RunServices, Tokens, run};
use wachta::scenario::load;
use wachta::store::evidence::EvidenceFolder;
use wachta::wire::limits::Limits;
use wachta::wire::tls;
use wachta::wire::{Dialer, Resolver};

/// Nothing is reached, so nothing needs to listen there.
const CHECKS: &str = r#"
checks:
  http: {http: "http://127.0.0.1:9/"}
  https: {http: "https://127.0.0.1:9/"}
  by name: {http: "http://localhost:9/"}
  by a name of the servers: {http: "http://shop.test:9/"}
  tcp: {tcp: "127.0.0.1:9"}
  starttls: {tcp: "127.0.0.1:9", starttls: smtp}
  tls: {tls: "127.0.0.1:9"}
  dns: {dns: example.com, server: "127.0.0.1:9"}
  dns over tls: {dns: example.com, server: "tls://127.0.0.1:9"}
  dns over https: {dns: example.com, server: "https://127.0.0.1:9/dns-query"}
  ping: {ping: 127.0.0.1}
  grpc: {grpc: "127.0.0.1:9"}
  websocket: {websocket: "ws://127.0.0.1:9/"}
  redis: {redis: "redis://127.0.0.1:9"}
  postgres: {postgres: "postgres://a:bbbb@127.0.0.1:9/x"}
  ntp: {ntp: "127.0.0.1:9"}
  s3: {s3: "https://127.0.0.1:9/bucket", key: a}
  exec: {exec: ["true"]}
"#;

const FLOWS: [&str; 3] = [
    "scenario: flow\nsteps: [{GET: \"http://127.0.0.1:9/\"}]\n",
    "scenario: proxy\nsteps: [{GET: \"http://shop.test/\", proxy: \"http://127.0.0.1:9\"}]\n",
    "scenario: token\nsteps: [{GET: \"http://127.0.0.1:9/\", oauth2: {token_url: \"http://127.0.0.1:9/t\", client_id: a, client_secret: bbbb}}]\n",
];

#[test]
fn a_lack_of_descriptors_is_ours_for_every_kind() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let environment = Environment::everything().with_programs(true);
    let scenarios: Vec<_> = std::iter::once(CHECKS)
        .chain(FLOWS)
        .flat_map(|text| {
            let loaded = load("t.yaml", text, &environment);
            assert!(!loaded.is_refused(), "{:#?}", loaded.diagnostics);
            loaded.scenarios
        })
        .collect();
    assert_eq!(scenarios.len(), 21);
    let tools = RunServices {
        dialer: Dialer::default(),
        limits: Limits::default(),
        tls: tls::Trusted::system(),
        browsers: None,
        lookup: Arc::new(environment),
        evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence")),
        beats: None,
        baseline: None,
        footprints: None,
        clock: None,
        tokens: Tokens::default(),
        line: ConnectivityMonitor::default(),
        location: "here".into(),
    };
    let outcomes = |tools: &RunServices| {
        let all = scenarios.iter().map(|scenario| run(scenario, tools, RunRequest::default()));
        runtime.block_on(async { futures_util::future::join_all(all).await })
    };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    // With the files of the system read, and before that.
    let warm = tools.clone();
    let _ = runtime.block_on(warm.dialer.resolve("localhost", &wachta::wire::DialOptions::default()));
    let cold = RunServices { dialer: Dialer::new(wachta::wire::Reach::default(), Resolver::default()), ..tools };
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    let found: Vec<_> = [warm, cold].iter().flat_map(&outcomes).collect();
    drop(taken);
    let wrong: Vec<String> = found
        .iter()
        .filter(|outcome| (outcome.verdict, outcome.reason) != (Verdict::Unknown, Some(Reason::Resources)))
        .map(|outcome| format!("{}: {:?} {:?}", outcome.name, outcome.reason, outcome.message))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
