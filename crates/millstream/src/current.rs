//! The host that sockets are made on when none is named, so that a program of std's or tokio's changes its imports only.
//!
//! What does not live here: making sockets; everything here can be done with a host that is named.
//!
//! Invariant: the default does not keep its host alive; who started it does, as with sockets.

use std::io;
use std::sync::{PoisonError, RwLock, Weak};

use crate::host::{Host, Inner};

static DEFAULT: RwLock<Weak<Inner>> = RwLock::new(Weak::new());

impl Host {
    /// Makes this host the one on which `TcpListener::bind`, `TcpStream::connect` and `UdpSocket::bind` work, here and in
    /// `millstream::tokio`, for the whole process; the one that was it before goes on with the sockets it has.
    ///
    /// The default does not keep the host running: hold on to it in `main`, and it sends what was written when `main` ends.
    ///
    /// ```
    /// use std::io::{ErrorKind, Read, Write};
    ///
    /// use millstream::{Host, TcpListener, TcpStream};
    ///
    /// let none = Host::current().unwrap_err();
    /// assert_eq!(none.kind(), ErrorKind::NetworkDown);
    ///
    /// let host = Host::builder().start()?;
    /// host.make_default();
    /// // From here on as with `std::net`.
    /// let listener = TcpListener::bind("127.0.0.1:80")?;
    /// let mut client = TcpStream::connect("127.0.0.1:80")?;
    /// client.write_all(b"hello")?;
    /// let (mut stream, _) = listener.accept()?;
    /// let mut request = [0; 5];
    /// stream.read_exact(&mut request)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn make_default(&self) {
        let mut default = DEFAULT.write().unwrap_or_else(PoisonError::into_inner);
        *default = self.downgrade();
    }

    /// The default host: see [`Host::make_default`].
    ///
    /// # Errors
    /// `NetworkDown` when none was made the default, or nobody holds it any more.
    pub fn current() -> io::Result<Self> {
        let default = DEFAULT.read().unwrap_or_else(PoisonError::into_inner);
        Self::upgrade(&default).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NetworkDown,
                "there is no default host: start one, keep it, and call its `make_default`",
            )
        })
    }
}
