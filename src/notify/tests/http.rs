//! Receivers that use HTTP: the requests, their limits, and the interpretation of responses.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpSocket;

use super::server::{Answer, script, serve};
use super::*;
use crate::notify::{alertmanager, message, ntfy, pagerduty, slack, teams, telegram, webhook};
use crate::secret::Masked;

const TOKEN: &str = "hidden-token-1234";

/// Returns every kind of receiver for an address, with the path of its requests.
fn kinds(address: SocketAddr) -> Vec<(&'static str, ReceiverKind)> {
    let token = || Credential::text(TOKEN);
    let hook = || Credential::text(url(address, &format!("/in/{TOKEN}")));
    let hook_path = "/in/hidden-token-1234";
    let form =
        |format| ReceiverKind::Webhook(Webhook { url: hook(), headers: vec![("x-key".into(), token())], format });
    vec![
        (hook_path, form(WebhookFormat::Wachta)),
        (hook_path, form(WebhookFormat::Alertmanager)),
        (
            "/api/v2/alerts",
            ReceiverKind::Alertmanager(Alertmanager {
                urls: vec![Credential::text(url(address, ""))],
                resend: Duration::from_mins(1),
            }),
        ),
        (
            "/v2/enqueue",
            ReceiverKind::PagerDuty(PagerDuty { routing_key: token(), url: url(address, "/v2/enqueue"), api: None }),
        ),
        (
            "/api/chat.postMessage",
            ReceiverKind::Slack(Slack::Token {
                token: token(),
                channel: "#shop".into(),
                url: url(address, "/api/"),
                app_token: None,
            }),
        ),
        (hook_path, ReceiverKind::Slack(Slack::Hook { url: hook() })),
        (hook_path, ReceiverKind::Teams(Teams { url: hook() })),
        (
            "/bothidden-token-1234/sendMessage",
            ReceiverKind::Telegram(Telegram {
                token: token(),
                chat: "-100".into(),
                thread: Some(7),
                url: url(address, ""),
            }),
        ),
        (
            "/",
            ReceiverKind::Ntfy(Ntfy {
                url: url(address, ""),
                topic: Credential::text("shop-topic"),
                token: Some(token()),
            }),
        ),
    ]
}

/// Returns the successful response of each kind, in the order of [`kinds`].
fn good() -> Vec<Answer> {
    vec![
        Answer::Status(204),
        Answer::Status(200),
        Answer::Status(200),
        Answer::Full(202, "", json!({"status": "success", "message": "Event processed", "dedup_key": "k"}).to_string()),
        Answer::ok(&json!({"ok": true, "channel": "C1", "ts": "17.5"})),
        Answer::Full(200, "", "ok".into()),
        Answer::Status(202),
        Answer::ok(&json!({"ok": true, "result": {"message_id": 42}})),
        Answer::ok(&json!({"id": "x", "event": "message"})),
    ]
}

#[tokio::test]
async fn what_is_taken_is_taken_and_at_the_right_place() {
    for (at, answer) in good().into_iter().enumerate() {
        let (address, mut requests) = script([answer]).await;
        let (path, kind) = kinds(address).swap_remove(at);
        let receiver = receiver(kind);
        let tried = try_once(&receiver, &notification(1), None).await;
        assert_eq!(shown(&tried), "sent", "{path}");
        let request = requests.recv().await.unwrap();
        assert_eq!(request.path, path);
        // Every format contains the name of the scenario.
        let body = String::from_utf8(request.bytes.clone()).unwrap();
        assert!(body.contains("Shop checkout"), "{body}");
        let authorization = request.header("authorization");
        let expected = match &receiver.kind {
            ReceiverKind::Slack(Slack::Token { .. }) | ReceiverKind::Ntfy(_) => Some("Bearer hidden-token-1234"),
            _ => None,
        };
        assert_eq!(authorization, expected, "{path}");
        if let ReceiverKind::Webhook(_) = receiver.kind {
            assert_eq!(request.header("x-key"), Some(TOKEN));
            assert_eq!(request.header("idempotency-key"), Some("shop-checkout:1#1@tickets"));
        } else if !matches!(receiver.kind, ReceiverKind::PagerDuty(_)) {
            assert!(!body.contains(TOKEN), "{body}");
        }
    }
}

#[tokio::test]
async fn what_bad_answers_mean() {
    let count = good().len();
    let check = async |answer: Answer, expected: &dyn Fn(usize) -> String| {
        for at in 0..count {
            let (address, mut requests) = script([answer.clone()]).await;
            let (path, kind) = kinds(address).swap_remove(at);
            let tried = try_once(&receiver(kind), &notification(1), None).await;
            let (shown, expected) = (shown(&tried), expected(at));
            assert!(shown.starts_with(&expected), "{at} {path} {answer:?}: {shown}, not {expected}");
            // Alertmanager has no secret that its response could repeat.
            assert!(at == 2 || !shown.contains(TOKEN) && !tried.response.contains(TOKEN), "{shown}");
            // There is no second request, and no redirect is followed.
            requests.recv().await.unwrap();
            assert!(requests.try_recv().is_err());
        }
    };
    let echo = || {
        json!({"ok": false, "error": "invalid", "seen": TOKEN, "description": format!("at /bot{TOKEN}/")}).to_string()
    };
    for status in [400, 413, 422] {
        let response = format!("failed: the receiver returned status {status}");
        check(Answer::Full(status, "", echo()), &|_| response.clone()).await;
    }
    // A wrong credential or address, which can be corrected.
    for status in [401, 403, 404, 407, 410] {
        let response = format!("refused all: the receiver returned status {status}");
        check(Answer::Full(status, "", echo()), &|_| response.clone()).await;
    }
    let moved = Answer::Full(302, "location: http://127.0.0.1:1/\r\n", String::new());
    check(moved, &|_| "refused all: the receiver returned status 302".into()).await;
    for status in [408, 500, 501] {
        check(Answer::Status(status), &|_| format!("refused: the receiver returned status {status}")).await;
    }
    for status in [502, 503, 504] {
        check(Answer::Status(status), &|_| format!("refused all: the receiver returned status {status}")).await;
    }
    let busy = |status| Answer::Full(status, "retry-after: 17\r\n", echo());
    check(busy(429), &|_| "refused all 17s: the receiver returned status 429".into()).await;
    check(busy(503), &|_| "refused all 17s: the receiver returned status 503".into()).await;
    // PagerDuty requires a few minutes.
    let alone = |at| if at == 3 { "refused all 120s: " } else { "refused all: " }.to_owned();
    check(Answer::Status(429), &alone).await;
    check(Answer::HangUp, &|_| "unsure all: no response: ".into()).await;

    // Slack, Telegram and PagerDuty report the result in the body.
    let by_body =
        |at: usize, otherwise: &str| if (3..=5).contains(&at) || at == 7 { otherwise } else { "sent" }.to_owned();
    check(Answer::Full(200, "", "<html>welcome</html>".into()), &|at| {
        by_body(at, "refused all: got a web page instead")
    })
    .await;
    // Any good status counts as accepted unless the body contradicts it.
    check(Answer::Cut(200), &|at| by_body(at, "sent")).await;
    let refused = |at: usize| match at {
        3 => "sent".to_owned(),
        at => by_body(at, "failed: the receiver returned status 200 OK: "),
    };
    check(Answer::Full(200, "", echo()), &refused).await;
}

#[tokio::test]
async fn a_receiver_that_says_nothing_is_not_waited_for_long() {
    for at in 0..good().len() {
        // Time is advanced from the first request on, so that each kind needs its own server.
        let (address, _requests) = script([Answer::Silence]).await;
        let tried = try_once(&receiver(kinds(address).swap_remove(at).1), &notification(1), None).await;
        assert!(shown(&tried).starts_with("unsure all: no response: "), "{at}: {}", shown(&tried));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn slack_says_in_the_body_what_may_pass() {
    for (body, head, expected) in [
        (json!({"ok": false, "error": "ratelimited"}), "retry-after: 9\r\n", "refused all 9s: "),
        (json!({"ok": false, "error": "ratelimited", "retry_after": 11}), "", "refused all 11s: "),
        (json!({"ok": false, "error": "ratelimited"}), "", "refused all 30s: "),
        (json!({"ok": false, "error": "service_unavailable"}), "", "refused all: "),
        (json!({"ok": false, "error": "internal_error"}), "", "unsure: "),
        (json!({"ok": false, "error": "not_in_channel"}), "", "refused all: "),
        (json!({"ok": false, "error": "invalid_auth"}), "", "refused all: "),
        (json!({"ok": false, "error": "msg_too_long"}), "", "failed: "),
        (json!({"success": true}), "", "sent"),
    ] {
        let (address, _requests) = script([Answer::Full(200, head, body.to_string())]).await;
        let tried = try_once(&receiver(kinds(address).swap_remove(4).1), &notification(1), None).await;
        assert!(shown(&tried).starts_with(expected), "{body}: {}", shown(&tried));
    }
}

#[tokio::test]
async fn telegram_says_in_the_body_how_long_to_wait() {
    let body =
        json!({"ok": false, "error_code": 429, "description": "Too Many Requests", "parameters": {"retry_after": 23}});
    let (address, _requests) = script([Answer::Full(429, "", body.to_string())]).await;
    let tried = try_once(&receiver(kinds(address).swap_remove(7).1), &notification(1), None).await;
    assert!(shown(&tried).starts_with("refused all 23s: "), "{}", shown(&tried));
}

#[tokio::test]
async fn without_a_connection_nothing_can_have_arrived() {
    // A socket that is bound but does not listen refuses connections.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    for (_, kind) in kinds(socket.local_addr().unwrap()) {
        let shown = shown(&try_once(&receiver(kind), &notification(1), None).await);
        assert!(shown.starts_with("refused all: no connection: ") && !shown.contains(TOKEN), "{shown}");
    }
}

#[tokio::test]
async fn a_credential_that_is_not_there_is_waited_for() {
    let missing = || Credential::Env("WACHTA_NOT_SET".into());
    let base: url::Url = "http://127.0.0.1:1/".parse().unwrap();
    for kind in [
        ReceiverKind::Webhook(Webhook { url: missing(), headers: Vec::new(), format: WebhookFormat::Wachta }),
        ReceiverKind::Alertmanager(Alertmanager { urls: vec![missing()], resend: Duration::from_mins(1) }),
        ReceiverKind::PagerDuty(PagerDuty { routing_key: missing(), url: base.clone(), api: None }),
        ReceiverKind::Slack(Slack::Token { token: missing(), channel: "c".into(), url: base.clone(), app_token: None }),
        ReceiverKind::Slack(Slack::Hook { url: missing() }),
        ReceiverKind::Teams(Teams { url: missing() }),
        ReceiverKind::Telegram(Telegram { token: missing(), chat: "1".into(), thread: None, url: base.clone() }),
        ReceiverKind::Ntfy(Ntfy { url: base.clone(), topic: missing(), token: None }),
    ] {
        let tried = try_once(&receiver(kind), &notification(1), None).await;
        assert_eq!(shown(&tried), "refused: the variable `WACHTA_NOT_SET` is not set, or is not text");
    }
}

fn wording() -> message::MessageRenderer {
    message::MessageRenderer::new(&template::Templates::default(), &links())
}

#[test]
fn the_webhook_body_is_documented() {
    let notification = Notification { queued_at: at(0), ..notification(7) };
    let body = webhook::body(&notification, &wording().message(&notification), &links());
    golden("webhook.json", &format!("{body:#}\n"));
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/webhook.md")).unwrap();
    for key in body.as_object().unwrap().keys() {
        assert!(docs.contains(&format!("| `{key}` |")), "`{key}` is not documented");
    }
}

#[tokio::test]
async fn a_key_of_any_characters_is_no_hindrance() {
    let (address, mut requests) = script([Answer::Status(200)]).await;
    let notification = Notification { id: "żółw\n:1".into(), key: "żółw\n:1".into(), ..notification(1) };
    assert_eq!(shown(&try_once(&webhook(address), &notification, None).await), "sent");
    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("idempotency-key"), Some("%C5%BC%C3%B3%C5%82w%0A:1"));
    assert_eq!(request.json()["dedup_key"], "żółw\n:1");
}

#[test]
fn the_form_of_alertmanager() {
    let mut notification = Notification { others: template::sample().others, uncounted: 2, ..notification(7) };
    let body = webhook::alertmanager_body(&notification, &wording().message(&notification), &links(), &[], Utc::now());
    golden("webhook-alertmanager.json", &format!("{body:#}\n"));
    notification = resolved(7);
    let body = webhook::alertmanager_body(&notification, &wording().message(&notification), &links(), &[], Utc::now());
    assert_eq!((&body["status"], &body["alerts"][0]["status"]), (&json!("resolved"), &json!("resolved")));
    assert_eq!(body["alerts"][0]["endsAt"], "2027-01-15T08:01:00.250Z");
    assert_eq!(body["commonAnnotations"], body["alerts"][0]["annotations"]);
}

/// Returns the single PagerDuty event of a notification without receiver state.
fn page(notification: &Notification) -> Json {
    let (mut events, _) = pagerduty::events(notification, None, &wording().message(notification), &wording());
    assert_eq!(events.len(), 1);
    events.swap_remove(0)
}

#[test]
fn what_receivers_are_sent() {
    let notification =
        Notification { others: template::sample().others, note: Some("was <timeout>".into()), ..notification(7) };
    let message = wording().marked(&Notification { repeat: true, ..notification.clone() }, 500);
    let all = json!({
        "pagerduty": page(&notification),
        "pagerduty resolved": page(&resolved(7)),
        "slack": slack::content(&message),
        "teams": teams::card(&message),
        "telegram": telegram::html(&message),
        "ntfy": ntfy::body(&message),
    });
    golden("receivers.json", &format!("{all:#}\n"));
}

#[test]
fn limits_are_kept_and_no_markup_is_cut() {
    let notification = endless();
    let message = wording().marked(&Notification { repeat: true, ..notification.clone() }, 500);
    let units = |text: &str| text.encode_utf16().count();

    let event = page(&notification);
    assert!(event.to_string().len() <= 512_000 - 100, "{}", event.to_string().len());
    assert!(event["payload"]["summary"].as_str().unwrap().chars().count() <= 1024);
    assert_eq!(event["dedup_key"].as_str().unwrap().len(), 64);
    assert_eq!(event["payload"]["custom_details"]["also_affected"].as_array().unwrap().len(), 50);
    let end = Notification { event: Event::Resolved, ..notification.clone() };
    let end = page(&end);
    assert_eq!(end, json!({"event_action": "resolve", "dedup_key": event["dedup_key"]}));

    let content = slack::content(&message);
    let blocks = content["attachments"][0]["blocks"].as_array().unwrap();
    for block in blocks.iter().filter(|block| block["type"] == "section") {
        let text = block["text"]["text"].as_str().unwrap();
        assert!(units(text) <= 3000 && units(text) > 600, "{}", units(text));
        assert!(entities_are_whole(text), "{text}");
    }
    let title = content["text"].as_str().unwrap();
    assert!(title.ends_with("(repeated)*") && units(title) <= 3000 && entities_are_whole(title), "{title}");
    assert_eq!(title.matches('*').count(), 2);
    assert!(blocks[1]["elements"].as_array().unwrap().iter().all(|link| units(link["text"].as_str().unwrap()) <= 3000));

    let card = teams::card(&message);
    let size = card.to_string().len();
    assert!(size <= 27_000 && size > 24_000, "{size}");
    let text = card["attachments"][0]["content"]["body"][1]["text"].as_str().unwrap();
    let escaped = text.trim_end_matches('…');
    assert_eq!((escaped.len() - escaped.trim_end_matches('\\').len()) % 2, 0, "an escape is cut");

    let html = telegram::html(&message);
    assert!(units(&html) <= 4096 && units(&html) > 3000, "{}", units(&html));
    assert_eq!((html.matches("<b>").count(), html.matches("</b>").count()), (1, 1));
    assert_eq!(html.matches("<a ").count(), html.matches("</a>").count());
    assert!(entities_are_whole(&html), "{html}");

    let body = ntfy::body(&message);
    assert!(body["message"].as_str().unwrap().len() <= 4096 && body["title"].as_str().unwrap().len() <= 250);
    assert_eq!(body["actions"].as_array().unwrap().len(), 3);

    let receiver_state = alertmanager::receiver_state(&notification, &message, &wording(), None, at(0));
    let size = receiver_state.to_string().len();
    assert!(size < 100_000, "{size}");
}

/// Returns whether each `&` starts a complete entity.
fn entities_are_whole(text: &str) -> bool {
    text.split('&').skip(1).all(|rest| ["amp;", "lt;", "gt;", "quot;"].iter().any(|entity| rest.starts_with(entity)))
}

#[tokio::test]
async fn what_becomes_louder_pages_again() {
    // PagerDuty: updates of an open alert page nobody (prometheus/alertmanager#1587).
    let (address, mut requests) = serve(|_| Answer::Full(202, "", json!({"status": "success"}).to_string())).await;
    let pager = receiver(kinds(address).swap_remove(3).1);
    let quiet = Notification { incident: Incident { severity: Severity::Warning, ..incident(7) }, ..notification(7) };
    let louder = Notification { event: Event::Updated, ..notification(7) };
    let quieter = Notification { event: Event::Updated, ..quiet.clone() };
    let mut receiver_state = None;
    for (notification, expected) in [
        (&quiet, &["trigger shop-checkout:7"][..]),
        (&quieter, &["trigger shop-checkout:7"]),
        (&louder, &["trigger shop-checkout:7 critical", "resolve shop-checkout:7"]),
        (&louder, &["trigger shop-checkout:7 critical"]),
        (&quieter, &["trigger shop-checkout:7 critical"]),
        (&resolved(7), &["resolve shop-checkout:7 critical"]),
    ] {
        let tried = try_once(&pager, notification, receiver_state.as_ref()).await;
        assert_eq!(shown(&tried), "sent");
        receiver_state = tried.receiver_state.or(receiver_state);
        for expected in expected {
            let event = requests.recv().await.unwrap().json();
            let told = ["event_action", "dedup_key"].map(|name| event[name].as_str().unwrap().to_owned());
            assert_eq!(told.join(" "), *expected, "{receiver_state:?}");
        }
        assert!(requests.try_recv().is_err());
    }
    // The trigger is accepted and the resolve is not: both are sent again.
    let (address, mut requests) = serve(|request| {
        let taken = request.json()["event_action"] == "trigger";
        Answer::Full(if taken { 202 } else { 500 }, "", json!({"status": "success"}).to_string())
    })
    .await;
    let pager = receiver(kinds(address).swap_remove(3).1);
    let known = json!({"key": "shop-checkout:7", "severity": "warning"});
    let tried = try_once(&pager, &louder, Some(&known)).await;
    assert!(shown(&tried).starts_with("refused") && tried.receiver_state.is_none(), "{}", shown(&tried));
    assert_eq!(requests.recv().await.unwrap().json()["dedup_key"], "shop-checkout:7 critical");

    // Slack: an update in place is easily overlooked.
    let (address, mut requests) = serve(|_| Answer::ok(&json!({"ok": true, "channel": "C1", "ts": "17.5"}))).await;
    let slack = receiver(kinds(address).swap_remove(4).1);
    let receiver_state = try_once(&slack, &quiet, None).await.receiver_state;
    let after = try_once(&slack, &louder, receiver_state.as_ref()).await.receiver_state;
    let _ = try_once(&slack, &louder, after.as_ref()).await;
    let mut paths = Vec::new();
    while let Ok(request) = requests.try_recv() {
        paths.push(request.path.replace("/api/chat.", ""));
    }
    assert_eq!(paths, ["postMessage", "update", "postMessage", "update"]);
}

#[tokio::test]
async fn slack_updates_in_place_and_shows_the_screenshot() {
    let run = RunId::new();
    let folder = std::env::temp_dir().join(format!("wachta-slack-{run}"));
    let evidence = EvidenceFolder::new(&folder);
    let picture = Masked::picture(b"a picture".to_vec());
    let kept = evidence.keep(run, crate::outcome::EvidenceKind::Screenshot, "failure.png", picture);
    let kept = kept.await.unwrap();
    let place = std::sync::Arc::new(std::sync::OnceLock::new());
    let base = std::sync::Arc::clone(&place);
    let (address, mut requests) = serve(move |request| match request.path.as_str() {
        "/api/chat.update" if request.json()["ts"] == "gone" => {
            Answer::ok(&json!({"ok": false, "error": "message_not_found"}))
        }
        "/api/files.getUploadURLExternal" => Answer::ok(
            &json!({"ok": true, "upload_url": format!("http://{}/upload", base.get().unwrap()), "file_id": "F1"}),
        ),
        "/upload" => Answer::Full(200, "", "OK - 9".into()),
        _ => Answer::ok(&json!({"ok": true, "channel": "C1", "ts": "17.5"})),
    })
    .await;
    place.set(address).unwrap();
    let receiver = receiver(kinds(address).swap_remove(4).1);
    let slack = notifier(&receiver, &links(), &NotifierServices { evidence, ..tools() });
    let mut opened = notification(1);
    opened.incident.screenshot = Some(kept.path.clone());

    let tried = slack.notify(&opened, None).await;
    let receiver_state = tried.receiver_state.clone().unwrap();
    assert_eq!(
        (shown(&tried).as_str(), &receiver_state["channel"], &receiver_state["ts"]),
        ("sent", &json!("C1"), &json!("17.5"))
    );
    assert_eq!(requests.recv().await.unwrap().json()["channel"], "#shop");

    slack.after_delivery(&opened, Some(&receiver_state)).await;
    let asked = requests.recv().await.unwrap();
    assert_eq!(String::from_utf8(asked.bytes).unwrap(), "filename=screenshot.png&length=9");
    let uploaded = requests.recv().await.unwrap();
    assert_eq!((uploaded.path.as_str(), uploaded.bytes.as_slice()), ("/upload", b"a picture".as_slice()));
    assert_eq!(uploaded.header("authorization"), None);
    let completed = requests.recv().await.unwrap();
    assert_eq!(completed.path, "/api/files.completeUploadExternal");
    let body = completed.json();
    assert_eq!(
        (&body["files"][0]["id"], &body["channel_id"], &body["thread_ts"]),
        (&json!("F1"), &json!("C1"), &json!("17.5"))
    );

    // A reminder updates the message, and is posted as well.
    let reminder = Notification { event: Event::Reminder, ..opened.clone() };
    let tried = slack.notify(&reminder, Some(&receiver_state)).await;
    assert_eq!((shown(&tried).as_str(), tried.receiver_state), ("sent", None));
    assert_eq!(requests.recv().await.unwrap().path, "/api/chat.update");
    let response = requests.recv().await.unwrap().json();
    assert_eq!((&response["thread_ts"], &response["reply_broadcast"]), (&json!("17.5"), &json!(true)));

    let tried = slack.notify(&resolved(1), Some(&receiver_state)).await;
    assert_eq!(shown(&tried), "sent");
    let update = requests.recv().await.unwrap();
    assert_eq!((update.path.as_str(), &update.json()["channel"]), ("/api/chat.update", &json!("C1")));
    slack.after_delivery(&resolved(1), Some(&receiver_state)).await;

    // The message was deleted: a new one is posted.
    let tried = slack.notify(&resolved(1), Some(&json!({"channel": "C1", "ts": "gone"}))).await;
    assert_eq!((shown(&tried).as_str(), &tried.receiver_state.unwrap()["ts"]), ("sent", &json!("17.5")));
    assert_eq!(requests.recv().await.unwrap().path, "/api/chat.update");
    assert_eq!(requests.recv().await.unwrap().path, "/api/chat.postMessage");
    assert!(requests.try_recv().is_err());
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn telegram_answers_its_first_message() {
    let (address, mut requests) = serve(|_| Answer::ok(&json!({"ok": true, "result": {"message_id": 42}}))).await;
    let receiver = receiver(kinds(address).swap_remove(7).1);
    let tried = try_once(&receiver, &notification(1), None).await;
    assert_eq!(tried.receiver_state, Some(json!({"message_id": 42})));
    let first = requests.recv().await.unwrap().json();
    assert_eq!(
        (&first["chat_id"], &first["message_thread_id"], &first["reply_parameters"]),
        (&json!("-100"), &json!(7), &Json::Null)
    );
    let tried = try_once(&receiver, &resolved(1), Some(&json!({"message_id": 42}))).await;
    assert_eq!(tried.receiver_state, None);
    let second = requests.recv().await.unwrap().json();
    assert_eq!(second["reply_parameters"]["message_id"], 42);
    assert_eq!((&first["disable_notification"], &second["disable_notification"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn alertmanager_is_told_at_every_peer_and_again() {
    let (up, mut at_up) = serve(|_| Answer::Status(200)).await;
    let (down, mut at_down) = serve(|_| Answer::Status(503)).await;
    let urls = [up, down].map(|address| Credential::text(url(address, ""))).to_vec();
    let config = Alertmanager { urls, resend: Duration::from_secs(90) };
    let peers = notifier(&receiver(ReceiverKind::Alertmanager(config)), &links(), &tools());
    let tried = peers.notify(&notification(1), None).await;
    assert_eq!(shown(&tried), "sent");
    let told = at_up.recv().await.unwrap().json();
    assert_eq!(told, at_down.recv().await.unwrap().json());
    let time = |alert: &Json, key: &str| DateTime::parse_from_rfc3339(alert[key].as_str().unwrap()).unwrap().to_utc();
    let labels = json!({"alertname": "WachtaIncident", "dedup_key": "shop-checkout:1", "kind": "browser", "location": "waw-1",
        "scenario": "shop-checkout", "service": "shop", "severity": "critical", "team": "payments"});
    assert_eq!((&told[0]["labels"], time(&told[0], "startsAt")), (&labels, at(0)));
    // Four times the resend interval.
    let ahead = time(&told[0], "endsAt") - Utc::now();
    assert!(ahead <= chrono::TimeDelta::seconds(360) && ahead > chrono::TimeDelta::seconds(300), "{ahead}");

    // Resent from the receiver state alone, with an end in the future.
    let receiver_state = tried.receiver_state.unwrap();
    let receiver_states = [("shop-checkout:1".to_owned(), receiver_state.clone())];
    assert_eq!(peers.resend(&receiver_states, at(1000)).await, Vec::<String>::new());
    let again = at_up.recv().await.unwrap().json();
    assert_eq!((&again[0]["labels"], time(&again[0], "endsAt")), (&labels, at(1360)));

    // A raised severity changes a label, so that the former alert ends.
    let mut louder = notification(1);
    louder.incident.severity = Severity::Info;
    let before = alertmanager::receiver_state(&louder, &wording().message(&louder), &wording(), None, at(0));
    let after = alertmanager::receiver_state(
        &notification(1),
        &wording().message(&notification(1)),
        &wording(),
        Some(&before),
        at(990),
    );
    let alerts = alertmanager::of_memo(&after, at(1000), Duration::from_mins(1));
    let ends: Vec<_> =
        alerts.iter().map(|alert| (alert["labels"]["severity"].as_str().unwrap(), time(alert, "endsAt"))).collect();
    assert_eq!(ends, [("critical", at(1240)), ("info", at(990))]);
    assert_eq!(alertmanager::of_memo(&after, at(990 + 301), Duration::from_mins(1)).len(), 1);

    // The resolution, resent for five minutes.
    let tried = peers.notify(&resolved(1), Some(&receiver_state)).await;
    let receiver_state = tried.receiver_state.unwrap();
    at_up.recv().await.unwrap();
    let receiver_states = [("shop-checkout:1".to_owned(), receiver_state)];
    assert_eq!(peers.resend(&receiver_states, at(60 + 299)).await, Vec::<String>::new());
    let told = at_up.recv().await.unwrap().json();
    assert_eq!(time(&told[0], "endsAt"), at(60));
    assert_eq!(peers.resend(&receiver_states, at(60 + 301)).await, ["shop-checkout:1"]);
    assert!(at_up.try_recv().is_err());
}

#[tokio::test]
async fn alertmanager_took_what_was_right_of_a_bad_request() {
    let (half, _at_half) = serve(|_| Answer::Full(400, "", "\"invalid label set\"".into())).await;
    let (down, _at_down) = serve(|_| Answer::Status(500)).await;
    let urls = [half, down].map(|address| Credential::text(url(address, ""))).to_vec();
    let config = Alertmanager { urls, resend: Duration::from_mins(1) };
    let tried = try_once(&receiver(ReceiverKind::Alertmanager(config)), &notification(1), None).await;
    assert_eq!(shown(&tried), "failed: the receiver returned status 400 Bad Request: \"invalid label set\"");
    assert_eq!(tried.receiver_state, None);
}
