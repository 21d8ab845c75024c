//! Tests at the boundaries of wachta, against the real things on the other side.

mod faults;
mod operators;
mod support;
mod zabbix;
