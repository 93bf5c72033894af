//! A listener's queues and SYN cookies, with the kernel as the client.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use interop::{Cable, Family, Pattern, Plan, Setup, Streams, all_ended, kernel};
use netns::in_private;
use netns::socket::tcp_info;
use stack::{Count, SocketError, TcpOptions};

const LIMIT: Duration = Duration::from_secs(120);

/// Every handshake through a cookie: window scale, SACK and timestamps are what they would have been, and data flows.
#[test]
fn the_kernel_brings_cookies_back() {
    in_private!(LIMIT, || {
        for stamps in ["1", "0"] {
            netns::sysctl("ipv4/tcp_timestamps", stamps).unwrap();
            let machine = Setup::on(Cable::usual())
                .config(|c| c.tcp.syncookies = 2)
                .start();
            let listener = machine.listen(7, 16);
            for family in Family::BOTH {
                let peer = kernel::connect(family.host_port(7));
                let socket = machine.accept(listener);
                let theirs = tcp_info(&peer).unwrap();
                let ours = machine.call(move |turn| turn.host.tcp_info(socket).unwrap());
                let kept = stamps == "1";
                assert_eq!((ours.timestamps, theirs.timestamps), (kept, kept));
                assert_eq!((ours.sack, theirs.sack), (kept, kept));
                let shifts = if theirs.window_scaling {
                    (theirs.rcv_wscale, theirs.snd_wscale)
                } else {
                    (0, 0)
                };
                assert_eq!(ours.window_scales, shifts);
                assert_eq!(kept, theirs.window_scaling);
                let (app, ended) = Streams::of(&[socket], Plan::Echo);
                machine.run(app);
                kernel::echo(&peer, Pattern(1), 1 << 20);
                all_ended(&ended, 1);
            }
            let cookies = machine.call(|turn| {
                let counts = &turn.host.stats().counts;
                let all = [
                    Count::TcpSynCookiesSent,
                    Count::TcpSynCookiesReceived,
                    Count::TcpSynCookiesFailed,
                ];
                all.map(|what| counts.get(what))
            });
            assert_eq!((cookies[1], cookies[2]), (2, 0));
            machine.drain();
        }
    });
}

/// Clients whose final ACK found the accept queue full get in when there is room again.
#[test]
fn clients_beyond_the_backlog_get_in_later() {
    in_private!(LIMIT, || {
        let machine = Setup::on(Cable::usual()).start();
        let listener = machine.listen(7, 1);
        let clients: Vec<_> = (0..4)
            .map(|n| {
                std::thread::spawn(move || {
                    let mut client = kernel::connect(Family::V4.host_port(7));
                    client.write_all(&[n]).unwrap();
                    let mut back = [0];
                    client.read_exact(&mut back).unwrap();
                    assert_eq!(back, [n]);
                })
            })
            .collect();
        machine.wait("the queue to overflow", |turn| {
            let counts = &turn.host.stats().counts;
            (counts.get(Count::TcpListenOverflows) > 0).then_some(())
        });
        let (app, ended) = Streams::serve(listener, Plan::Echo);
        machine.run(app);
        for client in clients {
            client.join().unwrap();
        }
        all_ended(&ended, 4);
        machine.drain();
    });
}

/// TCP_DEFER_ACCEPT: the kernel is connected, and the application here hears of it with the first byte.
#[test]
fn a_connection_is_deferred_until_it_speaks() {
    in_private!(LIMIT, || {
        let machine = Setup::on(Cable::usual()).start();
        let listener = machine.call(|turn| {
            let options = TcpOptions {
                defer_accept: Some(Duration::from_secs(30)),
                ..turn.host.tcp_defaults()
            };
            let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7));
            turn.host.tcp_listen(turn.now, local, 16, &options).unwrap()
        });
        let mut peer = kernel::connect(Family::V4.host_port(7));
        let accepted = machine.call(move |turn| turn.host.tcp_accept(turn.now, listener));
        assert_eq!(accepted, Err(SocketError::WouldBlock));
        peer.write_all(b"now").unwrap();
        let socket = machine.accept(listener);
        let got = machine.receive(socket, 3).unwrap();
        assert_eq!(got, b"now");
        machine.close(socket);
        drop(peer);
        machine.drain();
    });
}

/// A client that uses the port of a connection in TIME-WAIT again is served at once.
#[test]
fn the_kernel_opens_a_tuple_in_time_wait_again() {
    in_private!(LIMIT, || {
        let machine = Setup::on(Cable::usual()).start();
        let listener = machine.listen(7, 16);
        let from = Family::V4.kernel_port(4000);
        for _ in 0..3 {
            let mut peer: TcpStream = kernel::connect_from(from, Family::V4.host_port(7));
            peer.write_all(b"x").unwrap();
            let socket = machine.accept(listener);
            assert_eq!(machine.receive(socket, 1).unwrap(), b"x");
            machine.close(socket);
            assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "the host closes first");
            drop(peer);
            machine.wait("TIME-WAIT", |turn| {
                (turn.host.tcp_occupancy().time_wait > 0).then_some(())
            });
        }
        machine.drain();
    });
}
