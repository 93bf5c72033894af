//! Interop tests against the Linux kernel in namespaces of their own.
#![forbid(unsafe_code)]
