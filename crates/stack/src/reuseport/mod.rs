//! SO_REUSEPORT: sockets that share one address and port, and which of them a packet is for.
//!
//! A group is made by the first socket that is bound with the option, and has the others as they come. Their numbers are Linux's:
//! in order of coming, and the last one takes the place of who goes.
//!
//! What does not live here: who may share an address (`udp::ports`, `tcp::listen`).
//!
//! Invariant: choosing costs the same however many members there are, but for what a program costs.
//! Invariant: while nobody comes or goes a tuple has the same member, unless a program says otherwise.

mod bpf;
mod slots;

use core::fmt;
use core::net::SocketAddr;
use core::panic::AssertUnwindSafe;
use std::sync::Arc;

pub use bpf::{BadFilter, Filter, Instruction};
use slots::Slots;

use crate::error::SocketError;
use bpf::Facts;

/// Members a group may have. Linux has 65,535.
pub(crate) const MOST: usize = 4096;

/// The two ends of a packet, as its receiver sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// The address here.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

/// How a group of sockets that share their address (SO_REUSEPORT) divides what comes.
#[derive(Default)]
pub enum ReusePort {
    /// By the tuple: each has its member, and whoever comes or goes moves the tuples of no other.
    #[default]
    Hash,
    /// The member that came first takes all; when it goes, the next.
    Standby,
    /// The member with the number of the shard that received the packet; by the tuple if there is none.
    Core,
    /// A classic BPF program says the number, of the bytes behind the transport header (SO_ATTACH_REUSEPORT_CBPF); by the tuple if
    /// there is none. It sees those that lie in the packet's first block: 2 KiB, headers included.
    Filter(Filter),
    /// As that, a closure. It runs on the packet path, so it should be short. Where it panics it has said nothing.
    Program(Program),
}

/// A closure that says the number of a packet's member.
pub type Program = Box<dyn Fn(&Tuple, &[u8]) -> usize + Send + Sync>;

impl ReusePort {
    /// As many of the same, for sockets on several shards.
    pub fn copies(self, n: usize) -> Vec<Self> {
        match self {
            Self::Hash => (0..n).map(|_| Self::Hash).collect(),
            Self::Standby => (0..n).map(|_| Self::Standby).collect(),
            Self::Core => (0..n).map(|_| Self::Core).collect(),
            Self::Filter(filter) => (0..n).map(|_| Self::Filter(filter.clone())).collect(),
            Self::Program(program) => {
                let program = Arc::new(program);
                let copy = |_| -> Self {
                    let program = program.clone();
                    Self::Program(Box::new(move |tuple, data| program(tuple, data)))
                };
                (0..n).map(copy).collect()
            }
        }
    }
}

impl fmt::Debug for ReusePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hash => "Hash",
            Self::Standby => "Standby",
            Self::Core => "Core",
            Self::Filter(_) => "Filter",
            Self::Program(_) => "Program",
        })
    }
}

/// What is known of a packet whose member is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) tuple: Tuple,
    /// Of the tuple, with a secret.
    pub(crate) hash: u64,
    /// The bytes behind the transport header that are at hand, and how many there are; `None` for what is no packet, which
    /// goes by the tuple.
    pub(crate) data: Option<(&'a [u8], usize)>,
    /// The shard that received it.
    pub(crate) core: usize,
}

/// One group: sockets by their index.
#[derive(Debug, Default)]
pub(crate) struct Group {
    members: Vec<Member>,
    slots: Slots,
    /// The number of who came first.
    first: usize,
    selector: ReusePort,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    at: u32,
    came: u64,
}

impl Group {
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Any member.
    pub(crate) fn any(&self) -> Option<u32> {
        self.members.first().map(|member| member.at)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = u32> + '_ {
        self.members.iter().map(|member| member.at)
    }

    /// Sets how it chooses.
    pub(crate) fn select_by(&mut self, selector: ReusePort) {
        self.selector = selector;
    }

    /// Whether a program chooses; it does no more.
    ///
    /// # Errors
    /// `NotFound` when none did.
    pub(crate) fn forget_program(&mut self) -> Result<(), SocketError> {
        match self.selector {
            ReusePort::Filter(_) | ReusePort::Program(_) => {
                self.selector = ReusePort::Hash;
                Ok(())
            }
            _ => Err(SocketError::NotFound),
        }
    }

    /// When the member came that came first: of two groups one of which a packet is for, it is for the older one.
    pub(crate) fn since(&self) -> u64 {
        self.members.get(self.first).map_or(u64::MAX, |m| m.came)
    }

    /// `came` is a number that rises from one to the next, also between groups.
    ///
    /// # Errors
    /// `NoMemory` when it is full (as Linux).
    pub(crate) fn join(&mut self, at: u32, came: u64) -> Result<(), SocketError> {
        if self.len() >= MOST {
            return Err(SocketError::NoMemory);
        }
        self.members.push(Member { at, came });
        self.slots.add();
        Ok(())
    }

    pub(crate) fn leave(&mut self, at: u32) {
        let Some(number) = self.members.iter().position(|member| member.at == at) else {
            return;
        };
        self.members.swap_remove(number);
        self.slots.remove(number);
        let first = self.members.iter().enumerate().min_by_key(|(_, m)| m.came);
        self.first = first.map_or(0, |(number, _)| number);
    }

    /// The member a packet is for. `None` without members.
    pub(crate) fn pick(&self, view: &View<'_>) -> Option<u32> {
        let number = match (&self.selector, view.data) {
            (ReusePort::Hash, _) => None,
            (ReusePort::Standby, _) => Some(self.first),
            (ReusePort::Core, _) => Some(view.core),
            (ReusePort::Filter(filter), Some((data, len))) => {
                let facts = Facts {
                    len: len as u32,
                    cpu: view.core as u32,
                    hash: view.hash as u32,
                };
                Some(filter.run(data, &facts) as usize)
            }
            (ReusePort::Program(program), Some((data, _))) => {
                // It is the user's: what it breaks must not be the host. It was lent nothing that it could leave half done.
                let call = AssertUnwindSafe(|| program(&view.tuple, data));
                std::panic::catch_unwind(call).ok()
            }
            (ReusePort::Filter(_) | ReusePort::Program(_), None) => None,
        };
        let named = number.and_then(|number| self.members.get(number));
        let member = match named {
            Some(member) => member,
            None => self.members.get(self.slots.pick(view.hash)?)?,
        };
        Some(member.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(hash: u64, data: &[u8], core: usize) -> View<'_> {
        View {
            tuple: Tuple {
                local: "10.0.0.1:80".parse().unwrap(),
                remote: "10.0.0.2:5000".parse().unwrap(),
            },
            hash,
            data: Some((data, data.len())),
            core,
        }
    }

    fn group(members: u32) -> Group {
        let mut group = Group::default();
        (0..members).for_each(|n| group.join(100 + n, n.into()).unwrap());
        group
    }

    /// The first one takes all; when it goes the next in order of coming does, whatever numbers they have.
    #[test]
    fn standby_takes_over_in_order() {
        let mut group = group(4);
        group.select_by(ReusePort::Standby);
        for first in 100..104 {
            for hash in 0..50 {
                assert_eq!(group.pick(&view(hash, &[], 0)), Some(first));
            }
            group.leave(first);
        }
        assert_eq!(group.pick(&view(1, &[], 0)), None);
        group.join(7, 9).unwrap();
        assert_eq!(group.pick(&view(1, &[], 0)), Some(7));
    }

    #[test]
    fn a_core_has_its_member_and_one_too_many_the_tuples() {
        let mut group = group(3);
        group.select_by(ReusePort::Core);
        for core in 0..3 {
            assert_eq!(group.pick(&view(9, &[], core)), Some(100 + core as u32));
        }
        let by_tuple = group.pick(&view(9, &[], 3));
        group.select_by(ReusePort::Hash);
        assert_eq!(group.pick(&view(9, &[], 3)), by_tuple);
    }

    #[test]
    fn programs_say_the_number() {
        let mut group = group(3);
        let by_tuple = group.pick(&view(5, &[], 0));
        let first_byte = Instruction {
            code: 0x30,
            jt: 0,
            jf: 0,
            k: 0,
        };
        let ret = Instruction {
            code: 0x16,
            ..first_byte
        };
        let program = ReusePort::Program(Box::new(|_, data| {
            data.first().map_or(0, |&byte| byte.into())
        }));
        let filter = ReusePort::Filter(Filter::new(&[first_byte, ret]).unwrap());
        for selector in [filter, program] {
            group.select_by(selector);
            for n in 0..3 {
                assert_eq!(group.pick(&view(5, &[n], 0)), Some(100 + u32::from(n)));
            }
            assert_eq!(group.pick(&view(5, &[3], 0)), by_tuple, "there is no such");
            let no_packet = View {
                data: None,
                ..view(5, &[1], 0)
            };
            assert_eq!(group.pick(&no_packet), by_tuple);
            assert_eq!(group.forget_program(), Ok(()));
            assert_eq!(group.pick(&view(5, &[1], 0)), by_tuple);
            assert_eq!(group.forget_program(), Err(SocketError::NotFound));
        }
    }

    #[test]
    fn a_program_that_panics_says_nothing() {
        let mut group = group(3);
        let by_tuple = group.pick(&view(5, &[], 0));
        group.select_by(ReusePort::Program(Box::new(|_, data| {
            usize::from(data[1]) // of one byte
        })));
        assert_eq!(group.pick(&view(5, &[1], 0)), by_tuple);
        assert_eq!(group.pick(&view(5, &[1, 2], 0)), Some(102));
    }

    #[test]
    fn a_group_is_bounded() {
        let mut group = group(MOST as u32);
        assert_eq!(group.join(9999, 9999), Err(SocketError::NoMemory));
        group.leave(100);
        assert_eq!(group.join(9999, 9999), Ok(()));
    }
}
