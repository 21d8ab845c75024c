//! Acknowledgements between incidents here and problems in Zabbix.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::incident::Acknowledgement;
use crate::notify::feedback::{AT_RECEIVER, FEEDBACK};
use crate::notify::zabbix::Problems;
use crate::store::{Outbox as _, Sqlite};

/// A Zabbix with problems, and what was written to them.
#[derive(Clone, Default)]
struct Account {
    problems: Arc<Mutex<Vec<Json>>>,
    written: Arc<Mutex<Vec<String>>>,
}

impl Account {
    /// A problem of a scenario opens.
    fn open(&self, event: &str, scenario: &str) {
        let tags = json!([{"tag": "scope", "value": "availability"}, {"tag": "scenario", "value": scenario}]);
        let problem = json!({"eventid": event, "acknowledged": "0", "tags": tags, "acknowledges": []});
        self.problems.lock().unwrap().push(problem);
    }

    /// What a user does to problems.
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
            // The newest comes first there.
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

/// A receiver with its account, and what it handed over.
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

    /// Delivers a notice as the courier does; what was written to problems.
    async fn deliver(&self, notification: &Notification) -> Vec<String> {
        let mut memo = self.store.memo("tickets", &notification.key).await.unwrap();
        let note = self.store.memo("tickets", &format!("{FEEDBACK}{}", notification.key)).await.unwrap();
        if let (Some(memo), Some(note)) = (&mut memo, note) {
            memo[AT_RECEIVER] = note;
        }
        let tried = self.receiver.notify(notification, memo.as_ref()).await;
        assert_eq!(tried.delivery, Delivery::Sent);
        self.store.keep_memo("tickets", &notification.key, tried.memo.as_ref(), Utc::now()).await.unwrap();
        self.account.take_written()
    }

    /// One round: the commands that were handed over, each of which is carried out, and what was written to problems.
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

/// An update of the incident, which somebody has acknowledged or nobody has.
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
    // Of an incident that is over nothing is asked.
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
    // Somebody takes it back there: that is theirs to do, and it is not written again.
    bench.account.act(&["70"], "5", 16, "");
    assert_eq!(bench.round().await, NOTHING);
    bench.account.act(&["70"], "9", 2, "wachta: acknowledged by bob");
    let back = "70 20 wachta: the acknowledgement was taken back";
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
    let other = Incident { subject: Subject("shop-search".into()), ..incident(1) };
    group.others = vec![crate::incident::Affected::of(&other)];
    bench.deliver(&group).await;
    bench.account.open("70", "shop-checkout");
    bench.account.open("71", "shop-search");
    bench.account.act(&["70"], "5", 2, "");
    assert_eq!(bench.round().await, NOTHING);
    bench.account.act(&["71"], "5", 2, "");
    assert_eq!(bench.round().await, ["Acknowledge by Ania Nowak (Zabbix)"]);
}
