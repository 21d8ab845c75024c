//! Runs of an agent in the OpenTelemetry Collector: its own receiver of OTLP, and what its file exporter writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;
use wachta::store::{History as _, Sqlite};

use crate::support::agent::Agent;
use crate::support::group::{Group, free_port, tools_folder};
use crate::support::{Folder, examples, until};

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The program that `tests/support/tools.sh` builds. None where it cannot be built, which is said.
fn program() -> Option<PathBuf> {
    let program = tools_folder().join("bin/otel-collector");
    if program.exists() {
        return Some(program);
    }
    let has_go = Path::new("/usr/local/go/bin/go").exists() || Command::new("go").arg("version").output().is_ok();
    assert!(!has_go, "bin/otel-collector is missing: run tests/support/tools.sh");
    eprintln!("SKIPPED: the OpenTelemetry Collector needs Go to be built, which is not here");
    None
}

/// A collector that writes what it takes to a file.
struct Collector {
    group: Group,
    folder: Folder,
    http: u16,
    grpc: u16,
}

impl Collector {
    async fn up(program: &Path, name: &str, has_tls: bool) -> Self {
        let (folder, http, grpc) = (Folder::new(name), free_port(), free_port());
        let file = folder.path().join("telemetry.json");
        let mut command = Command::new(program);
        command.args([format!("127.0.0.1:{http}"), format!("127.0.0.1:{grpc}")]).arg(&file);
        if has_tls {
            let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
            folder.write("ca.pem", &made.cert.pem());
            folder.write("key.pem", &made.signing_key.serialize_pem());
            command.args(["ca.pem", "key.pem"]).current_dir(folder.path());
        }
        let mut group = Group::start(&mut command, &folder.path().join("log"));
        for port in [http, grpc] {
            until("the collector listens", SOON, async || {
                group.must_live();
                tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
            })
            .await;
        }
        Self { group, folder, http, grpc }
    }

    /// Everything that was written so far, one request a line.
    fn written(&mut self) -> Vec<Value> {
        self.group.must_live();
        let text = std::fs::read_to_string(self.folder.path().join("telemetry.json")).unwrap_or_default();
        // The last line may be on its way.
        text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
    }

    fn spans(&mut self) -> Vec<Value> {
        parts(&self.written(), ["resourceSpans", "scopeSpans", "spans"])
    }

    fn records(&mut self) -> Vec<Value> {
        parts(&self.written(), ["resourceLogs", "scopeLogs", "logRecords"])
    }
}

/// What is in lists in lists.
fn parts(requests: &[Value], keys: [&str; 3]) -> Vec<Value> {
    let mut level = requests.to_vec();
    for key in keys {
        level = level.iter().flat_map(|value| value[key].as_array().cloned().unwrap_or_default()).collect();
    }
    level
}

fn attribute<'a>(of: &'a Value, key: &str) -> &'a Value {
    let pair = of["attributes"].as_array().and_then(|all| all.iter().find(|pair| pair["key"] == key));
    let value = pair.and_then(|pair| pair["value"].as_object()).and_then(|value| value.values().next());
    value.unwrap_or(&Value::Null)
}

fn nanos(of: &Value, key: &str) -> i64 {
    of[key].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_in_the_collector_under_their_ids_with_all_their_spans() {
    let Some(program) = program() else { return };
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    for (protocol, has_tls) in [("http", false), ("grpc", true)] {
        let mut collector = Collector::up(&program, &format!("collector-{protocol}"), has_tls).await;
        let folder = Folder::new(&format!("otlp-{protocol}"));
        let (scheme, ca) = if has_tls {
            ("https", format!(", ca: {}/ca.pem", collector.folder.path().display()))
        } else {
            ("http", String::new())
        };
        let port = if protocol == "grpc" { collector.grpc } else { collector.http };
        folder.write(
            "wachta.yaml",
            &format!(
                "location: waw-1\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"]}}\nstore: sqlite:wachta.db\n\
                 web: {{listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:1/\"}}\n\
                 otlp: {{endpoint: \"{scheme}://127.0.0.1:{port}\", protocol: {protocol}, compression: gzip{ca}}}\n"
            ),
        );
        examples(&folder, &["orders-api.yaml"]);
        let check = "checks:\n  wrong: {http: \"${env.SHOP_URL}/\", status: 201, every: 1s}\n";
        folder.write("scenarios/checks.yaml", check);
        let agent = Agent::serve(folder.path(), &shop).await;
        let both = ["orders-api", "wrong"];
        until("runs of both scenarios are in the file", SOON, async || {
            let records = collector.records();
            let of = |id: &str| records.iter().any(|record| attribute(record, "wachta.scenario.id") == id);
            both.iter().all(|id| of(id)).then_some(())
        })
        .await;
        // What waits is sent, and the rest of it written, before the agent ends.
        assert_eq!(agent.stop().await, Some(0));
        let store = Sqlite::open(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();
        let outcomes = store.recent(None, 10_000).await.unwrap();
        let ids: BTreeSet<String> = outcomes.iter().map(|outcome| outcome.run.0.simple().to_string()).collect();
        let spans = until("every run is in the file", SOON, async || {
            let text = |of: &Value| of["traceId"].as_str().unwrap().to_owned();
            let spans = collector.spans();
            let traces: BTreeSet<String> = spans.iter().map(text).collect();
            let records: BTreeSet<String> = collector.records().iter().map(text).collect();
            (traces == ids && records == ids).then_some(spans)
        })
        .await;
        for outcome in &outcomes {
            let id = outcome.run.0.simple().to_string();
            let own: Vec<&Value> = spans.iter().filter(|span| span["traceId"] == id.as_str()).collect();
            let by_id: BTreeMap<&str, &Value> =
                own.iter().map(|span| (span["spanId"].as_str().unwrap(), *span)).collect();
            assert_eq!(by_id.len(), own.len(), "no span came twice");
            let (roots, others): (Vec<&Value>, Vec<&Value>) =
                own.iter().partition(|span| span["parentSpanId"].as_str().unwrap_or_default().is_empty());
            let [root] = roots.as_slice() else { panic!("{roots:#?}") };
            assert_eq!(attribute(root, "wachta.verdict"), outcome.verdict.as_str());
            assert_eq!(nanos(root, "startTimeUnixNano"), outcome.started_at.timestamp_nanos_opt().unwrap());
            assert_eq!(nanos(root, "endTimeUnixNano"), outcome.ended_at.timestamp_nanos_opt().unwrap());
            for span in others {
                let above = by_id[span["parentSpanId"].as_str().unwrap()];
                assert!(nanos(above, "startTimeUnixNano") <= nanos(span, "startTimeUnixNano"), "{span} in {above}");
                assert!(nanos(span, "endTimeUnixNano") <= nanos(above, "endTimeUnixNano"), "{span} in {above}");
            }
            for step in &outcome.steps {
                assert_eq!(by_id[step.span_id.as_str()]["name"], step.name.as_str());
                for hop in step.requests() {
                    let span = by_id[hop.span_id.as_str()];
                    assert_eq!((&span["name"], &span["kind"]), (&hop.method.as_str().into(), &3.into()));
                }
            }
        }
        let verdicts: BTreeSet<_> =
            outcomes.iter().map(|outcome| (outcome.scenario.as_str(), outcome.verdict.as_str())).collect();
        assert!(
            verdicts.contains(&("orders-api", "passed")) && verdicts.contains(&("wrong", "failed")),
            "{verdicts:?}"
        );
        // The secret that the scenario sends is in none of it.
        let text = std::fs::read_to_string(collector.folder.path().join("telemetry.json")).unwrap();
        assert!(!text.contains(wachta::demo::PASSWORD), "the file holds the password");
    }
    stop.cancel();
}
