//! The sinks of an agent: sequence numbers, reloads by difference, positions across restarts.

use super::*;
use crate::outcome::Verdict;
use crate::sink::fixtures::{self, Shelf, outcome};
use crate::sink::zabbix;

async fn open(shelf: &Arc<Shelf>, metrics: &Metrics) -> Sinks {
    let parts = Parts {
        store: Arc::clone(shelf) as _,
        is_durable: true,
        context: fixtures::context(),
        metrics: metrics.clone(),
        tasks: Tasks::unregistered(CancellationToken::new()),
        timing: Timing { flush: Duration::ZERO, ..Timing::default() },
    };
    Sinks::open(parts).await.unwrap()
}

/// Returns a sink whose destination is a closed port.
fn nowhere(host: &str) -> Destination {
    Destination::from(zabbix::Config {
        servers: vec!["127.0.0.1:1".into()],
        host: host.into(),
        ..zabbix::Config::default()
    })
}

fn run(sinks: &Sinks, shelf: &Shelf) -> u64 {
    sinks.outcome(outcome("shop"), None, |outcome| shelf.put(outcome)).seq
}

fn waiting(sinks: &Sinks) -> Vec<(String, u64)> {
    sinks.status().iter().map(|status| (status.name.to_string(), status.waiting)).collect()
}

#[tokio::test]
async fn numbers_and_positions_outlive_the_agent() {
    let (shelf, metrics) = (Arc::<Shelf>::default(), Metrics::new(&prometheus::Registry::new()).unwrap());
    let none = Scenarios::default();
    let sinks = open(&shelf, &metrics).await;
    sinks.load(&[], &none, &[]).await;
    assert_eq!((run(&sinks, &shelf), run(&sinks, &shelf)), (1, 2));
    // A new sink begins with the next event.
    sinks.load(&[nowhere("a")], &none, &[]).await;
    assert_eq!(shelf.positions().await.unwrap(), [("zabbix".to_owned(), 2)].into());
    assert_eq!((run(&sinks, &shelf), waiting(&sinks)), (3, vec![("zabbix".into(), 1)]));
    sinks.stop().await;
    // The next agent continues the numbers and the positions.
    let sinks = open(&shelf, &metrics).await;
    sinks.load(&[nowhere("a")], &none, &[]).await;
    assert_eq!((run(&sinks, &shelf), waiting(&sinks)), (4, vec![("zabbix".into(), 2)]));
    sinks.stop().await;
    assert_eq!(shelf.positions().await.unwrap(), [("zabbix".to_owned(), 2)].into());
}

#[tokio::test]
async fn streaks_outlive_the_agent() {
    let (shelf, metrics) = (Arc::<Shelf>::default(), Metrics::new(&prometheus::Registry::new()).unwrap());
    let record = |sinks: &Sinks, verdict| {
        let outcome = Outcome { verdict, ..outcome("shop") };
        let outcome = sinks.outcome(outcome, None, |outcome| shelf.put(outcome));
        outcome.streak.map(|streak| (streak.is_up, streak.runs, streak.first_run == outcome.run))
    };
    let sinks = open(&shelf, &metrics).await;
    sinks.seed(&[]);
    assert_eq!(record(&sinks, Verdict::Unknown), None);
    assert_eq!(record(&sinks, Verdict::Failed), Some((false, 1, true)));
    assert_eq!(record(&sinks, Verdict::Failed), Some((false, 2, false)));
    assert_eq!(record(&sinks, Verdict::Unknown), Some((false, 2, false)));
    // The next agent receives the last outcome of the scenario from the store, as JSON.
    let last = shelf.outcomes.lock().unwrap().last_key_value().map(|(_, outcome)| (**outcome).clone()).unwrap();
    let last: Outcome = serde_json::from_value(serde_json::to_value(&last).unwrap()).unwrap();
    let sinks = open(&shelf, &metrics).await;
    sinks.seed(std::slice::from_ref(&last));
    assert_eq!(record(&sinks, Verdict::Failed), Some((false, 3, false)));
    // A pause does not end a streak; removing the scenario does.
    for (why, expected) in [(Ending::Paused, (false, 4, false)), (Ending::Removed, (false, 1, true))] {
        let absence = Absence { scenario: last.scenario.clone(), why, at: last.ended_at };
        sinks.load(&[], &Scenarios::default(), &[absence]).await;
        assert_eq!(record(&sinks, Verdict::Failed), Some(expected), "{why:?}");
    }
}

#[tokio::test]
async fn a_reload_changes_what_is_different() {
    let (shelf, metrics) = (Arc::<Shelf>::default(), Metrics::new(&prometheus::Registry::new()).unwrap());
    let none = Scenarios::default();
    let sinks = open(&shelf, &metrics).await;
    sinks.load(&[nowhere("a")], &none, &[]).await;
    run(&sinks, &shelf);
    let task = |sinks: &Sinks| sinks.inner().running[0].task.as_ref().map(tokio::task::JoinHandle::id);
    let first = task(&sinks);
    sinks.load(&[nowhere("a")], &none, &[]).await;
    assert_eq!(task(&sinks), first, "the same goes on");
    sinks.load(&[nowhere("b")], &none, &[]).await;
    assert_ne!(task(&sinks), first);
    // Waiting events are sent with the new configuration.
    assert_eq!(waiting(&sinks), [("zabbix".into(), 1)]);
    assert_eq!(sinks.status()[0].destination, "host b at 127.0.0.1:1");
    // The position of a removed sink is deleted: a sink that returns starts again.
    sinks.load(&[], &none, &[]).await;
    assert_eq!((waiting(&sinks), shelf.positions().await.unwrap().len()), (vec![], 0));
    run(&sinks, &shelf);
    sinks.load(&[nowhere("a")], &none, &[]).await;
    assert_eq!(waiting(&sinks), [("zabbix".into(), 0)]);
    sinks.stop().await;
}

#[tokio::test]
async fn what_ends_with_the_agent_is_given_up() {
    let (shelf, metrics) = (Arc::<Shelf>::default(), Metrics::new(&prometheus::Registry::new()).unwrap());
    let mut sinks = open(&shelf, &metrics).await;
    sinks.parts.is_durable = false;
    sinks.load(&[nowhere("a")], &Scenarios::default(), &[]).await;
    run(&sinks, &shelf);
    sinks.stop().await;
    assert_eq!(metrics.of("zabbix").dropped.get(), 1);
}
