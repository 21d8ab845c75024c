//! Declaration of a key of the agent configuration.

use crate::scenario::keys::{Key, Shape};

pub(super) const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape: Some(shape), doc }
}

pub(super) const TEXTS: Shape = Shape::List(&Shape::Text);
