//! The headers of SYNs, for applications that want to see them (TCP_SAVE_SYN, TCP_SAVED_SYN).
//!
//! While a listener saves, the headers of SYNs stay in front of their bytes until it is their turn (`Segment::headers`), and are
//! looked at once. What is saved belongs to the half-open connection, then to the connection, until it is read or that ends.
//!
//! What does not live here: what a program asks for (`posix`). Nothing is saved of a SYN that is answered by a cookie.
//!
//! Invariant: what is saved has one owner, which is alive.
//! Invariant: as many SYNs as there may be half-open connections; of further ones nothing is saved, which is counted.

use base::{Chain, Pool, Slab};
use wire::ethernet::{self, EtherType};

use crate::context::Core;
use crate::error::SocketError;
use crate::socket::SocketId;
use crate::stats::Count;

use super::Tcp;
use super::segment::Segment;

const LINK: usize = ethernet::HEADER_LEN;
/// The longest headers that are saved: of the link, IP with options and TCP with options.
const LONGEST: usize = LINK + 100 + 60;

/// The headers of one SYN.
#[derive(Debug, Clone, Copy)]
struct Headers {
    bytes: [u8; LONGEST],
    /// Where the link's header, or else IP's, begins and TCP's ends.
    from: u8,
    end: u8,
}

impl Headers {
    const NONE: Self = Self {
        bytes: [0; LONGEST],
        from: LINK as u8,
        end: LINK as u8,
    };

    fn as_slice(&self) -> &[u8] {
        let range = usize::from(self.from)..usize::from(self.end);
        self.bytes.get(range).unwrap_or_default()
    }
}

/// Whom saved headers belong to, by index.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    HalfOpen(u32),
    Connection(u32),
}

/// What is saved.
#[derive(Debug)]
pub(crate) struct SavedSyns {
    records: Slab<Headers>,
    /// By half-open connection and by connection: a record and one, 0 for none. Untouched memory while nobody saves.
    of_half: Vec<u32>,
    of_conn: Vec<u32>,
    /// Listeners that save.
    listeners: u32,
    /// Of the SYN whose turn it is.
    now: Headers,
}

impl SavedSyns {
    pub(super) fn new(half_open: u32, connections: u32) -> Self {
        Self {
            records: Slab::with_capacity(half_open),
            of_half: vec![0; half_open as usize],
            of_conn: vec![0; connections as usize],
            listeners: 0,
            now: Headers::NONE,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        self.records.len()
    }

    /// Whether headers of SYNs are to be left where they are.
    #[inline]
    pub(super) fn wanted(&self) -> bool {
        self.listeners > 0
    }

    /// A listener that saved so (`TcpOptions::save_syn`; 0: there was none) saves so from now on.
    pub(super) fn listener(&mut self, before: u8, after: u8) {
        self.listeners = (self.listeners + u32::from(after > 0)) - u32::from(before > 0);
    }

    /// Takes the headers, of `len` bytes, off a SYN. The link's own lies before them where nothing has moved.
    #[cold]
    pub(super) fn look(&mut self, pool: &mut Pool, syn: &mut Chain, len: usize) {
        self.now = Headers::NONE;
        if let Some(room) = self.now.bytes.get_mut(LINK..LINK + len) {
            pool.copy_out(syn, 0, room);
            self.now.end = (LINK + len) as u8;
        }
        let kind = match self.now.bytes[LINK] >> 4 {
            4 => EtherType::IPV4,
            _ => EtherType::IPV6,
        };
        if let Some(front) = pool.push_front(syn, LINK) {
            let link = ethernet::Packet::new(front);
            if link.is_ok_and(|link| link.ethertype() == kind) {
                self.now.bytes[..LINK].copy_from_slice(front);
                self.now.from = 0;
            }
            pool.pull_front(syn, LINK);
        }
        pool.pull_front(syn, len);
    }

    fn place(&mut self, owner: Owner) -> Option<&mut u32> {
        match owner {
            Owner::HalfOpen(index) => self.of_half.get_mut(index as usize),
            Owner::Connection(index) => self.of_conn.get_mut(index as usize),
        }
    }

    /// Forgets what is saved for one that goes.
    #[inline]
    pub(super) fn forget(&mut self, owner: Owner) {
        if self.records.is_empty() {
            return;
        }
        if let Some(place) = self.place(owner) {
            let record = core::mem::take(place);
            if let Some(index) = record.checked_sub(1) {
                self.records.remove_at(index);
            }
        }
    }

    /// A half-open connection has become a connection.
    #[inline]
    pub(super) fn promote(&mut self, half: u32, connection: u32) {
        if self.records.is_empty() {
            return;
        }
        let record = self.place(Owner::HalfOpen(half)).map(core::mem::take);
        if let (Some(record), Some(place)) = (record, self.place(Owner::Connection(connection))) {
            *place = record;
        }
    }

    /// What is saved for a connection.
    fn of(&self, connection: u32) -> &[u8] {
        let record = self.of_conn.get(connection as usize);
        let index = record.and_then(|record| record.checked_sub(1));
        let headers = index.and_then(|index| self.records.at(index));
        headers.map_or(&[], Headers::as_slice)
    }
}

impl Tcp {
    /// Saves the headers of the SYN that has made `owner`, if its listener does.
    #[inline]
    pub(super) fn save_syn(&mut self, core: &mut Core, listener: u32, seg: &Segment, owner: Owner) {
        if seg.headers == 0 {
            return;
        }
        let how = self
            .listeners
            .at(listener)
            .map_or(0, |l| l.options.save_syn);
        let mut headers = self.saved.now;
        if how == 0 || headers.as_slice().is_empty() {
            return;
        }
        if how == 1 {
            headers.from = LINK as u8;
        }
        match self.saved.records.insert(headers) {
            Some(key) => {
                if let Some(place) = self.saved.place(owner) {
                    *place = key.index + 1;
                }
            }
            None => core.count(Count::TcpSynsNotSaved),
        }
    }

    /// See [`crate::Host::tcp_saved_syn`].
    pub(crate) fn saved_syn(&self, id: SocketId) -> Result<&[u8], SocketError> {
        Ok(self.saved.of(self.live(id)?))
    }

    /// See [`crate::Host::tcp_forget_saved_syn`].
    pub(crate) fn forget_saved_syn(&mut self, id: SocketId) -> Result<(), SocketError> {
        let index = self.live(id)?;
        self.saved.forget(Owner::Connection(index));
        Ok(())
    }

    /// Whether what is saved belongs to somebody.
    pub(super) fn audit_saved_syns(&self) -> Result<(), &'static str> {
        let has = |of: &[u32], index: u32| of.get(index as usize).is_some_and(|&record| record > 0);
        let halves = self.halves.iter();
        let halves = halves.filter(|(key, _)| has(&self.saved.of_half, key.index));
        let conns = self.conns.iter();
        let conns = conns.filter(|(key, _)| has(&self.saved.of_conn, key.index));
        if halves.count() + conns.count() == self.saved.len() as usize {
            Ok(())
        } else {
            Err("a saved SYN of nobody")
        }
    }
}
