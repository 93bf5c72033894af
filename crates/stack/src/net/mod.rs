//! The link and internet layers: interfaces, addresses, routes, neighbours, IP in and out, fragments, ICMP.
//!
//! What does not live here: transports and sockets.

/// Names one interface of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u8);
