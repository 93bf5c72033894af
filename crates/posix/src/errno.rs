//! Error numbers of calls, Linux's.

use core::fmt;

use stack::SocketError;

/// Why a call failed: a number of `errno.h`.
///
/// ```
/// use posix::Errno;
///
/// assert_eq!(Errno::AGAIN, Errno(libc::EAGAIN));
/// assert_eq!(Errno(libc::EACCES).to_string(), "permission denied");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! numbers {
    ($($name:ident = $number:ident: $text:literal),* $(,)?) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self(libc::$number);)*
        }

        impl fmt::Display for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => f.write_str($text),)*
                    Self(number) => write!(f, "error {number}"),
                }
            }
        }
    };
}

numbers! {
    ACCES = EACCES: "permission denied",
    ADDRINUSE = EADDRINUSE: "address already in use",
    ADDRNOTAVAIL = EADDRNOTAVAIL: "cannot assign requested address",
    AFNOSUPPORT = EAFNOSUPPORT: "address family not supported",
    AGAIN = EAGAIN: "resource temporarily unavailable",
    ALREADY = EALREADY: "operation already in progress",
    BADF = EBADF: "bad file descriptor",
    CONNABORTED = ECONNABORTED: "connection aborted",
    CONNREFUSED = ECONNREFUSED: "connection refused",
    CONNRESET = ECONNRESET: "connection reset by peer",
    DESTADDRREQ = EDESTADDRREQ: "destination address required",
    DOM = EDOM: "argument out of domain",
    EXIST = EEXIST: "file exists",
    FAULT = EFAULT: "bad address",
    HOSTUNREACH = EHOSTUNREACH: "no route to host",
    INPROGRESS = EINPROGRESS: "operation now in progress",
    INTR = EINTR: "interrupted system call",
    INVAL = EINVAL: "invalid argument",
    ISCONN = EISCONN: "transport endpoint is already connected",
    LOOP = ELOOP: "too many levels of symbolic links",
    MFILE = EMFILE: "too many open files",
    MSGSIZE = EMSGSIZE: "message too long",
    NETDOWN = ENETDOWN: "network is down",
    NETUNREACH = ENETUNREACH: "network is unreachable",
    NFILE = ENFILE: "too many open files in system",
    NOBUFS = ENOBUFS: "no buffer space available",
    NODEV = ENODEV: "no such device",
    NOENT = ENOENT: "no such file or directory",
    NOMEM = ENOMEM: "cannot allocate memory",
    NOPROTOOPT = ENOPROTOOPT: "protocol not available",
    NOSPC = ENOSPC: "no space left on device",
    NOSYS = ENOSYS: "function not implemented",
    NOTCONN = ENOTCONN: "transport endpoint is not connected",
    NOTSOCK = ENOTSOCK: "socket operation on non-socket",
    NOTTY = ENOTTY: "inappropriate ioctl for device",
    OPNOTSUPP = EOPNOTSUPP: "operation not supported",
    PERM = EPERM: "operation not permitted",
    PIPE = EPIPE: "broken pipe",
    PROTONOSUPPORT = EPROTONOSUPPORT: "protocol not supported",
    SOCKTNOSUPPORT = ESOCKTNOSUPPORT: "socket type not supported",
    SPIPE = ESPIPE: "illegal seek",
    TIMEDOUT = ETIMEDOUT: "connection timed out",
}

impl core::error::Error for Errno {}

impl From<SocketError> for Errno {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::AddrInUse => Self::ADDRINUSE,
            SocketError::AddrNotAvailable => Self::ADDRNOTAVAIL,
            SocketError::AlreadyConnected => Self::ISCONN,
            SocketError::BadSocket => Self::BADF,
            SocketError::BrokenPipe => Self::PIPE,
            SocketError::ConnectionAborted => Self::CONNABORTED,
            SocketError::ConnectionRefused => Self::CONNREFUSED,
            SocketError::ConnectionReset => Self::CONNRESET,
            SocketError::HostUnreachable => Self::HOSTUNREACH,
            SocketError::InProgress => Self::INPROGRESS,
            SocketError::MessageTooLong => Self::MSGSIZE,
            SocketError::NetworkUnreachable => Self::NETUNREACH,
            SocketError::NoBuffers => Self::NOBUFS,
            SocketError::NoMemory => Self::NOMEM,
            SocketError::NoSuchDevice => Self::NODEV,
            SocketError::NotConnected => Self::NOTCONN,
            SocketError::NotFound => Self::NOENT,
            SocketError::NotSupported => Self::OPNOTSUPP,
            SocketError::PermissionDenied => Self::ACCES,
            SocketError::TimedOut => Self::TIMEDOUT,
            SocketError::WouldBlock => Self::AGAIN,
            // The enum may grow: what has no number of its own is an argument that makes no sense.
            _ => Self::INVAL,
        }
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.raw_os_error())
    }
}

/// What calls give.
pub(crate) type Result<T> = core::result::Result<T, Errno>;
