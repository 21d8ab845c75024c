//! TLS and users of the web server, as configured by `web.config_file`, in the format of the Prometheus exporters
//! (exporter-toolkit, `docs/web-configuration.md`).
//!
//! If the file is not valid, the previous version stays in effect. A new version takes effect with the next connection
//! (TLS) and the next request (users, headers); open connections stay open. This module does not serve connections.

mod file;
mod settings;
mod tls;
mod users;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;

use self::users::Gatekeeper;
use super::ReloadRequest;
use crate::bounded::{self, Readers};
use crate::diagnostic::{Diagnostic, Severity, Source, Span};

pub use settings::Settings;
pub use users::Admission;

/// Maximum size of the file and of each file that it references, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Timeout of reading the file and the files that it references.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of checking the files for changes.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// TLS and users of the web server. Clones share them; a reload replaces them.
#[derive(Debug, Clone, Default)]
pub struct Security {
    settings: Arc<RwLock<Arc<Settings>>>,
    gatekeeper: Gatekeeper,
    /// State of the files when they were last read, successfully or not.
    stamps: Arc<Mutex<Vec<Stamp>>>,
}

/// Path of a file and its inode, modification time and length, or `None` if the file does not exist.
type Stamp = (PathBuf, Option<(u64, SystemTime, u64)>);

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let about = std::fs::metadata(path).ok();
    let seen = about.and_then(|about| Some((about.ino(), about.modified().ok()?, about.len())));
    (path.to_owned(), seen)
}

/// Version of the file that was read.
#[derive(Debug)]
pub struct Loaded {
    settings: Option<Settings>,
    stamps: Vec<Stamp>,
    /// Problems of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// Returns the settings without a file: plain HTTP without users.
    pub fn none() -> Self {
        Self { settings: Some(Settings::default()), stamps: Vec::new(), diagnostics: Vec::new() }
    }

    /// Returns a version that cannot be used, for this reason.
    pub fn refused(why: Diagnostic) -> Self {
        Self { settings: None, stamps: Vec::new(), diagnostics: vec![why] }
    }

    /// Reads the file and the files that it references, on a separate thread.
    ///
    /// `must_ask`: whether other machines can reach the server and the configuration does not permit access without
    /// credentials, so that a file that requires no credentials is an error.
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

    /// Returns whether the version can be used.
    pub fn is_good(&self) -> bool {
        self.settings.is_some() && self.diagnostics.iter().all(|found| found.severity < Severity::Error)
    }
}

fn unreadable(source: &Arc<Source>, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error(source, Span::default(), format!("cannot be read: {error}"))
}

impl Security {
    /// Applies a version if it is valid, and records in any case which files were read. Returns the problems of the
    /// version.
    pub fn load(&self, loaded: Loaded) -> Vec<Diagnostic> {
        let is_good = loaded.is_good();
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        *stamps = loaded.stamps;
        if let Some(settings) = loaded.settings.filter(|_| is_good) {
            *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        }
        loaded.diagnostics
    }

    /// Returns the settings in effect.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks the credentials of a request. Verifying a password is slow, runs on a separate thread, and is limited.
    pub async fn admit(&self, headers: &HeaderMap, peer: IpAddr) -> Admission {
        let settings = self.settings();
        if settings.users.is_empty() {
            return Admission::Open;
        }
        self.gatekeeper.admit(&settings.users, headers, peer).await
    }

    /// Requests a reload after a change of the file or of one that it references, until `stop` is cancelled.
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
