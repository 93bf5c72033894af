//! Ports and their devices: what has to be made in the kernel before a host can have them.
//!
//! What does not live here: addresses and routes of the host itself (`serve`).
//!
//! Invariant: a device made here goes away with the port or the namespace it is in.

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use netns::{Namespace, link};
use port::Port;
use port::packet::{PacketOptions, PacketSocket};
use port::pcapng::{Capture, SNAPLEN};
use port::tap::{Tap, TapOptions};
use wire::Mac;

use crate::args::PortChoice;
use crate::config::{self, PortKind};
use crate::failure::Failure;

/// The kernel's addresses in the demo.
pub(crate) const KERNEL: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), 24),
    (IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1)), 64),
];

/// The host's addresses in the demo.
pub(crate) const HOST: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 24),
    (IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2)), 64),
];

/// The host's hardware address in the demo: locally administered, easy to find in a capture.
const HOST_MAC: Mac = Mac([0x02, 0x00, 0x0a, 0x4d, 0x00, 0x02]);

/// The kernel's device in the demo, and the far end of its cable when there is no TAP.
const DEVICE: &str = "ms0";
const FAR: &str = "ms1";

/// Frames the kernel's end of a TAP may queue: what a thousand connections send at the same moment.
const QUEUE: u32 = 8_192;

/// MTUs a host works with: from what every IPv4 host takes (RFC 791 3.1) to the longest packet.
const MTUS: std::ops::RangeInclusive<usize> = 576..=65_535;

/// A port ready for a host.
pub(crate) struct Link {
    /// The port itself.
    pub(crate) port: Box<dyn Port + Send>,
    /// Its further queues.
    pub(crate) queues: Vec<Box<dyn Port + Send>>,
    /// What it is: `tap` or `packet`.
    pub(crate) kind: &'static str,
    /// Something the user should know, in one line.
    pub(crate) note: Option<String>,
    /// The namespace the far end of a cable lives in; it goes with the last handle.
    pub(crate) far: Option<Namespace>,
}

/// The demo's link: the device, the kernel's end of it with its addresses, switched on.
///
/// # Errors
/// When the kernel refuses; with `auto`, only when it refuses both kinds.
pub(crate) fn demo(choice: PortChoice) -> Result<Link, Failure> {
    let link = match choice {
        PortChoice::Tap => demo_tap().map_err(Failure::told)?,
        PortChoice::Packet => demo_packet(None)?,
        PortChoice::Auto => match demo_tap() {
            Ok(link) => link,
            Err(error) if error.is_unavailable() => demo_packet(Some(error.to_string()))?,
            Err(error) => return Err(Failure::told(error)),
        },
    };
    // Nobody else is on this cable: no routers to look for, no duplicates to detect. A machine that mounts /proc/sys
    // read-only only makes the kernel a little more talkative.
    let _ = link::disable_ipv6_autoconf(DEVICE);
    let _ = link::disable_ipv6_dad(DEVICE);
    let _ = link::set_txqueuelen(DEVICE, QUEUE);
    plug(DEVICE, &KERNEL).map_err(Failure::told)?;
    Ok(link)
}

fn demo_tap() -> Result<Link, port::PortError> {
    let tap = Tap::new(
        DEVICE,
        &TapOptions {
            mac: Some(HOST_MAC),
            ..TapOptions::default()
        },
    )?;
    Ok(Link {
        port: Box::new(tap),
        queues: Vec::new(),
        kind: "tap",
        note: None,
        far: None,
    })
}

/// A cable of two devices. Its far end lies in a namespace of its own, where the kernel's stack has nothing to say to
/// the frames the host is meant to answer.
fn demo_packet(why: Option<String>) -> Result<Link, Failure> {
    let told = |error: netns::Error| Failure::told(error);
    let far = Namespace::new().map_err(told)?;
    link::Veth::new(DEVICE, FAR)
        .far(&far)
        .create()
        .map_err(told)?;
    let opened = far.run(|| {
        let _ = link::disable_ipv6(FAR);
        link::set_up(FAR).map_err(told)?;
        let options = PacketOptions {
            mac: Some(HOST_MAC),
            promiscuous: true,
            ..PacketOptions::default()
        };
        PacketSocket::new(FAR, &options).map_err(Failure::told)
    });
    let socket = opened.map_err(told)??;
    let note = why.map(|why| format!("a packet socket instead of a TAP device: {why}"));
    Ok(Link {
        port: Box::new(socket),
        queues: Vec::new(),
        kind: "packet",
        note,
        far: Some(far),
    })
}

/// Switches the kernel's end on and gives it addresses.
fn plug(device: &str, addresses: &[(IpAddr, u8)]) -> Result<(), netns::Error> {
    link::set_up(device)?;
    for (address, prefix) in addresses {
        link::add_addr(device, *address, *prefix)?;
    }
    link::wait_running(device)
}

/// A port as the configuration file describes it, for a host of so many shards: a TAP has a queue for each, unless what passes is
/// to be written to a file.
///
/// # Errors
/// When the kernel refuses, or the capture file cannot be written.
pub(crate) fn configured(config: &config::Port, shards: usize) -> Result<Link, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::told(format_args!("port {:?}: {error}", config.name))
    };
    let mut queues: Vec<Box<dyn Port + Send>> = Vec::new();
    let (port, kind): (Box<dyn Port + Send>, _) = match config.kind {
        PortKind::Tap => {
            let options = TapOptions {
                mac: config.mac,
                mtu: config.mtu.map(usize::from),
                ..TapOptions::default()
            };
            let wanted = match &config.pcap {
                Some(_) => 1,
                None => u16::try_from(shards).unwrap_or(1),
            };
            let taps = Tap::queues(&config.device, wanted, &options);
            let mut taps = taps.map_err(|error| failed(&error))?.into_iter();
            let first = taps.next();
            let tap = first.ok_or_else(|| failed(&"the device has no queue"))?;
            queues.extend(taps.map(|tap| -> Box<dyn Port + Send> { Box::new(tap) }));
            let addresses: Vec<_> = config
                .kernel_addresses
                .iter()
                .map(|cidr| (cidr.addr().to_ip(), cidr.prefix()))
                .collect();
            plug(&config.device, &addresses).map_err(|error| failed(&error))?;
            (Box::new(tap), "tap")
        }
        PortKind::Packet => {
            let own = config.mac.is_some();
            let options = PacketOptions {
                mac: config.mac,
                promiscuous: own,
                ..PacketOptions::default()
            };
            let socket =
                PacketSocket::new(&config.device, &options).map_err(|error| failed(&error))?;
            (Box::new(socket), "packet")
        }
    };
    let mtu = port.facts().mtu;
    if !MTUS.contains(&mtu) {
        let device = &config.device;
        return Err(Failure::new(
            format_args!(
                "port {:?}: {device} has an MTU of {mtu}, and a host needs {} to {}",
                config.name,
                MTUS.start(),
                MTUS.end()
            ),
            format_args!("`ip link set {device} mtu 1500`, or use another device"),
        ));
    }
    let port = match &config.pcap {
        Some(file) => capture(port, file)?,
        None => port,
    };
    Ok(Link {
        port,
        queues,
        kind,
        note: None,
        far: None,
    })
}

/// The same port with everything that passes written to a pcapng file.
///
/// # Errors
/// When the file cannot be made.
pub(crate) fn capture(
    port: Box<dyn Port + Send>,
    file: &Path,
) -> Result<Box<dyn Port + Send>, Failure> {
    let out = File::create(file).map_err(|error| {
        Failure::new(
            format_args!("cannot write {}: {error}", file.display()),
            "give --pcap or `pcap` a file in a folder you may write to",
        )
    })?;
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64)
    };
    let out = CaptureFile {
        out,
        name: file.display().to_string(),
        told: false,
    };
    Ok(Box::new(Capture::new(port, out, SNAPLEN, now)))
}

/// The file of a capture. A full disk ends the capture and nothing else, so it is said when it happens.
struct CaptureFile<W: Write> {
    out: W,
    name: String,
    told: bool,
}

impl<W: Write> CaptureFile<W> {
    fn tell<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &done
            && error.kind() != io::ErrorKind::Interrupted
            && !std::mem::replace(&mut self.told, true)
        {
            let what = format_args!("the capture {} ends early: {error}", self.name);
            eprintln!(
                "millstream: {}",
                Failure::new(what, "everything else goes on")
            );
        }
        done
    }
}

impl<W: Write> Write for CaptureFile<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.out.write(bytes);
        self.tell(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.out.flush();
        self.tell(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_once() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut file = CaptureFile {
            out: Full,
            name: "x".into(),
            told: false,
        };
        for _ in 0..2 {
            assert!(file.write(b"frame").is_err());
            assert!(file.told);
        }
    }
}
