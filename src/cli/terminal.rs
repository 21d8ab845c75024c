//! Output to a terminal: errors, and the use of colors.

use std::io::IsTerminal as _;

/// Prints an error without a position in a file.
pub(super) fn say_error(text: &str) {
    eprintln!("error: {text}");
}

/// Returns whether standard output supports colors.
pub(super) fn colour_on_stdout() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
