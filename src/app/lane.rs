//! A thread of its own for work that is short and often: what runs there is not delayed by what goes on elsewhere (files
//! that are loaded, pictures, alerting), and no two threads wake each other for it, which costs as much as the work.

use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How far apart the ticks of a timer are that is always set. A timeout that is set while a later one is waited for wakes
/// the thread, by a system call, so that it waits shorter; with this one nearly all are later than what is waited for.
const STANDING: Duration = Duration::from_secs(1);

/// The thread; it ends with this.
pub(super) struct Lane {
    handle: Handle,
    _until: DropGuard,
}

impl Lane {
    /// Starts a thread of that name. `niceness` above 0 lets the agent's other threads go first where there is more to do
    /// than the processors can, up to 19.
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
            // On Linux it is the thread's own. Where it is refused, the work is done all the same.
            if niceness > 0
                && let Err(error) = rustix::process::nice(niceness)
            {
                tracing::debug!(%error, "the priority of a thread was not lowered");
            }
            runtime.block_on(standing);
        })?;
        Ok(Self { handle, _until: until.drop_guard() })
    }

    /// Where to spawn.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}
