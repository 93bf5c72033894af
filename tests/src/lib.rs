//! Interop tests against the Linux kernel in namespaces of their own.
