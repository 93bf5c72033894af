//! epoll_create, epoll_ctl, epoll_wait and their relatives.
//!
//! What does not live here: sets (`base::epoll`), what sockets are ready for (`ready`), what raises them (`table`).

use core::time::Duration;

use base::Instant;
use base::epoll::{Epoll, EpollEvent, Refused, SetId};

use super::{Patience, persist, ready};
use crate::errno::{Errno, Result};
use crate::table::Place;
use crate::world::World;

/// Most events one call may ask for: their bytes are counted by an int.
const MOST_EVENTS: usize = i32::MAX as usize / size_of::<libc::epoll_event>();

impl From<Refused> for Errno {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stale => Self::BADF,
            Refused::Exists => Self::EXIST,
            Refused::NotFound => Self::NOENT,
            Refused::Invalid => Self::INVAL,
            Refused::Loop => Self::LOOP,
            Refused::Full => Self::NOSPC,
        }
    }
}

/// Makes a set; `size` says nothing, but must be positive.
///
/// # Errors
/// EINVAL; EMFILE; ENFILE when there is no room for more.
pub fn epoll_create<W: World>(world: &mut W, size: i32) -> Result<i32> {
    if size <= 0 {
        return Err(Errno::INVAL);
    }
    world.table().insert_set(false)
}

/// Makes a set; `flags` is 0 or EPOLL_CLOEXEC.
///
/// # Errors
/// As [`epoll_create`].
pub fn epoll_create1<W: World>(world: &mut W, flags: i32) -> Result<i32> {
    if flags & !libc::EPOLL_CLOEXEC != 0 {
        return Err(Errno::INVAL);
    }
    world.table().insert_set(flags != 0)
}

/// Adds a descriptor to a set, changes what is wanted of it, or takes it out, which needs no `event`.
///
/// # Errors
/// In this order: EFAULT (no event), EBADF, EPERM (a descriptor that is none of ours), EINVAL (`set` is none, or is `fd`; unknown
/// operation; EPOLLEXCLUSIVE where it may not be), ELOOP, EEXIST or ENOENT, ENOSPC.
pub fn epoll_ctl<W: World>(
    world: &mut W,
    set: i32,
    operation: i32,
    fd: i32,
    event: Option<EpollEvent>,
) -> Result<()> {
    let wanted = match operation {
        libc::EPOLL_CTL_DEL => EpollEvent::default(),
        _ => event.ok_or(Errno::FAULT)?,
    };
    let watcher = world.table().place(set)?;
    let source = match world.table().place(fd)? {
        // The kernel's own find their place here when sets mix with them.
        Place::Elsewhere => return Err(Errno::PERM),
        Place::Set(inner) => world.table().epoll().and_then(|e| e.source_of(inner)),
        Place::Socket => world.table().get(fd)?.watched,
    };
    let Place::Set(watcher) = watcher else {
        return Err(Errno::INVAL);
    };
    let tag = fd as u32;
    with(world, |epoll, world| {
        let poll = &mut |fd| ready::level(world, fd as i32).unwrap_or(0);
        match operation {
            libc::EPOLL_CTL_ADD => {
                let source = epoll.source(source, u64::from(tag)).ok_or(Errno::NOSPC)?;
                epoll.add(watcher, (source, tag), wanted, poll)?;
                // A set is its own source.
                if let Ok(socket) = world.table().get_mut(fd) {
                    socket.watched = Some(source);
                }
            }
            libc::EPOLL_CTL_MOD => epoll.modify(watcher, (source, tag), wanted, poll)?,
            libc::EPOLL_CTL_DEL => epoll.delete(watcher, source, tag)?,
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    })
}

/// Waits until something in a set is ready, for `timeout_ms` at most, for ever if that is negative. How many of `events` were
/// filled, with what has been ready for longest first.
///
/// # Errors
/// EBADF; EINVAL (no set, no room for events, or too much).
pub fn epoll_wait<W: World>(
    world: &mut W,
    set: i32,
    events: &mut [EpollEvent],
    timeout_ms: i32,
) -> Result<usize> {
    let timeout = u64::try_from(timeout_ms).ok();
    epoll_pwait2(world, set, events, timeout.map(Duration::from_millis))
}

/// As [`epoll_wait`], to the nanosecond; without a timeout for ever. Signals are the caller's affair.
///
/// # Errors
/// As [`epoll_wait`].
pub fn epoll_pwait2<W: World>(
    world: &mut W,
    set: i32,
    events: &mut [EpollEvent],
    timeout: Option<Duration>,
) -> Result<usize> {
    let place = world.table().place(set)?;
    let Place::Set(id) = place else {
        return Err(Errno::INVAL);
    };
    if events.is_empty() || events.len() > MOST_EVENTS {
        return Err(Errno::INVAL);
    }
    let patience = match timeout {
        Some(Duration::ZERO) => Patience::None,
        Some(timeout) => Patience::Until(world.now() + timeout),
        None => Patience::Until(Instant::FAR),
    };
    match take(world, id, events) {
        Err(Errno::AGAIN) => {}
        taken => return taken,
    }
    count_waiter(world, id, true);
    let taken = persist(world, patience, |world| take(world, id, events));
    count_waiter(world, id, false);
    match taken {
        Err(Errno::AGAIN) => Ok(0),
        taken => taken,
    }
}

fn count_waiter<W: World>(world: &mut W, set: SetId, begins: bool) {
    if let Some(epoll) = world.table().epoll() {
        if begins {
            epoll.begin_wait(set);
        } else {
            epoll.end_wait(set);
        }
    }
}

/// Fills `events` with what is ready; EAGAIN when nothing is.
fn take<W: World>(world: &mut W, set: SetId, events: &mut [EpollEvent]) -> Result<usize> {
    let epoll = world.table().epoll().ok_or(Errno::BADF)?;
    if !epoll.may_be_ready(set) && epoll.source_of(set).is_some() {
        return Err(Errno::AGAIN);
    }
    with(world, |epoll, world| {
        let poll = &mut |fd| ready::level(world, fd as i32).unwrap_or(0);
        let room = events.len();
        let mut places = events.iter_mut();
        let give = &mut |event| {
            if let Some(place) = places.next() {
                *place = event;
            }
        };
        match epoll.take(set, room, poll, give)? {
            0 => Err(Errno::AGAIN),
            taken => Ok(taken),
        }
    })
}

/// What a descriptor is ready for, be it a socket or a set; `None` when it is neither.
pub(super) fn level<W: World>(world: &mut W, fd: i32) -> Option<u32> {
    match world.table().place(fd).ok()? {
        Place::Socket => ready::level(world, fd),
        Place::Set(set) => with(world, |epoll, world| {
            let poll = &mut |fd| ready::level(world, fd as i32).unwrap_or(0);
            Ok(epoll.ready(set, poll))
        })
        .ok(),
        Place::Elsewhere => None,
    }
}

/// Takes the sets out of the table while sockets are asked what they are ready for, which raises nothing.
fn with<W: World, T>(
    world: &mut W,
    act: impl FnOnce(&mut Epoll, &mut W) -> Result<T>,
) -> Result<T> {
    let mut epoll = world.table().sets.take().ok_or(Errno::BADF)?;
    let result = act(&mut epoll, world);
    world.table().sets = Some(epoll);
    result
}
