//! ICMP and ICMPv6 echo from a kernel socket: what `ping -s` does, checking every byte that comes back.
//!
//! What does not live here: the answering side, which is the host under test.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

/// Type, code, checksum, identifier, sequence number (RFC 792, RFC 4443 4.1).
const HEADER: usize = 8;

/// Bytes of the mark that tells our replies from everybody else's.
const MARK: usize = 8;

/// An echo client for one address.
pub(crate) struct Pinger {
    socket: OwnedFd,
    target: IpAddr,
    /// A raw socket sees every ICMP message of the namespace, the IPv4 header included.
    raw: bool,
    mark: u64,
    sequence: u16,
    buf: Vec<u8>,
}

impl Pinger {
    /// Opens an unprivileged ICMP socket where allowed, else a raw one.
    pub(crate) fn new(target: IpAddr) -> io::Result<Self> {
        let (family, protocol) = match target {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let open =
            |kind| rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol));
        let (socket, raw) = match open(SocketType::DGRAM) {
            Ok(socket) => (socket, false),
            Err(_) => (open(SocketType::RAW)?, true),
        };
        set_socket_recv_buffer_size(&socket, 1 << 20)?;
        // Two pingers of one process must not take each other's replies.
        let mark = std::hash::BuildHasher::hash_one(
            &std::collections::hash_map::RandomState::new(),
            target,
        );
        Ok(Self {
            socket,
            target,
            raw,
            mark,
            sequence: 0,
            buf: vec![0; 65_536],
        })
    }

    /// Sends `size` bytes of data (at least 8) and waits for the same bytes; the round trip time.
    ///
    /// # Errors
    /// `TimedOut` when no reply came, `InvalidData` when one came with other bytes.
    pub(crate) fn ping(&mut self, size: usize, patience: Duration) -> io::Result<Duration> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = self.request(size);
        let start = Instant::now();
        rustix::net::sendto(
            &self.socket,
            &request,
            SendFlags::empty(),
            &SocketAddr::new(self.target, 0),
        )?;
        loop {
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // The kernel's timeouts have microseconds, and zero means none.
            set_socket_timeout(
                &self.socket,
                Timeout::Recv,
                Some(left.max(Duration::from_micros(1))),
            )?;
            let len = match rustix::net::recv(&self.socket, &mut self.buf[..], RecvFlags::empty()) {
                Ok((len, _)) => len.min(self.buf.len()),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let took = start.elapsed();
            match self.compare(len, &request) {
                Some(true) => return Ok(took),
                Some(false) => return Err(io::ErrorKind::InvalidData.into()),
                None => {}
            }
        }
    }

    fn request(&self, size: usize) -> Vec<u8> {
        let mut request = vec![0; HEADER + size.max(MARK)];
        request[0] = match self.target {
            IpAddr::V4(_) => 8,
            IpAddr::V6(_) => 128,
        };
        request[4..6].copy_from_slice(&(self.mark as u16).to_be_bytes());
        request[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        request[8..16].copy_from_slice(&self.mark.to_be_bytes());
        for (at, byte) in request[16..].iter_mut().enumerate() {
            *byte = (at as u8) ^ (self.sequence as u8);
        }
        if self.target.is_ipv4() {
            // The kernel fills in ICMPv6's checksum, and that of unprivileged sockets, but not a raw ICMPv4 one.
            let checksum = checksum(&request);
            request[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        request
    }

    /// None: not for us. Otherwise whether the reply carries what the request did.
    fn compare(&self, len: usize, request: &[u8]) -> Option<bool> {
        let mut message = &self.buf[..len];
        if self.raw && self.target.is_ipv4() {
            let header = usize::from(message.first()? & 15) * 4;
            message = message.get(header..)?;
        }
        let reply = match self.target {
            IpAddr::V4(_) => 0,
            IpAddr::V6(_) => 129,
        };
        let ours = *message.first()? == reply
            && message.get(6..8)? == self.sequence.to_be_bytes()
            && message.get(8..16)? == self.mark.to_be_bytes();
        ours.then(|| message[HEADER..] == request[HEADER..])
    }
}

/// RFC 1071, plainly.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sends echo requests until one is answered, so that resolving the neighbour is not measured as a round trip.
///
/// # Errors
/// The last ping's, after `patience`.
pub(crate) fn await_reply(target: IpAddr, patience: Duration) -> io::Result<()> {
    let start = Instant::now();
    let mut pinger = Pinger::new(target)?;
    loop {
        match pinger.ping(MARK, Duration::from_millis(200)) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > patience => return Err(error),
            // No route yet or no reply yet: both end when duplicate address detection does.
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn checksums_verify_to_zero() {
        let mut message = vec![8, 0, 0, 0, 1, 2, 3, 4, 5];
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&message), 0);
    }

    #[test]
    fn the_kernel_answers_on_loopback() {
        for target in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            let mut pinger = match Pinger::new(target) {
                Ok(pinger) => pinger,
                Err(error) => {
                    eprintln!("skipped: no ICMP socket for {target} here: {error}");
                    continue;
                }
            };
            for size in [56, 9000, 8, 9001] {
                match pinger.ping(size, Duration::from_secs(2)) {
                    Ok(took) => assert!(took < Duration::from_secs(2)),
                    Err(error) if error.raw_os_error() == Some(99) => {
                        eprintln!("skipped: no {target} here")
                    }
                    Err(error) => panic!("{target} {size}: {error}"),
                }
            }
        }
    }
}
