//! What is said of which numbers.
//!
//! A number is held against this host's own limits: its tables, its queues, its settings. What comes and goes by itself, and is
//! little of what there is room for, is passed over.
//!
//! - `host.rs`: of the host as a whole; here: of each application.
//!
//! What does not live here: how it looks (`explain`).

mod host;

use std::collections::HashMap;
use std::time::Duration;

use control::words::census::{Census, Group, Listener, PEERS};

use super::{Finding, Level};
use crate::units;

/// Connections in a state that ends by itself that are worth a word, at least; and the share of the table.
const FEW: u64 = 64;
const SHARE: u64 = 100;
/// Silent connections that nobody but the application ends.
const STUCK: u64 = 8;
/// Fewer are told after so long.
const LONG_MS: u64 = 5 * 60 * 1000;
/// Segments before the share that was sent again says something, and that share.
const SEGMENTS: u64 = 1_000;
const LOSSY_PERCENT: u64 = 2;
const VERY_LOSSY_PERCENT: u64 = 10;

/// All there is to say, the worst first.
pub(super) fn findings(census: &Census) -> Vec<Finding> {
    let facts = Facts::new(census);
    let mut found = Vec::new();
    for listener in &census.listeners {
        found.extend(accept_queue(&facts, listener));
        found.extend(syn_queue(&facts, listener));
    }
    for group in &census.groups {
        found.extend(match group.state.as_str() {
            "CLOSE-WAIT" if group.held => close_wait(&facts, group),
            "FIN-WAIT-2" if group.held => half_closed(&facts, group),
            "FIN-WAIT-2" => fin_wait_2(&facts, group),
            "FIN-WAIT-1" | "CLOSING" => fin_wait_1(&facts, group),
            "LAST-ACK" => last_ack(&facts, group),
            "TIME-WAIT" => time_wait_ports(&facts, group),
            _ => None,
        });
        found.extend(retransmissions(group));
    }
    found.extend(host::half_open_table(&facts));
    found.extend(host::time_wait_table(&facts));
    found.extend(host::orphans(&facts));
    found.extend(host::connections(&facts));
    found.extend(host::memory(&facts));
    found.extend(host::buffers(&facts));
    found.extend(host::lossy_host(&facts));
    found.sort_by_key(|finding| finding.level);
    found
}

/// A census, and its numbers by name.
struct Facts<'a> {
    census: &'a Census,
    settings: HashMap<&'a str, &'a str>,
    events: HashMap<&'a str, u64>,
    drops: HashMap<&'a str, u64>,
}

impl<'a> Facts<'a> {
    fn new(census: &'a Census) -> Self {
        fn named(rows: &[(String, u64)]) -> HashMap<&str, u64> {
            rows.iter().map(|(name, n)| (name.as_str(), *n)).collect()
        }
        let settings = census.settings.iter();
        Self {
            census,
            settings: settings
                .map(|setting| (setting.name.as_str(), setting.value.as_str()))
                .collect(),
            events: named(&census.events),
            drops: named(&census.drops),
        }
    }

    /// A setting that is a number; 0 when there is none of the name.
    fn setting(&self, name: &str) -> u64 {
        let value = self.settings.get(name);
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    fn event(&self, name: &str) -> u64 {
        self.events.get(name).copied().unwrap_or(0)
    }

    fn dropped(&self, name: &str) -> u64 {
        self.drops.get(name).copied().unwrap_or(0)
    }

    /// Whether so many connections are worth a word although each goes by itself.
    fn many(&self, count: u64) -> bool {
        count >= FEW.max(self.connections_most() / SHARE)
    }

    fn connections_most(&self) -> u64 {
        u64::from(self.census.tables.connections.1)
    }

    /// `512 of 65,536 connections`.
    fn of_connections(&self, count: u64) -> String {
        let most = units::count(self.connections_most());
        format!("{} of {most} connections", units::count(count))
    }

    /// More than a tenth of the table.
    fn level(&self, count: u64) -> Level {
        match count * 10 >= self.connections_most() {
            true => Level::Bad,
            false => Level::Warning,
        }
    }
}

/// A time as people say it: `3 min`.
pub(super) fn time(ms: u64) -> String {
    match ms / 1000 {
        0..=119 => units::duration(Duration::from_millis(ms)),
        s @ 120..=7_199 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

/// Whose connections they are.
fn place(group: &Group) -> String {
    match group.serves {
        true => group.app.to_string(),
        false => format!("to {}", group.app),
    }
}

fn peers(group: &Group) -> Vec<String> {
    if !group.serves {
        return Vec::new();
    }
    let named = group.peers.iter();
    let mut told: Vec<String> = named
        .map(|(ip, n)| format!("{ip} ({})", units::count(*n)))
        .collect();
    let others = (group.peer_count as usize).saturating_sub(told.len());
    if group.peer_count as usize >= PEERS {
        told.push(format!("at least {others} more"));
    } else if others > 0 {
        told.push(format!("{others} more"));
    }
    told
}

/// Something about a group.
fn about(group: &Group, level: Level, what: &'static str, amount: String) -> Finding {
    Finding {
        level,
        what,
        place: place(group),
        count: group.count,
        amount,
        means: String::new(),
        remedy: String::new(),
        peers: peers(group),
    }
}

impl Finding {
    fn say(mut self, means: impl Into<String>, remedy: impl Into<String>) -> Option<Self> {
        self.means = means.into();
        self.remedy = remedy.into();
        Some(self)
    }
}

/// Whether so many have been silent for so long that the application must have forgotten them.
fn stuck(group: &Group) -> bool {
    group.silent >= STUCK || (group.silent > 0 && group.silent_most_ms >= LONG_MS)
}

fn silence(facts: &Facts<'_>, group: &Group) -> String {
    let amount = facts.of_connections(group.count);
    format!("{amount}, silent for up to {}", time(group.silent_most_ms))
}

fn close_wait(facts: &Facts<'_>, group: &Group) -> Option<Finding> {
    if !stuck(group) {
        return None;
    }
    let level = facts.level(group.count);
    let unread = match group.recv_bytes {
        0 => String::new(),
        bytes => format!(
            " {} that came before the end are not read either.",
            units::bytes(bytes)
        ),
    };
    about(group, level, "CLOSE-WAIT", silence(facts, group)).say(
        format!(
            "The peers have ended these connections, and the application has not closed its sockets. No timer ends \
            them: they stay, with their place in the table, until it does.{unread}"
        ),
        "Close the socket (close(fd), or drop the stream) when a read returns 0, and after every error. Look for sockets that are kept \
        in a map, or by a task that waits for something else than its peer.",
    )
}

/// FIN-WAIT-2 of a socket that the application holds.
fn half_closed(facts: &Facts<'_>, group: &Group) -> Option<Finding> {
    if !stuck(group) {
        return None;
    }
    let level = facts.level(group.count);
    let timeout = facts.setting("fin_timeout");
    about(group, level, "FIN-WAIT-2", silence(facts, group)).say(
        "The application has ended its direction (shutdown), the peers know it and have not ended theirs. As long as the application \
        holds the sockets no timer ends them.",
        format!(
            "After shutdown read until 0, for a limited time (set_read_timeout, SO_RCVTIMEO), then close. What is closed leaves this \
            state after tcp_fin_timeout ({timeout} s), or the socket's own TCP_LINGER2."
        ),
    )
}

/// FIN-WAIT-2 of a socket that is closed.
fn fin_wait_2(facts: &Facts<'_>, group: &Group) -> Option<Finding> {
    if !facts.many(group.count) {
        return None;
    }
    let timeout = facts.setting("fin_timeout");
    let amount = facts.of_connections(group.count);
    about(group, facts.level(group.count), "FIN-WAIT-2", amount).say(
        format!(
            "They are closed here and the peers know it, but do not close: clients that keep connections open, or forget them. Each \
            goes by itself {timeout} s after its close."
        ),
        "A smaller tcp_fin_timeout (`millstream sysctl fin_timeout=20`), or TCP_LINGER2 of the listener. If they are clients of \
        your own: let them close.",
    )
}

fn fin_wait_1(facts: &Facts<'_>, group: &Group) -> Option<Finding> {
    if !facts.many(group.count) {
        return None;
    }
    let retries = orphan_retries(facts);
    let what = match group.state.as_str() {
        "CLOSING" => "CLOSING",
        _ => "FIN-WAIT-1",
    };
    let waits = units::bytes(group.send_bytes);
    let amount = format!("{}, {waits} to be sent", facts.of_connections(group.count));
    about(group, facts.level(group.count), what, amount).say(
        format!(
            "They are closed here, and the peers do not acknowledge the end: they are gone, or do not read what was written before it. \
            {} of them wait for an answer after a timeout.",
            units::count(group.timed_out)
        ),
        format!(
            "Peers that are gone are given up after {retries} timeouts (`millstream sysctl orphan_retries=3` does so sooner), those that \
            do not read after as many probes. SO_LINGER of 0 seconds resets instead of waiting."
        ),
    )
}

fn last_ack(facts: &Facts<'_>, group: &Group) -> Option<Finding> {
    if !facts.many(group.count) {
        return None;
    }
    let retries = orphan_retries(facts);
    let amount = facts.of_connections(group.count);
    about(group, facts.level(group.count), "LAST-ACK", amount).say(
        "Both ends have closed, and the peers do not acknowledge the last FIN: they are gone, or what answers is lost on the way.",
        format!(
            "They are given up after {retries} timeouts; `millstream sysctl orphan_retries=3` does so sooner. If they stay many, look \
            for a firewall or a NAT that forgets connections at the first FIN."
        ),
    )
}

/// What `tcp_orphan_retries` comes to.
fn orphan_retries(facts: &Facts<'_>) -> u64 {
    match facts.setting("orphan_retries") {
        0 => 8,
        retries => retries,
    }
}

/// TIME-WAIT takes the ports to one peer.
fn time_wait_ports(facts: &Facts<'_>, group: &Group) -> Option<Finding> {
    let ports = u64::from(facts.census.tables.ephemeral_ports);
    if group.serves || ports == 0 || group.count * 2 < ports {
        return None;
    }
    let level = match group.count * 10 >= ports * 9 {
        true => Level::Bad,
        false => Level::Warning,
    };
    let reuse = facts.setting("tw_reuse");
    let amount = format!(
        "{} of {} ephemeral ports",
        units::count(group.count),
        units::count(ports)
    );
    about(group, level, "TIME-WAIT", amount).say(
        "This host was the first to close these connections, and each keeps its port to this peer for a minute. When all are \
        taken connect fails with EADDRNOTAVAIL.",
        format!(
            "Keep connections to this peer open and use them again, or let the peer close first. `millstream sysctl tw_reuse=1` (now \
            {reuse}) lets new connections take such a port over after {} ms; more local addresses bring more ports.",
            facts.setting("tw_reuse_delay")
        ),
    )
}

fn accept_queue(facts: &Facts<'_>, listener: &Listener) -> Option<Finding> {
    let queues = &listener.queues;
    let full = queues.accept_queue > queues.backlog;
    let crowded = queues.accept_queue >= 8 && queues.accept_queue * 4 >= queues.backlog * 3;
    if !full && !crowded && queues.overflows == 0 {
        return None;
    }
    let level = match full {
        true => Level::Bad,
        false => Level::Warning,
    };
    let mut amount = format!(
        "{} of {} wait",
        units::count(queues.accept_queue.into()),
        units::count(u64::from(queues.backlog) + 1)
    );
    if queues.overflows > 0 {
        amount.push_str(&format!(
            ", {} refused so far",
            units::count(queues.overflows)
        ));
    }
    let refused = match facts.setting("abort_on_overflow") {
        0 => {
            "their SYNs and last ACKs are dropped, so that they try again seconds later (tcp_abort_on_overflow is 0)"
        }
        _ => "they are reset (tcp_abort_on_overflow is 1)",
    };
    let finding = Finding {
        level,
        what: "accept queue",
        place: listener.local.to_string(),
        count: u64::from(queues.accept_queue).max(1),
        amount,
        means: String::new(),
        remedy: String::new(),
        peers: Vec::new(),
    };
    let state = match (full, crowded) {
        (true, _) => "The application does not accept: the queue is full.",
        (_, true) => {
            "The application accepts more slowly than clients come: the queue is nearly full."
        }
        _ => "The application has accepted too slowly at times: the queue was full.",
    };
    finding.say(
        format!("{state} When it is, {refused}."),
        format!(
            "Call accept until it would block, in a thread that does nothing else, or in several (SO_REUSEPORT); or listen with a longer \
            backlog than {} (listen(fd, n), tcp_listen_backlog), which somaxconn bounds at {}.",
            queues.backlog,
            facts.setting("somaxconn")
        ),
    )
}

/// The half-open connections of one listener.
fn syn_queue(facts: &Facts<'_>, listener: &Listener) -> Option<Finding> {
    let queues = &listener.queues;
    let (open, backlog) = (u64::from(queues.syn_queue), u64::from(queues.backlog));
    if open < STUCK || open * 4 < backlog * 3 {
        return None;
    }
    let cookies = facts.setting("syncookies");
    let level = match open > backlog && cookies == 0 {
        true => Level::Bad,
        false => Level::Warning,
    };
    let sent = facts.event("tcp-syncookies-sent");
    let group = facts
        .census
        .groups
        .iter()
        .find(|group| group.state == "SYN-RECV" && group.serves && group.app == listener.local);
    let (means, remedy) = if queues.accept_queue > queues.backlog {
        (
            "Clients have answered, but their last ACKs find the accept queue full.".to_owned(),
            "See the accept queue of this listener.".to_owned(),
        )
    } else {
        let beyond = match cookies {
            0 => "is dropped: honest clients wait, too".to_owned(),
            _ => format!(
                "is answered by a cookie, which takes no memory ({} so far)",
                units::count(sent)
            ),
        };
        (
            format!(
                "SYNs were answered, and the last ACKs of the handshakes do not come: a flood of SYNs from addresses that are not \
                the senders', or answers are lost on the way back. What comes when the queue is full {beyond}."
            ),
            match cookies {
                0 => format!(
                    "`millstream sysctl syncookies=1`, a longer backlog than {backlog}, and max_syn_backlog (now {}) above it.",
                    facts.setting("max_syn_backlog")
                ),
                _ => format!(
                    "Nothing, if it is a flood: cookies let honest clients in. `millstream sysctl synack_retries=2` (now {}) forgets the \
                    others sooner. If it is no flood, look for a firewall that drops SYN-ACKs, or a route back that leads elsewhere.",
                    facts.setting("synack_retries")
                ),
            },
        )
    };
    let finding = Finding {
        level,
        what: "SYN-RECV",
        place: listener.local.to_string(),
        count: open,
        amount: format!(
            "{} half-open, backlog {}",
            units::count(open),
            units::count(backlog)
        ),
        means: String::new(),
        remedy: String::new(),
        peers: group.map(peers).unwrap_or_default(),
    };
    finding.say(means, remedy)
}

fn percent(part: u64, whole: u64) -> u64 {
    part * 100 / whole.max(1)
}

/// What is sent again to one peer, or by one listener.
fn retransmissions(group: &Group) -> Option<Finding> {
    let share = percent(group.retrans_segs, group.data_segs_out);
    let lossy = group.data_segs_out >= SEGMENTS && share >= LOSSY_PERCENT;
    let silent = group.timed_out >= STUCK && group.timed_out * 10 >= group.count;
    if group.state != "ESTAB" || !(lossy || silent) {
        return None;
    }
    let level = match share >= VERY_LOSSY_PERCENT || silent {
        true => Level::Bad,
        false => Level::Warning,
    };
    let mut amount = format!(
        "{} of {} segments sent again ({share} %)",
        units::count(group.retrans_segs),
        units::count(group.data_segs_out)
    );
    if group.timed_out > 0 {
        amount.push_str(&format!(
            ", {} connections wait after a timeout",
            units::count(group.timed_out)
        ));
    }
    about(group, level, "retransmissions", amount).say(
        match silent {
            true => {
                "Segments to these peers are not answered: they are gone, or the way to them is broken or loses very much."
            }
            false => "The way to these peers loses segments, or delays some of them beyond the others.",
        },
        "`millstream ss -ti` tells of each connection: retrans, lost, reordering, rtt. Small shares at high speed are how congestion \
        control finds its rate: tcp_ecn=1 avoids them where routers mark, congestion_control=bbr does not take each loss for congestion. \
        TCP_USER_TIMEOUT ends sooner what is not answered.",
    )
}
