//! Footprints of good runs, one per flow, in a folder next to the evidence. Failed runs are compared with them. A
//! footprint is replaced when it is 15 minutes old or when the steps have changed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::difference::Footprint;
use crate::scenario::{Scenario, ScenarioId, ScenarioKind};

/// Age at which the footprint of a good run is replaced.
const RENEW_AFTER: Duration = Duration::from_secs(15 * 60);
/// Maximum total size of the pictures of a footprint, in bytes; further ones are omitted.
const MAX_PICTURES: usize = 6 << 20;
/// File name of the footprint in its folder.
const FILE: &str = "footprint.json";

/// File name and content of a picture of a page.
pub(super) type Picture = (String, Vec<u8>);

/// Stored footprints of all scenarios.
#[derive(Debug, Clone)]
pub struct Footprints {
    root: PathBuf,
    /// Time of the last write and fingerprint of the steps, per scenario.
    written: Arc<Mutex<HashMap<ScenarioId, (Instant, u64)>>>,
}

impl Footprints {
    /// Opens a folder of footprints, which is created when the first one is stored.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), written: Arc::default() }
    }

    fn folder(&self, scenario: &ScenarioId) -> PathBuf {
        self.root.join(scenario.as_str())
    }

    /// Returns whether a good run of a scenario should store a footprint. Checks have none, because their outcome
    /// contains the whole response.
    pub(super) fn is_due(&self, scenario: &Scenario) -> bool {
        if !matches!(scenario.kind, ScenarioKind::Browser | ScenarioKind::Api) {
            return false;
        }
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let known = written.get(&scenario.id.value);
        known.is_none_or(|(at, steps)| at.elapsed() >= RENEW_AFTER || *steps != fingerprint(scenario))
    }

    /// Stores the footprint of a good run in place of the previous one.
    pub(super) async fn keep(&self, scenario: &Scenario, footprint: &Footprint, pictures: Vec<Picture>) {
        let folder = self.folder(&scenario.id.value);
        let new = self.root.join(format!(".{}", footprint.run));
        if let Err(error) = write(&new, footprint, pictures).await {
            let _ = tokio::fs::remove_dir_all(&new).await;
            tracing::warn!(scenario = %scenario.id.value, %error, "cannot store the footprint of a good run");
            return;
        }
        let _ = tokio::fs::remove_dir_all(&folder).await;
        match tokio::fs::rename(&new, &folder).await {
            Ok(()) => {
                let entry = (Instant::now(), fingerprint(scenario));
                let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                written.insert(scenario.id.value.clone(), entry);
            }
            Err(error) => {
                let _ = tokio::fs::remove_dir_all(&new).await;
                tracing::warn!(scenario = %scenario.id.value, %error, "cannot store the footprint of a good run");
            }
        }
    }

    /// Returns the stored footprint of the last good run.
    pub(super) async fn last(&self, scenario: &Scenario) -> Option<Footprint> {
        let text = tokio::fs::read(self.folder(&scenario.id.value).join(FILE)).await.ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Reads a picture of the footprint.
    pub(super) async fn picture(&self, scenario: &Scenario, name: &str) -> Option<Vec<u8>> {
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return None;
        }
        tokio::fs::read(self.folder(&scenario.id.value).join(name)).await.ok()
    }

    /// Deletes footprints of scenarios that are not kept, and files left by a crash.
    pub async fn retain(&self, keep: impl Fn(&str) -> bool) {
        let Ok(mut entries) = tokio::fs::read_dir(&self.root).await else { return };
        while let Ok(Some(entry)) = entries.next_entry().await {
            if !entry.file_name().to_str().is_some_and(&keep) {
                let _ = tokio::fs::remove_dir_all(entry.path()).await;
            }
        }
    }
}

async fn write(folder: &Path, footprint: &Footprint, pictures: Vec<Picture>) -> std::io::Result<()> {
    tokio::fs::create_dir_all(folder).await?;
    let mut left = MAX_PICTURES;
    for (name, bytes) in pictures {
        let Some(less) = left.checked_sub(bytes.len()) else { continue };
        left = less;
        tokio::fs::write(folder.join(name), bytes).await?;
    }
    tokio::fs::write(folder.join(FILE), serde_json::to_vec(footprint)?).await
}

/// Returns a hash of the step names of a scenario.
fn fingerprint(scenario: &Scenario) -> u64 {
    let mut hasher = DefaultHasher::new();
    scenario.step_names().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::outcome::RunId;
    use crate::scenario::{Lookup, LookupError, load};

    fn scenario(steps: &str) -> Arc<Scenario> {
        let text = format!("scenario: Shop\nsteps:\n{steps}");
        Arc::clone(&load("shop.yaml", &text, &Nothing).scenarios[0])
    }

    struct Nothing;

    impl Lookup for Nothing {
        fn env(&self, name: &str) -> Result<String, LookupError> {
            Err(LookupError::Missing(name.into()))
        }
        fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
            Err(LookupError::Missing(path.display().to_string()))
        }
    }

    fn footprint() -> Footprint {
        Footprint {
            run: RunId::new(),
            ended_at: Utc::now(),
            steps: Vec::new(),
            requests: Vec::new(),
            console: Vec::new(),
            pages: Vec::new(),
        }
    }

    #[tokio::test]
    async fn one_is_kept_and_renewed_when_the_steps_change() {
        let root = std::env::temp_dir().join(format!("wachta-footprints-{}", RunId::new()));
        let all = Footprints::new(root.join("good"));
        let first = scenario("  - GET: http://127.0.0.1:1/\n");
        assert!(all.is_due(&first) && all.last(&first).await.is_none());
        let (one, two) = (footprint(), footprint());
        all.keep(&first, &one, vec![("000.png".into(), vec![1, 2, 3])]).await;
        assert_eq!((all.last(&first).await, all.is_due(&first)), (Some(one), false));
        assert_eq!(all.picture(&first, "000.png").await, Some(vec![1, 2, 3]));
        assert_eq!(all.picture(&first, "../000.png").await, None);
        let changed = scenario("  - GET: http://127.0.0.1:1/other\n");
        assert!(all.is_due(&changed));
        all.keep(&changed, &two, Vec::new()).await;
        assert_eq!((all.last(&first).await, all.picture(&first, "000.png").await), (Some(two), None));
        // After a start, the age of the footprint is unknown.
        assert!(Footprints::new(root.join("good")).is_due(&changed));
        all.retain(|id| id == "shop").await;
        assert!(all.last(&first).await.is_some());
        all.retain(|_| false).await;
        assert!(all.last(&first).await.is_none());
        std::fs::remove_dir_all(root).unwrap();
    }
}
