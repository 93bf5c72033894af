//! The sending side of accurate ECN: what the peer says arrived marked (RFC 9768 3.2.2.2, 3.2.2.5.2, 3.2.3.1, appendix A).
//!
//! What does not live here: the answer to marks (`tcp::ecn`).

use wire::tcp::AccEcn as AccEcnOption;

use crate::context::Core;
use crate::tcp::conn::Conn;
use crate::tcp::record::flag;
use crate::tcp::segment::Segment;
use crate::tcp::sent::Delivery;

use super::{AccEcn, BEGIN, Counters, ace, bit};

/// The counter in the header is modulo this.
const DIVACE: u32 = 8;
/// ACKs of so many segments on average are the rule, not a sign of ACKs that went missing.
const THINNED: u16 = 4;

/// What an ACK says of marks: the segments and bytes of its news that were marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::tcp) struct Marks {
    pub(in crate::tcp) segments: u32,
    pub(in crate::tcp) bytes: u32,
}

/// By how much a counter of 24 bits has grown; one that seems to have shrunk has not.
fn growth(said: Option<u32>, known: u32) -> u32 {
    let news = said.map_or(0, |said| said.wrapping_sub(known) & 0xff_ffff);
    if news < 1 << 23 { news } else { 0 }
}

/// Whether the counters of an option are those of an ACK sent before others that were heard: some are behind, none ahead.
fn is_old(option: &AccEcnOption, known: &Counters) -> bool {
    let fields = [
        (option.e0b(), known.e0b),
        (option.ceb(), known.ceb),
        (option.e1b(), known.e1b),
    ];
    let behind = |&(said, known): &(Option<u32>, u32)| said.is_some_and(|s| s != known & 0xff_ffff);
    fields.iter().any(behind) && fields.iter().all(|&(said, known)| growth(said, known) == 0)
}

impl AccEcn {
    /// How many segments were marked, of `acked` that arrived; `ceb`: of how many bytes, if the option says so.
    fn newly_marked(&mut self, said: u8, acked: u32, (ceb, mss): (Option<u32>, u32)) -> u32 {
        let least = u32::from(said).wrapping_sub(self.delivered.cep) % DIVACE;
        if acked > 0 {
            let sample = acked.min(1 << 12) as u16 * 8;
            self.stretch = match self.stretch {
                0 => sample,
                known => (u32::from(known) * 7 + u32::from(sample)).div_euclid(8) as u16,
            };
        }
        if acked < DIVACE || acked < least {
            return least; // it cannot have gone round (or there are segments that are not counted: believed all the same)
        }
        // RFC 9768 3.2.2.5.2: as often as can be.
        let safest = acked - (acked - least) % DIVACE;
        match ceb {
            // So many segments at least it took.
            Some(bytes) => {
                let mut marked = least;
                while marked < safest && u64::from(marked) * u64::from(mss) < u64::from(bytes) {
                    marked += DIVACE;
                }
                marked
            }
            None if self.stretch >= THINNED * 8 => least,
            None => safest,
        }
    }

    /// Takes in the fields of an option; returns the bytes that were newly marked, if it says.
    fn take_bytes(&mut self, seg: &Segment) -> Option<u32> {
        let option = seg.options.as_ref()?.acc_ecn.as_ref()?;
        if self.is(bit::ZEROED) {
            return None;
        }
        let s = &mut self.delivered;
        s.e0b = s.e0b.wrapping_add(growth(option.e0b(), s.e0b));
        s.e1b = s.e1b.wrapping_add(growth(option.e1b(), s.e1b));
        let said = option.ceb()?;
        let news = growth(Some(said), s.ceb);
        s.ceb = s.ceb.wrapping_add(news);
        Some(news)
    }
}

impl Conn<'_> {
    /// A segment with the option says that it gets here, and may be sent, too.
    pub(super) fn see_option(&mut self, core: &Core, seg: &Segment) {
        let option = seg.options.as_ref().and_then(|o| o.acc_ecn.as_ref());
        let (Some(option), Some(a)) = (option, self.acc_ecn.as_mut()) else {
            return;
        };
        if a.is(bit::SEEN) {
            return;
        }
        a.bits |= bit::SEEN;
        if option.e0b() == Some(0) || option.e1b() == Some(0) {
            a.bits |= bit::ZEROED; // RFC 9768 3.2.3.2.4
        }
        self.reserve_option(core);
    }

    /// Reads what an ACK that was taken in says of marks. `moved`: it acknowledges more than any before.
    pub(in crate::tcp) fn hear_accurately(
        &mut self,
        core: &Core,
        seg: &Segment,
        (delivery, moved): (&Delivery, bool),
    ) -> Marks {
        self.see_option(core, seg);
        let first = self.acc_ecn.as_ref().is_some_and(|a| a.is(bit::FIRST));
        if first && self.end_handshake(core, seg, delivery.segments) {
            return Marks::default();
        }
        // RFC 9768 3.2.2.2: not what another ACK has superseded.
        let later = self.tcb.has(flag::TIMESTAMPS)
            && seg
                .timestamps
                .is_some_and(|(tsval, _)| tsval.wrapping_sub(self.tcb.ts_recent) as i32 > 0);
        let mss = u32::from(self.tcb.mss).max(1);
        let Some(a) = &mut self.acc_ecn else {
            return Marks::default();
        };
        let option = seg.options.as_ref().and_then(|o| o.acc_ecn.as_ref());
        let old = seg.ack.lt(self.tcb.snd_una)
            || option.is_some_and(|o| !a.is(bit::ZEROED) && is_old(o, &a.delivered));
        if (!moved && delivery.bytes == 0 || old) && !later {
            return Marks::default();
        }
        if delivery.bytes > 0 {
            a.bits |= bit::PROVEN;
        }
        let bytes = a.take_bytes(seg);
        let segments = a.newly_marked(ace(seg), delivery.segments, (bytes, mss));
        a.delivered.cep = a.delivered.cep.wrapping_add(segments);
        // RFC 9768 3.2.3.2.5: bytes that were marked in no segment were not marked by the network.
        let never = a.delivered.cep == BEGIN.cep && delivery.segments < DIVACE;
        if never && a.delivered.ceb != BEGIN.ceb {
            a.bits |= bit::NOT_ECT;
        }
        if a.is(bit::DEAF) || segments == 0 {
            return Marks::default();
        }
        Marks {
            segments,
            bytes: bytes
                .unwrap_or(segments.saturating_mul(mss))
                .min(delivery.bytes),
        }
    }

    /// Whether an ACK says that something was marked.
    #[inline]
    pub(in crate::tcp) fn tells_of_marks(&self, seg: &Segment) -> bool {
        self.acc_ecn.as_ref().is_some_and(|a| {
            u32::from(ace(seg)) != a.delivered.cep % DIVACE && !a.is(bit::FIRST | bit::DEAF)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(acks: &[(u8, u32)], bytes: Option<u32>) -> u32 {
        let mut a = AccEcn::new(0, 0);
        let mut last = 0;
        for &(said, acked) in acks {
            last = a.newly_marked(said, acked, (bytes, 1000));
            a.delivered.cep += last;
        }
        last
    }

    /// RFC 9768 appendix A.2.1 and A.2.2.
    #[test]
    fn a_counter_that_may_have_gone_round() {
        assert_eq!(marked(&[(5, 7)], None), 0);
        assert_eq!(marked(&[(4, 7)], None), 7);
        assert_eq!(marked(&[(5, 1), (5, 9)], None), 8, "to be safe");
        assert_eq!(marked(&[(5, 1), (7, 9)], None), 2, "nine do not hold ten");
        assert_eq!(marked(&[(5, 1), (7, 10)], None), 10);
        assert_eq!(marked(&[(5, 10)], None), 0, "ACKs are rare here");
        assert_eq!(marked(&[(5, 1), (5, 9)], Some(0)), 0, "the option knows");
        assert_eq!(marked(&[(5, 1), (6, 20)], Some(8_500)), 9);
        assert_eq!(marked(&[(6, 0)], None), 1, "a mark of an ACK");
    }

    #[test]
    fn byte_counters_wrap_and_never_shrink() {
        assert_eq!(growth(Some(5), 0xff_fffe), 7);
        assert_eq!(growth(Some(5), 0x1ff_fffe), 7);
        assert_eq!(growth(Some(0), 1), 0);
        assert_eq!(growth(None, 1), 0);
    }
}
