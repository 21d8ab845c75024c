//! Loss of network connectivity, from the runs to the notifications: one about the agent, none about targets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;
use tokio::net::TcpListener;

use super::fixtures::{Nothing, at};
use super::pipeline::Pipeline;
use crate::notify::{Alerting, Receiver};
use crate::run::{Canary, ConnectivityMonitor, NetworkConfig, RunRequest, RunServices, Tokens, run};
use crate::scenario::{Scenario, load};
use crate::store::evidence::EvidenceFolder;
use crate::wire::tls;

/// Agent with ten unreachable targets that run every minute, and its connectivity check.
struct Agent {
    pipeline: Pipeline,
    scenarios: Vec<Arc<Scenario>>,
    tools: RunServices,
    works: Arc<AtomicBool>,
    sent: Vec<String>,
    verdicts: BTreeMap<String, u32>,
}

impl Agent {
    async fn new() -> Self {
        // A port without a listener.
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        let checks: String = (0..10).map(|n| format!("  shop-{n}: {{tcp: \"{closed}\"}}\n")).collect();
        let loaded = load("checks.yaml", &format!("checks:\n{checks}"), &Nothing);
        assert_eq!(loaded.diagnostics, []);
        let works = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&works);
        let line = ConnectivityMonitor::with_check(Arc::new(move |_| {
            let on = on.load(Ordering::SeqCst);
            async move { if on { true } else { std::future::pending().await } }.boxed()
        }));
        let canary = |port| Canary { host: "10.0.0.1".into(), port };
        line.load(&NetworkConfig { canaries: vec![canary(53), canary(22)] });
        let mut pipeline = Pipeline::new("here");
        let all = loaded.scenarios.iter().map(|scenario| (scenario.id.value.clone(), Arc::clone(scenario)));
        pipeline.set_scenarios(Arc::new(all.collect()), &super::idle::Idle::default(), at(0));
        let receiver = Receiver { name: "a".into(), ..Receiver::default() };
        pipeline.set_alerting(Arc::new(Alerting { receivers: vec![receiver], ..Alerting::default() }));
        let tools = RunServices {
            dialer: crate::wire::Dialer::default(),
            limits: crate::wire::limits::Limits::default(),
            tls: tls::Trusted::system(),
            browsers: None,
            lookup: Arc::new(Nothing),
            evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence")),
            beats: None,
            baseline: None,
            footprints: None,
            clock: None,
            tokens: Tokens::default(),
            line,
            location: "here".into(),
        };
        Self { pipeline, scenarios: loaded.scenarios, tools, works, sent: Vec::new(), verdicts: BTreeMap::new() }
    }

    fn collect(&mut self, now: DateTime<Utc>) {
        for notification in self.pipeline.effects().notifications {
            let (event, message) = (notification.event.as_str(), notification.incident.message.unwrap_or_default());
            self.sent.push(format!("{} {event} {}: {message}", (now - at(0)).num_minutes(), notification.key));
        }
    }

    fn until(&mut self, now: DateTime<Utc>) {
        while let Some(next) = self.pipeline.next().filter(|next| *next <= now) {
            self.pipeline.tick(next);
            self.collect(next);
        }
    }

    /// Runs all scenarios at the given minutes of the tests' time.
    async fn runs(&mut self, minutes: std::ops::Range<i64>) {
        for minute in minutes {
            let now = at(minute * 60);
            self.until(now);
            let runs = self.scenarios.iter().map(|scenario| run(scenario, &self.tools, RunRequest::default()));
            for mut outcome in futures_util::future::join_all(runs).await {
                (outcome.started_at, outcome.ended_at) = (now - TimeDelta::seconds(1), now);
                let reason = outcome.reason.map_or("", crate::names::Reason::as_str);
                *self.verdicts.entry(format!("{} {reason}", outcome.verdict)).or_default() += 1;
                self.pipeline.process_outcome(&outcome, now);
            }
            self.pipeline.tick(now);
            self.collect(now);
        }
    }
}

#[tokio::test]
async fn a_line_that_is_cut_is_told_once_and_no_target() {
    let mut agent = Agent::new().await;
    agent.works.store(false, Ordering::SeqCst);
    agent.runs(0..3).await;
    assert_eq!(agent.verdicts, BTreeMap::from([("unknown network".into(), 30)]));
    agent.until(at(3600));
    assert_eq!(agent.sent.len(), 2, "{:?}", agent.sent);
    let [opened, resolved] = [0, 1].map(|n| agent.sent[n].as_str());
    assert!(opened.starts_with("0 opened agent/here:1: "), "{opened}");
    assert!(opened.contains("network connectivity lost: none of 2 canaries is reachable"), "{opened}");
    assert!(resolved.starts_with("7 resolved agent/here:1: "), "{resolved}");
}

#[tokio::test]
async fn one_canary_that_answers_leaves_the_targets_to_blame() {
    let mut agent = Agent::new().await;
    agent.runs(0..2).await;
    assert_eq!(agent.verdicts, BTreeMap::from([("failed connect".into(), 20)]));
    agent.until(at(3600));
    assert_eq!(agent.sent.len(), 1, "{:?}", agent.sent);
    assert!(agent.sent[0].starts_with("1 opened shop-0:1: "), "{:?}", agent.sent);
}
