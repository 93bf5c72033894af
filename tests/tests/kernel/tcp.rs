//! TCP, the ordinary way: connections both ways, transfers both ways, and every way to end them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use interop::{Cable, Family, Machine, PATIENCE, Pattern, Plan, Setup, Streams, all_ended, kernel};
use netns::in_private;
use netns::socket::tcp_info;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use stack::{SocketError, SocketId, State};

const LIMIT: Duration = Duration::from_secs(120);

/// A connection the host opened, both ends of it.
fn opened_by_host(machine: &Machine, family: Family) -> (SocketId, TcpStream) {
    let listener = TcpListener::bind((family.kernel(), 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let socket = machine.connect(to, None).unwrap();
    let (peer, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), family.host());
    kernel::patient(&peer);
    (socket, peer)
}

/// A connection the kernel opened, both ends of it.
fn opened_by_kernel(
    machine: &Machine,
    listener: SocketId,
    family: Family,
) -> (SocketId, TcpStream) {
    let peer = kernel::connect(family.host_port(7));
    (machine.accept(listener), peer)
}

fn left_over(machine: Machine) {
    machine.drain();
    let host = machine.stop();
    assert_eq!(host.pool().in_use(), 0, "blocks are left over");
}

#[test]
fn the_kernel_connects_and_is_echoed() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            let listener = machine.listen(7, 16);
            let (app, ended) = Streams::serve(listener, Plan::Echo);
            machine.run(app);
            for family in Family::BOTH {
                let large = if cable.offloads() { 64 << 20 } else { 8 << 20 };
                for total in [0, 1, 536, 1460, 1461, 100_000, large] {
                    let socket = kernel::connect(family.host_port(7));
                    kernel::echo(&socket, Pattern(total), total);
                    all_ended(&ended, 1);
                }
            }
            left_over(machine);
        }
    });
}

#[test]
fn the_host_connects_and_bytes_go_both_ways_at_once() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            for family in Family::BOTH {
                let large = if cable.offloads() { 64 << 20 } else { 8 << 20 };
                for total in [0, 1, 1460, 1461, 100_000, large] {
                    let (socket, peer) = opened_by_host(&machine, family);
                    let plan = Plan::Exchange {
                        send: (Pattern(1), total),
                        expect: (Pattern(2), total),
                    };
                    let (app, ended) = Streams::of(&[socket], plan);
                    machine.run(app);
                    kernel::exchange(&peer, (Pattern(2), total), (Pattern(1), total));
                    all_ended(&ended, 1);
                }
            }
            left_over(machine);
        }
    });
}

#[test]
fn one_side_may_close_long_before_the_other() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            for family in Family::BOTH {
                // The kernel ends at once and goes on receiving; then the host does.
                for (up, down) in [(0, 4 << 20), (4 << 20, 0), (1, 300_000), (300_000, 1)] {
                    let (socket, peer) = opened_by_host(&machine, family);
                    let plan = Plan::Exchange {
                        send: (Pattern(3), down),
                        expect: (Pattern(4), up),
                    };
                    if up < down {
                        kernel::send(&peer, Pattern(4), up);
                        peer.shutdown(Shutdown::Write).unwrap();
                        machine.wait("the kernel's FIN", move |turn| {
                            let state = turn.host.tcp_state(socket).unwrap();
                            (state == State::CloseWait).then_some(())
                        });
                        let (app, ended) = Streams::of(&[socket], plan);
                        machine.run(app);
                        kernel::expect(&peer, Pattern(3), down);
                        all_ended(&ended, 1);
                    } else {
                        let (app, ended) = Streams::of(&[socket], plan);
                        machine.run(app);
                        kernel::expect(&peer, Pattern(3), down);
                        kernel::send(&peer, Pattern(4), up);
                        peer.shutdown(Shutdown::Write).unwrap();
                        all_ended(&ended, 1);
                    }
                }
            }
            left_over(machine);
        }
    });
}

#[test]
fn a_closed_port_refuses() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            for family in Family::BOTH {
                let start = Instant::now();
                let refused = TcpStream::connect(family.host_port(81)).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{family:?}");
                let refused = machine.connect(family.kernel_port(81), None).unwrap_err();
                assert_eq!(refused, SocketError::ConnectionRefused, "{family:?}");
                assert!(start.elapsed() < Duration::from_secs(5));
            }
            left_over(machine);
        }
    });
}

#[test]
fn an_abort_resets_the_other_side() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            let listener = machine.listen(7, 16);
            for family in Family::BOTH {
                let (socket, mut peer) = opened_by_kernel(&machine, listener, family);
                machine.call(move |turn| turn.host.abort(turn.now, socket).unwrap());
                let reset = peer.read(&mut [0; 10]).unwrap_err();
                assert_eq!(reset.kind(), ErrorKind::ConnectionReset, "{family:?}");

                let (socket, peer) = opened_by_kernel(&machine, listener, family);
                kernel::reset_on_close(&peer);
                drop(peer);
                let reset = machine.receive(socket, 1).unwrap_err();
                assert_eq!(reset, SocketError::ConnectionReset, "{family:?}");
                machine.close(socket);

                // Closing with unread bytes is an abort as well (RFC 2525 2.17), on both sides.
                let (socket, mut peer) = opened_by_kernel(&machine, listener, family);
                peer.write_all(b"never read").unwrap();
                machine.wait("the bytes to arrive", move |turn| {
                    (turn.host.tcp_info(socket).unwrap().unread == 10).then_some(())
                });
                machine.close(socket);
                let reset = peer.read(&mut [0; 10]).unwrap_err();
                assert_eq!(reset.kind(), ErrorKind::ConnectionReset, "{family:?}");

                let (socket, peer) = opened_by_kernel(&machine, listener, family);
                machine.send_all(socket, b"never read".to_vec());
                peer.peek(&mut [0; 10]).unwrap();
                drop(peer);
                let reset = machine.receive(socket, 1).unwrap_err();
                assert_eq!(reset, SocketError::ConnectionReset, "{family:?}");
                machine.close(socket);
            }
            left_over(machine);
        }
    });
}

#[test]
fn both_may_close_at_the_same_time() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            let listener = machine.listen(7, 16);
            for family in Family::BOTH {
                let (socket, mut peer) = opened_by_kernel(&machine, listener, family);
                let (ready, go) = mpsc::channel();
                let (done, closed) = mpsc::channel();
                let twin = peer.try_clone().unwrap();
                let other = std::thread::spawn(move || {
                    go.recv().unwrap();
                    twin.shutdown(Shutdown::Write).unwrap();
                    done.send(()).unwrap();
                });
                // The host's turn stands still while the kernel sends its FIN: the two cross.
                machine.call(move |turn| {
                    turn.host
                        .tcp_shutdown(turn.now, socket, stack::Shutdown::Write)
                        .unwrap();
                    ready.send(()).unwrap();
                    closed.recv().unwrap();
                });
                other.join().unwrap();
                assert_eq!(peer.read(&mut [0; 10]).unwrap(), 0);
                assert!(machine.receive(socket, 1).unwrap().is_empty());
                machine.close(socket);
                machine.wait("TIME-WAIT", move |turn| {
                    let mut all = turn.host.connections();
                    let port = peer.local_addr().unwrap().port();
                    let state = all.find(|c| c.remote.port() == port).map(|c| c.state);
                    (state == Some(State::TimeWait)).then_some(())
                });
            }
            left_over(machine);
        }
    });
}

#[test]
fn both_may_open_at_the_same_time() {
    in_private!(|| {
        for (n, cable) in (0..).zip(Cable::all()) {
            let machine = Setup::on(cable).start();
            for family in Family::BOTH {
                // The kernel's earlier connection may still be in TIME-WAIT.
                let (own, remote) = (family.kernel_port(5000 + n), family.host_port(6000));
                // Both know each other's hardware address, so that nothing but SYNs is on the way.
                drop(TcpStream::connect(family.host_port(81)).unwrap_err());
                let domain = match family {
                    Family::V4 => AddressFamily::INET,
                    Family::V6 => AddressFamily::INET6,
                };
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let peer =
                    rustix::net::socket_with(domain, SocketType::STREAM, flags, None).unwrap();
                rustix::net::bind(&peer, &own).unwrap();
                let peer = TcpStream::from(peer);
                let twin = peer.try_clone().unwrap();
                let socket = machine.call(move |turn| {
                    let started = rustix::net::connect(&twin, &remote);
                    assert_eq!(started, Err(rustix::io::Errno::INPROGRESS));
                    let options = turn.host.tcp_defaults();
                    turn.host
                        .tcp_connect(turn.now, own, Some(remote), &options)
                        .unwrap()
                });
                machine.send_all(socket, b"hello".to_vec());
                peer.set_nonblocking(false).unwrap();
                kernel::patient(&peer);
                let mut got = [0; 5];
                (&peer).read_exact(&mut got).unwrap();
                assert_eq!(&got, b"hello");
                let plan = Plan::Exchange {
                    send: (Pattern(5), 100_000),
                    expect: (Pattern(6), 100_000),
                };
                let (app, ended) = Streams::of(&[socket], plan);
                machine.run(app);
                kernel::exchange(&peer, (Pattern(6), 100_000), (Pattern(5), 100_000));
                all_ended(&ended, 1);
            }
            left_over(machine);
        }
    });
}

#[test]
fn urgent_data_arrive_in_their_place() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            let listener = machine.listen(7, 16);
            for family in Family::BOTH {
                let (socket, mut peer) = opened_by_kernel(&machine, listener, family);
                peer.write_all(b"before ").unwrap();
                let sent = rustix::net::send(&peer, b"!", rustix::net::SendFlags::OOB).unwrap();
                assert_eq!(sent, 1);
                peer.write_all(b" after").unwrap();
                peer.shutdown(Shutdown::Write).unwrap();
                // RFC 6093 3.1, 6: the urgent byte is a byte of the stream.
                let all = machine.receive(socket, 100).unwrap();
                assert_eq!(all, b"before ! after", "{family:?}");
                machine.close(socket);
                assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
            }
            left_over(machine);
        }
    });
}

#[test]
fn a_listener_takes_no_more_than_its_backlog() {
    in_private!(|| {
        for family in Family::BOTH {
            let machine = Setup::on(Cable::usual()).start();
            let listener = machine.listen(7, 4);
            let clients: Vec<_> = (0..20)
                .map(|n| {
                    std::thread::spawn(move || {
                        let socket = kernel::connect(family.host_port(7));
                        kernel::echo(&socket, Pattern(n), 5000);
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(300));
            let waiting = machine.call(move |turn| {
                let mut all = turn.host.connections();
                all.find(|c| c.state == State::Listen)
                    .map(|c| c.receive_queue)
            });
            assert!(
                (4..=5).contains(&waiting.unwrap()),
                "{waiting:?} wait to be accepted by a backlog of 4"
            );
            // Who found no room tries again, and is served in the end.
            let (app, ended) = Streams::serve(listener, Plan::Echo);
            machine.run(app);
            for client in clients {
                client.join().unwrap();
            }
            all_ended(&ended, 20);
            left_over(machine);
        }
    });
}

#[test]
fn many_connections_at_once() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            let listener = machine.listen(7, 512);
            let (app, ended) = Streams::serve(listener, Plan::Echo);
            machine.run(app);
            for family in Family::BOTH {
                let sockets: Vec<_> = (0..500)
                    .map(|_| kernel::connect(family.host_port(7)))
                    .collect();
                std::thread::scope(|s| {
                    for (i, piece) in sockets.chunks(125).enumerate() {
                        s.spawn(move || {
                            // All of the piece are written before any is read.
                            for (n, socket) in piece.iter().enumerate() {
                                kernel::send(socket, Pattern((i * 1000 + n) as u64), 32 << 10);
                                socket.shutdown(Shutdown::Write).unwrap();
                            }
                            for (n, socket) in piece.iter().enumerate() {
                                kernel::expect(socket, Pattern((i * 1000 + n) as u64), 32 << 10);
                            }
                        });
                    }
                });
                all_ended(&ended, 500);
            }
            left_over(machine);
        }
    });
}

#[test]
fn ten_thousand_connections_one_after_the_other() {
    in_private!(LIMIT, || {
        let machine = Setup::on(Cable::usual()).start();
        let listener = machine.listen(7, 512);
        let (app, ended) = Streams::serve(listener, Plan::Echo);
        machine.run(app);
        let (clients, each) = (4, 2500);
        let retransmitted = &AtomicU32::new(0);
        std::thread::scope(|s| {
            for client in 0..clients {
                s.spawn(move || {
                    let family = Family::BOTH[client % 2];
                    for n in 0..each {
                        let mut socket = TcpStream::connect(family.host_port(7)).unwrap();
                        socket.set_read_timeout(Some(PATIENCE)).unwrap();
                        let request = Pattern(n).bytes(64);
                        socket.write_all(&request).unwrap();
                        let mut reply = [0; 64];
                        socket.read_exact(&mut reply).unwrap();
                        assert_eq!(reply[..], request[..]);
                        let again = tcp_info(&socket).unwrap().total_retrans;
                        retransmitted.fetch_add(again, Ordering::Relaxed);
                    }
                });
            }
        });
        all_ended(&ended, clients * each as usize);
        // None, unless the machine is so busy that the host's thread stands still for 200 ms.
        assert!(retransmitted.load(Ordering::Relaxed) < 100);
        left_over(machine);
    });
}
