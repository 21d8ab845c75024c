//! The commands, as plain functions that write to where they are told and return an exit code.

pub mod check;
pub mod explain;
pub mod files;
pub mod schema;
