//! Calls packetdrill makes around its interface, answered when this file is preloaded (LD_PRELOAD): `close` when it cleans up,
//! and `getsockopt` for the numbers in `%{ }%`. On descriptors that are not ours they go to the kernel.
//!
//! What does not live here: how they are answered (`edge`, `posix`).
//!
//! Invariant: nothing here locks while this thread holds the stage: closing a descriptor within a call must not wait for it.

use core::ffi::{c_int, c_void};

use libc::socklen_t;

use crate::edge::{read_option, stage};
use crate::pointer::set_errno;

/// Whether a descriptor is ours, as seen from outside a call.
fn ours(fd: c_int) -> bool {
    !crate::stage::within_call() && stage().is_some_and(|stage| stage.owns(fd))
}

/// `close` of the C library.
// SAFETY: its name is taken on purpose, with its type.
#[unsafe(no_mangle)]
pub extern "C" fn close(fd: c_int) -> c_int {
    if !ours(fd) {
        // SAFETY: the caller closes his own descriptor.
        return unsafe { libc::syscall(libc::SYS_close, fd) } as c_int;
    }
    let closed = stage().map(|stage| posix::close(&mut stage.call(), fd));
    match closed {
        Some(Err(error)) => {
            set_errno(error);
            -1
        }
        _ => 0,
    }
}

/// `getsockopt` of the C library.
///
/// # Safety
/// `len` points at how many bytes `at` points at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    at: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    if ours(fd) {
        // SAFETY: the caller's value and its length.
        return unsafe { read_option(fd, level, name, at, len) };
    }
    // SAFETY: the caller's own arguments.
    unsafe { libc::syscall(libc::SYS_getsockopt, fd, level, name, at, len) as c_int }
}
