//! Scenario language: from the text of a file to a [`Scenario`].
//!
//! Pure: no clock and no network. [`load`](load::load) converts a path and a text to scenarios and diagnostics; the
//! caller reads the files. Access to the environment of the agent is provided by a [`Lookup`].

mod browser;
pub mod catalog;
pub mod check;
mod dependency;
pub mod device;
mod expect;
mod fragment;
mod headers;
mod headless;
mod http;
mod id;
mod key;
pub mod keys;
mod kind;
mod lint;
pub mod load;
mod locator;
mod matcher;
pub mod model;
mod naming;
mod pretty;
pub mod reader;
mod saved_name;
mod schedule;
pub mod schema;
mod scope;
mod settings;
mod slo;
mod step;
pub mod template;
mod timezone;
pub mod timing;
mod trap;
pub mod tree;
mod trust;
pub mod units;
mod url;
pub mod usual;
mod verdict;
mod viewport;
pub mod xpath;

pub use catalog::{Catalog, assemble};
pub use check::Check;
pub use dependency::{Parents, parents};
pub use load::{Loaded, load};
pub use model::*;
pub use settings::headless;
pub use slo::Slo;
pub use template::{Reference, Template, Value};
pub use url::{address_of, proxy_url};
pub use usual::SlowerThanUsual;
pub use verdict::Verdict;
pub use xpath::XPath;

#[cfg(test)]
mod tests;
