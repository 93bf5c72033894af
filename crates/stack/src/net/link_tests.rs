//! Traces of ARP, neighbour and router discovery, address claims and group reports on virtual time: what goes in, what comes
//! out, in words.

use core::time::Duration;

use base::{Facts, Instant, Offloads, Packet, Pool, Rng, SipKey, Wheel};
use wire::ndp::{self, Opt, OptionBuf, Preference, PrefixInfo, RouterAdvert};
use wire::{Addr, Cidr, EtherType, Mac, arp, ethernet, icmpv6, igmp, ipv4, ipv6, mld};

mod arp_tests;
mod group_tests;
mod ndp_tests;
mod router_tests;

use super::*;
use crate::context::split_token;
use crate::stats::{Count, Drop, Stats};

const IF: InterfaceId = InterfaceId(0);
const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

struct Rig {
    core: Core,
    net: Net,
    start: Instant,
}

fn ip(text: &str) -> Addr {
    Addr::from(text.parse::<core::net::IpAddr>().unwrap())
}

fn config() -> Config {
    Config {
        neighbours: 64,
        pool_blocks: 512,
        timers: 1024,
        ..Config::default()
    }
}

impl Rig {
    fn new(config: Config) -> Self {
        let mut core = Core {
            now: Instant::from_secs(1000),
            pool: Pool::new(config.pool_blocks).unwrap(),
            wheel: Wheel::with_capacity(config.timers),
            rng: Rng::from_seed(42),
            stats: Stats::default(),
            secret: SipKey([9; 16]),
            tcp: crate::tcp::TcpTunables::default(),
            memory: crate::tcp::Memory::new(&crate::tcp::TcpTunables::default().sized(1 << 20)),
            sharding: None,
        };
        let mut net = Net::new(&config, &mut core);
        let link = InterfaceConfig {
            name: "eth0".into(),
            mac: Some(OWN),
            mtu: 1500,
            offloads: Offloads::NONE,
        };
        assert_eq!(net.add_interface(&mut core, link), Ok(IF));
        Self {
            start: core.now,
            core,
            net,
        }
    }

    /// A host whose link-local address is settled and which has said what it has to say.
    fn settled(config: Config) -> Self {
        let mut rig = Self::new(config);
        rig.pass(60_000);
        rig.frames();
        rig
    }

    fn add(&mut self, cidr: &str) {
        self.net
            .add_address(&mut self.core, IF, cidr.parse::<Cidr>().unwrap())
            .unwrap();
    }

    fn link_local(&self) -> Addr {
        let (_, entry) = self
            .net
            .addresses
            .on(IF)
            .find(|(_, e)| e.origin == Origin::LinkLocal)
            .unwrap();
        entry.cidr.addr()
    }

    fn state(&self, addr: &str) -> Option<AddressState> {
        Some(self.net.own(IF, &ip(addr))?.1)
    }

    /// Frames waiting for transmission, in words; their memory is freed.
    fn frames(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(frame) = self.net.transmit_queue(IF).unwrap().pop_front() {
            let mut bytes = vec![0; frame.chain.len()];
            self.core.pool.copy_out(&frame.chain, 0, &mut bytes);
            self.core.pool.free(frame.chain);
            out.push(describe(&bytes));
        }
        out
    }

    /// Lets time pass; gives (milliseconds since `start` in hundreds, frame).
    fn pass(&mut self, millis: u64) -> Vec<(u64, String)> {
        let end = self.core.now + Duration::from_millis(millis);
        let mut out = Vec::new();
        while let Some(next) = self.core.wheel.next_deadline().filter(|&next| next <= end) {
            self.core.now = self.core.now.max(next);
            while let Some(token) = self.core.wheel.pop_expired(self.core.now) {
                let (kind, index, extra) = split_token(token);
                self.net.on_timer(&mut self.core, kind, index, extra);
            }
            let at = (self.core.now - self.start).as_millis() as u64 / 100;
            out.extend(self.frames().into_iter().map(|frame| (at, frame)));
        }
        self.core.now = end;
        out
    }

    /// A frame arrives.
    fn inject(&mut self, frame: &[u8]) {
        let mut chain = self.core.pool.alloc(64).unwrap();
        assert_eq!(self.core.pool.append_bytes(&mut chain, frame), frame.len());
        let input = self.net.input(&mut self.core, IF, Packet::new(chain));
        assert!(matches!(input, Input::Done), "{input:?}");
    }

    fn arp(&mut self, op: arp::Operation, from: (Mac, &str), to: (Mac, &str)) {
        let octets = |text: &str| ip(text).v4_octets();
        let message = arp::Repr {
            op,
            sender_mac: from.0,
            sender_ip: octets(from.1),
            target_mac: to.0,
            target_ip: octets(to.1),
        };
        let dst = if to.0 == OWN { OWN } else { Mac::BROADCAST };
        let mut bytes = header(dst, EtherType::ARP);
        bytes.resize(60, 0);
        message.emit(&mut bytes[14..]);
        self.inject(&bytes);
    }

    /// An IP packet arrives; ICMPv6 gets its checksum here.
    fn ip(&mut self, src: &str, dst: &str, hop_limit: u8, protocol: u8, message: &[u8]) {
        let (src, dst) = (ip(src), ip(dst));
        let mut message = message.to_vec();
        let ethertype = if src.is_v4() {
            EtherType::IPV4
        } else {
            EtherType::IPV6
        };
        let mut bytes = header(dst.multicast_mac().unwrap_or(OWN), ethertype);
        if src.is_v4() {
            bytes.resize(14 + 24, 0);
            ipv4::Repr {
                router_alert: true,
                ..ipv4::Repr::new(src, dst, protocol, hop_limit, message.len())
            }
            .emit(&mut bytes[14..]);
        } else {
            icmpv6::fill_checksum(&mut message, &src, &dst);
            let alert = hop_limit < 255;
            let extension = if alert { 8 } else { 0 };
            let next = if alert { 0 } else { protocol };
            bytes.resize(14 + 40 + extension, 0);
            ipv6::Repr::new(src, dst, next, hop_limit, extension + message.len())
                .emit(&mut bytes[14..]);
            if alert {
                ipv6::ext::emit_router_alert(protocol, &mut bytes[54..]);
            }
        }
        bytes.extend_from_slice(&message);
        self.inject(&bytes);
    }

    fn ndp(&mut self, src: &str, dst: &str, message: &ndp::Repr<'_>) {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        self.ip(src, dst, 255, 58, &bytes);
    }

    fn ns(&mut self, src: &str, dst: &str, target: &str, mac: Option<Mac>) {
        let mut options = OptionBuf::<8>::new();
        mac.map(|mac| options.push(&Opt::SourceMac(mac)));
        self.ndp(
            src,
            dst,
            &ndp::Repr::NeighborSolicit {
                target: ip(target),
                options: options.options(),
            },
        );
    }

    fn na(&mut self, src: &str, dst: &str, target: &str, flags: &str, mac: Option<Mac>) {
        let mut options = OptionBuf::<8>::new();
        mac.map(|mac| options.push(&Opt::TargetMac(mac)));
        let message = ndp::Repr::NeighborAdvert {
            router: flags.contains('R'),
            solicited: flags.contains('S'),
            override_: flags.contains('O'),
            target: ip(target),
            options: options.options(),
        };
        self.ndp(src, dst, &message);
    }

    fn ra(&mut self, src: &str, advert: RouterAdvert, options: &[Opt<'_>]) {
        let mut buffer = OptionBuf::<512>::new();
        options
            .iter()
            .for_each(|option| assert!(buffer.push(option)));
        self.ndp(
            src,
            "ff02::1",
            &ndp::Repr::RouterAdvert {
                advert,
                options: buffer.options(),
            },
        );
    }

    /// A frame of a transport for `next_hop`, as the output path leaves it.
    fn send(&mut self, src: &str, dst: &str, next_hop: &str) {
        let (src, dst) = (ip(src), ip(dst));
        let mut bytes = vec![0; 14];
        if src.is_v4() {
            bytes.resize(14 + 20, 0);
            ipv4::Repr::new(src, dst, 17, 64, 8).emit(&mut bytes[14..]);
        } else {
            bytes.resize(14 + 40, 0);
            ipv6::Repr::new(src, dst, 17, 64, 8).emit(&mut bytes[14..]);
        }
        bytes[12..14].copy_from_slice(if src.is_v4() { &[8, 0] } else { &[0x86, 0xdd] });
        bytes.extend_from_slice(&[0, 53, 0, 99, 0, 8, 0, 0]);
        let frame = Packet {
            chain: {
                let mut chain = self.core.pool.alloc(64).unwrap();
                self.core.pool.append_bytes(&mut chain, &bytes);
                chain
            },
            facts: Facts::default(),
        };
        self.net
            .send_unresolved(&mut self.core, IF, &ip(next_hop), frame);
    }

    fn routes(&self) -> Vec<String> {
        let mut routes: Vec<String> = self
            .net
            .routes
            .iter()
            .filter(|(_, origin)| *origin == super::RouteOrigin::Advertised)
            .map(|(route, _)| route)
            .map(|r| match r.via {
                Some(via) => format!("{} via {via}", r.dst),
                None => format!("{} on link", r.dst),
            })
            .collect();
        routes.sort();
        routes
    }

    fn drops(&self, reason: Drop) -> u64 {
        self.core.stats.drops.get(reason)
    }
}

fn header(dst: Mac, ethertype: EtherType) -> Vec<u8> {
    let mut bytes = vec![0; 14];
    ethernet::Repr {
        src: PEER,
        dst,
        ethertype,
    }
    .emit(&mut bytes);
    bytes
}

/// A frame in words, and a check of everything that must hold for any frame of its kind.
fn describe(frame: &[u8]) -> String {
    let ethernet = ethernet::Packet::new(frame).unwrap();
    let to = match ethernet.dst() {
        Mac::BROADCAST => "all".to_string(),
        mac if mac.is_multicast() => "group".to_string(),
        mac => mac.to_string(),
    };
    assert_eq!(
        ethernet.src(),
        if frame[6..12] == [0; 6] {
            Mac::ZERO
        } else {
            OWN
        }
    );
    let payload = ethernet.payload();
    let what = match ethernet.ethertype() {
        EtherType::ARP => arp::Packet::new(payload).unwrap().to_string(),
        EtherType::IPV4 => {
            let packet = ipv4::Packet::new(payload).unwrap();
            assert!(packet.verify_checksum());
            if packet.protocol() == 2 {
                assert_eq!((packet.ttl(), packet.header_len()), (1, 24));
                let igmp = igmp::Packet::new(packet.payload()).unwrap();
                assert!(igmp.verify_checksum());
                let records: Vec<String> = igmp
                    .records()
                    .map(|r| format!("{:?} {}", r.kind, r.group))
                    .collect();
                format!(
                    "{} > {} IGMP {:#x} {} {}",
                    packet.src(),
                    packet.dst(),
                    igmp.kind(),
                    igmp.group(),
                    records.join(", ")
                )
            } else {
                format!("{} > {} data", packet.src(), packet.dst())
            }
        }
        _ => {
            let packet = ipv6::Packet::new(payload).unwrap();
            let (protocol, message) = ipv6::ext::skip(packet.next_header(), packet.payload());
            if protocol == 58 {
                let icmp = icmpv6::Packet::new(message).unwrap();
                assert!(icmp.verify_checksum(&packet.src(), &packet.dst()));
                if icmp.kind() >= 143 || icmp.kind() < 133 {
                    assert_eq!((packet.hop_limit(), packet.next_header()), (1, 0));
                    let records: Vec<String> = mld::records(&icmp)
                        .map(|r| format!("{:?} {}", r.kind, r.group))
                        .collect();
                    format!(
                        "{} > {} MLD {} {}",
                        packet.src(),
                        packet.dst(),
                        icmp.kind(),
                        records.join(", ")
                    )
                } else {
                    assert_eq!(packet.hop_limit(), 255);
                    ndp::Repr::parse(&icmp, 255, &packet.src(), &packet.dst()).unwrap();
                    format!("{} > {} {icmp}", packet.src(), packet.dst())
                }
            } else {
                format!("{} > {} data", packet.src(), packet.dst())
            }
        }
    };
    format!("{to}: {what}")
}

fn only<'a>(frames: &'a [String], what: &str) -> Vec<&'a String> {
    frames.iter().filter(|frame| frame.contains(what)).collect()
}

fn quick() -> Config {
    Config {
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..config()
    }
}
