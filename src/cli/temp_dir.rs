//! Temporary folders of commands.

use std::path::{Path, PathBuf};

/// Returns the path of a temporary folder, which the command creates and removes. Folders of killed processes are
/// removed by this call.
pub(super) fn scratch(command: &str) -> PathBuf {
    let within = std::env::temp_dir();
    let prefix = format!("wachta-{command}-");
    remove_of_the_killed(&within, &prefix);
    within.join(format!("{prefix}{}", std::process::id()))
}

fn remove_of_the_killed(within: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(within) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Folders of other users cannot be removed and stay.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_killed_left_goes_and_nothing_else_does() {
        let within = std::env::temp_dir().join(format!("wachta-test-{}", uuid::Uuid::now_v7().simple()));
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let [gone, alive] = [ended.id(), std::process::id()].map(|pid| within.join(format!("wachta-run-{pid}")));
        let others = ["wachta-run-", "wachta-run-x", "wachta-demo-0", "else"].map(|name| within.join(name));
        for folder in [&gone, &alive].into_iter().chain(&others) {
            std::fs::create_dir_all(folder.join("within")).unwrap();
        }
        remove_of_the_killed(&within, "wachta-run-");
        assert!(!gone.exists());
        for folder in [&alive].into_iter().chain(&others) {
            assert!(folder.exists(), "{}", folder.display());
        }
        std::fs::remove_dir_all(within).unwrap();
    }
}
