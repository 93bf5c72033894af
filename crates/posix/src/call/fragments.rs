//! Where segments of a zero-copy write end (MSG_ZEROCOPY). Linux lets a segment stand for at most 17 pieces of a writer's memory
//! (MAX_SKB_FRAGS), pushes one that has as many, and begins another. Bytes are copied here all the same, but who writes many small
//! pieces finds on the wire what he would find there.
//!
//! What does not live here: writing itself (`send`), completions (`notice`).

use std::io::IoSlice;

/// The unit memory is lent in; a piece that lies in two counts twice.
const PAGE: usize = 4096;
/// Pieces of memory that make one segment.
const MOST: usize = 17;
/// Whole pages fill the longest frame before their number counts.
const LONG: usize = 60 * 1024;

/// The segment that is being filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragments {
    left: usize,
    bytes: usize,
}

impl Fragments {
    pub(super) const NEW: Self = Self {
        left: MOST,
        bytes: 0,
    };

    /// How many bytes of `piece` go into the segment, and what comes of it; `None`: it is full with them.
    pub(super) fn take(self, piece: &IoSlice<'_>, from: usize) -> (usize, Option<Self>) {
        let rest = &piece[from.min(piece.len())..];
        let into = rest.as_ptr() as usize % PAGE;
        let fits = (self.left * PAGE - into).min(rest.len());
        let bytes = self.bytes + fits;
        if bytes >= LONG {
            return (rest.len(), Some(Self::NEW));
        }
        let left = self.left - (into + fits).div_ceil(PAGE);
        let next = (left > 0).then_some(Self { left, bytes });
        (fits, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the segments that pieces are cut to.
    fn cut(pieces: &[&[u8]]) -> Vec<usize> {
        let (mut cuts, mut own, mut now) = (Vec::new(), 0, Fragments::NEW);
        for piece in pieces {
            let piece = IoSlice::new(piece);
            let mut from = 0;
            while from < piece.len() {
                let (len, next) = now.take(&piece, from);
                assert!(len > 0 && from + len <= piece.len());
                (own, from) = (own + len, from + len);
                if next.is_none() {
                    cuts.push(core::mem::take(&mut own));
                }
                now = next.unwrap_or(Fragments::NEW);
            }
        }
        cuts.push(own);
        cuts
    }

    #[test]
    fn a_segment_stands_for_seventeen_pieces_of_memory() {
        let memory = vec![0; 512 * 1024];
        let start = memory.as_ptr().align_offset(PAGE);
        let pages = &memory[start..];
        let bytes: Vec<&[u8]> = pages
            .chunks(PAGE / 4)
            .map(|quarter| &quarter[..1])
            .collect();
        assert_eq!(cut(&bytes[..17]), [17, 0]);
        assert_eq!(cut(&bytes[..18]), [17, 1]);
        assert_eq!(cut(&bytes[..64]), [17, 17, 17, 13]);
        // Two bytes in two pages are two pieces.
        let between: Vec<&[u8]> = (1..20).map(|n| &pages[n * PAGE - 1..][..2]).collect();
        assert_eq!(cut(&between), [17, 17, 4]);
        // Memory in one piece is cut by its length alone.
        assert_eq!(cut(&[&pages[1..200_000]]), [199_999]);
        let whole: Vec<&[u8]> = pages.chunks(PAGE).take(100).collect();
        assert_eq!(cut(&whole), [100 * PAGE]);
    }
}
