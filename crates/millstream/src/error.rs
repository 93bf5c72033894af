//! Why a host does not start: one line, with a remedy.

use std::fmt;

use engine::ShardError;

/// Why a host could not be built, or has ended. One line, with what to do about it.
///
/// ```
/// use millstream::Host;
///
/// let why = Host::builder().gateway("10.77.0.1").start().unwrap_err();
/// assert_eq!(why.to_string(), "a gateway needs a port: call `.port(..)` first");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An address, gateway or route that cannot be read: what was given, and what is expected.
    Parse {
        /// What it should have been.
        what: &'static str,
        /// What was given.
        given: String,
    },
    /// Something was said of a port before there was one.
    NoPort(&'static str),
    /// The host refused an address, gateway or route.
    Refused {
        /// What was asked for.
        what: String,
        /// Why not.
        why: String,
    },
    /// The shard could not be set up, or has failed.
    Shard(ShardError),
    /// The host cannot be asked ([`Builder::control`](crate::Builder::control)).
    #[cfg(feature = "control")]
    Control(::control::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse { what, given } => write!(f, "'{given}' is not {what}"),
            Self::NoPort(what) => write!(f, "{what} needs a port: call `.port(..)` first"),
            Self::Refused { what, why } => write!(f, "{what}: {why}"),
            Self::Shard(error) => error.fmt(f),
            #[cfg(feature = "control")]
            Self::Control(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<ShardError> for Error {
    fn from(error: ShardError) -> Self {
        Self::Shard(error)
    }
}

#[cfg(feature = "control")]
impl From<::control::Error> for Error {
    fn from(error: ::control::Error) -> Self {
        Self::Control(error)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
