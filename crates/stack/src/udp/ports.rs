//! Who has which port: Linux's bind conflict rule, ephemeral ports, and the lookup of a datagram's socket.
//!
//! Every port in use has a record found by one array read. Wildcard sockets hang there; sockets of one address and connected
//! ones are in hash tables that are asked only if the port has any.
//!
//! Invariant: a socket is in the connected table or in exactly one group, never in both.

use base::{FlowTable, Rng, SipKey, Slab};
use wire::Addr;

use super::{NONE, Socket};
use crate::SocketError;

/// Sockets with the same local address and port, unconnected, in order of binding.
#[derive(Debug)]
struct Group {
    addr: Addr,
    port: u16,
    members: Vec<u32>,
}

/// What one local port is used for.
#[derive(Debug)]
struct Use {
    sockets: u32,
    reuse_addr: u32,
    reuse_port: u32,
    connected: u32,
    specific: u32,
    /// Group of IPv4 wildcard sockets, of IPv6-only ones, and of those for both families.
    wild4: u32,
    wild6: u32,
    dual: u32,
    first: u32,
    port: u16,
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

/// Whether two local addresses of the same port overlap (Linux's `inet_rcv_saddr_equal` with wildcards).
fn overlap(a: &Addr, a_only_v6: bool, b: &Addr, b_only_v6: bool) -> bool {
    match (a.is_v4(), b.is_v4()) {
        (true, false) => *b == Addr::UNSPECIFIED_V6 && !b_only_v6,
        (false, true) => *a == Addr::UNSPECIFIED_V6 && !a_only_v6,
        _ => a == b || a.is_unspecified() || b.is_unspecified(),
    }
}

/// All local ports.
#[derive(Debug)]
pub(super) struct Ports {
    by_port: Vec<u32>,
    uses: Slab<Use>,
    groups: Slab<Group>,
    specific: FlowTable,
    connected: FlowTable,
}

impl Ports {
    pub(super) fn new(sockets: u32, secret: SipKey) -> Self {
        Self {
            by_port: vec![NONE; 1 << 16],
            uses: Slab::with_capacity(sockets),
            groups: Slab::with_capacity(sockets),
            specific: FlowTable::with_capacity(2 * sockets, secret),
            connected: FlowTable::with_capacity(2 * sockets, secret),
        }
    }

    /// Whether a socket may not have this address (Linux's `udp_lib_lport_inuse`): an overlapping one has it, and not both
    /// said SO_REUSEADDR, nor both SO_REUSEPORT.
    fn conflicts(&self, sockets: &Slab<Socket>, new: &Socket, port: u16) -> bool {
        let Some(used) = self.uses.at(self.by_port[usize::from(port)]) else {
            return false;
        };
        if (new.options.reuse_addr && used.reuse_addr == used.sockets)
            || (new.options.reuse_port && used.reuse_port == used.sockets)
        {
            return false;
        }
        let mut next = used.first;
        while let Some(old) = sockets.at(next) {
            let shared = (new.options.reuse_addr && old.options.reuse_addr)
                || (new.options.reuse_port && old.options.reuse_port);
            if !shared
                && overlap(
                    &new.local,
                    new.options.only_v6,
                    &old.local,
                    old.options.only_v6,
                )
            {
                return true;
            }
            next = old.port_next;
        }
        false
    }

    /// Finds a port for `new`, whose `local` is set: the one it wants, or a random one of `range` that nobody shares.
    pub(super) fn choose(
        &self,
        sockets: &Slab<Socket>,
        new: &Socket,
        wanted: u16,
        range: (u16, u16),
        rng: &mut Rng,
    ) -> Result<u16, SocketError> {
        if wanted != 0 {
            return if self.conflicts(sockets, new, wanted) {
                Err(SocketError::AddrInUse)
            } else {
                Ok(wanted)
            };
        }
        // RFC 6056 3.3.1. A port that is used at all is passed over: sharing is for those who name the port.
        let (low, high) = (range.0.max(1), range.1.max(range.0.max(1)));
        let span = u32::from(high - low) + 1;
        let start = rng.below(span);
        (0..span)
            .map(|step| low + ((start + step) % span) as u16)
            .find(|&port| self.by_port[usize::from(port)] == NONE)
            .ok_or(SocketError::AddrInUse)
    }

    /// Enters a socket whose local address and port are set and which is not connected.
    pub(super) fn insert(
        &mut self,
        sockets: &mut Slab<Socket>,
        at: u32,
    ) -> Result<(), SocketError> {
        let socket = sockets.at(at).ok_or(SocketError::BadSocket)?;
        let (port, reuse_addr, reuse_port) = (
            socket.local_port,
            socket.options.reuse_addr,
            socket.options.reuse_port,
        );
        if self.by_port[usize::from(port)] == NONE {
            let fresh = Use {
                sockets: 0,
                reuse_addr: 0,
                reuse_port: 0,
                connected: 0,
                specific: 0,
                wild4: NONE,
                wild6: NONE,
                dual: NONE,
                first: NONE,
                port,
            };
            self.by_port[usize::from(port)] =
                self.uses.insert(fresh).ok_or(SocketError::NoBuffers)?.index;
        }
        let used = self
            .uses
            .at_mut(self.by_port[usize::from(port)])
            .ok_or(SocketError::NoBuffers)?;
        used.sockets += 1;
        used.reuse_addr += u32::from(reuse_addr);
        used.reuse_port += u32::from(reuse_port);
        let next = core::mem::replace(&mut used.first, at);
        if let Some(next) = sockets.at_mut(next) {
            next.port_previous = at;
        }
        if let Some(socket) = sockets.at_mut(at) {
            socket.port_next = next;
            socket.port_previous = NONE;
        }
        if self.join(sockets, at) {
            return Ok(());
        }
        self.remove(sockets, at);
        Err(SocketError::NoBuffers)
    }

    /// Takes a socket out of everything.
    pub(super) fn remove(&mut self, sockets: &mut Slab<Socket>, at: u32) {
        self.leave(sockets, at);
        let Some(socket) = sockets.at(at) else { return };
        let (next, previous) = (socket.port_next, socket.port_previous);
        let slot = self.by_port[usize::from(socket.local_port)];
        let Some(used) = self.uses.at_mut(slot) else {
            return;
        };
        used.sockets -= 1;
        used.reuse_addr -= u32::from(socket.options.reuse_addr);
        used.reuse_port -= u32::from(socket.options.reuse_port);
        if previous == NONE {
            used.first = next;
        }
        if used.sockets == 0 {
            self.by_port[usize::from(used.port)] = NONE;
            if let Some(key) = self.uses.key_of(slot) {
                self.uses.remove(key);
            }
        }
        if let Some(previous) = sockets.at_mut(previous) {
            previous.port_next = next;
        }
        if let Some(next) = sockets.at_mut(next) {
            next.port_previous = previous;
        }
    }

    /// Enters the lookup tables by the socket's present addresses: connected or by local address. False when a table has no
    /// place; the socket is then found by nobody until it joins again or is removed.
    #[must_use]
    pub(super) fn join(&mut self, sockets: &mut Slab<Socket>, at: u32) -> bool {
        let Some(socket) = sockets.at_mut(at) else {
            return false;
        };
        let Some(used) = self
            .uses
            .at_mut(self.by_port[usize::from(socket.local_port)])
        else {
            return false;
        };
        if socket.connected() {
            used.connected += 1;
            return self
                .connected
                .insert(self.connected.hash(&Tuple::of(socket).key()), at)
                .is_ok();
        }
        let (addr, port) = (socket.local, socket.local_port);
        let wild = match (addr.is_unspecified(), addr.is_v4(), socket.options.only_v6) {
            (false, ..) => None,
            (true, true, _) => Some(&mut used.wild4),
            (true, false, true) => Some(&mut used.wild6),
            (true, false, false) => Some(&mut used.dual),
        };
        let hash = self.specific.hash(&local_key(&addr, port));
        let found = match &wild {
            Some(slot) => Some(**slot).filter(|&slot| slot != NONE),
            None => self.specific.find(hash, |g| {
                self.groups
                    .at(g)
                    .is_some_and(|g| g.addr == addr && g.port == port)
            }),
        };
        let group = match found {
            Some(group) => group,
            None => {
                let Some(key) = self.groups.insert(Group {
                    addr,
                    port,
                    members: Vec::new(),
                }) else {
                    return false;
                };
                match wild {
                    Some(slot) => *slot = key.index,
                    None if self.specific.insert(hash, key.index).is_ok() => used.specific += 1,
                    None => {
                        self.groups.remove(key);
                        return false;
                    }
                }
                key.index
            }
        };
        socket.group = group;
        if let Some(group) = self.groups.at_mut(group) {
            group.members.push(at);
        }
        true
    }

    /// Leaves the lookup tables; to be called before the socket's addresses change.
    pub(super) fn leave(&mut self, sockets: &mut Slab<Socket>, at: u32) {
        let Some(socket) = sockets.at_mut(at) else {
            return;
        };
        let Some(used) = self
            .uses
            .at_mut(self.by_port[usize::from(socket.local_port)])
        else {
            return;
        };
        if socket.connected() {
            used.connected -= 1;
            self.connected
                .remove(self.connected.hash(&Tuple::of(socket).key()), at);
            return;
        }
        let slot = core::mem::replace(&mut socket.group, NONE);
        let Some(group) = self.groups.at_mut(slot) else {
            return;
        };
        group.members.retain(|&member| member != at);
        if !group.members.is_empty() {
            return;
        }
        for wild in [&mut used.wild4, &mut used.wild6, &mut used.dual] {
            if *wild == slot {
                *wild = NONE;
            }
        }
        if self.specific.remove(
            self.specific.hash(&local_key(&group.addr, group.port)),
            slot,
        ) {
            used.specific -= 1;
        }
        if let Some(key) = self.groups.key_of(slot) {
            self.groups.remove(key);
        }
    }

    /// The socket a unicast datagram is for: connected to its sender first, then of its address, then of any address.
    pub(super) fn lookup(&self, sockets: &Slab<Socket>, tuple: &Tuple) -> Option<u32> {
        let used = self.uses.at(self.by_port[usize::from(tuple.local_port)])?;
        if let Some(at) = self.connected_to(sockets, used, tuple) {
            return Some(at);
        }
        [
            self.specific_group(used, tuple),
            self.wild_group(used, tuple),
            self.dual_group(used),
        ]
        .into_iter()
        .flatten()
        .find_map(|group| self.select(sockets, group, tuple))
    }

    /// Calls `f` with every socket that a broadcast or multicast datagram is for.
    pub(super) fn each(&self, sockets: &Slab<Socket>, tuple: &Tuple, mut f: impl FnMut(u32)) {
        let Some(used) = self.uses.at(self.by_port[usize::from(tuple.local_port)]) else {
            return;
        };
        if let Some(at) = self.connected_to(sockets, used, tuple) {
            f(at);
        }
        for group in [
            self.specific_group(used, tuple),
            self.wild_group(used, tuple),
            self.dual_group(used),
        ] {
            group
                .into_iter()
                .flat_map(|group| &group.members)
                .for_each(|&at| f(at));
        }
    }

    fn connected_to(&self, sockets: &Slab<Socket>, used: &Use, tuple: &Tuple) -> Option<u32> {
        if used.connected == 0 {
            return None;
        }
        self.connected
            .find(self.connected.hash(&tuple.key()), |at| {
                sockets.at(at).is_some_and(|s| {
                    s.remote_port == tuple.remote_port
                        && s.local_port == tuple.local_port
                        && s.remote == tuple.remote
                        && s.local == tuple.local
                })
            })
    }

    fn specific_group(&self, used: &Use, tuple: &Tuple) -> Option<&Group> {
        if used.specific == 0 {
            return None;
        }
        let matches = |g: &Group| g.addr == tuple.local && g.port == tuple.local_port;
        let hash = self
            .specific
            .hash(&local_key(&tuple.local, tuple.local_port));
        self.groups.at(self
            .specific
            .find(hash, |g| self.groups.at(g).is_some_and(matches))?)
    }

    fn wild_group(&self, used: &Use, tuple: &Tuple) -> Option<&Group> {
        self.groups.at(if tuple.local.is_v4() {
            used.wild4
        } else {
            used.wild6
        })
    }

    fn dual_group(&self, used: &Use) -> Option<&Group> {
        self.groups.at(used.dual)
    }

    /// One of a group: by flow when they share with SO_REUSEPORT, else the one bound last, as Linux has it.
    fn select(&self, sockets: &Slab<Socket>, group: &Group, tuple: &Tuple) -> Option<u32> {
        let last = *group.members.last()?;
        if group.members.len() == 1 || !sockets.at(last)?.options.reuse_port {
            return Some(last);
        }
        let hash = self.connected.hash(&tuple.key()) as u32;
        let pick = (u64::from(hash) * group.members.len() as u64) >> 32;
        let at = group.members[pick as usize];
        Some(if sockets.at(at)?.options.reuse_port {
            at
        } else {
            last
        })
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
