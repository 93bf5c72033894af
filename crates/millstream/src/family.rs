//! What Linux says of options of IPv6 on sockets of IPv4.

use std::io;
use std::net::SocketAddr;

const ENOPROTOOPT: i32 = 92;
const EOPNOTSUPP: i32 = 95;

fn of_v6(local: SocketAddr, otherwise: i32) -> io::Result<()> {
    if local.is_ipv6() {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(otherwise))
}

/// Refuses to set an option of IPv6 for an IPv4 socket.
pub(crate) fn sets_v6(local: SocketAddr) -> io::Result<()> {
    of_v6(local, ENOPROTOOPT)
}

/// Refuses to tell one.
pub(crate) fn gets_v6(local: SocketAddr) -> io::Result<()> {
    of_v6(local, EOPNOTSUPP)
}
