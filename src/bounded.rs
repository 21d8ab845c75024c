//! Bounded reading of files: only regular files, not larger than the caller allows, and on separate threads where a
//! file system may not respond.
//!
//! A named pipe, a device, a socket or a folder is rejected by its file type before anything is read; the size is
//! checked before memory is allocated. A read that hangs, for example on a network mount whose server is down, blocks
//! no other work: [`Readers`] abandons it after a timeout and limits the number of hanging threads.

pub mod answer;
pub mod credential;

use std::collections::HashMap;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

/// Maximum size of a secret, a certificate or another small file, in bytes.
pub const MAX_SMALL_BYTES: u64 = 1 << 20;

/// Reads a regular file of at most `max_bytes`. Symbolic links are followed.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    // The check precedes opening the file because opening a device can have side effects.
    check(&std::fs::metadata(path)?, max_bytes)?;
    // If a pipe has replaced the file in the meantime, opening it must not block.
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY;
    let file: File = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let about = file.metadata()?;
    check(&about, max_bytes)?;
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
    // The file may grow while it is read, and files below /proc report a size of zero.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes { Err(too_large(max_bytes)) } else { Ok(bytes) }
}

/// Reads a regular file of UTF-8 text of at most `max_bytes`.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    String::from_utf8(read(path, max_bytes)?).map_err(|error| Error::new(ErrorKind::InvalidData, not_utf8(&error)))
}

/// Describes where a file is not UTF-8 text, by line and column in characters.
fn not_utf8(error: &std::string::FromUtf8Error) -> String {
    let (bytes, at) = (error.as_bytes(), error.utf8_error().valid_up_to());
    let before = std::str::from_utf8(&bytes[..at]).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("not UTF-8 text: line {line}, column {column} has the byte 0x{:02x}", bytes.get(at).copied().unwrap_or(0))
}

fn check(about: &Metadata, max_bytes: u64) -> Result<()> {
    if !about.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("it is {}, not a file", kind(about.file_type()))));
    }
    if about.len() > max_bytes { Err(too_large(max_bytes)) } else { Ok(()) }
}

fn kind(of: FileType) -> &'static str {
    match of {
        of if of.is_dir() => "a folder",
        of if of.is_fifo() => "a named pipe",
        of if of.is_socket() => "a socket",
        of if of.is_block_device() || of.is_char_device() => "a device",
        _ => "something else",
    }
}

fn too_large(max_bytes: u64) -> Error {
    let limit =
        if max_bytes >= 1 << 20 { format!("{} MiB", max_bytes >> 20) } else { format!("{} KiB", max_bytes >> 10) };
    Error::new(ErrorKind::FileTooLarge, format!("it is larger than {limit}"))
}

/// Threads for reads that may hang. Clones share the limit.
#[derive(Debug, Clone, Default)]
pub struct Readers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    reads: Mutex<Reads>,
    /// Notified when a thread ends.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Reads {
    next: u64,
    /// Reads in progress, each with its file if it reads a single one, and whether its caller has given up waiting.
    going: HashMap<u64, (Option<PathBuf>, bool)>,
}

impl Readers {
    /// Maximum number of threads. While that many hang, nothing else is read.
    const MAX_THREADS: usize = 16;

    /// Performs a read on a separate thread and waits for it, at most for `limit`. A hanging thread is abandoned.
    pub fn within<T: Send + 'static>(&self, limit: Duration, read: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (done, answer) = mpsc::sync_channel(1);
        let place = self.place(None).ok_or_else(too_many)?;
        start(place, move || drop(done.send(read())))?;
        answer.recv_timeout(limit).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => no_answer(limit),
            mpsc::RecvTimeoutError::Disconnected => failed(),
        })
    }

    /// Performs a read like [`Readers::within`] without blocking the thread of the calling task.
    pub async fn within_async<T: Send + 'static>(
        &self,
        limit: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let place = self.place(None).ok_or_else(too_many)?;
        self.wait(place, tokio::time::Instant::now(), limit, read).await
    }

    /// Performs a read of a single file like [`Readers::within_async`], and waits for a free thread if all are in use.
    /// While an earlier read of the same file hangs, it is not retried, so that one file occupies at most one thread.
    pub async fn file<T: Send + 'static>(
        &self,
        file: &Path,
        limit: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let began = tokio::time::Instant::now();
        let place = loop {
            let ended = self.0.ended.notified();
            if self.0.reads().going.values().any(|(of, is_late)| *is_late && of.as_deref() == Some(file)) {
                return Err(Error::new(ErrorKind::ResourceBusy, "an earlier read of it has not ended"));
            }
            match self.place(Some(file)) {
                Some(place) => break place,
                None => tokio::time::timeout_at(began + limit, ended).await.map_err(|_| too_many())?,
            }
        };
        self.wait(place, began, limit, read).await
    }

    async fn wait<T: Send + 'static>(
        &self,
        place: Place,
        began: tokio::time::Instant,
        limit: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (done, answer) = tokio::sync::oneshot::channel();
        let mut abandoned = Abandoned { shared: &self.0, id: Some(place.id) };
        start(place, move || drop(done.send(read())))?;
        let answer = tokio::time::timeout_at(began + limit, answer).await.map_err(|_| no_answer(limit))?;
        abandoned.id = None;
        answer.map_err(|_| failed())
    }

    fn place(&self, file: Option<&Path>) -> Option<Place> {
        let mut reads = self.0.reads();
        if reads.going.len() >= Self::MAX_THREADS {
            return None;
        }
        let id = reads.next;
        reads.next += 1;
        reads.going.insert(id, (file.map(Path::to_owned), false));
        Some(Place { shared: Arc::clone(&self.0), id })
    }
}

impl Shared {
    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Small file that is read repeatedly because its content may be renewed, on a separate thread each time. While a read
/// of it hangs, no other begins, so that it occupies at most one thread.
#[derive(Debug, Clone)]
pub struct SmallFile {
    path: PathBuf,
    readers: Readers,
}

/// Modification time and length in bytes, which reveal a change of the file.
pub type Stamp = (SystemTime, u64);

impl SmallFile {
    /// Timeout of a read.
    const TIMEOUT: Duration = Duration::from_secs(5);

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file, at most `max_bytes`.
    pub async fn read(&self, max_bytes: u64) -> Result<Vec<u8>> {
        let path = self.path.clone();
        self.readers.file(&self.path, Self::TIMEOUT, move || read(&path, max_bytes)).await.flatten()
    }

    /// Reads the file as text, at most `max_bytes`.
    pub async fn read_text(&self, max_bytes: u64) -> Result<String> {
        let path = self.path.clone();
        self.readers.file(&self.path, Self::TIMEOUT, move || read_text(&path, max_bytes)).await.flatten()
    }

    /// Returns the modification time and length, or `None` if the file does not exist or cannot be accessed in time.
    pub async fn stamp(&self) -> Option<Stamp> {
        let path = self.path.clone();
        let stamp = move || {
            let about = std::fs::metadata(path)?;
            Ok((about.modified()?, about.len()))
        };
        self.readers.file(&self.path, Self::TIMEOUT, stamp).await.flatten().ok()
    }
}

impl<P: Into<PathBuf>> From<P> for SmallFile {
    fn from(path: P) -> Self {
        Self { path: path.into(), readers: Readers::default() }
    }
}

impl PartialEq for SmallFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for SmallFile {}

/// Marks a read as abandoned as soon as its caller stops waiting, for any reason.
struct Abandoned<'a> {
    shared: &'a Shared,
    id: Option<u64>,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        if let Some((_, is_late)) = self.shared.reads().going.get_mut(&id) {
            *is_late = true;
        }
    }
}

fn start(place: Place, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name("files".to_owned());
    thread.spawn(move || {
        let _place = place;
        work();
    })?;
    Ok(())
}

/// Slot of one of the available threads. It is released when the thread ends, for any reason.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.reads().going.remove(&self.id);
        self.shared.ended.notify_waiters();
    }
}

fn too_many() -> Error {
    let text = format!("{} earlier reads have not ended; does a network mount hang?", Readers::MAX_THREADS);
    Error::new(ErrorKind::ResourceBusy, text)
}

fn no_answer(limit: Duration) -> Error {
    let seconds = (limit.as_secs_f64() * 1e3).round() / 1e3;
    Error::new(ErrorKind::TimedOut, format!("the file system did not respond within {seconds} s"))
}

fn failed() -> Error {
    Error::other("the thread that reads it ended early")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_no_small_file_is_refused_at_once() {
        let folder = std::env::temp_dir().join(format!("wachta-bounded-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(folder.join("folder")).unwrap();
        nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(folder.join("socket")).unwrap();
        File::create(folder.join("sparse")).unwrap().set_len(3 << 30).unwrap();
        std::fs::write(folder.join("fits"), vec![b'a'; 1024]).unwrap();
        std::fs::write(folder.join("does-not"), vec![b'a'; 1025]).unwrap();
        std::fs::write(folder.join("latin"), b"caf\xe9").unwrap();
        std::os::unix::fs::symlink("loop", folder.join("loop")).unwrap();
        std::os::unix::fs::symlink("pipe", folder.join("to-pipe")).unwrap();
        std::os::unix::fs::symlink("fits", folder.join("to-fits")).unwrap();
        let began = Instant::now();
        for (name, expected) in [
            ("folder", "it is a folder, not a file"),
            ("pipe", "it is a named pipe, not a file"),
            ("to-pipe", "it is a named pipe, not a file"),
            ("socket", "it is a socket, not a file"),
            ("/dev/zero", "it is a device, not a file"),
            ("sparse", "it is larger than 1 KiB"),
            ("does-not", "it is larger than 1 KiB"),
            ("latin", "not UTF-8 text: line 1, column 4 has the byte 0xe9"),
            ("loop", "Too many levels of symbolic links (os error 40)"),
            ("nothing", "No such file or directory (os error 2)"),
        ] {
            let problem = read_text(&folder.join(name), 1024).unwrap_err();
            assert_eq!(problem.to_string(), expected, "{name}");
        }
        for name in ["fits", "to-fits"] {
            assert_eq!(read_text(&folder.join(name), 1024).unwrap().len(), 1024, "{name}");
        }
        // A file that reports a size of zero is limited as well.
        assert!(read(Path::new("/proc/self/status"), 16).is_err());
        assert!(!read(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty());
        assert!(began.elapsed() < Duration::from_secs(1));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_read_that_hangs_is_given_up_and_so_many_are_the_end() {
        let readers = Readers::default();
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let hangs = || {
            let held = Arc::clone(&held);
            move || drop(held.lock().map(|held| held.recv()))
        };
        let limit = Duration::from_millis(5);
        let problem = readers.within(limit, hangs()).unwrap_err();
        assert_eq!(problem.to_string(), "the file system did not respond within 0.005 s");
        for _ in 1..Readers::MAX_THREADS {
            assert_eq!(readers.within_async(limit, hangs()).await.unwrap_err().kind(), ErrorKind::TimedOut);
        }
        assert_eq!(readers.within(limit, || 1).unwrap_err().kind(), ErrorKind::ResourceBusy);
        drop(hold);
        while !readers.0.reads().going.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(readers.within(Duration::from_secs(60), || 1).unwrap(), 1);
    }

    #[tokio::test]
    async fn a_file_that_hangs_takes_one_thread_and_others_wait_their_turn() {
        let readers = Readers::default();
        let (hold, held) = mpsc::channel::<()>();
        let (one, other) = (Path::new("one"), Path::new("other"));
        let limit = Duration::from_millis(5);
        let hung = readers.file(one, limit, move || held.recv().is_ok()).await.unwrap_err();
        assert_eq!(hung.to_string(), "the file system did not respond within 0.005 s");
        for _ in 0..100 {
            let again = readers.file(one, limit, || ()).await.unwrap_err();
            assert_eq!(again.to_string(), "an earlier read of it has not ended");
        }
        assert_eq!(readers.0.reads().going.len(), 1);
        // A large number of concurrent reads succeeds.
        let many = (0..200).map(|number| readers.file(other, Duration::from_secs(60), move || number));
        let read = futures_util::future::join_all(many).await;
        assert_eq!(read.into_iter().map(Result::unwrap).sum::<u32>(), 199 * 100);
        drop(hold);
        while !readers.0.reads().going.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(readers.file(one, Duration::from_secs(60), || 1).await.unwrap(), 1);
    }
}
