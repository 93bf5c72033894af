//! See `fuzz::parsers::icmpv6`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::icmpv6(data));
