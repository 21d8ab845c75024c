//! Source of the scenario files, and detection of their changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::Watcher as _;
use notify::event::{CreateKind, EventKind, ModifyKind, RemoveKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::files::{is_scenario_file, scenario_files};
use crate::bounded::{self, Readers};
use crate::scenario::tree::MAX_BYTES;
use crate::web::ReloadRequest;

/// Time to wait for further changes after a change, as made by an editor or `git pull`.
const SETTLE: Duration = Duration::from_millis(300);

/// Maximum time that consecutive changes may delay a reload.
const MAX_SETTLE: Duration = Duration::from_secs(3);

/// A file that was read: displayed path, and text or error.
pub type File = (String, std::io::Result<String>);

/// Source of scenario files.
pub trait ScenarioSource: Send + Sync {
    /// Reads all scenario files, in a stable order.
    fn read(&self, roots: &[String]) -> Vec<File>;

    /// Returns the folders to watch for changes.
    fn folders(&self, roots: &[String]) -> Vec<PathBuf>;
}

/// Maximum time to read the files of one root.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Files and folders on disk; relative paths are relative to `base`.
#[derive(Debug, Clone)]
pub struct DiskSource {
    base: PathBuf,
    readers: Readers,
    timeout: Duration,
}

impl DiskSource {
    /// Creates a source; `base` is the folder of the agent configuration.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into(), readers: Readers::default(), timeout: READ_TIMEOUT }
    }
}

impl ScenarioSource for DiskSource {
    /// Reads each root on a separate thread, so that a mount that hangs only affects its own root.
    fn read(&self, roots: &[String]) -> Vec<File> {
        let read_root = |root: &String| {
            let path = self.base.join(root);
            let (name, own) = (shown(&path), path.clone());
            let files = self.readers.within(self.timeout, move || {
                let paths = scenario_files(std::slice::from_ref(&own))?;
                Ok(paths.iter().map(|path| read(path)).collect::<Vec<_>>())
            });
            match files.and_then(std::convert::identity) {
                Ok(files) => files,
                Err(error) => vec![(name, Err(error))],
            }
        };
        std::thread::scope(|scope| {
            let read_root = &read_root;
            let reading: Vec<_> = roots.iter().map(|root| scope.spawn(move || read_root(root))).collect();
            reading.into_iter().flat_map(|files| files.join().unwrap_or_default()).collect()
        })
    }

    fn folders(&self, roots: &[String]) -> Vec<PathBuf> {
        roots
            .iter()
            .map(|root| self.base.join(root))
            .map(|path| if path.is_dir() { path } else { path.parent().map_or_else(|| ".".into(), Path::to_path_buf) })
            .collect()
    }
}

/// Reads one file, of a scenario or of the agent configuration.
pub fn read(path: &Path) -> File {
    (shown(path), bounded::read_text(path, MAX_BYTES as u64))
}

fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.strip_prefix("./").unwrap_or(&text).to_owned()
}

/// Files whose changes cause a reload.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// Folders and files of scenarios.
    pub folders: Vec<PathBuf>,
    /// File of the agent configuration.
    pub config_file: Option<PathBuf>,
    /// Folder that the agent itself writes to, whose changes are ignored.
    pub own: PathBuf,
}

/// Requests a reload after each change until stopped. If files cannot be watched, SIGHUP and `POST /-/reload` remain
/// available.
pub(super) async fn watch_files(watched: Watched, reload: mpsc::Sender<ReloadRequest>, stop: CancellationToken) {
    let Watched { folders, config_file, own } = watched;
    let config_file = config_file.as_deref();
    let (changed, mut changes) = mpsc::channel::<()>(1);
    let config = config_file.and_then(Path::file_name).map(ToOwned::to_owned);
    // Events contain real paths, so that watched paths have to be resolved as well.
    let folders: Vec<PathBuf> = folders.into_iter().map(|folder| folder.canonicalize().unwrap_or(folder)).collect();
    let (watched, own) = (folders.clone(), own.canonicalize().unwrap_or(own));
    let handler = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        // The folder of the agent configuration may also contain the store and the agent's state, which change
        // constantly.
        let counts = event.paths.iter().any(|path| {
            let below = || watched.iter().any(|folder| path.starts_with(folder)) && !path.starts_with(&own);
            (may_change_scenarios(event.kind, path) && below())
                || (!event.kind.is_access() && config.as_deref().is_some_and(|config| path.file_name() == Some(config)))
        });
        if counts {
            // One waiting signal is sufficient.
            let _ = changed.try_send(());
        }
    };
    let mut watcher = match notify::recommended_watcher(handler) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "cannot watch files for changes; use SIGHUP or POST /-/reload");
            return stop.cancelled().await;
        }
    };
    let config_folder = config_file
        .map(|file| file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf());
    let plain = config_folder.into_iter().map(|folder| (folder, notify::RecursiveMode::NonRecursive));
    for (folder, mode) in folders.into_iter().map(|folder| (folder, notify::RecursiveMode::Recursive)).chain(plain) {
        if let Err(error) = watcher.watch(&folder, mode) {
            tracing::warn!(folder = %folder.display(), %error, "cannot watch this folder for changes; use SIGHUP or POST /-/reload");
        }
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => if change.is_none() { return },
        }
        let settled = async { while tokio::time::timeout(SETTLE, changes.recv()).await.is_ok_and(|c| c.is_some()) {} };
        let _ = tokio::time::timeout(MAX_SETTLE, settled).await;
        let (request, _report) = ReloadRequest::new();
        if reload.send(request).await.is_err() {
            return;
        }
    }
}

/// Returns whether an event may have changed scenarios: an event of a potential scenario file, of a folder, or of the
/// link by which Kubernetes replaces all files of a volume at once.
fn may_change_scenarios(kind: EventKind, path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    match kind {
        EventKind::Access(_) => false,
        _ if path.file_name().is_some_and(|name| name == "..data") => true,
        _ if is_hidden => false,
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => true,
        // A renamed path that no longer exists may have been a folder.
        EventKind::Modify(ModifyKind::Name(_)) => is_scenario_file(path) || path.extension().is_none() || path.is_dir(),
        _ => is_scenario_file(path),
    }
}

/// Files embedded in the program.
#[derive(Debug, Clone)]
pub struct Embedded(pub Vec<(String, String)>);

impl ScenarioSource for Embedded {
    fn read(&self, _roots: &[String]) -> Vec<File> {
        self.0.iter().map(|(path, text)| (path.clone(), Ok(text.clone()))).collect()
    }

    fn folders(&self, _roots: &[String]) -> Vec<PathBuf> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_agent_writes_itself_is_no_change() {
        let folder = std::env::temp_dir().join(format!("wachta-test-{}", uuid::Uuid::now_v7().simple()));
        let own = folder.join("wachta.state");
        std::fs::create_dir_all(own.join("browsers")).unwrap();
        let (reload, mut asked) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let watched = Watched { folders: vec![folder.clone()], config_file: None, own: own.clone() };
        let mut watching = std::pin::pin!(watch_files(watched, reload, stop.clone()));
        // Starts watching with the first poll.
        assert!(futures_util::poll!(&mut watching).is_pending());
        std::fs::write(own.join("browsers/profile"), "").unwrap();
        for other in ["wachta.db-wal", "notes.txt", "shop.yaml.swp", ".shop.yaml.swx", "4913~"] {
            std::fs::write(folder.join(other), "").unwrap();
        }
        let asking = async {
            let quiet = tokio::time::timeout(SETTLE * 3, asked.recv()).await;
            assert!(quiet.is_err(), "nothing is loaded anew");
            std::fs::write(folder.join("shop.yaml"), "").unwrap();
            assert!(asked.recv().await.is_some());
            stop.cancel();
        };
        tokio::join!(watching, asking);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
