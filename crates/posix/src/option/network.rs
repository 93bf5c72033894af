//! Options about what lies below the transport: errors in full, control messages with datagrams, path MTUs, foreign addresses.
//!
//! What does not live here: TTL and type of service (`option`), the error queue itself (`notice`).

use stack::{MtuDiscover, Received};

use super::multicast::Groups;
use super::{change_tcp, change_udp, within};
use crate::control::Control;
use crate::errno::{Errno, Result};
use crate::notice::{self, software_stamp, stamp};
use crate::socket::{Kind, Socket, State};
use crate::world::World;

/// What libc does not name.
const IPV6_FREEBIND: i32 = 78;
const SO_SELECT_ERR_QUEUE: i32 = 45;
/// IP_PMTUDISC_DONT to IP_PMTUDISC_OMIT.
const DISCOVERY: core::ops::RangeInclusive<i32> = 0..=5;
const DISCOVERY_WANT: i32 = 1;
/// Linux's priorities that need no right.
const PRIORITIES: core::ops::RangeInclusive<i32> = 0..=6;

/// SO_TIMESTAMP and SO_TIMESTAMPNS, of which one may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Arrival {
    #[default]
    Untold,
    Micros,
    Nanos,
}

/// Options of one socket.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// IP_RECVERR and IPV6_RECVERR.
    pub(crate) errors: bool,
    pub(crate) errors_v6: bool,
    /// IP_FREEBIND: an address that is not this host's may be bound.
    pub(crate) freebind: bool,
    /// IP_PKTINFO, IP_RECVTTL, IP_RECVTOS.
    info: bool,
    ttl: bool,
    tos: bool,
    /// IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS.
    info_v6: bool,
    hops: bool,
    class: bool,
    arrival: Arrival,
    /// IP_MTU_DISCOVER and IPV6_MTU_DISCOVER.
    pub(super) discover: i32,
    pub(super) discover_v6: i32,
    /// SO_MARK and SO_PRIORITY: kept for who asks, nothing here is steered by them.
    mark: i32,
    priority: i32,
    /// SO_SELECT_ERR_QUEUE: poll tells of the error queue as priority data, too.
    pub(crate) select_errors: bool,
    /// UDP_SEGMENT: what a call sends are datagrams of so many bytes; 0: it is one.
    pub(crate) segment: u16,
    /// UDP_GRO: datagrams may be read as one, which is told.
    gro: bool,
    /// Groups, and where what is sent to them goes out.
    pub(crate) groups: Groups,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            errors: false,
            errors_v6: false,
            freebind: false,
            info: false,
            ttl: false,
            tos: false,
            info_v6: false,
            hops: false,
            class: false,
            arrival: Arrival::Untold,
            discover: DISCOVERY_WANT,
            discover_v6: DISCOVERY_WANT,
            mark: 0,
            priority: 0,
            select_errors: false,
            segment: 0,
            gro: false,
            groups: Groups::default(),
        }
    }
}

impl Network {
    /// What a datagram is told with; `wall` is the time of its arrival since 1970.
    pub(crate) fn control(
        &self,
        (v6, stamping): (bool, u32),
        got: &Received,
        wall: core::time::Duration,
    ) -> Vec<Control> {
        let mut all = Vec::new();
        match self.arrival {
            Arrival::Untold => {}
            Arrival::Micros => {
                let micros = u64::from(wall.subsec_micros());
                all.push(pair(libc::SO_TIMESTAMP, wall.as_secs(), micros));
            }
            Arrival::Nanos => {
                let nanos = u64::from(wall.subsec_nanos());
                all.push(pair(libc::SO_TIMESTAMPNS, wall.as_secs(), nanos));
            }
        }
        let both = stamp::RX_SOFTWARE | stamp::SOFTWARE;
        if stamping & both == both {
            all.push(software_stamp(wall));
        }
        if let Some(size) = got.segment.filter(|_| self.gro) {
            let size = size.into();
            all.push(Control::int(libc::SOL_UDP, libc::UDP_GRO, size));
        }
        let v4 = got.to.is_ipv4();
        let interface = i32::from(got.interface.0) + 1;
        let mut say = |on: bool, level: i32, kind: i32, data: Vec<u8>| {
            if on {
                all.push(Control { level, kind, data });
            }
        };
        let int = |number: u8| i32::from(number).to_ne_bytes().to_vec();
        if v6 {
            let ip = match got.to {
                core::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                core::net::IpAddr::V6(ip) => ip,
            };
            let info = [&ip.octets()[..], &interface.to_ne_bytes()].concat();
            say(self.info_v6, libc::SOL_IPV6, libc::IPV6_PKTINFO, info);
            say(
                self.hops && !v4,
                libc::SOL_IPV6,
                libc::IPV6_HOPLIMIT,
                int(got.ttl),
            );
            say(
                self.class && !v4,
                libc::SOL_IPV6,
                libc::IPV6_TCLASS,
                int(got.tos),
            );
        }
        if let core::net::IpAddr::V4(ip) = got.to.to_canonical() {
            // The address an answer would be from, and the one it was sent to.
            let info = [interface.to_ne_bytes(), ip.octets(), ip.octets()].concat();
            say(self.info, libc::SOL_IP, libc::IP_PKTINFO, info);
            say(self.ttl, libc::SOL_IP, libc::IP_TTL, int(got.ttl));
            say(self.tos, libc::SOL_IP, libc::IP_TOS, vec![got.tos]);
        }
        all
    }
}

/// `struct timeval` or `struct timespec`.
fn pair(kind: i32, seconds: u64, rest: u64) -> Control {
    Control {
        level: libc::SOL_SOCKET,
        kind,
        data: [seconds.to_ne_bytes(), rest.to_ne_bytes()].concat(),
    }
}

/// Options of UDP.
pub(super) fn set_udp<W: World>(world: &mut W, fd: i32, name: i32, value: i32) -> Result<()> {
    let socket = world.table().get_mut(fd)?;
    match name {
        libc::UDP_SEGMENT => {
            socket.network.segment = u16::try_from(value).map_err(|_| Errno::INVAL)?;
            Ok(())
        }
        libc::UDP_GRO => {
            socket.network.gro = value != 0;
            change_udp(world, fd, |options| options.gro = value != 0)
        }
        _ => Err(Errno::NOPROTOOPT),
    }
}

/// As [`set_udp`] set it.
pub(super) fn udp_number(socket: &Socket, name: i32) -> Result<i32> {
    match name {
        libc::UDP_SEGMENT => Ok(socket.network.segment.into()),
        libc::UDP_GRO => Ok(socket.network.gro.into()),
        _ => Err(Errno::NOPROTOOPT),
    }
}

/// Options of SOL_SOCKET; `None` for what is not here.
pub(super) fn set_socket<W: World>(
    world: &mut W,
    fd: i32,
    name: i32,
    number: i32,
) -> Option<Result<()>> {
    let network = match world.table().get_mut(fd) {
        Ok(socket) => &mut socket.network,
        Err(error) => return Some(Err(error)),
    };
    let arrival = |kind| if number != 0 { kind } else { Arrival::Untold };
    match name {
        notice::SO_TIMESTAMPING => return Some(notice::set_stamping(world, fd, number)),
        libc::SO_TIMESTAMP => network.arrival = arrival(Arrival::Micros),
        libc::SO_TIMESTAMPNS => network.arrival = arrival(Arrival::Nanos),
        libc::SO_MARK => network.mark = number,
        libc::SO_PRIORITY if PRIORITIES.contains(&number) => network.priority = number,
        libc::SO_PRIORITY => return Some(Err(Errno(libc::EPERM))),
        SO_SELECT_ERR_QUEUE => network.select_errors = number != 0,
        _ => return None,
    }
    Some(Ok(()))
}

pub(super) fn socket_number(socket: &Socket, name: i32) -> Option<i32> {
    let network = &socket.network;
    Some(match name {
        notice::SO_TIMESTAMPING => socket.notices.stamping as i32,
        libc::SO_TIMESTAMP => i32::from(network.arrival == Arrival::Micros),
        libc::SO_TIMESTAMPNS => i32::from(network.arrival == Arrival::Nanos),
        libc::SO_MARK => network.mark,
        libc::SO_PRIORITY => network.priority,
        // No processor is any closer to a connection here.
        libc::SO_INCOMING_CPU => -1,
        SO_SELECT_ERR_QUEUE => i32::from(network.select_errors),
        _ => return None,
    })
}

fn discover(how: i32) -> MtuDiscover {
    match how {
        libc::IP_PMTUDISC_DONT => MtuDiscover::Dont,
        libc::IP_PMTUDISC_DO => MtuDiscover::Do,
        libc::IP_PMTUDISC_PROBE => MtuDiscover::Probe,
        libc::IP_PMTUDISC_INTERFACE => MtuDiscover::Interface,
        libc::IP_PMTUDISC_OMIT => MtuDiscover::Omit,
        _ => MtuDiscover::Want,
    }
}

/// Options of IPPROTO_IP and IPPROTO_IPV6.
///
/// # Errors
/// ENOPROTOOPT for what there is not.
pub(super) fn set_ip<W: World>(
    world: &mut W,
    fd: i32,
    (level, name): (i32, i32),
    number: i32,
) -> Result<()> {
    let socket = world.table().get_mut(fd)?;
    let (kind, network, on) = (socket.kind, &mut socket.network, number != 0);
    match (level, name) {
        (libc::IPPROTO_IP, libc::IP_RECVERR) => network.errors = on,
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => network.errors_v6 = on,
        (libc::IPPROTO_IP, libc::IP_FREEBIND) => network.freebind = on,
        (libc::IPPROTO_IPV6, IPV6_FREEBIND) => network.freebind = on,
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => network.info = on,
        (libc::IPPROTO_IP, libc::IP_RECVTTL) => network.ttl = on,
        (libc::IPPROTO_IP, libc::IP_RECVTOS) => network.tos = on,
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) => network.info_v6 = on,
        (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT) => network.hops = on,
        (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS) => network.class = on,
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER) => network.discover = within(number, DISCOVERY)?,
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER) => {
            network.discover_v6 = within(number, DISCOVERY)?;
        }
        _ => return Err(Errno::NOPROTOOPT),
    }
    let errors = network.errors || network.errors_v6;
    let discover = [network.discover, network.discover_v6].map(discover);
    match kind {
        Kind::Stream => change_tcp(world, fd, |o| o.receive_errors = errors),
        Kind::Datagram => change_udp(world, fd, |o| {
            o.receive_errors = errors;
            [o.mtu_discover, o.mtu_discover_v6] = discover;
        }),
    }
}

pub(super) fn ip_number<W: World>(
    world: &mut W,
    socket: &Socket,
    (level, name): (i32, i32),
) -> Result<i32> {
    let network = &socket.network;
    Ok(i32::from(match (level, name) {
        (libc::IPPROTO_IP, libc::IP_RECVERR) => network.errors,
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => network.errors_v6,
        (libc::IPPROTO_IP, libc::IP_FREEBIND) => network.freebind,
        (libc::IPPROTO_IPV6, IPV6_FREEBIND) => network.freebind,
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => network.info,
        (libc::IPPROTO_IP, libc::IP_RECVTTL) => network.ttl,
        (libc::IPPROTO_IP, libc::IP_RECVTOS) => network.tos,
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) => network.info_v6,
        (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT) => network.hops,
        (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS) => network.class,
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER) => return Ok(network.discover),
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER) => return Ok(network.discover_v6),
        (libc::IPPROTO_IP, libc::IP_MTU) | (libc::IPPROTO_IPV6, libc::IPV6_MTU) => {
            let (State::Stream(id) | State::Datagram(id)) = socket.state else {
                return Err(Errno::NOTCONN);
            };
            let now = world.now();
            return Ok(i32::from(world.host().path_mtu(now, id)?));
        }
        _ => return Err(Errno::NOPROTOOPT),
    }))
}
