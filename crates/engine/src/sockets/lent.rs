//! Received bytes in packet memory, in the hands of other threads, and their way back.
//!
//! What does not live here: what makes lending sound (`base::pool`), queues of bytes (`chunk`).
//!
//! Invariant: a loan goes back to the shard it is from, wherever its connection is by then, when the last hand lets go of it, whichever
//! thread that is in, whatever became of the socket; to drop one takes no lock but that of the list of what goes back.
//! Invariant: a socket's loans hold no more packet memory than its limit and one read, and all of a host's no more than a quarter of
//! it: what is beyond waits in the stack, whose window closes, or is copied. Datagrams are copied in either case: who holds some keeps
//! nobody from receiving others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use base::{BLOCK, Loan, Pool};

use super::tcp::TcpShared;
use super::{Door, Notice, Subject};
use crate::mailbox::lock;
use crate::shard::Message;

/// Of packet memory at most one part in so many is lent; beyond that bytes are copied.
const LENT_PART: u32 = 4;

/// Loans of one host that are on their way back.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    loans: Mutex<Vec<Loan>>,
    noticed: AtomicBool,
}

/// Whether more of the host's packet memory may be lent.
pub(crate) fn admit(pool: &Pool) -> bool {
    pool.lent() < pool.capacity() / LENT_PART
}

impl Returns {
    /// The shard has the notice in hand.
    pub(crate) fn taken(&self) {
        self.noticed.store(false, Ordering::Release);
    }

    /// What has come back: moves it into `into`, which is empty.
    pub(crate) fn take(&self, into: &mut Vec<Loan>) {
        std::mem::swap(into, &mut *lock(&self.loans));
    }
}

/// What one socket lends.
#[derive(Debug)]
pub(crate) struct Lender {
    /// Who pauses: a stream.
    socket: Weak<TcpShared>,
    /// Bytes of packet memory that are lent.
    lent: AtomicUsize,
    /// The shard lends no more, and wants to hear when it may.
    paused: AtomicBool,
}

impl Lender {
    pub(crate) fn new(socket: Weak<TcpShared>) -> Arc<Self> {
        Arc::new(Self {
            socket,
            lent: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
        })
    }

    /// Bytes of packet memory that are lent.
    pub(crate) fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// Nothing more is lent until half of `limit` has come back, which is told. False if that is so already.
    pub(crate) fn pause(&self, limit: usize) -> bool {
        self.paused.store(true, Ordering::SeqCst);
        self.lent.load(Ordering::SeqCst) > limit / 2
    }

    /// Lends what was received on the shard of `door`.
    pub(crate) fn lend(self: &Arc<Self>, door: &Arc<Door>, loan: Loan) -> Lent {
        let charge = loan.pieces() * BLOCK;
        self.lent.fetch_add(charge, Ordering::Relaxed);
        Lent {
            left: loan.len(),
            loan: Some(loan),
            lender: self.clone(),
            door: door.clone(),
            piece: 0,
            at: 0,
        }
    }

    fn take_back(&self, door: &Arc<Door>, loan: Loan) {
        let charge = loan.pieces() * BLOCK;
        let returns = &door.returns;
        lock(&returns.loans).push(loan);
        if !returns.noticed.swap(true, Ordering::AcqRel) {
            let subject = Subject::Returns(door.clone());
            let notice = Message::App(Notice(Some(subject)));
            // Refused when the shard is gone, and with it those who would take it back.
            let _ = door.mailbox.post_unbounded(notice);
        }
        let left = self.lent.fetch_sub(charge, Ordering::SeqCst) - charge;
        if left <= door.limits.receive / 2
            && self.paused.swap(false, Ordering::SeqCst)
            && let Some(socket) = self.socket.upgrade()
        {
            socket.notice();
        }
    }
}

/// Received bytes that are still in packet memory.
#[derive(Debug)]
pub(crate) struct Lent {
    /// There but while it is dropped.
    loan: Option<Loan>,
    lender: Arc<Lender>,
    /// The shard it is from.
    door: Arc<Door>,
    /// Where reading goes on.
    piece: usize,
    at: usize,
    left: usize,
}

impl Lent {
    /// The next run of bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.slices().next().unwrap_or_default()
    }

    /// Bytes that were not read.
    pub(crate) fn len(&self) -> usize {
        self.left
    }

    /// All of them, run by run.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let loan = self.loan.as_ref();
        let pieces = loan.into_iter().flat_map(|loan| loan.slices());
        let mut at = self.at;
        pieces.skip(self.piece).filter_map(move |bytes| {
            let bytes = bytes.get(std::mem::take(&mut at)..)?;
            (!bytes.is_empty()).then_some(bytes)
        })
    }

    /// Passes over `n` bytes of the next run.
    pub(crate) fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.bytes().len());
        let run = self.bytes().len();
        self.left -= n;
        if n == run {
            (self.piece, self.at) = (self.piece + 1, 0);
        } else {
            self.at += n;
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(loan) = self.loan.take() {
            self.lender.take_back(&self.door, loan);
        }
    }
}
