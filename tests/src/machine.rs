//! A host on a port, run by a thread of its own, and a way for tests to reach into it.
//!
//! What the host does does not live here: applications ([`App`]) and calls come from the tests.
//!
//! Invariant: the thread sleeps when there is nothing to do, ends when the machine is dropped, and is joined.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use base::{Batch, Instant, Packet};
use netns::link;
use port::Port;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use stack::{Event, Host, InterfaceId, Ready, SocketError, SocketId, TcpOptions};

use crate::{Family, PATIENCE, kernel};

/// The host's time when it starts.
pub(crate) const EPOCH: Instant = Instant::from_secs(1);

/// What an application or a call may use during the host's turn.
pub struct Turn<'a> {
    /// The host.
    pub host: &'a mut Host,
    /// The time.
    pub now: Instant,
    /// The only interface.
    pub interface: InterfaceId,
    out: &'a mut Batch,
}

impl Turn<'_> {
    /// Has the host receive a frame that was never on the cable.
    pub fn inject(&mut self, frame: &[u8]) {
        let packet = self.packet(frame);
        let mut batch = Batch::new();
        batch.push(packet).unwrap();
        self.host.handle_batch(self.now, self.interface, &mut batch);
    }

    /// Puts a frame on the cable that the host knows nothing of.
    pub fn emit(&mut self, frame: &[u8]) {
        let packet = self.packet(frame);
        if let Err(packet) = self.out.push(packet) {
            self.host.pool_mut().free(packet.chain);
            panic!("too many frames in one turn");
        }
    }

    fn packet(&mut self, frame: &[u8]) -> Packet {
        let mut packet = Packet::EMPTY;
        let taken = self.host.pool_mut().append_bytes(&mut packet.chain, frame);
        assert_eq!(taken, frame.len(), "the pool is empty");
        packet
    }
}

/// Something that runs on the host, once every turn.
pub trait App: Send {
    /// Does what there is to do; `events` are those raised since the last turn. Returns whether to be called again.
    fn turn(&mut self, turn: &mut Turn<'_>, events: &[Event]) -> bool;
}

impl<F: FnMut(&mut Turn<'_>, &[Event]) -> bool + Send> App for F {
    fn turn(&mut self, turn: &mut Turn<'_>, events: &[Event]) -> bool {
        self(turn, events)
    }
}

enum Command {
    Call(Box<dyn FnOnce(&mut Turn<'_>) + Send>),
    Start(Box<dyn App>),
    Stop,
}

/// A running host.
pub struct Machine {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<Host>>,
    link: &'static str,
}

impl Machine {
    pub(crate) fn start(
        port: Box<dyn Port + Send>,
        host: Host,
        interface: InterfaceId,
        link: &'static str,
    ) -> Self {
        let (commands, receiver) = mpsc::channel();
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(rustix::event::eventfd(0, flags).unwrap());
        let own_wake = Arc::clone(&wake);
        let running = Running {
            port,
            host,
            interface,
            commands: receiver,
            apps: Vec::new(),
            events: Vec::new(),
            out: Batch::new(),
            started: std::time::Instant::now(),
        };
        let thread = std::thread::spawn(move || running.run(&own_wake));
        Self {
            commands,
            wake,
            thread: Some(thread),
            link,
        }
    }

    /// Name of the kernel's end of the cable.
    #[must_use]
    pub fn link(&self) -> &'static str {
        self.link
    }

    fn send(&self, command: Command) {
        // A thread that is gone is noticed where its answer is waited for.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    /// Runs `f` in the host's thread and returns what it returned.
    pub fn call<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Turn<'_>) -> T + Send + 'static,
    ) -> T {
        let (answer, result) = mpsc::channel();
        self.send(Command::Call(Box::new(move |turn| {
            let _ = answer.send(f(turn));
        })));
        await_answer(&result, "a call", PATIENCE)
    }

    /// Runs `app` every turn from now on.
    pub fn run(&self, app: impl App + 'static) {
        self.send(Command::Start(Box::new(app)));
    }

    /// Runs `f` every turn until it gives something.
    ///
    /// # Panics
    /// After [`PATIENCE`], naming `what` was waited for.
    pub fn wait<T: Send + 'static>(
        &self,
        what: &str,
        mut f: impl FnMut(&mut Turn<'_>) -> Option<T> + Send + 'static,
    ) -> T {
        let (answer, result) = mpsc::channel();
        self.run(move |turn: &mut Turn<'_>, _: &[Event]| match f(turn) {
            Some(value) => {
                let _ = answer.send(value);
                false
            }
            None => true,
        });
        await_answer(&result, what, PATIENCE)
    }

    /// Opens a listener on every address of both families.
    #[must_use]
    pub fn listen(&self, port: u16, backlog: usize) -> SocketId {
        self.call(move |turn| {
            let options = turn.host.tcp_defaults();
            let local = SocketAddr::from(([0u16; 8], port));
            turn.host
                .tcp_listen(turn.now, local, backlog, &options)
                .unwrap()
        })
    }

    /// Waits for a connection and takes it.
    #[must_use]
    pub fn accept(&self, listener: SocketId) -> SocketId {
        self.wait("a connection", move |turn| {
            match turn.host.tcp_accept(turn.now, listener) {
                Ok((socket, _)) => Some(socket),
                Err(SocketError::WouldBlock) => None,
                Err(e) => panic!("accept: {e}"),
            }
        })
    }

    /// Connects and waits until that has worked or failed.
    ///
    /// # Errors
    /// Why it failed.
    pub fn connect(
        &self,
        remote: SocketAddr,
        options: Option<TcpOptions>,
    ) -> Result<SocketId, SocketError> {
        let socket = self.call(move |turn| {
            let options = options.unwrap_or_else(|| turn.host.tcp_defaults());
            turn.host.tcp_connect(turn.now, remote, None, &options)
        })?;
        self.wait("a connection to be made", move |turn| {
            if let Some(error) = turn.host.take_error(socket) {
                turn.host.close(turn.now, socket).unwrap();
                return Some(Err(error));
            }
            let ready = turn.host.ready(socket);
            ready.contains(Ready::WRITABLE).then_some(Ok(socket))
        })
    }

    /// A connection between the host and the kernel, opened by one or the other: to `listener` on this port, or to a port of the
    /// kernel's.
    #[must_use]
    pub fn join(
        &self,
        (listener, port): (SocketId, u16),
        family: Family,
        host_opens: bool,
    ) -> (SocketId, TcpStream) {
        if host_opens {
            let kernel = TcpListener::bind(family.kernel_port(0)).unwrap();
            let socket = self.connect(kernel.local_addr().unwrap(), None).unwrap();
            let peer = kernel.accept().unwrap().0;
            kernel::patient(&peer);
            (socket, peer)
        } else {
            let peer = kernel::connect(family.host_port(port));
            (self.accept(listener), peer)
        }
    }

    /// Sends all of `bytes`.
    pub fn send_all(&self, socket: SocketId, bytes: Vec<u8>) {
        let mut sent = 0;
        self.wait("room to send", move |turn| {
            loop {
                match turn.host.tcp_send(turn.now, socket, &bytes[sent..]) {
                    Ok(n) => sent += n,
                    Err(SocketError::WouldBlock) => return None,
                    Err(e) => panic!("send: {e}"),
                }
                if sent == bytes.len() {
                    return Some(());
                }
            }
        });
    }

    /// Receives up to `most` bytes, fewer only when the stream ended there.
    ///
    /// # Errors
    /// What the connection died of.
    pub fn receive(&self, socket: SocketId, most: usize) -> Result<Vec<u8>, SocketError> {
        let mut got = Vec::new();
        self.wait("bytes", move |turn| {
            let mut buffer = vec![0; most.clamp(1, 1 << 16)];
            while got.len() < most {
                let room = buffer.len().min(most - got.len());
                match turn.host.tcp_recv(turn.now, socket, &mut buffer[..room]) {
                    Ok(0) => break,
                    Ok(n) => got.extend_from_slice(&buffer[..n]),
                    Err(SocketError::WouldBlock) => return None,
                    Err(e) => return Some(Err(e)),
                }
            }
            Some(Ok(std::mem::take(&mut got)))
        })
    }

    /// Closes a socket; its handle is dead afterwards.
    pub fn close(&self, socket: SocketId) {
        self.call(move |turn| turn.host.close(turn.now, socket).unwrap());
    }

    /// Waits until the host holds no connection any more except in TIME-WAIT, and its packet memory nothing for one.
    pub fn drain(&self) {
        self.wait("connections to end", |turn| {
            let left = turn.host.tcp_occupancy();
            let empty = [left.connections, left.active, left.half_open, left.ranges]
                .iter()
                .all(|&n| n == 0);
            empty.then_some(())
        });
    }

    /// Stops the thread and gives the host back, without anything of the port's in its memory.
    #[must_use]
    pub fn stop(mut self) -> Host {
        self.send(Command::Stop);
        let thread = self.thread.take().expect("it is stopped once");
        match thread.join() {
            Ok(host) => host,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let failed = thread.join().is_err();
            assert!(
                !failed || std::thread::panicking(),
                "the host's thread panicked"
            );
        }
        // A TAP went with its port; a veth pair is still there.
        let _ = link::delete(self.link);
    }
}

fn await_answer<T>(result: &Receiver<T>, what: &str, patience: Duration) -> T {
    match result.recv_timeout(patience) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("waited too long for {what}"),
        Err(RecvTimeoutError::Disconnected) => panic!("the host's thread died of {what}"),
    }
}

struct Running {
    port: Box<dyn Port + Send>,
    host: Host,
    interface: InterfaceId,
    commands: Receiver<Command>,
    apps: Vec<Box<dyn App>>,
    events: Vec<Event>,
    out: Batch,
    started: std::time::Instant,
}

impl Running {
    fn now(&self) -> Instant {
        EPOCH + self.started.elapsed()
    }

    fn run(mut self, wake: &OwnedFd) -> Host {
        let mut batch = Batch::new();
        loop {
            let now = self.now();
            let received = self.port.receive(self.host.pool_mut(), &mut batch);
            self.host.handle_batch(now, self.interface, &mut batch);
            self.host.handle_timers(now);
            let Some(commands) = self.obey(now) else {
                return self.end();
            };
            let events = self.applications(now);
            let waiting = self.transmit(now);
            while let Some(event) = self.host.poll_event() {
                self.events.push(event);
            }
            if received == 0 && commands == 0 && events == 0 && self.events.is_empty() {
                self.sleep(wake, waiting);
            }
        }
    }

    /// Carries out what tests asked for; `None` when that was to stop.
    fn obey(&mut self, now: Instant) -> Option<usize> {
        let mut done = 0;
        while let Ok(command) = self.commands.try_recv() {
            done += 1;
            match command {
                Command::Call(f) => f(&mut Turn {
                    host: &mut self.host,
                    now,
                    interface: self.interface,
                    out: &mut self.out,
                }),
                Command::Start(app) => self.apps.push(app),
                Command::Stop => return None,
            }
        }
        Some(done)
    }

    fn applications(&mut self, now: Instant) -> usize {
        while let Some(event) = self.host.poll_event() {
            self.events.push(event);
        }
        let events = std::mem::take(&mut self.events);
        let mut turn = Turn {
            host: &mut self.host,
            now,
            interface: self.interface,
            out: &mut self.out,
        };
        self.apps.retain_mut(|app| app.turn(&mut turn, &events));
        events.len()
    }

    /// Returns whether frames wait that the port has no room for.
    fn transmit(&mut self, now: Instant) -> bool {
        for _ in 0..64 {
            let more = self.host.poll_transmit(now, self.interface, &mut self.out);
            self.port.transmit(self.host.pool_mut(), &mut self.out);
            if !more || !self.out.is_empty() {
                break;
            }
        }
        self.port.flush(self.host.pool_mut());
        !self.out.is_empty()
    }

    fn sleep(&self, wake: &OwnedFd, waiting: bool) {
        let now = self.now();
        // Applications may look at the time, so they are called now and then.
        let longest = if waiting {
            Duration::from_millis(1)
        } else if self.apps.is_empty() {
            Duration::from_secs(1)
        } else {
            Duration::from_millis(5)
        };
        let until = self.host.next_deadline().unwrap_or(Instant::FAR);
        let timeout = longest.min(until - now);
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut fds = vec![PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)];
        fds.extend(
            self.port
                .sleep_fd()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
        let _ = rustix::io::read(wake, &mut [0u8; 8]);
    }

    fn end(mut self) -> Host {
        // What this turn has brought about already is not held against the host.
        let now = self.now();
        self.transmit(now);
        self.out.clear(self.host.pool_mut());
        self.port.release(self.host.pool_mut());
        self.host
    }
}
