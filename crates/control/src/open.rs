//! The socket of one host: opened under a name, handed to the host, gone when it is.
//!
//! What does not live here: which folder is safe (`folder`), who answers (`serve`, `desk`).
//!
//! Invariant: whoever finds a socket by its name finds it listening, and closed to other users.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use engine::{App, Inspector, Shard, ShardError, Shards, Sockets};

use crate::desk::Desk;
use crate::folder;
use crate::serve::Answering;

/// The longest path a Unix socket may have (sockaddr_un has 108 bytes, one of them the end).
const PATH_MAX: usize = 107;

/// The socket by which a host is asked: open, and answered once a host has it. It goes with the host, or when it is dropped.
///
/// ```
/// use control::Control;
/// use engine::{App, Shard, ShardCx};
///
/// /// Nothing but what the host does by itself.
/// struct Idle;
///
/// impl App for Idle {
///     type Command = ();
///
///     fn on_event(&mut self, _: &mut ShardCx<'_>, _: stack::Event) {}
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("millstream-idle-{}", std::process::id()));
/// let control = Control::open_in(&folder, "idle")?; // `Control::open("idle")` where tools look by themselves
/// let socket = folder.join(format!("idle.{}.sock", std::process::id()));
/// assert!(socket.exists());
///
/// let mut shard = Shard::new(Default::default(), engine::random_seed()?, Idle, Default::default())?;
/// control.answer(&mut shard)?;
/// let mut thread = shard.spawn()?;
/// thread.stop()?;
/// assert!(!socket.exists(), "it goes with the host");
/// # std::fs::remove_dir(&folder)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    name: String,
}

impl Control {
    /// Opens the socket of a host of this name in the user's folder: `$MILLSTREAM_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/millstream`,
    /// else `/run/millstream` (root) or `/tmp/millstream-UID`. Of the name tools see 40 characters; those that are no letter, digit, `-` or
    /// `_` are `_` to them. To be called before the process enters a namespace where it is somebody else.
    ///
    /// # Errors
    /// The folder is not safe or cannot be made; the path is too long; a host of this process has the name. One line, with a remedy.
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::open_in(&folder::path(), name)
    }

    /// As [`Control::open`], in a folder of the program's choice, which is made if need be. Tools look there when
    /// `$MILLSTREAM_RUNTIME_DIR` names it.
    ///
    /// # Errors
    /// As [`Control::open`].
    pub fn open_in(folder: &Path, name: &str) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(Error::NoName);
        }
        // It is to be removed from wherever the process will be.
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        folder::make(&folder)?;
        folder::sweep(&folder);
        let path = folder.join(folder::file_name(name, std::process::id()));
        if path.as_os_str().len() > PATH_MAX {
            return Err(Error::TooLong(path));
        }
        match publish(&folder, &path) {
            Ok(listener) => Ok(Self {
                listener,
                path,
                name: name.to_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Taken(path)),
            Err(error) => Err(Error::Socket(path, error)),
        }
    }

    /// Lets the host of `shard` be asked, by threads of their own, until the shard ends.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn answer<A: App>(self, shard: &mut Shard<A>) -> Result<(), ShardError> {
        let desk = Desk::new(Inspector::of(shard), None);
        let answering = self.answer_by(desk)?;
        shard.keep(answering);
        Ok(())
    }

    /// As [`Control::answer`], of a host of any number of shards, and with the completion queues of its sockets for other threads, if
    /// it has those.
    ///
    /// # Errors
    /// As [`Control::answer`].
    pub fn answer_all<A: App>(
        self,
        shards: &mut Shards<A>,
        sockets: Option<&Sockets>,
    ) -> Result<(), ShardError> {
        let desk = Desk::new(Inspector::of_all(shards), sockets.cloned());
        let answering = self.answer_by(desk)?;
        // It ends last.
        shards.lead().keep(answering);
        Ok(())
    }

    fn answer_by<C: Send + 'static>(self, desk: Desk<C>) -> Result<Answering, ShardError> {
        let answering = Answering::begin(self, move |question| desk.answer(question));
        answering
            .map_err(|error| ShardError::System("cannot start a thread; see `ulimit -u`", error))
    }

    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a socket that listens and is closed to others, and only then gives it its name: whoever sees it may connect.
fn publish(folder: &Path, path: &Path) -> io::Result<UnixListener> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let unseen = folder.join(format!(".{}.{number}", std::process::id()));
    let listen = || {
        let listener = UnixListener::bind(&unseen)?;
        fs::set_permissions(&unseen, Permissions::from_mode(0o600))?;
        // Not a rename, which would take the name from whoever has it.
        fs::hard_link(&unseen, path)?;
        Ok(listener)
    };
    let listener = listen();
    let _ = fs::remove_file(&unseen);
    listener
}

/// Why a host cannot be asked: one line, with a remedy.
///
/// ```
/// use control::{Control, Error};
///
/// let why = Control::open("").expect_err("nobody could say whom he asks");
/// assert!(matches!(why, Error::NoName));
/// assert_eq!(why.to_string(), "a host that is to be asked needs a name; give it one");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The name is empty.
    NoName,
    /// The folder cannot be made.
    Folder(PathBuf, io::Error),
    /// Somebody else may have put something into the folder: why.
    Unsafe(PathBuf, String),
    /// The path is longer than that of a socket may be, 107 bytes.
    TooLong(PathBuf),
    /// A host of this process has the name.
    Taken(PathBuf),
    /// The system refuses the socket.
    Socket(PathBuf, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = format!("set {} to a folder of your own", folder::VARIABLE);
        match self {
            Self::NoName => f.write_str("a host that is to be asked needs a name; give it one"),
            Self::Folder(path, error) => {
                let path = path.display();
                write!(f, "cannot make the folder {path}: {error}; {own}")
            }
            Self::Unsafe(path, why) => {
                let path = path.display();
                write!(f, "{path} is not safe: {why}; remove it, or {own}")
            }
            Self::TooLong(path) => write!(
                f,
                "cannot open {}: the path is too long for a socket; {own}, with a short path",
                path.display()
            ),
            Self::Taken(path) => write!(
                f,
                "cannot open {}: another host of this process is asked by this name; give each its own",
                path.display()
            ),
            Self::Socket(path, error) => {
                write!(f, "cannot open {}: {error}; {own}", path.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Folder(_, error) | Self::Socket(_, error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
