//! No bytes make a view, an accessor, a parser or a printer panic.

use core::fmt::Display;

use proptest::prelude::*;
use wire::{
    Addr, Family, Pretty, PrettyIp, Quote, arp, ethernet, icmpv4, icmpv6, igmp, ipv4, ipv6, mld,
    ndp, tcp, udp, vlan,
};

const A: Addr = Addr::v4(10, 0, 0, 1);
const B: Addr = Addr::link_local([0, 0, 0, 0, 0, 0, 0, 1]);

fn print(value: impl Display) {
    assert!(!value.to_string().is_empty());
}

fn link(bytes: &[u8]) {
    if let Ok(packet) = ethernet::Packet::new(bytes) {
        print(packet);
        let _ = ethernet::Repr::parse(&packet);
    }
    if let Ok(packet) = vlan::Packet::new(bytes) {
        print(packet);
        let _ = vlan::Tag::parse(&packet);
    }
    if let Ok(packet) = arp::Packet::new(bytes) {
        print(packet);
        let _ = arp::Repr::parse(&packet);
    }
}

fn internet(bytes: &[u8]) {
    if let Ok(packet) = ipv4::Packet::new(bytes) {
        print(packet);
        let _ = ipv4::Repr::parse(&packet);
        assert!(
            packet
                .options()
                .map(|option| option.data.len() + 2)
                .sum::<usize>()
                <= 40
        );
        assert!(packet.payload().len() + packet.header_len() <= bytes.len());
    }
    if let Ok(packet) = ipv6::Packet::new(bytes) {
        print(packet);
        let _ = ipv6::Repr::parse(&packet);
    }
    if let Some((&next, rest)) = bytes.split_first() {
        match ipv6::ext::walk(next, rest) {
            Ok(chain) => assert!(chain.offset <= rest.len()),
            Err(error) => {
                print(error);
                assert!(error.pointer as usize <= 40 + rest.len());
            }
        }
        let _ = ipv6::ext::first_fragment_is_complete(next, rest);
        let (_, transport) = ipv6::ext::skip(next, rest);
        assert!(transport.len() <= rest.len());
    }
    let _ = ipv6::ext::FragmentRepr::parse(bytes);
    for family in [Family::V4, Family::V6] {
        if let Ok(quote) = Quote::parse(family, bytes) {
            print(quote);
            let _ = (quote.ports(), quote.tcp_seq(), quote.echo());
        }
    }
}

fn transport(bytes: &[u8]) {
    if let Ok(packet) = udp::Packet::new(bytes) {
        print(packet);
        let _ = (
            udp::Repr::parse(&packet),
            packet.verify_checksum(&A, &A),
            packet.is_empty(),
        );
    }
    if let Ok(packet) = tcp::Packet::new(bytes) {
        print(packet);
        let Ok(repr) = tcp::Repr::parse(&packet) else {
            return;
        };
        let _ = (packet.verify_checksum(&B, &B), packet.segment_len());
        // Whatever came in can go out again.
        let mut buffer = [0; tcp::MAX_HEADER_LEN];
        repr.emit(&mut buffer[..repr.header_len()]);
    }
}

fn control(bytes: &[u8]) {
    if let Ok(packet) = icmpv4::Packet::new(bytes) {
        print(packet);
        let _ = (
            icmpv4::Repr::parse(&packet),
            packet.quoted(),
            packet.verify_checksum(),
        );
    }
    if let Ok(packet) = igmp::Packet::new(bytes) {
        print(packet);
        let _ = (
            igmp::Query::parse(&packet),
            igmp::ReportV2::parse(&packet),
            packet.records().count(),
        );
    }
    if let Ok(packet) = icmpv6::Packet::new(bytes) {
        print(packet);
        let _ = (
            icmpv6::Repr::parse(&packet),
            packet.quoted(),
            packet.verify_checksum(&B, &B),
        );
        for hop_limit in [1, 255] {
            if let Ok(repr) = ndp::Repr::parse(&packet, hop_limit, &B, &B) {
                let options = repr.options();
                let _ = (
                    options.source_mac(),
                    options.target_mac(),
                    options.mtu(),
                    options.prefixes().count(),
                );
                let _ = format!("{repr:?}");
                repr.emit(&mut vec![0; repr.buffer_len()]);
            }
            let _ = mld::Query::parse(&packet, hop_limit);
        }
        let _ = (mld::ReportV1::parse(&packet), mld::records(&packet).count());
    }
}

fn everything(bytes: &[u8]) {
    link(bytes);
    internet(bytes);
    transport(bytes);
    control(bytes);
    print(Pretty(bytes));
    print(PrettyIp(bytes));
}

/// Bytes that get past the first checks: small numbers and known codes come up often.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => any::<u8>(),
        3 => 0u8..20,
        2 => prop::sample::select(vec![0x45, 0x46, 0x60, 0x06, 0x11, 0x2b, 0x2c, 0x3a, 0x3c, 0x80, 0x82, 0x86, 0x87, 0x88, 0xff]),
    ];
    prop::collection::vec(byte, 0..200)
}

/// A frame that says what is in it, with any bytes behind.
fn framed() -> impl Strategy<Value = Vec<u8>> {
    let head = prop::sample::select(vec![
        vec![0x08, 0x00, 0x45],
        vec![0x08, 0x00, 0x4f],
        vec![0x86, 0xdd, 0x60],
        vec![0x08, 0x06],
        vec![0x81, 0x00],
        vec![0x88, 0xa8],
    ]);
    (head, plausible()).prop_map(|(head, rest)| [vec![2; 12], head, rest].concat())
}

/// An IPv6 packet whose ICMPv6 message is of one of the types with a body.
fn icmpv6_message() -> impl Strategy<Value = Vec<u8>> {
    (
        prop::sample::select(vec![
            1u8, 2, 3, 4, 128, 130, 131, 132, 133, 134, 135, 136, 137, 143,
        ]),
        plausible(),
    )
        .prop_map(|(kind, rest)| [vec![kind, 0], rest].concat())
}

#[test]
fn short_and_uniform() {
    for len in 0..130 {
        for byte in [0, 1, 0x3a, 0x45, 0x60, 0x80, 0xff] {
            everything(&vec![byte; len]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        everything(&bytes);
    }

    #[test]
    fn plausible_bytes(bytes in plausible()) {
        everything(&bytes);
    }

    #[test]
    fn plausible_frames(bytes in framed()) {
        everything(&bytes);
        everything(&bytes[14..]);
    }

    #[test]
    fn icmpv6_messages(bytes in icmpv6_message()) {
        control(&bytes);
    }

    #[test]
    fn text_that_is_no_address(text in "[0-9a-f:./\\-]{0,24}") {
        let _ = (text.parse::<Addr>(), text.parse::<wire::Cidr>(), text.parse::<wire::Mac>());
    }
}
