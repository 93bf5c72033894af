//! epoll_create, epoll_ctl and epoll_wait as packetdrill calls them.
//!
//! What does not live here: what they do (`posix`), all other calls (`edge`).

use core::ffi::c_int;

use libc::epoll_event;
use posix::{EpollEvent, Errno, PollFd};

use crate::edge::{User, done, set};
use crate::pointer::{bytes_mut, look, report_int};

/// Most events told in one call, however many may be.
const EVENTS_MOST: usize = 4096;

pub(crate) extern "C" fn epoll_create(_: User, size: c_int) -> c_int {
    report_int(posix::epoll_create(&mut set().call(), size))
}

/// As its namesake in C.
///
/// # Safety
/// `at` is null, or good for an event.
pub(crate) unsafe extern "C" fn epoll_ctl(
    _: User,
    sets: c_int,
    operation: c_int,
    fd: c_int,
    at: *mut epoll_event,
) -> c_int {
    // SAFETY: null, or the caller's event.
    let event = unsafe { look(at) }.ok().map(|event| EpollEvent {
        events: event.events,
        data: event.u64,
    });
    let mut call = set().call();
    done(posix::epoll_ctl(&mut call, sets, operation, fd, event))
}

/// As its namesake in C.
///
/// # Safety
/// `at` is null, or good for `most` events.
pub(crate) unsafe extern "C" fn epoll_wait(
    _: User,
    sets: c_int,
    at: *mut epoll_event,
    most: c_int,
    timeout: c_int,
) -> c_int {
    let most = usize::try_from(most).unwrap_or(0);
    let fits = most.min(EVENTS_MOST);
    // SAFETY: the caller's events, whose layout any bytes have.
    let room = unsafe { bytes_mut(at.cast(), fits * size_of::<epoll_event>()) };
    if room.is_err() {
        return report_int(wait_nowhere(sets, timeout));
    }
    let mut events = vec![EpollEvent::default(); fits];
    let found = posix::epoll_wait(&mut set().call(), sets, &mut events, timeout);
    for (place, event) in events.iter().take(found.unwrap_or(0)).enumerate() {
        let event = epoll_event {
            events: event.events,
            u64: event.data,
        };
        // SAFETY: within the caller's events.
        let at = unsafe { at.add(place) };
        // SAFETY: as above; the place of one need not be aligned.
        unsafe { at.write_unaligned(event) };
    }
    report_int(found.map(|n| n as c_int))
}

/// epoll_wait with no place for events: a mistake once there is one, which stays for the next call.
fn wait_nowhere(sets: c_int, timeout: c_int) -> Result<c_int, Errno> {
    let mut call = set().call();
    posix::epoll_wait(&mut call, sets, &mut [], 0).or_else(|error| match error {
        // No room is what it says of a set, too.
        Errno::INVAL => Ok(0),
        error => Err(error),
    })?;
    let mut fds = [PollFd {
        fd: sets,
        events: libc::POLLIN,
        revents: 0,
    }];
    match posix::poll(&mut call, &mut fds, timeout)? {
        0 => Ok(0),
        _ => Err(Errno::FAULT),
    }
}
