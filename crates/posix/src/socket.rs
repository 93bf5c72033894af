//! What a descriptor stands for: a socket of a host, or one that is not yet there.
//!
//! What does not live here: the table (`table`), and what calls do.

use core::net::SocketAddr;
use core::time::Duration;

use base::epoll::SourceId;

use crate::notice::Notices;
use crate::option::network::Network;
use crate::option::reuseport::Waiting;
use stack::{FastOpenKeys, Keepalive, SocketId, TcpOptions, UdpOptions};

/// SOCK_STREAM or SOCK_DGRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Datagram,
}

/// What the host knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing yet, or not any more.
    Fresh,
    Listening(SocketId),
    /// A connection attempt is under way.
    Connecting(SocketId),
    /// As good as connected: the SYN waits for the first data (TCP_FASTOPEN_CONNECT).
    Deferred(SocketId),
    /// It has been connected, whatever became of that.
    Stream(SocketId),
    Datagram(SocketId),
}

/// The beginning of a datagram that is not whole yet, and where it goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    pub(crate) to: Option<SocketAddr>,
}

/// One socket.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    pub(crate) kind: Kind,
    /// AF_INET6.
    pub(crate) v6: bool,
    pub(crate) nonblocking: bool,
    pub(crate) state: State,
    /// What it was bound to, as the host knows it; the port is never 0.
    pub(crate) bound: Option<SocketAddr>,
    /// The address of a connection that was not bound: nobody else may bind it.
    pub(crate) occupied: Option<SocketAddr>,
    /// Options for when the host makes the connection, and as they were set last.
    pub(crate) tcp: TcpOptions,
    pub(crate) udp: UdpOptions,
    /// What SO_KEEPALIVE will switch on.
    pub(crate) keepalive: Keepalive,
    pub(crate) only_v6: bool,
    pub(crate) reuse_addr: bool,
    pub(crate) reuse_port: bool,
    /// Chooses in its group, once there is one (SO_ATTACH_REUSEPORT_CBPF).
    pub(crate) filter: Waiting,
    /// TCP_CORK.
    pub(crate) cork: bool,
    /// TCP_FASTOPEN_KEY, once set.
    pub(crate) fast_open_keys: Option<FastOpenKeys>,
    /// TCP_INQ.
    pub(crate) inq: bool,
    /// SO_OOBINLINE.
    pub(crate) oob_inline: bool,
    /// Number of the urgent byte that MSG_OOB took last.
    pub(crate) oob_taken: Option<u32>,
    /// The beginning of a datagram (MSG_MORE).
    pub(crate) held: Option<Held>,
    /// SO_SNDTIMEO and SO_RCVTIMEO.
    pub(crate) send_timeout: Option<Duration>,
    pub(crate) receive_timeout: Option<Duration>,
    /// SO_RCVLOWAT.
    pub(crate) low_water: usize,
    /// SO_SNDBUF and SO_RCVBUF as getsockopt tells them, once set.
    pub(crate) send_buffer: Option<u32>,
    pub(crate) receive_buffer: Option<u32>,
    /// The error queue, and what it is for.
    pub(crate) notices: Notices,
    /// What concerns the layers below.
    pub(crate) network: Network,
    /// Tells it from others that have, or had, its descriptor.
    pub(crate) serial: u64,
    /// As which sets watch it, if any does.
    pub(crate) watched: Option<SourceId>,
    /// A fresh stream looks as if its peer had ended, too: it was shut, or its attempt failed and nobody has connected it since.
    pub(crate) looks_ended: bool,
    /// Of a datagram socket: which directions were shut. Datagrams come all the same, as on Linux.
    pub(crate) shut_read: bool,
    pub(crate) shut_write: bool,
    /// `connect` did not wait, and has not said since what came of it (Linux's SS_CONNECTING).
    pub(crate) untold: bool,
}

impl Socket {
    pub(crate) fn new(kind: Kind, v6: bool, nonblocking: bool, tcp: TcpOptions) -> Self {
        Self {
            kind,
            v6,
            nonblocking,
            state: State::Fresh,
            bound: None,
            occupied: None,
            tcp: TcpOptions {
                account: true,       // TCP_INFO tells everything, as Linux's
                charge_frames: true, // and SO_SNDBUF means what it means there
                ..tcp
            },
            udp: UdpOptions {
                multicast_all: !v6, // as Linux
                ..UdpOptions::default()
            },
            keepalive: Keepalive::default(),
            only_v6: false,
            reuse_addr: false,
            reuse_port: false,
            filter: None,
            cork: false,
            fast_open_keys: None,
            inq: false,
            oob_inline: false,
            oob_taken: None,
            held: None,
            send_timeout: None,
            receive_timeout: None,
            low_water: 1,
            send_buffer: None,
            receive_buffer: None,
            notices: Notices::default(),
            network: Network::default(),
            serial: 0,
            watched: None,
            looks_ended: false,
            shut_read: false,
            shut_write: false,
            untold: false,
        }
    }

    /// What `accept` makes of a listener: its options, but not its O_NONBLOCK.
    pub(crate) fn accepted(&self, id: SocketId, nonblocking: bool) -> Self {
        Self {
            nonblocking,
            state: State::Stream(id),
            bound: None,
            occupied: None,
            notices: self.notices.accepted(),
            oob_taken: None,
            watched: None,
            ..self.clone()
        }
    }

    /// The host's handle.
    pub(crate) fn id(&self) -> Option<SocketId> {
        match self.state {
            State::Fresh => None,
            State::Listening(id)
            | State::Connecting(id)
            | State::Deferred(id)
            | State::Stream(id)
            | State::Datagram(id) => Some(id),
        }
    }
}
