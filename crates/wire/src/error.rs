//! Why bytes or text were refused.
//!
//! Counting drops is not done here: `stack` maps these to its own counted reasons.

use core::fmt;

/// What is wrong with a header.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// Fewer bytes than the header needs, or than one of its length fields claims.
    Truncated,
    /// The version field is not this protocol's.
    Version,
    /// A length field contradicts the header it stands in.
    Length,
    /// The checksum does not match the bytes.
    Checksum,
    /// An address that may not stand where it does.
    Address,
    /// A field holds a value the protocol forbids.
    Malformed,
    /// Well formed, but of a kind this crate does not speak.
    Unrecognized,
}

/// The result of reading a header.
pub type Result<T> = core::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Truncated => "truncated",
            Error::Version => "wrong version",
            Error::Length => "length fields contradict each other",
            Error::Checksum => "wrong checksum",
            Error::Address => "address not allowed here",
            Error::Malformed => "malformed",
            Error::Unrecognized => "not recognized",
        })
    }
}

impl core::error::Error for Error {}

/// Text that is not the address it should be; says what was expected.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ParseError(pub(crate) &'static str);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for ParseError {}
