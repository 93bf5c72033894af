//! Listeners that share an address and port (SO_REUSEPORT): which of them a segment is for, and who inherits what waits at one
//! that is closed (Linux's `tcp_migrate_req`).
//!
//! What does not live here: the ways to choose (`reuseport`), what a listener does with a segment (`listen`).
//!
//! Invariant: the table of listeners has one entry for each address and port: the group's, by one of its members.

use core::time::Duration;

use base::{Chain, Instant};
use wire::Addr;

use crate::context::Core;
use crate::error::SocketError;
use crate::net::{InterfaceId, Net};
use crate::reuseport::{Group, Tuple, View};
use crate::socket::{SocketId, SocketKind};
use crate::stats::Count;

use super::Tcp;
use super::cookie;
use super::listen::Listener;
use super::record::{NONE, flag};
use super::segment::{Segment, flow_bytes};

/// Listeners with one address and port.
#[derive(Debug, Default)]
pub(super) struct Share {
    group: Group,
    /// Until then an ACK may carry a cookie of one of them.
    cookies_until: Instant,
    terms: Terms,
}

/// What the members' SYN-ACKs say of their windows. An ACK with a cookie may be for another member than the SYN was: by a program, or
/// because somebody came or went. As on Linux the connection has the options of who gets the ACK; the window and its shift are what was
/// said. For that to be known all must say the same, or no shift.
#[derive(Debug, Default)]
struct Terms {
    uneven: bool,
    /// The most that any of them offers, or has offered by a cookie that is good still.
    most: u32,
    /// Until then it is not known of a stamp whether it is from before the last change.
    blurred_until: Instant,
}

/// A segment as far as it says which listener it is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) remote: (Addr, u16),
    pub(super) local: (Addr, u16),
    /// Of the tuple.
    pub(super) hash: u64,
    /// What is at hand of the payload, in front of which no headers are left, and how much there is of it; `None` for what is no segment.
    pub(super) data: Option<(&'a [u8], usize)>,
    /// The interface by which it counts as having come, if that is known.
    pub(super) came_by: Option<InterfaceId>,
}

impl<'a> Caller<'a> {
    pub(super) fn of(core: &'a Core, net: &Net, seg: &Segment, data: &Chain) -> Self {
        Self {
            remote: (seg.src, seg.src_port),
            local: (seg.dst, seg.dst_port),
            hash: seg.hash,
            data: Some((core.pool.first(data), seg.len as usize)),
            came_by: Some(net.came_by(seg.interface, &seg.dst)),
        }
    }

    fn view(&self, shard: usize) -> View<'a> {
        let ends = |(addr, port): (Addr, u16)| (addr.to_ip(), port).into();
        View {
            tuple: Tuple {
                local: ends(self.local),
                remote: ends(self.remote),
            },
            hash: self.hash,
            data: self.data,
            core: shard,
        }
    }
}

impl Tcp {
    /// When the oldest came of those that a listener shares its address with.
    pub(super) fn since(&self, l: &Listener) -> u64 {
        self.shares.at(l.share).map_or(0, |s| s.group.since())
    }

    /// Of the listeners that share an address with `listener` the one a segment is for.
    #[inline]
    pub(super) fn one_of(&self, listener: u32, caller: &Caller<'_>) -> u32 {
        match self.listeners.at(listener) {
            Some(l) if l.share != NONE => self.member_of(l.share, caller).unwrap_or(listener),
            _ => listener,
        }
    }

    #[cold]
    fn member_of(&self, share: u32, caller: &Caller<'_>) -> Option<u32> {
        self.shares.at(share)?.group.pick(&caller.view(self.shard))
    }

    /// Enters a new listener into the group of `found`, which has its address and port, or makes one.
    ///
    /// # Errors
    /// `NoMemory` when the group is full.
    pub(super) fn join_share(&mut self, index: u32, found: Option<u32>) -> Result<(), SocketError> {
        let found = found.and_then(|other| self.listeners.at(other));
        let share = match found {
            Some(other) => other.share,
            None => {
                let fresh = self.shares.insert(Share::default());
                fresh.ok_or(SocketError::NoBuffers)?.index
            }
        };
        let record = self.shares.at_mut(share).ok_or(SocketError::AddrInUse)?;
        self.came += 1;
        record.group.join(index, self.came)?;
        if let Some(l) = self.listeners.at_mut(index) {
            l.share = share;
        }
        Ok(())
    }

    /// Takes a listener out of its group; one of those that stay, if any does.
    pub(super) fn leave_share(&mut self, index: u32) -> Option<u32> {
        let share = self.listeners.at_mut(index)?;
        let share = core::mem::replace(&mut share.share, NONE);
        let record = self.shares.at_mut(share)?;
        record.group.leave(index);
        let stays = record.group.any();
        if stays.is_none() {
            self.shares.remove_at(share);
        }
        stays
    }

    /// The group of a listener.
    ///
    /// # Errors
    /// `InvalidInput` when it was opened without the option, `BadSocket`.
    pub(crate) fn share(&mut self, id: SocketId) -> Result<&mut Group, SocketError> {
        let share = self.listener(id)?.share;
        let record = self.shares.at_mut(share);
        record
            .map(|record| &mut record.group)
            .ok_or(SocketError::InvalidInput)
    }

    /// Another listener of the group of `id`.
    pub(crate) fn another(&self, id: SocketId) -> Option<SocketId> {
        let share = self.shares.at(self.listener(id).ok()?.share)?;
        let other = share.group.members().find(|at| *at != id.index())?;
        let key = self.listeners.key_of(other)?;
        Some(SocketId::new(SocketKind::Listener, key))
    }

    /// What events carry of the listener in the group of `id` that a connection belongs to.
    pub(crate) fn token_of_member(
        &self,
        id: SocketId,
        remote: (Addr, u16),
        local: (Addr, u16),
    ) -> Option<u64> {
        self.listener(id).ok()?;
        let member = self.heir_of(remote, local, id.index(), |_| true)?;
        self.listeners.at(member).map(|l| l.token)
    }

    /// Until when an ACK for a listener may carry a cookie: any of its group may have sent it.
    pub(super) fn cookies_until(&self, l: &Listener) -> Instant {
        let shared = self.shares.at(l.share);
        shared.map_or(l.cookies_until, |s| s.cookies_until.max(l.cookies_until))
    }

    /// A cookie was sent that is good until then.
    pub(super) fn expect_cookies(&mut self, listener: u32, until: Instant) {
        let Some(l) = self.listeners.at_mut(listener) else {
            return;
        };
        l.cookies_until = until;
        if let Some(shared) = self.shares.at_mut(l.share) {
            shared.cookies_until = until;
        }
    }

    /// A listener offers another window than before: those it shares its address with may not offer the same any more.
    pub(super) fn terms_changed(&mut self, core: &Core, listener: u32) {
        let share = self.listeners.at(listener).map_or(NONE, |l| l.share);
        self.weigh_terms(core, share);
    }

    /// A listener has joined those that share the address of `found`: it may get the ACKs of cookies that say what these said, now
    /// and before.
    pub(super) fn terms_joined(&mut self, core: &Core, listener: u32, found: Option<u32>) {
        let of = |at| self.listeners.at(at);
        if let Some(l) = found.and_then(of)
            && let until = self.cookies_until(l)
            && core.now < until
        {
            let (said, mut earlier) = (l.options.window_terms(&core.tcp), l.earlier.clone());
            if let Some(l) = self.listeners.at_mut(listener) {
                if said != l.options.window_terms(&core.tcp) {
                    earlier.changed(core.now, until, said);
                }
                l.earlier = earlier;
            }
        }
        self.terms_changed(core, listener);
    }

    /// Visits the members: they come, go and change rarely, and are few.
    fn weigh_terms(&mut self, core: &Core, share: u32) {
        let Some(record) = self.shares.at(share) else {
            return;
        };
        let members = record.group.members();
        let of = |at| {
            self.listeners
                .at(at)
                .map(|l| l.options.window_terms(&core.tcp))
        };
        let (mut first, mut uneven, mut most) = (None, false, 0);
        for terms in members.filter_map(of) {
            uneven |= *first.get_or_insert(terms) != terms;
            most = most.max(terms.1);
        }
        let Some(record) = self.shares.at_mut(share) else {
            return;
        };
        let pending = core.now < record.cookies_until;
        record.terms = Terms {
            uneven,
            most: if pending {
                most.max(record.terms.most)
            } else {
                most
            },
            blurred_until: if pending {
                core.now + Duration::from_millis(cookie::BLUR_MS.into())
            } else {
                Instant::ZERO
            },
        };
    }

    /// Whether it would not be known which shift a cookie of this listener has told, by who gets its ACK.
    pub(super) fn shift_is_moot(&self, now: Instant, l: &Listener) -> bool {
        let shared = self.shares.at(l.share);
        shared.is_some_and(|s| s.terms.uneven || now < s.terms.blurred_until)
    }

    /// The largest window that a cookie of those that share an address may have offered; 0 for who shares with nobody.
    pub(super) fn granted_by_any(&self, l: &Listener) -> u32 {
        self.shares.at(l.share).map_or(0, |s| s.terms.most)
    }

    /// Moves what waits at a listener that goes to those of `heir`'s group, by the tuple, or to any that has room: established
    /// connections, and half-open ones. What finds no room stays.
    pub(super) fn migrate(&mut self, core: &mut Core, listener: u32, heir: u32) {
        let mut left = self.listeners.at(listener).map_or(0, |l| l.queued);
        while left > 0 {
            left -= 1;
            let Some(index) = self.pop_accept(listener) else {
                break;
            };
            let room = |l: &Listener| l.queued <= l.backlog;
            let to = self.conns.at(index).and_then(|tcb| {
                let (remote, here) = ((tcb.remote, tcb.remote_port), (tcb.profile, tcb.local_port));
                self.heir_with(remote, here, heir, room)
            });
            core.count(moved(to.is_some()));
            let to = to.unwrap_or(listener);
            if let Some(tcb) = self.conns.at_mut(index) {
                tcb.flags |= flag::UNACCEPTED;
                tcb.token = u64::from(to);
            }
            self.enqueue_accept(to, index);
        }
        for index in self.halves_of(listener) {
            let room = |l: &Listener| l.half_open <= l.backlog;
            let to = self.halves.at(index).and_then(|h| {
                let (remote, here) = ((h.remote, h.remote_port), (h.profile, h.local_port));
                self.heir_with(remote, here, heir, room)
            });
            core.count(moved(to.is_some()));
            let (Some(to), Some(h)) = (to, self.halves.at_mut(index)) else {
                continue;
            };
            h.listener = to as u16;
            let young = u32::from(h.retries == 0);
            if let Some(l) = self.listeners.at_mut(to) {
                l.half_open += 1;
                l.young += young;
            }
            if let Some(l) = self.listeners.at_mut(listener) {
                l.half_open = l.half_open.saturating_sub(1);
                l.young = l.young.saturating_sub(young);
            }
        }
    }

    /// As [`Tcp::heir_of`], of what has this peer, and a profile and port here.
    fn heir_with(
        &self,
        remote: (Addr, u16),
        (profile, port): (u16, u16),
        heir: u32,
        room: impl Fn(&Listener) -> bool,
    ) -> Option<u32> {
        let local = self.profiles.get(profile).local;
        self.heir_of(remote, (local, port), heir, room)
    }

    /// The half-open connections of a listener. Closing one is rare; the table is small and bounded.
    fn halves_of(&self, listener: u32) -> Vec<u32> {
        let mine = self.halves.iter();
        let mine = mine.filter(|(_, h)| u32::from(h.listener) == listener);
        mine.map(|(key, _)| key.index).collect()
    }

    /// The listener of `heir`'s group that a tuple belongs to, or another that has room.
    fn heir_of(
        &self,
        remote: (Addr, u16),
        local: (Addr, u16),
        heir: u32,
        room: impl Fn(&Listener) -> bool,
    ) -> Option<u32> {
        let flow = flow_bytes(&remote.0, remote.1, &local.0, local.1);
        let caller = Caller {
            remote,
            local,
            hash: self.flows.hash(&flow),
            data: None,
            came_by: None,
        };
        let has_room = |at: &u32| self.listeners.at(*at).is_some_and(&room);
        let named = self.one_of(heir, &caller);
        if has_room(&named) {
            return Some(named);
        }
        let share = self.shares.at(self.listeners.at(heir)?.share)?;
        share.group.members().find(has_room)
    }

    /// Resets the connections that wait at a listener, and forgets the half-open ones.
    pub(super) fn refuse_waiting(&mut self, core: &mut Core, net: &mut Net, listener: u32) {
        while let Some(index) = self.pop_accept(listener) {
            self.abort_at(core, net, index);
        }
        for index in self.halves_of(listener) {
            self.forget_half_open(core, index);
        }
    }

    /// Listeners less those that are found by way of another, for the audit.
    pub(super) fn addresses_listened(&self) -> u32 {
        let alone = self.listeners.iter().filter(|(_, l)| l.share == NONE);
        alone.count() as u32 + self.shares.len()
    }
}

fn moved(moved: bool) -> Count {
    match moved {
        true => Count::TcpMigrateReqSuccess,
        false => Count::TcpMigrateReqFailure,
    }
}
