//! Segments byte by byte: layouts real stacks send, and ones nobody should.

use super::*;

/// A SYN as Linux 6 sends it over Ethernet.
const SYN: [u8; 40] = [
    0xb3, 0xea, 0x00, 0x50, // ports 46058 > 80
    0x01, 0x02, 0x03, 0x04, // sequence number
    0x00, 0x00, 0x00, 0x00, // no acknowledgment
    0xa0, 0x02, 0xfa, 0xf0, // 40 bytes, SYN, window 64240
    0x00, 0x00, 0x00, 0x00, // checksum, urgent pointer
    0x02, 0x04, 0x05, 0xb4, // MSS 1460
    0x04, 0x02, 0x08, 0x0a, // SACK permitted, timestamps
    0x11, 0x22, 0x33, 0x44, 0x00, 0x00, 0x00, 0x00, // TSval, TSecr
    0x01, 0x03, 0x03, 0x07, // NOP, window scale 7
];

fn syn() -> Repr {
    Repr {
        src_port: 46058,
        dst_port: 80,
        seq: 0x0102_0304,
        ack: None,
        flags: Flags::SYN,
        window: 64240,
        urgent: 0,
        options: Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((0x1122_3344, 0)),
            ..Options::default()
        },
    }
}

fn options(area: &[u8]) -> Options {
    Options::parse(area)
}

#[test]
fn syn_of_linux() {
    let packet = Packet::new(&SYN).unwrap();
    assert_eq!(Repr::parse(&packet), Ok(syn()));
    assert_eq!((packet.header_len(), packet.segment_len()), (40, 1));
    assert_eq!(packet.port_bytes(), [0xb3, 0xea, 0, 80]);
    let mut bytes = [0xff; 40];
    syn().emit(&mut bytes);
    assert_eq!(bytes, SYN);
    assert_eq!(
        packet.to_string(),
        "TCP 46058 > 80 SYN seq 16909060 win 64240 len 0 [mss 1460 sackOK TS 287454020 ecr 0 wscale 7]"
    );
}

#[test]
fn segment_with_timestamps_only() {
    let bytes = [
        0x00, 0x50, 0xb3, 0xea, 0, 0, 0, 1, 0, 0, 0, 2, // ports, numbers
        0x80, 0x18, 0x01, 0xf5, 0xab, 0xcd, 0, 0, // 32 bytes, PSH|ACK
        0x01, 0x01, 0x08, 0x0a, 0, 0, 0, 3, 0, 0, 0, 4, // NOP NOP TS
        b'h', b'i',
    ];
    let packet = Packet::new(&bytes).unwrap();
    assert_eq!(packet.only_timestamps(), Some((3, 4)));
    assert_eq!(
        packet.options(),
        Options {
            timestamps: Some((3, 4)),
            ..Options::default()
        }
    );
    assert_eq!(packet.flags(), Flags::PSH | Flags::ACK);
    assert_eq!(
        (packet.payload(), packet.checksum(), packet.segment_len()),
        (&b"hi"[..], 0xabcd, 2)
    );

    let repr = Repr::parse(&packet).unwrap();
    assert_eq!(
        (repr.ack, repr.flags, repr.header_len()),
        (Some(2), Flags::PSH, 32)
    );
    let mut again = [0xff; 32];
    repr.emit(&mut again);
    assert_eq!(
        (&again[..16], &again[16..18], &again[18..]),
        (&bytes[..16], &[0, 0][..], &bytes[18..32])
    );

    // The same options in another order take the general way, to the same end.
    let mut other = bytes;
    other[20..32].copy_from_slice(&[0x08, 0x0a, 0, 0, 0, 3, 0, 0, 0, 4, 0x01, 0x01]);
    let packet = Packet::new(&other).unwrap();
    assert_eq!(
        (packet.only_timestamps(), packet.options().timestamps),
        (None, Some((3, 4)))
    );
}

#[test]
fn header_length_is_checked() {
    let mut bytes = SYN;
    bytes[12] = 0x40;
    assert_eq!(Packet::new(&bytes).err(), Some(Error::Length));
    bytes[12] = 0xb0;
    assert_eq!(Packet::new(&bytes).err(), Some(Error::Truncated));
    assert_eq!(Packet::new(&SYN[..39]).err(), Some(Error::Truncated));
    assert_eq!(Packet::new(&SYN[..19]).err(), Some(Error::Truncated));
}

#[test]
fn reserved_bits_are_ignored() {
    let mut bytes = SYN;
    bytes[12] |= 0x0e;
    assert_eq!(Packet::new(&bytes).unwrap().flags(), Flags::SYN);
    bytes[12] |= 1;
    assert_eq!(Packet::new(&bytes).unwrap().flags(), Flags::SYN | Flags::AE);
}

#[test]
fn sack_blocks() {
    let area = [
        0x01, 0x01, 0x05, 0x12, // NOP NOP SACK of two
        0, 0, 0, 10, 0, 0, 0, 20, 0, 0, 0, 30, 0, 0, 0, 40,
    ];
    let read = options(&area);
    assert_eq!(read.sack.as_slice(), [(10, 20), (30, 40)]);
    let mut again = [0; 20];
    assert_eq!(read.emit(&mut again), 20);
    assert_eq!(again, area);
    // A length between the blocks is not SACK's.
    assert_eq!(options(&[0x05, 0x03, 0x00]).sack, Sack::EMPTY);
    assert_eq!(options(&[0x05, 0x02]).sack, Sack::EMPTY);
}

#[test]
fn sack_blocks_give_way_to_other_options() {
    let mut full = Options {
        timestamps: Some((1, 2)),
        ..Options::default()
    };
    for block in 0..4 {
        assert!(full.sack.push((block, block + 1)));
    }
    assert!(!full.sack.push((9, 9)));
    assert_eq!((full.sack_room(), full.buffer_len()), (3, 40));
    let mut area = [0; MAX_OPTIONS_LEN];
    assert_eq!(full.emit(&mut area), 40);
    assert_eq!(options(&area).sack.as_slice(), &full.sack.as_slice()[..3]);
    // A SYN's options leave room for two.
    let all = Options {
        mss: Some(1),
        window_scale: Some(1),
        sack_permitted: true,
        ..full
    };
    assert_eq!((all.sack_room(), all.buffer_len()), (2, 40));
    // Without timestamps all four fit.
    let four = Options {
        timestamps: None,
        ..full
    };
    assert_eq!((four.sack_room(), four.buffer_len()), (4, 36));
    // A length that lies is held to what there is.
    let lying = Options {
        sack: Sack {
            len: 200,
            ..Sack::EMPTY
        },
        ..Options::default()
    };
    assert_eq!((lying.buffer_len(), lying.emit(&mut area)), (36, 36));
}

#[test]
fn unknown_options_are_passed_over() {
    let area = [0x1e, 0x04, 0xaa, 0xbb, 0xfe, 0x02, 0x02, 0x04, 0x05, 0xb4];
    let read = options(&area);
    assert_eq!((read.mss, read.malformed), (Some(1460), false));
    let all: Vec<_> = OptIter::new(&area).collect();
    assert_eq!(
        all,
        [
            Opt::Other {
                kind: kind::MPTCP,
                data: &[0xaa, 0xbb]
            },
            Opt::Other {
                kind: 0xfe,
                data: &[]
            },
            Opt::Mss(1460)
        ]
    );
    // A known kind with a length not its own is like an unknown one.
    assert_eq!(options(&[0x02, 0x03, 0x05, 0x03, 0x03, 0x09]).mss, None);
    assert_eq!(
        options(&[0x02, 0x03, 0x05, 0x03, 0x03, 0x09]).window_scale,
        Some(9)
    );
}

#[test]
fn malformed_options_end_the_list() {
    // Of length 0 and 1, beyond the end, without a length.
    for bad in [
        &[0x08, 0x00][..],
        &[0x08, 0x01],
        &[0x08, 0x0a, 0, 0],
        &[0x08],
    ] {
        let area = [&[0x02, 0x04, 0x05, 0xb4], bad].concat();
        let read = options(&area);
        assert_eq!(
            (read.mss, read.timestamps, read.malformed),
            (Some(1460), None, true),
            "{bad:?}"
        );
        assert!(OptIter::new(&area).to_string().ends_with(" malformed]"));
    }
    // What follows the end is no option, and no error.
    let read = options(&[0x00, 0x02, 0x04, 0x05, 0xb4, 0x08, 0x00]);
    assert_eq!(read, Options::default());
}

#[test]
fn window_scale_is_at_most_14() {
    assert_eq!(options(&[0x03, 0x03, 15]).window_scale, Some(14));
    let mut area = [0; 4];
    Options {
        window_scale: Some(200),
        ..Options::default()
    }
    .emit(&mut area);
    assert_eq!(area, [0x01, 0x03, 0x03, 14]);
}

#[test]
fn acknowledgment_and_urgent_pointer_follow_their_flags() {
    let mut bytes = [0; 20];
    // ACK among the flags, but no number: not sent.
    let repr = Repr {
        flags: Flags::RST | Flags::ACK,
        urgent: 5,
        ..Repr::default()
    };
    repr.emit(&mut bytes);
    let packet = Packet::new(&bytes).unwrap();
    assert_eq!(
        (packet.flags(), packet.ack(), packet.urgent()),
        (Flags::RST, 0, 0)
    );
    let repr = Repr {
        ack: Some(7),
        flags: Flags::URG,
        urgent: 5,
        ..Repr::default()
    };
    repr.emit(&mut bytes);
    let packet = Packet::new(&bytes).unwrap();
    assert_eq!(
        (packet.flags(), packet.ack(), packet.urgent()),
        (Flags::URG | Flags::ACK, 7, 5)
    );
    assert_eq!(
        packet.to_string(),
        "TCP 0 > 0 ACK|URG seq 0 ack 7 win 0 urg 5 len 0"
    );
}

#[test]
fn sack_permitted_alone_is_aligned() {
    let mut area = [0; 8];
    let sent = Options {
        sack_permitted: true,
        mss: Some(536),
        ..Options::default()
    };
    assert_eq!(sent.emit(&mut area), 8);
    assert_eq!(area, [0x02, 0x04, 0x02, 0x18, 0x01, 0x01, 0x04, 0x02]);
}

#[test]
fn flags_as_sets() {
    let flags = Flags::SYN | Flags::ACK;
    assert!(
        flags.contains(Flags::SYN)
            && flags.contains(flags)
            && !flags.contains(Flags::SYN | Flags::FIN)
    );
    assert!(flags.intersects(Flags::SYN | Flags::FIN) && !flags.intersects(Flags::FIN));
    assert_eq!(
        (
            flags & Flags::SYN,
            flags.without(Flags::SYN),
            flags.union(Flags::AE).0
        ),
        (Flags::SYN, Flags::ACK, 0x112)
    );
    assert_eq!(
        (Flags::NONE.to_string(), Flags(0xffff).to_string()),
        ("none".into(), "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR|AE".into())
    );
}

#[test]
fn checksum_of_a_captured_segment() {
    // RFC 1071 arithmetic by hand: pseudo-header 10.0.0.1 > 10.0.0.2, 20 bytes of TCP.
    let mut bytes = [0; 20];
    Repr {
        src_port: 1,
        dst_port: 2,
        ack: Some(0),
        ..Repr::default()
    }
    .emit(&mut bytes);
    let (src, dst) = (Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2));
    let words = [0x0a00, 0x0001, 0x0a00, 0x0002, 6, 20, 1, 2, 0x5010u32];
    let check = !(words.iter().sum::<u32>() as u16);
    assert!(!Packet::new(&bytes).unwrap().verify_checksum(&src, &dst));
    bytes[16..18].copy_from_slice(&check.to_be_bytes());
    assert!(Packet::new(&bytes).unwrap().verify_checksum(&src, &dst));
    assert!(
        !Packet::new(&bytes)
            .unwrap()
            .verify_checksum(&src, &Addr::v4(10, 0, 0, 3))
    );
}

#[test]
fn structures_stay_small() {
    assert!(size_of::<Options>() <= 96 && size_of::<Repr>() <= 124);
}

#[test]
fn fast_open_options() {
    let cookie = [0x30, 0x21, 0xb9, 0xd8, 0x89, 0x01, 0x7e, 0xeb];
    let mut real = [0x01; 12];
    real[..2].copy_from_slice(&[34, 10]);
    real[2..10].copy_from_slice(&cookie);
    let mut experimental = [0; 12];
    experimental[..4].copy_from_slice(&[254, 12, 0xf9, 0x89]);
    experimental[4..].copy_from_slice(&cookie);
    for (area, kind_254) in [(real, false), (experimental, true)] {
        let read = options(&area);
        let option = read.fast_open.unwrap();
        assert_eq!(
            (option.cookie(), option.experimental),
            (&cookie[..], kind_254)
        );
        assert!(!option.is_request() && read.only_timestamps().is_none());
        let mut again = [0; 12];
        assert_eq!(read.emit(&mut again), 12);
        assert_eq!(again, area);
    }
    let request = options(&[34, 2]);
    assert_eq!(request.fast_open, Some(FastOpen::REQUEST));
    let mut again = [0xff; 4];
    assert_eq!(request.emit(&mut again), 4);
    assert_eq!(again, [34, 2, 1, 1]);
    assert!(
        options(&[254, 4, 0xf9, 0x89])
            .fast_open
            .unwrap()
            .is_request()
    );
}

#[test]
fn fast_open_cookies_are_4_to_16_bytes_and_even() {
    for len in 0..=40_usize {
        let mut area = vec![0x22; len + 2];
        area[1] = len as u8 + 2;
        let valid = len == 0 || (4..=16).contains(&len) && len.is_multiple_of(2);
        assert_eq!(options(&area).fast_open.is_some(), valid, "{len} bytes");
        assert_eq!(FastOpen::new(&area[2..], false).is_some(), valid);
    }
    // Another experiment is none of ours.
    assert_eq!(options(&[254, 4, 0xf9, 0x88]).fast_open, None);
    assert_eq!(options(&[254, 3, 0xf9]).fast_open, None);
}

#[test]
fn the_longest_cookie_fits_beside_all_options_of_a_syn() {
    for experimental in [false, true] {
        let full = Options {
            fast_open: FastOpen::new(&[7; 16], experimental),
            ..syn().options
        };
        assert_eq!(full.buffer_len(), MAX_OPTIONS_LEN);
        let mut area = [0; MAX_OPTIONS_LEN];
        assert_eq!(full.emit(&mut area), MAX_OPTIONS_LEN);
        assert_eq!(options(&area), full);
    }
}

#[test]
fn counters_of_accurate_ecn_in_both_orders() {
    // RFC 9768 section 3.2.3
    let read = options(&[172, 11, 0, 0, 1, 0, 0, 0, 0, 4, 0, 1])
        .acc_ecn
        .unwrap();
    assert_eq!(
        (read.e0b(), read.ceb(), read.e1b()),
        (Some(1), Some(0), Some(1024))
    );
    let read = options(&[174, 11, 0, 0, 1, 0, 0, 0, 0, 4, 0, 1])
        .acc_ecn
        .unwrap();
    assert_eq!(
        (read.e1b(), read.ceb(), read.e0b()),
        (Some(1), Some(0), Some(1024))
    );
    let read = options(&[174, 8, 0, 0, 1, 0xff, 0, 0]).acc_ecn.unwrap();
    assert_eq!(
        (read.e1b(), read.ceb(), read.e0b()),
        (Some(1), Some(0xff_0000), None)
    );
    assert_eq!(options(&[172, 2]).acc_ecn, Some(AccEcn::default()));
    // Any other length: the whole fields count.
    let read = options(&[172, 7, 0, 0, 9, 1, 1, 1]).acc_ecn.unwrap();
    assert_eq!((read.len(), read.e0b(), read.ceb()), (1, Some(9), None));
}

#[test]
fn counters_of_accurate_ecn_are_cut_to_their_room() {
    let acc_ecn = Some(AccEcn::new(true, &[1, 2, 0x0103_0405]));
    let written = |options: Options| {
        let mut out = vec![0; options.buffer_len()];
        assert_eq!(options.emit(&mut out), out.len());
        out
    };
    let alone = written(Options {
        acc_ecn,
        ..Options::default()
    });
    assert_eq!(alone, [174, 11, 0, 0, 1, 0, 0, 2, 3, 4, 5, 1]);
    let timestamps = Some((1, 2));
    let mut sack = Sack::EMPTY;
    for n in 0..3 {
        sack.push((n, n + 1));
    }
    let full = written(Options {
        acc_ecn,
        timestamps,
        sack,
        ..Options::default()
    });
    assert_eq!(
        (full.len(), full[12], full[27]),
        (36, 174, 10),
        "one block is left"
    );
    let syn = Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps,
        fast_open: FastOpen::new(&[7; 8], false),
        acc_ecn,
        ..Options::default()
    };
    let bytes = written(syn);
    assert_eq!(bytes.len(), 40);
    assert_eq!(options(&bytes).acc_ecn.unwrap().len(), 2);
    let crowded = Options {
        fast_open: FastOpen::new(&[7; 16], false),
        ..syn
    };
    assert_eq!(options(&written(crowded)).acc_ecn, None);
}
