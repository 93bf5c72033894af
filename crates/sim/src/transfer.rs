//! The scenario every feature is tried with: streams of known bytes, both ways, checked to the last one.
//!
//! What does not live here: the network's faults, which are the cable's.

mod habits;
mod pattern;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;

use base::{Instant, Rng};
use stack::{Event, Host, Ready, SocketError, SocketId, State, TcpOptions, Write};

use crate::world::{NodeId, World};

pub use habits::Habits;
use habits::Marks;
pub use pattern::pattern;
use pattern::{differs, fill};

/// One connection of a scenario: how much each side sends.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Bytes from client to server.
    pub up: u64,
    /// Bytes from server to client.
    pub down: u64,
}

/// How a scenario ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Streams of which every byte arrived, and both ends saw the end.
    pub complete: usize,
    /// Streams that ended with an error.
    pub failed: Vec<SocketError>,
    /// Virtual time it took.
    pub elapsed: Duration,
}

struct End {
    socket: SocketId,
    stream: usize,
    client: bool,
    to_send: u64,
    sent: u64,
    to_receive: u64,
    received: u64,
    shut: bool,
    ended: bool,
    /// Up to where the peer might send when the buffer was last changed.
    granted: u64,
}

/// Writes, plainly when too many ends of records wait. Returns how it did.
fn write(
    host: &mut Host,
    now: Instant,
    socket: SocketId,
    bytes: &[u8],
    how: Write,
) -> Result<(usize, Write), SocketError> {
    match host.tcp_send_with(now, socket, bytes, how) {
        Err(SocketError::NoBuffers) => {
            let plain = Write::default();
            Ok((host.tcp_send(now, socket, bytes)?, plain))
        }
        taken => Ok((taken?, how)),
    }
}

/// Runs `streams` from `client` to a listener on `server`.
pub struct Scenario {
    client: NodeId,
    server: NodeId,
    listener: SocketId,
    streams: Vec<Stream>,
    ends: HashMap<(NodeId, SocketId), End>,
    waiting: HashMap<SocketAddr, usize>,
    outcome: Outcome,
    done_ends: usize,
    received: u64,
    /// Scratch for what is read and written.
    buffer: Vec<u8>,
    rng: Rng,
    marks: Marks,
    /// What went wrong, but for time that was too short.
    broken: Option<String>,
    /// Where urgent data of a stream's direction ends last.
    urgent: HashMap<(usize, bool), u64>,
    /// How applications write.
    pub habits: Habits,
    /// Nobody reads for now; see [`Scenario::wake`].
    pub resting: bool,
    /// Bytes a reader takes at a time; small values exercise closed windows.
    pub read_size: usize,
}

impl Scenario {
    /// Opens the listener and all connections.
    ///
    /// # Panics
    /// If a host refuses, which a scenario does not expect.
    pub fn start(
        world: &mut World,
        client: NodeId,
        server: NodeId,
        to: SocketAddr,
        streams: &[Stream],
        options: &TcpOptions,
    ) -> Self {
        let now = world.now();
        let listener = world
            .host(server)
            .tcp_listen(now, to, streams.len().max(1), options)
            .expect("the listener opens");
        let mut scenario = Self {
            client,
            server,
            listener,
            streams: streams.to_vec(),
            ends: HashMap::new(),
            waiting: HashMap::new(),
            outcome: Outcome::default(),
            done_ends: 0,
            received: 0,
            buffer: Vec::new(),
            rng: Rng::from_seed(streams.len() as u64),
            marks: Marks::default(),
            broken: None,
            urgent: HashMap::new(),
            habits: Habits::default(),
            resting: false,
            read_size: 64 * 1024,
        };
        for (at, stream) in streams.iter().enumerate() {
            let socket = world
                .host(client)
                .tcp_connect(now, to, None, options)
                .expect("the connection starts");
            let local = world
                .host(client)
                .local_addr(socket)
                .expect("a connection has an address");
            scenario.waiting.insert(local, at);
            scenario.add(client, socket, at, true, stream.up, stream.down);
        }
        scenario
    }

    fn add(
        &mut self,
        node: NodeId,
        socket: SocketId,
        stream: usize,
        client: bool,
        to_send: u64,
        to_receive: u64,
    ) {
        let end = End {
            socket,
            stream,
            client,
            to_send,
            sent: 0,
            to_receive,
            received: 0,
            shut: false,
            ended: false,
            granted: 0,
        };
        self.ends.insert((node, socket), end);
    }

    /// Runs until every stream has ended or `limit` of virtual time has gone by.
    ///
    /// # Errors
    /// What went wrong: a byte that differs, a property violated, or streams still unfinished.
    pub fn run(&mut self, world: &mut World, limit: Duration) -> Result<Outcome, String> {
        let start = world.now();
        let until = start + limit;
        loop {
            let heard = self.serve(world);
            if let Err(why) = heard {
                // Who runs on after this must not miss it.
                self.broken.get_or_insert(why);
            }
            if let Some(why) = &self.broken {
                return Err(why.clone());
            }
            if let Some(violation) = world.violation() {
                return Err(violation.to_string());
            }
            if self.done_ends == 2 * self.streams.len()
                || (self.ends.is_empty() && !self.outcome.failed.is_empty())
            {
                break;
            }
            if world.poll_is_idle() && !world.step(until) {
                return Err(self.describe(world.now(), start));
            }
        }
        let now = world.now();
        // A second run of a finished scenario finds it closed.
        let _ = world.host(self.server).close(now, self.listener);
        self.outcome.complete = self.done_ends / 2;
        self.outcome.elapsed = world.now() - start;
        Ok(self.outcome.clone())
    }

    /// Does what applications do, until nothing is left to be told.
    fn serve(&mut self, world: &mut World) -> Result<(), String> {
        while let Some((node, event)) = world.poll_event() {
            self.on_event(world, node, event)?;
        }
        world.flush();
        self.hear(world)
    }

    fn describe(&self, now: Instant, start: Instant) -> String {
        let mut text = format!("not finished after {:?}:", now - start);
        for end in self.ends.values().take(4) {
            let side = if end.client { "client" } else { "server" };
            text += &format!(
                " [{side} {}: sent {}/{}, received {}/{}]",
                end.stream, end.sent, end.to_send, end.received, end.to_receive
            );
        }
        text
    }

    fn on_event(&mut self, world: &mut World, node: NodeId, event: Event) -> Result<(), String> {
        if node == self.server && event.socket == self.listener {
            let now = world.now();
            while let Ok((socket, peer)) = world.host(node).tcp_accept(now, self.listener) {
                let stream = *self.waiting.get(&peer).ok_or("a connection nobody made")?;
                let Stream { up, down } = self.streams[stream];
                self.add(node, socket, stream, false, down, up);
                // The listener's buffer may have changed since its SYN-ACK.
                self.grant(world);
                self.work(world, node, socket)?;
            }
            return Ok(());
        }
        if event.ready.intersects(Ready::ERROR) && event.ready.contains(Ready::HUP) {
            if let Some(end) = self.ends.remove(&(node, event.socket)) {
                self.marks.closed(end.stream, end.client);
                let now = world.now();
                let error = world.host(node).take_error(event.socket);
                self.outcome.failed.extend(error);
                let _ = world.host(node).close(now, event.socket);
            }
            return Ok(());
        }
        self.keeps_its_buffer(world, node, event.socket)?;
        self.urgent_ends_where_it_was_said(world, node, event.socket)?;
        self.work(world, node, event.socket)
    }

    /// What is unread and what may still come is no more than the buffer, and a sixteenth for the window's rounding; but what was
    /// granted is not taken back when the buffer becomes smaller.
    fn keeps_its_buffer(
        &self,
        world: &mut World,
        node: NodeId,
        socket: SocketId,
    ) -> Result<(), String> {
        let (Ok(info), Some(end)) = (
            world.host(node).tcp_info(socket),
            self.ends.get(&(node, socket)),
        ) else {
            return Ok(());
        };
        let most = world.host(node).tcp_receive_limit(socket).unwrap_or(0);
        if info.state == State::Closed {
            return Ok(()); // what was granted is nobody's any more
        }
        let held = u64::from(info.unread + info.receive_window);
        let most = u64::from(most) + u64::from(most / 16);
        if held <= most || end.received + held <= end.granted {
            Ok(())
        } else {
            Err(format!(
                "{held} bytes granted or unread in a buffer of {most}"
            ))
        }
    }

    /// Takes note of what peers may send: before a change of buffers.
    pub fn grant(&mut self, world: &mut World) {
        for (&(node, socket), end) in &mut self.ends {
            if let Ok(info) = world.host(node).tcp_info(socket) {
                let held = u64::from(info.unread + info.receive_window);
                end.granted = end.granted.max(end.received + held);
            }
        }
    }

    /// Reads and writes what can be read and written on one end.
    fn work(&mut self, world: &mut World, node: NodeId, socket: SocketId) -> Result<(), String> {
        self.read(world, node, socket)?;
        if !self.write(world, node, socket)? {
            return Ok(());
        }
        let now = world.now();
        let Some(end) = self.ends.get_mut(&(node, socket)) else {
            return Ok(());
        };
        if !end.shut
            && world
                .host(node)
                .tcp_shutdown(now, socket, stack::Shutdown::Write)
                .is_ok()
        {
            end.shut = true;
        }
        if end.ended && end.shut {
            debug_assert_eq!(end.socket, socket);
            self.marks.closed(end.stream, end.client);
            self.ends.remove(&(node, socket));
            self.done_ends += 1;
            world
                .host(node)
                .close(now, socket)
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn read(&mut self, world: &mut World, node: NodeId, socket: SocketId) -> Result<(), String> {
        let (now, read_size) = (world.now(), self.read_size);
        let Some(end) = self.ends.get_mut(&(node, socket)) else {
            return Ok(());
        };
        let buffer = &mut self.buffer;
        buffer.resize(read_size.max(self.habits.write), 0);
        while !end.ended && !self.resting {
            match world
                .host(node)
                .tcp_recv(now, socket, &mut buffer[..read_size])
            {
                Ok(0) => {
                    end.ended = true;
                    if end.received != end.to_receive {
                        return Err(format!(
                            "end of stream after {} of {} bytes",
                            end.received, end.to_receive
                        ));
                    }
                }
                Ok(n) => {
                    let wrong = differs(end.stream as u64, !end.client, end.received, &buffer[..n]);
                    if let Some(offset) = wrong {
                        return Err(format!("stream {}: byte {offset} differs", end.stream));
                    }
                    end.received += n as u64;
                    self.received += n as u64;
                }
                Err(SocketError::WouldBlock) => break,
                Err(error) => return Err(format!("stream {}: {error}", end.stream)),
            }
        }
        Ok(())
    }

    /// Whether all is written.
    fn write(&mut self, world: &mut World, node: NodeId, socket: SocketId) -> Result<bool, String> {
        let now = world.now();
        let Some(end) = self.ends.get_mut(&(node, socket)) else {
            return Ok(false);
        };
        let buffer = &mut self.buffer;
        while end.sent < end.to_send {
            let how = self.habits.how(&mut self.rng);
            let n = (end.to_send - end.sent).min(self.habits.write as u64) as usize;
            fill(end.stream as u64, end.client, end.sent, &mut buffer[..n]);
            let (taken, how) = match write(world.host(node), now, socket, &buffer[..n], how) {
                Ok(taken) => taken,
                Err(SocketError::WouldBlock) => return Ok(false),
                Err(error) => return Err(format!("stream {}: sending: {error}", end.stream)),
            };
            end.sent += taken as u64;
            let (number, client, at) = (end.stream, end.client, end.sent);
            if how.urgent && taken == n {
                self.urgent.insert((number, client), at);
            }
            if let Some(wanted) = self.habits.mark(&mut self.rng)
                && world
                    .host(node)
                    .tcp_mark(now, socket, self.marks.next(), wanted)
                    .is_ok()
            {
                self.marks.set(number, client, at, wanted);
            }
            if how.end_of_record && taken == n {
                world.end_record(node, socket, at);
            }
        }
        Ok(true)
    }

    /// Takes what hosts tell of marks.
    fn hear(&mut self, world: &mut World) -> Result<(), String> {
        if self.habits.marks == 0 {
            return Ok(());
        }
        for node in [self.client, self.server] {
            while let Some(notice) = world.host(node).poll_notice() {
                if let Some(mark) = self.marks.told(&notice)? {
                    self.peer_has(world, mark.stream, !mark.client, mark.at)?;
                }
            }
        }
        Ok(())
    }

    /// What was acknowledged is with the peer, as far as it still has the stream.
    fn peer_has(
        &self,
        world: &mut World,
        stream: usize,
        client: bool,
        at: u64,
    ) -> Result<(), String> {
        let of = |end: &&End| end.stream == stream && end.client == client;
        let node = if client { self.client } else { self.server };
        let Some(end) = self.ends.values().find(of) else {
            return Ok(());
        };
        let unread = world
            .host(node)
            .tcp_info(end.socket)
            .map_or(0, |info| info.unread);
        let has = end.received + u64::from(unread);
        if has >= at || end.ended {
            Ok(())
        } else {
            Err(format!(
                "stream {stream}: {at} bytes acknowledged, the peer has {has}"
            ))
        }
    }

    /// Urgent data ahead of a reader ends no further than its writer said.
    fn urgent_ends_where_it_was_said(
        &self,
        world: &mut World,
        node: NodeId,
        socket: SocketId,
    ) -> Result<(), String> {
        let (Some(end), Ok(Some(urgent))) = (
            self.ends.get(&(node, socket)),
            world.host(node).tcp_urgent(socket),
        ) else {
            return Ok(());
        };
        let at = end.received + u64::from(urgent.left);
        match self.urgent.get(&(end.stream, !end.client)) {
            Some(last) if at <= *last => Ok(()),
            last => Err(format!("urgent data up to {at}, {last:?} was said")),
        }
    }

    /// Readers who rested read again.
    ///
    /// # Errors
    /// As [`Scenario::run`].
    pub fn wake(&mut self, world: &mut World) -> Result<(), String> {
        self.resting = false;
        for (node, socket) in self.sockets() {
            self.work(world, node, socket)?;
        }
        Ok(())
    }

    /// When nothing is left to happen: whether all marks were told of.
    ///
    /// # Errors
    /// How many were not.
    pub fn settle(&mut self, world: &mut World) -> Result<(), String> {
        self.hear(world)?;
        let missing = self.marks.missing(!self.outcome.failed.is_empty());
        match missing.first() {
            None => Ok(()),
            Some(one) => Err(format!(
                "{} marks were never told of, {one:?}",
                missing.len()
            )),
        }
    }

    /// Whether all connections were accepted, and none has ended.
    pub fn is_open(&self) -> bool {
        self.ends.len() == 2 * self.streams.len()
    }

    /// The sockets there are: the listener, and the ends of streams that have not ended.
    pub fn sockets(&self) -> Vec<(NodeId, SocketId)> {
        let mut all: Vec<_> = self.ends.keys().copied().collect();
        all.sort_unstable();
        all.insert(0, (self.server, self.listener));
        all
    }

    /// Bytes that readers have taken so far, on all streams.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The client's host.
    pub fn client(&self) -> NodeId {
        self.client
    }
}
