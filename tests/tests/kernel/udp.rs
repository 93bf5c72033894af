//! Datagrams: every size both ways, fragments, errors, broadcast and multicast.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use interop::alone::{self, Alone, DATAGRAM, V4, V6, sockaddr};
use interop::{
    Cable, Family, Machine, PATIENCE, Pattern, Recorder, Setup, Turn, Way, frames, kernel,
};
use netns::{in_private, link};
use posix::Control;
use stack::{Event, Outgoing, Ready, SocketError, SocketId, UdpOptions};

fn bind(machine: &Machine, local: SocketAddr, options: UdpOptions) -> SocketId {
    machine.call(move |turn| turn.host.udp_bind(turn.now, local, &options).unwrap())
}

/// A socket on every address of both families that sends everything back.
fn echo(machine: &Machine) {
    let socket = bind(
        machine,
        SocketAddr::from(([0u16; 8], 7)),
        UdpOptions::default(),
    );
    let mut buffer = vec![0; 1 << 16];
    machine.run(move |turn: &mut Turn<'_>, _: &[Event]| {
        while let Ok((n, from)) = turn.host.udp_recv_from(socket, &mut buffer) {
            let sent = turn
                .host
                .udp_send_to(turn.now, socket, &buffer[..n], Some(from));
            assert_eq!(sent, Ok(n), "echo of {n} bytes to {from}");
        }
        true
    });
}

#[test]
fn datagrams_of_any_size_are_echoed() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            echo(&machine);
            for family in Family::BOTH {
                let socket = kernel::udp(family);
                socket.connect(family.host_port(7)).unwrap();
                let mut buffer = vec![0; 1 << 16];
                let full = 1500 - family.header() - 8;
                let sizes = [
                    0,
                    1,
                    8,
                    100,
                    full - 1,
                    full,
                    full + 1,
                    2 * full,
                    9000,
                    30_000,
                    65_507,
                ];
                for size in sizes {
                    let data = Pattern(size as u64).bytes(size);
                    assert_eq!(socket.send(&data).unwrap(), size);
                    let n = socket
                        .recv(&mut buffer)
                        .unwrap_or_else(|e| panic!("{size} bytes over {family:?}: {e}"));
                    assert!(
                        buffer[..n] == data,
                        "{size} bytes over {family:?} came back bent"
                    );
                }
            }
            let host = machine.stop();
            assert_eq!(host.pool().in_use(), 0, "blocks are left over");
        }
    });
}

/// UDP_SEGMENT: the kernel's socket gets the datagrams of a train, whether the device cut them or the host.
#[test]
fn a_train_arrives_as_its_datagrams() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            for family in Family::BOTH {
                let socket = kernel::udp(family);
                let to = Some(socket.local_addr().unwrap());
                let own = bind(&machine, family.host_port(0), UdpOptions::default());
                let mut buffer = vec![0; 1 << 16];
                // The neighbour is known from here on.
                machine
                    .call(move |turn| turn.host.udp_send_to(turn.now, own, b"x", to))
                    .unwrap();
                socket.recv(&mut buffer).unwrap();
                for (len, size) in [
                    (10_500, 1_000),
                    (60_000, 1_200),
                    (2_000, 16),
                    (1_000, 1_000),
                ] {
                    let data = Pattern(len as u64).bytes(len);
                    let (sent, how) = (
                        data.clone(),
                        Outgoing {
                            to,
                            tos: Some(2),
                            segment: Some(size),
                            ..Outgoing::default()
                        },
                    );
                    let taken =
                        machine.call(move |turn| turn.host.udp_send(turn.now, own, &sent, &how));
                    assert_eq!(taken, Ok(len));
                    for (at, piece) in data.chunks(usize::from(size)).enumerate() {
                        let n = socket.recv(&mut buffer).unwrap();
                        assert!(
                            buffer[..n] == *piece,
                            "{cable:?} {family:?} {size}: datagram {at}"
                        );
                    }
                }
            }
            let host = machine.stop();
            assert_eq!(host.pool().in_use(), 0, "blocks are left over");
        }
    });
}

/// Two sockets that talk to each other, the kernel's or a host's; errors are numbers.
trait Ends {
    fn set(&mut self, receives: bool, option: (i32, i32), value: i32) -> Result<(), i32>;
    fn number(&mut self, option: (i32, i32)) -> i32;
    fn send(&mut self, bytes: &[u8]);
    /// Bytes, flags and control messages.
    fn read(&mut self, room: usize, flags: i32) -> Result<(Vec<u8>, i32, Vec<Control>), i32>;
    fn next(&mut self) -> i32;
}

struct Kernels(UdpSocket, UdpSocket);

impl Ends for Kernels {
    fn set(&mut self, receives: bool, option: (i32, i32), value: i32) -> Result<(), i32> {
        let socket = if receives { &self.0 } else { &self.1 };
        let set = netns::socket::set_number(socket, option.0, option.1, value);
        set.map_err(|error| error.raw_os_error().unwrap())
    }
    fn number(&mut self, option: (i32, i32)) -> i32 {
        netns::socket::number(&self.0, option.0, option.1).unwrap()
    }
    fn send(&mut self, bytes: &[u8]) {
        assert_eq!(self.1.send(bytes).unwrap(), bytes.len());
    }
    fn read(&mut self, room: usize, flags: i32) -> Result<(Vec<u8>, i32, Vec<Control>), i32> {
        let mut buffer = vec![0; room];
        let got = netns::socket::receive_message(&self.0, &mut buffer, flags);
        let got = got.map_err(|error| error.raw_os_error().unwrap())?;
        // With MSG_TRUNC the length is that of the datagram.
        buffer.truncate(got.len);
        Ok((
            buffer,
            got.flags,
            posix::parse_control(&got.control).unwrap(),
        ))
    }
    fn next(&mut self) -> i32 {
        rustix::io::ioctl_fionread(&self.0).unwrap() as i32
    }
}

struct Ours(Alone, i32, i32);

impl Ends for Ours {
    fn set(&mut self, receives: bool, option: (i32, i32), value: i32) -> Result<(), i32> {
        let fd = if receives { self.1 } else { self.2 };
        let set = alone::set(&mut self.0, fd, option.0, option.1, value);
        set.map_err(|error| error.0)
    }
    fn number(&mut self, option: (i32, i32)) -> i32 {
        alone::number(&mut self.0, self.1, option.0, option.1).unwrap()
    }
    fn send(&mut self, bytes: &[u8]) {
        assert_eq!(alone::put(&mut self.0, self.2, bytes, 0), Ok(bytes.len()));
    }
    fn read(&mut self, room: usize, flags: i32) -> Result<(Vec<u8>, i32, Vec<Control>), i32> {
        let mut buffer = vec![0; room];
        let flags = flags | libc::MSG_DONTWAIT;
        let pieces = &mut [IoSliceMut::new(&mut buffer)];
        let got = posix::receive(&mut self.0, self.1, pieces, flags).map_err(|error| error.0)?;
        buffer.truncate(got.len);
        Ok((buffer, got.flags, got.control))
    }
    fn next(&mut self) -> i32 {
        posix::ioctl(&mut self.0, self.1, libc::FIONREAD, 0).unwrap()
    }
}

/// One script of UDP_GRO; what every call gave.
fn trains(ends: &mut dyn Ends, v6: bool) -> Vec<String> {
    const GRO: (i32, i32) = (libc::SOL_UDP, libc::UDP_GRO);
    const SEGMENT: (i32, i32) = (libc::SOL_UDP, libc::UDP_SEGMENT);
    let mut told = vec![format!("{}", ends.number(GRO))];
    for value in [2, -1, 0, 1] {
        let set = ends.set(true, GRO, value);
        told.push(format!("{value}: {set:?} {}", ends.number(GRO)));
    }
    let mut all = |ends: &mut dyn Ends, room: usize, flags: i32| loop {
        told.push(format!("{} {:?}", ends.next(), ends.read(room, flags)));
        if told.last().is_some_and(|line| line.contains("Err")) {
            break;
        }
    };
    ends.send(b"one by itself");
    all(ends, 100, 0);
    ends.set(false, SEGMENT, 4).unwrap();
    for (bytes, room) in [
        (&b"ten bytes."[..], 100),
        (b"four", 100),
        (b"", 100),
        (b"two by 4", 100),
        (b"cut off!", 5),
    ] {
        ends.send(bytes);
        assert!(ends.read(room, libc::MSG_PEEK).is_ok());
        all(ends, room, 0);
    }
    ends.send(b"ten bytes.");
    all(ends, 5, libc::MSG_TRUNC);
    // What a host says to itself is joined only as it was said.
    (0..3).for_each(|_| ends.send(b"four"));
    all(ends, 100, 0);
    // What was taken in stays as it is, and is told to who asks now.
    ends.set(true, GRO, 0).unwrap();
    ends.send(b"ten bytes.");
    ends.set(true, GRO, 1).unwrap();
    all(ends, 100, 0);
    ends.send(b"ten bytes.");
    ends.set(true, GRO, 0).unwrap();
    all(ends, 100, 0);
    ends.set(true, GRO, 1).unwrap();
    let others = if v6 {
        [libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVTCLASS].map(|name| (libc::SOL_IPV6, name))
    } else {
        [libc::IP_RECVTTL, libc::IP_RECVTOS].map(|name| (libc::SOL_IP, name))
    };
    for option in others {
        ends.set(true, option, 1).unwrap();
    }
    ends.set(false, SEGMENT, 1400).unwrap();
    ends.send(&Pattern(3).bytes(60_000));
    all(ends, 1 << 16, 0);
    told
}

/// UDP_GRO of a posix socket, beside the kernel's: what is one, what is told of it, and what is not.
#[test]
fn trains_are_read_as_by_the_kernels_sockets() {
    in_private!(|| {
        link::set_up("lo").unwrap();
        for (v6, own) in [(false, "127.0.0.1:0"), (true, "[::1]:0")] {
            let sockets = [(); 2].map(|()| UdpSocket::bind(own).unwrap());
            let [server, client] = sockets;
            client.connect(server.local_addr().unwrap()).unwrap();
            server.set_nonblocking(true).unwrap();
            let mut world = Alone::new();
            let family = if v6 { V6 } else { V4 };
            let fds = [(); 2].map(|()| posix::socket(&mut world, family, DATAGRAM, 0).unwrap());
            let at = own.replace(":0", ":7");
            posix::bind(&mut world, fds[0], &sockaddr(&at)).unwrap();
            posix::connect(&mut world, fds[1], &sockaddr(&at)).unwrap();
            let kernels = trains(&mut Kernels(server, client), v6);
            let ours = trains(&mut Ours(world, fds[0], fds[1]), v6);
            for (at, (kernel, our)) in kernels.iter().zip(&ours).enumerate() {
                assert_eq!(our, kernel, "line {at}");
            }
            assert_eq!(ours.len(), kernels.len());
        }
    });
}

/// UDP_GRO: a train of the kernel's is one, and so are datagrams that came in one batch, whoever cut them.
#[test]
fn a_train_is_read_as_it_came() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            for family in Family::BOTH {
                let gro = UdpOptions {
                    gro: true,
                    ..UdpOptions::default()
                };
                let own = bind(&machine, family.host_port(7), gro);
                let socket = kernel::udp(family);
                socket.connect(family.host_port(7)).unwrap();
                let segment = (libc::SOL_UDP, libc::UDP_SEGMENT);
                netns::socket::set_number(&socket, segment.0, segment.1, 1000).unwrap();
                let data = Pattern(9).bytes(20_500);
                socket.send(&data).unwrap();
                let mut got = Vec::new();
                let end = std::time::Instant::now() + PATIENCE;
                while got.len() < data.len() {
                    assert!(std::time::Instant::now() < end, "{cable:?} {family:?}");
                    let part = machine.call(move |turn| {
                        let mut buffer = vec![0; 1 << 16];
                        let received = turn.host.udp_recv(own, &mut buffer).ok()?;
                        assert_eq!(received.segment, (received.len > 1000).then_some(1000));
                        buffer.truncate(received.copied);
                        Some(buffer)
                    });
                    match part {
                        Some(part) => got.extend(part),
                        None => std::thread::sleep(Duration::from_millis(1)),
                    }
                }
                assert!(got == data);
            }
            let host = machine.stop();
            assert_eq!(host.pool().in_use(), 0, "blocks are left over");
        }
    });
}

#[test]
fn a_closed_port_is_reported_to_the_kernels_socket() {
    in_private!(|| {
        for cable in Cable::all() {
            let _machine = Setup::on(cable).start();
            for family in Family::BOTH {
                let socket = kernel::udp(family);
                socket.connect(family.host_port(9)).unwrap();
                socket.send(b"anybody there?").unwrap();
                let refused = socket.recv(&mut [0; 100]).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{family:?}");
            }
        }
    });
}

#[test]
fn a_closed_port_is_reported_to_the_hosts_socket() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            for family in Family::BOTH {
                let socket = bind(&machine, family.host_port(0), UdpOptions::default());
                machine.call(move |turn| {
                    let (host, now) = (&mut *turn.host, turn.now);
                    host.udp_connect(now, socket, family.kernel_port(9))
                        .unwrap();
                    host.udp_send_to(now, socket, b"anybody there?", None)
                        .unwrap();
                });
                let error = machine.wait("the error to arrive", move |turn| {
                    let ready = turn.host.ready(socket);
                    ready
                        .contains(Ready::ERROR)
                        .then(|| turn.host.udp_recv_from(socket, &mut [0; 100]))
                });
                assert_eq!(error, Err(SocketError::ConnectionRefused), "{family:?}");

                // A socket without a peer is not told (RFC 1122 4.1.3.3 lets it, Linux does not).
                let socket = bind(&machine, family.host_port(0), UdpOptions::default());
                let to = Some(family.kernel_port(9));
                machine.call(move |turn| {
                    turn.host.udp_send_to(turn.now, socket, b"x", to).unwrap();
                });
                std::thread::sleep(Duration::from_millis(20));
                let nothing =
                    machine.call(move |turn| turn.host.udp_recv_from(socket, &mut [0; 9]));
                assert_eq!(nothing, Err(SocketError::WouldBlock));
            }
        }
    });
}

#[test]
fn ttl_is_sent_and_any_is_accepted() {
    in_private!(|| {
        let recorder = Recorder::default();
        let machine = Setup::on(Cable::usual()).policy(recorder.policy()).start();
        echo(&machine);
        for family in Family::BOTH {
            let socket = kernel::udp(family);
            // What is for this host needs no hops.
            match family {
                Family::V4 => socket.set_ttl(1).unwrap(),
                Family::V6 => {
                    rustix::net::sockopt::set_ipv6_unicast_hops(&socket, Some(1)).unwrap()
                }
            }
            socket.send_to(b"default", family.host_port(7)).unwrap();
            socket.recv(&mut [0; 100]).unwrap();

            let options = UdpOptions {
                ttl: Some(7),
                tos: 0xb8,
                ..UdpOptions::default()
            };
            let to = socket.local_addr().unwrap();
            let own = bind(&machine, family.host_port(0), options);
            machine.call(move |turn| {
                turn.host
                    .udp_send_to(turn.now, own, b"seven", Some(to))
                    .unwrap();
            });
            let mut buffer = [0; 100];
            let n = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"seven");
            let sent: Vec<_> = recorder.take();
            let ttl_of = |text: &[u8], way: Way| {
                let mut hits = sent.iter().filter(|(w, _)| *w == way);
                hits.find_map(|(_, f)| {
                    frames::ip(f)
                        .filter(|ip| ip.protocol == 17 && ip.payload.ends_with(text))
                        .map(|ip| ip.ttl)
                })
            };
            assert_eq!(ttl_of(b"default", Way::In), Some(1));
            assert_eq!(ttl_of(b"default", Way::Out), Some(64));
            assert_eq!(ttl_of(b"seven", Way::Out), Some(7));
        }
    });
}

#[test]
fn broadcasts_go_both_ways() {
    in_private!(|| {
        let machine = Setup::on(Cable::usual()).start();
        let everybody = SocketAddr::from(([10, 77, 0, 255], 4000));
        let host = bind(
            &machine,
            "0.0.0.0:4000".parse().unwrap(),
            UdpOptions::default(),
        );
        let socket = UdpSocket::bind("0.0.0.0:4000").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_broadcast(true).unwrap();

        socket.send_to(b"hello all", everybody).unwrap();
        let (text, from) = machine.wait("the broadcast", move |turn| {
            let mut buffer = [0; 100];
            let (n, from) = turn.host.udp_recv_from(host, &mut buffer).ok()?;
            Some((buffer[..n].to_vec(), from))
        });
        assert_eq!(text, b"hello all");
        assert_eq!(from, Family::V4.kernel_port(4000));
        // The kernel heard itself.
        assert_eq!(socket.recv_from(&mut [0; 100]).unwrap().1, from);

        let refused =
            machine.call(move |turn| turn.host.udp_send_to(turn.now, host, b"x", Some(everybody)));
        assert_eq!(refused, Err(SocketError::PermissionDenied));
        machine.call(move |turn| {
            turn.host
                .udp_set_options(host, |o| o.broadcast = true)
                .unwrap();
            turn.host
                .udp_send_to(turn.now, host, b"hello back", Some(everybody))
                .unwrap();
        });
        let mut buffer = [0; 100];
        let (n, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"hello back");
        assert_eq!(from, Family::V4.host_port(4000));
        // A broadcast to a port nobody listens at is not answered: nothing may arrive here.
        socket
            .send_to(b"x", SocketAddr::from(([10, 77, 0, 255], 4001)))
            .unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        assert_eq!(
            socket.recv_from(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    });
}

#[test]
fn groups_are_joined_and_heard() {
    in_private!(|| {
        let machine = Setup::on(Cable::usual()).start();
        let index = link::index(machine.link()).unwrap();
        let groups: [IpAddr; 2] = ["239.1.2.3".parse().unwrap(), "ff05::1:3".parse().unwrap()];
        for (family, group) in Family::BOTH.into_iter().zip(groups) {
            let any: SocketAddr = match family {
                Family::V4 => (Ipv4Addr::UNSPECIFIED, 5000).into(),
                Family::V6 => (Ipv6Addr::UNSPECIFIED, 5000).into(),
            };
            let options = UdpOptions {
                only_v6: family == Family::V6,
                ..UdpOptions::default()
            };
            let host = bind(&machine, any, options);
            machine.call(move |turn| {
                turn.host
                    .udp_join(turn.now, host, turn.interface, group)
                    .unwrap();
            });
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            match group {
                IpAddr::V4(group) => {
                    let Family::V4 = family else { unreachable!() };
                    let IpAddr::V4(own) = family.kernel() else {
                        unreachable!()
                    };
                    socket.join_multicast_v4(&group, &own).unwrap();
                    rustix::net::sockopt::set_ip_multicast_if(&socket, &own).unwrap();
                    socket.set_multicast_loop_v4(false).unwrap();
                }
                IpAddr::V6(group) => {
                    socket.join_multicast_v6(&group, index).unwrap();
                    rustix::net::sockopt::set_ipv6_multicast_if(&socket, index).unwrap();
                    socket.set_multicast_loop_v6(false).unwrap();
                }
            }
            let to = SocketAddr::new(group, 5000);
            socket.send_to(b"to the group", to).unwrap();
            let (text, from) = machine.wait("the group's datagram", move |turn| {
                let mut buffer = [0; 100];
                let (n, from) = turn.host.udp_recv_from(host, &mut buffer).ok()?;
                Some((buffer[..n].to_vec(), from))
            });
            assert_eq!(text, b"to the group");
            assert_eq!(from.ip(), family.kernel());
            machine.call(move |turn| {
                turn.host
                    .udp_send_to(turn.now, host, b"and back", Some(to))
                    .unwrap();
            });
            let mut buffer = [0; 100];
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"and back");
            assert_eq!(from.ip(), family.host());
            machine.call(move |turn| {
                turn.host
                    .udp_leave(turn.now, host, turn.interface, group)
                    .unwrap();
                turn.host.close(turn.now, host).unwrap();
            });
        }
    });
}
