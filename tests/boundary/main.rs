//! Tests at the boundaries of wachta, against the real things on the other side.

mod operators;
mod zabbix;
