//! Placeholder until its room is furnished.
#![forbid(unsafe_code)]
fn main() {}
