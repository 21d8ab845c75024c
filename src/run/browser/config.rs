//! The agent's file, `browser:`.

/// Where browser sessions come from and how many there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How many sessions may exist at once; runs above it wait.
    pub max_sessions: usize,
    /// A WebDriver endpoint; none: wachta finds and runs chromedriver itself.
    pub webdriver: Option<url::Url>,
    /// Further arguments for Chromium. Not read from the agent's file: the demo and tests keep it off the network.
    pub arguments: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_sessions: 2, webdriver: None, arguments: Vec::new() }
    }
}
