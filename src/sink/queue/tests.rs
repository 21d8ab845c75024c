//! Behavior of the queue, second by second.

use super::*;
use crate::sink::fixtures::{event, numbers};

const LIMITS: Limits = Limits { rows: 4, bytes: 1_000_000, age: Duration::ZERO, deadline: Duration::from_secs(10) };

/// Queue with a clock that is advanced manually.
struct Bench {
    queue: Queue,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(limits: Limits, position: u64, last: u64) -> Self {
        let now = Instant::now();
        let mut queue = Queue::new(Timing::default(), limits, position, last);
        queue.max_outcomes = 10;
        Self { queue, start: now, now }
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.start + Duration::from_secs(seconds);
        self
    }

    fn push(&mut self, scenario: &str, numbers: impl IntoIterator<Item = u64>) -> &mut Self {
        for seq in numbers {
            self.queue.push(event(seq, scenario), self.now);
        }
        self
    }

    /// Simulates a read of the store that returns these numbers and is complete up to `through`.
    fn read(&mut self, stored: impl IntoIterator<Item = u64>, through: u64) {
        self.queue.read(stored.into_iter().map(|seq| event(seq, "old")).collect(), through, self.now);
    }

    /// Returns the next action in words.
    fn next(&mut self) -> String {
        match self.queue.next(self.now, |_| Size { rows: 1, bytes: 10 }) {
            Next::Send(batch) => numbers(&batch),
            Next::Read(from, to) => format!("read {from}-{to}"),
            Next::Wait(None) => "nothing".into(),
            Next::Wait(Some(until)) => format!("wait {}", (until - self.now).as_secs_f64()),
        }
    }

    fn answer(&mut self, sent: Sent) -> Done {
        self.queue.answered(sent, self.now, 0.0)
    }

    fn refuse(&mut self, index: usize, for_now: bool) -> Done {
        self.answer(Sent::Partial(vec![Refusal { index, reason: "no".into(), for_now }]))
    }

    /// Returns the numbers of the rows set aside.
    fn aside(done: &Done) -> String {
        numbers(&done.set_aside.iter().map(|row| row.event.clone()).collect::<Vec<_>>())
    }
}

fn retry(after: Option<u64>) -> Sent {
    Sent::Retry { after: after.map(Duration::from_secs), reason: "away".into() }
}

#[test]
fn a_batch_is_repeated_unchanged_with_growing_pauses() {
    let mut bench = Bench::new(LIMITS, 0, 0);
    assert_eq!(bench.next(), "nothing");
    bench.push("shop", [1, 2]);
    let mut at = 0;
    for pause in [2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(bench.at(at).next(), "1 2");
        bench.answer(retry(None));
        let next = bench.queue.last + 1;
        bench.push("other", [next]);
        assert_eq!(bench.next(), format!("wait {pause}"));
        at += pause;
    }
    assert_eq!(bench.at(at).next(), "1 2");
    assert_eq!((bench.queue.position(), bench.queue.waiting()), (0, 9));
    // A response ends the pauses.
    assert_eq!(bench.answer(Sent::Taken).sent, 2);
    assert_eq!((bench.next().as_str(), bench.queue.position()), ("3 4 5 6", 2));
    bench.answer(retry(None));
    assert_eq!(bench.next(), "wait 2");
}

#[test]
fn a_destination_says_how_long_to_wait_within_bounds() {
    let check = |after, jitter, expected: &str| {
        let mut bench = Bench::new(LIMITS, 0, 0);
        bench.push("shop", [1]).next();
        bench.queue.answered(retry(after), bench.now, jitter);
        assert_eq!(bench.next(), expected, "{after:?} {jitter}");
    };
    check(None, 0.0, "wait 2");
    check(None, 1.0, "wait 1.5");
    check(Some(1), 0.0, "wait 2");
    check(Some(90), 1.0, "wait 90");
    check(Some(1_000_000), 0.0, "wait 3600");
    // During shutdown there are no delays, until the destination fails again.
    let mut bench = Bench::new(LIMITS, 0, 0);
    bench.push("shop", [1]).next();
    bench.answer(retry(Some(90)));
    bench.queue.hurry();
    assert_eq!(bench.next(), "1");
    bench.answer(retry(None));
    assert_eq!(bench.next(), "wait 2");
}

#[test]
fn a_batch_that_is_refused_as_a_whole_is_halved() {
    let mut bench = Bench::new(LIMITS, 0, 0);
    bench.push("shop", 1..=5);
    let mut log = Vec::new();
    loop {
        let next = bench.next();
        if next == "nothing" {
            break;
        }
        let is_poisoned = next.split(' ').any(|seq| seq == "3");
        let done = bench.answer(if is_poisoned { Sent::Refused("poison".into()) } else { Sent::Taken });
        log.push(format!("{next}: {} sent, aside [{}]", done.sent, Bench::aside(&done)));
    }
    let expected = [
        "1 2 3 4: 0 sent, aside []",
        "1 2: 2 sent, aside []",
        "3 4: 0 sent, aside []",
        "3: 0 sent, aside [3]",
        "4: 1 sent, aside []",
        "5: 1 sent, aside []",
    ];
    assert_eq!(log, expected);
    assert_eq!((bench.queue.position(), bench.queue.waiting()), (5, 0));
}

#[test]
fn what_is_refused_for_now_holds_up_its_scenario_alone() {
    let mut bench = Bench::new(LIMITS, 0, 0);
    bench.push("new", [1]).push("old", [2]);
    assert_eq!(bench.next(), "1 2");
    assert_eq!(bench.refuse(0, true).sent, 1);
    assert_eq!(bench.next(), "wait 2");
    bench.at(1).push("new", [3, 4]).push("old", [5]);
    assert_eq!(bench.next(), "5");
    assert_eq!(bench.answer(Sent::Taken).sent, 1);
    // The position stays before the first undelivered event.
    assert_eq!((bench.queue.position(), bench.queue.waiting(), bench.next().as_str()), (0, 3, "wait 1"));
    assert_eq!(bench.at(2).next(), "1");
    bench.refuse(0, true);
    assert_eq!(bench.next(), "wait 4");
    assert_eq!(bench.at(6).next(), "1");
    bench.answer(Sent::Taken);
    // The waiting events follow at once, in order.
    assert_eq!((bench.next().as_str(), bench.queue.position()), ("3 4", 2));
    bench.answer(Sent::Taken);
    assert_eq!((bench.next().as_str(), bench.queue.position(), bench.queue.waiting()), ("nothing", 5, 0));
}

#[test]
fn two_of_a_scenario_in_one_batch_keep_their_order() {
    let mut bench = Bench::new(LIMITS, 0, 0);
    bench.push("new", [1, 2, 3]).next();
    let refusals = [1, 0].map(|index| Refusal { index, reason: "no".into(), for_now: true });
    bench.answer(Sent::Partial(refusals.into()));
    // The third event was accepted, so the scenario exists now.
    assert_eq!(bench.queue.position(), 0);
    assert_eq!(bench.next(), "1 2");
}

#[test]
fn what_is_refused_for_too_long_is_set_aside() {
    let mut bench = Bench::new(LIMITS, 0, 0);
    bench.push("gone", [1]).next();
    bench.refuse(0, true);
    let mut log = Vec::new();
    for second in 1..2000 {
        bench.at(second);
        let mut aside = bench.queue.expired(bench.now);
        if !bench.next().starts_with(['w', 'n']) {
            aside.extend(bench.refuse(0, true).set_aside);
        }
        if second == 300 {
            bench.push("gone", [2]);
        }
        log.extend(aside.iter().map(|row| format!("{second}: {} {}", row.event.seq(), row.reason)));
    }
    assert_eq!(log, ["600: 1 no", "901: 2 no"]);
    assert_eq!((bench.queue.position(), bench.queue.waiting(), bench.next().as_str()), (2, 0, "nothing"));
    // A permanently rejected row is set aside at once, and delays nothing.
    bench.queue.forgive();
    bench.push("gone", [3, 4]).next();
    let done = bench.refuse(0, false);
    assert_eq!((done.sent, Bench::aside(&done).as_str(), bench.queue.position()), (1, "3", 4));
}

#[test]
fn what_does_not_fit_in_memory_is_read_from_the_store_in_order() {
    let mut bench = Bench::new(LIMITS, 0, 0);
    bench.push("shop", [1]).next();
    bench.push("shop", 2..=25);
    assert_eq!((bench.queue.waiting(), bench.queue.recent.len(), bench.queue.position()), (25, 10, 0));
    bench.answer(Sent::Taken);
    assert_eq!(bench.next(), "read 2-15");
    // The store returns a part, of which one outcome was lost.
    bench.read([2, 3, 4, 5, 7], 7);
    assert_eq!(bench.queue.take_dropped(), 1);
    let mut log = Vec::new();
    for _ in 0..10 {
        let next = bench.next();
        if let Some(range) = next.strip_prefix("read ") {
            let (from, to) = range.split_once('-').unwrap();
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            bench.read(from..=to, to);
        } else if next != "nothing" {
            bench.answer(Sent::Taken);
        }
        log.push(next);
        if log.len() == 2 {
            // While the backlog is being sent, memory overflows again.
            bench.push("shop", 26..=27);
        }
    }
    let expected =
        ["2 3 4 5", "7", "read 8-17", "8 9 10 11", "12 13 14 15", "16 17 18 19", "20 21 22 23", "24 25 26 27"];
    assert_eq!(log[..8], expected);
    assert_eq!((bench.queue.position(), bench.queue.waiting(), bench.queue.take_dropped()), (27, 0, 0));
}

#[test]
fn an_earlier_agents_outcomes_come_first() {
    let mut bench = Bench::new(LIMITS, 3, 6);
    bench.push("shop", [7]);
    assert_eq!((bench.next().as_str(), bench.queue.waiting(), bench.queue.position()), ("read 4-6", 4, 3));
    bench.read([4, 5, 6], 6);
    assert_eq!(bench.next(), "4 5 6 7");
    // The store no longer contains them: they are given up and counted.
    let mut bench = Bench::new(LIMITS, 3, 6);
    bench.next();
    bench.read([], 6);
    assert_eq!((bench.next().as_str(), bench.queue.position(), bench.queue.take_dropped()), ("nothing", 6, 3));
}

#[test]
fn memory_serves_alone_while_the_store_is_away() {
    let mut bench = Bench::new(LIMITS, 3, 6);
    bench.push("shop", [7, 8]);
    bench.next();
    bench.queue.unreadable(bench.now);
    assert_eq!(bench.next(), "7 8");
    bench.answer(Sent::Taken);
    // The position does not pass the events that are still in the store.
    assert_eq!((bench.queue.position(), bench.next().as_str()), (3, "wait 1"));
    assert_eq!(bench.at(1).next(), "read 4-6");
    // The store does not contain the range yet, which is treated like an unavailable store.
    bench.read([], 3);
    assert_eq!((bench.queue.take_dropped(), bench.next().as_str()), (0, "wait 1"));
    assert_eq!(bench.at(2).next(), "read 4-6");
    bench.read([4, 5, 6], 6);
    assert_eq!(bench.next(), "4 5 6");
    bench.answer(Sent::Taken);
    assert_eq!(bench.queue.position(), 8);
}

#[test]
fn batches_are_cut_by_rows_bytes_and_age() {
    let limits = Limits { age: Duration::from_secs(5), ..LIMITS };
    let mut bench = Bench::new(limits, 0, 0);
    bench.push("shop", [1]);
    assert_eq!(bench.next(), "wait 5");
    bench.at(3).push("shop", [2]);
    assert_eq!(bench.next(), "wait 2");
    assert_eq!(bench.at(5).next(), "1 2");
    bench.answer(Sent::Taken);
    // A full batch is sent without delay.
    bench.push("shop", [3, 4, 5, 6, 7]);
    assert_eq!(bench.next(), "3 4 5 6");
    bench.answer(Sent::Taken);
    assert_eq!(bench.next(), "wait 5");
    bench.queue.hurry();
    assert_eq!(bench.next(), "7");
    let cut = |size: Size| {
        let mut bench = Bench::new(LIMITS, 0, 0);
        bench.push("shop", [1, 2, 3]);
        let Next::Send(batch) = bench.queue.next(bench.now, |_| size) else { panic!("nothing is sent") };
        numbers(&batch)
    };
    assert_eq!(cut(Size { rows: 1, bytes: 400_000 }), "1 2");
    assert_eq!(cut(Size { rows: 2, bytes: 1 }), "1 2");
    // An event larger than a batch is sent separately.
    assert_eq!(cut(Size { rows: 9, bytes: 9_000_000 }), "1");
}

#[test]
fn queue_is_complete_until_the_oldest_event_that_waits() {
    let now: DateTime<Utc> = "2026-11-22T13:00:00Z".parse().unwrap();
    let oldest: DateTime<Utc> = "2026-11-22T12:00:01Z".parse().unwrap();
    let mut bench = Bench::new(LIMITS, 0, 0);
    assert_eq!(bench.queue.complete_until(now), Some(now));
    bench.push("shop", [1]);
    assert_eq!(bench.queue.complete_until(now), Some(oldest));
    // A batch in progress counts as waiting.
    assert_eq!(bench.next(), "1");
    assert_eq!(bench.queue.complete_until(now), Some(oldest));
    bench.answer(Sent::Taken);
    assert_eq!(bench.queue.complete_until(now), Some(now));
    // The events in the store may have any time.
    assert_eq!(Bench::new(LIMITS, 0, 2).queue.complete_until(now), None);
}
