//! Why a port could not be opened, in one line with a remedy.
//!
//! Invariant: the text of an error has no line break.

use std::fmt;
use std::io;

/// A refusal. Displays as one line: what was asked, why it was refused, what to do about it.
#[derive(Debug, Clone)]
pub struct PortError {
    line: String,
    unavailable: bool,
    errno: Option<i32>,
}

impl PortError {
    /// Another attempt, or another argument, may succeed.
    pub fn new(line: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            unavailable: false,
            errno: None,
        }
    }

    /// This machine or this user does not have it.
    pub(crate) fn unavailable(line: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            unavailable: true,
            errno: None,
        }
    }

    pub(crate) fn with_errno(mut self, why: &io::Error) -> Self {
        self.errno = why.raw_os_error();
        self
    }

    /// "cannot <what>: <why>", where there is no better advice.
    pub(crate) fn failed(what: impl fmt::Display, why: &io::Error) -> Self {
        Self::new(format!("cannot {what}: {}", reason(why))).with_errno(why)
    }

    /// True if the machine or the user lacks what the port needs (no TUN device, no permission), so that a program may
    /// fall back to another kind of port and a test may be skipped.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.unavailable
    }

    /// The error number behind the refusal, if there was one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.errno
    }
}

/// The system's words for an error number, without std's "(os error N)".
pub(crate) fn reason(why: &io::Error) -> String {
    let text = why.to_string();
    match text.rfind(" (os error ") {
        Some(end) if why.raw_os_error().is_some() => text[..end].to_owned(),
        _ => text,
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for PortError {}

impl From<PortError> for io::Error {
    fn from(e: PortError) -> Self {
        let kind = match e.errno {
            Some(n) => io::Error::from_raw_os_error(n).kind(),
            None if e.unavailable => io::ErrorKind::Unsupported,
            None => io::ErrorKind::Other,
        };
        io::Error::new(kind, e)
    }
}
