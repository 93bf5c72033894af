//! Neighbour discovery and duplicate address detection.

use super::*;

/// RFC 4861 7.2.3, 7.2.4: answered with S and O to the asker, who is learnt; probes to all nodes; for others not at all.
#[test]
fn solicitations_are_answered() {
    let mut rig = Rig::settled(quick());
    rig.add("fd00::1/64");
    rig.pass(10_000);
    let group = ip("fd00::1").solicited_node().to_string();
    rig.ns("fd00::2", &group, "fd00::1", Some(PEER));
    let frames = rig.frames();
    assert_eq!(frames.len(), 1);
    assert!(frames[0].starts_with("02:00:00:00:00:02: fd00::1 > fd00::2 NDP neighbor advertisement fd00::1 solicited override"), "{frames:?}");
    assert!(frames[0].contains("02:00:00:00:00:01"), "{frames:?}");
    assert!(rig.net.neighbours.find(IF, &ip("fd00::2")).is_some());
    // Duplicate detection of somebody else.
    rig.ns("::", &group, "fd00::1", None);
    let frames = rig.frames();
    assert!(
        frames[0]
            .starts_with("group: fd00::1 > ff02::1 NDP neighbor advertisement fd00::1 override"),
        "{frames:?}"
    );
    // Without its address it has to be asked for first.
    rig.ns("fd00::3", "fd00::1", "fd00::1", None);
    let frames = rig.frames();
    assert!(
        frames[0].contains("NDP neighbor solicitation fd00::3"),
        "{frames:?}"
    );
    assert_eq!(frames.len(), 1);
    rig.na("fd00::3", "fd00::1", "fd00::3", "SO", Some(PEER));
    assert!(rig.frames()[0].contains("fd00::1 > fd00::3 NDP neighbor advertisement"));
    rig.ns("fd00::2", "ff02::1:ff00:9", "fd00::9", Some(PEER));
    assert!(rig.frames().is_empty());
    assert_eq!(rig.core.pool.in_use(), 0);
}

/// RFC 4861 7.1: what fails a check is dropped and counted.
#[test]
fn invalid_messages_are_dropped() {
    let mut rig = Rig::settled(quick());
    rig.add("fd00::1/64");
    rig.pass(10_000);
    let group = ip("fd00::1").solicited_node().to_string();
    let before = rig.core.stats.drops.total();
    // Hop limit.
    let mut options = OptionBuf::<8>::new();
    options.push(&Opt::SourceMac(PEER));
    let message = ndp::Repr::NeighborSolicit {
        target: ip("fd00::1"),
        options: options.options(),
    };
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    rig.ip("fd00::2", &group, 254, 58, &bytes);
    // Code, option length zero, cut off.
    for (at, value) in [(1, 1), (25, 0)] {
        let mut bad = bytes.clone();
        bad[at] = value;
        rig.ip("fd00::2", &group, 255, 58, &bad);
    }
    rig.ip("fd00::2", &group, 255, 58, &bytes[..20]);
    // A probe that is not sent to the solicited-node group, or names a station.
    rig.ns("::", "ff02::1", "fd00::1", None);
    rig.ns("::", &group, "fd00::1", Some(PEER));
    // A multicast target, a multicast station, our own address as source, a solicited multicast advertisement.
    rig.ns("fd00::2", &group, "ff02::1", Some(PEER));
    rig.ns(
        "fd00::2",
        &group,
        "fd00::1",
        Some(Mac([0x33, 0x33, 0, 0, 0, 1])),
    );
    rig.ns("fd00::1", &group, "fd00::1", Some(PEER));
    rig.na("fd00::2", "ff02::1", "fd00::2", "S", Some(PEER));
    // The one from our own address did not even come here.
    assert_eq!(rig.drops(Drop::NdpInvalid), 9);
    assert_eq!(rig.core.stats.drops.total() - before, 10);
    assert!(rig.frames().is_empty());
    assert_eq!(rig.core.pool.in_use(), 0);
}

/// RFC 4861 7.2.2, 7.3.3: asked by group first, by unicast when probing, from the source of what waits.
#[test]
fn ndp_resolves_and_probes() {
    let mut rig = Rig::settled(quick());
    rig.add("fd00::1/64");
    rig.pass(10_000);
    rig.send("fd00::1", "fd00::2", "fd00::2");
    let asked = rig.frames();
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].starts_with("group: fd00::1 > ff02::1:ff00:2 NDP neighbor solicitation fd00::2"),
        "{asked:?}"
    );
    rig.na("fd00::2", "fd00::1", "fd00::2", "S", Some(PEER));
    assert_eq!(rig.frames(), ["02:00:00:00:00:02: fd00::1 > fd00::2 data"]);
    rig.pass(50_000);
    rig.send("fd00::1", "fd00::2", "fd00::2");
    assert_eq!(rig.frames(), ["02:00:00:00:00:02: fd00::1 > fd00::2 data"]);
    let probes = rig.pass(6_500);
    assert_eq!(probes.len(), 2);
    // By unicast, from any address of the link.
    assert!(probes[0].1.starts_with("02:00:00:00:00:02: "), "{probes:?}");
    assert!(
        probes[0]
            .1
            .contains("> fd00::2 NDP neighbor solicitation fd00::2"),
        "{probes:?}"
    );
    rig.na("fd00::2", "fd00::1", "fd00::2", "S", Some(PEER));
    assert!(rig.pass(10_000).is_empty());
}

/// RFC 4862 5.4: joined, probed once, claimed, announced; not answered for meanwhile.
#[test]
fn ipv6_address_is_probed_and_announced() {
    let mut rig = Rig::settled(Config {
        accept_router_advertisements: false,
        ..config()
    });
    rig.start = rig.core.now;
    rig.add("fd00::1/64");
    assert!(rig.net.membership.is_member(IF, &ip("ff02::1:ff00:1")));
    assert!(rig.frames()[0].contains("MLD 143 ChangeToExclude ff02::1:ff00:1"));
    rig.ns("fd00::2", "ff02::1:ff00:1", "fd00::1", Some(PEER));
    assert!(rig.frames().is_empty());
    let said = rig.pass(20_000);
    let said: Vec<_> = said
        .into_iter()
        .filter(|(_, text)| text.contains("NDP"))
        .collect();
    assert_eq!(said.len(), 3);
    assert!(
        said[0]
            .1
            .starts_with("group: :: > ff02::1:ff00:1 NDP neighbor solicitation fd00::1"),
        "{said:?}"
    );
    assert!(
        said[1]
            .1
            .starts_with("group: fd00::1 > ff02::1 NDP neighbor advertisement fd00::1 override"),
        "{said:?}"
    );
    assert!(said[0].0 <= 10);
    assert_eq!((said[1].0 - said[0].0, said[2].0 - said[1].0), (10, 10));
    assert_eq!(rig.state("fd00::1"), Some(AddressState::Preferred));
}

/// RFC 4862 5.4.3, 5.4.4, 5.4.5: somebody's probe or advertisement for it makes the address a duplicate.
#[test]
fn ipv6_conflicts_while_probing() {
    for advertised in [false, true] {
        let mut rig = Rig::settled(Config {
            accept_router_advertisements: false,
            ..config()
        });
        rig.add("fd00::1/64");
        if advertised {
            rig.na("fd00::1", "ff02::1", "fd00::1", "O", Some(PEER));
        } else {
            rig.ns("::", "ff02::1:ff00:1", "fd00::1", None);
        }
        assert_eq!(rig.state("fd00::1"), Some(AddressState::Duplicate));
        rig.frames();
        assert!(
            only(
                &rig.pass(20_000)
                    .into_iter()
                    .map(|(_, t)| t)
                    .collect::<Vec<_>>(),
                "NDP"
            )
            .is_empty()
        );
        rig.ns("fd00::2", "ff02::1:ff00:1", "fd00::1", Some(PEER));
        assert!(rig.frames().is_empty(), "a duplicate is not answered for");
    }
}

/// RFC 7527: our own probe, echoed by the link, is no conflict.
#[test]
fn echoed_probe_is_no_conflict() {
    let mut rig = Rig::settled(config());
    rig.add("fd00::1/64");
    let index = rig.net.own(IF, &ip("fd00::1")).unwrap().0;
    let nonce = rig.net.nonce(index).unwrap();
    for (data, state) in [
        (nonce, AddressState::Tentative),
        ([0; 6], AddressState::Duplicate),
    ] {
        let mut options = OptionBuf::<8>::new();
        options.push(&Opt::Other {
            kind: 14,
            data: &data,
        });
        rig.ndp(
            "::",
            "ff02::1:ff00:1",
            &ndp::Repr::NeighborSolicit {
                target: ip("fd00::1"),
                options: options.options(),
            },
        );
        assert_eq!(rig.state("fd00::1"), Some(state));
    }
}

/// RFC 7217 6: an interface identifier that is taken is replaced, at most three times.
#[test]
fn link_local_tries_another() {
    let mut rig = Rig::new(Config {
        accept_router_advertisements: false,
        ..config()
    });
    let mut seen = Vec::new();
    for _ in 0..4 {
        let addr = rig.link_local();
        assert!(!seen.contains(&addr));
        seen.push(addr);
        rig.ns(
            "::",
            &addr.solicited_node().to_string(),
            &addr.to_string(),
            None,
        );
    }
    assert_eq!(rig.link_local(), seen[3], "after three it gives up");
    assert_eq!(
        rig.state(&seen[3].to_string()),
        Some(AddressState::Duplicate)
    );
    // The same key and MAC address: the same addresses; another key: others.
    let again = Rig::new(Config {
        accept_router_advertisements: false,
        ..config()
    });
    assert_eq!(again.link_local(), seen[0]);
    let other = Rig::new(Config {
        stable_address_key: Some([1; 16]),
        ..config()
    });
    assert_ne!(other.link_local(), seen[0]);
}

/// A storm of solicitations and invented neighbours: bounded tables, memory and answers.
#[test]
fn solicitation_storm_is_bounded() {
    let mut rig = Rig::settled(quick());
    rig.add("fd00::1/64");
    rig.pass(10_000);
    for n in 0..20_000u32 {
        let src = format!("fd00::1:{:x}:{:x}", n >> 12, n & 0xfff);
        rig.ns(&src, "ff02::1:ff00:1", "fd00::1", Some(PEER));
        rig.ns(&src, "fd00::1", "fd00::1", None);
        rig.send("fd00::1", &src, &src);
        if n % 64 == 0 {
            assert!(rig.core.pool.in_use() <= 2 * 64 + rig.net.neighbours.waiting_total().0 + 64);
            rig.frames();
        }
    }
    assert!(rig.net.neighbours.len() <= 64);
    let queue = rig.net.interfaces[0].queue.len();
    assert!(queue <= config().transmit_queue);
    assert!(
        rig.core.pool.in_use() as usize <= queue + rig.net.neighbours.waiting_total().0 as usize
    );
    rig.frames();
    rig.pass(20_000);
    while rig.net.pop_report().is_some() {}
    assert_eq!(rig.core.pool.in_use(), 0);
}

/// RFC 6980: discovery in fragments is ignored, even when there is only one.
#[test]
fn fragmented_messages_are_ignored() {
    let mut rig = Rig::settled(quick());
    rig.add("fd00::1/64");
    rig.pass(10_000);
    let (src, dst) = (ip("fd00::2"), ip("fd00::1").solicited_node());
    let mut options = OptionBuf::<8>::new();
    options.push(&Opt::SourceMac(PEER));
    let message = ndp::Repr::NeighborSolicit {
        target: ip("fd00::1"),
        options: options.options(),
    };
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    icmpv6::fill_checksum(&mut bytes, &src, &dst);
    let parts: [&[(usize, usize)]; 2] = [&[(0, 32)], &[(0, 16), (16, 32)]];
    for cuts in parts {
        for &(start, end) in cuts {
            let mut frame = header(dst.multicast_mac().unwrap(), EtherType::IPV6);
            frame.resize(14 + 40 + 8, 0);
            ipv6::Repr::new(src, dst, 44, 255, 8 + end - start).emit(&mut frame[14..]);
            ipv6::ext::FragmentRepr {
                next_header: 58,
                offset: start as u16,
                more: end < 32,
                ident: 9,
            }
            .emit(&mut frame[54..]);
            frame.extend_from_slice(&bytes[start..end]);
            rig.inject(&frame);
        }
        assert!(rig.frames().is_empty());
        assert_eq!(rig.net.neighbours.len(), 0);
    }
    assert_eq!(rig.core.pool.in_use(), 0);
}
