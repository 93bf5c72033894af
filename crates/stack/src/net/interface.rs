//! Interfaces: what is known of a link, and the frames that wait to be transmitted on it.
//!
//! What does not live here: addresses (`address`), and the device, which is a port of the engine's.
//!
//! Invariant: a transmit queue never holds more frames than it was made for.

use std::collections::VecDeque;

use base::{Offloads, Packet};
use wire::Mac;

/// How an interface is to be set up.
#[derive(Debug, Clone)]
pub struct InterfaceConfig {
    /// Its name, for people.
    pub name: String,
    /// Its Ethernet address. `None` is a link between two that carries bare IP packets (TUN, PPP): no link header, no
    /// neighbours to ask for, no addresses to probe.
    pub mac: Option<Mac>,
    /// The longest IP packet its link carries: 576 to 65535; IPv6 needs 1280.
    pub mtu: usize,
    /// What its device does for frames.
    pub offloads: Offloads,
}

/// An interface: Ethernet, or point-to-point when it has no MAC address.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u16,
    /// As a router advertised it for IPv6, never more than `mtu` (RFC 4861 6.3.4).
    pub(crate) mtu_v6: u16,
    pub(crate) offloads: Offloads,
    /// Frames to be transmitted.
    pub(crate) queue: VecDeque<Packet>,
    pub(crate) queue_max: usize,
}
