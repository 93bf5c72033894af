//! TCP Fast Open (RFC 7413): data that travels with the SYN.
//!
//! # Theory of operation
//!
//! **Server.** A SYN with the right cookie (`keys`) comes from who owns its address, or could once hear what is sent there. So it
//! is worth a connection record at once: in SYN-RECEIVED, its data delivered, in the accept queue of its listener, free to answer
//! (`server`). How many such connections a listener has is bounded (TCP_FASTOPEN); beyond, and with a wrong cookie, a SYN gets the
//! ordinary handshake and its data is ignored.
//!
//! **Client.** Cookies and the MSS that came with them are kept by destination (`cache`). A connection that asks for it
//! (`client`) sends what the application gives it first with the SYN, once; what the SYN-ACK does not acknowledge goes out again
//! at once. A SYN that was not answered is sent again without data and option. Paths that swallow such SYNs are left alone.
//!
//! What a connection keeps of this until the handshake's end is a [`Fast`] record; afterwards bits of `more::` tell how it went.
//!
//! What does not live here: ordinary half-open connections (`half_open`), how the option is written (`wire`).
//!
//! Invariant: a SYN whose cookie is wrong does no more than one without data.
//! Invariant: a connection has a [`Fast`] record exactly while it is OPENING, or opens from here and had reason to ask for
//! one.
//! Invariant: a listener's `fast_open` counts its connections that are OPENING, and those a reset has ended lately.

mod cache;
mod client;
mod keys;
mod server;

use base::{Instant, Key, Seq};
use wire::tcp::FastOpen;

use crate::context::Core;
use crate::error::SocketError;

use super::Tcp;
use super::record::{Active, NONE, more};
use super::segment::Segment;

pub(super) use cache::{BlackHole, Cache};
pub use client::FastOpenFail;
pub use keys::FastOpenKeys;
pub(super) use keys::Keys;
pub(super) use server::{Answer, Pending};

/// `Flight::fast` of a connection without a record.
pub(super) const NO_FAST: u16 = u16::MAX;

/// Bits of `fastopen` (Linux's tcp_fastopen).
pub(super) mod allow {
    /// Connections from here.
    pub(crate) const CLIENT: u32 = 1;
    /// Listeners with a queue.
    pub(crate) const SERVER: u32 = 2;
    /// Data without a cookie, from here.
    pub(crate) const CLIENT_WITHOUT_COOKIE: u32 = 4;
    /// Data without a cookie, to listeners.
    pub(crate) const SERVER_WITHOUT_COOKIE: u32 = 0x200;
    /// Every listener has a queue, as long as its backlog.
    pub(crate) const ALL_LISTENERS: u32 = 0x400;
}

/// What Fast Open keeps of one connection until its handshake's end.
#[derive(Debug)]
pub(crate) enum Fast {
    /// Of a connection opened from here.
    Client(Client),
    /// A listener's: it is OPENING, or was reset and counts for a while.
    Server(Server),
}

/// Of a connection opened from here: how its SYN is, and what became of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    option: Option<FastOpen>,
    /// Bytes the SYN may carry, and carried.
    room: u16,
    sent: u16,
    /// Bytes of them that the SYN-ACK acknowledged, after so many retransmissions.
    acked: u16,
    retries: u8,
}

/// Of a connection that a SYN has opened.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Key,
    /// The SYN's number.
    irs: Seq,
    /// A new cookie for the client.
    option: Option<FastOpen>,
    /// When the SYN came; after a reset, when it is forgotten.
    at: Instant,
    /// Next of those that were reset, oldest first.
    next: u32,
}

impl Active {
    /// Its Fast Open record, if it has one.
    #[inline]
    pub(crate) fn fast(&self) -> u32 {
        match self.flight.fast {
            NO_FAST => NONE,
            index => u32::from(index),
        }
    }

    fn set_fast(&mut self, index: u32) {
        self.flight.fast = u16::try_from(index).unwrap_or(NO_FAST);
    }
}

impl Tcp {
    /// The Fast Open record of a connection.
    fn fast_of(&self, index: u32) -> u32 {
        let active = self.conns.at(index).map_or(NONE, |tcb| tcb.active);
        self.actives.at(active).map_or(NONE, Active::fast)
    }

    /// The handshake of a connection has ended well, by this segment: what was kept for it goes.
    #[inline]
    pub(super) fn fast_open_established(&mut self, core: &mut Core, index: u32, seg: &Segment) {
        let fast = self.fast_of(index);
        if fast != NONE {
            self.end_fast(core, (index, fast), None, Some(seg));
        }
    }

    /// The connection ends; perhaps within its handshake.
    #[inline]
    pub(super) fn fast_open_dissolved(
        &mut self,
        core: &mut Core,
        index: u32,
        error: Option<SocketError>,
    ) {
        let fast = self.fast_of(index);
        if fast != NONE {
            let error = error.or(Some(SocketError::ConnectionAborted));
            self.end_fast(core, (index, fast), error, None);
        } else {
            if self.fast_open_astray(index) {
                self.found_black_hole(core);
            }
            self.fast_open_ended(index, error);
        }
    }

    #[cold]
    fn end_fast(
        &mut self,
        core: &mut Core,
        (index, fast): (u32, u32),
        error: Option<SocketError>,
        seg: Option<&Segment>,
    ) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        tcb.more &= !more::OPENING;
        if tcb.deferred() {
            tcb.more &= !more::DEFERRED;
        }
        if let Some(act) = self.actives.at_mut(tcb.active) {
            act.set_fast(NONE);
        }
        match self.fasts.at(fast) {
            Some(Fast::Server(_)) => self.end_pending(core, fast, error),
            Some(Fast::Client(client)) => {
                let client = *client;
                self.fasts.remove_at(fast);
                if let Some(seg) = seg {
                    self.learn_from(core, index, &client, seg);
                }
            }
            None => {}
        }
    }
}
