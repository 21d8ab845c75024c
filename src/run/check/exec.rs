//! A command: its exit code, the end of its output and the report that it writes.
//!
//! It runs in a process group of its own. The whole group is killed at the timeout, when the run is cancelled, and when
//! the command has exited but left processes behind.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::context::{CheckContext, faster_than};
use super::junit;
use super::result::{Case, CaseEnd, CheckResult};
use crate::names::Reason;
use crate::outcome::{EvidenceKind, Failure};
use crate::scenario::check::exec::ExecCheck;
use crate::values::expect::cut;
use crate::values::text::decode;
use crate::wire::{of_io, of_spawn};

/// Maximum size of the stored end of the output, in bytes.
const OUTPUT: usize = 64 << 10;
/// Time between asking a command to terminate and killing it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Time to wait for remaining output after the command has exited.
const REST: Duration = Duration::from_millis(500);

/// Runs the check.
pub async fn check(check: &ExecCheck, around: &CheckContext<'_>) -> CheckResult {
    let folder = folder(&around.values.scenario().source.path);
    let report = check.junit.as_ref().map(|path| folder.join(&path.value));
    let stale = report.as_deref().and_then(written_at);
    let began = Instant::now();
    let Ended { status, output } = match run(check, &folder, around).await {
        Ok(ended) => ended,
        Err(failure) => return Err(failure).into(),
    };
    let took = began.elapsed();
    let cases = match (&check.junit, &report) {
        (Some(path), Some(file)) if written_at(file) != stale => {
            let bytes = around.values.beside(Path::new(&path.value)).await;
            let read = bytes.and_then(|bytes| {
                let read = junit::cases(&decode(&bytes, None));
                read.map_err(|problem| {
                    Failure::new(Reason::Exec, format!("`{}` is not a JUnit report: {problem}", path.value))
                })
            });
            read.map_err(|failure| failure.at(path.span))
        }
        (Some(path), _) => {
            Err(Failure::new(Reason::Exec, format!("the command wrote no `{}`", path.value)).at(path.span))
        }
        (None, _) => Ok(Vec::new()),
    };
    let (cases, unread) = match cases {
        Ok(cases) => (cases, None),
        Err(failure) => (Vec::new(), Some(failure)),
    };
    let ended = match status {
        None => Err(around.out_of_time()),
        Some(status) => of_suite(&cases).and_then(|()| exit(&check.program, status, &output)),
    };
    // The exit code of a failed command says more than the report that is missing because of it.
    let result = ended.and(unread.map_or(Ok(()), Err)).and_then(|()| faster_than(check.faster_than.as_ref(), took));
    let evidence = result.is_err().then_some((EvidenceKind::Output, "output.txt", output));
    let mut cases = cases;
    cases.truncate(junit::MOST_CASES);
    CheckResult { result, expires_at: None, cases, evidence }
}

struct Ended {
    /// Exit status. `None` if the command was killed at the timeout.
    status: Option<ExitStatus>,
    output: Vec<u8>,
}

async fn run(check: &ExecCheck, folder: &Path, around: &CheckContext<'_>) -> Result<Ended, Failure> {
    let configuration = |text: String| Failure::new(Reason::Configuration, text).at(check.program.span);
    let environment = around.values.exec(&check.program)?;
    let arguments = check.arguments.iter().map(|one| around.values.fill(one)).collect::<Result<Vec<_>, _>>()?;
    let unread = |error: std::io::Error| {
        of_io(&error, Reason::Configuration, format!("its output cannot be read: {error}")).at(check.program.span)
    };
    // Both streams share one pipe, so that the output keeps its order.
    let (reader, writer) = std::io::pipe().map_err(unread)?;
    let output = pipe::Receiver::from_owned_fd(reader.into()).map_err(unread)?;
    let mut child = Command::new(&check.program.value)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(unread)?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            let message = format!("`{}` did not start: {error}", check.program.value);
            of_spawn(&error, Reason::Configuration, message).at(check.program.span)
        })?;
    let group = Group(AtomicI32::new(child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0)));
    let mut tail = Tail::default();
    let status = {
        let read = tail.read(output);
        tokio::pin!(read);
        let ended = async {
            let status = wait(&mut child, around.timeout, &group).await;
            // Killing the processes left behind also closes the output.
            group.end();
            status
        };
        tokio::pin!(ended);
        tokio::select! {
            status = &mut ended => {
                let _ = tokio::time::timeout(REST, read).await;
                status
            }
            // The output is closed, but the command is still running.
            () = &mut read => ended.await,
        }
    };
    let status = status.map_err(|error| configuration(format!("cannot read its exit status: {error}")))?;
    Ok(Ended { status, output: tail.0 })
}

/// Awaits the command and returns its exit status, or `None` if it was killed at the timeout.
async fn wait(child: &mut Child, timeout: Duration, group: &Group) -> std::io::Result<Option<ExitStatus>> {
    if let Ok(status) = tokio::time::timeout(timeout, child.wait()).await {
        return status.map(Some);
    }
    group.ask();
    let _ = tokio::time::timeout(FAREWELL, child.wait()).await;
    group.end();
    child.wait().await?;
    Ok(None)
}

/// A process group that is killed when dropped. 0 after it was killed, because its number may already belong to another
/// one.
struct Group(AtomicI32);

impl Group {
    fn ask(&self) {
        send(self.0.load(Ordering::Relaxed), Signal::SIGTERM);
    }

    fn end(&self) {
        send(self.0.swap(0, Ordering::Relaxed), Signal::SIGKILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

fn send(group: i32, signal: Signal) {
    if group > 0 {
        // A group that no longer exists needs no signal.
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

/// Stores the end of an output.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Reads an output to the end.
    async fn read(&mut self, mut output: impl AsyncRead + Unpin) {
        let mut buffer = [0_u8; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer).await {
            self.push(&buffer[..length]);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        // Truncation is rare, so that a command with much output does not cost a copy per piece.
        if self.0.len() > 2 * OUTPUT {
            self.0.drain(..self.0.len() - OUTPUT);
        }
    }
}

fn exit(program: &str, status: ExitStatus, output: &[u8]) -> Result<(), Failure> {
    use std::os::unix::process::ExitStatusExt as _;
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    };
    let text = String::from_utf8_lossy(output);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let seen = last.map_or(how.clone(), |line| format!("{how}: {}", cut(line, 200)));
    Err(Failure::new(Reason::Exec, format!("`{program}` failed")).compared("exit code 0", seen))
}

/// Returns the failure of the suite if any of its cases failed.
fn of_suite(cases: &[Case]) -> Result<(), Failure> {
    let failed: Vec<_> = cases
        .iter()
        .filter_map(|case| match &case.end {
            CaseEnd::Failed(why) => Some((case, why)),
            _ => None,
        })
        .collect();
    let Some((first, why)) = failed.first() else { return Ok(()) };
    let message = format!("{} of {} tests failed", failed.len(), cases.len());
    Err(Failure::new(Reason::Exec, message).compared("all pass", format!("{}: {why}", first.name)))
}

/// Returns the folder of the scenario's file, which is the working directory of its commands.
fn folder(file: &str) -> PathBuf {
    match Path::new(file).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Returns the modification time and size of a file, which distinguish a new report from an old one.
fn written_at(file: &Path) -> Option<(std::time::SystemTime, u64)> {
    let about = std::fs::metadata(file).ok()?;
    Some((about.modified().ok()?, about.len()))
}
