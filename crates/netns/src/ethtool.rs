//! The offloads of a link through the ethtool ioctl, by the names `ethtool -k` shows.
//!
//! Invariant: every structure handed to the kernel is a plain byte buffer of the size its own fields claim.

use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

// linux/ethtool.h
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;
/// More than any kernel has: 64 features in 2026.
const FEATURES_MAX: u32 = 1024;
/// What SFEATURES returns when a wanted bit cannot be changed, or was noted but contradicts another: ETHTOOL_F_*.
const ETHTOOL_F_UNSUPPORTED: i32 = 1;
const ETHTOOL_F_WISH: i32 = 2;

struct Device {
    socket: std::os::fd::OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Device {
    fn open(name: &str) -> io::Result<Self> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let mut field = [0; libc::IFNAMSIZ];
        for (to, from) in field.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        Ok(Self {
            socket,
            name: field,
        })
    }

    /// One ethtool request. `data` starts with its command and must be as long as the command and its own counts say;
    /// u64s keep the structures aligned.
    fn ioctl(&self, data: &mut [u64]) -> io::Result<i32> {
        let mut request = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: data.as_mut_ptr().cast(),
            },
        };
        // SAFETY: `request` is a valid ifreq whose data pointer refers to `data`, which is alive, exclusively
        // borrowed, and sized by the callers below for what the kernel writes for their command.
        let result = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                libc::SIOCETHTOOL as _,
                &raw mut request,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result)
        }
    }

    fn feature_count(&self) -> io::Result<u32> {
        // struct ethtool_sset_info { cmd, reserved; u64 mask; u32 data[1] }
        let mut info = [pair(ETHTOOL_GSSET_INFO, 0), 1 << ETH_SS_FEATURES, 0];
        self.ioctl(&mut info)?;
        let count = halves(info[2]).0;
        if count == 0 || count > FEATURES_MAX {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        Ok(count)
    }

    /// The position of a feature in the kernel's list.
    fn feature_index(&self, count: u32, feature: &str) -> io::Result<u32> {
        // struct ethtool_gstrings { cmd, string_set, len; u8 data[len * 32] }
        let words = (12 + count as usize * ETH_GSTRING_LEN).div_ceil(8);
        let mut strings = vec![0u64; words];
        strings[0] = pair(ETHTOOL_GSTRINGS, ETH_SS_FEATURES);
        strings[1] = pair(count, 0);
        self.ioctl(&mut strings)?;
        let bytes: Vec<u8> = strings.iter().flat_map(|w| w.to_ne_bytes()).collect();
        bytes[12..]
            .chunks_exact(ETH_GSTRING_LEN)
            .take(count as usize)
            .position(|name| crate::netlink::text(name) == feature)
            .map(|i| i as u32)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

/// Two consecutive u32s of a structure as one u64.
fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
    )
}

/// Switches one feature; EOPNOTSUPP if the kernel or the device does not know it or will not change it.
pub(crate) fn set_feature(link: &str, feature: &str, on: bool) -> io::Result<()> {
    let device = Device::open(link)?;
    let count = device.feature_count()?;
    let index = device.feature_index(count, feature)?;
    // struct ethtool_sfeatures { cmd, size; struct { u32 valid, requested } features[size] }
    let blocks = count.div_ceil(32);
    let mut request = vec![0u64; 1 + blocks as usize];
    request[0] = pair(ETHTOOL_SFEATURES, blocks);
    let bit = 1u32 << (index % 32);
    request[1 + (index / 32) as usize] = pair(bit, if on { bit } else { 0 });
    if device.ioctl(&mut request)? & (ETHTOOL_F_UNSUPPORTED | ETHTOOL_F_WISH) != 0 {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    Ok(())
}

/// Whether a feature is active now.
pub(crate) fn feature(link: &str, feature: &str) -> io::Result<bool> {
    let device = Device::open(link)?;
    let count = device.feature_count()?;
    let index = device.feature_index(count, feature)?;
    // struct ethtool_gfeatures { cmd, size; struct { u32 available, requested, active, never_changed } features[size] }
    let blocks = count.div_ceil(32);
    let mut request = vec![0u64; 1 + 2 * blocks as usize];
    request[0] = pair(ETHTOOL_GFEATURES, blocks);
    device.ioctl(&mut request)?;
    let active = halves(request[1 + 2 * (index / 32) as usize + 1]).0;
    Ok(active & (1 << (index % 32)) != 0)
}
