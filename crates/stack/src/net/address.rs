//! Addresses of this host.
//!
//! What does not live here: how they are found to be unique (`dad`) or come from routers (`slaac`); choosing between them
//! (`source`).
//!
//! Invariant: an address is assigned to at most one interface.

use base::{Instant, Slab};
use wire::Cidr;

use super::InterfaceId;

/// Addresses a host can have.
const MAX: u32 = 256;

/// How far an address may be used (RFC 4862 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressState {
    /// Not known to be unique yet: neither sent from nor received at.
    Tentative,
    /// Somebody else has it; not used.
    Duplicate,
    /// In use.
    Preferred,
    /// Received at, and sent from where it is asked for or in use already; not chosen for anything new.
    Deprecated,
}

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Set by the application.
    Manual,
    /// The link-local address the host gave itself.
    LinkLocal,
    /// Made of an advertised prefix (RFC 4862).
    Slaac,
}

/// An address of this host.
#[derive(Debug, Clone)]
pub(crate) struct AddressEntry {
    /// The address and the length of its prefix.
    pub(crate) cidr: Cidr,
    pub(crate) interface: InterfaceId,
    pub(crate) state: AddressState,
    pub(crate) origin: Origin,
    /// A temporary address (RFC 8981).
    pub(crate) temporary: bool,
    pub(crate) preferred_until: Instant,
    pub(crate) valid_until: Instant,
    /// Probes sent so far in duplicate detection.
    pub(crate) probes: u8,
}

/// All addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) entries: Slab<AddressEntry>,
}

impl Addresses {
    pub(crate) fn new() -> Self {
        Self {
            entries: Slab::with_capacity(MAX),
        }
    }
}
