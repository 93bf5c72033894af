//! UDP through whole hosts: two of them on a link, on virtual time. The tests are below; here is what they stand on.

mod frames;
mod groups;
mod meta;
mod sockets;

use core::net::SocketAddr;
use core::time::Duration;

use base::{Batch, Checksum, Gso, GsoKind, Instant, Offloads, Packet};
use wire::{Addr, Mac, checksum};

use super::{Outgoing, UdpOptions};
use crate::socket::{Ready, SocketId};
use crate::stats::{Count, Drop};
use crate::{Config, Host, InterfaceConfig, InterfaceId, SocketError};

const IF: InterfaceId = InterfaceId(0);

/// Two hosts, 10.0.0.1 and .2, fd00::1 and ::2.
struct Pair {
    now: Instant,
    hosts: [Host; 2],
    /// Frames that crossed, as they were.
    seen: Vec<Vec<u8>>,
    cut: bool,
}

fn mac(n: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, n as u8 + 1])
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Pair {
    fn new() -> Self {
        Self::with(Offloads::NONE)
    }

    /// On devices that do this for their hosts.
    fn with(offloads: Offloads) -> Self {
        let now = Instant::from_secs(1000);
        let config = Config {
            pool_blocks: 1024,
            timers: 1024,
            tcp_connections: 16,
            tcp_active: 16,
            tcp_half_open: 16,
            tcp_time_wait: 16,
            tcp_listeners: 4,
            udp_sockets: 64,
            duplicate_detection: false,
            accept_router_advertisements: false,
            ..Config::default()
        };
        let hosts = [0, 1].map(|n| {
            let mut host = Host::new(config.clone(), 7 + n as u64, now).unwrap();
            let link = InterfaceConfig {
                name: "eth0".into(),
                mac: Some(mac(n)),
                mtu: 1500,
                offloads,
            };
            assert_eq!(host.add_interface(now, link).unwrap(), IF);
            for cidr in [
                format!("10.0.0.{}/24", n + 1),
                format!("fd00::{}/64", n + 1),
            ] {
                host.add_address(now, IF, cidr.parse().unwrap()).unwrap();
            }
            host
        });
        let mut pair = Self {
            now,
            hosts,
            seen: Vec::new(),
            cut: false,
        };
        pair.pass(5_000);
        pair.seen.clear();
        pair
    }

    /// Carries frames until nobody has more.
    fn pump(&mut self) {
        loop {
            let mut moved = false;
            for n in 0..2 {
                let mut batch = Batch::new();
                self.hosts[n].poll_transmit(self.now, IF, &mut batch);
                while let Some(packet) = batch.pop_front() {
                    moved = true;
                    let mut bytes = vec![0; packet.chain.len()];
                    self.hosts[n].pool().copy_out(&packet.chain, 0, &mut bytes);
                    self.hosts[n].pool_mut().free(packet.chain);
                    if !self.cut {
                        self.frame(1 - n, &bytes, |arrived| arrived.facts = packet.facts);
                        self.seen.push(bytes);
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Gives a host a frame.
    fn frame(&mut self, to: usize, bytes: &[u8], change: impl FnOnce(&mut Packet)) {
        let pool = self.hosts[to].pool_mut();
        let mut chain = pool.alloc(0).unwrap();
        assert_eq!(pool.append_bytes(&mut chain, bytes), bytes.len());
        let mut packet = Packet::new(chain);
        change(&mut packet);
        let mut batch = Batch::new();
        batch.push(packet).unwrap();
        self.hosts[to].handle_batch(self.now, IF, &mut batch);
    }

    fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            self.pump();
            let next = self
                .hosts
                .iter()
                .filter_map(Host::next_deadline)
                .min()
                .filter(|&next| next <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            for host in &mut self.hosts {
                host.handle_timers(self.now);
            }
        }
        self.now = end;
    }

    fn bind(&mut self, host: usize, local: &str, options: UdpOptions) -> SocketId {
        self.hosts[host]
            .udp_bind(self.now, at(local), &options)
            .unwrap()
    }

    fn plain(&mut self, host: usize, local: &str) -> SocketId {
        self.bind(host, local, UdpOptions::default())
    }

    fn send(
        &mut self,
        host: usize,
        socket: SocketId,
        payload: &[u8],
        to: &str,
    ) -> Result<usize, SocketError> {
        let to = (!to.is_empty()).then(|| at(to));
        let sent = self.hosts[host].udp_send_to(self.now, socket, payload, to);
        self.pump();
        sent
    }

    fn send_so(
        &mut self,
        host: usize,
        socket: SocketId,
        payload: &[u8],
        how: Outgoing,
    ) -> Result<usize, SocketError> {
        let sent = self.hosts[host].udp_send(self.now, socket, payload, &how);
        self.pump();
        sent
    }

    fn recv(
        &mut self,
        host: usize,
        socket: SocketId,
    ) -> Result<(Vec<u8>, SocketAddr), SocketError> {
        let mut out = vec![0; 70_000];
        let (len, from) = self.hosts[host].udp_recv_from(socket, &mut out)?;
        out.truncate(len);
        Ok((out, from))
    }

    fn drops(&self, host: usize, reason: Drop) -> u64 {
        self.hosts[host].stats().drops.get(reason)
    }

    /// Nothing is left in either pool.
    fn empty(&mut self) {
        assert_eq!(self.hosts[0].pool().in_use(), 0);
        assert_eq!(self.hosts[1].pool().in_use(), 0);
    }
}

/// A frame with a UDP datagram for host 1, checksums right.
fn datagram(src: Addr, dst: Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len();
    let mut bytes = vec![0; 14];
    bytes[..6].copy_from_slice(&dst.multicast_mac().unwrap_or(mac(1)).0);
    bytes[6..12].copy_from_slice(&mac(0).0);
    let l4 = if src.is_v4() {
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes.resize(34, 0);
        wire::ipv4::Repr::new(src, dst, 17, 64, len).emit(&mut bytes[14..]);
        34
    } else {
        bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
        bytes.resize(54, 0);
        wire::ipv6::Repr::new(src, dst, 17, 64, len).emit(&mut bytes[14..]);
        54
    };
    bytes.resize(l4 + 8, 0);
    let header = wire::udp::Repr {
        src_port: ports.0,
        dst_port: ports.1,
    };
    header.emit(&mut bytes[l4..], payload.len());
    bytes.extend_from_slice(payload);
    let sum = checksum::pseudo(&src, &dst, 17, len as u32)
        .add_bytes(&bytes[l4..])
        .finish_nonzero();
    bytes[l4 + 6..l4 + 8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

const ENDS: [(&str, &str, &str); 2] = [
    ("10.0.0.1", "10.0.0.2", "0.0.0.0"),
    ("[fd00::1]", "[fd00::2]", "[::]"),
];
