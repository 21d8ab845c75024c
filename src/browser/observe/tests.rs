//! Recorded events of both engines for a visit of a small site, and the observations derived from them.
//! `WACHTA_BLESS=1` writes the golden files.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::bounds::kept;
use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bidi")
}

/// Returns the recorded events, one per line, with `{"step": n}` between them.
fn lines(engine: Engine) -> Vec<Json> {
    let text = std::fs::read_to_string(folder().join(format!("{engine}.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn feed(observed: &mut Observed, line: &Json) {
    if let Some(step) = line["step"].as_u64() {
        observed.step(usize::try_from(step).unwrap());
        return;
    }
    let received =
        UNIX_EPOCH + Duration::from_secs_f64(line["received"].as_f64().unwrap_or(0.0).clamp(0.0, 1e15) / 1000.0);
    observed.event(line["method"].as_str().unwrap_or_default(), &line["params"], received);
}

fn visit(engine: Engine) -> Observed {
    let mut observed = Observed::new(engine);
    for line in lines(engine) {
        feed(&mut observed, &line);
    }
    observed
}

fn browser(engine: Engine) -> BrowserResult {
    BrowserResult { engine, version: "1.2.3".into(), warm: true }
}

fn masker() -> Masker {
    let masker = Masker::default();
    assert!(masker.add("hunter2"));
    masker
}

fn golden(name: &str, text: &str) {
    let path = folder().join(name);
    if std::env::var_os("WACHTA_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
}

#[test]
fn both_engines_tell_the_same_story() {
    for engine in Engine::ALL {
        let observed = visit(engine);
        let failed: Vec<_> =
            observed.failed_requests().iter().map(|failed| (failed.step, failed.to_string())).collect();
        let errors: Vec<_> = observed.console_errors().iter().map(|error| (error.step, error.to_string())).collect();
        let mut story = String::new();
        let mut tell = |title: &str, lines: Vec<String>| {
            story.push_str(&format!(
                "{title}\n{}\n",
                lines.iter().map(|line| format!("  {line}\n")).collect::<String>()
            ));
        };
        tell("failed requests", failed.iter().map(|(step, text)| format!("{step}: {text}")).collect());
        tell("console errors", errors.iter().map(|(step, text)| format!("{step}: {text}")).collect());
        tell("downloads", observed.downloads().iter().map(|found| format!("{found:?}")).collect());
        tell("pages", observed.pages().iter().map(|(step, page)| format!("{step}: {}", json!(page))).collect());
        tell("totals", vec![format!("{:?}", observed.totals())]);
        tell("last document", vec![format!("{:?}", observed.last_document())]);
        golden(&format!("{engine}.txt"), &story);
    }
}

#[test]
fn a_navigation_is_judged_by_its_final_document() {
    for engine in Engine::ALL {
        let mut observed = Observed::new(engine);
        let mut seen = Vec::new();
        for line in lines(engine) {
            feed(&mut observed, &line);
            let params = &line["params"];
            if line["method"] == "browsingContext.navigationStarted" && params["url"] != "http://127.0.0.1:8080/frame" {
                seen.push(params["navigation"].as_str().unwrap().to_owned());
            }
        }
        let told: Vec<_> = seen
            .iter()
            .map(|navigation| observed.status_of(navigation).unwrap())
            .map(|found| (found.url.rsplit('/').next().unwrap().to_owned(), found.status, found.error, found.download))
            .collect();
        let refused = match engine {
            Engine::Chromium => "net::ERR_CONNECTION_REFUSED",
            Engine::Firefox => "NS_ERROR_CONNECTION_REFUSED",
        };
        // Chromium creates no document for an error without a body, but reports its status.
        let bodiless = (engine == Engine::Chromium).then(|| "net::ERR_HTTP_RESPONSE_CODE_FAILURE".to_owned());
        let expected = [
            ("index".to_owned(), Some(200), None, false),
            ("report.csv".to_owned(), Some(200), None, true),
            ("second".to_owned(), Some(200), None, false),
            ("empty-error".to_owned(), Some(503), bodiless, false),
            (String::new(), None, Some(refused.to_owned()), false),
            ("nowhere".to_owned(), Some(404), None, false),
        ];
        assert_eq!(told, expected, "{engine}");
        assert_eq!(observed.status_of("nothing"), None);
    }
}

#[test]
fn a_status_counts_when_it_arrives() {
    for (status, expected) in [(500, 1), (200, 0)] {
        let mut observed = Observed::new(Engine::Chromium);
        let mut feed = |method: &str, more: Json| {
            let mut params = json!({
                "context": "c", "navigation": null, "redirectCount": 0, "timestamp": 1000,
                "request": {"request": "1", "url": "http://a.test/x", "method": "GET", "headers": [], "timings": {}},
            });
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            observed.event(method, &params, UNIX_EPOCH);
            observed.failed_requests().len()
        };
        let response = json!({"response": {"status": status, "headers": []}});
        assert_eq!(feed("network.beforeRequestSent", json!({})), 0);
        // Nobody reads the body, so the response is never complete.
        assert_eq!(feed("network.responseStarted", response), expected, "{status}");
        // Leaving the page cancels the body.
        assert_eq!(feed("network.fetchError", json!({"errorText": "net::ERR_ABORTED"})), expected, "{status}");
    }
}

#[test]
fn the_har_is_whole_and_without_secrets() {
    for engine in Engine::ALL {
        let har = visit(engine).har(&browser(engine), &masker());
        let text = serde_json::to_string_pretty(&har).unwrap();
        assert!(!text.contains("hunter2"), "{engine}");
        for (at, _) in
            text.match_indices("\"name\": \"Cookie\"").chain(text.match_indices("\"name\": \"Authorization\""))
        {
            assert!(text[at..].lines().nth(1).unwrap().ends_with("\"***\""), "{engine}");
        }
        let log = &har["log"];
        for entry in log["entries"].as_array().unwrap() {
            let timings = entry["timings"].as_object().unwrap();
            let sum: f64 = timings
                .iter()
                .filter(|(name, _)| *name != "ssl")
                .filter_map(|(_, t)| t.as_f64())
                .filter(|t| *t > 0.0)
                .sum();
            assert!((sum - entry["time"].as_f64().unwrap()).abs() < 0.01, "{engine}: {entry}");
            assert!(["send", "wait", "receive"].iter().all(|part| timings[*part].as_f64().unwrap() >= 0.0), "{entry}");
            assert!(log["pages"].as_array().unwrap().iter().any(|page| page["id"] == entry["pageref"]), "{entry}");
        }
        golden(&format!("{engine}.har"), &format!("{text}\n"));
    }
}

#[test]
fn the_evidence_of_a_page_names_console_and_requests() {
    let page = visit(Engine::Chromium).page_json(Some("http://127.0.0.1:8080/index"), None);
    assert_eq!((&page["url"], &page["title"]), (&json!("http://127.0.0.1:8080/index"), &Json::Null));
    let console = page["console"].as_array().unwrap();
    assert!(console.iter().any(|entry| entry["level"] == "warn" && entry["message"] == "careful"), "{page}");
    assert!(page["failed_requests"].as_array().unwrap().iter().any(|request| request["status"] == 404), "{page}");
}

#[test]
fn nothing_grows_without_bound() {
    let mut observed = Observed::new(Engine::Chromium);
    let long = "x".repeat(100_000);
    for number in 0..6000 {
        let (id, url) = (number.to_string(), format!("http://a/{number}"));
        let started = json!({"context": id, "navigation": id, "url": url, "timestamp": 1e12});
        observed.event("browsingContext.contextCreated", &json!({"context": id, "parent": null}), SystemTime::now());
        observed.event("browsingContext.navigationStarted", &started, SystemTime::now());
        observed.event("browsingContext.downloadWillBegin", &started, SystemTime::now());
        let header = json!({"name": "X-Long", "value": {"type": "string", "value": "v".repeat(9000)}});
        let request = json!({"request": id, "url": url, "method": "GET", "headers": vec![header; 3]});
        observed.event("network.beforeRequestSent", &json!({"request": request, "context": "0"}), SystemTime::now());
        let entry = json!({"level": "error", "type": "console", "text": long, "source": {"context": "0"}});
        observed.event("log.entryAdded", &entry, SystemTime::now());
    }
    assert_eq!((observed.totals().requests, observed.totals().console_errors), (6000, 6000));
    assert_eq!((observed.traffic.all().len(), observed.documents.all().len()), (5000, 500));
    assert!(observed.console_errors().len() <= 1000 && observed.downloads().len() <= 200);
    let har = observed.har(&browser(Engine::Chromium), &masker()).to_string();
    assert!(har.len() < 64 << 20, "{} bytes", har.len());
}

#[test]
fn a_text_is_never_cut_within_a_word() {
    assert_eq!(kept("all of it", 9), "all of it");
    assert_eq!(kept("the key is hunter2hunter2", 18), "the key is…");
    assert_eq!(kept(&"hunter2".repeat(9), 18), "…");
    assert_eq!(kept("żółw żółw", 9), "żółw…");
}

/// Returns replacement values for fuzzing JSON.
fn odd() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!(true)),
        any::<f64>().prop_map(|number| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        Just(json!(u64::MAX)),
        ".{0,20}".prop_map(|text| json!(text)),
        Just(json!("data:")),
        Just(json!("HTTP://a b/%%?=&#")),
    ]
}

/// Returns the nth value in a tree of values.
fn nth<'a>(value: &'a mut Json, n: &mut usize) -> Option<&'a mut Json> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Json::Array(items) => items.iter_mut().find_map(|item| nth(item, n)),
        Json::Object(fields) => fields.values_mut().find_map(|field| nth(field, n)),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_event_however_odd_does_harm(
        changes in prop::collection::vec((0..148_usize, 0..120_usize, odd()), 1..80),
        swaps in prop::collection::vec((0..148_usize, 0..148_usize), 0..20),
        firefox in any::<bool>(),
    ) {
        let engine = if firefox { Engine::Firefox } else { Engine::Chromium };
        let mut events = lines(engine);
        let count = events.len();
        for (line, mut place, odd) in changes {
            if let Some(found) = nth(&mut events[line % count]["params"], &mut place) {
                *found = odd;
            }
        }
        for (a, b) in swaps {
            events.swap(a % count, b % count);
        }
        // Events in the format of the other engine are unexpected input too.
        for engine in Engine::ALL {
            let mut observed = Observed::new(engine);
            for line in &events {
                feed(&mut observed, line);
            }
            let har = observed.har(&browser(engine), &masker());
            for entry in har["log"]["entries"].as_array().unwrap() {
                prop_assert!(entry["time"].as_f64().is_some_and(f64::is_finite), "{entry}");
            }
            let _ = (observed.pages(), observed.totals(), observed.page_json(None, None), observed.last_document());
        }
    }
}
