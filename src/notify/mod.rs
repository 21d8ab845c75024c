//! Telling people: one file per kind of receiver.

mod config;

pub use config::{Alerting, Receiver, ReceiverKind, Route};
