//! getsockopt and setsockopt: options by level and name, values as bytes, with Linux's ranges, errors and returned values.
//!
//! What does not live here: TCP_INFO's layout (`tcp_info`), what options do (the stack). What the stack does not do is
//! ENOPROTOOPT here; nothing is taken and forgotten.

pub(crate) mod device;
pub(crate) mod multicast;
pub(crate) mod network;
pub(crate) mod reuseport;

use core::time::Duration;

use base::epoll::{RAISED_IN, RAISED_OUT};
use stack::{
    Congestion, SocketError, SocketId, State as TcpState, TcpInfo, TcpOptions, UdpOptions,
};

use crate::call;
use crate::errno::{Errno, Result};
use crate::fast_open;
use crate::notice;
use crate::socket::{Kind, Socket, State};
use crate::tcp_info::{congestion_info, tcp_info};
use crate::world::World;

/// Linux's rmem_max and wmem_max, and the least it makes of a buffer.
const BUFFER_MOST: u32 = 212_992;
/// Linux's rmem_max since 6.17.
const RECEIVE_BUFFER_MOST: u32 = 4 << 20;
const SEND_BUFFER_LEAST: u32 = 4_608;
const RECEIVE_BUFFER_LEAST: u32 = 2_304;
/// Linux's MAX_TCP_WINDOW and TCP_MIN_MSS.
const MAXSEG: core::ops::RangeInclusive<i32> = 88..=32_767;
/// Linux's MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT.
const KEEP_SECONDS: core::ops::RangeInclusive<i32> = 1..=32_767;
const KEEP_PROBES: core::ops::RangeInclusive<i32> = 1..=127;
/// Linux's MAX_TCP_SYNCNT, and TCP_FIN_TIMEOUT_MAX in seconds.
const SYN_RETRIES: core::ops::RangeInclusive<i32> = 1..=127;
const FIN_TIMEOUT_MOST: i32 = 120;
/// Linux's range of TCP_RTO_MAX_MS.
const RTO_MAX_MS: core::ops::RangeInclusive<i32> = 1_000..=120_000;

pub(crate) fn integer(value: &[u8]) -> Result<i32> {
    let first = value.first_chunk().ok_or(Errno::INVAL)?;
    Ok(i32::from_ne_bytes(*first))
}

pub(crate) fn within(value: i32, range: core::ops::RangeInclusive<i32>) -> Result<i32> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(Errno::INVAL)
    }
}

/// `struct timeval`; zero means for ever.
fn timeout(value: &[u8]) -> Result<Option<Duration>> {
    let half = |at: usize| -> Result<i64> {
        let bytes = value.get(at..).and_then(<[u8]>::first_chunk);
        Ok(i64::from_ne_bytes(*bytes.ok_or(Errno::INVAL)?))
    };
    let (seconds, micros) = (half(0)?, half(8)?);
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno::DOM);
    }
    if seconds < 0 {
        // As Linux: it does not wait at all.
        return Ok(Some(Duration::ZERO));
    }
    let all = Duration::from_secs(seconds as u64) + Duration::from_micros(micros as u64);
    Ok(Some(all).filter(|all| !all.is_zero()))
}

/// Sets an option.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let seed = engine::random_seed()?;
/// # let live = posix::Live::start(Default::default(), seed, Default::default(), |_| Ok(()))?;
/// use posix::{getsockopt, setsockopt, socket};
///
/// let mut world = live.call();
/// let fd = socket(&mut world, libc::AF_INET, libc::SOCK_STREAM, 0)?;
/// let (level, name) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
/// setsockopt(&mut world, fd, level, name, &1_i32.to_ne_bytes())?;
/// assert_eq!(getsockopt(&mut world, fd, level, name)?, 1_i32.to_ne_bytes());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// EBADF; ENOTSOCK; ENOPROTOOPT for what there is not; EINVAL for a value that is too short or out of range; EDOM; ENOENT for an
/// unknown congestion control.
pub fn setsockopt<W: World>(
    world: &mut W,
    fd: i32,
    level: i32,
    name: i32,
    value: &[u8],
) -> Result<()> {
    let kind = world.table().get(fd)?.kind;
    match level {
        libc::SOL_SOCKET => set_socket(world, fd, name, value)?,
        libc::IPPROTO_TCP if kind == Kind::Stream => set_tcp(world, fd, name, value)?,
        libc::IPPROTO_IP | libc::IPPROTO_IPV6 => set_ip(world, fd, level, name, value)?,
        libc::SOL_UDP if kind == Kind::Datagram => {
            network::set_udp(world, fd, name, integer(value)?)?;
        }
        _ => return Err(Errno::NOPROTOOPT),
    }
    match (level, name) {
        (libc::SOL_SOCKET, libc::SO_SNDBUF) | (libc::IPPROTO_TCP, TCP_NOTSENT_LOWAT) => {
            call::wake_if_ready(world, fd, RAISED_OUT);
        }
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT) if kind == Kind::Stream => {
            call::wake_if_ready(world, fd, RAISED_IN);
        }
        _ => {}
    }
    Ok(())
}

fn set_socket<W: World>(world: &mut W, fd: i32, name: i32, value: &[u8]) -> Result<()> {
    match name {
        libc::SO_LINGER => {
            let on = integer(value)?;
            let seconds = integer(value.get(4..).unwrap_or_default())?;
            let linger = (on != 0).then(|| Duration::from_secs(seconds.max(0) as u64));
            return change_tcp(world, fd, |o| o.linger = linger);
        }
        SO_MAX_PACING_RATE => {
            let rate = match value.first_chunk() {
                Some(rate) => u64::from_ne_bytes(*rate),
                // All ones of the short form are no limit either.
                None => match integer(value)? as u32 {
                    u32::MAX => u64::MAX,
                    rate => rate.into(),
                },
            };
            return change_tcp(world, fd, |o| o.max_pacing_rate = rate);
        }
        libc::SO_RCVTIMEO => {
            world.table().get_mut(fd)?.receive_timeout = timeout(value)?;
            return Ok(());
        }
        libc::SO_SNDTIMEO => {
            world.table().get_mut(fd)?.send_timeout = timeout(value)?;
            return Ok(());
        }
        _ => {}
    }
    let shared = reuseport::set(world, fd, name, value);
    if let Some(result) = shared.or_else(|| device::set(world, fd, name, value)) {
        return result;
    }
    let number = integer(value)?;
    let on = number != 0;
    let socket = world.table().get_mut(fd)?;
    match name {
        libc::SO_REUSEADDR => socket.reuse_addr = on,
        libc::SO_REUSEPORT => socket.reuse_port = on,
        libc::SO_KEEPALIVE => {
            let keepalive = on.then_some(socket.keepalive);
            return change_tcp(world, fd, |o| o.keepalive = keepalive);
        }
        libc::SO_BROADCAST => return change_udp(world, fd, |o| o.broadcast = on),
        notice::SO_ZEROCOPY => socket.notices.zerocopy = within(number, 0..=1)? != 0,
        libc::SO_RCVLOWAT => {
            let low = if number < 0 { i32::MAX } else { number.max(1) } as u32;
            return set_low_water(world, fd, low);
        }
        libc::SO_SNDBUF => {
            let size = (number.max(0) as u32).min(BUFFER_MOST);
            let size = (2 * size).max(SEND_BUFFER_LEAST);
            socket.send_buffer = Some(size);
            // It grows no more by itself (Linux's SOCK_SNDBUF_LOCK).
            return change_tcp(world, fd, |o| o.send_buffer = Some(size));
        }
        // Nobody here is privileged to go beyond the limit.
        libc::SO_SNDBUFFORCE | libc::SO_RCVBUFFORCE => return Err(Errno::PERM),
        libc::SO_OOBINLINE => socket.oob_inline = on,
        libc::SO_RCVBUF => {
            let size = (number.max(0) as u32).min(RECEIVE_BUFFER_MOST);
            let size = (2 * size).max(RECEIVE_BUFFER_LEAST);
            socket.receive_buffer = Some(size);
            if socket.kind == Kind::Datagram {
                return change_udp(world, fd, |o| o.receive_buffer = Some(size));
            }
            // Half is for the overhead of packets, as Linux reckons (tcp_adv_win_scale).
            return change_tcp(world, fd, |o| o.receive_buffer = Some(size / 2));
        }
        _ => {
            let set = network::set_socket(world, fd, name, number);
            return set.unwrap_or(Err(Errno::NOPROTOOPT));
        }
    }
    Ok(())
}

/// SO_RCVLOWAT, of a stream at most half of what its buffer is or may become (as Linux).
fn set_low_water<W: World>(world: &mut W, fd: i32, low: u32) -> Result<()> {
    let most = world.host().tcp_tunables().rmem_max;
    let socket = world.table().get_mut(fd)?;
    let low = match socket.kind {
        Kind::Stream => low.min(socket.receive_buffer.unwrap_or(most) / 2),
        Kind::Datagram => low,
    };
    socket.low_water = low as usize;
    change_tcp(world, fd, |o| o.receive_low_water = low)
}

/// SO_RCVBUF: what was set, or what the buffer of a stream has become, twice its bytes as Linux reckons.
fn receive_buffer<W: World>(world: &mut W, socket: &Socket) -> u32 {
    let tcp = world.host().tcp_tunables();
    let grown = socket
        .id()
        .and_then(|id| world.host().tcp_receive_memory(id).ok());
    match (socket.receive_buffer, socket.kind) {
        (Some(set), _) => set,
        (None, Kind::Datagram) => BUFFER_MOST,
        (None, Kind::Stream) => grown.map_or(tcp.rmem_default, |bytes| {
            bytes.min(tcp.rmem_max).max(tcp.rmem_default)
        }),
    }
}

/// The name of a socket's congestion control: of a connection what it has, else what the socket or the host says.
fn congestion<W: World>(world: &mut W, socket: &Socket) -> &'static str {
    let info = match socket.state {
        State::Stream(id) | State::Connecting(id) | State::Deferred(id) => {
            world.host().tcp_info(id).ok()
        }
        _ => None,
    };
    let host = world.host().tcp_tunables().congestion();
    info.map_or_else(
        || socket.tcp.congestion.unwrap_or(host).name(),
        |info| info.congestion,
    )
}

fn set_tcp<W: World>(world: &mut W, fd: i32, name: i32, value: &[u8]) -> Result<()> {
    if name == libc::TCP_CONGESTION {
        let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
        if value.is_empty() {
            return Err(Errno::INVAL);
        }
        let which = core::str::from_utf8(&value[..end]).ok();
        let which = which.and_then(Congestion::from_name).ok_or(Errno::NOENT)?;
        return change_tcp(world, fd, |o| o.congestion = Some(which));
    }
    if let Some(result) = fast_open::set(world, fd, name, value) {
        return result;
    }
    let number = integer(value)?;
    let seconds = |n: i32| Duration::from_secs(n.max(0) as u64);
    match name {
        libc::TCP_NODELAY => {
            change_tcp(world, fd, |o| o.nodelay = number != 0)?;
            if number != 0 {
                push(world, fd)?;
            }
            Ok(())
        }
        TCP_RTO_MAX_MS => {
            let most = Duration::from_millis(within(number, RTO_MAX_MS)? as u64);
            change_tcp(world, fd, |o| o.rto_max = Some(most))
        }
        TCP_NOTSENT_LOWAT => change_tcp(world, fd, |o| o.notsent_lowat = number as u32),
        TCP_INQ => {
            world.table().get_mut(fd)?.inq = within(number, 0..=1)? != 0;
            Ok(())
        }
        libc::TCP_CORK => {
            let socket = world.table().get_mut(fd)?;
            socket.cork = number != 0;
            if let State::Connecting(id) | State::Deferred(id) | State::Stream(id) = socket.state {
                let now = world.now();
                world.host().tcp_set_cork(now, id, number != 0)?;
                world.changed();
            }
            Ok(())
        }
        libc::TCP_MAXSEG => {
            let most = match number {
                0 => None,
                n => Some(within(n, MAXSEG)? as u16),
            };
            change_tcp(world, fd, |o| o.max_segment = most)
        }
        libc::TCP_KEEPIDLE => {
            let idle = seconds(within(number, KEEP_SECONDS)?);
            change_keepalive(world, fd, |k| k.idle = idle)
        }
        libc::TCP_KEEPINTVL => {
            let interval = seconds(within(number, KEEP_SECONDS)?);
            change_keepalive(world, fd, |k| k.interval = interval)
        }
        libc::TCP_KEEPCNT => {
            let probes = within(number, KEEP_PROBES)? as u8;
            change_keepalive(world, fd, |k| k.probes = probes)
        }
        libc::TCP_USER_TIMEOUT => {
            let limit = match within(number, 0..=i32::MAX)? {
                0 => None,
                ms => Some(Duration::from_millis(ms as u64)),
            };
            change_tcp(world, fd, |o| o.user_timeout = limit)
        }
        _ => set_handshake(world, fd, name, number),
    }
}

/// What concerns how a connection begins and ends.
fn set_handshake<W: World>(world: &mut W, fd: i32, name: i32, number: i32) -> Result<()> {
    let seconds = |n: i32| Duration::from_secs(n.unsigned_abs().into());
    match name {
        libc::TCP_WINDOW_CLAMP => {
            let fresh = matches!(world.table().get(fd)?.state, State::Fresh);
            if number == 0 && !fresh {
                return Err(Errno::INVAL);
            }
            let least = RECEIVE_BUFFER_LEAST / 2;
            let clamp = (number != 0).then(|| number.unsigned_abs().max(least));
            change_tcp(world, fd, |o| o.window_clamp = clamp)
        }
        libc::TCP_SYNCNT => {
            let retries = within(number, SYN_RETRIES)? as u8;
            change_tcp(world, fd, |o| o.syn_retries = Some(retries))
        }
        TCP_SAVE_SYN => {
            let how = within(number, 0..=2)? as u8;
            change_tcp(world, fd, |o| o.save_syn = how)
        }
        libc::TCP_DEFER_ACCEPT => {
            let time = (number > 0).then(|| seconds(number));
            change_tcp(world, fd, |o| o.defer_accept = time)
        }
        libc::TCP_LINGER2 => {
            let time = match number {
                0 => None,
                n if n < 0 => Some(Duration::ZERO),
                n => Some(seconds(n.min(FIN_TIMEOUT_MOST))),
            };
            change_tcp(world, fd, |o| o.linger2 = time)
        }
        libc::TCP_QUICKACK => {
            if let State::Connecting(id) | State::Deferred(id) | State::Stream(id) =
                world.table().get_mut(fd)?.state
            {
                let now = world.now();
                world.host().tcp_set_quick_ack(now, id, number & 1 != 0)?;
                world.changed();
            }
            Ok(())
        }
        _ => Err(Errno::NOPROTOOPT),
    }
}

/// TCP_DEFER_ACCEPT as it is told: whole timeouts of the SYN-ACK, of 1, 2, 4 s and so on.
fn deferred(time: Option<Duration>) -> i32 {
    let wanted = time.map_or(0, |time| time.as_secs());
    let (mut wait, mut all) = (1, 0);
    for _ in 0..255 {
        if all >= wanted {
            break;
        }
        all += wait;
        wait = (wait * 2).min(120);
    }
    i32::try_from(all).unwrap_or(i32::MAX)
}

fn set_ip<W: World>(world: &mut W, fd: i32, level: i32, name: i32, value: &[u8]) -> Result<()> {
    let socket = world.table().get(fd)?;
    let (v6, kind, fresh) = (socket.v6, socket.kind, socket.state == State::Fresh);
    if level == libc::IPPROTO_IPV6 && !v6 {
        return Err(Errno::NOPROTOOPT);
    }
    if let Some(result) = multicast::set(world, fd, (level, name), value) {
        return result;
    }
    // Options of level IP may be a byte long, as ever.
    let number = match (level, value) {
        (libc::IPPROTO_IP, [byte, ..]) if value.len() < 4 => i32::from(*byte),
        // Nothing is 0, but where it is not.
        (libc::IPPROTO_IP, []) if !matches!(name, libc::IP_TTL | libc::IP_FREEBIND) => 0,
        _ => integer(value)?,
    };
    match (level, name) {
        (libc::IPPROTO_IP, libc::IP_TTL) => {
            let ttl = match number {
                -1 => None,
                n => Some(within(n, 1..=255)? as u8),
            };
            change_ttl(world, fd, kind, ttl)
        }
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) => {
            let ttl = match number {
                -1 => None,
                n => Some(within(n, 0..=255)? as u8),
            };
            change_ttl(world, fd, kind, ttl)
        }
        (libc::IPPROTO_IP, libc::IP_TOS) => change_tos(world, fd, kind, number as u8),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            let tos = within(number, -1..=255)?.max(0) as u8;
            change_tos(world, fd, kind, tos)
        }
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
        | (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
            if kind == Kind::Stream =>
        {
            let how = within(number, 0..=libc::IP_PMTUDISC_OMIT)?;
            let network = &mut world.table().get_mut(fd)?.network;
            if level == libc::IPPROTO_IPV6 {
                // Routers never fragment IPv6.
                network.discover_v6 = how;
                return Ok(());
            }
            network.discover = how;
            let fragment = !matches!(
                how,
                libc::IP_PMTUDISC_WANT | libc::IP_PMTUDISC_DO | libc::IP_PMTUDISC_PROBE
            );
            change_tcp(world, fd, |o| o.fragment = fragment)
        }
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) => {
            let socket = world.table().get_mut(fd)?;
            if !fresh || socket.bound.is_some() {
                return Err(Errno::INVAL);
            }
            socket.only_v6 = number != 0;
            Ok(())
        }
        _ => network::set_ip(world, fd, (level, name), number),
    }
}

fn change_ttl<W: World>(world: &mut W, fd: i32, kind: Kind, ttl: Option<u8>) -> Result<()> {
    match kind {
        Kind::Stream => change_tcp(world, fd, |o| o.ttl = ttl),
        Kind::Datagram => change_udp(world, fd, |o| o.ttl = ttl),
    }
}

fn change_tos<W: World>(world: &mut W, fd: i32, kind: Kind, tos: u8) -> Result<()> {
    match kind {
        // The ECN bits of a connection are the stack's, as on Linux.
        Kind::Stream => change_tcp(world, fd, |o| o.tos = tos & !3),
        Kind::Datagram => change_udp(world, fd, |o| o.tos = tos),
    }
}

/// Changes options here and, when there is a connection or a listener, in the host.
pub(crate) fn change_tcp<W: World>(
    world: &mut W,
    fd: i32,
    change: impl Fn(&mut TcpOptions),
) -> Result<()> {
    let socket = world.table().get_mut(fd)?;
    change(&mut socket.tcp);
    if let State::Listening(id) | State::Connecting(id) | State::Deferred(id) | State::Stream(id) =
        socket.state
    {
        let now = world.now();
        world.host().tcp_set_options(now, id, change)?;
        world.changed();
    }
    Ok(())
}

fn change_udp<W: World>(world: &mut W, fd: i32, change: impl Fn(&mut UdpOptions)) -> Result<()> {
    let socket = world.table().get_mut(fd)?;
    change(&mut socket.udp);
    if let State::Datagram(id) = socket.state {
        world.host().udp_set_options(id, change)?;
    }
    Ok(())
}

/// TCP_NODELAY lets go of what a cork or MSG_MORE holds back, once, as on Linux.
fn push<W: World>(world: &mut W, fd: i32) -> Result<()> {
    let socket = world.table().get_mut(fd)?;
    if let State::Connecting(id) | State::Deferred(id) | State::Stream(id) = socket.state {
        let (again, now) = (socket.cork, world.now());
        world.host().tcp_set_cork(now, id, false)?;
        world.changed();
        world.host().tcp_set_cork(now, id, again)?;
    }
    Ok(())
}

fn change_keepalive<W: World>(
    world: &mut W,
    fd: i32,
    change: impl FnOnce(&mut stack::Keepalive),
) -> Result<()> {
    let socket = world.table().get_mut(fd)?;
    change(&mut socket.keepalive);
    let keepalive = socket.keepalive;
    if socket.tcp.keepalive.is_some() {
        change_tcp(world, fd, |o| o.keepalive = Some(keepalive))?;
    }
    Ok(())
}

/// Reads an option: all bytes of its value, of which the caller's buffer may hold fewer. See [`setsockopt`].
///
/// # Errors
/// EBADF; ENOTSOCK; ENOPROTOOPT for what there is not; EOPNOTSUPP for what is of another protocol, asked of a socket of IPv4.
pub fn getsockopt<W: World>(world: &mut W, fd: i32, level: i32, name: i32) -> Result<Vec<u8>> {
    let socket = world.table().get(fd)?.clone();
    let number = match level {
        libc::SOL_SOCKET => match name {
            libc::SO_LINGER => {
                let linger = socket.tcp.linger;
                let seconds = linger.map_or(0, |l| l.as_secs() as i32);
                let on = i32::from(linger.is_some());
                return Ok([on.to_ne_bytes(), seconds.to_ne_bytes()].concat());
            }
            libc::SO_RCVTIMEO => return Ok(timeval(socket.receive_timeout)),
            libc::SO_SNDTIMEO => return Ok(timeval(socket.send_timeout)),
            libc::SO_RCVBUF => receive_buffer(world, &socket) as i32,
            libc::SO_ERROR => return Ok(error_number(world, fd, &socket)?.to_ne_bytes().to_vec()),
            SO_MAX_PACING_RATE => return Ok(socket.tcp.max_pacing_rate.to_ne_bytes().to_vec()),
            SO_MEMINFO => return memory_info(world, &socket),
            notice::SO_TIMESTAMPING => {
                // And the clock of a device, which there is none of.
                let bits = socket_number(world, &socket, name)?;
                return Ok([bits, 0].map(i32::to_ne_bytes).concat());
            }
            _ => match device::get(world, &socket, name) {
                Some(bytes) => return Ok(bytes),
                None => socket_number(world, &socket, name)?,
            },
        },
        libc::IPPROTO_TCP if socket.kind == Kind::Stream => match name {
            libc::TCP_INFO => return Ok(info_bytes(world, &socket)),
            TCP_SAVED_SYN => return saved_syn(world, &socket),
            libc::TCP_CONGESTION => {
                let mut bytes = [0; 16];
                let name = congestion(world, &socket).as_bytes();
                bytes[..name.len()].copy_from_slice(name);
                return Ok(bytes.to_vec());
            }
            libc::TCP_CC_INFO => {
                let info = connection_info(world, &socket);
                return Ok(info.as_ref().map_or_else(Vec::new, congestion_info));
            }
            _ => match fast_open::get(world, &socket, name) {
                Some(bytes) => return bytes,
                None => tcp_number(world, &socket, name)?,
            },
        },
        libc::IPPROTO_IP if name == libc::IP_MULTICAST_IF => {
            return Ok(socket.network.groups.source.octets().to_vec());
        }
        libc::IPPROTO_IPV6 if socket.v6 => ip_number(world, &socket, level, name)?,
        libc::IPPROTO_IP => ip_number(world, &socket, level, name)?,
        libc::SOL_UDP if socket.kind == Kind::Datagram => network::udp_number(&socket, name)?,
        // As Linux.
        _ if !socket.v6 => return Err(Errno::OPNOTSUPP),
        _ => return Err(Errno::NOPROTOOPT),
    };
    Ok(number.to_ne_bytes().to_vec())
}

fn saved_syn<W: World>(world: &mut W, socket: &Socket) -> Result<Vec<u8>> {
    match socket.state {
        State::Stream(id) => Ok(world.host().tcp_saved_syn(id)?.to_vec()),
        _ => Ok(Vec::new()),
    }
}

/// For who read a value by [`getsockopt`] (see [`setsockopt`]) into a buffer of its own.
///
/// Whether an option's value, of `len` bytes, may be handed to who has `room` for it. It mostly may, cut short. A saved SYN must
/// fit, and is forgotten once it was read.
///
/// # Errors
/// `EINVAL` if it does not fit: the length wanted is told all the same.
pub fn handed_over<W: World>(
    world: &mut W,
    fd: i32,
    (level, name): (i32, i32),
    (len, room): (usize, usize),
) -> Result<()> {
    if level != libc::IPPROTO_TCP || name != TCP_SAVED_SYN || len == 0 {
        return Ok(());
    }
    if len > room {
        return Err(Errno::INVAL);
    }
    match world.table().get(fd)?.state {
        State::Stream(id) => Ok(world.host().tcp_forget_saved_syn(id)?),
        _ => Ok(()),
    }
}

/// `TCP_NOTSENT_LOWAT`, which libc does not name.
const TCP_NOTSENT_LOWAT: i32 = 25;
/// `TCP_RTO_MAX_MS`, which libc does not name.
const TCP_RTO_MAX_MS: i32 = 44;
/// `TCP_SAVE_SYN` and `TCP_SAVED_SYN`, which libc does not name.
const TCP_SAVE_SYN: i32 = 27;
const TCP_SAVED_SYN: i32 = 28;
/// `TCP_INQ`, which libc does not name.
const TCP_INQ: i32 = 36;
/// `SO_MAX_PACING_RATE`, which libc does not name everywhere.
const SO_MAX_PACING_RATE: i32 = 47;
/// `SO_MEMINFO`, which libc does not name.
const SO_MEMINFO: i32 = 55;

fn timeval(timeout: Option<Duration>) -> Vec<u8> {
    let timeout = timeout.unwrap_or_default();
    let seconds = timeout.as_secs() as i64;
    let micros = i64::from(timeout.subsec_micros());
    [seconds.to_ne_bytes(), micros.to_ne_bytes()].concat()
}

/// SO_ERROR: takes the pending error.
fn error_number<W: World>(world: &mut W, fd: i32, socket: &Socket) -> Result<i32> {
    let Some(id) = socket.id() else {
        return Ok(0);
    };
    let error = world.host().take_error(id);
    let connecting = matches!(socket.state, State::Connecting(_));
    let over = connecting && world.host().tcp_state(id) == Ok(TcpState::Closed);
    if over && matches!(error, None | Some(SocketError::ConnectionReset)) {
        // There has been a connection meanwhile, and what it brought can be read.
        world.table().get_mut(fd)?.state = State::Stream(id);
    } else if over {
        // A failed attempt is over once its error is taken: the next connect is a new one.
        let now = world.now();
        let _ = world.host().close(now, id);
        world.table().freshen(fd)?;
        world.table().get_mut(fd)?.looks_ended = true;
    }
    Ok(error.map_or(0, |e| Errno::from(e).0))
}

fn socket_number<W: World>(world: &mut W, socket: &Socket, name: i32) -> Result<i32> {
    let stream = socket.kind == Kind::Stream;
    let on = |on: bool| i32::from(on);
    Ok(match name {
        libc::SO_TYPE if stream => libc::SOCK_STREAM,
        libc::SO_TYPE => libc::SOCK_DGRAM,
        libc::SO_PROTOCOL if stream => libc::IPPROTO_TCP,
        libc::SO_PROTOCOL => libc::IPPROTO_UDP,
        libc::SO_DOMAIN if socket.v6 => libc::AF_INET6,
        libc::SO_DOMAIN => libc::AF_INET,
        libc::SO_ACCEPTCONN => on(matches!(socket.state, State::Listening(_))),
        libc::SO_REUSEADDR => on(socket.reuse_addr),
        libc::SO_REUSEPORT => on(socket.reuse_port),
        libc::SO_KEEPALIVE => on(socket.tcp.keepalive.is_some()),
        libc::SO_BROADCAST => on(socket.udp.broadcast),
        libc::SO_OOBINLINE => on(socket.oob_inline),
        libc::SO_RCVLOWAT => socket.low_water as i32,
        libc::SO_SNDLOWAT => 1,
        notice::SO_ZEROCOPY => on(socket.notices.zerocopy),
        libc::SO_SNDBUF => send_buffer(world, socket) as i32,
        _ => return network::socket_number(socket, name).ok_or(Errno::NOPROTOOPT),
    })
}

/// What was set, or what it has grown to.
fn send_buffer<W: World>(world: &mut W, socket: &Socket) -> u32 {
    let grown = match socket.state {
        State::Stream(id) => world.host().tcp_send_buffer(id).ok(),
        _ => None,
    };
    let first = world.host().tcp_tunables().wmem_default;
    let own = socket.send_buffer.or(grown).or(socket.tcp.send_buffer);
    own.unwrap_or(first)
}

fn tcp_number<W: World>(world: &mut W, socket: &Socket, name: i32) -> Result<i32> {
    let seconds = |time: Duration| time.as_secs().min(i32::MAX as u64) as i32;
    Ok(match name {
        libc::TCP_NODELAY => i32::from(socket.tcp.nodelay),
        libc::TCP_CORK => i32::from(socket.cork),
        TCP_RTO_MAX_MS => match socket.tcp.rto_max {
            Some(most) => most.as_millis() as i32,
            None => world.host().tcp_tunables().rto_max_ms as i32,
        },
        TCP_NOTSENT_LOWAT => socket.tcp.notsent_lowat as i32,
        TCP_INQ => i32::from(socket.inq),
        libc::TCP_WINDOW_CLAMP => socket.tcp.window_clamp.unwrap_or(0) as i32,
        libc::TCP_MAXSEG => match socket.state {
            State::Connecting(id) | State::Deferred(id) | State::Stream(id) => {
                world.host().tcp_info(id)?.mss as i32
            }
            // RFC 9293 MUST-15, and what Linux tells before there is a connection.
            _ => i32::from(socket.tcp.max_segment.unwrap_or(536)),
        },
        libc::TCP_KEEPIDLE => seconds(socket.keepalive.idle),
        libc::TCP_KEEPINTVL => seconds(socket.keepalive.interval),
        libc::TCP_KEEPCNT => i32::from(socket.keepalive.probes),
        libc::TCP_USER_TIMEOUT => socket
            .tcp
            .user_timeout
            .map_or(0, |t| t.as_millis().min(i32::MAX as u128) as i32),
        libc::TCP_SYNCNT => {
            let host = world.host().tcp_tunables().syn_retries as i32;
            socket.tcp.syn_retries.map_or(host, i32::from)
        }
        TCP_SAVE_SYN => i32::from(socket.tcp.save_syn),
        libc::TCP_DEFER_ACCEPT => deferred(socket.tcp.defer_accept),
        libc::TCP_QUICKACK => match socket.state {
            State::Connecting(id) | State::Deferred(id) | State::Stream(id) => {
                i32::from(world.host().tcp_quick_ack(id)?)
            }
            // As Linux says of a socket that was never spoken to.
            _ => 1,
        },
        libc::TCP_LINGER2 => match socket.tcp.linger2 {
            None => world.host().tcp_tunables().fin_timeout as i32,
            Some(time) if time.is_zero() => -1,
            Some(time) => seconds(time),
        },
        _ => return Err(Errno::NOPROTOOPT),
    })
}

fn ip_number<W: World>(world: &mut W, socket: &Socket, level: i32, name: i32) -> Result<i32> {
    if level == libc::IPPROTO_IPV6 && !socket.v6 {
        return Err(Errno::NOPROTOOPT);
    }
    let (ttl, tos) = match socket.kind {
        Kind::Stream => (socket.tcp.ttl, socket.tcp.tos),
        Kind::Datagram => (socket.udp.ttl, socket.udp.tos),
    };
    Ok(match (level, name) {
        (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) => {
            ttl.map_or(64, i32::from)
        }
        (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            i32::from(tos)
        }
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) => i32::from(socket.only_v6),
        _ if let Some(number) = multicast::number(socket, level, name) => number,
        _ => return network::ip_number(world, socket, (level, name)),
    })
}

fn connection_info<W: World>(world: &mut W, socket: &Socket) -> Option<TcpInfo> {
    let now = world.now();
    match socket.state {
        State::Connecting(id) | State::Deferred(id) | State::Stream(id) => {
            world.host().tcp_info_at(now, id).ok()
        }
        _ => None,
    }
}

fn info_bytes<W: World>(world: &mut W, socket: &Socket) -> Vec<u8> {
    let info = connection_info(world, socket);
    let listens = matches!(socket.state, State::Listening(_));
    tcp_info(info.as_ref(), listens).to_vec()
}

/// SO_MEMINFO: nine numbers, of which bytes queued and limits are known.
fn memory_info<W: World>(world: &mut W, socket: &Socket) -> Result<Vec<u8>> {
    let queued = |world: &mut W, id: SocketId| {
        let info = world.host().tcp_info(id).ok();
        info.map_or((0, 0), |i| (i.unread, i.unsent + i.unacknowledged))
    };
    let (unread, unsent) = match socket.state {
        State::Stream(id) => queued(world, id),
        _ => (0, 0),
    };
    let receive = receive_buffer(world, socket);
    let send = socket_number(world, socket, libc::SO_SNDBUF)? as u32;
    // rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops.
    let numbers = [unread, receive, 0, send, 0, unsent, 0, 0, 0];
    Ok(numbers.iter().flat_map(|n| n.to_ne_bytes()).collect())
}
