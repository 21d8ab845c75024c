//! Reports of `wachta run`: text on a terminal, and files for other programs.

pub mod human;
pub mod json;
pub mod junit;

#[cfg(test)]
mod tests;
