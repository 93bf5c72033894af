//! Header translation against hand-made headers and through a round trip.

use proptest::prelude::*;

use super::*;

fn header(flags: u8, gso: u8, words: [u16; 4]) -> [u8; HEADER_LEN] {
    let mut h = [0; HEADER_LEN];
    h[0] = flags;
    h[1] = gso;
    for (i, w) in words.iter().enumerate() {
        h[2 + 2 * i..4 + 2 * i].copy_from_slice(&w.to_ne_bytes());
    }
    h
}

/// A frame whose TCP header starts at 34 and is `words` 32-bit words long.
fn frame(words: u8, flags: u8) -> [u8; 80] {
    let mut f = [0; 80];
    f[34 + 12] = words << 4;
    f[34 + 13] = flags;
    f
}

#[test]
fn plain_frames_say_nothing() {
    assert_eq!(to_facts(&[0; 10], &[0; 60], 60), Ok(Facts::default()));
    assert_eq!(from_facts(&Facts::default(), &[0; 60], 60), Ok([0; 10]));
}

#[test]
fn a_vouched_for_checksum_is_good() {
    let good = Facts {
        checksum: Checksum::Good,
        ..Facts::default()
    };
    assert_eq!(to_facts(&header(2, 0, [0; 4]), &[0; 60], 60), Ok(good));
    assert_eq!(from_facts(&good, &[0; 60], 60), Ok(header(2, 0, [0; 4])));
}

#[test]
fn a_partial_checksum_keeps_its_place() {
    let partial = Facts {
        checksum: Checksum::Partial {
            start: 34,
            offset: 6,
        },
        ..Facts::default()
    };
    let h = header(1, 0, [0, 0, 34, 6]);
    assert_eq!(to_facts(&h, &[0; 60], 60), Ok(partial));
    assert_eq!(from_facts(&partial, &[0; 60], 60), Ok(h));
    // The last two bytes of the frame are the last place that can hold it.
    assert!(to_facts(&h, &[0; 42], 42).is_ok());
    assert_eq!(to_facts(&h, &[0; 41], 41), Err(Misfit));
    assert_eq!(from_facts(&partial, &[0; 41], 41), Err(Misfit));
}

#[test]
fn a_tcp_super_frame_has_the_header_length_of_its_tcp_header() {
    // The kernel's hint says 54, the TCP header has 12 bytes of options.
    let h = header(1, 1, [54, 1448, 34, 16]);
    let facts = to_facts(&h, &frame(8, 0), 60_000).unwrap();
    assert_eq!(
        facts.gso,
        Gso {
            kind: GsoKind::Tcp4,
            size: 1448,
            header_len: 66
        }
    );
    assert_eq!(
        facts.checksum,
        Checksum::Partial {
            start: 34,
            offset: 16
        }
    );
    assert_eq!(
        from_facts(&facts, &frame(8, 0), 60_000),
        Ok(header(1, 1, [66, 1448, 34, 16]))
    );
    // Out of sight, the hint has to do.
    assert_eq!(to_facts(&h, &[0; 40], 60_000).unwrap().gso.header_len, 54);
    // A header length below the minimum is not believed.
    assert_eq!(
        to_facts(&h, &frame(1, 0), 60_000).unwrap().gso.header_len,
        54
    );
}

#[test]
fn cwr_is_announced_to_the_device_that_cuts() {
    let facts = to_facts(&header(1, 0x84, [0, 1428, 54, 16]), &[0; 200], 60_000).unwrap();
    assert_eq!(facts.gso.kind, GsoKind::Tcp6);
    let mut first = [0; 200];
    assert_eq!(from_facts(&facts, &first, 60_000).unwrap()[1], 4);
    first[54 + 13] = 0x90;
    assert_eq!(from_facts(&facts, &first, 60_000).unwrap()[1], 0x84);
}

#[test]
fn udp_super_frames_have_eight_bytes_of_header() {
    let facts = to_facts(&header(1, 5, [99, 1472, 34, 6]), &[0; 99], 10_000).unwrap();
    assert_eq!(
        facts.gso,
        Gso {
            kind: GsoKind::Udp,
            size: 1472,
            header_len: 42
        }
    );
}

#[test]
fn nonsense_is_refused() {
    // No segment size; a kind of the past (UFO) and one of the future; headers longer than the frame.
    assert_eq!(
        to_facts(&header(1, 1, [54, 0, 34, 16]), &frame(5, 0), 60_000),
        Err(Misfit)
    );
    assert_eq!(
        to_facts(&header(1, 3, [54, 1448, 34, 16]), &frame(5, 0), 60_000),
        Err(Misfit)
    );
    assert_eq!(
        to_facts(&header(1, 7, [54, 1448, 34, 16]), &frame(5, 0), 60_000),
        Err(Misfit)
    );
    assert_eq!(
        to_facts(&header(1, 1, [54, 1448, 34, 16]), &frame(15, 0), 80),
        Err(Misfit)
    );
    assert_eq!(
        to_facts(&header(0, 1, [90, 1448, 0, 0]), &frame(5, 0), 80),
        Err(Misfit)
    );
    // A super-frame whose checksum nobody computes.
    let gso = Gso {
        kind: GsoKind::Tcp4,
        size: 1448,
        header_len: 54,
    };
    assert_eq!(
        from_facts(
            &Facts {
                gso,
                ..Facts::default()
            },
            &[0; 80],
            9000
        ),
        Err(Misfit)
    );
}

proptest! {
    #[test]
    fn any_header_gives_facts_inside_the_frame_or_none(
        bytes: [u8; HEADER_LEN], first in proptest::collection::vec(any::<u8>(), 0..128), more in 0usize..70_000,
    ) {
        let len = first.len() + more;
        if let Ok(facts) = to_facts(&bytes, &first, len) {
            if let Checksum::Partial { start, offset } = facts.checksum {
                prop_assert!(usize::from(start) + usize::from(offset) + 2 <= len);
            }
            prop_assert!(usize::from(facts.gso.header_len) <= len);
            prop_assert_eq!(facts.gso.kind == GsoKind::None, facts.gso.size == 0);
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        start in 14u16..100, offset in 0u16..30, kind in 0u8..4, size in 1u16.., len in 200usize..70_000,
    ) {
        let kind = [GsoKind::None, GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::Udp][usize::from(kind)];
        let header_len = start + if kind == GsoKind::Udp { 8 } else { 20 };
        let gso = if kind == GsoKind::None { Gso::default() } else { Gso { kind, size, header_len } };
        let facts = Facts { checksum: Checksum::Partial { start, offset }, gso };
        let mut first = [0; 150];
        first[usize::from(start) + 12] = 5 << 4;
        let header = from_facts(&facts, &first, len).unwrap();
        prop_assert_eq!(to_facts(&header, &first, len), Ok(facts));
    }
}
