//! Where frames come from and go to.
//!
//! What does not live here: what frames mean. A port moves whole Ethernet frames between a device and the packet pool,
//! with what the device knows of each ([`base::Facts`]), and that is all. Making and configuring devices is `netns`' or
//! the administrator's job.
//!
//! Start reading at [`Port`], then [`tap`] (the reference for offloads) or [`ring`] (the simplest).
//!
//! Invariant: no port blocks, and none allocates once it is open.
//! Invariant: a frame a port cannot move is freed and counted with a [`Drop`] reason, or left in the batch; never lost
//! silently.
//! Invariant: a port vouches for nothing it was not told: what the device does not know arrives as `Unknown`.

mod device;
mod error;
mod exchange;
#[cfg(target_os = "linux")]
pub mod packet;
pub mod pcapng;
pub mod ring;
mod scatter;
#[cfg(target_os = "linux")]
pub mod tap;
pub mod vnet;

use std::os::fd::BorrowedFd;

use base::{Batch, Offloads, Pool, Tally};
use wire::Mac;

pub use error::PortError;

/// One queue of one device, owned by one shard.
///
/// The pool passed in is the shard's, the same one every time: frames received live in it, frames to transmit are
/// freed into it, and a port may keep spare blocks of it between calls.
pub trait Port {
    /// What the device is and can do.
    fn facts(&self) -> &PortFacts;

    /// Appends frames that have arrived to `batch`; returns how many. Never blocks. It may return with more waiting (the
    /// batch is full, or a lot of bytes was read): `sleep_fd` stays readable then.
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize;

    /// Takes frames from the front of `batch` and hands them to the device; returns how many were taken. What was
    /// taken is freed, whether sent or dropped (and counted); what the device has no room for now stays in the batch.
    /// Try again soon: `sleep_fd` does not tell when there is room.
    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize;

    /// Rings the doorbell, once at the end of a turn: whatever `transmit` took is on its way afterwards.
    fn flush(&mut self, pool: &mut Pool);

    /// What to poll for readability when there is nothing to do. `None`: this port must be looked at again and again.
    fn sleep_fd(&self) -> Option<BorrowedFd<'_>>;

    /// What went through, and what did not and why.
    fn counters(&self) -> PortCounters;

    /// Why the port is of no use any more (the device was removed, for example). `None` while it is alive.
    fn failure(&self) -> Option<&PortError> {
        None
    }

    /// Gives back the blocks of `pool` the port keeps. To be called before the pool is dropped or exchanged; the port
    /// can be used again afterwards.
    fn release(&mut self, pool: &mut Pool) {
        let _ = pool;
    }
}

impl<P: Port + ?Sized> Port for Box<P> {
    fn facts(&self) -> &PortFacts {
        (**self).facts()
    }
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        (**self).receive(pool, batch)
    }
    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        (**self).transmit(pool, batch)
    }
    fn flush(&mut self, pool: &mut Pool) {
        (**self).flush(pool);
    }
    fn sleep_fd(&self) -> Option<BorrowedFd<'_>> {
        (**self).sleep_fd()
    }
    fn counters(&self) -> PortCounters {
        (**self).counters()
    }
    fn failure(&self) -> Option<&PortError> {
        (**self).failure()
    }
    fn release(&mut self, pool: &mut Pool) {
        (**self).release(pool);
    }
}

/// What a port is and can do; fixed while it is open.
#[derive(Debug, Clone)]
pub struct PortFacts {
    /// The device's name, as the system knows it.
    pub name: String,
    /// The hardware address of this side: what a host on this port answers to.
    pub mac: Mac,
    /// Largest packet without the Ethernet header, bytes.
    pub mtu: usize,
    /// Largest frame `transmit` takes, Ethernet header included, bytes: more than the MTU where the device segments.
    pub max_frame: usize,
    /// What the device does for frames it is handed, and marks on frames it hands over.
    pub offloads: Offloads,
    /// Which queue of the device this is, from 0.
    pub queue: u16,
    /// How many queues were opened.
    pub queues: u16,
}

base::counters! {
    /// Why a port dropped a frame.
    pub enum Drop("port") {
        /// Received: longer than the memory at hand when it was read (the pool was empty, or the MTU was raised).
        RxTruncated => "rx-truncated",
        /// Received: the device's description of it (checksum position, segment size) does not fit the frame.
        RxDescription => "rx-description",
        /// Received: lost by the kernel because this side was too slow to read.
        RxOverrun => "rx-overrun",
        /// Received: no block of the pool was free to copy it into.
        RxNoMemory => "rx-no-memory",
        /// To send: longer than the device takes, or empty.
        TxLength => "tx-length",
        /// To send: asks for an offload in a way that does not fit the frame.
        TxDescription => "tx-description",
        /// To send: the device is switched off.
        TxDown => "tx-down",
        /// To send: refused by the device or the kernel for another reason.
        TxRefused => "tx-refused",
        /// To send: no memory in the kernel.
        TxNoMemory => "tx-no-memory",
    }
}

/// What went through a port since it was opened.
#[derive(Debug, Clone, Default)]
pub struct PortCounters {
    /// Frames received; a super-frame counts once.
    pub rx_frames: u64,
    /// Bytes of them, Ethernet header included.
    pub rx_bytes: u64,
    /// Frames sent; a super-frame counts once.
    pub tx_frames: u64,
    /// Bytes of them, Ethernet header included.
    pub tx_bytes: u64,
    /// Times `receive` left frames with the device because the pool had no block left.
    pub rx_stalls: u64,
    /// Times `transmit` left frames in the batch because the device had no room.
    pub tx_stalls: u64,
    /// Frames dropped, by reason.
    pub drops: Tally<Drop>,
}

/// Length of an Ethernet header, bytes.
pub(crate) const ETHERNET: usize = wire::ethernet::HEADER_LEN;
/// The largest frame that is ever moved: an IPv6 packet of 65,535 + 40 bytes behind two VLAN tags.
pub(crate) const FRAME_MAX: usize = ETHERNET + 8 + 40 + 65_535;
