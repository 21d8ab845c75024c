//! Where sessions come from: a fresh browser for each run, never more than the agent allows.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fantoccini::ClientBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value as Json, json};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::driver::{Driver, Output};
use super::guard::Guard;
use super::lease::{End, Folder, Lease, Local, Owner, reap};
use super::metrics::{Cause, Metrics};
use super::page::Page;
use super::{Config, verdict};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::Viewport;

/// The size of the page when the scenario says nothing.
const VIEWPORT: Viewport = Viewport { width: 1280, height: 800 };

/// How long a driver and its browser may take to start.
const STARTING: Duration = Duration::from_secs(30);

/// Below this much shared memory Chromium's tabs crash, as in a container with its 64 MiB.
const ENOUGH_SHARED_MEMORY: u64 = 512 * 1024 * 1024;

/// What a run wants of its browser.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// The size of the page; none: 1280x800.
    pub viewport: Option<Viewport>,
}

/// Where sessions come from. Clones share everything.
#[derive(Clone)]
pub struct Browsers(Arc<Inner>);

struct Inner {
    config: Config,
    folder: PathBuf,
    agent: PathBuf,
    metrics: Metrics,
    places: Arc<Semaphore>,
    numbers: AtomicU64,
    /// Made with the first session.
    used: Mutex<Option<(Arc<Folder>, Guard)>>,
    http: reqwest::Client,
    connector: hyper_rustls::HttpsConnector<HttpConnector>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What chromedriver says when the port that was free for one family of addresses is taken for the other.
const PORT_TAKEN: &str = "Address already in use";
/// How often a chromedriver is started for one session before it is given up.
const STARTS: usize = 5;

/// Why a session was not opened, and whether another try may help.
struct NotOpened {
    again: bool,
    failure: Failure,
}

impl From<Failure> for NotOpened {
    fn from(failure: Failure) -> Self {
        Self { again: false, failure }
    }
}

impl Browsers {
    /// `folder`: a folder for this agent's state, made when it is needed; every session has its temporary files there.
    /// `agent`: the wachta executable, which is also the guard process.
    pub fn new(config: Config, folder: PathBuf, agent: PathBuf, metrics: Metrics) -> Self {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_root_certificates(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect::<rustls::RootCertStore>())
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Commands are small and one waits for another.
        tcp.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .build()
            .expect("the client has nothing that could fail");
        Self(Arc::new(Inner {
            places: Arc::new(Semaphore::new(config.max_sessions.max(1))),
            config,
            folder,
            agent,
            metrics,
            numbers: AtomicU64::new(1),
            used: Mutex::new(None),
            http,
            connector,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// Ends what earlier agents with the same folder have left: their processes and folders, nobody else's. Returns how
    /// many sessions that were. Agents that still run are left alone.
    pub async fn reap_leftovers(&self) -> usize {
        let folder = self.0.folder.clone();
        let reaped = tokio::task::spawn_blocking(move || reap(&folder)).await.unwrap_or(0);
        self.0.metrics.reaped.with_label_values(&[Cause::Leftover.as_str()]).inc_by(reaped as u64);
        reaped
    }

    /// A fresh session for one run. Waits for a free place and for the browser until `deadline`.
    pub async fn open(&self, spec: Spec, deadline: Instant) -> Result<Page, Failure> {
        for _ in 1..STARTS {
            match self.try_open(&spec, deadline).await {
                Err(NotOpened { again: true, failure }) => {
                    tracing::info!(failure.message, "another chromedriver is started");
                }
                opened => return opened.map_err(|not| not.failure),
            }
        }
        self.try_open(&spec, deadline).await.map_err(|not| not.failure)
    }

    async fn try_open(&self, spec: &Spec, deadline: Instant) -> Result<Page, NotOpened> {
        let inner = &self.0;
        let since = Instant::now();
        let left = || deadline.saturating_duration_since(Instant::now());
        let stopping = || Failure::new(Reason::Lost, "the agent is stopping");
        let permit = match timeout(left(), Arc::clone(&inner.places).acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(stopping().into()),
            Err(_) => {
                return Err(Failure::new(
                    Reason::Resources,
                    format!("no free browser session: all {} are in use", inner.config.max_sessions),
                )
                .waited(since.elapsed())
                .into());
            }
        };
        if inner.stop.is_cancelled() {
            return Err(stopping().into());
        }
        let (folder, guard) = self.used().map_err(|error| {
            Failure::new(
                Reason::Configuration,
                format!("{} cannot be used for browser sessions: {error}", inner.folder.display()),
            )
        })?;
        let owner = Owner { local: None, metrics: inner.metrics.clone(), guard, http: inner.http.clone(), permit };
        let starting = left().min(STARTING);
        match &inner.config.webdriver {
            Some(endpoint) => {
                let lease = owner.hold(&inner.tasks, inner.stop.clone());
                Ok(self.start(lease, endpoint, &Output::default(), spec, starting).await?)
            }
            None => self.open_local(owner, &folder, spec, starting).await,
        }
    }

    async fn open_local(
        &self,
        mut owner: Owner,
        folder: &Arc<Folder>,
        spec: &Spec,
        starting: Duration,
    ) -> Result<Page, NotOpened> {
        let inner = &self.0;
        let since = Instant::now();
        let number = inner.numbers.fetch_add(1, Ordering::Relaxed);
        let (path, short) = folder.session(number).map_err(|error| {
            Failure::new(Reason::Configuration, format!("no folder for a browser session: {error}"))
        })?;
        let mark = format!("{}/{number}", folder.lease);
        let driver = Driver::start(&short, &mark).inspect_err(|_| {
            super::processes::remove_folder(&path);
        })?;
        let (group, mut port, output) = (driver.group, driver.port.clone(), driver.output.clone());
        let guard = owner.guard.clone();
        owner.local = Some(Local { driver, path: path.clone(), _folder: Arc::clone(folder) });
        // From here on the session has an owner: whatever becomes of this future, it ends.
        let lease = owner.hold(&inner.tasks, inner.stop.clone());
        guard.add(group, &mark, &path).await;
        let port = match timeout(starting, said(&mut port)).await {
            Ok(Some(port)) => port,
            other => {
                lease.end(End::Because(if other.is_err() { Cause::Timeout } else { Cause::Crashed })).await;
                let failure = Failure::new(Reason::Driver, format!("chromedriver did not start: {}", output.tail()));
                let again = failure.message.contains(PORT_TAKEN);
                return Err(NotOpened { again, failure: failure.waited(since.elapsed()) });
            }
        };
        let endpoint = Url::parse(&format!("http://127.0.0.1:{port}/")).expect("a port makes no URL invalid");
        let page = self.start(lease, &endpoint, &output, spec, starting.saturating_sub(since.elapsed())).await?;
        Ok(page.share(path))
    }

    async fn start(
        &self,
        lease: Lease,
        endpoint: &Url,
        output: &Output,
        spec: &Spec,
        starting: Duration,
    ) -> Result<Page, Failure> {
        let inner = &self.0;
        let since = Instant::now();
        let mut endpoint = endpoint.clone();
        if !endpoint.path().ends_with('/') {
            endpoint.set_path(&format!("{}/", endpoint.path()));
        }
        let Json::Object(capabilities) = self.capabilities() else { unreachable!("capabilities are an object") };
        let mut builder = ClientBuilder::new(inner.connector.clone());
        builder.capabilities(capabilities);
        let client = match timeout(starting, builder.connect(endpoint.as_str())).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                let failure = verdict::not_created(&error, &output.tail());
                lease.end(End::Because(Cause::Crashed)).await;
                return Err(failure.waited(since.elapsed()));
            }
            Err(_) => {
                lease.end(End::Because(Cause::Timeout)).await;
                return Err(Failure::new(
                    Reason::Browser,
                    format!("Chromium did not start in time: {}", output.tail()),
                )
                .waited(since.elapsed()));
            }
        };
        inner.metrics.started.inc();
        if let Some(id) = client.session_creation_response().map(|response| response.session_id().to_owned())
            && let Ok(url) = endpoint.join(&format!("session/{id}"))
        {
            lease.named(url);
        }
        let status = endpoint.join("status").expect("`status` makes no URL invalid");
        let mut page = Page::new(client, lease, inner.http.clone(), status);
        match page.resize(spec.viewport.unwrap_or(VIEWPORT)).await {
            Ok(()) => Ok(page),
            Err(failure) => {
                page.close().await;
                Err(failure)
            }
        }
    }

    fn capabilities(&self) -> Json {
        let mut arguments = vec![
            "--headless".to_owned(),
            "--no-first-run".into(),
            "--no-default-browser-check".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            "--disable-default-apps".into(),
            "--disable-domain-reliability".into(),
            "--disable-client-side-phishing-detection".into(),
            "--disable-features=Translate,OptimizationHints,MediaRouter".into(),
        ];
        // At an endpoint that is not ours the other side knows what its machine needs.
        if self.0.config.webdriver.is_none() {
            // Chromium refuses to run its sandbox as root.
            if nix::unistd::geteuid().is_root() {
                arguments.push("--no-sandbox".into());
            }
            let shared =
                nix::sys::statvfs::statvfs("/dev/shm").map_or(0, |shm| shm.blocks_available() * shm.fragment_size());
            if shared < ENOUGH_SHARED_MEMORY {
                arguments.push("--disable-dev-shm-usage".into());
            }
        }
        arguments.extend(self.0.config.arguments.iter().cloned());
        json!({
            "browserName": "chrome",
            "pageLoadStrategy": "normal",
            "acceptInsecureCerts": false,
            "timeouts": {"implicit": 0, "script": 10_000},
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        })
    }

    fn used(&self) -> std::io::Result<(Arc<Folder>, Guard)> {
        let mut used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = &*used {
            return Ok(used.clone());
        }
        let folder = Arc::new(Folder::new(&self.0.folder)?);
        let (guard, owner) = Guard::new(self.0.agent.clone());
        self.0.tasks.spawn(owner);
        *used = Some((Arc::clone(&folder), guard.clone()));
        Ok((folder, guard))
    }

    /// Ends every session and the guard, and waits until they are gone. No session can be opened afterwards.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.places.close();
        // The guard ends with the last handle to it, and the folder goes when the sessions in it are gone.
        let folder = self.0.used.lock().unwrap_or_else(PoisonError::into_inner).take().map(|(folder, _)| folder);
        self.0.tasks.close();
        self.0.tasks.wait().await;
        drop(folder);
    }

    /// The folder given at the start.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// How it was set up.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The mark of this agent's processes, once there was a session.
    #[cfg(test)]
    pub(super) fn lease(&self) -> Option<String> {
        self.0.used.lock().unwrap().as_ref().map(|(folder, _)| folder.lease.clone())
    }
}

/// The port a driver has said it listens on; none when it ended before.
async fn said(port: &mut watch::Receiver<Option<u16>>) -> Option<u16> {
    port.wait_for(Option::is_some).await.ok().and_then(|port| *port)
}
