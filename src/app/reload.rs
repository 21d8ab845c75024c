//! Reload of the files: first all steps that can fail, then the replacement of the live state.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::parts::Parts;
use super::state::State;
use super::{Config, config, lookup, scenario_source};
use crate::alert::{CommitterHandle, Idle};
use crate::blackbox;
use crate::bounded::Readers;
use crate::diagnostic::{self, Diagnostic, Severity, Source, Span};
use crate::incident::Ending;
use crate::names::metric::Detail;
use crate::notify::Links;
use crate::scenario::{Loaded, Lookup, Scenario, assemble, load, parents};
use crate::schedule::Scenarios;
use crate::sink::prometheus::Config as MetricsConfig;
use crate::sink::{Absence, Destination};
use crate::web::{self, Overview, ReloadReport, ReloadRequest};

/// Warning about browsers without a sandbox.
pub(super) const NO_SANDBOX: &str = "The agent runs as root, where Chromium has no sandbox: a page that breaks out of \
     Chromium is root on this machine. Run the agent as a dedicated user.";

/// Maximum time to read the agent configuration.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time to read and validate all files and the files they refer to.
const LOAD_TIMEOUT: Duration = Duration::from_mins(1);

impl Parts {
    /// Runs reloads, one after the other.
    pub(super) async fn serve_reloads(
        self: Arc<Self>,
        mut requests: mpsc::Receiver<ReloadRequest>,
        intake: CommitterHandle,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                request = requests.recv() => {
                    let Some(request) = request else { return };
                    // Files that take long to read must not delay a stop.
                    if let Some(report) = stop.run_until_cancelled(self.reload(&intake)).await {
                        request.answer(report);
                    }
                }
            }
        }
    }

    /// Passes the receivers to alerting, so that renamed ones are detected, and starts the delivery.
    pub(super) async fn begin_delivery(&self, intake: &CommitterHandle) {
        let state = &mut *self.state.lock().await;
        let _ = intake.alerting(Arc::new(state.config.alerting.clone())).await.await;
        state.delivery_service.serve(&state.config.alerting.receivers, &state.links).await;
    }

    /// Reloads the agent configuration and the scenarios, and applies everything valid. Invalid files keep their last
    /// valid version.
    pub(super) async fn reload(&self, intake: &CommitterHandle) -> ReloadReport {
        let mut state = self.state.lock().await;
        let mut diagnostics = Vec::new();

        // Prepare.
        let config = match self.setup_file.clone() {
            None => None,
            Some(path) => {
                let shown = path.display().to_string();
                match self.readers.within_async(READ_TIMEOUT, move || scenario_source::read(&path).1).await.flatten() {
                    Err(error) => {
                        diagnostics.push(unreadable(&shown, &error));
                        None
                    }
                    Ok(text) => {
                        let (config, problems) = config::read(&shown, &text);
                        diagnostics.extend(problems);
                        config
                    }
                }
            }
        };
        let mut config = config.unwrap_or_else(|| state.config.clone());
        diagnostics.extend(keep_what_needs_a_restart(&mut config, &state.config, self.setup_file.as_deref()));
        let lookup: Arc<dyn Lookup> = match &self.fixed_lookup {
            Some(lookup) => Arc::clone(lookup),
            None => Arc::new(lookup::Environment::allowed(config.allow.clone())),
        };
        let (library, roots, known) = (Arc::clone(&self.library), config.scenarios.clone(), Arc::clone(&lookup));
        let files = self.readers.within_async(LOAD_TIMEOUT, move || {
            let load_one = |(path, text): scenario_source::File| {
                let loaded = match text {
                    Ok(text) => load(&path, &text, &*known),
                    Err(error) => Loaded { scenarios: Vec::new(), diagnostics: vec![unreadable(&path, &error)] },
                };
                (path, loaded)
            };
            library.read(&roots).into_iter().map(load_one).collect::<Vec<_>>()
        });
        let files = match files.await {
            Ok(files) => files,
            Err(error) => return self.not_loaded(&error),
        };
        let (catalog, problems) = assemble(&state.catalog, files);
        diagnostics.extend(problems);
        // The scenarios in a file that cannot be read are unknown.
        let whole = diagnostics.iter().all(|found| found.severity < Severity::Error);
        let refused = |id: &str| {
            !whole || catalog.refused.iter().any(|(known, _)| known == id) || catalog.paused.contains_key(id)
        };
        diagnostics.extend(parents(&catalog.scenarios, refused).1);

        let security = web_security(&self.readers, &config.web, self.setup_file.as_deref()).await;
        let modules = match &config.probe {
            Some(probe) => self.modules(probe, &mut diagnostics).await,
            None => None,
        };

        // Swap.
        diagnostics.extend(self.security.load(security));
        self.probes.load(config.probe.as_ref(), modules);
        let scenarios: Arc<BTreeMap<_, _>> = Arc::new(catalog.scenarios.clone());
        let refused = catalog.refused.clone();
        self.dialer.reach().allow(config.allow.network.clone());
        self.lookup.send_replace(lookup);
        self.guard.load(&config.web);
        self.line.load(&config.network);
        self.alive.send_if_modified(|alive| {
            let changed = *alive != config.alerting.alive;
            alive.clone_from(&config.alerting.alive);
            changed
        });
        self.load_metrics(&mut state, &scenarios, &config.metrics);
        self.baseline.retain(|id| scenarios.contains_key(id));
        let paused = &catalog.paused;
        self.footprints.retain(|id| scenarios.contains_key(id) || paused.contains_key(id)).await;
        if config.alerting != state.config.alerting || config.web.external_url != state.config.web.external_url {
            state.links = Links::new(config.web.external_url.clone());
            state.delivery_service.retire(&config.alerting.receivers).await;
            let _ = intake.alerting(Arc::new(config.alerting.clone())).await.await;
            let links = state.links.clone();
            state.delivery_service.serve(&config.alerting.receivers, &links).await;
        }
        let idle = Idle { refused: catalog.refused.clone(), paused: catalog.paused.keys().cloned().collect() };
        intake.scenarios(Arc::clone(&scenarios), idle).await;
        let absent: Vec<Absence> = state
            .catalog
            .scenarios
            .keys()
            .filter(|id| !scenarios.contains_key(*id))
            .filter(|id| catalog.refused.iter().all(|(known, _)| known.as_str() != id.as_str()))
            .map(|id| Absence {
                scenario: id.clone(),
                why: if catalog.paused.contains_key(id) { Ending::Paused } else { Ending::Removed },
                at: Utc::now(),
            })
            .collect();
        self.sinks.load(&config.sinks, &scenarios, &absent).await;
        self.exports_traces.store(config.sinks.iter().any(Destination::exports_traces), Ordering::Relaxed);
        self.scenarios.send_replace(Arc::clone(&scenarios));
        let catalog_paused: Vec<Arc<Scenario>> = catalog.paused.values().cloned().collect();
        let maintenance = config.alerting.maintenance.clone();
        state.config = config;
        state.catalog = catalog;

        // Report.
        let bad = diagnostics.iter().any(|diagnostic| diagnostic.severity > Severity::Warning);
        self.gauges.scenarios.with_label_values(&["loaded"]).set(i64::try_from(scenarios.len()).unwrap_or(i64::MAX));
        self.gauges.scenarios.with_label_values(&["refused"]).set(i64::try_from(refused.len()).unwrap_or(i64::MAX));
        let paused = i64::try_from(catalog_paused.len()).unwrap_or(i64::MAX);
        self.gauges.scenarios.with_label_values(&["paused"]).set(paused);
        self.gauges.successful.set(i64::from(!bad));
        if !bad {
            self.gauges.succeeded_at.set(Utc::now().timestamp_millis() as f64 / 1e3);
        }
        let (shown, others) = diagnostic::shown(&diagnostics);
        for diagnostic in &shown {
            let (place, message) = (diagnostic.place(), &diagnostic.message);
            match diagnostic.severity {
                Severity::Warning => tracing::warn!(place, "{message}"),
                Severity::Missing | Severity::Error => tracing::error!(place, "{message}"),
            }
        }
        tracing::info!(
            scenarios = scenarios.len(),
            refused = refused.len(),
            paused = catalog_paused.len(),
            problems = diagnostics.len(),
            "files loaded"
        );
        let mut problems: Vec<String> = shown.iter().map(|diagnostic| diagnostic.render(false)).collect();
        if others > 0 {
            problems.push(format!("and {others} more problems; `wachta check FILE` lists those of a file\n"));
        }
        self.overview.send_replace(Arc::new(Overview {
            location: self.location.clone(),
            scenarios: Arc::clone(&scenarios),
            refused,
            paused: catalog_paused,
            maintenance,
            problems: problems.clone(),
            notes: self.notes(),
            loaded_at: Some(Utc::now()),
        }));
        ReloadReport { successful: !bad, scenarios: scenarios.len(), problems }
    }

    /// Updates the exported scenarios, and logs a change of the level of detail.
    fn load_metrics(&self, state: &mut State, scenarios: &Scenarios, config: &MetricsConfig) {
        let detail = self.prometheus.load(scenarios, config);
        let before = state.detail.replace(detail);
        let is_surprise = before.is_none() && config.detail.is_none() && detail == Detail::Basic;
        if is_surprise || before.is_some_and(|before| before != detail) {
            tracing::info!(
                detail = detail.as_str(),
                before = before.map(Detail::as_str),
                scenarios = scenarios.len(),
                "the detail of metrics changed: set `metrics.detail` to fix it, otherwise it depends on the number of scenarios"
            );
        }
    }

    /// Returns notes about reduced security.
    fn notes(&self) -> Vec<String> {
        (!self.browsers.has_sandbox()).then(|| NO_SANDBOX.to_owned()).into_iter().collect()
    }

    /// Returns the report of a reload whose files could not be loaded at all. The current state is kept.
    fn not_loaded(&self, error: &std::io::Error) -> ReloadReport {
        tracing::error!(%error, "cannot load the files");
        self.gauges.successful.set(0);
        let problem = format!("error: cannot load the files: {error}\n");
        self.overview.send_modify(|overview| {
            let problems = vec![problem.clone()];
            *overview = Arc::new(Overview { problems, ..Overview::clone(overview) });
        });
        let scenarios = self.scenarios.borrow().len();
        ReloadReport { successful: false, scenarios, problems: vec![problem] }
    }

    /// Loads the modules of `/probe`. Returns `None` if their file is invalid.
    async fn modules(&self, probe: &blackbox::Config, diagnostics: &mut Vec<Diagnostic>) -> Option<blackbox::Modules> {
        let base = self.setup_file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let path = base.join(&probe.modules);
        let shown = path.display().to_string();
        let (file, folder) = (path.clone(), path.parent().unwrap_or(base).to_owned());
        let name = shown.clone();
        // The files that modules refer to are read as well.
        let read = self.readers.within_async(LOAD_TIMEOUT, move || {
            scenario_source::read(&file).1.map(|text| blackbox::read(&name, &text, &folder))
        });
        match read.await.flatten() {
            Ok((modules, problems)) => {
                diagnostics.extend(problems);
                modules
            }
            Err(error) => {
                diagnostics.push(unreadable(&shown, &error));
                None
            }
        }
    }
}

/// Reads the file with TLS and users of the web server, if there is one.
pub(super) async fn web_security(readers: &Readers, web: &web::Config, setup_file: Option<&Path>) -> web::Loaded {
    let Some(file) = &web.config_file else {
        if !web.must_ask() {
            return web::Loaded::none();
        }
        // The server was opened to others at the start of the agent, and stays so until the next start.
        let source = Source::new(setup_file.map(|file| file.display().to_string()).unwrap_or_default(), "");
        let message =
            "`web.config_file` was removed while other machines can reach this agent: the previous one stays in effect";
        return web::Loaded::refused(Diagnostic::error(&source, Span::default(), message));
    };
    let base = setup_file.and_then(Path::parent).unwrap_or(Path::new(""));
    web::Loaded::read(readers, base.join(file), web.must_ask()).await
}

fn unreadable(path: &str, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error(&Source::new(path, ""), Span::default(), format!("cannot be read: {error}"))
}

/// Keeps the old values of keys that only take effect at a start, and reports their changes.
fn keep_what_needs_a_restart(new: &mut Config, old: &Config, file: Option<&std::path::Path>) -> Vec<Diagnostic> {
    let source = Source::new(file.map(|file| file.display().to_string()).unwrap_or_default(), "");
    let mut warnings = Vec::new();
    let mut keep = |same: bool, key: &str| {
        if !same {
            warnings.push(Diagnostic::warning(
                &source,
                Span::default(),
                format!("`{key}` changed: restart the agent to apply it"),
            ));
        }
    };
    keep(new.location == old.location, "location");
    keep(new.store == old.store, "store");
    keep(new.web.listen == old.web.listen, "web.listen");
    keep(new.browser == old.browser, "browser");
    if new.scenarios != old.scenarios {
        let message = "`scenarios` changed: applied, but new folders are watched only after a restart";
        warnings.push(Diagnostic::warning(&source, Span::default(), message));
    }
    new.location.clone_from(&old.location);
    new.store.clone_from(&old.store);
    new.web.listen = old.web.listen;
    new.browser.clone_from(&old.browser);
    warnings
}
