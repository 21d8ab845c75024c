//! `wachta alerts list`, `why`, `ack` and `silence` against an agent that runs: what is done, and what is said of it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;

use crate::command_line::{Ran, wachta};
use crate::support::agent::Agent;
use crate::support::receiver::Receiver;
use crate::support::{Folder, until};

/// How long a run and what comes of it may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A check of the front page every second; it fails, since no front page answers with 418.
fn check(folder: &Folder, name: &str, team: &str) {
    let text = format!(
        "checks:\n  {name}: {{http: \"${{env.SHOP_URL}}/\", status: 418, every: 1s, timeout: 900ms, \
         tags: {{team: {team}}}, alert: {{after: 1 of 1, recover_after: 1}}}}\n"
    );
    folder.write(&format!("scenarios/{name}.yaml"), &text);
}

/// An agent whose receiver is told at once, one incident in a notice.
async fn agent(folder: &Folder, shop: &Demo, receiver: &Receiver) -> Agent {
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"]}}\nstore: sqlite:wachta.db\n\
             web: {{listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:1/\"}}\n\
             alerting: {{receivers: {{hook: {{webhook: {{url: \"http://{}/\"}}}}}}, \
             routes: [{{to: [hook], group_by: [scenario], group_wait: 0s}}]}}\n",
            receiver.address
        ),
    );
    Agent::serve(folder.path(), shop).await
}

/// The keys and events that the receiver was told.
fn told(receiver: &Receiver) -> Vec<String> {
    let word =
        |notification: &serde_json::Value, name: &str| notification[name].as_str().unwrap_or_default().to_owned();
    receiver
        .heard()
        .iter()
        .map(|notification| format!("{} {}", word(notification, "dedup_key"), word(notification, "event")))
        .collect()
}

async fn hears(receiver: &Receiver, what: &str) {
    until(what, SOON, async || told(receiver).iter().any(|line| line == what).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_listed_explained_taken_over_and_silenced() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let receiver = Receiver::listen().await;
    let folder = Folder::new("alerts");
    check(&folder, "front", "web");
    let agent = agent(&folder, &shop, &receiver).await;
    let url = agent.url("");
    let ask = async |arguments: &[&str]| -> Ran {
        wachta(&folder, None, &[&["alerts"], arguments, &["--url", &url]].concat()).await
    };
    let says = async |arguments: &[&str], parts: &[&str]| -> String {
        let ran = ask(arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}\n{}", ran.said());
        for part in parts {
            assert!(ran.out.contains(part), "{arguments:?}: no {part:?} in\n{}", ran.said());
        }
        ran.out
    };

    hears(&receiver, "front:1 opened").await;
    let list = says(&["list"], &["front:1  warning  since 20", "Z  front: "]).await;
    assert_eq!(list.lines().count(), 1, "{list}");
    // By the scenario or by the key of its incident, newest first.
    for id in ["front", "front:1"] {
        let why =
            says(&["why", id], &["  opened: 1 bad of the last 1, 1 needed", "  queued: opened as front:1 for hook"])
                .await;
        assert!(why.find("notified:") < why.find("opened:"), "{why}");
    }

    says(&["ack", "front:1", "--author", "ania"], &["front:1 acknowledged by ania; notified: hook\n"]).await;
    says(&["why", "front"], &["  acknowledged: acknowledged by ania; reminders stopped"]).await;

    // What opens while it is silenced is told when the silence has ended.
    let reason = ["--for", "2h", "--reason", "provider is at it", "--author", "ania"];
    let silenced = says(&[&["silence", "team=shop", "--yes"], &reason[..]].concat(), &[" until 20"]).await;
    let id = silenced.split(' ').next().unwrap();
    let shown = format!("silenced {id}  team=shop  until 20");
    says(&["list"], &[&shown, "by ania: provider is at it\n"]).await;
    check(&folder, "cart", "shop");
    until("cart is held", SOON, async || {
        let ran = ask(&["why", "cart"]).await;
        ran.out.contains("  silence: silenced by ania until 20").then_some(())
    })
    .await;
    says(&["list"], &["cart:1  warning"]).await;
    // Who acknowledged is said once to everyone who knows of it.
    let expected = ["front:1 opened", "front:1 updated"];
    assert_eq!(told(&receiver), expected, "a silence is silent, and nothing is told twice");
    says(&["silence", "--end", id, "--author", "ania"], &[&format!("{id} has ended\n")]).await;
    hears(&receiver, "cart:1 opened").await;
    says(
        &["why", "cart:1"],
        &["  released: the silence or maintenance window has ended; notified if its next run is bad", "  delivered: "],
    )
    .await;
    let list = says(&["list"], &["front:1", "cart:1"]).await;
    assert!(!list.contains("silenced"), "{list}");

    let author = ["--author", "ania"];
    let long = "x".repeat(600);
    let cases: &[(&[&str], &str)] = &[
        (&["why", "nobody"], "no scenario, incident or agent with the id `nobody`"),
        (&["why", "no body/?#"], "no scenario, incident or agent with the id `no body/?#`"),
        (&["ack", "nobody:1", "--author", "ania"], "no open incident with the key `nobody:1`"),
        (&["ack", "front:1", "--author", &long], "`author` must have 1 to 500 characters"),
        (&["silence", "--end", "abc", "--author", "ania"], "no silence or maintenance with the id `abc`"),
        (&["silence", "shop", "--for", "2h", "--reason", "r", "--author", "a"], "like team=shop"),
        (&["silence", "a=b", "--for", "2", "--reason", "r", "--author", "a"], "`for`: `2` has no unit"),
        (&["silence", "a=b", "--for", "500d", "--reason", "r", "--author", "a"], "above 0 and at most a year"),
        (&["silence", "a=b", "--for", "2h", "--reason", &long, "--author", "a"], "500 characters per text"),
        (&["silence", "a=b", "--for", "2h", "--reason", "", "--author", "a"], "a silence needs `author` and `reason`"),
        (&["silence", "--for", "2h", "--reason", "r", "--author", "a"], "<KEY=VALUE>"),
        (&["silence", "a=b", "--for", "2h", "--author", "a"], "--reason"),
    ];
    for (arguments, part) in cases {
        let ran = ask(arguments).await;
        assert_eq!(ran.code, Some(2), "{arguments:?}\n{}", ran.said());
        assert!(ran.err.contains(part), "{arguments:?}: no {part:?} in\n{}", ran.said());
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for arguments in [&["list"][..], &["why", "front"], &[&["ack", "front:1"], &author[..]].concat()] {
        let url = format!("http://{nobody}/");
        let ran = wachta(&folder, None, &[&["alerts"], arguments, &["--url", &url]].concat()).await;
        let expected = format!("no agent is reachable at http://{nobody}; set its address with --url");
        assert!(ran.code == Some(2) && ran.err.contains(&expected), "{arguments:?}\n{}", ran.said());
    }

    // A page elsewhere cannot have a visitor's browser silence anything; what is no JSON is told so.
    let http = reqwest::Client::new();
    let silence = r#"{"match": {"team": "web"}, "for": "1h", "author": "a", "reason": "r"}"#;
    for (site, body, status, part) in [
        ("cross-site", silence, 403, "cross-site request rejected"),
        ("same-site", silence, 403, "cross-site request rejected"),
        ("same-origin", "{", 400, "error"),
        ("same-origin", r#"{"for": "1h", "mach": {}}"#, 400, "unknown field `mach`"),
    ] {
        let request = http.post(agent.url("/api/v1/silences")).header("sec-fetch-site", site);
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        let (is, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert!(is == status && text.contains(part) && text.starts_with("{\"error\":"), "{site} {body}: {is} {text}");
    }
    let list = says(&["list"], &[]).await;
    assert!(!list.contains("silenced"), "{list}");
    assert_eq!(told(&receiver), ["front:1 opened", "front:1 updated", "cart:1 opened"]);

    // Without an agent the store is read, and what is asked for waits there.
    let on_store = async |arguments: &[&str]| -> Ran {
        wachta(&folder, None, &[&["alerts"], arguments, &["--store", "sqlite:wachta.db"]].concat()).await
    };
    let ack = [&["ack", "cart:1"], &author[..]].concat();
    let ran = on_store(&ack).await;
    let refused = "error: an agent is running on sqlite:wachta.db; leave out --store";
    assert!(ran.code == Some(2) && ran.err.contains(refused), "{}", ran.said());
    assert_eq!(agent.stop().await, Some(0));
    let silence = [&["silence", "team=web"], &reason[..]].concat();
    let cases: [(&[&str], &str); 5] = [
        (&["list"], "cart:1  warning  since 20"),
        (&["why", "cart:1"], "  silence: silenced by ania until 20"),
        (&ack, "queued: acknowledge cart:1 by ania; applied when the agent starts\n"),
        (&silence, " of team=web until 20"),
        (&["list"], "queued: acknowledge cart:1 by ania\nqueued: silence "),
    ];
    for (arguments, part) in cases {
        let ran = on_store(arguments).await;
        assert!(ran.code == Some(0) && ran.out.contains(part), "{arguments:?}: no {part:?} in\n{}", ran.said());
    }
    let cases: [(&[&str], &str); 6] = [
        (&["why", "nobody"], "no data about `nobody` in this store"),
        (&["ack", "nobody:1", "--author", "ania"], "error: no incident with the key `nobody:1`"),
        (&["ack", "cart:1", "--author", ""], "`author` must have 1 to 500 characters"),
        (&["silence", "--end", id, "--author", "ania"], "no silence or maintenance with the id `"),
        (&["silence", "a=b", "--for", "2", "--reason", "r", "--author", "a"], "`for`: `2` has no unit"),
        (&["list", "--url", "http://127.0.0.1:1/"], "cannot be used with"),
    ];
    for (arguments, part) in cases {
        let ran = on_store(arguments).await;
        assert!(ran.code == Some(2) && ran.err.contains(part), "{arguments:?}: no {part:?} in\n{}", ran.said());
    }
    let agent = Agent::serve(folder.path(), &shop).await;
    let url = agent.url("");
    let shown = async |what: &[&str]| wachta(&folder, None, &[&["alerts"], what, &["--url", &url]].concat()).await.out;
    let list = shown(&["list"]).await;
    assert!(list.contains("  team=web  until 20"), "{list}");
    let why = shown(&["why", "cart"]).await;
    assert!(why.contains("  acknowledged: acknowledged by ania; reminders stopped"), "{why}");
    assert_eq!(on_store(&["list"]).await.out, list, "nothing is left to be carried out");
    hears(&receiver, "cart:1 updated").await;
    assert_eq!(told(&receiver), ["front:1 opened", "front:1 updated", "cart:1 opened", "cart:1 updated"]);
    assert_eq!(agent.stop().await, Some(0));
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_is_tried_on_what_happened() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let receiver = Receiver::listen().await;
    let folder = Folder::new("replay");
    check(&folder, "front", "web");
    let agent = agent(&folder, &shop, &receiver).await;
    hears(&receiver, "front:1 opened").await;
    let well = std::fs::read_to_string(folder.path().join("scenarios/front.yaml")).unwrap().replace("418", "200");
    folder.write("scenarios/front.yaml", &well);
    hears(&receiver, "front:1 resolved").await;

    let replay = async |arguments: &[&str]| -> Ran {
        // Without the variables of the scenarios: nothing is run.
        wachta(&folder, None, &[&["alerts", "replay", "--since", "1h"], arguments].concat()).await
    };
    let says = async |arguments: &[&str], parts: &[&str]| {
        let ran = replay(arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}\n{}", ran.said());
        for part in parts {
            assert!(ran.out.contains(part), "{arguments:?}: no {part:?} in\n{}", ran.said());
        }
        ran
    };
    let row = |name: &str, figures: [usize; 5]| {
        let [was, would, same, then, now] = figures;
        format!("{name:8}  {was:>4}  {would:>10}  {same:>9}  {then:>7}  {now:>5}\n")
    };
    // The same files, beside the agent that runs.
    let ran = says(&[], &["1 scenario; replayed from 20", &row("hook", [2, 2, 2, 0, 0])]).await;
    for line in ["Z  hook  opened  warning  front\n", "Z  hook  resolved  warning  front\n"] {
        assert!(ran.out.contains(line), "{}", ran.said());
    }
    assert!(!ran.out.contains("\n+ ") && !ran.out.contains("\n- "), "{}", ran.said());
    assert!(ran.err.contains("warning: ") && ran.err.contains("SHOP_URL"), "as `check` says it\n{}", ran.err);
    assert_eq!(agent.stop().await, Some(0));
    let before = std::fs::read(folder.path().join("wachta.db")).unwrap();

    // Another receiver, and a scenario that has still to fail a hundred times; in another folder, with the same store.
    let new = |after: u32, receivers: &str, to: &str| {
        let louder = well.replace("1 of 1", &after.to_string());
        folder.write("new/scenarios/front.yaml", &louder);
        let text = format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"]}}\n\
             alerting: {{receivers: {{{receivers}}}, routes: [{{to: [{to}], group_by: [scenario], group_wait: 0s}}]}}\n"
        );
        folder.write("new/wachta.yaml", &text);
    };
    let files = ["--config", "new/wachta.yaml", "--store", "sqlite:wachta.db"];
    let hook = "hook: {webhook: {url: \"http://127.0.0.1:1/\"}}";
    new(1, &format!("{hook}, team: {{webhook: {{url: \"http://127.0.0.1:1/\"}}}}"), "hook, team");
    says(
        &files,
        &[&row("hook", [2, 2, 2, 0, 0]), &row("team", [0, 2, 0, 0, 2]), "\n+ 20", "  team  opened  warning  front"],
    )
    .await;
    new(100, hook, "hook");
    says(&files, &[&row("hook", [2, 0, 0, 2, 0]), "\n- 20", "would be suppressed, by reason: below_threshold "]).await;
    folder.write("new/scenarios/front.yaml", &well.replace("front", "other"));
    let left = "of scenarios that are not in the files were omitted: front\n";
    says(&files, &[left, "no runs within this time: other\n", &row("hook", [2, 0, 0, 2, 0])]).await;
    assert!(before == std::fs::read(folder.path().join("wachta.db")).unwrap(), "the store is only read");

    // What is wrong with the files is told as `check` tells it.
    folder.write("new/scenarios/front.yaml", &well.replace("status", "statsu"));
    let ran = replay(&files).await;
    let checked = wachta(&folder, None, &["check", "new/scenarios"]).await;
    assert!(ran.code == Some(2) && ran.out.is_empty(), "{}", ran.said());
    let told = checked.out.split("\n\n").find(|problem| problem.contains("statsu")).expect("it is told");
    assert!(ran.err.contains(told), "{}\n{}", ran.said(), checked.out);
    let cases: &[(&[&str], &str)] = &[
        (&["--config", "nothing.yaml"], "nothing.yaml cannot be read"),
        (&["--store", "sqlite:nothing.db"], "cannot open sqlite:nothing.db"),
        (&["--store", "sqlite::memory:"], "ends with its agent"),
        (&["--store", "postgres://x"], "unknown store `postgres://x`; write sqlite:FILE"),
        (&["--since", "7"], "--since: `7` has no unit"),
        (&["--since", "500d"], "--since: write a duration above 0 and at most a year"),
    ];
    for (arguments, part) in cases {
        let ran = wachta(&folder, None, &[&["alerts", "replay"], *arguments].concat()).await;
        assert!(ran.code == Some(2) && ran.err.contains(part), "{arguments:?}: no {part:?} in\n{}", ran.said());
    }
    assert!(!folder.path().join("nothing.db").exists());
    stop.cancel();
}
