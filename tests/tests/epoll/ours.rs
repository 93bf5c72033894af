//! A program on a Millstream host that talks to itself, on virtual time.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use base::{Batch, Instant, Offloads};
use posix::{EpollEvent, Errno, PollFd, Table, World};
use stack::{Config, Host, InterfaceConfig, InterfaceId};

use crate::program::{Outcome, SETS, SOCKETS, Step};

struct Alone {
    host: Host,
    table: Table,
    now: Instant,
    link: InterfaceId,
}

impl Alone {
    fn hear(&mut self) -> bool {
        let mut heard = false;
        while let Some(event) = self.host.poll_event() {
            self.table.hear(&event);
            heard = true;
        }
        heard
    }
}

impl World for Alone {
    fn now(&mut self) -> Instant {
        self.now
    }

    fn host(&mut self) -> &mut Host {
        &mut self.host
    }

    fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    fn changed(&mut self) -> bool {
        let (mut batch, mut heard) = (Batch::new(), self.hear());
        while self.host.poll_transmit(self.now, self.link, &mut batch) || !batch.is_empty() {
            batch.clear(self.host.pool_mut());
            heard |= self.hear();
        }
        self.hear() || heard
    }

    fn wait(&mut self, deadline: Instant) {
        panic!("nobody waits here, not until {deadline:?}");
    }
}

pub(crate) struct Ours {
    world: Alone,
    port: u16,
    sockets: [Option<i32>; SOCKETS as usize],
    sets: [Option<i32>; SETS as usize],
}

fn outcome<T>(result: Result<T, Errno>, number: impl FnOnce(T) -> usize) -> Outcome {
    match result {
        Ok(value) => Outcome::Done(number(value)),
        Err(error) => Outcome::Failed(error.0),
    }
}

impl Ours {
    pub(crate) fn new(port: u16) -> Self {
        let now = Instant::from_secs(100);
        let config = Config {
            pool_blocks: 1024,
            ..Config::default()
        };
        let mut host = Host::new(config, 7, now).unwrap();
        let interface = InterfaceConfig {
            name: "none".into(),
            mac: None,
            mtu: 1500,
            offloads: Offloads::NONE,
        };
        let link = host.add_interface(now, interface).unwrap();
        Self {
            world: Alone {
                host,
                table: Table::new(),
                now,
                link,
            },
            port,
            sockets: [None; SOCKETS as usize],
            sets: [None; SETS as usize],
        }
    }

    /// Time passes.
    pub(crate) fn rest(&mut self, time: Duration) {
        let world = &mut self.world;
        let until = world.now + time;
        world.changed();
        while let Some(next) = world.host.next_deadline().filter(|at| *at <= until) {
            world.now = world.now.max(next);
            world.host.handle_timers(world.now);
            world.changed();
        }
        world.now = until;
    }

    fn address(&self, port: u16) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port + port);
        posix::write(&to, false, &mut bytes);
        bytes
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
            Step::Bind { at, .. }
            | Step::Connect { at, .. }
            | Step::Accept { at, .. }
            | Step::Send { at, .. }
            | Step::Receive { at, .. }
            | Step::Shutdown { at, .. }
            | Step::Close { at }
            | Step::Abort { at }
            | Step::TakeError { at }
            | Step::Poll { at } => match self.sockets[at as usize] {
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
        let fd = posix::socket(&mut self.world, libc::AF_INET, kind, 0).unwrap();
        if stream {
            self.set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &[1])
                .unwrap();
            self.set(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &[1])
                .unwrap();
        }
        self.put(at, Some(fd));
        Outcome::Done(0)
    }

    fn set(&mut self, fd: i32, level: i32, name: i32, value: &[i32]) -> Result<(), Errno> {
        let bytes: Vec<u8> = value.iter().flat_map(|word| word.to_ne_bytes()).collect();
        posix::setsockopt(&mut self.world, fd, level, name, &bytes)
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
            Step::Send { len, .. } => {
                let data = vec![0; len];
                let flags = libc::MSG_NOSIGNAL;
                outcome(
                    posix::send(world, fd, &[IoSlice::new(&data)], flags, None),
                    |n| n,
                )
            }
            Step::Receive { len, .. } => {
                let mut data = vec![0; len];
                let got = posix::receive(world, fd, &mut [IoSliceMut::new(&mut data)], 0);
                outcome(got, |message| message.len)
            }
            Step::Shutdown { how, .. } => outcome(posix::shutdown(world, fd, how), |()| 0),
            Step::Close { at } => {
                self.put(at, None);
                Outcome::Done(0)
            }
            Step::Abort { at } => {
                let set = self.set(fd, libc::SOL_SOCKET, libc::SO_LINGER, &[1, 0]);
                self.put(at, None);
                outcome(set, |()| 0)
            }
            Step::TakeError { .. } => {
                let error = posix::getsockopt(world, fd, libc::SOL_SOCKET, libc::SO_ERROR);
                let number = |bytes: Vec<u8>| bytes.first_chunk().map(|b| i32::from_ne_bytes(*b));
                outcome(error, |bytes| number(bytes).unwrap() as usize)
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
