//! Why something could not be had from the kernel, in one line with a remedy.
//!
//! Invariant: the text of an error has no line break.

use std::fmt;
use std::io;

/// A refusal. Displays as one line: what was asked, why it was refused, what to do about it.
#[derive(Debug, Clone)]
pub struct Error {
    unavailable: bool,
    line: String,
    errno: Option<i32>,
}

impl Error {
    /// The kernel or its administrator does not allow this at all; asking again is useless.
    pub(crate) fn unavailable(line: impl Into<String>, errno: Option<i32>) -> Self {
        Self {
            unavailable: true,
            line: line.into(),
            errno,
        }
    }

    /// The request went wrong: `what` describes it, `why` is appended.
    pub(crate) fn failed(what: impl fmt::Display, why: &io::Error) -> Self {
        let errno = why.raw_os_error();
        Self {
            unavailable: false,
            line: format!("{what}: {}", reason(why)),
            errno,
        }
    }

    /// True if the machine does not offer what was asked for (namespaces forbidden, no such kernel feature), so that a
    /// test may be skipped or a program may look for another way.
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(e: Error) -> Self {
        let kind = match e.errno {
            Some(n) => io::Error::from_raw_os_error(n).kind(),
            None if e.unavailable => io::ErrorKind::Unsupported,
            None => io::ErrorKind::Other,
        };
        io::Error::new(kind, e)
    }
}
