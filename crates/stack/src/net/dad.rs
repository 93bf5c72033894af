//! Claiming an address: duplicate address detection for IPv6 (RFC 4862 5.4, RFC 7527), conflict detection for IPv4 (RFC 5227),
//! announcing it, defending it, and its lifetimes.
//!
//! What does not live here: the messages (`arp`, `ndp`), the addresses (`address`), where they come from (`slaac`).
//!
//! Invariant: a tentative address is neither sent from nor answered for, apart from the probes themselves.
//! Invariant: an address has at most one timer for its claim and one for its lifetimes; both die with it.

use core::time::Duration;

use base::{Instant, TimerId};
use wire::Addr;

use super::{AddressEntry, AddressState, InterfaceId, Net, Origin};
use crate::context::{Core, TimerKind};
use crate::stats::Count;

/// RFC 4862 5.1 DupAddrDetectTransmits.
const PROBES_V6: u8 = 1;
/// RFC 5227 1.1 PROBE_NUM.
const PROBES_V4: u8 = 3;
/// RFC 4861 10 MAX_RTR_SOLICITATION_DELAY, RFC 5227 1.1 PROBE_WAIT: before the first probe, in milliseconds.
const WAIT: u32 = 1000;
/// RFC 5227 1.1 ANNOUNCE_WAIT.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// RFC 5227 1.1 ANNOUNCE_INTERVAL.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// RFC 5227 1.1 ANNOUNCE_NUM; as many unsolicited advertisements (RFC 4861 7.2.6 allows three).
const ANNOUNCEMENTS: u8 = 2;
/// RFC 5227 1.1 DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// `extra` of a timer: the next step of the claim, or a lifetime has ended.
const STEP: u16 = 0;
const LIFETIME: u16 = 1;

/// Where the claim of an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing more to do.
    Idle,
    /// So many probes are out.
    Probing(u8),
    /// It is ours; so many announcements are out.
    Announcing(u8),
}

/// What is kept beside an address entry, by the same index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    phase: Phase,
    step: TimerId,
    lifetime: TimerId,
    defended: Option<Instant>,
    nonce: [u8; 6],
    /// RFC 7217 DAD_Counter: how many interface identifiers before this one were taken.
    pub(super) attempts: u8,
}

impl Claim {
    const NEW: Self = Self {
        phase: Phase::Idle,
        step: TimerId::NONE,
        lifetime: TimerId::NONE,
        defended: None,
        nonce: [0; 6],
        attempts: 0,
    };
}

/// Claims of all addresses, by index of the address.
#[derive(Debug, Default)]
pub(super) struct Claims(Vec<Claim>);

impl Claims {
    fn at(&mut self, index: u32) -> &mut Claim {
        let index = index as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, Claim::NEW);
        }
        &mut self.0[index]
    }
}

impl Net {
    /// An address was entered in state TENTATIVE; `index` names it in `addresses.entries`.
    pub(super) fn address_added(&mut self, core: &mut Core, index: u32) {
        let Some(entry) = self.addresses.entries.at(index) else {
            return;
        };
        let (interface, addr, origin) = (entry.interface, entry.cidr.addr(), entry.origin);
        let attempts = core::mem::take(&mut self.discovery.attempts);
        *self.claims.at(index) = Claim {
            attempts,
            ..Claim::NEW
        };
        core.rng.fill(&mut self.claims.at(index).nonce);
        self.watch_lifetime(core, index);
        if self.mac(interface).is_none() {
            return self.set_address_state(index, AddressState::Preferred);
        }
        if !addr.is_v4() {
            // RFC 4862 5.4.2: one must be able to hear those who have it, or want it, too.
            self.join_group(core, interface, &addr.solicited_node());
        }
        if origin == Origin::Manual && !self.discovery.detect {
            return self.claimed(core, index);
        }
        let wait = Duration::from_millis(u64::from(core.rng.below(WAIT)));
        self.step(core, index, Phase::Probing(0), wait);
    }

    /// An address was taken away.
    pub(super) fn address_removed(&mut self, core: &mut Core, index: u32, entry: &AddressEntry) {
        let claim = core::mem::replace(self.claims.at(index), Claim::NEW);
        for timer in [claim.step, claim.lifetime] {
            if timer.is_some() {
                core.wheel.cancel(timer);
            }
        }
        let addr = entry.cidr.addr();
        if !addr.is_v4() && self.mac(entry.interface).is_some() {
            self.leave_group(core, entry.interface, &addr.solicited_node());
        }
    }

    pub(super) fn address_timer(&mut self, core: &mut Core, index: u32, extra: u16) {
        let claim = self.claims.at(index);
        match extra {
            STEP => claim.step = TimerId::NONE,
            _ => claim.lifetime = TimerId::NONE,
        }
        if extra == LIFETIME {
            return self.lifetime_ended(core, index);
        }
        let phase = claim.phase;
        let Some(entry) = self.addresses.entries.at(index) else {
            return;
        };
        let (interface, addr) = (entry.interface, entry.cidr.addr());
        match phase {
            Phase::Idle => {}
            Phase::Probing(sent) => self.probe(core, index, interface, &addr, sent),
            Phase::Announcing(sent) => self.announce(core, index, interface, &addr, sent),
        }
    }

    /// The next probe, or the end of the wait after the last one.
    fn probe(
        &mut self,
        core: &mut Core,
        index: u32,
        interface: InterfaceId,
        addr: &Addr,
        sent: u8,
    ) {
        let v4 = addr.is_v4();
        if sent >= if v4 { PROBES_V4 } else { PROBES_V6 } {
            return self.claimed(core, index);
        }
        if v4 {
            self.arp_probe(core, interface, addr);
        } else {
            let nonce = self.claims.at(index).nonce;
            self.ndp_probe(core, interface, addr, &nonce);
        }
        if let Some(entry) = self.addresses.entries.at_mut(index) {
            entry.probes = sent + 1;
        }
        let wait = match (v4, sent + 1 < PROBES_V4) {
            // RFC 5227 1.1 PROBE_MIN to PROBE_MAX.
            (true, true) => Duration::from_millis(1000 + u64::from(core.rng.below(1000))),
            (true, false) => ANNOUNCE_WAIT,
            // RFC 4862 5.4.2: RetransTimer, which a router may set.
            (false, _) => self.neighbours.retrans(interface),
        };
        self.step(core, index, Phase::Probing(sent + 1), wait);
    }

    /// Nobody objected: the address is ours, and everybody is told.
    fn claimed(&mut self, core: &mut Core, index: u32) {
        self.set_address_state(index, AddressState::Preferred);
        self.watch_lifetime(core, index);
        let Some(entry) = self.addresses.entries.at(index) else {
            return;
        };
        let (interface, addr, origin) = (entry.interface, entry.cidr.addr(), entry.origin);
        self.announce(core, index, interface, &addr, 0);
        if origin == Origin::LinkLocal {
            self.link_local_ready(core, interface);
        }
    }

    /// RFC 5227 2.3 for IPv4, RFC 4861 7.2.6 for IPv6.
    fn announce(
        &mut self,
        core: &mut Core,
        index: u32,
        interface: InterfaceId,
        addr: &Addr,
        sent: u8,
    ) {
        let interval = if addr.is_v4() {
            self.arp_announce(core, interface, addr);
            ANNOUNCE_INTERVAL
        } else {
            self.ndp_advertise(core, interface, addr, &Addr::ALL_NODES, None, false);
            self.neighbours.retrans(interface)
        };
        if sent + 1 < ANNOUNCEMENTS {
            self.step(core, index, Phase::Announcing(sent + 1), interval);
        } else {
            self.claims.at(index).phase = Phase::Idle;
        }
    }

    /// Enters a phase whose next step is due after `wait`.
    fn step(&mut self, core: &mut Core, index: u32, phase: Phase, wait: Duration) {
        let timer = core.arm(core.now + wait, TimerKind::Address, index, STEP);
        let claim = self.claims.at(index);
        claim.phase = phase;
        claim.step = timer.unwrap_or(TimerId::NONE);
        if timer.is_none() && matches!(phase, Phase::Probing(_)) {
            // No timer to be had: better an address that was not probed for than none.
            self.claimed(core, index);
        }
    }

    /// Somebody else has the address we are about to take: it is not used (RFC 4862 5.4.5). Addresses this host made itself
    /// are made anew (RFC 7217 6).
    pub(super) fn duplicate_found(&mut self, core: &mut Core, index: u32) {
        core.count(Count::AddressConflict);
        let claim = self.claims.at(index);
        claim.phase = Phase::Idle;
        let (timer, attempts) = (
            core::mem::replace(&mut claim.step, TimerId::NONE),
            claim.attempts,
        );
        if timer.is_some() {
            core.wheel.cancel(timer);
        }
        self.set_address_state(index, AddressState::Duplicate);
        if self
            .addresses
            .entries
            .at(index)
            .is_some_and(|entry| entry.origin != Origin::Manual)
        {
            self.try_another(core, index, attempts);
        }
    }

    /// RFC 5227 2.4 c: an address in use is defended, but at most once in ten seconds.
    pub(super) fn may_defend(&mut self, now: Instant, index: u32) -> bool {
        let claim = self.claims.at(index);
        if claim
            .defended
            .is_some_and(|last| now < last + DEFEND_INTERVAL)
        {
            return false;
        }
        claim.defended = Some(now);
        true
    }

    /// The nonce of the probes for an address.
    pub(super) fn nonce(&self, index: u32) -> Option<[u8; 6]> {
        self.claims.0.get(index as usize).map(|claim| claim.nonce)
    }

    /// Arms the lifetime timer for the next end there is: preferred first, then valid. Lifetimes may have changed either way.
    pub(super) fn watch_lifetime(&mut self, core: &mut Core, index: u32) {
        let Some(entry) = self.addresses.entries.at(index) else {
            return;
        };
        let next = if entry.state == AddressState::Deprecated {
            entry.valid_until
        } else {
            entry.preferred_until.min(entry.valid_until)
        };
        let claim = self.claims.at(index);
        if claim.lifetime.is_some() {
            core.wheel
                .cancel(core::mem::replace(&mut claim.lifetime, TimerId::NONE));
        }
        if !next.is_far() {
            claim.lifetime = core
                .arm(next, TimerKind::Address, index, LIFETIME)
                .unwrap_or(TimerId::NONE);
        }
    }

    /// RFC 4862 5.5.4: preferred, deprecated, gone.
    fn lifetime_ended(&mut self, core: &mut Core, index: u32) {
        let Some(entry) = self.addresses.entries.at(index) else {
            return;
        };
        if core.now >= entry.valid_until {
            return self.exit_address(core, index);
        }
        if core.now >= entry.preferred_until && entry.state == AddressState::Preferred {
            self.set_address_state(index, AddressState::Deprecated);
        }
        self.watch_lifetime(core, index);
    }

    /// One of our addresses on this link, in whatever state.
    pub(super) fn own(&self, interface: InterfaceId, addr: &Addr) -> Option<(u32, AddressState)> {
        let index = self.addresses.find(addr)?;
        let entry = self.addresses.entries.at(index)?;
        (entry.interface == interface).then_some((index, entry.state))
    }

    /// An address of ours to ask `target` from (RFC 4861 7.2.2): the one that wants to send, if it is of this link, else one
    /// of the target's subnet, else any of its family; for IPv6 rather a link-local one.
    pub(super) fn link_source(
        &self,
        interface: InterfaceId,
        target: &Addr,
        prefer: Option<Addr>,
    ) -> Option<Addr> {
        let usable = |entry: &AddressEntry| {
            entry.interface == interface
                && entry.cidr.addr().is_v4() == target.is_v4()
                && matches!(
                    entry.state,
                    AddressState::Preferred | AddressState::Deprecated
                )
        };
        if let Some(prefer) = prefer
            && let Some(entry) = self
                .addresses
                .find(&prefer)
                .and_then(|at| self.addresses.entries.at(at))
            && usable(entry)
        {
            return Some(prefer);
        }
        self.addresses
            .on(interface)
            .map(|(_, entry)| entry)
            .filter(|entry| usable(entry))
            .max_by_key(|entry| {
                (
                    entry.cidr.contains(*target),
                    entry.cidr.addr().is_link_local(),
                )
            })
            .map(|entry| entry.cidr.addr())
    }
}
