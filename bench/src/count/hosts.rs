//! Millstream's two hosts.
//!
//! What does not live here: counting.

use std::net::SocketAddr;
use std::time::Duration;

use base::{Instant, Rng};
use stack::{Config, Event, Host, Ready, SocketId, TcpOptions, UdpOptions};

use crate::shard::{Shard, cable};

const SIZE: usize = 64;
const CONNECTIONS: usize = 1_000;
/// Requests, datagrams or lives at a time.
const AT_ONCE: usize = 64;
const SERVER: &str = "10.0.0.1:7000";
/// Half of a round trip.
const WAY: Duration = Duration::from_micros(10);

struct Pair {
    client: Shard,
    server: Shard,
    now: Instant,
    listener: SocketId,
    datagrams: SocketId,
    options: TcpOptions,
    buffer: Box<[u8; 4096]>,
}

impl Pair {
    fn new() -> Result<Self, String> {
        let ports = cable()?;
        let client = Shard::new(config(), ports.0, &["10.0.0.2/24".into()], 1)?;
        let mut server = Shard::new(config(), ports.1, &["10.0.0.1/24".into()], 2)?;
        let (now, local) = (client.now, address(SERVER)?);
        let options = TcpOptions {
            nodelay: true,
            ..server.host.tcp_defaults()
        };
        let refused = |e: stack::SocketError| e.to_string();
        let host = &mut server.host;
        let listener = host
            .tcp_listen(now, local, 65_535, &options)
            .map_err(refused)?;
        let datagrams = host
            .udp_bind(now, local, &UdpOptions::default())
            .map_err(refused)?;
        Ok(Self {
            client,
            server,
            now,
            listener,
            datagrams,
            options,
            buffer: Box::new([0; 4096]),
        })
    }

    /// Lets both act until neither has anything to do.
    fn settle(&mut self, last: bool, mut heard: impl FnMut(&mut Host, Instant, Event)) {
        loop {
            let asked = self.client.turn_at(self.now, &mut heard);
            self.now += WAY;
            let (sockets, buffer) = ((self.listener, self.datagrams), &mut *self.buffer);
            let answered = self.server.turn_at(self.now, &mut |host, now, event| {
                answer(host, now, &event, sockets, buffer, last);
            });
            self.now += WAY;
            if !asked && !answered {
                return;
            }
        }
    }

    fn connect(&mut self) -> Result<SocketId, String> {
        let remote = address(SERVER)?;
        let host = &mut self.client.host;
        host.tcp_connect(self.now, remote, None, &self.options)
            .map_err(|e| e.to_string())
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|e| format!("{text}: {e}"))
}

fn config() -> Config {
    Config {
        pool_blocks: 16 * 1024,
        tcp_connections: 4096,
        tcp_active: 4096,
        tcp_half_open: 1024,
        tcp_time_wait: 65_536,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    }
}

/// The server's application; `last`: it closes behind its answer.
fn answer(
    host: &mut Host,
    now: Instant,
    event: &Event,
    (listener, datagrams): (SocketId, SocketId),
    buffer: &mut [u8],
    last: bool,
) {
    if event.socket == listener {
        while host.tcp_accept(now, listener).is_ok() {}
    } else if event.socket == datagrams {
        while let Ok((len, from)) = host.udp_recv_from(datagrams, buffer) {
            let _ = host.udp_send_to(now, datagrams, &buffer[..len], Some(from));
        }
    } else if event.ready.contains(Ready::READABLE) {
        match host.tcp_recv(now, event.socket, buffer) {
            Ok(1..) => {
                let _ = host.tcp_send(now, event.socket, &[b'r'; SIZE]);
                if last {
                    let _ = host.close(now, event.socket);
                }
            }
            Ok(0) => {
                let _ = host.close(now, event.socket);
            }
            Err(_) => {}
        }
    }
}

/// Requests and answers, on connections picked at random.
pub(super) fn requests(times: u32) -> Result<(), String> {
    let mut pair = Pair::new()?;
    let mut sockets = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        sockets.push(pair.connect()?);
        pair.settle(false, |_, _, _| {});
    }
    let (mut rng, mut buffer) = (Rng::from_seed(7), [0; 256]);
    let mut answered = 0;
    while answered < times {
        // Neighbours of one picked at random: none is asked twice at a time.
        let first = rng.below(CONNECTIONS as u32) as usize;
        for at in 0..AT_ONCE.min((times - answered) as usize) {
            let socket = sockets[(first + at) % CONNECTIONS];
            let sent = pair.client.host.tcp_send(pair.now, socket, &[b'q'; SIZE]);
            sent.map_err(|e| format!("a request: {e}"))?;
        }
        let before = answered;
        pair.settle(false, |host, now, event| {
            let read = host.tcp_recv(now, event.socket, &mut buffer);
            answered += u32::from(read.is_ok_and(|n| n > 0));
        });
        if answered == before {
            return Err(format!("no answer after {answered}"));
        }
    }
    Ok(())
}

/// Datagrams and their echoes.
pub(super) fn datagrams(times: u32) -> Result<(), String> {
    let mut pair = Pair::new()?;
    let remote = address(SERVER)?;
    let mut sockets = Vec::with_capacity(AT_ONCE);
    let host = &mut pair.client.host;
    for at in 0..AT_ONCE {
        let local = SocketAddr::from(([10, 0, 0, 2], 2000 + at as u16));
        let socket = host.udp_bind(pair.now, local, &UdpOptions::default());
        sockets.push(socket.map_err(|e| e.to_string())?);
    }
    let (mut echoed, mut buffer) = (0, [0; 256]);
    while echoed < times {
        for &socket in sockets.iter().take((times - echoed) as usize) {
            let host = &mut pair.client.host;
            let sent = host.udp_send_to(pair.now, socket, &[b'q'; SIZE], Some(remote));
            sent.map_err(|e| format!("a datagram: {e}"))?;
        }
        let before = echoed;
        pair.settle(false, |host, _, event| {
            while host.udp_recv_from(event.socket, &mut buffer).is_ok() {
                echoed += 1;
            }
        });
        if echoed == before {
            return Err(format!("no echo after {echoed}"));
        }
    }
    Ok(())
}

/// Whole lives, closed by the server.
pub(super) fn lives(times: u32) -> Result<(), String> {
    let mut pair = Pair::new()?;
    let (mut done, mut buffer) = (0, [0; 256]);
    while done < times {
        for _ in 0..AT_ONCE.min((times - done) as usize) {
            pair.connect()?;
        }
        let before = done;
        pair.settle(true, |host, now, event| {
            if event.ready.contains(Ready::READABLE) {
                // The answer, and the end behind it.
                if (0..2).any(|_| host.tcp_recv(now, event.socket, &mut buffer) == Ok(0)) {
                    let _ = host.close(now, event.socket);
                    done += 1;
                }
            } else if event.ready.contains(Ready::WRITABLE) {
                let _ = host.tcp_send(now, event.socket, &[b'q'; SIZE]);
            }
        });
        if done == before {
            return Err(format!("no life came to its end after {done}"));
        }
    }
    Ok(())
}
