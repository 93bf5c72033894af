//! See `fuzz::parsers::icmpv4`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::icmpv4(data));
