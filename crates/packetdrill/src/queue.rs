//! The queue of the device that scripts speak of, `tun0` of the namespace: whether it takes anything (`tc qdisc`). No packet passes
//! it; ours behaves as it would.
//!
//! What does not live here: behaving so (`stage`), its features (`device`).

use libc::{c_int, c_void};

const NAME: &[u8] = b"tun0\0";
/// Of `linux/rtnetlink.h`: what lists queueing disciplines, and their attributes.
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// Sizes of `nlmsghdr` and `tcmsg`.
const MESSAGE: usize = 16;
const TC: usize = 20;

/// A socket of the kernel's that closes itself.
struct Kernel(c_int);

impl Kernel {
    fn open(domain: c_int, kind: c_int) -> Option<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, 0) };
        (fd >= 0).then_some(Self(fd))
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: it is our own.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }
}

/// Whether the device's queue is a fifo of no length, so that it takes nothing.
pub(crate) fn refuses() -> bool {
    // SAFETY: a name that ends with a zero.
    let index = unsafe { libc::if_nametoindex(NAME.as_ptr().cast()) };
    if index == 0 {
        return false;
    }
    let Some(kernel) = Kernel::open(libc::AF_NETLINK, libc::SOCK_RAW) else {
        return false;
    };
    let mut ask = [0_u8; MESSAGE + TC];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    ask[..4].copy_from_slice(&((MESSAGE + TC) as u32).to_ne_bytes());
    ask[4..6].copy_from_slice(&RTM_GETQDISC.to_ne_bytes());
    ask[6..8].copy_from_slice(&flags.to_ne_bytes());
    ask[MESSAGE + 4..MESSAGE + 8].copy_from_slice(&index.to_ne_bytes());
    // SAFETY: a buffer and its length.
    let sent = unsafe { libc::send(kernel.0, ask.as_ptr().cast::<c_void>(), ask.len(), 0) };
    if sent < 0 {
        return false;
    }
    let mut answer = [0_u8; 16 * 1024];
    // SAFETY: a buffer and its length.
    let len = unsafe { libc::recv(kernel.0, answer.as_mut_ptr().cast(), answer.len(), 0) };
    let answer = &answer[..usize::try_from(len).unwrap_or(0)];
    records(answer, MESSAGE, |at| {
        let length = u32::from_ne_bytes(*answer.get(at..)?.first_chunk()?);
        let kind = u16::from_ne_bytes(*answer.get(at + 4..)?.first_chunk()?);
        Some((kind, length as usize))
    })
    .any(|(kind, body)| {
        let own = body.get(4..8) == Some(&index.to_ne_bytes()[..]);
        kind == RTM_NEWQDISC && own && is_closed(body.get(TC..).unwrap_or_default())
    })
}

/// Whether these attributes are of a fifo of no length.
fn is_closed(attributes: &[u8]) -> bool {
    let mut found = (false, false);
    let all = records(attributes, 4, |at| {
        let length = u16::from_ne_bytes(*attributes.get(at..)?.first_chunk()?);
        let kind = u16::from_ne_bytes(*attributes.get(at + 2..)?.first_chunk()?);
        Some((kind, usize::from(length)))
    });
    for (kind, body) in all {
        found.0 |= kind == TCA_KIND && body.starts_with(b"pfifo\0");
        found.1 |= kind == TCA_OPTIONS && body == [0; 4];
    }
    found == (true, true)
}

/// Kinds and bodies of records of netlink, whose heads are `head` long.
fn records<'a>(
    bytes: &'a [u8],
    head: usize,
    read: impl Fn(usize) -> Option<(u16, usize)> + 'a,
) -> impl Iterator<Item = (u16, &'a [u8])> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let (kind, length) = read(at)?;
        let body = bytes.get(at + head..at + length)?;
        at += length.next_multiple_of(4);
        Some((kind, body))
    })
}
