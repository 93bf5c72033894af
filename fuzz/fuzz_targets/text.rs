//! Addresses and prefixes as people write them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::text(data));
