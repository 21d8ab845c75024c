//! What the pages of a run did.

use std::time::SystemTime;

use serde_json::Value as Json;

use crate::scenario::Engine;

pub(super) struct Observed;

impl Observed {
    pub(super) fn new(_: Engine) -> Self {
        Self
    }
    #[allow(clippy::unused_self)]
    pub(super) fn step(&mut self, _: usize) {}
    #[allow(clippy::unused_self)]
    pub(super) fn event(&mut self, _: &str, _: &Json, _: SystemTime) {}
}

pub(super) const PRELOAD: &str = "channel => {}";
