//! See `fuzz::parsers::ethernet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::ethernet(data));
