//! Header formats: views over any bytes, and representations that can always be emitted.
//!
//! Nothing here keeps state, allocates, or knows what a header means for a connection; that is `stack`'s work.
//! Each protocol is one module with the same two halves:
//!
//! * `Packet<'a>`, a lenient view. `Packet::new` checks only that the fixed header, and the header length it claims,
//!   fit in the bytes. Every accessor then returns what the bytes say, sensible or not.
//! * `Repr`, a header that makes sense. `Repr::parse` refuses what an RFC tells a receiver to drop; `Repr::emit`
//!   always succeeds when the buffer has room.
//!
//! Invariant: no function in this crate panics on any bytes, nor does any `Display`.
//! Invariant: `emit` panics only on a caller's error: a buffer shorter than documented, or (in debug builds) a field
//! beyond its documented bounds.
//! Invariant: `emit` leaves the checksum of TCP, UDP, ICMP, IGMP and MLD zero (a device may be the one to fill it);
//! the IPv4 header checksum is the one it computes.
//!
//! ```
//! use wire::udp::{HEADER_LEN, Packet, Repr};
//!
//! let mut bytes = *b"........hello";
//! Repr { src_port: 4000, dst_port: 53 }.emit(&mut bytes, 5);
//! let packet = Packet::new(&bytes)?;
//! assert_eq!((packet.dst_port(), packet.payload()), (53, &b"hello"[..]));
//! // What is there is not what is said: the view shows it all the same, and the representation refuses.
//! let cut = Packet::new(&bytes[..HEADER_LEN + 2])?;
//! assert_eq!((cut.payload(), Repr::parse(&cut)), (&b"he"[..], Err(wire::Error::Truncated)));
//! # Ok::<(), wire::Error>(())
//! ```

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod addr;
pub mod arp;
mod bytes;
pub mod checksum;
mod cidr;
mod error;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod igmp;
pub mod ipv4;
pub mod ipv6;
mod mac;
pub mod mld;
pub mod ndp;
mod pretty;
pub mod protocol;
mod quote;
pub mod tcp;
pub mod udp;
pub mod vlan;

pub use addr::{Addr, Family};
pub use cidr::Cidr;
pub use error::{Error, ParseError, Result};
pub use ethernet::EtherType;
pub use mac::Mac;
pub use pretty::{Pretty, PrettyIp};
pub use quote::Quote;
