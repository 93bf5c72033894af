//! What a command says when it cannot go on: one line, and what to do about it.
//!
//! What does not live here: failures of the self-check, which are results (`check`).

use std::fmt;

/// A command's failure: what went wrong and the remedy, printed as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    remedy: String,
}

impl Failure {
    /// A failure whose remedy is known.
    pub(crate) fn new(what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self {
            what: one_line(&what.to_string()),
            remedy: one_line(&remedy.to_string()),
        }
    }

    /// A failure that already carries its remedy in its text.
    pub(crate) fn told(what: impl fmt::Display) -> Self {
        Self::new(what, "")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Joins lines, squeezes blanks and leaves out error numbers: whatever a library says, one line a person can read.
fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some(start) = line.find(" (os error ") {
        match line[start..].find(')') {
            Some(len) => line.replace_range(start..=start + len, ""),
            None => break,
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_one_line_with_the_remedy_last() {
        let failure = Failure::new("cannot open x:\n  denied", "run as root");
        assert_eq!(failure.to_string(), "cannot open x: denied; run as root");
        let system = std::io::Error::from_raw_os_error(13);
        assert_eq!(
            Failure::told(format_args!("x: {system}; y")).to_string(),
            "x: Permission denied; y"
        );
        assert_eq!(Failure::told("a; do b").to_string(), "a; do b");
    }
}
