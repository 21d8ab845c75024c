//! Additional trusted roots of a run: which runs trust a server whose certificate was signed by a private authority.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::goto::server;
use super::leases::all_gone;
use super::*;
use crate::names::Reason;
use crate::scenario::Engine;

/// Creates an untrusted authority.
fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// Starts a server at `localhost` whose certificate the authority has signed.
async fn vouched(authority: &Issuer<'static, KeyPair>) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let now = std::time::SystemTime::now();
    params.not_before = (now - Duration::from_hours(1)).into();
    params.not_after = (now + Duration::from_hours(24)).into();
    let certificate = params.signed_by(&key, authority).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let port = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.read(&mut [0; 16 * 1024]).await;
            let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 20\r\nconnection: close\r\n\r\n\
                        <title>known</title>";
            let _ = stream.write_all(page.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    format!("https://localhost:{port}/")
}

/// Lookup with a single file.
struct Only(String);

impl Lookup for Only {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.into()))
    }
    fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
        assert_eq!(path.to_str(), Some("ca.pem"));
        Ok(self.0.clone().into_bytes())
    }
}

/// Returns the browser settings of a scenario that trusts this file.
async fn trusting(pem: &str) -> Result<ContextOptions, Failure> {
    let lookup: Arc<dyn Lookup> = Arc::new(Only(pem.to_owned()));
    let text = "scenario: A\nbrowser:\n  trust: {ca: ca.pem}\nsteps:\n  - goto: https://localhost/\n";
    let loaded = crate::scenario::load("a.yaml", text, &*lookup);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let (scenario, run) = (&loaded.scenarios[0], RunId::new());
    let values = Values::new(scenario, &lookup, crate::secret::Masker::default(), run, Utc::now(), "here");
    values.read_files(scenario.browser.trust.files(), Duration::from_secs(60)).await;
    ContextOptions::of(scenario, &values, run)
}

/// Returns whether a run with these settings can open the page, and whether its browser was warm.
async fn sees(browsers: &BrowserPool, spec: ContextOptions, url: &str) -> (bool, bool) {
    let mut page = browsers.open(spec, soon()).await.unwrap();
    let warm = page.browser().warm;
    let (values, patience) = (values(url), Duration::from_secs_f64(PATIENCE));
    let seen = match page.act(&goto(url), &[], &values, patience).await {
        Ok(_) => {
            page.act(&expect(PageFact::Title(Matcher::text("known"))), &[], &values, patience).await.unwrap();
            true
        }
        Err(failure) => {
            assert_eq!(failure.reason, Reason::Certificate, "{failure:?}");
            false
        }
    };
    page.close().await;
    (seen, warm)
}

async fn only_runs_that_name_a_root_trust_it(engine: Engine) {
    let folder = Temporary::new();
    let browsers = configured(&folder, Config { max_sessions: 2, engine: Some(engine), ..Config::default() });
    let (mine, other) = (authority("mine"), authority("other"));
    let url = vouched(&mine.0).await;
    let (mine, other) = (mine.1, other.1);
    let both = format!("{other}{mine}{other}");
    for (round, (roots, seen, warm)) in [
        (None, false, false),
        (Some(&mine), true, false),
        // No other run gets these roots, although both browsers are kept.
        (None, false, true),
        (Some(&mine), true, true),
        // There is no room for a third one, so the least recently used one is ended.
        (Some(&other), false, false),
        (Some(&mine), true, true),
        (Some(&both), true, false),
    ]
    .into_iter()
    .enumerate()
    {
        let spec = match roots {
            Some(pem) => trusting(pem).await.unwrap(),
            None => ContextOptions::default(),
        };
        assert_eq!(sees(&browsers, spec, &url).await, (seen, warm), "{engine}, round {round}");
    }
    let kept = browsers.metrics().sessions.with_label_values(&["idle"]).get();
    assert_eq!((browsers.metrics().started.get(), kept), (4, 2), "{engine}");
    browsers.shutdown().await;
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "{engine}: nothing is left in the folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_runs_that_name_a_root_trust_it_in_chromium() {
    only_runs_that_name_a_root_trust_it(Engine::Chromium).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_runs_that_name_a_root_trust_it_in_firefox() {
    only_runs_that_name_a_root_trust_it(Engine::Firefox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_that_replaces_one_with_roots_has_them_too() {
    let folder = Temporary::new();
    let browsers = configured(&folder, Config { max_sessions: 1, max_runs: 1, ..Config::default() });
    let (authority, pem) = authority("mine");
    let url = vouched(&authority).await;
    for warm in [false, true] {
        assert_eq!(sees(&browsers, trusting(&pem).await.unwrap(), &url).await, (true, warm));
    }
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_roots_that_is_given_up_leaves_nothing() {
    let folder = Temporary::new();
    let browsers = browsers(&folder, 1);
    let (_, pem) = authority("mine");
    let lease = browsers.used().unwrap().0.lease.clone();
    for millis in [1, 5, 10, 20, 50, 100] {
        let open = browsers.open(trusting(&pem).await.unwrap(), soon());
        let opened = tokio::time::timeout(Duration::from_millis(millis), open).await;
        drop(opened);
        all_gone(&lease, &folder.0).await;
    }
    browsers.shutdown().await;
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_no_root_is_told_with_its_place() {
    let cut = |pem: &str| pem.replacen("MII", "AII", 1);
    let (_, pem) = authority("mine");
    for (file, text) in [
        ("no PEM".to_owned(), "`trust.ca`: no certificate in the file"),
        (pem.replace("-----END", "-----FIN"), "`trust.ca`: "),
        (format!("{pem}{}", cut(&pem)), "`trust.ca`: certificate 2 in the file is not a CA certificate: "),
        (pem.repeat(201), "`trust.ca`: 201 certificates in the file, at most 200 are supported"),
    ] {
        let failure = trusting(&file).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Configuration, "{failure:?}");
        assert!(failure.message.starts_with(text), "{text}: {failure:?}");
        assert_eq!(failure.span.map(|span| (span.line, span.column)), Some((3, 15)), "{failure:?}");
    }
}

#[tokio::test]
async fn a_browser_elsewhere_cannot_be_given_roots() {
    let folder = Temporary::new();
    let webdriver = Some("http://127.0.0.1:1/".parse().unwrap());
    let browsers = configured(&folder, Config { webdriver, ..Config::default() });
    let (_, pem) = authority("mine");
    let failure = browsers.open(trusting(&pem).await.unwrap(), soon()).await.err().unwrap();
    assert_eq!(failure.reason, Reason::Configuration);
    assert!(failure.message.contains("installed where the browser runs"), "{failure:?}");
    assert_eq!(failure.span.map(|span| span.line), Some(3));
    browsers.shutdown().await;
}
