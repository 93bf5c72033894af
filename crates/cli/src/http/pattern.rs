//! The bytes `/bytes/N` sends: a fixed pattern any client can check, made without being made again.
//!
//! What does not live here: the routes that send it and the digests of what was received (`http`).
//!
//! Invariant: the pattern of N bytes is a prefix of the pattern of any longer length.
//! Invariant: the period is a prime, so a piece that arrives shifted by whole segments, blocks or pages never matches.

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sha2::{Digest, Sha256};

/// After so many bytes the pattern starts again: the largest prime below 2^20.
pub(crate) const PERIOD: usize = 1_048_573;

/// Bytes handed to the connection at once; a reference, not a copy.
const SLICE: usize = 256 * 1024;

/// One period of the pattern, made on first use and shared by all.
pub(crate) fn block() -> &'static Bytes {
    static BLOCK: OnceLock<Bytes> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = Vec::with_capacity(PERIOD + 8);
        while block.len() < PERIOD {
            // xorshift64: any full-period generator would do, this one fits in a line on the other side too.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        block.truncate(PERIOD);
        Bytes::from(block)
    })
}

/// The bytes of the pattern from `offset` on, as far as the period and `most` allow; empty only when `most` is 0.
pub(crate) fn slice_at(offset: u64, most: u64) -> Bytes {
    let start = (offset % PERIOD as u64) as usize;
    let len = (PERIOD - start)
        .min(SLICE)
        .min(usize::try_from(most).unwrap_or(usize::MAX));
    block().slice(start..start + len)
}

/// Continues a hash of the first `from` bytes to the first `to`.
pub(crate) fn extend(mut hasher: Sha256, from: u64, to: u64) -> Sha256 {
    let mut at = from;
    while at < to {
        let piece = slice_at(at, to - at);
        hasher.update(&piece);
        at += piece.len() as u64;
    }
    hasher
}

/// A finished hash in lower-case hex.
pub(crate) fn hex(hasher: Sha256) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A response body of `len` bytes of the pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    sent: u64,
    len: u64,
}

impl Pattern {
    /// The first `len` bytes.
    pub(crate) fn new(len: u64) -> Self {
        Self { sent: 0, len }
    }
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let left = self.len - self.sent;
        if left == 0 {
            return Poll::Ready(None);
        }
        let piece = slice_at(self.sent, left);
        self.sent += piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.len
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len - self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_is_prime() {
        assert!(
            (2..)
                .take_while(|d| d * d <= PERIOD)
                .all(|d| !PERIOD.is_multiple_of(d))
        );
    }

    #[test]
    fn slices_join_to_one_cyclic_stream() {
        let len = 3 * PERIOD as u64 + 17;
        let mut joined = Vec::new();
        while (joined.len() as u64) < len {
            let piece = slice_at(joined.len() as u64, len - joined.len() as u64);
            assert!(!piece.is_empty());
            joined.extend_from_slice(&piece);
        }
        assert_eq!(joined.len() as u64, len);
        for (at, byte) in joined.iter().enumerate() {
            assert_eq!(*byte, block()[at % PERIOD]);
        }
        let whole = hex(Sha256::new_with_prefix(&joined));
        assert_eq!(hex(extend(Sha256::new(), 0, len)), whole);
        let half = extend(Sha256::new(), 0, len / 2);
        assert_eq!(hex(extend(half, len / 2, len)), whole);
    }

    #[test]
    fn the_pattern_never_changes() {
        // Whoever kept a digest from an earlier version may rely on it.
        let first = hex(extend(Sha256::new(), 0, 1_000_000));
        assert_eq!(
            first,
            "ad3f9fc3c88a2becf62c4068d0b1a8b6b90174c52f9f6d48c15c788577b1cadd"
        );
        assert_eq!(slice_at(0, 8).to_vec(), first_word().to_le_bytes());
    }

    fn first_word() -> u64 {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        state ^= state << 13;
        state ^= state >> 7;
        state ^ (state << 17)
    }
}
