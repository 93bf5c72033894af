//! epoll_create, epoll_ctl, epoll_wait and their relatives.
//!
//! The kernel's own descriptors are watched by the epoll of the kernel's that a set's descriptor is. What is ready on both sides is
//! told in shares: each side in the order in which it became ready, and neither gets more than the other while both have enough.
//!
//! What does not live here: sets (`base::epoll`), their other side (`table::sides`), what sockets are ready for (`ready`), what
//! raises them (`table`).

use core::time::Duration;

use base::Instant;
use base::epoll::{Epoll, EpollEvent, Refused, SetId};

use rustix::event::epoll::{self as kernel, EventData, EventFlags};
use rustix::fs::{FileType, fstat};

use super::open::close_stale;
use super::{Patience, persist_on, ready};
use crate::errno::{Errno, Result};
use crate::foreign::{self, SignalMask};
use crate::table::Place;
use crate::world::{Awaited, Wait, World};

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

/// Makes a set; `size` says nothing, but must be positive. See [`epoll_create1`].
///
/// # Errors
/// EINVAL; EMFILE; ENFILE when there is no room for more.
pub fn epoll_create<W: World>(world: &mut W, size: i32) -> Result<i32> {
    if size <= 0 {
        return Err(Errno::INVAL);
    }
    insert_set(world, false)
}

fn insert_set<W: World>(world: &mut W, cloexec: bool) -> Result<i32> {
    let inserted = world.table().insert_set(cloexec);
    close_stale(world);
    inserted
}

/// Makes a set; `flags` is 0 or EPOLL_CLOEXEC. For what it is good for see [`epoll_ctl`].
///
/// # Errors
/// As [`epoll_create`].
pub fn epoll_create1<W: World>(world: &mut W, flags: i32) -> Result<i32> {
    if flags & !libc::EPOLL_CLOEXEC != 0 {
        return Err(Errno::INVAL);
    }
    insert_set(world, flags != 0)
}

/// Adds a descriptor to a set, changes what is wanted of it, or takes it out, which needs no `event`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let seed = engine::random_seed()?;
/// # let live = posix::Live::start(Default::default(), seed, Default::default(), |_| Ok(()))?;
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
///
/// use posix::{EpollEvent, epoll_create1, epoll_ctl, epoll_wait, socket};
///
/// let set = epoll_create1(&mut live.call(), libc::EPOLL_CLOEXEC)?;
/// let fd = socket(&mut live.call(), libc::AF_INET, libc::SOCK_DGRAM, 0)?;
/// let (reader, mut writer) = std::io::pipe()?;
/// for (fd, events) in [(fd, libc::EPOLLIN), (reader.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET)] {
///     let event = EpollEvent { events: events as u32, data: fd as u64 };
///     epoll_ctl(&mut live.call(), set, libc::EPOLL_CTL_ADD, fd, Some(event))?;
/// }
/// writer.write_all(b"wake up")?;
/// let mut events = [EpollEvent::default(); 8];
/// let told = epoll_wait(&mut live.call(), set, &mut events, -1)?;
/// assert_eq!((told, events[0].data), (1, reader.as_raw_fd() as u64));
/// // Until there is a datagram, or for a millisecond.
/// assert_eq!(epoll_wait(&mut live.call(), set, &mut events, 1)?, 0);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// In this order: EFAULT (no event), EBADF, EPERM (a file, which is always ready), EINVAL (`set` is none of ours, or is `fd`; unknown
/// operation; EPOLLEXCLUSIVE where it may not be), ELOOP, EEXIST or ENOENT, ENOSPC. EMFILE and ENFILE when there are no descriptors
/// left to join both sides of a set.
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
        Place::Elsewhere => return control_kernel(world, (set, watcher), operation, fd, wanted),
        Place::Set(inner) => world.table().epoll().and_then(|e| e.source_of(inner)),
        Place::Socket => world.table().get(fd)?.watched,
    };
    let Place::Set(watcher) = watcher else {
        return Err(Errno::INVAL);
    };
    let tag = fd as u32;
    let controlled = with(world, |epoll, world| {
        let poll = &mut |word| level_of(world, word);
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
    });
    let table = world.table();
    table.announce();
    controlled?;
    match operation {
        libc::EPOLL_CTL_ADD if table.is_mixed(fd) => {
            let connected = table.connect(set, fd);
            if let (Err(_), Some(epoll)) = (connected, table.epoll()) {
                epoll.delete(watcher, source, tag)?;
            }
            connected
        }
        libc::EPOLL_CTL_DEL => {
            table.disconnect(set, fd);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// epoll_ctl for one of the kernel's descriptors: the kernel's affair, and its order of checks.
fn control_kernel<W: World>(
    world: &mut W,
    (set, place): (i32, Place),
    operation: i32,
    fd: i32,
    wanted: EpollEvent,
) -> Result<()> {
    let file = foreign::borrow(fd).ok_or(Errno::BADF)?;
    let Place::Set(_) = place else {
        let kind = FileType::from_raw_mode(fstat(file)?.st_mode);
        return Err(match kind {
            FileType::RegularFile | FileType::Directory => Errno::PERM,
            _ => Errno::INVAL,
        });
    };
    let own = foreign::borrow(set).ok_or(Errno::BADF)?;
    let data = EventData::new_u64(wanted.data);
    let flags = EventFlags::from_bits_retain(wanted.events);
    match operation {
        libc::EPOLL_CTL_ADD => {
            world.table().mix(set)?;
            kernel::add(own, file, data, flags)?;
        }
        libc::EPOLL_CTL_MOD => kernel::modify(own, file, data, flags)?,
        libc::EPOLL_CTL_DEL => kernel::delete(own, file)?,
        _ => return Err(Errno::INVAL),
    }
    Ok(())
}

/// What the owner of a word is ready for: a socket, or a set's other side.
fn level_of<W: World>(world: &mut W, word: u64) -> u32 {
    let fd = word as i32;
    ready::level(world, fd).unwrap_or_else(|| world.table().kernel_level(fd))
}

/// Waits until something in a set is ready, for `timeout_ms` at most, for ever if that is negative. How many of `events` were
/// filled, with what has been ready for longest first. For an example see [`epoll_ctl`].
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
    let timeout = timeout.map(Duration::from_millis);
    epoll_pwait2(world, set, events, timeout, None)
}

/// As [`epoll_wait`], to the nanosecond; without a timeout for ever. `mask` blocks signals while it sleeps, and no others.
///
/// # Errors
/// As [`epoll_wait`]; EINTR when a signal ended the sleep; EMFILE and ENFILE when there are no descriptors left to sleep on.
pub fn epoll_pwait2<W: World>(
    world: &mut W,
    set: i32,
    events: &mut [EpollEvent],
    timeout: Option<Duration>,
    mask: Option<SignalMask>,
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
    match take(world, (set, id), events) {
        Err(Errno::AGAIN) => {}
        taken => return taken,
    }
    count_waiter(world, id, true);
    let taken = persist_on(
        world,
        patience,
        events,
        |world, events| take(world, (set, id), events),
        |_, _| Wait(Awaited::Set { fd: set, id, mask }),
    );
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
fn take<W: World>(
    world: &mut W,
    (fd, set): (i32, SetId),
    events: &mut [EpollEvent],
) -> Result<usize> {
    world.table().whole()?;
    let epoll = world.table().epoll().ok_or(Errno::BADF)?;
    epoll.source_of(set).ok_or(Errno::BADF)?;
    let taken = match world.table().is_mixed(fd) {
        true => take_both(world, (fd, set), events)?,
        false => take_ours(world, set, events)?,
    };
    world.table().pass_on(fd);
    match taken {
        0 => Err(Errno::AGAIN),
        taken => Ok(taken),
    }
}

/// From both sides. Neither is asked twice, for it would tell twice what stays ready.
fn take_both<W: World>(
    world: &mut W,
    (fd, set): (i32, SetId),
    events: &mut [EpollEvent],
) -> Result<usize> {
    let room = events.len();
    let table = world.table();
    table.drain(fd);
    let ours = table.epoll().is_some_and(|epoll| epoll.may_be_ready(set));
    let share = match ours {
        false => room,
        true if table.alternate(fd) => room.div_ceil(2),
        true => room / 2,
    };
    let told = table.take_kernel(fd, &mut events[..share]);
    let taken = told + take_ours(world, set, &mut events[told..])?;
    match taken {
        // What seemed ready was not: the kernel's side has it all.
        0 if share < room => Ok(world.table().take_kernel(fd, events)),
        taken => Ok(taken),
    }
}

fn take_ours<W: World>(world: &mut W, set: SetId, events: &mut [EpollEvent]) -> Result<usize> {
    let epoll = world.table().epoll().ok_or(Errno::BADF)?;
    if events.is_empty() || !epoll.may_be_ready(set) {
        return Ok(0);
    }
    with(world, |epoll, world| {
        let poll = &mut |word| level_of(world, word);
        let room = events.len();
        let mut places = events.iter_mut();
        let give = &mut |event| {
            if let Some(place) = places.next() {
                *place = event;
            }
        };
        Ok(epoll.take(set, room, poll, give)?)
    })
}

/// What a descriptor is ready for, be it a socket or a set; `None` when it is neither.
pub(super) fn level<W: World>(world: &mut W, fd: i32) -> Option<u32> {
    match world.table().place(fd).ok()? {
        Place::Socket => ready::level(world, fd),
        Place::Set(set) => {
            world.table().drain(fd);
            let ready = with(world, |epoll, world| {
                let poll = &mut |word| level_of(world, word);
                Ok(epoll.ready(set, poll))
            });
            ready.ok()
        }
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
