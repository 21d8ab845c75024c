//! Context of the steps of a scenario.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::model::Lookup;
use super::naming::Unique;
use super::template::Template;
use crate::diagnostic::{Source, Spanned};

/// Context of the steps of a scenario.
pub struct Scope<'l> {
    /// Access to the files of fragments.
    pub lookup: &'l dyn Lookup,
    /// Scenario file.
    pub scenario: Arc<Source>,
    /// Base of relative URLs.
    pub base_url: Option<Spanned<Template>>,
    /// Timeout of steps without their own.
    pub timeout: Option<Duration>,
    /// Setting for requests without a `traceparent` setting.
    pub traceparent: Option<bool>,
    /// Names of the steps so far.
    pub names: Unique,
    /// Fragments that are being read, from the outermost inward.
    pub files: Vec<UsedFile>,
    /// Number of fragments included so far.
    pub uses: usize,
}

/// Fragment that is being read.
pub struct UsedFile {
    /// Path of the fragment, relative to the folder of the scenario file.
    pub path: PathBuf,
    /// Text of the fragment.
    pub source: Arc<Source>,
}

impl<'l> Scope<'l> {
    /// Creates the context of the first step of a scenario.
    pub fn new(lookup: &'l dyn Lookup, scenario: &Arc<Source>) -> Self {
        let (names, scenario) = (Unique::default(), Arc::clone(scenario));
        let (base_url, timeout, traceparent) = (None, None, None);
        Self { lookup, scenario, base_url, timeout, traceparent, names, files: Vec::new(), uses: 0 }
    }
}
