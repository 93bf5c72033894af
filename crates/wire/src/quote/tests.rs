//! Quoted packets, whole and cut short.

use super::*;

const V4: [u8; 28] = [
    0x45, 0, 0x05, 0xdc, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0,
    1, // IPv4, 1500 bytes
    0x00, 0x50, 0xb3, 0xea, 1, 2, 3, 4, // ports, sequence number
];

fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ipv6::HEADER_LEN];
    let (src, dst) = ("fd77::2".parse().unwrap(), "fd77::1".parse().unwrap());
    ipv6::Repr::new(src, dst, next, 64, 1460).emit(&mut bytes);
    bytes.extend(rest);
    bytes
}

#[test]
fn tcp_over_ipv4() {
    let quote = Quote::parse(Family::V4, &V4).unwrap();
    assert_eq!(
        (quote.src, quote.dst),
        (Addr::v4(10, 0, 0, 2), Addr::v4(10, 0, 0, 1))
    );
    assert_eq!(
        (quote.ports(), quote.tcp_seq(), quote.echo()),
        (Some((80, 0xb3ea)), Some(0x0102_0304), None)
    );
    assert_eq!((quote.packet_len, quote.protocol), (1500, 6));
    assert_eq!(
        quote.to_string(),
        "10.0.0.2 port 80 > 10.0.0.1 port 46058 proto 6"
    );
    // Four bytes are enough for ports, not for the sequence number.
    let quote = Quote::parse(Family::V4, &V4[..24]).unwrap();
    assert_eq!((quote.ports(), quote.tcp_seq()), (Some((80, 0xb3ea)), None));
}

#[test]
fn later_fragments_have_no_ports() {
    let mut bytes = V4;
    bytes[7] = 1;
    let quote = Quote::parse(Family::V4, &bytes).unwrap();
    assert_eq!((quote.ports(), quote.transport), (None, &[][..]));
    assert_eq!(quote.to_string(), "10.0.0.2 > 10.0.0.1 proto 6");
}

#[test]
fn udp_behind_extension_headers() {
    let bytes = v6(60, &[17, 0, 1, 4, 0, 0, 0, 0, 0, 53, 0, 99]);
    let quote = Quote::parse(Family::V6, &bytes).unwrap();
    assert_eq!(
        (quote.ports(), quote.tcp_seq(), quote.packet_len),
        (Some((53, 99)), None, 1500)
    );
}

#[test]
fn echo_requests() {
    let bytes = v6(58, &[128, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(
        Quote::parse(Family::V6, &bytes).unwrap().echo(),
        Some((0x0102, 0x0304))
    );
    let bytes = v6(58, &[129, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(Quote::parse(Family::V6, &bytes).unwrap().echo(), None);
}

#[test]
fn what_is_refused() {
    assert_eq!(
        Quote::parse(Family::V6, &v6(6, &[])[..39]).err(),
        Some(Error::Truncated)
    );
    assert_eq!(
        Quote::parse(Family::V4, &v6(6, &[])).err(),
        Some(Error::Length)
    );
    let mut bytes = v6(6, &[]);
    bytes[0] = 0x45;
    assert_eq!(Quote::parse(Family::V6, &bytes).err(), Some(Error::Version));
    bytes[0] = 0x60;
    bytes[24..36].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(Quote::parse(Family::V6, &bytes).err(), Some(Error::Address));
}
