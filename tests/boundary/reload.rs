//! What a running agent makes of files that change.

use std::time::Duration;

use chrono::TimeDelta;
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;
use wachta::outcome::Outcome;
use wachta::store::{History as _, Incidents as _, Runs as _, Sqlite};

use crate::support::agent::Agent;
use crate::support::receiver::{Manners, Receiver};
use crate::support::{Folder, until};

/// How long a change may take to show on a busy machine.
const SOON: Duration = Duration::from_secs(20);

const SUCCESSFUL: &str = "wachta_config_last_reload_successful";
const SUCCEEDED_AT: &str = "wachta_config_last_reload_success_timestamp_seconds";
const RUNS: &str = "wachta_scenario_runs_total";
const INFO: &str = "wachta_scenario_info";

fn agent_file(folder: &Folder, listen: &str, receiver: &Receiver) {
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"]}}\nstore: sqlite:wachta.db\n\
             web: {{listen: \"{listen}\", external_url: \"http://127.0.0.1:1/\"}}\n\
             alerting: {{receivers: {{hook: {{webhook: {{url: \"http://{}/\"}}}}}}, routes: [{{to: [hook], group_wait: 0s}}]}}\n",
            receiver.address
        ),
    );
}

/// A check of the front page; `status` other than 200 is one that fails.
fn check(folder: &Folder, name: &str, status: u16) {
    let text = format!(
        "checks:\n  {name}: {{http: \"${{env.SHOP_URL}}/\", status: {status}, every: 1s, timeout: 900ms, alert: {{after: 1 of 1, recover_after: 1}}}}\n"
    );
    folder.write(&format!("scenarios/{name}.yaml"), &text);
}

async fn has(agent: &Agent, what: &str, name: &str, labels: &[(&str, &str)], expected: Option<f64>) {
    until(what, SOON, async || (agent.sample(name, labels).await == expected).then_some(())).await;
}

/// Two further runs of a scenario.
async fn goes_on(agent: &Agent, scenario: &str) {
    let runs = async || {
        let mut runs = 0.0;
        for verdict in ["passed", "failed", "degraded", "unknown"] {
            let labels = [("scenario", scenario), ("verdict", verdict)];
            runs += agent.sample(RUNS, &labels).await.unwrap_or_default();
        }
        runs
    };
    let before = runs().await;
    until("it goes on", SOON, async || (runs().await >= before + 2.0).then_some(())).await;
}

/// All runs of a scenario, oldest first.
async fn runs_of(store: &Sqlite, scenario: &str) -> Vec<Outcome> {
    let mut outcomes = store.recent(Some(scenario), 100_000).await.unwrap();
    outcomes.sort_by_key(|outcome| outcome.due_at);
    outcomes
}

async fn skipped(agent: &Agent) -> f64 {
    let mut skipped = 0.0;
    for cause in ["overlap", "missed"] {
        skipped += agent.sample("wachta_schedule_skipped_total", &[("cause", cause)]).await.unwrap();
    }
    skipped
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_taken_and_mistakes_keep_what_was() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let receiver = Receiver::listen().await;
    let folder = Folder::new("reload");
    agent_file(&folder, "127.0.0.1:0", &receiver);
    check(&folder, "steady", 200);
    check(&folder, "changing", 200);
    let agent = Agent::serve(folder.path(), &shop).await;
    has(&agent, "all is loaded", SUCCESSFUL, &[], Some(1.0)).await;
    has(&agent, "both are there", "wachta_scenarios", &[("state", "loaded")], Some(2.0)).await;
    goes_on(&agent, "steady").await;

    // A changed file is noticed by itself.
    let changed = "checks:\n  changing: {tcp: \"${env.SHOP_ADDRESS}\", every: 1s, alert: {severity: info}}\n";
    folder.write("scenarios/changing.yaml", changed);
    let label = [("scenario", "changing"), ("severity", "info")];
    has(&agent, "the change is taken", INFO, &label, Some(1.0)).await;
    goes_on(&agent, "changing").await;

    // When nothing changed, a signal and a request load all the same, and touch nothing.
    let loaded_at = async || agent.sample(SUCCEEDED_AT, &[]).await.unwrap();
    let before = loaded_at().await;
    agent.signal(Signal::SIGHUP);
    until("SIGHUP reloads", SOON, async || (loaded_at().await > before).then_some(())).await;
    let before = loaded_at().await;
    let (status, text) = agent.post("/-/reload").await;
    assert_eq!((status, text.as_str()), (200, "2 scenarios loaded, 0 problems\n"));
    assert!(loaded_at().await > before);

    // A bad file: its old version runs on, and everything says so.
    folder.write("scenarios/changing.yaml", "checks:\n  changing: {tpc: \"${env.SHOP_ADDRESS}\", every: 1s}\n");
    has(&agent, "the mistake is noticed", SUCCESSFUL, &[], Some(0.0)).await;
    let good_until = loaded_at().await;
    let (status, text) = agent.post("/-/reload").await;
    assert_eq!(status, 500, "{text}");
    assert!(text.contains("scenarios/changing.yaml:2:14"), "{text}");
    assert!(text.contains("tpc") && text.contains('^'), "{text}");
    has(&agent, "it is counted", "wachta_scenarios", &[("state", "refused")], Some(1.0)).await;
    has(&agent, "the old version stays", INFO, &label, Some(1.0)).await;
    goes_on(&agent, "changing").await;
    assert_eq!(loaded_at().await.to_bits(), good_until.to_bits(), "what failed is no success");
    assert!(agent.log().iter().any(|line| line.contains("scenarios/changing.yaml:2:14")));

    // A folder that is away for a moment takes nothing with it.
    std::fs::rename(folder.path().join("scenarios"), folder.path().join("away")).unwrap();
    let (status, text) = agent.post("/-/reload").await;
    assert_eq!(status, 500, "{text}");
    assert!(text.starts_with("2 scenarios loaded"), "{text}");
    goes_on(&agent, "steady").await;
    std::fs::rename(folder.path().join("away"), folder.path().join("scenarios")).unwrap();

    // Mended.
    folder.write("scenarios/changing.yaml", &changed.replace("info", "warning"));
    assert_eq!(agent.post("/-/reload").await.0, 200);
    has(&agent, "all is well", SUCCESSFUL, &[], Some(1.0)).await;
    let label = [("scenario", "changing"), ("severity", "warning")];
    has(&agent, "the new version is taken", INFO, &label, Some(1.0)).await;
    has(&agent, "nothing is refused", "wachta_scenarios", &[("state", "refused")], Some(0.0)).await;
    goes_on(&agent, "steady").await;

    // Through all of it, each due time was taken once and none was left out that is not counted as such.
    let skipped = skipped(&agent).await;
    assert_eq!(agent.stop().await, Some(0));
    let store = Sqlite::open(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();
    let mut left_out = 0.0;
    for scenario in ["steady", "changing"] {
        let runs = runs_of(&store, scenario).await;
        let phase = runs[0].due_at.timestamp_micros() % 1_000_000;
        for pair in runs.windows(2) {
            let apart = pair[1].due_at - pair[0].due_at;
            assert!(apart >= TimeDelta::seconds(1), "{scenario}: {} twice", pair[0].due_at);
            assert_eq!(pair[1].due_at.timestamp_micros() % 1_000_000, phase, "{scenario}: the phase stays");
            left_out += apart.num_milliseconds() as f64 / 1e3 - 1.0;
        }
    }
    assert!(left_out <= skipped, "{left_out} due times are missing, {skipped} were skipped");
    assert!(store.open_planned_runs("here").await.unwrap().is_empty());
    assert!(store.incidents(10).await.unwrap().is_empty());
    store.close().await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_goes_and_its_incident_resolves() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let (first, second) = (Receiver::listen().await, Receiver::listen().await);
    let folder = Folder::new("removed");
    agent_file(&folder, "127.0.0.1:0", &first);
    check(&folder, "steady", 200);
    check(&folder, "broken", 418);
    let missing = "checks:\n  elsewhere: {http: \"${env.SHOP_MISSING}/\", every: 1s}\n  beside: {tcp: \"${env.SHOP_ADDRESS}\", every: 1s}\n";
    folder.write("scenarios/missing.yaml", missing);
    let agent = Agent::serve(folder.path(), &shop).await;

    // One that misses a variable is refused by name; those beside it run.
    has(&agent, "one is refused", "wachta_scenarios", &[("state", "refused")], Some(1.0)).await;
    has(&agent, "the others run", "wachta_scenarios", &[("state", "loaded")], Some(3.0)).await;
    has(&agent, "that is no success", SUCCESSFUL, &[], Some(0.0)).await;
    let (status, text) = agent.post("/-/reload").await;
    assert_eq!(status, 500);
    assert!(text.contains("SHOP_MISSING") && text.contains("scenarios/missing.yaml:2:"), "{text}");
    goes_on(&agent, "beside").await;
    assert_eq!(agent.sample(INFO, &[("scenario", "elsewhere")]).await, None);
    std::fs::remove_file(folder.path().join("scenarios/missing.yaml")).unwrap();
    has(&agent, "no real incident", SUCCESSFUL, &[], Some(1.0)).await;

    let told = |receiver: &Receiver| -> Vec<(String, String)> {
        let text =
            |notification: &serde_json::Value, key: &str| notification[key].as_str().unwrap_or_default().to_owned();
        receiver
            .heard()
            .iter()
            .map(|notification| (text(notification, "dedup_key"), text(notification, "event")))
            .collect()
    };
    let of = |key: &str, event: &str| (key.to_owned(), event.to_owned());
    until("the failure is told", SOON, async || (!told(&first).is_empty()).then_some(())).await;
    has(&agent, "an incident is open", "wachta_incidents_open", &[("severity", "warning")], Some(1.0)).await;

    // The scenario goes: its series too, and nobody waits for its incident to end.
    std::fs::remove_file(folder.path().join("scenarios/broken.yaml")).unwrap();
    has(&agent, "its series go", INFO, &[("scenario", "broken")], None).await;
    has(&agent, "its incident ends", "wachta_incidents_open", &[("severity", "warning")], Some(0.0)).await;
    until("that is told", SOON, async || (told(&first).len() == 2).then_some(())).await;
    assert_eq!(told(&first), [of("broken:1", "opened"), of("broken:1", "resolved")]);
    assert!(!agent.get("/metrics").await.contains("\"broken\""));

    // Another address of a receiver is taken live; another address of the agent's own is not.
    agent_file(&folder, "127.0.0.1:1", &second);
    until("the new file is taken", SOON, async || {
        let log = agent.log();
        log.iter().any(|line| line.contains("`web.listen` changed: restart the agent to apply it")).then_some(())
    })
    .await;
    let (status, text) = agent.post("/-/reload").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("warning: `web.listen` changed") && text.contains("wachta.yaml"), "{text}");
    check(&folder, "broken", 418);
    until("the new receiver is told", SOON, async || (!told(&second).is_empty()).then_some(())).await;
    assert_eq!(told(&second), [of("broken:2", "opened")]);
    assert_eq!(told(&first).len(), 2);

    // A bad agent's file keeps the old one: its receiver as well.
    folder
        .write("wachta.yaml", "location: here\nscenarios: [scenarios/]\nalerting: {receivers: {hok: {webhok: {}}}}\n");
    has(&agent, "the mistake is noticed", SUCCESSFUL, &[], Some(0.0)).await;
    let (status, text) = agent.post("/-/reload").await;
    assert_eq!(status, 500);
    assert!(text.contains("wachta.yaml:3:") && text.contains("webhok"), "{text}");
    check(&folder, "broken", 200);
    until("the old receiver hears of the end", SOON, async || (told(&second).len() == 2).then_some(())).await;
    assert_eq!(told(&second), [of("broken:2", "opened"), of("broken:2", "resolved")]);
    goes_on(&agent, "steady").await;
    agent_file(&folder, "127.0.0.1:0", &second);
    has(&agent, "mended", SUCCESSFUL, &[], Some(1.0)).await;
    assert_eq!(agent.stop().await, Some(0));
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_behind_a_link_are_noticed() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let receiver = Receiver::listen().await;
    let folder = Folder::new("linked");
    agent_file(&folder, "127.0.0.1:0", &receiver);
    check(&folder, "first", 200);
    std::fs::rename(folder.path().join("scenarios"), folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", folder.path().join("scenarios")).unwrap();
    let agent = Agent::serve(folder.path(), &shop).await;
    check(&folder, "second", 200);
    has(&agent, "the new file is taken", INFO, &[("scenario", "second")], Some(1.0)).await;
    assert_eq!(agent.stop().await, Some(0));
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_any_part_of_the_agents_file_keeps_the_version_before() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let receiver = Receiver::listen().await;
    let folder = Folder::new("reload-parts");
    folder.write("blackbox.yml", "modules: {up: {prober: tcp}}\n");
    folder.write("web.yml", "http_server_config: {headers: {X-Frame-Options: sameorigin}}\n");
    let parts = [
        "location: here".to_owned(),
        "scenarios: [scenarios/]".into(),
        "allow: {env: [\"SHOP_*\"], files: [], exec: []}".into(),
        "store: sqlite:wachta.db".into(),
        "web: {listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:1/\", hosts: [wachta.lan], config_file: web.yml}"
            .into(),
        "evidence: {max_size: 200MB}".into(),
        "zabbix: {server: \"127.0.0.1:1\", host: wachta}".into(),
        "probe: {modules: blackbox.yml}".into(),
        "alerting:".into(),
        format!("  receivers: {{hook: {{webhook: {{url: \"http://{}/\"}}}}}}", receiver.address),
        "  routes: [{to: [hook], group_wait: 0s}]".into(),
    ];
    let good = parts.join("\n") + "\n";
    folder.write("wachta.yaml", &good);
    check(&folder, "steady", 200);
    let agent = Agent::serve(folder.path(), &shop).await;
    goes_on(&agent, "steady").await;
    let client = reqwest::Client::new();
    let asked = async |host: &str| {
        let request = client.get(agent.url("/api/v1/incidents")).header("host", host);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.headers().get("x-frame-options").map(|value| value.as_bytes().to_vec()))
    };
    let in_force = async || {
        assert_eq!(asked("wachta.lan").await, (200, Some(b"sameorigin".to_vec())));
        assert_eq!(asked("other.lan").await.0, 421);
        let probed = agent.get(&format!("/probe?module=up&target={}", receiver.address)).await;
        assert!(probed.contains("probe_success 1"), "{probed}");
    };
    in_force().await;
    // A part, what stands there instead, and where the mistake is.
    for (part, written, said) in [
        (0, "location: a b", "wachta.yaml:1:11: `location` must be"),
        (1, "scenarios: scenarios/", "wachta.yaml:2:12: `scenarios` must be a list"),
        (2, "allow: {evn: [\"SHOP_*\"]}", "wachta.yaml:3:9: unknown key `evn`"),
        (2, "allow: {env: [], network: [nonsense]}", "wachta.yaml:3:28: "),
        (3, "store: mysql://x", "wachta.yaml:4:8: unknown store"),
        (
            4,
            "web: {listen: \"127.0.0.1:0\", hosts: [\"other.lan\", \"a b\"]}",
            "wachta.yaml:5:51: `a b` is not a host name",
        ),
        (
            4,
            "web: {listen: \"0.0.0.0:0\", hosts: [other.lan]}",
            "wachta.yaml:5:15: other machines could reach this agent",
        ),
        (5, "evidence: {max_size: 1}", "wachta.yaml:6:22: `max_size`: `1` has no unit"),
        (6, "zabbix: {host: wachta}", "wachta.yaml:7:9: "),
        (7, "probe: {modules: blackbox.yml, max_probes: 0}", "wachta.yaml:8:44: `max_probes` must be"),
        (9, "  receivers: {hook: {webhok: {url: \"http://127.0.0.1:1/\"}}}", "wachta.yaml:10:22: unknown key `webhok`"),
        (10, "  routes: [{to: [hok], group_wait: 0s}]", "wachta.yaml:11:18: unknown receiver `hok`"),
        (10, "  routes: [{to: [hook], during: 5}]", "wachta.yaml:11:33: "),
        (8, "alerting: {", "wachta.yaml:"),
        // Files that it names.
        (4, "web: {listen: \"127.0.0.1:0\", hosts: [wachta.lan], config_file: gone.yml}", "gone.yml: cannot be read"),
        (7, "probe: {modules: gone.yml}", "gone.yml: cannot be read"),
    ] {
        let mut lines: Vec<&str> = parts.iter().map(String::as_str).collect();
        lines[part] = written;
        folder.write("wachta.yaml", &(lines.join("\n") + "\n"));
        let (status, text) = agent.post("/-/reload").await;
        assert_eq!(status, 500, "{written}: {text}");
        let (place, message) = said.split_once(": ").unwrap_or((said, ""));
        let is_said = text.contains(message) && text.contains(place);
        assert!(is_said, "{written}: {said}: {text}");
        assert_eq!(agent.sample(SUCCESSFUL, &[]).await, Some(0.0), "{written}");
        in_force().await;
        goes_on(&agent, "steady").await;
    }
    // Who was to be told still is.
    check(&folder, "steady", 404);
    until("the receiver is told", SOON, async || (!receiver.heard().is_empty()).then_some(())).await;
    folder.write("wachta.yaml", &good);
    assert_eq!(agent.post("/-/reload").await.0, 200);
    has(&agent, "it is good again", SUCCESSFUL, &[], Some(1.0)).await;
    agent.stop().await;
}

/// The keys and events that a receiver was notified of.
fn events(receiver: &Receiver) -> Vec<String> {
    let word =
        |notification: &serde_json::Value, name: &str| notification[name].as_str().unwrap_or_default().to_owned();
    receiver
        .heard()
        .iter()
        .map(|notification| format!("{} {}", word(notification, "dedup_key"), word(notification, "event")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_receiver_goes_on_with_what_is_queued_and_open() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let folder = Folder::new("renamed");
    let receiver = Receiver::listen().await;
    let named = |name: &str| {
        folder.write(
            "wachta.yaml",
            &format!(
                "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"]}}\nstore: sqlite:wachta.db\n\
                 web: {{listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:1/\"}}\n\
                 alerting: {{receivers: {{{name}: {{webhook: {{url: \"http://{}/\"}}}}}}, \
                 routes: [{{to: [{name}], group_by: [scenario], group_wait: 0s}}]}}\n",
                receiver.address
            ),
        );
    };
    let hears = async |what: &str| {
        until(what, SOON, async || events(&receiver).iter().any(|line| line == what).then_some(())).await;
    };
    // What it is given while it takes nothing.
    let queues = async |name: &str| {
        receiver.behave(Manners::Refuse);
        let before = receiver.refused();
        check(&folder, name, 418);
        until("an attempt is refused", SOON, async || (receiver.refused() > before).then_some(())).await;
    };

    named("old");
    check(&folder, "front", 418);
    let agent = Agent::serve(folder.path(), &shop).await;
    hears("front:1 opened").await;
    queues("cart").await;
    named("new");
    assert_eq!(agent.post("/-/reload").await.0, 200);
    receiver.behave(Manners::Polite);
    hears("cart:1 opened").await;
    check(&folder, "front", 200);
    hears("front:1 resolved").await;

    // The same while the agent is stopped.
    queues("late").await;
    agent.stop().await;
    named("newest");
    receiver.behave(Manners::Polite);
    let agent = Agent::serve(folder.path(), &shop).await;
    hears("late:1 opened").await;
    check(&folder, "cart", 200);
    hears("cart:1 resolved").await;
    agent.stop().await;
    let all = ["front:1 opened", "cart:1 opened", "front:1 resolved", "late:1 opened", "cart:1 resolved"];
    assert_eq!(events(&receiver), all, "and nothing else");
    let store = Sqlite::open_to_read(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();
    let open = store.incidents(10).await.unwrap().into_iter().find(wachta::incident::Incident::is_open).unwrap();
    assert_eq!(open.receivers, ["newest"]);
    store.close().await;
}
