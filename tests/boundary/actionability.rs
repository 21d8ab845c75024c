//! When a step may act on an element: pages with one property each, in every browser.
//!
//! `tests/actionability/table.json` has a row for each page of the folder `site`: the steps, and what is right. A page
//! writes what happened to it into its element with the test id `result`, so that `passed` means that the right thing
//! happened, and `failed` that nothing did. What a browser cannot do stands in the table with the reason.
//! `docs/actionability.md` shows the table to people.
//!
//! Many pages share a run, since a run has a window of its own, which takes longer than most pages do: their steps all
//! go on after a failure, and the verdict of a page is that of its steps.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value as Json, json};
use wachta::app::lookup::Environment;
use wachta::names::Reason;
use wachta::outcome::{Outcome, StepStatus, Verdict};
use wachta::scenario::{Engine, Scenario, load};

use crate::support::places::{Place, told};
use crate::support::site::Site;

/// How many runs the pages are dealt out to.
const SHARES: usize = 4;

/// How long the last step may take where it must fail.
const SHORT: &str = "2s";

/// How long it may take where a busy machine has not answered within that, which its message says.
const LONG: &str = "20s";
const UNANSWERED: [&str; 2] = ["was not ready in time", "no time left to check"];

/// A page, what is done on it, and what is right.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// The page's file, without its ending.
    page: String,
    /// What is peculiar about it.
    property: String,
    /// The steps after the one that opens it.
    steps: Vec<Json>,
    right: Right,
    /// Whether it needs a window in which the pointer has not been, or leaves one.
    #[serde(default)]
    alone: bool,
    /// What is right in Firefox, where it differs.
    firefox: Option<Exception>,
}

/// What the steps of a page must end with.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Right {
    verdict: Verdict,
    reason: Option<Reason>,
    /// A part of the failure's message.
    message: Option<String>,
    /// What the page says of what happened to it.
    result: String,
}

/// What a browser cannot do.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    right: Right,
    because: String,
}

impl Row {
    fn right(&self, engine: Engine) -> &Right {
        self.firefox.as_ref().filter(|_| engine == Engine::Firefox).map_or(&self.right, |exception| &exception.right)
    }

    /// Opens the page, does the steps, and looks at what happened; all of that goes on after a failure.
    fn steps(&self, engine: Engine, limit: &str) -> Vec<Json> {
        let right = self.right(engine);
        let mut steps = vec![json!({"goto": format!("/{}.html", self.page), "timeout": "30s"})];
        steps.extend(self.steps.iter().cloned());
        if right.verdict == Verdict::Failed {
            steps.last_mut().unwrap()["timeout"] = limit.into();
        }
        steps.push(json!({"expect": {"element": {"testid": "result"}, "text": right.result}, "timeout": "5s"}));
        for (index, step) in steps.iter_mut().enumerate() {
            step["name"] = format!("{} {index}", self.page).into();
            step["continue"] = true.into();
        }
        steps
    }

    /// A difference with its page, for people.
    fn report(&self, engine: Engine, difference: &str) -> String {
        let because = self.firefox.as_ref().filter(|_| engine == Engine::Firefox);
        let because = because.map_or_else(String::new, |exception| format!(" (in Firefox: {})", exception.because));
        format!("{engine}: {}: {}{because}: {difference}", self.page, self.property)
    }

    /// How an outcome differs from what is right for this page.
    fn difference(&self, engine: Engine, outcome: &Outcome) -> Option<String> {
        let right = self.right(engine);
        let steps: Vec<_> =
            outcome.steps.iter().filter(|step| step.name.split(' ').next() == Some(self.page.as_str())).collect();
        let Some((look, acts)) = steps.split_last().filter(|_| steps.len() == self.steps.len() + 2) else {
            return Some("its steps were not all done".into());
        };
        let failed = acts.iter().find(|step| step.status != StepStatus::Passed);
        let verdict = failed.map_or(Verdict::Passed, |step| {
            if step.status == StepStatus::Failed { Verdict::Failed } else { Verdict::Unknown }
        });
        let failure = failed.and_then(|step| step.failure.as_ref());
        let reason = failure.map(|failure| failure.reason);
        if (verdict, reason) != (right.verdict, right.reason) {
            return Some(format!("{verdict} {reason:?} instead of {} {:?}: {failure:?}", right.verdict, right.reason));
        }
        if let Some(part) = &right.message
            && !failure.is_some_and(|failure| failure.message.contains(part.as_str()))
        {
            return Some(format!("a message without \"{part}\": {failure:?}"));
        }
        (look.status != StepStatus::Passed).then(|| format!("the wrong thing happened: {:?}", look.failure))
    }
}

/// The scenario of some rows.
fn scenario(name: &str, rows: &[&Row], engine: Engine, limit: &str, environment: &Environment) -> Arc<Scenario> {
    let steps: Vec<_> = rows.iter().flat_map(|row| row.steps(engine, limit)).collect();
    let text = json!({"scenario": format!("Actionability {name}"), "timeout": "10m", "base_url": "${env.SITE_URL}",
                      "steps": steps});
    // JSON is YAML.
    let path = folder().join(format!("{name}.yaml"));
    let loaded = load(&path.display().to_string(), &text.to_string(), environment);
    let problems: Vec<_> = loaded.diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    loaded.scenarios.into_iter().next().unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/actionability")
}

fn table() -> Vec<Row> {
    serde_json::from_str(&std::fs::read_to_string(folder().join("table.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_act_on_elements_that_are_ready_and_on_no_others() {
    let site = Site::open(&folder().join("site")).await;
    let environment = Environment::everything().with([("SITE_URL".to_owned(), site.url())]);
    let rows = table();
    let only = std::env::var("WACHTA_ONLY");
    let (alone, together): (Vec<_>, Vec<_>) = rows
        .iter()
        .filter(|row| only.as_ref().map_or(true, |only| only.split(',').any(|only| row.page.contains(only))))
        .partition(|row| row.alone);
    let mut shares: Vec<(String, Vec<&Row>)> = Vec::new();
    for share in 0..SHARES {
        let part: Vec<_> = together.iter().copied().skip(share).step_by(SHARES).collect();
        if !part.is_empty() {
            shares.push((format!("share {}", share + 1), part));
        }
    }
    shares.extend(alone.into_iter().map(|row| (row.page.clone(), vec![row])));
    let since = Instant::now();
    let run = async |engine| {
        let place = Place::new(engine, None, environment.clone());
        let mut wrong = Vec::new();
        let mut again = Vec::new();
        let all = |limit: &str, shares: &[(String, Vec<&Row>)]| -> Vec<_> {
            shares.iter().map(|(name, rows)| scenario(name, rows, engine, limit, &environment)).collect()
        };
        for ((_, rows), outcome) in shares.iter().zip(place.run(&all(SHORT, &shares)).await) {
            for row in rows {
                let Some(difference) = row.difference(engine, &outcome) else { continue };
                if UNANSWERED.iter().any(|part| difference.contains(part)) {
                    again.push((row.page.clone(), vec![*row]));
                } else {
                    wrong.push(row.report(engine, &difference));
                }
            }
            if outcome.verdict == Verdict::Unknown {
                wrong.push(format!("{engine}: {}", told(&outcome)));
            }
        }
        for ((_, rows), outcome) in again.iter().zip(place.run(&all(LONG, &again)).await) {
            wrong.extend(rows.iter().filter_map(|row| Some(row.report(engine, &row.difference(engine, &outcome)?))));
        }
        eprintln!("{:>8.2?} {} is done", since.elapsed(), place.name);
        place.close().await;
        wrong
    };
    // Those that must fail spend their time waiting, so both browsers have room at once.
    let (mut wrong, firefox) = tokio::join!(run(Engine::Chromium), run(Engine::Firefox));
    wrong.extend(firefox);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

#[test]
fn every_page_has_a_row_in_the_table_and_in_the_docs() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/actionability.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let rows = table();
    let described: BTreeSet<_> = rows.iter().map(|row| row.page.clone()).collect();
    // Pages without a number are parts of others.
    let pages: BTreeSet<_> = std::fs::read_dir(folder().join("site"))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".html")?.to_owned()))
        .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    assert_eq!(described, pages);
    let lines: Vec<Vec<_>> = docs.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    for Row { page, property, right, .. } in &rows {
        let verdict = match right.reason {
            Some(reason) => format!("{}: `{}`", right.verdict, reason.as_str()),
            None => right.verdict.to_string(),
        };
        let wanted = [page.as_str(), property.as_str(), verdict.as_str()].map(Some);
        let has_line = |cells: &Vec<&str>| [1, 2, 4].map(|column| cells.get(column).copied()) == wanted;
        assert!(lines.iter().any(has_line), "docs/actionability.md has no line for {page}: {property}, {verdict}");
    }
}
