//! Tests at the boundaries of wachta, against the real things on the other side.

mod browser;
mod documents;
mod faults;
mod operators;
mod support;
mod zabbix;
