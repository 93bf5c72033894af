//! See `fuzz::parsers::tcp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::tcp(data));
