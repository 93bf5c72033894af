//! What is said of a host as a whole: its tables, its memory, what it has lost.
//!
//! What does not live here: what is said of one application (`rules`).

use control::words::census::Group;

use super::{
    FEW, Facts, LOSSY_PERCENT, SEGMENTS, VERY_LOSSY_PERCENT, orphan_retries, percent, place,
    retransmissions,
};
use crate::ss::explain::{Finding, Level};
use crate::units;

/// Something about the host as a whole.
fn of_host(level: Level, what: &'static str, count: u64, amount: String) -> Finding {
    Finding {
        level,
        what,
        place: "the host".into(),
        count,
        amount,
        means: String::new(),
        remedy: String::new(),
        peers: Vec::new(),
    }
}

/// Nine of ten.
fn crowded(used: u64, most: u64) -> bool {
    most > 0 && used * 10 >= most * 9
}

/// How bad it is that something is short now, or was when somebody was refused.
fn shortage(crowded: bool, refused: u64) -> Option<Level> {
    match (crowded, refused) {
        (true, _) => Some(Level::Bad),
        (false, 0) => None,
        (false, _) => Some(Level::Warning),
    }
}

/// TIME-WAIT fills its table.
pub(super) fn time_wait_table(facts: &Facts<'_>) -> Option<Finding> {
    let (used, table) = facts.census.tables.time_wait;
    let allowed = facts.setting("max_tw_buckets");
    let most = u64::from(table).min(allowed);
    let recycled = facts.event("tcp-time-wait-recycled");
    let used = u64::from(used);
    if most == 0 || used * 2 < most {
        return None;
    }
    let level = match used * 10 >= most * 9 {
        true => Level::Bad,
        false => Level::Warning,
    };
    let mut amount = format!("{} of {} records", units::count(used), units::count(most));
    if recycled > 0 {
        amount.push_str(&format!(
            ", {} ended before their time so far",
            units::count(recycled)
        ));
    }
    let bound = match allowed < u64::from(table) {
        true => format!("`millstream sysctl max_tw_buckets=` up to {table}"),
        false => "Config::tcp_time_wait, when the host starts".into(),
    };
    of_host(level, "TIME-WAIT", used, amount).say(
        "Who closes first keeps a record of the connection for a minute (48 bytes), so that late segments are not taken for those of the \
        next. When the table is full the oldest goes before its time.",
        format!("Nothing, if this host serves and its peers are many. Else let clients close first, or keep connections; more room: {bound}."),
    )
}

/// The half-open connections of all listeners.
pub(super) fn half_open_table(facts: &Facts<'_>) -> Option<Finding> {
    let (used, most) = facts.census.tables.half_open;
    if u64::from(used) * 4 < u64::from(most) * 3 || most == 0 {
        return None;
    }
    let amount = format!(
        "{} of {} half-open connections",
        units::count(used.into()),
        units::count(most.into())
    );
    let cookies = match facts.setting("syncookies") {
        0 => "SYNs are dropped (tcp_syncookies is 0)",
        _ => "SYNs are answered by cookies",
    };
    of_host(Level::Bad, "SYN-RECV", used.into(), amount).say(
        format!("The table of half-open connections of all listeners is full, or nearly so; when it is, {cookies}."),
        "`millstream sysctl syncookies=1` if it is 0; Config::tcp_half_open, when the host starts, makes room for more.",
    )
}

/// Closed connections that still have something to do.
pub(super) fn orphans(facts: &Facts<'_>) -> Option<Finding> {
    let (count, bytes) = facts.census.orphans;
    if count < FEW || count * 4 < facts.connections_most() {
        return None;
    }
    let amount = format!(
        "{}, {} to be sent",
        facts.of_connections(count),
        units::bytes(bytes)
    );
    of_host(Level::Bad, "orphans", count, amount).say(
        "Connections that their applications have closed take a quarter of the table or more. They go when their peers answer, or are \
        given up.",
        format!(
            "`millstream sysctl orphan_retries=3` (now {}) and fin_timeout=20 (now {}) let go of them sooner; SO_LINGER of 0 seconds \
            at once.",
            orphan_retries(facts),
            facts.setting("fin_timeout")
        ),
    )
}

/// The table of connections.
pub(super) fn connections(facts: &Facts<'_>) -> Option<Finding> {
    let (used, most) = facts.census.tables.connections;
    let (used, most) = (u64::from(used), u64::from(most));
    let refused = facts.dropped("tcp-table-full");
    let crowded = crowded(used, most);
    let level = shortage(crowded, refused)?;
    let mut amount = facts.of_connections(used);
    if refused > 0 {
        amount.push_str(&format!(", {} refused so far", units::count(refused)));
    }
    let largest = facts.census.groups.iter().max_by_key(|group| group.count);
    let largest = largest
        .filter(|_| crowded)
        .map_or_else(String::new, |group| {
            format!(
                " Most of them are {} of {}: {}.",
                group.state,
                place(group),
                units::count(group.count)
            )
        });
    of_host(level, "table full", used.max(1), amount).say(
        format!(
            "The host has room for {} connections. When all are taken it neither accepts nor connects.{largest}",
            units::count(most)
        ),
        "Close what is not needed; Config::tcp_connections, when the host starts, makes room for more.",
    )
}

/// What TCP holds, against `tcp_mem`.
pub(super) fn memory(facts: &Facts<'_>) -> Option<Finding> {
    let memory = &facts.census.tcp_memory;
    let [_, pressure, max] = memory.levels;
    if !memory.pressure && memory.bytes < pressure {
        return None;
    }
    let level = match memory.bytes >= max {
        true => Level::Bad,
        false => Level::Warning,
    };
    let amount = format!(
        "{} held, pressure from {}, {} at most",
        units::bytes(memory.bytes),
        units::bytes(pressure),
        units::bytes(max)
    );
    let aborted = facts.event("tcp-abort-on-memory");
    let lost = match aborted {
        0 => String::new(),
        n => format!(
            " {} closed connections were reset for it so far.",
            units::count(n)
        ),
    };
    of_host(level, "TCP memory", memory.bytes, amount).say(
        format!(
            "TCP's queues hold more than tcp_mem allows in comfort: buffers do not grow, and above the last number data is refused \
            that nobody waits for.{lost} {}",
            holders(facts)
        ),
        "Have applications read what came and bound what they write. More room: `millstream sysctl mem='LOW PRESSURE MAX'` in pages of \
        4 KiB, as far as packet memory goes (Config::pool_blocks).",
    )
}

/// Who holds most of what waits in queues.
fn holders(facts: &Facts<'_>) -> String {
    let groups = &facts.census.groups;
    let most = |of: fn(&Group) -> u64, how: &str| {
        let group = groups.iter().max_by_key(|group| of(group))?;
        let bytes = of(group);
        (bytes > 0).then(|| {
            let (n, state) = (units::count(group.count), &group.state);
            let place = place(group);
            format!("{} {how} by {n} {state} of {place}", units::bytes(bytes))
        })
    };
    let held = [
        most(|group| group.recv_bytes, "are not read"),
        most(|group| group.send_bytes, "are to be sent or acknowledged"),
    ];
    let held: Vec<String> = held.into_iter().flatten().collect();
    match held.is_empty() {
        true => "Nobody holds much now.".into(),
        false => format!("Of that {}.", held.join(", and ")),
    }
}

/// The packet memory of the whole host.
pub(super) fn buffers(facts: &Facts<'_>) -> Option<Finding> {
    let buffers = &facts.census.buffers;
    let (used, most) = (u64::from(buffers.in_use), u64::from(buffers.blocks));
    let refused = facts.dropped("pool-empty") + facts.dropped("pool-low");
    let crowded = crowded(used, most);
    let level = shortage(crowded, refused)?;
    let mut amount = format!(
        "{} of {} blocks of {}",
        units::count(used),
        units::count(most),
        units::bytes(buffers.block_bytes.into())
    );
    if refused > 0 {
        amount.push_str(&format!(
            ", {} packets refused so far",
            units::count(refused)
        ));
    }
    let now = match crowded {
        true => "Packet memory is nearly all in use: what can wait longest is refused first.",
        false => "Packet memory has been short: packets were dropped for it.",
    };
    of_host(level, "packet memory", used.max(1), amount).say(
        format!("{now} {}", holders(facts)),
        "`millstream ss --buffers` tells who holds it. Config::pool_blocks, when the host starts, makes room for more.",
    )
}

/// What is sent again to all, since the host started.
pub(super) fn lossy_host(facts: &Facts<'_>) -> Option<Finding> {
    let again = facts.event("tcp-retransmits");
    let sent = facts.event("tcp-segments-out");
    let share = percent(again, sent);
    let named = facts
        .census
        .groups
        .iter()
        .any(|group| retransmissions(group).is_some());
    if sent < SEGMENTS || share < LOSSY_PERCENT || named {
        return None;
    }
    let level = match share >= VERY_LOSSY_PERCENT {
        true => Level::Bad,
        false => Level::Warning,
    };
    let amount = format!(
        "{} of {} segments sent again since the start ({share} %)",
        units::count(again),
        units::count(sent)
    );
    let undone = match facts.event("tcp-undone") {
        0 => String::new(),
        n => format!(
            " {} times that turned out to be needless: there it was disorder or delay.",
            units::count(n)
        ),
    };
    of_host(level, "retransmissions", again, amount).say(
        format!("The network has lost segments; the connections that suffered are over, or do well now.{undone}"),
        "Nothing now. `millstream ss -s` tells what else was counted; `--explain` while it happens says to whom.",
    )
}
