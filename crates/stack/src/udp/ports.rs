//! Who has which port: Linux's bind conflict rule, ephemeral ports, and the lookup of a datagram's socket.
//!
//! Every port in use has a record found by one array read, and one for each device that sockets of the port are bound to. Wildcard sockets hang there; sockets of one address and connected
//! ones are in hash tables that are asked only if the port has any.
//!
//! Conflicts are decided by counts, not by visits: a group counts the sockets that have its address, a port those of either
//! family.
//!
//! Invariant: a socket is counted by the group of its local address; it is found by way of the connected table, or as a
//! member of that group, never both.

use std::collections::BTreeMap;

use base::{FlowTable, Rng, SipKey, Slab};
use wire::Addr;

use super::{NONE, Socket, UdpOptions};
use crate::SocketError;
use crate::net::InterfaceId;
use crate::reuseport::{self, View};

/// Sockets with the same local address and port: how many, and the unconnected ones in order of binding.
#[derive(Debug)]
struct Group {
    addr: Addr,
    port: u16,
    device: Option<InterfaceId>,
    tally: Tally,
    members: Vec<Member>,
    /// Those of them that share with SO_REUSEPORT, if any did.
    share: Option<Box<reuseport::Group>>,
}

/// A socket of a group.
#[derive(Debug, Clone, Copy)]
struct Member {
    at: u32,
    /// Rises from one to the next, also between groups.
    came: u64,
    reuse_port: bool,
}

impl Group {
    /// Of two groups one of which a datagram is for, it is for that with the lower rank: who shares with SO_REUSEPORT stands behind
    /// those that were there before, others in front of them (as Linux's sockets of IPv6).
    fn rank(&self) -> (bool, u64) {
        match (self.members.last(), &self.share) {
            (Some(last), Some(share)) if last.reuse_port => (true, share.since()),
            (Some(last), _) => (false, u64::MAX - last.came),
            (None, _) => (true, u64::MAX),
        }
    }
}

/// How many sockets there are, by what they said of sharing when they were bound.
#[derive(Debug, Clone, Copy, Default)]
struct Tally([u32; 4]);

/// SO_REUSEADDR and SO_REUSEPORT as two bits.
fn sharing(options: &UdpOptions) -> usize {
    usize::from(options.reuse_addr) | usize::from(options.reuse_port) << 1
}

impl Tally {
    /// Whether one of them does not share with a newcomer: not both said SO_REUSEADDR, nor both SO_REUSEPORT.
    fn refuses(&self, newcomer: usize) -> bool {
        let mut kinds = self.0.iter().enumerate();
        kinds.any(|(kind, &n)| n > 0 && kind & newcomer == 0)
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

/// What one local port is used for, by sockets of one device or by those of none.
#[derive(Debug)]
struct Use {
    sockets: u32,
    connected: u32,
    /// Groups of one address.
    specific: u32,
    /// Sockets of one family, of any address.
    v4: Tally,
    v6: Tally,
    /// Group of IPv4 wildcard sockets, of IPv6-only ones, and of those for both families.
    wild4: u32,
    wild6: u32,
    dual: u32,
    port: u16,
    device: Option<InterfaceId>,
}

impl Use {
    fn new(port: u16, device: Option<InterfaceId>) -> Self {
        Self {
            sockets: 0,
            connected: 0,
            specific: 0,
            v4: Tally::default(),
            v6: Tally::default(),
            wild4: NONE,
            wild6: NONE,
            dual: NONE,
            port,
            device,
        }
    }

    /// Where the group of a wildcard socket hangs; `None` for a socket of one address.
    fn wild(&mut self, socket: &Socket) -> Option<&mut u32> {
        match Kind::of(socket) {
            Kind::Specific => None,
            Kind::Wild4 => Some(&mut self.wild4),
            Kind::Wild6 => Some(&mut self.wild6),
            Kind::Dual => Some(&mut self.dual),
        }
    }

    /// The count of a socket's family; those for both are counted by their group alone.
    fn family(&mut self, socket: &Socket) -> Option<&mut Tally> {
        match Kind::of(socket) {
            Kind::Dual => None,
            _ if socket.local.is_v4() => Some(&mut self.v4),
            _ => Some(&mut self.v6),
        }
    }
}

/// What datagrams a socket's local address takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Specific,
    Wild4,
    Wild6,
    Dual,
}

impl Kind {
    fn of(socket: &Socket) -> Self {
        let local = &socket.local;
        match (
            local.is_unspecified(),
            local.is_v4(),
            socket.options.only_v6,
        ) {
            (false, ..) => Self::Specific,
            (true, true, _) => Self::Wild4,
            (true, false, true) => Self::Wild6,
            (true, false, false) => Self::Dual,
        }
    }
}

/// The two ends of a datagram, as its receiver sees them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuple {
    pub(super) local: Addr,
    pub(super) remote: Addr,
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
}

impl Tuple {
    fn key(&self) -> [u8; 36] {
        let mut key = [0; 36];
        key[..16].copy_from_slice(&self.local.0);
        key[16..32].copy_from_slice(&self.remote.0);
        key[32..34].copy_from_slice(&self.local_port.to_be_bytes());
        key[34..].copy_from_slice(&self.remote_port.to_be_bytes());
        key
    }

    fn ends(&self) -> reuseport::Tuple {
        reuseport::Tuple {
            local: (self.local.to_ip(), self.local_port).into(),
            remote: (self.remote.to_ip(), self.remote_port).into(),
        }
    }

    fn of(socket: &Socket) -> Self {
        Self {
            local: socket.local,
            remote: socket.remote,
            local_port: socket.local_port,
            remote_port: socket.remote_port,
        }
    }
}

fn local_key(addr: &Addr, port: u16) -> [u8; 18] {
    let mut key = [0; 18];
    key[..16].copy_from_slice(&addr.0);
    key[16..].copy_from_slice(&port.to_be_bytes());
    key
}

/// All local ports.
#[derive(Debug)]
pub(super) struct Ports {
    by_port: Vec<u32>,
    /// The same of sockets that are bound to devices: few.
    by_device: BTreeMap<(u16, InterfaceId), u32>,
    uses: Slab<Use>,
    groups: Slab<Group>,
    specific: FlowTable,
    connected: FlowTable,
    /// Members of groups so far.
    came: u64,
    /// The number of this shard, for those who choose by it.
    pub(super) shard: usize,
    /// Of a shard whose ports others have to know.
    told: Option<Told>,
}

/// What other shards have to know of this one's ports.
#[derive(Debug)]
struct Told {
    /// How many there are: each chooses ephemeral ports that are no other's.
    shards: usize,
    /// Ports that have got their first socket, or lost their last.
    changed: Vec<u16>,
}

impl Ports {
    pub(super) fn new(sockets: u32, secret: SipKey) -> Self {
        Self {
            by_port: vec![NONE; 1 << 16],
            by_device: BTreeMap::new(),
            uses: Slab::with_capacity(sockets),
            groups: Slab::with_capacity(sockets),
            specific: FlowTable::with_capacity(2 * sockets, secret),
            connected: FlowTable::with_capacity(2 * sockets, secret),
            came: 0,
            shard: 0,
            told: None,
        }
    }

    /// From now on, which ports are in use is told.
    pub(super) fn tell(&mut self, shards: usize) {
        self.told = Some(Told {
            shards: shards.max(1),
            changed: Vec::new(),
        });
    }

    /// A port that has got its first socket, or lost its last, and whether it has one now.
    pub(super) fn pop_changed(&mut self) -> Option<(u16, bool)> {
        let port = self.told.as_mut()?.changed.pop()?;
        let used = self.by_port[usize::from(port)] != NONE || self.bound(port).next().is_some();
        Some((port, used))
    }

    /// The uses of a port by sockets that are bound to devices.
    fn bound(&self, port: u16) -> impl Iterator<Item = u32> + Clone {
        let devices = (port, InterfaceId(0))..=(port, InterfaceId::LOOPBACK);
        self.by_device.range(devices).map(|(_, slot)| *slot)
    }

    /// The use of a port by the sockets of a device, or of none.
    fn use_of(&self, port: u16, device: Option<InterfaceId>) -> u32 {
        match device {
            None => self.by_port[usize::from(port)],
            Some(device) => self.by_device.get(&(port, device)).copied().unwrap_or(NONE),
        }
    }

    fn changed(&mut self, port: u16) {
        if let Some(told) = &mut self.told {
            told.changed.push(port);
        }
    }

    /// Whether an ephemeral port may be this shard's.
    fn is_own(&self, port: u16) -> bool {
        let told = self.told.as_ref();
        told.is_none_or(|told| usize::from(port) % told.shards == self.shard)
    }

    /// Whether a socket may not have this address (Linux's `udp_lib_lport_inuse`): an overlapping one (Linux's
    /// `inet_rcv_saddr_equal` with wildcards) has it and does not share it with one that says `sharing`.
    /// Sockets of different devices are in nobody's way.
    fn conflicts(&self, new: &Socket, port: u16, sharing: usize) -> bool {
        let refused = |slot| self.conflicts_in(slot, new, sharing);
        refused(self.by_port[usize::from(port)])
            || match new.options.device {
                Some(_) => refused(self.use_of(port, new.options.device)),
                None => self.bound(port).any(refused),
            }
    }

    fn conflicts_in(&self, slot: u32, new: &Socket, sharing: usize) -> bool {
        let Some(used) = self.uses.at(slot) else {
            return false;
        };
        let has = |group: &Group| group.tally.refuses(sharing);
        let refuses = |slot| self.groups.at(slot).is_some_and(has);
        let own = match Kind::of(new) {
            Kind::Wild4 => used.v4.refuses(sharing),
            Kind::Wild6 => used.v6.refuses(sharing),
            Kind::Dual => used.v4.refuses(sharing) || used.v6.refuses(sharing),
            Kind::Specific if new.local.is_v4() => refuses(used.wild4),
            Kind::Specific => refuses(used.wild6),
        };
        own || refuses(used.dual) || self.specific_group(used, &new.local).is_some_and(has)
    }

    /// Finds a port for `new`, whose `local` is set: the one it wants, or a random one of `range` that nobody has at this
    /// address.
    pub(super) fn choose(
        &self,
        new: &Socket,
        wanted: u16,
        range: (u16, u16),
        rng: &mut Rng,
    ) -> Result<u16, SocketError> {
        if wanted != 0 {
            return if self.conflicts(new, wanted, sharing(&new.options)) {
                Err(SocketError::AddrInUse)
            } else {
                Ok(wanted)
            };
        }
        // RFC 6056 3.3.1. A port that has to be shared is passed over: sharing is for those who name the port.
        let (low, high) = (range.0.max(1), range.1.max(range.0.max(1)));
        let span = u32::from(high - low) + 1;
        let start = rng.below(span);
        (0..span)
            .map(|step| low + ((start + step) % span) as u16)
            .find(|&port| self.is_own(port) && !self.conflicts(new, port, 0))
            .ok_or(SocketError::AddrInUse)
    }

    /// Enters a socket whose local address and port are set and which is not connected.
    pub(super) fn insert(
        &mut self,
        sockets: &mut Slab<Socket>,
        at: u32,
    ) -> Result<(), SocketError> {
        let socket = sockets.at(at).ok_or(SocketError::BadSocket)?;
        let (port, device) = (socket.local_port, socket.options.device);
        let mut slot = self.use_of(port, device);
        if slot == NONE {
            let fresh = self.uses.insert(Use::new(port, device));
            slot = fresh.ok_or(SocketError::NoBuffers)?.index;
            match device {
                None => self.by_port[usize::from(port)] = slot,
                Some(device) => _ = self.by_device.insert((port, device), slot),
            }
            self.changed(port);
        }
        if let Some(used) = self.uses.at_mut(slot) {
            used.sockets += 1;
        }
        let joined = self.join(sockets, at);
        if joined.is_err() {
            self.remove(sockets, at);
        }
        joined
    }

    /// Takes a socket out of everything.
    pub(super) fn remove(&mut self, sockets: &mut Slab<Socket>, at: u32) {
        self.leave(sockets, at);
        let Some(socket) = sockets.at(at) else { return };
        let slot = self.use_of(socket.local_port, socket.options.device);
        let Some(used) = self.uses.at_mut(slot) else {
            return;
        };
        used.sockets -= 1;
        if used.sockets == 0 {
            let (port, device) = (used.port, used.device);
            match device {
                None => self.by_port[usize::from(port)] = NONE,
                Some(device) => _ = self.by_device.remove(&(port, device)),
            }
            self.uses.remove_at(slot);
            self.changed(port);
        }
    }

    /// Enters the lookup tables by the socket's present addresses: connected or by local address.
    ///
    /// # Errors
    /// A table has no place; the socket is then found by nobody until it joins again or is removed.
    pub(super) fn join(&mut self, sockets: &mut Slab<Socket>, at: u32) -> Result<(), SocketError> {
        let socket = sockets.at_mut(at).ok_or(SocketError::BadSocket)?;
        let device = socket.options.device;
        let slot = self.use_of(socket.local_port, device);
        let used = self.uses.at_mut(slot).ok_or(SocketError::BadSocket)?;
        let hash = self
            .specific
            .hash(&local_key(&socket.local, socket.local_port));
        let found = match used.wild(socket) {
            Some(slot) => Some(*slot).filter(|&slot| slot != NONE),
            None => self.specific.find(hash, |g| {
                let group = self.groups.at(g);
                let is_it = |g: &Group| g.addr == socket.local && g.port == socket.local_port;
                group.is_some_and(|g| is_it(g) && g.device == device)
            }),
        };
        let slot = match found {
            Some(slot) => slot,
            None => {
                let fresh = self.groups.insert(Group {
                    addr: socket.local,
                    port: socket.local_port,
                    device,
                    tally: Tally::default(),
                    members: Vec::new(),
                    share: None,
                });
                let key = fresh.ok_or(SocketError::NoBuffers)?;
                match used.wild(socket) {
                    Some(slot) => *slot = key.index,
                    None if self.specific.insert(hash, key.index).is_ok() => used.specific += 1,
                    None => {
                        self.groups.remove(key);
                        return Err(SocketError::NoBuffers);
                    }
                }
                key.index
            }
        };
        socket.group = slot;
        let kind = sharing(&socket.options);
        if let Some(family) = used.family(socket) {
            family.0[kind] += 1;
        }
        if let Some(group) = self.groups.at_mut(slot) {
            group.tally.0[kind] += 1;
            if !socket.connected() {
                self.came += 1;
                let (came, reuse_port) = (self.came, socket.options.reuse_port);
                group.members.push(Member {
                    at,
                    came,
                    reuse_port,
                });
                if reuse_port {
                    group.share.get_or_insert_default().join(at, came)?;
                }
            }
        }
        if !socket.connected() {
            return Ok(());
        }
        used.connected += 1;
        let hash = self.connected.hash(&Tuple::of(socket).key());
        let entered = self.connected.insert(hash, at);
        entered.map_err(|_| SocketError::NoBuffers)
    }

    /// Leaves the lookup tables; to be called before the socket's addresses change.
    pub(super) fn leave(&mut self, sockets: &mut Slab<Socket>, at: u32) {
        let Some(socket) = sockets.at_mut(at) else {
            return;
        };
        let used = self.use_of(socket.local_port, socket.options.device);
        let Some(used) = self.uses.at_mut(used) else {
            return;
        };
        let slot = core::mem::replace(&mut socket.group, NONE);
        let Some(group) = self.groups.at_mut(slot) else {
            return;
        };
        if socket.connected() {
            used.connected -= 1;
            self.connected
                .remove(self.connected.hash(&Tuple::of(socket).key()), at);
        } else {
            group.members.retain(|member| member.at != at);
            if let Some(share) = &mut group.share {
                share.leave(at);
            }
        }
        let kind = sharing(&socket.options);
        if let Some(family) = used.family(socket) {
            family.0[kind] -= 1;
        }
        group.tally.0[kind] -= 1;
        if !group.tally.is_empty() {
            return;
        }
        match used.wild(socket) {
            Some(wild) => *wild = NONE,
            None => {
                let key = local_key(&group.addr, group.port);
                self.specific.remove(self.specific.hash(&key), slot);
                used.specific -= 1;
            }
        }
        self.groups.remove_at(slot);
    }

    /// The uses of a port that something is about, the most particular first: what came by a device is for that one's sockets and for
    /// those of none, what came by none that counts for all.
    #[cold]
    fn uses_for(
        &self,
        port: u16,
        came_by: Option<InterfaceId>,
    ) -> impl Iterator<Item = &Use> + Clone {
        let one = came_by.map(|_| self.use_of(port, came_by));
        let all = came_by.is_none().then(|| self.bound(port));
        let slots = one.into_iter().chain(all.into_iter().flatten());
        let slots = slots.chain([self.use_of(port, None)]);
        slots.filter_map(|slot| self.uses.at(slot))
    }

    /// The use of a port by sockets of no device.
    #[inline]
    fn use_of_none(&self, port: u16) -> core::option::IntoIter<&Use> {
        self.uses.at(self.by_port[usize::from(port)]).into_iter()
    }

    /// The socket a unicast datagram is for: connected to its sender first, then of its address, then of any address, of each first that of
    /// the device it came by. `data` is what is at hand of its payload and how much there is of that; `None` for what only is about a
    /// datagram.
    pub(super) fn lookup(
        &self,
        sockets: &Slab<Socket>,
        (tuple, came_by): (&Tuple, Option<InterfaceId>),
        data: Option<(&[u8], usize)>,
    ) -> Option<u32> {
        let port = tuple.local_port;
        if self.by_device.is_empty() {
            return self.lookup_in(self.use_of_none(port), sockets, tuple, data);
        }
        self.lookup_in(self.uses_for(port, came_by), sockets, tuple, data)
    }

    #[inline]
    fn lookup_in<'a>(
        &'a self,
        mut uses: impl Iterator<Item = &'a Use> + Clone,
        sockets: &Slab<Socket>,
        tuple: &Tuple,
        data: Option<(&[u8], usize)>,
    ) -> Option<u32> {
        let connected = |used| self.connected_to(sockets, used, tuple);
        if let Some(at) = uses.clone().find_map(connected) {
            return Some(at);
        }
        let choose = |group| self.select(group, (tuple, data));
        let specific = |used| self.specific_group(used, &tuple.local).and_then(choose);
        if let Some(at) = uses.clone().find_map(specific) {
            return Some(at);
        }
        uses.find_map(|used| self.wildcards_for(used, &tuple.local).find_map(choose))
    }

    /// Calls `f` with every socket that a broadcast or multicast datagram is for.
    pub(super) fn each(
        &self,
        sockets: &Slab<Socket>,
        (tuple, came_by): (&Tuple, Option<InterfaceId>),
        mut f: impl FnMut(u32),
    ) {
        for used in self.uses_for(tuple.local_port, came_by) {
            if let Some(at) = self.connected_to(sockets, used, tuple) {
                f(at);
            }
            let specific = self.specific_group(used, &tuple.local);
            let wildcards = self.wildcards_for(used, &tuple.local);
            for group in specific.into_iter().chain(wildcards) {
                group.members.iter().for_each(|member| f(member.at));
            }
        }
    }

    fn connected_to(&self, sockets: &Slab<Socket>, used: &Use, tuple: &Tuple) -> Option<u32> {
        if used.connected == 0 {
            return None;
        }
        self.connected
            .find(self.connected.hash(&tuple.key()), |at| {
                sockets.at(at).is_some_and(|s| {
                    s.options.device == used.device
                        && s.remote_port == tuple.remote_port
                        && s.local_port == tuple.local_port
                        && s.remote == tuple.remote
                        && s.local == tuple.local
                })
            })
    }

    /// The group of one address.
    fn specific_group(&self, used: &Use, local: &Addr) -> Option<&Group> {
        if used.specific == 0 {
            return None;
        }
        let matches =
            |g: &Group| g.addr == *local && g.port == used.port && g.device == used.device;
        let hash = self.specific.hash(&local_key(local, used.port));
        let found = self
            .specific
            .find(hash, |g| self.groups.at(g).is_some_and(matches));
        self.groups.at(found?)
    }

    /// The groups of wildcards a datagram may be for; those of IPv6, whether or not they take IPv4, are alike.
    fn wildcards_for(&self, used: &Use, local: &Addr) -> impl Iterator<Item = &Group> {
        let wild = if local.is_v4() {
            used.wild4
        } else {
            used.wild6
        };
        let mut wild = [wild, used.dual].map(|slot| self.groups.at(slot));
        if let [Some(own), Some(both)] = wild
            && !local.is_v4()
            && both.rank() < own.rank()
        {
            wild.reverse();
        }
        wild.into_iter().flatten()
    }

    /// One of a group: as those choose that share with SO_REUSEPORT, else the one bound last, as Linux has it.
    fn select(
        &self,
        group: &Group,
        (tuple, data): (&Tuple, Option<(&[u8], usize)>),
    ) -> Option<u32> {
        let last = *group.members.last()?;
        match &group.share {
            Some(share) if group.members.len() > 1 && last.reuse_port => share.pick(&View {
                tuple: tuple.ends(),
                hash: self.connected.hash(&tuple.key()),
                data,
                core: self.shard,
            }),
            _ => Some(last.at),
        }
    }

    /// The sockets that share an address with this one by SO_REUSEPORT.
    pub(super) fn share(&mut self, socket: &Socket) -> Option<&mut reuseport::Group> {
        let group = self.groups.at_mut(socket.group)?;
        group
            .share
            .as_deref_mut()
            .filter(|_| socket.options.reuse_port)
    }

    /// Records in use: ports, groups, groups of one address, connected sockets.
    #[cfg(test)]
    pub(super) fn records(&self) -> [u32; 4] {
        [
            self.uses.len(),
            self.groups.len(),
            self.specific.len(),
            self.connected.len(),
        ]
    }
}
