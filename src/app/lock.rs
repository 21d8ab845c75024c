//! One agent for one folder of state: two that judge the same store would tell everything twice.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use super::StartError;

/// Holds the folder until it is dropped, or its process is gone in whatever way.
pub(super) struct FolderLock(#[expect(dead_code, reason = "the lock goes with the open file")] File);

impl FolderLock {
    /// Takes the folder, which is made when it is not there.
    pub(super) fn take(folder: &Path) -> Result<Self, StartError> {
        Self::try_take(folder)?.ok_or_else(|| {
            let shown = folder.display();
            StartError::Other(format!("another wachta runs on {shown}; end it, or name another `store` for this one"))
        })
    }

    /// Takes the folder; none: somebody else has it.
    pub(super) fn try_take(folder: &Path) -> Result<Option<Self>, StartError> {
        let shown = folder.display();
        let failed = |error: std::io::Error| StartError::Other(format!("{shown} cannot be locked: {error}"));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let place = folder.join("lock");
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(&place);
        let file = match file {
            // One that was made before is enough for a lock, also where nothing can be written.
            Err(error) if matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull) => {
                File::open(&place).map_err(|_| error)
            }
            other => other,
        };
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
