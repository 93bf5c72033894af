//! Multicast membership.

use super::*;

/// RFC 9776 5.1, RFC 9777 6.1: a change is reported at once and once more within a second; users are counted.
#[test]
fn groups_are_reported() {
    for (group, kind, to) in [
        ("239.1.2.3", "IGMP 0x22", "224.0.0.22"),
        ("ff15::1", "MLD 143", "ff02::16"),
    ] {
        let mut rig = Rig::settled(quick());
        let addr = ip(group);
        assert!(!rig.net.membership.is_member(IF, &addr));
        assert!(rig.net.join_group(&mut rig.core, IF, &addr));
        assert!(rig.net.membership.is_member(IF, &addr));
        assert!(rig.net.join_group(&mut rig.core, IF, &addr));
        let mut said = rig.frames();
        said.extend(rig.pass(5_000).into_iter().map(|(_, text)| text));
        assert_eq!(
            only(&said, &format!("ChangeToExclude {group}")).len(),
            2,
            "{said:?}"
        );
        assert!(said[0].contains(kind) && said[0].contains(to), "{said:?}");
        rig.net.leave_group(&mut rig.core, IF, &addr);
        assert!(rig.frames().is_empty());
        rig.net.leave_group(&mut rig.core, IF, &addr);
        assert!(!rig.net.membership.is_member(IF, &addr));
        let mut said = rig.frames();
        said.extend(rig.pass(5_000).into_iter().map(|(_, text)| text));
        assert_eq!(
            only(&said, &format!("ChangeToInclude {group}")).len(),
            2,
            "{said:?}"
        );
        rig.net.leave_group(&mut rig.core, IF, &addr);
        assert!(rig.frames().is_empty());
    }
    // All nodes are joined for ever and never reported.
    let mut rig = Rig::settled(quick());
    for group in ["224.0.0.1", "ff02::1"] {
        assert!(rig.net.membership.is_member(IF, &ip(group)));
        rig.net.join_group(&mut rig.core, IF, &ip(group));
        assert!(rig.frames().is_empty());
        rig.net.leave_group(&mut rig.core, IF, &ip(group));
        assert!(rig.net.membership.is_member(IF, &ip(group)));
    }
}

/// Queries are answered within the time they give: all groups, or the one asked for; in the querier's version.
#[test]
fn queries_are_answered() {
    let mut rig = Rig::settled(quick());
    let groups = ["ff15::1", "ff15::2"];
    for group in groups {
        rig.net.join_group(&mut rig.core, IF, &ip(group));
    }
    rig.pass(5_000);
    rig.frames();
    let ask = |rig: &mut Rig, group: &str, v2, hop| {
        let query = mld::Query {
            group: ip(group),
            max_response: 2_000,
            v2,
            sources: 0,
        };
        let mut bytes = vec![0; query.buffer_len()];
        query.emit(&mut bytes);
        rig.ip("fe80::99", "ff02::1", hop, 58, &bytes);
        rig.pass(2_100)
            .into_iter()
            .map(|(_, text)| text)
            .collect::<Vec<_>>()
    };
    let said = ask(&mut rig, "::", true, 1);
    assert_eq!(said.len(), 1);
    assert!(
        groups
            .iter()
            .all(|group| said[0].contains(&format!("ModeIsExclude {group}"))),
        "{said:?}"
    );
    let said = ask(&mut rig, "ff15::2", true, 1);
    assert!(
        said.len() == 1
            && said[0].contains("ModeIsExclude ff15::2")
            && !said[0].contains("ff15::1,"),
        "{said:?}"
    );
    assert!(ask(&mut rig, "ff15::3", true, 1).is_empty());
    assert!(
        ask(&mut rig, "::", true, 2).is_empty(),
        "it crossed a router"
    );
    let said = ask(&mut rig, "ff15::2", false, 1);
    assert!(
        said.len() == 1 && said[0].contains("> ff15::2 MLD 131"),
        "{said:?}"
    );
    // IGMP, and a router of version 2.
    let mut rig = Rig::settled(quick());
    rig.net.join_group(&mut rig.core, IF, &ip("239.1.2.3"));
    rig.pass(5_000);
    rig.frames();
    let mut bytes = [0x11, 10, 0, 0, 0, 0, 0, 0];
    igmp::fill_checksum(&mut bytes);
    rig.ip("10.0.0.9", "224.0.0.1", 1, 2, &bytes);
    let said = rig.pass(1_100);
    assert!(
        said.len() == 1 && said[0].1.contains("> 239.1.2.3 IGMP 0x16 239.1.2.3"),
        "{said:?}"
    );
}

/// RFC 9777 6.2: a query without router alert, or from no neighbour, does not count.
#[test]
fn queries_of_strangers_are_not_answered() {
    let mut rig = Rig::settled(quick());
    rig.net.join_group(&mut rig.core, IF, &ip("ff15::1"));
    rig.pass(5_000);
    rig.frames();
    let mut query = [0; 28];
    query[..2].copy_from_slice(&[130, 0]);
    query[4] = 1;
    let (from, to) = (ip("fe80::99"), ip("ff02::1"));
    icmpv6::fill_checksum(&mut query, &from, &to);
    let mut bytes = header(to.multicast_mac().unwrap(), EtherType::IPV6);
    bytes.resize(54, 0);
    ipv6::Repr::new(from, to, 58, 1, query.len()).emit(&mut bytes[14..]);
    bytes.extend_from_slice(&query);
    rig.inject(&bytes);
    query[2..4].fill(0);
    rig.ip("fd00::99", "ff02::1", 1, 58, &query);
    assert!(rig.pass(2_100).is_empty());
    assert_eq!(rig.drops(Drop::MembershipInvalid), 2);
}

/// RFC 9777 6.2, RFC 9776 5.2: of two queries that wait for an answer the more urgent counts.
#[test]
fn the_more_urgent_query_counts() {
    for group in ["::", "ff15::1"] {
        let mut rig = Rig::settled(quick());
        rig.net.join_group(&mut rig.core, IF, &ip("ff15::1"));
        rig.pass(5_000);
        rig.frames();
        for max_response in [30_000_000, 500, 30_000_000] {
            let query = mld::Query {
                group: ip(group),
                max_response,
                v2: true,
                sources: 0,
            };
            let mut bytes = vec![0; query.buffer_len()];
            query.emit(&mut bytes);
            rig.ip("fe80::99", "ff02::1", 1, 58, &bytes);
        }
        let said = rig.pass(510);
        assert_eq!(said.len(), 1, "{group}: {said:?}");
        assert!(said[0].1.contains("ModeIsExclude ff15::1"), "{said:?}");
    }
}
