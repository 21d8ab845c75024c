//! What tests of whole agents share: an agent in a process of its own, a receiver of notices, a way to wait.

pub mod agent;
pub mod alertmanager;
pub mod apps;
pub mod bugsink;
pub mod collector;
pub mod front;
pub mod gate;
pub mod grid;
pub mod group;
pub mod leases;
pub mod mail;
pub mod places;
pub mod prometheus;
pub mod receiver;
pub mod search;
pub mod site;
pub mod slow;
pub mod zabbix;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Waits until a condition holds, asking it again and again; panics with `what` when the time is over.
pub async fn until<T>(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up after {limit:?} waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A folder that goes with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wachta-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The example scenarios of the repository, made due more often.
pub fn examples(folder: &Folder, names: &[&str]) {
    for name in names {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name)).unwrap();
        let quick = text
            .replace("every: 15s", "every: 3s")
            .replace("every: 10s", "every: 1s")
            .replace("every: 5s", "every: 1s");
        folder.write(&format!("scenarios/{name}"), &quick);
    }
}
