//! Slack's button, with a server that opens `WebSockets` like Socket Mode and sends clicks over them.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::server::{Answer, Request, serve};
use super::*;
use crate::notify::slack;
use crate::store::Sqlite;
use crate::tasks::Tasks;

type Peer = WebSocketStream<TcpStream>;

/// Returns an envelope with a click on the button by a user.
fn envelope(id: &str, key: &str, user: &str) -> Message {
    let payload = json!({
        "type": "block_actions", "user": {"id": "U1", "name": user}, "channel": {"id": "C1"},
        "actions": [{"type": "button", "action_id": "wachta_acknowledge", "value": key}],
    });
    Message::text(json!({"type": "interactive", "envelope_id": id, "payload": payload}).to_string())
}

/// Waits for the next confirmed envelope and returns its id.
async fn acknowledged(peer: &mut Peer) -> String {
    loop {
        if let Message::Text(text) = peer.next().await.expect("it is open").expect("it is whole") {
            let body: Json = serde_json::from_str(&text).unwrap();
            return body["envelope_id"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn a_press_acknowledges_and_a_new_connection_follows_when_slack_asks_for_it() {
    let sockets = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = sockets.local_addr().unwrap();
    let opened = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&opened);
    let rule = move |request: &Request| match request.path.as_str() {
        "/api/apps.connections.open" => {
            assert_eq!(request.header("authorization"), Some("Bearer xapp-hidden-token"));
            *counted.lock().unwrap() += 1;
            Answer::ok(&json!({"ok": true, "url": format!("ws://{place}/link/?ticket=hidden-ticket")}))
        }
        _ => Answer::ok(&json!({"ok": true})),
    };
    let (address, mut requests) = serve(rule).await;
    let kind = ReceiverKind::Slack(Slack::Token {
        token: Credential::text("xoxb-hidden-token"),
        channel: "#shop".into(),
        url: url(address, "/api/"),
        app_token: Some(Credential::text("xapp-hidden-token")),
    });
    let (sender, mut feedback) = mpsc::channel(16);
    let (tasks, stop) = (Tasks::unregistered(CancellationToken::new()), CancellationToken::new());
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let store = Sqlite::open("sqlite::memory:").await.unwrap();
    let mut delivery_service =
        DeliveryService::new(Arc::new(store), metrics, tools(), &tasks, &stop).with_feedback(sender);
    delivery_service.serve(&[receiver(kind)], &Links::default()).await;

    let accept = async || {
        let (stream, _) = sockets.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    };
    let mut peer = accept().await;
    peer.send(Message::text(json!({"type": "hello", "num_connections": 1}).to_string())).await.unwrap();
    // Messages other than clicks are ignored, but their envelopes are confirmed.
    for text in ["", "nothing", "[]", "{\"envelope_id\": {}}", "{\"type\": \"interactive\", \"payload\": 7}"] {
        peer.send(Message::text(text)).await.unwrap();
    }
    peer.send(Message::Binary(vec![0, 159, 146, 150].into())).await.unwrap();
    peer.send(Message::text("{\"envelope_id\": \"e0\", \"payload\": {\"type\": \"shortcut\"}}")).await.unwrap();
    assert_eq!(acknowledged(&mut peer).await, "e0");
    // A click is confirmed to Slack before it is processed.
    peer.send(envelope("e1", "shop-checkout:1@abc", "ania")).await.unwrap();
    assert_eq!(acknowledged(&mut peer).await, "e1");
    let pressed = feedback.recv().await.unwrap();
    assert_eq!((pressed.key.as_str(), pressed.author.as_str()), ("shop-checkout:1@abc", "ania (Slack)"));
    assert_eq!(pressed.action, OperatorAction::Acknowledge);
    // If the command is rejected, the user receives the reason.
    pressed.answer.send(Err("`shop-checkout:1` is acknowledged by bob".into())).unwrap();
    let refusal = loop {
        let request = requests.recv().await.unwrap();
        if request.path != "/api/apps.connections.open" {
            break request;
        }
    };
    assert_eq!(
        (refusal.path.as_str(), refusal.header("authorization")),
        ("/api/chat.postEphemeral", Some("Bearer xoxb-hidden-token"))
    );
    assert_eq!(
        refusal.json(),
        json!({"channel": "C1", "user": "U1", "text": "`shop-checkout:1` is acknowledged by bob"})
    );
    // After a refresh request, earlier clicks are processed, and a new connection follows.
    peer.send(envelope("e2", "shop-checkout:2@abc", "ola")).await.unwrap();
    peer.send(Message::text(json!({"type": "disconnect", "reason": "refresh_requested"}).to_string())).await.unwrap();
    let pressed = feedback.recv().await.unwrap();
    assert_eq!(pressed.key, "shop-checkout:2@abc");
    pressed.answer.send(Ok("done".into())).unwrap();
    let mut peer = accept().await;
    // A message that is too long ends the connection, and another one follows.
    let _ = peer.send(Message::text("x".repeat((1 << 20) + 1))).await;
    let mut peer = accept().await;
    peer.send(envelope("e3", "shop-checkout:3@abc", "ania")).await.unwrap();
    assert_eq!(acknowledged(&mut peer).await, "e3");
    assert_eq!(feedback.recv().await.unwrap().key, "shop-checkout:3@abc");
    assert_eq!(*opened.lock().unwrap(), 3);
    stop.cancel();
    tasks.ended().await;
}

#[test]
fn only_what_can_be_acknowledged_has_a_button() {
    let value =
        |notification: &Notification| slack::button(notification).map(|button| button["elements"][0]["value"].clone());
    assert_eq!(value(&notification(1)), Some(notification(1).dedup_key().into()));
    assert_eq!(value(&resolved(1)), None);
    let mut taken = notification(1);
    taken.incident.acknowledged =
        Some(crate::incident::Acknowledgement { author: "ania".into(), at: at(30), until: None });
    assert_eq!(value(&taken), None);
    let long = Notification { key: format!("{}:1", "k".repeat(2000)), ..notification(1) };
    assert_eq!(value(&long), None, "a value that Slack would refuse");
}
