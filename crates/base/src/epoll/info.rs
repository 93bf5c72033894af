//! What tools are told of sets.
//!
//! What does not live here: what is done with it.

use super::{Epoll, SetId};

/// One set in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetInfo {
    /// Sources it watches.
    pub watched: u32,
    /// Those of them that may be ready: something has happened to them, and nobody has been told.
    pub ready: u32,
    /// Callers that wait for it.
    pub waiters: u32,
}

impl Epoll {
    /// Sets and items there are, for tools and leak tests.
    pub fn occupancy(&self) -> (u32, u32) {
        (self.sets.len(), self.items.len())
    }

    /// A set in numbers; `None` when it is gone. Costs the same however much there is.
    pub fn info(&self, set: SetId) -> Option<SetInfo> {
        let set = self.sets.get(set.0)?;
        Some(SetInfo {
            watched: set.watched,
            ready: set.listed,
            waiters: set.waiting + set.woken,
        })
    }
}
