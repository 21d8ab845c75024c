//! Zabbix, by the trapper protocol.

mod config;

pub use config::Config;
