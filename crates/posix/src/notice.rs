//! The error queue of a socket (MSG_ERRQUEUE): completions of MSG_ZEROCOPY, timestamps of what was sent, and ICMP errors.
//!
//! The first two come of marks in the stream: what a mark's word means is decided here, when it is set and when its notice comes back.
//! Bytes are always copied when they are written, so a completion always says SO_EE_CODE_ZEROCOPY_COPIED. It comes when they
//! are acknowledged all the same, as on Linux, where that is when the last reference to them goes.
//!
//! What does not live here: options (`option`), the marks (`stack`).
//!
//! Invariant: a queue is bounded; what finds it full is lost, but for completions, which are joined to ranges.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;

use base::Instant;
use base::epoll::EPOLLERR;
use stack::{ErrorReport, Notice, NoticeKind, SocketError};

use crate::address;
use crate::call::Message;
use crate::control::Control;
use crate::errno::{Errno, Result};
use crate::socket::{Kind, State};
use crate::world::World;

/// `SO_ZEROCOPY` and `SO_TIMESTAMPING`, which is SCM_TIMESTAMPING, too.
pub(crate) const SO_ZEROCOPY: i32 = 60;
pub(crate) const SO_TIMESTAMPING: i32 = 37;
/// Entries a queue may have.
const MOST: usize = 1024;

/// Bits of SO_TIMESTAMPING (SOF_TIMESTAMPING_*).
pub(crate) mod stamp {
    pub(crate) const TX_SOFTWARE: u32 = 1 << 1;
    pub(crate) const RX_SOFTWARE: u32 = 1 << 3;
    pub(crate) const SOFTWARE: u32 = 1 << 4;
    pub(crate) const OPT_ID: u32 = 1 << 7;
    pub(crate) const TX_SCHED: u32 = 1 << 8;
    pub(crate) const TX_ACK: u32 = 1 << 9;
    pub(crate) const OPT_TSONLY: u32 = 1 << 11;
    pub(crate) const OPT_STATS: u32 = 1 << 12;
    pub(crate) const OPT_ID_TCP: u32 = 1 << 16;
    /// What asks for stamps of what is sent.
    pub(crate) const TX: u32 = TX_SOFTWARE | TX_SCHED | TX_ACK;
    /// All that Linux knows.
    pub(crate) const ALL: u32 = (1 << 19) - 1;
}

/// Bits of a mark's word above the 32 of the number it carries; the descriptor follows.
const WORD_ZEROCOPY: u64 = 1 << 32;
const WORD_SCHED: u64 = 1 << 33;
const WORD_SENT: u64 = 1 << 34;
const WORD_ACK: u64 = 1 << 35;
const WORD_FD: u32 = 36;

/// `ee_origin` and `ee_code` (linux/errqueue.h).
const ORIGIN_LOCAL: u8 = 1;
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;
const ORIGIN_TIMESTAMPING: u8 = 4;
const ORIGIN_ZEROCOPY: u8 = 5;
const CODE_ZEROCOPY_COPIED: u8 = 1;
/// `ee_info` of a stamp: SCM_TSTAMP_SND, SCM_TSTAMP_SCHED, SCM_TSTAMP_ACK.
const STAMP_SENT: u32 = 0;
const STAMP_SCHED: u32 = 1;
const STAMP_ACK: u32 = 2;

/// One entry of an error queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Calls from the first to the last number are complete.
    Zerocopy { first: u32, last: u32 },
    /// Something was sent or acknowledged.
    Stamp { what: u32, key: u32, at: Instant },
    /// A router or the peer complains of something.
    Icmp(ErrorReport),
    /// It was too long for the path to there, whose MTU is this.
    TooLong { to: Option<SocketAddr>, mtu: u32 },
}

/// An error queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct ErrorQueue(VecDeque<Entry>);

impl ErrorQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, entry: Entry) {
        if self.0.len() < MOST {
            self.0.push_back(entry);
        }
    }

    /// A call is complete: it joins the newest entry if that ends just before it.
    fn complete(&mut self, number: u32) {
        if let Some(Entry::Zerocopy { last, .. }) = self.0.back_mut()
            && last.wrapping_add(1) == number
        {
            *last = number;
            return;
        }
        self.push(Entry::Zerocopy {
            first: number,
            last: number,
        });
    }
}

/// What of a socket its error queue is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notices {
    pub(crate) queue: ErrorQueue,
    /// SO_ZEROCOPY.
    pub(crate) zerocopy: bool,
    /// SO_TIMESTAMPING.
    pub(crate) stamping: u32,
    /// The number of the next call with MSG_ZEROCOPY.
    call: u32,
    /// Bytes of the stream, or datagrams, that were written.
    written: u32,
    /// `written` where keys of stamps begin.
    base: u32,
}

impl Notices {
    /// Those of a connection that comes of a listener with these.
    pub(crate) fn accepted(&self) -> Self {
        Self {
            zerocopy: self.zerocopy,
            stamping: self.stamping,
            ..Self::default()
        }
    }

    /// Stamps asked for of what is written now: those a call asks for, else the socket's.
    fn asked(&self, own: Option<u32>) -> u32 {
        own.unwrap_or(self.stamping) & stamp::TX
    }

    /// The key of a stamp of what was written last.
    fn key(&self) -> u32 {
        if self.stamping & stamp::OPT_ID == 0 {
            return 0;
        }
        self.written.wrapping_sub(self.base).wrapping_sub(1)
    }
}

/// SO_TIMESTAMPING.
///
/// # Errors
/// EINVAL for bits there are not, or that cannot stand alone; for OPT_ID of a stream that is not connected.
pub(crate) fn set_stamping<W: World>(world: &mut W, fd: i32, bits: i32) -> Result<()> {
    let bits = bits as u32;
    let alone = |bit: u32, other: u32| bits & bit != 0 && bits & other == 0;
    if bits & !stamp::ALL != 0
        || alone(stamp::OPT_ID_TCP, stamp::OPT_ID)
        || alone(stamp::OPT_STATS, stamp::OPT_TSONLY)
    {
        return Err(Errno::INVAL);
    }
    let socket = world.table().get(fd)?;
    let (kind, state) = (socket.kind, socket.state);
    if bits & stamp::OPT_ID != 0 && socket.notices.stamping & stamp::OPT_ID == 0 {
        let mut base = socket.notices.written;
        if kind == Kind::Stream {
            let (State::Stream(id) | State::Deferred(id) | State::Connecting(id)) = state else {
                return Err(Errno::INVAL);
            };
            // From the first byte that is not acknowledged; with OPT_ID_TCP from the next that is written.
            if bits & stamp::OPT_ID_TCP == 0 {
                let info = world.host().tcp_info(id)?;
                base = base.wrapping_sub(info.unacknowledged + info.unsent);
            }
        }
        world.table().get_mut(fd)?.notices.base = base;
    }
    world.table().get_mut(fd)?.notices.stamping = bits;
    Ok(())
}

/// What a call wants to hear of: whether it had MSG_ZEROCOPY, and stamps that it asks for itself.
pub(crate) type Wishes = (bool, Option<u32>);

/// A call has written `len` bytes to a stream: whoever wants to hear what becomes of them will.
pub(crate) fn written<W: World>(
    world: &mut W,
    fd: i32,
    len: usize,
    (zerocopy, own): Wishes,
) -> Result<()> {
    collect(world);
    let socket = world.table().get_mut(fd)?;
    let Some(id) = socket.id() else {
        return Ok(());
    };
    let notices = &mut socket.notices;
    notices.written = notices.written.wrapping_add(len as u32);
    let place = (fd as u64) << WORD_FD;
    let (key, asked) = (notices.key(), notices.asked(own));
    let mut number = None;
    if zerocopy && notices.zerocopy {
        number = Some(notices.call);
        notices.call = notices.call.wrapping_add(1);
    }
    let now = world.now();
    if let Some(number) = number {
        let word = place | WORD_ZEROCOPY | u64::from(number);
        if world.host().tcp_mark(now, id, word, (false, true)).is_err() {
            // There are too many marks, or the connection is over. The bytes were copied: nobody holds them.
            world.table().get_mut(fd)?.notices.queue.complete(number);
            world.table().raise(fd, EPOLLERR);
        }
    }
    if asked != 0 {
        let bit = |asks: u32, word: u64| if asked & asks != 0 { word } else { 0 };
        let sent = bit(stamp::TX_SCHED, WORD_SCHED) | bit(stamp::TX_SOFTWARE, WORD_SENT);
        let acked = bit(stamp::TX_ACK, WORD_ACK);
        let word = place | sent | acked | u64::from(key);
        // A stamp that there is no room for is lost, as on Linux.
        let _ = world
            .host()
            .tcp_mark(now, id, word, (sent != 0, acked != 0));
    }
    Ok(())
}

/// A datagram was sent; the host does not keep datagrams, so that is all that ever becomes of it.
pub(crate) fn sent<W: World>(world: &mut W, fd: i32, (zerocopy, own): Wishes) -> Result<()> {
    let now = world.now();
    let notices = &mut world.table().get_mut(fd)?.notices;
    notices.written = notices.written.wrapping_add(1);
    if zerocopy && notices.zerocopy {
        notices.queue.complete(notices.call);
        notices.call = notices.call.wrapping_add(1);
    }
    let (key, asked) = (notices.key(), notices.asked(own));
    for (bit, what) in [
        (stamp::TX_SCHED, STAMP_SCHED),
        (stamp::TX_SOFTWARE, STAMP_SENT),
    ] {
        if asked & bit != 0 {
            let at = now;
            notices.queue.push(Entry::Stamp { what, key, at });
        }
    }
    Ok(())
}

/// Takes the host's notices to the queues of their sockets.
pub(crate) fn collect<W: World>(world: &mut W) {
    while let Some(notice) = world.host().poll_notice() {
        let fd = (notice.word >> WORD_FD) as i32;
        // The descriptor may be another's by now.
        if let Ok(socket) = world.table().get_mut(fd)
            && socket.id() == Some(notice.socket)
        {
            enter(&mut socket.notices.queue, &notice);
        }
    }
    while let Some(report) = world.host().poll_error_report() {
        // The socket, or its descriptor, may be gone by now.
        if let Ok(token) = world.host().token(report.socket)
            && let Some(socket) = world.table().of(report.socket, token)
        {
            socket.notices.queue.push(Entry::Icmp(report));
        }
    }
}

/// A datagram was refused because the path does not carry it in one piece: whoever hears of errors hears the path's MTU.
pub(crate) fn too_long<W: World>(world: &mut W, fd: i32, to: Option<SocketAddr>) -> Result<()> {
    let socket = world.table().get(fd)?;
    let wanted = socket.network.errors || socket.network.errors_v6;
    if let (true, Some(id)) = (wanted, socket.id()) {
        let now = world.now();
        let mtu = world.host().udp_mtu(now, id, to).map_or(0, u32::from);
        let peer = world.host().peer_addr(id).ok();
        let to = to.or(peer);
        let queue = &mut world.table().get_mut(fd)?.notices.queue;
        queue.push(Entry::TooLong { to, mtu });
        world.table().raise(fd, EPOLLERR);
    }
    Ok(())
}

fn enter(queue: &mut ErrorQueue, notice: &Notice) {
    let (key, at) = (notice.word as u32, notice.at);
    let has = |bit: u64| notice.word & bit != 0;
    if has(WORD_ZEROCOPY) {
        return queue.complete(key);
    }
    let stamps = match notice.kind {
        NoticeKind::Sent => [
            has(WORD_SCHED).then_some(STAMP_SCHED),
            has(WORD_SENT).then_some(STAMP_SENT),
        ],
        NoticeKind::Acked => [Some(STAMP_ACK), None],
        NoticeKind::Dropped => [None; 2],
    };
    for what in stamps.into_iter().flatten() {
        queue.push(Entry::Stamp { what, key, at });
    }
}

/// Whether a socket's error queue has something.
pub(crate) fn waiting<W: World>(world: &mut W, fd: i32) -> bool {
    collect(world);
    let table = world.table();
    table.get(fd).is_ok_and(|s| !s.notices.queue.is_empty())
}

/// Takes the oldest entry of the error queue (MSG_ERRQUEUE). What was sent is not kept, so none of it comes back: without
/// OPT_TSONLY a stamp's packet is told to be cut off.
///
/// # Errors
/// EBADF; EAGAIN when the queue is empty, whether or not the socket blocks.
pub(crate) fn receive<W: World>(world: &mut W, fd: i32) -> Result<Message> {
    world.table().get(fd)?;
    collect(world);
    let socket = world.table().get_mut(fd)?;
    let queue = &mut socket.notices.queue;
    let entry = queue.0.pop_front().ok_or(Errno::AGAIN)?;
    let more = !queue.is_empty();
    let last = !queue.0.iter().any(|entry| matches!(entry, Entry::Icmp(_)));
    let (stamping, v6, id) = (socket.notices.stamping, socket.v6, socket.id());
    if more {
        world.table().raise(fd, EPOLLERR);
    }
    let mut message = Message {
        flags: libc::MSG_ERRQUEUE,
        ..Message::default()
    };
    let error = match entry {
        Entry::Zerocopy { first, last } => Extended {
            origin: ORIGIN_ZEROCOPY,
            code: CODE_ZEROCOPY_COPIED,
            info: first,
            data: last,
            ..Extended::default()
        },
        Entry::Stamp { what, key, at } => {
            if stamping & stamp::SOFTWARE != 0 {
                let time = world.wall(at);
                message.control.push(software_stamp(time));
            }
            if stamping & stamp::OPT_TSONLY == 0 {
                message.flags |= libc::MSG_TRUNC;
            }
            Extended {
                errno: libc::ENOMSG as u32,
                origin: ORIGIN_TIMESTAMPING,
                info: what,
                data: key,
                ..Extended::default()
            }
        }
        Entry::Icmp(report) => {
            message.from = Some(report.to);
            // As on Linux: who has read of the last error need not be told of it again.
            if let (true, Some(id)) = (last, id) {
                world.host().take_error(id);
            }
            Extended::of(&report)
        }
        Entry::TooLong { to, mtu } => {
            message.from = to;
            Extended {
                errno: libc::EMSGSIZE as u32,
                origin: ORIGIN_LOCAL,
                info: mtu,
                ..Extended::default()
            }
        }
    };
    message.control.push(error.control(v6));
    Ok(message)
}

/// `struct sock_extended_err`.
#[derive(Debug, Clone, Copy, Default)]
struct Extended {
    errno: u32,
    origin: u8,
    kind: u8,
    code: u8,
    info: u32,
    data: u32,
    /// SO_EE_OFFENDER.
    offender: Option<IpAddr>,
}

impl Extended {
    fn of(report: &ErrorReport) -> Self {
        let (kind, code) = report.icmp;
        let v4 = report.to.is_ipv4();
        let errno = match report.error {
            // What Linux tells of the ones that have a number of their own.
            SocketError::MessageTooLong => libc::EMSGSIZE,
            _ if v4 && (kind, code) == (3, 2) => libc::ENOPROTOOPT,
            _ if kind == if v4 { 12 } else { 4 } => libc::EPROTO,
            error => Errno::from(error).0,
        };
        Self {
            errno: errno as u32,
            origin: if v4 { ORIGIN_ICMP } else { ORIGIN_ICMP6 },
            kind,
            code,
            info: report.mtu.unwrap_or(0),
            data: 0,
            offender: Some(report.from),
        }
    }

    /// IP_RECVERR or IPV6_RECVERR, by the socket's family.
    fn control(&self, v6: bool) -> Control {
        let mut data = self.errno.to_ne_bytes().to_vec();
        data.extend([self.origin, self.kind, self.code, 0]);
        data.extend(self.info.to_ne_bytes());
        data.extend(self.data.to_ne_bytes());
        let mut offender = [0; 28];
        if let Some(ip) = self.offender {
            address::write(&SocketAddr::new(ip, 0), v6, &mut offender);
        }
        let (level, kind, len) = if v6 {
            (libc::SOL_IPV6, libc::IPV6_RECVERR, 28)
        } else {
            (libc::SOL_IP, libc::IP_RECVERR, 16)
        };
        data.extend(&offender[..len]);
        Control { level, kind, data }
    }
}

fn timespec(time: Duration) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&time.as_secs().to_ne_bytes());
    bytes[8..].copy_from_slice(&u64::from(time.subsec_nanos()).to_ne_bytes());
    bytes
}

/// SCM_TIMESTAMPING: three times, of which software's is the first and hardware's the last.
pub(crate) fn software_stamp(time: Duration) -> Control {
    let mut data = timespec(time).to_vec();
    data.resize(48, 0);
    Control {
        level: libc::SOL_SOCKET,
        kind: SO_TIMESTAMPING,
        data,
    }
}
