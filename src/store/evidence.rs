//! Evidence: a plain folder, one folder per run. Texts are masked before they are written.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::outcome::{Evidence, EvidenceKind, RunId};
use crate::secret::Masker;

/// No piece of evidence is larger; what is beyond is cut from texts, and a picture above it is not kept.
pub const LARGEST: usize = 8 << 20;

/// A folder of evidence.
#[derive(Debug, Clone)]
pub struct EvidenceFolder {
    root: PathBuf,
}

impl EvidenceFolder {
    /// A folder; it is made when the first piece is written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps a piece. Texts are masked; a screenshot is kept as it is.
    pub async fn keep(
        &self,
        run: RunId,
        kind: EvidenceKind,
        name: &str,
        bytes: Vec<u8>,
        masker: &Masker,
    ) -> std::io::Result<Evidence> {
        let mut bytes = if kind == EvidenceKind::Screenshot { bytes } else { masker.mask_bytes(&bytes) };
        if bytes.len() > LARGEST {
            if kind == EvidenceKind::Screenshot {
                return Err(std::io::Error::other("the screenshot is larger than 8 MiB"));
            }
            bytes.truncate(LARGEST);
        }
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

    /// Reads a piece. None when there is no such piece; names that lead out of the run's folder are refused.
    pub async fn read(&self, run: RunId, name: &str) -> Option<Vec<u8>> {
        if name.is_empty() || name.contains(['/', '\\', '\0']) || name.starts_with('.') {
            return None;
        }
        tokio::fs::read(self.root.join(run.to_string()).join(name)).await.ok()
    }

    /// Forgets a run.
    pub async fn forget(&self, run: RunId) {
        // Most runs have no evidence; that its folder is not there is no problem.
        let _ = tokio::fs::remove_dir_all(self.root.join(run.to_string())).await;
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}
