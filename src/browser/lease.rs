//! Leases: every session ends on every path, and its processes and folder with it.
//!
//! A session has one owner, a task. It ends the session when its holder says so, when the holder is dropped (a run that
//! was cancelled or panicked), when it is used or kept longer than it may be, when it takes too much memory, when its
//! browser dies while it is idle, or when the agent stops; the owner is awaited at shutdown. Dropped with its runtime,
//! it still kills the processes.

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

/// How long the driver may take to end a session before its processes are killed.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a session may take to be made ready for the next run.
const READYING: Duration = Duration::from_secs(30);

/// How often the memory of a busy session is looked at.
const MEMORY_LOOKS: Duration = Duration::from_millis(500);

/// Chromium puts a socket into its temporary folder, and a socket's path has at most 107 bytes.
const LONGEST_TMPDIR: usize = 55;

/// A folder for the sessions of one agent, within the folder that all agents of this state share. Its name is the
/// lease; its lock is held as long as the agent lives, so that another one knows whom it may clean up after.
pub(super) struct Folder {
    /// The mark of every process of this agent's sessions.
    pub(super) lease: String,
    path: PathBuf,
    /// A way to the folder that is short enough, where the folder's own path is not.
    short: Option<PathBuf>,
    _lock: Flock<fs::File>,
}

impl Folder {
    /// Makes one.
    pub(super) fn new(within: &Path) -> std::io::Result<Self> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        // The last digits are the random ones.
        let lease = id[id.len() - 12..].to_owned();
        // It gets its name when it is locked: what has a name and no lock is a leftover.
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

    /// Makes a folder for one session: where it is, and by which path to use it.
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
        warn!(folder = %folder.display(), "the folder of browser sessions could not be removed");
    }
}

/// Ends what agents that are gone have left in their folders within this one. Returns how many sessions that were.
pub(super) fn reap(within: &Path) -> usize {
    let mut reaped = 0;
    for entry in fs::read_dir(within).into_iter().flatten().flatten() {
        let Ok(lease) = entry.file_name().into_string() else { continue };
        if lease.starts_with('.') {
            continue;
        }
        // Its lock can only be had when its agent is gone.
        let Ok(_lock) = lock(&entry.path()) else { continue };
        reaped += processes::kill_lease(&lease);
        remove(&entry.path(), &lease);
    }
    reaped
}

/// How the run leaves the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is done with it.
    Done,
    /// It could not be used to the end.
    Because(Cause),
}

/// What a session is used for.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// By a run, until then at the latest.
    Busy(Instant),
    /// Its run is over, and it is made ready for the next one.
    Returning(Instant),
    /// It waits for a run, until then at the latest.
    Idle(Instant),
}

/// What the holder and the owner of a session share.
struct Shared {
    /// Where to end the session, once there is one, and what tells that the browser is gone.
    session: OnceLock<(Url, Option<CancellationToken>)>,
    /// The place among the runs that may have a browser; none while the session is idle.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// Set when the session was ended for its memory: how many bytes it had.
    memory: AtomicU64,
    /// Cancelled when everything of the session is gone.
    gone: CancellationToken,
}

/// The hold on a session. Dropping it ends the session.
pub(super) struct Lease {
    end: Option<oneshot::Sender<End>>,
    used: watch::Sender<Use>,
    shared: Arc<Shared>,
    metrics: Metrics,
}

impl Lease {
    /// Says where the session can be ended, and what tells that its browser is gone.
    pub(super) fn named(&self, session: Url, closed: Option<CancellationToken>) {
        let _ = self.shared.session.set((session, closed));
        // The owner looks again.
        self.used.send_modify(|_| {});
    }

    /// A run uses it from now on, and no longer than until then.
    pub(super) fn busy(&self, permit: OwnedSemaphorePermit, until: Instant) {
        *self.permit() = Some(permit);
        if matches!(self.used.send_replace(Use::Busy(until)), Use::Idle(_)) && !self.is_gone() {
            self.metrics.move_session("idle", "busy");
        }
    }

    /// The run is over; there is little time left to make it ready for the next one.
    pub(super) fn returning(&self) {
        self.used.send_replace(Use::Returning(Instant::now() + READYING));
    }

    /// No run uses it; its place is given away. It is not kept longer than until then.
    pub(super) fn idle(&self, until: Instant) -> Option<OwnedSemaphorePermit> {
        if !matches!(self.used.send_replace(Use::Idle(until)), Use::Idle(_)) && !self.is_gone() {
            self.metrics.move_session("busy", "idle");
        }
        self.take_place()
    }

    /// Takes its place away from it.
    pub(super) fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        self.permit().take()
    }

    fn permit(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.shared.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything of it is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.shared.gone.is_cancelled()
    }

    /// How many bytes it had when it was ended for them.
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

/// What of a session runs on this machine.
pub(super) struct Local {
    /// Its driver.
    pub(super) driver: Driver,
    /// The folder it lives in.
    pub(super) path: PathBuf,
    /// What that folder is in; removed with the last session.
    pub(super) _folder: Arc<Folder>,
}

/// What the owner of a session needs to end it.
pub(super) struct Owner {
    /// What of it runs here; none at a WebDriver endpoint that is not ours.
    pub(super) local: Option<Local>,
    /// Counts what is used.
    pub(super) metrics: Metrics,
    /// Told when the processes are gone.
    pub(super) guard: Guard,
    /// Commands that must not queue behind those of the run.
    pub(super) http: reqwest::Client,
    /// So many bytes it may have.
    pub(super) max_memory: u64,
}

impl Owner {
    /// Starts to own the session, which is for a run.
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
        // Dropped with its runtime, it still says so.
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
                // A run that is going on sees for itself, and says how it ends.
                () = gone(closed), if idle => break End::Because(Cause::Crashed),
                changed = used.changed() => if changed.is_err() {
                    break asked.await.unwrap_or(End::Because(Cause::Cancelled));
                },
                _ = looks.tick(), if busy && memory.is_some() => {
                    let Some(memory) = &mut memory else { continue };
                    let memory = memory.bytes();
                    if memory > self.max_memory {
                        shared.memory.store(memory, Ordering::Relaxed);
                        warn!(memory, limit = self.max_memory, "a browser session was ended for its memory");
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
        // By our own request: the client of the run may be waiting for a command that never returns, and says that a
        // session has ended whatever became of it.
        if let Some(session) = session
            && !matches!(how, End::Because(Cause::Crashed | Cause::Memory))
        {
            let answer = self.http.delete(session.clone()).timeout(FAREWELL).send().await;
            // It may have ended by itself meanwhile: "invalid session id" is 404.
            let ended = answer.is_ok_and(|answer| answer.status().is_success() || answer.status().as_u16() == 404);
            if !ended && how == End::Done {
                how = End::Because(Cause::Timeout);
            }
        } else if let (Some(session), None) = (session, &self.local) {
            // At an endpoint that is not ours this is all that can be done, whatever it is worth.
            let _ = self.http.delete(session.clone()).timeout(FAREWELL).send().await;
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
        if let End::Because(cause) = how {
            self.metrics.reaped.with_label_values(&[cause.as_str()]).inc();
        }
    }
}

async fn gone(closed: Option<CancellationToken>) {
    match closed {
        Some(closed) => closed.cancelled().await,
        None => std::future::pending().await,
    }
}
