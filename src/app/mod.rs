//! The application, the only part that depends on all others: it builds, reloads and drains the agent.
//!
//! Startup is a reload from the empty catalog. All steps of a reload that can fail precede any change of live state.
//! Every task is spawned on one tracker and stopped by one token.

pub mod config;
pub mod deferred_commands;
mod drain;
pub mod files;
mod lock;
pub mod lookup;
mod lost_runs;
mod parts;
mod reload;
pub mod replay;
pub mod scenario_source;
mod start_error;
mod state;
mod watchdog;
mod worker_thread;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use chrono::Utc;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alert::{self, Committer, CommitterHandle};
use crate::blackbox;
use crate::bounded::{self, Readers};
use crate::browser::{self, BrowserPool};
use crate::clock::ClockWatch;
use crate::notify::{self, DeliveryService, Links};
use crate::run;
use crate::scenario::Lookup;
use crate::schedule::{self, Dispatcher};
use crate::sink::prometheus::Prometheus;
use crate::sink::zabbix::api::{self, Api};
use crate::sink::{self, Sinks};
use crate::store::evidence::EvidenceFolder;
use crate::store::{self, History as _, Opener, Store, WriteBuffer};
use crate::tasks::Tasks;
use crate::web::{self, Overview, ReloadReport};
use crate::wire::{self, Dialer, Reach, Resolver};

use parts::Parts;
use state::{Gauges, State};
use watchdog::Watchdog;
use worker_thread::WorkerThread;

pub use config::Config;
pub use parts::Listener;
pub use scenario_source::ScenarioSource;
pub use start_error::StartError;

/// Niceness of the thread for the page and `/metrics`, which lets runs go first.
const WEB_NICENESS: i32 = 5;
/// Maximum number of waiting scenarios to run at once because the suppression of others depends on them.
const LOOKS: usize = 1000;
/// Maximum number of waiting operator actions from receivers.
const FEEDBACK: usize = 16;
/// URL of a store that ends with the agent.
const IN_MEMORY: &str = "sqlite::memory:";

/// Parameters of an agent.
pub struct Setup {
    /// The parsed agent configuration.
    pub config: Config,
    /// File of the agent configuration, read again at a reload; absent if the agent has no such file.
    pub config_file: Option<PathBuf>,
    /// Source of the scenario files.
    pub library: Arc<dyn ScenarioSource>,
    /// Lookup of environment variables and files for scenarios; absent for those that the agent configuration allows.
    pub lookup: Option<Arc<dyn Lookup>>,
    /// Opens the store of outcomes, incidents and notifications.
    pub store: Arc<dyn Opener>,
    /// Folder of the agent's state: evidence and browser profiles.
    pub folder: PathBuf,
    /// The wachta executable, started as the guard of browsers.
    pub executable: PathBuf,
    /// Callback that receives every outcome, for programs that embed an agent.
    pub listener: Option<Listener>,
}

/// A running agent.
pub struct App {
    address: SocketAddr,
    parts: Arc<Parts>,
    reloads: mpsc::Sender<web::ReloadRequest>,
    tasks: Tasks,
    /// Tracker of the tasks that parts manage themselves.
    tracker: TaskTracker,
    runs: TaskTracker,
    /// Ends the planning and starting of runs.
    stop: CancellationToken,
    /// Cancels runs in progress.
    cancel_runs: CancellationToken,
    /// Ends everything else.
    finish: CancellationToken,
    committing: tokio::task::JoinHandle<()>,
    writing: tokio::task::JoinHandle<()>,
    dispatching: tokio::task::JoinHandle<()>,
    intake: CommitterHandle,
    /// Worker threads for runs without a browser, and for HTTP responses.
    lanes: [WorkerThread; 2],
    /// Prevents other agents from using the folder.
    lock: lock::FolderLock,
}

impl App {
    /// Starts an agent. When this returns, its files are loaded and it listens.
    pub async fn start(setup: Setup) -> Result<Self, StartError> {
        let config = setup.config;
        let lock = lock::FolderLock::take(&setup.folder)?;
        let (readers, security) = (Readers::default(), web::Security::default());
        let loaded = reload::web_security(&readers, &config.web, setup.config_file.as_deref()).await;
        if !loaded.is_good() {
            return Err(StartError::Web(loaded.diagnostics));
        }
        security.load(loaded);
        let listen = config.web.listen;
        let listener = tokio::net::TcpListener::bind(listen).await.map_err(|e| StartError::Listen(listen, e))?;
        let address = listener.local_addr().map_err(|e| StartError::Listen(listen, e))?;

        let registry = prometheus::Registry::new();
        let sinks = sink::Metrics::new(&registry)?;
        let (stop, cancel_runs, finish) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let tasks = Tasks::new(&registry, stop.clone())?;
        let tracker = TaskTracker::new();
        let here = Handle::current();
        let clock = ClockWatch::start().map_err(|e| StartError::Other(format!("no thread for the clock: {e}")))?;

        let dialer = Dialer::new(Reach::of_agent(), Resolver::default());
        dialer.reach().allow(config.allow.network.clone());
        let browsers = BrowserPool::closing(
            config.browser.clone(),
            setup.folder.join("browsers"),
            setup.executable,
            browser::Metrics::new(&registry)?,
            dialer.reach().clone(),
            Some(address.port()),
        );
        if !browsers.has_sandbox() {
            tracing::warn!("{}", reload::NO_SANDBOX);
        }
        let reaped = browsers.reap_leftovers().await;
        if reaped > 0 {
            tracing::warn!(reaped, "browser processes of an earlier agent ended");
        }

        let figures = store::Metrics::new(&registry, sinks.dropped_by_store())?;
        let (store, writer) = WriteBuffer::open(setup.store, figures).await?;
        let writing = tasks.essential("store", &here, writer.run(finish.clone()));
        let prometheus = Arc::new(Prometheus::new(registry.clone(), &config.location));
        let evidence = EvidenceFolder::new(setup.folder.join("evidence"));
        let footprints = run::Footprints::new(evidence.root().join("good"));
        let tools = notify::NotifierServices {
            client: web_client()?,
            evidence: evidence.clone(),
            resolve: resolve(),
            tls: web_tls(),
            zabbix: zabbix_api(),
        };
        let at_hand: Arc<dyn Store> = Arc::new(store.clone());
        let (feedback, received_feedback) = mpsc::channel(FEEDBACK);
        let delivery_service =
            DeliveryService::new(Arc::clone(&at_hand), notify::Metrics::new(&registry)?, tools, &tasks, &finish);
        let delivery_service = delivery_service.with_feedback(feedback);
        let metrics = alert::Metrics::new(&registry, sinks.dropped_by_store())?;
        let (committer, intake) =
            Committer::new(store.clone(), &config.location, metrics, delivery_service.waker()).await?;
        let (look, looked_for) = mpsc::channel(LOOKS);
        // If the dispatcher is that far behind, the suppression that waits for the run ends after a timeout.
        let lane = |name, niceness| {
            WorkerThread::start(name, niceness).map_err(|e| StartError::Other(format!("no thread for {name}: {e}")))
        };
        // A scrape with very many scenarios takes a second of processor time, and runs go first.
        let lanes = [lane("probes", 0)?, lane("web", WEB_NICENESS)?];
        let [probes_lane, web_lane] = &lanes;
        let committer = committer.watching_clock(clock.set_by()).reply_runtime(probes_lane.handle().clone());
        let run_now = look.clone();
        let committer = committer.on_run_now(move |scenario| drop(look.try_send(scenario)));
        let shown = Arc::clone(&prometheus);
        let committer = committer.on_error_budget(move |scenario, remaining| shown.budget(scenario, remaining));
        let folders = setup.library.folders(&config.scenarios);
        let links = Links::new(config.web.external_url.clone());
        let failing = delivery_service.failing();

        let overview = watch::Sender::new(Arc::<Overview>::default());
        let config_location = config.location.clone();
        let sinks = Sinks::open(sink::Parts {
            store: Arc::new(store.clone()),
            is_durable: config.store != IN_MEMORY,
            context: sink::Context {
                agent_state: Arc::new(agent_state(config_location.clone(), overview.subscribe())),
                location: config_location,
                http_client: Arc::new(sink_client),
                evidence: evidence.clone(),
                prometheus: Arc::clone(&prometheus),
            },
            metrics: sinks,
            tasks: tasks.clone(),
            timing: sink::Timing::default(),
        });
        let sinks = Arc::new(sinks.await?);
        let recorders = Arc::clone(&sinks);
        let committer = committer.recording(move |change| recorders.change(change));
        let lookup: Arc<dyn Lookup> = match &setup.lookup {
            Some(lookup) => Arc::clone(lookup),
            None => Arc::new(lookup::Environment::allowed(config.allow.clone())),
        };
        let history: Arc<dyn crate::store::History> = Arc::new(store.clone());
        let check_ins: Arc<dyn crate::store::CheckIns> = Arc::new(store.clone());
        let tls = wire::tls::Trusted::system();
        let limits = crate::wire::limits::Limits::default();
        let own_port = dialer.reach().closed().close(address.port(), "the agent's web server");
        let probes = Arc::new(web::Probes::new(
            blackbox::Prober::new(tls.clone(), dialer.clone(), limits.clone()),
            registry.clone(),
        ));
        let parts = Arc::new(Parts {
            setup_file: setup.config_file,
            library: setup.library,
            readers: readers.clone(),
            guard: web::Guard::default(),
            security: security.clone(),
            fixed_lookup: setup.lookup,
            store: store.clone(),
            clock: clock.clone(),
            evidence,
            browsers,
            tls,
            dialer: dialer.clone(),
            limits: limits.clone(),
            _own_port: own_port,
            beats: run::check::CheckIns::new(check_ins, clock.awake_since()),
            probes: Arc::clone(&probes),
            tokens: run::Tokens::default(),
            line: run::ConnectivityMonitor::new(dialer.clone()),
            alive: watch::Sender::default(),
            baseline: run::BaselineStore::new(history, &config.location),
            footprints,
            prometheus: Arc::clone(&prometheus),
            sinks: Arc::clone(&sinks),
            exports_traces: AtomicBool::default(),
            scenarios: watch::Sender::new(Arc::default()),
            overview,
            lookup: watch::Sender::new(lookup),
            location: config.location.clone(),
            listener: setup.listener,
            gauges: Gauges::new(&registry)?,
            state: tokio::sync::Mutex::new(State::new(config, delivery_service, links)),
        });
        let committing = tasks.essential("committer", &here, committer.run());
        parts.begin_delivery(&intake).await;

        parts.reload(&intake).await;
        let latest = store.latest().await?;
        sinks.seed(&latest);
        prometheus.seed(&latest, &store.latest_conclusive().await?);
        let resumed = parts.close_lost(&intake).await?;

        // Runs have a separate tracker, so that a drain can wait for them first.
        let runs = TaskTracker::new();
        let hooks = parts.hooks(&intake, &cancel_runs, &Handle::current());
        let dispatcher = Dispatcher::new(hooks, schedule::Metrics::new(&registry)?, &runs, resumed).asked(looked_for);
        let (pulse, beating) = mpsc::channel(1);
        let dispatcher = dispatcher.pulse(beating);
        let dispatching = tasks.essential(
            "scheduler",
            probes_lane.handle(),
            dispatcher.run(parts.scenarios.subscribe(), stop.clone()),
        );

        let (reloads, requests) = mpsc::channel(4);
        tasks.essential("reload", &here, Arc::clone(&parts).serve_reloads(requests, intake.clone(), stop.clone()));
        let watched = scenario_source::Watched { folders, config_file: parts.setup_file.clone(), own: setup.folder };
        let (asking, until) = (reloads.clone(), stop.clone());
        tasks.restarted("files", &here, stop.clone(), move || {
            scenario_source::watch_files(watched.clone(), asking.clone(), until.clone())
        });
        let (pruned, until) = (Arc::clone(&parts), stop.clone());
        tasks.restarted("retention", &here, stop.clone(), move || Arc::clone(&pruned).prune_regularly(until.clone()));
        let watchdog = Arc::new(Watchdog::new(&registry, intake.clone(), pulse, store.clone(), failing)?);
        let works = watchdog.work();
        let (client, alive, shown, until) = (web_client()?, parts.alive.clone(), works.clone(), stop.clone());
        tasks.restarted("outbound heartbeat", &here, stop.clone(), move || {
            notify::run_outbound_heartbeat(client.clone(), alive.subscribe(), proof(shown.clone()), until.clone())
        });
        let until = stop.clone();
        tasks.restarted("watchdog", &here, stop.clone(), move || {
            let (watchdog, until) = (Arc::clone(&watchdog), until.clone());
            async move { watchdog.run(until).await }
        });
        let (positions, until) = (Arc::clone(&sinks), finish.clone());
        tasks.restarted("positions", &here, finish.clone(), move || {
            let (sinks, until) = (Arc::clone(&positions), until.clone());
            async move { sinks.save_regularly(until).await }
        });
        let (line, until) = (parts.line.clone(), finish.clone());
        tasks.restarted("connectivity", &here, finish.clone(), move || line.clone().watch(until.clone()));

        let (alerts, asked) = mpsc::channel(16);
        let serving_requests =
            deferred_commands::serve(asked, intake.clone(), Arc::clone(&at_hand), tracker.clone(), stop.clone());
        tasks.essential("requests", &here, serving_requests);
        let taking_feedback = deferred_commands::take_feedback(received_feedback, intake.clone(), stop.clone());
        tasks.essential("feedback", &here, taking_feedback);
        let state = web::State {
            store: at_hand,
            evidence: parts.evidence.clone(),
            prometheus,
            overview: parts.overview.subscribe(),
            probes,
            reload: reloads.clone(),
            alerts,
            run_now: Arc::new(move |scenario| drop(run_now.try_send(scenario.clone()))),
            works,
            sinks: Arc::new(move || sinks.status()),
            stopping: stop.clone(),
        };
        let server = web::Server {
            router: web::router(state),
            guard: parts.guard.clone(),
            security: security.clone(),
            limits: web::Limits::default(),
        };
        tasks.essential("web", web_lane.handle(), server.serve(listener, finish.clone()));
        let (until, reloads_of_web) = (stop.clone(), reloads.clone());
        tasks.restarted("web files", &here, stop.clone(), move || {
            security.clone().watch(readers.clone(), reloads_of_web.clone(), until.clone())
        });
        Ok(Self {
            address,
            parts,
            reloads,
            tasks,
            tracker,
            runs,
            stop,
            cancel_runs,
            finish,
            committing,
            writing,
            dispatching,
            intake,
            lanes,
            lock,
        })
    }

    /// Returns the address that the agent listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until an essential task has ended, and returns its name. The agent has to be stopped, and its process has
    /// to end with an error.
    pub async fn failed(&self) -> String {
        self.tasks.failed().await
    }

    /// Returns the agent's tasks by name, each with a handle that aborts it.
    pub fn tasks(&self) -> std::collections::BTreeMap<String, tokio::task::AbortHandle> {
        self.tasks.running()
    }

    /// Returns a channel with the loaded scenarios and their problems.
    pub fn overview(&self) -> watch::Receiver<Arc<Overview>> {
        self.parts.overview.subscribe()
    }

    /// Returns a handle that requests reloads, for sources of change events.
    pub fn reloader(&self) -> Reloader {
        Reloader(self.reloads.downgrade())
    }
}

/// Handle that requests reloads as long as the agent runs.
#[derive(Clone)]
pub struct Reloader(mpsc::WeakSender<web::ReloadRequest>);

impl Reloader {
    /// Reloads the files. Has no effect once the agent is stopping.
    pub async fn reload(&self) -> ReloadReport {
        let (request, report) = web::ReloadRequest::new();
        match self.0.upgrade() {
            Some(reloads) if reloads.send(request).await.is_ok() => report.await.unwrap_or_default(),
            _ => ReloadReport::default(),
        }
    }
}

/// Returns a check of whether the agent works, based on the last result of the watchdog.
fn proof(
    works: watch::Receiver<web::Work>,
) -> impl Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static {
    move || std::future::ready(works.borrow().problem().map_or(Ok(()), Err)).boxed()
}

/// Returns the resolver for the names of mail servers, which works like that for targets.
pub fn resolve() -> notify::Resolve {
    let dialer = Dialer::default();
    Arc::new(move |host| {
        let dialer = dialer.clone();
        let resolved = async move { dialer.resolve(&host, &wire::DialOptions::default()).await };
        resolved.map(|resolved| resolved.map(|found| found.addresses).map_err(|failure| failure.message)).boxed()
    })
}

/// Returns the TLS settings for connections of receivers other than HTTP.
pub fn web_tls() -> Arc<rustls::ClientConfig> {
    wire::tls::Trusted::system().client_config()
}

/// Creates an HTTP client for sinks that trusts the root certificates of the system, and those of a file.
///
/// # Errors
///
/// Returns an error if the file cannot be read or has no certificates.
pub fn sink_client(settings: sink::HttpSettings<'_>) -> Result<reqwest::Client, String> {
    let trusted = wire::tls::Trusted::system();
    let mut tls = match settings.roots {
        None => trusted.client_config(),
        Some(file) => {
            let shown = file.display();
            let pem = bounded::read_text(file, bounded::MAX_SMALL_BYTES)
                .map_err(|e| format!("the file `{shown}` cannot be read: {e}"))?;
            let further =
                wire::tls::certificates(pem.as_bytes()).map_err(|why| format!("the file `{shown}`: {why}"))?;
            trusted.build(wire::tls::Settings { further, ..Default::default() })?
        }
    };
    let mut builder = reqwest::Client::builder();
    if settings.only_http2 {
        Arc::make_mut(&mut tls).alpn_protocols = vec![b"h2".to_vec()];
        builder = builder.http2_prior_knowledge();
    }
    client_of(builder, &tls).map_err(|error| error.to_string())
}

/// Returns the connector of receivers to the API of Zabbix.
pub fn zabbix_api() -> notify::ZabbixConnect {
    struct Frontend(Api);

    impl notify::ZabbixApi for Frontend {
        fn call<'a>(
            &'a self,
            method: &'static str,
            params: serde_json::Value,
        ) -> BoxFuture<'a, Result<serde_json::Value, String>> {
            async move { self.0.call(method, &params).await.map_err(|error| error.to_string()) }.boxed()
        }

        fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
            // A session that is not closed expires.
            async move { drop(self.0.close().await) }.boxed()
        }
    }

    Arc::new(|access| {
        async move {
            let notify::ZabbixAccess { url, user, credential, ca } = access;
            let login = match user {
                Some(user) => api::Login::User(user, credential),
                None => api::Login::Token(credential),
            };
            let client = sink_client(sink::HttpSettings { roots: ca.as_deref(), ..Default::default() })?;
            let opened = Api::connect(&api::Config { url, login, ca }, client).await;
            let opened = opened.map_err(|error| error.to_string())?;
            Ok(Box::new(Frontend(opened)) as Box<dyn notify::ZabbixApi>)
        }
        .boxed()
    })
}

/// Creates the HTTP client for receivers.
pub fn web_client() -> Result<reqwest::Client, StartError> {
    web_client_with(&wire::tls::Trusted::system().client_config())
}

/// Creates a client like [`web_client`] with other TLS settings.
pub fn web_client_with(tls: &rustls::ClientConfig) -> Result<reqwest::Client, StartError> {
    client_of(reqwest::Client::builder(), tls)
}

fn client_of(builder: reqwest::ClientBuilder, tls: &rustls::ClientConfig) -> Result<reqwest::Client, StartError> {
    builder
        .tls_backend_preconfigured(tls.clone())
        .user_agent(concat!("wachta/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Resolver::default())
        .build()
        .map_err(|e| StartError::Other(format!("no HTTP client: {e}")))
}

/// Returns a function that provides the state of the agent for Zabbix, which is sent every minute.
fn agent_state(
    location: String,
    overview: watch::Receiver<Arc<Overview>>,
) -> impl Fn() -> serde_json::Value + Send + Sync + 'static {
    move || {
        let overview = Arc::clone(&overview.borrow());
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "location": location,
            "scenarios": overview.scenarios.len(),
            "refused": overview.refused.len(),
            "problems": overview.problems.len(),
        })
    }
}

/// Runs planned before a restart, by scenario and due time.
type Resumed = HashMap<(crate::scenario::ScenarioId, chrono::DateTime<Utc>), crate::outcome::RunId>;
