//! splice between a stream and a pipe of the kernel's.
//!
//! The pipe is opened anew through /proc, for its own flags are its owner's: here it never blocks, so nobody waits for it while
//! the host waits for us. Nothing is lost on the way: a stream is peeked, and a pipe copied (tee), before either gives up what
//! the other has taken.
//!
//! What does not live here: splice between two of the kernel's own, and offsets, which neither side has.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};

use rustix::pipe::{PipeFlags, SpliceFlags};

use super::{receive, send, urgent};
use crate::errno::{Errno, Result};
use crate::socket::Kind;
use crate::world::World;

/// SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE and SPLICE_F_GIFT.
const KNOWN: u32 = 15;
/// Bytes on their way at once: what a pipe holds by default.
const PART: usize = 64 << 10;

/// Moves up to `len` bytes from a stream to a pipe or the other way; 0 is the end of either. The stream waits as its flags say;
/// the pipe is never waited for.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let seed = engine::random_seed()?;
/// # let live = posix::Live::start(Default::default(), seed, Default::default(), |_| Ok(()))?;
/// # let at = |addr: &str| {
/// #     let mut bytes = [0; 16]; // a sockaddr_in
/// #     posix::write(&addr.parse().expect("an address"), false, &mut bytes);
/// #     bytes
/// # };
/// use std::io::Read;
/// use std::os::fd::AsRawFd;
///
/// # use std::io::IoSlice;
/// # use posix::{accept, bind, connect, listen, send, socket};
/// # let stream = || socket(&mut live.call(), libc::AF_INET, libc::SOCK_STREAM, 0);
/// # let (listener, client) = (stream()?, stream()?);
/// # bind(&mut live.call(), listener, &at("127.0.0.1:80"))?;
/// # listen(&mut live.call(), listener, 1)?;
/// # connect(&mut live.call(), client, &at("127.0.0.1:80"))?;
/// # let (server, _) = accept(&mut live.call(), listener, 0)?;
/// # send(&mut live.call(), client, &[IoSlice::new(b"through the mill")], 0, None)?;
/// // Of a connection, `server`, whose peer has sent something.
/// let (mut reader, writer) = std::io::pipe()?;
/// let moved = posix::splice(&mut live.call(), server, writer.as_raw_fd(), 4096, 0)?;
/// let mut bytes = vec![0; moved];
/// reader.read_exact(&mut bytes)?;
/// assert_eq!(bytes, b"through the mill");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// EBADF; EINVAL for what is no stream and pipe, and for unknown flags; EAGAIN when the pipe is empty or full; those of
/// [`receive`](super::receive()) and [`send`](super::send()).
pub fn splice<W: World>(
    world: &mut W,
    from: i32,
    to: i32,
    len: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !KNOWN != 0 {
        return Err(Errno::INVAL);
    }
    let table = world.table();
    let socket = match (table.contains(from), table.contains(to)) {
        (false, false) => return Err(Errno::BADF),
        (true, true) => return Err(Errno::INVAL),
        (true, false) => table.get(from)?,
        (false, true) => table.get(to)?,
    };
    if socket.kind != Kind::Stream {
        return Err(Errno::INVAL);
    }
    if world.table().contains(from) {
        let pipe = open(to, true)?;
        return to_pipe(world, from, pipe, len);
    }
    let pipe = open(from, false)?;
    let more = flags & SpliceFlags::MORE.bits() != 0;
    from_pipe(world, pipe, to, len, if more { libc::MSG_MORE } else { 0 })
}

/// One end of a pipe, by its descriptor, such that it never blocks.
fn open(fd: i32, write: bool) -> Result<File> {
    let path = format!("/proc/self/fd/{fd}");
    let link = fs::symlink_metadata(&path).map_err(|_| Errno::BADF)?;
    let right = if write { 0o200 } else { 0o400 };
    if link.permissions().mode() & right == 0 {
        return Err(Errno::BADF);
    }
    let pipe = OpenOptions::new()
        .read(!write)
        .write(write)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|_| Errno::INVAL)?;
    match pipe.metadata() {
        Ok(about) if about.file_type().is_fifo() => Ok(pipe),
        _ => Err(Errno::INVAL),
    }
}

fn number(error: &std::io::Error) -> Errno {
    match error.kind() {
        ErrorKind::WouldBlock => Errno::AGAIN,
        _ => Errno(error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

/// What came of all of it: an error is for the next call when something was moved before.
fn ended(moved: usize, error: Errno) -> Result<usize> {
    if moved > 0 { Ok(moved) } else { Err(error) }
}

fn to_pipe<W: World>(world: &mut W, from: i32, mut pipe: File, len: usize) -> Result<usize> {
    let mut buffer = vec![0; len.min(PART)];
    let mut moved = 0;
    while moved < len {
        let wait = if moved > 0 { libc::MSG_DONTWAIT } else { 0 };
        let most = buffer.len().min(len - moved);
        // The urgent byte is not in line, and nothing is spliced past it, as on Linux.
        let most = most.min(before_urgent(world, from));
        if most == 0 {
            break;
        }
        let mut piece = [IoSliceMut::new(&mut buffer[..most])];
        let there = match receive(world, from, &mut piece, libc::MSG_PEEK | wait) {
            Ok(message) => message.len,
            Err(error) => return ended(moved, error),
        };
        let taken = match pipe.write(&buffer[..there]) {
            Ok(taken) => taken,
            Err(error) => return ended(moved, number(&error)),
        };
        if taken == 0 {
            break;
        }
        let mut piece = [IoSliceMut::new(&mut buffer[..taken])];
        receive(world, from, &mut piece, libc::MSG_DONTWAIT)?;
        moved += taken;
    }
    Ok(moved)
}

/// Bytes in front of the urgent one, if there is one that is not in line.
fn before_urgent<W: World>(world: &mut W, fd: i32) -> usize {
    let Some(id) = world.table().get(fd).ok().and_then(|s| s.id()) else {
        return usize::MAX;
    };
    match urgent::ahead(world, fd, id) {
        Some((urgent, false)) => urgent.left as usize - 1,
        _ => usize::MAX,
    }
}

fn from_pipe<W: World>(
    world: &mut W,
    mut pipe: File,
    to: i32,
    len: usize,
    flags: i32,
) -> Result<usize> {
    let failed = |error: rustix::io::Errno| match error {
        rustix::io::Errno::AGAIN => Errno::AGAIN,
        error => Errno(error.raw_os_error()),
    };
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let mut copy = File::from(reader);
    let mut buffer = vec![0; len.min(PART)];
    let mut moved = 0;
    while moved < len {
        let most = buffer.len().min(len - moved);
        let there = match rustix::pipe::tee(&pipe, writer.as_fd(), most, SpliceFlags::NONBLOCK) {
            Ok(0) => break,
            Ok(there) => there,
            Err(error) => return ended(moved, failed(error)),
        };
        let bytes = &mut buffer[..there];
        copy.read_exact(bytes).map_err(|error| number(&error))?;
        let sent = match send(world, to, &[IoSlice::new(bytes)], flags, None) {
            Ok(sent) => sent,
            Err(error) => return ended(moved, error),
        };
        pipe.read_exact(&mut buffer[..sent])
            .map_err(|error| number(&error))?;
        moved += sent;
        if sent < there {
            break;
        }
    }
    Ok(moved)
}
