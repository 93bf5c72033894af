//! See `fuzz::parsers::arp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::arp(data));
