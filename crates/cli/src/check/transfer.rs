//! Checks that move much over one connection: the page, downloads and uploads with digests, throughput.
//!
//! What does not live here: many connections at a time (`load`).

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::board::{Finding, Gauge};
use super::client::Client;
use crate::http::pattern;
use crate::units;

/// Bytes handed to the kernel at once when sending: one chunk of a chunked body.
const CHUNK: u64 = 256 * 1024;

/// The server's word on what it received or would send.
#[derive(Debug, Deserialize)]
struct Said {
    length: u64,
    sha256: Option<String>,
}

/// The live page: the very bytes this program was built with.
pub(super) async fn page(to: SocketAddr, gauge: &Gauge) -> io::Result<Finding> {
    let start = Instant::now();
    let mut client = Client::connect(to).await?;
    gauge.expect(client.get("/").await?);
    let body = client.finish().await?;
    let took = start.elapsed();
    if body != crate::http::PAGE.as_bytes() {
        return Err(wrong("the page arrived with other bytes"));
    }
    Ok(Finding {
        detail: format!(
            "200 OK, {} in {}",
            units::bytes(body.len() as u64),
            units::duration(took)
        ),
        measures: vec![("bytes", body.len() as f64)],
    })
}

/// `len` bytes down; their digest must be the one the server announces.
pub(super) async fn download(to: SocketAddr, len: u64, gauge: &Gauge) -> io::Result<Finding> {
    let announced = announced(to, len).await?;
    let mut client = Client::connect(to).await?;
    let start = Instant::now();
    let promised = client.get(&format!("/bytes/{len}")).await?;
    if promised != len {
        return Err(wrong(format!("the answer promises {promised} bytes")));
    }
    gauge.expect(len);
    let mut hasher = Sha256::new();
    loop {
        let piece = client.piece().await?;
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        gauge.add(piece.len() as u64);
    }
    let took = start.elapsed();
    digests_agree(&announced, &pattern::hex(hasher))?;
    Ok(moved(len, took, ", digests equal"))
}

/// `len` bytes up; the server must have received as many with the digest they have.
pub(super) async fn upload(to: SocketAddr, len: u64, gauge: &Gauge) -> io::Result<Finding> {
    let announced = announced(to, len).await?;
    let mut client = Client::connect(to).await?;
    gauge.expect(len);
    let start = Instant::now();
    client.post("/upload", Some(len)).await?;
    let mut sent = 0;
    while sent < len {
        let piece = pattern::slice_at(sent, len - sent);
        client.send(&piece).await?;
        sent += piece.len() as u64;
        gauge.add(piece.len() as u64);
    }
    client.head().await?;
    let took = start.elapsed();
    let said = said(&client.finish().await?)?;
    if said.length != len {
        return Err(wrong(format!(
            "the server received {} of {len} bytes",
            said.length
        )));
    }
    digests_agree(&announced, said.sha256.as_deref().unwrap_or("none"))?;
    Ok(moved(len, took, ", digests equal"))
}

/// As many bytes as arrive in `period`.
pub(super) async fn receive(
    to: SocketAddr,
    period: Duration,
    gauge: &Gauge,
) -> io::Result<Finding> {
    let mut client = Client::connect(to).await?;
    gauge.expect(period.as_millis() as u64);
    client.get(&format!("/bytes/{}", 1_u64 << 50)).await?;
    let mut clock = Clock::start(period, gauge);
    let mut received = 0;
    while clock.runs() {
        let piece = client.piece().await?;
        if piece.is_empty() {
            return Err(wrong("the download ended early"));
        }
        received += piece.len() as u64;
    }
    Ok(moved(received, clock.took(), ""))
}

/// As many bytes as the server counts in `period`.
pub(super) async fn send(to: SocketAddr, period: Duration, gauge: &Gauge) -> io::Result<Finding> {
    let mut client = Client::connect(to).await?;
    gauge.expect(period.as_millis() as u64);
    client.post("/discard", None).await?;
    let mut chunk = format!("{CHUNK:x}\r\n").into_bytes();
    chunk.extend_from_slice(&pattern::slice_at(0, CHUNK));
    chunk.extend_from_slice(b"\r\n");
    let mut clock = Clock::start(period, gauge);
    let mut sent = 0;
    while clock.runs() {
        client.send(&chunk).await?;
        sent += CHUNK;
    }
    client.send(b"0\r\n\r\n").await?;
    // The server's answer comes when it has read everything, so the queues are counted with the rest.
    client.head().await?;
    let took = clock.took();
    let said = said(&client.finish().await?)?;
    if said.length != sent {
        return Err(wrong(format!(
            "the server received {} of {sent} bytes",
            said.length
        )));
    }
    Ok(moved(sent, took, ""))
}

/// Runs for a period and moves the gauge with the time.
struct Clock<'a> {
    start: Instant,
    period: Duration,
    shown: u64,
    gauge: &'a Gauge,
}

impl<'a> Clock<'a> {
    fn start(period: Duration, gauge: &'a Gauge) -> Self {
        Self {
            start: Instant::now(),
            period,
            shown: 0,
            gauge,
        }
    }

    fn runs(&mut self) -> bool {
        let passed = self.took().min(self.period);
        let millis = passed.as_millis() as u64;
        self.gauge.add(millis - self.shown);
        self.shown = millis;
        passed < self.period
    }

    fn took(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The digest of `/bytes/len` by the server's word.
async fn announced(to: SocketAddr, len: u64) -> io::Result<String> {
    let mut client = Client::connect(to).await?;
    client.get(&format!("/digest/{len}")).await?;
    let said = said(&client.finish().await?)?;
    said.sha256
        .ok_or_else(|| wrong("the server announces no digest"))
}

fn said(body: &[u8]) -> io::Result<Said> {
    serde_json::from_slice(body)
        .map_err(|error| wrong(format!("the answer is not what it should be: {error}")))
}

fn digests_agree(announced: &str, found: &str) -> io::Result<()> {
    if announced == found {
        return Ok(());
    }
    Err(wrong(format!("SHA-256 {found} instead of {announced}")))
}

fn moved(bytes: u64, took: Duration, more: &str) -> Finding {
    let rate = units::bits_per_second(bytes, took);
    Finding {
        detail: format!("{}{more}", units::bit_rate(bytes, took)),
        measures: vec![("bytes", bytes as f64), ("bits_per_second", rate.round())],
    }
}

fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::other(why.into())
}
