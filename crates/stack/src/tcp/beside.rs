//! Records that only some connections have, beside the table of connections: accounts, searches for the path MTU, accurate ECN.
//!
//! What does not live here: who has one, which a bit of the connection says, so that all others pay a comparison.
//!
//! Invariant: a connection has one record at most, and gives it back when it ends.

use base::Slab;

/// Records found by the index of a connection.
#[derive(Debug)]
pub(crate) struct Beside<T> {
    /// By connection: one more than its record's index; 0: it has none.
    of: Vec<u32>,
    records: Slab<T>,
}

impl<T> Beside<T> {
    /// Room for one each, of which nothing is touched before it is used.
    pub(super) fn new(connections: u32) -> Self {
        Self {
            of: vec![0; connections as usize],
            records: Slab::with_capacity(connections),
        }
    }

    #[inline]
    fn index(&self, connection: u32) -> Option<u32> {
        self.of.get(connection as usize)?.checked_sub(1)
    }

    #[inline]
    pub(super) fn at(&self, connection: u32) -> Option<&T> {
        self.records.at(self.index(connection)?)
    }

    #[inline]
    pub(super) fn at_mut(&mut self, connection: u32) -> Option<&mut T> {
        self.records.at_mut(self.index(connection)?)
    }

    /// Gives a connection a record, in the place of the one it has. Returns whether there is such a connection.
    pub(super) fn open(&mut self, connection: u32, record: T) -> bool {
        self.close(connection);
        let Some(of) = self.of.get_mut(connection as usize) else {
            return false;
        };
        match self.records.insert(record) {
            Some(key) => *of = key.index + 1,
            None => return false,
        }
        true
    }

    /// The connection is over, or wants none any more.
    pub(super) fn close(&mut self, connection: u32) {
        if let Some(index) = self.index(connection) {
            self.records.remove_at(index);
            self.of[connection as usize] = 0;
        }
    }

    /// Takes the record of a connection out.
    pub(super) fn take(&mut self, connection: u32) -> Option<T> {
        let index = self.index(connection)?;
        self.of[connection as usize] = 0;
        self.records.remove_at(index)
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        self.records.len()
    }
}
