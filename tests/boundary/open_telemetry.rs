//! Runs of an agent in the OpenTelemetry Collector: its own receiver of OTLP, and what its file exporter writes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;
use wachta::store::{History as _, Sqlite};

use crate::support::agent::Agent;
use crate::support::collector::{Collector, attribute, nanos, program};
use crate::support::{Folder, examples, until};

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_in_the_collector_under_their_ids_with_all_their_spans() {
    let Some(program) = program() else { return };
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    for (protocol, has_tls) in [("http", false), ("grpc", true)] {
        let mut collector = Collector::up(&program, &format!("collector-{protocol}"), has_tls).await;
        let folder = Folder::new(&format!("otlp-{protocol}"));
        let (scheme, ca) = if has_tls {
            ("https", format!(", ca: {}/ca.pem", collector.folder().display()))
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
        let text = std::fs::read_to_string(collector.folder().join("telemetry.json")).unwrap();
        assert!(!text.contains(wachta::demo::PASSWORD), "the file holds the password");
    }
    stop.cancel();
}
