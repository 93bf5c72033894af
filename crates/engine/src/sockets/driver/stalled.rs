//! Sockets to be looked at again although nothing will tell.
//!
//! Invariant: a socket is on the list once, however often it stalls, so that sockets bound the list.

use std::collections::HashSet;

#[derive(Debug, Default)]
pub(super) struct Stalled {
    /// In the order in which they stalled.
    tokens: Vec<u64>,
    known: HashSet<u64>,
}

impl Stalled {
    pub(super) fn push(&mut self, token: u64) {
        if self.known.insert(token) {
            self.tokens.push(token);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// All of them; those that stall again are put back.
    pub(super) fn take(&mut self) -> Vec<u64> {
        self.known.clear();
        std::mem::take(&mut self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stalls_again_and_again_is_looked_at_once() {
        let mut stalled = Stalled::default();
        for round in 0..3 {
            assert!(stalled.is_empty(), "{round}");
            for token in [7, 8, 7, 9, 8, 7] {
                stalled.push(token);
            }
            assert_eq!(stalled.take(), [7, 8, 9]);
        }
    }
}
