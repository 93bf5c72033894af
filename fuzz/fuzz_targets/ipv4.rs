//! See `fuzz::parsers::ipv4`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::ipv4(data));
