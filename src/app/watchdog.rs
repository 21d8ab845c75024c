//! Watchdog: checks that the agent works, which means that the scheduler and the committer respond and the store
//! accepts writes. Readiness, the outbound heartbeat and a metric depend on it.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{IntGaugeVec, Opts, Registry};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::alert::CommitterHandle;
use crate::names::metric;
use crate::store::{STALLED_AFTER, WriteBuffer};
use crate::web::Work;

/// Interval of the checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Checked parts, as named in the metric.
const PARTS: [&str; 3] = ["scheduler", "committer", "store"];

/// Task that checks the parts.
pub(super) struct Watchdog {
    intake: CommitterHandle,
    pulse: mpsc::Sender<oneshot::Sender<()>>,
    store: WriteBuffer,
    /// Lists the receivers that are failing, each with a description.
    failing: Box<dyn Fn() -> Vec<(String, String)> + Send + Sync>,
    gauge: IntGaugeVec,
    work: watch::Sender<Work>,
}

impl Watchdog {
    /// Registers the metric. `pulse` is the channel for liveness requests to the dispatcher.
    pub(super) fn new(
        registry: &Registry,
        intake: CommitterHandle,
        pulse: mpsc::Sender<oneshot::Sender<()>>,
        store: WriteBuffer,
        failing: impl Fn() -> Vec<(String, String)> + Send + Sync + 'static,
    ) -> prometheus::Result<Self> {
        let stalled = &metric::STALLED;
        let gauge = IntGaugeVec::new(Opts::new(stalled.name, stalled.help), stalled.labels)?;
        registry.register(Box::new(gauge.clone()))?;
        for part in PARTS {
            gauge.with_label_values(&[part]).set(0);
        }
        Ok(Self { intake, pulse, store, failing: Box::new(failing), gauge, work: watch::Sender::default() })
    }

    /// Returns a channel with the last result.
    pub(super) fn work(&self) -> watch::Receiver<Work> {
        self.work.subscribe()
    }

    /// Checks the parts periodically until stopped.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut asked = Asked::default();
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.look(&mut asked);
        }
    }

    /// Reports failing receivers for the agent's own incident.
    fn report_receivers(&self, said: &mut BTreeMap<String, String>) {
        let failing: BTreeMap<String, String> = (self.failing)().into_iter().collect();
        let about = |name: &String| format!("receiver {name}");
        for (name, why) in failing.iter().filter(|(name, why)| said.get(*name) != Some(*why)) {
            self.intake.trouble(&about(name), Some(why.clone()));
        }
        for name in said.keys().filter(|name| !failing.contains_key(*name)) {
            self.intake.trouble(&about(name), None);
        }
        *said = failing;
    }

    fn look(&self, asked: &mut Asked) {
        self.report_receivers(&mut asked.failing);
        let committer = asked.committer.stalled(|| Some(self.intake.pulse()));
        let scheduler = asked.scheduler.stalled(|| {
            let (answer, answered) = oneshot::channel();
            self.pulse.try_send(answer).ok().map(|()| answered)
        });
        let away = self.store.health().borrow().away.clone();
        let store = self.store.stalled().map(|_| match away {
            Some((since, why)) => format!("the store is unavailable since {}: {why}", since.format("%FT%TZ")),
            None => format!("the store has not written for {}s", STALLED_AFTER.as_secs()),
        });
        let problems = [
            scheduler.then(|| format!("the scheduler has not responded for {}s", STALLED_AFTER.as_secs())),
            committer.then(|| format!("the committer has not responded for {}s", STALLED_AFTER.as_secs())),
            store,
        ];
        for (part, problem) in PARTS.iter().zip(&problems) {
            self.gauge.with_label_values(&[part]).set(i64::from(problem.is_some()));
        }
        let problems: Vec<String> = problems.into_iter().flatten().collect();
        self.work.send_modify(|work| {
            if work.problems != problems {
                if problems.is_empty() {
                    tracing::info!("the agent is working again");
                } else {
                    tracing::error!(problems = problems.join("; "), "the agent is not working");
                }
            }
            work.problems = problems;
            work.at = Some(Instant::now());
        });
    }
}

/// Last requests to the parts.
#[derive(Default)]
struct Asked {
    /// Problems of receivers that were reported.
    failing: BTreeMap<String, String>,
    committer: Question,
    scheduler: Question,
}

#[derive(Default)]
struct Question {
    answer: Option<oneshot::Receiver<()>>,
    since: Option<Instant>,
}

impl Question {
    /// Returns whether a response has been missing for too long. Sends a new request after each response.
    fn stalled(&mut self, ask: impl FnOnce() -> Option<oneshot::Receiver<()>>) -> bool {
        if let Some(answer) = &mut self.answer {
            match answer.try_recv() {
                Ok(()) => (self.answer, self.since) = (None, None),
                Err(oneshot::error::TryRecvError::Empty) => {}
                // The part has ended: the missing response continues to count.
                Err(oneshot::error::TryRecvError::Closed) => self.answer = None,
            }
        }
        if self.answer.is_none() {
            self.answer = ask();
            self.since.get_or_insert_with(Instant::now);
        }
        self.since.is_some_and(|since| since.elapsed() >= STALLED_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::Utc;
    use prometheus::IntCounter;

    use super::*;
    use crate::alert::{self, Committer};
    use crate::store::{self, Batch, CheckIn, SqliteFile};

    #[tokio::test]
    async fn what_has_not_moved_for_ten_seconds_is_named() {
        let registry = Registry::new();
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let figures = store::Metrics::new(&registry, dropped.clone()).unwrap();
        let memory = Arc::new(SqliteFile::new("sqlite::memory:", true));
        // Neither the writer nor the committer is running, and nothing responds for the scheduler.
        let (store, _writer) = WriteBuffer::open(memory, figures).await.unwrap();
        let metrics = alert::Metrics::new(&registry, dropped).unwrap();
        let (_committer, intake) = Committer::new(store.clone(), "here", metrics, || {}).await.unwrap();
        let (pulse, mut beating) = mpsc::channel(1);
        let watchdog = Watchdog::new(&registry, intake, pulse, store.clone(), Vec::new).unwrap();
        tokio::time::pause();
        store.accept(Batch { check_ins: vec![("job".into(), CheckIn::Started, Utc::now())], ..Batch::default() }).await;

        let mut asked = Asked::default();
        let (begun, work) = (Instant::now(), watchdog.work());
        let gauges = || PARTS.map(|part| watchdog.gauge.with_label_values(&[part]).get());
        while begun.elapsed() < STALLED_AFTER {
            watchdog.look(&mut asked);
            let (scheduler, committer) = (gauges()[0], gauges()[1]);
            assert_eq!((scheduler, committer), (0, 0), "after {:?}", begun.elapsed());
            tokio::time::advance(INTERVAL).await;
        }
        watchdog.look(&mut asked);
        assert_eq!(gauges(), [1, 1, 1]);
        let problem = work.borrow().problem().unwrap();
        assert!(PARTS.iter().all(|part| problem.contains(part)), "{problem}");

        beating.recv().await.unwrap().send(()).unwrap();
        watchdog.look(&mut asked);
        assert_eq!(gauges(), [0, 1, 1], "the scheduler moves again");
        // A watchdog that does not run is a problem as well.
        beating.recv().await.unwrap().send(()).unwrap();
        tokio::time::advance(STALLED_AFTER).await;
        assert!(work.borrow().problem().unwrap().contains("watchdog"));
    }
}
