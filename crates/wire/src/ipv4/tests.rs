//! Headers byte by byte, and each reason to refuse one.

use super::*;

/// The header of an echo request of `ping`, 84 bytes in all.
const HEADER: [u8; 20] = [
    0x45, 0x00, 0x00, 0x54, // version, length 20, TOS, total length 84
    0x1c, 0x46, 0x40, 0x00, // identification, DF
    0x40, 0x01, 0x09, 0xc7, // TTL 64, ICMP, checksum
    0x0a, 0x4d, 0x00, 0x01, // 10.77.0.1
    0x0a, 0x4d, 0x00, 0x02, // 10.77.0.2
];

fn packet() -> Vec<u8> {
    // With four bytes of padding behind.
    [&HEADER[..], &[0x5a; 64], &[0; 4]].concat()
}

fn repr() -> Repr {
    Repr {
        ident: 0x1c46,
        dont_fragment: true,
        ..Repr::new(Addr::v4(10, 77, 0, 1), Addr::v4(10, 77, 0, 2), 1, 64, 64)
    }
}

/// The header with these bytes changed and the checksum made right.
fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut packet = packet();
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    fix(&mut packet);
    packet
}

fn fix(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let check = Sum::new().add_bytes(&packet[..len]).finish();
    packet[10..12].copy_from_slice(&check.to_be_bytes());
}

#[test]
fn echo_request() {
    let bytes = packet();
    let packet = Packet::new(&bytes).unwrap();
    assert!(packet.verify_checksum() && !packet.is_fragment() && !packet.is_truncated());
    assert_eq!(Repr::parse(&packet), Ok(repr()));
    assert_eq!(packet.payload(), [0x5a; 64]);
    let mut emitted = [0xff; 20];
    repr().emit(&mut emitted);
    assert_eq!(emitted, HEADER);
    assert_eq!(
        packet.to_string(),
        "IPv4 10.77.0.1 > 10.77.0.2 proto 1 ttl 64 len 84 DF"
    );
}

#[test]
fn headers_that_do_not_fit() {
    assert_eq!(Packet::new(&HEADER[..19]).err(), Some(Error::Truncated));
    assert_eq!(Packet::new(&changed(0, &[0x44])).err(), Some(Error::Length));
    assert_eq!(
        Packet::new(&changed(0, &[0x46])[..23]).err(),
        Some(Error::Truncated)
    );
}

#[test]
fn what_parse_refuses() {
    let parse = |bytes: &[u8]| Repr::parse(&Packet::new(bytes).unwrap());
    assert_eq!(parse(&changed(0, &[0x65])), Err(Error::Version));
    assert_eq!(parse(&changed(2, &[0, 19])), Err(Error::Length));
    assert_eq!(parse(&changed(2, &[0, 89])), Err(Error::Truncated));
    assert_eq!(
        parse(&changed(2, &[0, 88])).map(|repr| repr.payload_len),
        Ok(68)
    );
    let mut bytes = packet();
    bytes[8] = 63;
    assert_eq!(parse(&bytes), Err(Error::Checksum));
}

#[test]
fn a_quoted_header_is_truncated_but_readable() {
    let packet = Packet::new(&HEADER).unwrap();
    assert!(packet.is_truncated());
    assert_eq!((packet.payload(), packet.total_len()), (&[][..], 84));
    assert!(packet.to_string().ends_with("(only 20 here)"));
}

#[test]
fn fragments() {
    let bytes = changed(6, &[0x20, 0xb9]);
    let packet = Packet::new(&bytes).unwrap();
    assert!(packet.is_fragment() && packet.more_fragments() && !packet.dont_fragment());
    assert_eq!(packet.fragment_offset(), 1480);
    assert!(packet.to_string().contains("frag 0x1c46@1480+"));
    assert_eq!(
        Packet::new(&changed(6, &[0x1f, 0xff]))
            .unwrap()
            .fragment_offset(),
        65_528
    );
    assert!(
        Packet::new(&changed(6, &[0x80, 0]))
            .unwrap()
            .reserved_flag()
    );
}

#[test]
fn dscp_and_ecn() {
    let bytes = changed(1, &[0xbb]);
    let packet = Packet::new(&bytes).unwrap();
    assert_eq!((packet.dscp(), packet.ecn(), packet.tos()), (46, 3, 0xbb));
}

#[test]
fn router_alert() {
    let repr = Repr {
        router_alert: true,
        payload_len: 8,
        protocol: 2,
        ttl: 1,
        ..repr()
    };
    let mut bytes = [0xff; 32];
    repr.emit(&mut bytes);
    assert_eq!((bytes[0], &bytes[20..24]), (0x46, &[0x94, 4, 0, 0][..]));
    let packet = Packet::new(&bytes).unwrap();
    assert_eq!(Repr::parse(&packet), Ok(repr));
    assert_eq!(
        (repr.header_len(), packet.header_len(), packet.payload()),
        (24, 24, &[0xff; 8][..])
    );
    assert!(packet.to_string().contains("options [router-alert]"));
}

#[test]
fn options_one_by_one() {
    let area = [1, 0x83, 7, 4, 10, 0, 0, 1, 1, 0x94, 4, 0, 0, 0, 0x07, 99];
    let mut options = Options::new(&area);
    let first = options.next().unwrap();
    assert_eq!(
        (first.kind, first.data, first.offset),
        (kind::LOOSE_SOURCE_ROUTE, &[4, 10, 0, 0, 1][..], 21)
    );
    assert!(first.is_source_route() && first.copied());
    let second = options.next().unwrap();
    assert_eq!(
        (second.kind, second.data, second.offset),
        (kind::ROUTER_ALERT, &[0, 0][..], 29)
    );
    // What follows the end does not count.
    assert_eq!((options.next(), options.malformed()), (None, None));
}

#[test]
fn malformed_options() {
    for bad in [&[7, 0][..], &[7, 1], &[7, 4, 0], &[7]] {
        let area = [&[1, 1], bad].concat();
        let mut options = Options::new(&area);
        assert_eq!(
            (options.next(), options.malformed()),
            (None, Some(22)),
            "{bad:?}"
        );
        assert_eq!(Options::new(&area).to_string(), "[malformed]");
    }
    let area = [7, 3, 4, 68, 3, 5, 137, 3, 4, 0x94, 4, 0, 0, 200, 2, 9, 9];
    assert_eq!(
        Options::new(&area).to_string(),
        "[record-route timestamp strict-source-route router-alert 200 malformed]"
    );
}
