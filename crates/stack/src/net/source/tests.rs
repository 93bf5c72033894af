use super::super::address::Origin;
use super::*;

/// Addresses on interface 0, or where `@` says; with `!` deprecated, `?` tentative, `~` temporary.
fn pick(dst: &str, candidates: &[&str], next_hop: &str) -> Option<String> {
    let mut addresses = Addresses::new();
    for text in candidates {
        let (text, interface) = text.split_once('@').unwrap_or((text, "0"));
        let plain = text.trim_end_matches(['!', '?', '~']);
        let mut entry = AddressEntry::new(
            plain.parse().unwrap(),
            InterfaceId(interface.parse().unwrap()),
            Origin::Manual,
        );
        entry.state = match text.chars().last() {
            Some('!') => AddressState::Deprecated,
            Some('?') => AddressState::Tentative,
            _ => AddressState::Preferred,
        };
        entry.temporary = text.ends_with('~');
        addresses.insert(entry).unwrap();
    }
    let (dst, next_hop) = (dst.parse().unwrap(), next_hop.parse().unwrap());
    select(&addresses, &dst, InterfaceId(0), &next_hop).map(|addr| addr.to_string())
}

/// The examples of RFC 6724 section 10.1, both ways round.
#[test]
fn rfc6724_section_10_1() {
    const TABLE: [(&str, [&str; 2], &str); 7] = [
        // Prefer appropriate scope.
        (
            "2001:db8:1::1",
            ["2001:db8:3::1/64", "fe80::1/64"],
            "2001:db8:3::1",
        ),
        (
            "ff05::1",
            ["2001:db8:3::1/64", "fe80::1/64"],
            "2001:db8:3::1",
        ),
        // Prefer same address.
        (
            "2001:db8:1::1",
            ["2001:db8:1::1/64!", "2001:db8:2::1/64"],
            "2001:db8:1::1",
        ),
        // Prefer appropriate scope.
        ("fe80::1", ["fe80::2/64!", "2001:db8:1::1/64"], "fe80::2"),
        // Longest matching prefix.
        (
            "2001:db8:1::1",
            ["2001:db8:1::2/64", "2001:db8:3::2/64"],
            "2001:db8:1::2",
        ),
        // Prefer matching label.
        (
            "2002:c633:6401::1",
            [
                "2002:c633:6401::d5e3:7953:13eb:22e8/64~",
                "2001:db8:1::2/64",
            ],
            "2002:c633:6401::d5e3:7953:13eb:22e8",
        ),
        // Prefer temporary address.
        (
            "2001:db8:1::d5e3:0:0:1",
            ["2001:db8:1::2/64", "2001:db8:1::d5e3:7953:13eb:22e8/64~"],
            "2001:db8:1:0:d5e3:7953:13eb:22e8",
        ),
    ];
    for (dst, [a, b], expected) in TABLE {
        for order in [[a, b], [b, a]] {
            let chosen = pick(dst, &order, "fe80::ff");
            assert_eq!(chosen, Some(canonical(expected)), "{dst} from {order:?}");
        }
    }
}

fn canonical(addr: &str) -> String {
    addr.parse::<Addr>().unwrap().to_string()
}

#[test]
fn rule_3_and_5_and_states() {
    // Deprecated and tentative ones are avoided, even when they match better.
    assert_eq!(
        pick(
            "2001:db8:1::1",
            &["2001:db8:1::2/64!", "2001:db8:3::2/64"],
            "fe80::ff"
        )
        .as_deref(),
        Some("2001:db8:3::2")
    );
    assert_eq!(
        pick(
            "2001:db8:1::1",
            &["2001:db8:1::2/64?", "2001:db8:3::2/64!"],
            "fe80::ff"
        )
        .as_deref(),
        Some("2001:db8:3::2")
    );
    // The outgoing interface's before another's; another's before none (weak host).
    assert_eq!(
        pick(
            "2001:db8:1::1",
            &["2001:db8:1::2/64@1", "2001:db8:3::2/64@0"],
            "fe80::ff"
        )
        .as_deref(),
        Some("2001:db8:3::2")
    );
    assert_eq!(
        pick(
            "2001:db8:1::1",
            &["2001:db8:1::2/64@1", "fe80::2/64@0"],
            "fe80::ff"
        )
        .as_deref(),
        Some("2001:db8:1::2")
    );
    // Link-local addresses do not leave their link, nor does what goes to one.
    assert_eq!(pick("2001:db8:1::1", &["fe80::2/64@1"], "fe80::ff"), None);
    assert_eq!(pick("fe80::1", &["2001:db8:1::2/64@1"], "fe80::1"), None);
    // The families do not mix.
    assert_eq!(pick("10.0.0.1", &["2001:db8:1::2/64"], "10.0.0.1"), None);
}

#[test]
fn ipv4_takes_the_subnet_of_the_gateway() {
    let both = ["10.0.0.1/24", "192.168.1.5/24"];
    // Off the link: the gateway's subnet counts, not the longer match.
    assert_eq!(
        pick("10.9.9.9", &both, "192.168.1.1").as_deref(),
        Some("192.168.1.5")
    );
    assert_eq!(
        pick("192.168.9.9", &both, "10.0.0.254").as_deref(),
        Some("10.0.0.1")
    );
    assert_eq!(
        pick("192.168.1.9", &both, "192.168.1.9").as_deref(),
        Some("192.168.1.5")
    );
    // Two in one subnet: the first.
    assert_eq!(
        pick("10.0.0.9", &["10.0.0.3/24", "10.0.0.2/24"], "10.0.0.9").as_deref(),
        Some("10.0.0.3")
    );
    assert_eq!(
        pick("8.8.8.8", &["169.254.1.1/16", "10.0.0.2/24"], "10.0.0.1").as_deref(),
        Some("10.0.0.2")
    );
    assert_eq!(
        pick(
            "169.254.9.9",
            &["10.0.0.2/24", "169.254.1.1/16"],
            "169.254.9.9"
        )
        .as_deref(),
        Some("169.254.1.1")
    );
}
