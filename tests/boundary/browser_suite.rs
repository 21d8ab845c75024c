//! Every step, target and setting of the language against real pages, in every browser and through Selenium Grid.
//!
//! The scenarios lie in `tests/browser-suite`, the pages that the demo shop has not in its folder `site`. What a browser
//! cannot do stands in [`EXCEPTIONS`] with the reason, and nowhere else.

use std::path::Path;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use wachta::app::lookup::Environment;
use wachta::demo::{Demo, DemoLookup};
use wachta::outcome::Verdict;
use wachta::scenario::{Engine, Headless};

use crate::support::grid::Grid;
use crate::support::places::{AT_ONCE, Place, scenarios, told};
use crate::support::site::{PASSWORD, SEED, Site};

/// Scenarios of what is not wired yet.
const LEFT_OUT: &[&str] = &[];

/// Where another verdict is expected than `passed`: file, how the place's name begins, verdict, why.
const EXCEPTIONS: &[(&str, &str, Verdict, &str)] = &[
    ("drift.yaml", "", Verdict::Degraded, "a target is found by its second alternative, which is what it tests"),
    (
        "download.yaml",
        "chromium of",
        Verdict::Failed,
        "Chromium keeps no download without a folder, and wachta knows none elsewhere",
    ),
    ("download.yaml", "firefox of", Verdict::Unknown, "a file that a browser elsewhere has kept is not opened"),
    ("drop.yaml", "firefox", Verdict::Failed, "Firefox makes no drag and drop of what WebDriver does with the mouse"),
    (
        "leave.yaml",
        "firefox of",
        Verdict::Failed,
        "it lets no page ask before it is left, as long as it is not told to",
    ),
    (
        "leave_answered.yaml",
        "firefox of",
        Verdict::Failed,
        "it lets no page ask before it is left, as long as it is not told to",
    ),
];

/// The verdict that a scenario must have at a place.
fn expected(file: &str, place: &str) -> (Verdict, &'static str) {
    EXCEPTIONS
        .iter()
        .find(|(of, at, ..)| *of == file && place.starts_with(at))
        .map_or((Verdict::Passed, ""), |(.., verdict, why)| (*verdict, why))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_browser_does_every_step() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let site = Site::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser-suite/site")).await;
    let own = [
        ("SITE_URL", site.url()),
        ("SITE_OTHER_URL", site.other_url()),
        ("SITE_PASSWORD", PASSWORD.to_owned()),
        ("SITE_SEED", SEED.to_owned()),
    ];
    let shops = DemoLookup::new(&shop);
    let of_shop = shops.variables().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let of_site = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let environment = Environment::everything().with(of_shop.chain(of_site));
    let all: Vec<_> = scenarios("tests/browser-suite", &environment)
        .into_iter()
        .filter(|(file, _)| !LEFT_OUT.contains(&file.as_str()))
        .collect();
    let (files, runs): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let only = |place: &str| std::env::var("WACHTA_PLACE").map_or(true, |only| place == only);
    let mut wrong = Vec::new();
    let since = Instant::now();
    let mut grid = None;
    let (shell, full) = (Headless::Shell, Headless::Full);
    for (engine, headless, through_grid) in [
        (Engine::Chromium, shell, false),
        (Engine::Chromium, full, false),
        (Engine::Firefox, shell, false),
        (Engine::Chromium, full, true),
        (Engine::Firefox, shell, true),
    ] {
        let part = if through_grid {
            " of the Grid"
        } else if headless == full {
            ", full"
        } else {
            ""
        };
        // The whole Chromium is what the Grid runs; on its own it is for the long form.
        let is_long = std::env::var_os("WACHTA_SOAK").is_some() || std::env::var_os("WACHTA_PLACE").is_some();
        if !only(&format!("{engine}{part}")) || (part == ", full" && !is_long) {
            continue;
        }
        if through_grid && grid.is_none() {
            grid = Some(Grid::up("grid", AT_ONCE).await);
            eprintln!("{:>8.2?} the Grid is up", since.elapsed());
        }
        let place = Place::with(engine, headless, grid.as_ref().filter(|_| through_grid), environment.clone());
        for (file, outcome) in files.iter().zip(place.run(&runs).await) {
            let (verdict, why) = expected(file, &place.name);
            if outcome.verdict != verdict {
                wrong.push(format!("{}: {file}: {verdict} was expected {why}\n  {}", place.name, told(&outcome)));
            }
        }
        eprintln!("{:>8.2?} {} is done", since.elapsed(), place.name);
        place.close().await;
    }
    stop.cancel();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}
