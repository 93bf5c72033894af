//! UDP through whole hosts: two of them on a link, on virtual time.

use core::net::SocketAddr;
use core::time::Duration;

use base::{Batch, Checksum, Gso, GsoKind, Instant, Offloads, Packet};
use wire::{Addr, Mac, checksum};

use super::UdpOptions;
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
                offloads: Offloads::NONE,
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
                        self.frame(1 - n, &bytes, |_| {});
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

/// RFC 768: there and back, with addresses, events, tokens and readiness.
#[test]
fn echo() {
    for (a, b, any) in ENDS {
        let mut p = Pair::new();
        let server = p.plain(1, &format!("{any}:7"));
        let client = p.plain(0, &format!("{any}:0"));
        p.hosts[1].set_token(server, 99).unwrap();
        assert_eq!(p.hosts[1].ready(server), Ready::WRITABLE);
        assert_eq!(p.send(0, client, b"hello", &format!("{b}:7")), Ok(5));
        assert_eq!(p.send(0, client, b"", &format!("{b}:7")), Ok(0));
        let event = p.hosts[1].poll_event().unwrap();
        assert_eq!(
            (event.socket, event.token, event.ready),
            (server, 99, Ready::READABLE | Ready::WRITABLE)
        );
        assert!(p.hosts[1].poll_event().is_none());
        let port = p.hosts[0].local_addr(client).unwrap().port();
        assert!((32_768..=60_999).contains(&port));
        let (bytes, from) = p.recv(1, server).unwrap();
        assert_eq!(
            (&bytes[..], from),
            (&b"hello"[..], at(&format!("{a}:{port}")))
        );
        assert_eq!(p.recv(1, server).unwrap().0, b"");
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        assert_eq!(p.hosts[1].ready(server), Ready::WRITABLE);
        assert_eq!(p.send(1, server, b"world", &from.to_string()), Ok(5));
        assert_eq!(p.recv(0, client).unwrap().0, b"world");
        p.empty();
    }
}

/// RFC 1122 4.1.1, 3.3.3: what exceeds the MTU travels in fragments; what exceeds UDP, or the path with DF, is refused.
#[test]
fn large_datagrams() {
    for (_, b, any) in ENDS {
        let mut p = Pair::new();
        let server = p.plain(1, &format!("{any}:7"));
        let client = p.plain(0, &format!("{any}:0"));
        let to = format!("{b}:7");
        let most = if any == "0.0.0.0" { 65_507 } else { 65_527 };
        for len in [1452, 1472, 1473, 3000, most] {
            let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            assert_eq!(p.send(0, client, &payload, &to), Ok(len));
            assert_eq!(p.recv(1, server).unwrap().0, payload, "{len}");
        }
        assert_eq!(
            p.send(0, client, &vec![0; most + 1], &to),
            Err(SocketError::MessageTooLong)
        );
        p.hosts[0]
            .udp_set_options(client, |o| o.dont_fragment = true)
            .unwrap();
        let fits = if any == "0.0.0.0" { 1472 } else { 1452 };
        assert_eq!(p.send(0, client, &vec![0; fits], &to), Ok(fits));
        assert_eq!(
            p.send(0, client, &vec![0; fits + 1], &to),
            Err(SocketError::MessageTooLong)
        );
        p.recv(1, server).unwrap();
        p.empty();
    }
}

/// The largest datagram to a neighbour nobody has asked for yet: all of its fragments wait for the answer.
#[test]
fn the_first_datagram_may_be_large() {
    for (_, b, any) in ENDS {
        let mut p = Pair::new();
        let server = p.plain(1, &format!("{any}:7"));
        let client = p.plain(0, &format!("{any}:0"));
        let most = if any == "0.0.0.0" { 65_507 } else { 65_527 };
        assert_eq!(
            p.send(0, client, &vec![7; most], &format!("{b}:7")),
            Ok(most)
        );
        assert_eq!(p.recv(1, server).map(|(bytes, _)| bytes.len()), Ok(most));
        p.empty();
    }
}

/// RFC 1122 4.1.3.1, 4.1.3.3: port unreachable reaches a connected socket, once; an unconnected one only if it asked.
#[test]
fn refused() {
    for (_, b, any) in ENDS {
        let mut p = Pair::new();
        let client = p.plain(0, &format!("{any}:0"));
        let to = format!("{b}:9");
        assert_eq!(p.send(0, client, b"x", &to), Ok(1));
        assert_eq!(p.hosts[0].ready(client), Ready::WRITABLE, "unconnected");
        p.hosts[0].udp_connect(p.now, client, at(&to)).unwrap();
        p.pass(1_100);
        assert_eq!(p.send(0, client, b"x", ""), Ok(1));
        assert_eq!(p.drops(1, Drop::UdpNoSocket), 2);
        assert!(p.hosts[0].ready(client).contains(Ready::ERROR));
        assert!(
            p.hosts[0]
                .poll_event()
                .unwrap()
                .ready
                .contains(Ready::ERROR)
        );
        assert_eq!(
            p.send(0, client, b"x", ""),
            Err(SocketError::ConnectionRefused)
        );
        assert_eq!(p.hosts[0].take_error(client), None, "told once");
        let asking = UdpOptions {
            receive_errors: true,
            ..UdpOptions::default()
        };
        let curious = p.bind(0, &format!("{any}:0"), asking);
        p.pass(1_100);
        assert_eq!(p.send(0, curious, b"x", &to), Ok(1));
        assert_eq!(p.recv(0, curious), Err(SocketError::ConnectionRefused));
        p.empty();
    }
}

/// A neighbour that does not answer is a soft error, as on Linux: told to those who ask for every error.
#[test]
fn unreachable_neighbour() {
    let mut p = Pair::new();
    let quiet = p.plain(0, "0.0.0.0:0");
    let asking = UdpOptions {
        receive_errors: true,
        ..UdpOptions::default()
    };
    let curious = p.bind(0, "0.0.0.0:0", asking);
    p.cut = true;
    for socket in [quiet, curious] {
        p.hosts[0]
            .udp_connect(p.now, socket, at("10.0.0.77:5"))
            .unwrap();
        assert_eq!(p.send(0, socket, b"x", ""), Ok(1));
    }
    p.pass(5_000);
    assert_eq!(p.hosts[0].take_error(quiet), None);
    assert_eq!(
        p.hosts[0].take_error(curious),
        Some(SocketError::HostUnreachable)
    );
    p.empty();
}

/// Linux: a connected socket hears its peer only, and is found before any other; disconnected it hears all again.
#[test]
fn connected_hears_its_peer() {
    let mut p = Pair::new();
    let shared = UdpOptions {
        reuse_addr: true,
        ..UdpOptions::default()
    };
    let all = p.bind(1, "0.0.0.0:7", shared);
    let one = p.bind(1, "0.0.0.0:7", shared);
    let friend = p.plain(0, "10.0.0.1:1000");
    let other = p.plain(0, "10.0.0.1:1001");
    p.hosts[1]
        .udp_connect(p.now, one, at("10.0.0.1:1000"))
        .unwrap();
    assert_eq!(p.hosts[1].local_addr(one).unwrap(), at("10.0.0.2:7"));
    assert_eq!(p.hosts[1].peer_addr(one).unwrap(), at("10.0.0.1:1000"));
    p.send(0, friend, b"friend", "10.0.0.2:7").unwrap();
    p.send(0, other, b"other", "10.0.0.2:7").unwrap();
    assert_eq!(p.recv(1, one).unwrap().0, b"friend");
    assert_eq!(p.recv(1, one), Err(SocketError::WouldBlock));
    assert_eq!(p.recv(1, all).unwrap().0, b"other");
    p.hosts[1].udp_disconnect(one).unwrap();
    assert_eq!(p.hosts[1].local_addr(one).unwrap(), at("0.0.0.0:7"));
    assert_eq!(p.hosts[1].peer_addr(one), Err(SocketError::NotConnected));
    assert_eq!(p.send(1, one, b"x", ""), Err(SocketError::NotConnected));
    p.send(0, other, b"again", "10.0.0.2:7").unwrap();
    assert_eq!(p.recv(1, one).unwrap().0, b"again", "bound last");
    p.empty();
}

/// RFC 1122 4.1.3.6 and Linux: broadcasts need permission, reach every socket of the port, and are never refused.
#[test]
fn broadcast() {
    let mut p = Pair::new();
    let client = p.plain(0, "0.0.0.0:0");
    let shared = UdpOptions {
        reuse_addr: true,
        ..UdpOptions::default()
    };
    let sockets = [
        p.bind(1, "0.0.0.0:7", shared),
        p.bind(1, "[::]:7", shared),
        p.bind(1, "10.0.0.255:7", shared),
    ];
    let specific = p.bind(1, "10.0.0.2:7", shared);
    for to in ["255.255.255.255:7", "10.0.0.255:7"] {
        assert_eq!(
            p.send(0, client, b"x", to),
            Err(SocketError::PermissionDenied)
        );
    }
    p.hosts[0]
        .udp_set_options(client, |o| o.broadcast = true)
        .unwrap();
    assert_eq!(p.send(0, client, b"small", "10.0.0.255:7"), Ok(5));
    assert_eq!(p.send(0, client, &[5; 1000], "10.0.0.255:7"), Ok(1000));
    for socket in sockets {
        assert_eq!(p.recv(1, socket).unwrap().0, b"small");
        assert_eq!(p.recv(1, socket).unwrap().0, [5; 1000]);
    }
    assert_eq!(p.recv(1, specific), Err(SocketError::WouldBlock));
    assert_eq!(p.send(0, client, b"x", "255.255.255.255:9"), Ok(1));
    assert_eq!(p.drops(1, Drop::UdpNoSocket), 1);
    assert_eq!(p.hosts[0].take_error(client), None);
    p.empty();
}

/// Groups: received when joined, by every socket of the port; not after leaving or closing.
#[test]
fn multicast() {
    for (group, any) in [("239.1.2.3", "0.0.0.0"), ("[ff15::5]", "[::]")] {
        let mut p = Pair::new();
        let to = format!("{group}:7");
        let ip = at(&to).ip();
        let client = p.plain(0, &format!("{any}:0"));
        let server = p.plain(1, &format!("{any}:7"));
        let send = |p: &mut Pair| p.send(0, client, b"x", &to).unwrap();
        send(&mut p);
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        p.hosts[1].udp_join(p.now, server, IF, ip).unwrap();
        assert_eq!(
            p.hosts[1].udp_join(p.now, server, IF, ip),
            Err(SocketError::AddrInUse)
        );
        send(&mut p);
        let received = p.hosts[1].udp_recv(server, &mut [0; 9]).unwrap();
        assert_eq!((received.copied, received.ttl, received.to), (1, 1, ip));
        p.hosts[1].udp_leave(p.now, server, IF, ip).unwrap();
        send(&mut p);
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        p.hosts[1].udp_join(p.now, server, IF, ip).unwrap();
        p.hosts[1].close(p.now, server).unwrap();
        let server = p.plain(1, &format!("{any}:7"));
        send(&mut p);
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        p.pass(5_000);
        p.empty();
    }
}

/// As on Linux a host hears its own multicasts, if it is in the group and does not say otherwise, and its own broadcasts.
#[test]
fn own_groups_are_heard() {
    for (group, any, own) in [
        ("239.1.2.3", "0.0.0.0", "10.0.0.1:8"),
        ("[ff15::5]", "[::]", "[fd00::1]:8"),
        ("10.0.0.255", "0.0.0.0", "10.0.0.1:8"),
    ] {
        let mut p = Pair::new();
        let to = format!("{group}:7");
        let ip = at(&to).ip();
        let options = UdpOptions {
            broadcast: true,
            ..UdpOptions::default()
        };
        let sender = p.bind(0, &format!("{any}:8"), options);
        let mine = p.plain(0, &format!("{any}:7"));
        let theirs = p.plain(1, &format!("{any}:7"));
        if ip.is_multicast() {
            p.hosts[1].udp_join(p.now, theirs, IF, ip).unwrap();
            assert_eq!(p.send(0, sender, b"x", &to), Ok(1));
            assert_eq!(p.recv(0, mine), Err(SocketError::WouldBlock), "not joined");
            p.recv(1, theirs).unwrap();
            p.hosts[0].udp_join(p.now, mine, IF, ip).unwrap();
        }
        for payload in [vec![3; 5], vec![4; 5000]] {
            assert_eq!(p.send(0, sender, &payload, &to), Ok(payload.len()));
            assert_eq!(p.recv(0, mine).unwrap(), (payload.clone(), at(own)));
            assert_eq!(p.recv(1, theirs).unwrap(), (payload, at(own)));
            assert_eq!(p.recv(1, theirs), Err(SocketError::WouldBlock), "once");
        }
        p.hosts[0]
            .udp_set_options(sender, |o| o.multicast_loop = false)
            .unwrap();
        p.send(0, sender, b"x", &to).unwrap();
        assert_eq!(p.recv(0, mine).is_ok(), !ip.is_multicast());
        p.recv(1, theirs).unwrap();
        p.pass(5_000);
        p.empty();
    }
}

/// RFC 3493 3.7: one socket for both families, unless it says otherwise.
#[test]
fn dual_stack() {
    let mut p = Pair::new();
    let dual = p.plain(1, "[::]:7");
    let only = UdpOptions {
        only_v6: true,
        ..UdpOptions::default()
    };
    let v6 = p.bind(1, "[::]:8", only);
    let client = p.plain(0, "10.0.0.1:1000");
    p.send(0, client, b"x", "10.0.0.2:7").unwrap();
    p.send(0, client, b"x", "10.0.0.2:8").unwrap();
    let (_, from) = p.recv(1, dual).unwrap();
    assert_eq!(from, at("[::ffff:10.0.0.1]:1000"));
    assert_eq!(p.recv(1, v6), Err(SocketError::WouldBlock));
    assert_eq!(p.send(1, dual, b"back", &from.to_string()), Ok(4));
    assert_eq!(p.recv(0, client).unwrap().1, at("10.0.0.2:7"));
    assert_eq!(
        p.send(0, client, b"x", "[fd00::2]:7"),
        Err(SocketError::InvalidInput)
    );
    assert_eq!(
        p.send(1, v6, b"x", "[::ffff:10.0.0.1]:1000"),
        Err(SocketError::InvalidInput)
    );
    p.empty();
}

/// Errors of commands as Linux gives them.
#[test]
fn refusals() {
    let mut p = Pair::new();
    let now = p.now;
    let mut bind = |local: &str| p.hosts[0].udp_bind(now, at(local), &UdpOptions::default());
    assert_eq!(bind("10.0.0.9:5"), Err(SocketError::AddrNotAvailable));
    assert_eq!(bind("[fd00::9]:5"), Err(SocketError::AddrNotAvailable));
    let socket = bind("10.0.0.1:5").unwrap();
    assert_eq!(bind("0.0.0.0:5"), Err(SocketError::AddrInUse));
    assert_eq!(
        p.send(0, socket, b"x", "10.0.0.2:0"),
        Err(SocketError::InvalidInput)
    );
    assert_eq!(
        p.send(0, socket, b"x", "203.0.113.1:5"),
        Err(SocketError::NetworkUnreachable)
    );
    p.hosts[0].close(now, socket).unwrap();
    assert_eq!(p.hosts[0].close(now, socket), Err(SocketError::BadSocket));
    assert_eq!(p.recv(0, socket), Err(SocketError::BadSocket));
    let again = p.plain(0, "10.0.0.1:5");
    assert_eq!(p.recv(0, socket), Err(SocketError::BadSocket), "stale");
    assert_eq!(p.recv(0, again), Err(SocketError::WouldBlock));
    assert_eq!(
        (0..64)
            .map(|_| p.hosts[0].udp_bind(now, at("0.0.0.0:0"), &UdpOptions::default()))
            .filter(|r| *r == Err(SocketError::NoBuffers))
            .count(),
        1,
        "64 sockets in all"
    );
}

/// RFC 768, RFC 8200 8.1, RFC 1122 4.1.3.4: checksums are verified; zero is none over IPv4, an error over IPv6.
#[test]
fn checksums() {
    let mut p = Pair::new();
    let server = p.plain(1, "[::]:7");
    let v4 = (Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2));
    let v6 = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
    for ((src, dst), l4) in [(v4, 34), (v6, 54)] {
        let good = datagram(src, dst, (5, 7), b"odd");
        p.frame(1, &good, |_| {});
        assert_eq!(p.recv(1, server).unwrap().0, b"odd");
        for at in [l4, l4 + 2, l4 + 6, l4 + 8, l4 + 10] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            p.frame(1, &bad, |_| {});
        }
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        p.frame(1, &bad, |packet| packet.facts.checksum = Checksum::Good);
        assert_eq!(p.recv(1, server).unwrap().0, b"ode", "the device vouches");
        let mut none = good.clone();
        none[l4 + 6..l4 + 8].fill(0);
        p.frame(1, &none, |_| {});
        let got = p.recv(1, server).map(|(bytes, _)| bytes);
        let without = src.is_v4().then(|| b"odd".to_vec());
        assert_eq!(got, without.ok_or(SocketError::WouldBlock));
    }
    assert_eq!(p.drops(1, Drop::UdpChecksum), 10);
    assert_eq!(p.drops(1, Drop::UdpZeroChecksum), 1);
    p.empty();
}

/// RFC 768: a checksum that comes out as zero is sent as all ones.
#[test]
fn zero_checksum_is_sent_as_ones() {
    for (a, b, _) in ENDS {
        let mut p = Pair::new();
        let client = p.plain(0, &format!("{a}:1000"));
        let server = p.plain(1, &format!("{b}:7"));
        let to = at(&format!("{b}:7"));
        let (src, dst) = (Addr::from(at(&format!("{a}:1")).ip()), Addr::from(to.ip()));
        let with_zeros = datagram(src, dst, (1000, 7), &[0, 0]);
        let l4 = if src.is_v4() { 34 } else { 54 };
        // Adding what is missing to all ones.
        let payload = [with_zeros[l4 + 6], with_zeros[l4 + 7]];
        p.send(0, client, &payload, &to.to_string()).unwrap();
        assert_eq!(
            p.seen.last().unwrap()[l4 + 6..l4 + 10],
            [0xff, 0xff, payload[0], payload[1]]
        );
        assert_eq!(p.recv(1, server).unwrap().0, payload);
    }
}

/// RFC 1122 4.1.3.5: datagrams leave from the address the socket is bound to.
#[test]
fn source_is_the_bound_address() {
    let mut p = Pair::new();
    let now = p.now;
    p.hosts[0]
        .add_address(now, IF, "10.0.0.50/24".parse().unwrap())
        .unwrap();
    let server = p.plain(1, "0.0.0.0:7");
    for own in ["10.0.0.1", "10.0.0.50"] {
        let client = p.plain(0, &format!("{own}:1000"));
        p.send(0, client, b"x", "10.0.0.2:7").unwrap();
        assert_eq!(p.recv(1, server).unwrap().1, at(&format!("{own}:1000")));
        // An address that was taken away is not exchanged for another one.
        let connected = p.plain(0, "0.0.0.0:0");
        p.hosts[0]
            .udp_connect(now, connected, at("10.0.0.2:7"))
            .unwrap();
        let gone = p.hosts[0].local_addr(connected).unwrap().ip();
        p.hosts[0].remove_address(now, IF, gone.into()).unwrap();
        assert_eq!(
            p.send(0, connected, b"x", ""),
            Err(SocketError::AddrNotAvailable)
        );
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        let cidr = format!("{gone}/24").parse().unwrap();
        p.hosts[0].add_address(now, IF, cidr).unwrap();
        assert_eq!(p.send(0, connected, b"x", ""), Ok(1));
        p.recv(1, server).unwrap();
    }
}

/// RFC 1122 3.3.4.3, 4.1.3.5: a server answers from the address it was asked at, datagram by datagram.
#[test]
fn source_is_the_callers_choice() {
    for (asked, any, client, other) in [
        ("10.0.0.50", "0.0.0.0", "10.0.0.1", "10.0.0.9"),
        ("10.0.0.50", "[::]", "10.0.0.1", "fd00::2"),
        ("fd00::50", "[::]", "fd00::1", "fd00::9"),
    ] {
        let mut p = Pair::new();
        let now = p.now;
        let cidr = format!("{asked}/64").replace("10.0.0.50/64", "10.0.0.50/24");
        p.hosts[1]
            .add_address(now, IF, cidr.parse().unwrap())
            .unwrap();
        p.pass(10_000);
        let server = p.plain(1, &format!("{any}:7"));
        let client = p.plain(0, &SocketAddr::new(client.parse().unwrap(), 9).to_string());
        let asked = SocketAddr::new(asked.parse().unwrap(), 7);
        let usual = SocketAddr::new(
            if asked.is_ipv4() {
                "10.0.0.2"
            } else {
                "fd00::2"
            }
            .parse()
            .unwrap(),
            7,
        );
        p.send(0, client, b"?", &asked.to_string()).unwrap();
        let received = p.hosts[1].udp_recv(server, &mut [0; 9]).unwrap();
        assert_eq!(received.to, asked.ip());
        let mut answer = |from: Option<core::net::IpAddr>| {
            let sent = p.hosts[1].udp_send_from(now, server, b"!", from, Some(received.from));
            p.pump();
            sent.map(|_| p.recv(0, client).unwrap().1)
        };
        assert_eq!(answer(Some(received.to)), Ok(asked));
        // The next is the host's choice again, and so is it from a group.
        assert_eq!(answer(None), Ok(usual));
        assert_eq!(answer(Some(received.to)), Ok(asked));
        assert_eq!(answer(Some("224.0.0.1".parse().unwrap())), Ok(usual));
        assert_eq!(
            answer(Some(other.parse().unwrap())),
            Err(SocketError::AddrNotAvailable)
        );
    }
}

/// RFC 768: a length that does not fit is malformed; what lies beyond it is padding.
#[test]
fn lengths() {
    let mut p = Pair::new();
    let server = p.plain(1, "0.0.0.0:7");
    let (src, dst) = (Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2));
    let good = datagram(src, dst, (5, 7), b"abcdef");
    for len in [0, 7, 15] {
        let mut bad = good.clone();
        bad[34 + 4..34 + 6].copy_from_slice(&(len as u16).to_be_bytes());
        p.frame(1, &bad, |_| {});
    }
    assert_eq!(p.drops(1, Drop::UdpMalformed), 3);
    let mut short = good.clone();
    short[34 + 4..34 + 6].copy_from_slice(&11_u16.to_be_bytes());
    short[34 + 6..34 + 8].fill(0);
    p.frame(1, &short, |_| {});
    assert_eq!(p.recv(1, server).unwrap().0, b"abc");
    p.empty();
}

/// recv and MSG_PEEK: what does not fit is cut off, and said so.
#[test]
fn truncation_and_peek() {
    let mut p = Pair::new();
    let server = p.plain(1, "0.0.0.0:7");
    let client = p.plain(0, "0.0.0.0:0");
    for payload in [&b"first datagram"[..], b"second"] {
        p.send(0, client, payload, "10.0.0.2:7").unwrap();
    }
    let mut out = [0; 5];
    let peeked = p.hosts[1].udp_peek(server, &mut out).unwrap();
    assert_eq!((peeked.copied, peeked.len, &out), (5, 14, b"first"));
    let received = p.hosts[1].udp_recv(server, &mut out).unwrap();
    assert_eq!((received.copied, received.len), (5, 14));
    assert_eq!(p.recv(1, server).unwrap().0, b"second");
    p.send(0, client, &[7; 1000], "10.0.0.2:7").unwrap();
    let (chain, received) = p.hosts[1].udp_recv_chain(server).unwrap();
    assert_eq!((chain.len(), received.len), (1000, 1000));
    p.hosts[1].pool_mut().free(chain);
    p.empty();
}

/// A super-frame from the device is as many datagrams as its sender sent.
#[test]
fn super_frames_are_split() {
    for (src, dst) in [
        (Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2)),
        ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()),
    ] {
        let mut p = Pair::new();
        let server = p.plain(1, "[::]:7");
        let payload: Vec<u8> = (0..10_500u32).map(|i| (i / 1000) as u8).collect();
        let frame = datagram(src, dst, (5, 7), &payload);
        let l4 = if src.is_v4() { 34 } else { 54 };
        p.frame(1, &frame, |packet| {
            packet.facts.checksum = Checksum::Partial {
                start: l4,
                offset: 6,
            };
            packet.facts.gso = Gso {
                kind: GsoKind::Udp,
                size: 1000,
                header_len: l4 + 8,
            };
        });
        for n in 0..11 {
            let len = if n < 10 { 1000 } else { 500 };
            assert_eq!(p.recv(1, server).unwrap().0, vec![n; len]);
        }
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        p.empty();
    }
}

/// A host talks to itself, by its own address and by the loopback's.
#[test]
fn to_oneself() {
    for (own, any) in [
        ("10.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "0.0.0.0"),
        ("[fd00::1]", "[::]"),
        ("[::1]", "[::]"),
    ] {
        let mut p = Pair::new();
        let a = p.plain(0, &format!("{any}:7"));
        let b = p.plain(0, &format!("{any}:8"));
        assert_eq!(p.send(0, b, b"me", &format!("{own}:7")), Ok(2));
        assert_eq!(
            p.recv(0, a).unwrap(),
            (b"me".to_vec(), at(&format!("{own}:8"))),
            "{own}"
        );
        p.hosts[0]
            .udp_connect(p.now, b, at(&format!("{own}:9")))
            .unwrap();
        assert_eq!(p.send(0, b, b"me", ""), Ok(2));
        assert_eq!(
            p.hosts[0].take_error(b),
            Some(SocketError::ConnectionRefused)
        );
        p.empty();
    }
}

/// RFC 1122 4.1.4: TTL and TOS are the application's to set, and it can read what arrived.
#[test]
fn ttl_and_tos() {
    for (_, b, any) in ENDS {
        let mut p = Pair::new();
        let server = p.plain(1, &format!("{any}:7"));
        let options = UdpOptions {
            ttl: Some(33),
            tos: 0xb8,
            ..UdpOptions::default()
        };
        let client = p.bind(0, &format!("{any}:0"), options);
        p.send(0, client, b"x", &format!("{b}:7")).unwrap();
        let received = p.hosts[1].udp_recv(server, &mut [0; 9]).unwrap();
        assert_eq!((received.ttl, received.tos), (33, 0xb8));
        p.hosts[0]
            .udp_set_options(client, |o| *o = UdpOptions::default())
            .unwrap();
        p.send(0, client, b"x", &format!("{b}:7")).unwrap();
        let received = p.hosts[1].udp_recv(server, &mut [0; 9]).unwrap();
        assert_eq!((received.ttl, received.tos), (64, 0));
    }
}

/// A flood nobody reads: what the socket and the pool hold stays within bounds; events come once.
#[test]
fn flood() {
    let mut p = Pair::new();
    let small = UdpOptions {
        receive_buffer: Some(20_000),
        ..UdpOptions::default()
    };
    let server = p.bind(1, "0.0.0.0:7", small);
    let client = p.plain(0, "0.0.0.0:0");
    for n in 0..3000 {
        p.send(0, client, &vec![1; n % 1400], "10.0.0.2:7").unwrap();
        assert!(p.hosts[1].pool().in_use() <= 12);
    }
    assert!(p.drops(1, Drop::UdpReceiveBufferFull) > 2800);
    let info = p.hosts[1].udp_sockets().next().unwrap();
    assert!(info.queued <= 20_000 && info.overflowed > 2800);
    // Each was delivered or dropped, never both.
    let delivered = p.hosts[1].stats().counts.get(Count::UdpDelivered);
    assert_eq!(delivered + p.drops(1, Drop::UdpReceiveBufferFull), 3000);
    assert_eq!(info.overflowed + delivered, 3000);
    assert!(p.hosts[1].poll_event().is_some());
    assert!(p.hosts[1].poll_event().is_none());
    p.hosts[1].close(p.now, server).unwrap();
    p.empty();
}

/// Events: a socket is listed once, in order, whatever happens meanwhile; what is over is not reported.
#[test]
fn events() {
    let mut p = Pair::new();
    let sockets: Vec<SocketId> = (0..5)
        .map(|n| p.plain(1, &format!("0.0.0.0:{}", 100 + n)))
        .collect();
    let client = p.plain(0, "0.0.0.0:0");
    for n in [3, 1, 4, 1, 0, 3, 2] {
        p.send(0, client, b"x", &format!("10.0.0.2:{}", 100 + n))
            .unwrap();
    }
    // 4 is closed, 1 is read empty before anybody asks.
    p.hosts[1].close(p.now, sockets[4]).unwrap();
    p.recv(1, sockets[1]).unwrap();
    p.recv(1, sockets[1]).unwrap();
    let mut told = Vec::new();
    while let Some(event) = p.hosts[1].poll_event() {
        told.push(sockets.iter().position(|s| *s == event.socket).unwrap());
    }
    assert_eq!(told, [3, 0, 2]);
    p.send(0, client, b"x", "10.0.0.2:103").unwrap();
    assert_eq!(p.hosts[1].poll_event().unwrap().socket, sockets[3]);
}
