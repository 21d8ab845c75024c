//! What strangers may not do to the web server: requests that a page of somebody else can cause, requests that are no
//! requests, and connections that never end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;
use wachta::web;

use crate::support::agent::Agent;
use crate::support::{Folder, until};

const SILENCE: &str = r#"{"match":{"team":"shop"},"for":"1h","author":"a","reason":"b"}"#;
const EVERYTHING: &str = r#"{"match":{},"for":"1h","author":"a","reason":"b"}"#;
const ACK: &str = r#"{"author":"a"}"#;

/// Method, target, host, further headers, body, and the statuses that are right.
type Row = (&'static str, String, &'static str, String, String, &'static [u16]);

/// The answer's status to a request that is sent as it is.
async fn status(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("it is answered");
    let text = String::from_utf8_lossy(&answer).into_owned();
    (text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_attacks_on_the_web() {
    let folder = Folder::new("attacks");
    folder.write("scenarios/a.yaml", "checks: {job: {heartbeat: job, every: 1h}}\n");
    folder.write(
        "wachta.yaml",
        "location: here\nscenarios: [scenarios/]\nstore: sqlite:wachta.db\n\
         web: {listen: \"127.0.0.1:0\", external_url: \"https://wachta.example.com/\", hosts: [wachta.lan], beat_token: word-of-mouth}\n",
    );
    let shop = Demo::open(0, 0, &CancellationToken::new()).await.unwrap();
    let agent = Agent::serve(folder.path(), &shop).await;
    let own = agent.url("").trim_start_matches("http://").to_owned();
    let address: SocketAddr = own.parse().unwrap();
    let long = format!("/{}", "a".repeat(17 << 10));
    let large = format!("{{\"match\":{{\"a\":\"{}\"}},\"for\":\"1h\"}}", "a".repeat(70 << 10));
    let many = "x: y\r\n".repeat(300);
    let run = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
    let (incidents, reload, silences, maintenance) =
        ("/api/v1/incidents", "/-/reload", "/api/v1/silences", "/api/v1/maintenance");
    let evidence = |name: &str| format!("/evidence/{run}/{name}");
    let json = "content-type: application/json\r\n";
    // Method, target, `Host` (`own`: the address), further headers, body, the statuses that are right.
    let rows: Vec<Row> = {
        let row = |method: &'static str,
                   target: &str,
                   host: &'static str,
                   headers: &str,
                   body: &str,
                   right: &'static [u16]| {
            (method, target.to_owned(), host, headers.replace("OWN", &own), body.to_owned(), right)
        };
        vec![
            // Names.
            row("GET", incidents, "own", "", "", &[200]),
            row("GET", incidents, "localhost", "", "", &[200]),
            row("GET", incidents, "[::1]:9815", "", "", &[200]),
            row("GET", incidents, "192.0.2.7", "", "", &[200]),
            row("GET", incidents, "wachta.lan:80", "", "", &[200]),
            row("GET", incidents, "WACHTA.LAN", "", "", &[200]),
            row("GET", incidents, "wachta.lan.", "", "", &[200]),
            row("GET", incidents, "wachta.example.com", "", "", &[200]),
            row("GET", incidents, "rebind.test", "", "", &[421]),
            row("GET", incidents, "rebind.test:9815", "", "", &[421]),
            row("GET", incidents, "127.0.0.1.rebind.test", "", "", &[421]),
            row("GET", incidents, "localhost.rebind.test", "", "", &[421]),
            row("GET", incidents, "evil-wachta.lan", "", "", &[421]),
            row("GET", incidents, "wachta.lan.rebind.test", "", "", &[421]),
            row("GET", incidents, "wachta.lan@rebind.test", "", "", &[421]),
            row("GET", incidents, "rebind.test:80@wachta.lan", "", "", &[421]),
            row("GET", incidents, "[::1].rebind.test", "", "", &[421]),
            row("GET", incidents, "wachta.lan/x", "", "", &[421]),
            row("GET", incidents, "", "", "", &[400, 421]),
            row("GET", incidents, "none", "", "", &[400]),
            row("GET", incidents, "own", "host: rebind.test\r\n", "", &[400]),
            row("GET", "http://rebind.test/api/v1/incidents", "own", "", "", &[421]),
            row("GET", "http://wachta.lan/api/v1/incidents", "rebind.test", "", "", &[421]),
            row("GET", "/", "rebind.test", "", "", &[421]),
            row("GET", "/metrics", "rebind.test", "", "", &[421]),
            row("GET", "/config", "rebind.test", "", "", &[421]),
            row("GET", "/probe?target=http://127.0.0.1:1/", "rebind.test", "", "", &[421]),
            // Origins.
            row("POST", reload, "own", "", "", &[200]),
            row("POST", reload, "own", "origin: http://OWN\r\n", "", &[200]),
            row("POST", reload, "own", "sec-fetch-site: same-origin\r\n", "", &[200]),
            row("POST", reload, "wachta.lan", "origin: http://wachta.lan\r\n", "", &[200]),
            row("POST", reload, "wachta.example.com", "origin: https://wachta.example.com\r\n", "", &[200]),
            row("POST", reload, "own", "origin: http://evil.test\r\n", "", &[403]),
            row("POST", reload, "own", "origin: null\r\n", "", &[403]),
            row("POST", reload, "own", "origin: http://127.0.0.1:1\r\n", "", &[403]),
            row("POST", reload, "own", "origin: http://OWN\r\norigin: http://evil.test\r\n", "", &[403]),
            row("POST", reload, "own", "sec-fetch-site: cross-site\r\n", "", &[403]),
            row("POST", reload, "own", "sec-fetch-site: same-site\r\n", "", &[403]),
            row(
                "POST",
                reload,
                "rebind.test",
                "origin: http://rebind.test\r\nsec-fetch-site: same-origin\r\n",
                "",
                &[421],
            ),
            row("GET", reload, "own", "", "", &[405]),
            row("POST", silences, "own", &format!("{json}origin: http://evil.test\r\n"), SILENCE, &[403]),
            row("POST", silences, "own", &format!("{json}sec-fetch-site: cross-site\r\n"), SILENCE, &[403]),
            row("POST", silences, "own", "content-type: text/plain\r\n", SILENCE, &[400, 415]),
            row("POST", silences, "own", "content-type: application/x-www-form-urlencoded\r\n", SILENCE, &[400, 415]),
            row("POST", silences, "own", json, EVERYTHING, &[400]),
            row(
                "POST",
                silences,
                "own",
                json,
                r#"{"match":{"a":"b"},"for":"1h","author":"a","reason":"b","x":1}"#,
                &[400],
            ),
            row("POST", silences, "own", json, "{", &[400]),
            row("POST", silences, "own", json, &large, &[413]),
            row("POST", maintenance, "own", json, EVERYTHING, &[400]),
            row("POST", maintenance, "own", &format!("{json}origin: http://evil.test\r\n"), SILENCE, &[403]),
            row("DELETE", "/api/v1/silences/1", "own", "sec-fetch-site: cross-site\r\n", "", &[403]),
            row(
                "POST",
                "/api/v1/incidents/job:1/ack",
                "own",
                &format!("{json}origin: http://evil.test\r\n"),
                ACK,
                &[403],
            ),
            row(
                "POST",
                "/incident/job:1",
                "own",
                "origin: http://evil.test\r\ncontent-type: application/x-www-form-urlencoded\r\n",
                "ask=ack&author=a",
                &[403],
            ),
            row(
                "POST",
                "/incident/job:1",
                "own",
                "content-type: application/x-www-form-urlencoded\r\n",
                "ask=ack&author=a",
                &[403],
            ),
            row(
                "OPTIONS",
                silences,
                "own",
                "origin: http://evil.test\r\naccess-control-request-method: POST\r\n",
                "",
                &[403],
            ),
            row("GET", "/probe?target=http://127.0.0.1:1/", "own", "sec-fetch-site: cross-site\r\n", "", &[403]),
            // Heartbeats.
            row("GET", "/beat/job", "own", "", "", &[401]),
            row("GET", "/beat/unknown", "own", "", "", &[401]),
            row("GET", "/beat/job?token=word-of-mouse", "own", "", "", &[401]),
            row("GET", "/beat/job", "own", "authorization: Basic word-of-mouth\r\n", "", &[401]),
            row("GET", "/beat/job", "own", "authorization: Bearer word-of-mouth\r\n", "", &[200]),
            row("POST", "/beat/job/0?token=word-of-mouth", "own", "", "a log", &[200]),
            row("GET", "/beat/job?token=word-of-mouth", "own", "sec-fetch-site: cross-site\r\n", "", &[403]),
            row("GET", "/beat/job?token=word-of-mouth", "wachta.lan", "accept-language: en\r\n", "", &[403]),
            row("POST", "/beat/job?token=word-of-mouth", "own", "origin: http://evil.test\r\n", "", &[403]),
            // What is no request, or asks for what is not there.
            row("GET", &evidence("..%2f..%2f..%2fwachta.yaml"), "own", "", "", &[404]),
            row("GET", &evidence("%2e%2e"), "own", "", "", &[404]),
            row("GET", &evidence("a%00b"), "own", "", "", &[404]),
            row("GET", "/evidence/../../../../etc/passwd", "own", "", "", &[404]),
            row("GET", &long, "own", "", "", &[414, 431]),
            row("GET", "/", "own", &many, "", &[431, 400]),
            row("TRACE", "/", "own", "", "", &[405]),
            row("CONNECT", "evil.test:80", "own", "", "", &[400, 421]),
        ]
    };
    assert!(rows.len() >= 60, "{}", rows.len());
    let mut wrong = Vec::new();
    for (method, target, host, headers, body, right) in &rows {
        let host = match *host {
            "none" => String::new(),
            "own" => format!("host: {own}\r\n"),
            host => format!("host: {host}\r\n"),
        };
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\n{host}{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let (found, answer) = status(address, request.as_bytes()).await;
        if !right.contains(&found) {
            let what: String = request.chars().take(200).collect();
            wrong.push(format!("{found}, not {right:?}: {what}\n{}", answer.lines().next().unwrap_or_default()));
        }
        let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
        let is_hardened = head.contains("content-security-policy: default-src 'none'") && head.contains("nosniff");
        // Those that hyper answers itself have no body.
        if !is_hardened && !matches!(found, 400 | 414 | 431) {
            wrong.push(format!("{method} {target} is not hardened: {head}"));
        }
        assert!(!head.contains("access-control-allow"), "{head}");
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    // A program that speaks HTTP/1.0 names no host.
    assert_eq!(status(address, b"GET /-/healthy HTTP/1.0\r\n\r\n").await.0, 200);
    let silenced = agent.get(silences).await;
    assert_eq!(silenced, "[]", "nothing was silenced by any of them");
    agent.stop().await;
}

/// A server with these limits.
async fn server(limits: web::Limits, stop: &CancellationToken) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let guard = web::Guard::default();
    guard.load(&web::Config::default());
    let large = || async { vec![b'a'; 64 << 20] };
    let router = Router::new()
        .route("/", get(|| async { "ok" }))
        .route("/large", get(large))
        .route("/hang", get(std::future::pending::<()>))
        .route("/post", post(|body: String| async move { body }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = web::Server { router, guard, security: web::Security::default(), limits };
    (address, tokio::spawn(server.serve(listener, stop.clone())))
}

fn quick() -> web::Limits {
    let quick = Duration::from_millis(300);
    web::Limits {
        connections: 64,
        handshake: quick,
        head: quick,
        body: quick,
        body_bytes: 1024,
        stall: quick,
        farewell: quick,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_end_are_ended() {
    let stop = CancellationToken::new();
    let (address, serving) = server(quick(), &stop).await;
    for (what, sent, answered) in [
        ("nothing", &b""[..], ""),
        ("half a head", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: ", ""),
        ("a kept connection", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 200"),
        ("half a body", b"POST /post HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{", "HTTP/1.1 408"),
        (
            "a body that is too large",
            b"POST /post HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2000\r\n\r\n{",
            "HTTP/1.1 4",
        ),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", ""),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{what} is held open");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(answered), "{what}: {answer}");
    }
    // Who takes nothing of an answer is let go.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    let gone = async || {
        // Nothing is read; the other side resets what it does not want any more.
        let error = stream.take_error().ok().flatten().is_some();
        let closed = stream.try_write(b"x").is_err();
        (error || closed).then_some(())
    };
    until("the stalled connection is gone", Duration::from_secs(20), gone).await;
    // A stop waits for nobody for ever.
    let mut hangs = TcpStream::connect(address).await.unwrap();
    hangs.write_all(b"GET /hang HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), serving).await.expect("the server ends").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_connections_leave_room_for_one_more() {
    let stop = CancellationToken::new();
    let limits = web::Limits { connections: 8, ..web::Limits::default() };
    let (address, _serving) = server(limits, &stop).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nX-a: ").await;
        held.push(stream);
    }
    let (found, _) = status(address, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!(found, 200);
    stop.cancel();
}
