//! Descriptors of the kernel that belong to the program: the calls about them that take a number.
//!
//! What does not live here: descriptors that are ours, which are owned.
//!
//! Invariant: a number is used for one system call, and kept by nobody.

use core::ptr;
use core::time::Duration;
use std::os::fd::BorrowedFd;

use rustix::io::fcntl_getfd;

use crate::errno::{Errno, Result};

/// Signals that are blocked while a call sleeps, as the kernel has them: signal `n` is bit `n - 1`.
pub type SignalMask = u64;

/// A descriptor of the program's, for one system call; `None` for a number that can be none.
pub(crate) fn borrow<'a>(fd: i32) -> Option<BorrowedFd<'a>> {
    // SAFETY: it is not -1. It goes to one system call and is dropped: if the program has closed it the kernel says EBADF, and if
    // the program closes it meanwhile, that is the race it would have with the kernel's own call.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Whether a descriptor is one of the kernel's.
pub(crate) fn is_open(fd: i32) -> bool {
    borrow(fd).is_some_and(|fd| fcntl_getfd(fd).is_ok())
}

/// ppoll(2): how many have something; without a timeout it sleeps for ever, with one of no time it does not, whatever signals come.
///
/// # Errors
/// EINTR, if it sleeps; EINVAL (more than there may be descriptors), ENOMEM.
pub(crate) fn poll(
    fds: &mut [libc::pollfd],
    timeout: Option<Duration>,
    mask: Option<SignalMask>,
) -> Result<usize> {
    loop {
        match ppoll(fds, timeout, mask) {
            // The kernel says so of a mere look, too.
            Err(Errno::INTR) if timeout == Some(Duration::ZERO) => {}
            found => return found,
        }
    }
}

fn ppoll(
    fds: &mut [libc::pollfd],
    timeout: Option<Duration>,
    mask: Option<SignalMask>,
) -> Result<usize> {
    let mut time = timeout.map(|time| libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    let mask = mask.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the pollfds are the caller's slice, as many as it says; the time and the mask are null or outlive the call, and a mask
    // is as long as said. By its number, so that nobody's ppoll stands between.
    let found = unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            fds.as_mut_ptr(),
            fds.len(),
            time,
            mask,
            size_of::<SignalMask>(),
        )
    };
    usize::try_from(found).map_err(|_| last_error())
}

fn last_error() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}
