//! A small blocking rtnetlink client: one request, its answer, done (RFC 3549 describes the message format).
//!
//! What does not live here: what the messages mean; that is `link`'s.
//!
//! Invariant: a reply is read to its acknowledgement before the next request is sent, so none is ever taken for
//! another's; sequence numbers are checked nevertheless.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// The longest datagram the kernel builds for a dump, and more than any single answer.
const RECEIVE_LEN: usize = 32 * 1024;
/// The attribute of an error message that holds a sentence, linux/netlink.h.
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_CAPPED: u16 = 0x100;

fn align4(n: usize) -> usize {
    (n + 3) & !3
}

/// A message under construction: header, fixed part, attributes.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// `kind` is an RTM_ number, `flags` NLM_F_ flags besides REQUEST and ACK, `fixed` the struct that follows.
    pub(crate) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0u32.to_ne_bytes()); // length, filled in by `finish`
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes()); // sequence number, likewise
        bytes.extend_from_slice(&0u32.to_ne_bytes()); // port: the kernel knows
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.begin(kind);
        self.bytes.extend_from_slice(value);
        let start = self.bytes.len() - value.len() - ATTRIBUTE_HEADER_LEN;
        self.end(start);
        self
    }

    /// A string attribute, with the zero byte the kernel expects.
    pub(crate) fn string(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// An attribute that holds what `inside` adds.
    pub(crate) fn nest(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.begin(kind);
        let mut this = inside(self);
        this.end(start);
        this
    }

    /// Raw bytes inside a nest (a struct that stands before the attributes).
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn begin(&mut self, kind: u16) {
        self.bytes.extend_from_slice(&0u16.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn end(&mut self, start: usize) {
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.bytes.resize(align4(self.bytes.len()), 0);
    }

    fn finish(&mut self, sequence: u32) -> &[u8] {
        let len = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }
}

/// What the kernel answered: an error number and, from newer kernels, its own sentence about it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: io::Error,
    pub(crate) sentence: Option<String>,
}

impl From<rustix::io::Errno> for Refusal {
    fn from(e: rustix::io::Errno) -> Self {
        Self {
            error: e.into(),
            sentence: None,
        }
    }
}

/// An open rtnetlink socket of the namespace the opening thread was in.
#[derive(Debug)]
pub(crate) struct Client {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn open() -> Result<Self, Refusal> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None, // protocol 0 of this family is NETLINK_ROUTE
        )?;
        // Niceties of newer kernels: sentences in errors, and errors that do not repeat the request. Without them the
        // error number still arrives.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let on: libc::c_int = 1;
            // SAFETY: the pointer and length describe `on`, which outlives the call; the descriptor is open.
            unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_NETLINK,
                    option,
                    (&raw const on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                );
            }
        }
        Ok(Self {
            socket,
            sequence: 1,
            buffer: vec![0; RECEIVE_LEN],
        })
    }

    /// Sends a request, waits for its acknowledgement, and hands every message before it (kind, body) to `each`.
    pub(crate) fn call(
        &mut self,
        mut request: Request,
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        // An unconnected netlink socket sends to port 0, the kernel.
        rustix::net::send(
            &self.socket,
            request.finish(self.sequence),
            SendFlags::empty(),
        )?;
        loop {
            let (_, len) = loop {
                match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => break other?,
                }
            };
            if let Some(done) = answers(
                &self.buffer[..len.min(RECEIVE_LEN)],
                self.sequence,
                &mut each,
            ) {
                return done;
            }
        }
    }
}

/// Walks one datagram; `Some` when it held the end of the answer to `sequence`.
fn answers(
    mut bytes: &[u8],
    sequence: u32,
    each: &mut impl FnMut(u16, &[u8]),
) -> Option<Result<(), Refusal>> {
    while bytes.len() >= HEADER_LEN {
        let len = u32_at(bytes, 0) as usize;
        let kind = u16_at(bytes, 4);
        let flags = u16_at(bytes, 6);
        if len < HEADER_LEN || len > bytes.len() {
            return None;
        }
        let body = &bytes[HEADER_LEN..len];
        if u32_at(bytes, 8) == sequence {
            match i32::from(kind) {
                libc::NLMSG_ERROR => return Some(verdict(flags, body)),
                libc::NLMSG_DONE => return Some(Ok(())),
                _ => each(kind, body),
            }
        }
        bytes = &bytes[align4(len).min(bytes.len())..];
    }
    None
}

/// An NLMSG_ERROR body: number (0 is the acknowledgement), the request (its header only when capped), attributes.
fn verdict(flags: u16, body: &[u8]) -> Result<(), Refusal> {
    if body.len() < 4 {
        return Err(Refusal {
            error: io::ErrorKind::InvalidData.into(),
            sentence: None,
        });
    }
    let number = u32_at(body, 0) as i32;
    if number == 0 {
        return Ok(());
    }
    let mut sentence = None;
    if flags & NLM_F_ACK_TLVS != 0 && body.len() >= 4 + HEADER_LEN {
        let echoed = if flags & NLM_F_CAPPED != 0 {
            HEADER_LEN
        } else {
            u32_at(body, 4) as usize
        };
        let attributes = body.get(4 + align4(echoed)..).unwrap_or(&[]);
        sentence = attribute(attributes, NLMSGERR_ATTR_MSG).map(text);
    }
    Err(Refusal {
        error: io::Error::from_raw_os_error(-number),
        sentence,
    })
}

/// The value of the first attribute of that kind.
pub(crate) fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    while bytes.len() >= ATTRIBUTE_HEADER_LEN {
        let len = usize::from(u16_at(bytes, 0));
        let kind = u16_at(bytes, 2) & 0x3fff; // without the NESTED and BYTEORDER marks
        if len < ATTRIBUTE_HEADER_LEN || len > bytes.len() {
            return None;
        }
        if kind == wanted {
            return Some(&bytes[ATTRIBUTE_HEADER_LEN..len]);
        }
        bytes = &bytes[align4(len).min(bytes.len())..];
    }
    None
}

/// A string attribute up to its zero byte.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
