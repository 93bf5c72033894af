//! Keys of a server, and the cookies made with them.
//!
//! A cookie is SipHash-2-4 of the client's and the server's address, as Linux makes it: servers behind one address that have the
//! same key take each other's, whichever of the two runs there.
//!
//! Invariant: a cookie tells nothing of the key, and is compared as one word.

use base::{SipKey, siphash24};
use wire::Addr;
use wire::tcp::FastOpen;

/// The secrets of a server's Fast Open cookies (TCP_FASTOPEN_KEY).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FastOpenKeys {
    /// What cookies are made with.
    pub primary: [u8; 16],
    /// What they were made with before: still taken, and replaced by one of the new key.
    pub backup: Option<[u8; 16]>,
}

impl core::fmt::Debug for FastOpenKeys {
    /// Secrets stay out of logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FastOpenKeys(..)")
    }
}

/// Makes and checks cookies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys(FastOpenKeys);

/// Which key a cookie is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Now,
    Before,
}

impl Keys {
    pub(crate) fn new(keys: FastOpenKeys) -> Self {
        Self(keys)
    }

    pub(crate) fn get(&self) -> FastOpenKeys {
        self.0
    }

    fn with(key: [u8; 16], client: &Addr, server: &Addr) -> [u8; 8] {
        let mut bytes = [0; 32];
        let len = if client.is_v4() {
            bytes[..4].copy_from_slice(&client.v4_octets());
            bytes[4..8].copy_from_slice(&server.v4_octets());
            8
        } else {
            bytes[..16].copy_from_slice(&client.0);
            bytes[16..].copy_from_slice(&server.0);
            32
        };
        siphash24(&SipKey(key), &bytes[..len]).to_le_bytes()
    }

    /// The option that gives a client its cookie, in the form it asked for.
    pub(super) fn give(&self, client: &Addr, server: &Addr, asked: &FastOpen) -> Option<FastOpen> {
        let cookie = Self::with(self.0.primary, client, server);
        FastOpen::new(&cookie, asked.experimental)
    }

    /// Whether the client's cookie is one of ours.
    pub(super) fn check(&self, client: &Addr, server: &Addr, given: &FastOpen) -> Option<Made> {
        let given: [u8; 8] = given.cookie().try_into().ok()?;
        let is =
            |key| u64::from_le_bytes(Self::with(key, client, server)) == u64::from_le_bytes(given);
        if is(self.0.primary) {
            return Some(Made::Now);
        }
        self.0.backup.filter(|key| is(*key)).map(|_| Made::Before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(primary: u8, backup: Option<u8>) -> Keys {
        Keys::new(FastOpenKeys {
            primary: [primary; 16],
            backup: backup.map(|byte| [byte; 16]),
        })
    }

    #[test]
    fn cookies_are_those_linux_makes() {
        let key = *b"\xa1\xa1\xa1\xa1\xb2\xb2\xb2\xb2\xc3\xc3\xc3\xc3\xd4\xd4\xd4\xd4";
        let keys = Keys::new(FastOpenKeys {
            primary: key,
            backup: None,
        });
        let (client, server) = (Addr::v4(192, 0, 2, 1), Addr::v4(192, 168, 0, 1));
        let cookie = keys.give(&client, &server, &FastOpen::REQUEST).unwrap();
        assert_eq!(cookie.cookie(), 0x3021_b9d8_8901_7eeb_u64.to_be_bytes());
        let [client, server] = ["fd3d:fa7b:d17d::1", "fd3d:a0b:17d6::1"].map(|text| {
            let ip: core::net::IpAddr = text.parse().unwrap();
            Addr::from(ip)
        });
        let cookie = keys.give(&client, &server, &FastOpen::REQUEST).unwrap();
        assert_eq!(cookie.cookie(), 0xc1d1_e974_2a47_a9bc_u64.to_be_bytes());
    }

    #[test]
    fn a_cookie_is_good_for_its_addresses_and_keys() {
        let (client, server) = (Addr::v4(10, 0, 0, 2), Addr::v4(10, 0, 0, 1));
        let old = keys(1, None);
        let cookie = old.give(&client, &server, &FastOpen::REQUEST).unwrap();
        assert_eq!(old.check(&client, &server, &cookie), Some(Made::Now));
        assert_eq!(old.check(&server, &client, &cookie), None);
        assert_eq!(old.check(&Addr::v4(10, 0, 0, 3), &server, &cookie), None);
        assert_eq!(old.check(&client, &server, &FastOpen::REQUEST), None);
        for bit in 0..64 {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(cookie.cookie());
            bytes[bit / 8] ^= 1 << (bit % 8);
            let forged = FastOpen::new(&bytes, false).unwrap();
            assert_eq!(old.check(&client, &server, &forged), None, "bit {bit}");
        }
        let rotated = keys(2, Some(1));
        assert_eq!(rotated.check(&client, &server, &cookie), Some(Made::Before));
        assert_eq!(keys(3, Some(2)).check(&client, &server, &cookie), None);
        assert_eq!(format!("{old:?}"), "Keys(FastOpenKeys(..))");
    }
}
