//! An agent and PagerDuty: what a person does there is done here, is sent to everyone, and never back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use wachta::app::config;
use wachta::app::library::Disk;
use wachta::app::{App, Setup};
use wachta::store::SqliteFile;

use crate::support::receiver::Receiver;
use crate::support::{Folder, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// What PagerDuty holds.
#[derive(Default)]
struct Account {
    /// The alert's key, once it was triggered.
    key: Option<String>,
    /// What a person did: the incident's other fields.
    done: Value,
    events: Vec<String>,
}

async fn answer(State(account): State<Arc<Mutex<Account>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut account = account.lock().unwrap();
    match parts.uri.path() {
        "/v2/enqueue" => {
            let event: Value = serde_json::from_slice(&body).unwrap();
            account.key.get_or_insert_with(|| event["dedup_key"].as_str().unwrap().to_owned());
            account.events.push(event["event_action"].as_str().unwrap().to_owned());
            (axum::http::StatusCode::ACCEPTED, Json(json!({"status": "success"}))).into_response()
        }
        "/incidents" => {
            let mut incident = json!({"id": "Q1", "incident_key": null, "status": "triggered", "acknowledgements": []});
            incident.as_object_mut().unwrap().extend(account.done.as_object().cloned().unwrap_or_default());
            Json(json!({"incidents": [incident], "more": false})).into_response()
        }
        _ => Json(json!({"alerts": [{"alert_key": account.key}], "more": false})).into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_does_at_pagerduty_is_done_here() {
    _ = rustls::crypto::ring::default_provider().install_default();
    let account = Arc::new(Mutex::new(Account::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(Arc::clone(&account));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let receiver = Receiver::listen().await;
    let folder = Folder::new("acknowledging");
    folder.write("scenarios/one.yaml", "checks: {one: {tcp: \"127.0.0.1:1\", every: 1s, alert: {after: 1}}}\n");
    let text = format!(
        "location: here\nscenarios: [scenarios/]\nweb: {{listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:1/\"}}\n\
         alerting:\n  receivers:\n    hook: {{webhook: {{url: \"http://{}/\"}}}}\n    pager: {{pagerduty: {{routing_key: abcd, \
         url: \"http://{there}/v2/enqueue\", api_token: abcd, api_url: \"http://{there}/\", api_interval: 5s}}}}\n  \
         routes: [{{to: [hook, pager], group_wait: 0s}}]\n",
        receiver.address
    );
    let (read, problems) = config::read("wachta.yaml", &text);
    let mut config = read.unwrap_or_else(|| panic!("{problems:?}"));
    config.scenarios = vec![folder.path().join("scenarios").display().to_string()];
    let app = App::start(Setup {
        config,
        config_file: None,
        library: Arc::new(Disk::new(folder.path())),
        lookup: None,
        store: Arc::new(SqliteFile::new(&format!("sqlite:{}/w.db", folder.path().display()), true)),
        folder: folder.path().join("w.state"),
        executable: env!("CARGO_BIN_EXE_wachta").into(),
        listener: None,
    })
    .await
    .unwrap();
    until("PagerDuty has the alert", PATIENCE, async || account.lock().unwrap().key.clone()).await;
    let notified = async |what: &str, find: &dyn Fn(&Value) -> bool| {
        until(what, PATIENCE, async || receiver.heard().into_iter().find(|body| find(body))).await
    };

    let ania = json!({"id": "P1", "type": "user_reference", "summary": "Ania Nowak"});
    account.lock().unwrap().done = json!({"status": "acknowledged", "acknowledgements": [{"acknowledger": ania}]});
    let update = notified("everyone is told who works on it", &|body| body["event"] == "updated").await;
    assert_eq!(update["acknowledged"]["author"], "Ania Nowak (PagerDuty)");
    assert_eq!(update["note"], "acknowledged by Ania Nowak (PagerDuty)");

    account.lock().unwrap().done = json!({"status": "resolved", "last_status_change_by": ania});
    let end = notified("everyone is told that it was resolved", &|body| body["event"] == "resolved").await;
    assert_eq!(end["ending"], "by_hand");
    assert_eq!(end["ending_reason"], "Ania Nowak (PagerDuty): resolved there");
    until("PagerDuty has the end", PATIENCE, async || {
        account.lock().unwrap().events.last().is_some_and(|event| event == "resolve").then_some(())
    })
    .await;
    tokio::time::timeout(PATIENCE, app.stop()).await.expect("it stops");
    assert_eq!(account.lock().unwrap().events, ["trigger", "trigger", "resolve"], "nothing is sent back");
    // It still fails, and stays as the person left it.
    let events: Vec<_> = receiver.heard().iter().map(|body| body["event"].clone()).collect();
    assert_eq!(events, ["opened", "updated", "resolved"]);
}
