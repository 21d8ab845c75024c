//! A driver process, which belongs to one session and leads its own process group.
//!
//! Invariant: when a [`Driver`] is gone, so is its group, whatever the cause. The browser belongs to the driver's group
//! but outlives the driver, so the whole group is killed. The owner of the session removes the folder.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::environment::environment;
use super::ports::{Port, PortBlock};
use super::{engine, processes};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::Engine;

/// Number of the last output lines that are kept for messages.
const KEPT_LINES: usize = 20;

/// Time within which a killed group must be gone.
const DYING: Duration = Duration::from_secs(5);

/// A running chromedriver or geckodriver.
pub(super) struct Driver {
    child: Child,
    /// Process group of the driver, which is equal to its process id.
    pub(super) group: i32,
    /// Lease id that marks its processes.
    lease: String,
    /// Port that the driver reported. The channel closes when its output ends.
    pub(super) port: watch::Receiver<Option<u16>>,
    /// Prefix of the path of every command.
    pub(super) path: String,
    /// Ports of the driver and its browser.
    _ports: Vec<Port>,
    /// Last lines of its output.
    pub(super) output: Output,
}

/// Last output lines of a driver, shared with the code that writes messages about it.
#[derive(Clone, Default)]
pub(super) struct Output(Arc<Mutex<VecDeque<String>>>);

impl Output {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Returns the last few lines, joined into one.
    pub(super) fn tail(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().rev().take(3).rev().map(|line| line.trim()).collect::<Vec<_>>().join(" · ")
    }
}

impl Driver {
    /// Starts a driver that uses `folder` for all temporary files. `lease` marks the driver and its children. `home` is
    /// a separate home directory, if set.
    pub(super) fn start(
        engine: Engine,
        folder: &Path,
        lease: &str,
        home: Option<&Path>,
        block: &PortBlock,
    ) -> Result<Self, Failure> {
        let kind = engine::kind(engine);
        let program = kind.find()?;
        let none_left = || Failure::new(Reason::Resources, "no free port for a browser driver");
        let ports: Vec<Port> = (0..kind.ports).map(|_| block.take().ok_or_else(none_left)).collect::<Result<_, _>>()?;
        let (arguments, path) = kind.arguments(&ports, &uuid::Uuid::now_v7().simple().to_string());
        let mut child = Command::new(&program)
            .args(arguments)
            // The agent's own environment may contain secrets, and a browser passes its environment to its children.
            .env_clear()
            .envs(environment())
            .envs(home.map(|home| ("HOME", home)))
            .env("TMPDIR", folder)
            .env("XDG_CONFIG_HOME", folder.join("config"))
            .env("XDG_CACHE_HOME", folder.join("cache"))
            .env(processes::LEASE, lease)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::new(Reason::Driver, format!("{} did not start: {error}", program.display())))?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .ok_or_else(|| Failure::new(Reason::Driver, format!("{} exited immediately", kind.program)))?;
        let (say, port) = watch::channel(None);
        let output = Output::default();
        // Both readers end when the last process that holds the pipe is gone, and the group is always killed.
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(read(stdout, output.clone(), Some((kind, say))));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(read(stderr, output.clone(), None));
        }
        Ok(Self { child, group, lease: lease.to_owned(), port, path, output, _ports: ports })
    }

    /// Kills the group and waits until it is gone.
    pub(super) async fn end(mut self) {
        // The leader is not awaited before the kill, so that its process id cannot be reused in the meantime.
        processes::kill_group(self.group);
        // The browser's crash handlers have process groups of their own.
        processes::kill_lease(&self.lease);
        let _ = tokio::time::timeout(DYING, self.child.wait()).await;
        let end = tokio::time::Instant::now() + DYING;
        while processes::group_runs(self.group) && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The owner's task was dropped with its runtime. After `end`, `id` returns `None` because the child has been
        // awaited.
        if self.child.id().is_some() {
            processes::kill_group(self.group);
        }
    }
}

async fn read(
    from: impl AsyncRead + Unpin,
    output: Output,
    port: Option<(&'static engine::DriverProfile, watch::Sender<Option<u16>>)>,
) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((kind, say)) = &port
            && say.borrow().is_none()
            && let Some(number) = kind.port(&line)
        {
            say.send_replace(Some(number));
        }
        output.push(line);
    }
}
