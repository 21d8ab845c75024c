//! Pages that nobody here wrote, used by role, label and text: the scenarios of `tests/foreign-pages`.
//!
//! What a browser cannot do there stands in [`EXCEPTIONS`] with the reason. In `drafts` are scenarios over the same pages
//! as they are first written, each with a mistake: the message of the failure has to name what mends it.

use std::path::Path;
use std::time::Duration;

use wachta::app::lookup::Environment;
use wachta::outcome::{Outcome, Verdict};
use wachta::scenario::Engine;

use crate::support::apps::{self, App};
use crate::support::bugsink::Bugsink;
use crate::support::grid::Grid;
use crate::support::places::{Place, scenarios, told};
use crate::support::zabbix::Server;

const FOLDER: &str = "tests/foreign-pages";
const DRAFTS: &str = "tests/foreign-pages/drafts";

/// Where another verdict is expected than `passed`: file, how the place's name begins, verdict, why.
const EXCEPTIONS: &[(&str, &str, Verdict, &str)] = &[];

/// How the comment of a draft begins that says what the message must contain.
const MUST_SAY: &str = "# The message must contain: ";

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_pages_are_used_by_role_label_and_text() {
    let zabbix = tokio::task::spawn_blocking(Server::up);
    let (bugsink, grid, apps) = tokio::join!(Bugsink::up("Harbour"), Grid::up("foreign-grid", 1), start_apps());
    let zabbix = zabbix.await.unwrap();
    let urls = [
        ("ZABBIX_URL".to_owned(), zabbix.api.replace("/api_jsonrpc.php", "")),
        ("BUGSINK_URL".to_owned(), bugsink.url.clone()),
        ("GRID_URL".to_owned(), grid.url.to_string()),
    ];
    // Scenarios of what is not installed are read as well, before they are passed over.
    let url_of =
        |name: &str| apps.iter().find(|app| app.name == name).map_or("http://127.0.0.1:9", |app| app.url.as_str());
    let of_apps = apps::ALL.iter().map(|(name, _)| (apps::variable(name), url_of(name).to_owned()));
    let environment = Environment::everything().with(urls.into_iter().chain(of_apps));
    let is_there = |file: &str| {
        apps::ALL.iter().all(|(name, _)| !file.starts_with(name) || apps.iter().any(|app| app.name == *name))
    };
    let of = |folder: &str| -> (Vec<_>, Vec<_>) {
        scenarios(folder, &environment).into_iter().filter(|(file, _)| is_there(file)).unzip()
    };
    let mut wrong = Vec::new();

    let (files, all) = of(FOLDER);
    let (drafts, faulty) = of(DRAFTS);
    for engine in Engine::ALL {
        let place = Place::new(engine, None, environment.clone());
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); files.len()];
        for _ in 0..rounds() {
            for (at, outcome) in place.run(&all).await.into_iter().enumerate() {
                let file = &files[at];
                let (verdict, why) = expected(file, &place.name);
                if outcome.verdict != verdict {
                    wrong.push(format!("{}: {file}: {verdict} was expected {why}\n  {}", place.name, told(&outcome)));
                }
                times[at].push(outcome.duration);
            }
        }
        for (file, mut times) in files.iter().zip(times) {
            times.sort_unstable();
            let (median, longest) = (times[times.len() / 2].as_secs_f64(), times[times.len() - 1].as_secs_f64());
            eprintln!("{}: {file}: {} runs, median {median:.1} s, longest {longest:.1} s", place.name, times.len());
        }
        if engine == Engine::Chromium {
            for (file, outcome) in drafts.iter().zip(place.run(&faulty).await) {
                wrong.extend(misjudged(file, &outcome));
            }
        }
        place.close().await;
    }
    // It waits for its processes, as starting it did.
    tokio::task::spawn_blocking(move || drop((zabbix, bugsink, grid, apps))).await.unwrap();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

/// The applications that `tests/support/apps.sh` installs: in the long form alone, since they take half a gigabyte and
/// minutes.
async fn start_apps() -> Vec<App> {
    if std::env::var_os("WACHTA_SOAK").is_none() {
        eprintln!("NOT TESTED: {}: only in the long form", apps::ALL.map(|(name, _)| name).join(", "));
        return Vec::new();
    }
    futures_util::future::join_all(apps::ALL.map(App::up)).await.into_iter().flatten().collect()
}

/// How often each scenario is run in each browser: 20 times in the long form.
fn rounds() -> usize {
    let rounds = std::env::var("WACHTA_SOAK_FOREIGN").ok().and_then(|text| text.parse().ok());
    rounds.unwrap_or(1)
}

/// The verdict that a scenario must have at a place.
fn expected(file: &str, place: &str) -> (Verdict, &'static str) {
    EXCEPTIONS
        .iter()
        .find(|(of, at, ..)| *of == file && place.starts_with(at))
        .map_or((Verdict::Passed, ""), |(.., verdict, why)| (*verdict, why))
}

/// What is wrong with the failure of a draft: it must say what mends it.
fn misjudged(file: &str, outcome: &Outcome) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DRAFTS).join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let wanted: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(MUST_SAY)).collect();
    assert!(!wanted.is_empty(), "{file} does not say what its message must contain");
    if outcome.verdict != Verdict::Failed {
        return Some(format!("{file}: it was to fail\n  {}", told(outcome)));
    }
    let failures = outcome.steps.iter().filter_map(|step| step.failure.as_ref());
    let message: String = failures
        .flat_map(|failure| [Some(&failure.message), failure.expected.as_ref(), failure.seen.as_ref()])
        .flatten()
        .map(|part| format!("{part}\n"))
        .collect();
    let missing: Vec<&str> = wanted.into_iter().filter(|words| !message.contains(words)).collect();
    (!missing.is_empty()).then(|| format!("{file}: the message lacks {missing:?}\n  {}", told(outcome)))
}
