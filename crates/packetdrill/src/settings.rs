//! What the host's link is like: from `--so_flags`, else from packetdrill's own command line, else what scripts are played with by custom.
//!
//! Flags are words between commas: `mtu=1500`, `address=192.168.0.1/16` (any number of them), `pace`.
//!
//! What does not live here: sysctls, which may change while a script runs.

use wire::Cidr;

/// The link and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) mtu: usize,
    pub(crate) addresses: Vec<Cidr>,
    /// Frames are paced, as behind Linux's `fq`.
    pub(crate) pace: bool,
    /// Segment size of the super-frames that come in: packetdrill's own `--mss`, which scripts say themselves.
    pub(crate) mss: Option<u16>,
}

/// Addresses of the machine under test by custom.
const ADDRESSES: [&str; 2] = ["192.168.0.1/16", "fd3d:0a0b:17d6::1/64"];
const MTU: usize = 1500;

impl Settings {
    /// From the flags and the arguments of this process.
    ///
    /// # Errors
    /// The word that makes no sense.
    pub(crate) fn new(flags: &str, arguments: &[String]) -> Result<Self, String> {
        let mut mtu = None;
        let mut addresses = Vec::new();
        let mut pace = false;
        for word in flags.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("mtu", value)) => mtu = Some(value.parse().map_err(|_| word.to_string())?),
                None if word == "pace" => pace = true,
                Some(("address", value)) => {
                    addresses.push(value.parse().map_err(|_| word.to_string())?);
                }
                _ => return Err(word.to_string()),
            }
        }
        let argument = |name: &str| {
            let mut found = None;
            for (at, argument) in arguments.iter().enumerate() {
                let Some(rest) = argument
                    .strip_prefix("--")
                    .and_then(|a| a.strip_prefix(name))
                else {
                    continue;
                };
                found = match rest.strip_prefix('=') {
                    Some(value) => Some(value.to_string()),
                    None if rest.is_empty() => arguments.get(at + 1).cloned(),
                    None => found,
                };
            }
            found
        };
        let script = arguments.last().map(std::fs::read_to_string);
        let script = script.and_then(Result::ok).unwrap_or_default();
        let mss = script
            .split_whitespace()
            .take_while(|word| !word.starts_with('`'))
            .find_map(|word| word.strip_prefix("--mss="))
            .map(str::to_string)
            .or_else(|| argument("mss"))
            .and_then(|mss| mss.parse().ok());
        let mtu = mtu.or_else(|| argument("mtu").and_then(|mtu| mtu.parse().ok()));
        if addresses.is_empty() {
            for text in ADDRESSES {
                addresses.extend(text.parse::<Cidr>());
            }
            if let Some(own) = argument("local_ip").and_then(|ip| ip.parse().ok()) {
                let own = Cidr::host(own);
                addresses.retain(|other| other.addr() != own.addr());
                addresses.push(own);
            }
        }
        Ok(Self {
            mtu: mtu.unwrap_or(MTU),
            addresses,
            pace,
            mss,
        })
    }
}
