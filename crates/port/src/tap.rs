//! A TAP device: the kernel's stack on one end, this port on the other; the reference for offloads.
//!
//! Making links, giving the kernel's end its address and switching it on are `netns`' or the administrator's job.
//!
//! Frames travel behind a [`vnet`] header. To the kernel a super-frame may always be handed whole; from the kernel
//! it comes whole if [`TapOptions::offloads`] is on (TUNSETOFFLOAD). One read and one write move one
//! frame; a long one goes straight into pool blocks and straight out of them.
//!
//! Invariant: the offload mask of the device is set every time it is opened; it outlives a persistent device's opener.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use base::{Batch, Offloads, Pool};
use rustix::fs::{Mode, OFlags};
use wire::Mac;

use crate::device::{self, Interface};
use crate::error::reason;
use crate::exchange::{Exchange, Read, Room, Source, Written};
use crate::{Drop, ETHERNET, FRAME_MAX, Port, PortCounters, PortError, PortFacts, vnet};

const DEVICE: &str = "/dev/net/tun";
/// Room for a VLAN tag the MTU does not count.
const VLAN: usize = 4;
const TSO: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
const USO: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// How a TAP is to be opened.
#[derive(Debug, Clone)]
pub struct TapOptions {
    /// The hardware address of the host on this port. `None`: the kernel's end's with another last bit; it must not be
    /// the same.
    pub mac: Option<Mac>,
    /// The MTU to give the device, bytes without the Ethernet header. `None`: as it is (1500 for a new one).
    pub mtu: Option<usize>,
    /// Whether checksums may be left out and super-frames passed whole, in both directions.
    pub offloads: bool,
    /// Whether the kernel takes the host's frames through a poll of its own (IFF_NAPI) instead of within the write: for a
    /// host that spins ([`busy_poll`](Self::busy_poll)).
    pub napi: bool,
}

impl TapOptions {
    /// For a host that spins instead of sleeping. Its core enters the kernel to write and to read only, so buffers of
    /// frames that other cores have read come back to it by an interrupt, every thirty-second frame: the slowest
    /// two round trips in a hundred take twice as long. With `napi` each write collects them, for some percent of bulk.
    #[must_use]
    pub fn busy_poll() -> Self {
        Self {
            napi: true,
            ..Self::default()
        }
    }
}

impl Default for TapOptions {
    fn default() -> Self {
        Self {
            mac: None,
            mtu: None,
            offloads: true,
            napi: false,
        }
    }
}

/// One queue of a TAP device. The device goes away with its last queue (unless it was made persistent).
pub struct Tap {
    fd: OwnedFd,
    facts: PortFacts,
    exchange: Exchange,
    failure: Option<PortError>,
}

impl Tap {
    /// Opens the TAP device `name` (up to 15 bytes), or makes it. A name with `%d` in it, such as `mill%d`, gets the
    /// first free number; [`Port::facts`] has the name then.
    ///
    /// # Errors
    /// [`PortError::is_unavailable`] when there is no TUN driver or this user may not use it.
    pub fn new(name: &str, options: &TapOptions) -> Result<Self, PortError> {
        Self::open(name, options, 0, 1)
    }

    /// Opens `queues` queues of one device (IFF_MULTI_QUEUE): the kernel spreads its flows over them by their hash.
    ///
    /// # Errors
    /// As [`Tap::new`].
    pub fn queues(name: &str, queues: u16, options: &TapOptions) -> Result<Vec<Self>, PortError> {
        let queues = queues.max(1);
        let first = Self::open(name, options, 0, queues)?;
        let name = first.facts.name.clone();
        let options = TapOptions {
            mac: Some(first.facts.mac),
            mtu: None,
            ..options.clone()
        };
        let mut all = vec![first];
        for queue in 1..queues {
            all.push(Self::open(&name, &options, queue, queues)?);
        }
        Ok(all)
    }

    fn open(name: &str, options: &TapOptions, queue: u16, queues: u16) -> Result<Self, PortError> {
        device::check_name(name)?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd =
            rustix::fs::open(DEVICE, flags, Mode::empty()).map_err(|e| cannot_open(&e.into()))?;

        let mut request = device::request(name);
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if queues > 1 {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        if options.napi {
            flags |= libc::IFF_NAPI;
        }
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        if result < 0 {
            return Err(cannot_attach(name, queues, &io::Error::last_os_error()));
        }
        let name = device::name_of(&request);
        let failed =
            |what: &str, e: &io::Error| PortError::failed(format_args!("{what} TAP {name}"), e);

        let header_len = vnet::HEADER_LEN as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int, which `header_len` is.
        let result =
            unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const header_len) };
        if result < 0 {
            return Err(failed("set up", &io::Error::last_os_error()));
        }
        let offloads =
            set_offloads(&fd, options.offloads).map_err(|e| failed("set the offloads of", &e))?;

        let interface = Interface::open(&name).map_err(|e| failed("look at", &e))?;
        if let Some(mtu) = options.mtu {
            interface
                .set_mtu(mtu)
                .map_err(|e| failed(&format!("set MTU {mtu} of"), &e))?;
        }
        let mtu = interface.mtu().map_err(|e| failed("read the MTU of", &e))?;
        let kernel_mac = interface.mac().map_err(|e| failed("read the MAC of", &e))?;
        let mac = options.mac.unwrap_or_else(|| neighbour_of(kernel_mac));
        if mac == kernel_mac {
            return Err(PortError::new(format!(
                "{mac} is the address of the kernel's end of TAP {name}: choose another for the host"
            )));
        }
        let plain = mtu + ETHERNET + VLAN;
        let max_frame = if offloads.tso4 {
            FRAME_MAX.max(plain)
        } else {
            plain
        };
        let facts = PortFacts {
            name,
            mac,
            mtu,
            max_frame,
            offloads,
            queue,
            queues,
        };
        Ok(Self {
            fd,
            exchange: Exchange::new(max_frame, max_frame),
            facts,
            failure: None,
        })
    }

    /// After a read or write that failed for good: the device was removed.
    #[inline]
    fn give_up(&mut self, why: Option<io::Error>) {
        if let (Some(why), None) = (why, &self.failure) {
            let reason = match why.raw_os_error() {
                Some(libc::EBADFD) => "it was removed".to_owned(),
                _ => reason(&why),
            };
            let line = format!("TAP {} is gone: {reason}", self.facts.name);
            self.failure = Some(PortError::new(line).with_errno(&why));
        }
    }
}

/// Tells the kernel which frames it may hand over unfinished; returns what the device does then.
fn set_offloads(fd: &OwnedFd, wanted: bool) -> io::Result<Offloads> {
    let set = |mask: u32| {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let result = unsafe {
            libc::ioctl(
                fd.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(mask),
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    if !wanted {
        set(0)?;
        return Ok(Offloads::NONE);
    }
    // Linux before 6.2 does not know USO and refuses the mask as a whole.
    let uso = set(TSO | USO).is_ok();
    if !uso {
        set(TSO)?;
    }
    Ok(Offloads {
        uso,
        ..Offloads::ALL
    })
}

fn cannot_open(why: &io::Error) -> PortError {
    let line = match why.raw_os_error() {
        Some(libc::ENOENT) => format!(
            "there is no {DEVICE}: modprobe tun, or in a container pass the device in (docker run --device {DEVICE})"
        ),
        Some(libc::ENODEV | libc::ENXIO) => {
            format!("{DEVICE} has no driver behind it: modprobe tun (CONFIG_TUN)")
        }
        Some(libc::EACCES | libc::EPERM) => {
            format!(
                "this user may not open {DEVICE}: chmod 666 {DEVICE} as root (most distributions do), or run as root"
            )
        }
        _ => return PortError::failed(format_args!("open {DEVICE}"), why),
    };
    PortError::unavailable(line).with_errno(why)
}

fn cannot_attach(name: &str, queues: u16, why: &io::Error) -> PortError {
    let line = match why.raw_os_error() {
        Some(libc::EPERM) => {
            return PortError::unavailable(format!(
                "not allowed to open TAP {name}: run as root, in a namespace of one's own, or let root make it with \
                 `ip tuntap add {name} mode tap user $USER vnet_hdr`"
            ))
            .with_errno(why);
        }
        Some(libc::EBUSY) => {
            format!(
                "TAP {name} is in use by another program, or another kind of device has the name: choose another"
            )
        }
        Some(libc::EINVAL) if queues > 1 => {
            format!(
                "{name} exists and is not a TAP with several queues: choose another name or `ip link del {name}`"
            )
        }
        Some(libc::EINVAL) => {
            format!(
                "{name} exists and is not a TAP with one queue: choose another name or `ip link del {name}`"
            )
        }
        Some(libc::E2BIG) => {
            format!("TAP {name} cannot have {queues} queues: the kernel allows 256")
        }
        _ => return PortError::failed(format_args!("open TAP {name}"), why),
    };
    PortError::new(line).with_errno(why)
}

/// An address of our own that differs from the kernel's end's.
fn neighbour_of(mac: Mac) -> Mac {
    let mut bytes = mac.0;
    bytes[0] = (bytes[0] | 2) & !1; // locally administered, not a group
    bytes[5] ^= 1;
    Mac(bytes)
}

impl Port for Tap {
    fn facts(&self) -> &PortFacts {
        &self.facts
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let fd = self.fd.as_raw_fd();
        let (received, dead) = self.exchange.receive(pool, batch, |room| read(fd, &room));
        self.give_up(dead);
        received
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let fd = self.fd.as_raw_fd();
        let (taken, dead) = self
            .exchange
            .transmit(pool, batch, |source| write(fd, &source));
        self.give_up(dead);
        taken
    }

    fn flush(&mut self, _pool: &mut Pool) {}

    fn sleep_fd(&self) -> Option<BorrowedFd<'_>> {
        // A dead descriptor is always ready: polling it would never sleep.
        self.failure.is_none().then(|| self.fd.as_fd())
    }

    fn counters(&self) -> PortCounters {
        self.exchange.counters.clone()
    }

    fn failure(&self) -> Option<&PortError> {
        self.failure.as_ref()
    }

    fn release(&mut self, pool: &mut Pool) {
        self.exchange.release(pool);
    }
}

#[inline]
fn read(fd: RawFd, room: &Room) -> Read {
    loop {
        let n = match *room {
            // SAFETY: `Exchange` gives memory that may be written and that nobody else refers to; the descriptor is
            // the open one of the `Tap` that is borrowed meanwhile.
            Room::Flat(at, len) => unsafe { libc::read(fd, at.cast(), len) },
            // SAFETY: as above, for every entry of the list.
            Room::List(list, entries) => unsafe { libc::readv(fd, list, entries as libc::c_int) },
        };
        if n >= 0 {
            return Read::Frame {
                bytes: n as usize,
                cut: false,
                tag: None,
            };
        }
        let e = io::Error::last_os_error();
        return match e.raw_os_error() {
            Some(libc::EINTR) => continue,
            Some(libc::EAGAIN) => Read::Nothing,
            // A super-frame of a kind the header cannot describe; the kernel has dropped it.
            Some(libc::EINVAL) => Read::Lost(Drop::RxDescription),
            _ => Read::Dead(e),
        };
    }
}

#[inline]
fn write(fd: RawFd, source: &Source) -> Written {
    loop {
        let n = match *source {
            // SAFETY: `Exchange` gives memory that may be read and that nobody changes; the descriptor is the open one
            // of the `Tap` that is borrowed meanwhile.
            Source::Flat(at, len) => unsafe { libc::write(fd, at.cast(), len) },
            // SAFETY: as above, for every entry of the list.
            Source::List(list, entries) => unsafe {
                libc::writev(fd, list, entries as libc::c_int)
            },
        };
        if n >= 0 {
            return Written::Sent;
        }
        let e = io::Error::last_os_error();
        return match e.raw_os_error() {
            Some(libc::EINTR) => continue,
            Some(libc::EAGAIN) => Written::Full,
            Some(libc::EIO) => Written::Lost(Drop::TxDown),
            Some(libc::ENOMEM | libc::ENOBUFS) => Written::Lost(Drop::TxNoMemory),
            Some(libc::EBADFD) => Written::Dead(e),
            _ => Written::Lost(Drop::TxRefused),
        };
    }
}
