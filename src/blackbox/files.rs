//! Files named by a module: secrets, certificates and bodies. They are read before each probe, so that changes take
//! effect, and on separate threads, so that a slow file system does not delay other probes.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::bounded::{self, Readers};

/// Maximum size of each file, in bytes.
const LARGEST: u64 = 4 << 20;
/// Maximum time for reading all files.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Contents of the files, by path.
#[derive(Debug, Clone, Default)]
pub(super) struct Files(HashMap<PathBuf, Result<Arc<[u8]>, String>>);

impl Files {
    /// Reads the files of a module within three quarters of the probe's time, so that the probe can still report
    /// errors.
    pub(super) async fn read(paths: &[PathBuf], readers: &Readers, timeout: Duration) -> Self {
        let Some(first) = paths.first() else { return Self::default() };
        let all = paths.to_vec();
        let read = move || all.iter().map(|path| bounded::read(path, LARGEST)).collect::<Vec<_>>();
        let read = readers.file(first, (timeout * 3 / 4).min(READ_TIMEOUT), read).await;
        let read = read.unwrap_or_else(|error| {
            let again = || std::io::Error::new(error.kind(), error.to_string());
            paths.iter().map(|_| Err(again())).collect()
        });
        let said = |path: &Path, error: &std::io::Error| format!("{} cannot be read: {error}", path.display());
        let each = paths.iter().zip(read);
        Self(each.map(|(path, read)| (path.clone(), read.map(Arc::from).map_err(|e| said(path, &e)))).collect())
    }

    /// Returns the content of a file. The error says why it was not read.
    pub(super) fn get(&self, path: &Path) -> Result<Arc<[u8]>, String> {
        let missing = || Err(format!("{} cannot be read: {}", path.display(), ErrorKind::NotFound));
        self.0.get(path).cloned().unwrap_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_file_that_does_not_answer_holds_up_no_other_module() {
        let folder = std::env::temp_dir().join(format!("wachta-module-files-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name);
        std::fs::write(path("fine"), "secret").unwrap();
        std::fs::write(path("hung"), "secret").unwrap();
        let (readers, timeout) = (Readers::default(), Duration::from_secs(60));
        let (release, held) = mpsc::channel::<()>();
        let hung = readers.file(&path("hung"), Duration::from_millis(10), move || held.recv().is_ok()).await;
        hung.unwrap_err();
        let files = Files::read(&[path("hung"), path("fine")], &readers, timeout).await;
        for name in ["hung", "fine"] {
            let problem = files.get(&path(name)).unwrap_err();
            assert_eq!(
                problem,
                format!("{} cannot be read: an earlier read of it has not ended", path(name).display())
            );
        }
        let files = Files::read(&[path("fine"), path("gone")], &readers, timeout).await;
        assert_eq!(&*files.get(&path("fine")).unwrap(), b"secret");
        assert!(files.get(&path("gone")).unwrap_err().contains("No such file"));
        drop(release);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
