//! A program on the kernel's sockets, over its loopback.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
};

use crate::counts::{self, Counts};
use crate::program::{Outcome, SETS, SOCKETS, Step};

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// TCP_FIN_WAIT1, TCP_LAST_ACK and TCP_CLOSING of linux/tcp_states.h.
const FIN_UNDER_WAY: [u8; 3] = [4, 9, 11];

pub(crate) struct Kernel {
    /// Where its programs begin to count ports.
    first: SocketAddr,
    sockets: [Option<OwnedFd>; SOCKETS as usize],
    sets: [Option<OwnedFd>; SETS as usize],
    counts: Counts,
}

fn outcome<T>(result: Result<T, Errno>, number: impl FnOnce(T) -> usize) -> Outcome {
    match result {
        Ok(value) => Outcome::Done(number(value)),
        Err(error) => Outcome::Failed(error.raw_os_error()),
    }
}

fn control(set: &OwnedFd, how: i32, fd: &OwnedFd, word: u64, events: u32) -> Outcome {
    let data = epoll::EventData::new_u64(word);
    let events = epoll::EventFlags::from_bits_retain(events);
    let done = match how {
        libc::EPOLL_CTL_ADD => epoll::add(set, fd, data, events),
        libc::EPOLL_CTL_MOD => epoll::modify(set, fd, data, events),
        _ => epoll::delete(set, fd),
    };
    outcome(done, |()| 0)
}

impl Kernel {
    pub(crate) fn new(first: SocketAddr) -> Self {
        Self {
            first,
            sockets: Default::default(),
            sets: Default::default(),
            counts: Counts::default(),
        }
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.first.ip(), self.first.port() + port)
    }

    pub(crate) fn play(&mut self, step: Step) -> Outcome {
        match step {
            Step::Create { set } => {
                let made = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
                self.sets[set as usize] = Some(made);
                Outcome::Done(0)
            }
            Step::CloseSet { set } => match self.sets[set as usize].take() {
                Some(_) => Outcome::Done(0),
                None => Outcome::Absent,
            },
            step if step.counts() => self.counts.play(step),
            Step::ControlCount {
                set,
                how,
                at,
                events,
            } => {
                let (Some(set), Some(fd)) = (&self.sets[set as usize], self.counts.get(at)) else {
                    return Outcome::Absent;
                };
                control(set, how, fd, u64::from(at) | counts::WORD, events)
            }
            Step::Control { set, .. } => self.control(step, set),
            Step::Wait { set, most } => {
                let Some(set) = &self.sets[set as usize] else {
                    return Outcome::Absent;
                };
                let mut room = vec![MaybeUninit::<epoll::Event>::uninit(); most];
                let (told, _) = epoll::wait(set, &mut room[..], Some(&NOW)).unwrap();
                // An event is packed: its parts are copied before they are asked.
                let told = told.iter().map(|event| {
                    let (data, flags) = (event.data, event.flags);
                    (data.u64(), flags.bits())
                });
                Outcome::Events(told.collect())
            }
            Step::Socket { at, stream } => {
                self.sockets[at as usize] = None;
                let kind = if stream {
                    SocketType::STREAM
                } else {
                    SocketType::DGRAM
                };
                let flags = SocketFlags::NONBLOCK;
                let family = match self.first.is_ipv4() {
                    true => AddressFamily::INET,
                    false => AddressFamily::INET6,
                };
                let fd = net::socket_with(family, kind, flags, None).unwrap();
                if stream {
                    sockopt::set_socket_reuseaddr(&fd, true).unwrap();
                    sockopt::set_tcp_nodelay(&fd, true).unwrap();
                }
                self.sockets[at as usize] = Some(fd);
                Outcome::Done(0)
            }
            _ => {
                let at = step.socket();
                match at.and_then(|at| Some((at, self.sockets[at as usize].take()?))) {
                    Some((at, fd)) => self.call(step, at, fd),
                    None => Outcome::Absent,
                }
            }
        }
    }

    /// Waits until no FIN of a socket here is without its ACK: no call says so, but who watches hears of it. An ACK may be delayed,
    /// and one that was lost is none of this.
    pub(crate) fn settle(&self, most: Duration) {
        let begun = Instant::now();
        let waits = |fd: &OwnedFd| {
            netns::socket::tcp_info(fd).is_ok_and(|info| FIN_UNDER_WAY.contains(&info.state))
        };
        while self.sockets.iter().flatten().any(waits) && begun.elapsed() < most {
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn control(&self, step: Step, set: u32) -> Outcome {
        let Step::Control {
            how,
            nests,
            at,
            events,
            ..
        } = step
        else {
            return Outcome::Absent;
        };
        let places = if nests {
            &self.sets[..]
        } else {
            &self.sockets[..]
        };
        let (Some(set), Some(fd)) = (&self.sets[set as usize], &places[at as usize]) else {
            return Outcome::Absent;
        };
        control(set, how, fd, u64::from(at) | u64::from(nests) << 32, events)
    }

    /// Does something with a socket, and puts it back unless that ends it.
    fn call(&mut self, step: Step, at: u32, fd: OwnedFd) -> Outcome {
        let told = match step {
            Step::Bind { port, .. } => {
                let bound = net::bind(&fd, &self.address(port));
                let listens = bound.and_then(|()| match net::listen(&fd, 8) {
                    Err(Errno::OPNOTSUPP) => Ok(()),
                    listens => listens,
                });
                outcome(listens, |()| 0)
            }
            Step::Connect { port, .. } => outcome(net::connect(&fd, &self.address(port)), |()| 0),
            Step::Accept { into, .. } => match net::accept_with(&fd, SocketFlags::NONBLOCK) {
                Ok(accepted) if into == at => {
                    drop(fd);
                    self.sockets[into as usize] = Some(accepted);
                    return Outcome::Done(0);
                }
                Ok(accepted) => {
                    self.sockets[into as usize] = Some(accepted);
                    Outcome::Done(0)
                }
                Err(error) => Outcome::Failed(error.raw_os_error()),
            },
            Step::Send { len, urgent, .. } => {
                let mut flags = SendFlags::NOSIGNAL;
                flags.set(SendFlags::OOB, urgent);
                outcome(net::send(&fd, &vec![0; len], flags), |n| n)
            }
            Step::Receive { len, urgent, .. } => {
                let mut flags = RecvFlags::empty();
                flags.set(RecvFlags::OOB, urgent);
                let mut data = vec![0; len];
                outcome(net::recv(&fd, &mut data[..], flags), |(n, _)| n)
            }
            Step::InLine { on, .. } => outcome(sockopt::set_socket_oobinline(&fd, on), |()| 0),
            Step::Shutdown { how, .. } => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][how as usize];
                outcome(net::shutdown(&fd, how), |()| 0)
            }
            Step::Close { .. } => return Outcome::Done(0),
            Step::Abort { .. } => {
                let set = sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
                return outcome(set, |()| 0);
            }
            Step::TakeError { .. } => outcome(sockopt::socket_error(&fd), |error| {
                error.err().map_or(0, |e| e.raw_os_error() as usize)
            }),
            _ => {
                let all = PollFlags::from_bits_retain(0x3fff);
                let mut fds = [PollFd::new(&fd, all)];
                let polled = poll(&mut fds, Some(&NOW));
                outcome(polled, |_| usize::from(fds[0].revents().bits()))
            }
        };
        self.sockets[at as usize] = Some(fd);
        told
    }
}
