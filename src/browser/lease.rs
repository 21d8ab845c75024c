//! Leases: guarantee that every session ends, with its processes and folder, on every path.
//!
//! A session is owned by a task. It ends the session when its holder requests it, when the holder is dropped (because
//! the run was cancelled or panicked), when the session is used or kept longer than allowed, when it takes too much
//! memory, when its browser dies while idle, or when the agent stops. The owner is awaited at shutdown. If it is
//! dropped with its runtime, it still kills the processes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use url::Url;

use super::driver::Driver;
use super::guard::Guard;
use super::metrics::{Cause, Metrics};
use super::processes;

/// Time for the driver to end a session before its processes are killed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Maximum time to prepare a session for the next run.
const READYING: Duration = Duration::from_secs(30);

/// Interval between memory checks of a busy session.
const MEMORY_LOOKS: Duration = Duration::from_millis(500);

/// Maximum length of the temporary folder's path, in bytes. Chromium creates a socket in it, whose path is limited to
/// 107 bytes.
const LONGEST_TMPDIR: usize = 55;

/// Folder for the sessions of one agent, within the folder that all agents with this state share. Its name is the
/// lease. Its lock is held as long as the agent runs, so that other agents can detect leftovers.
pub(super) struct Folder {
    /// Lease id that marks every process of this agent's sessions.
    pub(super) lease: String,
    path: PathBuf,
    /// Shorter path to the folder, if its own path is too long.
    short: Option<PathBuf>,
    _lock: Flock<fs::File>,
}

impl Folder {
    /// Creates the folder.
    pub(super) fn new(within: &Path) -> std::io::Result<Self> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        // The last digits are the random ones.
        let lease = id[id.len() - 12..].to_owned();
        // The folder gets its final name after it is locked, because a folder with a name but without a lock counts as
        // a leftover.
        let (path, unnamed) = (within.join(&lease), within.join(format!(".{lease}")));
        fs::create_dir_all(&unnamed)?;
        let lock = lock(&unnamed)?;
        fs::rename(&unnamed, &path)?;
        let mut short = None;
        if path.as_os_str().len() + 4 > LONGEST_TMPDIR {
            let link = short_path(&lease);
            symlink(fs::canonicalize(&path)?, &link)?;
            short = Some(link);
        }
        Ok(Self { lease, path, short, _lock: lock })
    }

    /// Creates a folder for one session. Returns its location and the path by which it should be used.
    pub(super) fn session(&self, number: u64) -> std::io::Result<(PathBuf, PathBuf)> {
        let name = number.to_string();
        let folder = self.path.join(&name);
        fs::create_dir_all(&folder)?;
        Ok((folder.clone(), self.short.as_ref().map_or(folder, |short| short.join(name))))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path, &self.lease);
    }
}

fn lock(folder: &Path) -> std::io::Result<Flock<fs::File>> {
    let file = fs::File::create(folder.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

fn short_path(lease: &str) -> PathBuf {
    std::env::temp_dir().join(format!("wachta-{lease}"))
}

fn remove(folder: &Path, lease: &str) {
    let _ = fs::remove_file(short_path(lease));
    if !processes::remove_folder(folder) {
        warn!(folder = %folder.display(), "cannot remove the folder of browser sessions");
    }
}

/// Cleans up the processes and folders that terminated agents have left in this folder. Returns the number of sessions.
pub(super) fn reap(within: &Path) -> usize {
    let mut reaped = 0;
    for entry in fs::read_dir(within).into_iter().flatten().flatten() {
        let Ok(lease) = entry.file_name().into_string() else { continue };
        if lease.starts_with('.') {
            continue;
        }
        // The lock is only available if its agent has terminated.
        let Ok(_lock) = lock(&entry.path()) else { continue };
        reaped += processes::kill_lease(&lease);
        remove(&entry.path(), &lease);
    }
    reaped
}

/// Result of a run for its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The run has finished with the session.
    Done,
    /// The session could not be used to the end.
    Because(Cause),
}

/// Current use of a session.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// Used by a run until this time at the latest.
    Busy(Instant),
    /// Being prepared for the next run after its run has ended.
    Returning(Instant),
    /// Waiting for a run until this time at the latest.
    Idle(Instant),
}

/// State shared by the holder and the owner of a session.
struct Shared {
    /// URL for ending the session, once it exists, and the token that is cancelled when the browser is gone.
    session: OnceLock<(Url, Option<CancellationToken>)>,
    /// Permit among the runs that may have a browser. `None` while the session is idle.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// Memory in bytes at which the session was ended. 0 if it was not ended because of its memory.
    memory: AtomicU64,
    /// Cancelled when everything of the session is gone.
    gone: CancellationToken,
}

/// Hold on a session. Dropping it ends the session.
pub(super) struct Lease {
    end: Option<oneshot::Sender<End>>,
    used: watch::Sender<Use>,
    shared: Arc<Shared>,
    metrics: Metrics,
}

impl Lease {
    /// Sets the URL for ending the session, and the token that is cancelled when its browser is gone.
    pub(super) fn named(&self, session: Url, closed: Option<CancellationToken>) {
        let _ = self.shared.session.set((session, closed));
        // Wakes the owner, so that it reads the new values.
        self.used.send_modify(|_| {});
    }

    /// Marks the session as used by a run until a time limit.
    pub(super) fn busy(&self, permit: OwnedSemaphorePermit, until: Instant) {
        *self.permit() = Some(permit);
        if matches!(self.used.send_replace(Use::Busy(until)), Use::Idle(_)) && !self.is_gone() {
            self.metrics.move_session("idle", "busy");
        }
    }

    /// Marks the session as returning after its run. It must be prepared for the next run within a short time.
    pub(super) fn returning(&self) {
        self.used.send_replace(Use::Returning(Instant::now() + READYING));
    }

    /// Marks the session as idle until a time limit, and returns its permit.
    pub(super) fn idle(&self, until: Instant) -> Option<OwnedSemaphorePermit> {
        if !matches!(self.used.send_replace(Use::Idle(until)), Use::Idle(_)) && !self.is_gone() {
            self.metrics.move_session("busy", "idle");
        }
        self.take_place()
    }

    /// Removes the permit from the session.
    pub(super) fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        self.permit().take()
    }

    fn permit(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.shared.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether everything of the session is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.shared.gone.is_cancelled()
    }

    /// Returns the memory in bytes for which the session was ended, if that was the cause.
    pub(super) fn too_large(&self) -> Option<u64> {
        Some(self.shared.memory.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Ends the session and waits until everything of it is gone.
    pub(super) async fn end(mut self, how: End) {
        if let Some(end) = self.end.take() {
            let _ = end.send(how);
        }
        self.shared.gone.cancelled().await;
    }
}

/// Parts of a session that exist on this machine.
pub(super) struct Local {
    /// Driver process.
    pub(super) driver: Driver,
    /// Folder of the session.
    pub(super) path: PathBuf,
    /// Parent folder, which is removed with the last session.
    pub(super) _folder: Arc<Folder>,
}

/// Data that the owner of a session needs to end it.
pub(super) struct Owner {
    /// Local parts of the session. `None` at an external WebDriver endpoint.
    pub(super) local: Option<Local>,
    /// Session metrics.
    pub(super) metrics: Metrics,
    /// Guard to notify when the processes are gone.
    pub(super) guard: Guard,
    /// HTTP client for commands that must not queue behind those of the run.
    pub(super) http: reqwest::Client,
    /// Maximum memory of the session, in bytes.
    pub(super) max_memory: u64,
}

impl Owner {
    /// Starts the owner of a session that is used by a run.
    pub(super) fn hold(
        self,
        permit: OwnedSemaphorePermit,
        until: Instant,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Lease {
        let (end, asked) = oneshot::channel();
        let (used, watched) = watch::channel(Use::Busy(until));
        let shared = Arc::new(Shared {
            session: OnceLock::new(),
            permit: Mutex::new(Some(permit)),
            memory: AtomicU64::new(0),
            gone: CancellationToken::new(),
        });
        let metrics = self.metrics.clone();
        metrics.sessions.with_label_values(&["busy"]).inc();
        tasks.spawn(self.own(asked, watched, Arc::clone(&shared), stop));
        Lease { end: Some(end), used, shared, metrics }
    }

    async fn own(
        self,
        mut asked: oneshot::Receiver<End>,
        mut used: watch::Receiver<Use>,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) {
        // Cancels the token even if the task is dropped with its runtime.
        let _gone = shared.gone.clone().drop_guard();
        let mut looks = tokio::time::interval(MEMORY_LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut memory = self.local.as_ref().map(|local| processes::Memory::of(local.driver.group));
        let how = loop {
            let now = *used.borrow_and_update();
            let (busy, idle, until) = match now {
                Use::Busy(until) => (true, false, until),
                Use::Returning(until) => (false, false, until),
                Use::Idle(until) => (false, true, until),
            };
            let closed = shared.session.get().and_then(|(_, closed)| closed.clone());
            tokio::select! {
                biased;
                () = stop.cancelled() => break if busy { End::Because(Cause::Shutdown) } else { End::Done },
                how = &mut asked => break how.unwrap_or(End::Because(Cause::Cancelled)),
                () = tokio::time::sleep_until(until) => {
                    break if idle { End::Done } else { End::Because(Cause::Timeout) };
                }
                // A running run detects this itself and reports how it ends.
                () = gone(closed), if idle => break End::Because(Cause::Crashed),
                changed = used.changed() => if changed.is_err() {
                    break asked.await.unwrap_or(End::Because(Cause::Cancelled));
                },
                _ = looks.tick(), if busy && memory.is_some() => {
                    let Some(memory) = &mut memory else { continue };
                    let memory = memory.bytes();
                    if memory > self.max_memory {
                        shared.memory.store(memory, Ordering::Relaxed);
                        warn!(memory, limit = self.max_memory, "browser session ended because of its memory use");
                        break End::Because(Cause::Memory);
                    }
                }
            }
        };
        let metrics = self.metrics.clone();
        self.finish(how, shared.session.get().map(|(url, _)| url)).await;
        if let Some((_, Some(connection))) = shared.session.get() {
            connection.cancel();
        }
        let idle = matches!(*used.borrow(), Use::Idle(_));
        metrics.sessions.with_label_values(&[if idle { "idle" } else { "busy" }]).dec();
        drop(shared.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn finish(self, how: End, session: Option<&Url>) {
        let mut how = how;
        // Uses a separate request, because the run's client may be waiting for a command that never returns, and
        // reports success for ending a session in any case.
        if let Some(session) = session
            && !matches!(how, End::Because(Cause::Crashed | Cause::Memory))
        {
            let answer = self.http.delete(session.clone()).timeout(FAREWELL).send().await;
            // The session may already have ended by itself: "invalid session id" is status 404.
            let ended = answer.is_ok_and(|answer| answer.status().is_success() || answer.status().as_u16() == 404);
            if !ended && how == End::Done {
                how = End::Because(Cause::Timeout);
            }
        } else if let (Some(session), None) = (session, &self.local) {
            // At an external endpoint this is all that can be done.
            let _ = self.http.delete(session.clone()).timeout(FAREWELL).send().await;
        }
        // Counted before its folder goes, so that nobody who sees the session gone finds it uncounted.
        if let End::Because(cause) = how {
            self.metrics.reaped.with_label_values(&[cause.as_str()]).inc();
        }
        if let Some(Local { driver, path, _folder }) = self.local {
            let group = driver.group;
            driver.end().await;
            let mut tries = 0;
            while !processes::remove_folder(&path) && tries < 100 {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.guard.done(group).await;
        }
    }
}

async fn gone(closed: Option<CancellationToken>) {
    match closed {
        Some(closed) => closed.cancelled().await,
        None => std::future::pending().await,
    }
}
