//! Where frames ended: what left in one goes again in one, and what left in two never does (as Linux, whose buffers keep their
//! bounds through a repair).
//!
//! A node remembers one place where a frame began, and how long that frame was, for all of its frames: of unlike ones the longest.
//!
//! What does not live here: what goes again, and when (`again`).

use base::Seq;

use super::Sent;

/// The frames of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frames {
    /// Where one began; perhaps no longer in the node.
    origin: Seq,
    /// Bytes in it.
    len: u16,
}

impl Frames {
    pub(super) fn one(start: Seq, len: u32) -> Self {
        Self {
            origin: start,
            len: u16::try_from(len).unwrap_or(u16::MAX),
        }
    }

    /// Another frame goes with these. What is left of whole segments is no matter: nothing follows it.
    pub(super) fn join(&mut self, (start, end): (Seq, Seq), unit: u32) {
        let len = end.dist(start);
        self.merge(Self::one(start, len - len % unit.max(1)));
    }

    pub(super) fn merge(&mut self, other: Self) {
        if other.len > self.len {
            *self = other;
        }
    }

    /// The first end of a frame that is `least` or more behind `start`.
    fn end(&self, start: Seq, least: u32) -> Seq {
        let len = u32::from(self.len.max(1));
        let from = start + least;
        let over = if from.ge(self.origin) {
            (len - from.dist(self.origin) % len) % len
        } else {
            self.origin.dist(from) % len
        };
        from + over
    }
}

impl Sent {
    /// Where what is sent again from the start of this node ends: with the frame it was in, but a segment is in it at least.
    pub(super) fn frame_end(&self, mss: u32) -> Seq {
        self.frames.end(self.start, mss).min(self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_frames_are_found_on_both_sides_of_the_one_remembered() {
        for origin in [100_000, 5, u32::MAX - 10] {
            let origin = Seq(origin);
            let back = |by: u32| Seq(origin.0.wrapping_sub(by));
            let mut frames = Frames::one(origin, 3000);
            for start in [back(6000), back(3000), origin, origin + 3000] {
                assert_eq!(frames.end(start, 1000), start + 3000);
                assert_eq!(frames.end(start + 1000, 1000), start + 3000);
                assert_eq!(frames.end(start + 2000, 1000), start + 3000);
                assert_eq!(frames.end(start + 2001, 1000), start + 6000);
            }
            frames.join((origin + 3000, origin + 4500), 1000);
            assert_eq!(frames, Frames::one(origin, 3000));
            frames.join((origin + 3000, origin + 7500), 1000);
            assert_eq!(frames, Frames::one(origin + 3000, 4000));
            assert_eq!(frames.end(origin + 3000, 1000), origin + 7000);
            assert_eq!(frames.end(origin, 1000), origin + 3000);
        }
    }
}
