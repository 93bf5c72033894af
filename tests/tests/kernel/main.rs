//! A Millstream host and the Linux kernel on one cable.
//!
//! Every test makes its own network namespace, in which it is root, with a TAP device or a veth pair inside; so they
//! run at the same time, as any user who may make namespaces, and leave nothing behind. Where namespaces are forbidden
//! a line on standard error says so and the tests pass.
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

mod account;
mod backlog;
mod device;
mod flood;
mod lossy;
mod mtu;
mod negotiate;
mod neighbour;
mod options;
mod ping;
mod tcp;
mod udp;
mod wildcards;
mod window;
