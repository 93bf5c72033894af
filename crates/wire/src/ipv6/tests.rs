//! The header byte by byte, and each reason to refuse one.

use super::*;

const HEADER: [u8; 40] = [
    0x6b, 0xb1, 0x23, 0x45, // version, class 0xbb, flow label 0x12345
    0x00, 0x04, 0x3a, 0xff, // payload length, ICMPv6, hop limit 255
    0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, // fd77::1
    0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff, 0, 0, 0x02, // ff02::1:ff00:2
];

fn repr() -> Repr {
    Repr {
        src: "fd77::1".parse().unwrap(),
        dst: "ff02::1:ff00:2".parse().unwrap(),
        next_header: 58,
        hop_limit: 255,
        traffic_class: 0xbb,
        flow_label: 0x12345,
        payload_len: 4,
    }
}

#[test]
fn header() {
    let bytes = [&HEADER[..], &[1, 2, 3, 4, 0, 0]].concat();
    let packet = Packet::new(&bytes).unwrap();
    assert_eq!(Repr::parse(&packet), Ok(repr()));
    assert_eq!(
        (packet.dscp(), packet.ecn(), packet.payload()),
        (46, 3, &[1, 2, 3, 4][..])
    );
    let mut emitted = [0xff; 40];
    repr().emit(&mut emitted);
    assert_eq!(emitted, HEADER);
    assert_eq!(
        packet.to_string(),
        "IPv6 fd77::1 > ff02::1:ff00:2 next 58 hops 255 len 4 class 0xbb flow 0x12345"
    );
}

#[test]
fn what_is_refused() {
    assert_eq!(Packet::new(&HEADER[..39]).err(), Some(Error::Truncated));
    let parse = |bytes: &[u8]| Repr::parse(&Packet::new(bytes).unwrap());
    assert_eq!(parse(&HEADER), Err(Error::Truncated));
    assert!(
        Packet::new(&HEADER)
            .unwrap()
            .to_string()
            .ends_with("(only 0 here)")
    );
    let mut bytes = [&HEADER[..], &[0; 4]].concat();
    bytes[0] = 0x4b;
    assert_eq!(parse(&bytes), Err(Error::Version));
    bytes[0] = 0x6b;
    // ::ffff:10.0.0.1 would pass for IPv4 further up.
    bytes[8..24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    assert_eq!(parse(&bytes), Err(Error::Address));
    assert!(
        Packet::new(&bytes)
            .unwrap()
            .to_string()
            .starts_with("IPv6 ::ffff:10.0.0.1 > ")
    );
}
