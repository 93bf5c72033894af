//! TCP as packet traces: a host on one side, segments written by hand on the other, time moved by hand.
#![allow(clippy::unwrap_used, missing_docs)]

mod account;
mod backlog;
mod close;
mod data;
mod ecn;
mod fast_open;
mod half_open;
mod history;
mod icmp;
mod linux;
mod list;
mod marks;
mod memory;
mod musts;
mod open;
mod pacing;
mod recovery;
mod rig;
mod robust;
mod send;
mod stamps;
mod timers;
mod tunables;
mod tuning;
