//! Leases: every session ends on every path, and its processes and folder with it.
//!
//! A session has one owner, a task. It ends the session when the run says so, when the run is dropped (cancelled,
//! panicked, out of time), or when the agent stops; the owner is awaited at shutdown. Dropped with its runtime, it
//! still kills the processes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use url::Url;

use super::driver::Driver;
use super::guard::Guard;
use super::metrics::{Cause, Metrics};
use super::processes;

/// How long the driver may take to end a session before its processes are killed.
const FAREWELL: Duration = Duration::from_secs(2);

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

/// A run's hold on its session. Dropping it ends the session.
pub(super) struct Lease {
    end: Option<oneshot::Sender<End>>,
    ended: Option<oneshot::Receiver<()>>,
    /// Where to end the session, once there is one.
    session: Arc<OnceLock<Url>>,
}

impl Lease {
    /// Says where the session can be ended.
    pub(super) fn named(&self, session: Url) {
        let _ = self.session.set(session);
    }

    /// Ends the session and waits until everything of it is gone.
    pub(super) async fn end(mut self, how: End) {
        if let Some(end) = self.end.take() {
            let _ = end.send(how);
        }
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
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
    /// The place among the sessions there may be.
    pub(super) permit: OwnedSemaphorePermit,
}

impl Owner {
    /// Starts to own the session.
    pub(super) fn hold(self, tasks: &TaskTracker, stop: CancellationToken) -> Lease {
        let (end, asked) = oneshot::channel();
        let (tell, ended) = oneshot::channel();
        let session = Arc::new(OnceLock::new());
        let lease = Lease { end: Some(end), ended: Some(ended), session: Arc::clone(&session) };
        self.metrics.sessions.with_label_values(&["busy"]).inc();
        tasks.spawn(async move {
            let how = tokio::select! {
                how = asked => how.unwrap_or(End::Because(Cause::Cancelled)),
                () = stop.cancelled() => End::Because(Cause::Shutdown),
            };
            self.finish(how, session.get()).await;
            let _ = tell.send(());
        });
        lease
    }

    async fn finish(self, how: End, session: Option<&Url>) {
        let mut how = how;
        // By our own request: the client of the run may be waiting for a command that never returns, and says that a
        // session has ended whatever became of it.
        if let Some(session) = session
            && how != End::Because(Cause::Crashed)
        {
            let answer = self.http.delete(session.clone()).timeout(FAREWELL).send().await;
            if !answer.is_ok_and(|answer| answer.status().is_success()) && how == End::Done {
                how = End::Because(Cause::Timeout);
            }
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
        self.metrics.sessions.with_label_values(&["busy"]).dec();
        drop(self.permit);
    }
}
