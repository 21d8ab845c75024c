//! Stages of the alert pipeline, one file each, in their order. A stage has its state and decides about what passes
//! through it. Pure.

pub mod evaluate;
pub mod quorum;
pub mod threshold;

pub mod flapping;
pub mod suppress;

pub mod group;
pub mod limit;

pub mod mute;
pub mod suppression;
