//! What is said of which host, and how it looks.

use control::words::Setting;
use control::words::census::{Buffers, Group, Listener, Queues, Tables};
use control::words::socket::TcpMemory;

use super::*;

/// A host that is well, with Linux's settings.
fn host() -> Census {
    let setting = |(name, value): (&str, &str)| Setting {
        name: name.into(),
        value: value.into(),
    };
    let settings = [
        ("syncookies", "1"),
        ("fin_timeout", "60"),
        ("orphan_retries", "0"),
        ("max_tw_buckets", "262144"),
        ("max_syn_backlog", "4096"),
        ("somaxconn", "4096"),
        ("tw_reuse", "2"),
        ("tw_reuse_delay", "1000"),
        ("synack_retries", "5"),
        ("abort_on_overflow", "0"),
    ];
    Census {
        uptime_ms: 3 * 3600 * 1000,
        tables: Tables {
            connections: (1_000, 65_536),
            half_open: (3, 4_096),
            time_wait: (100, 65_536),
            ephemeral_ports: 28_232,
        },
        tcp_memory: TcpMemory {
            bytes: 1 << 20,
            pressure: false,
            levels: [30 << 20, 40 << 20, 60 << 20],
        },
        buffers: Buffers {
            block_bytes: 2048,
            blocks: 32_768,
            in_use: 900,
            ..Buffers::default()
        },
        sockets: 901,
        orphans: (0, 0),
        groups: vec![group("ESTAB", "10.0.0.2:80", 900)],
        listeners: vec![listener(0, 128, 2)],
        events: vec![("tcp-segments-out".into(), 1_000_000)],
        drops: Vec::new(),
        settings: settings.into_iter().map(setting).collect(),
    }
}

fn group(state: &str, app: &str, count: u64) -> Group {
    Group {
        count,
        peers: vec![("10.0.0.1".parse().unwrap(), count)],
        peer_count: 1,
        ..Group::new(state, app.parse().unwrap(), true, true)
    }
}

fn closed(state: &str, count: u64) -> Group {
    Group {
        held: false,
        ..group(state, "10.0.0.2:80", count)
    }
}

fn listener(accept_queue: u32, backlog: u32, syn_queue: u32) -> Listener {
    Listener {
        local: "10.0.0.2:80".parse().unwrap(),
        queues: Queues {
            accept_queue,
            backlog,
            syn_queue,
            ..Queues::default()
        },
    }
}

fn found(change: impl FnOnce(&mut Census)) -> Vec<Finding> {
    let mut census = host();
    change(&mut census);
    Explanation::of("demo", &census).findings
}

/// The one thing that is said.
fn one(change: impl FnOnce(&mut Census)) -> Finding {
    let mut found = found(change);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn plain(width: usize) -> Style {
    Style {
        moving: false,
        colour: false,
        width,
    }
}

fn printed(census: &Census, style: Style) -> String {
    let mut out = Vec::new();
    write(&mut out, &Explanation::of("demo", census), style).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn of_a_host_that_is_well_one_line_says_so() {
    assert_eq!(
        printed(&host(), plain(80)),
        "demo: nothing to explain; of 901 TCP sockets none is stuck, no queue is full and no memory short.\n"
    );
}

#[test]
fn what_comes_and_goes_is_passed_over() {
    let said = found(|host| {
        host.groups.extend([
            group("CLOSE-WAIT", "10.0.0.2:80", 5_000),
            closed("LAST-ACK", 60),
            closed("FIN-WAIT-1", 60),
            closed("FIN-WAIT-2", 600),
            closed("TIME-WAIT", 30_000),
            closed("SYN-RECV", 60),
        ]);
    });
    assert!(said.is_empty(), "{said:?}");
}

/// A group none of whose connections was heard of for so long.
fn forgotten(state: &str, count: u64, ms: u64) -> Group {
    Group {
        silent: count,
        silent_most_ms: ms,
        ..group(state, "10.0.0.2:80", count)
    }
}

#[test]
fn close_wait_is_the_applications() {
    let said = one(|host| host.groups.push(forgotten("CLOSE-WAIT", 512, 200_000)));
    assert_eq!((said.level, said.what), (Level::Warning, "CLOSE-WAIT"));
    assert_eq!(said.place, "10.0.0.2:80");
    assert_eq!(
        said.amount,
        "512 of 65,536 connections, silent for up to 3 min"
    );
    assert!(said.remedy.contains("when a read returns 0"));
    assert_eq!(said.peers, ["10.0.0.1 (512)"]);
    let many = one(|host| host.groups.push(forgotten("CLOSE-WAIT", 7_000, 20_000)));
    assert_eq!(many.level, Level::Bad, "a tenth of the table");
    let few = |ms| found(|host| host.groups.push(forgotten("CLOSE-WAIT", 2, ms)));
    assert_eq!((few(60_000).len(), few(600_000).len()), (0, 1));
}

#[test]
fn fin_wait_2_is_told_by_who_holds_it() {
    let held = one(|host| host.groups.push(forgotten("FIN-WAIT-2", 10, 20_000)));
    assert!(held.means.contains("no timer ends them"));
    assert!(held.remedy.contains("SO_RCVTIMEO") && held.remedy.contains("(60 s)"));
    let free = one(|host| host.groups.push(closed("FIN-WAIT-2", 700)));
    assert!(free.means.contains("60 s after its close"));
    assert!(free.remedy.contains("millstream sysctl fin_timeout="));
}

#[test]
fn peers_that_are_gone_leave_last_ack_and_fin_wait_1() {
    for state in ["LAST-ACK", "FIN-WAIT-1", "CLOSING"] {
        let said = one(|host| host.groups.push(closed(state, 700)));
        assert_eq!((said.what, said.count), (state, 700));
        assert!(said.remedy.contains("after 8 timeouts"), "0 means 8");
    }
}

#[test]
fn time_wait_is_held_against_ports_and_the_table() {
    let client = |count| Group {
        serves: false,
        app: "10.0.0.9:443".parse().unwrap(),
        ..closed("TIME-WAIT", count)
    };
    let said = one(|host| host.groups.push(client(20_000)));
    assert_eq!(said.place, "to 10.0.0.9:443");
    assert_eq!(said.amount, "20,000 of 28,232 ephemeral ports");
    assert!(said.means.contains("EADDRNOTAVAIL") && said.remedy.contains("tw_reuse=1` (now 2)"));
    let all = one(|host| host.groups.push(client(28_000)));
    assert_eq!(all.level, Level::Bad);
    let full = one(|host| {
        host.tables.time_wait.0 = 65_000;
        host.events.push(("tcp-time-wait-recycled".into(), 12));
    });
    assert_eq!(
        (full.level, full.amount.as_str()),
        (
            Level::Bad,
            "65,000 of 65,536 records, 12 ended before their time so far"
        )
    );
    let bound = one(|host| {
        host.tables.time_wait.0 = 3_000;
        host.settings[3].value = "4000".into();
    });
    assert!(bound.remedy.contains("millstream sysctl max_tw_buckets="));
}

#[test]
fn a_syn_queue_is_a_flood_or_a_full_accept_queue() {
    let flood = |cookies: &str| {
        one(|host| {
            host.listeners = vec![listener(0, 128, 129)];
            host.settings[0].value = cookies.into();
            host.groups.push(Group {
                peer_count: 64,
                ..closed("SYN-RECV", 129)
            });
        })
    };
    let said = flood("1");
    assert_eq!((said.level, said.what), (Level::Warning, "SYN-RECV"));
    assert!(said.means.contains("answered by a cookie"));
    assert_eq!(said.peers, ["10.0.0.1 (129)", "at least 63 more"]);
    let said = flood("0");
    assert_eq!(said.level, Level::Bad);
    assert!(said.remedy.starts_with("`millstream sysctl syncookies=1`"));
    let said = found(|host| host.listeners = vec![listener(129, 128, 129)]);
    assert_eq!(said.len(), 2);
    assert!(said[1].means.contains("find the accept queue full"));
}

#[test]
fn an_accept_queue_is_full_crowded_or_was() {
    let said = one(|host| host.listeners = vec![listener(129, 128, 0)]);
    assert_eq!((said.level, said.what), (Level::Bad, "accept queue"));
    assert_eq!(said.amount, "129 of 129 wait");
    assert!(said.means.contains("does not accept") && said.means.contains("try again"));
    assert!(said.remedy.contains("longer backlog than 128"));
    let said = one(|host| host.listeners = vec![listener(100, 128, 0)]);
    assert_eq!(said.level, Level::Warning);
    let said = one(|host| {
        host.listeners[0].queues.overflows = 7;
        host.settings[9].value = "1".into();
    });
    assert!(said.amount.ends_with("7 refused so far") && said.means.contains("reset"));
}

#[test]
fn tables_and_memory_are_held_against_their_limits() {
    let said = one(|host| {
        host.tables.connections.0 = 65_000;
        host.drops.push(("tcp-table-full".into(), 9));
    });
    assert_eq!((said.level, said.what), (Level::Bad, "table full"));
    assert!(said.means.contains("ESTAB of 10.0.0.2:80: 900"));
    assert!(found(|host| host.tables.half_open = (2, 3)).is_empty());
    let said = one(|host| host.tables.half_open.0 = 4_000);
    assert!(said.means.contains("answered by cookies"));
    let said = one(|host| {
        host.tcp_memory.bytes = 45 << 20;
        host.tcp_memory.pressure = true;
        host.groups[0].recv_bytes = 33 << 20;
    });
    assert_eq!((said.level, said.what), (Level::Warning, "TCP memory"));
    let holder = "33 MiB are not read by 900 ESTAB of 10.0.0.2:80";
    assert!(said.means.contains(holder), "{}", said.means);
    let said = one(|host| host.buffers.in_use = 32_000);
    assert_eq!((said.level, said.what), (Level::Bad, "packet memory"));
    let said = one(|host| host.drops.push(("pool-low".into(), 5)));
    assert!(said.amount.ends_with("5 packets refused so far"));
}

#[test]
fn orphans_are_counted_together() {
    let said = found(|host| {
        host.tables.connections.1 = 2_000;
        host.orphans = (600, 5 << 20);
    });
    let orphans = said.iter().find(|found| found.what == "orphans").unwrap();
    assert_eq!(orphans.level, Level::Bad);
    assert_eq!(orphans.amount, "600 of 2,000 connections, 5 MiB to be sent");
}

#[test]
fn retransmissions_are_told_of_who_suffers_them() {
    let said = one(|host| {
        host.groups[0].data_segs_out = 100_000;
        host.groups[0].retrans_segs = 5_000;
    });
    assert_eq!((said.level, said.what), (Level::Warning, "retransmissions"));
    assert_eq!(said.amount, "5,000 of 100,000 segments sent again (5 %)");
    let said = one(|host| host.groups[0].timed_out = 200);
    assert_eq!(said.level, Level::Bad);
    assert!(said.means.contains("not answered"));
    let said = one(|host| host.events.push(("tcp-retransmits".into(), 30_000)));
    assert_eq!(said.place, "the host");
    assert!(said.amount.ends_with("(3 %)"));
}

#[test]
fn it_is_a_table_with_what_it_means_below() {
    let mut census = host();
    census.sockets = 1_413;
    census.groups.push(forgotten("CLOSE-WAIT", 512, 200_000));
    census.listeners = vec![listener(129, 128, 0)];
    let text = printed(&census, plain(60));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "demo  1,413 TCP sockets, up 3 h: 2 things to look at"
    );
    assert_eq!(lines[2], "!! accept queue  10.0.0.2:80  129 of 129 wait");
    assert!(lines[3].starts_with("   means  The application does not accept:"));
    assert!(lines[4].starts_with("          "));
    let close_wait =
        "!  CLOSE-WAIT    10.0.0.2:80  512 of 65,536 connections, silent for up to 3 min";
    assert!(lines.contains(&close_wait), "{text}");
    let below = lines.iter().filter(|line| line.starts_with("   "));
    assert!(below.clone().count() > 8);
    assert!(
        below.clone().all(|line| line.chars().count() <= 60),
        "{text}"
    );
    assert!(text.ends_with("   peers  10.0.0.1 (512)\n"), "{text}");
    let style = Style {
        colour: true,
        moving: true,
        width: 60,
    };
    assert!(printed(&census, style).contains("\x1b[1;31m!!\x1b[0m"));
    let json = serde_json::to_value(Explanation::of("demo", &census)).unwrap();
    assert_eq!(json["findings"][0]["level"], "bad");
    assert_eq!(json["findings"][1]["count"], 512);
}
