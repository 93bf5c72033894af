//! What std and rustix do not ask the kernel's own sockets, or tell them: TCP_INFO, options that are numbers, control messages.
//!
//! Opening sockets does not live here, std does that.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::netlink::u32_at;

/// Every field of `struct tcp_info` read here lies before this offset, linux/tcp.h.
const INFO_LEN: usize = 256;
const OPTION_TIMESTAMPS: u8 = 1;
const OPTION_SACK: u8 = 2;
const OPTION_WINDOW_SCALE: u8 = 4;
const OPTION_ECN: u8 = 8;

/// One connection in the kernel's numbers. Sizes are bytes, times microseconds, the rest counts segments.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TcpInfo {
    /// TCP_ESTABLISHED is 1, see linux/tcp_states.h.
    pub state: u8,
    pub timestamps: bool,
    pub sack: bool,
    /// Negotiated at all; the shifts are below.
    pub window_scaling: bool,
    pub ecn: bool,
    /// The shift of the windows the peer announces.
    pub snd_wscale: u8,
    /// The shift of the windows the kernel announces.
    pub rcv_wscale: u8,
    pub rto: u32,
    /// Payload of a full segment the kernel sends.
    pub snd_mss: u32,
    /// Payload of the segments it seems to receive.
    pub rcv_mss: u32,
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    pub pmtu: u32,
    pub rtt: u32,
    pub snd_cwnd: u32,
    /// The MSS the kernel announced.
    pub advmss: u32,
    /// How far out of order segments have arrived at the peer.
    pub reordering: u32,
    /// Segments sent again since the connection was opened.
    pub total_retrans: u32,
    /// Numbers acknowledged by the peer, SYN and FIN included.
    pub bytes_acked: u64,
    /// Numbers received in order, the FIN included.
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    /// Segments the peer has got.
    pub delivered: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
}

/// What the kernel knows of this TCP connection.
///
/// # Errors
/// When it is not a TCP socket.
pub fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
    let mut bytes = [0u8; INFO_LEN];
    let mut len = INFO_LEN as libc::socklen_t;
    // SAFETY: the pointer and length describe `bytes`, which outlives the call; the kernel writes at most `len` bytes
    // there, and to `len`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Eight single bytes, then words; the two shifts share a byte as bit fields, whose order follows the machine's.
    let (options, shifts) = (bytes[5], bytes[6]);
    let (low, high) = (shifts & 15, shifts >> 4);
    let (snd_wscale, rcv_wscale) = if cfg!(target_endian = "little") {
        (low, high)
    } else {
        (high, low)
    };
    let word = |n: usize| u32_at(&bytes, 8 + 4 * n);
    let long = |n: usize| {
        let (first, second) = (u64::from(word(n)), u64::from(word(n + 1)));
        if cfg!(target_endian = "little") {
            first | second << 32
        } else {
            first << 32 | second
        }
    };
    Ok(TcpInfo {
        state: bytes[0],
        timestamps: options & OPTION_TIMESTAMPS != 0,
        sack: options & OPTION_SACK != 0,
        window_scaling: options & OPTION_WINDOW_SCALE != 0,
        ecn: options & OPTION_ECN != 0,
        snd_wscale,
        rcv_wscale,
        rto: word(0),
        snd_mss: word(2),
        rcv_mss: word(3),
        unacked: word(4),
        sacked: word(5),
        lost: word(6),
        pmtu: word(13),
        rtt: word(15),
        snd_cwnd: word(18),
        advmss: word(19),
        reordering: word(20),
        total_retrans: word(23),
        bytes_acked: long(28),
        bytes_received: long(30),
        segs_out: word(32),
        segs_in: word(33),
        data_segs_in: word(36),
        data_segs_out: word(37),
        delivered: word(46),
        bytes_sent: long(48),
        bytes_retrans: long(50),
    })
}

/// Sets an option that is a number.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_number(socket: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(socket, level, name, &value.to_ne_bytes())
}

/// Sets an option to these bytes.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set(socket: impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            size_of_val(value) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// An option that is a number.
///
/// # Errors
/// Those of getsockopt(2).
pub fn number(socket: impl AsFd, level: i32, name: i32) -> io::Result<i32> {
    let value = get(socket, level, name, size_of::<i32>())?;
    let mut number = [0; size_of::<i32>()];
    number[..value.len()].copy_from_slice(&value);
    Ok(i32::from_ne_bytes(number))
}

/// An option's bytes, as many as there are up to `room`.
///
/// # Errors
/// Those of getsockopt(2).
pub fn get(socket: impl AsFd, level: i32, name: i32, room: usize) -> io::Result<Vec<u8>> {
    let mut value = vec![0; room];
    let mut len = room as libc::socklen_t;
    // SAFETY: the pointer and length describe `value`, which outlives the call; the kernel writes at most `len` bytes there, and to
    // `len`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    value.truncate(len as usize);
    Ok(value)
}

/// What one recvmsg(2) gave beside the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Bytes received.
    pub len: usize,
    /// MSG_TRUNC and the like.
    pub flags: i32,
    /// The control messages, as the kernel wrote them.
    pub control: Vec<u8>,
}

/// Receives into `buffer` with recvmsg(2), and control messages into 512 bytes.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive_message(socket: impl AsFd, buffer: &mut [u8], flags: i32) -> io::Result<Message> {
    // Words, for control messages are aligned to them.
    let mut control = [0u64; 64];
    let mut piece = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: a `msghdr` of zeros is one: null pointers and lengths of nought.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: `header` and what it points to (`piece`, `buffer`, `control`) outlive the call, with the lengths they have.
    let n = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
    let len = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    let told = control.iter().flat_map(|word| word.to_ne_bytes());
    Ok(Message {
        len,
        flags: header.msg_flags,
        control: told.take(header.msg_controllen).collect(),
    })
}
