//! Super-frames that are sent again: where they end, and what is pushed, as on Linux.

use base::Offloads;
use wire::tcp::{Options, Sack};

use crate::rig::{ACK, Open, PSH, Rig, Seg, nodelay};

const MSS: u32 = 1000;

/// A connection over a path of 40 ms and a device that cuts super-frames, with SACK; ten segments of window.
fn path() -> (Rig, Open) {
    let mut rig = Rig::new();
    let offloads = Offloads {
        tso4: true,
        tx_checksum: true,
        ..Offloads::NONE
    };
    let (now, link) = (rig.now, rig.interface);
    rig.host.set_link(now, link, 1500, offloads).unwrap();
    rig.handshake_ms = 40;
    let syn = Options {
        mss: Some(MSS as u16),
        sack_permitted: true,
        ..Options::default()
    };
    let open = rig.accepted_with(&nodelay(), syn);
    (rig, open)
}

/// Numbers in segments of what is sent now, and whether it is pushed.
fn frames(rig: &mut Rig, open: &Open) -> Vec<(u32, u32, bool)> {
    let frame = |s: Seg| {
        let start = s.seq.wrapping_sub(open.host) / MSS;
        (start, start + s.data.len() as u32 / MSS, s.has(PSH))
    };
    core::iter::from_fn(|| rig.next()).map(frame).collect()
}

/// The peer acknowledges up to segment `to` and reports `blocks` of segments.
fn ack(rig: &mut Rig, open: &Open, to: u32, blocks: &[(u32, u32)]) {
    let seg = |n: u32| open.host.wrapping_add(n * MSS);
    let mut sack = Sack::EMPTY;
    for &(from, to) in blocks {
        sack.push((seg(from), seg(to)));
    }
    let options = Options {
        sack,
        ..Options::default()
    };
    rig.send_with(open.peer, seg(to), ACK, &[], options);
}

/// Ten segments in five frames.
fn burst(rig: &mut Rig, open: &Open) {
    rig.write(open, &vec![1; 10 * MSS as usize]);
    let sent = frames(rig, open);
    assert_eq!(
        sent,
        [0, 2, 4, 6, 8].map(|start| (start, start + 2, true)),
        "each super-frame is pushed"
    );
    rig.ms(40);
}

#[test]
fn what_left_in_two_frames_goes_again_in_two() {
    let (mut rig, open) = path();
    burst(&mut rig, &open);
    // The second half of the first frame, with the first half of the next; and a frame of its own.
    ack(&mut rig, &open, 1, &[(3, 4), (6, 10)]);
    let again = frames(&mut rig, &open);
    assert_eq!(again, [(1, 2, false), (2, 3, false), (4, 6, true)]);
    ack(&mut rig, &open, 10, &[]);
    rig.silence();
}

#[test]
fn a_part_of_a_frame_is_pushed_if_it_is_a_super_frame_itself() {
    let (mut rig, open) = path();
    let mut settings = rig.host.tcp_tunables();
    settings.min_tso_segs = 5;
    rig.host.set_tcp_tunables(settings).unwrap();
    rig.write(&open, &vec![1; 10 * MSS as usize]);
    assert_eq!(frames(&mut rig, &open), [(0, 5, true), (5, 10, true)]);
    rig.ms(40);
    ack(&mut rig, &open, 0, &[(2, 6), (7, 10)]);
    assert_eq!(frames(&mut rig, &open), [(0, 2, true), (6, 7, false)]);
}

/// After a timeout: single segments of frames, pushed only where a write ended.
#[test]
fn a_timeout_sends_single_segments_without_a_push() {
    let (mut rig, open) = path();
    burst(&mut rig, &open);
    rig.ms(60);
    frames(&mut rig, &open); // probes of the tail
    rig.ms(2000);
    let again = frames(&mut rig, &open);
    assert!(again.contains(&(0, 1, false)), "{again:?}");
    ack(&mut rig, &open, 1, &[]);
    assert_eq!(
        frames(&mut rig, &open),
        [(1, 2, false), (2, 3, false)],
        "the rest of a frame, and what the window takes of the next"
    );
    ack(&mut rig, &open, 3, &[]);
    let again = frames(&mut rig, &open);
    assert_eq!(again[..2], [(3, 4, false), (4, 6, true)], "{again:?}");
}
