//! The file of ECS documents, brought to an index by a shipper that nobody here wrote: rsyslog, as docs/sinks.md sets it up.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;
use wachta::store::{History as _, Sqlite};

use crate::support::agent::Agent;
use crate::support::group::Group;
use crate::support::search::SearchServer;
use crate::support::{Folder, until};

const SOON: Duration = Duration::from_secs(120);

/// rsyslog with the configuration of the documentation, for a file in this folder and this server.
fn rsyslog(folder: &Path, server: &SearchServer) -> Group {
    let page = include_str!("../../docs/sinks.md");
    let documented = page.split("For rsyslog").nth(1).and_then(|rest| rest.split("```").nth(1));
    let documented = documented.and_then(|block| block.split_once('\n')).expect("the page has its configuration").1;
    let (address, port) = server.address.split_once(':').unwrap();
    let place = folder.display().to_string();
    let mut text = format!("global(workDirectory=\"{place}/rsyslog\")\n{documented}");
    for (old, new) in
        [("/var/log/wachta", place.as_str()), ("logs.example.com", address), ("\"9200\"", &format!("\"{port}\""))]
    {
        assert!(text.contains(old), "no {old} in\n{text}");
        text = text.replace(old, new);
    }
    std::fs::create_dir_all(folder.join("rsyslog")).unwrap();
    std::fs::write(folder.join("rsyslog.conf"), text).unwrap();
    let mut command = Command::new("/usr/sbin/rsyslogd");
    command.arg("-n").arg("-f").arg(folder.join("rsyslog.conf")).arg("-i").arg(folder.join("rsyslog/pid"));
    Group::start(&mut command, &folder.join("rsyslog.log"))
}

/// The runs in the index; none of them twice.
async fn shipped(server: &SearchServer) -> BTreeSet<String> {
    let documents = server.search("wachta", &json!({"match_all": {}})).await;
    let mut runs = BTreeSet::new();
    for document in documents.iter().filter(|document| document["summary"].is_object()) {
        let run = document["event"]["id"].as_str().unwrap().to_owned();
        assert!(runs.insert(run), "twice: {document}");
    }
    runs
}

/// How many files there are, the rotated ones included.
fn files(folder: &Path) -> usize {
    let is_one = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("outcomes.ndjson");
    std::fs::read_dir(folder).unwrap().flatten().filter(is_one).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shipper_brings_every_run_once_while_files_rotate() {
    let stop = CancellationToken::new();
    let (server, shop) = tokio::join!(SearchServer::osmem(), Demo::open(0, 0, &stop));
    let shop = shop.unwrap();
    let folder = Folder::new("shipper");
    let checks = (0..5).map(|number| format!("  home-{number}: {{http: \"${{env.SHOP_URL}}/\", every: 1s}}\n"));
    folder.write("scenarios/checks.yaml", &format!("checks:\n{}", checks.collect::<String>()));
    folder.write(
        "wachta.yaml",
        "location: here\nscenarios: [scenarios/]\nallow: {env: [\"SHOP_*\"]}\nstore: sqlite:wachta.db\n\
         web: {listen: \"127.0.0.1:0\"}\necs: {file: outcomes.ndjson, max_size: 20KB, keep: 900}\n",
    );
    let shipper = rsyslog(folder.path(), &server);
    let agent = Agent::serve(folder.path(), &shop).await;
    until("runs are in the index, from more than one file", SOON, async || {
        (shipped(&server).await.len() >= 20 && files(folder.path()) >= 3).then_some(())
    })
    .await;
    // The shipper is away while the file that it read last moves on.
    tokio::task::spawn_blocking(move || drop(shipper)).await.unwrap();
    let before = files(folder.path());
    until("files rotate", SOON, async || (files(folder.path()) >= before + 2).then_some(())).await;
    let mut shipper = rsyslog(folder.path(), &server);
    let known = shipped(&server).await.len();
    until("more runs are in the index", SOON, async || (shipped(&server).await.len() >= known + 20).then_some(()))
        .await;
    assert_eq!(agent.stop().await, Some(0));

    let store = Sqlite::open(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();
    let outcomes = store.recent(None, 10_000).await.unwrap();
    let runs: BTreeSet<String> = outcomes.iter().map(|outcome| outcome.run.to_string()).collect();
    store.close().await;
    until("every run is in the index", SOON, async || {
        shipper.must_live();
        (shipped(&server).await.len() >= runs.len()).then_some(())
    })
    .await;
    assert_eq!(shipped(&server).await, runs);
    // And with what the file says.
    let document = server.search("wachta", &json!({"match_all": {}})).await.remove(0);
    let text = std::fs::read_dir(folder.path()).unwrap().flatten().filter_map(|entry| {
        let is_one = entry.file_name().to_string_lossy().starts_with("outcomes.ndjson");
        is_one.then(|| std::fs::read_to_string(entry.path()).unwrap())
    });
    let lines: Vec<Value> = text
        .flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
        .collect();
    assert!(lines.contains(&document), "{document:#}");
    tokio::task::spawn_blocking(move || drop((shipper, server))).await.unwrap();
    stop.cancel();
}
