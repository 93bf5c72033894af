//! The packet quoted in an ICMP error.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::quote(data));
