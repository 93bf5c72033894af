//! A shared object by which packetdrill (`--so_filename`) drives a Millstream host on virtual time.
//!
//! `edge` is what packetdrill sees: C functions and their pointers. `stage` is what it drives: a host, its clock, its
//! point-to-point link and the threads that wait. `sysctl` carries the namespace's settings over, `settings` what the link is
//! like, `device` and `queue` what scripts change of it; `counters` is what they ask `nstat`. Loaded with LD_PRELOAD too, `preload` answers the calls that packetdrill
//! makes around its interface.
//!
//! What does not live here: what calls do (`posix`), what packets do (`stack`).
//!
//! Invariant: nothing unwinds into C: a panic ends the process.
//! Invariant: time moves only when packetdrill asks for it, and never while a thread that was woken has not asked what time
//! it is.

mod counters;
mod device;
// What C finds by name need not be reachable in Rust.
#[allow(unreachable_pub)]
mod edge;
mod pointer;
#[allow(unreachable_pub)]
mod preload;
mod queue;
mod sets;
mod settings;
mod stage;
mod sysctl;
