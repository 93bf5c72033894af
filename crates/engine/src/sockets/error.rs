//! From the stack's errors to `std::io`'s, by way of errno, so that both `kind()` and `raw_os_error()` are what a kernel
//! socket would give.

use std::io;

use rustix::io::Errno;
use stack::SocketError;

/// The `io::Error` a kernel socket would give.
pub fn io_error(error: SocketError) -> io::Error {
    let errno = match error {
        SocketError::AddrInUse => Errno::ADDRINUSE,
        SocketError::AddrNotAvailable => Errno::ADDRNOTAVAIL,
        SocketError::AlreadyConnected => Errno::ISCONN,
        SocketError::BadSocket => Errno::BADF,
        SocketError::BrokenPipe => Errno::PIPE,
        SocketError::ConnectionAborted => Errno::CONNABORTED,
        SocketError::ConnectionRefused => Errno::CONNREFUSED,
        SocketError::ConnectionReset => Errno::CONNRESET,
        SocketError::HostUnreachable => Errno::HOSTUNREACH,
        SocketError::InProgress => Errno::INPROGRESS,
        SocketError::InvalidInput => Errno::INVAL,
        SocketError::MessageTooLong => Errno::MSGSIZE,
        SocketError::NetworkUnreachable => Errno::NETUNREACH,
        SocketError::NoBuffers => Errno::NOBUFS,
        SocketError::NoMemory => Errno::NOMEM,
        SocketError::NoSuchDevice => Errno::NODEV,
        SocketError::NotConnected => Errno::NOTCONN,
        SocketError::NotFound => Errno::NOENT,
        SocketError::NotSupported => Errno::OPNOTSUPP,
        SocketError::PermissionDenied => Errno::ACCESS,
        SocketError::TimedOut => Errno::TIMEDOUT,
        SocketError::WouldBlock => Errno::AGAIN,
        other => return io::Error::other(other),
    };
    errno.into()
}

/// What every call gives once the host behind the socket has stopped.
pub(crate) fn stopped() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the host has stopped: its `Host` was stopped or dropped, or all its ports have failed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_of_the_kernel() {
        for (error, kind) in [
            (SocketError::AddrInUse, io::ErrorKind::AddrInUse),
            (
                SocketError::AddrNotAvailable,
                io::ErrorKind::AddrNotAvailable,
            ),
            (SocketError::BrokenPipe, io::ErrorKind::BrokenPipe),
            (
                SocketError::ConnectionRefused,
                io::ErrorKind::ConnectionRefused,
            ),
            (SocketError::ConnectionReset, io::ErrorKind::ConnectionReset),
            (
                SocketError::ConnectionAborted,
                io::ErrorKind::ConnectionAborted,
            ),
            (SocketError::HostUnreachable, io::ErrorKind::HostUnreachable),
            (
                SocketError::NetworkUnreachable,
                io::ErrorKind::NetworkUnreachable,
            ),
            (SocketError::NotConnected, io::ErrorKind::NotConnected),
            (
                SocketError::PermissionDenied,
                io::ErrorKind::PermissionDenied,
            ),
            (SocketError::TimedOut, io::ErrorKind::TimedOut),
            (SocketError::WouldBlock, io::ErrorKind::WouldBlock),
            (SocketError::InvalidInput, io::ErrorKind::InvalidInput),
            (SocketError::NotSupported, io::ErrorKind::Unsupported),
        ] {
            let io = io_error(error);
            assert_eq!(io.kind(), kind, "{error:?}");
            assert!(io.raw_os_error().is_some());
        }
    }
}
