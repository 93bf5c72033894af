//! Flows that are on another shard than their hash says, because their connections were moved: a table that all shards read.
//!
//! An entry is one word: a keyed hash of both ends, and the shard in the place of its last bits. It is in one of two buckets that
//! the hash gives. Readers take no lock; who changes entries does, which is rare. What a hash of 58 bits cannot tell apart nobody
//! can bring about who does not know the key.
//!
//! A connection on its way waits in a [`Lobby`] of the shard it goes to, and is there before the entry says so: whoever takes a
//! frame that was sent there by the entry looks into the lobby first, and finds it.
//!
//! What does not live here: how a connection is packed and unpacked (`stack`), and whose it is (`sockets`).
//!
//! Invariant: while there are no entries, a reader pays a branch.
//! Invariant: for a connection time does not go back: a shard whose turn began before it was packed is put forward to then.
//! Invariant: entries are as many as there may be at most; there is always one more or none.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use base::{Instant, SipKey};
use stack::{Host, SocketError, SocketId, TcpParcel};
use wire::Addr;

use crate::mailbox::lock;
use crate::sockets::TOKEN_GONE;

/// Entries of a bucket: a line of the cache.
const BUCKET: usize = 8;
/// Bits of an entry that say which shard.
const SHARD: u64 = 63;

/// Local and remote end of a connection.
pub(crate) type Ends = ((Addr, u16), (Addr, u16));

/// The entries, and where connections wait that are on their way.
#[derive(Debug)]
pub(crate) struct Moved {
    key: SipKey,
    buckets: Box<[[AtomicU64; BUCKET]]>,
    used: AtomicUsize,
    most: usize,
    change: Mutex<()>,
    lobbies: Box<[Lobby]>,
}

/// Connections that have come to one shard, and that it has not taken in yet.
#[derive(Debug, Default)]
struct Lobby {
    waiting: AtomicBool,
    list: Mutex<Vec<Arc<Luggage>>>,
}

/// What is to be taken in, or was.
#[derive(Debug)]
pub(crate) struct Luggage(Mutex<State>);

#[derive(Debug)]
enum State {
    Packed(TcpParcel),
    Unpacked(SocketId),
    Refused(TcpParcel, SocketError),
    /// It was taken up again.
    Empty,
}

impl Luggage {
    pub(crate) fn new(parcel: TcpParcel) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Packed(parcel))))
    }

    /// Takes the connection in, unless that was tried already. What happens to it until it is claimed is told to nobody; its end is
    /// watched for from now on, for it may come before that.
    fn unpack(&self, host: &mut Host, now: &mut Instant) {
        let mut state = lock(&self.0);
        *state = match std::mem::replace(&mut *state, State::Empty) {
            State::Packed(parcel) => {
                *now = (*now).max(parcel.taken_at());
                let (local, remote) = parcel.ends();
                match host.tcp_put(*now, parcel) {
                    Ok(id) => {
                        host.tcp_watch_end(local, remote);
                        let _ = host.set_token(id, TOKEN_GONE);
                        State::Unpacked(id)
                    }
                    Err((parcel, error)) => State::Refused(parcel, error),
                }
            }
            other => other,
        };
    }

    /// The connection on this host; or what there was no room for.
    pub(crate) fn claim(
        &self,
        host: &mut Host,
        now: &mut Instant,
    ) -> Result<SocketId, Option<(TcpParcel, SocketError)>> {
        self.unpack(host, now);
        match std::mem::replace(&mut *lock(&self.0), State::Empty) {
            State::Unpacked(id) => Ok(id),
            State::Refused(parcel, error) => Err(Some((parcel, error))),
            State::Packed(_) | State::Empty => Err(None),
        }
    }
}

/// Room for an entry, while nobody else changes any.
pub(crate) struct Room<'a> {
    slot: &'a AtomicU64,
    tag: u64,
    fresh: bool,
    moved: &'a Moved,
    _alone: MutexGuard<'a, ()>,
}

impl Room<'_> {
    /// Sends a connection to a shard: what comes for it goes there from now on.
    pub(crate) fn send(self, shard: usize, luggage: Arc<Luggage>) {
        let lobby = &self.moved.lobbies[shard];
        lock(&lobby.list).push(luggage);
        lobby.waiting.store(true, Ordering::Release);
        // Who reads this finds that.
        self.slot.store(self.tag | shard as u64, Ordering::Release);
        if self.fresh {
            self.moved.used.fetch_add(1, Ordering::Release);
        }
    }
}

impl Moved {
    /// A table for `most` connections among so many shards. `key` is secret.
    pub(crate) fn new(shards: usize, most: usize, key: SipKey) -> Arc<Self> {
        // Half full on average: a bucket of two that are both full is rare.
        let buckets = (2 * most).div_ceil(BUCKET).max(2);
        let bucket = || std::array::from_fn(|_| AtomicU64::new(0));
        Arc::new(Self {
            key,
            buckets: std::iter::repeat_with(bucket).take(buckets).collect(),
            used: AtomicUsize::new(0),
            most,
            change: Mutex::new(()),
            lobbies: (0..shards).map(|_| Lobby::default()).collect(),
        })
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.used.load(Ordering::Acquire) == 0
    }

    /// The hash of a connection without the bits that say which shard, never 0; and its two buckets.
    fn place(&self, ((local, port), (remote, remote_port)): &Ends) -> (u64, [usize; 2]) {
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(&local.0);
        bytes[16..32].copy_from_slice(&remote.0);
        bytes[32..34].copy_from_slice(&port.to_be_bytes());
        bytes[34..].copy_from_slice(&remote_port.to_be_bytes());
        let hash = self.key.hash(&bytes);
        let n = self.buckets.len() as u64;
        let one = (hash >> 32) % n;
        let other = (one + 1 + (hash >> 6 & 0x3ff_ffff) % (n - 1)) % n;
        (
            (hash & !SHARD).max(SHARD + 1),
            [one as usize, other as usize],
        )
    }

    fn slots(&self, buckets: [usize; 2]) -> impl Iterator<Item = &AtomicU64> {
        buckets.into_iter().flat_map(|bucket| &self.buckets[bucket])
    }

    /// The shard that has a connection, if it was moved.
    pub(crate) fn find(&self, ends: &Ends) -> Option<usize> {
        let (tag, buckets) = self.place(ends);
        let words = self.slots(buckets).map(|slot| slot.load(Ordering::Acquire));
        let mut words = words.filter(|word| word & !SHARD == tag);
        words.next().map(|word| (word & SHARD) as usize)
    }

    /// Room for a connection's entry, which may be there already.
    pub(crate) fn room(&self, ends: &Ends) -> Option<Room<'_>> {
        let alone = lock(&self.change);
        let (tag, buckets) = self.place(ends);
        let is = |slot: &&AtomicU64, tag| slot.load(Ordering::Relaxed) & !SHARD == tag;
        let known = self.slots(buckets).find(|slot| is(slot, tag));
        let fresh = known.is_none();
        let free = || {
            let may = self.used.load(Ordering::Relaxed) < self.most;
            self.slots(buckets).find(|slot| is(slot, 0)).filter(|_| may)
        };
        let slot = known.or_else(free)?;
        Some(Room {
            slot,
            tag,
            fresh,
            moved: self,
            _alone: alone,
        })
    }

    /// Nothing is left of a connection that was on `shard`.
    pub(crate) fn forget(&self, ends: &Ends, shard: usize) {
        let _alone = lock(&self.change);
        let (tag, buckets) = self.place(ends);
        let word = tag | shard as u64;
        let mut slots = self.slots(buckets);
        if let Some(slot) = slots.find(|slot| slot.load(Ordering::Relaxed) == word) {
            slot.store(0, Ordering::Release);
            self.used.fetch_sub(1, Ordering::Release);
        }
    }

    /// Takes in what has come to a shard, for which it may become later.
    #[inline]
    pub(crate) fn receive(&self, shard: usize, host: &mut Host, now: &mut Instant) {
        if !self.is_empty() && self.lobbies[shard].waiting.load(Ordering::Acquire) {
            self.unpack_all(shard, host, now);
        }
    }

    #[cold]
    fn unpack_all(&self, shard: usize, host: &mut Host, now: &mut Instant) {
        let lobby = &self.lobbies[shard];
        lobby.waiting.store(false, Ordering::Relaxed);
        // What is put in from now on says so again.
        std::sync::atomic::fence(Ordering::SeqCst);
        for luggage in std::mem::take(&mut *lock(&lobby.list)) {
            luggage.unpack(host, now);
        }
    }
}

#[cfg(test)]
impl Moved {
    /// An entry alone. False when there is no room for it.
    pub(super) fn enter(&self, ends: &Ends, shard: usize) -> bool {
        let Some(room) = self.room(ends) else {
            return false;
        };
        room.slot.store(room.tag | shard as u64, Ordering::Release);
        self.used
            .fetch_add(usize::from(room.fresh), Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use base::{Batch, Chain, Facts, Packet};
    use stack::{Config, InterfaceConfig, InterfaceId, TcpOptions};

    use super::*;

    fn ends(n: u32) -> Ends {
        let [_, a, b, c] = n.to_be_bytes();
        ((Addr::v4(10, 0, 0, 1), 80), (Addr::v4(10, a, b, c), 1000))
    }

    fn enter(moved: &Moved, n: u32, shard: usize) -> bool {
        moved.enter(&ends(n), shard)
    }

    #[test]
    fn entries_are_found_changed_and_forgotten() {
        let moved = Moved::new(64, 1000, SipKey([7; 16]));
        assert!(moved.is_empty());
        for n in 0..1000 {
            assert!(enter(&moved, n, n as usize % 64), "{n}");
        }
        assert!(!enter(&moved, 1000, 1), "no more than it is for");
        assert!(enter(&moved, 3, 60), "but what is there may change");
        for n in 0..2000 {
            let shard = if n == 3 { 60 } else { n as usize % 64 };
            assert_eq!(moved.find(&ends(n)), (n < 1000).then_some(shard));
        }
        moved.forget(&ends(3), 3);
        assert_eq!(moved.find(&ends(3)), Some(60), "it has gone on since");
        for n in 0..1000 {
            moved.forget(&ends(n), if n == 3 { 60 } else { n as usize % 64 });
        }
        assert!(moved.is_empty() && (0..1000).all(|n| moved.find(&ends(n)).is_none()));
    }

    /// A host at one end of a link between two.
    fn host(address: &str) -> Host {
        let config = Config {
            pool_blocks: 512,
            ..Config::default()
        };
        let now = Instant::from_secs(1);
        let mut host = Host::new(config, 1, now).unwrap();
        let link = InterfaceConfig {
            name: "a".to_owned(),
            mac: None,
            mtu: 1500,
            offloads: base::Offloads::NONE,
        };
        let interface = host.add_interface(now, link).unwrap();
        let cidr = address.parse().unwrap();
        host.add_address(now, interface, cidr).unwrap();
        host
    }

    /// What each says reaches the other, until both are silent.
    fn talk<'a>(mut a: &'a mut Host, mut b: &'a mut Host, now: Instant) {
        let (mut said, mut heard) = (Batch::new(), Batch::new());
        let mut quiet = 0;
        while quiet < 2 {
            a.poll_transmit(now, InterfaceId(0), &mut said);
            quiet = if said.is_empty() { quiet + 1 } else { 0 };
            while let Some(packet) = said.pop_front() {
                let mut bytes = vec![0; packet.chain.len()];
                a.pool().copy_out(&packet.chain, 0, &mut bytes);
                a.pool_mut().free(packet.chain);
                let mut chain = Chain::EMPTY;
                b.pool_mut().append_bytes(&mut chain, &bytes);
                let facts = Facts::NONE;
                heard.push(Packet { chain, facts }).unwrap();
            }
            b.handle_batch(now, InterfaceId(0), &mut heard);
            std::mem::swap(&mut a, &mut b);
        }
    }

    /// What happens to a connection before whoever serves it there has heard of it is taken for no other's, and its end is told.
    #[test]
    fn a_connection_may_end_before_it_is_claimed() {
        let moved = Moved::new(2, 16, SipKey([7; 16]));
        let mut now = Instant::from_secs(1);
        let (mut peer, mut from) = (host("10.0.0.9/24"), host("10.0.0.1/24"));
        let mut to = host("10.0.0.1/24");
        let (server, options) = ("10.0.0.1:80".parse().unwrap(), TcpOptions::default());
        let listener = from.tcp_listen(now, server, 1, &options).unwrap();
        let client = peer.tcp_connect(now, server, None, &options).unwrap();
        talk(&mut peer, &mut from, now);
        let (id, _) = from.tcp_accept(now, listener).unwrap();
        let parcel = from.tcp_take(now, id).unwrap();
        let (ends, luggage) = (parcel.ends(), Luggage::new(parcel));
        moved.room(&ends).unwrap().send(1, luggage.clone());
        moved.receive(1, &mut to, &mut now);
        peer.abort(now, client).unwrap();
        talk(&mut peer, &mut to, now);
        while let Some(event) = to.poll_event() {
            assert_eq!(event.token, TOKEN_GONE);
        }
        assert_eq!(to.poll_tcp_end(), Some(ends));
        let id = luggage.claim(&mut to, &mut now).unwrap();
        let read = to.tcp_recv(now, id, &mut [0]);
        assert_eq!(read, Err(SocketError::ConnectionReset));
        assert_eq!(to.poll_tcp_end(), None);
    }
}
