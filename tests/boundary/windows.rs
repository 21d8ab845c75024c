//! Windows that close while a flow is in them: every time the flow goes on in the right one, or says what happened.

use std::path::Path;
use std::sync::Arc;

use wachta::app::lookup::Environment;
use wachta::names::Reason;
use wachta::outcome::Verdict;
use wachta::scenario::{Engine, Headless, load};

use crate::support::places::{Place, told};
use crate::support::site::Site;

/// How often each browser walks through the windows of the suite.
fn rounds() -> usize {
    std::env::var("WACHTA_SOAK_WINDOWS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_race_with_a_closing_window_are_right_every_time() {
    let site = Site::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser-suite/site")).await;
    let environment = Environment::everything().with([("SITE_URL".to_owned(), site.url())]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser-suite/windows.yaml");
    let flow = load(&file.display().to_string(), &std::fs::read_to_string(&file).unwrap(), &environment);
    assert!(flow.diagnostics.is_empty(), "{:?}", flow.diagnostics);
    let flow = &flow.scenarios[0];
    let mut wrong = Vec::new();
    for (engine, headless) in
        [(Engine::Chromium, Headless::Shell), (Engine::Chromium, Headless::Full), (Engine::Firefox, Headless::Shell)]
    {
        let place = Place::with(engine, headless, None, environment.clone());
        for outcome in place.run(&vec![Arc::clone(flow); rounds()]).await {
            if outcome.verdict != Verdict::Passed {
                wrong.push(format!("{}: {}", place.name, told(&outcome)));
            }
        }
        place.close().await;
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

/// The flow closes the window that it began in, and the page the other one.
const LAST: &str = "
base_url: ${env.SITE_URL}
steps:
  - goto: /signin.html
  - click: {button: With Harbour}
  - window: {new: true}
  - window: {title: Sign in}
  - window: close
  - click: {button: Allow}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_whose_last_window_is_closed_by_the_page_has_failed() {
    let site = Site::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser-suite/site")).await;
    let environment = Environment::everything().with([("SITE_URL".to_owned(), site.url())]);
    let one = |text: &str| {
        let loaded = load("closed.yaml", text, &environment);
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        Arc::clone(&loaded.scenarios[0])
    };
    let looked = one(&format!("scenario: Looked at{LAST}  - expect: {{hidden: {{button: Allow}}}}\n"));
    let acted = one(&format!("scenario: Acted in{LAST}  - click: {{button: Pay}}\n"));
    let again = one("scenario: Again\nbase_url: ${env.SITE_URL}\nsteps:\n  - goto: /signin.html\n");
    for (engine, headless) in
        [(Engine::Chromium, Headless::Shell), (Engine::Chromium, Headless::Full), (Engine::Firefox, Headless::Shell)]
    {
        let place = Place::with(engine, headless, None, environment.clone());
        let outcomes = place.run(&[Arc::clone(&looked), Arc::clone(&acted), Arc::clone(&again)]).await;
        let [looked, acted, again] = &outcomes[..] else { panic!("three runs have three outcomes") };
        for outcome in [looked, acted] {
            let message = outcome.message.as_ref().map(ToString::to_string).unwrap_or_default();
            let seen = (outcome.verdict, outcome.reason, message.contains("the page closed its window"));
            assert_eq!(seen, (Verdict::Failed, Some(Reason::NotFound), true), "{}: {}", place.name, told(outcome));
        }
        assert_eq!(again.verdict, Verdict::Passed, "{}: {}", place.name, told(again));
        place.close().await;
    }
}
