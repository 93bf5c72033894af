//! The end that asks.
//!
//! What does not live here: who answers, and is measured (`server`).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as Wall};

use base::{Instant, Rng};
use stack::{Event, Host, Ready, SocketId, TcpOptions, UdpOptions};

use super::server::Gauge;
use super::{AT_ONCE, Load, Mode, PORT, SIZE, rss};
use crate::shard::Shard;

pub(super) struct Client {
    pub(super) shard: Shard,
    /// Own addresses; sockets take them in turn.
    pub(super) addresses: Vec<String>,
    pub(super) rng: Rng,
    /// Sockets that stay open; a socket's token is its place here.
    pub(super) sockets: Vec<SocketId>,
    pub(super) options: TcpOptions,
    opened: usize,
}

impl Client {
    pub(super) fn new(shard: Shard, addresses: Vec<String>, seed: u64) -> Self {
        Self {
            shard,
            addresses,
            rng: Rng::from_seed(seed),
            sockets: Vec::new(),
            options: TcpOptions {
                nodelay: true,
                ..TcpOptions::default()
            },
            opened: 0,
        }
    }

    /// Does what `load` says for `seconds`. Returns the bytes by which each idle connection and end let the process grow
    /// (`before`: its size at the start).
    pub(super) fn drive(
        &mut self,
        load: Load,
        seconds: f64,
        gauge: &Gauge,
        before: u64,
    ) -> Result<f64, String> {
        match load.mode {
            Mode::Datagram => self.bind_all(load.sockets)?,
            Mode::Request => self.open_all(load.sockets)?,
            Mode::Life => self.open_all(load.sockets - AT_ONCE)?,
        }
        let grown = rss().saturating_sub(before) as f64 / (2 * load.sockets) as f64;
        if load.mode == Mode::Life {
            self.lives(0.2)?;
            gauge.phase.fetch_add(1, Ordering::Release);
            self.lives(seconds)?;
            return Ok(0.0);
        }
        // A warm-up, so that few connections are still in their quick-ACK phase.
        self.requests(
            load.mode,
            (load.sockets as u64 * 20).min(1_000_000),
            f64::MAX,
        )?;
        gauge.phase.fetch_add(1, Ordering::Release);
        self.requests(load.mode, u64::MAX, seconds)?;
        let counts = load.mode == Mode::Request && load.sockets >= 100_000;
        Ok(if counts { grown } else { 0.0 })
    }

    /// The local address of the next socket.
    fn local(&mut self) -> Option<IpAddr> {
        let address = &self.addresses[self.opened % self.addresses.len()];
        self.opened += 1;
        address.split('/').next()?.parse().ok()
    }

    fn connect(&mut self) -> Option<SocketId> {
        let local = SocketAddr::new(self.local()?, 0);
        let remote = format!("10.0.0.1:{PORT}").parse().ok()?;
        let (now, host) = (self.shard.now, &mut self.shard.host);
        let socket = host
            .tcp_connect(now, remote, Some(local), &self.options)
            .ok()?;
        host.set_token(socket, self.sockets.len() as u64).ok()?;
        Some(socket)
    }

    /// Binds and connects datagram sockets.
    fn bind_all(&mut self, sockets: usize) -> Result<(), String> {
        let remote = format!("10.0.0.1:{PORT}").parse().map_err(|_| "address")?;
        for token in 0..sockets {
            let port = 1024 + token / self.addresses.len();
            let local = SocketAddr::new(self.local().ok_or("address")?, port as u16);
            let (now, host) = (self.shard.now, &mut self.shard.host);
            let socket = host
                .udp_bind(now, local, &UdpOptions::default())
                .and_then(|socket| host.udp_connect(now, socket, remote).map(|()| socket))
                .map_err(|e| format!("socket {token}: {e}"))?;
            host.set_token(socket, token as u64)
                .map_err(|e| e.to_string())?;
            self.sockets.push(socket);
        }
        Ok(())
    }

    /// Opens connections, a few hundred at a time.
    fn open_all(&mut self, connections: usize) -> Result<(), String> {
        let limit = Wall::now() + Duration::from_secs(120);
        let mut connected = 0;
        let mut failed = 0;
        while connected < connections {
            while self.sockets.len() < connections && self.sockets.len() - connected < 512 {
                let Some(socket) = self.connect() else {
                    return Err("the client cannot open a connection".into());
                };
                self.sockets.push(socket);
            }
            self.shard.turn(&mut |_, _, event: Event| {
                if event.ready.contains(Ready::ERROR) {
                    failed += 1;
                } else if event.ready.contains(Ready::WRITABLE) {
                    connected += 1;
                }
            });
            if failed > 0 || Wall::now() > limit {
                return Err(format!(
                    "{connected} of {connections} connections opened, {failed} failed"
                ));
            }
        }
        Ok(())
    }

    /// Keeps requests going on sockets picked at random, until `most` are answered or the time is up.
    fn requests(&mut self, mode: Mode, most: u64, seconds: f64) -> Result<(), String> {
        let outstanding = self.sockets.len().min(256);
        let start = Wall::now();
        let mut answered = 0u64;
        let mut in_flight = vec![false; self.sockets.len()];
        let mut count = 0;
        let mut quiet_since = start;
        while answered < most && start.elapsed().as_secs_f64() < seconds {
            while count < outstanding {
                let at = self.rng.below(self.sockets.len() as u32) as usize;
                if in_flight[at] {
                    continue;
                }
                let (now, host) = (self.shard.now, &mut self.shard.host);
                if !ask(host, now, mode, self.sockets[at]) {
                    break;
                }
                in_flight[at] = true;
                count += 1;
            }
            let before = answered;
            self.shard
                .turn(&mut |host: &mut Host, now: Instant, event: Event| {
                    // An answer too late for the last phase is not one of this.
                    if hear(host, now, mode, event.socket)
                        && std::mem::take(&mut in_flight[event.token as usize])
                    {
                        count -= 1;
                        answered += 1;
                    }
                });
            if answered > before {
                quiet_since = Wall::now();
            } else if quiet_since.elapsed() > Duration::from_secs(20) {
                return Err(format!("no answer for 20 s after {answered} requests"));
            }
        }
        // Let the rest come home.
        let until = Wall::now() + Duration::from_millis(300);
        while count > 0 && Wall::now() < until {
            self.shard
                .turn(&mut |host: &mut Host, now: Instant, event: Event| {
                    if hear(host, now, mode, event.socket) {
                        count = count.saturating_sub(1);
                    }
                });
        }
        Ok(())
    }

    /// Keeps whole lives going for the time.
    fn lives(&mut self, seconds: f64) -> Result<(), String> {
        let start = Wall::now();
        let mut live = 0usize;
        let (mut done, mut failed) = (0u64, 0u64);
        while start.elapsed().as_secs_f64() < seconds {
            while live < AT_ONCE && self.connect().is_some() {
                live += 1;
            }
            self.shard
                .turn(&mut |host: &mut Host, now: Instant, event: Event| {
                    if event.ready.contains(Ready::ERROR) {
                        failed += 1;
                        live -= 1;
                        let _ = host.abort(now, event.socket);
                    } else if event.ready.intersects(Ready::READABLE) {
                        let mut buffer = [0; 256];
                        // The reply, and the end behind it.
                        let ended =
                            (0..2).any(|_| host.tcp_recv(now, event.socket, &mut buffer) == Ok(0));
                        if ended {
                            let _ = host.close(now, event.socket);
                            done += 1;
                            live -= 1;
                        }
                    } else if event.ready.contains(Ready::WRITABLE) {
                        let _ = host.tcp_send(now, event.socket, &[b'q'; SIZE]);
                    }
                });
        }
        if done == 0 {
            return Err(format!("no connection lived to its end ({failed} failed)"));
        }
        Ok(())
    }
}

/// Sends one request. False if that is not possible now.
fn ask(host: &mut Host, now: Instant, mode: Mode, socket: SocketId) -> bool {
    if mode == Mode::Datagram {
        host.udp_send_to(now, socket, &[b'q'; SIZE], None).is_ok()
    } else {
        host.tcp_send(now, socket, &[b'q'; SIZE]).is_ok()
    }
}

/// Whether an answer is there; it is taken.
fn hear(host: &mut Host, now: Instant, mode: Mode, socket: SocketId) -> bool {
    let mut buffer = [0; 256];
    if mode == Mode::Datagram {
        host.udp_recv_from(socket, &mut buffer).is_ok()
    } else {
        host.tcp_recv(now, socket, &mut buffer).is_ok_and(|n| n > 0)
    }
}
