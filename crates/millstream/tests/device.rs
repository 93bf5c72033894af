//! Sockets bound to one interface of two (SO_BINDTODEVICE), by the faces of std and tokio.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use std::io::{ErrorKind, Read, Write};

use common::config;
use millstream::port::ring::{RingOptions, RingPort, pair};
use millstream::tokio::TcpSocket;
use millstream::{Host, TcpOptions, UdpOptions, UdpSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::Mac;

const ENODEV: Option<i32> = Some(19);

/// The two hosts' ends of a cable; what each is called is the name of its interface.
fn cable(n: u8) -> (RingPort, RingPort) {
    let macs = [Mac([2, 0, 0, n, 0, 1]), Mac([2, 0, 0, n, 0, 2])];
    pair(macs, &RingOptions::default()).unwrap()
}

/// Two hosts with two cables. The first calls its ends "ring-a" (10.77.0.1, beside 10.77.0.2) and "ring-b" (10.77.1.1).
fn hosts(shards: usize) -> (Host, Host) {
    let ((a, far_b), (far_a, b)) = (cable(0), cable(1));
    let host = |ports: [RingPort; 2], last: u8| {
        let [first, second] = ports;
        let builder = Host::builder()
            .port(first)
            .address(format!("10.77.0.{last}/24"))
            .port(second)
            .address(format!("10.77.1.{last}/24"));
        let host = builder.config(config()).shards(shards).seed(last.into());
        host.start().unwrap()
    };
    (host([a, b], 1), host([far_b, far_a], 2))
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 64];
    let n = socket.recv(&mut buffer).unwrap();
    buffer[..n].to_vec()
}

#[test]
fn datagram_sockets_of_each_interface() {
    for shards in [1, 2] {
        let (host, peer) = hosts(shards);
        let names = ["ring-a", "ring-b"];
        let each = names.map(|name| {
            let options = UdpOptions {
                device: Some(host.interface(name).unwrap()),
                ..UdpOptions::default()
            };
            let socket = host.udp_bind_with("0.0.0.0:53", &options).unwrap();
            assert_eq!(socket.device().unwrap().as_deref(), Some(name.as_bytes()));
            socket
        });
        let of_all = host.udp_bind("0.0.0.0:53").unwrap_err();
        assert_eq!(of_all.kind(), ErrorKind::AddrInUse);

        let client = peer.udp_bind("0.0.0.0:0").unwrap();
        for (n, socket) in each.iter().enumerate() {
            client
                .send_to(&[n as u8], format!("10.77.{n}.1:53"))
                .unwrap();
            assert_eq!(received(socket), [n as u8]);
        }
        // What the host says to itself comes by the interface that has the address.
        let own = host.udp_bind("0.0.0.0:0").unwrap();
        for (n, socket) in each.iter().enumerate() {
            own.send_to(b"own", format!("10.77.{n}.1:53")).unwrap();
            assert_eq!(received(socket), b"own");
        }
        // Its way back is by its own interface, whatever routes say: there is none to the other's neighbours.
        each[1].connect("10.77.0.2:9").unwrap_err();
        let own = client.local_addr().unwrap().port();
        each[1]
            .send_to(b"back", format!("10.77.1.2:{own}"))
            .unwrap();
        assert_eq!(received(&client), b"back");

        // The first hears all once it is bound to none; the second its own still.
        each[0].bind_device(None).unwrap();
        assert_eq!(each[0].device().unwrap(), None);
        each[1].bind_device(Some(b"ring-a\0")).unwrap();
        client.send_to(b"by a", "10.77.0.1:53").unwrap();
        client.send_to(b"by b", "10.77.1.1:53").unwrap();
        assert_eq!(received(&each[1]), b"by a");
        assert_eq!(received(&each[0]), b"by b");
        for name in ["ring-c", "\u{fffd}"] {
            let refused = each[0].bind_device(Some(name.as_bytes())).unwrap_err();
            assert_eq!(refused.raw_os_error(), ENODEV, "{name}");
        }
    }
}

#[test]
fn sockets_spread_over_shards_are_bound_to_no_interface() {
    let (host, _peer) = hosts(2);
    let sharing = UdpOptions {
        reuse_port: true,
        ..UdpOptions::default()
    };
    let bind = || host.udp_bind_with("0.0.0.0:53", &sharing).unwrap();
    let (first, second) = (bind(), bind());
    let refused = first.bind_device(Some(b"ring-a")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    drop(second);
    first.bind_device(Some(b"ring-a")).unwrap();
}

#[test]
fn listeners_of_each_interface() {
    for shards in [1, 2] {
        let (host, peer) = hosts(shards);
        let listen = |name| {
            let options = TcpOptions {
                device: Some(host.interface(name).unwrap()),
                ..TcpOptions::default()
            };
            host.tcp_listen_with("0.0.0.0:80", 16, &options).unwrap()
        };
        let each = ["ring-a", "ring-b"].map(listen);
        for (n, listener) in each.iter().enumerate() {
            let mut client = peer.tcp_connect(format!("10.77.{n}.1:80")).unwrap();
            client.write_all(b"x").unwrap();
            let (mut server, _) = listener.accept().unwrap();
            assert_eq!(server.read(&mut [0; 4]).unwrap(), 1);
            assert_eq!(server.options().device, listener.options().device);
        }
        let [first, second] = each;
        drop(second);
        // The shards hear of it with their next turns; what it has not accepted is reset.
        let refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
        while !peer.tcp_connect("10.77.1.1:80").is_err_and(refused) {}
        first.set_nonblocking(true).unwrap();
        assert_eq!(first.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn tokios_sockets() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(async {
        let (host, peer) = hosts(1);
        let sockets = ["ring-a", "ring-b"].map(|name| {
            let socket = TcpSocket::new_v4_on(&host);
            assert_eq!(socket.device().unwrap(), None);
            socket.bind_device(Some(name.as_bytes())).unwrap();
            assert_eq!(socket.device().unwrap().as_deref(), Some(name.as_bytes()));
            socket.bind("0.0.0.0:80".parse().unwrap()).unwrap();
            socket
        });
        let of_all = TcpSocket::new_v4_on(&host);
        let refused = of_all.bind_device(Some(b"eth7")).unwrap_err();
        assert_eq!(refused.raw_os_error(), ENODEV);
        let taken = of_all.bind("0.0.0.0:80".parse().unwrap()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);

        let listeners = sockets.map(|socket| socket.listen(16).unwrap());
        for (n, listener) in listeners.iter().enumerate() {
            let client = TcpSocket::new_v4_on(&peer);
            // Its interfaces are named the other way round.
            let own = ["ring-b", "ring-a"][n];
            client.bind_device(Some(own.as_bytes())).unwrap();
            let to = format!("10.77.{n}.1:80").parse().unwrap();
            let (mut client, accepted) =
                (client.connect(to).await.unwrap(), listener.accept().await);
            let (mut server, _) = accepted.unwrap();
            client.write_all(b"hello").await.unwrap();
            let mut buffer = [0; 5];
            server.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"hello");
        }
        // By the other cable there is no way.
        let client = TcpSocket::new_v4_on(&peer);
        client.bind_device(Some(b"ring-a")).unwrap();
        let lost = client.connect("10.77.0.1:80".parse().unwrap()).await;
        assert_eq!(lost.unwrap_err().kind(), ErrorKind::NetworkUnreachable);
    });
}

#[test]
fn nobody_is_asked_by_a_host_that_has_stopped() {
    let (host, _peer) = hosts(1);
    let socket = host.udp_bind("0.0.0.0:53").unwrap();
    host.stop().unwrap();
    assert!(host.interface("lo").is_err());
    assert!(socket.bind_device(Some(b"lo")).is_err());
}
