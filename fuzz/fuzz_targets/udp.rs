//! See `fuzz::parsers::udp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::udp(data));
