//! Receivers that nobody here wrote: an Alertmanager, a mail server and what a browser makes of its mail.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wachta::app::lookup::Environment;
use wachta::incident::{Event, Incident, Notification, Subject};
use wachta::names::Reason;
use wachta::notify::credential::Credential;
use wachta::notify::{
    Alertmanager as Api, DeliveryService, Email, Links, MailTls, Metrics, NotifierServices, Receiver, ReceiverKind,
};
use wachta::outcome::{EvidenceKind, RunId, Verdict};
use wachta::scenario::{Engine, Severity, load};
use wachta::secret::Masked;
use wachta::store::evidence::EvidenceFolder;
use wachta::store::{Batch, Outbox as _, Runs as _, Sqlite};
use wachta::tasks::Tasks;

use crate::support::alertmanager::Alertmanager;
use crate::support::mail::{MailServer, PASSWORD, USER};
use crate::support::places::{Place, told};
use crate::support::receiver::Receiver as Hook;
use crate::support::site::Site;
use crate::support::{Folder, until};

const SOON: Duration = Duration::from_secs(60);

fn incident(subject: &str, service: &str, opened_at: DateTime<Utc>) -> Incident {
    Incident {
        subject: Subject::from(subject),
        sequence: 1,
        name: format!("Żółw & <{subject}>"),
        tags: [("service".to_owned(), service.to_owned())].into(),
        kind: "browser".into(),
        severity: Severity::Critical,
        location: "waw-1".into(),
        opened_at,
        began_at: None,
        opened_by: RunId::new(),
        resolved_at: None,
        resolved_by: None,
        verdict: Verdict::Failed,
        last_run: RunId::new(),
        reason: Some(Reason::NotFound),
        message: Some(Masked::constant("no <button> \"Pay\" & no 🐢")),
        step: Some("click button \"Pay now\"".into()),
        place: Some("shop.yaml:31:9".into()),
        difference: None,
        screenshot: None,
        runbook: Some("https://wiki.example.com/checkout?a=1&b=2".into()),
        bad_runs: 2,
        events: 1,
        receivers: vec!["them".into()],
        target: None,
        ending: None,
        ending_reason: None,
        unwatched: None,
        acknowledged: None,
    }
}

/// A courier to one receiver, and its outbox.
struct Agent {
    store: Sqlite,
    stop: CancellationToken,
    tasks: Tasks,
    delivery_service: DeliveryService,
}

impl Agent {
    async fn start(store: &Sqlite, kind: ReceiverKind, evidence: EvidenceFolder) -> Self {
        _ = rustls::crypto::ring::default_provider().install_default();
        let (stop, tasks) = (CancellationToken::new(), Tasks::unregistered(CancellationToken::new()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let tools = NotifierServices {
            client,
            evidence,
            resolve: wachta::app::resolve(),
            tls: wachta::app::web_tls(),
            zabbix: wachta::app::zabbix_api(),
        };
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let mut delivery_service = DeliveryService::new(Arc::new(store.clone()), metrics, tools, &tasks, &stop);
        let links = Links::new(Some("https://wachta.example.com".parse().unwrap()));
        delivery_service.serve(&[Receiver { name: "them".into(), kind, ..Receiver::default() }], &links).await;
        Self { store: store.clone(), stop, tasks, delivery_service }
    }

    async fn tell(&self, notifications: Vec<Notification>) {
        self.store.commit(&Batch { notifications, ..Batch::default() }).await.unwrap();
        (self.delivery_service.waker())();
        until("all is told", SOON, async || self.store.receivers_with_queued().await.unwrap().is_empty().then_some(()))
            .await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.ended().await;
    }
}

fn opened(incident: &Incident) -> Notification {
    Notification::new(incident, Event::Opened, "them", Utc::now())
}

fn resolved(incident: &Incident) -> Notification {
    let incident = Incident { resolved_at: Some(Utc::now()), events: 2, ..incident.clone() };
    Notification::new(&incident, Event::Resolved, "them", Utc::now())
}

/// What Alertmanager told its webhook: of each group, its state and the scenarios that fire in it.
fn groups(heard: &[Value]) -> Vec<(String, String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let firing = |alerts: &Value| {
        let firing = alerts.as_array().unwrap().iter().filter(|alert| alert["status"] == "firing");
        let mut names: Vec<String> = firing.map(|alert| text(&alert["labels"]["scenario"])).collect();
        names.sort();
        names
    };
    heard
        .iter()
        .map(|group| (text(&group["groupLabels"]["service"]), text(&group["status"]), firing(&group["alerts"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_receives_groups_resolves_and_is_restarted_in_the_middle() {
    let hook = Hook::listen().await;
    let mut alertmanager = Alertmanager::up(hook.address).await;
    let store = Sqlite::open("sqlite::memory:").await.unwrap();
    let kind = |url: String| {
        // The peer that is away is told nothing, and nobody waits for it.
        let urls = vec![Credential::text("http://127.0.0.1:9"), Credential::text(url)];
        ReceiverKind::Alertmanager(Api { urls, resend: Duration::from_secs(1) })
    };
    let evidence = || EvidenceFolder::new("nowhere");
    let agent = Agent::start(&store, kind(alertmanager.url()), evidence()).await;

    let at = Utc::now() - TimeDelta::seconds(30);
    let (pay, basket, search) =
        (incident("pay", "checkout", at), incident("basket", "checkout", at), incident("search", "catalogue", at));
    agent.tell([&pay, &basket, &search].map(opened).to_vec()).await;
    until("both groups are told whole", SOON, async || {
        let told = groups(&hook.heard());
        let has = |service: &str, names: &[&str]| {
            told.iter().any(|(group, state, firing)| group == service && state == "firing" && firing == names)
        };
        (has("checkout", &["basket", "pay"]) && has("catalogue", &["search"])).then_some(())
    })
    .await;

    // The agent and Alertmanager go away and come back: what is open is told again, from what was remembered.
    agent.stop().await;
    let before = hook.heard().len();
    alertmanager.restart().await;
    let agent = Agent::start(&store, kind(alertmanager.url()), evidence()).await;
    let alerts = until("Alertmanager knows all of it again", SOON, async || {
        let alerts = alertmanager.alerts().await;
        (alerts.len() == 3).then_some(alerts)
    })
    .await;
    let pay_again = alerts.iter().find(|alert| alert["labels"]["scenario"] == "pay").unwrap();
    let time = |value: &Value| DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().to_utc();
    assert_eq!(time(&pay_again["startsAt"]).timestamp_millis(), at.timestamp_millis());
    assert_eq!(pay_again["labels"]["dedup_key"], "pay:1");
    assert!(pay_again["annotations"]["summary"].as_str().unwrap().contains("Żółw & <pay> failed at waw-1"));
    let ahead = time(&pay_again["endsAt"]) - Utc::now();
    assert!(ahead > TimeDelta::minutes(2) && ahead <= TimeDelta::minutes(4), "{ahead}");

    // Each ends by its own notice.
    agent.tell(vec![resolved(&pay), resolved(&search)]).await;
    until("the catalogue works again", SOON, async || {
        let told = groups(&hook.heard()[before..]);
        told.iter().any(|(group, state, _)| group == "catalogue" && state == "resolved").then_some(())
    })
    .await;
    agent.tell(vec![resolved(&basket)]).await;
    until("the checkout works again", SOON, async || {
        let told = groups(&hook.heard()[before..]);
        told.iter().any(|(group, state, _)| group == "checkout" && state == "resolved").then_some(())
    })
    .await;
    until("nothing fires", SOON, async || alertmanager.alerts().await.is_empty().then_some(())).await;
    // Nothing fires anew through what is told again of the end.
    let told = groups(&hook.heard());
    let last = told.iter().rfind(|(group, ..)| group == "checkout").unwrap();
    assert_eq!(last.1, "resolved");
    agent.stop().await;
    tokio::task::spawn_blocking(move || drop(alertmanager)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_arrives_as_one_thread_and_renders() {
    let mut server = MailServer::up().await;
    let folder = Folder::new("mail-evidence");
    let evidence = EvidenceFolder::new(folder.path());
    let mut incident = incident("pay", "checkout", Utc::now());
    let picture = include_bytes!("../../docs/images/page.png").to_vec();
    let size = picture.len();
    let kept = evidence.keep(
        incident.last_run,
        EvidenceKind::Screenshot,
        "failure.png",
        wachta::secret::Masked::picture(picture),
    );
    incident.screenshot = Some(kept.await.unwrap().path);
    let kind = ReceiverKind::Email(Email {
        host: "127.0.0.1".into(),
        port: server.port,
        tls: MailTls::StartTls,
        ca: Some(server.ca().into()),
        login: Some((USER.into(), Credential::text(PASSWORD))),
        from: "Wachta w Łodzi <wachta@example.com>".into(),
        to: vec!["on-call@example.com".into()],
    });
    let store = Sqlite::open("sqlite::memory:").await.unwrap();
    let agent = Agent::start(&store, kind, evidence).await;
    agent.tell(vec![opened(&incident), resolved(&incident)]).await;
    let (first, second) = (server.mail(0).await, server.mail(1).await);

    for mail in [&first, &second] {
        assert_eq!(mail["defects"], json!([]), "{mail:#}");
        assert_eq!(
            (&mail["sender"], &mail["recipients"]),
            (&json!("wachta@example.com"), &json!(["on-call@example.com"]))
        );
        assert_eq!(mail["headers"]["from"], "Wachta w Łodzi <wachta@example.com>");
    }
    let subject = "[CRITICAL] Żółw & <pay> failed at waw-1: click button \"Pay now\": no <button> \"Pay\" & no 🐢";
    assert_eq!(first["headers"]["subject"], subject);
    let end = second["headers"]["subject"].as_str().unwrap();
    assert!(end.starts_with("[RESOLVED] Żółw & <pay> recovered at waw-1 after "), "{end}");
    let text = first["text"].as_str().unwrap();
    assert!(text.contains("error: no <button> \"Pay\" & no 🐢") && text.contains("/incident/pay%3A1"), "{text}");
    assert_eq!(first["pictures"], json!([{"id": "screenshot", "type": "image/png", "bytes": size}]));
    assert_eq!(second["pictures"], json!([]));
    assert_eq!(second["headers"]["in-reply-to"], first["headers"]["message-id"]);
    assert_eq!(second["headers"]["references"], first["headers"]["message-id"]);

    // And as people see it.
    let site = Site::open(server.pages()).await;
    let scenario = format!(
        "scenario: The mail\nevery: 1h\nsteps:\n  - goto: {}/0/index.html\n  - expect:\n      visible: {{heading: '{subject}'}}\n  \
         - expect:\n      visible: {{alt: the page when it failed}}\n  - expect:\n      visible: {{link: incident}}\n",
        site.url().trim_end_matches('/')
    );
    let loaded = load("mail.yaml", &scenario, &Environment::everything());
    assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics[0].render(false));
    let place = Place::new(Engine::Chromium, None, Environment::everything());
    let outcomes = place.run(&loaded.scenarios).await;
    place.close().await;
    assert_eq!(outcomes[0].verdict, Verdict::Passed, "{}", told(&outcomes[0]));
    agent.stop().await;
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}
