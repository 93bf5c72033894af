//! What the application does, as the script says.

use std::net::{IpAddr, SocketAddr};

use stack::{MtuDiscover, Shutdown, SocketId, UdpOptions};
use wire::{Addr, Cidr};

use super::{SOCKETS_MAX, Script, Socket, World, addresses};

const MTU_DISCOVER: [MtuDiscover; 6] = [
    MtuDiscover::Dont,
    MtuDiscover::Want,
    MtuDiscover::Do,
    MtuDiscover::Probe,
    MtuDiscover::Interface,
    MtuDiscover::Omit,
];

impl World {
    /// The application does something.
    pub(super) fn call(&mut self, script: &mut Script<'_>) {
        let (what, which) = (script.u8() % 19, script.u8());
        let v6 = which & 0x80 != 0;
        let (ours, peer) = addresses(v6);
        let now = self.now;
        match what {
            0 => {
                let unspecified = if v6 {
                    Addr::UNSPECIFIED_V4
                } else {
                    Addr::UNSPECIFIED_V6
                };
                let local = SocketAddr::new(unspecified.to_ip(), 80 + u16::from(which & 3));
                let options = self.host.tcp_defaults();
                let listener =
                    self.host
                        .tcp_listen(now, local, usize::from(which >> 2 & 7), &options);
                self.keep(listener.ok());
            }
            1 => {
                let accepted = self
                    .socket(which)
                    .and_then(|id| self.host.tcp_accept(now, id).ok());
                self.keep(accepted.map(|(id, _)| id));
            }
            2 => {
                let remote = SocketAddr::new(peer.to_ip(), 1000 + u16::from(which & 7));
                let local = (which & 0x40 != 0).then(|| SocketAddr::new(ours.to_ip(), 90));
                let options = self.host.tcp_defaults();
                let connection = self.host.tcp_connect(now, remote, local, &options);
                self.keep(connection.ok());
            }
            3 | 4 => self.send(which, usize::from(script.u16())),
            5 | 6 => self.receive(which, usize::from(script.u16()) + 1),
            7 => {
                let how =
                    [Shutdown::Read, Shutdown::Write, Shutdown::Both][usize::from(script.u8()) % 3];
                if let Some(id) = self.socket(which) {
                    let _ = self.host.tcp_shutdown(now, id, how);
                }
            }
            8 | 9 => self.close(which, what == 9),
            10 => {
                let bits = script.u8();
                if let Some(id) = self.socket(which) {
                    let _ = self.host.tcp_set_options(now, id, |options| {
                        options.nodelay = bits & 1 != 0;
                        options.keepalive = (bits & 2 != 0).then(Default::default);
                        options.user_timeout =
                            (bits & 4 != 0).then(|| base::time::Duration::from_secs(5));
                        options.linger = (bits & 8 != 0).then_some(base::time::Duration::ZERO);
                    });
                    let _ = self.host.tcp_set_cork(now, id, bits & 16 != 0);
                }
            }
            11 => {
                if let Some(id) = self.socket(which) {
                    self.host.take_error(id);
                    let _ = self.host.tcp_info(id);
                    let _ = self.host.set_token(id, u64::from(which));
                    let _ = (
                        self.host.ready(id),
                        self.host.local_addr(id),
                        self.host.peer_addr(id),
                    );
                }
            }
            12 => {
                // A handle that names nothing is refused.
                let id = SocketId::from_bits(u64::from(script.u32()) << 32 | u64::from(which));
                if self.sockets.iter().all(|socket| socket.id != id) {
                    let _ = self.host.tcp_recv(now, id, &mut [0; 8]);
                    self.host.ready(id);
                }
            }
            13..=17 => self.call_udp(what - 13, which, script),
            _ => {
                let cidr = Cidr::new(peer_of_nobody(v6), 64.min(if v6 { 64 } else { 24 }))
                    .expect("a prefix");
                if which & 1 == 0 {
                    let _ = self.host.add_address(now, self.interface, cidr);
                } else {
                    let _ = self
                        .host
                        .remove_address(now, self.interface, peer_of_nobody(v6));
                }
            }
        }
    }

    fn call_udp(&mut self, what: u8, which: u8, script: &mut Script<'_>) {
        let v6 = which & 0x80 != 0;
        let (ours, peer) = addresses(v6);
        let now = self.now;
        if what == 0 {
            let bits = script.u8();
            let options = UdpOptions {
                reuse_addr: bits & 1 != 0,
                reuse_port: bits & 2 != 0,
                only_v6: bits & 4 != 0,
                broadcast: bits & 8 != 0,
                mtu_discover: MTU_DISCOVER[usize::from(which >> 2) % 6],
                mtu_discover_v6: MTU_DISCOVER[usize::from(which >> 3) % 6],
                receive_errors: bits & 32 != 0,
                ..UdpOptions::default()
            };
            let local = match bits >> 6 {
                0 => ours,
                1 => Addr::UNSPECIFIED_V4,
                _ => Addr::UNSPECIFIED_V6,
            };
            let local = SocketAddr::new(local.to_ip(), [0, 7, 53, 53][usize::from(which) % 4]);
            let socket = self.host.udp_bind(now, local, &options);
            return self.keep(socket.ok());
        }
        let Some(id) = self.socket(which) else { return };
        let to = match script.u8() % 4 {
            0 => Addr::v4(10, 77, 0, 255),
            1 => Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb]),
            2 => ours,
            _ => peer,
        };
        match what {
            1 => {
                let to = SocketAddr::new(to.to_ip(), 2000);
                let _ = self.host.udp_connect(now, id, to);
            }
            2 => {
                let to = (which & 0x40 != 0).then(|| SocketAddr::new(to.to_ip(), 2000));
                let payload = vec![which; usize::from(script.u16())];
                if let Ok(sent) = self.host.udp_send_to(now, id, &payload, to) {
                    assert_eq!(sent, payload.len(), "a datagram goes whole or not at all");
                }
            }
            3 => {
                let mut bytes = [0; 2048];
                if which & 0x40 == 0 {
                    let _ = self.host.udp_recv(id, &mut bytes);
                } else if let Ok((chain, _)) = self.host.udp_recv_chain(id) {
                    self.host.pool_mut().free(chain);
                }
            }
            _ => {
                let group = to.to_ip();
                if which & 0x40 == 0 {
                    let _ = self.host.udp_join(now, id, self.interface, group);
                } else {
                    let _ = self.host.udp_leave(now, id, self.interface, group);
                }
            }
        }
    }

    fn socket(&self, which: u8) -> Option<SocketId> {
        let index = usize::from(which) % self.sockets.len().max(1);
        self.sockets.get(index).map(|socket| socket.id)
    }

    fn keep(&mut self, id: Option<SocketId>) {
        let Some(id) = id else { return };
        if self.sockets.len() < SOCKETS_MAX {
            self.sockets.push(Socket {
                id,
                sent: 0,
                received: None,
            });
        } else {
            self.host
                .abort(self.now, id)
                .expect("a new socket can be closed");
        }
    }

    /// Sends bytes of the pattern the judge knows: each is its own offset.
    fn send(&mut self, which: u8, len: usize) {
        let index = usize::from(which) % self.sockets.len().max(1);
        let Some(socket) = self.sockets.get_mut(index) else {
            return;
        };
        let bytes: Vec<u8> = (0..len as u64).map(|at| (socket.sent + at) as u8).collect();
        if let Ok(taken) = self.host.tcp_send(self.now, socket.id, &bytes) {
            assert!(taken <= bytes.len());
            socket.sent += taken as u64;
        }
    }

    /// Receives, and checks the pattern: each byte is one more than the one before.
    fn receive(&mut self, which: u8, most: usize) {
        let index = usize::from(which) % self.sockets.len().max(1);
        let Some(socket) = self.sockets.get_mut(index) else {
            return;
        };
        let mut bytes = vec![0; most];
        let taken = if which & 0x40 == 0 {
            self.host
                .tcp_recv(self.now, socket.id, &mut bytes)
                .unwrap_or(0)
        } else if let Ok(chain) = self.host.tcp_recv_chain(self.now, socket.id, most) {
            let taken = self.host.pool().copy_out(&chain, 0, &mut bytes);
            self.host.pool_mut().free(chain);
            taken
        } else {
            0
        };
        for &byte in &bytes[..taken] {
            let expected = socket.received.map_or(byte, |last| last.wrapping_add(1));
            assert!(
                self.judge.is_tainted() || byte == expected,
                "a byte out of its place"
            );
            socket.received = Some(byte);
        }
    }

    fn close(&mut self, which: u8, abort: bool) {
        if self.sockets.is_empty() {
            return;
        }
        let socket = self
            .sockets
            .swap_remove(usize::from(which) % self.sockets.len());
        if abort {
            self.host
                .abort(self.now, socket.id)
                .expect("a live socket can be aborted");
        } else {
            self.host
                .close(self.now, socket.id)
                .expect("a live socket can be closed");
        }
    }
}

/// An address the script adds and takes away.
fn peer_of_nobody(v6: bool) -> Addr {
    if v6 {
        let mut octets = addresses(true).0.0;
        octets[15] = 3;
        Addr(octets)
    } else {
        Addr::from(IpAddr::from([10, 77, 0, 3]))
    }
}
