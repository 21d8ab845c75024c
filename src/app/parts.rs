//! Parts of a running agent, which reloads and runs require.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::Utc;
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::scenario_source::ScenarioSource;
use super::state::{Gauges, State};
use crate::alert::CommitterHandle;
use crate::bounded::Readers;
use crate::browser::BrowserPool;
use crate::clock::{self, ClockWatch};
use crate::notify;
use crate::outcome::Outcome;
use crate::run::{self, RunRequest, RunServices};
use crate::scenario::{Lookup, Scenario};
use crate::schedule::{DueRun, Hooks, Scenarios};
use crate::sink::Sinks;
use crate::sink::prometheus::Prometheus;
use crate::store::evidence::EvidenceFolder;
use crate::store::{Incidents as _, PlannedRun, Runs as _, WriteBuffer};
use crate::web::{self, Overview};
use crate::wire::{self, ClosedPort, Dialer};

/// Retention of outcomes and evidence.
const RETENTION: chrono::TimeDelta = chrono::TimeDelta::days(30);
/// Maximum number of incidents searched for open ones, whose evidence is protected.
const INCIDENTS: u32 = 5000;
/// Interval at which old data is deleted.
const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// Callback that receives every outcome.
pub type Listener = Arc<dyn Fn(&Outcome) + Send + Sync>;

/// Parts required by reloads and runs.
pub(super) struct Parts {
    pub(super) setup_file: Option<PathBuf>,
    pub(super) library: Arc<dyn ScenarioSource>,
    /// Threads that read files for reloads.
    pub(super) readers: Readers,
    /// Access rules of the web server.
    pub(super) guard: web::Guard,
    /// TLS and users of the web server.
    pub(super) security: web::Security,
    pub(super) fixed_lookup: Option<Arc<dyn Lookup>>,
    pub(super) store: WriteBuffer,
    pub(super) clock: ClockWatch,
    pub(super) evidence: EvidenceFolder,
    pub(super) browsers: BrowserPool,
    pub(super) tls: wire::tls::Trusted,
    pub(super) dialer: Dialer,
    pub(super) limits: crate::wire::limits::Limits,
    /// Closes the agent's own port to checks as long as the agent listens.
    pub(super) _own_port: ClosedPort,
    pub(super) beats: run::check::CheckIns,
    pub(super) tokens: run::Tokens,
    pub(super) line: run::ConnectivityMonitor,
    /// Configuration of the outbound heartbeat.
    pub(super) alive: watch::Sender<Option<notify::OutboundHeartbeat>>,
    pub(super) baseline: run::BaselineStore,
    pub(super) footprints: run::Footprints,
    pub(super) prometheus: Arc<Prometheus>,
    pub(super) sinks: Arc<Sinks>,
    /// Whether a sink exports traces, so that the requests of runs carry a trace context.
    pub(super) exports_traces: AtomicBool,
    pub(super) probes: Arc<web::Probes>,
    pub(super) scenarios: watch::Sender<Scenarios>,
    pub(super) overview: watch::Sender<Arc<Overview>>,
    /// Lookup of environment variables and files for the next run, updated with the agent configuration.
    pub(super) lookup: watch::Sender<Arc<dyn Lookup>>,
    pub(super) location: String,
    pub(super) listener: Option<Listener>,
    pub(super) state: tokio::sync::Mutex<State>,
    pub(super) gauges: Gauges,
}

impl Parts {
    pub(super) fn tools(&self) -> RunServices {
        RunServices {
            tokens: self.tokens.clone(),
            line: self.line.clone(),
            tls: self.tls.clone(),
            dialer: self.dialer.clone(),
            limits: self.limits.clone(),
            browsers: Some(self.browsers.clone()),
            lookup: Arc::clone(&self.lookup.borrow()),
            evidence: self.evidence.clone(),
            beats: Some(self.beats.clone()),
            baseline: Some(self.baseline.clone()),
            footprints: Some(self.footprints.clone()),
            clock: Some(self.clock.clone()),
            location: self.location.clone(),
        }
    }

    /// Returns the hooks of the dispatcher: planned runs go to the store, runs to the engine, outcomes to the store and
    /// the sinks. Browser runs are executed on another runtime, because they use more processor time.
    pub(super) fn hooks(
        self: &Arc<Self>,
        intake: &CommitterHandle,
        cancel: &CancellationToken,
        browsing: &Handle,
    ) -> Hooks {
        let (parts, to_store, cancel, browsing) = (Arc::clone(self), intake.clone(), cancel.clone(), browsing.clone());
        let run = move |due: DueRun| {
            let (parts, intake, cancel) = (Arc::clone(&parts), to_store.clone(), cancel.clone());
            let needs_browser = due.scenario.needs_browser();
            let traceparent = parts.exports_traces.load(Ordering::Relaxed);
            let running = async move {
                let ticket = RunRequest { run: due.run, due_at: Some(due.due_at), cancel, progress: None, traceparent };
                let outcome = run::run(&due.scenario, &parts.tools(), ticket).await;
                // A run ends when its outcome is passed on, without waiting for the store.
                drop(parts.fan_out(outcome, Some(&due.scenario), &intake));
            };
            if needs_browser {
                // An early end is reported by the run itself.
                browsing.spawn(running).map(drop).boxed()
            } else {
                running.boxed()
            }
        };
        let (location, to_plan) = (self.location.clone(), intake.clone());
        let plan = move |due: &DueRun| {
            to_plan.plan(PlannedRun {
                run: due.run,
                scenario: due.scenario.id.value.clone(),
                name: due.scenario.name.clone(),
                kind: due.scenario.kind,
                location: location.clone(),
                due_at: due.due_at,
            })
        };
        let to_withdraw = intake.clone();
        Hooks {
            run: Arc::new(run),
            plan: Arc::new(plan),
            withdraw: Arc::new(move |run| to_withdraw.withdraw(run)),
            now: Arc::new(Utc::now),
            elapsed: Arc::new(clock::elapsed),
        }
    }

    /// Numbers an outcome and passes it on. The sinks receive it even if the store is unavailable. The returned
    /// receiver is notified once it is stored and evaluated.
    pub(super) fn fan_out(
        &self,
        outcome: Outcome,
        scenario: Option<&Arc<Scenario>>,
        intake: &CommitterHandle,
    ) -> Option<oneshot::Receiver<()>> {
        let mut written = None;
        let outcome =
            self.sinks.outcome(outcome, scenario, |outcome| written = Some(intake.outcome(Arc::clone(outcome))));
        let outcome = &outcome;
        tracing::info!(
            run = %outcome.run, scenario = %outcome.scenario, verdict = outcome.verdict.as_str(),
            reason = outcome.reason.map(crate::names::Reason::as_str), seconds = outcome.duration.as_secs_f64(),
            message = outcome.message.as_deref(), "run ended"
        );
        self.baseline.outcome(outcome);
        self.prometheus.outcome(outcome);
        if let Some(listener) = &self.listener {
            listener(outcome);
        }
        written
    }

    /// Enforces the limits of the evidence. The evidence of open incidents is protected, because it is still needed.
    async fn prune_evidence(&self) {
        let limits = self.state.lock().await.config.evidence;
        let incidents = match self.store.incidents(INCIDENTS).await {
            Ok(incidents) => incidents,
            Err(error) => return tracing::error!(%error, "cannot remove old evidence"),
        };
        let open = incidents.iter().filter(|incident| incident.is_open());
        let spared = open.flat_map(|incident| [incident.opened_by, incident.last_run]).collect();
        match self.evidence.prune(limits, spared, self.clock.cautious_now().into()).await {
            Ok(pruned) if pruned.runs > 0 => {
                tracing::info!(runs = pruned.runs, bytes = pruned.bytes, left = pruned.left, "old evidence removed");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "cannot remove old evidence"),
        }
    }

    pub(super) async fn prune_regularly(self: Arc<Self>, stop: CancellationToken) {
        loop {
            match self.store.prune(self.clock.cautious_now() - RETENTION).await {
                Ok(runs) => {
                    for run in runs {
                        self.evidence.forget(run).await;
                    }
                }
                Err(error) => tracing::error!(%error, "cannot delete old rows"),
            }
            self.prune_evidence().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PRUNE_EVERY) => {}
            }
        }
    }
}
