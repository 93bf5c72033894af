//! Received bytes as they are in packet memory.

use std::io;
use std::sync::Arc;

use super::chunk::Chunk;
use super::lent::Lender;
use super::tcp::TcpSocket;
use crate::mailbox::lock;

/// Received bytes, in runs, where the device put them. Dropping it gives the memory back, from whichever thread.
///
/// Whoever holds it holds packet memory: 2 KiB for each run. A connection lends as much as it may hold unread
/// ([`Limits::receive`](super::Limits)); what comes beyond waits in the stack, and the peer's window closes. When a quarter of the host's
/// packet memory is lent, bytes are copied instead.
#[derive(Debug, Default)]
pub struct Blocks(Chunk);

impl Blocks {
    pub(super) fn new(chunk: Chunk) -> Self {
        Self(chunk)
    }

    /// Bytes in it; none: the stream has ended.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none: the stream has ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, run by run.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.0.slices()
    }

    /// The bytes, if they are one run.
    pub fn contiguous(&self) -> Option<&[u8]> {
        let bytes = self.0.bytes();
        (bytes.len() == self.len()).then_some(bytes)
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.slices().for_each(|run| bytes.extend_from_slice(run));
        bytes
    }

    /// Whether the bytes were copied out of packet memory after all: they had come before blocks were asked for, or too much of it is
    /// lent.
    pub fn is_copied(&self) -> bool {
        !self.0.is_lent()
    }
}

impl TcpSocket {
    /// Takes what came next, in its blocks; none at the end of the stream. From the first call on the shard hands over blocks,
    /// also to who reads.
    ///
    /// # Errors
    /// As [`TcpSocket::try_read`].
    pub fn try_receive(&self) -> io::Result<Blocks> {
        let shared = &self.shared;
        let lender = || Lender::new(Arc::downgrade(shared));
        shared.lender.get_or_init(lender);
        let mut reader = lock(&shared.reader);
        if let Some(chunk) = reader.take_chunk() {
            if reader.unaccounted >= shared.door.limits.receive / 4 {
                self.settle(&mut reader);
            }
            shared.keep_unread(&reader);
            return Ok(Blocks(chunk));
        }
        let end = self.fetch(&mut reader);
        match reader.take_chunk() {
            Some(chunk) => {
                shared.keep_unread(&reader);
                Ok(Blocks(chunk))
            }
            None => end.map(|()| Blocks::default()),
        }
    }
}
