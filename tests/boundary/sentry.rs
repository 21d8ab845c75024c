//! Incidents and the agent's own errors as issues of a server that speaks Sentry's protocol.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use wachta::demo::{Demo, Fault};
use wachta::outcome::{RunId, Verdict};
use wachta::store::{History as _, Sqlite};

use crate::support::agent::Agent;
use crate::support::bugsink::Bugsink;
use crate::support::{Folder, examples, until};

const SOON: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_an_issue_and_resolves_it() {
    let stop = CancellationToken::new();
    let (bugsink, shop) = tokio::join!(Bugsink::up("Shop"), Demo::open(0, 0, &stop));
    let shop = shop.unwrap();
    let folder = Folder::new("sentry");
    examples(&folder, &["orders-api.yaml"]);
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"], files: [\"{}/\"]}}\nstore: sqlite:wachta.db\n\
             web: {{listen: \"127.0.0.1:0\"}}\n\
             sentry: {{dsn: \"{}\", environment: test, monitors: true, api: {{url: \"{}\", token: \"{}\", project: \"{}\"}}}}\n",
            folder.path().display(),
            bugsink.dsn,
            bugsink.url,
            bugsink.token,
            bugsink.project
        ),
    );
    let agent = Agent::serve(folder.path(), &shop).await;
    shop.shop.set(Fault::Error500, true);
    let issue = until("there is an issue", SOON, async || bugsink.issues().await.pop()).await;
    assert_eq!((&issue["is_resolved"], &issue["transaction"]), (&Value::Bool(false), &"orders-api".into()));
    let event = bugsink.events(&issue).await.remove(0);
    let run: RunId = RunId(event["tags"]["wachta.run"].as_str().unwrap().parse().unwrap());
    let store = Sqlite::open_to_read(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();
    let outcome = until("the store has the run", SOON, async || store.run(run).await.unwrap()).await;
    assert_eq!(outcome.verdict, Verdict::Failed);
    assert!((event["timestamp"].as_f64().unwrap() - outcome.ended_at.timestamp_micros() as f64 / 1e6).abs() < 0.001);
    assert_eq!(event["exception"]["values"][0]["value"], outcome.message.as_deref().unwrap());
    assert_eq!(event["environment"], "test");
    assert_eq!(event["contexts"]["trace"]["trace_id"], run.0.simple().to_string());
    let crumbs = event["breadcrumbs"]["values"].as_array().unwrap();
    let reached = outcome.steps.iter().filter(|step| step.status != wachta::outcome::StepStatus::Skipped).count();
    assert_eq!(crumbs.len(), reached);
    shop.shop.set(Fault::Error500, false);
    until("the issue is resolved", SOON, async || {
        bugsink.issues().await.iter().all(|issue| issue["is_resolved"] == true).then_some(())
    })
    .await;
    // The same once more is the same issue, open again.
    shop.shop.set(Fault::Error500, true);
    until("the issue is open again", SOON, async || {
        let issues = bugsink.issues().await;
        (issues.len() == 1 && issues[0]["is_resolved"] == false).then_some(())
    })
    .await;
    let status: Value = serde_json::from_str(&agent.get("/api/v1/status").await).unwrap();
    let sink = &status["sinks"][0];
    assert_eq!(
        (&sink["name"], &sink["failing_since"], &sink["refused"]),
        (&"sentry".into(), &Value::Null, &Value::Array(Vec::new()))
    );
    agent.stop().await;
    tokio::task::spawn_blocking(move || drop(bugsink)).await.unwrap();
}
