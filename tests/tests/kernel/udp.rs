//! Datagrams: every size both ways, fragments, errors, broadcast and multicast.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use interop::{
    Cable, Family, Machine, PATIENCE, Pattern, Recorder, Setup, Turn, Way, frames, kernel,
};
use netns::{in_private, link};
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
