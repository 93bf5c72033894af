//! The Internet checksum and its incremental update, against the plain sum of RFC 1071.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::checksum(data));
