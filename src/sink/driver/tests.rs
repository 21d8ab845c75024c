//! The task of a sink, with a clock that advances only while everything waits.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::*;
use crate::sink::Metrics;
use crate::sink::fixtures::{Do, Puppet, Shelf, event};
use crate::sink::queue::Queue;

struct Bench {
    waiting: Arc<Waiting>,
    shelf: Arc<Shelf>,
    given: mpsc::UnboundedReceiver<String>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    start: Instant,
}

impl Bench {
    fn start(plan: Vec<Do>, position: u64, last: u64) -> Self {
        let plan = Arc::new(Mutex::new(VecDeque::from(plan)));
        Self::built(position, last, move |given| Box::new(Puppet { plan: Arc::clone(&plan), given }))
    }

    fn built(
        position: u64,
        last: u64,
        make: impl Fn(mpsc::UnboundedSender<String>) -> Box<dyn Sink> + Send + Sync + 'static,
    ) -> Self {
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let limits = Limits { rows: 1, bytes: 1, age: Duration::ZERO, deadline: Duration::ZERO };
        let queue = Queue::new(Timing::default(), limits, position, last);
        let waiting = Arc::new(Waiting::new("puppet".into(), queue, metrics.of("puppet")));
        let (tell, given) = mpsc::unbounded_channel();
        let shelf = Arc::<Shelf>::default();
        let build: Build = Arc::new(move || Ok(make(tell.clone())));
        let store: Arc<dyn Positions> = Arc::clone(&shelf) as _;
        let driver = Driver { waiting: Arc::clone(&waiting), build, store, timing: Timing::default() };
        let stop = CancellationToken::new();
        let task = tokio::spawn(driver.run(stop.child_token(), stop.clone()));
        Self { waiting, shelf, given, stop, task, start: Instant::now() }
    }

    /// Returns the next batch and the seconds from the start to its arrival.
    async fn see(&mut self) -> String {
        let batch = self.given.recv().await.unwrap();
        format!("{}: {batch}", self.start.elapsed().as_secs())
    }

    async fn stop(self) -> String {
        self.stop.cancel();
        self.task.await.unwrap();
        let counts = &self.waiting.counts;
        let (sent, failed, refused) = (counts.sent.get(), counts.failed.get(), counts.refused.get());
        let (dropped, queued) = (counts.dropped.get(), counts.queue_length.get());
        format!("sent {sent}, failed {failed}, refused {refused}, dropped {dropped}, queued {queued}")
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_never_answers_is_tried_again() {
    let plan =
        vec![Do::Hang, Do::Hang, Do::Say(Sent::Retry { after: Some(Duration::from_secs(90)), reason: "429".into() })];
    let mut bench = Bench::start(plan, 0, 0);
    bench.waiting.push(event(1, "shop"));
    assert_eq!(bench.see().await, "0: 1");
    bench.waiting.push(event(2, "shop"));
    // Each attempt has a timeout of 10 seconds, followed by a pause of 1.5 to 2, then of 3 to 4 seconds.
    let second = bench.see().await;
    assert!(["11: 1", "12: 1"].contains(&second.as_str()), "{second}");
    let status = bench.waiting.status("there".into());
    assert!(status.failing_since.is_some() && status.waiting == 2, "{status:?}");
    assert_eq!(status.last_error.unwrap().1, "no response within 10 s");
    let third = bench.see().await;
    assert!(["24: 1", "25: 1", "26: 1"].contains(&third.as_str()), "{third}");
    let fourth = bench.see().await;
    let at: u64 = fourth.strip_suffix(": 1").unwrap().parse().unwrap();
    assert!((114..=116).contains(&at), "{fourth}");
    assert!(bench.see().await.ends_with(": 2"));
    assert_eq!(bench.stop().await, "sent 2, failed 3, refused 0, dropped 0, queued 0");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_panics_is_set_aside() {
    let mut bench = Bench::start(vec![Do::Panic, Do::Say(Sent::Taken), Do::Panic], 0, 2);
    for seq in [1, 2] {
        bench.shelf.put(&event(seq, "shop").finished().unwrap().outcome);
    }
    assert_eq!(bench.see().await, "0: 1 2");
    assert_eq!(bench.see().await, "0: 1");
    assert_eq!(bench.see().await, "0: 2");
    bench.waiting.push(event(3, "shop"));
    assert_eq!(bench.see().await, "0: 3");
    let status = bench.waiting.status(String::new());
    assert_eq!((status.refused.len(), status.failing_since), (1, None));
    assert_eq!(bench.stop().await, "sent 2, failed 2, refused 1, dropped 1, queued 0");
}

#[tokio::test(start_paused = true)]
async fn what_the_store_has_is_sent_before_what_is_new() {
    let mut bench = Bench::start(Vec::new(), 2, 5);
    bench.shelf.set_away(true);
    bench.waiting.push(event(6, "shop"));
    // While the store is unavailable, the events in memory are sent.
    assert_eq!(bench.see().await, "0: 6");
    assert_eq!(bench.waiting.position(), 2);
    for seq in [3, 5] {
        bench.shelf.put(&event(seq, "shop").finished().unwrap().outcome);
    }
    bench.shelf.set_away(false);
    assert_eq!(bench.see().await, "1: 3 5");
    let waiting = Arc::clone(&bench.waiting);
    assert_eq!(bench.stop().await, "sent 3, failed 0, refused 0, dropped 1, queued 0");
    assert_eq!(waiting.position(), 6);
}

#[tokio::test(start_paused = true)]
async fn stopping_sends_what_waits_for_as_long_as_it_may() {
    // The events wait for a destination that is unavailable and returns in time.
    let mut bench = Bench::start(vec![Do::Say(Sent::Retry { after: None, reason: "away".into() })], 0, 0);
    bench.waiting.push(event(1, "shop"));
    assert_eq!(bench.see().await, "0: 1");
    assert_eq!(bench.stop().await, "sent 1, failed 1, refused 0, dropped 0, queued 0");
    // The destination does not respond, so the events stay in the queue.
    let mut bench = Bench::start(vec![Do::Hang, Do::Hang, Do::Hang], 0, 0);
    bench.waiting.push(event(1, "shop"));
    assert_eq!(bench.see().await, "0: 1");
    let start = bench.start;
    let waiting = Arc::clone(&bench.waiting);
    assert_eq!(bench.stop().await, "sent 0, failed 0, refused 0, dropped 0, queued 1");
    assert_eq!((start.elapsed().as_secs(), waiting.position()), (Timing::default().flush.as_secs(), 0));
}

/// Sink with work in addition to events: a preparation at once, and a repetition every ten seconds.
struct Worker {
    given: mpsc::UnboundedSender<String>,
    is_ready: bool,
    refresh_at: Option<Instant>,
}

#[async_trait::async_trait]
impl Sink for Worker {
    fn limits(&self) -> Limits {
        Limits { rows: 4, bytes: usize::MAX, age: Duration::ZERO, deadline: Duration::from_secs(10) }
    }

    fn measure(&self, _: &Event) -> Size {
        Size { rows: 1, bytes: 1 }
    }

    async fn send(&mut self, batch: &[Event]) -> Sent {
        self.given.send(crate::sink::fixtures::numbers(batch)).unwrap();
        Sent::Taken
    }

    fn upkeep_at(&self) -> Option<Instant> {
        (!self.is_ready).then(Instant::now)
    }

    async fn upkeep(&mut self) -> Sent {
        self.is_ready = true;
        self.given.send("ready".into()).unwrap();
        Sent::Taken
    }

    fn refresh_at(&self) -> Option<Instant> {
        self.refresh_at
    }

    async fn refresh(&mut self, until: DateTime<Utc>) -> Sent {
        self.refresh_at = Some(Instant::now() + Duration::from_secs(10));
        let is_now = Utc::now() - until < chrono::TimeDelta::minutes(1);
        self.given.send(if is_now { "repeated" } else { "repeated, as before the oldest that waits" }.into()).unwrap();
        Sent::Taken
    }
}

// This test needs a running clock: with a paused one, "now" is never later than "now".
#[tokio::test]
async fn what_is_to_be_done_at_once_is_done_before_the_first_event() {
    let mut bench = Bench::built(0, 1, |given| Box::new(Worker { given, is_ready: false, refresh_at: None }));
    bench.shelf.put(&event(1, "shop").finished().unwrap().outcome);
    assert_eq!([bench.see().await, bench.see().await], ["0: ready", "0: 1"]);
    assert_eq!(bench.stop().await, "sent 1, failed 0, refused 0, dropped 0, queued 0");
}

#[tokio::test(start_paused = true)]
async fn values_are_not_repeated_while_events_wait_in_the_store() {
    let mut bench =
        Bench::built(0, 2, |given| Box::new(Worker { given, is_ready: true, refresh_at: Some(Instant::now()) }));
    bench.shelf.set_away(true);
    bench.waiting.push(event(3, "shop"));
    assert_eq!(bench.see().await, "0: 3");
    for seq in [1, 2] {
        bench.shelf.put(&event(seq, "shop").finished().unwrap().outcome);
    }
    bench.shelf.set_away(false);
    // The events read from the store wait in memory.
    assert_eq!(bench.see().await, "1: repeated, as before the oldest that waits");
    assert_eq!(bench.see().await, "1: 1 2");
    assert_eq!(bench.see().await, "11: repeated");
    assert_eq!(bench.stop().await, "sent 3, failed 0, refused 0, dropped 0, queued 0");
}
