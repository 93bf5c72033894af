//! Asking a running host, and letting one of this program be asked.
//!
//! What does not live here: the socket, the protocol and the answers (`control`), what to ask.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use control::words::{Answer, Question};
use control::{Control, folder};

use crate::failure::Failure;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer: a page of sockets is a thousandth of it.
const ANSWER_MAX: u64 = 64 << 20;

/// The socket of a host of this program; without one it runs all the same, which is told.
pub(crate) fn open_or_tell(name: &str) -> Option<Control> {
    let told = |error| {
        let failure = Failure::told(error);
        eprintln!("millstream: ss and sysctl cannot ask: {failure}");
    };
    Control::open(name).map_err(told).ok()
}

/// `demo (4711), lan (4712)`.
fn names(running: &[(String, u32, UnixStream)]) -> String {
    let name = |(name, process, _): &(String, u32, UnixStream)| format!("{name} ({process})");
    running.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A running host that answers.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Its name.
    pub(crate) name: String,
    stream: BufReader<UnixStream>,
}

impl Asked {
    /// Finds the host that runs, or the one of several whose name or process number is `wanted`.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub(crate) fn find(wanted: Option<&str>) -> Result<Self, Failure> {
        Self::find_in(&folder::path(), wanted)
    }

    fn find_in(folder: &Path, wanted: Option<&str>) -> Result<Self, Failure> {
        let mut running = Vec::new();
        if folder::is_safe(folder).map_err(Failure::told)? {
            for (name, process, path) in folder::sockets(folder) {
                if let Some(stream) = folder::connect(&path) {
                    running.push((name, process, stream));
                }
            }
        }
        let all = names(&running);
        if let Some(wanted) = wanted {
            running.retain(|(name, process, _)| {
                *name == wanted
                    || process.to_string() == wanted
                    || format!("{name}.{process}") == wanted
            });
        }
        let several = running.len() > 1;
        let these = names(&running);
        match (running.pop(), wanted) {
            (Some((name, _, stream)), _) if !several => Self::over(name, stream),
            (Some(_), None) => Err(Failure::new(
                format_args!("several hosts run: {these}"),
                "choose one with --host NAME or --host PROCESS",
            )),
            (Some((name, process, _)), Some(wanted)) => Err(Failure::new(
                format_args!("several hosts are called {wanted}: {these}"),
                format_args!(
                    "choose one by its name and its process, as in --host {name}.{process}"
                ),
            )),
            (None, Some(wanted)) if !all.is_empty() => Err(Failure::new(
                format_args!("no host called {wanted} runs"),
                format_args!("there are {all}"),
            )),
            (None, _) => Err(Failure::new(
                "no Millstream host of this user runs that can be asked",
                "start one with `millstream demo` or `millstream up -c FILE`, or let a program's own be asked (`Builder::control`)",
            )),
        }
    }

    fn over(name: String, stream: UnixStream) -> Result<Self, Failure> {
        let set = stream.set_read_timeout(Some(PATIENCE));
        set.and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .map_err(|error| Failure::told(format_args!("cannot ask {name}: {error}")))?;
        let stream = BufReader::new(stream);
        Ok(Self { name, stream })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The host goes away, is another version's, or refuses.
    pub(crate) fn ask(&mut self, question: &Question) -> Result<Answer, Failure> {
        let lost = |why: &dyn std::fmt::Display| {
            Failure::new(
                format_args!("{} does not answer: {why}", self.name),
                "see whether it still runs",
            )
        };
        let mut line = serde_json::to_vec(question).map_err(|error| lost(&error))?;
        line.push(b'\n');
        let sent = self.stream.get_mut().write_all(&line);
        sent.map_err(|error| lost(&error))?;
        let mut answer = Vec::new();
        let mut bounded = (&mut self.stream).take(ANSWER_MAX);
        let read = bounded.read_until(b'\n', &mut answer);
        read.map_err(|error| lost(&error))?;
        if bounded.limit() > 0 && answer.last() != Some(&b'\n') {
            return Err(lost(&"it has stopped"));
        }
        let answer: Result<Answer, String> = serde_json::from_slice(&answer).map_err(|_| {
            Failure::new(
                format_args!("{} answers what this version does not know", self.name),
                "use the millstream it was started with",
            )
        })?;
        answer.map_err(Failure::told)
    }

    /// An answer that is not to the question.
    pub(crate) fn astray(&self) -> Failure {
        Failure::new(
            format_args!("{} answers something else", self.name),
            "use the millstream it was started with",
        )
    }
}

#[cfg(test)]
mod tests;
