//! wachta: a synthetic monitoring agent.
//!
//! The program is built on three types of plain data: a [`scenario::Scenario`] describes what to test, an
//! [`outcome::Outcome`] is the result of one run, and an [`incident::Incident`] is a problem derived from outcomes.
//! Every module converts one to the next or presents it:
//!
//! ```text
//! files ─load→ Catalog ─schedule→ due Scenario ─run→ Outcome ─evaluate→ Incident ─notify→ people
//!                                                       └─fan out→ { prometheus · zabbix · ecs · sentry … }
//! ```
//!
//! Modules may import only from the rows below their own (`tests/architecture.rs` enforces this table):
//!
//! ```text
//!  7  CLI             main → cli                              arguments, exit codes, reports
//!  6  application     app                                     the only module that uses all others
//!  5  alerting, web   web   alert                             outcomes presented; outcomes evaluated
//!  4  runs            run   blackbox                          scenario to outcome; probe module and target to metrics
//!  3  engines         browser   schedule   sink   notify   demo
//!  2  foundation      store   wire   values                   storage; network protocols; values and matchers of a run
//!  1  tools           clock   tasks   bounded   own_errors
//!  0  domain          scenario ← outcome ← incident; names; diagnostic; secret
//! ```
//!
//! Path of an outcome: `schedule` finds a due scenario and calls a function provided by `app`, which is `run::run`. The
//! [`outcome::Outcome`] is sent to `alert::Committer`, which writes it together with the updated incident, the decision
//! and the queued notifications in one transaction, and to the sinks, each of which has its own queue and task.
//! `notify` delivers the queued notifications.
//!
//! Glossary: a *scenario* has *steps*; an *expectation* is a condition that must hold; an *outcome* has a *verdict*
//! (passed, degraded, failed, unknown) with a *reason* and *evidence*; an *incident* is opened and resolved by
//! outcomes; a *notification* informs one *receiver* of one event of an incident; a *sink* exports outcomes to another
//! system; a *location* is the place that an agent runs from.

pub mod alert;
pub mod app;
pub mod blackbox;
pub mod bounded;
pub mod browser;
pub mod cli;
pub mod clock;
pub mod demo;
pub mod diagnostic;
pub mod incident;
pub mod names;
pub mod notify;
pub mod outcome;
pub mod own_errors;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod secret;
pub mod sink;
pub mod store;
pub mod tasks;
pub mod values;
pub mod web;
pub mod wire;
