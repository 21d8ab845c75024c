//! What `wachta run` tells: people on a terminal, and machines in files.

pub mod human;
pub mod json;
pub mod junit;

#[cfg(test)]
mod tests;
