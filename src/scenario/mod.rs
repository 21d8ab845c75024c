//! What to check: the scenario language, from text to a [`Scenario`].
//!
//! Pure: no files, no clock, no network. [`load`](load::load) takes a path and a text and gives scenarios and
//! diagnostics; whoever calls it reads the files. What a scenario may know of its surroundings it asks of a
//! [`Lookup`].

pub mod model;
pub mod template;

pub use model::*;
pub use template::{Reference, Template, Value};
