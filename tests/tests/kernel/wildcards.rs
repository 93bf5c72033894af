//! Sockets on wildcards and addresses of both families that share a port, beside the kernel's: who may bind and listen, and who of
//! them gets what comes over IPv6 and over IPv4, also once those that came first have gone.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use base::Rng;
use interop::alone::{Alone, DATAGRAM, STREAM, V4, V6, get, put, set, sockaddr};
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept, bind, connect,
    listen, recv, send, sockopt,
};

/// Programs, and what is sent to tell who gets it: so much that of four who share nobody is left out.
const PROGRAMS: u64 = 80;
const SENT: usize = 70;
const BACKLOG: i32 = 100;

/// One socket: where it is bound, and whether it is for IPv6 alone.
#[derive(Debug, Clone, Copy)]
struct Way {
    at: &'static str,
    only_v6: bool,
}

const WAYS: [Way; 5] = [
    Way {
        at: "[::]",
        only_v6: false,
    },
    Way {
        at: "[::]",
        only_v6: true,
    },
    Way {
        at: "0.0.0.0",
        only_v6: false,
    },
    Way {
        at: "[::1]",
        only_v6: false,
    },
    Way {
        at: "127.0.0.1",
        only_v6: false,
    },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    None,
    Addr,
    Port,
}

#[derive(Debug)]
struct Program {
    stream: bool,
    sharing: Sharing,
    ways: Vec<Way>,
    port: u16,
}

impl Program {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        // Mostly the two wildcards of IPv6 that differ in what they take.
        let mut way = || match rng.below(6) {
            at @ 0..5 => WAYS[at as usize],
            _ => WAYS[0],
        };
        let ways = [way(), way(), way(), way()];
        let some = 2 + rng.below(3) as usize;
        Self {
            stream: rng.below(2) == 0,
            sharing: match rng.below(6) {
                0 => Sharing::None,
                1 => Sharing::Addr,
                _ => Sharing::Port,
            },
            ways: ways[..some].to_vec(),
            port: 5000 + seed as u16,
        }
    }
}

/// What is compared: what calls gave, and who got something.
type Log = Vec<String>;

trait Side {
    type Socket;
    fn open(&mut self, program: &Program, way: Way) -> Result<Self::Socket, i32>;
    /// Something comes from nobody who is known.
    fn reach(&mut self, program: &Program, to: &str) -> Result<(), i32>;
    /// Whether something has come; it is taken.
    fn took(&mut self, program: &Program, socket: &Self::Socket) -> bool;
    fn close(&mut self, socket: Self::Socket);
}

fn play<S: Side>(side: &mut S, program: &Program) -> Log {
    let (mut log, mut open) = (Log::new(), Vec::new());
    for (number, way) in program.ways.iter().enumerate() {
        match side.open(program, *way) {
            Ok(socket) => open.push((number, socket)),
            Err(error) => log.push(format!("{number}: {error}")),
        }
    }
    while !open.is_empty() {
        for to in ["[::1]", "127.0.0.1"] {
            let mut takers = Vec::new();
            for _ in 0..SENT {
                if let Err(error) = side.reach(program, to) {
                    takers.push(format!("error {error}"));
                }
                for (number, socket) in &open {
                    if side.took(program, socket) {
                        takers.push(number.to_string());
                    }
                }
            }
            takers.sort();
            takers.dedup();
            log.push(format!("{to}: {}", takers.join(" ")));
        }
        let (_, first) = open.remove(0);
        side.close(first);
    }
    log
}

struct Kernel;

fn raw<T>(result: rustix::io::Result<T>) -> Result<T, i32> {
    result.map_err(|error| error.raw_os_error())
}

fn kernels(stream: bool, v6: bool) -> OwnedFd {
    let family = if v6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let kind = if stream {
        SocketType::STREAM
    } else {
        SocketType::DGRAM
    };
    net::socket_with(family, kind, SocketFlags::empty(), None).unwrap()
}

impl Side for Kernel {
    type Socket = OwnedFd;

    fn open(&mut self, program: &Program, way: Way) -> Result<OwnedFd, i32> {
        let v6 = way.at.starts_with('[');
        let fd = kernels(program.stream, v6);
        match program.sharing {
            Sharing::None => {}
            Sharing::Addr => sockopt::set_socket_reuseaddr(&fd, true).unwrap(),
            Sharing::Port => sockopt::set_socket_reuseport(&fd, true).unwrap(),
        }
        if v6 {
            sockopt::set_ipv6_v6only(&fd, way.only_v6).unwrap();
        }
        let at: SocketAddr = format!("{}:{}", way.at, program.port).parse().unwrap();
        raw(bind(&fd, &at))?;
        if program.stream {
            raw(listen(&fd, BACKLOG))?;
        }
        rustix::io::ioctl_fionbio(&fd, true).unwrap();
        Ok(fd)
    }

    fn reach(&mut self, program: &Program, to: &str) -> Result<(), i32> {
        let fd = kernels(program.stream, to.starts_with('['));
        let to: SocketAddr = format!("{to}:{}", program.port).parse().unwrap();
        raw(connect(&fd, &to))?;
        if !program.stream {
            raw(send(&fd, b"x", SendFlags::empty()))?;
        }
        Ok(())
    }

    fn took(&mut self, program: &Program, socket: &OwnedFd) -> bool {
        match program.stream {
            true => accept(socket).is_ok(),
            false => recv(socket, &mut [0; 9][..], RecvFlags::empty()).is_ok(),
        }
    }

    fn close(&mut self, socket: OwnedFd) {
        drop(socket);
    }
}

impl Side for Alone {
    type Socket = i32;

    fn open(&mut self, program: &Program, way: Way) -> Result<i32, i32> {
        let v6 = way.at.starts_with('[');
        let kind = if program.stream { STREAM } else { DATAGRAM };
        let family = if v6 { V6 } else { V4 };
        let fd = posix::socket(self, family, kind | libc::SOCK_NONBLOCK, 0).unwrap();
        let option = match program.sharing {
            Sharing::None => None,
            Sharing::Addr => Some(libc::SO_REUSEADDR),
            Sharing::Port => Some(libc::SO_REUSEPORT),
        };
        if let Some(option) = option {
            set(self, fd, libc::SOL_SOCKET, option, 1).unwrap();
        }
        if v6 {
            let only = way.only_v6.into();
            set(self, fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only).unwrap();
        }
        let at = sockaddr(&format!("{}:{}", way.at, program.port));
        let opened = posix::bind(self, fd, &at).and_then(|()| match program.stream {
            true => posix::listen(self, fd, BACKLOG),
            false => Ok(()),
        });
        match opened {
            Ok(()) => Ok(fd),
            Err(error) => {
                self.close(fd);
                Err(error.0)
            }
        }
    }

    fn reach(&mut self, program: &Program, to: &str) -> Result<(), i32> {
        let kind = if program.stream { STREAM } else { DATAGRAM };
        let family = if to.starts_with('[') { V6 } else { V4 };
        let fd = posix::socket(self, family, kind, 0).unwrap();
        let to = sockaddr(&format!("{to}:{}", program.port));
        let reached = posix::connect(self, fd, &to).and_then(|()| match program.stream {
            true => Ok(()),
            false => put(self, fd, b"x", 0).map(|_| ()),
        });
        self.close(fd);
        reached.map_err(|error| error.0)
    }

    fn took(&mut self, program: &Program, socket: &i32) -> bool {
        match program.stream {
            true => match posix::accept(self, *socket, 0) {
                Ok((fd, _)) => {
                    self.close(fd);
                    true
                }
                Err(_) => false,
            },
            false => get(self, *socket, 9, 0).is_ok(),
        }
    }

    fn close(&mut self, socket: i32) {
        posix::close(self, socket).unwrap();
    }
}

#[test]
fn those_that_share_a_port_over_both_families_get_what_the_kernels_get() {
    netns::in_private!(|| {
        netns::link::set_up("lo").unwrap();
        for seed in 0..PROGRAMS {
            let program = Program::new(seed);
            let (kernels, ours) = (
                play(&mut Kernel, &program),
                play(&mut Alone::new(), &program),
            );
            assert_eq!(ours, kernels, "ours, the kernel's: {program:?}");
        }
    });
}
