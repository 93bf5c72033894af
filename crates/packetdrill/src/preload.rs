//! Calls packetdrill makes around its interface, answered when this file is preloaded (LD_PRELOAD): `close` when it cleans up,
//! `getsockopt` for the numbers in `%{ }%`, and `sendfile`. On descriptors that are not ours they go to the kernel.
//!
//! What does not live here: how they are answered (`edge`, `posix`).
//!
//! Invariant: nothing here locks while this thread holds the stage: closing a descriptor within a call must not wait for it.

use core::ffi::{c_int, c_void};
use std::io::IoSlice;

use libc::socklen_t;
use posix::Errno;

use crate::edge::{read_option, stage};
use crate::pointer::{report, report_int};

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
    let closed = stage().map_or(Ok(()), |stage| posix::close(&mut stage.call(), fd));
    report_int(closed.map(|()| 0))
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

/// `sendfile` of the C library: from a file to a socket of ours.
///
/// # Safety
/// `offset` is null or points at where to read from.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(
    to: c_int,
    from: c_int,
    offset: *mut libc::off_t,
    count: usize,
) -> libc::ssize_t {
    if !ours(to) {
        // SAFETY: the caller's own arguments.
        return unsafe { libc::syscall(libc::SYS_sendfile, to, from, offset, count) as isize };
    }
    let mut bytes = vec![0_u8; count.min(1 << 20)];
    // SAFETY: null, or the caller's.
    let place = unsafe { offset.as_mut() };
    let at = match &place {
        Some(at) => **at,
        // SAFETY: asks where the file stands.
        None => unsafe { libc::lseek(from, 0, libc::SEEK_CUR) },
    };
    // SAFETY: a buffer of so many bytes.
    let n = unsafe { libc::pread(from, bytes.as_mut_ptr().cast(), bytes.len(), at) };
    let Ok(len) = usize::try_from(n) else {
        return -1; // with the kernel's errno
    };
    let data = [IoSlice::new(&bytes[..len])];
    let sent = stage().map_or(Err(Errno::BADF), |stage| {
        posix::send(&mut stage.call(), to, &data, 0, None)
    });
    if let Ok(sent) = sent {
        let end = at + sent as libc::off_t;
        match place {
            Some(place) => *place = end,
            None => {
                // SAFETY: moves the caller's file on, as he asked.
                unsafe { libc::lseek(from, end, libc::SEEK_SET) };
            }
        }
    }
    report(sent)
}
