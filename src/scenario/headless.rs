//! Chromium binary for headless mode.

/// Chromium binary for headless mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Headless {
    /// The headless shell, which needs less memory, if it is installed; otherwise the full browser.
    #[default]
    Shell,
    /// The full browser.
    Full,
}

impl Headless {
    /// Names of the binaries in scenario files.
    pub const WORDS: &'static [&'static str] = &["shell", "full"];

    /// Returns the binary with this name.
    pub fn of(word: &str) -> Self {
        if word == "full" { Self::Full } else { Self::Shell }
    }
}
