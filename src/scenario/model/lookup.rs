//! Access to the environment of the agent.

use std::fmt;

/// Access of a scenario to the environment and files of the agent, restricted by the agent's `allow` list.
pub trait Lookup: Send + Sync {
    /// Returns the value of an environment variable.
    fn env(&self, name: &str) -> Result<String, LookupError>;

    /// Returns the content of a file. `beside` is the path of the scenario file: relative paths start at its folder,
    /// and the files in that folder are always allowed.
    fn file(&self, path: &std::path::Path, beside: &str) -> Result<Vec<u8>, LookupError>;

    /// Checks whether a program may be run and returns the environment for it. No program is allowed by default.
    fn exec(&self, program: &str) -> Result<Vec<(String, String)>, LookupError> {
        Err(LookupError::NotAllowed(format!("the program `{program}` is not allowed here")))
    }
}

/// Reason for a failed lookup. Never contains the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// The variable or file does not exist.
    Missing(String),
    /// The agent does not allow the lookup; the text describes what to add to `allow`.
    NotAllowed(String),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(text) | Self::NotAllowed(text) => f.write_str(text),
        }
    }
}
