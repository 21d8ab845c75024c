//! Evidence: a folder with one subfolder per run. It only accepts masked data. [`EvidenceFolder::prune`] limits the
//! size and age of the folder as a whole.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use crate::outcome::{Evidence, EvidenceKind, RunId};
use crate::secret::Masked;

/// Maximum size of a piece of evidence. Texts are truncated to it, and larger images are not stored.
pub const LARGEST: usize = 8 << 20;

/// Minimum age at which a run may lose its evidence, because it may still be running or being viewed.
const YOUNG: Duration = Duration::from_hours(1);

/// Limits of the stored evidence: `evidence:` of the agent configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum total size, in bytes.
    pub max_size: u64,
    /// Maximum age of a run's evidence, not more than that of the run itself.
    pub keep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_size: 1_000_000_000, keep: Duration::from_hours(30 * 24) }
    }
}

/// Result of [`EvidenceFolder::prune`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Number of runs whose evidence was removed.
    pub runs: usize,
    /// Number of bytes removed.
    pub bytes: u64,
    /// Number of bytes left.
    pub left: u64,
}

/// Folder with evidence.
#[derive(Debug, Clone)]
pub struct EvidenceFolder {
    root: PathBuf,
}

impl EvidenceFolder {
    /// Creates a handle; the folder itself is created with the first piece.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the path of the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Stores a piece that contains no secrets any longer. Texts that are too long are truncated.
    pub async fn keep(
        &self,
        run: RunId,
        kind: EvidenceKind,
        name: &str,
        piece: Masked<Vec<u8>>,
    ) -> std::io::Result<Evidence> {
        // A truncated image or HAR would be unusable.
        let is_whole = matches!(
            kind,
            EvidenceKind::Screenshot | EvidenceKind::Difference | EvidenceKind::Frame | EvidenceKind::Har
        );
        if is_whole && piece.as_bytes().len() > LARGEST {
            return Err(std::io::Error::other(format!("the {} is larger than 8 MiB", kind.as_str())));
        }
        let bytes = piece.truncated(LARGEST).into_inner();
        let folder = self.root.join(run.to_string());
        tokio::fs::create_dir_all(&folder).await?;
        tokio::fs::write(folder.join(name), &bytes).await?;
        Ok(Evidence {
            kind,
            name: name.to_owned(),
            path: format!("{run}/{name}"),
            bytes: bytes.len() as u64,
            sha256: hexadecimal(&Sha256::digest(&bytes)),
            step: None,
        })
    }

    /// Reads a piece. Returns `None` if it does not exist, or if the name leads out of the run's folder.
    pub async fn read(&self, run: RunId, name: &str) -> Option<Vec<u8>> {
        if name.is_empty() || name.contains(['/', '\\', '\0']) || name.starts_with('.') {
            return None;
        }
        tokio::fs::read(self.root.join(run.to_string()).join(name)).await.ok()
    }

    /// Removes evidence that is too old, and beyond the maximum size the oldest first. Protected are the runs of the
    /// last hour and those in `spared`. Evidence that cannot be removed stays and is included in the bytes left.
    pub async fn prune(&self, limits: Limits, spared: HashSet<RunId>, now: SystemTime) -> std::io::Result<Pruned> {
        let root = self.root.clone();
        let done = tokio::task::spawn_blocking(move || prune(&root, limits, &spared, now));
        done.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// Removes the evidence of a run.
    pub async fn forget(&self, run: RunId) {
        // Most runs have no evidence, so that a missing folder is no error.
        let _ = tokio::fs::remove_dir_all(self.root.join(run.to_string())).await;
    }
}

fn prune(root: &Path, limits: Limits, spared: &HashSet<RunId>, now: SystemTime) -> std::io::Result<Pruned> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        // The folder is created with the first piece.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Pruned::default()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        // Entries that are not named like a run do not belong to wachta.
        let Some(run) = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(RunId) else { continue };
        let pieces = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
        let bytes: u64 = pieces.filter_map(|piece| piece.metadata().ok()).map(|about| about.len()).sum();
        let age = now.duration_since(begun(run)).unwrap_or_default();
        found.push((age, run, bytes, entry.path()));
    }
    found.sort_by_key(|(age, ..)| std::cmp::Reverse(*age));
    let mut pruned = Pruned { left: found.iter().map(|(_, _, bytes, _)| bytes).sum(), ..Pruned::default() };
    for (age, run, bytes, path) in found {
        let is_too_much = age > limits.keep || pruned.left > limits.max_size;
        if is_too_much && age >= YOUNG && !spared.contains(&run) && std::fs::remove_dir_all(path).is_ok() {
            pruned.runs += 1;
            pruned.bytes += bytes;
            pruned.left -= bytes;
        }
    }
    Ok(pruned)
}

/// Returns the time at which a run was planned, which is part of its id (RFC 9562, 5.7).
fn begun(run: RunId) -> SystemTime {
    let since = run.0.get_timestamp().map(|stamp| {
        let (seconds, nanoseconds) = stamp.to_unix();
        Duration::new(seconds, nanoseconds.min(999_999_999))
    });
    UNIX_EPOCH + since.unwrap_or_default()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

#[cfg(test)]
mod tests;
