//! Bind rules, lookup and queues against naive models. Traces through a whole host are in `tests/trace.rs`.

use core::net::SocketAddr;

use base::{Chain, Key, Pool, Rng, SipKey, Wheel};
use proptest::prelude::*;

use super::ports::Tuple;
use super::queue::{COPY, Note, OVERHEAD};
use super::*;
use crate::stats::{Drop, Stats};

pub(super) fn core() -> Core {
    Core {
        now: base::Instant::from_secs(1000),
        pool: Pool::new(512).unwrap(),
        wheel: Wheel::with_capacity(1024),
        rng: Rng::from_seed(7),
        stats: Stats::default(),
        secret: SipKey([3; 16]),
        tcp: crate::tcp::TcpTunables::default(),
        memory: crate::tcp::Memory::new(&crate::tcp::TcpTunables::default().sized(1 << 20)),
        sharding: None,
    }
}

fn socket(addr: &str, options: UdpOptions) -> Socket {
    let ip: core::net::IpAddr = addr.parse().unwrap();
    let local = Addr::from(ip);
    Socket {
        local,
        remote: Addr::UNSPECIFIED_V6,
        local_port: 0,
        remote_port: 0,
        v6: ip.is_ipv6(),
        error: None,
        options,
        bound: local,
        scope: None,
        path: None,
        queue: Queue::new(4096, false),
        overflowed: 0,
        token: 0,
        pending: Ready::NONE,
        listed: false,
        ready_next: NONE,
        ready_previous: NONE,
        group: NONE,
        memberships: Vec::new(),
    }
}

struct Table {
    sockets: Slab<Socket>,
    ports: Ports,
    rng: Rng,
}

impl Table {
    fn new() -> Self {
        Self {
            sockets: Slab::with_capacity(64),
            ports: Ports::new(64, SipKey([1; 16])),
            rng: Rng::from_seed(1),
        }
    }

    fn bind(&mut self, addr: &str, port: u16, options: UdpOptions) -> Result<Key, SocketError> {
        let mut new = socket(addr, options);
        new.local_port = self
            .ports
            .choose(&new, port, (40_000, 40_009), &mut self.rng)?;
        let key = self.sockets.insert(new).unwrap();
        self.ports.insert(&mut self.sockets, key.index).unwrap();
        Ok(key)
    }

    fn connect(&mut self, key: Key, local: Addr, remote: Option<(Addr, u16)>) {
        self.ports.leave(&mut self.sockets, key.index);
        let socket = self.sockets.get_mut(key).unwrap();
        (socket.local, socket.remote_port) = match remote {
            Some((addr, port)) => {
                socket.remote = addr;
                (local, port)
            }
            None => (socket.bound, 0),
        };
        self.ports.join(&mut self.sockets, key.index).unwrap();
    }

    fn rebind(&mut self, key: Key, device: Option<InterfaceId>) {
        self.ports.remove(&mut self.sockets, key.index);
        self.sockets.get_mut(key).unwrap().options.device = device;
        self.ports.insert(&mut self.sockets, key.index).unwrap();
    }

    fn close(&mut self, key: Key) {
        self.ports.remove(&mut self.sockets, key.index);
        self.sockets.remove(key);
    }
}

const PLAIN: UdpOptions = UdpOptions {
    reuse_addr: false,
    reuse_port: false,
    only_v6: false,
    freebind: false,
    device: None,
    broadcast: false,
    ttl: None,
    tos: 0,
    multicast_ttl: 1,
    multicast_loop: true,
    multicast_interface: None,
    multicast_all: true,
    multicast_all_v6: true,
    mtu_discover: MtuDiscover::Want,
    mtu_discover_v6: MtuDiscover::Want,
    receive_errors: false,
    receive_buffer: None,
    gro: false,
};
const ADDR: UdpOptions = UdpOptions {
    reuse_addr: true,
    ..PLAIN
};
const PORT: UdpOptions = UdpOptions {
    reuse_port: true,
    ..PLAIN
};
const ONLY6: UdpOptions = UdpOptions {
    only_v6: true,
    ..PLAIN
};

/// Where datagrams come in, unless a test has several.
const LINK: InterfaceId = InterfaceId(0);

/// Linux's bind conflicts for UDP, as observed on a kernel (both orders).
#[test]
fn bind_conflicts() {
    let cases = [
        ("10.0.0.1", PLAIN, "10.0.0.1", PLAIN, false),
        ("10.0.0.1", PLAIN, "10.0.0.2", PLAIN, true),
        ("10.0.0.1", PLAIN, "0.0.0.0", PLAIN, false),
        ("10.0.0.1", PLAIN, "::", PLAIN, false),
        ("10.0.0.1", PLAIN, "::", ONLY6, true),
        ("10.0.0.1", PLAIN, "fd00::1", PLAIN, true),
        ("0.0.0.0", PLAIN, "::", PLAIN, false),
        ("0.0.0.0", PLAIN, "::", ONLY6, true),
        ("0.0.0.0", PLAIN, "fd00::1", PLAIN, true),
        ("::", PLAIN, "fd00::1", PLAIN, false),
        ("::", ONLY6, "fd00::1", PLAIN, false),
        ("::", ONLY6, "::", PLAIN, false),
        ("::", PLAIN, "::ffff:10.0.0.1", PLAIN, false),
        ("10.0.0.1", PLAIN, "::ffff:10.0.0.1", PLAIN, false),
        ("10.0.0.1", ADDR, "10.0.0.1", ADDR, true),
        ("10.0.0.1", ADDR, "0.0.0.0", ADDR, true),
        ("10.0.0.1", ADDR, "10.0.0.1", PLAIN, false),
        ("10.0.0.1", PORT, "10.0.0.1", PORT, true),
        ("10.0.0.1", PORT, "0.0.0.0", PORT, true),
        ("10.0.0.1", PORT, "10.0.0.1", ADDR, false),
        ("10.0.0.1", PORT, "10.0.0.1", PLAIN, false),
    ];
    for (a, a_options, b, b_options, fits) in cases {
        for (x, xo, y, yo) in [(a, a_options, b, b_options), (b, b_options, a, a_options)] {
            let mut t = Table::new();
            t.bind(x, 53, xo).unwrap();
            assert_eq!(t.bind(y, 53, yo).is_ok(), fits, "{x} then {y}");
            assert!(t.bind(y, 54, yo).is_ok());
        }
    }
}

/// Port 0: a random free one of the range, each once, then none.
#[test]
fn ephemeral_ports() {
    let mut t = Table::new();
    let mut seen: Vec<u16> = (0..10)
        .map(|_| {
            let key = t.bind("0.0.0.0", 0, PORT).unwrap();
            t.sockets.get(key).unwrap().local_port
        })
        .collect();
    assert_ne!(seen, (40_000..40_010).collect::<Vec<_>>(), "in order");
    seen.sort_unstable();
    assert_eq!(seen, (40_000..40_010).collect::<Vec<_>>());
    assert_eq!(t.bind("0.0.0.0", 0, PORT), Err(SocketError::AddrInUse));
}

/// A port is free or not at an address, not at all of them: every address has the whole range.
#[test]
fn ephemeral_ports_are_those_of_an_address() {
    let mut t = Table::new();
    for addr in ["10.0.0.1", "10.0.0.2", "fd00::1"] {
        let keys: Vec<Key> = (0..10)
            .map(|_| t.bind(addr, 0, PLAIN).expect(addr))
            .collect();
        assert_eq!(t.bind(addr, 0, PLAIN), Err(SocketError::AddrInUse));
        // A connected socket keeps its address.
        let remote = t.sockets.get(keys[0]).unwrap().local;
        t.connect(keys[0], remote, Some((remote, 9)));
        assert_eq!(t.bind(addr, 0, PLAIN), Err(SocketError::AddrInUse));
        t.close(keys[3]);
        t.bind(addr, 0, PLAIN).unwrap();
    }
    assert_eq!(t.bind("::", 0, PLAIN), Err(SocketError::AddrInUse));
}

/// SO_REUSEPORT spreads flows over all sockets, and one flow always meets the same one; SO_REUSEADDR gives to the last bound.
#[test]
fn sharing() {
    let mut t = Table::new();
    let keys: Vec<Key> = (0..8)
        .map(|_| t.bind("0.0.0.0", 53, PORT).unwrap())
        .collect();
    let mut hits = [0; 8];
    for n in 0..4000u32 {
        let tuple = Tuple {
            local: Addr::v4(10, 0, 0, 1),
            remote: Addr::v4(10, 0, (n >> 8) as u8, n as u8),
            local_port: 53,
            remote_port: 1000,
        };
        let at = t
            .ports
            .lookup(&t.sockets, (&tuple, Some(LINK)), None)
            .unwrap();
        assert_eq!(
            t.ports.lookup(&t.sockets, (&tuple, Some(LINK)), None),
            Some(at)
        );
        hits[keys.iter().position(|k| k.index == at).unwrap()] += 1;
    }
    assert!(hits.iter().all(|&n| (350..650).contains(&n)), "{hits:?}");
    let mut t = Table::new();
    t.bind("0.0.0.0", 53, ADDR).unwrap();
    let last = t.bind("0.0.0.0", 53, ADDR).unwrap();
    let tuple = Tuple {
        local: Addr::v4(10, 0, 0, 1),
        remote: Addr::v4(10, 0, 0, 2),
        local_port: 53,
        remote_port: 1,
    };
    assert_eq!(
        t.ports.lookup(&t.sockets, (&tuple, Some(LINK)), None),
        Some(last.index)
    );
}

/// Of two wildcards over IPv6 a datagram is for the one with the oldest socket that shares with SO_REUSEPORT, or with the latest that
/// shares with SO_REUSEADDR; over IPv4 for the one that takes it (as Linux).
#[test]
fn wildcards_of_ipv6_are_alike() {
    for (sharing, expected) in [(PORT, [0, 1, 2]), (ADDR, [2, 2, 2])] {
        let mut t = Table::new();
        let only = UdpOptions {
            only_v6: true,
            ..sharing
        };
        // For both families, for IPv6, for both.
        let bound = [sharing, only, sharing].map(|options| t.bind("::", 53, options).unwrap());
        let tuple = |ends: [&str; 2]| Tuple {
            local: ends[0].parse().unwrap(),
            remote: ends[1].parse().unwrap(),
            local_port: 53,
            remote_port: 1,
        };
        let (six, four) = (["fd00::1", "fd00::2"], ["10.0.0.1", "10.0.0.2"]);
        for (closed, expected) in expected.into_iter().enumerate() {
            let takers: Vec<u32> = (1..200)
                .filter_map(|remote_port| {
                    let tuple = Tuple {
                        remote_port,
                        ..tuple(six)
                    };
                    t.ports.lookup(&t.sockets, (&tuple, Some(LINK)), None)
                })
                .collect();
            let group = |at: u32| t.sockets.at(at).unwrap().options.only_v6;
            assert!(takers.iter().all(|at| group(*at) == (expected == 1)));
            assert!(takers.contains(&bound[expected].index), "{closed}");
            let taker = t.ports.lookup(&t.sockets, (&tuple(four), Some(LINK)), None);
            assert!(!group(taker.unwrap()));
            t.close(bound[closed]);
        }
    }
}

const ADDRS: [&str; 6] = [
    "0.0.0.0",
    "::",
    "10.0.0.1",
    "10.0.0.2",
    "fd00::1",
    "::ffff:10.0.0.2",
];

#[derive(Debug, Clone)]
enum Op {
    /// Address, port, SO_REUSEADDR, SO_REUSEPORT, IPV6_V6ONLY, device.
    Bind(usize, u16, bool, bool, bool, Option<u8>),
    Connect(usize, usize, u16),
    Disconnect(usize),
    Close(usize),
    Rebind(usize, Option<u8>),
    /// Local and remote address and port, and the interface it came by.
    Lookup(usize, usize, u16, u16, u8),
}

fn op() -> impl Strategy<Value = Op> {
    let flag = || proptest::bool::weighted(0.6);
    let device = || proptest::option::weighted(0.4, 0..2u8);
    prop_oneof![
        (0..6usize, 1..4u16, flag(), flag(), any::<bool>(), device())
            .prop_map(|(a, p, x, y, z, d)| Op::Bind(a, p, x, y, z, d)),
        (0..32usize, 0..3usize, 1..3u16).prop_map(|(s, a, p)| Op::Connect(s, a, p)),
        (0..32usize).prop_map(Op::Disconnect),
        (0..32usize).prop_map(Op::Close),
        (0..32usize, device()).prop_map(|(s, d)| Op::Rebind(s, d)),
        (0..3usize, 0..3usize, 1..4u16, 1..3u16, 0..2u8)
            .prop_map(|(a, b, p, q, by)| Op::Lookup(a, b, p, q, by)),
    ]
}

/// The score of a socket that is connected to the sender, at least.
const CONNECTED: u32 = 20;

/// The kernel's way: look at every socket, score it, take the best.
fn score(s: &Socket, tuple: &Tuple, by: InterfaceId) -> Option<u32> {
    if s.options.device.is_some_and(|device| device != by) {
        return None;
    }
    let device = if s.options.device.is_some() { 4 } else { 0 };
    if s.local_port != tuple.local_port {
        return None;
    }
    let wild = s.local.is_unspecified()
        && (s.local.is_v4() == tuple.local.is_v4()
            || (s.local == Addr::UNSPECIFIED_V6 && !s.options.only_v6));
    if !(s.local == tuple.local || wild) {
        return None;
    }
    if s.connected() {
        return (s.remote == tuple.remote && s.remote_port == tuple.remote_port)
            .then_some(CONNECTED + device);
    }
    // Over IPv6 its wildcards are alike, whether or not they take IPv4.
    Some(match (wild, s.local.is_v4() == tuple.local.is_v4()) {
        (false, _) => 10 + device,
        (true, true) => 2 + device,
        (true, false) => 1 + device,
    })
}

fn overlaps(a: &Socket, b: &Socket) -> bool {
    if let (Some(a), Some(b)) = (a.options.device, b.options.device)
        && a != b
    {
        return false;
    }
    let v6_takes_v4 = |s: &Socket| s.local == Addr::UNSPECIFIED_V6 && !s.options.only_v6;
    if a.local.is_v4() != b.local.is_v4() {
        return v6_takes_v4(a) || v6_takes_v4(b);
    }
    a.local == b.local || a.local.is_unspecified() || b.local.is_unspecified()
}

proptest! {
    /// Binding and lookup agree with looking at every socket.
    #[test]
    fn ports_agree_with_a_list(ops in proptest::collection::vec(op(), 1..150)) {
        let locals = [Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2), Addr::from(core::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))];
        let remotes = [Addr::v4(10, 0, 9, 1), Addr::v4(10, 0, 9, 2), Addr::from(core::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 9, 1))];
        let mut t = Table::new();
        let mut live: Vec<Key> = Vec::new();
        for op in ops {
            match op {
                Op::Bind(a, port, reuse_addr, reuse_port, only_v6, device) => {
                    let device = device.map(InterfaceId);
                    let only_v6 = only_v6 && ADDRS[a].contains("::") && !ADDRS[a].contains('.');
                    let options = UdpOptions { reuse_addr, reuse_port, only_v6, device, ..PLAIN };
                    let new = socket(ADDRS[a], options);
                    let conflict = live.iter().any(|&key| {
                        let old = t.sockets.get(key).unwrap();
                        old.local_port == port
                            && overlaps(old, &new)
                            && !(old.options.reuse_addr && reuse_addr)
                            && !(old.options.reuse_port && reuse_port)
                    });
                    if live.len() < 32 {
                        let bound = t.bind(ADDRS[a], port, options);
                        prop_assert_eq!(bound.is_err(), conflict);
                        live.extend(bound);
                    }
                }
                Op::Connect(s, a, port) if s < live.len() => {
                    let bound = t.sockets.get(live[s]).unwrap().bound;
                    let local = if bound.is_unspecified() { locals[a] } else { bound };
                    t.connect(live[s], local, Some((remotes[a], port)));
                }
                Op::Disconnect(s) if s < live.len() => t.connect(live[s], Addr::UNSPECIFIED_V6, None),
                Op::Close(s) if s < live.len() => {
                    let key = live.swap_remove(s);
                    t.close(key);
                }
                Op::Rebind(s, device) if s < live.len() => t.rebind(live[s], device.map(InterfaceId)),
                Op::Lookup(a, b, local_port, remote_port, by) => {
                    let by = InterfaceId(by);
                    let tuple = Tuple { local: locals[a], remote: remotes[b], local_port, remote_port };
                    let best = live.iter().filter_map(|&k| score(t.sockets.get(k).unwrap(), &tuple, by)).max();
                    let found = t.ports.lookup(&t.sockets, (&tuple, Some(by)), None);
                    prop_assert_eq!(found.map(|at| score(t.sockets.at(at).unwrap(), &tuple, by).unwrap()), best);
                    let mut all = Vec::new();
                    t.ports.each(&t.sockets, (&tuple, Some(by)), |at| all.push(at));
                    let mut expected: Vec<u32> = live.iter().map(|k| k.index)
                        .filter(|&at| score(t.sockets.at(at).unwrap(), &tuple, by).is_some_and(|s| s < CONNECTED)).collect();
                    let connected = live.iter().any(|&k| score(t.sockets.get(k).unwrap(), &tuple, by) >= Some(CONNECTED));
                    all.retain(|&at| !t.sockets.at(at).unwrap().connected());
                    all.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(all, expected);
                    prop_assert!(!connected || best >= Some(CONNECTED));
                }
                _ => {}
            }
        }
        for key in live {
            t.close(key);
        }
        prop_assert_eq!(t.ports.records(), [0; 4]);
    }
}

fn note(n: u32) -> Note {
    Note {
        from: Addr::v4(10, 0, 0, n as u8),
        to: Addr::v4(10, 0, 0, 1),
        from_port: n as u16,
        interface: InterfaceId(0),
        ttl: 64,
        tos: 0,
        segment: 0,
        at: base::Instant::from_secs(0),
    }
}

fn payload(core: &mut Core, n: u32, len: usize) -> Chain {
    let mut chain = core.pool.alloc(42).unwrap();
    let bytes: Vec<u8> = (0..len).map(|i| (n as usize + i) as u8).collect();
    assert_eq!(core.pool.append_bytes(&mut chain, &bytes), len);
    chain
}

proptest! {
    /// A queue gives back what was put in, in order and whole, and never pins more of the pool than it is charged for.
    #[test]
    fn queue_agrees_with_a_list(
        limit in 2048..20_000u32,
        ops in proptest::collection::vec((0..3u8, prop_oneof![0..COPY + 2, 0..3000usize], 0..1500usize), 1..300),
    ) {
        let mut core = core();
        let mut nodes = Nodes::new(1024);
        let mut queue = Queue::new(limit, false);
        let mut model: std::collections::VecDeque<(u32, Vec<u8>)> = Default::default();
        for (n, (what, len, size)) in ops.into_iter().enumerate() {
            let n = n as u32;
            match what {
                0 => {
                    let chain = payload(&mut core, n, len);
                    let bytes: Vec<u8> = (0..len).map(|i| (n as usize + i) as u8).collect();
                    let refused = queue.push(&mut core, &mut nodes, &note(n), chain, size) as usize;
                    let parts: Vec<Vec<u8>> = if size == 0 || len <= size {
                        vec![bytes]
                    } else {
                        bytes.chunks(size).map(<[u8]>::to_vec).collect()
                    };
                    for part in &parts[..parts.len() - refused] {
                        model.push_back((n, part.clone()));
                    }
                }
                1 => {
                    let mut out = vec![0; size];
                    match (queue.peek(&nodes), model.pop_front()) {
                        (Some((note, len)), Some((n, bytes))) => {
                            prop_assert_eq!((u32::from(note.from_port), len), (n, bytes.len()));
                            let copied = queue.copy(&core, len, &mut out);
                            prop_assert_eq!(&out[..copied], &bytes[..size.min(len)]);
                            queue.pop(&mut core, &mut nodes);
                        }
                        (found, expected) => prop_assert!(found.is_none() && expected.is_none()),
                    }
                }
                _ => match (queue.pop_chain(&mut core, &mut nodes), model.pop_front()) {
                    (Some(chain), Some((_, bytes))) => {
                        let mut out = vec![0; bytes.len() + 1];
                        prop_assert_eq!(core.pool.copy_out(&chain, 0, &mut out), bytes.len());
                        prop_assert_eq!(&out[..bytes.len()], &bytes[..]);
                        core.pool.free(chain);
                    }
                    (found, expected) => prop_assert!(found.is_none() && expected.is_none()),
                },
            }
            prop_assert_eq!(nodes.len() as usize, model.len());
            prop_assert!(core.pool.in_use() * BLOCK as u32 <= queue.charged() + BLOCK as u32);
            prop_assert!(queue.charged() <= limit.max(BLOCK as u32 + OVERHEAD) || model.len() == 1);
        }
        queue.clear(&mut core, &mut nodes);
        prop_assert_eq!((nodes.len(), core.pool.in_use(), queue.charged()), (0, 0, 0));
    }
}

const BLOCK: usize = base::BLOCK;

/// UDP_GRO: what came together is one as far as Linux would join it, whether as one frame or as several.
#[test]
fn what_came_together_is_joined() {
    let mut core = core();
    let mut nodes = Nodes::new(1024);
    let mut queue = Queue::new(1 << 20, true);
    let mut joined = |pushed: &[(usize, usize)], change: fn(usize, &mut Note)| {
        for (n, &(len, size)) in pushed.iter().enumerate() {
            let (chain, mut note) = (payload(&mut core, 7, len), note(7));
            change(n, &mut note);
            assert_eq!(queue.push(&mut core, &mut nodes, &note, chain, size), 0);
        }
        let mut all = Vec::new();
        while let Some((note, len)) = queue.peek(&nodes) {
            all.push((len, note.segment));
            queue.pop(&mut core, &mut nodes);
        }
        assert_eq!((queue.charged(), core.pool.in_use()), (0, 0));
        all
    };
    let same = |_, _: &mut Note| {};
    let many = |lengths: &[usize]| lengths.iter().map(|len| (*len, 0)).collect::<Vec<_>>();
    assert_eq!(joined(&many(&[10]), same), [(10, 0)]);
    assert_eq!(joined(&many(&[10, 10, 4, 4]), same), [(24, 10), (4, 0)]);
    assert_eq!(joined(&many(&[10, 11]), same), [(10, 0), (11, 0)]);
    assert_eq!(joined(&many(&[0, 0]), same), [(0, 0), (0, 0)]);
    assert_eq!(joined(&many(&[9, 0, 9]), same), [(9, 0), (0, 0), (9, 0)]);
    assert_eq!(joined(&many(&[1400; 3]), same), [(4200, 1400)]);
    assert_eq!(joined(&many(&[1; 65]), same), [(64, 1), (1, 0)]);
    assert_eq!(
        joined(&many(&[1400; 47]), same),
        [(64_400, 1400), (1400, 0)]
    );
    // A frame of several is as it came, and may go on.
    assert_eq!(
        joined(&[(3000, 1000), (1000, 0), (10, 0)], same),
        [(4010, 1000)]
    );
    assert_eq!(
        joined(&[(3001, 1000), (10, 0)], same),
        [(3001, 1000), (10, 0)]
    );
    assert_eq!(joined(&[(10, 0), (20, 10)], same), [(10, 0), (20, 10)]);
    let unlike: [fn(usize, &mut Note); 7] = [
        |n, note| note.from = Addr::v4(10, 0, 0, n as u8),
        |n, note| note.to = Addr::v4(10, 0, 0, n as u8),
        |n, note| note.from_port = n as u16,
        |n, note| note.interface = InterfaceId(n as u8),
        |n, note| note.ttl = n as u8,
        |n, note| note.tos = n as u8,
        |n, note| note.at = base::Instant::from_secs(n as u64),
    ];
    for change in unlike {
        assert_eq!(joined(&many(&[10, 10]), change), [(10, 0), (10, 0)]);
    }
    let home = |_, note: &mut Note| note.interface = InterfaceId::LOOPBACK;
    assert_eq!(joined(&many(&[10, 10]), home), [(10, 0), (10, 0)]);
    assert_eq!(joined(&[(20, 10)], home), [(20, 10)]);
}

/// A train that is one is taken whole or not at all, and no more memory is held for it.
#[test]
fn what_is_joined_is_bounded() {
    let mut core = core();
    let mut nodes = Nodes::new(1024);
    let mut queue = Queue::new(100_000, true);
    let mut refused = 0;
    for n in 0..20 {
        let chain = payload(&mut core, n, 10_000);
        refused += queue.push(&mut core, &mut nodes, &note(7), chain, 1000);
    }
    assert!(core.pool.in_use() <= 50 && refused > 0 && refused % 10 == 0);
    assert_eq!(
        core.stats.drops.get(Drop::UdpReceiveBufferFull),
        refused.into()
    );
    queue.clear(&mut core, &mut nodes);
    assert_eq!((core.pool.in_use(), nodes.len()), (0, 0));
}

/// A flood of datagrams of any size, read or not, holds no more memory than the socket may.
#[test]
fn floods_are_bounded() {
    for len in [0, 1, 64, COPY, COPY + 1, 1472] {
        let mut core = core();
        let mut nodes = Nodes::new(65_536);
        let mut queue = Queue::new(100_000, false);
        for n in 0..5000 {
            let chain = payload(&mut core, n, len);
            queue.push(&mut core, &mut nodes, &note(n), chain, 0);
        }
        assert!(core.pool.in_use() <= 50, "{len}: {}", core.pool.in_use());
        assert!(nodes.len() >= 46, "{len}: {}", nodes.len());
        assert_eq!(
            core.stats.drops.get(Drop::UdpReceiveBufferFull),
            u64::from(5000 - nodes.len())
        );
        queue.clear(&mut core, &mut nodes);
        assert_eq!(core.pool.in_use(), 0);
    }
}

/// Socket addresses keep the family of the socket, and zones name interfaces.
#[test]
fn presented_addresses() {
    let v4 = Addr::v4(10, 0, 0, 1);
    let show = |addr: &Addr, v6| super::socket::present(addr, 53, v6, Some(InterfaceId(2)));
    assert_eq!(
        show(&v4, false),
        "10.0.0.1:53".parse::<SocketAddr>().unwrap()
    );
    assert_eq!(
        show(&v4, true),
        "[::ffff:10.0.0.1]:53".parse::<SocketAddr>().unwrap()
    );
    let ll = Addr::from(core::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
    assert_eq!(
        show(&ll, true),
        "[fe80::1%3]:53".parse::<SocketAddr>().unwrap()
    );
}
