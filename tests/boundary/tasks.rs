//! Every task of an agent is killed, one after the other: it is started again and goes on with its work, or the agent ends
//! with an error that names it, in bounded time. The table names them all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use wachta::app::config;
use wachta::app::scenario_source::DiskSource;
use wachta::app::{App, Setup};
use wachta::store::SqliteFile;

use crate::support::agent::sample;
use crate::support::receiver::Receiver;
use crate::support::{Folder, until};

/// What becomes of a task that dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The agent cannot do without it and ends with an error.
    AgentEnds,
    /// It is started again.
    Again,
}

const TASKS: [(&str, Then); 19] = [
    ("committer", Then::AgentEnds),
    ("feedback", Then::AgentEnds),
    ("reload", Then::AgentEnds),
    ("requests", Then::AgentEnds),
    ("scheduler", Then::AgentEnds),
    ("store", Then::AgentEnds),
    ("web", Then::AgentEnds),
    ("connectivity", Then::Again),
    ("delivery to hook", Then::Again),
    ("delivery to log", Then::Again),
    ("delivery to pager", Then::Again),
    ("feedback of pager", Then::Again),
    ("files", Then::Again),
    ("outbound heartbeat", Then::Again),
    ("positions", Then::Again),
    ("retention", Then::Again),
    ("watchdog", Then::Again),
    ("web files", Then::Again),
    ("zabbix", Then::Again),
];

/// How long anything may take, the end of the agent among it: longer than the drain's own bounds.
const PATIENCE: Duration = Duration::from_secs(90);

struct Place {
    folder: Folder,
    receiver: Receiver,
}

impl Place {
    async fn new() -> Self {
        Self { folder: Folder::new("tasks"), receiver: Receiver::listen().await }
    }

    async fn start(&self) -> App {
        let receiver = self.receiver.address;
        self.folder.write("scenarios/one.yaml", &format!("checks: {{one: {{tcp: \"{receiver}\", every: 1s}}}}\n"));
        // Nobody listens where Zabbix should be.
        let text = format!(
            "location: here\nscenarios: [scenarios/]\nweb: {{listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:1/\"}}\n\
             zabbix: {{server: \"127.0.0.1:1\", host: here}}\n\
             alerting: {{receivers: {{hook: {{webhook: {{url: \"http://{receiver}/\"}}}}, \
             pager: {{pagerduty: {{routing_key: none, api_token: none, api_url: \"http://127.0.0.1:1/\"}}}}}}, \
             routes: [{{to: [hook]}}]}}\n"
        );
        self.folder.write("wachta.yaml", &text);
        let (read, problems) = config::read("wachta.yaml", &text);
        let mut config = read.unwrap_or_else(|| panic!("{problems:?}"));
        config.scenarios = vec![self.folder.path().join("scenarios").display().to_string()];
        App::start(Setup {
            config,
            config_file: Some(self.folder.path().join("wachta.yaml")),
            library: Arc::new(DiskSource::new(self.folder.path())),
            lookup: None,
            store: Arc::new(SqliteFile::new(&format!("sqlite:{}/w.db", self.folder.path().display()), true)),
            folder: self.folder.path().join("w.state"),
            executable: env!("CARGO_BIN_EXE_wachta").into(),
            listener: None,
        })
        .await
        .unwrap()
    }
}

/// Stops the agent: whatever was killed, that takes no longer than the drain says.
async fn stop(app: App, killed: &str) {
    tokio::time::timeout(PATIENCE, app.stop()).await.unwrap_or_else(|_| panic!("{killed}: the agent does not stop"));
}

async fn scrape(app: &App) -> String {
    let url = format!("http://{}/metrics", app.address());
    let answer = reqwest::Client::new().get(url).send().await;
    match answer {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(_) => String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_dies_is_started_again_or_ends_the_agent() {
    _ = rustls::crypto::ring::default_provider().install_default();
    let place = Place::new().await;
    let app = place.start().await;
    let named: BTreeSet<String> = TASKS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let running = || app.tasks().into_keys().collect::<BTreeSet<_>>();
    until("as many tasks run as the table names", PATIENCE, async || (running().len() >= named.len()).then_some(()))
        .await;
    assert_eq!(running(), named, "the table names every task");
    for (name, _) in TASKS.iter().filter(|(_, then)| *then == Then::Again) {
        let killed = app.tasks().remove(*name).unwrap();
        killed.abort();
        until(&format!("{name} is started again"), PATIENCE, async || {
            app.tasks().get(*name).is_some_and(|running| running.id() != killed.id()).then_some(())
        })
        .await;
        let restarts = sample(&scrape(&app).await, "wachta_task_restarts_total", &[("task", name)]);
        assert_eq!(restarts, Some(1.0), "{name}");
    }
    let failed = tokio::time::timeout(Duration::ZERO, app.failed()).await;
    assert!(failed.is_err(), "{failed:?}");
    // All of it works: files that change are loaded anew, and runs are judged and written.
    let text = "checks: {other: {tcp: \"127.0.0.1:1\", every: 1s, alert: {after: 1 of 1}}}\n";
    place.folder.write("scenarios/other.yaml", text);
    until("the new scenario has opened its incident", PATIENCE, async || {
        let open = sample(&scrape(&app).await, "wachta_incidents_open", &[("severity", "warning")]);
        open.is_some_and(|open| open > 0.5).then_some(())
    })
    .await;
    stop(app, "nothing essential").await;

    for (name, _) in TASKS.iter().filter(|(_, then)| *then == Then::AgentEnds) {
        let app = place.start().await;
        app.tasks().remove(*name).unwrap().abort();
        let why = tokio::time::timeout(PATIENCE, app.failed()).await.unwrap_or_else(|_| panic!("{name}: unnoticed"));
        assert!(why.contains(&format!("`{name}`")), "{why}");
        stop(app, name).await;
    }
}
