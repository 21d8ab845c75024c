//! The page, metrics and administration over HTTP.

mod config;

pub use config::Config;
