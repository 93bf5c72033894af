//! `sockaddr_in` and `sockaddr_in6` as bytes, to Rust's addresses and back.
//!
//! What does not live here: pointers. A caller at a C edge makes the slice.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::errno::{Errno, Result};

/// AF_INET as it stands in a `sockaddr`.
pub const FAMILY_V4: u16 = libc::AF_INET as u16;
/// AF_INET6 as it stands in a `sockaddr`.
pub const FAMILY_V6: u16 = libc::AF_INET6 as u16;

const V4_LEN: usize = 16;
/// Without `sin6_scope_id`, which RFC 2133 did not have: the least that Linux takes.
const V6_LEN_MIN: usize = 24;
const V6_LEN: usize = 28;

/// Where a call points at.
///
/// ```
/// use posix::Destination;
///
/// let mut bytes = [0; 28];
/// let len = posix::write(&"[::1]:80".parse().unwrap(), true, &mut bytes);
/// let to = posix::parse(&bytes[..len], true)?;
/// assert_eq!(to, Destination::Peer("[::1]:80".parse().unwrap()));
/// assert_eq!(posix::parse(&[0; 16], true)?, Destination::Nowhere); // AF_UNSPEC
/// # Ok::<(), posix::Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// AF_UNSPEC: nowhere, which dissolves an association.
    Nowhere,
    /// An address and a port.
    Peer(SocketAddr),
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The least length of a `sockaddr` for a socket of a family.
pub(crate) fn shortest(v6: bool) -> usize {
    if v6 { V6_LEN_MIN } else { V4_LEN }
}

/// The family that a `sockaddr` names.
///
/// # Errors
/// EINVAL for one that is too short for that.
pub(crate) fn family(bytes: &[u8]) -> Result<i32> {
    let family = chunk(bytes, 0).map(u16::from_ne_bytes);
    Ok(family.ok_or(Errno::INVAL)?.into())
}

/// Port and address of a `sockaddr_in`, whatever family it names.
pub(crate) fn v4_of(bytes: &[u8]) -> SocketAddr {
    let port = chunk(bytes, 2).map_or(0, u16::from_be_bytes);
    let ip = chunk(bytes, 4).map_or(Ipv4Addr::UNSPECIFIED, |ip: [u8; 4]| ip.into());
    SocketAddrV4::new(ip, port).into()
}

/// The scope of an address of one link, or of a group of one link or host, 0 where it says none; `None` for any other.
pub(crate) fn scope(addr: &SocketAddr) -> Option<u32> {
    let SocketAddr::V6(v6) = addr else {
        return None;
    };
    let [first, scope, ..] = v6.ip().octets();
    let near_group = first == 0xff && matches!(scope & 0xf, 1 | 2); // RFC 4291 2.7
    (near_group || v6.ip().is_unicast_link_local()).then_some(v6.scope_id())
}

/// Reads a `sockaddr` for a socket of a family, with Linux's errors and their order. For an example see [`Destination`].
///
/// # Errors
/// EINVAL for one that is too short, EAFNOSUPPORT for one of another family.
pub fn parse(bytes: &[u8], v6: bool) -> Result<Destination> {
    let family = family(bytes)?;
    if family == libc::AF_UNSPEC {
        return Ok(Destination::Nowhere);
    }
    if bytes.len() < shortest(v6) {
        return Err(Errno::INVAL);
    }
    let own = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    if family != own {
        return Err(Errno::AFNOSUPPORT);
    }
    let peer = if v6 {
        let port = chunk(bytes, 2).map_or(0, u16::from_be_bytes);
        let ip = chunk(bytes, 8).map_or(Ipv6Addr::UNSPECIFIED, |ip: [u8; 16]| ip.into());
        let flow = chunk(bytes, 4).map_or(0, u32::from_be_bytes);
        let scope = chunk(bytes, 24).map_or(0, u32::from_ne_bytes);
        SocketAddrV6::new(ip, port, flow, scope).into()
    } else {
        v4_of(bytes)
    };
    Ok(Destination::Peer(peer))
}

/// Writes an address as the `sockaddr` of a socket of a family, which shows IPv4 v4-mapped if it is AF_INET6. What does not
/// fit is cut off; returns the whole length, as calls report it. For an example see [`Destination`].
pub fn write(addr: &SocketAddr, v6: bool, out: &mut [u8]) -> usize {
    let mut bytes = [0; V6_LEN];
    let (family, len) = if v6 {
        (FAMILY_V6, V6_LEN)
    } else {
        (FAMILY_V4, V4_LEN)
    };
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
    match addr.ip() {
        IpAddr::V4(ip) if v6 => bytes[8..24].copy_from_slice(&ip.to_ipv6_mapped().octets()),
        IpAddr::V4(ip) => bytes[4..8].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => {
            bytes[8..24].copy_from_slice(&ip.octets());
            if let SocketAddr::V6(v6) = addr {
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            }
        }
    }
    let fits = out.len().min(len);
    out[..fits].copy_from_slice(&bytes[..fits]);
    len
}

/// An address as the host knows it: IPv4 as IPv4, however the application wrote it.
pub(crate) fn plain(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => SocketAddrV4::new(ip, addr.port()).into(),
            None => addr,
        },
        IpAddr::V4(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (text, v6) in [("192.0.2.1:80", false), ("[fd00::1%3]:8080", true)] {
            let addr: SocketAddr = text.parse().unwrap();
            let mut bytes = [0; 64];
            let len = write(&addr, v6, &mut bytes);
            assert_eq!(parse(&bytes[..len], v6), Ok(Destination::Peer(addr)));
        }
    }

    #[test]
    fn errors_are_linuxs() {
        assert_eq!(parse(&[2], false), Err(Errno::INVAL));
        assert_eq!(parse(&[0, 0], false), Ok(Destination::Nowhere));
        let mut six = [0; 28];
        six[..2].copy_from_slice(&FAMILY_V6.to_ne_bytes());
        assert_eq!(parse(&six, false), Err(Errno::AFNOSUPPORT));
        assert_eq!(parse(&six[..20], true), Err(Errno::INVAL));
        assert!(parse(&six[..24], true).is_ok(), "RFC 2133 had no scope");
    }

    #[test]
    fn an_ipv6_socket_sees_ipv4_mapped() {
        let mut bytes = [0; 28];
        assert_eq!(write(&"192.0.2.1:9".parse().unwrap(), true, &mut bytes), 28);
        let Ok(Destination::Peer(mapped)) = parse(&bytes, true) else {
            panic!("an address")
        };
        assert_eq!(mapped, "[::ffff:192.0.2.1]:9".parse().unwrap());
        assert_eq!(plain(mapped), "192.0.2.1:9".parse().unwrap());
    }
}
