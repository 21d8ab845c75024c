//! Acknowledgements between wachta's incidents and problems in Zabbix.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::incident::Acknowledgement;
use crate::notify::feedback::{AT_RECEIVER, FEEDBACK, FeedbackChannel};
use crate::notify::zabbix::Problems;
use crate::store::{Outbox as _, Sqlite};

/// A Zabbix with problems, and the writes to them.
#[derive(Clone, Default)]
struct Account {
    problems: Arc<Mutex<Vec<Json>>>,
    written: Arc<Mutex<Vec<String>>>,
}

impl Account {
    /// Opens a problem of a scenario.
    fn open(&self, event: &str, scenario: &str) {
        let tags = json!([{"tag": "scope", "value": "availability"}, {"tag": "scenario", "value": scenario}]);
        let problem = json!({"eventid": event, "acknowledged": "0", "tags": tags, "acknowledges": []});
        self.problems.lock().unwrap().push(problem);
    }

    /// Performs an action of a user on problems.
    fn act(&self, events: &[&str], user: &str, action: u64, message: &str) {
        for problem in self.problems.lock().unwrap().iter_mut() {
            if !events.contains(&problem["eventid"].as_str().unwrap()) {
                continue;
            }
            if action & 0x12 != 0 {
                problem["acknowledged"] = if action & 2 == 0 { "0" } else { "1" }.into();
            }
            let actions = problem["acknowledges"].as_array_mut().unwrap();
            let clock = (1_800_000_000 + actions.len()).to_string();
            let action = action.to_string();
            // Zabbix returns the newest action first.
            actions.insert(0, json!({"userid": user, "clock": clock, "message": message, "action": action}));
        }
    }

    fn take_written(&self) -> Vec<String> {
        std::mem::take(&mut *self.written.lock().unwrap())
    }
}

impl ZabbixApi for Account {
    fn call<'a>(&'a self, method: &'static str, params: Json) -> BoxFuture<'a, Result<Json, String>> {
        let result = match method {
            "host.get" => json!([{"hostid": "1"}]),
            "problem.get" => {
                assert_eq!(params["hostids"], json!(["1"]));
                json!(*self.problems.lock().unwrap())
            }
            "user.get" => json!([{"username": "ania", "name": "Ania", "surname": "Nowak"}]),
            "event.acknowledge" => {
                let events: Vec<_> = params["eventids"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
                let (action, message) = (params["action"].as_u64().unwrap(), params["message"].as_str().unwrap());
                self.act(&events, "9", action, message);
                self.written.lock().unwrap().push(format!("{} {action} {message}", events.join(",")));
                json!({"eventids": events})
            }
            _ => panic!("{method} is not needed"),
        };
        Box::pin(std::future::ready(Ok(result)))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Receiver with its account and feedback channel.
struct Bench {
    account: Account,
    receiver: Problems,
    store: Sqlite,
    channel: FeedbackChannel,
    feedback: mpsc::Receiver<Feedback>,
}

impl Bench {
    async fn new() -> Self {
        let account = Account::default();
        let api = account.clone();
        let connect: ZabbixConnect = Arc::new(move |_| {
            let api: Box<dyn ZabbixApi> = Box::new(api.clone());
            Box::pin(std::future::ready(Ok(api)))
        });
        let url = "http://127.0.0.1/api_jsonrpc.php".parse().unwrap();
        let access = ZabbixAccess { url, user: None, credential: Credential::text("hidden-token"), ca: None };
        let config =
            Zabbix { sink: None, host: "waw-1".into(), access: Some(access), interval: Duration::from_secs(30) };
        let store = Sqlite::open("sqlite::memory:").await.unwrap();
        let (sender, feedback) = mpsc::channel(16);
        let channel = FeedbackChannel { receiver: "tickets".into(), store: Arc::new(store.clone()), sender };
        Self { account, receiver: Problems { config, connect }, store, channel, feedback }
    }

    /// Delivers a notification like the delivery service. Returns the writes to problems.
    async fn deliver(&self, notification: &Notification) -> Vec<String> {
        let mut receiver_state = self.store.receiver_state("tickets", &notification.key).await.unwrap();
        let note = self.store.receiver_state("tickets", &format!("{FEEDBACK}{}", notification.key)).await.unwrap();
        if let (Some(receiver_state), Some(note)) = (&mut receiver_state, note) {
            receiver_state[AT_RECEIVER] = note;
        }
        let tried = self.receiver.notify(notification, receiver_state.as_ref()).await;
        assert_eq!(tried.delivery, DeliveryStatus::Delivered);
        self.store
            .set_receiver_state("tickets", &notification.key, tried.receiver_state.as_ref(), Utc::now())
            .await
            .unwrap();
        self.account.take_written()
    }

    /// Runs one round. Returns the forwarded commands, each of which is executed, and the writes to problems.
    async fn round(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        {
            let asking = self.receiver.round(&self.channel);
            tokio::pin!(asking);
            loop {
                tokio::select! {
                    biased;
                    Some(feedback) = self.feedback.recv() => {
                        done.push(format!("{:?} by {}", feedback.action, feedback.author));
                        let _ = feedback.answer.send(Ok("done".into()));
                    }
                    ended = &mut asking => break ended.unwrap(),
                }
            }
        }
        done.extend(self.account.take_written());
        done
    }
}

/// Returns an update of the incident, with or without an acknowledgement.
fn update(author: Option<&str>) -> Notification {
    let acknowledged = author.map(|author| Acknowledgement { author: author.into(), at: at(30), until: None });
    Notification::new(&Incident { acknowledged, ..incident(1) }, Event::Updated, "tickets", Utc::now())
}

const NOTHING: Vec<String> = Vec::new();

#[tokio::test]
async fn what_is_acknowledged_in_zabbix_is_so_here_once_and_not_sent_back() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.deliver(&notification(1)).await, NOTHING);
    assert_eq!(bench.round().await, NOTHING);
    bench.account.open("70", "shop-checkout");
    bench.account.open("71", "another");
    assert_eq!(bench.round().await, NOTHING);
    bench.account.act(&["70"], "5", 6, "it is mine");
    assert_eq!(bench.round().await, ["Acknowledge by Ania Nowak (Zabbix)"]);
    assert_eq!(bench.round().await, NOTHING);
    assert_eq!(bench.deliver(&update(Some("Ania Nowak (Zabbix)"))).await, NOTHING);
    assert_eq!(bench.round().await, NOTHING);
    bench.account.act(&["70"], "5", 16, "");
    assert_eq!(bench.round().await, [r#"Unacknowledge { of: "Ania Nowak (Zabbix)" } by Zabbix"#]);
    assert_eq!(bench.deliver(&update(None)).await, NOTHING);
    assert_eq!(bench.round().await, NOTHING);
    // Resolved incidents are not checked.
    bench.account.act(&["70"], "5", 2, "");
    assert_eq!(bench.deliver(&resolved(1)).await, NOTHING);
    assert_eq!(bench.round().await, NOTHING);
}

#[tokio::test]
async fn what_is_acknowledged_here_is_so_in_zabbix_once() {
    let mut bench = Bench::new().await;
    bench.account.open("70", "shop-checkout");
    bench.deliver(&notification(1)).await;
    assert_eq!(bench.deliver(&update(Some("bob"))).await, ["70 6 wachta: acknowledged by bob"]);
    assert_eq!((bench.round().await, bench.deliver(&update(Some("bob"))).await), (NOTHING, NOTHING));
    // A user withdraws it in Zabbix, which is accepted: it is not written again.
    bench.account.act(&["70"], "5", 16, "");
    assert_eq!(bench.round().await, NOTHING);
    bench.account.act(&["70"], "9", 2, "wachta: acknowledged by bob");
    let back = "70 20 wachta: the acknowledgement was withdrawn";
    assert_eq!(bench.deliver(&update(None)).await, [back]);
    assert_eq!(bench.round().await, NOTHING);
}

#[tokio::test]
async fn a_problem_that_opens_later_is_acknowledged_then() {
    let mut bench = Bench::new().await;
    bench.deliver(&notification(1)).await;
    assert_eq!(bench.deliver(&update(Some("bob"))).await, NOTHING);
    assert_eq!(bench.round().await, NOTHING);
    bench.account.open("70", "shop-checkout");
    assert_eq!(bench.round().await, ["70 6 wachta: acknowledged by bob"]);
    assert_eq!(bench.round().await, NOTHING);
}

#[tokio::test]
async fn a_group_is_acknowledged_when_all_its_problems_are() {
    let mut bench = Bench::new().await;
    let mut group = notification(1);
    let other = Incident { subject: Subject::from("shop-search"), ..incident(1) };
    group.others = vec![crate::incident::RelatedIncident::of(&other)];
    bench.deliver(&group).await;
    bench.account.open("70", "shop-checkout");
    bench.account.open("71", "shop-search");
    bench.account.act(&["70"], "5", 2, "");
    assert_eq!(bench.round().await, NOTHING);
    bench.account.act(&["71"], "5", 2, "");
    assert_eq!(bench.round().await, ["Acknowledge by Ania Nowak (Zabbix)"]);
}
