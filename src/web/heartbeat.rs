//! Receiver of check-ins: `/beat/NAME`, `/beat/NAME/start`, `/beat/NAME/fail`, `/beat/NAME/EXITCODE`.
//!
//! GET, HEAD and POST are equivalent, so that any program that can send a request can check in. The body is not read.

use std::sync::Arc;

use axum::extract::{Path, State as With};
use axum::http::StatusCode;
use chrono::Utc;

use super::State;
use crate::scenario::{Scenario, ScenarioId};
use crate::store::{CheckIn, FAILED};

/// Records a check-in for work that has succeeded.
pub(super) async fn success(With(state): With<Arc<State>>, Path(name): Path<String>) -> (StatusCode, String) {
    take(&state, &name, CheckIn::CheckInEnd(0)).await
}

/// Records a check-in for work that has begun, has failed, or has ended with an exit code.
pub(super) async fn check_in(
    With(state): With<Arc<State>>,
    Path((name, what)): Path<(String, String)>,
) -> (StatusCode, String) {
    let beat = match what.as_str() {
        "start" => CheckIn::Started,
        "fail" => CheckIn::CheckInEnd(FAILED),
        code => match code.parse() {
            Ok(code) => CheckIn::CheckInEnd(code),
            Err(_) => {
                let text = "write /beat/NAME, /beat/NAME/start, /beat/NAME/fail or /beat/NAME/EXITCODE (0 to 255)\n";
                return (StatusCode::NOT_FOUND, text.into());
            }
        },
    };
    take(&state, &name, beat).await
}

async fn take(state: &State, name: &str, beat: CheckIn) -> (StatusCode, String) {
    let expecting: Vec<ScenarioId> = {
        let overview = state.overview.borrow();
        let expects = |one: &&Arc<Scenario>| one.heartbeat().is_some_and(|heartbeat| heartbeat.name.value == name);
        overview.scenarios.values().filter(expects).map(|one| one.id.value.clone()).collect()
    };
    if expecting.is_empty() {
        return (StatusCode::NOT_FOUND, "no heartbeat check with this name\n".into());
    }
    match state.store.check_in(name, beat, Utc::now()).await {
        Ok(()) => {
            // A reported failure is evaluated at once instead of after the grace.
            if matches!(beat, CheckIn::CheckInEnd(1..)) {
                for id in &expecting {
                    (state.run_now)(id);
                }
            }
            (StatusCode::OK, "ok\n".into())
        }
        Err(error) => {
            tracing::error!(name, %error, "cannot store a check-in");
            (StatusCode::SERVICE_UNAVAILABLE, "cannot store the check-in; try again\n".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{mpsc, watch};

    use crate::scenario::{Lookup, LookupError, load};
    use crate::sink::prometheus::Prometheus;
    use crate::store::evidence::EvidenceFolder;
    use crate::store::{CheckIns as _, FAILED, Sqlite};
    use crate::web::{Overview, State, router};

    struct Nothing;

    impl Lookup for Nothing {
        fn env(&self, name: &str) -> Result<String, LookupError> {
            Err(LookupError::Missing(name.into()))
        }
        fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
            Err(LookupError::Missing(path.display().to_string()))
        }
    }

    #[tokio::test]
    async fn calls_of_known_names_are_heard() {
        let loaded =
            load("a.yaml", "checks:\n  nightly: {heartbeat: job, every: 1h}\n  other: {tcp: \"a:1\"}\n", &Nothing);
        let scenarios = loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)).collect();
        let overview = Overview { scenarios: Arc::new(scenarios), ..Overview::default() };
        let store = Arc::new(Sqlite::open("sqlite::memory:").await.unwrap());
        let (_sender, overview) = watch::channel(Arc::new(overview));
        let state = State {
            store: Arc::clone(&store) as _,
            evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence")),
            prometheus: Arc::new(Prometheus::new(prometheus::Registry::new(), "here")),
            overview,
            probes: Arc::new(crate::web::Probes::new(
                crate::blackbox::Prober::new(
                    crate::wire::tls::Trusted::system(),
                    crate::wire::Dialer::default(),
                    crate::wire::limits::Limits::default(),
                ),
                prometheus::Registry::new(),
            )),
            reload: mpsc::channel(1).0,
            alerts: mpsc::channel(1).0,
            works: watch::Sender::default().subscribe(),
            sinks: Arc::new(Vec::new),
            run_now: Arc::new(|_| {}),
            stopping: tokio_util::sync::CancellationToken::new(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _server = tokio::spawn(async move { axum::serve(listener, router(state)).await });
        let received = async |request: &str| {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = format!("{request} HTTP/1.0\r\nHost: wachta\r\nContent-Length: 2\r\n\r\nok");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let known = store.check_in_state("job").await.unwrap();
            let code = known.as_ref().and_then(|known| known.ended.as_ref()).map(|ended| ended.code);
            (answer[9..12].to_owned(), known.is_some_and(|known| known.started_at.is_some()), code)
        };
        for (request, status, started, code) in [
            ("GET /beat/other", "404", false, None),
            ("GET /beat/nightly", "404", false, None),
            ("GET /beat/job/start", "200", true, None),
            ("GET /beat/job", "200", true, Some(0)),
            ("POST /beat/job/3", "200", true, Some(3)),
            ("HEAD /beat/job", "200", true, Some(0)),
            ("GET /beat/job/fail", "200", true, Some(FAILED)),
            ("POST /beat/job/0", "200", true, Some(0)),
            ("GET /beat/job/256", "404", true, Some(0)),
            ("GET /beat/job/-1", "404", true, Some(0)),
            ("GET /beat/job/stop", "404", true, Some(0)),
            ("DELETE /beat/job", "405", true, Some(0)),
            ("GET /beat/", "404", true, Some(0)),
        ] {
            assert_eq!(received(request).await, (status.to_owned(), started, code), "{request}");
        }
        assert_eq!(store.check_in_state("other").await.unwrap(), None);
    }
}
