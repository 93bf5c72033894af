//! The descriptors: which socket each stands for.
//!
//! Every descriptor is a real one of the kernel's (an eventfd that nobody signals; for a set of `epoll_create` one of the kernel's,
//! where the kernel's own descriptors are), so that numbers cannot collide with those of files, whatever closes or polls them.
//!
//! What does not live here: what sockets do; what sets are (`base::epoll`), and how both their sides go together (`sides`).
//!
//! Invariant: of a world that is broken nobody is told anything but ENETDOWN: what is left of its host may be half of a change.
//! Invariant: an address is in `ports` exactly while the socket bound or connected from it is in `sockets`.

mod sides;

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use base::SipKey;
use base::epoll::{EPOLLERR, Epoll, RAISED_IN, RAISED_OUT, SetId};
use engine::diagnosis::SetRow;
use rustix::event::{EventfdFlags, epoll, eventfd};
use stack::{Event, Keepalive, Ready, SocketId};

use crate::errno::{Errno, Result};
use crate::foreign::is_open;
use crate::joined::Joined;
use crate::socket::{Kind, Socket, State};
use crate::waiters::Waiters;

/// Sets there may be, and descriptors in all of them together.
const SETS: u32 = 1 << 16;
const WATCHED: u32 = 1 << 20;

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Socket,
    Set(SetId),
    /// The kernel's own.
    Elsewhere,
}

/// What is known of a set besides what it watches.
#[derive(Debug)]
struct Watcher {
    /// The epoll of the kernel's that the descriptor is.
    place: OwnedFd,
    id: SetId,
    serial: u64,
    /// It has, or had, descriptors of the kernel's; sets that have, at any depth.
    kernel: bool,
    inner: bool,
    joined: Option<Arc<Joined>>,
    alternate: bool,
}

/// The sockets of a process by descriptor. Worlds hold one: see [`World`](crate::World).
#[derive(Debug, Default)]
pub struct Table {
    sockets: HashMap<i32, (OwnedFd, Socket)>,
    set_of: HashMap<i32, Watcher>,
    fd_of: HashMap<SetId, i32>,
    /// Who waits, in worlds where threads sleep.
    pub(crate) waiters: Waiters,
    /// Sockets and sets there have been.
    serials: u64,
    /// The sets themselves, once there was one; elsewhere while they ask sockets what they are ready for.
    pub(crate) sets: Option<Box<Epoll>>,
    /// Port and descriptor of streams that are bound or connected.
    ports: BTreeSet<(u16, i32)>,
    /// What SO_KEEPALIVE switches on in sockets made from now on.
    keepalive: Keepalive,
    /// The host's sockets whose descriptors were closed by others than us.
    stale: Vec<SocketId>,
    /// Its world is: a call or a turn panicked.
    broken: bool,
}

impl Table {
    /// No descriptors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what SO_KEEPALIVE switches on in sockets made from now on (`tcp_keepalive_*`).
    pub fn set_keepalive(&mut self, keepalive: Keepalive) {
        self.keepalive = keepalive;
    }

    pub(crate) fn keepalive(&self) -> Keepalive {
        self.keepalive
    }

    /// A call or a turn panicked: all calls fail from now on, and those that wait do.
    pub(crate) fn fail(&mut self) {
        if !core::mem::replace(&mut self.broken, true) {
            self.ring_all();
        }
    }

    /// # Errors
    /// ENETDOWN when its world is broken.
    pub(crate) fn whole(&self) -> Result<()> {
        match self.broken {
            true => Err(Errno::NETDOWN),
            false => Ok(()),
        }
    }

    /// Whether a descriptor is ours, and not the kernel's: whose calls to make.
    ///
    /// ```
    /// use posix::World;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let seed = engine::random_seed()?;
    /// # let live = posix::Live::start(Default::default(), seed, Default::default(), |_| Ok(()))?;
    /// let mut world = live.call();
    /// let fd = posix::socket(&mut world, libc::AF_INET6, libc::SOCK_STREAM, 0)?;
    /// assert!(world.table().contains(fd) && !world.table().contains(0));
    /// assert_eq!((world.table().is_v6(fd), world.table().is_v6(0)), (Some(true), None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn contains(&self, fd: i32) -> bool {
        self.sockets.contains_key(&fd) || self.set_of.contains_key(&fd)
    }

    /// Whether a descriptor of ours is AF_INET6; `None` when it is not ours, see [`Table::contains`].
    pub fn is_v6(&self, fd: i32) -> Option<bool> {
        self.sockets.get(&fd).map(|(_, socket)| socket.v6)
    }

    /// Every descriptor there is, for tools and for who cleans up.
    pub fn descriptors(&self) -> impl Iterator<Item = i32> + '_ {
        self.sockets.keys().chain(self.set_of.keys()).copied()
    }

    /// Tells the sets that watch a socket what the host has to say of it. A world does so with every event of its host, at once:
    /// what becomes ready first is told first. For one that does see [`World`](crate::World).
    pub fn hear(&mut self, event: &Event) {
        let Ok(fd) = i32::try_from(event.token) else {
            return;
        };
        // Also who waits for the end of one that is closed.
        self.waiters.ring(fd);
        if self.get(fd).ok().and_then(Socket::id) != Some(event.socket) {
            return;
        }
        // As they come on Linux: what ends a connection first, and that there is room last.
        for (what, key) in [
            (Ready::CHANGED, 0),
            (Ready::READABLE, RAISED_IN),
            (Ready::PRIORITY, RAISED_IN),
            (Ready::ERROR, EPOLLERR),
            (Ready::WRITABLE, RAISED_OUT),
        ] {
            if event.raised.contains(what) {
                self.raise(fd, key);
            }
        }
    }

    /// Something has happened to a socket: `key` says what, 0 anything.
    pub(crate) fn raise(&mut self, fd: i32, key: u32) {
        let watched = self.get(fd).ok().and_then(|socket| socket.watched);
        if let (Some(source), Some(sets)) = (watched, &mut self.sets) {
            sets.raise(source, key);
            self.announce();
        }
        self.waiters.ring(fd);
    }

    /// Tells a socket or a set from others that have, or had, the same descriptor; `None` when it is none of ours.
    pub(crate) fn serial(&self, fd: i32) -> Option<u64> {
        match self.sockets.get(&fd) {
            Some((_, socket)) => Some(socket.serial),
            None => self.set_of.get(&fd).map(|watcher| watcher.serial),
        }
    }

    /// The sets; `None` when there never was one.
    pub(crate) fn epoll(&mut self) -> Option<&mut Epoll> {
        self.sets.as_deref_mut()
    }

    /// Sets there are, and what is in all of them together: for tools and leak tests.
    pub fn watched(&self) -> (u32, u32) {
        self.sets.as_ref().map_or((0, 0), |sets| sets.occupancy())
    }

    /// The descriptors of sets, the lowest first.
    pub(crate) fn set_descriptors(&self) -> Vec<i32> {
        let mut sets: Vec<i32> = self.set_of.keys().copied().collect();
        sets.sort_unstable();
        sets
    }

    /// What tools are told of a set: of what the kernel watches for it nothing.
    pub(crate) fn set_row(&self, fd: i32) -> Option<SetRow> {
        let info = self.sets.as_ref()?.info(self.set_of.get(&fd)?.id)?;
        Some(SetRow {
            kind: "epoll",
            number: fd as u64,
            watched: info.watched,
            ready: info.ready,
            waiters: info.waiters,
        })
    }

    /// What a descriptor is.
    pub(crate) fn place(&self, fd: i32) -> Result<Place> {
        if self.contains(fd) {
            self.whole()?;
        }
        if self.sockets.contains_key(&fd) {
            return Ok(Place::Socket);
        }
        match self.set_of.get(&fd) {
            Some(watcher) => Ok(Place::Set(watcher.id)),
            None if is_open(fd) => Ok(Place::Elsewhere),
            None => Err(Errno::BADF),
        }
    }

    /// The socket of a descriptor.
    ///
    /// # Errors
    /// EBADF, ENOTSOCK, ENETDOWN.
    pub(crate) fn get(&self, fd: i32) -> Result<&Socket> {
        match self.sockets.get(&fd) {
            Some((_, socket)) => self.whole().map(|()| socket),
            None => Err(self.no_socket(fd)),
        }
    }

    pub(crate) fn get_mut(&mut self, fd: i32) -> Result<&mut Socket> {
        self.get(fd)?;
        let entry = self.sockets.get_mut(&fd).ok_or(Errno::BADF)?;
        Ok(&mut entry.1)
    }

    /// As Linux: what is open is no socket, be it a set or the kernel's own.
    #[cold]
    fn no_socket(&self, fd: i32) -> Errno {
        match self.set_of.contains_key(&fd) || is_open(fd) {
            true => Errno::NOTSOCK,
            false => Errno::BADF,
        }
    }

    /// Refuses what is none of ours, and whose own calls the program has: nobody but its owner closes or changes it.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn own(&self, fd: i32) -> Result<()> {
        self.contains(fd).then_some(()).ok_or(Errno::BADF)
    }

    /// The socket the host knows by this handle, and by this word: its descriptor.
    pub(crate) fn of(&mut self, id: SocketId, token: u64) -> Option<&mut Socket> {
        let fd = i32::try_from(token).ok()?;
        let (_, socket) = self.sockets.get_mut(&fd)?;
        Some(socket).filter(|socket| socket.id() == Some(id))
    }

    /// The lowest free descriptor, for [`Table::insert`].
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn reserve(cloexec: bool) -> Result<OwnedFd> {
        let flags = if cloexec {
            EventfdFlags::CLOEXEC
        } else {
            EventfdFlags::empty()
        };
        Ok(eventfd(0, flags)?)
    }

    /// Gives a socket its descriptor.
    pub(crate) fn insert(&mut self, mut socket: Socket, place: OwnedFd) -> i32 {
        let fd = place.as_raw_fd();
        self.forget_stale(fd);
        self.serials += 1;
        socket.serial = self.serials;
        self.sockets.insert(fd, (place, socket));
        fd
    }

    /// Makes a set, with the lowest free descriptor.
    pub(crate) fn insert_set(&mut self, cloexec: bool) -> Result<i32> {
        self.whole()?;
        let flags = if cloexec {
            epoll::CreateFlags::CLOEXEC
        } else {
            epoll::CreateFlags::empty()
        };
        let place = epoll::create(flags)?;
        let fd = place.as_raw_fd();
        self.forget_stale(fd);
        // Its keys are the program's own: who would make them collide?
        let sets = self
            .sets
            .get_or_insert_with(|| Box::new(Epoll::with_capacity(SETS, WATCHED, SipKey([0; 16]))));
        let set = sets.create().ok_or(Errno::NFILE)?;
        self.fd_of.insert(set, fd);
        self.serials += 1;
        let watcher = Watcher {
            place,
            id: set,
            serial: self.serials,
            kernel: false,
            inner: false,
            joined: None,
            alternate: false,
        };
        self.set_of.insert(fd, watcher);
        Ok(fd)
    }

    /// An entry is stale if somebody closed its number behind our back: it must not close its successor.
    fn forget_stale(&mut self, fd: i32) {
        if let Some((stale, socket)) = self.sockets.remove(&fd) {
            let _ = stale.into_raw_fd();
            self.stale.extend(socket.id());
            self.release(&socket, fd);
        }
        if let Some(stale) = self.set_of.remove(&fd) {
            self.end_set(fd, &stale);
            let _ = stale.place.into_raw_fd();
        }
    }

    /// A socket of the host's that nobody can name any more: to be closed.
    pub(crate) fn next_stale(&mut self) -> Option<SocketId> {
        self.stale.pop()
    }

    /// Takes a socket out; the kernel may use its number again.
    pub(crate) fn remove(&mut self, fd: i32) -> Option<Socket> {
        let (place, socket) = self.sockets.remove(&fd)?;
        drop(place);
        self.release(&socket, fd);
        Some(socket)
    }

    /// Ends a set; whether there was one.
    pub(crate) fn remove_set(&mut self, fd: i32) -> bool {
        let removed = self.set_of.remove(&fd);
        if let Some(watcher) = &removed {
            self.end_set(fd, watcher);
        }
        removed.is_some()
    }

    fn end_set(&mut self, fd: i32, watcher: &Watcher) {
        self.fd_of.remove(&watcher.id);
        if let Some(sets) = self.sets.as_mut().filter(|_| !self.broken) {
            sets.destroy(watcher.id);
        }
        if let Some(joined) = &watcher.joined {
            joined.end();
        }
        self.waiters.ring(fd);
    }

    fn release(&mut self, socket: &Socket, fd: i32) {
        self.waiters.ring(fd);
        let sets = self.sets.as_mut().filter(|_| !self.broken);
        if let (Some(source), Some(sets)) = (socket.watched, sets) {
            sets.close(source);
        }
        for address in [socket.bound, socket.occupied].into_iter().flatten() {
            self.ports.remove(&(address.port(), fd));
        }
    }

    /// Notes the address of a connection: it is in use even if nobody has bound it.
    pub(crate) fn hold(&mut self, fd: i32, local: SocketAddr) -> Result<()> {
        let socket = self.get_mut(fd)?;
        if socket.bound.is_none() {
            socket.occupied = Some(local);
            self.ports.insert((local.port(), fd));
        }
        Ok(())
    }

    /// A stream is neither connected nor listens any more.
    pub(crate) fn freshen(&mut self, fd: i32) -> Result<()> {
        let socket = self.get_mut(fd)?;
        socket.state = State::Fresh;
        socket.looks_ended = false;
        if let Some(local) = socket.occupied.take() {
            self.ports.remove(&(local.port(), fd));
        }
        Ok(())
    }

    /// Whether a stream may be bound to `local`: no other one holds an address that overlaps, or both may share it.
    pub(crate) fn free(&self, fd: i32, local: &SocketAddr) -> bool {
        let Ok(own) = self.get(fd) else {
            return false;
        };
        let port = local.port();
        self.ports
            .range((port, i32::MIN)..=(port, i32::MAX))
            .filter(|(_, other)| *other != fd)
            .filter_map(|(_, other)| self.get(*other).ok())
            .all(|other| {
                let listens = matches!(other.state, State::Listening(_));
                let shared = (own.reuse_addr && other.reuse_addr && !listens)
                    || (own.reuse_port && other.reuse_port);
                shared || !overlap(own, local, other)
            })
    }

    /// Notes what a socket is bound to.
    pub(crate) fn bind(&mut self, fd: i32, local: Option<SocketAddr>) -> Result<()> {
        let socket = self.get_mut(fd)?;
        let old = core::mem::replace(&mut socket.bound, local);
        let stream = socket.kind == Kind::Stream;
        if let Some(old) = old {
            self.ports.remove(&(old.port(), fd));
        }
        if let Some(local) = local
            && stream
        {
            self.ports.insert((local.port(), fd));
        }
        Ok(())
    }
}

/// Whether two bound addresses have a packet in common.
fn overlap(own: &Socket, local: &SocketAddr, other: &Socket) -> bool {
    let Some(theirs) = other.bound.or(other.occupied) else {
        return false;
    };
    if let (Some(a), Some(b)) = (own.tcp.device, other.tcp.device)
        && a != b
    {
        return false;
    }
    // A wildcard of IPv6 takes IPv4 too, unless it is told not to.
    let takes = |socket: &Socket, ip: IpAddr, v4: bool| {
        ip.is_ipv4() == v4 || (ip.is_unspecified() && v4 && !socket.only_v6)
    };
    let (a, b) = (local.ip(), theirs.ip());
    let family = [true, false]
        .into_iter()
        .any(|v4| takes(own, a, v4) && takes(other, b, v4));
    family && (a == b || a.is_unspecified() || b.is_unspecified())
}
