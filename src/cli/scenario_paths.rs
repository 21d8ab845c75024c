//! Files named on the command line.

use std::path::{Path, PathBuf};

use crate::app::files::scenario_files;

/// Returns the scenario files at the given paths. Fails if a path cannot be read, or is a folder without such a file.
pub(super) fn named_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    for path in paths {
        let found = scenario_files(std::slice::from_ref(path)).map_err(|error| error.to_string())?;
        if found.is_empty() {
            return Err(format!("no scenario file (*.yaml, *.yml) in {}", shown(path)));
        }
    }
    scenario_files(paths).map_err(|error| error.to_string())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
