//! `wachta serve`: the agent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::config_file::agents_file;
use super::stop_signal::stop_asked;
use super::terminal::say_error;
use crate::app::scenario_source::DiskSource;
use crate::app::{App, Setup};
use crate::names::exit;
use crate::store::SqliteFile;

/// Maximum number of symbolic links in a row, as in the kernel (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Path of the agent configuration, unless another one is given.
pub(super) const DEFAULT_CONFIG: &str = "wachta.yaml";

/// Arguments of `wachta serve`.
#[derive(clap::Args)]
pub(super) struct ServeArgs {
    /// Agent configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Runs the agent until SIGTERM or Ctrl-C, then drains.
pub(super) async fn serve(args: ServeArgs) -> u8 {
    // Installed before the start, so that no signal is missed.
    let asked = stop_asked();
    let hangup = signal(SignalKind::hangup());
    let app = match start(&args.config).await {
        Ok(app) => app,
        Err(text) => {
            say_error(&text);
            return exit::USAGE;
        }
    };
    tracing::info!(address = %app.address(), "agent started");
    reload_at_sighup(&app, hangup);
    let code = tokio::select! {
        () = asked => exit::PASSED,
        why = app.failed() => {
            say_error(&format!("{why}; the agent stops so that it can be restarted"));
            exit::FAILED
        }
    };
    tokio::select! {
        () = app.stop() => code,
        // A second signal stops the agent without draining.
        () = stop_asked() => exit::UNKNOWN,
    }
}

async fn start(file: &Path) -> Result<App, String> {
    let config = agents_file(file)?;
    let base = folder_of(file);
    let (url, folder) = store_places(&config.store, &base);
    let is_ours = folder.is_dir();
    std::fs::create_dir_all(&folder).map_err(|e| format!("{} cannot be made: {e}", folder.display()))?;
    let setup = Setup {
        config,
        config_file: Some(file.to_path_buf()),
        library: Arc::new(DiskSource::new(base)),
        lookup: None,
        store: Arc::new(SqliteFile::new(&url, is_ours)),
        folder,
        executable: std::env::current_exe().map_err(|e| format!("cannot determine the path of the executable: {e}"))?,
        listener: None,
    };
    App::start(setup).await.map_err(|e| e.to_string())
}

/// Returns the folder of the agent configuration, which is the base of its relative paths.
pub(super) fn folder_of(file: &Path) -> PathBuf {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
}

/// Returns the URL of the store, with its path resolved relative to the agent configuration, and the folder for the
/// files next to it. Symbolic links are resolved first: two agents that refer to one store by different paths share one
/// folder, whose lock prevents simultaneous use.
pub(super) fn store_places(url: &str, base: &Path) -> (String, PathBuf) {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    if path == ":memory:" {
        let folder = std::env::temp_dir().join(format!("wachta-{}", std::process::id()));
        return (url.to_owned(), folder);
    }
    let file = without_links(base.join(path));
    let folder = file.with_extension("state");
    (format!("sqlite:{}", file.display()), folder)
}

/// Resolves symbolic links in a path as far as it exists; for a file that does not exist yet, those of its folder.
fn without_links(file: PathBuf) -> PathBuf {
    // A link to a missing file is resolved manually; a cycle of links is left unchanged and cannot be opened.
    let mut file = file;
    for _ in 0..MAX_LINKS {
        if let Ok(real) = file.canonicalize() {
            return real;
        }
        let Ok(target) = file.read_link() else { break };
        file = file.parent().map(|folder| folder.join(&target)).unwrap_or(target);
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), file.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => file,
    }
}

fn reload_at_sighup(app: &App, hangup: std::io::Result<Signal>) {
    let reloader = app.reloader();
    match hangup {
        Ok(mut hangup) => {
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    reloader.reload().await;
                }
            });
        }
        Err(error) => tracing::error!(%error, "cannot listen for SIGHUP"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn one_store_has_one_folder_by_whatever_path_it_is_named() {
        let root = std::env::temp_dir().join(format!("wachta-links-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("real")).unwrap();
        let root = root.canonicalize().unwrap();
        symlink("real", root.join("folder")).unwrap();
        symlink("real/w.db", root.join("file.db")).unwrap();
        symlink("file.db", root.join("again.db")).unwrap();
        symlink("circle.db", root.join("circle.db")).unwrap();
        let expected = (format!("sqlite:{}", root.join("real/w.db").display()), root.join("real/w.state"));
        // Before and after the file exists.
        for made in [false, true] {
            if made {
                std::fs::write(root.join("real/w.db"), "").unwrap();
            }
            for named in ["real/w.db", "folder/w.db", "file.db", "again.db", "folder/../real/./w.db"] {
                assert_eq!(store_places(&format!("sqlite:{named}"), &root), expected, "{named}, made: {made}");
            }
        }
        let circle = store_places("sqlite:circle.db", &root).0;
        assert_eq!(circle, format!("sqlite:{}", root.join("circle.db").display()));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
