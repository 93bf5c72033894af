//! The whole host: frames, calls and time, in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::host(data));
