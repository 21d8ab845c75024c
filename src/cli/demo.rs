//! `wachta demo`: the shop, an agent that tests it, the web page, and a receiver that prints notifications.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use include_dir::{Dir, include_dir};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::stop_signal::stop_asked;
use super::temp_dir::scratch;
use super::terminal::{colour_on_stdout, say_error};
use crate::app::scenario_source::Embedded;
use crate::app::{App, Config, Setup, config::Allow};
use crate::browser;
use crate::demo::{Demo, DemoLookup, receiver};
use crate::names::exit;
use crate::notify::credential::Credential;
use crate::notify::{Alerting, Receiver, ReceiverKind, Route, Webhook, WebhookFormat};
use crate::outcome::{Outcome, Verdict};
use crate::store::SqliteFile;
use crate::web;

/// Example scenarios of the repository.
static SCENARIOS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/scenarios");

/// Arguments of `wachta demo`.
#[derive(clap::Args)]
pub(super) struct DemoArgs {
    /// Address of the web page
    #[arg(long, value_name = "ADDRESS", default_value = crate::names::DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Port of the shop; 0 selects a free one
    #[arg(long, value_name = "PORT", default_value_t = 9816)]
    shop_port: u16,
    /// Folder for the store; without it all data is lost at the end
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs the demo until SIGTERM or Ctrl-C.
pub(super) async fn demo(args: DemoArgs) -> u8 {
    let scratch = scratch("demo");
    let folder = args.data.clone().unwrap_or_else(|| scratch.clone());
    let code = match open(&args, &folder).await {
        Ok(code) => code,
        Err(text) => {
            say_error(&text);
            exit::USAGE
        }
    };
    if args.data.is_none() {
        let _ = tokio::fs::remove_dir_all(&scratch).await;
    }
    code
}

async fn open(args: &DemoArgs, folder: &Path) -> Result<u8, String> {
    let shop_port = args.shop_port;
    let stop = CancellationToken::new();
    let shop = Demo::open(shop_port, 0, &stop)
        .await
        .map_err(|e| format!("the shop cannot listen on port {shop_port}: {e}; name another with --shop-port"))?;
    let (hook, notifications) =
        receiver::listen(&stop).await.map_err(|e| format!("the receiver of notifications: {e}"))?;
    std::fs::create_dir_all(folder).map_err(|e| format!("{} cannot be made: {e}", folder.display()))?;
    let store_url = format!("sqlite:{}", folder.join("wachta.db").display());
    let store = Arc::new(SqliteFile::new(&store_url, true));
    let url = Credential::text(format!("http://{hook}/notifications"));
    let hook = Webhook { url, headers: Vec::new(), format: WebhookFormat::default() };
    let receiver = Receiver { name: "you".into(), kind: ReceiverKind::Webhook(hook), ..Receiver::default() };
    let external_url = format!("http://{}/", args.listen).parse().ok();
    let config = Config {
        location: "demo".into(),
        scenarios: vec!["scenarios/".into()],
        allow: Allow::default(),
        store: store_url,
        web: web::Config { listen: args.listen, external_url, ..web::Config::default() },
        browser: browser::Config { loopback_only: true, ..browser::Config::default() },
        metrics: crate::sink::prometheus::Config::default(),
        sinks: Vec::new(),
        evidence: crate::store::evidence::Limits::default(),
        probe: None,
        network: crate::run::NetworkConfig::default(),
        alerting: Alerting {
            receivers: vec![receiver],
            // A short group wait, so that the notification of a fault arrives soon.
            routes: vec![Route {
                to: vec!["you".into()],
                group_wait: Some(Duration::from_secs(2)),
                ..Route::default()
            }],
            ..Alerting::default()
        },
    };
    let printer = Arc::new(Printer::default());
    let listener = Arc::clone(&printer);
    let app = App::start(Setup {
        config,
        config_file: None,
        library: Arc::new(Embedded(embedded())),
        lookup: Some(Arc::new(DemoLookup::new(&shop))),
        store,
        folder: folder.to_path_buf(),
        executable: std::env::current_exe().map_err(|e| format!("cannot determine the path of the executable: {e}"))?,
        listener: Some(Arc::new(move |outcome: &Outcome| listener.outcome(outcome))),
    })
    .await
    .map_err(|e| e.to_string())?;

    let scenarios = app.overview().borrow().scenarios.len();
    Printer::say(&format!(
        "wachta demo: {scenarios} scenarios monitor a small shop.\n\n  \
         the page    http://{}/\n  the metrics http://{0}/metrics\n  the shop    http://{}/\n  its faults  http://{1}/faults   <- enable one, and wait for the notification\n\n\
         Press Ctrl-C to stop. Changes of verdicts, and notifications:\n",
        app.address(),
        shop.http
    ));
    for problem in &app.overview().borrow().problems {
        Printer::say(problem);
    }
    tokio::spawn(print_notifications(notifications, printer));
    stop_asked().await;
    tokio::select! {
        () = app.stop() => {}
        () = stop_asked() => {}
    }
    stop.cancel();
    Ok(exit::PASSED)
}

fn embedded() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = SCENARIOS
        .files()
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "yaml"))
        .filter_map(|file| Some((format!("scenarios/{}", file.path().display()), file.contents_utf8()?.to_owned())))
        .collect();
    files.sort();
    files
}

async fn print_notifications(mut notifications: mpsc::UnboundedReceiver<Value>, printer: Arc<Printer>) {
    while let Some(notification) = notifications.recv().await {
        let text = notification["text"].as_str().unwrap_or_default();
        let link = notification["links"]["incident"].as_str().unwrap_or_default();
        let repeat = if notification["repeat"] == true { " (repeated)" } else { "" };
        let hue = if notification["event"] == "resolved" { "1;32" } else { "1;31" };
        let difference = notification["difference"].as_str().filter(|_| notification["event"] != "resolved");
        let since = difference.map(|text| format!("         since the last good run: {text}\n")).unwrap_or_default();
        Printer::say(&format!("{} {text}{repeat}\n{since}         {link}", printer.paint(hue, "NOTIFICATION")));
    }
}

/// Printer of changes, and of nothing else.
struct Printer {
    colour: bool,
    last: Mutex<BTreeMap<String, Verdict>>,
}

impl Default for Printer {
    fn default() -> Self {
        Self { colour: colour_on_stdout(), last: Mutex::default() }
    }
}

impl Printer {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn say(text: &str) {
        let mut out = std::io::stdout().lock();
        // The reader of the output may be gone; the demo continues.
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    fn outcome(&self, outcome: &Outcome) {
        let before = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(outcome.scenario.to_string(), outcome.verdict);
        if before == Some(outcome.verdict) {
            return;
        }
        let hue = match outcome.verdict {
            Verdict::Passed => "32",
            Verdict::Degraded => "33",
            Verdict::Failed => "31",
            Verdict::Unknown => "35",
        };
        let verdict = self.paint(hue, &format!("{:<8}", outcome.verdict.as_str()));
        let message = outcome.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        let step = outcome.deciding_step().map(|step| format!(" at {}", step.name)).unwrap_or_default();
        Self::say(&format!(
            "{verdict} {} in {}{step}{message}",
            outcome.name,
            crate::scenario::HumanDuration(outcome.duration)
        ));
    }
}
