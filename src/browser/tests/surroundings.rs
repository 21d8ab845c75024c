//! Browser settings and events of a run: emulation, headers, dialogs, windows, downloads.

use std::collections::BTreeMap;

use super::super::spec::Cookie;
use super::*;
use crate::names::Reason;
use crate::scenario::device::Device;
use crate::scenario::{DialogAnswer, Engine, Geolocation, Viewport, WindowChange};

const BOTH: [Engine; 2] = Engine::ALL;

/// Script that returns the browser properties visible to a page.
const KNOWN: &str = "return (async () => ({
    size: [innerWidth, innerHeight], ratio: devicePixelRatio, language: navigator.language, agent: navigator.userAgent,
    zone: Intl.DateTimeFormat().resolvedOptions().timeZone, cookie: document.cookie,
    place: await new Promise(done => navigator.geolocation.getCurrentPosition(
        at => done([at.coords.latitude, at.coords.longitude]), error => done(error.message))),
}))()";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_sees_what_the_scenario_says_of_its_browser() {
    for engine in BOTH {
        let folder = Temporary::new();
        let browsers = configured(&folder, Config { max_sessions: 1, engine: Some(engine), ..Config::default() });
        let server = counting().await;
        let values = values(&server.base);
        let origin = server.base.trim_end_matches('/').to_owned();
        let run = RunId::new();
        let spec = ContextOptions {
            viewport: Some(Viewport { width: 600, height: 700 }),
            device: Device::named("pixel 8"),
            locale: Some("pl-PL".into()),
            timezone: Some("Asia/Tokyo"),
            geolocation: Some(Geolocation { latitude: 52.25, longitude: 21.0, accuracy: 10.0 }),
            headers: vec![(origin.clone(), "X-Probe".into(), "wachta".into())],
            cookies: vec![Cookie { name: "a".into(), value: "b".into(), domain: "127.0.0.1".into(), path: "/".into() }],
            basic_auth: Some(("anna".into(), "secret-word".into())),
            traceparent: vec![origin],
            run,
            ..ContextOptions::default()
        };
        let mut page = browsers.open(spec, soon()).await.unwrap();
        page.step(0, "00000000000000ab", false);
        page.act(&goto("/"), &[], &values, Duration::from_secs(20)).await.unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let known = page.evaluate(KNOWN, &[], deadline).await.unwrap()["value"].take();
        assert_eq!(known["size"], serde_json::json!([600, 700]), "{engine}: {known}");
        assert_eq!((&known["ratio"], &known["language"]), (&2.625.into(), &"pl-PL".into()), "{engine}: {known}");
        assert_eq!((&known["zone"], &known["cookie"]), (&"Asia/Tokyo".into(), &"a=b".into()), "{engine}: {known}");
        assert!(known["agent"].as_str().unwrap().contains("Mobile Safari"), "{engine}: {known}");
        assert_eq!(
            (known["place"][0].as_f64(), known["place"][1].as_f64()),
            (Some(52.25), Some(21.0)),
            "{engine}: {known}"
        );
        let asked = server.headers("/");
        assert_eq!(asked.get("x-probe").map(String::as_str), Some("wachta"));
        let trace = format!("00-{}-00000000000000ab-01", run.0.simple());
        assert_eq!(asked.get("traceparent").map(String::as_str), Some(trace.as_str()));
        assert!(asked["accept-language"].starts_with("pl"), "{engine}: {asked:?}");

        page.act(&goto("/guarded"), &[], &values, Duration::from_secs(20)).await.unwrap();
        page.close().await;
        // Nothing of it remains for the next run.
        let mut page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
        let failure = page.act(&goto("/guarded"), &[], &values, Duration::from_secs(20)).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Status, "{failure:?}");
        assert!(!server.headers("/guarded").contains_key("x-probe"));
        page.act(&goto("/"), &[], &values, Duration::from_secs(20)).await.unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let known = page
            .script("return [navigator.language, innerWidth, document.cookie]", &serde_json::Value::Null, deadline)
            .await;
        assert_eq!(known.unwrap()[1], 1280, "{engine}");
        page.close().await;
        browsers.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dialogs_are_answered_or_sent_away() {
    for engine in BOTH {
        let mut bench = Bench::of(
            engine,
            &[(
                "/",
                "<button onclick=\"document.title = 'said ' + prompt('Your name?')\">Ask</button>\
                 <button onclick=\"document.title = 'sure ' + confirm('Sure?')\">Sure</button>\
                 <button onclick='for (;;) alert(1)'>For ever</button>",
            )],
        )
        .await;
        let title = |text: &str| expect(PageFact::Title(Matcher::text(text)));
        let dialog = |answer, says: Option<&str>| PageAction::Dialog { answer, expect: says.map(Matcher::text) };
        bench.act(&goto("/")).await;
        bench.page.step(0, "", true);
        bench.act(&click(role("button", "Ask"))).await;
        bench.page.step(1, "", false);
        bench.act(&dialog(DialogAnswer::Accept(Some(at("Anna"))), Some("Your name?"))).await;
        bench.act(&title("said Anna")).await;

        bench.page.step(2, "", true);
        bench.act(&click(role("button", "Sure"))).await;
        bench.page.step(3, "", false);
        let failure = bench.fail(&dialog(DialogAnswer::Accept(None), Some("Really?"))).await;
        assert_eq!((failure.reason, failure.seen.as_deref()), (Reason::Assertion, Some("\"Sure?\"")), "{engine}");
        bench.act(&title("sure true")).await;
        // No step waits for this dialog.
        bench.page.step(4, "", false);
        bench.act(&click(role("button", "Sure"))).await;
        bench.act(&title("sure false")).await;
        let failure = bench.fail(&dialog(DialogAnswer::Dismiss, None)).await;
        assert_eq!(failure.reason, Reason::NotFound, "{engine}");

        bench.page.step(5, "", false);
        let _ = bench.within(2.0, &click(role("button", "For ever"))).await;
        let failure = bench.within(2.0, &title("never")).await.unwrap_err();
        // Firefox limits the number of dialogs that a page may open.
        let expected = if engine == Engine::Firefox { Reason::Assertion } else { Reason::Timeout };
        assert_eq!(failure.reason, expected, "{engine}: {failure:?}");
        bench.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_found_and_closed() {
    for engine in BOTH {
        let mut bench = Bench::of(
            engine,
            &[
                ("/", "<title>first</title><a href=/second target=_blank>More</a><a href=/third target=_blank>Even more</a>"),
                ("/second", "<title>second</title><p>here"),
                ("/third", "<title>third</title><p>there"),
            ],
        )
        .await;
        let window = PageAction::Window;
        let title = |text: &str| expect(PageFact::Title(Matcher::text(text)));
        bench.act(&goto("/")).await;
        let failure = bench.fail(&window(WindowChange::New)).await;
        assert_eq!(failure.reason, Reason::NotFound, "{engine}");
        bench.act(&click(role("link", "More"))).await;
        bench.act(&window(WindowChange::New)).await;
        bench.act(&title("second")).await;
        bench.act(&window(WindowChange::Title(Matcher::text("first")))).await;
        bench.act(&click(role("link", "Even more"))).await;
        bench.act(&window(WindowChange::Url(Matcher::EndsWith(Template::literal("/third"))))).await;
        bench.act(&title("third")).await;
        bench.act(&window(WindowChange::Close)).await;
        bench.act(&title("first")).await;
        let failure = bench.fail(&window(WindowChange::Title(Matcher::text("third")))).await;
        assert_eq!(failure.reason, Reason::NotFound, "{engine}: {failure:?}");
        bench.act(&title("first")).await;
        bench.act(&window(WindowChange::Close)).await;
        bench.act(&title("second")).await;
        assert_eq!(
            bench.fail(&window(WindowChange::Close)).await.message,
            "the only window of a flow cannot be closed"
        );
        bench.end().await;
    }
}

/// A server that records requests.
pub(super) struct Counting {
    pub(super) base: String,
    asked: Arc<std::sync::Mutex<Vec<Asked>>>,
}

/// A path with the headers of its request.
type Asked = (String, BTreeMap<String, String>);

impl Counting {
    pub(super) fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == path).count()
    }

    /// Returns the headers of the last request for a path.
    fn headers(&self, path: &str) -> BTreeMap<String, String> {
        self.asked.lock().unwrap().iter().rev().find(|(asked, _)| asked == path).unwrap().1.clone()
    }
}

/// Starts a server with `/`, which uses a cacheable style sheet and a service worker, and `/guarded`.
pub(super) async fn counting() -> Counting {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let answer = move |request: axum::extract::Request| {
        let log = Arc::clone(&log);
        async move {
            let path = request.uri().path().to_owned();
            let headers: BTreeMap<String, String> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
                .collect();
            let allowed = headers.get("authorization").is_some_and(|given| given == "Basic YW5uYTpzZWNyZXQtd29yZA==");
            log.lock().unwrap().push((path.clone(), headers));
            match path.as_str() {
                "/" => Html("<!doctype html><link rel=stylesheet href=/cached.css><p>hello").into_response(),
                "/cached.css" => {
                    ([("cache-control", "max-age=3600"), ("content-type", "text/css")], "p{}").into_response()
                }
                "/worker.js" => ([("content-type", "text/javascript")], "").into_response(),
                "/guarded" if allowed => Html("<p>welcome").into_response(),
                "/guarded" => {
                    (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"x\"")], Html("<p>who are you?"))
                        .into_response()
                }
                _ => StatusCode::NOT_FOUND.into_response(),
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Counting { base, asked }
}
