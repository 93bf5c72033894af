//! What can be asked of a completion queue.
//!
//! Invariant: an operation that is linked behind another has no links of its own, so that no chain is as deep as it is long.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use stack::{Outgoing, Shutdown, TcpOptions, UdpOptions};

use super::{Buffer, BufferGroup, Handle};
use crate::sockets::Ecn;
use crate::steer::PortClaim;

/// Bytes of a file read ahead of the connection they are sent on.
const FILE_PART: usize = 256 * 1024;

/// An operation: what is to be done, under which word, and what follows it.
#[derive(Debug)]
pub struct Op {
    pub(crate) what: What,
    pub(crate) token: u64,
    /// Begun one after the other when this one has succeeded; else cancelled.
    then: Option<Box<Links>>,
}

/// Operations that are linked behind another.
#[derive(Debug, Default)]
struct Links(VecDeque<Op>);

/// Where received bytes go.
#[derive(Debug)]
pub(crate) enum Target {
    Buffer(Buffer),
    Group(BufferGroup),
}

/// What of a file is still to be read, and into what.
#[derive(Debug)]
pub(crate) struct FilePart {
    file: Arc<File>,
    at: u64,
    left: u64,
    pub(crate) bytes: Vec<u8>,
    /// Of `bytes`, those the stack has taken.
    pub(crate) taken: usize,
    pub(crate) sent: usize,
    pub(crate) error: Option<io::Error>,
    /// Tells it apart while it is being read on.
    pub(crate) id: u64,
}

impl FilePart {
    /// Reads the next part of the file. An end that comes early ends the operation early.
    pub(crate) fn read(&mut self) {
        let want = usize::try_from(self.left).map_or(FILE_PART, |left| left.min(FILE_PART));
        self.bytes.resize(want, 0);
        self.taken = 0;
        match self.file.read_at(&mut self.bytes, self.at) {
            Ok(n) => {
                self.bytes.truncate(n);
                self.at += n as u64;
                self.left = if n == 0 { 0 } else { self.left - n as u64 };
            }
            Err(error) => {
                self.bytes.clear();
                self.error = Some(error);
            }
        }
    }

    /// Whether there is no more to read.
    pub(crate) fn is_read(&self) -> bool {
        self.left == 0 || self.error.is_some()
    }
}

/// How a datagram leaves: to the peer, to somebody, or with more words. These are rare, and no operation is larger for them.
#[derive(Debug, Default)]
pub(crate) enum Leaving {
    #[default]
    Connected,
    To(SocketAddr),
    With(Box<Words>),
}

#[derive(Debug, Default)]
pub(crate) struct Words {
    to: Option<SocketAddr>,
    from: Option<IpAddr>,
    ecn: Option<Ecn>,
    segment: Option<u16>,
}

impl Leaving {
    /// In the stack's words; `tos` is what the socket says of all.
    pub(crate) fn outgoing(&self, tos: impl FnOnce() -> u8) -> Outgoing {
        match self {
            Self::Connected => Outgoing::default(),
            Self::To(to) => Outgoing {
                to: Some(*to),
                ..Outgoing::default()
            },
            Self::With(words) => Outgoing {
                to: words.to,
                from: words.from,
                ttl: None,
                tos: words.ecn.map(|ecn| tos() & !3 | ecn as u8),
                segment: words.segment,
            },
        }
    }

    fn say(&mut self, say: impl FnOnce(&mut Words)) {
        let mut words = match std::mem::take(self) {
            Self::With(words) => words,
            Self::To(to) => Box::new(Words {
                to: Some(to),
                ..Words::default()
            }),
            Self::Connected => Box::default(),
        };
        say(&mut words);
        *self = Self::With(words);
    }
}

#[derive(Debug)]
pub(crate) enum What {
    Listen {
        local: SocketAddr,
        backlog: usize,
        key: u64,
        options: Option<Box<TcpOptions>>,
        parts: Opened,
    },
    Bind {
        local: SocketAddr,
        key: u64,
        options: UdpOptions,
        /// The socket's part of its port, on a host of several shards.
        claim: Option<Box<PortClaim>>,
    },
    Accept {
        listener: Handle,
        key: u64,
        first: Option<Target>,
        multishot: bool,
    },
    /// The first bytes of a connection that was accepted, of which nobody knows before.
    First {
        listener: Handle,
        socket: Handle,
        into: Target,
        peer: SocketAddr,
        multishot: bool,
    },
    Connect {
        remote: SocketAddr,
        local: Option<SocketAddr>,
        key: u64,
        options: Option<Box<TcpOptions>>,
    },
    Receive {
        socket: Handle,
        into: Target,
        at: usize,
        fill: bool,
        multishot: bool,
    },
    Send {
        socket: Handle,
        buffer: Buffer,
        at: usize,
        /// Where it stops.
        end: usize,
        how: Leaving,
    },
    SendFile {
        socket: Handle,
        part: Box<FilePart>,
    },
    /// The place of a [`What::SendFile`] whose file is being read on, by its [`FilePart::id`].
    FileUnderWay(u64),
    Splice {
        from: Handle,
        to: Handle,
        left: u64,
        moved: usize,
    },
    Poll {
        socket: Handle,
        interest: u32,
    },
    Timeout(Duration),
    Shutdown {
        socket: Handle,
        how: Shutdown,
    },
    Close {
        socket: Handle,
        reset: bool,
        tour: Option<Box<Tour>>,
    },
    Cancel {
        socket: Option<Handle>,
        token: Option<u64>,
        tour: Option<Box<Tour>>,
    },
}

/// The parts of a listener that is being opened, one after the other on each of several shards.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) parts: Vec<Handle>,
    /// Why the next one could not be: those before it are closed, the last one first.
    pub(crate) failed: Option<io::Error>,
}

/// An operation that visits several shards.
#[derive(Debug, Default)]
pub(crate) struct Tour {
    /// The word of the socket it is about.
    pub(crate) key: u64,
    /// Parts of a listener that are still to be visited, the next one last.
    pub(crate) rest: Vec<Handle>,
    /// How many operations it has ended.
    pub(crate) ended: usize,
    /// Shards that were asked who has the last operation under a word, and who that is so far, by its order.
    pub(crate) asked: usize,
    pub(crate) last: Option<(u64, usize)>,
    /// That is decided: the operation of this order is to be cancelled.
    pub(crate) found: Option<u64>,
}

impl Op {
    pub(crate) fn new(what: What) -> Self {
        Self {
            what,
            token: 0,
            then: None,
        }
    }

    /// The word its completion carries; 0 unless told.
    pub fn token(mut self, token: u64) -> Self {
        self.token = token;
        self
    }

    /// `next` begins when this and what it was linked to before have succeeded; else it is cancelled. Received fewer bytes than asked
    /// for is success, unless an error or a cancellation is the reason.
    pub fn then(mut self, mut next: Op) -> Self {
        let mut behind = next.take_links();
        let links = &mut self.then.get_or_insert_default().0;
        if links.is_empty() {
            behind.push_front(next);
            *links = behind;
        } else {
            links.push_back(next);
            links.append(&mut behind);
        }
        self
    }

    /// How many operations are linked, with this one.
    pub(crate) fn count(&self) -> usize {
        1 + self.then.as_ref().map_or(0, |links| links.0.len())
    }

    /// What begins behind it, with the rest of the links; it has none left.
    pub(crate) fn take_next(&mut self) -> Option<Op> {
        let mut links = self.then.take()?;
        let mut next = links.0.pop_front()?;
        next.then = Some(links).filter(|links| !links.0.is_empty());
        Some(next)
    }

    /// What takes its place while a part of its file is being read.
    pub(crate) fn place(&self, id: u64) -> Self {
        Self::new(What::FileUnderWay(id)).token(self.token)
    }

    /// As it is, but something else is to be done.
    pub(crate) fn becomes(mut self, what: What) -> Self {
        self.what = what;
        self
    }

    /// All that is linked behind it.
    pub(crate) fn take_links(&mut self) -> VecDeque<Op> {
        self.then.take().map_or_else(VecDeque::new, |links| links.0)
    }

    /// Listens for connections: the completion has the listener and the address it is bound to. `key` is the listener's word.
    pub fn listen(local: SocketAddr, backlog: usize, key: u64) -> Self {
        Self::new(What::Listen {
            local,
            backlog,
            key,
            options: None,
            parts: Opened::default(),
        })
    }

    /// Binds a datagram socket: the completion has it, and its address.
    pub fn bind(local: SocketAddr, key: u64) -> Self {
        Self::new(What::Bind {
            local,
            key,
            options: UdpOptions::default(),
            claim: None,
        })
    }

    /// Connects: the completion has the socket, whose word is `key`.
    pub fn connect(remote: SocketAddr, key: u64) -> Self {
        Self::new(What::Connect {
            remote,
            local: None,
            key,
            options: None,
        })
    }

    /// Of a connect: from where. Other operations are left as they are.
    pub fn bound_to(mut self, address: SocketAddr) -> Self {
        if let What::Connect { local, .. } = &mut self.what {
            *local = Some(address);
        }
        self
    }

    /// Of listen and connect: TCP's options, the host's unless told. Other operations are left as they are.
    pub fn tcp_options(mut self, with: TcpOptions) -> Self {
        if let What::Listen { options, .. } | What::Connect { options, .. } = &mut self.what {
            *options = Some(Box::new(with));
        }
        self
    }

    /// Of bind: the socket's options. Other operations are left as they are.
    pub fn udp_options(mut self, with: UdpOptions) -> Self {
        if let What::Bind { options, .. } = &mut self.what {
            *options = with;
        }
        self
    }

    /// Accepts one connection: the completion has the socket, whose word is `key`, and the peer's address.
    pub fn accept(listener: Handle, key: u64) -> Self {
        Self::new(What::Accept {
            listener,
            key,
            first: None,
            multishot: false,
        })
    }

    /// Accepts connections until it is cancelled or fails.
    pub fn accept_multishot(listener: Handle, key: u64) -> Self {
        let mut op = Self::accept(listener, key);
        if let What::Accept { multishot, .. } = &mut op.what {
            *multishot = true;
        }
        op
    }

    /// Of accept: completes with the connection's first bytes, in `buffer`; with none if the peer sends none before its end. An
    /// empty buffer asks for none: the completion comes at once (AcceptEx). A connection whose first bytes have not come when its
    /// accept is cancelled or its listener closed is reset. Other operations are left as they are.
    pub fn first_bytes(mut self, buffer: impl Into<Buffer>) -> Self {
        if let What::Accept { first, .. } = &mut self.what {
            *first = Some(Target::Buffer(buffer.into())).filter(|into| !into.is_empty());
        }
        self
    }

    /// As [`Op::first_bytes`], in buffers of a group. When none is left the completion says ENOBUFS, and has the connection all the
    /// same: nothing is lost, its bytes are to be received.
    pub fn first_bytes_in(mut self, group: &BufferGroup) -> Self {
        if let What::Accept { first, .. } = &mut self.what {
            *first = Some(Target::Group(group.clone()));
        }
        self
    }

    /// Receives what is there, at least one byte unless the stream has ended; of a datagram socket, one datagram, what is beyond the
    /// buffer lost. An empty buffer asks for nothing but to be told when there is something.
    pub fn receive(socket: Handle, buffer: impl Into<Buffer>) -> Self {
        Self::receiving(socket, Target::Buffer(buffer.into()))
    }

    fn receiving(socket: Handle, into: Target) -> Self {
        Self::new(What::Receive {
            socket,
            into,
            at: 0,
            fill: false,
            multishot: false,
        })
    }

    /// As [`Op::receive`], but a stream fills the buffer, or ends (MSG_WAITALL).
    pub fn receive_all(socket: Handle, buffer: impl Into<Buffer>) -> Self {
        let mut op = Self::receive(socket, buffer);
        if let What::Receive { fill, .. } = &mut op.what {
            *fill = true;
        }
        op
    }

    /// Receives into a buffer of a group, taken when there is something. ENOBUFS when none is left, EINVAL when they have no room for
    /// a byte.
    pub fn receive_in(socket: Handle, group: &BufferGroup) -> Self {
        Self::receiving(socket, Target::Group(group.clone()))
    }

    /// Receives again and again, each time into a buffer of a group, until the stream ends (result 0), fails, or no buffer is left
    /// (ENOBUFS: nothing is lost, ask again).
    pub fn receive_multishot(socket: Handle, group: &BufferGroup) -> Self {
        let mut op = Self::receive_in(socket, group);
        if let What::Receive { multishot, .. } = &mut op.what {
            *multishot = true;
        }
        op
    }

    /// Sends all of a buffer: done when the stack has taken the last byte, and the buffer comes back.
    pub fn send(socket: Handle, buffer: impl Into<Buffer>) -> Self {
        let buffer = buffer.into();
        Self::new(What::Send {
            socket,
            at: 0,
            end: buffer.len(),
            buffer,
            how: Leaving::default(),
        })
    }

    /// Of send: only the first `n` bytes of the buffer, such as were received into it. Other operations are left as they are.
    pub fn first(mut self, n: usize) -> Self {
        if let What::Send { end, .. } = &mut self.what {
            *end = n.min(*end);
        }
        self
    }

    /// Sends a datagram. Without an address, by [`Op::send`], there is nobody to send it to: EDESTADDRREQ.
    pub fn send_to(socket: Handle, buffer: impl Into<Buffer>, to: SocketAddr) -> Self {
        let mut op = Self::send(socket, buffer);
        if let What::Send { how, .. } = &mut op.what {
            *how = Leaving::To(to);
        }
        op
    }

    /// Of a datagram to be sent: which of the host's addresses it leaves from (IP_PKTINFO), as a server with several answers from the
    /// one it was asked at: [`Completion::meta`](super::Completion::meta). EADDRNOTAVAIL for one that is not the host's. Other
    /// operations are left as they are.
    pub fn source(self, from: IpAddr) -> Self {
        self.saying(|words| words.from = Some(from))
    }

    /// Of a datagram to be sent: its ECN bits, those of the socket's type of service unless told. Other operations are left as they are.
    pub fn ecn(self, ecn: Ecn) -> Self {
        self.saying(|words| words.ecn = Some(ecn))
    }

    /// Of a datagram to be sent: it is a train of datagrams of `size` bytes, the last of which may be shorter (UDP_SEGMENT): EINVAL for
    /// more than 128 or none, EMSGSIZE for those that the path does not take whole. Other operations are left as they are.
    pub fn segment(self, size: u16) -> Self {
        self.saying(|words| words.segment = Some(size))
    }

    fn saying(mut self, say: impl FnOnce(&mut Words)) -> Self {
        if let What::Send { how, .. } = &mut self.what {
            how.say(say);
        }
        self
    }

    /// Sends `len` bytes of a file from `offset` on. The file is read by threads that hand in and wait, never by the shard; a file that
    /// ends early ends it early.
    pub fn send_file(socket: Handle, file: Arc<File>, offset: u64, len: u64) -> Self {
        let part = FilePart {
            file,
            at: offset,
            left: len,
            bytes: Vec::new(),
            taken: 0,
            sent: 0,
            error: None,
            id: 0,
        };
        Self::new(What::SendFile {
            socket,
            part: Box::new(part),
        })
    }

    /// Moves bytes from one connection to another inside the host: references to packet memory, not bytes. Done after `len` bytes, or
    /// when `from` has ended; the result is how many. What `to` cannot take waits in `from`, whose window closes. When `to` is of no
    /// use any more: EPIPE, what was not moved is still to be received, and why is told to the next operation on `to`. EXDEV when the
    /// connections are on different shards of the host.
    pub fn splice(from: Handle, to: Handle, len: u64) -> Self {
        Self::new(What::Splice {
            from,
            to,
            left: len,
            moved: 0,
        })
    }

    /// Waits until a socket is ready for one of `interest`, in epoll(7)'s bits (EPOLLIN is 1, EPOLLOUT 4), an error or an end; the result is what it is ready for.
    pub fn poll(socket: Handle, interest: u32) -> Self {
        Self::new(What::Poll { socket, interest })
    }

    /// Waits so long.
    pub fn timeout(after: Duration) -> Self {
        Self::new(What::Timeout(after))
    }

    /// Shuts reading, writing or both; writing behind what was handed in before.
    pub fn shutdown(socket: Handle, how: Shutdown) -> Self {
        Self::new(What::Shutdown { socket, how })
    }

    /// Closes a socket: its operations are cancelled, what the stack has taken is still sent. The handle is of no use afterwards.
    pub fn close(socket: Handle) -> Self {
        Self::closing(socket, false)
    }

    /// Closes a socket at once, a connection by a reset.
    pub fn reset(socket: Handle) -> Self {
        Self::closing(socket, true)
    }

    fn closing(socket: Handle, reset: bool) -> Self {
        Self::new(What::Close {
            socket,
            reset,
            tour: None,
        })
    }

    /// Cancels what is under way on `socket` under the word `token`; the result is how many operations that were, ENOENT if none. An
    /// accept of many is one, however many connections it waits to hear from.
    pub fn cancel(socket: Handle, token: u64) -> Self {
        Self::cancelling(Some(socket), Some(token))
    }

    /// Cancels all that is under way on `socket`.
    pub fn cancel_all(socket: Handle) -> Self {
        Self::cancelling(Some(socket), None)
    }

    /// Cancels the timeout or the connect that was handed in last under the word `token`.
    pub fn cancel_token(token: u64) -> Self {
        Self::cancelling(None, Some(token))
    }

    fn cancelling(socket: Option<Handle>, token: Option<u64>) -> Self {
        Self::new(What::Cancel {
            socket,
            token,
            tour: None,
        })
    }

    /// The rest of its way, of what visits several shards.
    pub(crate) fn tour(&mut self) -> Option<&mut Box<Tour>> {
        match &mut self.what {
            What::Close { tour, .. } | What::Cancel { tour, .. } => tour.as_mut(),
            _ => None,
        }
    }

    /// The socket it is about, if that was there before.
    pub(crate) fn about(&self) -> Option<Handle> {
        match &self.what {
            What::Accept {
                listener: socket, ..
            }
            | What::First {
                listener: socket, ..
            }
            | What::Receive { socket, .. }
            | What::Send { socket, .. }
            | What::SendFile { socket, .. }
            | What::Splice { from: socket, .. }
            | What::Poll { socket, .. }
            | What::Shutdown { socket, .. }
            | What::Close { socket, .. } => Some(*socket),
            What::Cancel { socket, .. } => *socket,
            What::Listen { .. }
            | What::Bind { .. }
            | What::Connect { .. }
            | What::FileUnderWay(_)
            | What::Timeout(_) => None,
        }
    }

    /// Bytes it has moved so far.
    pub(crate) fn part_done(&self) -> usize {
        match &self.what {
            What::Receive { at, .. } | What::Send { at, .. } => *at,
            What::SendFile { part, .. } => part.sent,
            What::Splice { moved, .. } => *moved,
            _ => 0,
        }
    }

    /// The buffer, which goes back to the application.
    pub(crate) fn take_buffer(&mut self) -> Option<Buffer> {
        match &mut self.what {
            What::Receive {
                into: Target::Buffer(buffer),
                ..
            }
            | What::First {
                into: Target::Buffer(buffer),
                ..
            }
            | What::Accept {
                first: Some(Target::Buffer(buffer)),
                ..
            }
            | What::Send { buffer, .. } => Some(std::mem::take(buffer)),
            _ => None,
        }
    }
}

impl Target {
    fn is_empty(&self) -> bool {
        match self {
            Self::Buffer(buffer) => buffer.is_empty(),
            Self::Group(_) => false,
        }
    }
}
