//! Where outcomes are shown to other systems: one file per destination, a bounded queue and one task each.

pub mod prometheus;
pub mod zabbix;
