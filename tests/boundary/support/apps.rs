//! Applications of other people, whose pages are targets: each on a free port of loopback, with its state in a folder
//! that goes with it. `tests/support/apps.sh` and `packages.sh` install them, `tests/support/apps/run.sh` runs them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::group::{Group, free_port};
use super::{Folder, until};

/// How long an application may take until it answers: some set up a database first, and all start at the same time.
const STARTING: Duration = Duration::from_secs(120);

/// The exit code of `run.sh` when the application is not installed.
const NOT_TO_BE_HAD: i32 = 77;

/// The applications, with the path that answers when they are ready. Their names are those of their scenario files.
pub const ALL: [(&str, &str); 6] = [
    ("datasette", "/harbours/harbours"),
    ("django-admin", "/admin/login/"),
    ("jupyterlab", "/login"),
    ("locust", "/"),
    ("roundcube", "/?_task=login"),
    ("swagger-ui", "/openapi.json"),
];

/// An application that runs.
pub struct App {
    pub name: &'static str,
    pub url: String,
    _group: Group,
    _folder: Folder,
}

impl App {
    /// Starts one of [`ALL`] and waits until it answers; `None`, said loudly, where it is not installed.
    pub async fn up((name, ready): (&'static str, &str)) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/apps/run.sh");
        let output = Command::new(&program).arg(name).output().expect("the script runs");
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(NOT_TO_BE_HAD) {
            eprintln!("NOT TESTED with {name}: {}; run tests/support/packages.sh and apps.sh", said.trim());
            return None;
        }
        assert!(output.status.success(), "{name}: {said}");
        let (folder, port) = (Folder::new(name), free_port());
        // Its state is in a folder of its own, so that its log does not lie among it.
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let mut command = Command::new(&program);
        command.arg(name).arg(&state).args([port, free_port(), free_port()].map(|port| port.to_string()));
        let mut group = Group::start(&mut command, &folder.path().join("log"));
        let url = format!("http://127.0.0.1:{port}");
        _ = rustls::crypto::ring::default_provider().install_default();
        let (http, ready) = (reqwest::Client::new(), format!("{url}{ready}"));
        until(&format!("{name} is ready"), STARTING, async || {
            group.must_live();
            http.get(&ready).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
        Some(Self { name, url, _group: group, _folder: folder })
    }
}

/// The variable of the environment by which the scenarios of an application have its URL.
pub fn variable(name: &str) -> String {
    format!("{}_URL", name.to_uppercase().replace('-', "_"))
}
