//! Chains of extension headers: each rule of RFC 8200 section 4, and where its error points.

use super::*;

const HOP: u8 = protocol::HOP_BY_HOP;
const DST: u8 = protocol::DESTINATION_OPTIONS;
const RTG: u8 = protocol::ROUTING;
const FRG: u8 = protocol::FRAGMENT;
const TCP: u8 = protocol::TCP;

fn error(kind: Kind, pointer: u32) -> Result<Chain, Error> {
    Err(Error { kind, pointer })
}

#[test]
fn no_extension_header() {
    let chain = walk(TCP, &[]).unwrap();
    assert_eq!(
        (
            chain.transport,
            chain.offset,
            chain.named_at,
            chain.fragment
        ),
        (TCP, 0, 6, None)
    );
    assert_eq!(walk(protocol::AH, &[]).unwrap().transport, protocol::AH);
}

#[test]
fn all_in_a_row() {
    let payload = [
        [DST, 0, option::ROUTER_ALERT, 2, 0, 0, 1, 0],
        [RTG, 0, 0, 0, 1, 2, 0, 0],
        [FRG, 0, 0, 0, 0, 0, 0, 0],
        [DST, 0, 0, 0, 0, 0, 0, 7],
        [TCP, 0, 0x1e, 4, 1, 2, 3, 4],
    ]
    .concat();
    let chain = walk(HOP, &payload).unwrap();
    assert_eq!(
        (chain.transport, chain.offset, chain.named_at),
        (TCP, 40, 72)
    );
    assert!(chain.hop_by_hop && chain.destination_options && chain.routing0);
    assert_eq!(chain.router_alert, Some(0));
    // An atomic fragment is passed over.
    let fragment = chain.fragment.unwrap();
    assert!(fragment.is_atomic());
    assert_eq!(
        (fragment.header_offset, fragment.named_at, fragment.ident),
        (24, 56, 7)
    );
}

#[test]
fn a_fragment_ends_the_walk() {
    for (word, offset, more) in [
        ([0u8, 1], 0, true),
        ([0x05, 0xa8], 1448, false),
        ([0xff, 0xff], 65_528, true),
    ] {
        // What follows looks like a broken header, and must not be looked at.
        let payload = [
            &[FRG, 0, 1, 4, 0, 0, 0, 0][..],
            &[DST, 0, word[0], word[1], 0, 0, 0, 9],
            &[0xff; 8],
        ]
        .concat();
        let chain = walk(DST, &payload).unwrap();
        assert_eq!(
            (chain.transport, chain.offset, chain.named_at),
            (DST, 16, 48)
        );
        let expected = Fragment {
            offset,
            more,
            ident: 9,
            next_header: DST,
            header_offset: 8,
            named_at: 40,
        };
        assert_eq!(chain.fragment, Some(expected));
    }
}

#[test]
fn hop_by_hop_must_come_first() {
    let payload = [[HOP, 0, 1, 4, 0, 0, 0, 0], [TCP, 0, 1, 4, 0, 0, 0, 0]].concat();
    assert_eq!(walk(DST, &payload), error(Kind::HopByHopPosition, 40));
    assert_eq!(walk(HOP, &payload), error(Kind::HopByHopPosition, 40));
    assert_eq!(Kind::HopByHopPosition.parameter_problem(true), Some(1));
}

#[test]
fn routing_headers() {
    assert_eq!(
        walk(RTG, &[TCP, 0, 0, 1, 0, 0, 0, 0]),
        error(Kind::RoutingType, 42)
    );
    assert_eq!(
        walk(RTG, &[TCP, 0, 2, 1, 0, 0, 0, 0]),
        error(Kind::RoutingType, 42)
    );
    let chain = walk(RTG, &[TCP, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    assert!(!chain.routing0 && chain.transport == TCP);
    assert_eq!(Kind::RoutingType.parameter_problem(true), Some(0));
}

#[test]
fn unknown_options_by_their_highest_bits() {
    for header in [HOP, DST] {
        let walk_with = |kind| walk(header, &[TCP, 0, 0, kind, 2, 0, 0, 0]);
        assert!(walk_with(0x3e).is_ok());
        assert_eq!(walk_with(0x7e), error(Kind::UnknownOption, 43));
        assert_eq!(walk_with(0xbe), error(Kind::UnknownOptionTell, 43));
        assert_eq!(walk_with(0xfe), error(Kind::UnknownOptionTellUnicast, 43));
    }
    assert_eq!(Kind::UnknownOption.parameter_problem(false), None);
    assert_eq!(
        (
            Kind::UnknownOptionTell.parameter_problem(true),
            Kind::UnknownOptionTell.parameter_problem(false)
        ),
        (Some(2), Some(2))
    );
    let tell_unicast = Kind::UnknownOptionTellUnicast;
    assert_eq!(
        (
            tell_unicast.parameter_problem(true),
            tell_unicast.parameter_problem(false)
        ),
        (None, Some(2))
    );
    // Router alert counts in hop-by-hop options only, and with its own length only.
    assert_eq!(
        walk(DST, &[TCP, 0, 5, 2, 0, 0, 0, 0]).unwrap().router_alert,
        None
    );
    assert_eq!(
        walk(HOP, &[TCP, 0, 5, 3, 0, 0, 0, 0]).unwrap().router_alert,
        None
    );
}

#[test]
fn options_that_do_not_fit() {
    assert_eq!(
        walk(DST, &[TCP, 0, 1, 5, 0, 0, 0, 0]),
        error(Kind::Option, 42)
    );
    assert_eq!(
        walk(DST, &[TCP, 0, 1, 3, 0, 0, 0, 5]),
        error(Kind::Option, 47)
    );
}

#[test]
fn truncated_headers() {
    assert_eq!(walk(DST, &[]), error(Kind::Truncated, 40));
    assert_eq!(
        walk(DST, &[TCP, 0, 0, 0, 0, 0, 0]),
        error(Kind::Truncated, 40)
    );
    assert_eq!(
        walk(DST, &[TCP, 1, 0, 0, 0, 0, 0, 0]),
        error(Kind::Truncated, 40)
    );
    assert_eq!(
        walk(DST, &[FRG, 0, 0, 0, 0, 0, 0, 0, TCP, 0, 0, 0]),
        error(Kind::Truncated, 48)
    );
    assert_eq!(Kind::Truncated.parameter_problem(false), None);
}

#[test]
fn long_chains_are_refused() {
    let mut payload = [DST, 0, 1, 4, 0, 0, 0, 0].repeat(MAX_HEADERS);
    let last = payload.len() - 8;
    payload[last] = TCP;
    assert_eq!(walk(DST, &payload).unwrap().offset, payload.len());
    payload.extend([0; 20]);
    assert!(first_fragment_is_complete(DST, &payload) && skip(DST, &payload) == (TCP, &[0; 20]));
    payload.truncate(last + 8);
    payload[last] = DST;
    payload.extend([TCP, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(walk(DST, &payload).unwrap_err().kind, Kind::TooMany);
    assert_eq!(skip(DST, &payload), (TCP, &[][..]));
}

#[test]
fn first_fragments() {
    assert!(
        first_fragment_is_complete(TCP, &[0; 20]) && !first_fragment_is_complete(TCP, &[0; 19])
    );
    assert!(
        first_fragment_is_complete(protocol::UDP, &[0; 8])
            && !first_fragment_is_complete(protocol::UDP, &[0; 7])
    );
    assert!(
        first_fragment_is_complete(protocol::NO_NEXT_HEADER, &[])
            && !first_fragment_is_complete(200, &[])
    );
    let payload = [&[TCP, 0, 1, 4, 0, 0, 0, 0][..], &[0; 20]].concat();
    assert!(
        first_fragment_is_complete(DST, &payload)
            && !first_fragment_is_complete(DST, &payload[..27])
    );
    assert!(!first_fragment_is_complete(
        DST,
        &[TCP, 1, 0, 0, 0, 0, 0, 0]
    ));
}

#[test]
fn quoted_packets_are_not_judged() {
    let payload = [
        [RTG, 0, 0xfe, 9, 0, 0, 0, 0],
        [TCP, 0, 0, 1, 0, 0, 0, 0],
        [1, 2, 3, 4, 5, 6, 7, 8],
    ]
    .concat();
    assert_eq!(skip(DST, &payload), (TCP, &[1, 2, 3, 4, 5, 6, 7, 8][..]));
    // Behind a later fragment's header there is no transport header.
    assert_eq!(
        skip(FRG, &[TCP, 0, 0, 8, 0, 0, 0, 0, 1, 2, 3]),
        (TCP, &[][..])
    );
    assert_eq!(
        skip(FRG, &[TCP, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3]),
        (TCP, &[1, 2, 3][..])
    );
    assert_eq!(skip(DST, &[TCP, 3, 0]), (DST, &[][..]));
}

#[test]
fn emitted_headers() {
    let mut bytes = [0xff; 8];
    FragmentRepr {
        next_header: TCP,
        offset: 1480,
        more: true,
        ident: 0x0102_0304,
    }
    .emit(&mut bytes);
    assert_eq!(bytes, [TCP, 0, 0x05, 0xc9, 1, 2, 3, 4]);
    emit_router_alert(protocol::ICMPV6, &mut bytes);
    let chain = walk(HOP, &bytes).unwrap();
    assert_eq!(
        (chain.transport, chain.router_alert),
        (protocol::ICMPV6, Some(0))
    );
}
