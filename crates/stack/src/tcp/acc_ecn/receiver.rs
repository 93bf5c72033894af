//! The receiving side of accurate ECN: counts what comes with which mark, and says so in each segment (RFC 9768 3.2.2.2, 3.2.2.5.1,
//! 3.2.3.3).
//!
//! What does not live here: what the peer says (`sender`).

use wire::tcp::{AccEcn as AccEcnOption, Flags, MAX_OPTIONS_LEN, Options};

use crate::context::Core;
use crate::tcp::conn::Conn;
use crate::tcp::record::{NONE, flag};
use crate::tcp::segment::Segment;

use super::{AccEcn, CE, ECT_0, ECT_1, bit};

/// Bytes of segments that are kept for the option: three fields.
const RESERVE: u8 = AccEcnOption::padded_len(3) as u8;
/// So many marks since the last ACK cause one, with data and without (RFC 9768 3.2.2.5.1).
const MARKS_OF_DATA: u8 = 2;
const MARKS: u8 = 3;
/// Counters are told before they have moved on by so much (RFC 9768 3.2.3.3).
const OVERFLOW: u32 = 1 << 22;
/// Blocks of SACK that the option leaves room for in any case, if there are as many (RFC 9768 3.2.3.3).
const BLOCKS: usize = 2;

impl AccEcn {
    /// The byte counters in the order they are sent in.
    fn bytes(&self) -> [u32; 3] {
        let r = &self.received;
        [r.e1b, r.ceb, r.e0b]
    }

    /// How many fields an option must have to say all that has changed since the last (RFC 9768 3.2.3.3).
    fn needed(&self) -> u8 {
        let now = self.bytes();
        let changed = (0..3).rev().find(|&at| now[at] != self.reported[at]);
        changed.map_or(0, |at| at as u8 + 1)
    }

    /// Whether an option is due when it is sent no more often than it must be (RFC 9768 3.2.3.3).
    fn must_say(&self, core: &Core, rtt: u32) -> bool {
        if self.is(bit::CHANGED | bit::REPEAT) || self.received.ceb != self.reported[1] {
            return true;
        }
        let news = self.bytes().into_iter().zip(self.reported);
        let most = news.map(|(now, then)| now.wrapping_sub(then)).max();
        let silent = (core.now.micros() as u32).wrapping_sub(self.reported_at);
        let often = rtt.checked_div(core.tcp.ecn_option_beacon);
        match most.unwrap_or(0) {
            0 => false,
            bytes => bytes >= OVERFLOW || often.is_some_and(|often| silent >= often),
        }
    }
}

/// How many fields find room beside so many blocks of SACK when there are `room` bytes for both, without hurt to what counts more:
/// two blocks, then counters that have changed, then the other blocks, then the other counters.
fn fields(room: usize, blocks: usize, needed: u8) -> Option<u8> {
    let beside = |blocks: usize| {
        let sack = if blocks == 0 { 0 } else { 4 + 8 * blocks };
        AccEcnOption::fitting(room.checked_sub(sack)?)
    };
    let most = blocks.min(room.saturating_sub(4) / 8);
    if needed == 0 {
        return beside(most);
    }
    (most.min(BLOCKS)..=most)
        .rev()
        .find_map(|blocks| beside(blocks).filter(|&fields| fields >= needed))
}

impl Conn<'_> {
    /// An acceptable segment has come.
    pub(in crate::tcp) fn count_marks(&mut self, seg: &Segment) {
        let Some(a) = &mut self.acc_ecn else {
            return;
        };
        if seg.has(Flags::SYN) {
            return;
        }
        let counter = match seg.ecn {
            ECT_1 => &mut a.received.e1b,
            ECT_0 => &mut a.received.e0b,
            CE => &mut a.received.ceb,
            _ => &mut 0,
        };
        *counter = counter.wrapping_add(seg.len);
        if a.is(bit::DUPLICATE) && seg.len > 0 && seg.seq == a.duplicate {
            // What the report of it was to prevent: ACKs with the option do not get there (RFC 9768 3.2.3.2.2). But numbers come
            // round again, in order.
            let known = seg.end().le(self.tcb.rcv_nxt) || self.act.ooo != NONE;
            a.bits |= if known { bit::FAILED } else { 0 };
        }
        let was = core::mem::replace(&mut a.last_mark, seg.ecn);
        if seg.len > 0 && core::mem::replace(&mut a.last_data, seg.ecn) != seg.ecn {
            a.bits |= bit::CHANGED;
        }
        if seg.ecn != CE {
            return;
        }
        let segments = seg.len.div_ceil(seg.unit.max(1)).max(1);
        a.received.cep = a.received.cep.wrapping_add(segments);
        a.unsaid = a.unsaid.saturating_add(segments.min(7) as u8);
        let often = if seg.len > 0 { MARKS_OF_DATA } else { MARKS };
        if a.unsaid >= often || (was != CE && seg.len > 0) {
            self.tcb.ack_now();
        }
    }

    /// What a segment that leaves says; returns the bits of its IP header. `again`: its data was sent before.
    pub(in crate::tcp) fn speak_accurately(
        &mut self,
        core: &Core,
        (flags, options): (&mut Flags, &mut Options),
        (data, again): (bool, bool),
    ) -> u8 {
        let ranges = self.must_report_ranges();
        let said = self.reflect(!data && !ranges);
        let option = self.option_to_send(core, options, (data, again));
        let duplicate = self.act.owes_dsack().then_some(self.act.dsack.0);
        let sack = self.tcb.has(flag::SACK);
        let Some(a) = &mut self.acc_ecn else {
            return 0;
        };
        let counter = Flags((a.received.cep as u16 & 7) << 6);
        *flags |= said.unwrap_or(counter);
        a.unsaid = 0;
        if let Some(fields) = option {
            let bytes = a.bytes();
            options.acc_ecn = Some(AccEcnOption::new(true, &bytes[..usize::from(fields)]));
            // RFC 9768 3.2.3.3: a change is said twice, should the first be lost.
            let changed = a.is(bit::CHANGED);
            a.bits &= !(bit::CHANGED | bit::REPEAT);
            if changed {
                a.bits |= bit::REPEAT;
            }
            a.reported = bytes;
            a.reported_at = core.now.micros() as u32;
            if let Some(start) = duplicate {
                (a.duplicate, a.bits) = (start, a.bits | bit::DUPLICATE);
            }
        }
        // RFC 9768 3.2.2.5.1: without SACK a bare ACK that answers a mark would be taken for a duplicate.
        if a.is(bit::NOT_ECT) || !(data || sack) {
            0
        } else {
            ECT_0
        }
    }

    /// How many fields the option of a segment has; `None`: it has no option.
    fn option_to_send(
        &self,
        core: &Core,
        options: &Options,
        (data, again): (bool, bool),
    ) -> Option<u8> {
        let a = self.acc_ecn.as_ref()?;
        // RFC 9768 3.2.3.2.2: as long as no data with it has arrived, data is not sent again with it.
        if !a.sends_option(&core.tcp) || (again && !a.is(bit::PROVEN)) {
            return None;
        }
        // The lengths that a search for the path MTU tries do not reckon with it.
        if data && self.search.is_some() {
            return None;
        }
        let needed = a.needed();
        if core.tcp.ecn_option == 1 && !a.must_say(core, self.tcb.srtt >> 3) {
            return None;
        }
        let blocks = if self.must_report_ranges() {
            self.ranges_to_report()
        } else {
            0
        };
        fields(MAX_OPTIONS_LEN - options.buffer_len(), blocks, needed)
    }

    /// The option can be sent from now on: segments are shorter by it.
    pub(super) fn reserve_option(&mut self, core: &Core) {
        if let Some(a) = self.acc_ecn.as_mut()
            && a.reserve == 0
            && core.tcp.ecn_option != 0
        {
            a.reserve = RESERVE;
            self.tcb.mss = self.tcb.mss.saturating_sub(u16::from(RESERVE)).max(36);
        }
    }

    /// Whether a device that cuts super-frames would spoil the counter: only the first piece keeps CWR, as RFC 3168 wants it.
    #[inline]
    pub(in crate::tcp) fn counter_has_cwr(&self) -> bool {
        self.acc_ecn
            .as_ref()
            .is_some_and(|a| a.received.cep & 2 != 0)
    }
}

#[cfg(test)]
mod tests {
    use base::Seq;

    use crate::tcp::conn_tests::{Bench, segment};

    use super::*;

    /// RFC 9768 3.2.3.2.2: what comes again though it was reported, and what has its number 4 GiB later.
    #[test]
    fn a_number_that_comes_round_is_no_duplicate() {
        for (seq, failed) in [(900, true), (1000, false)] {
            let mut a = AccEcn::new(bit::SEEN | bit::DUPLICATE, 0);
            a.duplicate = Seq(seq);
            let mut bench = Bench::new(1000);
            let mut conn = bench.conn();
            conn.acc_ecn = Some(&mut a);
            conn.count_marks(&segment(Seq(seq), 100));
            assert_eq!(a.is(bit::FAILED), failed);
        }
    }

    #[test]
    fn counters_share_their_room_with_sack() {
        // Without timestamps 40 bytes, with them 28.
        assert_eq!(fields(40, 0, 0), Some(3));
        assert_eq!(fields(40, 3, 3), Some(3));
        assert_eq!(fields(40, 4, 3), Some(3), "one block less");
        assert_eq!(fields(40, 4, 0), Some(0), "nothing new to say");
        assert_eq!(fields(28, 1, 0), Some(3));
        assert_eq!(fields(28, 2, 1), Some(2));
        assert_eq!(fields(28, 3, 2), Some(2), "one block less");
        assert_eq!(fields(28, 3, 3), None, "two blocks count more");
        assert_eq!(fields(28, 3, 0), None);
        assert_eq!(fields(0, 0, 0), None);
    }
}
