//! A program on a Millstream host that talks to itself, on virtual time.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use base::Instant;
use interop::alone::{self, Alone, address};
use posix::{EpollEvent, Errno, PollFd};
use stack::Config;

use crate::counts::{self, Counts};
use crate::program::{Outcome, SETS, SOCKETS, Step};

pub(crate) struct Ours {
    world: Alone,
    /// Where its programs begin to count ports.
    first: SocketAddr,
    sockets: [Option<i32>; SOCKETS as usize],
    sets: [Option<i32>; SETS as usize],
    counts: Counts,
}

fn outcome<T>(result: Result<T, Errno>, number: impl FnOnce(T) -> usize) -> Outcome {
    match result {
        Ok(value) => Outcome::Done(number(value)),
        Err(error) => Outcome::Failed(error.0),
    }
}

impl Ours {
    pub(crate) fn new(first: SocketAddr) -> Self {
        let config = Config {
            pool_blocks: 1024,
            ..Config::default()
        };
        Self {
            world: Alone::of(config, Instant::from_secs(100)),
            first,
            sockets: [None; SOCKETS as usize],
            sets: [None; SETS as usize],
            counts: Counts::default(),
        }
    }

    /// Time passes.
    pub(crate) fn rest(&mut self, time: Duration) {
        self.world.rest(time);
    }

    fn address(&self, port: u16) -> Vec<u8> {
        address(SocketAddr::new(self.first.ip(), self.first.port() + port))
    }

    pub(crate) fn play(&mut self, step: Step) -> Outcome {
        match step {
            Step::Create { set } => {
                let made = posix::epoll_create1(&mut self.world, 0).unwrap();
                let old = self.sets[set as usize].replace(made);
                old.map(|fd| posix::close(&mut self.world, fd));
                Outcome::Done(0)
            }
            Step::CloseSet { set } => match self.sets[set as usize].take() {
                Some(fd) => outcome(posix::close(&mut self.world, fd), |()| 0),
                None => Outcome::Absent,
            },
            step if step.counts() => self.counts.play(step),
            Step::ControlCount {
                set,
                how,
                at,
                events,
            } => {
                let (Some(set), Some(fd)) = (self.sets[set as usize], self.counts.get(at)) else {
                    return Outcome::Absent;
                };
                let data = u64::from(at) | counts::WORD;
                let event = Some(EpollEvent { events, data });
                let done = posix::epoll_ctl(&mut self.world, set, how, fd.as_raw_fd(), event);
                outcome(done, |()| 0)
            }
            Step::Control {
                set,
                how,
                nests,
                at,
                events,
            } => {
                let places = if nests {
                    &self.sets[..]
                } else {
                    &self.sockets[..]
                };
                let (Some(set), Some(fd)) = (self.sets[set as usize], places[at as usize]) else {
                    return Outcome::Absent;
                };
                let data = u64::from(at) | u64::from(nests) << 32;
                let event = EpollEvent { events, data };
                let done = posix::epoll_ctl(&mut self.world, set, how, fd, Some(event));
                outcome(done, |()| 0)
            }
            Step::Wait { set, most } => {
                let Some(set) = self.sets[set as usize] else {
                    return Outcome::Absent;
                };
                let mut events = vec![EpollEvent::default(); most];
                let count = posix::epoll_wait(&mut self.world, set, &mut events, 0).unwrap();
                let told = events.iter().take(count);
                Outcome::Events(told.map(|e| (e.data, e.events)).collect())
            }
            Step::Socket { at, stream } => self.socket(at, stream),
            _ => match step.socket().and_then(|at| self.sockets[at as usize]) {
                Some(fd) => self.call(step, fd),
                None => Outcome::Absent,
            },
        }
    }

    fn put(&mut self, at: u32, fd: Option<i32>) {
        let old = core::mem::replace(&mut self.sockets[at as usize], fd);
        old.map(|fd| posix::close(&mut self.world, fd));
    }

    fn socket(&mut self, at: u32, stream: bool) -> Outcome {
        self.put(at, None);
        let kind = if stream {
            libc::SOCK_STREAM
        } else {
            libc::SOCK_DGRAM
        };
        let kind = kind | libc::SOCK_NONBLOCK;
        let family = match self.first.is_ipv4() {
            true => libc::AF_INET,
            false => libc::AF_INET6,
        };
        let fd = posix::socket(&mut self.world, family, kind, 0).unwrap();
        if stream {
            let world = &mut self.world;
            alone::set(world, fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
            alone::set(world, fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1).unwrap();
        }
        self.put(at, Some(fd));
        Outcome::Done(0)
    }

    fn call(&mut self, step: Step, fd: i32) -> Outcome {
        let world = &mut self.world;
        match step {
            Step::Bind { port, .. } => {
                let address = self.address(port);
                let bound = posix::bind(&mut self.world, fd, &address);
                let listens = bound.and_then(|()| match posix::listen(&mut self.world, fd, 8) {
                    Err(Errno::OPNOTSUPP) => Ok(()),
                    listens => listens,
                });
                outcome(listens, |()| 0)
            }
            Step::Connect { port, .. } => {
                let address = self.address(port);
                outcome(posix::connect(&mut self.world, fd, &address), |()| 0)
            }
            Step::Accept { into, .. } => match posix::accept(world, fd, libc::SOCK_NONBLOCK) {
                Ok((fd, _)) => {
                    self.put(into, Some(fd));
                    Outcome::Done(0)
                }
                Err(error) => Outcome::Failed(error.0),
            },
            Step::Send { len, urgent, .. } => {
                let flags = if urgent { libc::MSG_OOB } else { 0 };
                let sent = alone::put(world, fd, &vec![0; len], flags | libc::MSG_NOSIGNAL);
                outcome(sent, |n| n)
            }
            Step::Receive { len, urgent, .. } => {
                let flags = if urgent { libc::MSG_OOB } else { 0 };
                outcome(alone::get(world, fd, len, flags), |bytes| bytes.len())
            }
            Step::InLine { on, .. } => {
                let (level, name) = (libc::SOL_SOCKET, libc::SO_OOBINLINE);
                outcome(alone::set(world, fd, level, name, on.into()), |()| 0)
            }
            Step::Shutdown { how, .. } => outcome(posix::shutdown(world, fd, how), |()| 0),
            Step::Close { at } => {
                self.put(at, None);
                Outcome::Done(0)
            }
            Step::Abort { at } => {
                let linger = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
                let set = posix::setsockopt(world, fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
                self.put(at, None);
                outcome(set, |()| 0)
            }
            Step::TakeError { .. } => {
                let error = alone::number(world, fd, libc::SOL_SOCKET, libc::SO_ERROR);
                outcome(error, |number| number as usize)
            }
            _ => {
                let mut fds = [PollFd {
                    fd,
                    events: 0x3fff,
                    revents: 0,
                }];
                let polled = posix::poll(world, &mut fds, 0);
                outcome(polled, |_| fds[0].revents as usize)
            }
        }
    }
}
