//! The run engine: one scenario in, one outcome out, whatever breaks.

pub mod browser;
pub mod expect;
pub mod values;

pub use values::Values;
