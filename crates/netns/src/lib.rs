//! A private place in the kernel: namespaces, links and addresses for the demo, tests and benchmarks.
//!
//! What does not live here: frames. This room prepares the kernel's side of a wire; `port` holds the other end of it.
//! Nothing here calls another program: links, addresses and routes go through rtnetlink, offloads through the ethtool
//! ioctl, the rest through `/proc/sys`.
//!
//! Start reading at [`enter_private`] (a program of its own), [`in_private!`](crate::in_private) (a test) or [`link`].
//!
//! Invariant: nothing made here outlives the process that made it. Links die with their namespace, namespaces with the
//! last process or [`Namespace`] handle in them, and a child of the [`harness`] with its parent.
//! Invariant: a kernel that forbids something is told apart from a call that failed ([`Error::is_unavailable`]), and
//! the error is one line that says what to do.

mod error;
mod ethtool;
pub mod harness;
pub mod link;
mod netlink;
pub mod socket;
mod space;

pub use error::Error;
pub use space::{Namespace, enter_private};

/// Writes `value` to `/proc/sys/net/<path>`, for example `sysctl("ipv4/ip_forward", "1")`: the setting of the network
/// namespace the calling thread is in.
///
/// # Errors
/// When there is no such setting, or `/proc/sys` is read-only (some containers).
pub fn sysctl(path: &str, value: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/net/{path}");
    std::fs::write(&path, value).map_err(|e| {
        let remedy = match e.raw_os_error() {
            Some(libc::EROFS) => {
                " (/proc/sys is mounted read-only here: run outside the container or remount it)"
            }
            Some(libc::ENOENT) => " (this kernel has no such setting)",
            _ => "",
        };
        Error::failed(format_args!("cannot write {value:?} to {path}{remedy}"), &e)
    })
}
