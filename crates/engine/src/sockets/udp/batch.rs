//! Many datagrams in one call, and what is said and known of each; trains that cross as one.
//!
//! A train is a run of datagrams of one length, but for the last, which may be shorter. One that is sent is cut by the device or the
//! stack ([`Transmit::segment`], Linux's UDP_SEGMENT); those that come in are put behind one another into one buffer as far as it
//! has room ([`RecvMeta::stride`], UDP_GRO).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use stack::{Outgoing, SocketError};

use super::{Ecn, OVERHEAD, Order, RecvMeta, UdpHandle};
use crate::clock::Clock;
use crate::sockets::error::io_error;

/// Bytes copied while the record is locked.
const COPIED_MAX: usize = 64 * 1024;

// What a queue counts for an entry covers it.
const _: () = assert!(size_of::<(Order, usize)>() <= OVERHEAD);

/// A datagram to be sent, or a train of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Transmit<'a> {
    /// The bytes: at most 65,507, over IPv6 65,527, also of a train.
    pub data: &'a [u8],
    /// Who gets it; the connected peer when `None`.
    pub to: Option<SocketAddr>,
    /// Which of the host's addresses it leaves from (IP_PKTINFO): [`RecvMeta::to`] of what it answers. `None` and a group's address
    /// leave the choice to the socket and the route.
    pub from: Option<IpAddr>,
    /// Its ECN bits; those of the socket's type of service when `None`.
    pub ecn: Option<Ecn>,
    /// It is a train of datagrams of so many bytes, the last of which may be shorter: at most 128, none longer than the path's MTU
    /// takes whole.
    pub segment: Option<u16>,
}

impl<'a> Transmit<'a> {
    /// A datagram for the connected peer.
    pub fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            ..Self::default()
        }
    }

    /// A datagram for `addr`.
    pub fn to(data: &'a [u8], addr: SocketAddr) -> Self {
        Self {
            to: Some(addr),
            ..Self::new(data)
        }
    }
}

impl UdpHandle {
    /// Queues datagrams, in their order, as many as there is room for: how many.
    ///
    /// # Errors
    /// Those of [`UdpHandle::try_send`], and EINVAL for a train of no bytes a datagram or of more than 128, of the first;
    /// when another fails there are fewer, and the next call tells why. What only routing knows is told to the next sender.
    pub fn try_send_batch(&self, batch: &[Transmit<'_>]) -> io::Result<usize> {
        let mut state = self.shared.state();
        state.take_send_error()?;
        let (mut taken, mut copied) = (0, 0);
        for transmit in batch {
            let len = transmit.data.len();
            if copied > 0 && copied + len > COPIED_MAX {
                // The shard need not wait for the rest.
                drop(state);
                self.shared.notice();
                (state, copied) = (self.shared.state(), 0);
                if state.failed() {
                    break;
                }
            }
            copied += len;
            let admitted = self.admit(&mut state, len, transmit.to);
            let how = admitted.and_then(|how| {
                let socket = state.options.tos & !3;
                let how = Outgoing {
                    from: transmit.from,
                    tos: transmit.ecn.map(|ecn| socket | ecn as u8),
                    segment: transmit.segment,
                    ..how
                };
                how.datagrams(len).map_err(io_error).map(|_| how)
            });
            match how {
                Ok(how) => {
                    state.queue(Order::Send(how), transmit.data);
                    taken += 1;
                }
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            }
        }
        drop(state);
        if taken > 0 {
            self.shared.notice();
        }
        Ok(taken)
    }

    /// Takes datagrams: one into each buffer, or a train where there are more that are alike and there is room for them. How many
    /// buffers were filled; `meta` says of each what it holds.
    ///
    /// # Errors
    /// `WouldBlock`; the socket's error, once.
    pub fn try_recv_batch(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let most = bufs.len().min(meta.len());
        let mut state = self.shared.state();
        if let Some(error) = state.take_error() {
            return Err(error);
        }
        if most == 0 {
            return Ok(0);
        }
        let clock = Clock::new();
        let (mut filled, mut charge, mut copied, mut spent) = (0, 0, 0, Vec::new());
        for (buf, meta) in bufs[..most].iter_mut().zip(meta) {
            if copied >= COPIED_MAX {
                // The shard may go on meanwhile.
                self.taken(state, charge);
                spent.clear();
                (state, charge, copied) = (self.shared.state(), 0, 0);
                if state.error.is_some() {
                    break;
                }
            }
            let Some((taken, counted)) = state.rx.take_train(&clock, buf, &mut spent) else {
                break;
            };
            (filled, charge, copied) = (filled + 1, charge + counted, copied + taken.len);
            *meta = taken;
        }
        if filled == 0 {
            return Err(io_error(SocketError::WouldBlock));
        }
        self.taken(state, charge);
        Ok(filled)
    }
}
