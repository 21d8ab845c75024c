//! Tests at the boundaries of wachta, against the real things on the other side.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod browser;
mod command_line;
mod daemon_browser;
mod drain;
mod faults;
mod one_run;
mod operators;
mod reload;
mod support;
mod zabbix;
