//! Datagrams as they are in packet memory.
//!
//! What does not live here: how they are lent and given back (`lent`).

use std::io;
use std::ops::Deref;
use std::sync::Weak;

use stack::SocketError;

use super::{Arrived, RecvMeta, UdpHandle};
use crate::clock::Clock;
use crate::sockets::blocks::Blocks;
use crate::sockets::chunk::Chunk;
use crate::sockets::error::io_error;
use crate::sockets::lent::Lender;

/// A datagram where the device put it, and what is known of it; with [`UdpOptions::gro`](stack::UdpOptions::gro) a train of them. One
/// without bytes is a datagram as any. Dropping it gives the memory back, from whichever thread, also when the socket or its host is gone.
///
/// Whoever holds it holds packet memory: 2 KiB for each run of bytes. A socket lends as much as it may hold unread
/// ([`Limits::receive`](crate::Limits)), and all of a host's a quarter of its packet memory; what comes beyond is copied, so that what is
/// held keeps nobody from receiving. Datagrams of up to 256 bytes are always copied.
#[derive(Debug)]
pub struct Packet {
    meta: RecvMeta,
    blocks: Blocks,
}

impl Packet {
    /// What is known of it.
    pub fn meta(&self) -> &RecvMeta {
        &self.meta
    }

    /// Its bytes alone.
    pub fn into_blocks(self) -> Blocks {
        self.blocks
    }
}

impl Deref for Packet {
    type Target = Blocks;

    fn deref(&self) -> &Blocks {
        &self.blocks
    }
}

impl UdpHandle {
    /// Takes the next datagram in its blocks. From the first call on the shard hands over blocks, also to who copies them.
    ///
    /// # Errors
    /// `WouldBlock`; the socket's error, once.
    pub fn try_receive_packet(&self) -> io::Result<Packet> {
        let shared = &self.shared;
        shared.lender.get_or_init(|| Lender::new(Weak::new()));
        let mut state = shared.state();
        if let Some(error) = state.take_error() {
            return Err(error);
        }
        let Some(&Arrived { from, arrival, .. }) = state.rx.front() else {
            return Err(io_error(SocketError::WouldBlock));
        };
        let copied = state.rx.own().map(|own| shared.door.chunks.copy_of(own));
        let (charge, lent) = state.rx.pop();
        self.taken(state, charge);
        let chunk = lent.map(Chunk::lent).or(copied).unwrap_or_default();
        Ok(Packet {
            meta: arrival.meta(&Clock::new(), from, usize::MAX),
            blocks: Blocks::new(chunk),
        })
    }
}
