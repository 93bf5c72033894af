//! Messages byte by byte, and each check of RFC 4861 on its own.

use super::*;

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A solicitation for fd77::2 from 02:00:00:00:00:01, checksum left out.
const SOLICIT: [u8; 32] = [
    135, 0, 0, 0, 0, 0, 0, 0, // type, code, checksum, reserved
    0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, // target
    1, 1, 2, 0, 0, 0, 0, 1, // source link-layer address
];

fn parse<'a>(bytes: &'a [u8], src: &str, dst: &str) -> Result<Repr<'a>> {
    Repr::parse(&icmpv6::Packet::new(bytes)?, 255, &addr(src), &addr(dst))
}

#[test]
fn neighbor_solicitation() {
    let repr = parse(&SOLICIT, "fd77::1", "ff02::1:ff00:2").unwrap();
    let Repr::NeighborSolicit { target, options } = repr else {
        panic!("{repr:?}")
    };
    assert_eq!(
        (target, options.source_mac(), options.target_mac()),
        (addr("fd77::2"), Some(MAC), None)
    );
    let mut bytes = [0xff; 32];
    repr.emit(&mut bytes);
    assert_eq!(bytes, SOLICIT);
    assert_eq!(
        icmpv6::Packet::new(&SOLICIT).unwrap().to_string(),
        "NDP neighbor solicitation fd77::2 source 02:00:00:00:00:01 len 32"
    );
}

#[test]
fn neighbor_advertisement() {
    let mut options = OptionBuf::<8>::new();
    assert!(options.push(&Opt::TargetMac(MAC)) && !options.push(&Opt::Mtu(1500)));
    let repr = Repr::NeighborAdvert {
        router: false,
        solicited: true,
        override_: true,
        target: addr("fd77::2"),
        options: options.options(),
    };
    let mut bytes = [0xff; 32];
    assert_eq!(repr.buffer_len(), 32);
    repr.emit(&mut bytes);
    assert_eq!(
        (&bytes[..8], &bytes[24..]),
        (
            &[136, 0, 0, 0, 0x60, 0, 0, 0][..],
            &[2, 1, 2, 0, 0, 0, 0, 1][..]
        )
    );
    assert_eq!(parse(&bytes, "fd77::2", "fd77::1"), Ok(repr));
    // RFC 4861 section 7.1.2: to a group it cannot be solicited.
    assert_eq!(parse(&bytes, "fd77::2", "ff02::1"), Err(Error::Malformed));
    let text = icmpv6::Packet::new(&bytes).unwrap().to_string();
    assert_eq!(
        text,
        "NDP neighbor advertisement fd77::2 solicited override target 02:00:00:00:00:01 len 32"
    );
}

#[test]
fn router_advertisement() {
    let bytes = [
        &[
            134, 0, 0, 0, 64, 0xc8, 0x07, 0x08, 0, 0, 0x75, 0x30, 0, 0, 0x03, 0xe8,
        ][..],
        &[5, 1, 0, 0, 0, 0, 0x05, 0x78], // MTU 1400
        &[
            3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0,
        ], // prefix
        &[0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[
            25, 3, 0, 0, 0, 0, 0, 60, 0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53,
        ], // DNS
    ]
    .concat();
    let repr = parse(&bytes, "fe80::1", "ff02::1").unwrap();
    let Repr::RouterAdvert { advert, options } = repr else {
        panic!("{repr:?}")
    };
    let expected = RouterAdvert {
        hop_limit: 64,
        managed: true,
        other: true,
        preference: Preference::High,
        router_lifetime: 1800,
        reachable_time: 30_000,
        retrans_timer: 1000,
    };
    assert_eq!((advert, options.mtu()), (expected, Some(1400)));
    let prefix = options.prefixes().next().unwrap();
    assert_eq!(
        (
            prefix.prefix,
            prefix.prefix_len,
            prefix.on_link,
            prefix.autonomous
        ),
        (addr("fd77::"), 64, true, true)
    );
    assert_eq!(
        (prefix.valid_lifetime, prefix.preferred_lifetime),
        (86_400, 14_400)
    );
    let Some(Opt::Rdnss(rdnss)) = options.iter().last() else {
        panic!("no DNS server")
    };
    assert_eq!(
        (rdnss.lifetime, rdnss.servers().collect::<Vec<_>>()),
        (60, vec![addr("fd77::53")])
    );
    let mut again = vec![0xff; repr.buffer_len()];
    repr.emit(&mut again);
    assert_eq!(again, bytes);
    // RFC 4861 section 6.1.2: routers speak from their link-local address.
    assert_eq!(parse(&bytes, "fd77::1", "ff02::1"), Err(Error::Address));
    let text = icmpv6::Packet::new(&bytes).unwrap().to_string();
    assert_eq!(
        text,
        "NDP router advertisement lifetime 1800 s mtu 1400 prefix fd77::/64 1 DNS servers len 80"
    );
}

#[test]
fn redirect() {
    let options = [4, 2, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 0, 0, 0];
    let options = Options::new(&options).unwrap();
    let repr = Repr::Redirect {
        target: addr("fe80::2"),
        destination: addr("fd00::9"),
        options,
    };
    let mut bytes = vec![0xff; repr.buffer_len()];
    repr.emit(&mut bytes);
    assert_eq!((bytes.len(), bytes[0]), (56, 137));
    assert_eq!(parse(&bytes, "fe80::1", "fd77::2"), Ok(repr));
    assert_eq!(
        options.iter().next(),
        Some(Opt::RedirectedHeader(&[0x60, 0, 0, 0, 0, 0, 0, 0]))
    );
    assert_eq!(parse(&bytes, "fd77::1", "fd77::2"), Err(Error::Address));
    // A target that is neither router nor the destination itself.
    bytes[8] = 0xfd;
    assert_eq!(parse(&bytes, "fe80::1", "fd77::2"), Err(Error::Address));
    let on_link = Repr::Redirect {
        target: addr("fd00::9"),
        destination: addr("fd00::9"),
        options,
    };
    on_link.emit(&mut bytes);
    assert_eq!(parse(&bytes, "fe80::1", "fd77::2"), Ok(on_link));
    // A group is no destination of a redirect.
    bytes[24] = 0xff;
    assert_eq!(parse(&bytes, "fe80::1", "fd77::2"), Err(Error::Address));
}

#[test]
fn messages_that_passed_a_router_are_refused() {
    let packet = icmpv6::Packet::new(&SOLICIT).unwrap();
    assert_eq!(
        Repr::parse(&packet, 254, &addr("fd77::1"), &addr("fd77::2")),
        Err(Error::Malformed)
    );
    let mut bytes = SOLICIT;
    bytes[1] = 1;
    assert_eq!(parse(&bytes, "fd77::1", "fd77::2"), Err(Error::Malformed));
    bytes[0] = 128;
    assert_eq!(
        parse(&bytes, "fd77::1", "fd77::2"),
        Err(Error::Unrecognized)
    );
}

#[test]
fn probes_for_duplicates() {
    // RFC 4861 section 7.1.1: from the unspecified address only to the solicited-node group, without a source.
    assert_eq!(
        parse(&SOLICIT, "::", "ff02::1:ff00:2"),
        Err(Error::Malformed)
    );
    assert!(parse(&SOLICIT[..24], "::", "ff02::1:ff00:2").is_ok());
    assert_eq!(
        parse(&SOLICIT[..24], "::", "ff02::1:ff00:3"),
        Err(Error::Address)
    );
    assert_eq!(parse(&SOLICIT[..24], "::", "fd77::2"), Err(Error::Address));
    // RFC 4861 section 6.1.1, the same of router solicitations.
    assert_eq!(
        parse(
            &[133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1],
            "::",
            "ff02::2"
        ),
        Err(Error::Malformed)
    );
    assert!(parse(&[133, 0, 0, 0, 0, 0, 0, 0], "::", "ff02::2").is_ok());
}

#[test]
fn groups_are_no_targets() {
    let mut bytes = SOLICIT;
    bytes[8] = 0xff;
    assert_eq!(
        parse(&bytes, "fd77::1", "ff02::1:ff00:2"),
        Err(Error::Address)
    );
    bytes[0] = 136;
    assert_eq!(parse(&bytes, "fd77::1", "fd77::2"), Err(Error::Address));
}

#[test]
fn options_that_make_no_sense() {
    let mut bytes = SOLICIT;
    bytes[25] = 0;
    assert_eq!(parse(&bytes, "fd77::1", "fd77::2"), Err(Error::Length));
    bytes[25] = 2;
    assert_eq!(parse(&bytes, "fd77::1", "fd77::2"), Err(Error::Truncated));
    assert_eq!(
        parse(&SOLICIT[..25], "fd77::1", "fd77::2"),
        Err(Error::Truncated)
    );
    assert_eq!(
        parse(&SOLICIT[..23], "fd77::1", "fd77::2"),
        Err(Error::Truncated)
    );
    assert!(
        icmpv6::Packet::new(&SOLICIT[..23])
            .unwrap()
            .to_string()
            .contains("(truncated)")
    );
    assert!(
        icmpv6::Packet::new(&SOLICIT[..25])
            .unwrap()
            .to_string()
            .contains("(malformed options)")
    );
    // A prefix too long, one that is IPv4 in disguise, a DNS option without servers: options nobody knows.
    let mut prefix = [0; 32];
    prefix[..3].copy_from_slice(&[3, 4, 129]);
    assert!(matches!(
        Options::new(&prefix).unwrap().iter().next(),
        Some(Opt::Other { kind: 3, .. })
    ));
    prefix[2] = 128;
    assert!(matches!(
        Options::new(&prefix).unwrap().iter().next(),
        Some(Opt::PrefixInfo(_))
    ));
    prefix[26..28].fill(0xff);
    assert!(matches!(
        Options::new(&prefix).unwrap().iter().next(),
        Some(Opt::Other { kind: 3, .. })
    ));
    let dns = [25, 1, 0, 0, 0, 0, 0, 1];
    assert!(matches!(
        Options::new(&dns).unwrap().iter().next(),
        Some(Opt::Other { kind: 25, .. })
    ));
}

#[test]
fn routes_of_every_length() {
    // RFC 4191 section 2.3: 8, 16 or 24 bytes, whichever hold the prefix; bits beyond it are ignored.
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&[24, 1, 0, 0b0000_1000, 0, 0, 2, 88]);
    bytes[8..].copy_from_slice(&"2001:db8:7:8:9:a:b:c".parse::<Addr>().unwrap().0);
    let mut read = |units: u8, len, preference: u8| {
        bytes[1..4].copy_from_slice(&[units, len, preference << 3]);
        match Options::new(&bytes[..usize::from(units) * 8])
            .unwrap()
            .iter()
            .next()
        {
            Some(Opt::RouteInfo(info)) => {
                assert_eq!(info.lifetime, 600);
                let mut again = [0xaa; 24];
                let len = Opt::RouteInfo(info).emit(&mut again);
                let read = Options::new(&again[..len]).unwrap().routes().next();
                assert_eq!(read, Some(info));
                Some((info.prefix.to_string(), info.preference))
            }
            Some(Opt::Other { kind: 24, .. }) => None,
            other => panic!("{other:?}"),
        }
    };
    let route = |text: &str, preference| Some((text.to_string(), preference));
    assert_eq!(read(1, 0, 1), route("::/0", Preference::High));
    assert_eq!(read(2, 48, 0), route("2001:db8:7::/48", Preference::Medium));
    assert_eq!(read(3, 48, 3), route("2001:db8:7::/48", Preference::Low));
    assert_eq!(
        read(3, 128, 0),
        route("2001:db8:7:8:9:a:b:c/128", Preference::Medium)
    );
    for (units, len, preference) in [(1, 1, 0), (2, 65, 0), (3, 129, 0), (3, 255, 0), (2, 48, 2)] {
        assert_eq!(
            read(units, len, preference),
            None,
            "{units} {len} {preference}"
        );
    }
    // An IPv4 prefix in disguise.
    bytes[8..].copy_from_slice(&Addr::v4(10, 0, 0, 0).0);
    bytes[1..4].copy_from_slice(&[3, 104, 0]);
    assert!(Options::new(&bytes).unwrap().routes().next().is_none());
}

#[test]
fn long_option_data_is_cut() {
    let data = vec![7; 5000];
    let option = Opt::RedirectedHeader(&data);
    let mut bytes = vec![0; option.buffer_len()];
    assert_eq!((bytes.len(), option.emit(&mut bytes)), (2040, 2040));
    assert_eq!(
        Options::new(&bytes).unwrap().iter().next(),
        Some(Opt::RedirectedHeader(&data[..2032]))
    );
}
