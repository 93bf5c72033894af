//! TCP_INFO on both ends of one connection: what one end has sent the other has received.

use std::net::TcpStream;
use std::time::Duration;

use interop::{Cable, Family, Machine, Pattern, Setup, kernel};
use netns::in_private;
use netns::socket::tcp_info;
use stack::{SocketId, TcpAccount};

const LIMIT: Duration = Duration::from_secs(120);

/// Places in [`pairs`].
const SEGMENTS_OUT: usize = 4;
const DATA_SEGMENTS_OUT: usize = 6;

/// The numbers that must be equal, ours first; `opened`: by the host. Nothing is lost on a cable, but a probe of the tail may
/// be sent when a thread comes late.
fn pairs(ours: &TcpAccount, theirs: &netns::socket::TcpInfo, opened: bool) -> [[u64; 2]; 10] {
    // A SYN that was acknowledged counts with who opened; a SYN-ACK only where it arrived.
    let (active, passive) = (u64::from(opened), u64::from(!opened));
    let (again, theirs_again) = (ours.retransmits, theirs.total_retrans);
    let [out, into] = [ours.data_segments_out, ours.data_segments_in].map(u64::from);
    [
        [ours.bytes_acked - active, theirs.bytes_received],
        [ours.bytes_received, theirs.bytes_acked - passive],
        [
            ours.bytes_sent - ours.bytes_retransmitted,
            theirs.bytes_received,
        ],
        [
            ours.bytes_received,
            theirs.bytes_sent - theirs.bytes_retrans,
        ],
        [
            ours.segments_out.into(),
            u64::from(theirs.segs_in) - passive,
        ],
        [u64::from(ours.segments_in) - active, theirs.segs_out.into()],
        [out, theirs.data_segs_in.into()],
        [into, theirs.data_segs_out.into()],
        [ours.delivered.into(), out - u64::from(again) + 1],
        [theirs.delivered.into(), into - u64::from(theirs_again) + 1],
    ]
}

/// Waits until both ends have heard of everything, and then the numbers are equal.
///
/// A kernel that gets super-frames from a device it does not trust counts each as a segment.
fn agree(machine: &Machine, socket: SocketId, peer: &TcpStream, opened: bool, what: &str) {
    let joined = machine.call(|turn| turn.host.interfaces().any(|i| i.offloads.tso4));
    let mut last = None;
    for _ in 0..200 {
        let ours = machine.call(move |turn| turn.host.tcp_info(socket).unwrap());
        let mut pairs = pairs(&ours.account.unwrap(), &tcp_info(peer).unwrap(), opened);
        if joined {
            pairs[SEGMENTS_OUT] = [0; 2];
            pairs[DATA_SEGMENTS_OUT] = [0; 2];
        }
        if pairs.iter().all(|[a, b]| a == b) {
            return;
        }
        last = Some(pairs);
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: {last:?}");
}

#[test]
fn both_ends_keep_the_same_account() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            let machine = Setup::on(cable)
                .config(|config| config.tcp_account = true)
                .start();
            let listener = machine.listen(7, 16);
            for (family, opened) in [
                (Family::V4, false),
                (Family::V4, true),
                (Family::V6, false),
                (Family::V6, true),
            ] {
                let (socket, peer) = machine.join((listener, 7), family, opened);
                agree(&machine, socket, &peer, opened, "the handshake");
                for (out, back) in [(1, 0), (0, 1), (100, 3000), (400_000, 0), (0, 400_000)] {
                    machine.send_all(socket, Pattern(1).bytes(out));
                    kernel::expect_some(&peer, Pattern(1), 0, out as u64);
                    kernel::send(&peer, Pattern(2), back);
                    let got = machine.receive(socket, back as usize).unwrap();
                    assert_eq!(got.len() as u64, back);
                    agree(&machine, socket, &peer, opened, &format!("{out}, {back}"));
                }
                machine.close(socket);
                drop(peer);
            }
            machine.drain();
        }
    });
}
