//! Reassembly of fragments into datagrams (RFC 791 3.2, RFC 8200 4.5, RFC 815's idea of holes turned round: runs).
//!
//! What does not live here: the checks of each fragment's own header (`input`), and what is told to the sender (`fragment`).
//!
//! Fragments are never copied: those that touch are joined into *runs*, chains of packet memory, so that fragments in any
//! common order cost a constant each.
//!
//! Invariant: runs of a datagram are disjoint, do not touch, and ascend; there are at most [`RUNS`] of them.
//! Invariant: datagrams, runs and blocks held are bounded; of the oldest datagrams one from the greediest source makes room,
//! so that a flood displaces itself.
//! Invariant: a datagram in which anything overlaps is dead: whatever of it comes until its timeout is dropped (RFC 5722 4).

mod header;
#[cfg(test)]
mod tests;

use core::time::Duration;

use base::{Chain, FlowTable, SipKey, Slab, TimerId};
use wire::Addr;

use super::InterfaceId;
use crate::context::{Core, Keep, TimerKind};
use crate::stats::{Count, Drop};

pub(super) use header::Header;

/// Linux's `ipfrag_time`.
const TIMEOUT_V4: Duration = Duration::from_secs(30);
/// RFC 8200 4.5.
const TIMEOUT_V6: Duration = Duration::from_secs(60);
/// Pieces with holes between them that one datagram may be in. 64 KiB in any order at an MTU of 552 are at most 60.
const RUNS: u16 = 64;
/// The longest datagram, headers included for IPv4 and without the first 40 bytes for IPv6.
const LONGEST: u32 = 65_535;
/// Oldest datagrams among which the one that makes room is sought.
const CANDIDATES: usize = 16;
/// Accounts of what sources hold, found by a keyed hash of the source.
const SHARES: usize = 256;
const NONE: u32 = u32::MAX;

/// Which datagram a fragment is of (RFC 791 3.2; RFC 8200 4.5, where the protocol is not part of it and is 0 here).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) src: Addr,
    pub(super) dst: Addr,
    pub(super) ident: u32,
    pub(super) protocol: u8,
    /// The link, where addresses mean something on their link only; otherwise fragments may come by several.
    pub(super) zone: u8,
}

impl Name {
    fn bytes(&self) -> [u8; 38] {
        let mut bytes = [0; 38];
        bytes[..16].copy_from_slice(&self.src.0);
        bytes[16..32].copy_from_slice(&self.dst.0);
        bytes[32..36].copy_from_slice(&self.ident.to_be_bytes());
        bytes[36] = self.protocol;
        bytes[37] = self.zone;
        bytes
    }
}

/// A fragment whose own header is in order.
#[derive(Debug)]
pub(super) struct Fragment {
    pub(super) name: Name,
    pub(super) interface: InterfaceId,
    /// Where its data stands in the datagram.
    pub(super) offset: u32,
    /// More follow.
    pub(super) more: bool,
    /// The ECN field (RFC 3168 5).
    pub(super) ecn: u8,
    /// Sent to a group.
    pub(super) group: bool,
    /// Bytes of headers before the data in `chain`, and what must be mended in them.
    pub(super) header: Header,
    /// The packet, trimmed.
    pub(super) chain: Chain,
}

/// What became of a fragment.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It waits for others, or was dropped and counted.
    Held,
    /// The datagram is complete: a packet as if it had never been cut.
    Complete(Chain),
}

/// A datagram whose time is up or that must go, with its first fragment if that had come.
#[derive(Debug)]
pub(super) struct Expired {
    pub(super) interface: InterfaceId,
    pub(super) src: Addr,
    pub(super) dst: Addr,
    pub(super) protocol: u8,
    pub(super) group: bool,
    pub(super) header_len: u16,
    pub(super) chain: Chain,
}

#[derive(Debug)]
struct Run {
    start: u32,
    end: u32,
    chain: Chain,
    next: u32,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    timer: TimerId,
    interface: InterfaceId,
    first_run: u32,
    last_run: u32,
    /// Length of the data, once the last fragment has come.
    total: Option<u32>,
    /// The headers of the first fragment, which stay in front of its data.
    header: Option<Header>,
    blocks: u32,
    fragments: u16,
    runs: u16,
    /// A bit for each value of the ECN field that was seen.
    ecn: u8,
    dead: bool,
    group: bool,
    /// The account of its source.
    share: u8,
    older: u32,
    newer: u32,
}

/// All datagrams of which fragments are held.
#[derive(Debug)]
pub(super) struct Reassembly {
    entries: Slab<Entry>,
    index: FlowTable,
    runs: Slab<Run>,
    blocks: u32,
    blocks_max: u32,
    /// Datagrams and blocks held by the sources of each account.
    shares: [u32; SHARES],
    oldest: u32,
    newest: u32,
}

impl Reassembly {
    /// Room for `datagrams` at once, which hold at most `blocks` blocks.
    pub(super) fn new(datagrams: u32, blocks: u32, key: SipKey) -> Self {
        let datagrams = datagrams.max(1);
        Self {
            entries: Slab::with_capacity(datagrams),
            index: FlowTable::with_capacity(datagrams, key),
            runs: Slab::with_capacity(datagrams.saturating_mul(16).max(u32::from(RUNS) * 2)),
            blocks: 0,
            blocks_max: blocks.max(1),
            shares: [0; SHARES],
            oldest: NONE,
            newest: NONE,
        }
    }

    /// What is held of all datagrams.
    pub(super) fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.runs.iter().map(|(_, run)| &run.chain)
    }

    /// Datagrams, runs and blocks held.
    pub(super) fn held(&self) -> (u32, u32, u32) {
        (self.entries.len(), self.runs.len(), self.blocks)
    }

    /// Takes in a fragment.
    pub(super) fn add(&mut self, core: &mut Core, fragment: Fragment) -> Outcome {
        let len = fragment.chain.len() as u32;
        let end = (fragment.offset + len).saturating_sub(u32::from(fragment.header.len));
        if end <= fragment.offset || (fragment.more && end % 8 != 0) {
            core.drop_packet(fragment.chain, Drop::FragmentMalformed);
            return Outcome::Held;
        }
        // "Ping of death": what would not fit a length field.
        if end + fragment.header.counted() > LONGEST {
            core.drop_packet(fragment.chain, Drop::FragmentTooLong);
            return Outcome::Held;
        }
        let blocks = core.pool.blocks_charged(&fragment.chain) as u32;
        let Some(at) = self.room(core, &fragment, blocks) else {
            core.drop_packet(fragment.chain, Drop::ReassemblyFull);
            return Outcome::Held;
        };
        self.insert(core, at, fragment, end, blocks)
    }

    /// The datagram's entry, made if need be, with room for one more run of `blocks` blocks.
    fn room(&mut self, core: &mut Core, fragment: &Fragment, blocks: u32) -> Option<u32> {
        if blocks > self.blocks_max || core.spare_blocks(Keep::All) == 0 {
            return None;
        }
        let hash = self.index.hash(&fragment.name.bytes());
        let named = |this: &Self| {
            this.index.find(hash, |at| {
                this.entries
                    .at(at)
                    .is_some_and(|entry| entry.name == fragment.name)
            })
        };
        let at = match named(self) {
            Some(at) => at,
            None => {
                if self.entries.is_full() {
                    self.evict(core);
                }
                self.create(core, fragment, hash)?
            }
        };
        while self.blocks + blocks > self.blocks_max || self.runs.is_full() {
            if self.evict(core) == at {
                return None;
            }
        }
        Some(at)
    }

    fn create(&mut self, core: &mut Core, fragment: &Fragment, hash: u64) -> Option<u32> {
        let share = self.index.hash(&fragment.name.src.0) as u8;
        let entry = Entry {
            name: fragment.name,
            timer: TimerId::NONE,
            interface: fragment.interface,
            first_run: NONE,
            last_run: NONE,
            total: None,
            header: None,
            blocks: 0,
            fragments: 0,
            runs: 0,
            ecn: 0,
            dead: false,
            group: fragment.group,
            share,
            older: self.newest,
            newer: NONE,
        };
        let key = self.entries.insert(entry)?;
        let at = key.index;
        let timeout = if fragment.name.src.is_v4() {
            TIMEOUT_V4
        } else {
            TIMEOUT_V6
        };
        // Without a timer it would be held until others push it out.
        let timer = core.arm(core.now + timeout, TimerKind::Reassembly, at, 0);
        if timer.is_none() || self.index.insert(hash, at).is_err() {
            core.wheel.cancel(timer.unwrap_or(TimerId::NONE));
            self.entries.remove(key);
            return None;
        }
        if let Some(entry) = self.entries.at_mut(at) {
            entry.timer = timer.unwrap_or(TimerId::NONE);
        }
        self.shares[usize::from(share)] += 1;
        match self.entries.at_mut(self.newest) {
            Some(newest) => newest.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        Some(at)
    }

    fn insert(
        &mut self,
        core: &mut Core,
        at: u32,
        mut fragment: Fragment,
        end: u32,
        blocks: u32,
    ) -> Outcome {
        let Some(entry) = self.entries.at_mut(at) else {
            core.drop_packet(fragment.chain, Drop::ReassemblyFull);
            return Outcome::Held;
        };
        if entry.dead {
            core.drop_packet(fragment.chain, Drop::FragmentOverlap);
            return Outcome::Held;
        }
        // A last fragment says where the datagram ends; nothing may say otherwise or lie beyond.
        let last = self.runs.at(entry.last_run).map_or(0, |run| run.end);
        let total = if fragment.more {
            entry.total
        } else {
            Some(end)
        };
        let moved = entry.total.is_some() && entry.total != total;
        if moved || total.is_some_and(|total| end > total || last > total) {
            return self.kill(core, at, fragment);
        }
        let (before, after) = self.neighbours(at, fragment.offset);
        match self.fits(core, before, after, &fragment, end) {
            Fit::New => {}
            Fit::Copy => {
                core.drop_packet(fragment.chain, Drop::FragmentDuplicate);
                return Outcome::Held;
            }
            Fit::Overlap => return self.kill(core, at, fragment),
        }
        let Some(entry) = self.entries.at_mut(at) else {
            core.drop_packet(fragment.chain, Drop::ReassemblyFull);
            return Outcome::Held;
        };
        entry.total = total;
        entry.ecn |= 1 << (fragment.ecn & 3);
        entry.fragments = entry.fragments.saturating_add(1);
        entry.group |= fragment.group;
        entry.blocks += blocks;
        self.blocks += blocks;
        self.shares[usize::from(entry.share)] += blocks;
        if fragment.offset == 0 {
            entry.header = Some(fragment.header);
            entry.interface = fragment.interface;
        } else {
            core.pool
                .pull_front(&mut fragment.chain, usize::from(fragment.header.len));
        }
        if !self.join(core, at, (before, after), fragment, end) {
            self.remove(core, at, Some(Drop::FragmentHoles));
            return Outcome::Held;
        }
        self.complete(core, at)
    }

    /// The last run that begins at or before `offset`, and the first that begins after it.
    fn neighbours(&self, at: u32, offset: u32) -> (u32, u32) {
        let Some(entry) = self.entries.at(at) else {
            return (NONE, NONE);
        };
        // In order, as nearly always.
        if self
            .runs
            .at(entry.last_run)
            .is_some_and(|run| run.start <= offset)
        {
            return (entry.last_run, NONE);
        }
        let (mut before, mut after) = (NONE, entry.first_run);
        while let Some(run) = self.runs.at(after)
            && run.start <= offset
        {
            (before, after) = (after, run.next);
        }
        (before, after)
    }

    /// How the fragment lies to its neighbours. What lies within a run is a copy only if its bytes say the same.
    fn fits(&self, core: &Core, before: u32, after: u32, fragment: &Fragment, end: u32) -> Fit {
        if let Some(run) = self.runs.at(before)
            && fragment.offset < run.end
        {
            if end > run.end {
                return Fit::Overlap;
            }
            // The chain of the run at 0 begins with headers.
            let headers = run.chain.len() - (run.end - run.start) as usize;
            let place = headers + (fragment.offset - run.start) as usize;
            let data = usize::from(fragment.header.len);
            return if same(&core.pool, &run.chain, place, &fragment.chain, data) {
                Fit::Copy
            } else {
                Fit::Overlap
            };
        }
        match self.runs.at(after) {
            Some(run) if end > run.start => Fit::Overlap,
            _ => Fit::New,
        }
    }

    /// Puts the fragment, which fits, between its neighbours. False when there are too many holes; it is freed then.
    fn join(
        &mut self,
        core: &mut Core,
        at: u32,
        (before, after): (u32, u32),
        fragment: Fragment,
        end: u32,
    ) -> bool {
        let start = fragment.offset;
        let mut place = before;
        match self.runs.at_mut(before) {
            Some(run) if run.end == start => {
                core.pool.append(&mut run.chain, fragment.chain);
                run.end = end;
            }
            _ => {
                let full = self.entries.at(at).is_none_or(|entry| entry.runs >= RUNS);
                let touches = self.runs.at(after).is_some_and(|run| run.start == end);
                if full && !touches {
                    core.pool.free(fragment.chain);
                    return false;
                }
                let run = Run {
                    start,
                    end,
                    chain: fragment.chain,
                    next: after,
                };
                let Some(key) = self.runs.insert_or(run, core) else {
                    return false;
                };
                place = key;
                match self.runs.at_mut(before) {
                    Some(before) => before.next = place,
                    None => self.set_ends(at, Some(place), None),
                }
                if after == NONE {
                    self.set_ends(at, None, Some(place));
                }
                if let Some(entry) = self.entries.at_mut(at) {
                    entry.runs += 1;
                }
            }
        }
        self.close_gap(core, at, place, after);
        true
    }

    /// Joins the run at `place` with the next one if they touch.
    fn close_gap(&mut self, core: &mut Core, at: u32, place: u32, after: u32) {
        let end = self.runs.at(place).map_or(NONE, |run| run.end);
        if self.runs.at(after).is_none_or(|run| run.start != end) {
            return;
        }
        let Some(next) = self.runs.remove_at(after) else {
            return;
        };
        if let Some(run) = self.runs.at_mut(place) {
            core.pool.append(&mut run.chain, next.chain);
            run.end = next.end;
            run.next = next.next;
        }
        if next.next == NONE {
            self.set_ends(at, None, Some(place));
        }
        if let Some(entry) = self.entries.at_mut(at) {
            entry.runs -= 1;
        }
    }

    fn set_ends(&mut self, at: u32, first: Option<u32>, last: Option<u32>) {
        if let Some(entry) = self.entries.at_mut(at) {
            entry.first_run = first.unwrap_or(entry.first_run);
            entry.last_run = last.unwrap_or(entry.last_run);
        }
    }

    /// Gives the datagram out if nothing is missing.
    fn complete(&mut self, core: &mut Core, at: u32) -> Outcome {
        let Some(entry) = self.entries.at(at) else {
            return Outcome::Held;
        };
        let (Some(total), Some(header), 1) = (entry.total, entry.header, entry.runs) else {
            return Outcome::Held;
        };
        let whole = |run: &Run| run.start == 0 && run.end == total;
        if !self.runs.at(entry.first_run).is_some_and(whole) {
            return Outcome::Held;
        }
        if total + header.counted() > LONGEST {
            self.remove(core, at, Some(Drop::FragmentTooLong));
            return Outcome::Held;
        }
        // RFC 3168 5.3: congestion met by one fragment was met by the datagram, but not if another was not ECN-capable.
        const NOT_ECT: u8 = 1;
        const CE: u8 = 1 << 3;
        if entry.ecn & (NOT_ECT | CE) == NOT_ECT | CE {
            self.remove(core, at, Some(Drop::FragmentEcn));
            return Outcome::Held;
        }
        let congested = entry.ecn & CE != 0;
        let mut chain = match self.runs.at_mut(entry.first_run) {
            Some(run) => run.chain.take(),
            None => Chain::EMPTY,
        };
        self.remove(core, at, None);
        if !header.mend(&mut core.pool, &mut chain, total, congested) {
            core.drop_packet(chain, Drop::PoolEmpty);
            return Outcome::Held;
        }
        core.count(Count::Reassembled);
        Outcome::Complete(chain)
    }

    /// Something overlaps: nothing of this datagram is to be believed, not even what is still to come (RFC 5722 4).
    #[cold]
    fn kill(&mut self, core: &mut Core, at: u32, fragment: Fragment) -> Outcome {
        core.drop_packet(fragment.chain, Drop::FragmentOverlap);
        let fragments = self.free_runs(core, at);
        core.stats
            .drops
            .add_n(Drop::FragmentOverlap, u64::from(fragments));
        if let Some(entry) = self.entries.at_mut(at) {
            entry.dead = true;
        }
        Outcome::Held
    }

    /// Frees what is held of a datagram; returns of how many fragments.
    fn free_runs(&mut self, core: &mut Core, at: u32) -> u16 {
        let Some(entry) = self.entries.at_mut(at) else {
            return 0;
        };
        let blocks = core::mem::take(&mut entry.blocks);
        self.blocks -= blocks;
        self.shares[usize::from(entry.share)] -= blocks;
        entry.header = None;
        entry.runs = 0;
        entry.last_run = NONE;
        let fragments = core::mem::take(&mut entry.fragments);
        let mut run = core::mem::replace(&mut entry.first_run, NONE);
        while let Some(gone) = self.runs.remove_at(run) {
            core.pool.free(gone.chain);
            run = gone.next;
        }
        fragments
    }

    /// Forgets a datagram; its fragments are counted as dropped for `reason`.
    fn remove(&mut self, core: &mut Core, at: u32, reason: Option<Drop>) {
        let fragments = self.free_runs(core, at);
        if let Some(reason) = reason {
            core.stats.drops.add_n(reason, u64::from(fragments));
        }
        let Some(entry) = self.entries.remove_at(at) else {
            return;
        };
        core.wheel.cancel(entry.timer);
        self.shares[usize::from(entry.share)] -= 1;
        self.index.remove(self.index.hash(&entry.name.bytes()), at);
        match self.entries.at_mut(entry.older) {
            Some(older) => older.newer = entry.newer,
            None => self.oldest = entry.newer,
        }
        match self.entries.at_mut(entry.newer) {
            Some(newer) => newer.older = entry.older,
            None => self.newest = entry.older,
        }
    }

    /// Makes room: of the few oldest datagrams, that whose source holds most goes. Returns which it was.
    #[cold]
    fn evict(&mut self, core: &mut Core) -> u32 {
        let (mut victim, mut most) = (self.oldest, 0);
        let mut at = self.oldest;
        for _ in 0..CANDIDATES {
            let Some(entry) = self.entries.at(at) else {
                break;
            };
            let held = self.shares[usize::from(entry.share)];
            if held > most {
                (victim, most) = (at, held);
            }
            at = entry.newer;
        }
        self.remove(core, victim, Some(Drop::ReassemblyFull));
        victim
    }

    /// A datagram's time is up. Gives it back if its first fragment had come, for its sender is told then.
    pub(super) fn on_timer(&mut self, core: &mut Core, at: u32) -> Option<Expired> {
        let entry = self.entries.at_mut(at)?;
        entry.timer = TimerId::NONE;
        let mut expired = None;
        if let Some(header) = entry.header
            && let Some(run) = self.runs.at_mut(entry.first_run)
        {
            expired = Some(Expired {
                interface: entry.interface,
                src: entry.name.src,
                dst: entry.name.dst,
                protocol: header.protocol,
                group: entry.group,
                header_len: header.len,
                chain: run.chain.take(),
            });
        }
        self.remove(core, at, Some(Drop::ReassemblyTimeout));
        expired
    }
}

/// How a fragment lies to those that are there.
enum Fit {
    New,
    Copy,
    Overlap,
}

/// Whether all bytes of `b` from `from_b` on stand in `a` from `from_a` on.
fn same(pool: &base::Pool, a: &Chain, mut from_a: usize, b: &Chain, mut from_b: usize) -> bool {
    let (mut x, mut y) = ([0; 256], [0; 256]);
    loop {
        let n = pool.copy_out(b, from_b, &mut y);
        if n == 0 {
            return true;
        }
        if pool.copy_out(a, from_a, &mut x[..n]) != n || x[..n] != y[..n] {
            return false;
        }
        from_a += n;
        from_b += n;
    }
}

/// Runs own chains, which must not be lost when there is no slot.
trait InsertRun {
    fn insert_or(&mut self, run: Run, core: &mut Core) -> Option<u32>;
}

impl InsertRun for Slab<Run> {
    fn insert_or(&mut self, run: Run, core: &mut Core) -> Option<u32> {
        if self.is_full() {
            core.pool.free(run.chain);
            return None;
        }
        self.insert(run).map(|key| key.index)
    }
}
