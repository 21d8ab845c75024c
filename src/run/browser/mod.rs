//! Page steps over WebDriver: sessions, and what is done in them.

mod config;

pub use config::Config;
