//! Errors of a host's commands. What does not live here: what the wire does wrong, which is counted ([`crate::Drop`]).

use core::fmt;

/// Why a socket call failed, in the terms of POSIX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketError {
    /// Another socket owns the address (EADDRINUSE).
    AddrInUse,
    /// The address is not one of this host's, or no port of it is left (EADDRNOTAVAIL).
    AddrNotAvailable,
    /// The socket is connected already (EISCONN).
    AlreadyConnected,
    /// The handle names no live socket, or one of another kind (EBADF).
    BadSocket,
    /// Writing after the sending side was shut down or the peer is gone (EPIPE).
    BrokenPipe,
    /// The connection was aborted locally (ECONNABORTED).
    ConnectionAborted,
    /// The peer refused (ECONNREFUSED).
    ConnectionRefused,
    /// The peer reset the connection (ECONNRESET).
    ConnectionReset,
    /// No way to the host (EHOSTUNREACH).
    HostUnreachable,
    /// The connection is being set up (EINPROGRESS).
    InProgress,
    /// An argument makes no sense here (EINVAL).
    InvalidInput,
    /// The datagram is larger than the path or the protocol allows (EMSGSIZE).
    MessageTooLong,
    /// No route to the network (ENETUNREACH).
    NetworkUnreachable,
    /// A table, queue or the packet pool is full (ENOBUFS).
    NoBuffers,
    /// There is no memory for it (ENOMEM).
    NoMemory,
    /// No interface has this number or name (ENODEV).
    NoSuchDevice,
    /// The socket is not connected (ENOTCONN).
    NotConnected,
    /// There is no such thing (ENOENT).
    NotFound,
    /// This host does not do that (EOPNOTSUPP).
    NotSupported,
    /// Broadcast without permission (EACCES).
    PermissionDenied,
    /// The peer did not answer in time (ETIMEDOUT).
    TimedOut,
    /// Nothing to read, or no room to write, now (EAGAIN).
    WouldBlock,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddrInUse => "address already in use",
            Self::AddrNotAvailable => "address is not one of this host's, or has no port left",
            Self::AlreadyConnected => "socket is already connected",
            Self::BadSocket => "no such socket",
            Self::BrokenPipe => "broken pipe",
            Self::ConnectionAborted => "connection aborted",
            Self::ConnectionRefused => "connection refused",
            Self::ConnectionReset => "connection reset by peer",
            Self::HostUnreachable => "host is unreachable",
            Self::InProgress => "connection is being set up",
            Self::InvalidInput => "invalid argument",
            Self::MessageTooLong => "message too long",
            Self::NetworkUnreachable => "network is unreachable",
            Self::NoBuffers => "no buffer space available",
            Self::NoMemory => "out of memory",
            Self::NoSuchDevice => "no such device",
            Self::NotConnected => "socket is not connected",
            Self::NotFound => "there is no such thing",
            Self::NotSupported => "operation not supported",
            Self::PermissionDenied => "permission denied (broadcast needs the option)",
            Self::TimedOut => "connection timed out",
            Self::WouldBlock => "operation would block",
        })
    }
}

impl core::error::Error for SocketError {}

/// Why a host, an interface, an address or a route cannot be set up as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The address is there already.
    AddressExists,
    /// The address cannot be assigned (multicast, broadcast, unspecified).
    AddressInvalid,
    /// Memory for packets could not be had.
    Memory(String),
    /// The interface is not known.
    NoSuchInterface,
    /// The route's gateway is not reachable on a link of this host.
    GatewayUnreachable,
    /// The address or route is not there.
    NotFound,
    /// A table of the configured size is full.
    TableFull(&'static str),
    /// A value out of its range; says which and the range.
    Value(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressExists => f.write_str("the address is assigned already"),
            Self::AddressInvalid => f.write_str("the address cannot be assigned to a host"),
            Self::Memory(why) => write!(f, "no memory for packets: {why}"),
            Self::NoSuchInterface => f.write_str("no such interface"),
            Self::GatewayUnreachable => f.write_str("the gateway is not on a link of this host"),
            Self::NotFound => f.write_str("not found"),
            Self::TableFull(what) => write!(f, "the table of {what} is full"),
            Self::Value(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for ConfigError {}

impl From<crate::net::RouteError> for SocketError {
    fn from(error: crate::net::RouteError) -> Self {
        match error {
            crate::net::RouteError::NoRoute => Self::NetworkUnreachable,
            crate::net::RouteError::NoSource | crate::net::RouteError::SourceNotLocal => {
                Self::AddrNotAvailable
            }
        }
    }
}
