//! A whole frame, header after header, as a receiver walks it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers::frame(data));
