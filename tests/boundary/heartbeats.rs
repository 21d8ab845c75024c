//! Heartbeats of a whole agent.

use std::time::Duration;

use crate::acknowledging::start;
use crate::support::receiver::Receiver;
use crate::support::{Folder, until};

/// Far below the grace of the heartbeats.
const AT_ONCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_a_job_reports_is_evaluated_before_its_grace_is_over() {
    _ = rustls::crypto::ring::default_provider().install_default();
    let folder = Folder::new("heartbeats");
    folder.write(
        "scenarios/a.yaml",
        "checks:\n  job: {heartbeat: job, every: 1d, grace: 1h}\n  other: {heartbeat: other, every: 1d, grace: 1h}\n",
    );
    let hook = Receiver::listen().await;
    let text = format!(
        "location: here\nscenarios: [scenarios]\nweb: {{listen: \"127.0.0.1:0\"}}\nalerting:\n  receivers: {{hook: {{webhook: {{url: \"http://{}/\"}}}}}}\n",
        hook.address
    );
    let app = start(&folder, &text).await;
    let check_in = async |path: &str| {
        let answer = reqwest::get(format!("http://{}/beat/{path}", app.address())).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    };
    check_in("other").await;
    check_in("job").await;
    check_in("job/fail").await;
    let first = until("the failure is sent", AT_ONCE, async || hook.heard().first().cloned()).await;
    assert_eq!((&first["event"], &first["subject"]), (&"opened".into(), &"job".into()), "{first}");
    app.stop().await;
    assert!(hook.heard().iter().all(|notification| notification["subject"] == "job"), "{:?}", hook.heard());
}
