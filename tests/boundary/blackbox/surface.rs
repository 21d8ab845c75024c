//! `/probe` and its neighbours over HTTP, as an agent answers them: words and statuses of the original, and no secrets.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::StatusCode;
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;

use super::*;
use crate::support::agent::{Agent, sample};

const TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

const MODULES: &str = r#"modules:
  http_2xx: {prober: http, http: {preferred_ip_protocol: ip4}}
  brief: {prober: http, timeout: 7s, http: {preferred_ip_protocol: ip4}}
  secrets:
    prober: http
    http:
      headers: {Host: shop.example.com, X-Api-Key: Header-s3cret}
      body: Body-s3cret
      basic_auth: {username: somebody, password: Password-s3cret}
  greets:
    prober: tcp
    tcp:
      query_response:
        - {expect: "^220 (.+)", send: "Send-s3cret"}
        - expect: "^250 hello Send-"
  http3: {prober: http, http: {enable_http2: false, enable_http3: true}}
  nobody: {prober: ldap}
"#;

/// An agent that may probe some servers of the test.
struct Probed {
    agent: Agent,
    folder: Folder,
    plain: SocketAddr,
    smtp: SocketAddr,
    /// A server that is not listed, and how many have connected to it.
    other: SocketAddr,
    connected: Arc<AtomicUsize>,
    _demo: Demo,
}

/// Leads to the server that is not listed.
async fn leads_away(mut stream: TcpStream, away: SocketAddr) {
    let mut lines = BufReader::new(&mut stream).lines();
    while lines.next_line().await.is_ok_and(|line| line.is_some_and(|line| !line.is_empty())) {}
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{away}/\r\nContent-Length: 0\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

impl Probed {
    async fn begin(name: &str) -> (Self, SocketAddr) {
        let connected = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connected);
        let other = serve(move |stream| {
            counter.fetch_add(1, Ordering::Relaxed);
            http1(stream)
        })
        .await;
        let leads = serve(move |stream| leads_away(stream, other)).await;
        let (plain, smtp) = (serve(http1).await, serve(smtp).await);
        let folder = Folder::new(name);
        folder.write("blackbox.yml", MODULES);
        folder.write(
            "wachta.yaml",
            &format!(
                "location: here\nscenarios: []\nstore: sqlite:wachta.db\nweb: {{listen: \"127.0.0.1:0\"}}\n\
                 probe: {{modules: blackbox.yml, targets: [\"http://{plain}/*\", \"http://{leads}/*\", \"tcp://{smtp}\"]}}\n"
            ),
        );
        let demo = Demo::open(0, 0, &CancellationToken::new()).await.unwrap();
        let agent = Agent::serve(folder.path(), &demo).await;
        (Self { agent, folder, plain, smtp, other, connected, _demo: demo }, leads)
    }

    /// Status and text of an answer.
    async fn ask(&self, path: &str, query: &[(&str, &str)], headers: &[(&str, &str)]) -> (StatusCode, String) {
        let answer = self.answer(path, query, headers).await;
        (answer.status(), answer.text().await.unwrap())
    }

    async fn answer(&self, path: &str, query: &[(&str, &str)], headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request = reqwest::Client::new().get(self.agent.url(path)).query(query);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn probe(&self, query: &[(&str, &str)]) -> (StatusCode, String) {
        self.ask("/probe", query, &[]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_as_the_original_does() {
    let (probed, leads) = Probed::begin("blackbox-surface").await;
    let page = format!("http://{}/plain", probed.plain);
    let page = page.as_str();

    // The module that is meant when none is named.
    let answer = probed.answer("/probe", &[("target", page)], &[]).await;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    assert_eq!(sample(&text, "probe_success", &[]), Some(1.0), "{text}");
    assert_eq!(sample(&text, "probe_http_status_code", &[]), Some(200.0), "{text}");

    // What cannot be probed is told apart from what fails.
    let clash = "host header defined both in module configuration (shop.example.com) and with URL-parameter 'hostname' (other.example.com)";
    let bad = "Failed to parse timeout from Prometheus header: strconv.ParseFloat: parsing \"soon\": invalid syntax";
    for (query, headers, status, expected) in [
        (&[("module", "x\"y"), ("target", page)][..], &[][..], 400, "Unknown module \"x\\\"y\""),
        (&[("module", "http_3xx")], &[], 400, "Unknown module \"http_3xx\""),
        (&[("module", "brief")], &[], 400, "Locator parameter is missing"),
        (&[("target", "")], &[], 400, "Locator parameter is missing"),
        (&[("module", "nobody"), ("target", page)], &[], 400, "Unknown prober \"ldap\""),
        (
            &[("module", "http3"), ("target", page)],
            &[],
            400,
            "module \"http3\" cannot be used: HTTP/3 (`enable_http3`) is not supported",
        ),
        (&[("module", "secrets"), ("target", page), ("hostname", "other.example.com")], &[], 400, clash),
        (&[("target", page)], &[(TIMEOUT, "soon")], 500, bad),
        (&[("target", page)], &[("sec-fetch-site", "cross-site")], 403, "cross-site request rejected"),
    ] {
        let (given, text) = probed.ask("/probe", query, headers).await;
        assert_eq!((given.as_u16(), text.trim_end()), (status, expected), "{query:?} {headers:?}");
    }
    let metrics = probed.agent.get("/metrics").await;
    assert_eq!(sample(&metrics, "blackbox_module_unknown_total", &[]), Some(2.0));
    assert_eq!(sample(&metrics, "blackbox_exporter_config_last_reload_successful", &[]), Some(1.0));

    // What Prometheus waits, less half a second, and at most what the module says.
    for (module, header, expected) in [
        ("http_2xx", None, 119.5),
        ("http_2xx", Some("10"), 9.5),
        ("http_2xx", Some("2.25"), 1.75),
        ("brief", None, 7.0),
        ("brief", Some("10"), 7.0),
        ("brief", Some("5"), 4.5),
    ] {
        let headers: Vec<_> = header.into_iter().map(|header| (TIMEOUT, header)).collect();
        // Nobody is asked: how long it may take does not depend on how long it takes.
        let target = probed.other.to_string();
        let (_, text) = probed.ask("/probe", &[("module", module), ("target", &target)], &headers).await;
        assert_eq!(sample(&text, "probe_timeout_seconds", &[]), Some(expected), "{module} {header:?}\n{text}");
    }

    // What is not listed is not asked, neither by name nor by a redirect.
    let other = format!("http://{}/plain", probed.other);
    let away = format!("http://{leads}/");
    let by_name = format!("http://localhost:{}/plain", probed.plain.port());
    for (target, why) in [
        (&other, "The target is not allowed by `probe.targets`"),
        (&by_name, "The target is not allowed by `probe.targets`"),
        (&away, "The target is not allowed by `probe.targets`"),
    ] {
        let (status, text) = probed.probe(&[("target", target), ("debug", "true")]).await;
        assert!(status.is_success() && text.contains(why), "{target}\n{text}");
        assert!(text.contains("\nprobe_success 0\n"), "{target}\n{text}");
    }
    let (_, text) = probed.probe(&[("target", &away), ("debug", "true")]).await;
    assert!(text.contains("msg=\"Received redirect\""), "the first hop is allowed: {text}");
    assert_eq!(probed.connected.load(Ordering::Relaxed), 0, "somebody connected to what is not listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_kept_for_a_while_and_tell_no_secrets() {
    let (probed, _) = Probed::begin("blackbox-kept").await;
    let with_password = format!("http://somebody:Target-s3cret@{}/plain", probed.plain);
    let smtp = probed.smtp.to_string();
    let mut shown = Vec::new();
    for (module, target) in [("secrets", with_password.as_str()), ("greets", smtp.as_str())] {
        let (status, text) = probed.probe(&[("module", module), ("target", target), ("debug", "true")]).await;
        assert_eq!(status, StatusCode::OK);
        let headings = [
            "Logs for the probe:\n",
            "\n\n\nMetrics that would have been returned:\n# HELP probe_",
            "\n\n\nModule configuration:\nprober: ",
        ];
        let places: Vec<_> = headings.iter().filter_map(|heading| text.find(heading)).collect();
        assert!(places.len() == 3 && places.is_sorted(), "{text}");
        // The secrets were sent, or the dialogue would have ended otherwise.
        assert!(text.contains("\nprobe_success 1\n"), "{text}");
        assert!(text.contains("msg=\"Probe succeeded\"") && text.contains("<secret>"), "{text}");
        shown.push(text);
    }
    // A server that repeats a secret tells nobody.
    assert!(shown[1].contains("250 hello ***"), "{}", shown[1]);
    for (id, debug) in shown.iter().enumerate() {
        let (status, text) = probed.ask("/logs", &[("id", &id.to_string())], &[]).await;
        assert_eq!((status, &text), (StatusCode::OK, debug), "what is kept is what was shown");
    }
    let (status, config) = probed.ask("/config", &[], &[]).await;
    assert_eq!(status, StatusCode::OK);
    for part in
        ["  greets:\n", "Host: shop.example.com\n", "X-Api-Key: <secret>\n", "body: <secret>\n", "send: <secret>\n"]
    {
        assert!(config.contains(part), "{part:?} is not in\n{config}");
    }
    let page = probed.agent.get("/").await.replace("&#x2f;", "/");
    assert!(page.contains("/logs?id=0") && page.contains("/logs?id=1"), "{page}");
    for text in shown.iter().chain([&config, &page]) {
        assert!(!text.contains("s3cret"), "{text}");
    }
    assert!(probed.agent.log().iter().all(|line| !line.contains("s3cret")), "{:#?}", probed.agent.log());

    // A hundred are kept: after 102 the first two are gone.
    let other = probed.other.to_string();
    for _ in 0..100 {
        probed.probe(&[("target", &other)]).await;
    }
    let page = probed.agent.get("/").await.replace("&#x2f;", "/");
    let listed: Vec<usize> = page
        .split("/logs?id=")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap())
        .collect();
    assert_eq!(listed, (2..102).rev().collect::<Vec<_>>());
    for (id, status, text) in
        [("1", 404, "Probe id not found"), ("102", 404, "Probe id not found"), ("last", 500, "Invalid probe id")]
    {
        let (given, said) = probed.ask("/logs", &[("id", id)], &[]).await;
        assert_eq!((given.as_u16(), said.trim_end()), (status, text), "{id}");
    }
    let (status, text) = probed.ask("/logs", &[], &[]).await;
    assert_eq!((status.as_u16(), text.trim_end()), (500, "Invalid probe id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_are_read_anew_and_a_bad_file_keeps_the_last_good_one() {
    const SUCCESSFUL: &str = "blackbox_exporter_config_last_reload_successful";
    const SUCCEEDED_AT: &str = "blackbox_exporter_config_last_reload_success_timestamp_seconds";
    let (probed, _) = Probed::begin("blackbox-reload").await;
    let page = format!("http://{}/plain", probed.plain);
    let answers = async |module: &str| {
        let (status, text) = probed.probe(&[("module", module), ("target", &page)]).await;
        (status.as_u16(), sample(&text, "probe_success", &[]))
    };
    assert_eq!((answers("brief").await, answers("teapot").await), ((200, Some(1.0)), (400, None)));
    let began = probed.agent.sample(SUCCEEDED_AT, &[]).await.unwrap();
    assert!(began > 1e9);

    let teapot = "modules:\n  teapot: {prober: http, http: {preferred_ip_protocol: ip4, valid_status_codes: [418]}}\n";
    probed.folder.write("blackbox.yml", &teapot.replace("valid_status_codes", "valid_codes"));
    let (status, text) = probed.agent.post("/-/reload").await;
    assert_eq!(status, 500, "{text}");
    assert!(text.contains("blackbox.yml:2:61") && text.contains("`valid_codes`"), "{text}");
    assert!(text.contains("module teapot"), "{text}");
    assert_eq!((answers("brief").await, answers("teapot").await), ((200, Some(1.0)), (400, None)));
    assert_eq!(probed.agent.sample(SUCCESSFUL, &[]).await, Some(0.0));
    assert_eq!(probed.agent.sample(SUCCEEDED_AT, &[]).await, Some(began), "what failed is no success");

    probed.folder.write("blackbox.yml", teapot);
    let (status, text) = probed.agent.post("/-/reload").await;
    assert_eq!(status, 200, "{text}");
    assert_eq!((answers("brief").await, answers("teapot").await), ((400, None), (200, Some(0.0))));
    assert_eq!(probed.agent.sample(SUCCESSFUL, &[]).await, Some(1.0));
    assert!(probed.agent.sample(SUCCEEDED_AT, &[]).await > Some(began));

    // A file that is gone is one that does not load.
    std::fs::remove_file(probed.folder.path().join("blackbox.yml")).unwrap();
    let (status, text) = probed.agent.post("/-/reload").await;
    assert!(status == 500 && text.contains("blackbox.yml"), "{status} {text}");
    assert_eq!(answers("teapot").await, (200, Some(0.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_probes_run_at_once_than_are_allowed() {
    let (connected, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (counter, closed) = (Arc::clone(&connected), Arc::clone(&gate));
    let slow = serve(move |stream| {
        counter.fetch_add(1, Ordering::Relaxed);
        let closed = Arc::clone(&closed);
        async move {
            // Opened by closing it: then it lets everyone through.
            let _ = closed.acquire().await;
            http1(stream).await;
        }
    })
    .await;
    let folder = Folder::new("blackbox-places");
    folder.write("blackbox.yml", MODULES);
    folder.write(
        "wachta.yaml",
        "location: here\nscenarios: []\nstore: sqlite:wachta.db\nweb: {listen: \"127.0.0.1:0\"}\n\
         probe: {modules: blackbox.yml, max_probes: 1}\n",
    );
    let demo = Demo::open(0, 0, &CancellationToken::new()).await.unwrap();
    let agent = Agent::serve(folder.path(), &demo).await;
    let url = format!("{}?target=http://{slow}/plain", agent.url("/probe"));
    let ask = async || {
        let answer = reqwest::get(&url).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let second = async {
        until("the first one runs", LIMIT, async || (connected.load(Ordering::Relaxed) > 0).then_some(())).await;
        let refused = ask().await;
        gate.close();
        refused
    };
    let ((first, text), refused) = tokio::join!(ask(), second);
    assert_eq!(first, 200, "{text}");
    assert_eq!(refused, (503, "the maximum number of probes is running already (`probe.max_probes`: 1)\n".into()));
    // Its place is free again.
    assert_eq!(ask().await.0, 200);
    assert_eq!(connected.load(Ordering::Relaxed), 2, "who is refused asks nobody");
    agent.stop().await;
}
