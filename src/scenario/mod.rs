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
mod http;
pub mod keys;
mod lint;
pub mod load;
mod locator;
pub mod model;
mod naming;
pub mod reader;
pub mod schema;
mod settings;
mod slo;
mod step;
pub mod template;
mod timezone;
pub mod timing;
mod trap;
pub mod tree;
pub mod units;
mod url;
pub mod usual;
mod verdict;
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
