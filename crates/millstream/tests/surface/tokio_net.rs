//! What tokio::net has for TCP and UDP, as of tokio 1.54.

use std::fmt::Debug;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

/// Compiles a table of methods against the type that stands here under its name.
macro_rules! has {
    (
        $type:ident:
        $($name:ident: $signature:ty,)*
        ; async $($aname:ident: ($($argument:ty),*) -> $output:ty,)*
    ) => {
        #[allow(dead_code)]
        type Std<T> = <T as super::Std>::Of;
        $(const _: $signature = $type::$name;)*
        $(const _: () = {
            const fn check(_: &impl AsyncFn($($argument),*) -> $output) {}
            check(&$type::$aname)
        };)*
    };
}

/// Compiles the same table of methods of `$type` against tokio's types and against ours: plain functions first, then async
/// ones.
macro_rules! surface {
    (
        $names:ident, $tokios:ident, $ours:ident, $type:ident:
        $($name:ident: $signature:ty,)*
        ; async $($aname:ident: ($($argument:ty),*) -> $output:ty,)*
    ) => {
        pub(crate) const $names: &[&str] = &[$(stringify!($name),)* $(stringify!($aname)),*];
        mod $tokios {
            use super::*;
            use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
            use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
            has!($type: $($name: $signature,)* ; async $($aname: ($($argument),*) -> $output,)*);
        }
        mod $ours {
            use super::*;
            use millstream::tokio::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
            use millstream::tokio::{TcpListener, TcpSocket, TcpStream, UdpSocket};
            has!($type: $($name: $signature,)* ; async $($aname: ($($argument),*) -> $output,)*);
        }
    };
}

/// The type with std's face that belongs to one with tokio's.
trait Std {
    type Of;
}

macro_rules! std_of {
    ($($type:ty => $std:ty,)*) => {$(impl Std for $type { type Of = $std; })*};
}

std_of!(
    tokio::net::TcpListener => std::net::TcpListener,
    tokio::net::TcpStream => std::net::TcpStream,
    tokio::net::UdpSocket => std::net::UdpSocket,
    millstream::tokio::TcpListener => millstream::TcpListener,
    millstream::tokio::TcpStream => millstream::TcpStream,
    millstream::tokio::UdpSocket => millstream::UdpSocket,
);

type Result<T> = io::Result<T>;
type Time = Option<Duration>;
type Accepted<S> = Result<(S, SocketAddr)>;
type From = Result<(usize, SocketAddr)>;
type Done = fn() -> io::Result<u8>;

surface!(LISTENER, listener_of_tokio, listener, TcpListener:
    poll_accept: fn(&TcpListener, &mut Context<'_>) -> Poll<Accepted<TcpStream>>,
    from_std: fn(Std<TcpListener>) -> Result<TcpListener>,
    into_std: fn(TcpListener) -> Result<Std<TcpListener>>,
    local_addr: fn(&TcpListener) -> Result<SocketAddr>,
    ttl: fn(&TcpListener) -> Result<u32>,
    set_ttl: fn(&TcpListener, u32) -> Result<()>,
    ; async
    bind: (&'static str) -> Result<TcpListener>,
    accept: (&TcpListener) -> Accepted<TcpStream>,
);

surface!(STREAM, stream_of_tokio, stream, TcpStream:
    from_std: fn(Std<TcpStream>) -> Result<TcpStream>,
    into_std: fn(TcpStream) -> Result<Std<TcpStream>>,
    local_addr: fn(&TcpStream) -> Result<SocketAddr>,
    take_error: fn(&TcpStream) -> Result<Option<io::Error>>,
    peer_addr: fn(&TcpStream) -> Result<SocketAddr>,
    poll_peek: fn(&TcpStream, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<Result<usize>>,
    poll_read_ready: fn(&TcpStream, &mut Context<'_>) -> Poll<Result<()>>,
    try_read: fn(&TcpStream, &mut [u8]) -> Result<usize>,
    try_read_vectored: fn(&TcpStream, &mut [IoSliceMut<'_>]) -> Result<usize>,
    try_read_buf: fn(&TcpStream, &mut Vec<u8>) -> Result<usize>,
    poll_write_ready: fn(&TcpStream, &mut Context<'_>) -> Poll<Result<()>>,
    try_write: fn(&TcpStream, &[u8]) -> Result<usize>,
    try_write_vectored: fn(&TcpStream, &[IoSlice<'_>]) -> Result<usize>,
    try_io: fn(&TcpStream, Interest, Done) -> Result<u8>,
    nodelay: fn(&TcpStream) -> Result<bool>,
    set_nodelay: fn(&TcpStream, bool) -> Result<()>,
    quickack: fn(&TcpStream) -> Result<bool>,
    set_quickack: fn(&TcpStream, bool) -> Result<()>,
    linger: fn(&TcpStream) -> Result<Time>,
    set_linger: fn(&TcpStream, Time) -> Result<()>,
    set_zero_linger: fn(&TcpStream) -> Result<()>,
    ttl: fn(&TcpStream) -> Result<u32>,
    set_ttl: fn(&TcpStream, u32) -> Result<()>,
    split: for<'a> fn(&'a mut TcpStream) -> (ReadHalf<'a>, WriteHalf<'a>),
    into_split: fn(TcpStream) -> (OwnedReadHalf, OwnedWriteHalf),
    ; async
    connect: (&'static str) -> Result<TcpStream>,
    ready: (&TcpStream, Interest) -> Result<Ready>,
    readable: (&TcpStream) -> Result<()>,
    writable: (&TcpStream) -> Result<()>,
    async_io: (&TcpStream, Interest, Done) -> Result<u8>,
    peek: (&TcpStream, &mut [u8]) -> Result<usize>,
);

surface!(READ_HALF, read_half_of_tokio, read_half, ReadHalf:
    poll_peek: fn(&mut ReadHalf<'static>, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<Result<usize>>,
    try_read: fn(&ReadHalf<'static>, &mut [u8]) -> Result<usize>,
    try_read_vectored: fn(&ReadHalf<'static>, &mut [IoSliceMut<'_>]) -> Result<usize>,
    try_read_buf: fn(&ReadHalf<'static>, &mut Vec<u8>) -> Result<usize>,
    peer_addr: fn(&ReadHalf<'static>) -> Result<SocketAddr>,
    local_addr: fn(&ReadHalf<'static>) -> Result<SocketAddr>,
    ; async
    peek: (&mut ReadHalf<'static>, &mut [u8]) -> Result<usize>,
    ready: (&ReadHalf<'static>, Interest) -> Result<Ready>,
    readable: (&ReadHalf<'static>) -> Result<()>,
);

surface!(WRITE_HALF, write_half_of_tokio, write_half, WriteHalf:
    try_write: fn(&WriteHalf<'static>, &[u8]) -> Result<usize>,
    try_write_vectored: fn(&WriteHalf<'static>, &[IoSlice<'_>]) -> Result<usize>,
    peer_addr: fn(&WriteHalf<'static>) -> Result<SocketAddr>,
    local_addr: fn(&WriteHalf<'static>) -> Result<SocketAddr>,
    ; async
    ready: (&WriteHalf<'static>, Interest) -> Result<Ready>,
    writable: (&WriteHalf<'static>) -> Result<()>,
);

surface!(OWNED_READ_HALF, owned_read_half_of_tokio, owned_read_half, OwnedReadHalf:
    reunite: fn(OwnedReadHalf, OwnedWriteHalf) -> std::result::Result<TcpStream, ReuniteError>,
    poll_peek: fn(&mut OwnedReadHalf, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<Result<usize>>,
    try_read: fn(&OwnedReadHalf, &mut [u8]) -> Result<usize>,
    try_read_vectored: fn(&OwnedReadHalf, &mut [IoSliceMut<'_>]) -> Result<usize>,
    try_read_buf: fn(&OwnedReadHalf, &mut Vec<u8>) -> Result<usize>,
    peer_addr: fn(&OwnedReadHalf) -> Result<SocketAddr>,
    local_addr: fn(&OwnedReadHalf) -> Result<SocketAddr>,
    ; async
    peek: (&mut OwnedReadHalf, &mut [u8]) -> Result<usize>,
    ready: (&OwnedReadHalf, Interest) -> Result<Ready>,
    readable: (&OwnedReadHalf) -> Result<()>,
);

surface!(OWNED_WRITE_HALF, owned_write_half_of_tokio, owned_write_half, OwnedWriteHalf:
    reunite: fn(OwnedWriteHalf, OwnedReadHalf) -> std::result::Result<TcpStream, ReuniteError>,
    forget: fn(OwnedWriteHalf),
    try_write: fn(&OwnedWriteHalf, &[u8]) -> Result<usize>,
    try_write_vectored: fn(&OwnedWriteHalf, &[IoSlice<'_>]) -> Result<usize>,
    peer_addr: fn(&OwnedWriteHalf) -> Result<SocketAddr>,
    local_addr: fn(&OwnedWriteHalf) -> Result<SocketAddr>,
    ; async
    ready: (&OwnedWriteHalf, Interest) -> Result<Ready>,
    writable: (&OwnedWriteHalf) -> Result<()>,
);

surface!(SOCKET, socket_of_tokio, socket, TcpSocket:
    new_v4: fn() -> Result<TcpSocket>,
    new_v6: fn() -> Result<TcpSocket>,
    set_keepalive: fn(&TcpSocket, bool) -> Result<()>,
    keepalive: fn(&TcpSocket) -> Result<bool>,
    set_reuseaddr: fn(&TcpSocket, bool) -> Result<()>,
    reuseaddr: fn(&TcpSocket) -> Result<bool>,
    set_reuseport: fn(&TcpSocket, bool) -> Result<()>,
    reuseport: fn(&TcpSocket) -> Result<bool>,
    set_send_buffer_size: fn(&TcpSocket, u32) -> Result<()>,
    send_buffer_size: fn(&TcpSocket) -> Result<u32>,
    set_recv_buffer_size: fn(&TcpSocket, u32) -> Result<()>,
    recv_buffer_size: fn(&TcpSocket) -> Result<u32>,
    set_linger: fn(&TcpSocket, Time) -> Result<()>,
    set_zero_linger: fn(&TcpSocket) -> Result<()>,
    linger: fn(&TcpSocket) -> Result<Time>,
    set_nodelay: fn(&TcpSocket, bool) -> Result<()>,
    nodelay: fn(&TcpSocket) -> Result<bool>,
    device: fn(&TcpSocket) -> Result<Option<Vec<u8>>>,
    bind_device: fn(&TcpSocket, Option<&[u8]>) -> Result<()>,
    tclass_v6: fn(&TcpSocket) -> Result<u32>,
    set_tclass_v6: fn(&TcpSocket, u32) -> Result<()>,
    tos_v4: fn(&TcpSocket) -> Result<u32>,
    tos: fn(&TcpSocket) -> Result<u32>,
    set_tos_v4: fn(&TcpSocket, u32) -> Result<()>,
    set_tos: fn(&TcpSocket, u32) -> Result<()>,
    local_addr: fn(&TcpSocket) -> Result<SocketAddr>,
    take_error: fn(&TcpSocket) -> Result<Option<io::Error>>,
    bind: fn(&TcpSocket, SocketAddr) -> Result<()>,
    listen: fn(TcpSocket, u32) -> Result<TcpListener>,
    ; async
    connect: (TcpSocket, SocketAddr) -> Result<TcpStream>,
);

surface!(UDP, udp_of_tokio, udp, UdpSocket:
    from_std: fn(Std<UdpSocket>) -> Result<UdpSocket>,
    into_std: fn(UdpSocket) -> Result<Std<UdpSocket>>,
    local_addr: fn(&UdpSocket) -> Result<SocketAddr>,
    peer_addr: fn(&UdpSocket) -> Result<SocketAddr>,
    poll_send_ready: fn(&UdpSocket, &mut Context<'_>) -> Poll<Result<()>>,
    poll_send: fn(&UdpSocket, &mut Context<'_>, &[u8]) -> Poll<Result<usize>>,
    try_send: fn(&UdpSocket, &[u8]) -> Result<usize>,
    poll_recv_ready: fn(&UdpSocket, &mut Context<'_>) -> Poll<Result<()>>,
    poll_recv: fn(&UdpSocket, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<Result<()>>,
    try_recv: fn(&UdpSocket, &mut [u8]) -> Result<usize>,
    try_recv_buf: fn(&UdpSocket, &mut Vec<u8>) -> Result<usize>,
    try_recv_buf_from: fn(&UdpSocket, &mut Vec<u8>) -> From,
    poll_send_to: fn(&UdpSocket, &mut Context<'_>, &[u8], SocketAddr) -> Poll<Result<usize>>,
    try_send_to: fn(&UdpSocket, &[u8], SocketAddr) -> Result<usize>,
    poll_recv_from: fn(&UdpSocket, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<Result<SocketAddr>>,
    try_recv_from: fn(&UdpSocket, &mut [u8]) -> From,
    try_io: fn(&UdpSocket, Interest, Done) -> Result<u8>,
    poll_peek: fn(&UdpSocket, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<Result<()>>,
    try_peek: fn(&UdpSocket, &mut [u8]) -> Result<usize>,
    poll_peek_from: fn(&UdpSocket, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<Result<SocketAddr>>,
    try_peek_from: fn(&UdpSocket, &mut [u8]) -> From,
    poll_peek_sender: fn(&UdpSocket, &mut Context<'_>) -> Poll<Result<SocketAddr>>,
    try_peek_sender: fn(&UdpSocket) -> Result<SocketAddr>,
    broadcast: fn(&UdpSocket) -> Result<bool>,
    set_broadcast: fn(&UdpSocket, bool) -> Result<()>,
    multicast_loop_v4: fn(&UdpSocket) -> Result<bool>,
    set_multicast_loop_v4: fn(&UdpSocket, bool) -> Result<()>,
    multicast_ttl_v4: fn(&UdpSocket) -> Result<u32>,
    set_multicast_ttl_v4: fn(&UdpSocket, u32) -> Result<()>,
    multicast_loop_v6: fn(&UdpSocket) -> Result<bool>,
    set_multicast_loop_v6: fn(&UdpSocket, bool) -> Result<()>,
    device: fn(&UdpSocket) -> Result<Option<Vec<u8>>>,
    bind_device: fn(&UdpSocket, Option<&[u8]>) -> Result<()>,
    tclass_v6: fn(&UdpSocket) -> Result<u32>,
    set_tclass_v6: fn(&UdpSocket, u32) -> Result<()>,
    ttl: fn(&UdpSocket) -> Result<u32>,
    set_ttl: fn(&UdpSocket, u32) -> Result<()>,
    tos_v4: fn(&UdpSocket) -> Result<u32>,
    tos: fn(&UdpSocket) -> Result<u32>,
    set_tos_v4: fn(&UdpSocket, u32) -> Result<()>,
    set_tos: fn(&UdpSocket, u32) -> Result<()>,
    join_multicast_v4: fn(&UdpSocket, Ipv4Addr, Ipv4Addr) -> Result<()>,
    join_multicast_v6: fn(&UdpSocket, &Ipv6Addr, u32) -> Result<()>,
    leave_multicast_v4: fn(&UdpSocket, Ipv4Addr, Ipv4Addr) -> Result<()>,
    leave_multicast_v6: fn(&UdpSocket, &Ipv6Addr, u32) -> Result<()>,
    take_error: fn(&UdpSocket) -> Result<Option<io::Error>>,
    ; async
    bind: (&'static str) -> Result<UdpSocket>,
    connect: (&UdpSocket, &'static str) -> Result<()>,
    ready: (&UdpSocket, Interest) -> Result<Ready>,
    writable: (&UdpSocket) -> Result<()>,
    send: (&UdpSocket, &[u8]) -> Result<usize>,
    readable: (&UdpSocket) -> Result<()>,
    recv: (&UdpSocket, &mut [u8]) -> Result<usize>,
    recv_buf: (&UdpSocket, &mut Vec<u8>) -> Result<usize>,
    recv_buf_from: (&UdpSocket, &mut Vec<u8>) -> From,
    send_to: (&UdpSocket, &[u8], &'static str) -> Result<usize>,
    recv_from: (&UdpSocket, &mut [u8]) -> From,
    async_io: (&UdpSocket, Interest, Done) -> Result<u8>,
    peek: (&UdpSocket, &mut [u8]) -> Result<usize>,
    peek_from: (&UdpSocket, &mut [u8]) -> From,
    peek_sender: (&UdpSocket) -> Result<SocketAddr>,
);

/// Traits the types have, and that futures may cross threads.
macro_rules! traits {
    ($check:ident: $net:path, $halves:path) => {
        #[allow(dead_code)]
        fn $check() {
            use $halves::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
            use $net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
            fn handle<T: Debug + Send + Sync + Unpin + 'static>() {}
            fn reads<T: AsyncRead + Debug + Send + Sync + Unpin>() {}
            fn writes<T: AsyncWrite + Debug + Send + Sync + Unpin>() {}
            fn of_std<T: Std + TryFrom<<T as Std>::Of, Error = io::Error>>() {}
            fn of_stream<T: AsRef<TcpStream>>() {}
            fn error<T: std::error::Error + 'static>() {}
            fn send<T: Send>(_: T) {}
            handle::<TcpListener>();
            handle::<TcpStream>();
            handle::<TcpSocket>();
            handle::<UdpSocket>();
            reads::<TcpStream>();
            reads::<ReadHalf<'static>>();
            reads::<OwnedReadHalf>();
            writes::<TcpStream>();
            writes::<WriteHalf<'static>>();
            writes::<OwnedWriteHalf>();
            of_std::<TcpListener>();
            of_std::<TcpStream>();
            of_std::<UdpSocket>();
            of_stream::<TcpStream>();
            of_stream::<ReadHalf<'static>>();
            of_stream::<WriteHalf<'static>>();
            of_stream::<OwnedReadHalf>();
            of_stream::<OwnedWriteHalf>();
            error::<ReuniteError>();
            send(TcpListener::bind("name:1"));
            send(TcpStream::connect("name:1"));
            send(UdpSocket::bind("name:1"));
            let futures = async |listener: &TcpListener, stream: &TcpStream, udp: &UdpSocket| {
                send(listener.accept());
                send(stream.ready(Interest::READABLE));
                send(stream.readable());
                send(stream.writable());
                send(stream.peek(&mut []));
                send(stream.async_io(Interest::READABLE, || Ok(())));
                send(udp.connect("name:1"));
                send(udp.send(&[]));
                send(udp.send_to(&[], "name:1"));
                send(udp.recv(&mut []));
                send(udp.recv_from(&mut []));
                send(udp.recv_buf(&mut Vec::new()));
                send(udp.peek_sender());
            };
            let _ = futures;
        }
    };
}

traits!(traits_of_tokio: tokio::net, tokio::net::tcp);
traits!(traits_of_ours: millstream::tokio, millstream::tokio);
