//! The ports against the Linux kernel, each test in a namespace of its own.

#![allow(clippy::unwrap_used)] // helpers of tests are tests
mod capture;
mod common;
mod packet;
mod tap;
