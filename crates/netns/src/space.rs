//! Namespaces: becoming root of a small world of one's own, and moving between such worlds.
//!
//! A network namespace needs CAP_SYS_ADMIN. Root has it; everybody else gets it by making a user namespace in the same
//! step and mapping the own user to root inside.
//!
//! Invariant: [`Plan::carry_out`] neither allocates nor locks, so that it may run between fork and exec.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::Error;
use crate::link;

/// Moves this process into a network namespace of its own, in which it is root; `lo` is up, nothing else is there.
///
/// Without CAP_SYS_ADMIN a user namespace is made as well, with the calling user mapped to root inside. Files and
/// sockets that are already open keep working: a listener opened before still belongs to the machine's own network.
///
/// # Errors
/// [`Error::is_unavailable`] if the machine forbids namespaces. Fails if the process has more than one thread: a user
/// namespace is refused then (user_namespaces(7)), and threads would be left behind in the old network namespace.
pub fn enter_private() -> Result<(), Error> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(Error::failed(
            "cannot enter a private namespace: call this before the first thread is started",
            &io::Error::other(format!("the process has {threads} threads")),
        ));
    }
    Plan::new().carry_out().map_err(|e| refused(&e))?;
    link::set_up("lo")
}

/// What has to be written where, prepared in advance.
pub(crate) struct Plan {
    root: bool,
    uid_map: String,
    gid_map: String,
}

impl Plan {
    pub(crate) fn new() -> Self {
        let uid = rustix::process::geteuid();
        let gid = rustix::process::getegid();
        Self {
            root: uid.is_root(),
            uid_map: format!("0 {} 1\n", uid.as_raw()),
            gid_map: format!("0 {} 1\n", gid.as_raw()),
        }
    }

    /// Enters the namespaces. Async-signal-safe: system calls only.
    pub(crate) fn carry_out(&self) -> io::Result<()> {
        if self.root && unshare(UnshareFlags::NEWNET).is_ok() {
            return Ok(());
        }
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)?;
        // Without this a gid map is refused to an ordinary user, user_namespaces(7).
        write_file(c"/proc/self/setgroups", b"deny")?;
        write_file(c"/proc/self/uid_map", self.uid_map.as_bytes())?;
        write_file(c"/proc/self/gid_map", self.gid_map.as_bytes())
    }
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: what is unshared is the namespaces only; file descriptors (FILES), which other threads rely on being
    // shared, are not touched.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

fn write_file(path: &std::ffi::CStr, bytes: &[u8]) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, bytes)?;
    Ok(())
}

/// Puts a refusal to make namespaces into words, after a look at the settings that usually cause it.
pub(crate) fn refused(why: &io::Error) -> Error {
    let setting = |path: &str| {
        std::fs::read_to_string(Path::new("/proc/sys").join(path))
            .ok()
            .map(|s| s.trim().to_owned())
    };
    let remedy = if setting("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        "user namespaces are switched off: sysctl kernel.unprivileged_userns_clone=1, or run as root"
    } else if setting("user/max_user_namespaces").as_deref() == Some("0") {
        "user namespaces are limited to none: sysctl user.max_user_namespaces=10000, or run as root"
    } else if setting("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        "AppArmor restricts user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
    } else if matches!(why.raw_os_error(), Some(libc::ENOSPC | libc::EUSERS)) {
        "there are as many as this user may have: sysctl user.max_net_namespaces and user.max_user_namespaces say how many"
    } else if why.raw_os_error() == Some(libc::EINVAL) {
        "the kernel lacks user or network namespaces (CONFIG_USER_NS, CONFIG_NET_NS)"
    } else {
        "namespaces are forbidden here, as in many containers: allow them (docker run --privileged) or run outside"
    };
    // The system's words for a limit of zero are "no space left on device".
    let why_text = match why.raw_os_error() {
        Some(libc::ENOSPC | libc::EUSERS) => String::new(),
        _ => format!("{}; ", crate::error::reason(why)),
    };
    Error::unavailable(
        format!("cannot make a private network namespace: {why_text}{remedy}"),
        why.raw_os_error(),
    )
}

/// A network namespace held by a handle: it lives as long as the handle, a thread or a process in it.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl Namespace {
    /// The namespace the calling thread is in.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> Result<Self, Error> {
        File::open("/proc/thread-self/ns/net")
            .map(|f| Self(f.into()))
            .map_err(|e| {
                Error::failed(
                    "cannot open /proc/thread-self/ns/net (is /proc mounted?)",
                    &e,
                )
            })
    }

    /// The namespace somebody else made: by its name in `/run/netns` (as `ip netns add` makes them), the number of a process in
    /// it, or a path.
    ///
    /// # Errors
    /// When there is none of that name or number, or it may not be looked at.
    pub fn open(name: &str) -> Result<Self, Error> {
        let path = if name.contains('/') {
            name.into()
        } else if name.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("/proc/{name}/ns/net")
        } else {
            format!("/run/netns/{name}")
        };
        let opened = File::open(&path).map_err(|e| {
            let remedy = match e.raw_os_error() {
                Some(libc::ENOENT) => {
                    " (give a name that `ip netns` lists, the number of a process in it, or a path)"
                }
                Some(libc::EACCES | libc::EPERM) => {
                    " (that process is another user's: run as root, or as that user)"
                }
                _ => "",
            };
            Error::failed(
                format_args!("cannot open the network namespace {path}{remedy}"),
                &e,
            )
        })?;
        Ok(Self(opened.into()))
    }

    /// A new network namespace with `lo` up; the calling thread stays where it is. Call [`enter_private`] first unless
    /// root: the new one belongs to the current user namespace.
    ///
    /// # Errors
    /// When the caller may not make one.
    pub fn new() -> Result<Self, Error> {
        let make = || {
            unshare(UnshareFlags::NEWNET).map_err(|e| refused(&e))?;
            link::set_up("lo")?;
            Self::current()
        };
        // A thread of its own: unshare would move the caller.
        match std::thread::scope(|s| s.spawn(make).join()) {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Moves the calling thread (only this thread) into the namespace.
    ///
    /// # Errors
    /// When the caller is not root in the user namespace that owns it.
    pub fn enter(&self) -> Result<(), Error> {
        rustix::thread::move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| Error::failed("cannot enter the network namespace", &e.into()))
    }

    /// Runs `f` in the namespace, on a thread of its own, and returns what it returned.
    ///
    /// # Errors
    /// As [`Namespace::enter`]. A panic of `f` is passed on.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let inside = || {
            self.enter()?;
            Ok(f())
        };
        match std::thread::scope(|s| s.spawn(inside).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_not_a_full_disk() {
        let refusal = refused(&io::Error::from_raw_os_error(libc::ENOSPC));
        let said = refusal.to_string();
        assert!(refusal.is_unavailable());
        assert!(said.starts_with("cannot make a private network namespace: "));
        assert!(!said.contains("No space left"), "{said}");
        assert!(said.contains("sysctl"), "{said}");
    }
}
