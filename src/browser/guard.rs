//! The guard: a small process beside the agent that ends the browsers of an agent that is killed.
//!
//! It reads lines from the agent and waits until the pipe is closed. It has no other input and no state on disk, and it
//! ends with the agent. Browsers that remain because the guard was killed too are ended at the next start by means of
//! their lease.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::processes;

/// Maximum time for removing folders into which killed processes may still write.
const CLEANING: Duration = Duration::from_secs(5);

/// Implements `wachta guard`: stores each `add <group> <lease> <folder>` until `done <group>`. When the input ends,
/// kills the remaining sessions and removes their folders. Only groups that carry the lease are killed, because a
/// number may have been reused in the meantime.
pub fn guard_main(input: impl BufRead) {
    let mut known: HashMap<i32, (String, PathBuf)> = HashMap::new();
    for line in input.lines().map_while(Result::ok) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next().and_then(|group| group.parse().ok()), words.next(), words.next()) {
            (Some("add"), Some(group), Some(lease), Some(folder)) => {
                known.insert(group, (lease.to_owned(), PathBuf::from(folder)));
            }
            (Some("done"), Some(group), ..) => {
                known.remove(&group);
            }
            _ => {}
        }
    }
    for (lease, _) in known.values() {
        processes::kill_lease(lease);
    }
    let end = Instant::now() + CLEANING;
    let mut folders: Vec<PathBuf> = known.into_values().map(|(_, folder)| folder).collect();
    loop {
        folders.retain(|folder| !processes::remove_folder(folder));
        if folders.is_empty() || Instant::now() > end {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A message to the task that owns the guard process.
enum Message {
    Add { group: i32, lease: String, folder: PathBuf, written: oneshot::Sender<()> },
    Done { group: i32 },
}

/// The agent's handle to the guard. The process is started with the first session, and again if it dies.
#[derive(Clone)]
pub(super) struct Guard {
    messages: mpsc::Sender<Message>,
}

impl Guard {
    /// Creates a guard that is run from this executable. The returned future owns it; both end when the last handle is
    /// dropped.
    pub(super) fn new(agent: PathBuf) -> (Self, impl Future<Output = ()>) {
        // If the channel is full, the sender waits, because a session must not be used before the guard has its data.
        let (messages, received) = mpsc::channel(16);
        (Self { messages }, own(agent, received))
    }

    /// Registers a session with the guard. Returns when the line is written.
    pub(super) async fn add(&self, group: i32, lease: &str, folder: &Path) {
        let (written, done) = oneshot::channel();
        let message = Message::Add { group, lease: lease.to_owned(), folder: folder.to_owned(), written };
        if self.messages.send(message).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Notifies the guard that a session has ended.
    pub(super) async fn done(&self, group: i32) {
        let _ = self.messages.send(Message::Done { group }).await;
    }
}

/// The process and the agent's end of its input. They are separate, because awaiting a child closes the input that it
/// still holds.
struct Running {
    child: Child,
    input: ChildStdin,
}

async fn own(agent: PathBuf, mut received: mpsc::Receiver<Message>) {
    let mut known: HashMap<i32, String> = HashMap::new();
    let mut guard: Option<Running> = None;
    loop {
        let message = tokio::select! {
            message = received.recv() => message,
            () = ended(guard.as_mut()) => {
                warn!("the guard process ended; starting another one");
                guard = start(&agent, &known).await;
                // If the guard dies at once, it must not be restarted in a busy loop.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (line, written) = match message {
            None => break,
            Some(Message::Add { group, lease, folder, written }) => {
                let line = format!("add {group} {lease} {}\n", folder.display());
                known.insert(group, line.clone());
                (line, Some(written))
            }
            Some(Message::Done { group }) => {
                known.remove(&group);
                (format!("done {group}\n"), None)
            }
        };
        let told = match &mut guard {
            Some(running) => running.input.write_all(line.as_bytes()).await.is_ok(),
            None => false,
        };
        if !told && !known.is_empty() {
            guard = start(&agent, &known).await;
        }
        if let Some(written) = written {
            let _ = written.send(());
        }
    }
    // Dropping the input closes it. The guard has nothing left to end and exits.
    if let Some(Running { mut child, input }) = guard {
        drop(input);
        let _ = tokio::time::timeout(CLEANING, child.wait()).await;
    }
}

async fn ended(guard: Option<&mut Running>) {
    match guard {
        Some(running) => {
            let _ = running.child.wait().await;
        }
        None => std::future::pending().await,
    }
}

/// Starts a guard and sends it all registered sessions. Without a guard, the agent continues; what is left after a
/// SIGKILL of the agent is then cleaned up at the next start.
async fn start(agent: &Path, known: &HashMap<i32, String>) -> Option<Running> {
    let spawned = Command::new(agent)
        .arg("guard")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_remove(processes::LEASE)
        // Signals to the agent's process group must not reach the guard.
        .process_group(0)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            warn!(agent = %agent.display(), %error, "the guard process did not start");
            return None;
        }
    };
    let mut input = child.stdin.take()?;
    for line in known.values() {
        input.write_all(line.as_bytes()).await.ok()?;
    }
    Some(Running { child, input })
}
