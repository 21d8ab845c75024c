//! Tests at the boundaries of wachta, against the real things on the other side.

#![expect(clippy::unwrap_used, reason = "what does not work in a test must end it")]

mod browser;
mod documents;
mod faults;
mod operators;
mod support;
mod zabbix;
