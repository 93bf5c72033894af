//! The kernel's side: its sockets, driven by the calling thread.
//!
//! Links and namespaces do not live here, they are `netns`'.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use wire::{icmpv4, icmpv6, ipv4};

use crate::{Family, PATIENCE, Pattern};

const CHUNK: usize = 64 << 10;

/// A connection of the kernel's to the host, which does not wait for ever.
#[must_use]
pub fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&to, PATIENCE)
        .unwrap_or_else(|e| panic!("the kernel cannot connect to {to}: {e}"));
    patient(&socket);
    socket
}

/// The same from an address and port of its own, which may be in TIME-WAIT there.
#[must_use]
pub fn connect_from(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let family = if from.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let end = Instant::now() + PATIENCE;
    loop {
        let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &from).unwrap();
        match rustix::net::connect(&socket, &to) {
            Ok(()) => {
                let socket = TcpStream::from(socket);
                patient(&socket);
                return socket;
            }
            // The kernel has not heard the last ACK of the connection before.
            Err(Errno::ADDRNOTAVAIL) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => panic!("the kernel cannot connect from {from} to {to}: {e}"),
        }
    }
}

/// Gives a connection its time limits.
pub fn patient(socket: &TcpStream) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
}

/// Makes dropping this connection a reset.
pub fn reset_on_close(socket: &TcpStream) {
    sockopt::set_socket_linger(socket, Some(Duration::ZERO)).unwrap();
}

/// Sends `total` bytes of a pattern.
///
/// # Panics
/// If the socket does not take them.
pub fn send(mut socket: &TcpStream, pattern: Pattern, total: u64) {
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    while sent < total {
        let n = CHUNK.min((total - sent) as usize);
        pattern.fill(sent, &mut buffer[..n]);
        socket
            .write_all(&buffer[..n])
            .unwrap_or_else(|e| panic!("the kernel, sending after {sent} bytes of {total}: {e}"));
        sent += n as u64;
    }
}

/// Receives to the end of the stream, which must be `total` bytes of a pattern.
///
/// # Panics
/// If it is anything else.
pub fn expect(socket: &TcpStream, pattern: Pattern, total: u64) {
    let got = expect_some(socket, pattern, 0, u64::MAX);
    assert_eq!(got, total, "the length of the stream");
}

/// Receives the bytes `from..to` of a pattern, fewer if the stream ends; returns where it ended.
///
/// # Panics
/// At a wrong byte.
pub fn expect_some(mut socket: &TcpStream, pattern: Pattern, from: u64, to: u64) -> u64 {
    let mut buffer = vec![0; CHUNK];
    let mut got = from;
    while got < to {
        let most = CHUNK.min(usize::try_from(to - got).unwrap_or(CHUNK));
        let n = socket
            .read(&mut buffer[..most])
            .unwrap_or_else(|e| panic!("the kernel, receiving after {got} bytes: {e}"));
        if n == 0 {
            break;
        }
        pattern
            .check(got, &buffer[..n])
            .unwrap_or_else(|why| panic!("the kernel received: {why}"));
        got += n as u64;
    }
    got
}

/// The counterpart of [`crate::Plan::Exchange`]: sends and receives at the same time, with a FIN each way.
///
/// # Panics
/// If anything is not as planned.
pub fn exchange(socket: &TcpStream, out: (Pattern, u64), back: (Pattern, u64)) {
    std::thread::scope(|s| {
        s.spawn(move || {
            send(socket, out.0, out.1);
            socket.shutdown(Shutdown::Write).unwrap();
        });
        expect(socket, back.0, back.1);
    });
}

/// Sends a pattern to an echo and expects it back, then the end.
pub fn echo(socket: &TcpStream, pattern: Pattern, total: u64) {
    exchange(socket, (pattern, total), (pattern, total));
}

/// A UDP socket on any port of the kernel's address.
#[must_use]
pub fn udp(family: Family) -> UdpSocket {
    let socket = UdpSocket::bind((family.kernel(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A raw ICMP socket, with which the kernel pings.
pub struct Pinger {
    socket: OwnedFd,
    family: Family,
    ident: u16,
    seq: u16,
}

impl Pinger {
    /// Opens it.
    ///
    /// # Panics
    /// Without CAP_NET_RAW, which root of a namespace has.
    #[must_use]
    pub fn new(family: Family) -> Self {
        let (domain, protocol) = match family {
            Family::V4 => (AddressFamily::INET, ipproto::ICMP),
            Family::V6 => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(domain, SocketType::RAW, flags, Some(protocol)).unwrap();
        sockopt::set_socket_recv_buffer_size_force(&socket, 1 << 20)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, 200 << 10))
            .unwrap();
        Self {
            socket,
            family,
            ident: 0x4d53,
            seq: 0,
        }
    }

    /// The descriptor, for options.
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Sends an echo request with these data.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn request(&mut self, to: IpAddr, data: &[u8]) -> std::io::Result<()> {
        self.seq = self.seq.wrapping_add(1);
        let (ident, seq) = (self.ident, self.seq);
        let mut message;
        match self.family {
            Family::V4 => {
                let repr = icmpv4::Repr::EchoRequest { ident, seq };
                message = vec![0; repr.header_len()];
                repr.emit(&mut message);
                message.extend_from_slice(data);
                icmpv4::fill_checksum(&mut message);
            }
            Family::V6 => {
                // The kernel fills in the checksum.
                let repr = icmpv6::Repr::EchoRequest { ident, seq };
                message = vec![0; repr.header_len()];
                repr.emit(&mut message);
                message.extend_from_slice(data);
            }
        }
        let to = SocketAddr::new(to, 0);
        rustix::net::sendto(&self.socket, &message, SendFlags::empty(), &to)?;
        Ok(())
    }

    /// The data of the reply to the latest request, if it comes within this time.
    #[must_use]
    pub fn reply(&self, limit: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let mut buffer = vec![0; 1 << 17];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            sockopt::set_socket_timeout(
                &self.socket,
                sockopt::Timeout::Recv,
                Some(left.max(Duration::from_millis(1))),
            )
            .unwrap();
            let Ok((_, n)) = rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())
            else {
                continue;
            };
            if let Some(data) = self.data(&buffer[..n]) {
                return Some(data);
            }
        }
    }

    fn data(&self, received: &[u8]) -> Option<Vec<u8>> {
        let (hit, data) = match self.family {
            Family::V4 => {
                let ip = ipv4::Packet::new(received).ok()?;
                let message = icmpv4::Packet::new(ip.payload()).ok()?;
                let hit = message.kind() == icmpv4::kind::ECHO_REPLY
                    && (message.ident(), message.seq()) == (self.ident, self.seq);
                (hit, message.payload().to_vec())
            }
            Family::V6 => {
                let message = icmpv6::Packet::new(received).ok()?;
                let hit = message.kind() == icmpv6::kind::ECHO_REPLY
                    && (message.ident(), message.seq()) == (self.ident, self.seq);
                (hit, message.payload().to_vec())
            }
        };
        hit.then_some(data)
    }

    /// Pings and expects the same data back.
    ///
    /// # Panics
    /// If they do not come, or differ.
    pub fn ping(&mut self, to: IpAddr, data: &[u8]) {
        self.request(to, data).unwrap();
        let back = self
            .reply(Duration::from_secs(5))
            .unwrap_or_else(|| panic!("no reply from {to} to {} bytes", data.len()));
        assert!(back == data, "{to} sent back other bytes than it got");
    }
}
