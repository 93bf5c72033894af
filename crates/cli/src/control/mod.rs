//! How other runs of this program ask a running host: a Unix socket in a folder only its user may enter.
//!
//! A question is a line of JSON, and so is its answer; a connection may ask many. Nothing is done before somebody asks.
//!
//! What does not live here: the answers (`serve::desk`), and what is made of them (`ss`, `sysctl`).
//!
//! Invariant: only the host's user (and root) can ask: the folder is his, and closed to others, or it is not used.
//! Invariant: bounded: so many askers at once, so long a question, so long a wait for an asker.

pub(crate) mod ask;
mod folder;

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::serve::desk::Desk;
use crate::view::census::{Census, Objects};
use crate::view::socket::{Filter, Page, Summary};

/// Askers at the same time; more wait.
const ASKERS: usize = 16;

/// The longest question, bytes.
const QUESTION_MAX: u64 = 4_096;

/// How long an asker may keep silent, or not read.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest path a Unix socket may have (sockaddr_un has 108 bytes, one of them the end).
const PATH_MAX: usize = 107;

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Question {
    /// A part of the list of sockets.
    Sockets {
        filter: Filter,
        /// Where the last part said that it goes on.
        place: Option<u64>,
    },
    /// How many sockets there are, and what has happened.
    Summary,
    /// How the host is: what an explanation is made of.
    Census,
    /// What else there is: buffers, sets, completion queues.
    Objects,
    /// How TCP is tuned.
    Settings,
    /// Tune TCP.
    Set { name: String, value: String },
}

/// What may be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Sockets(Page),
    Summary(Summary),
    Census(Box<Census>),
    Objects(Objects),
    Settings(Vec<Setting>),
    Done,
}

/// One setting of TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// Without `tcp_`.
    pub(crate) name: String,
    pub(crate) value: String,
}

/// The socket of this process, gone with it.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Opens the socket of a host of this name. To be called before the process enters a namespace where it is somebody else.
    ///
    /// # Errors
    /// The folder is not safe or cannot be made, with a remedy.
    pub(crate) fn open(name: &str) -> Result<Self, Failure> {
        let folder = folder::open()?;
        folder::sweep(&folder);
        let path = folder.join(folder::file_name(name, std::process::id()));
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(
                format_args!("cannot {what} {}: {error}", path.display()),
                format_args!("set {} to a folder of your own", folder::VARIABLE),
            )
        };
        if path.as_os_str().len() > PATH_MAX {
            return Err(failed("open", &"the path is too long for a socket"));
        }
        let listener = UnixListener::bind(&path).map_err(|error| failed("open", &error))?;
        let control = Self {
            listener,
            path: path.clone(),
        };
        let only_owner = std::fs::Permissions::from_mode(0o600);
        let ready = std::fs::set_permissions(&control.path, only_owner)
            .and_then(|()| control.listener.set_nonblocking(true));
        ready.map_err(|error| failed("use", &error))?;
        Ok(control)
    }

    /// As [`Control::open`]; without one the host runs all the same, which is told.
    pub(crate) fn open_or_tell(name: &str) -> Option<Self> {
        Self::open(name)
            .inspect_err(|failure| eprintln!("millstream: ss and sysctl cannot ask: {failure}"))
            .ok()
    }

    /// Lets `desk` answer whoever asks, for ever. Inside a runtime.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub(crate) fn answer(&self, desk: Desk) -> Result<(), Failure> {
        let answer = move |question| {
            let desk = desk.clone();
            async move { desk.answer(question).await }
        };
        let watched = self.answer_with(answer);
        watched.map_err(|error| Failure::told(format_args!("cannot be asked: {error}")))
    }

    fn answer_with<F, A>(&self, answer: F) -> io::Result<()>
    where
        F: Fn(Question) -> A + Clone + Send + 'static,
        A: Future<Output = Result<Answer, String>> + Send,
    {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        let places = Arc::new(Semaphore::new(ASKERS));
        tokio::spawn(async move {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors, perhaps; the next may have more luck.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let answer = answer.clone();
                tokio::spawn(async move {
                    // An asker that goes away has asked enough.
                    let _ = attend(stream, answer).await;
                    drop(place);
                });
            }
        });
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers one asker until he has no more questions.
async fn attend<F, A>(stream: UnixStream, answer: F) -> io::Result<()>
where
    F: Fn(Question) -> A,
    A: Future<Output = Result<Answer, String>>,
{
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(0));
    loop {
        let mut line = String::new();
        read.get_mut().set_limit(QUESTION_MAX);
        let len = timeout(PATIENCE, read.read_line(&mut line)).await??;
        if len == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_str(&line) {
            Ok(question) => answer(question).await,
            Err(error) => Err(format!("not a question this version knows: {error}")),
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        timeout(PATIENCE, write.write_all(&text)).await??;
    }
}

#[cfg(test)]
mod tests;
