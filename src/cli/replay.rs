//! `wachta alerts replay`: compares the notifications that another configuration would have sent with those that were
//! sent.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::check::word;
use super::config_file::agents_file;
use super::serve::{folder_of, store_places};
use crate::alert::Scenarios;
use crate::alert::replay::{DiffKind, NotificationDiff};
use crate::app::lookup::Environment;
use crate::app::replay::{ReplayReport, ReplayRequest, replay};
use crate::app::scenario_source::{DiskSource, ScenarioSource as _};
use crate::diagnostic::{Diagnostic, Severity, Source, Span};
use crate::incident::Subject;
use crate::scenario::{Catalog, Loaded, Scenario, ScenarioId, assemble, load, parents, units};
use crate::store::Sqlite;

/// Maximum time range.
const LONGEST: TimeDelta = TimeDelta::days(366);
/// Maximum number of names in a line.
const NAMES: usize = 5;

/// Arguments of `wachta alerts replay`.
#[derive(clap::Args)]
pub(super) struct ReplayArgs {
    /// Agent configuration to evaluate, with its scenarios
    #[arg(long, value_name = "FILE", default_value = "wachta.yaml")]
    config: PathBuf,
    /// Time range before now
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    since: String,
    /// Store with the outcomes (default: that of the configuration); it is only read, even while an agent runs
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

/// Replays the stored outcomes and formats the result.
pub(super) async fn replayed(args: &ReplayArgs) -> Result<String, String> {
    let length = units::duration(&args.since).map_err(|problem| format!("--since: {problem}"))?;
    let length = TimeDelta::from_std(length).ok().filter(|length| *length > TimeDelta::zero() && *length <= LONGEST);
    let length = length.ok_or("--since: write a duration above 0 and at most a year")?;
    let config = agents_file(&args.config)?;
    let base = folder_of(&args.config);
    let scenarios = scenarios(&config.scenarios, &base)?;
    let url = match &args.store {
        Some(url) => checked(url)?,
        None => checked(&store_places(&config.store, &base).0)?,
    };
    let store = Sqlite::open_to_read(&url).await.map_err(|e| e.to_string())?;
    let until = Utc::now();
    let span = (until - length, until);
    let asked = ReplayRequest {
        location: config.location.clone(),
        alerting: Arc::new(config.alerting.clone()),
        scenarios: Arc::clone(&scenarios),
        since: span.0,
        until,
    };
    let report = replay(&store, asked, progress()).await;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    store.close().await;
    let receivers = config.alerting.receivers.iter().map(|receiver| receiver.name.as_str());
    Ok(shown(&report.map_err(|e| e.to_string())?, receivers, &scenarios, span))
}

/// Returns the URL of a store if the store can be read by another process.
pub(super) fn checked(url: &str) -> Result<String, String> {
    match url.strip_prefix("sqlite:") {
        Some(":memory:") => Err("an in-memory store ends with its agent; set a file with --store".into()),
        Some(_) => Ok(url.to_owned()),
        None => Err(format!("unknown store `{url}`; write sqlite:FILE")),
    }
}

/// Loads the scenarios. Variables and files missing on this machine are ignored because nothing is run.
fn scenarios(roots: &[String], base: &Path) -> Result<Scenarios, String> {
    let everything = Environment::everything().with_programs(true);
    let files = DiskSource::new(base).read(roots);
    let files: Vec<(String, Loaded)> = files
        .into_iter()
        .map(|(path, text)| {
            let loaded = match text {
                Ok(text) => load(&path, &text, &everything),
                Err(error) => {
                    let message = format!("cannot read the file: {error}");
                    let problem = Diagnostic::error(&Source::new(path.as_str(), ""), Span::default(), message);
                    Loaded { scenarios: Vec::new(), diagnostics: vec![problem] }
                }
            };
            (path, loaded)
        })
        .collect();
    let mut all: BTreeMap<ScenarioId, Arc<Scenario>> = BTreeMap::new();
    for scenario in files.iter().flat_map(|(_, loaded)| &loaded.scenarios) {
        all.entry(scenario.id.value.clone()).or_insert_with(|| Arc::clone(scenario));
    }
    let (_, mut found) = assemble(&Catalog::default(), files);
    found.extend(parents(&all, |_| false).1);
    let colour = std::io::stderr().is_terminal();
    for one in &found {
        eprintln!("{}", one.render_as(word(one.severity), colour));
    }
    if found.iter().any(|one| one.severity == Severity::Error) {
        return Err("the scenarios cannot be loaded; see `wachta check`".into());
    }
    Ok(Arc::new(all))
}

/// Creates a function that shows the progress on a terminal.
fn progress() -> impl Fn(f64) {
    let (terminal, last) = (std::io::stderr().is_terminal(), Cell::new(-1.0));
    move |share| {
        let percent = (share * 100.0).floor();
        if terminal && percent > last.replace(percent) {
            eprint!("\rreplayed {percent} %");
        }
    }
}

fn shown<'a>(
    report: &'a ReplayReport,
    receivers: impl Iterator<Item = &'a str>,
    scenarios: &Scenarios,
    (since, until): (DateTime<Utc>, DateTime<Utc>),
) -> String {
    let (known, foreign): (Vec<_>, Vec<_>) = report.runs.iter().partition(|(id, _)| scenarios.contains_key(*id));
    let runs: u64 = known.iter().map(|(_, runs)| **runs).sum();
    let mut text = format!(
        "{} to {}: {}, {}; replayed from {} to reconstruct open incidents\n\n",
        time(since),
        time(until),
        count(runs, "run"),
        count(known.len() as u64, "scenario"),
        time(report.begin)
    );
    text.push_str(&table(&report.lines, receivers.collect()));
    text.push('\n');
    if report.lines.is_empty() {
        text.push_str("no notifications in either configuration\n");
    }
    for line in &report.lines {
        text.push_str(&one(line));
    }
    let suppressed = report.suppressed.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>();
    if !suppressed.is_empty() {
        text.push_str(&format!("\nwould be suppressed, by reason: {}\n", suppressed.join(", ")));
    }
    let notes = notes(report, &foreign, scenarios, since);
    text.push('\n');
    text.extend(notes.iter().map(|note| format!("note: {note}\n")));
    text
}

/// Formats the number of notifications per receiver, as sent and as they would be sent.
fn table<'a>(lines: &'a [NotificationDiff], mut receivers: BTreeSet<&'a str>) -> String {
    receivers.extend(lines.iter().map(|line| line.notification.receiver.as_str()));
    let width = receivers.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("receiver".len());
    let mut text = format!("{:width$}  sent  would send  unchanged  removed  added\n", "receiver");
    for name in receivers {
        let of = |mark| lines.iter().filter(|line| line.notification.receiver == name && line.mark == mark).count();
        let [same, then, now] = [DiffKind::Unchanged, DiffKind::Removed, DiffKind::Added].map(of);
        let (was, would) = (same + then, same + now);
        text.push_str(&format!("{name:width$}  {was:>4}  {would:>10}  {same:>9}  {then:>7}  {now:>5}\n"));
    }
    text
}

/// Formats a notification, such as `- 2027-01-15 09:00:00Z  on-call  opened  critical  shop +cart, mail`.
fn one(line: &NotificationDiff) -> String {
    let mark = match line.mark {
        DiffKind::Unchanged => ' ',
        DiffKind::Removed => '-',
        DiffKind::Added => '+',
    };
    let notification = &line.notification;
    let others: Vec<String> = notification.others.iter().map(Subject::to_string).collect();
    let others = if notification.others.is_empty() && notification.uncounted == 0 {
        String::new()
    } else {
        format!("  +{}", some(&others, notification.uncounted))
    };
    // A difference of one second does not count as a different time.
    let later = line.later.num_seconds();
    let moved = match later {
        2.. => format!("  ({later}s later)"),
        ..-1 => format!("  ({}s earlier)", -later),
        _ => String::new(),
    };
    let (event, severity) = (notification.event.as_str(), notification.severity.as_str());
    format!(
        "{mark} {}  {}  {event}  {severity}  {}{others}{moved}\n",
        time(notification.at),
        notification.receiver,
        notification.subject
    )
}

/// Formats the first names of a list and the number of the others.
fn some<T: AsRef<str>>(names: &[T], more: usize) -> String {
    let listed = names.len().min(NAMES);
    let more = names.len() - listed + more;
    let shown = names[..listed].iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match (listed, more) {
        (_, 0) => shown,
        (0, more) => format!("{more} more"),
        (_, more) => format!("{shown} and {more} more"),
    }
}

/// Returns remarks on the limits of the result.
fn notes(
    report: &ReplayReport,
    foreign: &[(&ScenarioId, &u64)],
    scenarios: &Scenarios,
    since: DateTime<Utc>,
) -> Vec<String> {
    let mut notes = Vec::new();
    match report.first {
        Some(first) if first > since => notes.push(format!("no runs before {} in the store", time(first))),
        None => notes.push("no runs within this time in the store".to_owned()),
        Some(_) => {}
    }
    if !foreign.is_empty() {
        let runs: u64 = foreign.iter().map(|(_, runs)| **runs).sum();
        let ids: Vec<&str> = foreign.iter().map(|(id, _)| id.as_str()).collect();
        let runs = count(runs, "run");
        notes.push(format!("{runs} of scenarios that are not in the files were omitted: {}", some(&ids, 0)));
    }
    let idle: Vec<&str> =
        scenarios.keys().filter(|id| !report.runs.contains_key(*id)).map(ScenarioId::as_str).collect();
    if !idle.is_empty() && report.first.is_some() {
        notes.push(format!("no runs within this time: {}", some(&idle, 0)));
    }
    let (failed, queued) = report.not_sent;
    if failed + queued > 0 {
        notes.push(format!("of the sent notifications, {failed} failed and {queued} are still queued"));
    }
    let silences = match report.mutes {
        0 => String::new(),
        known => format!("{} still active are applied; ", count(known as u64, "silence")),
    };
    notes.push(format!("{silences}ended silences and acknowledgements are not stored and have no effect"));
    if scenarios.values().any(|scenario| !scenario.alert.depends_on.is_empty()) {
        notes.push("`depends_on` is evaluated with the stored runs: a replay runs no scenarios".to_owned());
    }
    notes
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%F %TZ").to_string()
}
