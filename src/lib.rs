//! wachta: a synthetic monitoring agent.
//!
//! Three nouns of plain data carry the program: a [`scenario::Scenario`] says what to check,
//! an [`outcome::Outcome`] what happened in one run, an [`incident::Incident`] what it means.
//! Every module turns one into the next, or shows it to someone:
//!
//! ```text
//! files ─load→ Catalog ─schedule→ due Scenario ─run→ Outcome ─judge→ Incident ─notify→ people
//!                                                       └─fan out→ { prometheus · zabbix · ecs · sentry … }
//! ```
//!
//! Imports point down only (`tests/architecture.rs` holds this table):
//!
//! ```text
//!  7  entry      main → cli                               arguments, exit codes, reports
//!  6  assembly   app                                      the one place that knows every part
//!  5  reaction   web   alert                              show outcomes; judge outcomes
//!  4  running    run   blackbox                           one scenario in, one outcome out; one module and target in, metrics out
//!  3  engines    browser   schedule   sink   notify   demo
//!  2  ground     store   wire   values                    the store; every protocol; the values of a run and what they must be
//!  1  tools      clock   tasks   bounded   own_errors
//!  0  words      scenario ← outcome ← incident; names; diagnostic; secret
//! ```
//!
//! The path of an outcome: `schedule` finds a scenario due and calls the function `app` gave it;
//! that function is `run::run`. Its [`outcome::Outcome`] goes to `alert::Committer`, which writes it
//! together with the advanced incident, the decision and the owed notices in one transaction, and to
//! the sinks, each of which has a queue and a task of its own. `notify` delivers what is owed.
//!
//! Glossary: a *scenario* has *steps*; an *expectation* is what must hold; an *outcome* has a
//! *verdict* (passed, degraded, failed, unknown) with a *reason* and *evidence*; an *incident* is
//! opened and resolved by outcomes; a *notice* tells one *receiver* of one event of it; a *sink*
//! shows outcomes to another system; a *location* is where an agent looks from.

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
