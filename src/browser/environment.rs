//! Environment variables that a browser receives from the agent.

use std::ffi::{OsStr, OsString};

/// Returns the part of the agent's environment that a browser needs.
pub(super) fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| is_passed_on(name))
}

fn is_passed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["PATH", "HOME", "USER", "LANG", "TZ", "LD_LIBRARY_PATH", "FONTCONFIG_PATH", "FONTCONFIG_FILE", "DISPLAY"]
        .contains(&name.as_ref())
        || name.starts_with("LC_")
}
