//! Which of this host's addresses a packet is sent from (RFC 6724 section 5), for both families.
//!
//! What does not live here: the order in which to try several destinations (RFC 6724 section 6), which is the application's.
//!
//! Rules 4 (home addresses) does not apply: this host is no mobile node.

use core::cmp::Ordering;

use wire::{Addr, Cidr};

use super::InterfaceId;
use super::address::{AddressEntry, AddressState, Addresses};

/// Scopes of RFC 4291 section 2.7, which RFC 6724 section 3.1 gives unicast addresses, too.
const LINK: u8 = 0x2;
const SITE: u8 = 0x5;
const GLOBAL: u8 = 0xe;

/// How far an address reaches (RFC 6724 sections 3.1 and 3.2).
fn scope(addr: &Addr) -> u8 {
    let [first, second, ..] = addr.0;
    if addr.is_multicast() {
        return match addr.is_v4() {
            false => second & 0xf,
            true if addr.is_link_local_multicast() => LINK,
            true => GLOBAL,
        };
    }
    if addr.is_link_local() || addr.is_loopback() {
        LINK
    } else if first == 0xfe && second & 0xc0 == 0xc0 {
        SITE
    } else {
        GLOBAL
    }
}

/// The policy table of RFC 6724 section 2.1: prefix, its length, label; longest first.
const LABELS: [([u8; 16], u8, u8); 9] = {
    const fn start(a: u16, b: u16) -> [u8; 16] {
        let mut bytes = [0; 16];
        (bytes[0], bytes[1]) = ((a >> 8) as u8, a as u8);
        (bytes[2], bytes[3]) = ((b >> 8) as u8, b as u8);
        bytes
    }
    [
        (Addr::LOOPBACK_V6.0, 128, 0),
        (Addr::UNSPECIFIED_V4.0, 96, 4),
        ([0; 16], 96, 3),
        (start(0x2001, 0), 32, 5),
        (start(0x2002, 0), 16, 2),
        (start(0x3ffe, 0), 16, 12),
        (start(0xfec0, 0), 10, 11),
        (start(0xfc00, 0), 7, 13),
        ([0; 16], 0, 1),
    ]
};

fn label(addr: &Addr) -> u8 {
    LABELS
        .iter()
        .find(|(prefix, len, _)| Addr(*prefix).common_prefix(addr) >= *len)
        .map_or(1, |&(_, _, label)| label)
}

/// What a source is wanted for.
struct Purpose<'a> {
    dst: &'a Addr,
    interface: InterfaceId,
    next_hop: &'a Addr,
    scope: u8,
    label: u8,
}

/// The best address to send to `dst` from, by `interface` and `next_hop`; `None` when no address is fit.
///
/// As on Linux an address of another interface is a candidate, too (weak host), but for link-local ones, whose meaning ends
/// with their link, and for packets that do not leave the link.
pub(super) fn select(
    addresses: &Addresses,
    dst: &Addr,
    interface: InterfaceId,
    next_hop: &Addr,
) -> Option<Addr> {
    let purpose = Purpose {
        dst,
        interface,
        next_hop,
        scope: scope(dst),
        label: label(dst),
    };
    let stays = purpose.scope <= LINK || dst.is_multicast() || dst.is_broadcast();
    addresses
        .entries
        .iter()
        .map(|(_, entry)| entry)
        .filter(|entry| {
            let addr = entry.cidr.addr();
            entry.is_usable()
                && addr.is_v4() == dst.is_v4()
                && (entry.interface == interface || !(stays || addr.is_link_local()))
        })
        .reduce(|best, entry| {
            if prefer(entry, best, &purpose) == Ordering::Greater {
                entry
            } else {
                best
            }
        })
        .map(|entry| entry.cidr.addr())
}

/// `Greater` when `a` is the better source.
fn prefer(a: &AddressEntry, b: &AddressEntry, purpose: &Purpose<'_>) -> Ordering {
    let (sa, sb) = (a.cidr.addr(), b.cidr.addr());
    let by = |test: &dyn Fn(&AddressEntry) -> bool| test(a).cmp(&test(b));
    // Rule 1: prefer same address.
    by(&|x| x.cidr.addr() == *purpose.dst)
        // Rule 2: prefer appropriate scope.
        .then_with(|| match scope(&sa).cmp(&scope(&sb)) {
            Ordering::Equal => Ordering::Equal,
            Ordering::Less if scope(&sa) < purpose.scope => Ordering::Less,
            Ordering::Less => Ordering::Greater,
            Ordering::Greater if scope(&sb) < purpose.scope => Ordering::Greater,
            Ordering::Greater => Ordering::Less,
        })
        // Rule 3: avoid deprecated addresses.
        .then_with(|| by(&|x| x.state != AddressState::Deprecated))
        // Rule 5: prefer outgoing interface.
        .then_with(|| by(&|x| x.interface == purpose.interface))
        // Rule 5.5: prefer the prefix of the next hop: for IPv6 the router that advertised it, for IPv4 as Linux does.
        .then_with(|| by(&|x| shares_link(&x.cidr, purpose.next_hop)))
        // Rule 6: prefer matching label.
        .then_with(|| by(&|x| label(&x.cidr.addr()) == purpose.label))
        // Rule 7: prefer temporary addresses.
        .then_with(|| by(&|x| x.temporary))
        // Rule 8: use longest matching prefix, counted no further than the source's own prefix.
        .then_with(|| matching(&a.cidr, purpose.dst).cmp(&matching(&b.cidr, purpose.dst)))
}

fn shares_link(cidr: &Cidr, next_hop: &Addr) -> bool {
    !next_hop.is_link_local() && cidr.contains(*next_hop)
}

fn matching(cidr: &Cidr, dst: &Addr) -> u8 {
    cidr.addr().common_prefix(dst).min(cidr.mapped_prefix())
}

#[cfg(test)]
mod tests;
