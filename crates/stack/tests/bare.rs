//! A point-to-point interface, whose link carries bare IP packets: no link header, no neighbours, no probing of addresses.
#![allow(clippy::unwrap_used)]

use core::net::SocketAddr;

use base::{Batch, Chain, Instant, Offloads, Packet};
use stack::{Config, Host, InterfaceConfig, InterfaceId, Route, TcpOptions};
use wire::tcp::{Flags, Options, Repr};
use wire::{Addr, ipv4, ipv6, protocol};

struct Rig {
    host: Host,
    link: InterfaceId,
}

const NOW: Instant = Instant::from_secs(100);

impl Rig {
    /// A host at 10.0.0.1 and fd00::1, everything else beyond its link.
    fn new() -> Self {
        let config = Config {
            pool_blocks: 2048,
            ..Config::default()
        };
        let mut host = Host::new(config, 7, NOW).unwrap();
        let interface = InterfaceConfig {
            name: "tun0".into(),
            mac: None,
            mtu: 1500,
            offloads: Offloads::NONE,
        };
        let link = host.add_interface(NOW, interface).unwrap();
        for own in ["10.0.0.1/24", "fd00::1/64"] {
            host.add_address(NOW, link, own.parse().unwrap()).unwrap();
        }
        for dst in ["0.0.0.0/0", "::/0"] {
            let route = Route {
                dst: dst.parse().unwrap(),
                via: None,
                interface: link,
                metric: 0,
            };
            host.add_route(NOW, route).unwrap();
        }
        Self { host, link }
    }

    fn arrive(&mut self, bytes: &[u8]) {
        let mut batch = Batch::new();
        let mut chain = Chain::default();
        let pool = self.host.pool_mut();
        assert_eq!(pool.append_bytes(&mut chain, bytes), bytes.len());
        batch.push(Packet::new(chain)).unwrap();
        self.host.handle_batch(NOW, self.link, &mut batch);
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let mut batch = Batch::new();
        while self.host.poll_transmit(NOW, self.link, &mut batch) || !batch.is_empty() {
            while let Some(packet) = batch.pop_front() {
                let pool = self.host.pool_mut();
                sent.push(pool.slices(&packet.chain).flatten().copied().collect());
                pool.free(packet.chain);
            }
        }
        sent
    }
}

fn syn(src: Addr, dst: Addr) -> Vec<u8> {
    let repr = Repr {
        src_port: 5000,
        dst_port: 80,
        seq: 1,
        ack: None,
        flags: Flags::SYN,
        window: 1000,
        urgent: 0,
        options: Options::default(),
    };
    let v4 = src.is_v4();
    let ip = if v4 { 20 } else { 40 };
    let mut bytes = vec![0; ip + repr.header_len()];
    let len = repr.header_len();
    repr.emit(&mut bytes[ip..]);
    let sum = wire::checksum::pseudo(&src, &dst, protocol::TCP, len as u32)
        .add_bytes(&bytes[ip..])
        .finish();
    bytes[ip + 16..ip + 18].copy_from_slice(&sum.to_be_bytes());
    if v4 {
        ipv4::Repr::new(src, dst, protocol::TCP, 64, len).emit(&mut bytes);
    } else {
        ipv6::Repr::new(src, dst, protocol::TCP, 64, len).emit(&mut bytes);
    }
    bytes
}

#[test]
fn packets_come_and_go_bare_and_nobody_is_asked_for_an_address() {
    let mut rig = Rig::new();
    assert!(
        rig.sent().is_empty(),
        "no probe, no solicitation, no group report"
    );
    let any: SocketAddr = "[::]:80".parse().unwrap();
    rig.host
        .tcp_listen(NOW, any, 4, &TcpOptions::default())
        .unwrap();
    // The peers are on no prefix of ours: a link between two needs none.
    let pairs = [
        (Addr::v4(192, 0, 2, 1), Addr::v4(10, 0, 0, 1)),
        ("fd77::1".parse().unwrap(), "fd00::1".parse().unwrap()),
    ];
    for (peer, own) in pairs {
        rig.arrive(&syn(peer, own));
        let sent = rig.sent();
        assert_eq!(sent.len(), 1, "the answer leaves at once");
        let (to, segment) = if own.is_v4() {
            let ip = ipv4::Packet::new(&sent[0]).unwrap();
            assert!(ip.verify_checksum());
            (ip.dst(), ip.payload())
        } else {
            let ip = ipv6::Packet::new(&sent[0]).unwrap();
            (ip.dst(), ip.payload())
        };
        assert_eq!(to, peer);
        let segment = wire::tcp::Packet::new(segment).unwrap();
        assert!(segment.verify_checksum(&own, &peer));
        assert_eq!((segment.flags(), segment.ack()), (Flags(0x12), 2));
    }
}

#[test]
fn large_datagrams_are_cut_without_a_link_header() {
    let mut rig = Rig::new();
    let local: SocketAddr = "10.0.0.1:1000".parse().unwrap();
    let socket = rig
        .host
        .udp_bind(NOW, local, &stack::UdpOptions::default())
        .unwrap();
    let to: SocketAddr = "192.0.2.1:9".parse().unwrap();
    rig.host
        .udp_send_to(NOW, socket, &[7; 2000], Some(to))
        .unwrap();
    let sent = rig.sent();
    assert_eq!(sent.len(), 2);
    for piece in &sent {
        let ip = ipv4::Packet::new(piece).unwrap();
        assert!(ip.is_fragment() && usize::from(ip.total_len()) == piece.len());
    }
}
