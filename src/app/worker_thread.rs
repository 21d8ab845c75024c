//! A separate thread for short and frequent work. Other work (loading files, processing images, alerting) does not
//! delay it, and threads do not have to wake each other, which would cost as much as the work itself.

use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Interval of a permanent timer. A timeout that is earlier than the one being waited for wakes the thread by a system
/// call to shorten the wait; with this timer, nearly all timeouts are later.
const STANDING: Duration = Duration::from_secs(1);

/// Worker thread, which ends when this is dropped.
pub(super) struct WorkerThread {
    handle: Handle,
    _until: DropGuard,
}

impl WorkerThread {
    /// Starts a thread with a name. A `niceness` above 0, up to 19, lets the agent's other threads go first if the
    /// processors are overloaded.
    pub(super) fn start(name: &str, niceness: i32) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let until = CancellationToken::new();
        let ended = until.clone();
        let standing = async move {
            let mut ticks = tokio::time::interval(STANDING);
            let _ = ended
                .run_until_cancelled(async {
                    loop {
                        ticks.tick().await;
                    }
                })
                .await;
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // On Linux, the niceness is set per thread. If it is denied, the work is done with normal priority.
            if niceness > 0
                && let Err(error) = rustix::process::nice(niceness)
            {
                tracing::debug!(%error, "cannot lower the priority of a thread");
            }
            runtime.block_on(standing);
        })?;
        Ok(Self { handle, _until: until.drop_guard() })
    }

    /// Returns the handle for spawning tasks on the thread.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}
