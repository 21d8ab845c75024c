//! Prometheus: the metrics exported by `/metrics`.
//!
//! There is no metric object per series: each scenario has a small state, which is updated by its outcomes, and a
//! scrape generates samples from these states, so that nothing remains after a scenario is removed. The metrics of the
//! agent itself belong to its parts and are collected in one registry. There are no timestamps. Pushed metrics have
//! separate states ([`pushed`]), which follow what the receiver has accepted.

mod catalog;
mod config;
mod encoder;
mod families;
mod histogram;
mod pushed;
mod scrape;
mod scrapers;
mod selection;
mod state;

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use chrono::{TimeDelta, Utc};
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Registry};
use tokio::sync::Semaphore;

use crate::names::metric::{self, Detail};
use crate::outcome::Outcome;
use crate::scenario::{Scenario, ScenarioId};

use catalog::{Catalog, Current, Entry};
use encoder::Encoder;
use scrape::{Progress, Shown};
use scrapers::Scrapers;
use state::{Rules, State, seconds};

pub use config::Config;
pub use encoder::Format;
pub(super) use encoder::{Exemplar, Series};
pub(super) use pushed::{Moment, Part, Pushed, Sample};
pub use scrape::{Scrape, ScrapeRequest};
pub use selection::Selection;

/// Maximum number of concurrent scrapes. Each holds a reference to every scenario.
pub const MAX_SCRAPES: usize = 16;
/// Age of the last run after which the series of a removed scenario are considered expired everywhere.
const GONE_FOR: TimeDelta = TimeDelta::days(1);

/// Metrics derived from outcomes, to be scraped by Prometheus.
pub struct Prometheus {
    registry: Registry,
    location: Arc<str>,
    /// Replaced as a whole when scenarios are added or removed.
    catalog: RwLock<Arc<Catalog>>,
    /// Number of scrapes begun.
    epoch: AtomicU32,
    scrapers: Arc<Scrapers>,
    places: Arc<Semaphore>,
    omitted: IntCounter,
    /// Scenarios that ran before this process and are not loaded.
    gone: Mutex<Vec<ScenarioId>>,
}

impl Prometheus {
    /// Creates the metrics without scenarios, with a registry of the agent's own metrics.
    pub fn new(registry: Registry, location: &str) -> Self {
        let of = &metric::SERIES_OMITTED;
        let rules = Rules { detail: Detail::Full, max_step_series: 0 };
        Self {
            registry,
            location: location.into(),
            catalog: RwLock::new(Arc::new(Catalog { entries: Vec::new(), rules, tags: Vec::new() })),
            epoch: AtomicU32::new(0),
            scrapers: Arc::default(),
            places: Arc::new(Semaphore::new(MAX_SCRAPES)),
            omitted: IntCounter::new(of.name, of.help).expect("a declared name is a valid one"),
            gone: Mutex::default(),
        }
    }

    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exports these scenarios from now on, and removes the series of all others. Returns the detail.
    pub fn load(&self, scenarios: &BTreeMap<ScenarioId, Arc<Scenario>>, config: &Config) -> Detail {
        let detail = config.detail_of(scenarios.len());
        let rules = Rules { detail, max_step_series: config.max_step_series as usize };
        let before = self.catalog();
        let now = seconds(Utc::now());
        let mut fresh = Vec::new();
        let entries = scenarios.iter().map(|(id, scenario)| {
            let known = before.entries.binary_search_by(|entry| entry.id.cmp(id)).ok();
            let entry = known.map_or_else(
                || Arc::new(Entry::new(id.clone(), Arc::clone(scenario), now)),
                |at| Arc::clone(&before.entries[at]),
            );
            let has_begun = entry.load(scenario, detail, now);
            if known.is_none() || has_begun {
                fresh.push((Arc::clone(&entry), known.is_none()));
            }
            entry
        });
        let entries = entries.collect();
        let tags = config.tags.iter().map(|tag| (Config::label_of(tag), tag.clone())).collect();
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        // A scrape that begins later waits for the catalog, and therefore includes the new scenarios.
        let epoch = self.epoch.load(Ordering::SeqCst);
        for (entry, is_new) in fresh {
            let current = &mut *entry.current();
            if is_new {
                current.appeared.0 = epoch;
            }
            if let Some(full) = &mut Arc::make_mut(&mut current.state).full {
                full.since = epoch;
            }
        }
        *catalog = Arc::new(Catalog { entries, rules, tags });
        detail
    }

    /// Initializes the state from before this process: gauges start with the stored values, counters at 0. A conclusive
    /// outcome older than the last one determines whether the scenario last succeeded.
    pub fn seed(&self, latest: &[Outcome], conclusive: &[Outcome]) {
        let catalog = self.catalog();
        for outcome in conclusive {
            if let Some(entry) = catalog.get(&outcome.scenario) {
                Arc::make_mut(&mut entry.current().state).show_conclusion(outcome);
            }
        }
        for outcome in latest {
            if let Some(entry) = catalog.get(&outcome.scenario) {
                let current = &mut *entry.current();
                Arc::make_mut(&mut current.state).show(outcome, &current.scenario, catalog.rules);
            }
        }
        let now = Utc::now();
        let is_gone = |outcome: &&Outcome| {
            let is_recent = outcome.location == *self.location && outcome.ended_at > now - GONE_FOR;
            is_recent && catalog.get(&outcome.scenario).is_none()
        };
        self.gone().extend(latest.iter().filter(is_gone).map(|outcome| outcome.scenario.clone()));
    }

    fn gone(&self) -> MutexGuard<'_, Vec<ScenarioId>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns, once, the scenarios that ran within the day before this process and are not loaded.
    fn take_gone(&self) -> Vec<ScenarioId> {
        mem::take(&mut *self.gone())
    }

    /// Returns the present gauges of a scenario, with every counter at 0.
    fn shown(&self, scenario: &ScenarioId, detail: Detail, now: f64) -> Option<State> {
        Some(self.catalog().get(scenario)?.current().state.uncounted(detail, now))
    }

    /// Returns the remaining share of a scenario's error budget, if it is known.
    fn budget_of(&self, scenario: &ScenarioId) -> Option<f64> {
        self.catalog().get(scenario)?.current().state.budget
    }

    /// Returns the families of the agent's own metrics, sorted by name.
    fn own(&self) -> Vec<MetricFamily> {
        let mut own = self.registry.gather();
        own.extend(self.omitted.collect());
        own.sort_by(|a, b| a.name().cmp(b.name()));
        own
    }

    /// Records the outcome of a finished run. It is ignored if its scenario no longer exists.
    pub fn outcome(&self, outcome: &Outcome) {
        let catalog = self.catalog();
        let Some(entry) = catalog.get(&outcome.scenario) else { return };
        let mut current = entry.current();
        let Current { scenario, state, .. } = &mut *current;
        let state = Arc::make_mut(state);
        let omitted = state.show(outcome, scenario, catalog.rules);
        // Read while no scrape can share the state: everything counted afterwards is new to such a scrape.
        state.count(outcome, scenario, catalog.rules, self.epoch.load(Ordering::SeqCst));
        if omitted > 0 {
            self.omitted.inc_by(omitted as u64);
            if !std::mem::replace(&mut state.is_over_budget, true) {
                drop(current);
                let limit = catalog.rules.max_step_series;
                tracing::warn!(
                    scenario = %outcome.scenario, limit,
                    "steps have more series than `metrics.max_step_series` allows: some of them are not exported"
                );
            }
        }
    }

    /// Sets the remaining share of a scenario's error budget.
    pub fn budget(&self, scenario: &ScenarioId, remaining: f64) {
        if let Some(entry) = self.catalog().get(scenario) {
            Arc::make_mut(&mut entry.current().state).budget = Some(remaining);
        }
    }

    /// Starts a scrape. Returns `None` while [`MAX_SCRAPES`] others are in progress.
    pub fn scrape(&self, request: &ScrapeRequest) -> Option<Scrape> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let seen = self.scrapers.last(request.scraper);
        let number = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        let catalog = self.catalog();
        let shown = |entry: &Arc<Entry>| {
            let current = entry.current();
            let is_asked_for = request.selection.has(&current.scenario);
            let (scenario, state) = (&current.scenario, &current.state);
            is_asked_for.then(|| Shown {
                scenario: Arc::clone(scenario),
                state: Arc::clone(state),
                appeared: current.appeared,
            })
        };
        let subjects = catalog.entries.iter().filter_map(shown).collect();
        let own = if request.selection.has_agent() { self.own() } else { Vec::new() };
        Some(Scrape {
            number,
            scraper: request.scraper,
            seen,
            location: Arc::clone(&self.location),
            catalog,
            subjects,
            own: own.into_iter(),
            encoder: Encoder::new(request.format),
            progress: Progress::Scenarios(0, 0),
            scrapers: Arc::clone(&self.scrapers),
            _place: place,
        })
    }
}

#[cfg(test)]
mod tests;
