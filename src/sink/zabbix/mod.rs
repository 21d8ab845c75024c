//! Zabbix, by the trapper protocol (6.0 and later; a server or a proxy).
//!
//! Values go to the items of `deploy/zabbix/template-wachta-6.0.yaml`, which discovery makes. [`items`] says what
//! Zabbix is shown (pure), [`outbox`] what is sent when (pure), [`protocol`] how; the one task here joins them.
//! An outcome counts as sent or dropped by its `wachta.run` row; its step rows are details of it.
//! Deliberately absent: TLS and the JSON-RPC API.

mod config;
mod items;
mod outbox;
mod protocol;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Utc;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use items::Entry;
pub use outbox::Timing;

use super::{Counts, Metrics};
use crate::incident::Ending;
use crate::outcome::Outcome;
use crate::scenario::ScenarioId;
use crate::tasks::Tasks;
use outbox::{Next, Outbox};

/// The sink. Clones are handles to the same queue.
#[derive(Debug, Clone)]
pub struct Zabbix {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    outbox: Mutex<Outbox>,
    wake: Notify,
    counts: Counts,
}

impl Zabbix {
    /// Starts the task. `state` is asked every minute for the value of `wachta.agent`. When `stop` is cancelled what
    /// is queued is still sent, for as long as `timing.flush` allows.
    pub fn start(
        config: Config,
        timing: Timing,
        state: impl Fn() -> Value + Send + Sync + 'static,
        metrics: &Metrics,
        tasks: &Tasks,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            outbox: Mutex::new(Outbox::new(timing.clone())),
            wake: Notify::new(),
            counts: metrics.of("zabbix"),
        });
        let (sending, state) = (Arc::clone(&shared), Arc::new(state));
        tasks.restarted("zabbix", &Handle::current(), stop.clone(), move || {
            let (address, config, timing) = (config.address(), config.clone(), timing.clone());
            let sender = Sender { shared: Arc::clone(&sending), address, config, timing, away: false };
            let state = Arc::clone(&state);
            sender.run(move || state(), stop.clone())
        });
        Self { shared }
    }

    /// Queues an outcome. Never blocks; when the queue is full the oldest is dropped and counted.
    pub fn outcome(&self, outcome: Arc<Outcome>) {
        let mut outbox = self.shared.outbox();
        outbox.outcome(outcome);
        self.shared.report(&mut outbox);
        drop(outbox);
        self.shared.wake.notify_one();
    }

    /// Says of a scenario that it is no longer monitored, or not for now.
    pub fn idle(&self, id: &ScenarioId, location: &str, why: Ending) {
        self.shared.outbox().upkeep(items::idle_row(id, location, why, Utc::now()));
        self.shared.wake.notify_one();
    }

    /// Says which scenarios there are: discovery is sent now, and again every hour, since Zabbix forgets what it does
    /// not hear of.
    pub fn catalog(&self, entries: &[Entry]) {
        self.shared.outbox().catalog(entries, Instant::now());
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what the outbox did in metrics and in the log.
    fn report(&self, outbox: &mut Outbox) {
        self.counts.queue_length.set(i64::try_from(outbox.len()).unwrap_or(i64::MAX));
        self.counts.dropped.inc_by(outbox.take_dropped());
        for key in outbox.take_refused() {
            tracing::warn!(
                key,
                "zabbix does not take values of this item: \
                 is the template linked to the host, the host enabled and not behind a proxy, the item not disabled, \
                 this agent among the item's allowed hosts"
            );
        }
    }
}

/// The task.
struct Sender {
    shared: Arc<Shared>,
    config: Config,
    address: String,
    timing: Timing,
    /// Whether the last try did not reach the server.
    away: bool,
}

impl Sender {
    async fn run(mut self, state: impl Fn() -> Value, stop: CancellationToken) {
        tokio::select! {
            () = self.work(state) => {}
            () = stop.cancelled() => {}
        }
        // An interrupted request is in the outbox still, and harmless to repeat.
        let flush = self.timing.flush;
        _ = tokio::time::timeout(flush, self.flush()).await;
        let mut outbox = self.shared.outbox();
        let left = outbox.clear();
        self.shared.report(&mut outbox);
        if left > 0 {
            self.shared.counts.dropped.inc_by(left);
            tracing::warn!(outcomes = left, "stopped before zabbix took everything");
        }
    }

    async fn work(&mut self, state: impl Fn() -> Value) {
        let shared = self.shared.clone();
        let mut agent_at = Instant::now();
        loop {
            let now = Instant::now();
            if agent_at <= now {
                agent_at = now + self.timing.agent_every;
                shared.outbox().upkeep(items::agent(&state()));
            }
            let next = shared.outbox().next(now);
            match next {
                Next::Send(rows) => self.send(&rows).await,
                Next::Wait(until) => {
                    let until = until.map_or(agent_at, |until| until.min(agent_at));
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = shared.wake.notified() => {}
                    }
                }
            }
        }
    }

    /// Sends what does not have to wait for the server to learn of items; gives up when the server is away.
    async fn flush(&mut self) {
        let shared = self.shared.clone();
        shared.outbox().hurry();
        loop {
            let next = shared.outbox().next(Instant::now());
            match next {
                Next::Send(rows) => self.send(&rows).await,
                Next::Wait(_) => break,
            }
        }
    }

    /// Sends a batch and tells the outbox what became of it.
    async fn send(&mut self, rows: &[items::Row]) {
        let answer = self.deliver(rows).await;
        let now = Instant::now();
        let mut outbox = self.shared.outbox();
        match answer {
            Ok(taken) => {
                if taken.contains(&false) {
                    self.shared.counts.failed.inc();
                }
                self.shared.counts.sent.inc_by(outbox.answered(&taken, now));
                if std::mem::take(&mut self.away) {
                    tracing::info!(server = self.address, "zabbix answers again");
                }
            }
            Err(error) => {
                self.shared.counts.failed.inc();
                outbox.failed(now);
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(server = self.address, %error, "zabbix does not answer, values are kept");
                }
            }
        }
        self.shared.report(&mut outbox);
    }

    /// Which rows the server takes. An answer only counts them, so that when it took some each is asked for alone.
    async fn deliver(&self, rows: &[items::Row]) -> Result<Vec<bool>, protocol::Error> {
        let taken = self.exchange(rows).await?;
        if taken >= rows.len() || taken == 0 {
            return Ok(vec![taken > 0; rows.len()]);
        }
        let mut each = Vec::with_capacity(rows.len());
        for row in rows {
            each.push(self.exchange(std::slice::from_ref(row)).await? > 0);
        }
        Ok(each)
    }

    async fn exchange(&self, rows: &[items::Row]) -> Result<usize, protocol::Error> {
        protocol::send(&self.address, &self.config.host, rows, self.timing.connect, self.timing.answer).await
    }
}
