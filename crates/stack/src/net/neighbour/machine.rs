//! The state machine itself: what is asked, heard and timed out (RFC 4861 7.2, 7.3 and appendix C; RFC 826 for ARP).

use core::time::Duration;

use base::{Instant, TimerId};
use wire::{Addr, Mac};

use super::{
    ARP_LOCK, Advertisement, DELAY_FIRST_PROBE, Demand, Entry, Expired, InterfaceId, Learnt, List,
    MULTICAST_SOLICITS, NeighbourId, NeighbourState as State, Neighbours, REDRAW, Solicitation,
    UNICAST_SOLICITS,
};
use crate::context::{Core, TimerKind};

impl Entry {
    /// The state as of `now`: REACHABLE lapses without an event.
    pub(super) fn state_at(&self, now: Instant) -> State {
        match self.state {
            State::Reachable if now >= self.fresh_until => State::Stale,
            state => state,
        }
    }

    fn ask(&self, index: u32) -> Solicitation {
        let unicast = (self.state == State::Probe).then_some(self.mac);
        Solicitation {
            interface: self.interface,
            target: self.addr,
            unicast,
            index,
        }
    }
}

impl Neighbours {
    /// A packet is to go to `addr`, and [`Neighbours::mac`] did not say where: find out what to do with it.
    pub(crate) fn demand(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
    ) -> Demand {
        let found = match self.find(interface, addr) {
            Some(at) => Some(at),
            None => self.create(core, interface, addr, List::Spent),
        };
        let Some(at) = found else {
            return Demand::Refused;
        };
        let now = core.now;
        let Some(entry) = self.entries.at(at) else {
            return Demand::Refused;
        };
        let mac = entry.mac;
        match entry.state_at(now) {
            State::Reachable | State::Delay | State::Probe | State::Permanent => Demand::Send(mac),
            State::Incomplete => Demand::Wait(at),
            State::Stale => {
                // RFC 4861 7.3.3: use it, and give those above five seconds to confirm it before asking.
                self.lists.refile(&mut self.entries, at, List::Used);
                if self.time(core, at, DELAY_FIRST_PROBE) {
                    self.set(at, State::Delay, Instant::FAR);
                }
                Demand::Send(mac)
            }
            State::None | State::Failed => self.start(core, at),
        }
    }

    /// Begins address resolution (RFC 4861 7.2.2).
    fn start(&mut self, core: &mut Core, at: u32) -> Demand {
        if self.lists.len(List::Resolving) >= self.resolving_max {
            let Some(overdue) = self.overdue(core.now) else {
                return Demand::Refused;
            };
            self.remove(core, overdue);
        }
        let Some(interface) = self.entries.at(at).map(|e| e.interface) else {
            return Demand::Refused;
        };
        let retrans = self.timing_mut(interface).retrans;
        if !self.time(core, at, retrans) {
            return Demand::Refused;
        }
        self.lists.refile(&mut self.entries, at, List::Resolving);
        let Some(entry) = self.entries.at_mut(at) else {
            return Demand::Refused;
        };
        entry.state = State::Incomplete;
        entry.fresh_until = Instant::ZERO;
        entry.mac = Mac::ZERO;
        entry.since = core.now;
        entry.probes = 1;
        Demand::Ask(entry.ask(at))
    }

    /// An entry's timer has fired.
    pub(crate) fn on_timer(&mut self, core: &mut Core, at: u32) -> Expired {
        let Some(entry) = self.entries.at_mut(at) else {
            return Expired::Idle;
        };
        entry.timer = TimerId::NONE;
        let limit = match entry.state {
            State::Incomplete => MULTICAST_SOLICITS,
            State::Probe => UNICAST_SOLICITS,
            State::Delay => {
                entry.state = State::Probe;
                entry.probes = 0;
                UNICAST_SOLICITS
            }
            _ => return Expired::Idle,
        };
        let interface = entry.interface;
        let spent = entry.probes >= limit;
        entry.probes += 1;
        let retrans = self.timing_mut(interface).retrans;
        if spent || !self.time(core, at, retrans) {
            self.set(at, State::Failed, Instant::ZERO);
            self.lists.refile(&mut self.entries, at, List::Spent);
            return Expired::Failed(at);
        }
        self.entries
            .at(at)
            .map_or(Expired::Idle, |entry| Expired::Ask(entry.ask(at)))
    }

    /// A neighbour said, beside what it wanted, where it is: the source of an NS, RS, RA or Redirect, or an ARP packet for
    /// us. With `create`, one that is not known becomes known (RFC 4861 7.2.3, 6.2.6, 6.3.4, 8.3; RFC 826).
    pub(crate) fn heard(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
        mac: Mac,
        create: bool,
    ) -> Learnt {
        let found = self.find(interface, addr);
        let Some(at) = found.or_else(|| {
            if create {
                self.create(core, interface, addr, List::Unused)
            } else {
                None
            }
        }) else {
            return Learnt::default();
        };
        let Some(entry) = self.entries.at(at) else {
            return Learnt::default();
        };
        if entry.state == State::Permanent || (entry.has_mac() && entry.mac == mac) {
            return Learnt::default();
        }
        let release = (entry.state == State::Incomplete).then_some(at);
        self.learn(core, at, mac, State::Stale);
        Learnt {
            release,
            router_lost: false,
        }
    }

    /// An ARP answer, or any ARP packet whose sender is known: `answer` when it was sent to us alone, `gratuitous` when it
    /// announces. Unknown senders stay unknown.
    pub(crate) fn heard_arp(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
        mac: Mac,
        answer: bool,
        gratuitous: bool,
    ) -> Learnt {
        let now = core.now;
        let Some(at) = self.find(interface, addr) else {
            return Learnt::default();
        };
        let Some(entry) = self.entries.at(at) else {
            return Learnt::default();
        };
        if entry.state == State::Permanent {
            return Learnt::default();
        }
        let known = entry.has_mac();
        let release = (entry.state == State::Incomplete).then_some(at);
        let state = if answer {
            State::Reachable
        } else {
            State::Stale
        };
        if known && entry.mac == mac {
            if answer {
                self.reached(core, at);
            }
            return Learnt::default();
        }
        // Only a question we asked makes a nothing into a something.
        if !known && release.is_none() && !answer {
            return Learnt::default();
        }
        if known && !gratuitous && now < entry.since + ARP_LOCK {
            return Learnt::default();
        }
        self.learn(core, at, mac, state);
        Learnt {
            release,
            router_lost: false,
        }
    }

    /// A neighbour advertisement for `addr` (RFC 4861 7.2.5).
    pub(crate) fn advertised(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        addr: &Addr,
        na: Advertisement,
    ) -> Learnt {
        // "If no entry exists, the advertisement SHOULD be silently discarded."
        let Some(at) = self.find(interface, addr) else {
            return Learnt::default();
        };
        let now = core.now;
        let Some(entry) = self.entries.at_mut(at) else {
            return Learnt::default();
        };
        let router_lost = entry.router && !na.router;
        let state = match entry.state_at(now) {
            State::None | State::Failed | State::Permanent => return Learnt::default(),
            State::Incomplete => {
                // Without an address there is nothing to learn but the router flag.
                entry.router = na.router;
                let Some(mac) = na.mac else {
                    return Learnt {
                        release: None,
                        router_lost,
                    };
                };
                self.learn(
                    core,
                    at,
                    mac,
                    if na.solicited {
                        State::Reachable
                    } else {
                        State::Stale
                    },
                );
                return Learnt {
                    release: Some(at),
                    router_lost,
                };
            }
            state => state,
        };
        let differs = na.mac.is_some_and(|mac| mac != entry.mac);
        if differs && !na.overrides {
            // 7.2.5 I: someone disputes it: doubt a REACHABLE one, and otherwise do nothing, the router flag included.
            if state == State::Reachable {
                self.set(at, State::Stale, Instant::ZERO);
            }
            return Learnt::default();
        }
        entry.router = na.router;
        match (na.mac, na.solicited) {
            (Some(mac), false) if differs => self.learn(core, at, mac, State::Stale),
            (Some(mac), true) if differs => self.learn(core, at, mac, State::Reachable),
            (_, true) => self.reached(core, at),
            (_, false) => {}
        }
        Learnt {
            release: None,
            router_lost,
        }
    }

    /// RFC 4861 6.3.4, 8.3: a router advertises, or a redirect names a router: whoever that is, is one; with `false`, an RS
    /// came, which routers do not send (6.2.6).
    pub(crate) fn set_router(&mut self, interface: InterfaceId, addr: &Addr, router: bool) {
        if let Some(entry) = self
            .find(interface, addr)
            .and_then(|at| self.entries.at_mut(at))
        {
            entry.router = router;
        }
    }

    /// Those above have heard from the neighbour lately in answer to what was sent (RFC 4861 7.3.1): forward progress.
    #[inline]
    pub(crate) fn confirm(
        &mut self,
        core: &mut Core,
        id: NeighbourId,
        interface: InterfaceId,
        addr: &Addr,
    ) {
        let Some(entry) = self.entries.at_mut(id.0) else {
            return;
        };
        if entry.interface != interface || entry.addr != *addr {
            return;
        }
        if entry.state == State::Reachable
            && let Some(timing) = self.timing.get(usize::from(interface.0))
        {
            entry.fresh_until = core.now + timing.reachable;
            return;
        }
        self.reached(core, id.0);
    }

    /// Times a router advertises for the link (RFC 4861 6.3.4).
    pub(crate) fn set_times(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        reachable: Option<Duration>,
        retrans: Option<Duration>,
    ) {
        let timing = self.timing_mut(interface);
        if let Some(retrans) = retrans {
            timing.retrans = retrans;
        }
        if let Some(base) = reachable
            && base != timing.base
        {
            timing.base = base;
            timing.redrawn = Instant::FAR;
            self.reachable(core, interface);
        }
    }

    /// Confirmed now; the MAC address stays.
    fn reached(&mut self, core: &mut Core, at: u32) {
        let Some(entry) = self.entries.at(at) else {
            return;
        };
        if !matches!(
            entry.state,
            State::Reachable | State::Stale | State::Delay | State::Probe
        ) {
            return;
        }
        let (interface, list) = (entry.interface, entry.list);
        self.stop(core, at);
        let until = core.now + self.reachable(core, interface);
        self.set(at, State::Reachable, until);
        self.lists.refile(&mut self.entries, at, list);
    }

    /// Records a MAC address and enters `state`: REACHABLE or STALE.
    fn learn(&mut self, core: &mut Core, at: u32, mac: Mac, state: State) {
        self.stop(core, at);
        let Some(entry) = self.entries.at(at) else {
            return;
        };
        let interface = entry.interface;
        // Whoever was asked for is used; whoever only spoke up is not, yet.
        let list = if matches!(entry.list, List::Resolving | List::Used) {
            List::Used
        } else {
            List::Unused
        };
        let until = if state == State::Reachable {
            core.now + self.reachable(core, interface)
        } else {
            Instant::ZERO
        };
        self.lists.refile(&mut self.entries, at, list);
        let Some(entry) = self.entries.at_mut(at) else {
            return;
        };
        entry.mac = mac;
        entry.since = core.now;
        self.set(at, state, until);
    }

    fn set(&mut self, at: u32, state: State, fresh_until: Instant) {
        if let Some(entry) = self.entries.at_mut(at) {
            entry.state = state;
            entry.fresh_until = fresh_until;
        }
    }

    /// Arms the entry's timer anew; false when the wheel is full.
    fn time(&mut self, core: &mut Core, at: u32, after: Duration) -> bool {
        self.stop(core, at);
        let timer = core.arm(core.now + after, TimerKind::Neighbour, at, 0);
        if let (Some(entry), Some(timer)) = (self.entries.at_mut(at), timer) {
            entry.timer = timer;
        }
        timer.is_some()
    }

    /// Disarms the entry's timer.
    pub(super) fn stop(&mut self, core: &mut Core, at: u32) {
        if let Some(entry) = self.entries.at_mut(at)
            && entry.timer != TimerId::NONE
        {
            core.wheel
                .cancel(core::mem::replace(&mut entry.timer, TimerId::NONE));
        }
    }

    /// How long a confirmation holds: random between 0.5 and 1.5 times the base (RFC 4861 6.3.2), drawn now and then.
    fn reachable(&mut self, core: &mut Core, interface: InterfaceId) -> Duration {
        let now = core.now;
        let timing = self.timing_mut(interface);
        if timing.redrawn == Instant::FAR || now >= timing.redrawn + REDRAW {
            timing.redrawn = now;
            let base = timing.base.as_millis().min(u128::from(u32::MAX / 2)) as u32;
            timing.reachable =
                Duration::from_millis(u64::from(base / 2) + u64::from(core.rng.below(base.max(1))));
        }
        timing.reachable
    }
}

impl Entry {
    fn has_mac(&self) -> bool {
        matches!(
            self.state,
            State::Reachable | State::Stale | State::Delay | State::Probe | State::Permanent
        )
    }
}
