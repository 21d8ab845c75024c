//! Tests at the boundaries of wachta, against the real things on the other side.

#![expect(clippy::unwrap_used, reason = "what does not work in a test must end it")]

mod acknowledging;
mod actionability;
mod alerts;
mod allowance;
mod attacks;
mod bad_servers;
mod blackbox;
mod browser;
mod browser_suite;
mod checks;
mod command_line;
mod daemon_browser;
mod deaths;
mod documents;
mod drain;
mod elastic;
mod faults;
mod first_steps;
mod foreign_pages;
mod har;
mod heartbeats;
mod httpbin;
mod one_run;
mod open_telemetry;
mod operators;
mod outage;
mod planted;
mod receivers;
mod reload;
mod sentry;
mod shipper;
mod store_goes;
mod storm;
mod support;
mod tasks;
mod web_security;
mod windows;
mod zabbix;
mod zabbix_setup;
