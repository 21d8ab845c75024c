//! The parts against what they really talk to.

mod browser;
