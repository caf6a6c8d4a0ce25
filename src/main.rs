//! The `feather-sync` binary.
fn main() {}
