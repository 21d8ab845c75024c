//! Reader of the file of the agent configuration.

use std::path::Path;

use crate::app::config;
use crate::bounded;
use crate::diagnostic::Severity;
use crate::scenario::tree::MAX_BYTES;

/// Reads the agent configuration. Returns its problems as text with their positions.
pub(super) fn agents_file(file: &Path) -> Result<config::Config, String> {
    let shown = file.display().to_string();
    let text = bounded::read_text(file, MAX_BYTES as u64)
        .map_err(|e| format!("{shown} cannot be read: {e}; set the agent configuration with --config"))?;
    let (config, diagnostics) = config::read(&shown, &text);
    for diagnostic in &diagnostics {
        eprint!("{}", diagnostic.render(false));
    }
    match config {
        Some(config) if diagnostics.iter().all(|d| d.severity < Severity::Error) => Ok(config),
        _ => Err(format!("{shown} cannot be loaded")),
    }
}
