//! Any Ethernet interface through a packet socket (AF_PACKET, packet(7)): plain system calls, one a frame.
//!
//! The memory-mapped rings do not live here yet.
//!
//! The kernel's own stack goes on seeing what arrives on the interface: give it no address there (and no IPv6), or a
//! hardware address to the host that is not the interface's, else both answer.
//!
//! Frames travel behind a [`vnet`](crate::vnet) header (PACKET_VNET_HDR). To the kernel a super-frame may be handed whole on any
//! interface, which cuts it in software if the device cannot. From the kernel it comes as it reached the interface:
//! whole if the other end of a veth pair sends super-frames, or if GRO put it together.
//!
//! Invariant: frames this host sends are not received again (PACKET_IGNORE_OUTGOING).
//! Invariant: a VLAN tag the kernel took out of a frame is put back before anybody sees the frame.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use base::{Batch, Offloads, Pool};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use wire::Mac;

use crate::device::{self, Interface};
use crate::error::reason;
use crate::exchange::{Exchange, Read, Room, Source, Tag, Written};
use crate::{Drop, ETHERNET, FRAME_MAX, Port, PortCounters, PortError, PortFacts};

/// Room for a VLAN tag the MTU does not count.
const VLAN: usize = 4;
const ETHERTYPE_VLAN: u16 = 0x8100;

/// How a packet socket is to be opened.
#[derive(Debug, Clone)]
pub struct PacketOptions {
    /// The hardware address of the host on this port. `None`: the interface's own.
    pub mac: Option<Mac>,
    /// Receive frames for everybody, not only for `mac`.
    pub promiscuous: bool,
    /// Receive all groups (IPv6 neighbour discovery needs its own, at least).
    pub multicast: bool,
    /// Tell the host that checksums may be left out and super-frames passed whole when it sends. What arrives depends
    /// on the other end.
    pub offloads: bool,
    /// Go round the interface's queueing discipline (PACKET_QDISC_BYPASS): less work, and a full device drops.
    pub qdisc_bypass: bool,
    /// Bytes the kernel may hold for this port in each direction. A user without CAP_NET_ADMIN gets at most what
    /// `net.core.rmem_max` and `wmem_max` allow.
    pub buffer: usize,
}

impl Default for PacketOptions {
    fn default() -> Self {
        Self {
            mac: None,
            promiscuous: false,
            multicast: true,
            offloads: true,
            qdisc_bypass: false,
            buffer: 8 << 20,
        }
    }
}

/// A packet socket bound to one interface.
pub struct PacketSocket {
    fd: OwnedFd,
    interface: Interface,
    index: i32,
    facts: PortFacts,
    exchange: Exchange,
    /// What the kernel counted and forgot when it was asked.
    overruns: Cell<u64>,
    failure: Option<PortError>,
}

impl PacketSocket {
    /// Opens a packet socket on the interface `name`, which must exist and have Ethernet headers.
    ///
    /// # Errors
    /// [`PortError::is_unavailable`] when the user may not (CAP_NET_RAW) or the kernel has no packet sockets.
    pub fn new(name: &str, options: &PacketOptions) -> Result<Self, PortError> {
        device::check_name(name)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // No protocol yet: until it is bound it must not receive from every interface.
        let fd = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
            .map_err(|e| not_allowed(name, &e.into()))?;
        let failed = |what: &str, e: &io::Error| {
            PortError::failed(format_args!("{what} interface {name}"), e)
        };
        let interface = Interface::open(name).map_err(|e| failed("look at", &e))?;
        let index = interface.index().map_err(|e| no_interface(name, &e))?;
        if !interface.is_ethernet().map_err(|e| failed("look at", &e))? {
            return Err(PortError::new(format!(
                "interface {name} has no Ethernet headers (a tunnel?): use an Ethernet, veth, bridge or TAP interface"
            )));
        }
        let mtu = interface.mtu().map_err(|e| failed("read the MTU of", &e))?;
        let own = interface.mac().map_err(|e| failed("read the MAC of", &e))?;
        let mac = options.mac.unwrap_or(own);

        set_options(&fd, options)
            .map_err(|(what, e)| PortError::failed(format_args!("{what} on {name}"), &e))?;
        let mut groups = Vec::new();
        if options.promiscuous {
            groups.push((libc::PACKET_MR_PROMISC, None));
        }
        if options.multicast {
            groups.push((libc::PACKET_MR_ALLMULTI, None));
        }
        if mac != own {
            groups.push((libc::PACKET_MR_UNICAST, Some(mac)));
        }
        for (kind, address) in groups {
            join(&fd, index, kind, address)
                .map_err(|e| failed("receive other addresses' frames on", &e))?;
        }
        bind(&fd, index).map_err(|e| failed("bind to", &e))?;

        let plain = mtu + ETHERNET + VLAN;
        let offloads = if options.offloads {
            Offloads {
                uso: kernel_has_uso(),
                ..Offloads::ALL
            }
        } else {
            Offloads::NONE
        };
        let max_frame = if options.offloads {
            FRAME_MAX.max(plain)
        } else {
            plain
        };
        let facts = PortFacts {
            name: name.to_owned(),
            mac,
            mtu,
            max_frame,
            offloads,
            queue: 0,
            queues: 1,
        };
        Ok(Self {
            fd,
            interface,
            index,
            facts,
            exchange: Exchange::new(FRAME_MAX.max(plain), max_frame),
            overruns: Cell::new(0),
            failure: None,
        })
    }

    /// After an error that says the interface is off or gone: off is no reason to give up, it may come back.
    #[inline]
    fn give_up(&mut self, why: Option<io::Error>) {
        if let (Some(why), None) = (why, &self.failure) {
            if why.raw_os_error() == Some(libc::ENETDOWN)
                && self.interface.index().is_ok_and(|i| i == self.index)
            {
                return;
            }
            let line = format!("interface {} is gone: {}", self.facts.name, reason(&why));
            self.failure = Some(PortError::new(line).with_errno(&why));
        }
    }
}

fn not_allowed(name: &str, why: &io::Error) -> PortError {
    let line = match why.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!(
            "not allowed to open a packet socket on {name}: run as root, in a namespace of one's own, or give the \
             program the right with `setcap cap_net_raw+ep`"
        ),
        Some(libc::EAFNOSUPPORT) => {
            "this kernel has no packet sockets (CONFIG_PACKET): use a TAP".to_owned()
        }
        _ => return PortError::failed(format_args!("open a packet socket on {name}"), why),
    };
    PortError::unavailable(line).with_errno(why)
}

fn no_interface(name: &str, why: &io::Error) -> PortError {
    match why.raw_os_error() {
        Some(libc::ENODEV) => PortError::new(format!(
            "there is no interface {name}: `ip link` shows those there are"
        ))
        .with_errno(why),
        _ => PortError::failed(format_args!("look at interface {name}"), why),
    }
}

/// UDP segmentation came to virtio headers with Linux 6.2.
fn kernel_has_uso() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 2)
}

fn set<T>(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`, which outlives the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            len,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn set_options(fd: &OwnedFd, options: &PacketOptions) -> Result<(), (&'static str, io::Error)> {
    let on: libc::c_int = 1;
    let packet = [
        (libc::PACKET_VNET_HDR, "ask for offloads (PACKET_VNET_HDR)"),
        (
            libc::PACKET_IGNORE_OUTGOING,
            "ignore own frames (PACKET_IGNORE_OUTGOING needs Linux 4.20)",
        ),
        (libc::PACKET_AUXDATA, "ask for VLAN tags (PACKET_AUXDATA)"),
        (
            libc::PACKET_QDISC_BYPASS,
            "bypass the queueing discipline (PACKET_QDISC_BYPASS)",
        ),
    ];
    let count = if options.qdisc_bypass { 4 } else { 3 };
    for (option, what) in &packet[..count] {
        set(fd, libc::SOL_PACKET, *option, &on).map_err(|e| (*what, e))?;
    }
    let bytes = libc::c_int::try_from(options.buffer).unwrap_or(libc::c_int::MAX);
    let buffers = [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ];
    for (forced, asked) in buffers {
        // Best effort: a smaller buffer loses more under a burst, and that is counted.
        let _ = set(fd, libc::SOL_SOCKET, forced, &bytes)
            .or_else(|_| set(fd, libc::SOL_SOCKET, asked, &bytes));
    }
    Ok(())
}

fn join(fd: &OwnedFd, index: i32, kind: libc::c_int, address: Option<Mac>) -> io::Result<()> {
    let mut request = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: kind as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    if let Some(mac) = address {
        request.mr_alen = 6;
        request.mr_address[..6].copy_from_slice(&mac.0);
    }
    set(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

fn bind(fd: &OwnedFd, index: i32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: pointer and length describe `address`, which outlives the call.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Frames the kernel dropped because this side was too slow, since it was last asked.
fn overruns(fd: &OwnedFd) -> u64 {
    let mut stats = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut len = size_of_val(&stats) as libc::socklen_t;
    // SAFETY: pointer and length describe `stats`, a structure of two integers, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut len,
        )
    };
    if result < 0 { 0 } else { stats.tp_drops.into() }
}

impl Port for PacketSocket {
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
        self.failure.is_none().then(|| self.fd.as_fd())
    }

    fn counters(&self) -> PortCounters {
        self.overruns.set(self.overruns.get() + overruns(&self.fd));
        let mut counters = self.exchange.counters.clone();
        counters.drops.add_n(Drop::RxOverrun, self.overruns.get());
        counters
    }

    fn failure(&self) -> Option<&PortError> {
        self.failure.as_ref()
    }

    fn release(&mut self, pool: &mut Pool) {
        self.exchange.release(pool);
    }
}

/// Room for one control message with `tpacket_auxdata`; u64s for its alignment.
type Control = [MaybeUninit<u64>; 6];

/// Every field zero but the list: not written out, since some C libraries have hidden fields.
#[inline]
fn message(list: *mut libc::iovec, entries: usize) -> libc::msghdr {
    // SAFETY: a structure of integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = list;
    message.msg_iovlen = entries as _;
    message
}

#[inline]
fn read(fd: RawFd, room: &Room) -> Read {
    let mut whole = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let (list, entries) = match *room {
        Room::Flat(at, len) => {
            (whole.iov_base, whole.iov_len) = (at.cast(), len);
            (&raw mut whole, 1)
        }
        Room::List(list, entries) => (list, entries),
    };
    let mut control: Control = [MaybeUninit::uninit(); 6];
    let mut message = message(list, entries);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    loop {
        // SAFETY: `Exchange` gives memory that may be written and that nobody else refers to; list and control buffer
        // are this function's; the descriptor is the open one of the socket that is borrowed meanwhile.
        let n = unsafe { libc::recvmsg(fd, &raw mut message, 0) };
        if n >= 0 {
            let cut = message.msg_flags & libc::MSG_TRUNC != 0;
            return Read::Frame {
                bytes: n as usize,
                cut,
                tag: tag(&message),
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

/// The VLAN tag the kernel took out of the frame, if it did.
#[inline]
fn tag(message: &libc::msghdr) -> Option<Tag> {
    // SAFETY: `message` was filled in by recvmsg and its control buffer is still there.
    let first = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: null, or the first control message, whole and aligned, as the kernel wrote it.
    let header = unsafe { first.as_ref() }?;
    if header.cmsg_level != libc::SOL_PACKET
        || header.cmsg_type != libc::PACKET_AUXDATA
        || (header.cmsg_len as usize) < AUXDATA_LEN
    {
        return None;
    }
    // SAFETY: the data of a control message lie behind its header.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: the message is long enough for the structure, of integers only; it may lie at any address.
    let data = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
    if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let known = data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let ethertype = if known {
        data.tp_vlan_tpid
    } else {
        ETHERTYPE_VLAN
    };
    Some(Tag {
        ethertype,
        contents: data.tp_vlan_tci,
    })
}

const AUXDATA_LEN: usize = size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
const _: () = assert!(AUXDATA_LEN.next_multiple_of(8) <= size_of::<Control>());

#[inline]
fn write(fd: RawFd, source: &Source) -> Written {
    loop {
        let n = match *source {
            // SAFETY: `Exchange` gives memory that may be read and that nobody changes; the descriptor is the open one
            // of the socket that is borrowed meanwhile.
            Source::Flat(at, len) => unsafe { libc::send(fd, at.cast(), len, 0) },
            Source::List(list, entries) => {
                let message = message(list.cast_mut(), entries);
                // SAFETY: as above, for every entry of the list, which sendmsg only reads.
                unsafe { libc::sendmsg(fd, &raw const message, 0) }
            }
        };
        if n >= 0 {
            return Written::Sent;
        }
        let e = io::Error::last_os_error();
        return match e.raw_os_error() {
            Some(libc::EINTR) => continue,
            Some(libc::EAGAIN) => Written::Full,
            Some(libc::EMSGSIZE) => Written::Lost(Drop::TxLength),
            // ENOBUFS: the queueing discipline dropped it.
            Some(libc::ENOMEM | libc::ENOBUFS) => Written::Lost(Drop::TxNoMemory),
            Some(libc::ENETDOWN) => Written::Lost(Drop::TxDown),
            Some(libc::ENXIO) => Written::Dead(e),
            _ => Written::Lost(Drop::TxRefused),
        };
    }
}
