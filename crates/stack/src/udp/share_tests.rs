//! UDP sockets that share an address (SO_REUSEPORT), through a whole host's loopback.

use core::net::SocketAddr;

use base::Instant;

use super::UdpOptions;
use crate::reuseport::{Filter, Instruction, ReusePort};
use crate::socket::SocketId;
use crate::{Config, Host, SocketError};

const NOW: Instant = Instant::from_secs(1000);

fn host() -> Host {
    let config = Config {
        pool_blocks: 512,
        ..Config::default()
    };
    Host::new(config, 7, NOW).unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn group(host: &mut Host, members: usize) -> Vec<SocketId> {
    let options = UdpOptions {
        reuse_port: true,
        ..UdpOptions::default()
    };
    let bind = |_| host.udp_bind(NOW, at("127.0.0.1:53"), &options).unwrap();
    (0..members).map(bind).collect()
}

fn send(host: &mut Host, from: SocketId, payload: &[u8]) {
    let to = Some(at("127.0.0.1:53"));
    host.udp_send_to(NOW, from, payload, to).unwrap();
}

/// The number of the socket that has a datagram.
fn taker(host: &mut Host, sockets: &[SocketId]) -> Option<usize> {
    let mut found = sockets
        .iter()
        .enumerate()
        .filter(|(_, s)| host.udp_recv(**s, &mut [0; 8]).is_ok());
    let first = found.next();
    assert!(found.next().is_none());
    first.map(|(number, _)| number)
}

#[test]
fn a_byte_of_the_payload_chooses() {
    let mut host = host();
    let sockets = group(&mut host, 3);
    let client = host.udp_bind(NOW, at("127.0.0.1:9"), &UdpOptions::default());
    let client = client.unwrap();
    let op = |code, k| Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    send(&mut host, client, b"");
    let by_tuple = taker(&mut host, &sockets);
    assert!(by_tuple.is_some());
    let second_byte = Filter::new(&[op(0x30, 1), op(0x16, 0)]).unwrap();
    host.reuseport_select(sockets[1], ReusePort::Filter(second_byte))
        .unwrap();
    for n in 0..3 {
        send(&mut host, client, &[9, n]);
        assert_eq!(taker(&mut host, &sockets), Some(usize::from(n)));
    }
    send(&mut host, client, &[9, 3]);
    assert_eq!(
        taker(&mut host, &sockets),
        by_tuple,
        "there is no such member"
    );
    send(&mut host, client, &[9]);
    assert_eq!(taker(&mut host, &sockets), Some(0), "beyond the payload");
    let closure = ReusePort::Program(Box::new(|tuple, data| {
        assert_eq!(tuple.remote.port(), 9);
        data.len()
    }));
    host.reuseport_select(sockets[0], closure).unwrap();
    send(&mut host, client, &[0, 0]);
    assert_eq!(taker(&mut host, &sockets), Some(2));
    assert_eq!(
        host.reuseport_forget_program(client),
        Err(SocketError::InvalidInput)
    );
}

/// As Linux: who is connected to the sender comes before the group, and is none of it.
#[test]
fn a_connected_socket_comes_first() {
    let mut host = host();
    let sockets = group(&mut host, 2);
    host.reuseport_select(sockets[0], ReusePort::Standby)
        .unwrap();
    let client = host.udp_bind(NOW, at("127.0.0.1:9"), &UdpOptions::default());
    let client = client.unwrap();
    send(&mut host, client, &[1]);
    assert_eq!(taker(&mut host, &sockets), Some(0));
    host.udp_connect(NOW, sockets[1], at("127.0.0.1:9"))
        .unwrap();
    send(&mut host, client, &[1]);
    assert_eq!(taker(&mut host, &sockets), Some(1));
    assert_eq!(host.reuseport_members(sockets[0]), Ok(1));
    host.udp_disconnect(sockets[1]).unwrap();
    send(&mut host, client, &[1]);
    assert_eq!(taker(&mut host, &sockets), Some(0));
    host.close(NOW, sockets[0]).unwrap();
    send(&mut host, client, &[1]);
    assert_eq!(
        taker(&mut host, &sockets[1..]),
        Some(0),
        "the next takes over"
    );
}
