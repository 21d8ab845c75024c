//! The assembly: the one place that knows every part.

pub mod config;
pub mod lookup;
