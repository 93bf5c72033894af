//! A small HTTP/1.1 server for real clients to talk to: `/bytes/N` gives N bytes of [`BODY`], a PUT is checked against
//! them, anything else is a short greeting. Connections are kept open.
//!
//! Anything a browser may want does not live here; the demo serves that.

use std::collections::HashMap;

use stack::{Event, SocketError, SocketId};

use crate::Pattern;
use crate::machine::{App, Turn};

/// What is served and expected.
pub const BODY: Pattern = Pattern(80);

const HEAD_MAX: usize = 16 << 10;
const CHUNK: usize = 64 << 10;

/// The server.
pub struct Http {
    listener: SocketId,
    connections: HashMap<SocketId, Connection>,
}

impl Http {
    /// Serves what connects to `listener`.
    #[must_use]
    pub fn new(listener: SocketId) -> Self {
        Self {
            listener,
            connections: HashMap::new(),
        }
    }

    fn advance(&mut self, turn: &mut Turn<'_>, socket: SocketId) {
        let Some(connection) = self.connections.get_mut(&socket) else {
            return;
        };
        match connection.advance(turn, socket) {
            Ok(true) => {}
            Ok(false) => {
                let _ = turn.host.close(turn.now, socket);
                self.connections.remove(&socket);
            }
            Err(_) => {
                let _ = turn.host.abort(turn.now, socket);
                self.connections.remove(&socket);
            }
        }
    }
}

impl App for Http {
    fn turn(&mut self, turn: &mut Turn<'_>, events: &[Event]) -> bool {
        for event in events {
            if event.socket == self.listener {
                while let Ok((socket, _)) = turn.host.tcp_accept(turn.now, self.listener) {
                    self.connections.insert(socket, Connection::default());
                    self.advance(turn, socket);
                }
            } else {
                self.advance(turn, event.socket);
            }
        }
        true
    }
}

#[derive(Default)]
struct Connection {
    /// Received, not understood yet.
    head: Vec<u8>,
    /// Of an upload: bytes taken so far, all there will be, whether all were right.
    upload: Option<(u64, u64, bool)>,
    /// To be sent before the body.
    reply: Vec<u8>,
    /// Of a download: bytes sent so far, all there are.
    body: (u64, u64),
    ended: bool,
}

impl Connection {
    /// Goes as far as it can; `false` when it is to be closed.
    fn advance(&mut self, turn: &mut Turn<'_>, socket: SocketId) -> Result<bool, SocketError> {
        let mut buffer = vec![0; CHUNK];
        loop {
            if !self.send(turn, socket)? {
                return Ok(true);
            }
            if self.understand() {
                continue;
            }
            if self.ended || self.head.len() > HEAD_MAX {
                return Ok(false);
            }
            match turn.host.tcp_recv(turn.now, socket, &mut buffer) {
                Ok(0) => self.ended = true,
                Ok(n) => self.take(&buffer[..n]),
                Err(SocketError::WouldBlock) => return Ok(true),
                Err(e) => return Err(e),
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        if let Some((got, total, right)) = &mut self.upload {
            let n = bytes
                .len()
                .min(usize::try_from(*total - *got).unwrap_or(usize::MAX));
            *right &= BODY.check(*got, &bytes[..n]).is_ok();
            *got += n as u64;
            bytes = &bytes[n..];
        }
        self.head.extend_from_slice(bytes);
    }

    /// Sends what is due; whether nothing is left.
    fn send(&mut self, turn: &mut Turn<'_>, socket: SocketId) -> Result<bool, SocketError> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let sent = if !self.reply.is_empty() {
                turn.host.tcp_send(turn.now, socket, &self.reply)
            } else if self.body.0 < self.body.1 {
                let n = CHUNK.min((self.body.1 - self.body.0) as usize);
                BODY.fill(self.body.0, &mut buffer[..n]);
                turn.host.tcp_send(turn.now, socket, &buffer[..n])
            } else {
                return Ok(true);
            };
            match sent {
                Ok(n) if !self.reply.is_empty() => drop(self.reply.drain(..n)),
                Ok(n) => self.body.0 += n as u64,
                Err(SocketError::WouldBlock) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }

    /// Turns the next whole request into a reply; whether there was one.
    fn understand(&mut self) -> bool {
        if let Some((got, total, right)) = self.upload {
            if got < total {
                return false;
            }
            self.upload = None;
            let (status, verdict) = if right {
                ("200 OK", "as expected\n")
            } else {
                ("400 Bad Request", "other bytes than expected\n")
            };
            self.respond(status, verdict.as_bytes());
            return true;
        }
        let Some(end) = self.head.windows(4).position(|w| w == b"\r\n\r\n") else {
            return false;
        };
        let rest = self.head.split_off(end + 4);
        let head = String::from_utf8_lossy(&std::mem::replace(&mut self.head, rest)).into_owned();
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if method == "PUT" {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let hit = name.eq_ignore_ascii_case("content-length");
                hit.then(|| value.trim().parse().ok()).flatten()
            });
            self.upload = Some((0, length.unwrap_or(0), true));
            if head.to_ascii_lowercase().contains("expect: 100-continue") {
                self.reply = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
            }
            let early = std::mem::take(&mut self.head);
            self.take(&early);
        } else if let Some(n) = path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()) {
            self.reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {n}\r\n\r\n").into_bytes();
            self.body = (0, n);
        } else {
            self.respond("200 OK", b"Hello from the other end of the cable.\n");
        }
        true
    }

    fn respond(&mut self, status: &str, body: &[u8]) {
        let length = body.len();
        self.reply = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        self.reply.extend_from_slice(body);
    }
}
