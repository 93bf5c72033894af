//! Checks with many small things: parallel connections, short lives, datagrams.
//!
//! What does not live here: bulk over one connection (`transfer`).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::board::{Finding, Gauge};
use super::client::Client;
use super::{micros, quantile};
use crate::http::pattern;
use crate::units;

/// The sizes of the datagrams: one byte, a full frame, the first that is cut in two, the largest most programs send.
const DATAGRAM_SIZES: [usize; 5] = [1, 512, 1_452, 1_473, 8_192];

/// How long an echoed datagram may take.
const DATAGRAM_PATIENCE: Duration = Duration::from_secs(2);

/// `n` connections, all open before the first byte is sent; each echoes `len` bytes of its own.
pub(super) async fn parallel(
    to: SocketAddr,
    n: usize,
    len: usize,
    gauge: &Gauge,
) -> io::Result<Finding> {
    gauge.expect(n as u64);
    let start = Instant::now();
    let mut opening = JoinSet::new();
    for _ in 0..n {
        opening.spawn(TcpStream::connect(to));
    }
    let mut streams = Vec::with_capacity(n);
    let mut failures = Failures::default();
    while let Some(opened) = opening.join_next().await {
        match opened? {
            Ok(stream) => streams.push(stream),
            Err(error) => failures.add(&error),
        }
    }
    failures.none("connections could not be opened")?;
    let opened = start.elapsed();
    let mut echoing = JoinSet::new();
    for (at, stream) in streams.into_iter().enumerate() {
        echoing.spawn(echo(stream, at as u64 * 4_099, len));
    }
    while let Some(echoed) = echoing.join_next().await {
        match echoed? {
            Ok(()) => gauge.add(1),
            Err(error) => failures.add(&error),
        }
    }
    failures.none("connections did not echo what they were sent")?;
    let took = start.elapsed();
    let bytes = (n * len) as u64;
    Ok(Finding {
        detail: format!("all opened in {}, bytes equal", units::duration(opened)),
        measures: vec![
            ("connections", n as f64),
            ("open_milliseconds", micros(opened) / 1e3),
            ("bytes", bytes as f64),
            (
                "bits_per_second",
                units::bits_per_second(bytes, took).round(),
            ),
        ],
    })
}

/// Sends `len` bytes of the pattern from `offset` on, and compares what comes back while it does.
async fn echo(mut stream: TcpStream, offset: u64, len: usize) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let send = async {
        let mut sent = 0;
        while sent < len {
            let piece = pattern::slice_at(offset + sent as u64, (len - sent) as u64);
            writer.write_all(&piece).await?;
            sent += piece.len();
        }
        writer.shutdown().await
    };
    let receive = async {
        let mut buf = vec![0; 16 * 1024];
        let mut received = 0_usize;
        loop {
            let got = reader.read(&mut buf).await?;
            if got == 0 {
                break;
            }
            if received + got > len {
                return Err(io::Error::other("more bytes came back than were sent"));
            }
            let mut at = 0;
            while at < got {
                let expected =
                    pattern::slice_at(offset + (received + at) as u64, (got - at) as u64);
                if buf[at..at + expected.len()] != expected {
                    return Err(io::Error::other("other bytes came back"));
                }
                at += expected.len();
            }
            received += got;
        }
        if received < len {
            return Err(io::Error::other("fewer bytes came back than were sent"));
        }
        Ok(())
    };
    tokio::try_join!(send, receive).map(drop)
}

/// `n` times: connect, one request, its answer, the end; `at_once` at a time.
pub(super) async fn cycles(
    to: SocketAddr,
    n: u64,
    at_once: usize,
    gauge: &Arc<Gauge>,
) -> io::Result<Finding> {
    gauge.expect(n);
    let left = Arc::new(AtomicU64::new(n));
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..at_once {
        let (left, gauge) = (Arc::clone(&left), Arc::clone(gauge));
        workers.spawn(async move {
            let (mut times, mut failures) = (Vec::new(), Failures::default());
            let take = |left: u64| left.checked_sub(1);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
            {
                let began = Instant::now();
                match cycle(to).await {
                    Ok(()) => times.push(began.elapsed()),
                    Err(error) => failures.add(&error),
                }
                gauge.add(1);
            }
            (times, failures)
        });
    }
    let (mut times, mut failures) = (Vec::new(), Failures::default());
    while let Some(done) = workers.join_next().await {
        let (some_times, some_failures) = done?;
        times.extend(some_times);
        failures.merge(some_failures);
    }
    let took = start.elapsed();
    failures.none("cycles failed")?;
    times.sort_unstable();
    let rate = n as f64 / took.as_secs_f64();
    let (median, late) = (quantile(&times, 0.5), quantile(&times, 0.99));
    Ok(Finding {
        detail: format!(
            "{}/s, p50 {}, p99 {}",
            units::count(rate as u64),
            units::duration(median),
            units::duration(late)
        ),
        measures: vec![
            ("cycles", n as f64),
            ("cycles_per_second", rate.round()),
            ("median_microseconds", micros(median)),
            ("p99_microseconds", micros(late)),
        ],
    })
}

async fn cycle(to: SocketAddr) -> io::Result<()> {
    let mut client = Client::connect_small(to).await?;
    client.get("/health").await?;
    match client.finish().await?.as_slice() {
        b"ok\n" => Ok(()),
        _ => Err(io::Error::other("the answer has other bytes")),
    }
}

/// `n` datagrams one after the other, of sizes that fit and sizes that are fragmented.
pub(super) async fn datagrams(to: SocketAddr, n: u64, gauge: &Gauge) -> io::Result<Finding> {
    gauge.expect(n);
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    let mut buf = vec![0; 65_536];
    let mut times = Vec::new();
    for at in 0..n {
        let size = DATAGRAM_SIZES[at as usize % DATAGRAM_SIZES.len()];
        let sent = pattern::slice_at(at * 8_209, size as u64);
        let began = Instant::now();
        socket.send(&sent).await?;
        let received = tokio::time::timeout(DATAGRAM_PATIENCE, socket.recv(&mut buf)).await;
        let len = received.map_err(|_| {
            io::Error::other(format!("no echo of datagram {} ({size} bytes)", at + 1))
        })??;
        if buf[..len] != sent {
            return Err(io::Error::other(format!(
                "datagram {} ({size} bytes) came back with other bytes",
                at + 1
            )));
        }
        times.push(began.elapsed());
        gauge.add(1);
    }
    times.sort_unstable();
    let median = quantile(&times, 0.5);
    Ok(Finding {
        detail: format!(
            "{0} of {0}, median {1}",
            units::count(n),
            units::duration(median)
        ),
        measures: vec![
            ("datagrams", n as f64),
            ("median_microseconds", micros(median)),
        ],
    })
}

/// What went wrong how often, told in one line.
#[derive(Default)]
struct Failures(BTreeMap<String, u64>);

impl Failures {
    fn add(&mut self, error: &io::Error) {
        *self.0.entry(error.to_string()).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        for (error, n) in other.0 {
            *self.0.entry(error).or_default() += n;
        }
    }

    /// An error that counts them, when there are any.
    fn none(&self, what: &str) -> io::Result<()> {
        let total: u64 = self.0.values().sum();
        match self.0.iter().max_by_key(|(_, n)| **n) {
            None => Ok(()),
            Some((error, n)) => Err(io::Error::other(format!(
                "{total} {what}; {n} times: {error}"
            ))),
        }
    }
}
