//! Secrets that are planted everywhere: forty of them, in twenty-five encodings, shown by a target that fails. Twenty
//! outputs of the agent and of `wachta run` are searched for them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;

use crate::support::agent::Agent;
use crate::support::receiver::Receiver;
use crate::support::{Folder, until};

const SECRETS: usize = 40;

/// What encodings treat differently, between two words that are found again in any of them.
const MIDDLES: [&str; 20] = [
    "",
    "&b<c>",
    "!b@c$d",
    "frag-",
    "/path/",
    "\"quoted\"",
    "'single'",
    "\\back\\",
    "%25percent",
    "+plus+",
    " space ",
    "äöü",
    "😀smile",
    "=equals=",
    "a:b@c",
    "{json}",
    "~tilde~",
    "|pipe|",
    "$dollar",
    "%41",
];

fn secret(number: usize) -> String {
    format!("Kq{number:02}alpha{}Zw{number:02}omega", MIDDLES[number % MIDDLES.len()])
}

fn json(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json[1..json.len() - 1].to_owned()
}

fn percent(text: &str, kept: &[u8]) -> String {
    let one = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric() || kept.contains(&byte);
        if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}

fn entities(text: &str, hexadecimal: bool) -> String {
    let one = |c: char| match (c.is_ascii_alphanumeric(), hexadecimal) {
        (true, _) => c.to_string(),
        (false, true) => format!("&#x{:x};", u32::from(c)),
        (false, false) => format!("&#{};", u32::from(c)),
    };
    text.chars().map(one).collect()
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// A text in twenty-five encodings.
fn encodings(text: &str) -> Vec<String> {
    let base64 = &base64::engine::general_purpose::STANDARD;
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let escaped = json(text).replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    vec![
        text.to_owned(),
        json(text),
        escaped.clone(),
        escaped.replace('+', "\\u002B").replace('\'', "\\u0027"),
        json(text).replace('/', "\\/"),
        percent(text, b""),
        percent(text, b"-._~"),
        percent(text, b"!$&'()*+,-._~"),
        percent(text, b"/:@").to_lowercase(),
        percent(text, b"").replace("%20", "+"),
        html(text),
        entities(text, false),
        entities(text, true),
        base64.encode(text),
        base64.encode(format!("u:{text}")),
        base64.encode(format!("us:{text}")),
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text),
        hex.clone(),
        hex.to_uppercase(),
        percent(&percent(text, b""), b""),
        json(&json(text)),
        json(&html(text)),
        percent(&json(text), b""),
        percent(text, b"").replace('%', "="),
        text.to_uppercase(),
    ]
}

/// One form of a word of every secret: what the forms of all secrets end with, and each of them with its name.
struct Trace {
    end: String,
    forms: Vec<(String, String)>,
    /// Whether letters count in both cases.
    any_case: bool,
}

impl Trace {
    fn new(any_case: bool, form: impl Fn(&str) -> String, name: impl Fn(&str) -> String, words: &[String]) -> Self {
        let forms: Vec<_> = words.iter().map(|word| (form(word), name(word))).collect();
        let shared = |a: &str, b: &str| a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count();
        let length = forms.iter().map(|(form, _)| shared(form, &forms[0].0)).min().unwrap();
        let end = forms[0].0[forms[0].0.len() - length..].to_owned();
        assert!(end.len() >= 5, "{end} would be found everywhere");
        Self { end, forms, any_case }
    }
}

/// How words of the secrets are looked for: as they are, in hexadecimal, and in base64 at each of its three offsets. A text
/// is searched once for each of these, not for each secret.
fn traces() -> Vec<Trace> {
    let mut traces = Vec::new();
    for (before, after) in [("Kq", "alpha"), ("Zw", "omega")] {
        let words: Vec<String> = (0..SECRETS).map(|number| format!("{before}{number:02}{after}")).collect();
        let hex = |word: &str| word.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        traces.push(Trace::new(true, str::to_lowercase, ToOwned::to_owned, &words));
        traces.push(Trace::new(true, hex, ToOwned::to_owned, &words));
        for offset in 0..3 {
            let part = |word: &str| {
                let padded = [&[b'-'; 3][..offset], word.as_bytes()].concat();
                let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&padded);
                encoded[[0, 2, 3][offset]..padded.len() * 8 / 6].to_owned()
            };
            traces.push(Trace::new(false, part, |word| format!("{word} in base64"), &words));
        }
    }
    traces
}

/// Everything of the secrets that is shown in a text.
fn shown(text: &str, traces: &[Trace]) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut found = std::collections::BTreeSet::new();
    for trace in traces {
        let text = if trace.any_case { &lower } else { text };
        for (at, end) in text.match_indices(&trace.end) {
            let before = &text.as_bytes()[..at + end.len()];
            let forms = trace.forms.iter().filter(|(form, _)| before.ends_with(form.as_bytes()));
            found.extend(forms.map(|(_, name)| name.clone()));
        }
    }
    found.into_iter().collect()
}

#[test]
fn what_is_planted_would_be_found() {
    let traces = &traces();
    for number in 0..SECRETS {
        let secret = secret(number);
        for (at, encoded) in encodings(&secret).iter().enumerate() {
            let found = shown(&format!("before {encoded} after"), traces);
            // Both words, or in base64 at least one: the other may be cut by what stands beside it.
            let is_base64 = (13..=16).contains(&at);
            assert!(found.len() >= if is_base64 { 1 } else { 2 }, "{number} {at} {encoded}: {found:?}");
        }
        assert_eq!(shown(&secret[3..5], traces), Vec::<String>::new());
    }
    assert_eq!(shown("alpha omega 616c706861 KqXXalpha", traces), Vec::<String>::new());
}

/// A target that shows all secrets in all encodings wherever an answer has a place.
async fn target() -> String {
    async fn leaks(
        State(all): State<String>,
        headers: HeaderMap,
        Query(query): Query<BTreeMap<String, String>>,
    ) -> Response {
        let sent: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        // Whole lines: half of what is encoded as a whole cannot be found.
        let plain =
            all.lines().filter(|line| line.is_ascii() && !line.contains(|c: char| c.is_ascii_control())).take(60);
        let ascii = plain.collect::<Vec<_>>().join(" ");
        let body = format!("{sent}\n{query:?}\n{all}");
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            [("x-leak", ascii.clone()), ("set-cookie", format!("sid={}", secret(1)))],
            body,
        )
            .into_response()
    }
    async fn moves(State(_): State<String>) -> Response {
        (StatusCode::FOUND, [(header::LOCATION, format!("/api?token={}", percent(&secret(2), b"")))]).into_response()
    }
    async fn page(State(all): State<String>) -> Html<String> {
        let list: String = all.lines().map(|line| format!("<li>{}</li>", html(line))).collect();
        let log = serde_json::Value::from(all.as_str()).to_string().replace('<', "\\u003c");
        Html(format!(
            "<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><button aria-label=\"{title}\">x</button>\
             <ul>{list}</ul><label>Password <input id=p></label><p id=e></p>\
             <script>console.error({log}); fetch('/api?s=' + encodeURIComponent({first}));\
             document.getElementById('p').addEventListener('input', e => console.error('typed', e.target.value))</script>",
            title = html(&secret(3)),
            first = serde_json::Value::from(secret(4)).to_string().replace('<', "\\u003c"),
        ))
    }
    let all: Vec<String> = (0..SECRETS).flat_map(|number| encodings(&secret(number))).collect();
    let router = Router::new()
        .route("/api", get(leaks).post(leaks))
        .route("/moves", post(moves).get(moves))
        .route("/page", get(page))
        .with_state(all.join("\n"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn read_all(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            text.push_str(&read_all(&entry.path()));
        } else {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default()));
            text.push_str(&entry.file_name().to_string_lossy());
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_secrets_are_in_none_of_twenty_outputs() {
    let base = target().await;
    let folder = Folder::new("planted");
    let declared: String =
        (0..SECRETS).map(|number| format!("  s{number:02}: {{env: PLANTED_{number:02}}}\n")).collect();
    let declared =
        format!("base_url: {base}\nevery: 2s\nevidence: {{har: true}}\nalert: {{after: 1}}\nsecrets:\n{declared}");
    let all =
        (0..SECRETS).map(|number| format!("s{number:02}: \"${{secret.s{number:02}}}\"")).collect::<Vec<_>>().join(", ");
    folder.write(
        "scenarios/api.yaml",
        &format!(
            "scenario: api\n{}steps:\n  - POST: /moves\n    continue: true\n  - POST: /api?q=${{secret.s05}}\n    form: {{{all}}}\n    headers: {{x-own: \"${{secret.s00}}\"}}\n    continue: true\n    expect: {{status: 200, body: {{contains: \"${{secret.s06}}\"}}}}\n  - GET: /api\n    expect: {{body: {{equals: \"${{secret.s07}}\"}}, status: 500}}\n",
            declared.replace("evidence: {har: true}\n", "")
        ),
    );
    folder.write(
        "scenarios/pages.yaml",
        &format!(
            "scenario: pages\n{declared}steps:\n  - goto: /page\n  - fill: {{label: Password}}\n    with: ${{secret.s08}}\n  - expect: {{title: nope}}\n    timeout: 300ms\n    continue: true\n  - click: {{button: nope}}\n    timeout: 300ms\n    continue: true\n  - expect: {{element: {{css: ul}}, text: \"${{secret.s09}}\"}}\n    timeout: 300ms\n"
        ),
    );
    let receiver = Receiver::listen().await;
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"PLANTED_*\"]}}\nstore: sqlite:wachta.db\nweb: {{listen: \"127.0.0.1:0\"}}\n\
             alerting: {{receivers: {{hook: {{webhook: {{url: \"http://{}/\"}}}}}}, routes: [{{to: [hook], group_wait: 0s}}]}}\n",
            receiver.address
        ),
    );
    let mut outputs: Vec<(&str, String)> = Vec::new();

    // By hand.
    let planted = (0..SECRETS).map(|number| (format!("PLANTED_{number:02}"), secret(number)));
    let by_hand = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wachta"));
        command.args(arguments).current_dir(folder.path()).envs(planted.clone());
        let ran = command.output().unwrap();
        (String::from_utf8_lossy(&ran.stdout).into_owned(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let (out, err) =
        by_hand(&["run", "scenarios", "--evidence", "ev", "--report", "json=r.json", "--report", "junit=r.xml"]);
    assert!(out.contains("failed"), "{out}{err}");
    outputs.extend([("standard output", out), ("standard error", err)]);
    outputs.push(("JSON report", std::fs::read_to_string(folder.path().join("r.json")).unwrap()));
    outputs.push(("JUnit report", std::fs::read_to_string(folder.path().join("r.xml")).unwrap()));
    outputs.push(("evidence", read_all(&folder.path().join("ev"))));
    let (out, err) = by_hand(&["check", "scenarios"]);
    outputs.push(("check", out + &err));
    let (out, err) = by_hand(&["explain", "scenarios"]);
    outputs.push(("explain", out + &err));

    // By an agent.
    let shop = Demo::open(0, 0, &CancellationToken::new()).await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wachta"));
    command.args(["serve", "--config", "wachta.yaml"]).envs(planted.clone());
    let agent = Agent::start(command, folder.path(), &shop).await;
    let incidents = until("both are open", Duration::from_secs(60), async || {
        let incidents = agent.get("/api/v1/incidents").await;
        (incidents.contains("\"api\"") && incidents.contains("\"pages\"")).then_some(incidents)
    })
    .await;
    let notifications = until("both are told", Duration::from_secs(60), async || {
        let told: String = receiver.heard().iter().map(|notification| format!("{notification}\n")).collect();
        (told.contains("api") && told.contains("pages")).then_some(told)
    })
    .await;
    let page = agent.get("/scenario/pages").await;
    let runs: Vec<String> =
        page.split("/run/").skip(1).filter_map(|rest| rest.get(..36)).map(ToOwned::to_owned).collect();
    let run = runs.first().cloned().unwrap_or_default();
    outputs.extend([("incidents", incidents), ("notifications", notifications)]);
    for (name, path) in [
        ("the page", "/".to_owned()),
        ("a scenario's page with a browser", "/scenario/pages".to_owned()),
        ("a scenario's page", "/scenario/api".to_owned()),
        ("a run's page", format!("/run/{run}")),
        ("an incident's page", "/incident/pages:1".to_owned()),
        ("decisions", "/api/v1/why/api".to_owned()),
        ("metrics", "/metrics".to_owned()),
        ("modules", "/config".to_owned()),
    ] {
        outputs.push((name, agent.get(&path).await));
    }
    outputs.push(("the answer of a reload", agent.post("/-/reload").await.1));
    outputs.push(("the log", agent.log().join("\n")));
    assert!(!run.is_empty());
    agent.stop().await;
    let state: String = ["wachta.db", "wachta.db-wal"]
        .iter()
        .map(|file| String::from_utf8_lossy(&std::fs::read(folder.path().join(file)).unwrap_or_default()).into_owned())
        .collect();
    outputs.push(("the store", state));
    outputs.push(("the agent's evidence", read_all(&folder.path().join("wachta.state/evidence"))));
    assert!(outputs.len() >= 20, "{}", outputs.len());

    let (mut leaks, traces) = (Vec::new(), &traces());
    for (name, text) in &outputs {
        let found = shown(text, traces);
        if let Some(first) = found.first() {
            let word = first.split(' ').next().unwrap_or_default();
            let at = text.to_lowercase().find(&word.to_lowercase());
            let around =
                at.and_then(|at| text.get(at.saturating_sub(60)..(at + 60).min(text.len()))).unwrap_or_default();
            leaks.push(format!("{name} ({} characters) shows {}: …{around}…", text.len(), found.join(", ")));
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n\n"));
}
