//! `wachta run`: runs scenarios once, now, and reports.

use std::collections::{BTreeSet, HashMap};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::http_url::http_url;
use super::report::human::{self, Paint};
use super::report::{json, junit};
use super::scenario_paths::named_files;
use super::stop_signal::stop_asked;
use super::temp_dir::scratch;
use super::terminal::{colour_on_stdout, say_error};
use crate::app::lookup::Environment;
use crate::app::scenario_source;
use crate::browser::{self, BrowserPool};
use crate::clock::ClockWatch;
use crate::diagnostic::{Severity, nearest};
use crate::names::exit;
use crate::outcome::{Outcome, RunId, Verdict};
use crate::run::{self, Progress, ProgressEvent, RunRequest, RunServices};
use crate::scenario::{Catalog, Engine, Lookup, LookupError, Scenario, SecretSource, Template, Value, assemble, load};
use crate::store::evidence::EvidenceFolder;
use crate::{bounded, wire};

/// Maximum number of concurrent scenarios. Browsers have a separate limit.
const AT_ONCE: usize = 4;

/// Arguments of `wachta run`.
#[derive(clap::Args)]
pub(super) struct RunArgs {
    /// Scenario files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write a report: junit=FILE or json=FILE
    #[arg(long, value_name = "KIND=FILE", value_parser = pair)]
    report: Vec<(String, String)>,
    /// Run only scenarios with this tag
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
    /// Run only the scenario with this id
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Override the value of a constant under `vars`
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    var: Vec<(String, String)>,
    /// Set the value of a secret
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    secret: Vec<(String, String)>,
    /// File with additional environment variables, one NAME=VALUE per line
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// WebDriver endpoint to use instead of starting chromedriver
    #[arg(long, value_name = "URL", value_parser = http_url)]
    webdriver: Option<url::Url>,
    /// Run every scenario N times, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Run N scenarios at once, and with --repeat also the same one (default: up to 4 different ones)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    parallel: Option<u32>,
    /// Folder for screenshots and other evidence
    #[arg(long, value_name = "DIR", default_value = "wachta-evidence")]
    evidence: PathBuf,
    /// Show the browser window
    #[arg(long)]
    headed: bool,
    /// Allow `exec` checks to run their programs
    #[arg(long)]
    allow_exec: bool,
    /// Browser for every scenario: chromium or firefox
    #[arg(long, value_name = "NAME")]
    browser: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "write NAME=VALUE".into())
}

fn engine(name: &str) -> Option<Engine> {
    Engine::ALL.into_iter().find(|engine| engine.as_str() == name)
}

/// Runs the scenarios, reports, and returns the exit code.
pub(super) async fn run(args: RunArgs) -> u8 {
    match prepare(&args) {
        Err(text) => {
            say_error(&text);
            exit::USAGE
        }
        Ok(None) => exit::USAGE,
        Ok(Some(prepared)) => carry_out(&args, prepared).await,
    }
}

struct Prepared {
    scenarios: Vec<Arc<Scenario>>,
    environment: Environment,
}

/// Loads everything. Returns `None` if files have errors, after printing them.
fn prepare(args: &RunArgs) -> Result<Option<Prepared>, String> {
    if let Some(name) = &args.browser
        && engine(name).is_none()
    {
        return Err(format!("`--browser {name}` is not known: chromium or firefox"));
    }
    for (kind, _) in &args.report {
        if kind != "junit" && kind != "json" {
            return Err(format!("`--report {kind}=` is not known: junit or json"));
        }
    }
    let mut variables = HashMap::new();
    if let Some(path) = &args.env_file {
        let text = bounded::read_text(path, bounded::MAX_SMALL_BYTES)
            .map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
        let lines = text.lines().map(str::trim).enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = pair(line.strip_prefix("export ").unwrap_or(line))
                // The line is not part of the message because it may contain a secret.
                .map_err(|e| format!("{}:{}: {e}", path.display(), number + 1))?;
            variables.insert(name.trim().to_owned(), value.trim().trim_matches('"').to_owned());
        }
    }
    let mut environment = Environment::everything().with(variables).with_programs(args.allow_exec);

    let paths = named_files(&args.paths)?;
    let mut files = Vec::new();
    for path in paths {
        let (path, text) = scenario_source::read(&path);
        files.push((path.clone(), text.map_err(|e| format!("{path} cannot be read: {e}"))?));
    }
    for (name, value) in &args.secret {
        environment = give_secret(environment, &files, name, value)?;
    }
    let loaded: Vec<_> = files.iter().map(|(path, text)| (path.clone(), load(path, text, &environment))).collect();
    let selection = Selection::new(args, loaded.iter().flat_map(|(_, loaded)| &loaded.scenarios))?;
    let (catalog, mut diagnostics) = assemble(&Catalog::default(), loaded);
    // Scenarios that are not selected may lack variables and files.
    diagnostics.retain(|found| {
        found.severity != Severity::Missing || found.scenario.as_deref().is_none_or(|id| selection.has(id))
    });
    let colour = std::io::stderr().is_terminal();
    for diagnostic in &diagnostics {
        eprintln!("{}", diagnostic.render(colour));
    }
    if diagnostics.iter().any(|diagnostic| diagnostic.severity > Severity::Warning) {
        return Ok(None);
    }
    let mut scenarios: Vec<Arc<Scenario>> =
        catalog.scenarios.values().filter(|scenario| selection.has(scenario.id.as_str())).cloned().collect();
    for paused in catalog.paused.values().filter(|scenario| selection.has(scenario.id.as_str())) {
        println!("{}: skipped, it has `enabled: false`", paused.name);
    }
    if scenarios.is_empty() && catalog.paused.is_empty() {
        return Err("no scenario to run".into());
    }
    scenarios.retain(|scenario| {
        let heartbeat = scenario.heartbeat().is_some();
        if heartbeat {
            println!("{}: skipped, check-ins are received by `wachta serve` only", scenario.name);
        }
        !heartbeat
    });
    if args.headed && scenarios.iter().any(|scenario| scenario.needs_browser()) && !has_display() {
        let how = "set DISPLAY or WAYLAND_DISPLAY, or use a virtual one: `xvfb-run wachta run --headed …`";
        return Err(format!("`--headed` needs a display, and there is none; {how}"));
    }
    override_vars(&mut scenarios, &args.var)?;
    Ok(Some(Prepared { scenarios, environment }))
}

/// Returns whether a window can be shown.
fn has_display() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Adds a secret under the name that the scenarios look up.
fn give_secret(
    mut environment: Environment,
    files: &[(String, String)],
    name: &str,
    value: &str,
) -> Result<Environment, String> {
    let mut found = false;
    for scenario in files.iter().flat_map(|(path, text)| load(path, text, &Anything).scenarios) {
        match scenario.secrets.get(name) {
            Some(SecretSource::Env(variable)) => {
                environment = environment.with([(variable.value.clone(), value.to_owned())]);
            }
            Some(SecretSource::File(path)) => environment = environment.with_file(&path.value, value),
            None => continue,
        }
        found = true;
    }
    if found { Ok(environment) } else { Err(format!("no scenario has `{name}` under `secrets`")) }
}

/// Lookup in which nothing is missing, sufficient for reading the declarations of a file.
struct Anything;

impl Lookup for Anything {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Ok(name.to_owned())
    }

    fn file(&self, path: &Path, sibling_keys: &str) -> Result<Vec<u8>, LookupError> {
        // Fragments must be read; for any other file an arbitrary content is sufficient.
        let found = Environment::everything().file(path, sibling_keys);
        Ok(found.unwrap_or_else(|_| path.as_os_str().as_encoded_bytes().to_vec()))
    }
}

/// Selected scenarios.
struct Selection(BTreeSet<String>);

impl Selection {
    fn new<'a>(args: &RunArgs, scenarios: impl Iterator<Item = &'a Arc<Scenario>> + Clone) -> Result<Self, String> {
        for only in &args.only {
            let mut ids = scenarios.clone().map(|scenario| scenario.id.as_str());
            if !ids.any(|id| id == only) {
                let near = nearest(only, scenarios.map(|scenario| scenario.id.as_str()));
                let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                return Err(format!("no scenario has the id `{only}`{near}"));
            }
        }
        let wanted = scenarios.filter(|scenario| {
            (args.only.is_empty() || args.only.iter().any(|only| only == scenario.id.as_str()))
                && args.tag.iter().all(|(key, value)| scenario.tags.get(key) == Some(value))
        });
        Ok(Self(wanted.map(|scenario| scenario.id.to_string()).collect()))
    }

    fn has(&self, id: &str) -> bool {
        self.0.contains(id)
    }
}

fn override_vars(scenarios: &mut [Arc<Scenario>], vars: &[(String, String)]) -> Result<(), String> {
    for (name, value) in vars {
        let mut found = false;
        for shared in scenarios.iter_mut().filter(|scenario| scenario.vars.contains_key(name)) {
            Arc::make_mut(shared).vars.insert(name.clone(), Value::Text(Template::literal(value)));
            found = true;
        }
        if !found {
            return Err(format!("no scenario has `{name}` under `vars`"));
        }
    }
    Ok(())
}

async fn carry_out(args: &RunArgs, prepared: Prepared) -> u8 {
    let paint = Paint(colour_on_stdout());
    let scratch = scratch("run");
    let registry = prometheus::Registry::new();
    let config = browser::Config {
        webdriver: args.webdriver.clone(),
        engine: args.browser.as_deref().and_then(engine),
        headed: args.headed,
        // A browser without a second run need not be prepared for it.
        warm: prepared.scenarios.len() as u64 * u64::from(args.repeat) > 1,
        ..browser::Config::default()
    };
    let (Ok(metrics), Ok(executable)) = (browser::Metrics::new(&registry), std::env::current_exe()) else {
        say_error("cannot determine the path of the executable");
        return exit::USAGE;
    };
    let browsers = BrowserPool::new(config, scratch.clone(), executable, metrics);
    let tools = RunServices {
        dialer: crate::wire::Dialer::default(),
        limits: crate::wire::limits::Limits::default(),
        tokens: run::Tokens::default(),
        line: run::ConnectivityMonitor::default(),
        tls: wire::tls::Trusted::system(),
        browsers: Some(browsers.clone()),
        lookup: Arc::new(prepared.environment),
        evidence: EvidenceFolder::new(&args.evidence),
        beats: None,
        baseline: None,
        footprints: None,
        clock: ClockWatch::start().ok(),
        location: "local".into(),
    };
    let ticket = RunRequest::default();
    let cancel = ticket.cancel.clone();
    let shown = Shown::new(paint);
    // Without `--parallel`, the runs of one scenario follow one another, so that they do not disturb each other.
    let (rounds, each, at_once) = match args.parallel {
        None => (1, args.repeat, AT_ONCE),
        Some(at_once) => (args.repeat, 1, at_once as usize),
    };
    let queue = (0..rounds).flat_map(|_| prepared.scenarios.iter());
    let work = futures_util::stream::iter(queue)
        .map(|scenario| {
            let (tools, shown, cancel) = (&tools, &shown, cancel.clone());
            async move {
                let mut outcomes = Vec::new();
                for _ in 0..each {
                    if cancel.is_cancelled() {
                        break;
                    }
                    let progress = shown.begin(scenario);
                    let ticket = RunRequest {
                        run: RunId::new(),
                        due_at: None,
                        cancel: cancel.clone(),
                        progress: Some(progress.listener()),
                        ..RunRequest::default()
                    };
                    let outcome = run::run(scenario, tools, ticket).await;
                    progress.end(scenario, &outcome, &args.evidence);
                    outcomes.push(outcome);
                }
                outcomes
            }
        })
        .buffer_unordered(at_once)
        .concat();
    tokio::pin!(work);
    let outcomes = tokio::select! {
        outcomes = &mut work => outcomes,
        () = stop_asked() => {
            // Active runs are cancelled and reported, and nothing is left behind.
            cancel.cancel();
            work.await
        }
    };
    browsers.shutdown().await;
    let _ = tokio::fs::remove_dir_all(&scratch).await;
    print!("{}", human::summary(&outcomes, paint));
    let mut code = exit_code(&outcomes);
    for (kind, path) in &args.report {
        let text = if kind == "json" {
            Ok(json::render(&outcomes))
        } else {
            junit::render(&outcomes).map_err(|e| e.to_string())
        };
        let written = text.and_then(|text| std::fs::write(path, text).map_err(|e| e.to_string()));
        if let Err(error) = written {
            say_error(&format!("cannot write {path}: {error}"));
            code = exit::USAGE;
        }
    }
    code
}

fn exit_code(outcomes: &[Outcome]) -> u8 {
    let any = |verdict| outcomes.iter().any(|outcome| outcome.verdict == verdict);
    if any(Verdict::Failed) {
        exit::FAILED
    } else if any(Verdict::Unknown) {
        exit::UNKNOWN
    } else {
        exit::PASSED
    }
}

/// Progress output: one animated line per scenario on a terminal, plain lines otherwise.
struct Shown {
    lines: Option<MultiProgress>,
    paint: Paint,
}

struct Line<'a> {
    shown: &'a Shown,
    bar: Option<ProgressBar>,
    plain: Arc<Mutex<()>>,
    name: String,
}

impl Shown {
    fn new(paint: Paint) -> Self {
        Self { lines: std::io::stdout().is_terminal().then(MultiProgress::new), paint }
    }

    fn begin(&self, scenario: &Scenario) -> Line<'_> {
        let bar = self.lines.as_ref().map(|lines| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = lines.add(ProgressBar::new_spinner().with_style(style).with_prefix(scenario.name.clone()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Line { shown: self, bar, plain: Arc::default(), name: scenario.name.clone() }
    }
}

impl Line<'_> {
    fn listener(&self) -> Progress {
        let (bar, name, plain) = (self.bar.clone(), self.name.clone(), Arc::clone(&self.plain));
        Arc::new(move |stage| {
            let _one_at_a_time = plain.lock().unwrap_or_else(PoisonError::into_inner);
            match (&bar, stage) {
                (Some(bar), ProgressEvent::StepStarted { name, .. }) => bar.set_message(name.to_owned()),
                (None, ProgressEvent::StepFinished(step)) => {
                    let status = format!("{:?}", step.status).to_lowercase();
                    println!("{name}: {} {status} in {}", step.name, crate::scenario::HumanDuration(step.duration));
                }
                _ => {}
            }
        })
    }

    fn end(&self, scenario: &Scenario, outcome: &Outcome, evidence: &Path) {
        let text = human::outcome(scenario, outcome, evidence, self.shown.paint);
        match (&self.bar, &self.shown.lines) {
            (Some(bar), Some(lines)) => {
                bar.finish_and_clear();
                lines.suspend(|| print!("{text}"));
            }
            _ => print!("{text}"),
        }
    }
}
