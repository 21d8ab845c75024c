//! Differences between a failed run and the last stored good run: requests with another status, new or missing
//! requests, console errors, steps that took much longer, and the content of the page. Pure functions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::outcome::{Difference, DifferenceKind, Outcome, RunId, StepStatus};
use crate::secret::Masked;
use crate::values::expect::cut;

/// Maximum number of reported differences. The most significant ones come first.
const MOST: usize = 12;
/// Maximum number of differences of a kind that is weak evidence by itself.
const FEW: usize = 3;
/// Maximum length of a displayed text, in characters.
const LONGEST: usize = 120;
/// Minimum factor by which the duration of a step must grow to count as much longer …
const MUCH_LONGER: f64 = 3.0;
/// … and the minimum growth, in seconds.
const NOTICEABLE: f64 = 0.5;

/// Observable behavior of a run, for comparison with another run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    /// Id of the run.
    pub run: RunId,
    /// End of the run.
    pub ended_at: DateTime<Utc>,
    /// Steps of the run, in order.
    pub steps: Vec<StepPrint>,
    /// Requests of its pages and steps, in order.
    pub requests: Vec<RequestPrint>,
    /// Errors logged on the browser console.
    pub console: Vec<Masked>,
    /// Pages of the run, each recorded after a step. A good run has one for every step, a failed run one for the failed
    /// step.
    pub pages: Vec<PagePrint>,
}

/// A step of a footprint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepPrint {
    /// Name of the step.
    pub name: String,
    /// Duration of the step, in seconds.
    pub duration: f64,
    /// Whether the step passed.
    pub passed: bool,
}

/// A request of a footprint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestPrint {
    /// Position in `steps` of the step during which the request was sent.
    pub step: usize,
    /// HTTP method.
    pub method: String,
    /// URL of the request.
    pub url: Masked,
    /// Status of the response. `None` if there was no response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// A page after a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PagePrint {
    /// Position of the step in `steps`.
    pub step: usize,
    /// Whether the step only inspected the page, so that this is also the page that the step found.
    pub looked: bool,
    /// Title of the document.
    pub title: Masked,
    /// Accessibility tree of the page, one line per element.
    pub tree: Vec<Masked>,
    /// File name of its screenshot in the footprint's folder, if one was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
}

impl Footprint {
    /// Creates the footprint of an outcome from its requests, console errors and pages.
    pub fn new(outcome: &Outcome, heard: Vec<RequestPrint>, console: Vec<Masked>, pages: Vec<PagePrint>) -> Self {
        let steps = outcome.steps.iter().map(|step| StepPrint {
            name: step.name.clone(),
            duration: step.duration.as_secs_f64(),
            passed: step.status == StepStatus::Passed,
        });
        let own = outcome.steps.iter().enumerate().filter_map(|(at, step)| {
            let http = step.http.as_ref()?;
            Some(RequestPrint {
                step: at,
                method: http.method.clone(),
                url: Masked::own_words(http.url.clone()),
                status: (http.status > 0).then_some(http.status),
            })
        });
        let (requests, steps) = (own.chain(heard).collect(), steps.collect());
        Self { run: outcome.run, ended_at: outcome.ended_at, steps, requests, console, pages }
    }

    /// Returns the position of the step that corresponds to a step of another run: the same position if the step there
    /// has the same name, otherwise that of the first step with this name.
    fn position(&self, other: &Self, step: usize) -> Option<usize> {
        let name = &other.steps.get(step)?.name;
        let same = |at: &usize| self.steps.get(*at).is_some_and(|own| own.name == *name);
        Some(step).filter(same).or_else(|| self.steps.iter().position(|own| own.name == *name))
    }

    /// Returns the page to compare with the failed step of another run: the page after the corresponding step if it
    /// only inspects the page, otherwise the page before it.
    pub fn page_for(&self, other: &Self, failed: usize) -> Option<&PagePrint> {
        let limit = self.position(other, failed)? + usize::from(other.pages.last()?.looked);
        self.pages.iter().rev().find(|page| page.step < limit)
    }
}

/// Parts of a text that change from run to run without significance: numbers, ids and hashes.
static CHANGING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("[0-9a-fA-F]{8}-[0-9a-fA-F-]{9,}|[0-9a-fA-F]*[0-9][0-9a-fA-F]{5,}|[0-9]+").expect("it is one")
});

fn shape(text: &str) -> String {
    CHANGING.replace_all(text, "*").into_owned()
}

/// Returns the comparison key of a request, without variable parts, and its display text.
fn named(request: &RequestPrint, site: Option<&str>) -> ((String, String), String) {
    let url = request.url.as_str().split(['?', '#']).next().unwrap_or_default();
    let (host, path) = url.split_once("://").map_or(("", url), |(_, rest)| {
        let at = rest.find('/').unwrap_or(rest.len());
        rest.split_at(at)
    });
    let shown = if Some(host) == site { path } else { url };
    let shown = format!("{} {}", request.method, cut(if shown.is_empty() { "/" } else { shown }, LONGEST));
    ((request.method.clone(), format!("{host}{}", shape(path))), shown)
}

fn told(status: Option<u16>) -> String {
    status.map_or_else(|| "nothing".to_owned(), |status| status.to_string())
}

fn is_bad(status: Option<u16>) -> bool {
    status.is_none_or(|status| status >= 400)
}

/// Returns the differences of a run from an earlier good one, the most significant first. `failed` is the position of
/// the failed step.
pub fn between(good: &Footprint, bad: &Footprint, failed: Option<usize>) -> Vec<Difference> {
    let mut found: Vec<(u8, Difference)> = Vec::new();
    let mut say = |rank: u8, kind: DifferenceKind, text: String| {
        let text = Masked::own_words(text);
        if !found.iter().any(|(_, known)| known.text == text) {
            found.push((rank, Difference { kind, text }));
        }
    };
    requests(good, bad, failed, &mut say);
    let known: BTreeSet<String> = good.console.iter().map(|error| shape(error.as_str())).collect();
    for error in bad.console.iter().filter(|error| !known.contains(&shape(error.as_str()))).take(FEW) {
        say(2, DifferenceKind::Console, format!("new on the console: {}", cut(error.as_str(), LONGEST)));
    }
    if let Some(failed) = failed
        && let (Some(before), Some(now)) = (good.page_for(bad, failed), bad.pages.last())
    {
        page(before, now, &mut say);
    }
    for step in &bad.steps {
        let of_name = good.steps.iter().find(|other| other.name == step.name && other.passed && step.passed);
        let Some(before) = of_name else { continue };
        if step.duration > before.duration * MUCH_LONGER && step.duration > before.duration + NOTICEABLE {
            let text = format!("{} took {:.1} s, was {:.1} s", step.name, step.duration, before.duration);
            say(4, DifferenceKind::Step, text);
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, difference)| difference).take(MOST).collect()
}

fn requests(
    good: &Footprint,
    bad: &Footprint,
    failed: Option<usize>,
    say: &mut impl FnMut(u8, DifferenceKind, String),
) {
    let host = |request: &RequestPrint| {
        let rest = request.url.as_str().split_once("://")?.1;
        Some(rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned())
    };
    // The host with the most requests counts as the site.
    let mut hosts = BTreeMap::<String, usize>::new();
    for host in good.requests.iter().filter_map(host) {
        *hosts.entry(host).or_default() += 1;
    }
    let site = hosts.into_iter().max_by_key(|(_, count)| *count).map(|(host, _)| host);
    let mut before = BTreeMap::<_, BTreeSet<Option<u16>>>::new();
    for request in &good.requests {
        before.entry(named(request, None).0).or_default().insert(request.status);
    }
    let mut seen = BTreeSet::new();
    let (mut new, mut missing) = (0, 0);
    for request in &bad.requests {
        let (key, shown) = named(request, site.as_deref());
        seen.insert(key.clone());
        match before.get(&key) {
            Some(known) if known.contains(&request.status) => {}
            Some(known) => {
                let was: Vec<String> = known.iter().map(|status| told(*status)).collect();
                let text = format!("{shown} returns {}, was {}", told(request.status), was.join(" or "));
                say(if is_bad(request.status) { 0 } else { 3 }, DifferenceKind::Request, text);
            }
            None if is_bad(request.status) => {
                say(1, DifferenceKind::Request, format!("new: {shown} returns {}", told(request.status)));
            }
            None if new < FEW => {
                new += 1;
                say(6, DifferenceKind::Request, format!("new: {shown}"));
            }
            None => {}
        }
    }
    // Requests that the good run sent after the failed step are not missing.
    let end = failed.and_then(|failed| good.position(bad, failed));
    for request in good.requests.iter().filter(|request| end.is_none_or(|end| request.step < end)) {
        let (key, shown) = named(request, site.as_deref());
        if missing < FEW && host(request) == site && seen.insert(key) {
            missing += 1;
            say(5, DifferenceKind::Request, format!("missing: {shown}"));
        }
    }
}

fn page(before: &PagePrint, now: &PagePrint, say: &mut impl FnMut(u8, DifferenceKind, String)) {
    if shape(before.title.as_str()) != shape(now.title.as_str()) {
        let text = format!(
            "the title is `{}`, was `{}`",
            cut(now.title.as_str(), LONGEST),
            cut(before.title.as_str(), LONGEST)
        );
        say(1, DifferenceKind::Page, text);
    }
    // Lines are compared by count, not by position, so that a line that only moved is not a difference.
    let count = |page: &PagePrint| {
        let mut counts = HashMap::<String, usize>::new();
        for line in &page.tree {
            *counts.entry(shape(line.as_str().trim())).or_default() += 1;
        }
        counts
    };
    let mut told = |page: &PagePrint, mut others: HashMap<String, usize>, word: &str| {
        let mut lines = 0;
        for line in &page.tree {
            let line = line.as_str().trim();
            match others.get_mut(&shape(line)) {
                Some(left) if *left > 0 => *left -= 1,
                _ if lines < FEW + 1 => {
                    lines += 1;
                    say(3, DifferenceKind::Page, format!("{word} on the page: {}", cut(line, LONGEST)));
                }
                _ => {}
            }
        }
    };
    told(now, count(before), "new");
    told(before, count(now), "gone");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> Masked {
        Masked::own_words(text)
    }

    fn footprint(steps: &[(&str, f64, bool)], requests: &[(usize, &str, &str, u16)], console: &[&str]) -> Footprint {
        Footprint {
            run: RunId::new(),
            ended_at: Utc::now(),
            steps: steps
                .iter()
                .map(|(name, duration, passed)| StepPrint {
                    name: (*name).into(),
                    duration: *duration,
                    passed: *passed,
                })
                .collect(),
            requests: requests
                .iter()
                .map(|(step, method, url, status)| RequestPrint {
                    step: *step,
                    method: (*method).into(),
                    url: masked(url),
                    status: (*status > 0).then_some(*status),
                })
                .collect(),
            console: console.iter().map(|error| masked(error)).collect(),
            pages: Vec::new(),
        }
    }

    fn page((step, looked): (usize, bool), title: &str, tree: &str) -> PagePrint {
        let tree = tree.lines().map(masked).collect();
        PagePrint { step, looked, title: masked(title), tree, picture: None }
    }

    fn texts(found: &[Difference]) -> Vec<&str> {
        found.iter().map(|difference| difference.text.as_str()).collect()
    }

    const STEPS: [(&str, f64, bool); 3] = [("open", 0.2, true), ("pay", 0.4, true), ("thanks", 0.1, true)];
    const SHOP: &str = "https://shop.example.com";

    #[test]
    fn requests_that_are_answered_otherwise_come_first() {
        let url = |path: &str| format!("{SHOP}{path}");
        let good = footprint(
            &STEPS,
            &[
                (0, "GET", &url("/"), 200),
                (0, "GET", &url("/app.3f2a1b9c.js"), 200),
                (0, "GET", &url("/api/stock/17"), 200),
                (1, "POST", &url("/api/orders"), 201),
                (2, "GET", &url("/api/orders/981?full=1"), 200),
                (0, "GET", "https://cdn.example.net/logo.svg", 200),
            ],
            &["slow image 12"],
        );
        let failing = [("open", 0.2, true), ("pay", 0.4, true), ("thanks", 8.0, false)];
        let bad = footprint(
            &failing,
            &[
                (0, "GET", &url("/"), 200),
                (0, "GET", &url("/app.77aa01b2.js"), 200),
                (1, "POST", &url("/api/orders"), 500),
                (1, "POST", &url("/api/errors"), 204),
                (0, "GET", "https://ads.example.org/pixel", 0),
            ],
            &["slow image 99", "TypeError: order is null"],
        );
        assert_eq!(
            texts(&between(&good, &bad, Some(2))),
            [
                "POST /api/orders returns 500, was 201",
                "new: GET https://ads.example.org/pixel returns nothing",
                "new on the console: TypeError: order is null",
                "missing: GET /api/stock/17",
                "new: POST /api/errors",
            ]
        );
        assert_eq!(between(&good, &good, None), []);
    }

    #[test]
    fn steps_and_pages_are_compared() {
        let mut good = footprint(&STEPS, &[], &[]);
        good.pages = vec![
            page((0, false), "Shop", "heading \"Shop\"\nbutton \"Pay\"\ntext \"3 left\""),
            page((1, false), "Thank you", "heading \"Thank you\"\nlink \"Invoice 12\""),
            page((2, true), "Thank you", "heading \"Thank you\"\nlink \"Invoice 12\""),
        ];
        let mut bad = footprint(&[("open", 2.9, true), ("pay", 0.9, true), ("thanks", 9.0, false)], &[], &[]);
        bad.pages = vec![page((2, true), "Sorry", "heading \"Sorry\"\nalert \"Card declined\"")];
        assert_eq!(
            texts(&between(&good, &bad, Some(2))),
            [
                "the title is `Sorry`, was `Thank you`",
                "new on the page: heading \"Sorry\"",
                "new on the page: alert \"Card declined\"",
                "gone on the page: heading \"Thank you\"",
                "gone on the page: link \"Invoice 12\"",
                "open took 2.9 s, was 0.2 s",
            ]
        );
        // A step without an action is compared with the page before it.
        bad.pages = vec![page((1, false), "Shop", "heading \"Shop\"\ntext \"7 left\"")];
        bad.steps[1].passed = false;
        bad.steps[0].duration = 0.2;
        assert_eq!(texts(&between(&good, &bad, Some(1))), ["gone on the page: button \"Pay\""]);
        // Steps of the same name are distinguished by position, or found by name if a run took another course.
        let twice = [("open", 0.1, true), ("next", 0.1, true), ("next", 0.1, true), ("look", 0.1, true)];
        let mut good = footprint(&twice, &[], &[]);
        good.pages = vec![page((0, false), "One", ""), page((1, false), "Two", ""), page((2, false), "Three", "")];
        let mut bad = footprint(&twice[..2], &[], &[]);
        bad.pages = vec![page((1, false), "None", "")];
        assert_eq!(texts(&between(&good, &bad, Some(1))), ["the title is `None`, was `One`"]);
        let mut bad = footprint(&[("open", 0.1, true), ("look", 0.1, false)], &[], &[]);
        bad.pages = vec![page((1, true), "None", "")];
        assert_eq!(texts(&between(&good, &bad, Some(1))), ["the title is `None`, was `Three`"]);
    }
}
