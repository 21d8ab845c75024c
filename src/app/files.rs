//! Search for scenario files below paths.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Maximum depth of folders.
const MAX_DEPTH: usize = 32;
/// Maximum number of files and folders searched below one path.
const MAX_ENTRIES: usize = 100_000;

/// Returns whether a file can contain scenarios, by its name.
pub fn is_scenario_file(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
}

/// Returns the scenario files at the given paths: a file itself, and for a folder every `*.yaml` and `*.yml` below it,
/// sorted.
pub fn scenario_files(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()));
        if std::fs::metadata(path).map_err(named)?.is_dir() {
            Search { found: &mut found, seen: HashSet::new(), entries: 0 }.below(path, 0).map_err(named)?;
        } else {
            found.push(path.clone());
        }
    }
    let mut seen = HashSet::new();
    found.retain(|path| seen.insert(path.clone()));
    Ok(found)
}

struct Search<'a> {
    found: &'a mut Vec<PathBuf>,
    /// Folders already searched, because links may lead to the same folder again.
    seen: HashSet<(u64, u64)>,
    entries: usize,
}

impl Search<'_> {
    fn below(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        let about = std::fs::metadata(folder)?;
        if depth > MAX_DEPTH || !self.seen.insert((about.dev(), about.ino())) {
            return Ok(());
        }
        let mut entries: Vec<_> = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(io::Error::other(format!("more than {MAX_ENTRIES} files and folders in it")));
            }
            entries.push(entry?);
        }
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            // Hidden folders contain internal data of mounts and tools.
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if path.is_dir() {
                self.below(&path, depth + 1)?;
            } else if is_scenario_file(&path) {
                self.found.push(path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_in_a_circle_are_followed_once() {
        let root = std::env::temp_dir().join(format!("wachta-files-{}", uuid::Uuid::now_v7().simple()));
        for folder in ["a", "b"] {
            std::fs::create_dir_all(root.join(folder).join("inner.yaml")).unwrap();
            std::fs::write(root.join(folder).join("one.yaml"), "").unwrap();
            for link in ["x", "y", "z"] {
                std::os::unix::fs::symlink(&root, root.join(folder).join(link)).unwrap();
            }
        }
        std::fs::write(root.join("notes.txt"), "").unwrap();
        std::fs::create_dir_all(root.join(".hidden")).unwrap();
        std::fs::write(root.join(".hidden/two.yaml"), "").unwrap();
        let found = scenario_files(std::slice::from_ref(&root)).unwrap();
        assert_eq!(found, [root.join("a/one.yaml"), root.join("b/one.yaml")]);
        std::fs::remove_dir_all(root).unwrap();
    }
}
