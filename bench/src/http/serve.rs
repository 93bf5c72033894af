//! One server four ways: whatever a read brings is answered with the same bytes.
//!
//! What does not live here: HTTP. wrk asks one thing at a time, in one segment.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use millstream::completion::{BufferGroup, Completion, Op, QueueOptions};
use millstream::shard::{App, Event, Ready, ShardCx, SocketError};
use millstream::{Builder, Config, Events, Host, Interest, Poll, TcpOptions, Token};
use netns::link;
use port::packet::{PacketOptions, PacketSocket};
use port::tap::{Tap, TapOptions};
use rustix::event::{Timespec, epoll};

use super::{ANSWER, Counter, PORT, Side};
use crate::measure::pin;
use crate::tap::{MILL, VETH, World, kernel_end};

/// How soon a server that nobody asks looks whether it shall stop.
const NAP: Duration = Duration::from_millis(20);
/// Bytes of a read.
const READ: usize = 64 << 10;

fn answer() -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: ";
    let body = ANSWER - head.len() - "123\r\n\r\n".len();
    format!("{head}{body:03}\r\n\r\n{}", "x".repeat(body)).into_bytes()
}

/// Serves until the counter says stop; tells where once it listens.
pub(super) fn run(
    world: &World,
    side: Side,
    counter: &Counter,
    listening: Sender<Ipv4Addr>,
) -> Result<(), String> {
    pin(world.measured);
    if side == Side::Kernel {
        world.far.enter().map_err(|e| e.to_string())?;
        return kernel(counter, &listening).map_err(|e| e.to_string());
    }
    let config = Config {
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    let host = Host::builder().config(config).cpu(world.measured);
    if world.no_tap.is_none() {
        let tap = Tap::new("mill0", &TapOptions::default()).map_err(|e| e.to_string())?;
        kernel_end("mill0", MILL[0])?;
        return millstream(side, host.port(tap), counter, &listening);
    }
    world.lay_cable(MILL[0])?;
    let socket =
        PacketSocket::new("mill0", &PacketOptions::default()).map_err(|e| e.to_string())?;
    let served = millstream(side, host.port(socket), counter, &listening);
    link::delete("mill0").map_err(|e| e.to_string())?;
    served
}

fn millstream(
    side: Side,
    host: Builder,
    counter: &Counter,
    listening: &Sender<Ipv4Addr>,
) -> Result<(), String> {
    let host = host.address(format!("{}/24", MILL[1]));
    let fail = |e: io::Error| e.to_string();
    match side {
        Side::Shard => on_the_shard(host, counter, listening),
        Side::Completions => completions(host, counter, listening).map_err(fail),
        _ => poll(host, counter, listening).map_err(fail),
    }
}

struct OnShard<'a> {
    counter: &'a Counter,
    listening: &'a Sender<Ipv4Addr>,
    answer: Vec<u8>,
    buffer: Vec<u8>,
}

/// The listener's token; connections have none.
const LISTENER: u64 = 1;

impl App for OnShard<'_> {
    type Command = ();

    fn on_start(&mut self, cx: &mut ShardCx<'_>) {
        let local = ([0, 0, 0, 0], PORT).into();
        let made = cx
            .host
            .tcp_listen(cx.now, local, 1024, &TcpOptions::default());
        if let Ok(listener) = made {
            let _ = cx.host.set_token(listener, LISTENER);
            let _ = self.listening.send(MILL[1]);
        } else {
            cx.stop();
        }
    }

    fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
        if event.token == LISTENER {
            while let Ok((socket, _peer)) = cx.host.tcp_accept(cx.now, event.socket) {
                let _ = cx.host.set_token(socket, 0);
            }
            return;
        }
        let answered = loop {
            match cx.host.tcp_recv(cx.now, event.socket, &mut self.buffer) {
                Ok(1..) => match cx.host.tcp_send(cx.now, event.socket, &self.answer) {
                    Ok(ANSWER) => self.counter.add(),
                    _ => break false,
                },
                Err(SocketError::WouldBlock) => break true,
                Ok(0) | Err(_) => break false,
            }
        };
        if !answered || event.ready.intersects(Ready::HUP | Ready::ERROR) {
            let _ = cx.host.close(cx.now, event.socket);
        }
    }

    fn on_turn(&mut self, cx: &mut ShardCx<'_>) {
        if self.counter.stops() {
            cx.stop();
        }
        cx.again_within(NAP);
    }
}

fn on_the_shard(
    host: Builder,
    counter: &Counter,
    listening: &Sender<Ipv4Addr>,
) -> Result<(), String> {
    let app = OnShard {
        counter,
        listening,
        answer: answer(),
        buffer: vec![0; READ],
    };
    let mut shard = host.build_with(app).map_err(|e| e.to_string())?;
    shard.run().map_err(|e| e.to_string())
}

/// What an operation is.
const LISTEN: u64 = 0;
const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;

fn completions(host: Builder, counter: &Counter, listening: &Sender<Ipv4Addr>) -> io::Result<()> {
    let host = host.start()?;
    let queue = host.completion_queue(QueueOptions::default())?;
    let buffers = BufferGroup::new(256, 4096);
    let answer = answer();
    queue.submit(Op::listen(([0, 0, 0, 0], PORT).into(), 1024, 0).token(LISTEN))?;
    let (mut done, mut ops) = (Vec::new(), Vec::new());
    while !counter.stops() {
        queue.wait(&mut done, 256, Some(NAP))?;
        for completion in done.drain(..) {
            if completion.token == LISTEN {
                let _ = listening.send(MILL[1]);
            }
            ops.extend(next(completion, &buffers, &answer, counter)?);
        }
        queue.submit_all(&mut ops)?;
    }
    drop(queue);
    host.stop().map_err(io::Error::other)
}

/// What is to be done next.
fn next(
    done: Completion,
    buffers: &BufferGroup,
    answer: &[u8],
    counter: &Counter,
) -> io::Result<Option<Op>> {
    let Some(socket) = done.socket else {
        return Ok(None);
    };
    let receive = || Op::receive_in(socket, buffers).token(RECEIVE);
    Ok(match (done.token, done.result) {
        (LISTEN, listens) => {
            listens?;
            Some(Op::accept_multishot(socket, 0).token(ACCEPT))
        }
        (ACCEPT, Ok(_)) => Some(receive()),
        (SEND, Ok(_)) => {
            counter.add();
            Some(receive())
        }
        // What was asked makes room for the answer.
        (RECEIVE, Ok(1..)) => done.buffer.map(|mut buffer| {
            buffer[..ANSWER].copy_from_slice(answer);
            Op::send(socket, buffer).first(ANSWER).token(SEND)
        }),
        (RECEIVE | SEND, _) => Some(Op::close(socket).token(u64::MAX)),
        _ => None,
    })
}

fn poll(host: Builder, counter: &Counter, listening: &Sender<Ipv4Addr>) -> io::Result<()> {
    let host = host.start()?;
    let listener = host.tcp_listen((Ipv4Addr::UNSPECIFIED, PORT))?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    let first = Token(0);
    poll.registry()
        .register(&listener, first, Interest::READABLE)?;
    let _ = listening.send(MILL[1]);
    let mut events = Events::with_capacity(512);
    let mut streams = Vec::new();
    let (answer, mut buffer) = (answer(), vec![0; READ]);
    while !counter.stops() {
        poll.poll(&mut events, Some(NAP))?;
        for event in &events {
            if event.token() == first {
                while let Some((stream, _)) = unless_it_blocks(listener.accept())? {
                    stream.set_nonblocking(true)?;
                    let token = Token(streams.len() + 1);
                    poll.registry()
                        .register(&stream, token, Interest::READABLE)?;
                    streams.push(Some(stream));
                }
            } else if let Some(place) = streams.get_mut(event.token().0 - 1) {
                exchange(place, &mut buffer, &answer, counter);
            }
        }
    }
    drop(streams);
    host.stop().map_err(io::Error::other)
}

/// Answers until there is nothing to read; an end, or an error, drops the connection.
fn exchange<S: Read + Write>(
    place: &mut Option<S>,
    buffer: &mut [u8],
    answer: &[u8],
    counter: &Counter,
) {
    let Some(stream) = place else { return };
    loop {
        let done = stream.read(buffer).and_then(|n| match n {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => stream.write_all(answer),
        });
        match unless_it_blocks(done) {
            Ok(Some(())) => counter.add(),
            Ok(None) => return,
            Err(_) => {
                *place = None;
                return;
            }
        }
    }
}

/// Level-triggered, one read and one write an event: an edge-triggered loop pays a read more.
fn kernel(counter: &Counter, listening: &Sender<Ipv4Addr>) -> io::Result<()> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    listener.set_nonblocking(true)?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let readable = epoll::EventFlags::IN;
    epoll::add(&set, &listener, epoll::EventData::new_u64(0), readable)?;
    let _ = listening.send(VETH[1]);
    let nap = Timespec {
        tv_sec: 0,
        tv_nsec: NAP.as_nanos() as i64,
    };
    let mut streams: Vec<Option<std::net::TcpStream>> = Vec::new();
    let (answer, mut buffer) = (answer(), vec![0; READ]);
    let mut events = Vec::with_capacity(512);
    while !counter.stops() {
        epoll::wait(
            &set,
            rustix::buffer::spare_capacity(&mut events),
            Some(&nap),
        )?;
        for event in events.drain(..) {
            let token = event.data.u64() as usize;
            if token == 0 {
                while let Some((stream, _)) = unless_it_blocks(listener.accept())? {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let data = epoll::EventData::new_u64(streams.len() as u64 + 1);
                    epoll::add(&set, &stream, data, readable)?;
                    streams.push(Some(stream));
                }
            } else if let Some(place) = streams.get_mut(token - 1) {
                let Some(stream) = place else { continue };
                match stream.read(&mut buffer) {
                    Ok(1..) if stream.write_all(&answer).is_ok() => counter.add(),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    _ => *place = None,
                }
            }
        }
    }
    Ok(())
}

/// `None` when it would block.
fn unless_it_blocks<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}
