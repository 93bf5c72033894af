//! The wire between the kernel and a Millstream host, and what each end is called.
//!
//! Running the host does not live here: that is [`Machine`]'s.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use netns::{harness, link};
use port::packet::{PacketOptions, PacketSocket};
use port::pcapng::{Capture, SNAPLEN};
use port::tap::{Tap, TapOptions};
use port::{Port, PortError};
use stack::{Config, Host, InterfaceConfig};
use wire::{Addr, Cidr, Mac};

use crate::PATIENCE;
use crate::machine::{self, Machine};
use crate::middle::{Middle, Policy};

/// The host's hardware address on every cable.
const HOST_MAC: Mac = Mac([2, 0x77, 0, 0, 0, 2]);
/// The kernel's end of every cable.
const KERNEL_END: &str = "kern0";

/// One of the two families, and the addresses it has on the cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// Address number `n` on the cable's network.
    #[must_use]
    pub fn address(self, n: u8) -> IpAddr {
        match self {
            Family::V4 => IpAddr::from([10, 77, 0, n]),
            Family::V6 => IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, n.into()]),
        }
    }

    /// The kernel's address.
    #[must_use]
    pub fn kernel(self) -> IpAddr {
        self.address(1)
    }

    /// The host's address.
    #[must_use]
    pub fn host(self) -> IpAddr {
        self.address(2)
    }

    /// A port of the kernel's.
    #[must_use]
    pub fn kernel_port(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.kernel(), port)
    }

    /// A port of the host's.
    #[must_use]
    pub fn host_port(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host(), port)
    }

    /// Length of the network's prefix.
    #[must_use]
    pub fn prefix(self) -> u8 {
        match self {
            Family::V4 => 24,
            Family::V6 => 64,
        }
    }

    /// Bytes of the IP header without options.
    #[must_use]
    pub fn header(self) -> usize {
        match self {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }
}

/// A kind of wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    /// A TAP device.
    Tap {
        /// Checksums left out and super-frames passed whole, both ways.
        offloads: bool,
    },
    /// A veth pair with a packet socket on the host's end.
    Veth {
        /// As for a TAP.
        offloads: bool,
    },
}

impl Cable {
    /// What this machine offers; ends the test as skipped if that is nothing.
    #[must_use]
    pub fn all() -> Vec<Cable> {
        let probe = Tap::new("probe%d", &TapOptions::default());
        match probe {
            Ok(_) => vec![
                Cable::Tap { offloads: true },
                Cable::Tap { offloads: false },
                Cable::Veth { offloads: true },
            ],
            Err(e) if e.is_unavailable() => {
                vec![
                    Cable::Veth { offloads: true },
                    Cable::Veth { offloads: false },
                ]
            }
            Err(e) => panic!("{e}"),
        }
    }

    /// The most usual one.
    #[must_use]
    pub fn usual() -> Cable {
        Cable::all()[0]
    }

    /// The most usual one on which every frame is a segment.
    #[must_use]
    pub fn plain() -> Cable {
        Cable::all()
            .into_iter()
            .find(|c| !c.offloads())
            .expect("there is one of both kinds")
    }

    /// Whether super-frames pass.
    #[must_use]
    pub fn offloads(self) -> bool {
        match self {
            Cable::Tap { offloads } | Cable::Veth { offloads } => offloads,
        }
    }

    /// Makes it, with the kernel's end (`kern0`) configured and switched on. `prepare` is called when it is there but off.
    #[must_use]
    pub fn lay(self, mtu: u32, prepare: &dyn Fn(&str)) -> Box<dyn Port + Send> {
        self.lay_as(KERNEL_END, mtu, &|name| {
            for family in Family::BOTH {
                link::add_addr(name, family.kernel(), family.prefix()).unwrap();
            }
            prepare(name);
        })
    }

    /// As [`Cable::lay`], with another name for the kernel's end (15 letters at most), and without addresses but those that `prepare` gives
    /// it.
    #[must_use]
    pub fn lay_as(self, name: &str, mtu: u32, prepare: &dyn Fn(&str)) -> Box<dyn Port + Send> {
        match self {
            Cable::Tap { offloads } => {
                let tap = or_skip(Tap::new(
                    name,
                    &TapOptions {
                        mac: Some(HOST_MAC),
                        mtu: Some(mtu as usize),
                        offloads,
                        ..TapOptions::default()
                    },
                ));
                link::set_txqueuelen(name, 1000).unwrap();
                kernel_end(name, prepare);
                Box::new(tap)
            }
            Cable::Veth { offloads } => {
                let far = &host_end(name);
                link::create_veth(name, far).unwrap_or_else(|e| {
                    if e.is_unavailable() {
                        harness::skip(e)
                    } else {
                        panic!("{e}")
                    }
                });
                let _ = link::disable_ipv6(far);
                link::set_link_local(far, false).unwrap();
                for end in [name, far] {
                    link::set_mtu(end, mtu).unwrap();
                }
                if !offloads {
                    link::set_offload(name, link::Offload::TxChecksum, false).unwrap();
                    let _ = link::set_offload(name, link::Offload::Tso, false);
                    let _ = link::set_offload(name, link::Offload::Gso, false);
                }
                link::set_up(far).unwrap();
                let socket = or_skip(PacketSocket::new(
                    far,
                    &PacketOptions {
                        mac: Some(HOST_MAC),
                        offloads,
                        ..PacketOptions::default()
                    },
                ));
                kernel_end(name, prepare);
                link::wait_running(far).unwrap();
                Box::new(socket)
            }
        }
    }
}

/// The end of a veth pair on which the host has its packet socket.
fn host_end(kernel_end: &str) -> String {
    format!("m{kernel_end:.14}")
}

/// The kernel's end is up and usable afterwards. `prepare` is called when it is there but still off.
fn kernel_end(name: &str, prepare: &dyn Fn(&str)) {
    let _ = link::disable_ipv6_autoconf(name);
    let _ = link::disable_ipv6_dad(name);
    prepare(name);
    link::set_up(name).unwrap();
    link::wait_running(name).unwrap();
    wait_ipv6(name);
}

/// Waits until IPv6 has taken notice of the link: it has a link-local address then, no address is tentative, and what is for them is the
/// kernel's own. Before, the kernel asks questions whose answers it ignores.
fn wait_ipv6(name: &str) {
    /// linux/if_addr.h
    const IFA_F_TENTATIVE: u8 = 0x40;
    let deadline = Instant::now() + PATIENCE;
    let ready = || {
        // Address, index, prefix length, scope, flags, name.
        let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let own: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .filter(|words: &Vec<&str>| words.len() == 6 && words[5] == name)
            .collect();
        let usable = |flags| u8::from_str_radix(flags, 16).is_ok_and(|f| f & IFA_F_TENTATIVE == 0);
        // Destination, length of its prefix, ...
        let routes = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
        let routed = |address| {
            let route = format!("{address} 80 ");
            routes.lines().any(|line| line.starts_with(&route))
        };
        own.iter().any(|words| words[0].starts_with("fe80"))
            && own.iter().all(|words| usable(words[4]) && routed(words[0]))
    };
    while !ready() {
        assert!(Instant::now() < deadline, "IPv6 does not come up on {name}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn or_skip<T>(result: Result<T, PortError>) -> T {
    match result {
        Ok(port) => port,
        Err(e) if e.is_unavailable() => harness::skip(e),
        Err(e) => panic!("{e}"),
    }
}

/// What is to be set up: a cable, the kernel on one end (10.77.0.1, fd77::1), a host on the other (.2, ::2).
pub struct Setup {
    cable: Cable,
    mtu: u32,
    config: Config,
    policy: Option<Box<dyn Policy>>,
    capture: Option<File>,
    prepare: Box<dyn Fn(&str)>,
}

impl Setup {
    /// The plain case: MTU 1500, a well-behaved cable, addresses usable at once.
    #[must_use]
    pub fn on(cable: Cable) -> Self {
        println!("on {cable:?}:");
        Self {
            cable,
            mtu: 1500,
            config: Config {
                pool_blocks: 16 * 1024,
                duplicate_detection: false,
                accept_router_advertisements: false,
                ..Config::default()
            },
            policy: None,
            capture: None,
            prepare: Box::new(|_| {}),
        }
    }

    /// Another MTU, for both ends.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Changes the host's configuration.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Decides over every frame.
    #[must_use]
    pub fn policy(mut self, policy: impl Policy + 'static) -> Self {
        self.policy = Some(Box::new(policy));
        self
    }

    /// Writes every frame to a pcapng file.
    #[must_use]
    pub fn capture(mut self, file: File) -> Self {
        self.capture = Some(file);
        self
    }

    /// Called with the name of the kernel's end before it is switched on.
    #[must_use]
    pub fn prepare(mut self, prepare: impl Fn(&str) + 'static) -> Self {
        self.prepare = Box::new(prepare);
        self
    }

    /// Makes the cable and starts the host's thread.
    #[must_use]
    pub fn start(self) -> Machine {
        let mut port = self.cable.lay(self.mtu, &*self.prepare);
        if let Some(file) = self.capture {
            port = Box::new(Capture::new(port, file, SNAPLEN, || {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                since.map_or(0, |d| d.as_nanos() as u64)
            }));
        }
        if let Some(policy) = self.policy {
            port = Box::new(Middle::new(port, policy));
        }
        let now = machine::EPOCH;
        let facts = port.facts().clone();
        let mut host = Host::new(self.config, 77, now).unwrap();
        let interface = host
            .add_interface(
                now,
                InterfaceConfig {
                    name: facts.name.clone(),
                    mac: Some(facts.mac),
                    mtu: facts.mtu,
                    offloads: facts.offloads,
                },
            )
            .unwrap();
        for family in Family::BOTH {
            let cidr = Cidr::new(Addr::from(family.host()), family.prefix()).unwrap();
            host.add_address(now, interface, cidr).unwrap();
        }
        Machine::start(port, host, interface, KERNEL_END)
    }
}
