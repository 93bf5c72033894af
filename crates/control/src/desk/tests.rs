//! What is made of lists and names; what whole hosts answer is tested where they are (`millstream`'s tests).

use stack::ConnectionInfo;

use super::*;

/// A host that calls many peers has more groups than are told.
#[test]
fn connections_that_are_in_no_group_are_counted() {
    let mut fold = census::Fold::default();
    for n in 0..6_000_u32 {
        let [.., a, b] = n.to_be_bytes();
        let orphan = n % 3 == 0;
        fold.take(&SocketRow {
            transport: Transport::Tcp,
            socket: ConnectionInfo {
                socket: None,
                local: "10.77.0.1:40000".parse().unwrap(),
                remote: SocketAddr::from(([10, 78, a, b], 80)),
                state: match orphan {
                    true => State::LastAck,
                    false => State::TimeWait,
                },
                receive_queue: 0,
                send_queue: 5,
                rtt: Duration::ZERO,
                cwnd: 0,
            },
            device: None,
            buffers: (0, 0),
            dropped: 0,
            tcp: None,
            listener: None,
        });
    }
    assert_eq!((fold.sockets, fold.orphans), (6_000, (2_000, 10_000)));
    assert!(fold.finish().0.len() < 1_000);
}

#[test]
fn states_have_the_names_of_ss() {
    let bit = SocketFilter::bit;
    assert_eq!(states("established"), Some(bit(State::Established)));
    assert_eq!(states("ESTAB"), states("established"));
    assert_eq!(states("fin-wait-1"), Some(bit(State::FinWait1)));
    assert_eq!(states("fin_wait_1"), states("fin-wait-1"));
    assert_eq!(states("flying"), None);
    let all = states("all").unwrap();
    assert_eq!(all.count_ones(), 11);
    assert_eq!(states("connected").unwrap().count_ones(), 9);
    assert_eq!(states("bucket").unwrap() | states("big").unwrap(), all);
    let default = states("default").unwrap();
    assert_eq!(default & states("listening").unwrap(), 0);
    assert_eq!(default & bit(State::TimeWait), 0);
}
