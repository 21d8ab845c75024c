//! Lock that permits one agent per state folder, because two agents with the same store would send every notification
//! twice.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use super::start_error::StartError;

/// Lock of the folder, held until it is dropped or its process ends in any way.
pub(super) struct FolderLock(#[expect(dead_code, reason = "the lock goes with the open file")] File);

impl FolderLock {
    /// Locks the folder, which is created if it does not exist.
    pub(super) fn take(folder: &Path) -> Result<Self, StartError> {
        Self::try_take(folder)?.ok_or_else(|| {
            let shown = folder.display();
            StartError::Other(format!("another agent is using {shown}; stop it, or set another `store` for this one"))
        })
    }

    /// Locks the folder. Returns `None` if another process holds the lock.
    pub(super) fn try_take(folder: &Path) -> Result<Option<Self>, StartError> {
        let shown = folder.display();
        let failed = |error: std::io::Error| StartError::Other(format!("{shown} cannot be locked: {error}"));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let place = folder.join("lock");
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(&place);
        let file = match file {
            // An existing file is sufficient for a lock, even if nothing can be written.
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
