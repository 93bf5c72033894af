//! A private place in the kernel: namespaces, links and addresses for the demo, tests and benchmarks.
