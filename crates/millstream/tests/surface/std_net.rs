//! What std::net has, as of Rust 1.95.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

/// Compiles the same table of methods of `$type` against std's types and against ours.
macro_rules! surface {
    ($names:ident, $kernels:ident, $ours:ident, $type:ident: $($name:ident: $signature:ty,)*) => {
        pub(crate) const $names: &[&str] = &[$(stringify!($name)),*];
        mod $kernels {
            use super::*;
            use std::net::{Incoming, TcpListener, TcpStream, UdpSocket};
            use std::os::linux::net::TcpStreamExt;
            $(const _: $signature = $type::$name;)*
        }
        mod $ours {
            use super::*;
            use millstream::{Incoming, TcpListener, TcpStream, UdpSocket};
            $(const _: $signature = $type::$name;)*
        }
    };
}

type Result<T> = io::Result<T>;
type Time = Option<Duration>;

surface!(LISTENER, listener_of_std, listener, TcpListener:
    bind: fn(&'static str) -> Result<TcpListener>,
    local_addr: fn(&TcpListener) -> Result<SocketAddr>,
    try_clone: fn(&TcpListener) -> Result<TcpListener>,
    accept: fn(&TcpListener) -> Result<(TcpStream, SocketAddr)>,
    incoming: fn(&TcpListener) -> Incoming<'_>,
    set_ttl: fn(&TcpListener, u32) -> Result<()>,
    ttl: fn(&TcpListener) -> Result<u32>,
    set_only_v6: fn(&TcpListener, bool) -> Result<()>,
    only_v6: fn(&TcpListener) -> Result<bool>,
    take_error: fn(&TcpListener) -> Result<Option<io::Error>>,
    set_nonblocking: fn(&TcpListener, bool) -> Result<()>,
);

surface!(STREAM, stream_of_std, stream, TcpStream:
    connect: fn(&'static str) -> Result<TcpStream>,
    connect_timeout: fn(&SocketAddr, Duration) -> Result<TcpStream>,
    peer_addr: fn(&TcpStream) -> Result<SocketAddr>,
    local_addr: fn(&TcpStream) -> Result<SocketAddr>,
    shutdown: fn(&TcpStream, Shutdown) -> Result<()>,
    try_clone: fn(&TcpStream) -> Result<TcpStream>,
    set_read_timeout: fn(&TcpStream, Time) -> Result<()>,
    set_write_timeout: fn(&TcpStream, Time) -> Result<()>,
    read_timeout: fn(&TcpStream) -> Result<Time>,
    write_timeout: fn(&TcpStream) -> Result<Time>,
    peek: fn(&TcpStream, &mut [u8]) -> Result<usize>,
    set_nodelay: fn(&TcpStream, bool) -> Result<()>,
    nodelay: fn(&TcpStream) -> Result<bool>,
    set_ttl: fn(&TcpStream, u32) -> Result<()>,
    ttl: fn(&TcpStream) -> Result<u32>,
    take_error: fn(&TcpStream) -> Result<Option<io::Error>>,
    set_nonblocking: fn(&TcpStream, bool) -> Result<()>,
    set_quickack: fn(&TcpStream, bool) -> Result<()>,
    quickack: fn(&TcpStream) -> Result<bool>,
);

surface!(UDP, udp_of_std, udp, UdpSocket:
    bind: fn(&'static str) -> Result<UdpSocket>,
    recv_from: fn(&UdpSocket, &mut [u8]) -> Result<(usize, SocketAddr)>,
    peek_from: fn(&UdpSocket, &mut [u8]) -> Result<(usize, SocketAddr)>,
    send_to: fn(&UdpSocket, &[u8], &'static str) -> Result<usize>,
    peer_addr: fn(&UdpSocket) -> Result<SocketAddr>,
    local_addr: fn(&UdpSocket) -> Result<SocketAddr>,
    try_clone: fn(&UdpSocket) -> Result<UdpSocket>,
    set_read_timeout: fn(&UdpSocket, Time) -> Result<()>,
    set_write_timeout: fn(&UdpSocket, Time) -> Result<()>,
    read_timeout: fn(&UdpSocket) -> Result<Time>,
    write_timeout: fn(&UdpSocket) -> Result<Time>,
    set_broadcast: fn(&UdpSocket, bool) -> Result<()>,
    broadcast: fn(&UdpSocket) -> Result<bool>,
    set_multicast_loop_v4: fn(&UdpSocket, bool) -> Result<()>,
    multicast_loop_v4: fn(&UdpSocket) -> Result<bool>,
    set_multicast_ttl_v4: fn(&UdpSocket, u32) -> Result<()>,
    multicast_ttl_v4: fn(&UdpSocket) -> Result<u32>,
    set_multicast_loop_v6: fn(&UdpSocket, bool) -> Result<()>,
    multicast_loop_v6: fn(&UdpSocket) -> Result<bool>,
    set_ttl: fn(&UdpSocket, u32) -> Result<()>,
    ttl: fn(&UdpSocket) -> Result<u32>,
    join_multicast_v4: fn(&UdpSocket, &Ipv4Addr, &Ipv4Addr) -> Result<()>,
    join_multicast_v6: fn(&UdpSocket, &Ipv6Addr, u32) -> Result<()>,
    leave_multicast_v4: fn(&UdpSocket, &Ipv4Addr, &Ipv4Addr) -> Result<()>,
    leave_multicast_v6: fn(&UdpSocket, &Ipv6Addr, u32) -> Result<()>,
    take_error: fn(&UdpSocket) -> Result<Option<io::Error>>,
    connect: fn(&UdpSocket, &'static str) -> Result<()>,
    send: fn(&UdpSocket, &[u8]) -> Result<usize>,
    recv: fn(&UdpSocket, &mut [u8]) -> Result<usize>,
    peek: fn(&UdpSocket, &mut [u8]) -> Result<usize>,
    set_nonblocking: fn(&UdpSocket, bool) -> Result<()>,
);

/// Traits the types have.
macro_rules! traits {
    ($check:ident, $net:path) => {
        #[allow(dead_code)]
        fn $check() {
            use $net::{Incoming, TcpListener, TcpStream, UdpSocket};
            fn handle<T: Debug + Send + Sync + Unpin + 'static>() {}
            fn stream<T: Read + Write>() {}
            fn iterator<T: Iterator<Item = io::Result<S>> + std::iter::FusedIterator + Debug, S>() {
            }
            handle::<TcpListener>();
            handle::<TcpStream>();
            handle::<UdpSocket>();
            stream::<TcpStream>();
            stream::<&'static TcpStream>();
            iterator::<Incoming<'static>, TcpStream>();
        }
    };
}

traits!(traits_of_std, std::net);
traits!(traits_of_ours, millstream);
