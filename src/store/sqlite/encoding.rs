//! Conversion of values to columns.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::store::{Result, StoreError};

pub(super) fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

pub(super) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| StoreError::refused(e.to_string()))
}

/// Converts the number of a record for the database.
pub(super) fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
