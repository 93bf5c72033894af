//! The list of sockets: complete, filtered, and in pages that cost what they look at.

use stack::{ListPlace, SocketFilter, SocketRow, State, TcpOptions, Transport, UdpOptions};

use crate::rig::{ACK, FIN, LOCAL, Rig, SYN};
use wire::tcp::Options;

/// The whole list, in pages of so many records; no page has more.
fn listed(rig: &Rig, filter: &SocketFilter, look_at: u32) -> Vec<SocketRow> {
    let (mut rows, mut place) = (Vec::new(), ListPlace::default());
    loop {
        let page = rig.host.list(rig.now, filter, place, look_at);
        assert!(page.rows.len() <= look_at as usize);
        rows.extend(page.rows);
        match page.next {
            Some(next) => place = ListPlace::of(next.number()),
            None => return rows,
        }
    }
}

fn states(rows: &[SocketRow]) -> Vec<(Transport, State)> {
    rows.iter().map(|r| (r.transport, r.socket.state)).collect()
}

/// A host with one socket of each kind.
fn busy() -> Rig {
    let mut rig = Rig::new();
    let account = TcpOptions {
        account: true,
        ..TcpOptions::default()
    };
    let open = rig.accepted(&account);
    rig.write(&open, &[1; 100]);
    rig.expect();
    let mss = Options::default();
    // A second connection ends in TIME-WAIT: closed here first.
    rig.peer_port = 5001;
    rig.send_with(7999, 0, SYN, &[], mss);
    let answer = rig.expect();
    rig.send(8000, answer.seq + 1, ACK, &[]);
    let listener = rig.host.connections().find_map(|row| match row.state {
        State::Listen => row.socket,
        _ => None,
    });
    let (second, _) = rig.host.tcp_accept(rig.now, listener.unwrap()).unwrap();
    rig.host.close(rig.now, second).unwrap();
    rig.expect();
    rig.send(8000, answer.seq + 2, FIN | ACK, &[]);
    rig.expect();
    // And a third is half-open.
    rig.peer_port = 5002;
    rig.send_with(9999, 0, SYN, &[], mss);
    rig.expect();
    let dns = "10.0.0.1:53".parse().unwrap();
    rig.host
        .udp_bind(rig.now, dns, &UdpOptions::default())
        .unwrap();
    rig
}

#[test]
fn every_socket_is_listed_once_however_small_the_pages() {
    let rig = busy();
    let all = listed(&rig, &SocketFilter::ALL, 1000);
    use Transport::{Tcp, Udp};
    let expected = [
        (Tcp, State::Listen),
        (Tcp, State::Established),
        (Tcp, State::SynReceived),
        (Tcp, State::TimeWait),
        (Udp, State::Closed),
    ];
    assert_eq!(states(&all), expected);
    for look_at in [1, 2, 3, 4] {
        assert_eq!(listed(&rig, &SocketFilter::ALL, look_at), all);
    }
    let first = rig
        .host
        .list(rig.now, &SocketFilter::ALL, ListPlace::default(), 1);
    assert_eq!((first.total, first.rows.len()), (5, 1));
    for beyond in [u64::MAX, 5 << 32, 300 << 32, 7] {
        let page = rig
            .host
            .list(rig.now, &SocketFilter::ALL, ListPlace::of(beyond), 100);
        assert!(page.rows.len() < 5 && page.next.is_none());
    }
    // What is known of each.
    assert_eq!(all[0].socket.local, LOCAL.parse().unwrap());
    assert_eq!(all[0].socket.send_queue, 8, "a listener's backlog");
    let tcp = all[1].tcp.as_ref().unwrap();
    assert_eq!(all[1].socket.send_queue, 100);
    assert_eq!(tcp.account.as_ref().unwrap().bytes_sent, 100);
    assert_eq!(all[1].buffers, (65_536, 1 << 20));
    assert_eq!(all[2].socket.remote, "10.0.0.2:5002".parse().unwrap());
    assert_eq!(all[3].socket.remote, "10.0.0.2:5001".parse().unwrap());
    assert_eq!(all[4].socket.remote, "0.0.0.0:0".parse().unwrap());
}

#[test]
fn a_filter_takes_out_what_is_not_wanted() {
    let rig = busy();
    let all = SocketFilter::ALL;
    let count = |filter: SocketFilter| listed(&rig, &filter, 2).len();
    assert_eq!(count(SocketFilter { tcp: false, ..all }), 1);
    assert_eq!(count(SocketFilter { udp: false, ..all }), 4);
    assert_eq!(count(SocketFilter { v4: false, ..all }), 0);
    assert_eq!(count(SocketFilter { v6: false, ..all }), 5);
    let port = |local_port, remote_port| SocketFilter {
        local_port,
        remote_port,
        ..all
    };
    assert_eq!(count(port(Some(80), None)), 4);
    assert_eq!(count(port(Some(80), Some(5002))), 1);
    let bits = SocketFilter::bit(State::Listen) | SocketFilter::bit(State::TimeWait);
    let two = listed(
        &rig,
        &SocketFilter {
            states: bits,
            ..all
        },
        1,
    );
    let expected = [
        (Transport::Tcp, State::Listen),
        (Transport::Tcp, State::TimeWait),
    ];
    assert_eq!(states(&two), expected);
}
