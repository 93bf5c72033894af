//! Plays scripts to a Millstream host on virtual time: first to make them up, then at the moments at which the kernel saw them.

use std::time::Duration;

use base::Instant;
use interop::alone::{self, Alone, address};
use interop::{Family, frames};
use posix::{Errno, PollFd};
use stack::Config;
use wire::{Addr, Cidr, EtherType, Mac};

use crate::compare::difference;
use crate::kernel::{self, right};
use crate::script::{Act, Call, Script, bytes};
use crate::stage::{Play, Reply, Trace};

const NOBODY: (Mac, Mac) = (Mac([0; 6]), Mac([0; 6]));
const START: Instant = Instant::from_secs(1000);

/// The host scripts are played to.
fn host(now: Instant) -> Alone {
    let mut config = Config {
        pool_blocks: 2048,
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    config.tcp.comp_sack_nr = 0;
    config.tcp.rmem_max = kernel::buffer_limit();
    let mut ours = Alone::of(config, now);
    for family in Family::BOTH {
        let own = Cidr::new(Addr::from(family.kernel()), family.prefix()).unwrap();
        ours.host.add_address(now, ours.link, own).unwrap();
    }
    ours
}

/// The host's end of a script.
struct Ends {
    family: Family,
    listener: Option<i32>,
    connection: Option<i32>,
    written: u32,
    read: u32,
}

/// How much earlier than the host's a timer of the kernel's may go off: it counts in ticks of 4 ms (HZ is 250), and has measured
/// its own round trips.
const EARLY: Duration = Duration::from_millis(4);
/// How much later: long timeouts have a grain of 8 ticks.
const LATE: Duration = Duration::from_millis(40);
/// Ways tried to order steps and timers before a trace is said to be another.
const TRIES: u32 = 64;

/// A timer that was due about when a step was taken: does it go off before?
#[derive(Clone, Copy)]
struct Crossing {
    step: usize,
    before: bool,
    /// The other way was tried.
    turned: bool,
}

/// A script that is played to a host.
struct Stage<'a> {
    ours: Alone,
    ends: Ends,
    play: Play,
    port: u16,
    /// What the kernel did at the same steps.
    kernel: Option<&'a Trace>,
    slack: Duration,
    crossings: Vec<Crossing>,
    crossed: usize,
}

/// Makes a script up: the author sees what the host sends, at the moments the script says.
pub(crate) fn write(play: Play, port: u16) -> Script {
    let mut stage = Stage::new(play, port);
    let mut now = Duration::ZERO;
    while !stage.play.over {
        stage.go(now);
        stage.step(now);
        now = stage.play.due;
    }
    stage.play.script
}

/// Plays a script at the moments at which the kernel saw its steps. A timer that was due about then, give or take `slack`, goes off
/// before or after the step, whichever brings about the kernel's trace, if one does: a busy machine is late now and then.
pub(crate) fn follow(again: &dyn Fn() -> Play, port: u16, kernel: &Trace, slack: Duration) -> Play {
    let mut crossings = Vec::new();
    let mut best: Option<(usize, Play)> = None;
    for _ in 0..TRIES {
        let mut stage = Stage {
            kernel: Some(kernel),
            slack,
            crossings,
            ..Stage::new(again(), port)
        };
        for step in &kernel.steps {
            stage.go(step.at);
            stage.step(step.at);
        }
        stage.go(kernel.end);
        let play = stage.play;
        let Some(at) = difference(kernel, &play.trace) else {
            return play;
        };
        if best.as_ref().is_none_or(|(far, _)| at > *far) {
            best = Some((at, play));
        }
        crossings = stage.crossings;
        crossings.retain(|crossing| crossing.step <= at);
        while crossings.pop_if(|crossing| crossing.turned).is_some() {}
        let Some(last) = crossings.last_mut() else {
            break;
        };
        last.turned = true;
        last.before = !last.before;
    }
    best.expect("it was tried").1
}

impl<'a> Stage<'a> {
    fn new(play: Play, port: u16) -> Self {
        let mut ours = host(START);
        let mut listener = None;
        if !play.script.active {
            let family = play.script.family;
            let fd = posix::socket(&mut ours, domain(family), STREAM, 0).unwrap();
            posix::bind(&mut ours, fd, &address(family.kernel_port(port))).unwrap();
            posix::listen(&mut ours, fd, 1).unwrap();
            listener = Some(fd);
        }
        Self {
            ours,
            ends: Ends {
                family: play.script.family,
                listener,
                connection: None,
                written: 0,
                read: 0,
            },
            play,
            port,
            kernel: None,
            slack: Duration::ZERO,
            crossings: Vec::new(),
            crossed: 0,
        }
    }

    /// Takes the next step of the script.
    fn step(&mut self, now: Duration) {
        match self.play.step(now) {
            Some(Act::Call(call)) => {
                let reply = self.ends.call(&mut self.ours, call, self.port);
                self.ours.turn();
                self.play.replied(reply);
            }
            Some(Act::Poke(poke)) => {
                let frame = self.play.peer.frame(&poke, NOBODY);
                self.ours.arrive(&frame[wire::ethernet::HEADER_LEN..]);
            }
            None => {}
        }
        self.hear();
    }

    /// What the kernel sent at this step and the host has not, if a timer that is due at `at` may have been its reason: when.
    fn heard(&self, at: Duration) -> Option<Duration> {
        let own = self.play.trace.steps.len().checked_sub(1)?;
        let sent = self.play.trace.steps[own].seen.len();
        let when = self.kernel?.steps.get(own)?.seen.get(sent)?.at;
        (at <= when + EARLY + self.slack / 2 && when <= at + LATE + self.slack).then_some(when)
    }

    /// Goes on until a moment.
    fn go(&mut self, until: Duration) {
        while let Some(deadline) = self.ours.host.next_deadline() {
            let at = deadline - START;
            let rings = if at + LATE + self.slack <= until {
                true
            } else if at > until + EARLY + self.slack / 2 {
                false
            } else {
                self.crosses(at, until)
            };
            if !rings {
                break;
            }
            let usual = self.heard(at).unwrap_or(at + EARLY);
            self.ours.ring(START + usual.min(until).max(at));
            self.hear();
        }
        self.ours.now = self.ours.now.max(START + until);
    }

    /// Whether a timer that is due at `at` goes off before a step at `until`.
    fn crosses(&mut self, at: Duration, until: Duration) -> bool {
        let crossing = Crossing {
            step: self.play.trace.steps.len(),
            before: match self.kernel {
                Some(_) => self.heard(at).is_some(),
                None => at <= until,
            },
            turned: false,
        };
        if self.crossed == self.crossings.len() {
            self.crossings.push(crossing);
        }
        self.crossed += 1;
        self.crossings[self.crossed - 1].before
    }

    fn hear(&mut self) {
        for (at, packet) in self.ours.sent.drain(..) {
            let ethertype = match packet[0] >> 4 {
                4 => EtherType::IPV4,
                _ => EtherType::IPV6,
            };
            let frame = frames::ethernet(NOBODY.0, NOBODY.1, ethertype, &packet);
            if let Some(segment) = frames::tcp(&frame) {
                self.play.see(&segment, at - START);
            }
        }
    }
}

const STREAM: i32 = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;

fn domain(family: Family) -> i32 {
    match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    }
}

fn number<T>(result: Result<T, Errno>, value: impl FnOnce(T) -> i64) -> Reply {
    Some(result.map(value).map_err(|errno| errno.0))
}

fn set(ours: &mut Alone, fd: i32, name: i32, on: bool) -> Reply {
    let done = alone::set(ours, fd, libc::IPPROTO_TCP, name, on.into());
    number(done, |()| 0)
}

impl Ends {
    fn call(&mut self, ours: &mut Alone, call: Call, port: u16) -> Reply {
        match call {
            Call::Connect if self.connection.is_none() && self.listener.is_none() => {
                let fd = posix::socket(ours, domain(self.family), STREAM, 0).unwrap();
                self.connection = Some(fd);
                let to = address(self.family.host_port(port));
                return number(posix::connect(ours, fd, &to), |()| 0);
            }
            Call::Accept if self.connection.is_none() => {
                let result = posix::accept(ours, self.listener?, libc::SOCK_NONBLOCK);
                return number(result, |(fd, _)| {
                    self.connection = Some(fd);
                    0
                });
            }
            Call::Close => {
                let fd = self.connection.take()?;
                return number(posix::close(ours, fd), |()| 0);
            }
            _ => {}
        }
        let fd = self.connection?;
        match call {
            Call::Send(len) => {
                let data = bytes(self.written, len);
                let result = alone::put(ours, fd, &data, libc::MSG_NOSIGNAL);
                self.written += result.map_or(0, |n| n as u32);
                number(result, |n| n as i64)
            }
            Call::Receive(len) => {
                let from = self.read;
                let (result, read) = receive(ours, fd, len, 0, from);
                self.read += read;
                result
            }
            Call::Peek(len) => receive(ours, fd, len, libc::MSG_PEEK, self.read).0,
            Call::Shutdown(how) => number(posix::shutdown(ours, fd, how), |()| 0),
            Call::NoDelay(on) => set(ours, fd, libc::TCP_NODELAY, on),
            Call::Cork(on) => set(ours, fd, libc::TCP_CORK, on),
            Call::Error => {
                let error = alone::number(ours, fd, libc::SOL_SOCKET, libc::SO_ERROR);
                number(error, i64::from)
            }
            Call::Unread => number(posix::ioctl(ours, fd, libc::FIONREAD, 0), i64::from),
            Call::Poll => {
                let events = libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDHUP;
                let mut fds = [PollFd {
                    fd,
                    events,
                    revents: 0,
                }];
                let result = posix::poll(ours, &mut fds, 0);
                number(result, |_| fds[0].revents.into())
            }
            Call::Connect | Call::Accept | Call::Close => None,
        }
    }
}

fn receive(ours: &mut Alone, fd: i32, len: usize, flags: i32, from: u32) -> (Reply, u32) {
    let result = alone::get(ours, fd, len, flags);
    let read = result.as_ref().map_or(0, |bytes| bytes.len() as u32);
    (number(result, |bytes| right(from, &bytes)), read)
}
