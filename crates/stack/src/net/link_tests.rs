//! Traces of ARP, neighbour and router discovery, address claims and group reports on virtual time: what goes in, what comes
//! out, in words.

use core::time::Duration;

use base::{Chain, Facts, Instant, Offloads, Packet, Pool, Rng, SipKey, Wheel};
use wire::ndp::{self, Opt, OptionBuf, Preference, PrefixInfo, RouterAdvert};
use wire::{Addr, Cidr, EtherType, Mac, arp, ethernet, icmpv6, igmp, ipv4, ipv6, mld};

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
        };
        let mut net = Net::new(&config, &mut core);
        let link = InterfaceConfig {
            name: "eth0".into(),
            mac: OWN,
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

    fn chain(&mut self, bytes: &[u8]) -> Chain {
        let mut chain = self.core.pool.alloc(64).unwrap();
        assert_eq!(self.core.pool.append_bytes(&mut chain, bytes), bytes.len());
        chain
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
        let mut bytes = [0; arp::LEN];
        message.emit(&mut bytes);
        let chain = self.chain(&bytes);
        self.net.arp_input(&mut self.core, IF, chain);
    }

    fn datagram(&mut self, src: &str, dst: &str, ttl: u8, message: &[u8]) -> Datagram {
        let (src, dst) = (ip(src), ip(dst));
        let l4 = if src.is_v4() {
            ipv4::HEADER_LEN
        } else {
            ipv6::HEADER_LEN
        };
        let mut bytes = vec![0; l4];
        bytes.extend_from_slice(message);
        Datagram {
            interface: IF,
            src,
            dst,
            protocol: 58,
            ttl,
            tos: 0,
            group: dst.is_multicast(),
            l4: l4 as u16,
            checksum_good: true,
            gso_size: 0,
            chain: self.chain(&bytes),
        }
    }

    fn ndp(&mut self, src: &str, dst: &str, message: &ndp::Repr<'_>) {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let datagram = self.datagram(src, dst, 255, &bytes);
        self.net.ndp_input(&mut self.core, datagram);
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
            chain: self.chain(&bytes),
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

// ---- ARP ----

/// RFC 826: a request for us is answered to its sender alone, who becomes known; requests for others are not.
#[test]
fn arp_answers_for_own_addresses() {
    let mut rig = Rig::settled(quick());
    rig.add("10.0.0.1/24");
    rig.frames();
    rig.arp(
        arp::Operation::Request,
        (PEER, "10.0.0.2"),
        (Mac::ZERO, "10.0.0.1"),
    );
    let frames = rig.frames();
    assert_eq!(frames.len(), 1);
    assert!(
        frames[0].starts_with("02:00:00:00:00:02: ARP 10.0.0.1 is-at 02:00:00:00:00:01"),
        "{frames:?}"
    );
    assert!(rig.net.neighbours.find(IF, &ip("10.0.0.2")).is_some());
    rig.arp(
        arp::Operation::Request,
        (PEER, "10.0.0.3"),
        (Mac::ZERO, "10.0.0.4"),
    );
    assert!(rig.frames().is_empty());
    assert!(rig.net.neighbours.find(IF, &ip("10.0.0.3")).is_none());
    assert_eq!(rig.drops(Drop::ArpNotForUs), 1);
    // RFC 5227: a probe is answered and makes no entry.
    rig.arp(
        arp::Operation::Request,
        (PEER, "0.0.0.0"),
        (Mac::ZERO, "10.0.0.1"),
    );
    assert_eq!(only(&rig.frames(), "is-at").len(), 1);
    assert!(rig.net.neighbours.find(IF, &ip("0.0.0.0")).is_none());
    // Nonsense.
    rig.arp(
        arp::Operation::Request,
        (Mac::BROADCAST, "10.0.0.9"),
        (Mac::ZERO, "10.0.0.1"),
    );
    rig.arp(
        arp::Operation::Request,
        (PEER, "224.0.0.1"),
        (Mac::ZERO, "10.0.0.1"),
    );
    assert_eq!(rig.drops(Drop::ArpInvalid), 2);
    assert_eq!(rig.core.pool.in_use(), 0);
}

/// A packet waits, the question goes out from its own source address, the answer lets it go.
#[test]
fn arp_resolves() {
    let mut rig = Rig::settled(quick());
    rig.add("10.0.0.1/24");
    rig.add("10.0.0.7/24");
    rig.pass(10_000);
    rig.send("10.0.0.7", "10.0.0.2", "10.0.0.2");
    let frames = rig.frames();
    assert_eq!(
        frames,
        ["all: ARP who-has 10.0.0.2 tell 10.0.0.7 at 02:00:00:00:00:01"]
    );
    rig.arp(arp::Operation::Reply, (PEER, "10.0.0.2"), (OWN, "10.0.0.7"));
    assert_eq!(
        rig.frames(),
        ["02:00:00:00:00:02: 10.0.0.7 > 10.0.0.2 data"]
    );
    assert_eq!(rig.core.pool.in_use(), 0);
}

/// RFC 1122 2.3.2, 3.3.1.4: nobody answers: what waited is dropped and the transports are told, for both families.
#[test]
fn unanswered_is_reported() {
    for (own, src, dst) in [
        ("10.0.0.1/24", "10.0.0.1", "10.0.0.2"),
        ("fd00::1/64", "fd00::1", "fd00::2"),
    ] {
        let mut rig = Rig::settled(quick());
        rig.add(own);
        rig.pass(10_000);
        rig.send(src, dst, dst);
        rig.send(src, dst, dst);
        let asked = rig.frames().len() + rig.pass(10_000).len();
        assert_eq!(asked, 3);
        assert_eq!(rig.drops(Drop::NeighbourUnreachable), 2);
        let report = rig.net.pop_report().unwrap();
        assert_eq!(
            (report.kind, report.protocol),
            (ReportKind::HostUnreachable, 17)
        );
        assert_eq!(
            (report.local, report.remote, report.l4),
            (ip(src), ip(dst), [0, 53, 0, 99, 0, 8, 0, 0])
        );
        assert!(rig.net.pop_report().is_some());
        assert!(rig.net.pop_report().is_none());
        assert_eq!(rig.core.pool.in_use(), 0);
    }
}

/// RFC 5227 2.1, 2.3: three probes, a wait, two announcements; not answered for meanwhile.
#[test]
fn ipv4_address_is_probed_and_announced() {
    let mut rig = Rig::settled(Config {
        accept_router_advertisements: false,
        ..config()
    });
    rig.start = rig.core.now;
    rig.add("10.0.0.1/24");
    assert_eq!(rig.state("10.0.0.1"), Some(AddressState::Tentative));
    rig.arp(
        arp::Operation::Request,
        (PEER, "10.0.0.2"),
        (Mac::ZERO, "10.0.0.1"),
    );
    assert!(rig.frames().is_empty());
    let said = rig.pass(20_000);
    let probe = "all: ARP who-has 10.0.0.1 tell 0.0.0.0 at 02:00:00:00:00:01";
    let announcement = "all: ARP who-has 10.0.0.1 tell 10.0.0.1 at 02:00:00:00:00:01";
    let texts: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, [probe, probe, probe, announcement, announcement]);
    let at: Vec<u64> = said.iter().map(|(at, _)| *at).collect();
    assert!(at[0] <= 10);
    assert!(
        (10..=20).contains(&(at[1] - at[0])) && (10..=20).contains(&(at[2] - at[1])),
        "{at:?}"
    );
    assert_eq!((at[3] - at[2], at[4] - at[3]), (20, 20));
    assert_eq!(rig.state("10.0.0.1"), Some(AddressState::Preferred));
}

/// RFC 5227 2.1.1: any packet from the address, or another's probe for it, ends the claim.
#[test]
fn ipv4_conflicts_while_probing() {
    for (op, sender, target) in [
        (arp::Operation::Reply, "10.0.0.1", "10.0.0.9"),
        (arp::Operation::Request, "10.0.0.1", "10.0.0.1"),
        (arp::Operation::Request, "0.0.0.0", "10.0.0.1"),
    ] {
        let mut rig = Rig::settled(config());
        rig.add("10.0.0.1/24");
        rig.arp(op, (OWN, sender), (Mac::ZERO, target));
        assert_eq!(
            rig.state("10.0.0.1"),
            Some(AddressState::Tentative),
            "our own echo is no conflict"
        );
        rig.arp(op, (PEER, sender), (Mac::ZERO, target));
        assert_eq!(rig.state("10.0.0.1"), Some(AddressState::Duplicate));
        assert!(rig.pass(30_000).is_empty());
        assert!(!rig.net.is_local(&ip("10.0.0.1")));
    }
}

/// RFC 5227 2.4: an address in use is defended at most once in ten seconds; the rival is not learnt.
#[test]
fn ipv4_defends() {
    let mut rig = Rig::settled(quick());
    rig.add("10.0.0.1/24");
    rig.pass(10_000);
    let mut defences = 0;
    for _ in 0..21 {
        rig.arp(
            arp::Operation::Request,
            (PEER, "10.0.0.1"),
            (Mac::ZERO, "10.0.0.1"),
        );
        defences += only(&rig.frames(), "tell 10.0.0.1").len();
        rig.pass(1000);
    }
    assert_eq!(defences, 3);
    assert_eq!(rig.core.stats.counts.get(Count::AddressConflict), 21);
    assert_eq!(rig.net.neighbours.len(), 0);
}

// ---- neighbour discovery ----

/// RFC 4861 7.2.3, 7.2.4: answered with S and O to the asker, who is learnt; probes to all nodes; for others not at all.
#[test]
fn solicitations_are_answered() {
    let mut rig = Rig::settled(quick());
    rig.add("fd00::1/64");
    rig.pass(10_000);
    let group = ip("fd00::1").solicited_node().to_string();
    rig.ns("fd00::2", &group, "fd00::1", Some(PEER));
    let frames = rig.frames();
    assert_eq!(frames.len(), 1);
    assert!(frames[0].starts_with("02:00:00:00:00:02: fd00::1 > fd00::2 NDP neighbor advertisement fd00::1 solicited override"), "{frames:?}");
    assert!(frames[0].contains("02:00:00:00:00:01"), "{frames:?}");
    assert!(rig.net.neighbours.find(IF, &ip("fd00::2")).is_some());
    // Duplicate detection of somebody else.
    rig.ns("::", &group, "fd00::1", None);
    let frames = rig.frames();
    assert!(
        frames[0]
            .starts_with("group: fd00::1 > ff02::1 NDP neighbor advertisement fd00::1 override"),
        "{frames:?}"
    );
    // Without its address it has to be asked for first.
    rig.ns("fd00::3", "fd00::1", "fd00::1", None);
    let frames = rig.frames();
    assert!(
        frames[0].contains("NDP neighbor solicitation fd00::3"),
        "{frames:?}"
    );
    assert_eq!(frames.len(), 1);
    rig.na("fd00::3", "fd00::1", "fd00::3", "SO", Some(PEER));
    assert!(rig.frames()[0].contains("fd00::1 > fd00::3 NDP neighbor advertisement"));
    rig.ns("fd00::2", "ff02::1:ff00:9", "fd00::9", Some(PEER));
    assert!(rig.frames().is_empty());
    assert_eq!(rig.core.pool.in_use(), 0);
}

/// RFC 4861 7.1: what fails a check is dropped and counted.
#[test]
fn invalid_messages_are_dropped() {
    let mut rig = Rig::settled(quick());
    rig.add("fd00::1/64");
    rig.pass(10_000);
    let group = ip("fd00::1").solicited_node().to_string();
    // Hop limit.
    let mut options = OptionBuf::<8>::new();
    options.push(&Opt::SourceMac(PEER));
    let message = ndp::Repr::NeighborSolicit {
        target: ip("fd00::1"),
        options: options.options(),
    };
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    let far = rig.datagram("fd00::2", &group, 254, &bytes);
    rig.net.ndp_input(&mut rig.core, far);
    // Code, option length zero, cut off.
    for (at, value) in [(1, 1), (25, 0)] {
        let mut bad = bytes.clone();
        bad[at] = value;
        let bad = rig.datagram("fd00::2", &group, 255, &bad);
        rig.net.ndp_input(&mut rig.core, bad);
    }
    let short = rig.datagram("fd00::2", &group, 255, &bytes[..20]);
    rig.net.ndp_input(&mut rig.core, short);
    // A probe that is not sent to the solicited-node group, or names a station.
    rig.ns("::", "ff02::1", "fd00::1", None);
    rig.ns("::", &group, "fd00::1", Some(PEER));
    // A multicast target, a multicast station, our own address as source, a solicited multicast advertisement.
    rig.ns("fd00::2", &group, "ff02::1", Some(PEER));
    rig.ns(
        "fd00::2",
        &group,
        "fd00::1",
        Some(Mac([0x33, 0x33, 0, 0, 0, 1])),
    );
    rig.ns("fd00::1", &group, "fd00::1", Some(PEER));
    rig.na("fd00::2", "ff02::1", "fd00::2", "S", Some(PEER));
    assert_eq!(rig.drops(Drop::NdpInvalid), 10);
    assert!(rig.frames().is_empty());
    assert_eq!(rig.core.pool.in_use(), 0);
}

/// RFC 4861 7.2.2, 7.3.3: asked by group first, by unicast when probing, from the source of what waits.
#[test]
fn ndp_resolves_and_probes() {
    let mut rig = Rig::settled(quick());
    rig.add("fd00::1/64");
    rig.pass(10_000);
    rig.send("fd00::1", "fd00::2", "fd00::2");
    let asked = rig.frames();
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].starts_with("group: fd00::1 > ff02::1:ff00:2 NDP neighbor solicitation fd00::2"),
        "{asked:?}"
    );
    rig.na("fd00::2", "fd00::1", "fd00::2", "S", Some(PEER));
    assert_eq!(rig.frames(), ["02:00:00:00:00:02: fd00::1 > fd00::2 data"]);
    rig.pass(50_000);
    rig.send("fd00::1", "fd00::2", "fd00::2");
    assert_eq!(rig.frames(), ["02:00:00:00:00:02: fd00::1 > fd00::2 data"]);
    let probes = rig.pass(6_500);
    assert_eq!(probes.len(), 2);
    // By unicast, from any address of the link.
    assert!(probes[0].1.starts_with("02:00:00:00:00:02: "), "{probes:?}");
    assert!(
        probes[0]
            .1
            .contains("> fd00::2 NDP neighbor solicitation fd00::2"),
        "{probes:?}"
    );
    rig.na("fd00::2", "fd00::1", "fd00::2", "S", Some(PEER));
    assert!(rig.pass(10_000).is_empty());
}

/// RFC 4862 5.4: joined, probed once, claimed, announced; not answered for meanwhile.
#[test]
fn ipv6_address_is_probed_and_announced() {
    let mut rig = Rig::settled(Config {
        accept_router_advertisements: false,
        ..config()
    });
    rig.start = rig.core.now;
    rig.add("fd00::1/64");
    assert!(rig.net.membership.is_member(IF, &ip("ff02::1:ff00:1")));
    assert!(rig.frames()[0].contains("MLD 143 ChangeToExclude ff02::1:ff00:1"));
    rig.ns("fd00::2", "ff02::1:ff00:1", "fd00::1", Some(PEER));
    assert!(rig.frames().is_empty());
    let said = rig.pass(20_000);
    let said: Vec<_> = said
        .into_iter()
        .filter(|(_, text)| text.contains("NDP"))
        .collect();
    assert_eq!(said.len(), 3);
    assert!(
        said[0]
            .1
            .starts_with("group: :: > ff02::1:ff00:1 NDP neighbor solicitation fd00::1"),
        "{said:?}"
    );
    assert!(
        said[1]
            .1
            .starts_with("group: fd00::1 > ff02::1 NDP neighbor advertisement fd00::1 override"),
        "{said:?}"
    );
    assert!(said[0].0 <= 10);
    assert_eq!((said[1].0 - said[0].0, said[2].0 - said[1].0), (10, 10));
    assert_eq!(rig.state("fd00::1"), Some(AddressState::Preferred));
}

/// RFC 4862 5.4.3, 5.4.4, 5.4.5: somebody's probe or advertisement for it makes the address a duplicate.
#[test]
fn ipv6_conflicts_while_probing() {
    for advertised in [false, true] {
        let mut rig = Rig::settled(config());
        rig.add("fd00::1/64");
        if advertised {
            rig.na("fd00::1", "ff02::1", "fd00::1", "O", Some(PEER));
        } else {
            rig.ns("::", "ff02::1:ff00:1", "fd00::1", None);
        }
        assert_eq!(rig.state("fd00::1"), Some(AddressState::Duplicate));
        rig.frames();
        assert!(
            only(
                &rig.pass(20_000)
                    .into_iter()
                    .map(|(_, t)| t)
                    .collect::<Vec<_>>(),
                "NDP"
            )
            .is_empty()
        );
        rig.ns("fd00::2", "ff02::1:ff00:1", "fd00::1", Some(PEER));
        assert!(rig.frames().is_empty(), "a duplicate is not answered for");
    }
}

/// RFC 7527: our own probe, echoed by the link, is no conflict.
#[test]
fn echoed_probe_is_no_conflict() {
    let mut rig = Rig::settled(config());
    rig.add("fd00::1/64");
    let index = rig.net.own(IF, &ip("fd00::1")).unwrap().0;
    let nonce = rig.net.nonce(index).unwrap();
    for (data, state) in [
        (nonce, AddressState::Tentative),
        ([0; 6], AddressState::Duplicate),
    ] {
        let mut options = OptionBuf::<8>::new();
        options.push(&Opt::Other {
            kind: 14,
            data: &data,
        });
        rig.ndp(
            "::",
            "ff02::1:ff00:1",
            &ndp::Repr::NeighborSolicit {
                target: ip("fd00::1"),
                options: options.options(),
            },
        );
        assert_eq!(rig.state("fd00::1"), Some(state));
    }
}

/// RFC 7217 6: an interface identifier that is taken is replaced, at most three times.
#[test]
fn link_local_tries_another() {
    let mut rig = Rig::new(Config {
        accept_router_advertisements: false,
        ..config()
    });
    let mut seen = Vec::new();
    for _ in 0..4 {
        let addr = rig.link_local();
        assert!(!seen.contains(&addr));
        seen.push(addr);
        rig.ns(
            "::",
            &addr.solicited_node().to_string(),
            &addr.to_string(),
            None,
        );
    }
    assert_eq!(rig.link_local(), seen[3], "after three it gives up");
    assert_eq!(
        rig.state(&seen[3].to_string()),
        Some(AddressState::Duplicate)
    );
    // The same key and MAC address: the same addresses; another key: others.
    let again = Rig::new(Config {
        accept_router_advertisements: false,
        ..config()
    });
    assert_eq!(again.link_local(), seen[0]);
    let other = Rig::new(Config {
        stable_address_key: Some([1; 16]),
        ..config()
    });
    assert_ne!(other.link_local(), seen[0]);
}

/// A storm of solicitations and invented neighbours: bounded tables, memory and answers.
#[test]
fn solicitation_storm_is_bounded() {
    let mut rig = Rig::settled(quick());
    rig.add("fd00::1/64");
    rig.pass(10_000);
    for n in 0..20_000u32 {
        let src = format!("fd00::1:{:x}:{:x}", n >> 12, n & 0xfff);
        rig.ns(&src, "ff02::1:ff00:1", "fd00::1", Some(PEER));
        rig.ns(&src, "fd00::1", "fd00::1", None);
        rig.send("fd00::1", &src, &src);
        if n % 64 == 0 {
            assert!(rig.core.pool.in_use() <= 2 * 64 + rig.net.neighbours.waiting_total().0 + 64);
            rig.frames();
        }
    }
    assert!(rig.net.neighbours.len() <= 64);
    let queue = rig.net.interfaces[0].queue.len();
    assert!(queue <= config().transmit_queue);
    assert!(
        rig.core.pool.in_use() as usize <= queue + rig.net.neighbours.waiting_total().0 as usize
    );
    rig.frames();
    rig.pass(20_000);
    while rig.net.pop_report().is_some() {}
    assert_eq!(rig.core.pool.in_use(), 0);
}

// ---- routers ----

const ADVERT: RouterAdvert = RouterAdvert {
    hop_limit: 0,
    managed: false,
    other: false,
    preference: Preference::Medium,
    router_lifetime: 1800,
    reachable_time: 0,
    retrans_timer: 0,
};

fn prefix(text: &str, valid: u32, preferred: u32) -> PrefixInfo {
    PrefixInfo {
        prefix_len: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime: valid,
        preferred_lifetime: preferred,
        prefix: ip(text),
    }
}

fn slaac(rig: &Rig) -> Vec<(Addr, AddressState)> {
    rig.net
        .addresses
        .on(IF)
        .filter(|(_, e)| e.origin == Origin::Slaac)
        .map(|(_, e)| (e.cidr.addr(), e.state))
        .collect()
}

/// RFC 4861 6.3.7, RFC 7559: the link-local address is claimed, then routers are asked for, three times, ever more slowly.
#[test]
fn solicits_routers() {
    let mut rig = Rig::new(config());
    let said: Vec<_> = rig
        .pass(120_000)
        .into_iter()
        .filter(|(_, text)| text.contains("router solicitation"))
        .collect();
    assert_eq!(said.len(), 3);
    let link_local = rig.link_local();
    assert!(
        said[0].1.starts_with(&format!(
            "group: {link_local} > ff02::2 NDP router solicitation"
        )),
        "{said:?}"
    );
    assert!((10..=30).contains(&said[0].0), "{said:?}");
    assert!(
        (36..=44).contains(&(said[1].0 - said[0].0))
            && (72..=88).contains(&(said[2].0 - said[1].0)),
        "{said:?}"
    );
    // An answer ends it.
    let mut rig = Rig::new(config());
    rig.pass(3_500);
    rig.ra("fe80::99", ADVERT, &[]);
    assert!(
        rig.pass(120_000)
            .iter()
            .all(|(_, text)| !text.contains("router solicitation"))
    );
}

/// RFC 4861 6.3.4: default router with a lifetime, times, hop limit, MTU; its link-layer address is learnt.
#[test]
fn advertisement_is_taken() {
    let mut rig = Rig::settled(config());
    let advert = RouterAdvert {
        hop_limit: 99,
        reachable_time: 10_000,
        retrans_timer: 2_000,
        ..ADVERT
    };
    rig.ra("fe80::99", advert, &[Opt::SourceMac(PEER), Opt::Mtu(1400)]);
    assert_eq!(rig.routes(), ["::/0 via fe80::99"]);
    assert_eq!(rig.net.default_hop_limit(IF), 99);
    assert_eq!(rig.net.interfaces[0].mtu_v6, 1400);
    let known = rig.net.neighbours.iter(rig.core.now).next().unwrap();
    assert_eq!(
        (known.addr, known.mac, known.router, known.state),
        (ip("fe80::99"), Some(PEER), true, NeighbourState::Stale)
    );
    // Unspecified values and an MTU out of range change nothing.
    rig.ra("fe80::99", ADVERT, &[Opt::Mtu(1279)]);
    rig.ra("fe80::99", ADVERT, &[Opt::Mtu(1501)]);
    assert_eq!(
        (rig.net.default_hop_limit(IF), rig.net.interfaces[0].mtu_v6),
        (99, 1400)
    );
    // Twice the retransmission time.
    rig.send("fe80::1", "fe80::77", "fe80::77");
    assert_eq!(rig.frames().len() + rig.pass(5_500).len(), 3);
    rig.pass(1_790_000);
    assert_eq!(rig.routes(), ["::/0 via fe80::99"]);
    rig.pass(11_000);
    assert!(rig.routes().is_empty(), "the lifetime is over");
    // Lifetime 0 withdraws it at once.
    rig.ra("fe80::99", ADVERT, &[]);
    rig.ra(
        "fe80::99",
        RouterAdvert {
            router_lifetime: 0,
            ..ADVERT
        },
        &[],
    );
    assert!(rig.routes().is_empty());
    // Not from a router of the link: dropped.
    rig.ra("fd00::99", ADVERT, &[]);
    assert_eq!(rig.drops(Drop::NdpInvalid), 1);
    let mut deaf = Rig::settled(quick());
    deaf.ra("fe80::99", ADVERT, &[]);
    assert!(deaf.routes().is_empty());
}

/// RFC 4861 6.3.6, RFC 4191: the better router is used; one that does not answer, or is none any more, is left.
#[test]
fn chooses_routers() {
    let mut rig = Rig::settled(config());
    rig.ra("fe80::1:1", ADVERT, &[Opt::SourceMac(PEER)]);
    rig.ra("fe80::1:2", ADVERT, &[Opt::SourceMac(PEER)]);
    assert_eq!(
        rig.routes(),
        ["::/0 via fe80::1:1"],
        "no change without need"
    );
    rig.ra(
        "fe80::1:3",
        RouterAdvert {
            preference: Preference::High,
            ..ADVERT
        },
        &[Opt::SourceMac(PEER)],
    );
    assert_eq!(rig.routes(), ["::/0 via fe80::1:3"]);
    rig.send("fe80::9", "fd99::1", "fe80::1:3");
    rig.pass(20_000);
    assert_eq!(rig.routes().len(), 1);
    assert_ne!(rig.routes(), ["::/0 via fe80::1:3"], "it did not answer");
    let second = rig.routes();
    let addr = second[0].trim_start_matches("::/0 via ").to_string();
    rig.send("fe80::9", "fd99::1", &addr);
    rig.na(&addr, &rig.link_local().to_string(), &addr, "S", Some(PEER));
    assert_ne!(rig.routes(), second, "it says it is no router");
}

/// RFC 4861 6.3.4: on-link prefixes become routes as long as they live.
#[test]
fn prefixes_become_routes() {
    let mut rig = Rig::settled(config());
    let info = PrefixInfo {
        autonomous: false,
        ..prefix("2001:db8:1::", 100, 50)
    };
    let advert = RouterAdvert {
        router_lifetime: 0,
        ..ADVERT
    };
    rig.ra("fe80::99", advert, &[Opt::PrefixInfo(info)]);
    rig.ra(
        "fe80::99",
        advert,
        &[Opt::PrefixInfo(PrefixInfo {
            prefix: ip("fe80::"),
            ..info
        })],
    );
    assert_eq!(rig.routes(), ["2001:db8:1::/64 on link"]);
    assert!(slaac(&rig).is_empty());
    rig.pass(99_000);
    rig.ra("fe80::99", advert, &[Opt::PrefixInfo(info)]);
    rig.pass(99_000);
    assert_eq!(rig.routes().len(), 1);
    rig.pass(2_000);
    assert!(rig.routes().is_empty());
    rig.ra("fe80::99", advert, &[Opt::PrefixInfo(info)]);
    rig.ra(
        "fe80::99",
        advert,
        &[Opt::PrefixInfo(PrefixInfo {
            valid_lifetime: 0,
            preferred_lifetime: 0,
            ..info
        })],
    );
    assert!(rig.routes().is_empty());
}

/// RFC 4862 5.5: an address of each prefix, stable, with duplicate detection; deprecated, then gone.
#[test]
fn addresses_from_prefixes() {
    let mut rig = Rig::settled(config());
    rig.ra(
        "fe80::99",
        ADVERT,
        &[Opt::PrefixInfo(prefix("2001:db8:1::", 10_000, 5_000))],
    );
    let (addr, state) = slaac(&rig)[0];
    assert_eq!(
        (&addr.0[..8], state),
        (&ip("2001:db8:1::").0[..8], AddressState::Tentative)
    );
    rig.pass(3_000);
    assert_eq!(slaac(&rig), [(addr, AddressState::Preferred)]);
    rig.pass(5_000_000);
    assert_eq!(slaac(&rig), [(addr, AddressState::Deprecated)]);
    rig.ra(
        "fe80::99",
        ADVERT,
        &[Opt::PrefixInfo(prefix("2001:db8:1::", 10_000, 5_000))],
    );
    assert_eq!(
        slaac(&rig),
        [(addr, AddressState::Preferred)],
        "the same address"
    );
    rig.pass(10_001_000);
    assert!(slaac(&rig).is_empty());
    // The same prefix again gives the same address, another prefix another identifier.
    rig.ra(
        "fe80::99",
        ADVERT,
        &[Opt::PrefixInfo(prefix("2001:db8:1::", 10_000, 5_000))],
    );
    rig.ra(
        "fe80::99",
        ADVERT,
        &[Opt::PrefixInfo(prefix("2001:db8:2::", 10_000, 5_000))],
    );
    let both = slaac(&rig);
    assert_eq!(both[0].0, addr);
    assert_ne!(both[1].0.0[8..], addr.0[8..]);
    // RFC 4862 5.5.3: these make none.
    let good = prefix("2001:db8:3::", 100, 50);
    for bad in [
        PrefixInfo {
            autonomous: false,
            ..good
        },
        PrefixInfo {
            preferred_lifetime: 101,
            ..good
        },
        PrefixInfo {
            valid_lifetime: 0,
            preferred_lifetime: 0,
            ..good
        },
        PrefixInfo {
            prefix_len: 63,
            ..good
        },
        PrefixInfo {
            prefix: ip("fe80::"),
            ..good
        },
    ] {
        rig.ra("fe80::99", ADVERT, &[Opt::PrefixInfo(bad)]);
        assert_eq!(slaac(&rig).len(), 2, "{bad:?}");
    }
}

/// RFC 4862 5.5.3 e: the two-hour rule.
#[test]
fn two_hour_rule() {
    let now = Instant::from_secs(1_000_000);
    let hours = |h: u64| now + Duration::from_secs(h * 3600);
    let end = |current, seconds| super::slaac::new_valid_until(now, current, seconds);
    // 1: longer than two hours, or than what is left, is taken.
    assert_eq!(end(hours(5), 3 * 3600), hours(3));
    assert_eq!(end(hours(1), 5400), now + Duration::from_secs(5400));
    assert_eq!(end(hours(1), u32::MAX), Instant::FAR);
    // 2: with two hours or less left, a shorter one is ignored.
    assert_eq!(end(hours(2), 60), hours(2));
    assert_eq!(end(hours(1), 0), hours(1));
    // 3: else it is cut to two hours.
    assert_eq!(end(hours(5), 60), hours(2));
    assert_eq!(end(Instant::FAR, 7200), hours(2));
}

/// Advertisements of ever new routers and prefixes: bounded.
#[test]
fn advertisement_flood_is_bounded() {
    let mut rig = Rig::settled(config());
    for n in 0..2_000u32 {
        let src = format!("fe80::{:x}", n + 1);
        let info = prefix(&format!("2001:db8:{n:x}::"), 100_000, 50_000);
        rig.ra(&src, ADVERT, &[Opt::SourceMac(PEER), Opt::PrefixInfo(info)]);
        rig.frames();
    }
    assert!(rig.routes().len() <= 65);
    assert_eq!(slaac(&rig).len(), 16);
    assert!(rig.core.wheel.len() <= 16 + 64 + 2 * 20 + 64);
    assert!(rig.core.stats.counts.get(Count::AdvertisedTooMuch) > 0);
}

/// RFC 7217: identifiers avoid the reserved ones and depend on everything they should.
#[test]
fn interface_identifiers() {
    use super::slaac::interface_id;
    let key = SipKey([7; 16]);
    let base = interface_id(&key, &ip("2001:db8::"), OWN, 0);
    assert_eq!(
        base,
        interface_id(&key, &ip("2001:db8::1"), OWN, 0),
        "only the prefix counts"
    );
    assert_ne!(base, interface_id(&key, &ip("2001:db8:0:1::"), OWN, 0));
    assert_ne!(base, interface_id(&key, &ip("2001:db8::"), PEER, 0));
    assert_ne!(base, interface_id(&key, &ip("2001:db8::"), OWN, 1));
    assert_ne!(
        base,
        interface_id(&SipKey([8; 16]), &ip("2001:db8::"), OWN, 0)
    );
}

// ---- groups ----

/// RFC 9776 5.1, RFC 9777 6.1: a change is reported at once and once more within a second; users are counted.
#[test]
fn groups_are_reported() {
    for (group, kind, to) in [
        ("239.1.2.3", "IGMP 0x22", "224.0.0.22"),
        ("ff15::1", "MLD 143", "ff02::16"),
    ] {
        let mut rig = Rig::settled(quick());
        let addr = ip(group);
        assert!(!rig.net.membership.is_member(IF, &addr));
        assert!(rig.net.join_group(&mut rig.core, IF, &addr));
        assert!(rig.net.membership.is_member(IF, &addr));
        assert!(rig.net.join_group(&mut rig.core, IF, &addr));
        let mut said = rig.frames();
        said.extend(rig.pass(5_000).into_iter().map(|(_, text)| text));
        assert_eq!(
            only(&said, &format!("ChangeToExclude {group}")).len(),
            2,
            "{said:?}"
        );
        assert!(said[0].contains(kind) && said[0].contains(to), "{said:?}");
        rig.net.leave_group(&mut rig.core, IF, &addr);
        assert!(rig.frames().is_empty());
        rig.net.leave_group(&mut rig.core, IF, &addr);
        assert!(!rig.net.membership.is_member(IF, &addr));
        let mut said = rig.frames();
        said.extend(rig.pass(5_000).into_iter().map(|(_, text)| text));
        assert_eq!(
            only(&said, &format!("ChangeToInclude {group}")).len(),
            2,
            "{said:?}"
        );
        rig.net.leave_group(&mut rig.core, IF, &addr);
        assert!(rig.frames().is_empty());
    }
    // All nodes are joined for ever and never reported.
    let mut rig = Rig::settled(quick());
    for group in ["224.0.0.1", "ff02::1"] {
        assert!(rig.net.membership.is_member(IF, &ip(group)));
        rig.net.join_group(&mut rig.core, IF, &ip(group));
        assert!(rig.frames().is_empty());
        rig.net.leave_group(&mut rig.core, IF, &ip(group));
        assert!(rig.net.membership.is_member(IF, &ip(group)));
    }
}

/// Queries are answered within the time they give: all groups, or the one asked for; in the querier's version.
#[test]
fn queries_are_answered() {
    let mut rig = Rig::settled(quick());
    let groups = ["ff15::1", "ff15::2"];
    for group in groups {
        rig.net.join_group(&mut rig.core, IF, &ip(group));
    }
    rig.pass(5_000);
    rig.frames();
    let mut ask = |rig: &mut Rig, group: &str, v2, hop| {
        let query = mld::Query {
            group: ip(group),
            max_response: 2_000,
            v2,
            sources: 0,
        };
        let mut bytes = vec![0; query.buffer_len()];
        query.emit(&mut bytes);
        let datagram = rig.datagram("fe80::99", "ff02::1", hop, &bytes);
        rig.net.mld_input(&mut rig.core, datagram);
        rig.pass(2_100)
            .into_iter()
            .map(|(_, text)| text)
            .collect::<Vec<_>>()
    };
    let said = ask(&mut rig, "::", true, 1);
    assert_eq!(said.len(), 1);
    assert!(
        groups
            .iter()
            .all(|group| said[0].contains(&format!("ModeIsExclude {group}"))),
        "{said:?}"
    );
    let said = ask(&mut rig, "ff15::2", true, 1);
    assert!(
        said.len() == 1
            && said[0].contains("ModeIsExclude ff15::2")
            && !said[0].contains("ff15::1,"),
        "{said:?}"
    );
    assert!(ask(&mut rig, "ff15::3", true, 1).is_empty());
    assert!(
        ask(&mut rig, "::", true, 2).is_empty(),
        "it crossed a router"
    );
    let said = ask(&mut rig, "ff15::2", false, 1);
    assert!(
        said.len() == 1 && said[0].contains("> ff15::2 MLD 131"),
        "{said:?}"
    );
    // IGMP, and a router of version 2.
    let mut rig = Rig::settled(quick());
    rig.net.join_group(&mut rig.core, IF, &ip("239.1.2.3"));
    rig.pass(5_000);
    rig.frames();
    let mut bytes = [0x11, 10, 0, 0, 0, 0, 0, 0];
    igmp::fill_checksum(&mut bytes);
    let datagram = rig.datagram("10.0.0.9", "224.0.0.1", 1, &bytes);
    rig.net.igmp_input(&mut rig.core, datagram);
    let said = rig.pass(1_100);
    assert!(
        said.len() == 1 && said[0].1.contains("> 239.1.2.3 IGMP 0x16 239.1.2.3"),
        "{said:?}"
    );
}
