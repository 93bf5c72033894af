//! Multicast groups this host listens to, and telling the routers and switches of the link: IGMPv3 (RFC 9776) and MLDv2
//! (RFC 9777), and their older versions where a router speaks them.
//!
//! What does not live here: which socket wants a group (`udp`); sources are not filtered.
//!
//! Of the shards of a host one speaks: the others tell it what they join and leave, and it tells them what the host has joined, so that
//! a group is reported once, and left when nobody is in it any more.
//!
//! Invariant: a group is in the table once per interface, with the number of its users.
//! Invariant: a shard that follows reports nothing, and the leading one counts it once for each group that it is in.

use core::time::Duration;

use base::{FlowTable, Instant, SipKey, Slab, TimerId};
use wire::mld::{self, Record, RecordKind};
use wire::{Addr, icmpv6, igmp, protocol};

use super::control::Control;
use super::{AddressState, Datagram, InterfaceId, Net};
use crate::config::Config;
use crate::context::{Core, TimerKind};
use crate::stats::Drop;

/// Groups of all interfaces together.
const GROUPS: u32 = 1024;
/// RFC 9776 8.1, RFC 9777 9.1: a change is reported so often.
const ROBUSTNESS: u8 = 2;
/// RFC 9776 8.11, RFC 9777 9.11, in milliseconds.
const UNSOLICITED: u32 = 1000;
/// RFC 9776 8.12, RFC 9777 9.12 with the default intervals: how long a router of an older version is remembered.
const OLDER: Duration = Duration::from_secs(2 * 125 + 10);
/// Records in one report: a report fits the least MTU of IPv6.
const RECORDS: usize = 48;
/// `extra` of a timer: a group has something to report, or an interface answers a general query of a family.
const GROUP: u16 = 0;
const GENERAL: u16 = 1;

#[derive(Debug)]
struct Group {
    interface: InterfaceId,
    addr: Addr,
    users: u32,
    /// Other shards that are in it, as far as the leading one has heard; on others, whether it says that the host is.
    abroad: u32,
    /// On a shard that follows: the leading one counts it as a member, and: it may have to be told something else.
    told: bool,
    listed: bool,
    /// Change reports still to send.
    changes: u8,
    timer: TimerId,
}

impl Group {
    fn is_used(&self) -> bool {
        self.users > 0 || self.abroad > 0
    }

    fn is_forgotten(&self) -> bool {
        !self.is_used() && !self.told && !self.listed && self.changes == 0
    }
}

/// What a shard that follows tells the leading one: it is in a group now, or is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupChange {
    interface: InterfaceId,
    group: Addr,
    joined: bool,
}

/// What a family's router on a link is like.
#[derive(Debug, Clone, Copy)]
struct Querier {
    /// Until when reports are of an older version, and which.
    older_until: Instant,
    version: igmp::Version,
    general: TimerId,
}

/// The groups of one host.
#[derive(Debug)]
pub(super) struct Membership {
    groups: Slab<Group>,
    index: FlowTable,
    /// Groups of which the leading shard may have to be told something.
    untold: Vec<u32>,
    /// Two for each interface: IPv4, IPv6.
    queriers: Vec<Querier>,
}

/// Groups every host is in: never reported (RFC 9776 5, RFC 9777 6), nor are those that do not leave the host.
fn silent(group: &Addr) -> bool {
    *group == Addr::ALL_SYSTEMS_V4
        || *group == Addr::ALL_NODES
        || (!group.is_v4() && group.0[1] & 0x0f < 2)
}

fn key(interface: InterfaceId, group: &Addr) -> [u8; 17] {
    let mut key = [0; 17];
    key[..16].copy_from_slice(&group.0);
    key[16] = interface.0;
    key
}

/// Sees to it that a timer, if it runs, is due by `at`; whether it runs.
fn sooner(core: &mut Core, timer: TimerId, at: Instant) -> bool {
    match core.wheel.deadline(timer) {
        Some(due) if due <= at => true,
        Some(_) => core.wheel.rearm(timer, at),
        None => false,
    }
}

impl Membership {
    pub(super) fn new(_config: &Config, secret: SipKey) -> Self {
        Self {
            groups: Slab::with_capacity(GROUPS),
            index: FlowTable::with_capacity(GROUPS, secret),
            untold: Vec::with_capacity(GROUPS as usize),
            queriers: Vec::new(),
        }
    }

    /// Whether packets to `group` are taken in on `interface`.
    #[inline]
    pub(super) fn is_member(&self, interface: InterfaceId, group: &Addr) -> bool {
        *group == Addr::ALL_NODES
            || *group == Addr::ALL_SYSTEMS_V4
            || self.find(interface, group).is_some_and(|at| self.used(at))
    }

    fn used(&self, at: u32) -> bool {
        self.groups.at(at).is_some_and(Group::is_used)
    }

    fn find(&self, interface: InterfaceId, group: &Addr) -> Option<u32> {
        let hash = self.index.hash(&key(interface, group));
        self.index.find(hash, |at| {
            self.groups
                .at(at)
                .is_some_and(|g| g.addr == *group && g.interface == interface)
        })
    }

    /// The record of a group, made if there is none. `None` when the table is full.
    fn entry(&mut self, interface: InterfaceId, group: &Addr) -> Option<u32> {
        if let Some(at) = self.find(interface, group) {
            return Some(at);
        }
        let slot = self.groups.insert(Group {
            interface,
            addr: *group,
            users: 0,
            abroad: 0,
            told: false,
            listed: false,
            changes: 0,
            timer: TimerId::NONE,
        })?;
        let hash = self.index.hash(&key(interface, group));
        if self.index.insert(hash, slot.index).is_err() {
            self.groups.remove(slot);
            return None;
        }
        Some(slot.index)
    }

    /// Forgets a group; its timer is to be cancelled.
    fn forget(&mut self, at: u32) -> TimerId {
        let Some(group) = self.groups.remove_at(at) else {
            return TimerId::NONE;
        };
        let hash = self.index.hash(&key(group.interface, &group.addr));
        self.index.remove(hash, at);
        group.timer
    }

    /// The leading shard may have to be told of a group. There is room for each group once.
    fn list(&mut self, at: u32) {
        if let Some(group) = self.groups.at_mut(at)
            && !core::mem::replace(&mut group.listed, true)
        {
            self.untold.push(at);
        }
    }

    fn querier(&mut self, interface: InterfaceId, v4: bool) -> &mut Querier {
        let at = usize::from(interface.0) * 2 + usize::from(!v4);
        if at >= self.queriers.len() {
            let new = Querier {
                older_until: Instant::ZERO,
                version: igmp::Version::V3,
                general: TimerId::NONE,
            };
            self.queriers.resize(at + 1, new);
        }
        &mut self.queriers[at]
    }
}

impl Net {
    /// One more user of `group` on `interface`. False when the table is full or there is no such interface.
    pub(crate) fn join_group(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        group: &Addr,
    ) -> bool {
        if self.mac(interface).is_none() {
            return false;
        }
        let Some(at) = self.membership.entry(interface, group) else {
            return false;
        };
        if let Some(entry) = self.membership.groups.at_mut(at) {
            entry.users += 1;
            if entry.users == 1 {
                self.users_changed(core, at);
            }
        }
        true
    }

    /// One user less.
    pub(crate) fn leave_group(&mut self, core: &mut Core, interface: InterfaceId, group: &Addr) {
        let Some(at) = self.membership.find(interface, group) else {
            return;
        };
        let Some(entry) = self.membership.groups.at_mut(at) else {
            return;
        };
        entry.users = entry.users.saturating_sub(1);
        if entry.users == 0 {
            self.users_changed(core, at);
        }
    }

    /// A group has its first user on this shard, or has lost its last.
    fn users_changed(&mut self, core: &mut Core, at: u32) {
        if core.follows() {
            return self.membership.list(at);
        }
        let others = |group: &Group| group.abroad > 0;
        if !self.membership.groups.at(at).is_some_and(others) {
            self.host_changed(core, at);
        }
    }

    /// The host is in a group now, or is not any more.
    fn host_changed(&mut self, core: &mut Core, at: u32) {
        let Some(group) = self.membership.groups.at(at) else {
            return;
        };
        let (quiet, used) = (silent(&group.addr), group.is_used());
        if core.sharding.is_some() {
            self.changed(); // the other shards hear of it
        }
        if !quiet {
            self.group_changed(core, at);
        } else if !used {
            self.forget_group(core, at);
        }
    }

    /// A shard that follows this one is in a group now, or is not any more.
    pub(crate) fn group_abroad(&mut self, core: &mut Core, change: GroupChange) {
        let GroupChange {
            interface,
            group,
            joined,
        } = change;
        let at = match joined {
            true => self.membership.entry(interface, &group),
            false => self.membership.find(interface, &group),
        };
        let Some(entry) = at.and_then(|at| self.membership.groups.at_mut(at)) else {
            return;
        };
        let was = entry.is_used();
        entry.abroad = match joined {
            true => entry.abroad + 1,
            false => entry.abroad.saturating_sub(1),
        };
        let is = entry.is_used();
        if let Some(at) = at.filter(|_| was != is) {
            self.host_changed(core, at);
        }
    }

    /// What the leading shard has to be told, one after the other.
    pub(crate) fn pop_group_change(&mut self, core: &mut Core) -> Option<GroupChange> {
        while let Some(at) = self.membership.untold.pop() {
            let Some(group) = self.membership.groups.at_mut(at) else {
                continue;
            };
            group.listed = false;
            let joined = group.users > 0;
            let news = joined != group.told;
            group.told = joined;
            let change = GroupChange {
                interface: group.interface,
                group: group.addr,
                joined,
            };
            if group.is_forgotten() {
                self.forget_group(core, at);
            }
            if news {
                return Some(change);
            }
        }
        None
    }

    /// Whether there may be something.
    #[inline]
    pub(crate) fn has_group_changes(&self) -> bool {
        !self.membership.untold.is_empty()
    }

    /// The groups that the host is in.
    pub(super) fn groups(&self) -> Vec<(InterfaceId, Addr)> {
        let groups = self.membership.groups.iter().map(|(_, group)| group);
        let used = groups.filter(|group| group.is_used());
        used.map(|group| (group.interface, group.addr)).collect()
    }

    /// Those that the leading shard says it is in. Memory of a table: looked at when something has changed, and bounded.
    pub(super) fn follow_groups(&mut self, groups: &[(InterfaceId, Addr)]) {
        let members = &mut self.membership;
        let all: Vec<u32> = members.groups.iter().map(|(key, _)| key.index).collect();
        for &at in &all {
            if let Some(group) = members.groups.at_mut(at) {
                group.abroad = 0;
            }
        }
        for (interface, group) in groups {
            let at = members.entry(*interface, group);
            if let Some(group) = at.and_then(|at| members.groups.at_mut(at)) {
                group.abroad = 1;
            }
        }
        for at in all {
            if members.groups.at(at).is_some_and(Group::is_forgotten) {
                members.forget(at);
            }
        }
    }

    fn forget_group(&mut self, core: &mut Core, at: u32) {
        let timer = self.membership.forget(at);
        if timer.is_some() {
            core.wheel.cancel(timer);
        }
    }

    /// RFC 9776 5.1, RFC 9777 6.1: report a change now, and again a little later in case it was lost.
    fn group_changed(&mut self, core: &mut Core, at: u32) {
        if let Some(group) = self.membership.groups.at_mut(at) {
            group.changes = ROBUSTNESS;
        }
        self.report_change(core, at);
    }

    fn report_change(&mut self, core: &mut Core, at: u32) {
        let Some(group) = self.membership.groups.at_mut(at) else {
            return;
        };
        group.changes = group.changes.saturating_sub(1);
        let (interface, addr, left, joined) =
            (group.interface, group.addr, group.changes, group.is_used());
        let kind = if joined {
            RecordKind::ChangeToExclude
        } else {
            RecordKind::ChangeToInclude
        };
        self.send_reports(core, interface, &[Record { kind, group: addr }]);
        if left > 0 {
            self.group_timer(core, at, UNSOLICITED);
        } else if !joined {
            self.forget_group(core, at);
        }
    }

    /// Arms the group's timer at random within `range` milliseconds, unless it is due within that anyway.
    fn group_timer(&mut self, core: &mut Core, at: u32, range: u32) {
        let Some(group) = self.membership.groups.at_mut(at) else {
            return;
        };
        let wait = Duration::from_millis(u64::from(core.rng.below(range.max(1))));
        if !sooner(core, group.timer, core.now + wait) {
            group.timer = core
                .arm(core.now + wait, TimerKind::Membership, at, GROUP)
                .unwrap_or(TimerId::NONE);
        }
    }

    pub(super) fn membership_timer(&mut self, core: &mut Core, index: u32, extra: u16) {
        if extra == GENERAL {
            let (interface, v4) = (InterfaceId((index >> 1) as u8), index & 1 == 0);
            self.membership.querier(interface, v4).general = TimerId::NONE;
            return self.report_all(core, interface, v4);
        }
        let Some(group) = self.membership.groups.at_mut(index) else {
            return;
        };
        group.timer = TimerId::NONE;
        if group.changes > 0 {
            return self.report_change(core, index);
        }
        let (interface, addr, used) = (group.interface, group.addr, group.is_used());
        if used {
            self.send_reports(
                core,
                interface,
                &[Record {
                    kind: RecordKind::ModeIsExclude,
                    group: addr,
                }],
            );
        }
    }

    /// The answer to a general query: every group.
    fn report_all(&mut self, core: &mut Core, interface: InterfaceId, v4: bool) {
        let mut next = 0;
        loop {
            let mut records = [Record {
                kind: RecordKind::ModeIsExclude,
                group: Addr::ALL_NODES,
            }; RECORDS];
            let mut count = 0;
            while count < RECORDS && next < GROUPS {
                if let Some(group) = self.membership.groups.at(next)
                    && group.interface == interface
                    && group.addr.is_v4() == v4
                    && group.is_used()
                    && !silent(&group.addr)
                {
                    records[count].group = group.addr;
                    count += 1;
                }
                next += 1;
            }
            if count == 0 {
                return;
            }
            self.send_reports(core, interface, &records[..count]);
        }
    }

    /// Reports about groups of one family, in the version the link's router understands.
    fn send_reports(&mut self, core: &mut Core, interface: InterfaceId, records: &[Record]) {
        let Some(first) = records.first() else { return };
        let v4 = first.group.is_v4();
        let now = core.now;
        let querier = *self.membership.querier(interface, v4);
        // An address may be missing still (RFC 9776 4.2.13, RFC 9777 5.2.14).
        let src = self.report_source(interface, v4);
        let control = |dst: Addr| Control {
            interface,
            src,
            dst,
            to: None,
            protocol: if v4 { protocol::IGMP } else { protocol::ICMPV6 },
            hop_limit: 1,
            alert: true,
        };
        if now < querier.older_until {
            for record in records {
                let leaves = record.kind == RecordKind::ChangeToInclude;
                self.send_older(core, &control, record.group, leaves, querier.version);
            }
        } else if v4 {
            let mut groups = [igmp::Record {
                kind: RecordKind::ModeIsExclude,
                group: Addr::UNSPECIFIED_V4,
            }; RECORDS];
            for (to, from) in groups.iter_mut().zip(records) {
                *to = igmp::Record {
                    kind: from.kind,
                    group: from.group,
                };
            }
            let groups = &groups[..records.len().min(RECORDS)];
            self.send_control(
                core,
                &control(Addr::IGMPV3_ROUTERS),
                igmp::report_len(groups.len()),
                |bytes| {
                    igmp::emit_report(groups, bytes);
                    igmp::fill_checksum(bytes);
                },
            );
        } else {
            self.send_control(
                core,
                &control(Addr::MLDV2_ROUTERS),
                mld::report_len(records.len()),
                |bytes| {
                    mld::emit_report(records, bytes);
                },
            );
        }
    }

    /// One group in the words of IGMPv1, IGMPv2 or MLDv1.
    fn send_older(
        &mut self,
        core: &mut Core,
        control: &dyn Fn(Addr) -> Control,
        group: Addr,
        leaves: bool,
        version: igmp::Version,
    ) {
        let all_routers = if group.is_v4() {
            Addr::v4(224, 0, 0, 2)
        } else {
            Addr::ALL_ROUTERS
        };
        let control = control(if leaves { all_routers } else { group });
        if group.is_v4() {
            let message = match (leaves, version) {
                (true, igmp::Version::V1) => return,
                (true, _) => igmp::ReportV2::Leave(group),
                (false, igmp::Version::V1) => igmp::ReportV2::ReportV1(group),
                (false, _) => igmp::ReportV2::Report(group),
            };
            self.send_control(core, &control, igmp::HEADER_LEN, |bytes| {
                message.emit(bytes);
                igmp::fill_checksum(bytes);
            });
        } else {
            let message = if leaves {
                mld::ReportV1::Done(group)
            } else {
                mld::ReportV1::Report(group)
            };
            self.send_control(core, &control, message.buffer_len(), |bytes| {
                message.emit(bytes)
            });
        }
    }

    fn report_source(&self, interface: InterfaceId, v4: bool) -> Addr {
        let found = self
            .addresses
            .on(interface)
            .map(|(_, entry)| entry)
            .find(|entry| {
                let addr = entry.cidr.addr();
                addr.is_v4() == v4
                    && (v4 || addr.is_link_local())
                    && entry.state == AddressState::Preferred
            });
        match found {
            Some(entry) => entry.cidr.addr(),
            None if v4 => Addr::UNSPECIFIED_V4,
            None => Addr::UNSPECIFIED_V6,
        }
    }

    /// A query: answer for the group, or for all, within the time given.
    fn queried(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        group: Addr,
        millis: u32,
        version: igmp::Version,
    ) {
        let v4 = group.is_v4();
        let now = core.now;
        let querier = self.membership.querier(interface, v4);
        if version != igmp::Version::V3 {
            querier.version = if now < querier.older_until {
                querier.version.min(version)
            } else {
                version
            };
            querier.older_until = now + OLDER;
        }
        if !group.is_unspecified() {
            if let Some(at) = self.membership.find(interface, &group)
                && self.membership.used(at)
                && !silent(&group)
            {
                self.group_timer(core, at, millis);
            }
            return;
        }
        let wait = Duration::from_millis(u64::from(core.rng.below(millis.max(1))));
        if sooner(core, querier.general, now + wait) {
            return;
        }
        let index = u32::from(interface.0) << 1 | u32::from(!v4);
        let timer = core.arm(now + wait, TimerKind::Membership, index, GENERAL);
        self.membership.querier(interface, v4).general = timer.unwrap_or(TimerId::NONE);
    }

    /// An IGMP message; its checksum is not verified yet.
    pub(super) fn igmp_input(&mut self, core: &mut Core, datagram: Datagram) {
        let bytes = core
            .pool
            .first(&datagram.chain)
            .get(usize::from(datagram.l4)..)
            .unwrap_or_default();
        let query = match igmp::Packet::new(bytes) {
            Ok(packet)
                if datagram.ttl == 1
                    && bytes.len() + usize::from(datagram.l4) == datagram.chain.len() =>
            {
                if packet.verify_checksum() {
                    igmp::Query::parse(&packet).ok()
                } else {
                    None
                }
            }
            _ => None,
        };
        let is_report = bytes.first().is_some_and(|&kind| kind != igmp::kind::QUERY);
        match query {
            Some(query) => {
                core.pool.free(datagram.chain);
                self.queried(
                    core,
                    datagram.interface,
                    query.group,
                    query.max_response,
                    query.version,
                );
            }
            None if is_report => core.drop_packet(datagram.chain, Drop::MembershipIgnored),
            None => core.drop_packet(datagram.chain, Drop::MembershipInvalid),
        }
    }

    /// A multicast listener message, its ICMPv6 checksum verified.
    pub(super) fn mld_input(&mut self, core: &mut Core, datagram: Datagram, alert: bool) {
        let bytes = core
            .pool
            .first(&datagram.chain)
            .get(usize::from(datagram.l4)..)
            .unwrap_or_default();
        let Ok(packet) = icmpv6::Packet::new(bytes) else {
            return core.drop_packet(datagram.chain, Drop::MembershipInvalid);
        };
        if packet.kind() != icmpv6::kind::MLD_QUERY {
            return core.drop_packet(datagram.chain, Drop::MembershipIgnored);
        }
        // RFC 9777 6.2: from a link-local address, hop limit 1, with router alert.
        match mld::Query::parse(&packet, datagram.ttl) {
            Ok(query) if alert && datagram.src.is_link_local() => {
                core.pool.free(datagram.chain);
                let version = if query.v2 {
                    igmp::Version::V3
                } else {
                    igmp::Version::V1
                };
                self.queried(
                    core,
                    datagram.interface,
                    query.group,
                    query.max_response,
                    version,
                );
            }
            _ => core.drop_packet(datagram.chain, Drop::MembershipInvalid),
        }
    }
}
