//! The descriptors: which socket each stands for.
//!
//! Every descriptor is a real one of the kernel's (an eventfd that nobody signals), so that numbers cannot collide with those
//! of files, whatever closes or polls them.
//!
//! What does not live here: what sockets do.
//!
//! Invariant: an address is in `ports` exactly while the socket bound or connected from it is in `sockets`.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use stack::{Keepalive, SocketId};

use crate::errno::{Errno, Result};
use crate::socket::{Kind, Socket, State};

/// The sockets of a process by descriptor.
#[derive(Debug, Default)]
pub struct Table {
    sockets: HashMap<i32, (OwnedFd, Socket)>,
    /// Port and descriptor of streams that are bound or connected.
    ports: BTreeSet<(u16, i32)>,
    /// What SO_KEEPALIVE switches on in sockets made from now on.
    keepalive: Keepalive,
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

    /// Whether a descriptor is ours.
    pub fn contains(&self, fd: i32) -> bool {
        self.sockets.contains_key(&fd)
    }

    /// Whether a descriptor of ours is AF_INET6; `None` when it is not ours.
    pub fn is_v6(&self, fd: i32) -> Option<bool> {
        self.sockets.get(&fd).map(|(_, socket)| socket.v6)
    }

    /// Every descriptor there is, for tools and for who cleans up.
    pub fn descriptors(&self) -> impl Iterator<Item = i32> + '_ {
        self.sockets.keys().copied()
    }

    pub(crate) fn get(&self, fd: i32) -> Result<&Socket> {
        match self.sockets.get(&fd) {
            Some((_, socket)) => Ok(socket),
            None => Err(Errno::BADF),
        }
    }

    pub(crate) fn get_mut(&mut self, fd: i32) -> Result<&mut Socket> {
        match self.sockets.get_mut(&fd) {
            Some((_, socket)) => Ok(socket),
            None => Err(Errno::BADF),
        }
    }

    /// The socket the host knows by this handle.
    pub(crate) fn of(&mut self, id: SocketId) -> Option<&mut Socket> {
        let mut sockets = self.sockets.values_mut().map(|(_, socket)| socket);
        sockets.find(|socket| socket.id() == Some(id))
    }

    /// Gives a socket the lowest free descriptor.
    pub(crate) fn insert(&mut self, socket: Socket, cloexec: bool) -> Result<i32> {
        let flags = if cloexec {
            EventfdFlags::CLOEXEC
        } else {
            EventfdFlags::empty()
        };
        let place = eventfd(0, flags).map_err(|e| Errno(e.raw_os_error()))?;
        let fd = place.as_raw_fd();
        // Our entry is stale if somebody closed the number behind our back: it must not close its successor.
        if let Some((stale, socket)) = self.sockets.remove(&fd) {
            let _ = stale.into_raw_fd();
            self.release(&socket, fd);
        }
        self.sockets.insert(fd, (place, socket));
        Ok(fd)
    }

    /// Takes a descriptor out; the kernel may use its number again.
    pub(crate) fn remove(&mut self, fd: i32) -> Option<Socket> {
        let (place, socket) = self.sockets.remove(&fd)?;
        drop(place);
        self.release(&socket, fd);
        Some(socket)
    }

    fn release(&mut self, socket: &Socket, fd: i32) {
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
