//! The end that is measured: it answers whatever comes.
//!
//! What does not live here: who asks (`client`).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use base::Instant;
use port::ring::RingPort;
use stack::{Event, Host, Ready, SocketError, SocketId, TcpOptions, UdpOptions};

use super::{Load, Mode, PORT, SIZE, config};
use crate::measure::{cycles_per_ns, pin, thread_cpu};
use crate::shard::Shard;

/// Shared between the two threads of a run.
#[derive(Default)]
pub(super) struct Gauge {
    pub(super) stop: AtomicBool,
    /// Bumped to make the server start its figures afresh.
    pub(super) phase: AtomicU32,
}

/// What the server saw of itself.
#[derive(Default, Clone, Copy)]
pub(super) struct Served {
    /// Operations per busy second.
    pub(super) rate: f64,
    /// Cycles per frame, in and out.
    pub(super) cycles_per_frame: f64,
    /// An idle turn, ns.
    pub(super) idle_turn: f64,
}

/// Answers every request and every datagram; with [`Mode::Life`] it closes after the reply.
pub(super) fn serve(
    load: Load,
    seed: u64,
    port: RingPort,
    gauge: &Gauge,
) -> Result<Served, String> {
    pin(0);
    let address = "10.0.0.1/24".to_string();
    let mut shard = Shard::new(config(load.sockets), port, &[address], seed)?;
    let options = TcpOptions {
        nodelay: true,
        ..TcpOptions::default()
    };
    let local = format!("0.0.0.0:{PORT}")
        .parse()
        .map_err(|e| format!("{e}"))?;
    let (now, host) = (shard.now, &mut shard.host);
    let fail = |e: SocketError| e.to_string();
    let listener = host
        .tcp_listen(now, local, 65_535, &options)
        .map_err(fail)?;
    let datagrams = host
        .udp_bind(now, local, &UdpOptions::default())
        .map_err(fail)?;
    let mut served = 0u64;
    let mut phase = 0;
    while !gauge.stop.load(Ordering::Acquire) {
        if gauge.phase.load(Ordering::Acquire) != phase {
            phase = gauge.phase.load(Ordering::Acquire);
            shard.reset();
            served = 0;
        }
        shard.turn(&mut |host, now, event| {
            if event.socket == listener {
                while host.tcp_accept(now, listener).is_ok() {}
            } else if event.socket == datagrams {
                served += echo(host, now, datagrams);
            } else if event.ready.intersects(Ready::READABLE) {
                served += reply(host, now, &event, load.mode == Mode::Life);
            }
        });
    }
    let (busy, frames) = (shard.cpu_busy(), shard.frames);
    Ok(Served {
        rate: served as f64 / busy,
        cycles_per_frame: busy * 1e9 * cycles_per_ns() / frames as f64,
        idle_turn: idle_turn(&mut shard) * 1e9,
    })
}

/// Sends every datagram back. Returns how many.
fn echo(host: &mut Host, now: Instant, socket: SocketId) -> u64 {
    let mut buffer = [0; SIZE];
    let mut echoed = 0;
    while let Ok((len, from)) = host.udp_recv_from(socket, &mut buffer) {
        let _ = host.udp_send_to(now, socket, &buffer[..len], Some(from));
        echoed += 1;
    }
    echoed
}

/// Answers one request. Returns how many requests that were.
fn reply(host: &mut Host, now: Instant, event: &Event, last: bool) -> u64 {
    let mut buffer = [0; 4096];
    match host.tcp_recv(now, event.socket, &mut buffer) {
        Ok(0) => {
            let _ = host.close(now, event.socket);
            0
        }
        Ok(_) => {
            let _ = host.tcp_send(now, event.socket, &[b'r'; SIZE]);
            if last {
                let _ = host.close(now, event.socket);
            }
            1
        }
        Err(SocketError::WouldBlock) => 0,
        Err(_) => {
            let _ = host.abort(now, event.socket);
            0
        }
    }
}

/// CPU seconds of a turn that finds nothing to do.
fn idle_turn(shard: &mut Shard) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..100 {
        let begin = thread_cpu();
        let mut quiet = true;
        for _ in 0..1000 {
            quiet &= !shard.turn(&mut |_, _, _| {});
        }
        if quiet {
            best = best.min((thread_cpu() - begin) / 1000.0);
        }
    }
    if best == f64::MAX { 0.0 } else { best }
}
