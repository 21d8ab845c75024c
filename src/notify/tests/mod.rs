//! Receivers with servers on loopback that implement their protocols.

mod delivery_service;
mod email;
mod ends;
mod http;
mod pagerduty;
mod server;
mod slack;
mod texts;
mod zabbix;

use std::net::SocketAddr;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::credential::Credential;
use super::*;
use crate::incident::{Event, Incident, Notification, Subject};
use crate::names::Reason;
use crate::outcome::{RunId, Verdict};
use crate::scenario::Severity;
use crate::store::DeliveryStatus;
use crate::store::evidence::EvidenceFolder;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 250_000_000).unwrap()
}

fn incident(opening: u64) -> Incident {
    Incident {
        subject: Subject::from("shop-checkout"),
        sequence: opening,
        name: "Shop checkout".into(),
        tags: [("service".to_owned(), "shop".to_owned()), ("team".to_owned(), "payments".to_owned())].into(),
        kind: "browser".into(),
        severity: Severity::Critical,
        location: "waw-1".into(),
        opened_at: at(0),
        began_at: None,
        opened_by: RunId(uuid::Uuid::from_u128(1)),
        resolved_at: None,
        resolved_by: None,
        verdict: Verdict::Failed,
        last_run: RunId(uuid::Uuid::from_u128(2)),
        reason: Some(Reason::NotFound),
        message: Some("no such element".into()),
        step: Some("click button \"Pay now\"".into()),
        place: Some("scenarios/shop-checkout.yaml:31:9".into()),
        difference: None,
        screenshot: None,
        runbook: None,
        bad_runs: 3,
        events: 1,
        receivers: vec!["tickets".into()],
        target: None,
        ending: None,
        ending_reason: None,
        unwatched: None,
        acknowledged: None,
    }
}

fn notification(opening: u64) -> Notification {
    // Queued now, because notifications older than two days are given up.
    Notification::new(&incident(opening), Event::Opened, "tickets", Utc::now())
}

/// Returns the resolution of the incident.
fn resolved(opening: u64) -> Notification {
    let incident = Incident { resolved_at: Some(at(60)), events: 2, ..incident(opening) };
    Notification::new(&incident, Event::Resolved, "tickets", Utc::now())
}

/// Returns a notification in which every text is longer than any receiver accepts, and contains markup.
fn endless() -> Notification {
    let long = "<b>&\"*_[x](y)`|🐢\u{0}\n".repeat(20_000);
    let mut notification = template::sample();
    notification.key = format!("{}:1", "k".repeat(600));
    notification.note = Some(long.clone());
    notification.incident.message = Some(long.as_str().into());
    for text in [&mut notification.incident.step, &mut notification.incident.place] {
        *text = Some(long.clone());
    }
    notification.incident.name.clone_from(&long);
    notification.incident.runbook = Some(format!("https://wiki.example.com/{}", "r".repeat(1900)));
    notification.others = vec![notification.others[0].clone(); 50];
    for other in &mut notification.others {
        (other.name, other.step) = (long.clone(), Some(long.clone()));
    }
    notification.uncounted = 4950;
    notification.incident.resolved_at = None;
    notification
}

fn client() -> reqwest::Client {
    // Plain HTTP, but the client requires a TLS provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn links() -> Links {
    Links::new(Some("https://wachta.example.com/".parse().unwrap()))
}

/// Resolves addresses, and one name.
fn resolve() -> Resolve {
    Arc::new(|host| {
        let address = if host == "mail.test" { "127.0.0.1".parse() } else { host.parse() };
        Box::pin(std::future::ready(
            address.map(|address| vec![address]).map_err(|_| format!("`{host}` has no address")),
        ))
    })
}

fn tools() -> NotifierServices {
    let evidence = EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence"));
    // The client installs the TLS provider.
    let client = client();
    let tls = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
    let zabbix: ZabbixConnect = Arc::new(|_| Box::pin(std::future::ready(Err("there is no Zabbix here".into()))));
    NotifierServices { client, evidence, resolve: resolve(), tls: Arc::new(tls.with_no_client_auth()), zabbix }
}

fn receiver(kind: ReceiverKind) -> Receiver {
    Receiver { name: "tickets".into(), kind, ..Receiver::default() }
}

fn url(address: SocketAddr, path: &str) -> url::Url {
    format!("http://{address}{path}").parse().unwrap()
}

fn webhook(address: SocketAddr) -> Receiver {
    let url = Credential::text(url(address, "/hook?token=hidden-token"));
    receiver(ReceiverKind::Webhook(Webhook { url, headers: Vec::new(), format: WebhookFormat::Wachta }))
}

/// Makes one attempt.
async fn try_once(receiver: &Receiver, notification: &Notification, receiver_state: Option<&Json>) -> DeliveryResult {
    notifier(receiver, &links(), &tools()).notify(notification, receiver_state).await.masked(&masker(receiver).await)
}

/// Formats the result of an attempt as a word and a problem.
fn shown(tried: &DeliveryResult) -> String {
    let all = if tried.blocks_receiver { " all" } else { "" };
    let wait = tried.wait.map(|wait| format!(" {}s", wait.as_secs())).unwrap_or_default();
    match &tried.delivery {
        DeliveryStatus::Delivered => "sent".to_owned(),
        DeliveryStatus::Retryable(problem) => format!("refused{all}{wait}: {problem}"),
        DeliveryStatus::Uncertain(problem) => format!("unsure{all}{wait}: {problem}"),
        DeliveryStatus::Failed(problem) => format!("failed: {problem}"),
    }
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("WACHTA_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
}

#[test]
fn links_lead_to_the_agent() {
    let notification = Notification {
        incident: Incident { screenshot: Some("run/failure.png".into()), ..incident(7) },
        ..notification(7)
    };
    let base = "https://wachta.example.com";
    let text = |link: Option<String>| link.unwrap().strip_prefix(base).unwrap().to_owned();
    assert_eq!(text(links().incident(&notification)), "/incident/shop%2Dcheckout%3A7");
    assert_eq!(text(links().silence(&notification)), "/incident/shop%2Dcheckout%3A7#silence");
    assert_eq!(links().silence(&resolved(7)), None, "what is over needs no silence");
    // The dedup key of a group is that of its first incident, regardless of the incident that represents it.
    let led = Notification { key: "shop-search:2".into(), ..notification.clone() };
    assert_eq!(text(links().incident(&led)), "/incident/shop%2Dsearch%3A2");
    assert_eq!(text(links().run(&notification)), "/run/00000000-0000-0000-0000-000000000002");
    assert_eq!(text(links().screenshot(&notification)), "/evidence/run/failure.png");
    assert_eq!(Links::default().incident(&notification), None);
}

#[tokio::test]
async fn a_trial_says_that_it_is_one_and_ends() {
    let (address, mut requests) = server::script([server::Answer::Status(200), server::Answer::Status(403)]).await;
    let trials = send_test(&webhook(address), &links(), &tools(), "waw-1", Utc::now()).await;
    let told: Vec<_> = trials.iter().map(|trial| (trial.event, trial.response.as_str())).collect();
    assert_eq!(
        told,
        [
            (Event::Opened, "200 OK"),
            (Event::Resolved, "the receiver returned status 403 Forbidden; check its URL and credential")
        ]
    );
    let (first, second) = (requests.recv().await.unwrap().json(), requests.recv().await.unwrap().json());
    assert_eq!(first["text"], "[TEST] test of the receiver `tickets` at waw-1: no real incident");
    assert_eq!((&first["event"], &first["severity"]), (&"opened".into(), &"info".into()));
    assert_eq!(second["event"], "resolved");
    assert_eq!(first["dedup_key"], second["dedup_key"]);
    // If the opening is rejected, no resolution is sent.
    let (address, _requests) = server::script([server::Answer::Status(404)]).await;
    let trials = send_test(&webhook(address), &links(), &tools(), "waw-1", Utc::now()).await;
    assert_eq!(trials.len(), 1);
}
