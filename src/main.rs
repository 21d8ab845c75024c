//! The wachta binary.

fn main() {}
