//! Hosts that tools may ask: `millstream ss` lists their sockets, `millstream sysctl` tunes their TCP.
//!
//! One call opens it, [`Builder::control`]; without, no file is made and nobody can ask. [`Control`] is for who opens the socket
//! earlier, elsewhere, or goes on when it cannot be opened.
//!
//! ```no_run
//! use millstream::Host;
//!
//! let host = Host::builder().control("chat").start()?;
//! // In another terminal: millstream ss --host chat --explain
//! # Ok::<(), millstream::Error>(())
//! ```
//!
//! What does not live here: the socket, the protocol and the answers (`control`), who asks (the program `millstream`).
//!
//! Invariant: what is asked waits for turns of the shards; nothing is done before somebody asks.

#[doc(inline)]
pub use ::control::{Control, Error};

use crate::asked::Asked;
use crate::builder::Builder;

impl Builder {
    /// Lets other programs of the same user ask the host, by this name: `millstream ss` lists its sockets, sets, completion queues and
    /// buffers and says what is amiss (`--explain`), `millstream sysctl` reads and changes how its TCP is tuned. Off unless called, for
    /// it opens a file: a Unix socket in a folder only the user may enter (`$MILLSTREAM_RUNTIME_DIR`, else
    /// `$XDG_RUNTIME_DIR/millstream`, else `/run/millstream` for root and `/tmp/millstream-UID` for others). It is opened by this call, so
    /// that a process may enter a namespace afterwards, answered by threads of its own, and gone when the host has stopped.
    ///
    /// What connections have done so far (bytes, segments, retransmissions) is told if
    /// [`Config::tcp_account`](crate::Config::tcp_account) keeps it.
    ///
    /// ```no_run
    /// use millstream::{Config, Host};
    ///
    /// let config = Config { tcp_account: true, ..Config::default() };
    /// let host = Host::builder().config(config).control("chat").start()?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Builder::start`] and those like it tell, in one line, that the folder is not safe or cannot be made, that the path is too long,
    /// or that another host of this process has the name.
    pub fn control(self, name: impl AsRef<str>) -> Self {
        match Control::open(name.as_ref()) {
            Ok(control) => self.control_with(control),
            Err(error) => self.fail(error.into()),
        }
    }

    /// As [`Builder::control`], by a socket that is open: for who opened it in another folder ([`Control::open_in`]), or does without
    /// where it cannot be opened.
    ///
    /// ```
    /// use millstream::Host;
    /// use millstream::control::Control;
    ///
    /// # let folder = std::env::temp_dir().join(format!("millstream-example-{}", std::process::id()));
    /// let mut host = Host::builder();
    /// match Control::open_in(&folder, "chat") {
    ///     Ok(control) => host = host.control_with(control),
    ///     Err(error) => eprintln!("this host cannot be asked: {error}"),
    /// }
    /// let host = host.start()?;
    /// # let socket = folder.join(format!("chat.{}.sock", std::process::id()));
    /// # assert!(socket.exists());
    /// # drop(host);
    /// # assert!(!socket.exists(), "it goes with the host");
    /// # std::fs::remove_dir(&folder).expect("the folder is empty");
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn control_with(mut self, control: Control) -> Self {
        self.asked = Asked::by(control);
        self
    }
}
