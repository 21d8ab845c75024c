//! Opening of the database that a buffer writes to.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::store::{Database, Result};

/// Delay between two attempts to open or write.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Opens the database, at the start and whenever it has to be reopened.
#[async_trait]
pub trait Opener: Send + Sync {
    /// Opens the database, and creates it if it does not exist.
    async fn open(&self) -> Result<Arc<dyn Database>>;

    /// Opens a database that cannot be written (full disk, read-only file system, lock) for reading, so that an agent
    /// can start with its contents. Returns an error if it cannot be read either, or was not written by an agent.
    async fn open_to_read(&self) -> Result<Arc<dyn Database>>;

    /// Moves a damaged database aside, so that the next [`Opener::open`] creates a new one. Returns its new path.
    async fn set_aside(&self) -> Result<String>;

    /// Copies everything readable from a damaged database that was set aside to its replacement. Returns the names of
    /// the tables that could not be read completely.
    async fn salvage(&self, from: &str) -> Result<Vec<String>>;
}
