//! Plays scripts to the Linux kernel, many at a time, in real time.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use base::{Batch, Packet, Pool};
use interop::{Cable, Family, frames};
use netns::link;
use port::Port;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
};
use wire::tcp::Flags;
use wire::{Addr, Mac};

use crate::peer::Peer;
use crate::script::{Act, Call, Poke, Script, bytes};
use crate::stage::{Play, Reply};

/// The kernel's hardware address, and the peers'.
const KERNEL: Mac = Mac([2, 0x77, 0, 0, 0, 1]);
const PEERS: Mac = Mac([2, 0x77, 0, 0, 0, 2]);
/// Ports of scripts begin here: the kernel's, where it listens, and the peer's, which tells scripts apart.
const FIRST_PORT: u16 = 1000;
const PORTS: u16 = 30_000;

/// The kernel's end of one script.
struct Ends {
    family: Family,
    listener: Option<OwnedFd>,
    connection: Option<OwnedFd>,
    written: u32,
    read: u32,
}

/// The kernel, at the end of a cable.
pub(crate) struct Kernel {
    port: Box<dyn Port + Send>,
    pool: Pool,
    batch: Batch,
    next_port: u16,
}

impl Kernel {
    /// A cable with the kernel at its end.
    pub(crate) fn new() -> Self {
        let port = Cable::plain().lay(1500, &|name| {
            link::set_mac(name, KERNEL.0).unwrap();
        });
        for family in Family::BOTH {
            link::add_neighbour("kern0", family.host(), PEERS.0).unwrap();
        }
        for (name, value) in [
            ("tcp_no_metrics_save", "1"),
            ("tcp_autocorking", "0"),
            ("tcp_comp_sack_nr", "0"),
        ] {
            std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
        }
        Self {
            port,
            pool: Pool::new(4096).unwrap(),
            batch: Batch::new(),
            next_port: 0,
        }
    }

    /// A peer for one script: its own port, and the number it begins with.
    pub(crate) fn peer(&mut self, script: &Script) -> (Peer, u16) {
        self.next_port = (self.next_port + 1) % PORTS;
        let port = FIRST_PORT + self.next_port;
        // One in four wraps soon.
        let iss = if script.seed.is_multiple_of(4) {
            0xffff_fc00
        } else {
            5_000_000
        };
        let (own, their) = (script.family.host(), script.family.kernel());
        let (own, their) = (Addr::from(own), Addr::from(their));
        (
            Peer::new((own, port), (their, port), script.offer, iss),
            port,
        )
    }

    /// Plays all of them.
    pub(crate) fn play(&mut self, plays: &mut [(Play, u16)]) {
        // They do not begin at once, so that their steps are in nobody's way.
        for (n, (play, _)) in plays.iter_mut().enumerate() {
            play.due = Duration::from_micros(500) * n as u32;
        }
        let mut ends: Vec<Ends> = plays
            .iter()
            .map(|(play, port)| ends(&play.script, *port))
            .collect();
        let start = Instant::now();
        while plays.iter().any(|(play, _)| !play.over) {
            let mut next = start.elapsed() + Duration::from_millis(1);
            for n in 0..plays.len() {
                let play = &plays[n].0;
                if play.over {
                    continue;
                }
                if play.due > start.elapsed() {
                    next = next.min(play.due);
                    continue;
                }
                // What went off before is the step's before.
                self.hear(plays, start.elapsed());
                let (play, port) = &mut plays[n];
                let act = play.step(start.elapsed());
                match act {
                    Some(Act::Call(call)) => play.replied(ends[n].call(call, *port)),
                    Some(Act::Poke(poke)) => {
                        let frame = play.peer.frame(&poke, (PEERS, KERNEL));
                        self.put(&frame);
                    }
                    None => {}
                }
                self.hear(plays, start.elapsed());
            }
            self.hear(plays, start.elapsed());
            std::thread::sleep(
                next.saturating_sub(start.elapsed())
                    .min(Duration::from_micros(300)),
            );
        }
        for (play, _) in plays.iter() {
            self.end(play);
        }
        drop(ends);
        // What their closing brings about is nobody's.
        self.hear(&mut [], Duration::ZERO);
    }

    /// Resets what may be left of a connection.
    fn end(&mut self, play: &Play) {
        let poke = Poke {
            flags: Flags::RST,
            seq: play.peer.acked,
            len: 0,
            ack: 0,
            window: 0,
            stamp: None,
            sack: Vec::new(),
        };
        let frame = play.peer.frame(&poke, (PEERS, KERNEL));
        self.put(&frame);
    }

    fn put(&mut self, frame: &[u8]) {
        let mut packet = Packet::EMPTY;
        let taken = self.pool.append_bytes(&mut packet.chain, frame);
        assert_eq!(taken, frame.len(), "the pool is empty");
        let mut batch = Batch::new();
        batch.push(packet).unwrap();
        while !batch.is_empty() {
            self.port.transmit(&mut self.pool, &mut batch);
        }
        self.port.flush(&mut self.pool);
    }

    /// Hands over what the kernel has sent.
    fn hear(&mut self, plays: &mut [(Play, u16)], now: Duration) {
        while self.port.receive(&mut self.pool, &mut self.batch) > 0 {
            while let Some(packet) = self.batch.pop_front() {
                let frame: Vec<u8> = self.pool.slices(&packet.chain).flatten().copied().collect();
                self.pool.free(packet.chain);
                let Some(segment) = frames::tcp(&frame) else {
                    continue;
                };
                let its = |(play, port): &&mut (Play, u16)| !play.over && *port == segment.dst_port;
                if let Some((play, _)) = plays.iter_mut().find(its) {
                    play.see(&segment, now);
                }
            }
        }
    }
}

/// The third number of the kernel's `tcp_rmem`, from which the window's scale follows.
pub(crate) fn buffer_limit() -> u32 {
    static LIMIT: OnceLock<u32> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").unwrap();
        text.split_whitespace().nth(2).unwrap().parse().unwrap()
    })
}

fn ends(script: &Script, port: u16) -> Ends {
    let listener = (!script.active).then(|| {
        let listener = socket(script.family);
        sockopt::set_socket_reuseaddr(&listener, true).unwrap();
        net::bind(&listener, &script.family.kernel_port(port)).unwrap();
        net::listen(&listener, 1).unwrap();
        listener
    });
    Ends {
        family: script.family,
        listener,
        connection: None,
        written: 0,
        read: 0,
    }
}

fn socket(family: Family) -> OwnedFd {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = net::socket_with(domain, SocketType::STREAM, flags, None).unwrap();
    // The machine may prefer another; the sysctl is not a namespace's owner's to set.
    sockopt::set_tcp_congestion(&fd, "cubic").unwrap();
    fd
}

fn number<T>(result: Result<T, Errno>, value: impl FnOnce(T) -> i64) -> Reply {
    Some(result.map(value).map_err(Errno::raw_os_error))
}

impl Ends {
    fn call(&mut self, call: Call, port: u16) -> Reply {
        match call {
            Call::Connect if self.connection.is_none() && self.listener.is_none() => {
                let fd = socket(self.family);
                let result = net::connect(&fd, &self.family.host_port(port));
                self.connection = Some(fd);
                return number(result, |()| 0);
            }
            Call::Accept if self.connection.is_none() => {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let result = net::accept_with(self.listener.as_ref()?, flags);
                return number(result, |fd| {
                    self.connection = Some(fd);
                    0
                });
            }
            Call::Close => {
                self.connection.take()?;
                return Some(Ok(0));
            }
            _ => {}
        }
        let fd = self.connection.as_ref()?;
        match call {
            Call::Send(len) => {
                let data = bytes(self.written, len);
                let result = net::send(fd, &data, SendFlags::NOSIGNAL);
                self.written += result.map_or(0, |n| n as u32);
                number(result, |n| n as i64)
            }
            Call::Receive(len) => {
                let mut buffer = vec![0; len];
                let result = net::recv(fd, &mut buffer[..], RecvFlags::empty()).map(|(n, _)| n);
                let from = self.read;
                self.read += result.map_or(0, |n| n as u32);
                number(result, |n| right(from, &buffer[..n]))
            }
            Call::Peek(len) => {
                let mut buffer = vec![0; len];
                let result = net::recv(fd, &mut buffer[..], RecvFlags::PEEK).map(|(n, _)| n);
                number(result, |n| right(self.read, &buffer[..n]))
            }
            Call::Shutdown(how) => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][how as usize];
                number(net::shutdown(fd, how), |()| 0)
            }
            Call::NoDelay(on) => number(sockopt::set_tcp_nodelay(fd, on), |()| 0),
            Call::Cork(on) => number(sockopt::set_tcp_cork(fd, on), |()| 0),
            Call::Error => {
                let error = sockopt::socket_error(fd).unwrap();
                Some(Ok(error.map_or_else(|e| e.raw_os_error().into(), |()| 0)))
            }
            Call::Unread => number(rustix::io::ioctl_fionread(fd), |n| n as i64),
            Call::Poll => {
                let all = PollFlags::IN | PollFlags::OUT | PollFlags::PRI | PollFlags::RDHUP;
                let mut fds = [PollFd::new(fd, all)];
                let now = Timespec::default();
                let result = rustix::event::poll(&mut fds, Some(&now));
                number(result, |_| fds[0].revents().bits().into())
            }
            Call::Connect | Call::Accept | Call::Close => None,
        }
    }
}

/// How many bytes, or, which no stack may say, that they are wrong.
pub(crate) fn right(from: u32, read: &[u8]) -> i64 {
    if read == bytes(from, read.len()) {
        read.len() as i64
    } else {
        i64::MIN
    }
}
