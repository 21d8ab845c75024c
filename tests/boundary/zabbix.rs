//! The Zabbix sink and its template against a Zabbix 6.0 server that the test starts and ends.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wachta::bounded::credential::Credential;
use wachta::names::Reason;
use wachta::outcome::{Outcome, RunId, StepResult, StepStatus, Verdict};
use wachta::scenario::{Lookup, LookupError, Scenario, ScenarioKind, load};
use wachta::sink::prometheus::Prometheus;
use wachta::sink::zabbix::{Certificate, Config, Psk, Security};
use wachta::sink::{Context, Destination, Metrics, Parts, Scenarios, Sinks, Timing};
use wachta::store::Sqlite;
use wachta::store::evidence::EvidenceFolder;
use wachta::tasks::Tasks;

use crate::support::zabbix::{Api, Server, Version};

const QUOTED: &str = r#"click button "Sign in""#;
const TEMPLATED: &str = "fill \"Card, number\" with ${secret.card} \\";

pub fn outcome(scenario: &str, ended_at: DateTime<Utc>, verdict: Verdict) -> Outcome {
    let step = |name: &str, status| StepResult {
        name: name.into(),
        depth: 0,
        finally: false,
        optional: false,
        span_id: "0123456789abcdef".into(),
        offset: Duration::ZERO,
        duration: Duration::from_millis(250),
        status,
        place: "shop.yaml:3:5".into(),
        failure: None,
        http: None,
        certificate_expires_at: None,
        earlier_requests: Vec::new(),
        notes: Vec::new(),
        snippet: None,
        retried: false,
        page: None,
    };
    let end = match verdict {
        Verdict::Failed => StepStatus::Failed,
        Verdict::Unknown => StepStatus::Unknown,
        Verdict::Passed | Verdict::Degraded => StepStatus::Passed,
    };
    Outcome {
        run: RunId::new(),
        seq: 0,
        streak: None,
        scenario: scenario.into(),
        name: scenario.into(),
        kind: ScenarioKind::Browser,
        location: "waw-1".into(),
        due_at: ended_at,
        started_at: ended_at,
        ended_at,
        duration: Duration::from_millis(1500),
        verdict,
        reason: match verdict {
            Verdict::Failed => Some(Reason::NotFound),
            Verdict::Unknown => Some(Reason::Browser),
            Verdict::Passed | Verdict::Degraded => None,
        },
        message: None,
        failed_step: (end == StepStatus::Failed).then_some(1),
        steps: vec![step(QUOTED, StepStatus::Passed), step(TEMPLATED, end)],
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
    }
}

/// A machine that has the card's number, and no files.
struct Card;

impl Lookup for Card {
    fn env(&self, _: &str) -> Result<String, LookupError> {
        Ok("4111 1111 1111 1111".into())
    }

    fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// Scenarios of these ids and severities, with the steps that the outcomes have.
pub fn scenarios(severities: &[(&str, &str)]) -> Scenarios {
    let one = |(id, severity): &(&str, &str)| -> Arc<Scenario> {
        let text = format!(
            "scenario: The {id} \"failed\" scenario\nid: {id}\nevery: 1m\ntags: {{service: shop}}\n\
             alert: {{severity: {severity}}}\nsecrets: {{card: {{env: CARD}}}}\n\
             steps:\n  - {{GET: \"http://127.0.0.1/\", name: {}}}\n  - {{GET: \"http://127.0.0.1/\", name: {}}}\n",
            json!(QUOTED),
            json!(TEMPLATED),
        );
        let loaded = load("wachta.yaml", &text, &Card);
        let [scenario] = loaded.scenarios.as_slice() else { panic!("{:?}", loaded.diagnostics) };
        Arc::clone(scenario)
    };
    Arc::new(severities.iter().map(|severity| (severity.0.into(), one(severity))).collect())
}

/// Sinks that try again soon.
async fn sinks(registry: &prometheus::Registry) -> Sinks {
    let sinks = Sinks::open(Parts {
        store: Arc::new(Sqlite::open("sqlite::memory:").await.unwrap()),
        is_durable: false,
        context: Context {
            location: "waw-1".into(),
            agent_state: Arc::new(|| json!({"version": "test"})),
            http_client: Arc::new(|_| Err("no HTTP client is needed".into())),
            evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence")),
            prometheus: Arc::new(Prometheus::new(prometheus::Registry::new(), "waw-1")),
        },
        metrics: Metrics::new(registry).unwrap(),
        tasks: Tasks::unregistered(CancellationToken::new()),
        timing: Timing {
            retry_first: Duration::from_millis(200),
            retry_most: Duration::from_millis(400),
            ..Timing::default()
        },
    });
    sinks.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_arrive_and_problems_open_and_resolve() {
    for version in Version::ALL {
        let server = tokio::task::spawn_blocking(move || Server::start(version)).await.unwrap();
        if let Some(server) = server {
            values_arrive(&server).await;
            tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
        }
    }
}

async fn values_arrive(server: &Server) {
    let api = Api::login(server).await;
    api.provision().await;

    let registry = prometheus::Registry::new();
    let sinks = sinks(&registry).await;
    let destination = Destination::from(Config {
        servers: vec![server.trapper.clone()],
        host: api.host.clone(),
        ..Config::default()
    });
    let severities = [("quiet", "info"), ("shop", "critical"), ("usual", "warning")];
    sinks.load(&[destination], &scenarios(&severities), &[]).await;

    // The first outcomes come before Zabbix knows an item for them: nothing is lost.
    let start = DateTime::from_timestamp(Utc::now().timestamp() - 60, 7).unwrap();
    let at = |second| start + TimeDelta::seconds(second);
    let mut sent = 0;
    let mut push = |scenario: &str, second, verdict| {
        sent += 1;
        sinks.outcome(outcome(scenario, at(second), verdict), None, |_| {})
    };
    let first = push("shop", 0, Verdict::Passed);
    // Of two runs that ended in the same nanosecond both are kept.
    push("shop", 0, Verdict::Passed);
    let runs = api.history(r#"wachta.run["shop"]"#, 4, 2).await;
    let times: Vec<_> = runs.iter().map(|run| (run["clock"].clone(), run["ns"].clone())).collect();
    let clock = json!(start.timestamp().to_string());
    assert_eq!(times, [(clock.clone(), json!("7")), (clock.clone(), json!("8"))]);
    let run: Value = serde_json::from_str(runs[0]["value"].as_str().unwrap()).unwrap();
    assert_eq!(run["run"], first.run.to_string());

    // One failure is no problem yet, and runs that tested nothing neither help nor harm.
    push("shop", 1, Verdict::Failed);
    push("shop", 2, Verdict::Unknown);
    push("shop", 3, Verdict::Unknown);
    push("shop", 4, Verdict::Failed);
    for (id, ..) in [severities[0], severities[2]] {
        push(id, 1, Verdict::Failed);
        push(id, 2, Verdict::Failed);
    }
    let hosts = api.call("host.get", json!({"filter": {"host": api.host}, "output": ["hostid"]})).await;
    let problems = json!({"hostids": hosts[0]["hostid"], "search": {"name": ": failed"}, "sortfield": ["eventid"]});
    let open = api.until("problem.get", problems.clone(), |open| open.as_array().is_some_and(|v| v.len() == 3)).await;
    let mut seen: Vec<_> = open
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| {
            let fields = ["name", "severity", "opdata", "clock", "ns"];
            fields.map(|field| problem[field].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    seen.sort();
    let second = |n: i64| (start.timestamp() + n).to_string();
    let expected = [("quiet", "1", 2), ("shop", "4", 4), ("usual", "2", 2)].map(|(id, severity, end)| {
        let name = format!("The {id} \"failed\" scenario: failed");
        [name, severity.into(), "last conclusive run: failed (2)".into(), second(end), "7".into()]
    });
    assert_eq!(seen, expected);

    // One good run is not enough, two are.
    push("shop", 5, Verdict::Passed);
    push("shop", 6, Verdict::Unknown);
    push("shop", 7, Verdict::Degraded);
    api.until("problem.get", problems, |open| open.as_array().is_some_and(|v| v.len() == 2)).await;
    let resolved = json!({"hostids": hosts[0]["hostid"], "value": 0, "source": 0, "object": 0, "output": "extend"});
    let resolved = api.until("event.get", resolved, |events| events[0]["eventid"].is_string()).await;
    assert_eq!((&resolved[0]["clock"], resolved.as_array().unwrap().len()), (&json!(second(7)), 1));

    // All that depends on a run has its time, and steps have it as well.
    let values = |rows: Vec<Value>| -> Vec<String> {
        rows.iter()
            .map(|row| {
                format!(
                    "{} {}.{}",
                    row["value"].as_str().unwrap(),
                    row["clock"].as_str().unwrap(),
                    row["ns"].as_str().unwrap()
                )
            })
            .collect()
    };
    let timed = |list: &[(&str, i64)]| -> Vec<String> {
        let mut shown: Vec<_> = list.iter().map(|(value, n)| format!("{value} {}.7", second(*n))).collect();
        shown.insert(1, format!("{} {}.8", list[0].0, second(0)));
        shown
    };
    let status = values(api.history(r#"wachta.status["shop"]"#, 3, 9).await);
    assert_eq!(status, timed(&[("0", 0), ("2", 1), ("3", 2), ("3", 3), ("2", 4), ("0", 5), ("3", 6), ("1", 7)]));
    let reason = values(api.history(r#"wachta.reason["shop"]"#, 1, 9).await);
    assert_eq!(reason[..3], timed(&[("", 0), ("not_found", 1)])[..]);
    let duration = values(api.history(r#"wachta.duration["shop"]"#, 0, 9).await);
    assert_eq!(duration[0], format!("1.5 {}.7", second(0)));
    let success =
        values(api.history(r#"wachta.step.success["shop","fill \"Card, number\" with ${secret.card} "]"#, 3, 6).await);
    assert_eq!(success, timed(&[("1", 0), ("0", 1), ("0", 4), ("1", 5), ("1", 7)]));
    let step = values(api.history(r#"wachta.step.duration["shop","click button \"Sign in\""]"#, 0, 9).await);
    assert_eq!(step[0], format!("0.25 {}.7", second(0)));
    let agent = api.history("wachta.agent", 4, 1).await;
    assert_eq!(agent[0]["value"], r#"{"version":"test"}"#);

    // What comes last is sent before the task ends.
    push("shop", 8, Verdict::Passed);
    tokio::time::timeout(Duration::from_secs(10), sinks.stop()).await.expect("the task ends");
    assert_eq!(api.history(r#"wachta.status["shop"]"#, 3, 10).await.len(), 10);
    let counted = |name: &str| {
        let family = registry.gather().into_iter().find(|family| family.name() == name).unwrap();
        let metric = &family.get_metric()[0];
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    };
    assert_eq!(counted("wachta_sink_sent_total").to_bits(), f64::from(sent).to_bits());
    assert_eq!((counted("wachta_sink_dropped_total"), counted("wachta_sink_queue_length")), (0.0, 0.0));
}

/// The last error of the only sink, once there is one since then that contains `part`.
async fn error_with(sinks: &Sinks, since: DateTime<Utc>, part: &str) -> String {
    let mut last = None;
    let seen = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            last.clone_from(&sinks.status()[0].last_error);
            if let Some((_, error)) = last.as_ref().filter(|(at, error)| *at > since && error.contains(part)) {
                return error.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let seen = seen.await;
    seen.unwrap_or_else(|_| panic!("no error with {part:?}: {last:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_protected_as_the_host_asks_for() {
    let server = tokio::task::spawn_blocking(Server::up).await.unwrap();
    let api = Api::login(&server).await;
    api.provision().await;
    let hosts = api.call("host.get", json!({"filter": {"host": api.host}, "output": ["hostid"]})).await;
    let host = hosts[0]["hostid"].clone();

    let key = "0123456789abcdef".repeat(4);
    let certificate = |subject: &str| {
        Security::Certificate(Box::new(Certificate {
            ca: server.tls.join("ca.pem"),
            cert: server.tls.join("agent.pem"),
            key: server.tls.join("agent.key"),
            server_issuer: Some("CN=Signing CA,O=Wachta tests".into()),
            server_subject: Some(subject.into()),
        }))
    };
    let psk = |key: &str| Security::Psk(Psk { identity: "wachta-1".into(), key: Credential::text(key) });
    let certificates = json!({
        "hostid": host, "tls_accept": 4, "tls_issuer": "CN=Signing CA,O=Wachta tests",
        "tls_subject": "CN=agent,O=Wachta tests",
    });
    let keys = json!({"hostid": host, "tls_accept": 2, "tls_psk_identity": "wachta-1", "tls_psk": key});
    // What the host asks for, what fits, what does not, and what is said of that.
    let mut ways = vec![(
        certificates,
        certificate("CN=server,O=Wachta tests"),
        certificate("CN=other"),
        "the subject of the server's certificate is `CN=server,O=Wachta tests`",
    )];
    if cfg!(feature = "zabbix-psk") {
        ways.push((keys, psk(&key), psk(&"00".repeat(32)), "no connection with the pre-shared key"));
    } else {
        eprintln!("pre-shared keys are not tested: they need `--features zabbix-psk`");
    }

    let scenarios = scenarios(&[("shop", "critical")]);
    let start = Utc::now() - TimeDelta::seconds(60);
    let mut sent = 0;
    for (fields, fitting, wrong, problem) in ways {
        api.call("host.update", fields).await;
        let sinks = sinks(&prometheus::Registry::new()).await;
        let destination = |security| {
            let (servers, host) = (vec![server.trapper.clone()], api.host.clone());
            [Destination::from(Config { servers, host, security, ..Config::default() })]
        };
        let mut push = || {
            sent += 1;
            sinks.outcome(outcome("shop", start + TimeDelta::seconds(sent), Verdict::Passed), None, |_| {});
            usize::try_from(sent).unwrap()
        };
        sinks.load(&destination(wrong), &scenarios, &[]).await;
        push();
        let error = error_with(&sinks, start, problem).await;
        assert!(!error.contains("0000") && !error.contains(&key), "{error}");
        sinks.load(&destination(fitting), &scenarios, &[]).await;
        let count = push();
        assert_eq!(api.history(r#"wachta.run["shop"]"#, 4, count).await.len(), count);
        // The items are known now: what is refused is the connection.
        sinks.load(&destination(Security::None), &scenarios, &[]).await;
        let since = Utc::now();
        push();
        let error = error_with(&sinks, since, "are rejected").await;
        assert!(error.contains("encryption"), "{error}");
        sinks.load(&[], &scenarios, &[]).await;
        sent -= 1;
        sinks.stop().await;
    }
}
