//! Stateless address autoconfiguration (RFC 4862 5.3, 5.5) with stable, opaque interface identifiers (RFC 7217).
//!
//! What does not live here: duplicate detection and the end of lifetimes (`dad`), reading advertisements (`router`).

use core::time::Duration;

use base::{Instant, SipKey, siphash24};
use wire::ndp::PrefixInfo;
use wire::{Addr, Cidr, Mac};

use super::{AddressEntry, AddressState, InterfaceId, Net, Origin};
use crate::context::Core;
use crate::stats::Count;

/// RFC 7217 5 IDGEN_RETRIES.
const IDGEN_RETRIES: u8 = 3;
/// Addresses one interface takes from advertisements (Linux's `max_addresses`).
const ADDRESSES: usize = 16;
/// RFC 4862 5.5.3 e: an advertisement cannot cut a valid lifetime below this.
const TWO_HOURS: Duration = Duration::from_secs(2 * 3600);

/// The interface identifier for a prefix (RFC 7217 5): the same for the same prefix, interface and key, telling nothing else.
/// The link-layer address names the interface; there is no network identifier.
pub(super) fn interface_id(key: &SipKey, prefix: &Addr, mac: Mac, mut attempts: u8) -> [u8; 8] {
    loop {
        let mut input = [0; 15];
        input[..8].copy_from_slice(&prefix.0[..8]);
        input[8..14].copy_from_slice(&mac.0);
        input[14] = attempts;
        let id = siphash24(key, &input).to_be_bytes();
        if !reserved(&id) {
            return id;
        }
        attempts = attempts.wrapping_add(1);
    }
}

/// RFC 5453: the subnet-router anycast address, IANA's own block, and the anycast identifiers of RFC 2526.
fn reserved(id: &[u8; 8]) -> bool {
    let id = u64::from_be_bytes(*id);
    id == 0
        || id >> 24 == 0x0200_5eff_fe00_5213_u64 >> 24
        || (0xfdff_ffff_ffff_ff80..=0xfdff_ffff_ffff_ffff).contains(&id)
}

/// The time a lifetime in seconds ends; all ones never does (RFC 4861 4.6.2).
pub(super) fn until(now: Instant, seconds: u32) -> Instant {
    if seconds == u32::MAX {
        Instant::FAR
    } else {
        now + Duration::from_secs(u64::from(seconds))
    }
}

/// RFC 4862 5.5.3 e: when an address valid until `current` ends after an advertisement of `advertised` seconds.
pub(super) fn new_valid_until(now: Instant, current: Instant, advertised: u32) -> Instant {
    let wanted = until(now, advertised);
    let floor = now + TWO_HOURS;
    if wanted > floor || wanted > current {
        wanted
    } else if current <= floor {
        current
    } else {
        floor
    }
}

impl Net {
    /// Gives an interface its link-local address (RFC 4862 5.3).
    pub(super) fn make_link_local(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        attempts: u8,
    ) {
        let prefix = Addr::link_local([0; 8]);
        self.make_address(
            core,
            interface,
            &prefix,
            attempts,
            Origin::LinkLocal,
            Instant::FAR,
            Instant::FAR,
        );
    }

    /// A prefix from which addresses may be made (RFC 4862 5.5.3).
    pub(super) fn autoconfigure(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        info: &PrefixInfo,
    ) {
        // a to c; d: prefix and identifier make 128 bits.
        if !info.autonomous
            || info.prefix.is_link_local()
            || info.prefix.is_multicast()
            || info.preferred_lifetime > info.valid_lifetime
            || info.prefix_len != 64
        {
            return;
        }
        let now = core.now;
        let mut found = None;
        let mut count = 0;
        for (index, entry) in self.addresses.on(interface) {
            if entry.origin != Origin::Slaac {
                continue;
            }
            count += 1;
            if entry.cidr.addr().0[..8] == info.prefix.0[..8] {
                found = Some(index);
            }
        }
        let preferred = until(now, info.preferred_lifetime);
        let Some(index) = found else {
            if info.valid_lifetime == 0 {
                return;
            }
            if count >= ADDRESSES {
                return core.count(Count::AdvertisedTooMuch);
            }
            let valid = until(now, info.valid_lifetime);
            return self.make_address(
                core,
                interface,
                &info.prefix,
                0,
                Origin::Slaac,
                preferred,
                valid,
            );
        };
        let Some(entry) = self.addresses.entries.at_mut(index) else {
            return;
        };
        entry.preferred_until = preferred;
        entry.valid_until = new_valid_until(now, entry.valid_until, info.valid_lifetime);
        let state = match entry.state {
            AddressState::Deprecated if preferred > now => AddressState::Preferred,
            AddressState::Preferred if preferred <= now => AddressState::Deprecated,
            state => state,
        };
        if state != entry.state {
            self.set_address_state(index, state);
        }
        self.watch_lifetime(core, index);
    }

    /// An address this host made turned out to be taken: make the next one, a few times (RFC 7217 6).
    pub(super) fn try_another(&mut self, core: &mut Core, index: u32, attempts: u8) {
        let Some(entry) = self.addresses.entries.at(index) else {
            return;
        };
        if attempts >= IDGEN_RETRIES {
            return;
        }
        let (interface, addr, origin) = (entry.interface, entry.cidr.addr(), entry.origin);
        let (preferred, valid) = (entry.preferred_until, entry.valid_until);
        self.exit_address(core, index);
        self.make_address(
            core,
            interface,
            &addr,
            attempts + 1,
            origin,
            preferred,
            valid,
        );
    }

    #[allow(clippy::too_many_arguments)]
    fn make_address(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        prefix: &Addr,
        attempts: u8,
        origin: Origin,
        preferred_until: Instant,
        valid_until: Instant,
    ) {
        let Some(mac) = self.mac(interface) else {
            return;
        };
        let mut addr = *prefix;
        let id = interface_id(&self.discovery.key, prefix, mac, attempts);
        addr.0[8..].copy_from_slice(&id);
        let Some(cidr) = Cidr::new(addr, 64) else {
            return;
        };
        let entry = AddressEntry {
            cidr,
            interface,
            state: AddressState::Tentative,
            origin,
            temporary: false,
            preferred_until,
            valid_until,
            probes: 0,
        };
        // Read by `address_added`, which the next call ends in.
        self.discovery.attempts = attempts;
        if self.enter_address(core, entry).is_err() {
            core.count(Count::AdvertisedTooMuch);
        }
    }
}
