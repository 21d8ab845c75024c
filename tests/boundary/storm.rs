//! An agent that is killed at random moments of a storm: many scenarios behind one gateway that comes and goes. In the end
//! the receivers' view is the truth: nothing is lost, nothing is told twice without saying so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;
use wachta::store::{Incidents as _, Outbox as _, Sqlite};

use crate::deaths::random;
use crate::faults::{Keeper, replay, serve};
use crate::support::receiver::Receiver;
use crate::support::{Folder, until};

const SCENARIOS: u64 = 120;
/// How many break by themselves before each kill, and for how many kills they stay broken.
const BREAK: usize = 3;
const BROKEN: usize = 3;
/// At these kills of each hundred the gateway is down.
const DOWN: std::ops::Range<u64> = 4..8;
/// Longer than flapping is quiet, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A gateway that may be down, and what may be broken behind it: one cause for all, or one for each.
#[derive(Clone, Default)]
struct Gateway(Arc<Mutex<(bool, VecDeque<u64>)>>);

async fn answer(State(gateway): State<Gateway>, request: Request) -> StatusCode {
    let path = request.uri().path().trim_start_matches('/').parse::<u64>().unwrap_or_default();
    let state = gateway.0.lock().unwrap();
    match &*state {
        (true, _) => StatusCode::SERVICE_UNAVAILABLE,
        (false, broken) if broken.contains(&path) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::OK,
    }
}

/// A receiver that takes its time, so that some kills come between what it heard and what it answers.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<(Vec<Value>, u64)>>);

impl Ear {
    fn heard(&self) -> Vec<Value> {
        self.0.lock().unwrap().0.clone()
    }
}

async fn hear(State(ear): State<Ear>, Json(notification): Json<Value>) -> StatusCode {
    let pause = {
        let (heard, seed) = &mut *ear.0.lock().unwrap();
        heard.push(notification);
        random(seed, 300)
    };
    tokio::time::sleep(Duration::from_millis(pause)).await;
    StatusCode::OK
}

/// Serves on loopback until the test ends; gives the URL.
pub async fn listen(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

pub fn word<'a>(notification: &'a Value, name: &str) -> &'a str {
    notification[name].as_str().unwrap_or_default()
}

/// The last event that the receiver heard of each key, repeats counted once.
fn view(heard: &[Value]) -> BTreeMap<String, String> {
    heard
        .iter()
        .map(|notification| (word(notification, "dedup_key").to_owned(), word(notification, "event").to_owned()))
        .collect()
}

/// The keys that are open as far as the receiver knows.
pub fn open(heard: &[Value]) -> BTreeSet<String> {
    view(heard).into_iter().filter(|(_, event)| event != "resolved").map(|(key, _)| key).collect()
}

/// The soak kills 500 times (`WACHTA_SOAK_STORM`), at moments that `WACHTA_SEED` gives; the short form a few times.
#[tokio::test(flavor = "multi_thread")]
async fn the_view_of_receivers_is_the_truth_however_often_the_agent_is_killed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let long = std::env::var("WACHTA_SOAK").is_ok();
    let kills = number("WACHTA_SOAK_STORM").filter(|_| long).unwrap_or(if long { 500 } else { 10 });
    let mut seed = number("WACHTA_SEED").unwrap_or(0x5eed);

    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let gateway = Gateway::default();
    let url = listen(Router::new().fallback(answer).with_state(gateway.clone())).await;
    // One that knows a notice by its key, and a phone that knows nothing: there a repeat says that it is one.
    let (hook, phone) = (Ear::default(), Ear::default());
    let hook_url = listen(Router::new().fallback(hear).with_state(hook.clone())).await;
    let phone_url = listen(Router::new().fallback(hear).with_state(phone.clone())).await;
    let folder = Folder::new("storm");
    let checks: String = (0..SCENARIOS)
        .map(|n| {
            format!(
                "  s{n:03}: {{http: \"{url}{n}\", status: 200, every: 2s, timeout: 1900ms, \
                 alert: {{after: 1 of 1, recover_after: 1}}}}\n"
            )
        })
        .collect();
    folder.write("scenarios/storm.yaml", &format!("checks:\n{checks}"));
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nstore: sqlite:wachta.db\nweb: {{listen: \"127.0.0.1:0\", \
             external_url: \"http://127.0.0.1:1/\"}}\nalerting:\n  receivers:\n    hook: {{webhook: {{url: \
             \"{hook_url}\"}}}}\n    phone: {{ntfy: {{topic: storm, url: \"{phone_url}\"}}}}\n  \
             routes: [{{to: [hook, phone], group_wait: 0s}}]\n"
        ),
    );

    let nobody = Receiver::listen().await;
    let mut keeper = Keeper::start(&folder, &shop, &nobody, serve).await;
    for kill in 0..kills {
        {
            let (down, broken) = &mut *gateway.0.lock().unwrap();
            *down = DOWN.contains(&(kill % 100));
            broken.extend((0..BREAK).map(|_| random(&mut seed, SCENARIOS)));
            while broken.len() > BREAK * BROKEN {
                broken.pop_front();
            }
        }
        // The moment is what this is about: anywhere between a start and the end of a storm.
        tokio::time::sleep(Duration::from_millis(random(&mut seed, 2500))).await;
        keeper.agent.kill();
        until("an agent runs again", PATIENCE, async || {
            keeper.look().await;
            (!keeper.agent.ended()).then_some(())
        })
        .await;
        if kill == DOWN.end - 1 {
            let all = |heard: &[Value]| -> BTreeSet<String> {
                let others =
                    heard.iter().flat_map(|notification| notification["others"].as_array().into_iter().flatten());
                heard.iter().chain(others).map(|one| word(one, "subject").to_owned()).collect()
            };
            let uncounted =
                |heard: &[Value]| heard.iter().any(|notification| notification["omitted"].as_u64() > Some(0));
            until("the storm is told", PATIENCE, async || {
                let heard = hook.heard();
                (all(&heard).len() > 50 && uncounted(&heard)).then_some(())
            })
            .await;
        }
    }
    *gateway.0.lock().unwrap() = (false, VecDeque::new());
    until("all is well, and everybody knows", PATIENCE, async || {
        keeper.look().await;
        let incidents: Value = serde_json::from_str(&keeper.agent.get("/api/v1/incidents").await).ok()?;
        let is_open = |incident: &Value| incident["resolved_at"].is_null();
        let any = incidents.as_array()?.iter().any(is_open);
        (!any && open(&hook.heard()).is_empty()).then_some(())
    })
    .await;
    let starts = keeper.starts;
    assert_eq!(keeper.agent.stop().await, Some(0));
    assert!(starts as u64 > kills, "{starts} starts");

    // The truth: what the store says was owed. Each incident was told as part of one group at most.
    let store = Sqlite::open(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();
    let mut owed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for incident in store.incidents(1_000_000).await.unwrap() {
        assert!(!incident.is_open(), "{}", incident.dedup_key());
        for notification in store.notifications(&incident.dedup_key()).await.unwrap() {
            assert_eq!(notification.state, "sent", "{}", notification.notification.id);
            owed.entry(notification.notification.receiver.clone()).or_default().insert(notification.notification.id);
        }
    }
    store.close().await;

    let heard = hook.heard();
    let ids: BTreeSet<String> =
        heard.iter().map(|notification| word(notification, "notification").to_owned()).collect();
    assert_eq!(Some(&ids), owed.get("hook"), "what is owed is heard, and nothing else");
    let mut firsts: BTreeMap<&str, usize> = BTreeMap::new();
    for notification in heard.iter().filter(|notification| notification["repeat"] != true) {
        *firsts.entry(word(notification, "notification")).or_default() += 1;
    }
    assert!(firsts.values().all(|count| *count == 1), "a repeat says that it is one: {firsts:?}");
    let mut events: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for notification in &heard {
        if seen.insert(word(notification, "notification")) {
            events.entry(word(notification, "dedup_key")).or_default().push(word(notification, "event"));
        }
    }
    for (key, events) in &events {
        let count = |event: &str| events.iter().filter(|one| **one == event).count();
        let ends = (events.first(), events.last());
        assert_eq!(ends, (Some(&"opened"), Some(&"resolved")), "{key}: {events:?}");
        assert_eq!((count("opened"), count("resolved")), (1, 1), "{key}: {events:?}");
    }

    let is_marked = |message: &Value| word(message, "title").ends_with("(repeated)");
    let (marked, plain): (Vec<Value>, Vec<Value>) = phone.heard().into_iter().partition(is_marked);
    let owed = owed.get("phone").map_or(0, BTreeSet::len);
    assert!(plain.len() <= owed && plain.len() + marked.len() >= owed, "{} + {} of {owed}", plain.len(), marked.len());
    eprintln!("{kills} kills: {} keys, {} notifications, {} repeats", events.len(), ids.len(), heard.len() - ids.len());
    replay(folder.path(), &shop).await;
    stop.cancel();
}
