//! The two ends of a stream: applications that send so many bytes each, and check what they receive; and links that lose and
//! disorder what passes.

use core::time::Duration;

use base::Rng;
use sim::{Faults, LinkConfig, Loss, NodeId, World};
use stack::{Shutdown, SocketError, SocketId};

/// One end of the stream: what it sends and has received.
pub(crate) struct End {
    pub(crate) node: NodeId,
    /// Of what it sends.
    salt: u8,
    pub(crate) socket: Option<SocketId>,
    pub(crate) to_send: usize,
    sent: usize,
    pub(crate) received: usize,
    pub(crate) shut: bool,
    pub(crate) ended: bool,
}

/// The byte at a place of a stream.
fn byte(salt: u8, at: usize) -> u8 {
    ((at / 3) ^ (at >> 8)) as u8 ^ salt
}

pub(crate) fn bad_link(rng: &mut Rng) -> LinkConfig {
    LinkConfig {
        rate: 2_000_000 + u64::from(rng.below(20_000_000)),
        delay: Duration::from_millis(u64::from(rng.below(40))),
        faults: Faults {
            loss: Loss::Random(f64::from(rng.below(6)) / 100.0),
            duplicate: f64::from(rng.below(3)) / 100.0,
            reorder: f64::from(rng.below(10)) / 100.0,
            jitter: Duration::from_millis(5),
            ..Faults::NONE
        },
        offload: rng.below(2) == 0,
        ..LinkConfig::default()
    }
}

impl End {
    pub(crate) fn new(node: NodeId, salt: u8, to_send: usize) -> Self {
        Self {
            node,
            salt,
            socket: None,
            to_send,
            sent: 0,
            received: 0,
            shut: false,
            ended: false,
        }
    }

    pub(crate) fn write(&mut self, world: &mut World) {
        let Some(socket) = self.socket else { return };
        let now = world.now();
        while self.sent < self.to_send {
            let until = self.to_send.min(self.sent + 20_000);
            let bytes: Vec<u8> = (self.sent..until).map(|at| byte(self.salt, at)).collect();
            match world.host(self.node).tcp_send(now, socket, &bytes) {
                Ok(n) => self.sent += n,
                Err(SocketError::WouldBlock) => return,
                Err(error) => panic!("sending: {error}"),
            }
        }
        if !self.shut {
            let host = world.host(self.node);
            self.shut = host.tcp_shutdown(now, socket, Shutdown::Write).is_ok();
        }
    }

    pub(crate) fn read(&mut self, world: &mut World, salt: u8, most: usize) {
        let Some(socket) = self.socket else { return };
        let (now, mut buffer) = (world.now(), vec![0; most]);
        match world.host(self.node).tcp_recv(now, socket, &mut buffer) {
            Ok(0) => self.ended = true,
            Ok(n) => {
                for (at, got) in buffer[..n].iter().enumerate() {
                    let at = self.received + at;
                    assert_eq!(*got, byte(salt, at), "at {at}");
                }
                self.received += n;
            }
            Err(SocketError::WouldBlock) => {}
            Err(error) => panic!("receiving: {error}"),
        }
    }
}
