//! An agent with PagerDuty, and one with Zabbix: what a person does there is done here, is sent to everyone, and never back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use wachta::app::config;
use wachta::app::scenario_source::DiskSource;
use wachta::app::{App, Setup};
use wachta::store::SqliteFile;

use crate::support::receiver::Receiver;
use crate::support::zabbix::{Api, Server};
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

/// An agent with this configuration, and the scenarios of the folder.
pub async fn start(folder: &Folder, text: &str) -> App {
    let (read, problems) = config::read("wachta.yaml", text);
    let mut config = read.unwrap_or_else(|| panic!("{problems:?}"));
    config.scenarios = vec![folder.path().join("scenarios").display().to_string()];
    App::start(Setup {
        config,
        config_file: None,
        library: Arc::new(DiskSource::new(folder.path())),
        lookup: None,
        store: Arc::new(SqliteFile::new(&format!("sqlite:{}/w.db", folder.path().display()), true)),
        folder: folder.path().join("w.state"),
        executable: env!("CARGO_BIN_EXE_wachta").into(),
        listener: None,
    })
    .await
    .unwrap()
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
    let app = start(&folder, &text).await;
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
    assert_eq!(end["ending_reason"], "Ania Nowak (PagerDuty): resolved in the receiver");
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

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_go_between_zabbix_and_here() {
    let server = tokio::task::spawn_blocking(Server::up).await.unwrap();
    let api = Api::login(&server).await;
    api.provision().await;
    let receiver = Receiver::listen().await;
    let folder = Folder::new("acknowledging-zabbix");
    folder.write("scenarios/one.yaml", "checks: {one: {tcp: \"127.0.0.1:1\", every: 1s, alert: {after: 1}}}\n");
    let text = format!(
        "location: here\nscenarios: [scenarios/]\nweb: {{listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:1/\"}}\n\
         zabbix: {{server: \"{}\", host: {}, api: {{url: \"{}\", user: Admin, password: zabbix}}}}\n\
         alerting:\n  receivers:\n    hook: {{webhook: {{url: \"http://{}/\"}}}}\n    noc: {{zabbix: {{interval: 5s}}}}\n  \
         routes: [{{to: [hook, noc], group_wait: 0s}}]\n",
        server.trapper, api.host, server.api, receiver.address
    );
    let app = start(&folder, &text).await;
    let hosts = api.call("host.get", json!({"filter": {"host": api.host}, "output": ["hostid"]})).await;
    let problems = json!({
        "hostids": hosts[0]["hostid"], "search": {"name": "one: failed"}, "output": ["eventid", "acknowledged"],
        "selectAcknowledges": ["message"],
    });
    let open = api.until("problem.get", problems.clone(), |open| open[0]["eventid"].is_string()).await;
    let act = async |action: u64| {
        let act = json!({"eventids": [open[0]["eventid"]], "action": action, "message": ""});
        api.call("event.acknowledge", act).await;
    };
    let notified = async |what: &str, find: &dyn Fn(&Value) -> bool| {
        until(what, PATIENCE, async || receiver.heard().into_iter().find(|body| find(body))).await
    };

    act(2).await;
    let update = notified("everyone is told who works on it", &|body| body["event"] == "updated").await;
    assert_eq!(update["acknowledged"]["author"], "Zabbix Administrator (Zabbix)");
    act(16).await;
    let is_back = |body: &Value| body["event"] == "updated" && body["acknowledged"].is_null();
    notified("everyone is told that nobody does any longer", &is_back).await;
    let messages = |open: &Value| -> Vec<String> {
        let actions = open[0]["acknowledges"].as_array().unwrap();
        actions.iter().filter_map(|action| action["message"].as_str()).map(str::to_owned).collect()
    };
    let there = api.call("problem.get", problems.clone()).await;
    assert_eq!(messages(&there), ["", ""], "nothing is sent back");

    let key = update["dedup_key"].as_str().unwrap();
    let url = format!("http://{}/api/v1/incidents/{key}/ack", app.address());
    let answer = reqwest::Client::new().post(url).json(&json!({"author": "bob"})).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let is_ours = |open: &Value| messages(open).contains(&"wachta: acknowledged by bob".to_owned());
    let there = api.until("problem.get", problems.clone(), is_ours).await;
    assert_eq!(there[0]["acknowledged"], "1");
    // One incident is one problem.
    assert_eq!(there.as_array().unwrap().len(), 1);
    tokio::time::timeout(PATIENCE, app.stop()).await.expect("it stops");
    let authors = receiver.heard().iter().map(|body| body["acknowledged"]["author"].clone()).collect::<Vec<_>>();
    assert_eq!(authors, [Value::Null, json!("Zabbix Administrator (Zabbix)"), Value::Null, json!("bob")]);
}
