//! Pool of warm browser sessions with a maximum size.
//!
//! A run takes an idle session, in which a user context is already prepared for it. After the run, that context is
//! removed, the next one is created and the session becomes idle again. Sessions that are old, large, used often or in
//! an unexpected state are replaced. If a driver has no `BiDi`, or if it is configured, each run starts a browser of
//! its own.

mod opening;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fantoccini::ClientBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::{Host, Url};

use super::bidi::{Bidi, BidiError};
use super::driver::{Driver, Output};
use super::guard::Guard;
use super::lease::{End, Folder, Lease, Local, Owner, reap};
use super::metrics::{Cause, Metrics};
use super::ports::{self, PortBlock};
use super::session::{BRISK, Session, UserContext};
use super::trust::LaunchOptions;
use super::{Config, ContextOptions, engine, errors, processes, world};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::wire::tls::{Settings, Trusted};
use crate::wire::{ClosedPort, Reach};

/// Maximum time without a sign of life while a driver and its browser start, and maximum total time for one at an
/// endpoint.
const STARTING: Duration = Duration::from_secs(30);

/// Default maximum time for which a run may use its session.
const LONGEST: Duration = Duration::from_secs(3600);

/// Interval between checks of the free memory while there is not enough.
const MEMORY_LOOKS: Duration = Duration::from_millis(250);

/// Idle time below which a session counts as busy, because the next run is likely to follow as soon.
const BUSY: Duration = Duration::from_secs(1);

/// Waiting time after which the cause is logged.
const WORTH_SAYING: Duration = Duration::from_secs(2);

/// The browser pool. Clones share everything.
#[derive(Clone)]
pub struct BrowserPool(Arc<Inner>);

struct Inner {
    config: Config,
    folder: PathBuf,
    agent: PathBuf,
    metrics: Metrics,
    /// Ports of the drivers.
    ports: PortBlock,
    /// Ports of this agent that neither requests nor pages can reach.
    reach: Reach,
    /// Port of the agent's web server.
    web_port: Option<u16>,
    /// Port of an external WebDriver endpoint on this machine.
    _endpoint: Option<ClosedPort>,
    /// One permit for each run that may have a browser at the same time.
    places: Arc<Semaphore>,
    /// Idle sessions, the most recently used one last.
    idle: Mutex<Vec<Session>>,
    numbers: AtomicU64,
    /// Created with the first session.
    used: Mutex<Option<(Arc<Folder>, Guard)>>,
    http: reqwest::Client,
    tls: Arc<rustls::ClientConfig>,
    connector: hyper_rustls::HttpsConnector<HttpConnector>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Driver message when a port that was free for one address family is taken for the other.
const PORT_TAKEN: &str = "Address already in use";
/// Maximum number of attempts to start a driver for one session.
const STARTS: usize = 5;

/// Cause of a session that was not started.
struct NotStarted {
    failure: Failure,
    /// Permit for the session, if another attempt may succeed.
    again: Option<OwnedSemaphorePermit>,
}

impl From<Failure> for NotStarted {
    fn from(failure: Failure) -> Self {
        Self { failure, again: None }
    }
}

/// Returns the TLS configuration for the endpoint, whose certificate must be signed by a root of the system or of the
/// configuration.
fn of_endpoint(config: &Config) -> rustls::ClientConfig {
    let trusted = Trusted::system();
    let settings = Settings { further: config.roots.clone(), ..Settings::default() };
    let built = trusted.build(settings).unwrap_or_else(|why| {
        tracing::error!(why, "cannot use the CA certificates of the WebDriver endpoint; using those of the system");
        trusted.client_config()
    });
    let mut tls = rustls::ClientConfig::clone(&built);
    // The connector sets the protocols itself.
    tls.alpn_protocols.clear();
    tls
}

impl BrowserPool {
    /// Creates the pool. `folder` is for this agent's state and is created on demand; every session stores its
    /// temporary files there. `agent` is the wachta executable, which is also the guard process.
    pub fn new(config: Config, folder: PathBuf, agent: PathBuf, metrics: Metrics) -> Self {
        Self::closing(config, folder, agent, metrics, Reach::default(), None)
    }

    /// Creates the pool in the same way as [`BrowserPool::new`]. Ports of drivers are closed in `reach` for requests and
    /// probes. Pages can reach neither them nor the agent's web server at `web_port`, unless `reach` allows it when
    /// their browser is started.
    pub fn closing(
        config: Config,
        folder: PathBuf,
        agent: PathBuf,
        metrics: Metrics,
        reach: Reach,
        web_port: Option<u16>,
    ) -> Self {
        let tls = of_endpoint(&config);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Commands are small, and each waits for the previous one.
        tcp.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let tls_of_sockets = tls.clone();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .build()
            .expect("the client has nothing that could fail");
        let endpoint = config.webdriver.as_ref().filter(|url| is_on_loopback(url));
        let endpoint = endpoint.and_then(Url::port_or_known_default);
        let browsers = Self(Arc::new(Inner {
            ports: PortBlock::choose(config.max_sessions, reach.closed().clone()),
            _endpoint: endpoint.map(|port| reach.closed().close(port, "the WebDriver endpoint")),
            reach,
            web_port,
            places: Arc::new(Semaphore::new(config.max_sessions.max(1))),
            config,
            folder,
            agent,
            metrics,
            numbers: AtomicU64::new(1),
            used: Mutex::new(None),
            http,
            connector,
            tls: Arc::new(tls_of_sockets),
            idle: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }));
        browsers.0.metrics.sandbox.set(i64::from(browsers.has_sandbox()));
        browsers
    }

    /// Returns whether local browsers have a sandbox, which Chromium does not have when run as root. External endpoints
    /// count as sandboxed, because their state is unknown.
    pub fn has_sandbox(&self) -> bool {
        self.0.config.webdriver.is_some() || !nix::unistd::geteuid().is_root()
    }

    /// Cleans up the processes and folders of earlier agents with the same folder, and only those. Returns the number
    /// of sessions. Running agents are not affected.
    pub async fn reap_leftovers(&self) -> usize {
        let folder = self.0.folder.clone();
        let reaped = tokio::task::spawn_blocking(move || reap(&folder)).await.unwrap_or(0);
        self.0.metrics.reaped.with_label_values(&[Cause::Leftover.as_str()]).inc_by(reaped as u64);
        reaped
    }

    /// Acquires a slot among the runs that may have a browser.
    async fn place(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        let inner = &self.0;
        let since = Instant::now();
        let waiting = inner.metrics.wait("session");
        let said = async {
            tokio::time::sleep(WORTH_SAYING).await;
            tracing::info!(max_sessions = inner.config.max_sessions, "run waiting: all browser sessions are in use");
            std::future::pending::<()>().await;
        };
        let left = deadline.saturating_duration_since(since);
        let permit = tokio::select! {
            permit = timeout(left, Arc::clone(&inner.places).acquire_owned()) => permit,
            () = said => unreachable!("it waits for ever"),
        };
        drop(waiting);
        match permit {
            Ok(Ok(_)) if inner.stop.is_cancelled() => Err(stopping()),
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(stopping()),
            Err(_) => Err(Failure::new(
                Reason::Resources,
                format!("no free browser session: all {} are in use", inner.config.max_sessions),
            )
            .waited(since.elapsed())),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an idle and healthy session of this engine with exactly these roots.
    async fn take_idle(&self, setup: &LaunchOptions, spec: &ContextOptions) -> Option<Session> {
        if spec.fresh {
            return None;
        }
        loop {
            let session = {
                let mut idle = self.idle();
                let at = idle.iter().rposition(|session| session.setup() == *setup)?;
                idle.remove(at)
            };
            if session.is_well().await {
                return Some(session);
            }
            session.lease.end(End::Because(Cause::Crashed)).await;
        }
    }

    /// Ends an idle session, if there is one, so that another can be started.
    async fn make_room(&self) -> bool {
        let session = {
            let mut idle = self.idle();
            if idle.is_empty() { None } else { Some(idle.remove(0)) }
        };
        match session {
            Some(session) => {
                session.lease.end(End::Done).await;
                true
            }
            None => false,
        }
    }

    /// Waits until there is enough memory for a browser.
    async fn memory(&self, deadline: Instant) -> Result<(), Failure> {
        let needed = self.0.config.min_free_memory;
        if self.0.config.webdriver.is_some() || processes::free_memory() >= needed {
            return Ok(());
        }
        let since = Instant::now();
        let _waiting = self.0.metrics.wait("memory");
        tracing::info!(needed, free = processes::free_memory(), "run waiting: not enough memory for a browser");
        loop {
            // Unused browsers are ended first.
            if !self.make_room().await {
                tokio::time::sleep(MEMORY_LOOKS).await;
            }
            let free = processes::free_memory();
            if free >= needed {
                return Ok(());
            }
            if Instant::now() > deadline {
                let mib = |bytes: u64| bytes >> 20;
                return Err(Failure::new(
                    Reason::Resources,
                    format!("not enough memory for a browser: {} MiB are free, {} are needed", mib(free), mib(needed)),
                )
                .waited(since.elapsed()));
            }
        }
    }

    /// Starts a session for a run.
    async fn start_one(
        &self,
        setup: &LaunchOptions,
        permit: OwnedSemaphorePermit,
        until: tokio::time::Instant,
        deadline: Instant,
    ) -> Result<Session, Failure> {
        let places = &self.0.places;
        // Idle sessions count too, because there must never be more browsers than allowed.
        while self.idle().len() + self.0.config.max_sessions.saturating_sub(places.available_permits())
            > self.0.config.max_sessions
        {
            if !self.make_room().await {
                break;
            }
        }
        self.memory(deadline).await?;
        let mut permit = permit;
        for _ in 1..STARTS {
            match self.try_start(setup, permit, until, deadline).await {
                Err(NotStarted { again: Some(place), failure }) => {
                    tracing::info!(failure.message, "starting another driver");
                    permit = place;
                }
                started => return started.map_err(|not| not.failure),
            }
        }
        self.try_start(setup, permit, until, deadline).await.map_err(|not| not.failure)
    }

    async fn try_start(
        &self,
        setup: &LaunchOptions,
        permit: OwnedSemaphorePermit,
        until: tokio::time::Instant,
        deadline: Instant,
    ) -> Result<Session, NotStarted> {
        let inner = &self.0;
        let (folder, guard) = self.used()?;
        let owner = Owner {
            local: None,
            metrics: inner.metrics.clone(),
            guard,
            http: inner.http.clone(),
            max_memory: inner.config.max_memory,
        };
        let starting = deadline.saturating_duration_since(Instant::now());
        match &inner.config.webdriver {
            Some(endpoint) => {
                let starting = starting.min(STARTING);
                let lease = owner.hold(permit, until, &inner.tasks, inner.stop.clone());
                Ok(self.connect(lease, setup, endpoint, &Output::default(), None, starting).await?)
            }
            None => self.start_local(owner, setup, permit, until, &folder, starting).await,
        }
    }

    async fn start_local(
        &self,
        mut owner: Owner,
        setup: &LaunchOptions,
        permit: OwnedSemaphorePermit,
        until: tokio::time::Instant,
        folder: &Arc<Folder>,
        starting: Duration,
    ) -> Result<Session, NotStarted> {
        let inner = &self.0;
        let since = Instant::now();
        let number = inner.numbers.fetch_add(1, Ordering::Relaxed);
        let (path, short) = folder.session(number).map_err(|error| {
            Failure::new(Reason::Configuration, format!("cannot create a folder for a browser session: {error}"))
        })?;
        let mark = format!("{}/{number}", folder.lease);
        let kind = engine::kind(setup.engine);
        let home = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        let own_home = setup.roots.as_ref().map(|_| home.as_path());
        let driver = Driver::start(setup.engine, &short, &mark, own_home, &inner.ports).inspect_err(|_| {
            processes::remove_folder(&path);
        })?;
        let command_path = driver.path.clone();
        let (group, mut port, output) = (driver.group, driver.port.clone(), driver.output.clone());
        let guard = owner.guard.clone();
        owner.local = Some(Local { driver, path: path.clone(), _folder: Arc::clone(folder) });
        // From here on the session has an owner and ends even if this future is dropped.
        let lease = owner.hold(permit, until, &inner.tasks, inner.stop.clone());
        guard.add(group, &mark, &path).await;
        let store = async {
            match &setup.roots {
                Some(roots) => roots.store(&home.join(kind.store), group, &mark, starting.min(STARTING)).await,
                None => Ok(()),
            }
        };
        let (port, stored) = tokio::join!(processes::while_alive(group, starting, STARTING, said(&mut port)), store);
        let port = match port {
            Some(Some(port)) => port,
            other => {
                let cause = if other.is_none() { Cause::Timeout } else { Cause::Crashed };
                let text = format!("{} did not start: {}", kind.program, output.tail());
                let failure = Failure::new(Reason::Driver, text);
                let again = if failure.message.contains(PORT_TAKEN) { lease.take_place() } else { None };
                lease.end(End::Because(cause)).await;
                return Err(NotStarted { again, failure: failure.waited(since.elapsed()) });
            }
        };
        if let Err(failure) = stored {
            lease.end(End::Done).await;
            return Err(failure.waited(since.elapsed()).into());
        }
        let endpoint =
            Url::parse(&format!("http://127.0.0.1:{port}/{command_path}")).expect("a port makes no URL invalid");
        let local = Some((group, home));
        let left = starting.saturating_sub(since.elapsed());
        Ok(self.connect(lease, setup, &endpoint, &output, local, left).await?)
    }

    /// Returns the ports reserved for drivers if they prevent a page at `url` from opening.
    pub(super) fn kept_ports(&self, url: &Url) -> Option<String> {
        let inner = &self.0;
        let is_kept = url.port().is_some_and(|port| inner.ports.contains(port));
        (inner.config.webdriver.is_none() && is_kept).then(|| inner.ports.range())
    }

    /// Returns the addresses that the pages of a newly started browser cannot reach.
    fn closed(&self) -> engine::Closed {
        let inner = &self.0;
        // At an external endpoint, the ports of this machine are not those of the browser's machine.
        if inner.config.webdriver.is_some() {
            return engine::Closed::default();
        }
        let mut closed = engine::Closed { patterns: vec![inner.ports.pattern()], ports: vec![inner.ports.range()] };
        let own = |port: &u16| inner.reach.check("127.0.0.1", (Ipv4Addr::LOCALHOST, *port).into()).is_err();
        if let Some(port) = inner.web_port.filter(own) {
            closed.patterns.extend(ports::names_of_this_machine().map(|name| format!("{name}:{port}")));
            closed.ports.push(port.to_string());
        }
        closed
    }

    /// Creates the browser session at a driver.
    async fn connect(
        &self,
        lease: Lease,
        setup: &LaunchOptions,
        endpoint: &Url,
        output: &Output,
        local: Option<(i32, PathBuf)>,
        starting: Duration,
    ) -> Result<Session, Failure> {
        let inner = &self.0;
        let since = Instant::now();
        let (engine, kind) = (setup.engine, engine::kind(setup.engine));
        let browser = kind.browser;
        let mut endpoint = endpoint.clone();
        if !endpoint.path().ends_with('/') {
            endpoint.set_path(&format!("{}/", endpoint.path()));
        }
        let mut builder = ClientBuilder::new(inner.connector.clone());
        let (group, folder) = local.unzip();
        let store = folder.as_ref().filter(|_| setup.roots.is_some()).map(|home| home.join(kind.store));
        let wanted = engine::capabilities(setup, &inner.config, store.as_deref(), &self.closed());
        builder.capabilities(wanted);
        let connecting = builder.connect(endpoint.as_str());
        let connected = match group {
            Some(group) => processes::while_alive(group, starting, STARTING, connecting).await,
            None => timeout(starting, connecting).await.ok(),
        };
        let client = match connected {
            Some(Ok(client)) => client,
            Some(Err(error)) => {
                let failure = errors::not_created(&error, browser, &output.tail());
                lease.end(End::Because(Cause::Crashed)).await;
                return Err(failure.waited(since.elapsed()));
            }
            None => {
                lease.end(End::Because(Cause::Timeout)).await;
                let text = format!("{browser} did not start in time: {}", output.tail());
                return Err(Failure::new(Reason::Browser, text).waited(since.elapsed()));
            }
        };
        inner.metrics.started.inc();
        let capability = |name: &str| {
            client.capabilities().and_then(|all| all.get(name)).and_then(|value| value.as_str()).map(ToOwned::to_owned)
        };
        let version = capability("browserVersion").unwrap_or_default();
        let bidi = match capability("webSocketUrl") {
            Some(url) => match Bidi::connect(&url, &inner.tls, &inner.tasks, BRISK).await {
                Ok(bidi) => {
                    // Otherwise Firefox would ask for a user and password in a window of its own and wait forever.
                    let params = serde_json::json!({"phases": ["authRequired"]});
                    if let Err(error) = bidi.call("network.addIntercept", params, BRISK).await {
                        tracing::debug!(%error, "cannot intercept authentication prompts");
                    }
                    // If the browser does not support it, the scripts are added to each document when it is first
                    // queried.
                    if let Err(error) = world::prepare(&bidi).await {
                        tracing::debug!(%error, "cannot add scripts to new documents");
                    }
                    if let Err(error) = engine::minimize_mapper(setup.engine, &bidi, BRISK).await {
                        tracing::debug!(%error, "cannot minimize the driver's own page");
                    }
                    Some(bidi)
                }
                Err(error) => {
                    tracing::warn!(url, %error, "this session works without WebDriver BiDi");
                    None
                }
            },
            None => None,
        };
        if let Some(id) = client.session_creation_response().map(|response| response.session_id().to_owned())
            && let Ok(url) = endpoint.join(&format!("session/{id}"))
        {
            lease.named(url, bidi.as_ref().map(Bidi::closing));
        }
        let status = endpoint.join("status").expect("`status` makes no URL invalid");
        Ok(Session {
            engine,
            program: setup.program.clone(),
            roots: setup.roots.clone(),
            version,
            client,
            bidi,
            lease,
            status,
            group,
            folder,
            born: tokio::time::Instant::now(),
            runs: 0,
            patience: None,
            next: None,
            ahead: None,
            removal: None,
            hurried: false,
            idle_since: None,
        })
    }

    /// Returns the user context for a run: the prepared one if it fits, otherwise a new one.
    async fn context(&self, session: &mut Session, spec: &ContextOptions) -> Result<UserContext, BidiError> {
        if let Some(context) = session.next.take() {
            if !spec.insecure {
                return Ok(context);
            }
            session.remove(&context).await?;
        }
        // A session for only one run needs no additional context, unless that context requires other options.
        let alone = !self.0.config.warm || session.bidi.is_none();
        if alone && !(spec.insecure && session.bidi.is_some()) {
            return session.as_it_is().await;
        }
        session.prepare(spec.insecure).await
    }

    /// Prepares a context for the next run while this one continues, if runs follow each other closely, so that the
    /// next run does not wait for a window. Otherwise it would only slow down this run.
    pub(super) fn prepare_next_context(&self, session: &mut Session) {
        if std::mem::take(&mut session.hurried) {
            session.make_ahead(&self.0.tasks);
        }
    }

    /// Returns a session to the pool in the background, so that the outcome does not wait for it. `fine` means that
    /// nothing unexpected happened.
    pub(super) fn release(&self, session: Session, context: UserContext, fine: bool) -> tokio::task::JoinHandle<()> {
        let browsers = self.clone();
        session.lease.returning();
        self.0.tasks.spawn(async move { browsers.give_back(session, context, fine).await })
    }

    async fn give_back(&self, mut session: Session, context: UserContext, fine: bool) {
        let config = &self.0.config;
        session.lease.returning();
        if !fine {
            return session.lease.end(End::Because(Cause::Crashed)).await;
        }
        if self.0.stop.is_cancelled() || !config.warm || session.bidi.is_none() {
            return session.lease.end(End::Done).await;
        }
        let large = || session.group.is_some_and(|group| processes::Memory::of(group).bytes() > config.max_memory / 2);
        if session.runs >= config.max_runs || session.born.elapsed() >= config.max_age || large() {
            tracing::debug!(runs = session.runs, age = ?session.born.elapsed(), "replacing a browser session");
            let (setup, permit) = (session.setup(), session.lease.take_place());
            session.lease.end(End::Done).await;
            // The next run should find a warm session too. Runs that are already waiting start their own.
            if let Some(permit) = permit
                && self.0.metrics.waiting.with_label_values(&["session"]).get() == 0
            {
                self.warm_up(&setup, permit).await;
            }
            return;
        }
        match self.make_ready(&mut session, Some(&context)).await {
            Ok(()) => self.keep(session),
            Err(error) => {
                tracing::debug!(%error, "discarding a browser session");
                session.lease.end(End::Because(Cause::Crashed)).await;
            }
        }
    }

    /// Starts a session before a run needs it.
    async fn warm_up(&self, setup: &LaunchOptions, permit: OwnedSemaphorePermit) {
        let deadline = Instant::now() + STARTING;
        let until = tokio::time::Instant::from_std(deadline) + BRISK;
        match Box::pin(self.start_one(setup, permit, until, deadline)).await {
            Ok(mut session) if session.bidi.is_some() => {
                session.lease.returning();
                match self.make_ready(&mut session, None).await {
                    Ok(()) => self.keep(session),
                    Err(_) => session.lease.end(End::Because(Cause::Crashed)).await,
                }
            }
            Ok(session) => session.lease.end(End::Done).await,
            Err(failure) => tracing::info!(failure.message, "cannot start a browser in advance"),
        }
    }

    async fn make_ready(&self, session: &mut Session, after: Option<&UserContext>) -> Result<(), BidiError> {
        session.is_removed().await?;
        let next = match (after, session.ahead.take()) {
            (Some(context), Some(ahead)) => session.change_to(ahead, context, &self.0.tasks).await?,
            (Some(context), None) if engine::kind(session.engine).has_a_window_for_each_user => {
                let (removed, next) = tokio::join!(session.remove(context), session.prepare(false));
                removed.and(next)?
            }
            // One after the other, because in a single window the driver may lose the current tab.
            (Some(context), None) => {
                session.remove(context).await?;
                session.prepare(false).await?
            }
            (None, _) => session.prepare(false).await?,
        };
        session.next = Some(next);
        session.idle_since = Some(tokio::time::Instant::now());
        Ok(())
    }

    fn keep(&self, session: Session) {
        let until = session.born + self.0.config.max_age;
        let mut idle = self.idle();
        idle.retain(|session| !session.lease.is_gone());
        // The slot is released only when the session can be found.
        let place = session.lease.idle(until);
        idle.push(session);
        drop(idle);
        drop(place);
    }

    pub(super) fn used(&self) -> Result<(Arc<Folder>, Guard), Failure> {
        let mut used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = &*used {
            return Ok(used.clone());
        }
        // A session that is still being created must not restore what a shutdown has removed and waits for.
        if self.0.stop.is_cancelled() {
            return Err(stopping());
        }
        let folder = Folder::new(&self.0.folder).map_err(|error| {
            Failure::new(
                Reason::Configuration,
                format!("{} cannot be used for browser sessions: {error}", self.0.folder.display()),
            )
        })?;
        let folder = Arc::new(folder);
        let (guard, owner) = Guard::new(self.0.agent.clone());
        self.0.tasks.spawn(owner);
        *used = Some((Arc::clone(&folder), guard.clone()));
        Ok((folder, guard))
    }

    /// Ends every session and the guard, and waits until they are gone. No session can be opened afterwards.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.places.close();
        self.0.tasks.close();
        // The guard ends when its last handle is dropped, and the folder is removed when its sessions are gone.
        let folder = self.0.used.lock().unwrap_or_else(PoisonError::into_inner).take().map(|(folder, _)| folder);
        self.idle().clear();
        self.0.tasks.wait().await;
        self.idle().clear();
        drop(folder);
    }

    /// Returns the folder passed to the constructor.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Returns the metrics of the pool.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns the configuration of the pool.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Returns the lease id that marks this agent's processes, if there has been a session.
    #[cfg(test)]
    pub(super) fn lease(&self) -> Option<String> {
        self.0.used.lock().unwrap().as_ref().map(|(folder, _)| folder.lease.clone())
    }
}

fn is_on_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn stopping() -> Failure {
    Failure::new(Reason::Lost, "the agent is stopping")
}

/// Returns the port that a driver has reported, or `None` if it exited before.
async fn said(port: &mut watch::Receiver<Option<u16>>) -> Option<u16> {
    port.wait_for(Option::is_some).await.ok().and_then(|port| *port)
}
