//! Token of a module, with the time at which it expires.

use std::sync::Mutex;
use std::time::Instant;

/// A token with the time at which it expires.
#[derive(Debug, Default)]
pub(super) struct Token(pub(super) Mutex<Option<(String, Instant)>>);
