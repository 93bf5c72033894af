//! See `fuzz::parsers::ipv6`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::ipv6(data));
