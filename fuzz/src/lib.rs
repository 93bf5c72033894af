//! What the fuzz targets check. A target itself is one line that calls a function here.
//!
//! Targets are run by `cargo xtask fuzz`; `seeds/TARGET/` holds inputs worth starting from, and every input that once
//! failed.
#![forbid(unsafe_code)]

mod host;
pub mod parsers;

pub use host::host;
