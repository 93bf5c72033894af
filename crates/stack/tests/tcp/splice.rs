//! Splicing connections: references to blocks move from one's receive queue to another's send queue.

use stack::{Count, Ready, SocketError, SocketId, SpliceError, TcpOptions};

use crate::rig::{ACK, FIN, Open, RST, Rig, config, nodelay};

/// Connections accepted by one listener, from as many ports of the peer's.
fn connections<const N: usize>(rig: &mut Rig, options: &TcpOptions) -> [(u16, Open); N] {
    let listener = rig.listen(8, options);
    core::array::from_fn(|n| {
        let port = 5000 + n as u16;
        rig.peer_port = port;
        let syn = wire::tcp::Options {
            mss: Some(1460),
            ..wire::tcp::Options::default()
        };
        rig.send_with(999, 0, crate::rig::SYN, &[], syn);
        let answer = rig.expect();
        let acked = answer.seq + 1;
        rig.send(1000, acked, ACK, &[]);
        let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
        let open = Open {
            socket,
            host: acked,
            peer: 1000,
        };
        (port, open)
    })
}

fn splice(rig: &mut Rig, from: SocketId, to: SocketId) -> Result<usize, SpliceError> {
    rig.host.tcp_splice(rig.now, from, to, usize::MAX)
}

/// What the host sends to `port`, put together; ACKs of anything else are passed over.
fn sent_to(rig: &mut Rig, port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(seg) = rig.next() {
        if seg.dst_port == port {
            bytes.extend(seg.data);
        }
    }
    bytes
}

/// The peer sends data on one of its connections.
fn feed(rig: &mut Rig, (port, open): &(u16, Open), at: u32, data: &[u8]) {
    rig.peer_port = *port;
    rig.send(open.peer + at, open.host, ACK, data);
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|at| (at / 3) as u8).collect()
}

#[test]
fn bytes_move_without_memory_of_their_own() {
    let mut rig = Rig::new();
    let [from, to] = connections(&mut rig, &nodelay());
    let data = pattern(4 * 1460);
    for (n, part) in data.chunks(1460).enumerate() {
        feed(&mut rig, &from, n as u32 * 1460, part);
    }
    while rig.next().is_some() {}
    let held = rig.host.pool().in_use();
    let memory = rig.host.tcp_memory().bytes;
    assert_eq!(splice(&mut rig, from.1.socket, to.1.socket), Ok(data.len()));
    assert_eq!(
        (rig.host.pool().in_use(), rig.host.tcp_memory().bytes),
        (held, memory)
    );
    assert_eq!(sent_to(&mut rig, to.0), data);
    assert_eq!(rig.host.stats().counts.get(Count::TcpSplicedBytes), 5840);
    let nothing = SpliceError::From(SocketError::WouldBlock);
    assert_eq!(splice(&mut rig, from.1.socket, to.1.socket), Err(nothing));
    // When they are acknowledged, their memory is free.
    rig.peer_port = to.0;
    rig.send(to.1.peer, to.1.host + 5840, ACK, &[]);
    assert_eq!(rig.host.pool().in_use(), 0);
}

#[test]
fn some_bytes_move_and_the_rest_stays() {
    let mut rig = Rig::new();
    let [from, to] = connections(&mut rig, &nodelay());
    let data = pattern(2000);
    feed(&mut rig, &from, 0, &data[..1200]);
    feed(&mut rig, &from, 1200, &data[1200..]);
    while rig.next().is_some() {}
    let (a, b) = (from.1.socket, to.1.socket);
    for (most, moved) in [(0, 0), (1, 1), (699, 699), (1000, 1000)] {
        assert_eq!(rig.host.tcp_splice(rig.now, a, b, most), Ok(moved));
    }
    assert_eq!(rig.read(a).unwrap(), data[1700..]);
    assert_eq!(sent_to(&mut rig, to.0), data[..1700]);
    // To itself: an echo.
    feed(&mut rig, &from, 2000, b"echo");
    assert_eq!(splice(&mut rig, a, a), Ok(4));
    assert_eq!(sent_to(&mut rig, from.0), b"echo");
}

#[test]
fn what_there_is_no_room_for_closes_the_window() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        send_buffer: Some(4 * 1460),
        receive_buffer: Some(8760),
        ..nodelay()
    };
    let [from, to] = connections(&mut rig, &options);
    // The peer takes nothing.
    rig.peer_port = to.0;
    rig.window = 0;
    rig.send(to.1.peer, to.1.host, ACK, &[]);
    rig.window = 65_535;
    let full = SpliceError::To(SocketError::WouldBlock);
    let (mut fed, mut window) = (0, u16::MAX);
    let mut moved = 0;
    while window >= 1460 {
        feed(&mut rig, &from, fed, &[7; 1460]);
        fed += 1460;
        match splice(&mut rig, from.1.socket, to.1.socket) {
            Ok(n) => moved += n as u32,
            Err(why) => assert_eq!(why, full),
        }
        while let Some(seg) = rig.next() {
            if seg.dst_port == from.0 {
                window = seg.window;
            }
        }
        assert!(fed < 40_000, "the window never closes");
    }
    assert!(moved >= 4 * 1460 && moved < fed);
    rig.events.clear();
    // The peer of `to` takes all there is: an event says so, and the rest follows.
    let mut acked = 0;
    let mut got = 0;
    while got < fed {
        rig.peer_port = to.0;
        rig.send(to.1.peer, to.1.host + acked, ACK, &[]);
        while let Some(seg) = rig.next() {
            if seg.dst_port == to.0 && !seg.data.is_empty() && seg.seq == to.1.host + acked {
                acked += seg.data.len() as u32;
                got += seg.data.len() as u32;
                rig.peer_port = to.0;
                rig.send(to.1.peer, to.1.host + acked, ACK, &[]);
            }
        }
        if rig
            .events
            .iter()
            .any(|event| event.ready.contains(Ready::WRITABLE))
        {
            rig.events.clear();
            let _ = splice(&mut rig, from.1.socket, to.1.socket);
        }
        if got < fed {
            rig.ms(300);
        }
    }
    assert_eq!(got, fed);
}

#[test]
fn ends_and_errors_are_told_and_nothing_is_lost() {
    let mut rig = Rig::new();
    let [a, b, c] = connections(&mut rig, &nodelay());
    feed(&mut rig, &a, 0, b"last words");
    rig.peer_port = a.0;
    rig.send(a.1.peer + 10, a.1.host, ACK | FIN, &[]);
    // `b` is shut: the bytes stay.
    rig.host
        .tcp_shutdown(rig.now, b.1.socket, stack::Shutdown::Write)
        .unwrap();
    let (from, to) = (a.1.socket, c.1.socket);
    let shut = SpliceError::To(SocketError::BrokenPipe);
    assert_eq!(splice(&mut rig, from, b.1.socket), Err(shut));
    assert_eq!(splice(&mut rig, from, to), Ok(10));
    assert_eq!(splice(&mut rig, from, to), Ok(0), "the end of the stream");
    // A reset of the source, and of who takes.
    rig.peer_port = b.0;
    feed(&mut rig, &b, 0, b"left");
    rig.send(b.1.peer + 4, b.1.host + 1, RST | ACK, &[]);
    assert_eq!(splice(&mut rig, b.1.socket, to), Ok(4));
    let reset = SocketError::ConnectionReset;
    assert_eq!(
        splice(&mut rig, b.1.socket, to),
        Err(SpliceError::From(reset))
    );
    rig.peer_port = c.0;
    rig.send(c.1.peer, c.1.host, RST | ACK, &[]);
    assert_eq!(splice(&mut rig, from, to), Err(SpliceError::To(reset)));
    rig.host.close(rig.now, to).unwrap();
    let gone = SocketError::BadSocket;
    assert_eq!(splice(&mut rig, from, to), Err(SpliceError::To(gone)));
    assert_eq!(splice(&mut rig, to, from), Err(SpliceError::From(gone)));
}

#[test]
fn a_tee_sends_the_same_bytes_twice() {
    let mut rig = Rig::new();
    let [from, to, copy] = connections(&mut rig, &nodelay());
    let data = pattern(3000);
    for (n, part) in data.chunks(1000).enumerate() {
        feed(&mut rig, &from, n as u32 * 1000, part);
    }
    while rig.next().is_some() {}
    let held = rig.host.pool().in_use();
    let (a, b, c) = (from.1.socket, to.1.socket, copy.1.socket);
    assert_eq!(rig.host.tcp_tee(rig.now, a, (b, c), 2500), Ok(2500));
    assert_eq!(rig.host.pool().in_use(), held, "shared, not copied");
    let mut sent = [Vec::new(), Vec::new()];
    while let Some(seg) = rig.next() {
        let which = usize::from(seg.dst_port == copy.0);
        if seg.dst_port != from.0 {
            sent[which].extend(seg.data);
        }
    }
    assert_eq!(sent, [&data[..2500], &data[..2500]]);
    assert_eq!(rig.read(a).unwrap(), data[2500..]);
    for (port, open) in [&to, &copy] {
        rig.peer_port = *port;
        rig.send(open.peer, open.host + 2500, ACK, &[]);
    }
    assert_eq!(rig.host.pool().in_use(), 0);
}

#[test]
fn no_segments_are_left_for_a_cut() {
    let mut config = config();
    config.pool_blocks = 64;
    let mut rig = Rig::with(config);
    let [from, to] = connections(&mut rig, &nodelay());
    feed(&mut rig, &from, 0, &[1; 1460]);
    while rig.next().is_some() {}
    // All segments of the pool are somebody's.
    let block = rig.host.pool_mut().alloc(0).unwrap();
    let mut block = block;
    rig.host.pool_mut().push_back(&mut block, 1).unwrap();
    let mut others = Vec::new();
    while let Some(other) = rig.host.pool_mut().share(&block, 0, 1) {
        others.push(other);
    }
    let none = SpliceError::To(SocketError::NoBuffers);
    let (a, b) = (from.1.socket, to.1.socket);
    assert_eq!(rig.host.tcp_splice(rig.now, a, b, 700), Err(none));
    for other in others {
        rig.host.pool_mut().free(other);
    }
    assert_eq!(rig.host.tcp_splice(rig.now, a, b, 700), Ok(700));
    assert_eq!(rig.read(a).unwrap().len(), 760, "nothing was lost");
    rig.host.pool_mut().free(block);
}
