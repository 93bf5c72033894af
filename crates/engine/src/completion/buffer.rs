//! What bytes travel in between an application and the shard.
//!
//! Invariant: a buffer of a group is in the group, with the shard, or in the application's hands: never in two places.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use crate::diagnosis::{GROUPS, GroupRow, Lender};
use crate::mailbox::lock;

/// Owned bytes: the application's own, or lent by a group.
#[derive(Debug)]
pub enum Buffer {
    /// The application's.
    Own(Vec<u8>),
    /// A group's: it goes back when this is dropped.
    Lent(GroupBuffer),
}

impl Buffer {
    /// The bytes as a vector; those of a group are copied.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Own(bytes) => bytes,
            Self::Lent(lent) => lent.to_vec(),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Lent(lent) => lent,
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Lent(lent) => lent,
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Own(bytes)
    }
}

impl From<GroupBuffer> for Buffer {
    fn from(lent: GroupBuffer) -> Self {
        Self::Lent(lent)
    }
}

#[derive(Debug)]
struct Group {
    free: Mutex<Vec<Vec<u8>>>,
    buffers: usize,
    size: usize,
}

impl Lender for Group {
    fn row(&self) -> GroupRow {
        GroupRow {
            buffers: self.buffers as u64,
            available: lock(&self.free).len() as u64,
            size: self.size as u64,
        }
    }
}

/// Buffers that receive operations draw from when there is something to put into them: connections that are silent hold none.
#[derive(Debug, Clone)]
pub struct BufferGroup(Arc<Group>);

impl BufferGroup {
    /// A group of `count` buffers of `size` bytes each.
    pub fn new(count: usize, size: usize) -> Self {
        let free = (0..count).map(|_| vec![0; size]).collect();
        let group = Arc::new(Group {
            free: Mutex::new(free),
            buffers: count,
            size,
        });
        let lender: Arc<dyn Lender> = group.clone();
        GROUPS.enter(&lender);
        Self(group)
    }

    /// Buffers nobody holds now.
    pub fn available(&self) -> usize {
        lock(&self.0.free).len()
    }

    /// One of them, if one is left.
    pub(crate) fn take(&self) -> Option<GroupBuffer> {
        let bytes = lock(&self.0.free).pop()?;
        Some(GroupBuffer {
            bytes,
            group: self.0.clone(),
        })
    }
}

/// A buffer of a group, to which it goes back when it is dropped: see [`BufferGroup`].
#[derive(Debug)]
pub struct GroupBuffer {
    bytes: Vec<u8>,
    group: Arc<Group>,
}

impl Deref for GroupBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for GroupBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for GroupBuffer {
    fn drop(&mut self) {
        lock(&self.group.free).push(std::mem::take(&mut self.bytes));
    }
}
