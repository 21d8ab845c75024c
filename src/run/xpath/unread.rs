//! Cause of a document that was not read.

/// Cause of a document that was not read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// The document is malformed.
    Wrong(String),
    /// The document exceeds a limit.
    TooMuch(String),
}
