//! What waiting costs as a set of sources grows, of which as many as before are active: `base::epoll` alone, and `Poll` over the
//! sockets of a host.
//!
//! What does not live here: how soon who sleeps is woken, which is the scheduler's.

use std::hint::black_box;
use std::time::Duration;

use base::SipKey;
use base::epoll::{EPOLLET, EPOLLIN, Epoll, EpollEvent, RAISED_IN, SetId, SourceId};
use millstream::{Config, Events, Host, Interest, Poll, Token, UdpSocket};
use port::ring::{RingOptions, RingPort, pair};
use wire::Mac;

use crate::Args;
use crate::measure::{median, ns_per_op};
use crate::report::{Report, human};

/// Sources that are active in every set, and the small set's sources in all.
const ACTIVE: usize = 100;
/// Events and empty waits between two looks at the clock.
const ROUND: usize = 4_096;
/// Sockets bound to one address.
const PER_ADDRESS: usize = 50_000;
/// What a bound socket takes at most, with all that belongs to it.
const SOCKET_BYTES: usize = 4 << 10;

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let many = if args.smoke { 10_000 } else { 1_000_000 };
    let sockets = match available() {
        Some(bytes) if bytes / SOCKET_BYTES < many => bytes / SOCKET_BYTES,
        _ => many,
    };
    let mut report = Report::new(
        "events: CPU ns, medians; 100 sources are active in each set",
        &["what", "sources", "of 100", "of all", "ratio"],
        args.json,
    );
    let time = args.seconds() / 4.0;
    let mut rows = |names: &[&str], sources: usize, few: &[f64], all: &[f64]| {
        for (at, name) in names.iter().enumerate() {
            report.row(&[
                (*name).to_string(),
                human(sources as f64),
                format!("{:.1}", few[at]),
                format!("{:.1}", all[at]),
                format!("{:.2}x", all[at] / few[at]),
            ]);
        }
    };
    let of = |sources| sets(sources, args.runs, time);
    let names = [
        "epoll: wait, an event that lasts",
        "epoll: raise and wait, an edge",
        "epoll: empty wait",
    ];
    rows(&names, many, &of(ACTIVE)?, &of(many)?);
    if sockets >= 2 * ACTIVE {
        let of = |sockets| polls(sockets, args.runs, time).map_err(|why| why.to_string());
        let names = ["Poll: wait, an event that lasts", "Poll: empty wait"];
        rows(&names, sockets, &of(ACTIVE)?, &of(sockets)?);
    }
    report.note("bar: within 20 % of what the set of 100 costs");
    if sockets < many {
        report.note(format!(
            "the memory that is free carries {} sockets",
            human(sockets as f64)
        ));
    }
    report.print();
    Ok(())
}

/// Memory that can be had, bytes.
fn available() -> Option<usize> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// The places of those that are active, far from each other.
fn active(sources: usize) -> impl Iterator<Item = usize> {
    (0..ACTIVE).map(move |at| at * (sources / ACTIVE))
}

/// The median of some measurements of `work`, which says how many operations it did.
fn repeat(runs: usize, time: f64, mut work: impl FnMut() -> u64) -> f64 {
    let costs: Vec<f64> = (0..runs.max(1))
        .map(|_| ns_per_op(time, &mut work))
        .collect();
    median(&costs)
}

/// A set that watches `sources` leaves, each told as `how` says.
fn set(sources: usize, how: u32) -> Option<(Epoll, SetId, Vec<SourceId>)> {
    let mut epoll = Epoll::with_capacity(1, sources as u32, SipKey([7; 16]));
    let set = epoll.create()?;
    let mut ids = Vec::with_capacity(sources);
    for at in 0..sources as u64 {
        let source = epoll.source(None, at)?;
        let wanted = EpollEvent {
            events: how,
            data: at,
        };
        epoll.add(set, (source, 0), wanted, &mut |_| 0).ok()?;
        ids.push(source);
    }
    Some((epoll, set, ids))
}

fn sets(sources: usize, runs: usize, time: f64) -> Result<[f64; 3], String> {
    let none = || "a set has no room".to_string();
    let mut levels = vec![0; sources];
    let (mut epoll, id, ids) = set(sources, EPOLLIN).ok_or_else(none)?;
    for at in active(sources) {
        levels[at] = EPOLLIN;
        epoll.raise(ids[at], RAISED_IN);
    }
    let take = |epoll: &mut Epoll, id, levels: &[u32]| {
        let mut level = |word| levels[word as usize];
        let told = epoll.take(id, 2 * ACTIVE, &mut level, &mut |event| {
            black_box(event);
        });
        told.unwrap_or(0) as u64
    };
    let lasting = repeat(runs, time, || {
        let rounds = (0..ROUND / ACTIVE).map(|_| take(&mut epoll, id, &levels));
        rounds.sum()
    });
    let quiet = vec![0; sources];
    let empty = repeat(runs, time, || {
        for _ in 0..ROUND {
            assert_eq!(take(&mut epoll, id, &quiet), 0, "nothing is ready");
        }
        ROUND as u64
    });
    drop((epoll, ids));
    let (mut epoll, id, ids) = set(sources, EPOLLIN | EPOLLET).ok_or_else(none)?;
    let edge = repeat(runs, time, || {
        let rounds = (0..ROUND / ACTIVE).map(|_| {
            for at in active(sources) {
                epoll.raise(ids[at], RAISED_IN);
            }
            take(&mut epoll, id, &levels)
        });
        rounds.sum()
    });
    Ok([lasting, edge, empty])
}

/// A host with room for so many sockets, and its addresses, on a ring whose other end is silent.
fn host(sockets: usize) -> Result<(Host, Vec<String>, RingPort), Box<dyn std::error::Error>> {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (port, silent) = pair(macs, &RingOptions::default())?;
    let addresses: Vec<String> = (0..sockets.div_ceil(PER_ADDRESS))
        .map(|at| format!("10.0.0.{}", at + 1))
        .collect();
    let mut builder = Host::builder().port(port).config(Config {
        udp_sockets: sockets as u32 + 1,
        duplicate_detection: false,
        ..Config::default()
    });
    for address in &addresses {
        builder = builder.address(format!("{address}/24"));
    }
    Ok((builder.start()?, addresses, silent))
}

fn polls(sockets: usize, runs: usize, time: f64) -> Result<[f64; 2], Box<dyn std::error::Error>> {
    let (host, addresses, _silent) = host(sockets)?;
    let mut poll = Poll::with_capacity(sockets)?;
    let bind = |at: usize| {
        let port = 1_024 + (at % PER_ADDRESS) as u16;
        host.udp_bind((addresses[at / PER_ADDRESS].as_str(), port))
    };
    let bound: Vec<UdpSocket> = (0..sockets)
        .map(|at| {
            let socket = bind(at)?;
            let how = Interest::READABLE.level();
            poll.registry().register(&socket, Token(at), how)?;
            Ok(socket)
        })
        .collect::<std::io::Result<_>>()?;
    let sender = host.udp_bind((addresses[0].as_str(), 0))?;
    for at in active(sockets) {
        sender.send_to(b"unread", bound[at].local_addr()?)?;
    }
    let mut events = Events::with_capacity(2 * ACTIVE);
    let mut now = |poll: &mut Poll| -> u64 {
        let told = poll.poll(&mut events, Some(Duration::ZERO));
        told.map_or(0, |()| events.iter().len() as u64)
    };
    while now(&mut poll) < ACTIVE as u64 {
        std::thread::yield_now();
    }
    let lasting = repeat(runs, time, || {
        (0..ROUND / ACTIVE).map(|_| now(&mut poll)).sum()
    });
    for at in active(sockets) {
        bound[at].recv_from(&mut [0; 16])?;
    }
    let empty = repeat(runs, time, || {
        for _ in 0..ROUND {
            assert_eq!(now(&mut poll), 0, "nothing is ready");
        }
        ROUND as u64
    });
    Ok([lasting, empty])
}
