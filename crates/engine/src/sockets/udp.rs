//! A UDP socket in the hands of another thread.
//!
//! What the application asks for is queued as [`Order`]s, which the shard carries out in that order. Sending is asynchronous: a
//! datagram is taken when there is room in the queue, and why the stack did not send it (no route, too long for the path) is
//! told to the next sender, and to nobody who receives. An error of the socket (ICMP) is told to whoever calls next, as with
//! the kernel.
//!
//! Invariant: nothing is allocated for a datagram in the long run (`parcels`).
//! Invariant: a queue holds at most its limit in bytes, each entry counted with [`OVERHEAD`]; orders that are waited for may
//! exceed it. When the receive queue is full, datagrams wait in the stack's own queue, which drops and counts what does not
//! fit.
//!
//! What does not live here: many datagrams at once (`batch`), what is known of each (`meta`), the queue of
//! those that came in (`inbox`), those that stay in packet memory (`packet`).

mod batch;
mod inbox;
mod meta;
mod packet;
mod parcels;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use base::epoll::RAISED_OUT;
use rustix::io::Errno;
use stack::{Host, InterfaceId, Outgoing, ReusePort, SocketError, UdpOptions, Via};

use super::error::{io_error, stopped};
use super::lent::Lender;
use super::waiters::{Waiters, block_until, poll_until};
use super::watch::{Raised, Watches};
use super::{Answer, Door, TOKEN_NONE, meant};
use crate::mailbox::lock;
use crate::reply::{Reply, reply};
use crate::steer::PortClaim;

pub use batch::Transmit;
pub(crate) use inbox::Arrivals;
use inbox::{Arrived, Inbox};
pub(crate) use meta::Arrival;
pub use meta::{Ecn, RecvMeta};
pub use packet::Packet;
pub(crate) use parcels::Parcels;

/// What a queued datagram counts beside its bytes.
pub(crate) const OVERHEAD: usize = 128;

/// The largest UDP payload over IPv4 (RFC 768, RFC 791) and, without jumbograms, over IPv6.
const PAYLOAD_MAX_V4: usize = 65_507;
const PAYLOAD_MAX_V6: usize = 65_527;

/// Something the shard is to do with the socket.
#[derive(Debug)]
pub(crate) enum Order {
    /// Its bytes are a datagram, or several that leave as one.
    Send(Outgoing),
    Set(UdpOptions),
    Share(ReusePort, Answer),
    Connect(SocketAddr, Answer),
    Group {
        join: bool,
        group: IpAddr,
        via: Via,
        answer: Answer,
    },
    Ask(Question),
}

/// What is asked of the host, and answered by what it does itself.
pub(crate) struct Question(Box<dyn FnOnce(&Host) + Send>);

impl Question {
    pub(crate) fn put(self, host: &Host) {
        (self.0)(host);
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}

/// What both sides see.
#[derive(Debug, Default)]
pub(crate) struct UdpState {
    /// The bound address, once it is, and who waits to hear that.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) opened: Option<Answer>,
    pub(crate) peer: Option<SocketAddr>,
    /// The socket's pending error (SO_ERROR).
    pub(crate) error: Option<SocketError>,
    /// Why a datagram was not sent.
    pub(crate) unsent: Option<SocketError>,
    pub(crate) stopped: bool,
    pub(crate) dead: bool,
    pub(crate) rx: Inbox,
    pub(crate) rx_len: usize,
    pub(crate) rx_paused: bool,
    pub(crate) tx: Parcels<Order>,
    pub(crate) tx_len: usize,
    pub(crate) options: UdpOptions,
    pub(crate) closed: bool,
    pub(crate) readers: Waiters,
    pub(crate) writers: Waiters,
    pub(crate) watches: Watches,
    /// Somebody found no room to write, and wants to hear of it (Linux's SOCK_NOSPACE).
    pub(crate) nospace: bool,
}

impl UdpState {
    fn queue(&mut self, order: Order, data: &[u8]) {
        self.tx_len += data.len() + OVERHEAD;
        self.tx.room(data.len()).copy_from_slice(data);
        self.tx.push(order, data.len());
    }

    fn failed(&self) -> bool {
        self.error.is_some() || self.stopped || self.dead
    }

    /// There is room to write: for the sets of those who found none.
    pub(crate) fn raise_room(&mut self) -> Raised {
        let wanted = std::mem::take(&mut self.nospace);
        self.watches.raise_if(wanted, RAISED_OUT)
    }

    pub(super) fn read_ready(&self) -> bool {
        !self.rx.is_empty() || self.failed()
    }

    pub(super) fn write_ready(&self, limit: usize) -> bool {
        self.tx_len <= limit / 2 || self.unsent.is_some() || self.failed()
    }

    /// What a call that sends is told first.
    fn take_send_error(&mut self) -> io::Result<()> {
        match self.take_error() {
            Some(error) => Err(error),
            None => self.unsent.take().map_or(Ok(()), |why| Err(io_error(why))),
        }
    }

    fn take_error(&mut self) -> Option<io::Error> {
        match self.error.take() {
            Some(error) => Some(io_error(error)),
            None if self.stopped => Some(stopped()),
            None if self.dead => Some(io_error(SocketError::BadSocket)),
            None => None,
        }
    }
}

/// One UDP socket, shared by its handle and the shard.
#[derive(Debug)]
pub(crate) struct UdpShared {
    state: Mutex<UdpState>,
    pub(crate) readable: Condvar,
    pub(crate) writable: Condvar,
    pub(super) noticed: AtomicBool,
    pub(crate) token: AtomicU64,
    pub(crate) door: Arc<Door>,
    pub(crate) bind: SocketAddr,
    /// There once somebody has asked for packets.
    pub(crate) lender: OnceLock<Arc<Lender>>,
    /// Its part of the port, on a host of several shards, while somebody holds it.
    claim: Mutex<Option<PortClaim>>,
}

impl UdpShared {
    pub(crate) fn new(
        door: Arc<Door>,
        bind: SocketAddr,
        options: UdpOptions,
        opened: Answer,
        claim: Option<PortClaim>,
    ) -> Self {
        Self {
            state: Mutex::new(UdpState {
                options,
                opened: Some(opened),
                ..UdpState::default()
            }),
            readable: Condvar::new(),
            writable: Condvar::new(),
            noticed: AtomicBool::new(false),
            token: AtomicU64::new(TOKEN_NONE),
            door,
            bind,
            lender: OnceLock::new(),
            claim: Mutex::new(claim),
        }
    }

    /// Whether somebody panicked with the state in hand: read without its lock.
    pub(super) fn is_poisoned(&self) -> bool {
        self.state.is_poisoned()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, UdpState> {
        lock(&self.state)
    }

    /// The socket is bound now, or never will be.
    pub(crate) fn opened(&self, local: Result<SocketAddr, SocketError>) {
        let mut state = self.state();
        state.local = local.ok();
        state.dead = local.is_err();
        let opened = state.opened.take();
        drop(state);
        if let Some(opened) = opened {
            opened.send(local.map(drop).map_err(io_error));
        }
    }

    /// The socket is gone: whoever waits learns it.
    pub(crate) fn fail(&self) {
        let mut state = self.state();
        state.dead = true;
        let unanswered = (std::mem::take(&mut state.tx), state.opened.take());
        state.tx_len = 0;
        let (readers, writers) = (state.readers.take(), state.writers.take());
        let raised = state.watches.raise(0);
        drop(state);
        drop(unanswered);
        readers.wake(&self.readable);
        writers.wake(&self.writable);
        raised.tell();
    }

    /// The host is stopping: what was sent is still on its way.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.closed = true;
    }

    /// The host is gone.
    pub(crate) fn fail_stopped(&self) {
        self.state().stopped = true;
        self.fail();
    }
}

/// A UDP socket, used from any thread. Dropping it closes it, after what was sent is on its way.
#[derive(Debug)]
pub struct UdpHandle {
    pub(super) shared: Arc<UdpShared>,
}

impl UdpHandle {
    pub(crate) fn new(shared: Arc<UdpShared>) -> Self {
        Self { shared }
    }

    /// Queues a datagram for `to`, or for the connected peer.
    ///
    /// # Errors
    /// `WouldBlock`; EMSGSIZE beyond what UDP can carry; EDESTADDRREQ without any destination; EINVAL and
    /// EAFNOSUPPORT for one that cannot be; an earlier datagram's error or the socket's, once.
    pub fn try_send(&self, data: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        let mut state = self.shared.state();
        state.take_send_error()?;
        let how = self.admit(&mut state, data.len(), to)?;
        state.queue(Order::Send(how), data);
        drop(state);
        self.shared.notice();
        Ok(data.len())
    }

    /// Whether a datagram of so many bytes can be taken for `to`, or for the connected peer, and how it leaves.
    fn admit(
        &self,
        state: &mut UdpState,
        len: usize,
        to: Option<SocketAddr>,
    ) -> io::Result<Outgoing> {
        let address = to.or(state.peer).ok_or(Errno::DESTADDRREQ)?;
        let address = self.destination(address)?;
        if address.port() == 0 {
            return Err(io_error(SocketError::InvalidInput));
        }
        let longest = if address.ip().to_canonical().is_ipv4() {
            PAYLOAD_MAX_V4
        } else {
            PAYLOAD_MAX_V6
        };
        if len > longest {
            return Err(io_error(SocketError::MessageTooLong));
        }
        let broadcast = matches!(address, SocketAddr::V4(v4) if v4.ip().is_broadcast());
        if broadcast && !state.options.broadcast {
            return Err(io_error(SocketError::PermissionDenied));
        }
        if state.tx_len > 0 && state.tx_len + len + OVERHEAD > self.shared.door.limits.send {
            state.nospace = true;
            return Err(io_error(SocketError::WouldBlock));
        }
        Ok(Outgoing {
            to: Some(address),
            ..Outgoing::default()
        })
    }

    /// Who is meant by an address, and what sendto(2) and connect(2) say of it at a glance.
    fn destination(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        if address.is_ipv6() && self.shared.bind.is_ipv4() {
            return Err(Errno::AFNOSUPPORT.into());
        }
        Ok(meant(address, Some(self.shared.bind)))
    }

    fn order(&self, mut state: MutexGuard<'_, UdpState>, order: Order) {
        state.queue(order, &[]);
        drop(state);
        self.shared.notice();
    }

    /// Gives an order that is waited for. When the socket is gone, the answer is silence.
    fn ask(&self, order: impl FnOnce(Answer) -> Order) -> Reply<io::Result<()>> {
        let (sender, answer) = reply();
        let state = self.shared.state();
        if !state.dead {
            self.order(state, order(sender));
        }
        answer
    }

    /// Takes (or with `peek` looks at) the next datagram; what does not fit into `buf` is cut off.
    ///
    /// # Errors
    /// `WouldBlock`; the socket's error, once.
    pub fn try_recv(&self, buf: &mut [u8], peek: bool) -> io::Result<(usize, SocketAddr)> {
        let mut state = self.shared.state();
        // Linux gives a pending ICMP error before data.
        if let Some(error) = state.take_error() {
            return Err(error);
        }
        let Some(&Arrived { from, .. }) = state.rx.front() else {
            return Err(io_error(SocketError::WouldBlock));
        };
        let n = state.rx.copy(buf);
        if !peek {
            let (charge, lent) = state.rx.pop();
            self.taken(state, charge);
            drop(lent);
        }
        Ok((n, from))
    }

    /// So much was taken out of the queue: the shard may go on to fill it.
    fn taken(&self, mut state: MutexGuard<'_, UdpState>, charge: usize) {
        state.rx_len = state.rx_len.saturating_sub(charge);
        let resume = state.rx_paused && state.rx_len <= self.shared.door.limits.receive / 2;
        state.rx_paused &= !resume;
        drop(state);
        if resume {
            self.shared.notice();
        }
    }

    /// Blocks until there may be a datagram or an error; false if `deadline` came first.
    pub fn wait_readable(&self, deadline: Option<Instant>) -> bool {
        block_until(
            self.shared.state(),
            &self.shared.readable,
            deadline,
            |state| &mut state.readers,
            UdpState::read_ready,
        )
    }

    /// Blocks until there may be room to send; false if `deadline` came first.
    pub fn wait_writable(&self, deadline: Option<Instant>) -> bool {
        let limit = self.shared.door.limits.send;
        block_until(
            self.shared.state(),
            &self.shared.writable,
            deadline,
            |state| &mut state.writers,
            |state| state.write_ready(limit),
        )
    }

    /// Ready when there may be a datagram or an error; else the task is woken then.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        poll_until(
            self.shared.state(),
            cx,
            |state| &mut state.readers,
            UdpState::read_ready,
        )
    }

    /// Ready when there may be room to send; else the task is woken then.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.shared.door.limits.send;
        poll_until(
            self.shared.state(),
            cx,
            |state| &mut state.writers,
            |state| state.write_ready(limit),
        )
    }

    /// Sets the peer: where `send` goes and whose datagrams are received, once the answer is there. With port 0 there is none, but
    /// [`UdpHandle::local_addr`] tells from which address such a peer would be sent to.
    ///
    /// # Errors
    /// No route or no source address; EACCES for a broadcast without the option; EINVAL and EAFNOSUPPORT; `Unsupported` where those
    /// that share the address are on several shards.
    pub fn connect(&self, peer: SocketAddr) -> Reply<io::Result<()>> {
        let peer = match self.destination(peer) {
            Ok(peer) => peer,
            Err(error) => return refusal(error),
        };
        let spread = |claim: &PortClaim| claim.spread && !claim.gather();
        if lock(&self.shared.claim).as_ref().is_some_and(spread) {
            return refusal(unsupported(
                "sockets on several shards cannot be connected: which of them hears a peer is a matter of its flow",
            ));
        }
        self.ask(|answer| Order::Connect(peer, answer))
    }

    /// Sets how it and those that share its address divide what comes: what comes after the answer.
    ///
    /// # Errors
    /// `InvalidInput` without [`UdpOptions::reuse_port`], or connected; `Unsupported` for any other way than by the tuple or by
    /// core where they are on several shards.
    pub fn share_by(&self, how: ReusePort) -> Reply<io::Result<()>> {
        let claim = lock(&self.shared.claim);
        let spread = claim.as_ref().is_some_and(|claim| claim.spread);
        if spread && !matches!(how, ReusePort::Hash | ReusePort::Core) {
            return refusal(unsupported(
                "sockets on several shards divide datagrams by their flow only",
            ));
        }
        self.ask(|answer| Order::Share(how, answer))
    }

    /// Joins a multicast group, or leaves it.
    ///
    /// # Errors
    /// EINVAL for an address that is no group, EADDRINUSE when joined already, ENOBUFS after 20 groups,
    /// EADDRNOTAVAIL for one that was not joined, ENODEV for an interface to join on that is not there.
    pub fn membership(&self, join: bool, group: IpAddr, via: Via) -> Reply<io::Result<()>> {
        self.ask(|answer| Order::Group {
            join,
            group,
            via,
            answer,
        })
    }

    /// The interface with this name, for [`UdpOptions::device`].
    ///
    /// # Errors
    /// ENODEV.
    pub fn interface_named(&self, name: &str) -> Reply<io::Result<InterfaceId>> {
        let name = name.to_owned();
        self.question(move |host| {
            let found = host.interface_named(&name);
            found.ok_or_else(|| io_error(SocketError::NoSuchDevice))
        })
    }

    /// Binds the socket to an interface ([`UdpOptions::device`]): what comes after the answer is for it or not by that.
    ///
    /// # Errors
    /// As [`UdpHandle::set_options`].
    pub fn bind_device(&self, device: Option<InterfaceId>) -> io::Result<Reply<()>> {
        self.set_options(|options| options.device = device)?;
        Ok(self.question(|_| ()))
    }

    /// The name of an interface.
    ///
    /// # Errors
    /// ENODEV.
    pub fn interface_name(&self, id: InterfaceId) -> Reply<io::Result<String>> {
        self.question(move |host| {
            let found = host.interface_name(id).map(str::to_owned);
            found.ok_or_else(|| io_error(SocketError::NoSuchDevice))
        })
    }

    fn question<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Host) -> T + Send + 'static,
    ) -> Reply<T> {
        let (sender, answer) = reply();
        let state = self.shared.state();
        if !state.dead {
            let question = Question(Box::new(|host| sender.send(ask(host))));
            self.order(state, Order::Ask(question));
        }
        answer
    }

    /// The bound address; the port is the real one, also if 0 was asked for.
    ///
    /// # Errors
    /// `InvalidInput` before it was bound ([`Opening`](crate::Opening)).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared
            .state()
            .local
            .ok_or_else(|| io_error(SocketError::InvalidInput))
    }

    /// The connected peer.
    ///
    /// # Errors
    /// `NotConnected` without one.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.shared
            .state()
            .peer
            .ok_or_else(|| io_error(SocketError::NotConnected))
    }

    /// The pending error, as SO_ERROR, or why a datagram was not sent: reported once.
    pub fn take_error(&self) -> Option<io::Error> {
        let mut state = self.shared.state();
        let error = state.error.take().or_else(|| state.unsent.take());
        error.map(io_error)
    }

    /// The options as they are.
    pub fn options(&self) -> UdpOptions {
        self.shared.state().options
    }

    /// Changes options for what is sent from now on. Those that share the address were settled when it was bound.
    ///
    /// # Errors
    /// `InvalidInput` for a time to live of nought; `Unsupported` for another device where those that share the address are on
    /// several shards; the host has stopped.
    pub fn set_options(&self, change: impl FnOnce(&mut UdpOptions)) -> io::Result<()> {
        let claim = lock(&self.shared.claim);
        let mut state = self.shared.state();
        if state.stopped {
            return Err(stopped());
        }
        let mut options = state.options;
        change(&mut options);
        if options.ttl == Some(0) {
            return Err(io_error(SocketError::InvalidInput));
        }
        let spread = |claim: &PortClaim| claim.spread && !claim.gather();
        if options.device != state.options.device && claim.as_ref().is_some_and(spread) {
            return Err(unsupported(
                "sockets on several shards are bound to no device: flows are divided among them without a look at it",
            ));
        }
        let UdpOptions {
            reuse_addr,
            reuse_port,
            only_v6,
            ..
        } = state.options;
        let options = UdpOptions {
            reuse_addr,
            reuse_port,
            only_v6,
            ..options
        };
        if options == state.options {
            return Ok(());
        }
        state.options = options;
        match state.tx.back_mut() {
            // Nothing was sent in between.
            Some(Order::Set(last)) => *last = options,
            _ => self.order(state, Order::Set(options)),
        }
        Ok(())
    }
}

/// An answer that is there already.
fn refusal(error: io::Error) -> Reply<io::Result<()>> {
    let (sender, answer) = reply();
    sender.send(Err(error));
    answer
}

fn unsupported(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

impl Drop for UdpHandle {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        let dead = state.dead;
        let watches = std::mem::take(&mut state.watches);
        drop(state);
        watches.leave();
        // Who binds the port next need not wait for the shard.
        drop(lock(&self.shared.claim).take());
        if !dead {
            self.shared.notice();
        }
    }
}
