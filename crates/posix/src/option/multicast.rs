//! Options of multicast: groups a socket is in, and how what it sends to groups leaves.
//!
//! What does not live here: who hears what is sent to a group, and who is told that this host is in it (the stack).
//!
//! Invariant: groups are noted here until the host has the socket, which is when it is bound: nothing can come before. From then on
//! the host knows them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use stack::{InterfaceId, SocketId, Via};

use super::{change_udp, integer, within};
use crate::errno::{Errno, Result};
use crate::socket::{Kind, Socket, State};
use crate::world::World;

/// What libc does not name everywhere.
const IP_MULTICAST_ALL: i32 = 49;
const IPV6_MULTICAST_ALL: i32 = 29;
/// Linux's `igmp_max_memberships`.
const GROUPS_MOST: usize = 20;
const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;

/// Of one socket.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    /// Those that were joined before it was bound.
    waiting: Vec<(InterfaceId, IpAddr)>,
    /// The address that IP_MULTICAST_IF named.
    pub(crate) source: Ipv4Addr,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            source: Ipv4Addr::UNSPECIFIED,
        }
    }
}

impl Groups {
    /// From where a socket that is bound to no address sends to a group.
    pub(crate) fn source_to(&self, to: Option<SocketAddr>) -> Option<IpAddr> {
        let group = to.is_some_and(|to| to.is_ipv4() && to.ip().is_multicast());
        (group && !self.source.is_unspecified()).then_some(self.source.into())
    }
}

/// Sets one of these options; `None` if it is another.
pub(super) fn set<W: World>(
    world: &mut W,
    fd: i32,
    option: (i32, i32),
    value: &[u8],
) -> Option<Result<()>> {
    let stream = match world.table().get(fd) {
        Ok(socket) => socket.kind == Kind::Stream,
        Err(error) => return Some(Err(error)),
    };
    Some(match option {
        (IP, libc::IP_MULTICAST_TTL) if stream => Err(Errno::INVAL),
        (IP, libc::IP_MULTICAST_TTL) => byte_or_integer(value).and_then(|ttl| {
            let ttl = if ttl == -1 { 1 } else { within(ttl, 0..=255)? };
            change_udp(world, fd, |o| o.multicast_ttl = ttl as u8)
        }),
        (IPV6, libc::IPV6_MULTICAST_HOPS) if stream => Err(Errno::NOPROTOOPT),
        (IPV6, libc::IPV6_MULTICAST_HOPS) => integer(value).and_then(|hops| {
            let hops = within(hops, -1..=255)?;
            let hops = if hops == -1 { 1 } else { hops };
            change_udp(world, fd, |o| o.multicast_ttl = hops as u8)
        }),
        (IP, libc::IP_MULTICAST_LOOP) => byte_or_integer(value)
            .and_then(|on| change_udp(world, fd, |o| o.multicast_loop = on != 0)),
        (IPV6, libc::IPV6_MULTICAST_LOOP) => integer(value).and_then(|on| {
            let on = within(on, 0..=1)? != 0;
            change_udp(world, fd, |o| o.multicast_loop = on)
        }),
        (IP, IP_MULTICAST_ALL) => byte_or_integer(value).and_then(|on| {
            let on = within(on, 0..=1)? != 0;
            change_udp(world, fd, |o| o.multicast_all = on)
        }),
        (IPV6, IPV6_MULTICAST_ALL) => {
            integer(value).and_then(|on| change_udp(world, fd, |o| o.multicast_all_v6 = on != 0))
        }
        (IP, libc::IP_MULTICAST_IF) if stream => Err(Errno::INVAL),
        (IP, libc::IP_MULTICAST_IF) => leave_by(world, fd, value),
        (IPV6, libc::IPV6_MULTICAST_IF) if stream => Err(Errno::NOPROTOOPT),
        (IPV6, libc::IPV6_MULTICAST_IF) => {
            integer(value).and_then(|index| leave_by_number(world, fd, index))
        }
        (IP, libc::IP_ADD_MEMBERSHIP | libc::IP_DROP_MEMBERSHIP) if stream => {
            Err(Errno(libc::EPROTO))
        }
        (IP, libc::IP_ADD_MEMBERSHIP) => Request::v4(value, 8).and_then(|r| r.join(world, fd)),
        (IP, libc::IP_DROP_MEMBERSHIP) => Request::v4(value, 8).and_then(|r| r.leave(world, fd)),
        (IPV6, libc::IPV6_ADD_MEMBERSHIP | libc::IPV6_DROP_MEMBERSHIP) => Request::v6(value)
            .and_then(|request| match option.1 {
                _ if stream => Err(Errno(libc::EPROTO)),
                libc::IPV6_ADD_MEMBERSHIP => request.join(world, fd),
                _ => request.leave(world, fd),
            }),
        _ => return None,
    })
}

/// As it was set; `None` for what is no number of these options.
pub(super) fn number(socket: &Socket, level: i32, name: i32) -> Option<i32> {
    let options = &socket.udp;
    Some(match (level, name) {
        (IP, libc::IP_MULTICAST_TTL) | (IPV6, libc::IPV6_MULTICAST_HOPS) => {
            options.multicast_ttl.into()
        }
        (IP, libc::IP_MULTICAST_LOOP) | (IPV6, libc::IPV6_MULTICAST_LOOP) => {
            options.multicast_loop.into()
        }
        (IP, IP_MULTICAST_ALL) => options.multicast_all.into(),
        (IPV6, IPV6_MULTICAST_ALL) => options.multicast_all_v6.into(),
        (IPV6, libc::IPV6_MULTICAST_IF) => options
            .multicast_interface
            .map_or(0, |interface| i32::from(interface.0) + 1),
        _ => return None,
    })
}

/// The host has the socket: it is in the groups that were joined before.
pub(crate) fn bound<W: World>(world: &mut W, socket: &Socket, id: SocketId) -> Result<()> {
    let now = world.now();
    for (interface, group) in &socket.network.groups.waiting {
        world.host().udp_join(now, id, *interface, *group)?;
    }
    if !socket.network.groups.waiting.is_empty() {
        world.changed();
    }
    Ok(())
}

/// Options of level IP may be a byte long, as ever.
fn byte_or_integer(value: &[u8]) -> Result<i32> {
    match value {
        [byte, _, _] | [byte, _] | [byte] => Ok((*byte).into()),
        _ => integer(value),
    }
}

/// IP_MULTICAST_IF.
fn leave_by<W: World>(world: &mut W, fd: i32, value: &[u8]) -> Result<()> {
    // An address alone, or what says a group, too.
    let (at, index) = match value.len() {
        0..4 => return Err(Errno::INVAL),
        4..8 => (v4(value, 0)?, 0),
        _ => Request::parts(value)?,
    };
    let interface = match (at, index) {
        (at, 0) if at.is_unspecified() => None,
        (at, 0) => Some(Via::Address(at)),
        (_, index) => Some(Via::Index(index)),
    };
    let interface = match interface {
        None => None,
        Some(via) => {
            // No group is meant: the interface is named.
            let found = world.host().group_interface(at.into(), via);
            Some(found.ok_or(Errno::ADDRNOTAVAIL)?)
        }
    };
    elsewhere(world, fd, interface)?;
    world.table().get_mut(fd)?.network.groups.source = at;
    change_udp(world, fd, |o| o.multicast_interface = interface)
}

/// IPV6_MULTICAST_IF.
fn leave_by_number<W: World>(world: &mut W, fd: i32, index: i32) -> Result<()> {
    let named = u32::try_from(index).map_err(|_| Errno(libc::ENODEV))?;
    let interface = match named {
        0 => None,
        named => {
            let any = Ipv6Addr::UNSPECIFIED.into();
            let found = world.host().group_interface(any, Via::Index(named));
            Some(found.ok_or(Errno(libc::ENODEV))?)
        }
    };
    elsewhere(world, fd, interface)?;
    change_udp(world, fd, |o| o.multicast_interface = interface)
}

/// # Errors
/// EINVAL for another interface than the socket is bound to.
fn elsewhere<W: World>(world: &mut W, fd: i32, interface: Option<InterfaceId>) -> Result<()> {
    let device = world.table().get(fd)?.udp.device;
    match (device, interface) {
        (Some(device), Some(interface)) if device != interface => Err(Errno::INVAL),
        _ => Ok(()),
    }
}

fn v4(value: &[u8], at: usize) -> Result<Ipv4Addr> {
    let bytes = value.get(at..).and_then(<[u8]>::first_chunk::<4>);
    Ok(Ipv4Addr::from(*bytes.ok_or(Errno::INVAL)?))
}

/// A group to be joined or left, and where.
struct Request {
    group: IpAddr,
    via: Via,
}

impl Request {
    /// `struct ip_mreq` or, where it is long enough, `struct ip_mreqn`: address and number of the interface.
    fn parts(value: &[u8]) -> Result<(Ipv4Addr, u32)> {
        let index = match value.get(8..) {
            Some(rest) if rest.len() >= 4 => integer(rest)?,
            _ => 0,
        };
        // A number below 0 is none that there is.
        Ok((v4(value, 4)?, u32::try_from(index).unwrap_or(u32::MAX)))
    }

    fn v4(value: &[u8], least: usize) -> Result<Self> {
        if value.len() < least {
            return Err(Errno::INVAL);
        }
        let via = match Self::parts(value)? {
            (at, 0) => Via::Address(at),
            (_, index) => Via::Index(index),
        };
        let group = v4(value, 0)?.into();
        Ok(Self { group, via })
    }

    /// `struct ipv6_mreq`.
    fn v6(value: &[u8]) -> Result<Self> {
        let group = value.first_chunk::<16>().ok_or(Errno::INVAL)?;
        let index = integer(value.get(16..).unwrap_or_default())?;
        Ok(Self {
            group: Ipv6Addr::from(*group).into(),
            via: Via::Index(u32::try_from(index).unwrap_or(u32::MAX)),
        })
    }

    fn join<W: World>(&self, world: &mut W, fd: i32) -> Result<()> {
        if !self.group.is_multicast() {
            return Err(Errno::INVAL);
        }
        let interface = world.host().group_interface(self.group, self.via);
        let interface = interface.ok_or(Errno(libc::ENODEV))?;
        let socket = world.table().get_mut(fd)?;
        if let State::Datagram(id) = socket.state {
            let now = world.now();
            world.host().udp_join(now, id, interface, self.group)?;
            world.changed();
            return Ok(());
        }
        let waiting = &mut socket.network.groups.waiting;
        if waiting.contains(&(interface, self.group)) {
            return Err(Errno::ADDRINUSE);
        }
        if waiting.len() >= GROUPS_MOST {
            return Err(Errno::NOBUFS);
        }
        waiting.push((interface, self.group));
        Ok(())
    }

    fn leave<W: World>(&self, world: &mut W, fd: i32) -> Result<()> {
        if self.group.is_ipv6() && !self.group.is_multicast() {
            return Err(Errno::INVAL);
        }
        let interface = world.host().group_interface(self.group, self.via);
        let interface = interface.ok_or(Errno::ADDRNOTAVAIL)?;
        let socket = world.table().get_mut(fd)?;
        if let State::Datagram(id) = socket.state {
            let now = world.now();
            world.host().udp_leave(now, id, interface, self.group)?;
            world.changed();
            return Ok(());
        }
        let waiting = &mut socket.network.groups.waiting;
        let place = waiting.iter().position(|m| *m == (interface, self.group));
        waiting.swap_remove(place.ok_or(Errno::ADDRNOTAVAIL)?);
        Ok(())
    }
}
