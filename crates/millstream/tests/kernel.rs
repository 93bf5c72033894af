//! One program over the kernel's sockets and over Millstream's: it sees the same results, errno by errno.
#![allow(clippy::unwrap_used, deprecated)]

mod common;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use common::hosts;

/// What a call gave: a value in words, or the error's kind and number.
fn told<T: std::fmt::Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?} {:?}", error.kind(), error.raw_os_error()),
    }
}

/// The program: macros, because std's types have no trait in common. Everything happens within one host.
macro_rules! tcp_program {
    ($listen:expr, $connect:expr, $connect_timeout:expr) => {{
        let mut log: Vec<(&str, String)> = Vec::new();
        let brief = Some(Duration::from_millis(10));
        // Long enough for a segment to cross, and of no matter if it is not: the calls below wait.
        let settle = || thread::sleep(Duration::from_millis(30));
        let listener = $listen("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let pair = || {
            let client = $connect(&target.to_string()).unwrap();
            (client, listener.accept().unwrap().0)
        };

        log.push(("refused", told($connect("127.0.0.1:1").map(drop))));
        log.push(("port 0", told($connect("127.0.0.1:0").map(drop))));
        log.push(("no route", told($connect("203.0.113.1:80").map(drop))));
        log.push(("to a group", told($connect("224.0.0.1:80").map(drop))));
        log.push((
            "nothing",
            told(
                $connect("")
                    .map(drop)
                    .map_err(|_| io::ErrorKind::Other.into()),
            ),
        ));
        let none = $connect_timeout(
            &"127.0.0.1:1".parse::<SocketAddr>().unwrap(),
            Duration::ZERO,
        );
        log.push(("no time", told(none.map(drop))));
        log.push(("in use", told($listen(&target.to_string()).map(drop))));
        // An address and all addresses: one port is one listener's, whoever comes first.
        let everywhere = format!("0.0.0.0:{}", target.port());
        log.push(("in use everywhere", told($listen(&everywhere).map(drop))));
        let everywhere = format!("[::]:{}", target.port());
        log.push(("in both families", told($listen(&everywhere).map(drop))));
        let other = format!("127.0.0.2:{}", target.port());
        log.push(("another address", told($listen(&other).map(drop))));
        let six = format!("[::1]:{}", target.port());
        log.push(("another family", told($listen(&six).map(drop))));
        let wide = $listen("[::]:0").unwrap();
        let port = wide.local_addr().unwrap().port();
        for own in ["0.0.0.0", "127.0.0.1", "[::1]"] {
            let in_use = $listen(&format!("{own}:{port}"));
            log.push(("in use by both families", told(in_use.map(drop))));
        }
        // Sockets of IPv6 show IPv4 v4-mapped, those of IPv4 as it is.
        let mapped = $listen("[::ffff:127.0.0.1]:0").unwrap();
        for (listener, at) in [(&wide, "127.0.0.1"), (&wide, "[::ffff:127.0.0.1]")]
            .into_iter()
            .chain([(&mapped, "127.0.0.1")])
        {
            let own = listener.local_addr().unwrap();
            let near = $connect(&format!("{at}:{}", own.port())).unwrap();
            let (far, peer) = listener.accept().unwrap();
            let ends = [
                near.local_addr(),
                near.peer_addr(),
                far.local_addr(),
                far.peer_addr(),
            ];
            let ips = ends.map(|end| end.unwrap().ip());
            log.push(("shown", format!("{} {} {ips:?}", own.ip(), peer.ip())));
        }
        drop((wide, mapped));
        log.push(("not ours", told($listen("203.0.113.1:80").map(drop))));
        listener.set_nonblocking(true).unwrap();
        log.push(("accept", told(listener.accept().map(drop))));
        listener.set_nonblocking(false).unwrap();
        log.push(("listener ttl", told(listener.set_ttl(0))));

        let (mut client, mut server) = pair();
        log.push(("ttl 0", told(client.set_ttl(0))));
        log.push(("ttl 256", told(client.set_ttl(256))));
        log.push(("ttl", told(client.ttl())));
        log.push((
            "timeout 0",
            told(
                client
                    .set_read_timeout(Some(Duration::ZERO))
                    .map_err(|e| e.kind().into()),
            ),
        ));
        client.set_read_timeout(brief).unwrap();
        log.push(("read late", told(client.read(&mut [0; 4]))));
        log.push(("peek late", told(client.peek(&mut [0; 4]))));
        log.push(("read nothing", told(client.read(&mut []))));
        log.push(("write nothing", told(client.write(&[]))));
        client.set_read_timeout(None).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        log.push(("shut twice", told(client.shutdown(Shutdown::Write))));
        log.push(("write shut", told(client.write(b"x"))));
        log.push(("end", told(server.read(&mut [0; 4]))));
        log.push(("end stays", told(server.read(&mut [0; 4]))));
        server.write_all(b"late").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
        drop(server);
        log.push(("both ended", told(client.read(&mut [0; 4]))));
        settle();
        log.push(("shut over", told(client.shutdown(Shutdown::Both))));
        log.push(("peer over", told(client.peer_addr().map(drop))));
        log.push(("local over", told(client.local_addr().map(drop))));

        let (mut client, server) = pair();
        client.write_all(b"nobody reads this").unwrap();
        server.peek(&mut [0; 1]).unwrap();
        drop(server);
        settle();
        log.push(("reset", told(client.read(&mut [0; 4]))));
        log.push(("after reset", told(client.read(&mut [0; 4]))));
        log.push(("write reset", told(client.write(b"x"))));
        log.push(("shut reset", told(client.shutdown(Shutdown::Both))));
        log.push(("peer reset", told(client.peer_addr().map(drop))));
        log.push((
            "error reset",
            told(client.take_error().map(|e| e.map(|e| e.kind()))),
        ));

        let (client, server) = pair();
        (&client).write_all(b"nobody reads this").unwrap();
        server.peek(&mut [0; 1]).unwrap();
        drop(server);
        settle();
        log.push(("write first", told((&client).write(b"x"))));
        log.push(("write then", told((&client).write(b"x"))));
        log.push(("read then", told((&client).read(&mut [0; 4]))));

        let (client, server) = pair();
        (&client).write_all(b"nobody reads this").unwrap();
        server.peek(&mut [0; 1]).unwrap();
        drop(server);
        settle();
        log.push((
            "error first",
            told(client.take_error().map(|e| e.map(|e| e.kind()))),
        ));
        log.push(("read second", told((&client).read(&mut [0; 4]))));

        let (mut client, server) = pair();
        drop(server);
        log.push(("closed", told(client.read(&mut [0; 4]))));
        log.push(("write closed", told(client.write(b"x"))));
        settle();
        log.push(("write again", told(client.write(b"x"))));
        log.push(("read again", told(client.read(&mut [0; 4]))));

        let (mut client, server) = pair();
        client.write_all(b"unread").unwrap();
        settle();
        log.push(("shut both", told(client.shutdown(Shutdown::Both))));
        log.push(("read shut both", told(client.read(&mut [0; 4]))));
        log.push(("write shut both", told(client.write(b"x"))));
        log.push(("what was there", told((&server).read(&mut [0; 10]))));
        log.push(("and the end", told((&server).read(&mut [0; 10]))));
        settle();
        log.push(("shut over both", told(server.shutdown(Shutdown::Write))));
        settle();
        log.push(("shut over again", told(server.shutdown(Shutdown::Both))));

        // Who has gone before it is accepted is accepted still.
        let mut gone = $connect(&target.to_string()).unwrap();
        gone.write_all(b"bye").unwrap();
        drop(gone);
        settle();
        let (mut left, _) = listener.accept().unwrap();
        log.push(("peer gone", told(left.peer_addr().map(drop))));
        log.push(("said", told(left.read(&mut [0; 10]))));
        log.push(("gone", told(left.read(&mut [0; 10]))));
        log.push(("answer", told(left.write(b"x"))));

        // A reset in the midst of a write is told to the call after it.
        let most = vec![0; 32 << 20];
        for next in ["write", "read"] {
            let (mut client, server) = pair();
            let resetting = thread::spawn(move || {
                while server.peek(&mut [0; 1]).unwrap() == 0 {}
                settle();
                drop(server);
            });
            log.push((
                "cut short",
                told(client.write(&most).map(|n| n < most.len())),
            ));
            resetting.join().unwrap();
            if next == "write" {
                log.push(("the next", told(client.write(b"x"))));
                log.push(("the one after", told(client.write(b"x"))));
            }
            log.push(("reading then", told(client.read(&mut [0; 4]))));
            log.push(("and again", told(client.read(&mut [0; 4]))));
        }

        let any = format!("0.0.0.0:{}", target.port());
        let here = $connect(&any);
        log.push((
            "to this host",
            told(
                here.as_ref()
                    .map(|s| s.peer_addr().unwrap().ip())
                    .map_err(|e| e.kind().into()),
            ),
        ));
        if here.is_ok() {
            listener.accept().unwrap();
        }
        log.push(("only v6", told(listener.only_v6())));
        log.push(("set only v6", told(listener.set_only_v6(true))));
        let wide = $listen("[::]:0").unwrap();
        log.push(("v6 only v6", told(wide.only_v6())));
        log.push(("v6 set only v6", told(wide.set_only_v6(true))));
        let several = [io::IoSlice::new(b"a"), io::IoSlice::new(b"bc")];
        let (mut client, mut server) = pair();
        log.push(("vectored", told(client.write_vectored(&several))));
        settle();
        let (mut one, mut two) = ([0; 2], [0; 2]);
        let mut bufs = [io::IoSliceMut::new(&mut one), io::IoSliceMut::new(&mut two)];
        log.push(("read vectored", told(server.read_vectored(&mut bufs))));
        log.push(("read in order", format!("{one:?} {two:?}")));

        let (mut client, mut server) = pair();
        client.shutdown(Shutdown::Read).unwrap();
        log.push(("read shut", told(client.read(&mut [0; 4]))));
        log.push(("write on", told(client.write(b"on"))));
        log.push(("read on", told(server.read(&mut [0; 4]))));
        // Who listens again does not wait for those in TIME-WAIT.
        drop((client, server, listener));
        log.push(("again", told($listen(&target.to_string()).map(drop))));
        log
    }};
}

macro_rules! udp_program {
    ($bind:expr) => {{
        let mut log: Vec<(&str, String)> = Vec::new();
        let socket = $bind("127.0.0.1:0").unwrap();
        let own = socket.local_addr().unwrap();
        let brief = Some(Duration::from_millis(10));
        socket.set_read_timeout(brief).unwrap();
        log.push(("in use", told($bind(&own.to_string()).map(drop))));
        log.push(("not ours", told($bind("203.0.113.1:0").map(drop))));
        log.push(("nowhere", told(socket.send(b"x"))));
        log.push(("no peer", told(socket.peer_addr())));
        log.push(("late", told(socket.recv_from(&mut [0; 4]))));
        log.push(("too long", told(socket.send_to(&[0; 65_508], own))));
        log.push(("port 0", told(socket.send_to(b"x", "127.0.0.1:0"))));
        log.push(("family", told(socket.send_to(b"x", "[::1]:9"))));
        let any = $bind("0.0.0.0:0").unwrap();
        log.push(("connect nowhere", told(any.connect("203.0.113.1:9"))));
        log.push(("connect family", told(any.connect("[::1]:9"))));
        log.push(("ttl", told(any.set_ttl(0))));
        log.push(("multicast ttl", told(any.set_multicast_ttl_v4(256))));
        log.push(("multicast ttl 0", told(any.set_multicast_ttl_v4(0))));
        log.push(("loop", told(any.multicast_loop_v4())));
        let (group, lo) = (Ipv4Addr::new(239, 1, 1, 1), Ipv4Addr::new(127, 0, 0, 1));
        log.push(("no group", told(any.join_multicast_v4(&lo, &lo))));
        let foreign = Ipv4Addr::new(203, 0, 113, 1);
        log.push(("no device", told(any.join_multicast_v4(&group, &foreign))));
        let six = "ff02::4242".parse().unwrap();
        log.push(("v6 group", told(any.join_multicast_v6(&six, 0))));
        log.push(("leave v6", told(any.leave_multicast_v6(&six, 0))));
        log.push(("v6 loop", told(any.set_multicast_loop_v6(true))));
        log.push(("is v6 loop", told(any.multicast_loop_v6())));
        log.push(("leave", told(any.leave_multicast_v4(&group, &lo))));
        let wide = $bind("[::]:0").unwrap();
        log.push(("of both", told(wide.set_ttl(7).and_then(|()| wide.ttl()))));
        log.push(("v6 loops", told(wide.set_multicast_loop_v6(false))));
        log.push(("loops not", told(wide.multicast_loop_v6())));
        log.push((
            "v6 no group",
            told(wide.join_multicast_v6(&"::1".parse().unwrap(), 0)),
        ));
        log.push(("v6 no device", told(wide.join_multicast_v6(&six, 77))));
        let to_both = format!("0.0.0.0:{}", wide.local_addr().unwrap().port());
        log.push(("in use by both", told($bind(&to_both).map(drop))));
        let mapped = format!("[::ffff:127.0.0.1]:{}", own.port());
        log.push(("to v4", told(wide.send_to(b"4", &mapped))));
        let from_v4 = socket.recv_from(&mut [0; 4]);
        log.push((
            "from v4",
            told(from_v4.map(|(n, from)| (n, from.is_ipv4()))),
        ));
        let here = format!("0.0.0.0:{}", own.port());
        log.push(("to this host", told(socket.send_to(b"here", &here))));
        log.push(("from this host", told(socket.recv(&mut [0; 4]))));
        // Asks from which address it would send.
        let nobody = $bind("0.0.0.0:0").unwrap();
        log.push(("connect to no port", told(nobody.connect("127.0.0.1:0"))));
        log.push(("sends from", told(nobody.local_addr().map(|own| own.ip()))));
        log.push(("peer of no port", told(nobody.peer_addr())));
        log.push(("to no port", told(nobody.send_to(b"x", "127.0.0.1:0"))));
        log.push(("connect here", told(any.connect(&here))));
        log.push(("who is here", told(any.peer_addr().map(|peer| peer == own))));
        log.push((
            "no room",
            told(
                socket
                    .send_to(b"room", own)
                    .and_then(|_| socket.recv_from(&mut []).map(|(n, _)| n)),
            ),
        ));
        log.push(("empty", told(socket.send_to(b"", own))));
        log.push((
            "empty came",
            told(
                socket
                    .recv_from(&mut [0; 4])
                    .map(|(n, from)| (n, from == own)),
            ),
        ));
        socket.send_to(b"long", own).unwrap();
        log.push(("peek", told(socket.peek_from(&mut [0; 2]).map(|(n, _)| n))));
        log.push(("cut", told(socket.recv_from(&mut [0; 2]).map(|(n, _)| n))));
        log.push(("gone", told(socket.recv_from(&mut [0; 2]))));
        socket.connect("127.0.0.1:1").unwrap();
        log.push(("sent", told(socket.send(b"x"))));
        log.push(("refused", told(socket.recv(&mut [0; 4]))));
        log.push(("once", told(socket.recv(&mut [0; 4]))));
        socket.send(b"x").unwrap();
        thread::sleep(Duration::from_millis(20));
        log.push(("refused to send", told(socket.send(b"x"))));
        thread::sleep(Duration::from_millis(20));
        log.push((
            "as an option",
            told(socket.take_error().map(|e| e.map(|e| e.kind()))),
        ));
        log
    }};
}

fn compare(ours: Vec<(&str, String)>, kernels: Vec<(&str, String)>) {
    assert_eq!(ours.len(), kernels.len());
    let different: Vec<String> = ours
        .iter()
        .zip(&kernels)
        .filter(|(ours, kernels)| ours != kernels)
        .map(|((what, ours), (_, kernels))| format!("{what}: {ours}; the kernel: {kernels}"))
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn tcp_as_the_kernel() {
    netns::in_private!(|| {
        netns::link::set_up("lo").unwrap();
        let kernels = tcp_program!(
            |addr: &str| std::net::TcpListener::bind(addr),
            |addr: &str| std::net::TcpStream::connect(addr),
            |addr: &SocketAddr, time| std::net::TcpStream::connect_timeout(addr, time)
        );
        let (host, _other) = hosts();
        let ours = tcp_program!(
            |addr: &str| host.tcp_listen(addr),
            |addr: &str| host.tcp_connect(addr),
            |addr: &SocketAddr, time| host.tcp_connect_timeout(addr, time)
        );
        compare(ours, kernels);
    });
}

#[test]
fn udp_as_the_kernel() {
    netns::in_private!(|| {
        netns::link::set_up("lo").unwrap();
        let kernels = udp_program!(|addr: &str| std::net::UdpSocket::bind(addr));
        let (host, _other) = hosts();
        compare(udp_program!(|addr: &str| host.udp_bind(addr)), kernels);
    });
}
