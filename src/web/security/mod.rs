//! TLS and users of the web server, as `web.config_file` sets them: the format of Prometheus' exporters
//! (exporter-toolkit, `docs/web-configuration.md`).
//!
//! A file that is wrong leaves the version before in force. A new version counts for the next connection (TLS) and for
//! the next request (users, headers); connections that are open stay open. Nothing here serves a connection.

mod file;
mod tls;
mod users;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rustls::ServerConfig;

use self::users::{Gatekeeper, Users};
use super::ReloadRequest;
use crate::bounded::{self, Readers};
use crate::diagnostic::{Diagnostic, Severity, Source, Span};

/// Maximum size of the file and of each file it names, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// How long the file and what it names may take to be read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which the files are looked at for changes.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// TLS and users of the web server. Clones share them; a reload replaces them.
#[derive(Debug, Clone, Default)]
pub struct Security {
    settings: Arc<RwLock<Arc<Settings>>>,
    gatekeeper: Gatekeeper,
    /// The files as they were when they were last read, well or not.
    stamps: Arc<Mutex<Vec<Stamp>>>,
}

/// What is in force.
#[derive(Debug, Default)]
pub struct Settings {
    /// TLS, where the file sets it.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether only clients with a certificate that was verified get in.
    verifies_clients: bool,
    /// Headers that every response carries.
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Users,
}

/// What a request may do by its credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// There are no users: everyone may ask.
    Open,
    /// The request carries the name and the password of a user.
    User,
    /// The request carries no credentials, or wrong ones.
    Denied,
    /// Too many passwords are being verified already.
    Busy,
}

/// A file as it was found: its path, and its inode, time of change and length, or `None` where there is no such file.
type Stamp = (PathBuf, Option<(u64, SystemTime, u64)>);

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let about = std::fs::metadata(path).ok();
    let seen = about.and_then(|about| Some((about.ino(), about.modified().ok()?, about.len())));
    (path.to_owned(), seen)
}

/// A version of the file that was read.
#[derive(Debug)]
pub struct Loaded {
    settings: Option<Settings>,
    stamps: Vec<Stamp>,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// No file: plain HTTP without users.
    pub fn none() -> Self {
        Self { settings: Some(Settings::default()), stamps: Vec::new(), diagnostics: Vec::new() }
    }

    /// Nothing that could be put in force, and why.
    pub fn refused(why: Diagnostic) -> Self {
        Self { settings: None, stamps: Vec::new(), diagnostics: vec![why] }
    }

    /// Reads the file and what it names, on a thread of its own.
    ///
    /// `must_ask`: whether others than this machine can reach the server and nothing says that they may, so that a
    /// file by which nobody is asked for anything is an error.
    pub async fn read(readers: &Readers, path: PathBuf, must_ask: bool) -> Self {
        let shown = path.display().to_string();
        let read = readers.within_async(READ_TIMEOUT, move || Self::read_here(&path, must_ask)).await;
        read.unwrap_or_else(|error| Self::refused(unreadable(&Source::new(shown, ""), &error)))
    }

    fn read_here(path: &Path, must_ask: bool) -> Self {
        let shown = path.display().to_string();
        let mut stamps = vec![stamp(path)];
        let text = match bounded::read_text(path, MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(error) => {
                let diagnostics = vec![unreadable(&Source::new(shown, ""), &error)];
                return Self { settings: None, stamps, diagnostics };
            }
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let (settings, diagnostics) = file::read(&shown, &text, must_ask, |name| {
            let path = folder.join(name);
            stamps.push(stamp(&path));
            bounded::read(&path, MAX_FILE_BYTES)
        });
        Self { settings, stamps, diagnostics }
    }

    /// Whether it can be used.
    pub fn is_good(&self) -> bool {
        self.settings.is_some() && self.diagnostics.iter().all(|found| found.severity < Severity::Error)
    }
}

fn unreadable(source: &Arc<Source>, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error(source, Span::default(), format!("cannot be read: {error}"))
}

impl Security {
    /// Puts a version in force if it is good, and notes in any case which files were read; gives what is wrong with it.
    pub fn load(&self, loaded: Loaded) -> Vec<Diagnostic> {
        let is_good = loaded.is_good();
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        *stamps = loaded.stamps;
        if let Some(settings) = loaded.settings.filter(|_| is_good) {
            *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        }
        loaded.diagnostics
    }

    /// What is in force now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks the credentials of a request. Verifying a password takes long, goes on beside, and is bounded.
    pub async fn admit(&self, headers: &HeaderMap, peer: IpAddr) -> Admission {
        let settings = self.settings();
        if settings.users.is_empty() {
            return Admission::Open;
        }
        self.gatekeeper.admit(&settings.users, headers, peer).await
    }

    /// Asks for a reload when the file or one that it names has changed, until `stop`.
    pub async fn watch(
        self,
        readers: Readers,
        reloads: tokio::sync::mpsc::Sender<ReloadRequest>,
        stop: tokio_util::sync::CancellationToken,
    ) {
        while stop.run_until_cancelled(tokio::time::sleep(WATCH_INTERVAL)).await.is_some() {
            let known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if known.is_empty() {
                continue;
            }
            let looked_at = known.clone();
            let found = readers
                .within_async(READ_TIMEOUT, move || known.iter().map(|(path, _)| stamp(path)).collect::<Vec<_>>())
                .await;
            if found.is_ok_and(|found| found != looked_at) {
                let (request, report) = ReloadRequest::new();
                if reloads.send(request).await.is_err() || stop.run_until_cancelled(report).await.is_none() {
                    return;
                }
            }
        }
    }
}

impl Settings {
    /// Whether there are users.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Adds the headers that every response carries.
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }
}
