//! Complete runs against a local server that records its requests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::names::Reason;
use crate::outcome::{Outcome, RunId, Verdict};
use crate::run::{RunRequest, RunServices, Tokens, run};
use crate::scenario::{Lookup, LookupError, load};
use crate::store::evidence::EvidenceFolder;
use crate::wire::tls;

/// Files of a test.
#[derive(Clone, Default)]
struct Files(HashMap<&'static str, Vec<u8>>);

impl Lookup for Files {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Ok(format!("value of {name}"))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        let found = path.to_str().and_then(|path| self.0.get(path));
        found.cloned().ok_or_else(|| LookupError::Missing(format!("{} is not there", path.display())))
    }
}

struct Bench {
    tools: RunServices,
    folder: std::path::PathBuf,
}

impl Bench {
    fn new() -> Self {
        Self::with(Files::default())
    }

    fn with(files: Files) -> Self {
        let folder = std::env::temp_dir().join(format!("wachta-http-{}", RunId::new()));
        let tools = RunServices {
            dialer: crate::wire::Dialer::default(),
            limits: crate::wire::limits::Limits::default(),
            tls: tls::Trusted::system(),
            browsers: None,
            lookup: Arc::new(files),
            evidence: EvidenceFolder::new(&folder),
            tokens: Tokens::default(),
            line: crate::run::ConnectivityMonitor::default(),
            beats: None,
            baseline: None,
            footprints: None,
            clock: None,
            location: "here".into(),
        };
        Self { tools, folder }
    }

    async fn run(&self, text: &str) -> Outcome {
        let loaded = load("t.yaml", text, &*self.tools.lookup);
        assert!(!loaded.is_refused(), "{text}\n{:#?}", loaded.diagnostics);
        run(&loaded.scenarios[0], &self.tools, RunRequest::default()).await
    }

    async fn passes(&self, text: &str) -> Outcome {
        let outcome = self.run(text).await;
        assert_eq!(outcome.verdict, Verdict::Passed, "{text}\n{:?}", outcome.message);
        outcome
    }

    async fn fails(&self, text: &str, reason: Reason, message: &str) -> Outcome {
        let outcome = self.run(text).await;
        let told = outcome.message.clone().unwrap_or_default();
        assert!(outcome.reason == Some(reason) && told.contains(message), "{text}\n{:?}: {told}", outcome.reason);
        outcome
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A request as received.
#[derive(Clone, Debug)]
struct Asked {
    connection: usize,
    line: String,
    head: String,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// An HTTP/1.1 server that responds with the result of a function: the whole response, head and body.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    async fn open(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, seen) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                connection += 1;
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move {
                    while let Some(asked) = read(&mut stream, connection).await {
                        seen.lock().unwrap().push(asked.clone());
                        let bytes = answer(&asked);
                        let closes = bytes.is_empty() || String::from_utf8_lossy(&bytes).contains("connection: close");
                        if stream.write_all(&bytes).await.is_err() || closes {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    fn flow(&self, steps: &str) -> String {
        format!("scenario: T\nbase_url: http://{}\nsteps:\n{steps}", self.address)
    }
}

async fn read(stream: &mut TcpStream, connection: usize) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let mut asked = Asked { connection, line, head, body: Vec::new() };
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    asked.body = vec![0; length];
    stream.read_exact(&mut asked.body).await.ok()?;
    Some(asked)
}

fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn redirect(status: u16, to: &str) -> Vec<u8> {
    answer(status, &format!("location: {to}\r\n"), "")
}

#[tokio::test]
async fn redirects_are_followed_hop_by_hop() {
    let server = Server::open(|asked| match asked.line.rsplit_once('/').unwrap().1 {
        "301" => redirect(301, "/end"),
        "302" => redirect(302, "/end"),
        "303" => redirect(303, "/end"),
        "307" => redirect(307, "/end"),
        "308" => redirect(308, "end#part"),
        "two" => redirect(302, "/301"),
        "loop" => redirect(302, "/loop"),
        "ftp" => redirect(302, "ftp://elsewhere/"),
        "bad" => redirect(302, "http://[::"),
        "none" => answer(302, "", "stay"),
        _ => answer(200, "", "end"),
    })
    .await;
    let bench = Bench::new();
    for (method, path, expected) in [
        ("POST", "301", ["POST /301", "GET /end"]),
        ("PUT", "301", ["PUT /301", "PUT /end"]),
        ("POST", "302", ["POST /302", "GET /end"]),
        ("PUT", "303", ["PUT /303", "GET /end"]),
        ("POST", "307", ["POST /307", "POST /end"]),
        ("POST", "308", ["POST /308", "POST /end"]),
        ("DELETE", "302", ["DELETE /302", "DELETE /end"]),
    ] {
        bench.passes(&server.flow(&format!("  - {method}: /{path}\n    body: text\n"))).await;
        let asked = server.asked();
        let seen: Vec<_> = asked.iter().map(|asked| asked.line.as_str()).collect();
        assert_eq!(seen, expected, "{method} {path}");
        let kept = !expected[1].starts_with("GET");
        assert_eq!(asked[1].body == b"text", kept, "{method} {path}");
        // A POST does not use an idle connection.
        assert_eq!(asked[0].connection == asked[1].connection, !expected[1].starts_with("POST"), "{method} {path}");
    }
    let outcome = bench.passes(&server.flow("  - GET: /two\n")).await;
    let http = outcome.steps[0].http.as_ref().unwrap();
    let hops: Vec<_> = http.hops.iter().map(|hop| (hop.url.rsplit_once('/').unwrap().1, hop.status)).collect();
    assert_eq!(hops, [("two", Some(302)), ("301", Some(301)), ("end", Some(200))]);
    assert_eq!((http.status, http.url.ends_with("/end")), (200, true));
    assert!(http.hops[0].phases.connect > Duration::ZERO && http.hops[1].phases.connect.is_zero());
    assert!(http.hops.iter().all(|hop| hop.phases.processing > Duration::ZERO && hop.phases.tls.is_none()));
    assert!(http.hops.iter().all(|hop| hop.address == Some(server.address)));
    assert_eq!(http.hops[2].http_version.as_deref(), Some("1.1"));
    // Without `redirect`, the redirect itself is the response and counts as good.
    let outcome = bench
        .passes(&server.flow("  - GET: /302\n    redirect: false\n    expect: {headers: {Location: /end}}\n"))
        .await;
    assert_eq!(outcome.steps[0].http.as_ref().unwrap().status, 302);
    bench.fails(&server.flow("  - GET: /none\n"), Reason::Status, "GET returned status 302").await;
    server.asked();
    bench.fails(&server.flow("  - GET: /loop\n"), Reason::Protocol, "too many redirects (more than 10)").await;
    assert_eq!(server.lines().len(), 11);
    bench.fails(&server.flow("  - GET: /ftp\n"), Reason::Protocol, "`ftp://elsewhere/` is invalid").await;
    bench.fails(&server.flow("  - GET: /bad\n"), Reason::Protocol, "is invalid").await;
}

#[tokio::test]
async fn what_is_secret_goes_to_no_other_origin() {
    let other = Server::open(|_| answer(200, "", "other")).await;
    let to = other.address;
    let server = Server::open(move |asked| match asked.line.as_str() {
        "GET /out" => redirect(307, &format!("http://user:pw@{to}/x")),
        "GET /in" => redirect(307, "/end"),
        _ => answer(200, "", "end"),
    })
    .await;
    let bench = Bench::new();
    let steps = "  - GET: PATH\n    headers: {Authorization: mine, Cookie: a=b, X-Key: \"${secret.key}\", X-Plain: yes-it-is}\n";
    let text = server.flow(steps).replace("steps:", "secrets: {key: {env: KEY}}\nsteps:");
    let names = ["authorization", "cookie", "x-key", "x-plain", "host"];
    let seen = |asked: &Asked| names.map(|name| asked.header(name).map(ToOwned::to_owned));
    bench.passes(&text.replace("PATH", "/in")).await;
    let asked = server.asked();
    assert_eq!(seen(&asked[0]), seen(&asked[1]));
    bench.passes(&text.replace("PATH", "/out")).await;
    let all = [None, None, None, Some("yes-it-is".to_owned()), Some(to.to_string())];
    assert_eq!(seen(&other.asked()[0]), all);
}

#[tokio::test]
async fn a_body_with_a_secret_goes_to_no_other_origin() {
    let other = Server::open(|asked| answer(200, "", format!("{} {}", asked.line, asked.body.len()))).await;
    let to = other.address;
    let server = Server::open(move |asked| match asked.line.as_str() {
        "POST /in" => redirect(308, "/end"),
        line if line.ends_with("/out308") => redirect(308, &format!("http://{to}/x")),
        line if line.ends_with("/out") => redirect(307, &format!("http://{to}/x")),
        _ => answer(200, "", format!("{} {}", asked.line, asked.body.len())),
    })
    .await;
    let bench = Bench::new();
    let check = async |method: &str, path: &str, body: &str, expected: &str| {
        let steps = format!("  - {method}: {path}\n    {body}\n    expect: {{body: {expected}}}\n");
        let text = server.flow(&steps).replace("steps:", "secrets: {key: {env: KEY}}\nsteps:");
        bench.passes(&text).await
    };
    check("POST", "/in", "form: {password: \"${secret.key}\"}", "POST /end 21").await;
    check("POST", "/out", "form: {user: somebody}", "POST /x 13").await;
    let outcome = check("POST", "/out", "form: {password: \"${secret.key}\"}", "POST /x 0").await;
    let hops = &outcome.steps[0].http.as_ref().unwrap().hops;
    assert_eq!((hops[0].withheld.as_slice(), hops[1].withheld.as_slice()), (&[][..], &["the body".to_owned()][..]));
    check("PUT", "/out308", "json: {a: {b: \"${secret.key}\"}}", "PUT /x 0").await;
    assert_eq!(other.asked().last().unwrap().header("content-type"), None);
    let steps =
        "  - POST: /out\n    bearer: \"${secret.key}\"\n    body: \"${secret.key}\"\n    expect: {status: 201}\n";
    let text = server.flow(steps).replace("steps:", "secrets: {key: {env: KEY}}\nsteps:");
    bench
        .fails(
            &text,
            Reason::Status,
            "(a redirect led to another origin, where `authorization`, the body was not sent)",
        )
        .await;
}

#[tokio::test]
async fn numbers_keep_their_digits_from_one_request_to_the_next() {
    let server = Server::open(|asked| match asked.line.as_str() {
        "GET /n" => answer(
            200,
            "",
            "\u{feff}{\"i\":9007199254740993,\"big\":12345678901234567890123456,\"dec\":0.1234567890123456789,\"one\":1.0,\"huge\":1e400}",
        ),
        _ => answer(200, "", format!("{} {}", asked.line, String::from_utf8_lossy(&asked.body))),
    })
    .await;
    let bench = Bench::new();
    let one = |expected: &str| server.flow(&format!("  - GET: /n\n    expect: {{json: {{{expected}}}}}\n"));
    for holds in [
        "$.i: 9007199254740993",
        "$.big: 12345678901234567890123456",
        "$.dec: 0.12345678901234567890",
        "$.one: 1",
        "$.i: {greater_than: 9007199254740992}",
        "$.huge: {greater_than: 1e399}",
        "$.i: {one_of: [9007199254740993]}",
        "$.i: {not: 9007199254740992}",
    ] {
        bench.passes(&one(holds)).await;
    }
    for fails in ["$.i: 9007199254740992", "$.big: 12345678901234567890123457", "$.i: {less_than: 9007199254740993}"] {
        bench.fails(&one(fails), Reason::Assertion, "in the body").await;
    }
    bench.fails(&one("$.huge: {schema: {type: string}}"), Reason::Assertion, "too large to be compared").await;
    let steps = "  - GET: /n\n    save: {i: {json: $.i}, big: {json: $.big}, dec: {json: $.dec}}\n  - POST: \"/o/${big}\"\n    json: {id: \"${i}\", dec: \"${dec}\"}\n    expect: {body: 'POST /o/12345678901234567890123456 {\"id\":9007199254740993,\"dec\":0.1234567890123456789}'}\n";
    bench.passes(&server.flow(steps)).await;
}

#[tokio::test]
async fn texts_are_read_in_their_encoding() {
    let server = Server::open(|asked| match asked.line.as_str() {
        "GET /header" => answer(200, "content-type: text/plain; charset=windows-1252\r\n", b"5 \x80 f\xfcr"),
        "GET /meta" => answer(200, "content-type: text/html\r\n", b"<meta charset=latin1><h1>f\xfcr</h1>"),
        "GET /xml" => {
            answer(200, "content-type: text/xml\r\n", b"<?xml version='1.0' encoding='ISO-8859-1'?><a>f\xfcr</a>")
        }
        "GET /json" => answer(200, "content-type: application/json\r\n", b"\xff\xfe{\0\"\0a\0\"\0:\x001\0}\0"),
        _ => answer(200, "content-type: text/html; charset=utf-8\r\n", "<h1>5\u{a0}€</h1>"),
    })
    .await;
    let bench = Bench::new();
    let steps = "  - GET: /header\n    expect: {body: 5 € für}\n  - GET: /meta\n    expect: {xpath: {//h1: für}}\n  - GET: /xml\n    expect: {xpath: {//a: für}}\n  - GET: /json\n    expect: {json: {$.a: 1}}\n";
    bench.passes(&server.flow(steps)).await;
    let told = r#""5\u{a0}€" only looks like "5 €""#;
    for expected in ["{xpath: {//h1: 5 €}}", "{contains: 5 €}", "{body: {contains: 5 €}}"] {
        let steps = format!("  - GET: /alike\n    expect: {expected}\n");
        bench.fails(&server.flow(&steps), Reason::Assertion, told).await;
    }
}

#[tokio::test]
async fn what_a_server_says_steers_no_terminal() {
    let server = Server::open(|_| answer(200, "x-a: \u{9b}31m\r\n", "\u{1b}[2J\nfailed \u{202e}other")).await;
    let bench = Bench::new();
    for expected in ["{body: x}", "{headers: {x-a: x}}", "{json: {$.a: 1}}"] {
        let outcome = bench.run(&server.flow(&format!("  - GET: /\n    expect: {expected}\n"))).await;
        assert_eq!(outcome.verdict, Verdict::Failed, "{expected}");
        let text = serde_json::to_string(&outcome).unwrap();
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text}");
        assert!(!outcome.message.unwrap().contains('\n'), "{text}");
    }
}

#[tokio::test]
async fn without_memory_for_an_answer_nothing_is_said_of_its_server() {
    let server = Server::open(|asked| match asked.line.as_str() {
        "GET /small" => answer(200, "", "{}"),
        _ => answer(200, "", format!("[{}1]", "1,".repeat(100_000))),
    })
    .await;
    let mut bench = Bench::new();
    bench.tools.limits = crate::wire::limits::Limits::new(10, 196 << 10, 100 << 10);
    let large = server.flow("  - GET: /large\n    timeout: 300ms\n    expect: {status: 200}\n");
    let read = server.flow("  - GET: /large\n    timeout: 300ms\n    expect: {json: {\"$[0]\": 1}}\n");
    let small = server.flow("  - GET: /small\n    expect: {json: {$: {count: 0}}}\n");
    for text in [&large, &read, &small] {
        bench.passes(text).await;
    }
    let held = bench.tools.limits.body(1 << 10).await;
    bench.fails(&large, Reason::Resources, "no memory for the response within 300ms").await;
    bench.passes(&small).await;
    drop(held);
    let held = bench.tools.limits.tree(1 << 10).await;
    bench.passes(&large).await;
    bench.fails(&read, Reason::Resources, "no memory for the response within 300ms").await;
    bench.passes(&small).await;
    drop(held);
    bench.passes(&read).await;
}

#[tokio::test]
async fn without_a_place_nothing_is_said_of_the_target() {
    let server = Server::open(|_| answer(200, "", "ok")).await;
    let mut bench = Bench::new();
    bench.tools.limits = crate::wire::limits::Limits::new(1, 0, 0);
    let text = server.flow("  - GET: /\n").replace("steps:", "timeout: 200ms\nsteps:");
    bench.passes(&text).await;
    let held = bench.tools.limits.place().await;
    let outcome = bench.fails(&text, Reason::Resources, "no free slot within 200ms").await;
    assert_eq!(outcome.verdict, Verdict::Unknown);
    assert_eq!(server.lines().len(), 1);
    drop(held);
    bench.passes(&text).await;
}

#[tokio::test]
async fn cookies_and_connections_are_kept_within_a_run() {
    let server = Server::open(|asked| match asked.line.as_str() {
        "GET /login" => answer(200, "set-cookie: sid=s1; Path=/\r\nset-cookie: deep=d; Path=/deep\r\n", ""),
        "GET /once" => answer(200, "connection: close\r\n", ""),
        // Closed without a response: an idle connection may be closed before the request arrives.
        "GET /rude" if asked.header("cookie") == Some("again=1") => Vec::new(),
        _ => answer(200, "", asked.header("cookie").unwrap_or("none")),
    })
    .await;
    let bench = Bench::new();
    let steps = "  - GET: /login\n    save: {sid: {cookie: sid}}\n  - GET: /a\n    expect: {body: sid=s1}\n  - GET: /deep/a\n    expect: {body: {matches: \"^(deep=d; sid=s1|sid=s1; deep=d)$\"}}\n  - GET: /a\n    headers: {Cookie: \"own=${sid}\"}\n    expect: {body: own=s1}\n  - GET: /once\n  - GET: /a\n";
    bench.passes(&server.flow(steps)).await;
    let connections: Vec<_> = server.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [1, 1, 1, 1, 1, 2]);
    bench.passes(&server.flow("  - GET: /a\n    expect: {body: none}\n")).await;
    bench
        .fails(
            &server.flow("  - GET: /a\n    save: {x: {cookie: gone}}\n"),
            Reason::Assertion,
            "nothing to save as `x`",
        )
        .await;
}

#[tokio::test]
async fn a_kept_connection_that_is_gone_is_replaced_unless_that_could_do_something_twice() {
    let server = Server::open(|asked| {
        let first = asked.line.ends_with("/first");
        // The server closes the connection at the second request; a fresh one works.
        if !first && asked.connection % 2 == 1 { Vec::new() } else { answer(200, "", "ok") }
    })
    .await;
    let bench = Bench::new();
    bench.passes(&server.flow("  - GET: /first\n  - GET: /second\n")).await;
    assert_eq!(server.lines(), ["GET /first", "GET /second", "GET /second"]);
    let server =
        Server::open(|asked| if asked.line.ends_with("/first") { answer(200, "", "ok") } else { Vec::new() }).await;
    let steps = "  - GET: /first\n  - POST: /second\n    body: pay\n";
    bench.fails(&server.flow(steps), Reason::Protocol, "the connection was closed").await;
    assert_eq!(server.lines(), ["GET /first", "POST /second"]);
    // Requests that must not be repeated use a new connection, which other requests may reuse.
    let server = Server::open(|_| answer(200, "", "ok")).await;
    bench
        .passes(&server.flow("  - GET: /a\n  - POST: /b\n    body: x\n  - PATCH: /c\n    body: x\n  - PUT: /d\n"))
        .await;
    let connections: Vec<_> = server.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections[..3], [1, 2, 3]);
    assert!(connections[3] <= 3, "{connections:?}");
}

#[tokio::test]
async fn what_is_sent_when_nothing_is_said() {
    let server = Server::open(|_| answer(200, "", "")).await;
    let bench = Bench::new();
    bench.passes(&server.flow("  - GET: /?a=1#part\n  - POST: /\n  - GET: /\n    headers: {Accept-Encoding: x, Host: other, User-Agent: me, Accept: text/x}\n")).await;
    let asked = server.asked();
    assert_eq!(asked[0].line, "GET /?a=1");
    let values = |asked: &Asked| {
        ["accept-encoding", "host", "user-agent", "accept"]
            .map(|name| asked.header(name).unwrap_or_default().to_owned())
    };
    let host = server.address.to_string();
    assert_eq!(
        values(&asked[0]),
        ["gzip, deflate, br, zstd", &host, concat!("wachta/", env!("CARGO_PKG_VERSION")), "*/*"]
    );
    assert_eq!((asked[0].header("content-length"), asked[1].header("content-length")), (None, Some("0")));
    assert_eq!(values(&asked[2]), ["x", "other", "me", "text/x"]);
}

#[tokio::test]
async fn logins() {
    let server = Server::open(|asked| answer(200, "", asked.header("authorization").unwrap_or("none"))).await;
    let bench = Bench::new();
    for (keys, expected) in [
        ("", "none"),
        ("    basic_auth: {user: Aladdin, password: open sesame}\n", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("    bearer: abc.def\n", "Bearer abc.def"),
    ] {
        bench.passes(&server.flow(&format!("  - GET: /\n{keys}    expect: {{body: \"{expected}\"}}\n"))).await;
    }
    let host = server.address;
    let text =
        format!("checks:\n  a: {{http: \"http://al%20x:p%40w@{host}/\", expect: {{body: \"Basic YWwgeDpwQHc=\"}}}}\n");
    let outcome = bench.passes(&text).await;
    assert_eq!(outcome.steps[0].http.as_ref().unwrap().url, format!("http://{host}/"));
}

#[tokio::test]
async fn a_digest_answers_the_challenge() {
    let challenge = "www-authenticate: Basic realm=\"x\"\r\nwww-authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256\r\n";
    let server = Server::open(move |asked| match asked.header("authorization") {
        None => answer(401, challenge, "who?"),
        Some(value) if value.contains("uri=\"/a?b=c\"") && value.contains("qop=auth, nc=00000001") => {
            answer(200, "", value)
        }
        Some(_) => answer(401, challenge, "no"),
    })
    .await;
    let bench = Bench::new();
    let step =
        |path: &str| format!("  - GET: {path}\n    basic_auth: {{user: u, password: secret word, digest: true}}\n");
    let outcome = bench
        .passes(&server.flow(&(step("/a?b=c") + "    expect: {body: {starts_with: 'Digest username=\"u\"'}}\n")))
        .await;
    assert_eq!(outcome.steps[0].http.as_ref().unwrap().hops.len(), 2);
    assert!(server.asked().iter().all(|asked| !asked.head.contains("secret word")));
    // A rejected authentication is not retried forever.
    bench.fails(&server.flow(&step("/b")), Reason::Status, "returned status 401").await;
    assert_eq!(server.asked().len(), 2);
    let unknown = Server::open(|_| {
        answer(401, "www-authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256\r\n", "")
    })
    .await;
    bench.fails(&unknown.flow(&step("/")), Reason::Protocol, "unsupported digest algorithm").await;
}

#[tokio::test]
async fn a_digest_goes_on_after_redirects_and_with_a_new_nonce() {
    let challenge = |nonce: &str, more: &str| {
        let header = format!("www-authenticate: Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\"{more}\r\n");
        answer(401, &header, "")
    };
    let server = Server::open(move |asked| {
        let path = asked.line.trim_start_matches("GET ").to_owned();
        let Some(value) = asked.header("authorization") else { return challenge("n", "") };
        let has = |item: &str| value.contains(item);
        assert!(has(&format!("uri=\"{path}\"")), "{value}");
        match path.as_str() {
            "/from" if has("nc=00000001") => redirect(302, "/to"),
            "/to" if has("nonce=\"n\"") && has("nc=00000002") => answer(200, "", "hello"),
            // The nonce is too old at the second request.
            "/first" => redirect(307, "/second"),
            "/second" if has("nonce=\"n\"") => challenge("m", ", stale=true"),
            "/second" if has("nonce=\"m\"") && has("nc=00000001") => answer(200, "", "hello"),
            // A new nonce at every request never leads to an end.
            "/always" => challenge("x", ", stale=true"),
            _ => challenge("n", ""),
        }
    })
    .await;
    let bench = Bench::new();
    let step =
        |path: &str| format!("  - GET: {path}\n    basic_auth: {{user: u, password: secret word, digest: true}}\n");
    bench.passes(&server.flow(&(step("/from") + "    expect: {body: hello}\n"))).await;
    assert_eq!(server.lines(), ["GET /from", "GET /from", "GET /to"]);
    bench.passes(&server.flow(&(step("/first") + "    expect: {body: hello}\n"))).await;
    assert_eq!(server.lines(), ["GET /first", "GET /first", "GET /second", "GET /second"]);
    bench.fails(&server.flow(&step("/always")), Reason::Status, "returned status 401").await;
    assert_eq!(server.lines().len(), 3);
    bench.fails(&server.flow(&step("/wrong")), Reason::Status, "returned status 401").await;
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn tokens_are_kept_and_renewed() {
    let given = Arc::new(Mutex::new(0));
    let count = Arc::clone(&given);
    let server = Server::open(move |asked| {
        let mut count = count.lock().unwrap();
        match asked.line.as_str() {
            "POST /token" => {
                *count += 1;
                let life = if String::from_utf8_lossy(&asked.body).contains("scope=short") { 0 } else { 3600 };
                answer(
                    200,
                    "",
                    format!("{{\"access_token\":\"token-{count}\",\"token_type\":\"Bearer\",\"expires_in\":{life}}}"),
                )
            }
            "POST /refuses" => answer(400, "", "{\"error\":\"invalid_client\"}"),
            "GET /revoked" if asked.header("authorization") == Some("Bearer token-1") => answer(401, "", ""),
            _ => answer(200, "", asked.header("authorization").unwrap_or_default()),
        }
    })
    .await;
    let bench = Bench::new();
    let flow = |path: &str, token: &str, more: &str| {
        let steps = format!(
            "  - GET: {path}\n    oauth2: {{token_url: \"http://HOST/{token}\", client_id: \"a b\", client_secret: \"${{secret.s}}\"{more}}}\n"
        );
        server
            .flow(&steps)
            .replace("HOST", &server.address.to_string())
            .replace("steps:", "secrets: {s: {env: S}}\nsteps:")
    };
    let outcome = bench.passes(&flow("/a", "token", "")).await;
    let asked = server.asked();
    assert_eq!(asked[0].header("authorization"), Some("Basic YStiOnZhbHVlK29mK1M="));
    assert_eq!(String::from_utf8_lossy(&asked[0].body), "grant_type=client_credentials");
    assert_eq!(asked[1].header("authorization"), Some("Bearer token-1"));
    assert_eq!(outcome.steps[0].http.as_ref().unwrap().hops.len(), 1);
    // The next run reuses the token. If the token is rejected, it is renewed once.
    bench.passes(&flow("/a", "token", "")).await;
    assert_eq!(server.lines(), ["GET /a"]);
    bench.passes(&flow("/revoked", "token", "")).await;
    assert_eq!(server.lines(), ["GET /revoked", "POST /token", "GET /revoked"]);
    // A token without a lifetime is requested again each time.
    for _ in 0..2 {
        bench.passes(&flow("/a", "token", ", scope: short, auth: body")).await;
        let asked = server.asked();
        assert_eq!(asked.len(), 2);
        let body = String::from_utf8_lossy(&asked[0].body).into_owned();
        assert!(body.contains("scope=short&client_id=a+b&client_secret=value+of+S"), "{body}");
    }
    bench
        .fails(
            &flow("/a", "refuses", ""),
            Reason::Status,
            &format!("no token from `http://{}/refuses`: status 400 (invalid_client)", server.address),
        )
        .await;
    // A token is a secret, so text that repeats it is masked.
    let outcome = bench.run(&(flow("/a", "token", "") + "    expect: {body: no}\n")).await;
    let told = serde_json::to_string(&outcome).unwrap();
    assert!(outcome.verdict == Verdict::Failed && !told.contains("token-"), "{told}");
}

#[tokio::test]
async fn bodies_of_several_parts() {
    let server = Server::open(|asked| answer(200, "", &asked.body)).await;
    let bench = Bench::with(Files(HashMap::from([("pic.png", b"\x89PNG".to_vec())])));
    let steps = "  - POST: /\n    multipart:\n      note: \"hello ${run.location}\"\n      'a\"b': {file: pic.png}\n      c: {file: pic.png, filename: x.png, type: image/png}\n";
    bench.passes(&server.flow(steps)).await;
    let asked = server.asked().remove(0);
    let boundary = asked.header("content-type").unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
    let file = |head: &str| format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n");
    let mut expected = file("name=\"note\"").into_bytes();
    expected.extend(b"hello here\r\n");
    expected
        .extend(file("name=\"a%22b\"; filename=\"pic.png\"\r\nContent-Type: application/octet-stream").into_bytes());
    expected.extend(b"\x89PNG\r\n");
    expected.extend(file("name=\"c\"; filename=\"x.png\"\r\nContent-Type: image/png").into_bytes());
    expected.extend(b"\x89PNG\r\n");
    expected.extend(format!("--{boundary}--\r\n").into_bytes());
    assert_eq!(asked.body, expected);
    bench
        .fails(
            &server.flow("  - POST: /\n    multipart: {a: {file: gone}}\n"),
            Reason::Configuration,
            "gone is not there",
        )
        .await;
}

#[tokio::test]
async fn graphql() {
    let server = Server::open(|asked| {
        let body = String::from_utf8_lossy(&asked.body);
        if body.contains("broken") {
            answer(200, "", r#"{"data":null,"errors":[{"message":"no such field"}]}"#)
        } else {
            answer(200, "", format!("{{\"data\":{body},\"errors\":[]}}"))
        }
    })
    .await;
    let bench = Bench::new();
    let steps = "  - POST: /graphql\n    graphql: {query: 'query Q($id: ID!) { order(id: $id) { id } }', variables: {id: \"${run.location}\", n: 1}, operation: Q}\n    expect: {json: {$.data.variables.id: here, $.data.variables.n: 1, $.data.operationName: Q, $.data.query: {contains: 'order(id: $id)'}}}\n";
    bench.passes(&server.flow(steps)).await;
    assert_eq!(server.asked()[0].header("content-type"), Some("application/json"));
    let broken = "  - POST: /graphql\n    graphql: {query: '{ broken }'}\n";
    bench.fails(&server.flow(broken), Reason::Assertion, "the response has GraphQL errors").await;
    bench
        .passes(&server.flow(&format!("{broken}    expect: {{json: {{\"$.errors[0].message\": no such field}}}}\n")))
        .await;
}

#[tokio::test]
async fn eventually() {
    let tries = Arc::new(Mutex::new(0));
    let count = Arc::clone(&tries);
    let server = Server::open(move |asked| {
        let mut count = count.lock().unwrap();
        *count += 1;
        let state = match asked.line.as_str() {
            "GET /ships" if *count >= 3 => "shipped",
            "GET /rejects" if *count >= 2 => "rejected",
            "GET /breaks" if *count == 1 => return Vec::new(),
            "GET /breaks" => "shipped",
            _ => "new",
        };
        answer(200, "", format!("{{\"status\":\"{state}\",\"try\":{count}}}"))
    })
    .await;
    let bench = Bench::new();
    let flow = |path: &str, within: &str| {
        *tries.lock().unwrap() = 0;
        server.flow(&format!("  - GET: {path}\n    eventually: {{every: 10ms, within: {within}}}\n    give_up_if: {{json: {{$.status: rejected}}}}\n    expect: {{json: {{$.status: shipped}}}}\n    save: {{n: {{json: $.try}}}}\n  - GET: /end/${{n}}\n    optional: true\n"))
    };
    bench.passes(&flow("/ships", "20s")).await;
    assert_eq!(server.lines(), ["GET /ships", "GET /ships", "GET /ships", "GET /end/3"]);
    bench.passes(&flow("/breaks", "20s")).await;
    let gave_up = "gave up, because `give_up_if` holds: `$.status` in the body: expected \"shipped\", got \"rejected\"";
    bench.fails(&flow("/rejects", "20s"), Reason::GaveUp, gave_up).await;
    server.asked();
    let outcome = bench
        .fails(&flow("/never", "2s"), Reason::Assertion, "attempts within 2s): expected \"shipped\", got \"new\"")
        .await;
    assert!(outcome.steps[0].failure.as_ref().unwrap().waited.is_some());
    // A configuration error is not retried.
    bench
        .fails(
            &flow("/a/${gone}", "20s").replace(
                "  - GET: /a",
                "  - GET: /x\n    optional: true\n    save: {gone: {json: $.gone}}\n  - GET: /a",
            ),
            Reason::MissingValue,
            "was not saved",
        )
        .await;
}

#[tokio::test]
async fn a_proxy_and_a_pinned_address() {
    let server =
        Server::open(|asked| answer(200, "", format!("{} {:?}", asked.line, asked.header("proxy-authorization"))))
            .await;
    let port = server.address.port();
    let bench = Bench::new();
    let text = format!(
        "checks:\n  a: {{http: \"http://shop.invalid/a?b\", proxy: \"http://u:p@127.0.0.1:{port}\", expect: {{body: 'GET http://shop.invalid/a?b Some(\"Basic dTpw\")'}}}}\n"
    );
    bench.passes(&text).await;
    assert_eq!(server.asked()[0].header("host"), Some("shop.invalid"));
    let text = format!(
        "checks:\n  a: {{http: \"http://shop.invalid/a\", resolve: \"127.0.0.1:{port}\", expect: {{body: GET /a None}}}}\n"
    );
    let outcome = bench.passes(&text).await;
    assert_eq!(server.asked()[0].header("host"), Some("shop.invalid"));
    assert_eq!(outcome.steps[0].http.as_ref().unwrap().hops[0].address, Some(server.address));
    // A rejection by the proxy is not taken for a response of the server.
    let locked = Server::open(|_| answer(407, "proxy-authenticate: Basic realm=\"x\"\r\n", "")).await;
    let proxy = locked.address;
    let text = format!("checks:\n  a: {{http: \"http://shop.invalid/a\", proxy: \"http://{proxy}\"}}\n");
    let told = format!("proxy {proxy}: the proxy returned status 407 for shop.invalid");
    bench.fails(&text, Reason::Connect, &told).await;
    // Through a proxy to a server that does not exist: a tunnel is requested and rejected.
    let refuses = Server::open(|_| answer(502, "", "")).await;
    let text = format!("checks:\n  a: {{http: \"https://shop.invalid/a\", proxy: \"http://{}\"}}\n", refuses.address);
    bench.fails(&text, Reason::Connect, "the proxy returned status 502 for shop.invalid:443").await;
    assert_eq!(refuses.lines(), ["CONNECT shop.invalid:443"]);
}

#[tokio::test]
async fn versions_of_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                let text = format!("{:?} {}", request.version(), request.uri());
                Ok::<_, std::convert::Infallible>(hyper::Response::new(http_body_util::Full::new(
                    hyper::body::Bytes::from(text),
                )))
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
            );
        }
    });
    let bench = Bench::new();
    let flow = |version: &str| {
        format!(
            "scenario: T\nbase_url: http://{address}\nsteps:\n  - GET: /a\n    http_version: \"{version}\"\n    expect: {{body: \"HTTP/2.0 http://{address}/a\"}}\n  - GET: /b\n    http_version: \"{version}\"\n    headers: {{Host: shop.test}}\n    expect: {{body: \"HTTP/2.0 http://shop.test/b\"}}\n"
        )
    };
    let outcome = bench.passes(&flow("2")).await;
    let hops: Vec<_> = outcome.steps.iter().map(|step| &step.http.as_ref().unwrap().hops[0]).collect();
    assert_eq!(hops[0].http_version.as_deref(), Some("2"));
    assert!(hops[1].phases.connect.is_zero());
    bench.fails(&flow("1.1"), Reason::Protocol, "").await;
    let plain = Server::open(|_| answer(200, "", "")).await;
    let outcome = bench.run(&plain.flow("  - GET: /\n    http_version: \"2\"\n    timeout: 2s\n")).await;
    assert_eq!(outcome.verdict, Verdict::Failed);
}

/// An HTTP/2 server that does not process the requests on its first connections, which it says with this frame, and then
/// responds with an empty page.
async fn refusing(frame: &'static [u8], connections: usize) -> (SocketAddr, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted: Arc<Mutex<usize>> = Arc::default();
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = {
                let mut count = count.lock().unwrap();
                *count += 1;
                *count
            };
            tokio::spawn(async move {
                // The preface of the client, and its frames up to the request.
                stream.read_exact(&mut [0; 24]).await.unwrap();
                loop {
                    let mut head = [0; 9];
                    if stream.read_exact(&mut head).await.is_err() {
                        return;
                    }
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                    stream.read_exact(&mut vec![0; length]).await.unwrap();
                    match head[3] {
                        // HEADERS
                        1 => break,
                        // SETTINGS: the server's own, and the acknowledgement.
                        4 if head[4] == 0 => {
                            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap();
                        }
                        _ => {}
                    }
                }
                // HEADERS with END_HEADERS and END_STREAM: `:status: 200` of the static table.
                let page: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
                let _ = stream.write_all(if number <= connections { frame } else { page }).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    (address, accepted)
}

#[tokio::test]
async fn a_request_that_was_not_processed_is_sent_once_more() {
    // RST_STREAM with REFUSED_STREAM, GOAWAY for no stream at all, and RST_STREAM with INTERNAL_ERROR.
    const REFUSED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
    const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const FAILED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    let bench = Bench::new();
    let check = async |frame: &'static [u8], connections: usize, expected: Result<(), &str>, opened: usize| {
        let (address, accepted) = refusing(frame, connections).await;
        let text = format!(
            "scenario: T\nbase_url: http://{address}\nsteps:\n  - POST: /a\n    http_version: \"2\"\n    body: x\n"
        );
        match expected {
            Ok(()) => assert_eq!(bench.passes(&text).await.steps[0].http.as_ref().unwrap().hops.len(), 1),
            Err(message) => drop(bench.fails(&text, Reason::Protocol, message).await),
        }
        assert_eq!(*accepted.lock().unwrap(), opened, "{frame:?}");
    };
    check(REFUSED, 1, Ok(()), 2).await;
    check(GOAWAY, 1, Ok(()), 2).await;
    check(REFUSED, 2, Err("the server reset the HTTP/2 stream (REFUSED_STREAM)"), 2).await;
    check(GOAWAY, 2, Err("the server closed the HTTP/2 connection (NO_ERROR)"), 2).await;
    check(FAILED, 1, Err("the server reset the HTTP/2 stream (INTERNAL_ERROR)"), 1).await;
}

#[tokio::test]
async fn json_schemas() {
    let server = Server::open(|_| answer(200, "", r#"{"items":[{"price":3},{"price":-1}]}"#)).await;
    let schema = br#"{"type":"object","required":["gone"]}"#.to_vec();
    let bench = Bench::with(Files(HashMap::from([
        ("s.json", schema),
        ("bad.json", b"{\"type\":5}".to_vec()),
        ("far.json", b"{\"$ref\":\"http://127.0.0.1:1/s\"}".to_vec()),
    ])));
    let flow = |schema: &str| server.flow(&format!("  - GET: /\n    expect: {{json: {{$: {{schema: {schema}}}}}}}\n"));
    bench.passes(&flow("{type: object, properties: {items: {type: array, minItems: 2}}}")).await;
    let items = "{properties: {items: {items: {properties: {price: {minimum: 0}}}}}}";
    bench
        .fails(&flow(items), Reason::Assertion, "`$` in the body: at /items/1/price: -1 is less than the minimum of 0")
        .await;
    bench.fails(&flow("s.json"), Reason::Assertion, "\"gone\" is a required property").await;
    bench.fails(&flow("bad.json"), Reason::Configuration, "`schema`: ").await;
    // Nothing is fetched.
    bench.fails(&flow("far.json"), Reason::Configuration, "`schema`: ").await;
}

#[tokio::test]
async fn xpaths() {
    let page = "<h1>Blue mug</h1><ul><li>a<li>b</ul><form><input name=csrf value=t0k3n>";
    let server = Server::open(move |asked| match asked.line.as_str() {
        "GET /feed" => answer(200, "content-type: application/xml\r\n", "<feed><state>done</state></feed>"),
        "GET /json" => answer(200, "content-type: application/json\r\n", "{}"),
        _ => answer(200, "content-type: text/html\r\n", page),
    })
    .await;
    let bench = Bench::new();
    let flow = |path: &str, more: &str| server.flow(&format!("  - GET: /{path}\n{more}"));
    let expect = |path: &str, facts: &str| flow(path, &format!("    expect: {{xpath: {{{facts}}}}}\n"));
    bench
        .passes(&expect("", "//h1: Blue mug, //li: {count: 2}, count(//li): {less_than: 3}, //h2: {exists: false}"))
        .await;
    bench.passes(&expect("", "\"//ul and //form\": true, \"//input/@value\": {matches: \"^t[0-9a-z]+$\"}")).await;
    bench.passes(&expect("feed", "/feed/state: {one_of: [done, going]}")).await;
    bench
        .fails(
            &expect("", "//h1: Red mug"),
            Reason::Assertion,
            "`//h1` in the body: expected \"Red mug\", got \"Blue mug\"",
        )
        .await;
    bench
        .fails(
            &expect("", "//h2: {exists: true}"),
            Reason::Assertion,
            "`//h2` in the body: expected exists, got nothing",
        )
        .await;
    bench
        .fails(&expect("", "count(//li): {greater_than: 2}"), Reason::Assertion, "expected greater than 2, got 2")
        .await;
    bench
        .fails(&expect("json", "//h1: a"), Reason::Assertion, "the body is neither HTML nor XML: expected a document")
        .await;

    let save = "    save: {csrf: {xpath: //input/@value}}\n  - GET: /next/${csrf}\n";
    bench.passes(&flow("", save)).await;
    assert_eq!(server.lines().last().unwrap(), "GET /next/t0k3n");
    let nothing = "    save: {csrf: {xpath: //h2}}\n";
    bench
        .fails(
            &flow("", nothing),
            Reason::Assertion,
            "nothing to save as `csrf`: expected `//h2` in the body, got nothing",
        )
        .await;
    let polled = "    eventually: {every: 10ms, within: 20s}\n    give_up_if: {xpath: {//state: done}}\n    expect: {status: 201}\n";
    bench.fails(&flow("feed", polled), Reason::GaveUp, "gave up").await;
}

/// Splits the `traceparent` of a request into trace id and span id.
fn traceparent(asked: &Asked) -> Option<(String, String)> {
    let parts: Vec<_> = asked.header("traceparent")?.split('-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { panic!("{parts:?}") };
    assert_eq!((*version, *flags), ("00", "01"));
    Some(((*trace).to_owned(), (*span).to_owned()))
}

#[tokio::test]
async fn requests_carry_the_span_that_the_outcome_has_for_them() {
    let other = Server::open(|_| answer(200, "", "other")).await;
    let to = other.address;
    let server = Server::open(move |asked| match asked.line.as_str() {
        "GET /in" => redirect(302, "/end"),
        "GET /out" => redirect(302, &format!("http://{to}/x")),
        "GET /poll" if asked.connection < 3 => answer(404, "connection: close\r\n", ""),
        _ => answer(200, "", "end"),
    })
    .await;
    let bench = Bench::new();
    let run = async |text: &str, traceparent: bool| {
        let loaded = load("t.yaml", text, &*bench.tools.lookup);
        assert!(!loaded.is_refused(), "{text}\n{:#?}", loaded.diagnostics);
        run(&loaded.scenarios[0], &bench.tools, RunRequest { traceparent, ..RunRequest::default() }).await
    };
    // Every request of every attempt has its own span, and requests to another origin carry none.
    let polled = "  - GET: /poll\n    eventually: {every: 10ms, within: 20s}\n    expect: {status: 200}\n";
    let outcome = run(&server.flow(&format!("{polled}  - GET: /in\n  - GET: /out\n")), true).await;
    assert_eq!(outcome.verdict, Verdict::Passed, "{:?}", outcome.message);
    let trace = outcome.run.0.simple().to_string();
    let sent: Vec<_> = server.asked().iter().map(|asked| traceparent(asked).unwrap()).collect();
    let requests: Vec<_> = outcome.steps.iter().flat_map(crate::outcome::StepResult::requests).collect();
    let expected: Vec<_> = requests.iter().map(|hop| (trace.clone(), hop.span_id.clone())).collect();
    assert_eq!(sent, expected[..expected.len() - 1]);
    assert_eq!(other.asked().iter().map(traceparent).collect::<Vec<_>>(), [None]);
    let spans: std::collections::BTreeSet<_> = requests.iter().map(|hop| &hop.span_id).collect();
    assert_eq!(spans.len(), requests.len());
    // The attempts and hops of a step start one after the other, within the step.
    let poll = &outcome.steps[0];
    let tries: Vec<_> = poll.requests().map(|hop| (hop.attempt, hop.status)).collect();
    assert_eq!(tries, [(0, Some(404)), (1, Some(404)), (2, Some(200))]);
    assert_eq!((poll.earlier_requests.len(), poll.http.as_ref().unwrap().hops.len()), (2, 1));
    for step in &outcome.steps {
        let mut before = Duration::ZERO;
        for hop in step.requests() {
            assert!(hop.offset >= before && hop.offset <= step.duration, "{hop:?}");
            before = hop.offset + hop.phases.processing;
        }
    }

    // Without a setting, the agent decides; a header in the scenario takes precedence.
    let check = async |agent: bool, defaults: &str, of_step: &str, expected: bool| {
        let text = server.flow(&format!("  - GET: /end\n{of_step}")).replace("steps:", &format!("{defaults}steps:"));
        run(&text, agent).await;
        assert_eq!(traceparent(&server.asked()[0]).is_some(), expected, "{agent} {text}");
    };
    check(true, "", "", true).await;
    check(false, "", "", false).await;
    check(true, "defaults: {traceparent: false}\n", "", false).await;
    check(false, "defaults: {traceparent: true}\n", "", true).await;
    check(false, "defaults: {traceparent: true}\n", "    traceparent: false\n", false).await;
    check(true, "defaults: {traceparent: false}\n", "    traceparent: true\n", true).await;
    let own = "00-11111111111111111111111111111111-2222222222222222-01";
    run(&server.flow(&format!("  - GET: /end\n    headers: {{Traceparent: {own}}}\n")), true).await;
    assert_eq!(server.asked()[0].header("traceparent"), Some(own));
    for (defaults, of_check, expected) in [
        ("false", "", false),
        ("true", "", true),
        ("true", ", traceparent: false", false),
        ("false", ", traceparent: true", true),
    ] {
        let address = server.address;
        let text = format!(
            "defaults: {{traceparent: {defaults}}}\nchecks:\n  c: {{http: \"http://{address}/end\"{of_check}}}\n"
        );
        run(&text, !expected).await;
        assert_eq!(traceparent(&server.asked()[0]).is_some(), expected, "{text}");
    }
}

#[tokio::test]
async fn requests_without_an_answer_are_in_the_outcome() {
    let bench = Bench::new();
    let server = Server::open(|asked| match asked.line.as_str() {
        "GET /out" => redirect(302, "http://127.0.0.1:1/x"),
        _ => Vec::new(),
    })
    .await;
    let outcome = bench.run(&server.flow("  - GET: /out\n")).await;
    let step = &outcome.steps[0];
    assert_eq!((&step.http, step.earlier_requests.len()), (&None, 2));
    let reasons: Vec<_> = step.requests().map(|hop| (hop.status, hop.reason)).collect();
    assert_eq!(reasons, [(Some(302), None), (None, outcome.reason)]);
    // Of a long list, the first and last items are kept.
    let check = |given: Vec<u8>, expected: &[u8]| {
        let mut items = given;
        super::keep_ends(&mut items, 4);
        assert_eq!(items, expected);
    };
    check(vec![1, 2, 3], &[1, 2, 3]);
    check(vec![1, 2, 3, 4], &[1, 2, 3, 4]);
    check(vec![1, 2, 3, 4, 5, 6, 7], &[1, 2, 6, 7]);
}
