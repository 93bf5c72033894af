//! What packetdrill sees: one function that fills a table of functions, each of which turns pointers into slices, calls
//! `posix`, and turns what comes of it into a result and `errno`.
//!
//! What does not live here: pointers by themselves (`pointer`), what is called (`posix`), time (`stage`).
//!
//! Invariant: order and types of [`Interface`]'s fields are packetdrill's.

use core::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::io::{IoSlice, IoSliceMut};
use std::sync::OnceLock;

use libc::{
    epoll_event, iovec, msghdr, nfds_t, off64_t, pollfd, size_t, sockaddr, socklen_t, ssize_t,
    timeval,
};
use posix::{Errno, PollFd};

use crate::pointer::{
    address, bytes, bytes_mut, count_of, give_address, look, message, pieces, pieces_mut, place,
    report, report_int,
};
use crate::sets::{epoll_create, epoll_ctl, epoll_wait};
use crate::settings::Settings;
use crate::stage::{Call, Stage};

pub(crate) type User = *mut c_void;

/// The table packetdrill calls through.
#[repr(C)]
pub struct Interface {
    userdata: User,
    free: extern "C" fn(User),
    socket: extern "C" fn(User, c_int, c_int, c_int) -> c_int,
    bind: unsafe extern "C" fn(User, c_int, *const sockaddr, socklen_t) -> c_int,
    listen: extern "C" fn(User, c_int, c_int) -> c_int,
    accept: unsafe extern "C" fn(User, c_int, *mut sockaddr, *mut socklen_t) -> c_int,
    connect: unsafe extern "C" fn(User, c_int, *const sockaddr, socklen_t) -> c_int,
    read: unsafe extern "C" fn(User, c_int, *mut c_void, size_t) -> ssize_t,
    readv: unsafe extern "C" fn(User, c_int, *const iovec, c_int) -> ssize_t,
    recv: unsafe extern "C" fn(User, c_int, *mut c_void, size_t, c_int) -> ssize_t,
    recvfrom: unsafe extern "C" fn(
        User,
        c_int,
        *mut c_void,
        size_t,
        c_int,
        *mut sockaddr,
        *mut socklen_t,
    ) -> ssize_t,
    recvmsg: unsafe extern "C" fn(User, c_int, *mut msghdr, c_int) -> ssize_t,
    write: unsafe extern "C" fn(User, c_int, *const c_void, size_t) -> ssize_t,
    writev: unsafe extern "C" fn(User, c_int, *const iovec, c_int) -> ssize_t,
    send: unsafe extern "C" fn(User, c_int, *const c_void, size_t, c_int) -> ssize_t,
    sendto: unsafe extern "C" fn(
        User,
        c_int,
        *const c_void,
        size_t,
        c_int,
        *const sockaddr,
        socklen_t,
    ) -> ssize_t,
    sendmsg: unsafe extern "C" fn(User, c_int, *const msghdr, c_int) -> ssize_t,
    fcntl: extern "C" fn(User, c_int, c_int, c_long) -> c_int,
    ioctl: unsafe extern "C" fn(User, c_int, c_ulong, *mut c_int) -> c_int,
    close: extern "C" fn(User, c_int) -> c_int,
    shutdown: extern "C" fn(User, c_int, c_int) -> c_int,
    getsockopt:
        unsafe extern "C" fn(User, c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    setsockopt: unsafe extern "C" fn(User, c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
    poll: unsafe extern "C" fn(User, *mut pollfd, nfds_t, c_int) -> c_int,
    netdev_send: unsafe extern "C" fn(User, *const c_void, size_t) -> c_int,
    netdev_receive: unsafe extern "C" fn(User, *mut c_void, *mut size_t, *mut i64) -> c_int,
    usleep: extern "C" fn(User, libc::useconds_t) -> c_int,
    gettimeofday: unsafe extern "C" fn(User, *mut timeval, *mut c_void) -> c_int,
    epoll_create: extern "C" fn(User, c_int) -> c_int,
    epoll_ctl: unsafe extern "C" fn(User, c_int, c_int, c_int, *mut epoll_event) -> c_int,
    epoll_wait: unsafe extern "C" fn(User, c_int, *mut epoll_event, c_int, c_int) -> c_int,
    pipe: unsafe extern "C" fn(User, *mut c_int) -> c_int,
    splice: unsafe extern "C" fn(
        User,
        c_int,
        *mut off64_t,
        c_int,
        *mut off64_t,
        size_t,
        libc::c_uint,
    ) -> c_int,
}

static STAGE: OnceLock<Stage> = OnceLock::new();

/// The stage, once packetdrill has asked for it.
pub(crate) fn stage() -> Option<&'static Stage> {
    STAGE.get()
}

/// The stage, for functions packetdrill has only because there is one.
pub(crate) fn set() -> &'static Stage {
    match STAGE.get() {
        Some(stage) => stage,
        None => fail("a call before packetdrill_interface_init"),
    }
}

fn fail(why: &str) -> ! {
    eprintln!("millstream: {why}");
    std::process::abort()
}

/// Sets the stage and fills packetdrill's table. `flags` is what `--so_flags` says, or null.
///
/// # Safety
/// `flags` is null or a C string, `out` points at packetdrill's table.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, out: *mut Interface) {
    let flags = if flags.is_null() {
        String::new()
    } else {
        // SAFETY: not null, so a C string.
        unsafe { CStr::from_ptr(flags) }
            .to_string_lossy()
            .into_owned()
    };
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let settings = match Settings::new(&flags, &arguments) {
        Ok(settings) => settings,
        Err(word) => fail(&format!(
            "--so_flags: cannot read \"{word}\"; known are mtu=BYTES and address=ADDRESS/PREFIX"
        )),
    };
    match Stage::new(&settings) {
        Ok(stage) => {
            // Should packetdrill ask twice, the first stage stays.
            let _ = STAGE.set(stage);
            show_counters();
        }
        Err(why) => fail(&why),
    }
    // SAFETY: packetdrill hands over its own table.
    unsafe { out.write(TABLE) };
}

/// Lets the commands of a script see the host's counters. Other programs keep their environment: who knows what their threads do.
fn show_counters() {
    let by_packetdrill = std::env::current_exe().is_ok_and(|path| path.ends_with("packetdrill"));
    if let Some(path) = stage().and_then(Stage::counters).filter(|_| by_packetdrill) {
        // SAFETY: packetdrill's other thread makes the script's calls, of which there is none yet: nobody reads the environment.
        unsafe { std::env::set_var("PROC_NET_NETSTAT", path) };
    }
}

const TABLE: Interface = Interface {
    userdata: core::ptr::null_mut(),
    free,
    socket,
    bind,
    listen,
    accept,
    connect,
    read,
    readv,
    recv,
    recvfrom,
    recvmsg,
    write,
    writev,
    send,
    sendto,
    sendmsg,
    fcntl,
    ioctl,
    close,
    shutdown,
    getsockopt,
    setsockopt,
    poll,
    netdev_send,
    netdev_receive,
    usleep,
    gettimeofday,
    epoll_create,
    epoll_ctl,
    epoll_wait,
    pipe,
    splice,
};

pub(crate) fn done(result: Result<(), Errno>) -> c_int {
    report_int(result.map(|()| 0))
}

extern "C" fn free(_: User) {}

extern "C" fn socket(_: User, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    let mut call = set().call();
    call.mirror();
    report_int(posix::socket(&mut call, domain, kind, protocol))
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn bind(_: User, fd: c_int, at: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: the caller's address and its length.
    let addr = unsafe { address(at, len) };
    done(addr.and_then(|addr| posix::bind(&mut set().call(), fd, addr)))
}

extern "C" fn listen(_: User, fd: c_int, backlog: c_int) -> c_int {
    let mut call = set().call();
    call.mirror();
    done(posix::listen(&mut call, fd, backlog))
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn accept(_: User, fd: c_int, at: *mut sockaddr, len: *mut socklen_t) -> c_int {
    use posix::World;
    let mut call = set().call();
    let result = posix::accept(&mut call, fd, 0).and_then(|(new, peer)| {
        let v6 = call.table().is_v6(new) == Some(true);
        // SAFETY: the caller's address and its length.
        let given = unsafe { give_address(&peer, v6, at, len) };
        // As on Linux: the connection is lost.
        given.or_else(|fault| posix::close(&mut call, new).and(Err(fault)))?;
        Ok(new)
    });
    report_int(result)
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn connect(_: User, fd: c_int, at: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: the caller's address and its length.
    let addr = unsafe { address(at, len) };
    let mut call = set().call();
    call.mirror();
    done(addr.and_then(|addr| posix::connect(&mut call, fd, addr)))
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn read(_: User, fd: c_int, at: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: the caller's buffer.
    let buffer = unsafe { bytes_mut(at, len) };
    receive(fd, buffer, 0)
}

fn receive(fd: c_int, buffer: Result<&mut [u8], Errno>, flags: c_int) -> ssize_t {
    let mut call = set().call();
    let received = match buffer {
        Ok(buffer) => posix::receive(&mut call, fd, &mut [IoSliceMut::new(buffer)], flags),
        // As on Linux a wild buffer matters only once there is something to be put there.
        Err(fault) => {
            let look = flags | libc::MSG_PEEK;
            let there = posix::receive(&mut call, fd, &mut [IoSliceMut::new(&mut [0])], look);
            match there {
                Ok(message) if message.len > 0 => Err(fault),
                other => other,
            }
        }
    };
    report(received.map(|message| message.len))
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn readv(_: User, fd: c_int, at: *const iovec, count: c_int) -> ssize_t {
    let count = usize::try_from(count).map_err(|_| Errno::INVAL);
    // SAFETY: the caller's buffers.
    let buffers = count.and_then(|count| unsafe { pieces_mut(at, count) });
    let received =
        buffers.and_then(|mut buffers| posix::receive(&mut set().call(), fd, &mut buffers, 0));
    report(received.map(|message| message.len))
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn recv(
    _: User,
    fd: c_int,
    at: *mut c_void,
    len: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's buffer.
    let buffer = unsafe { bytes_mut(at, len) };
    receive(fd, buffer, flags)
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn recvfrom(
    _: User,
    fd: c_int,
    at: *mut c_void,
    len: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> ssize_t {
    // SAFETY: the caller's buffer.
    let buffer = unsafe { bytes_mut(at, len) };
    let result = buffer.and_then(|buffer| {
        let mut call = set().call();
        let message = posix::receive(&mut call, fd, &mut [IoSliceMut::new(buffer)], flags)?;
        // SAFETY: the caller's address and its length.
        unsafe { give_source(&mut call, fd, &message, from, from_len) }?;
        Ok(message.len)
    });
    report(result)
}

/// Writes who a datagram is from; of a stream nothing, as Linux does.
///
/// # Safety
/// As for [`give_address`].
unsafe fn give_source(
    call: &mut Call,
    fd: c_int,
    message: &posix::Message,
    at: *mut sockaddr,
    len: *mut socklen_t,
) -> Result<(), Errno> {
    use posix::World;
    let v6 = call.table().is_v6(fd) == Some(true);
    match &message.from {
        // SAFETY: the caller vouches for it.
        Some(from) => unsafe { give_address(from, v6, at, len) },
        None => {
            // SAFETY: null, or the caller's.
            if let Some(len) = unsafe { len.as_mut() } {
                *len = 0;
            }
            Ok(())
        }
    }
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn recvmsg(_: User, fd: c_int, at: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the caller's message.
    let result = unsafe { message(at) }.and_then(|header| {
        // SAFETY: the buffers the message points at.
        let mut buffers = unsafe { pieces_mut(header.msg_iov, count_of(header)?) }?;
        let mut call = set().call();
        let message = posix::receive(&mut call, fd, &mut buffers, flags)?;
        let (name, len) = (header.msg_name.cast(), &raw mut header.msg_namelen);
        // SAFETY: the address the message points at, and its length.
        unsafe { give_source(&mut call, fd, &message, name, len) }?;
        header.msg_flags = message.flags;
        // SAFETY: the control buffer the message points at.
        let control = unsafe { bytes_mut(header.msg_control, header.msg_controllen) }?;
        let (len, whole) = posix::write_control(&message.control, control);
        header.msg_controllen = len;
        if !whole {
            header.msg_flags |= libc::MSG_CTRUNC;
        }
        Ok(message.len)
    });
    report(result)
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn write(_: User, fd: c_int, at: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: the caller's bytes.
    let data = unsafe { bytes(at, len) };
    transmit(fd, data, 0, Ok(None))
}

/// A call that sends, to a device that may have been told something; one that connects, too, looks at the sysctls first.
fn sender(flags: c_int) -> Call {
    let mut call = set().call();
    call.look_at_device();
    if flags & libc::MSG_FASTOPEN != 0 {
        call.mirror();
    }
    call
}

fn transmit(
    fd: c_int,
    data: Result<&[u8], Errno>,
    flags: c_int,
    to: Result<Option<&[u8]>, Errno>,
) -> ssize_t {
    let mut call = sender(flags);
    let sent = data.and_then(|data| {
        let to = to?;
        posix::send(&mut call, fd, &[IoSlice::new(data)], flags, to)
    });
    // What keeps a stream from sending comes before a wild pointer, as on Linux.
    let stream = libc::SOCK_STREAM.to_ne_bytes();
    let sent = match sent {
        Err(Errno::FAULT) => {
            let kind = posix::getsockopt(&mut call, fd, libc::SOL_SOCKET, libc::SO_TYPE);
            match kind {
                Ok(kind) if kind == stream => {
                    posix::send(&mut call, fd, &[], flags, None).and(sent)
                }
                Ok(_) => sent,
                Err(error) => Err(error),
            }
        }
        sent => sent,
    };
    report(sent)
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn writev(_: User, fd: c_int, at: *const iovec, count: c_int) -> ssize_t {
    let count = usize::try_from(count).map_err(|_| Errno::INVAL);
    // SAFETY: the caller's bytes.
    let data = count.and_then(|count| unsafe { pieces(at, count) });
    report(data.and_then(|data| posix::send(&mut sender(0), fd, data, 0, None)))
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn send(
    _: User,
    fd: c_int,
    at: *const c_void,
    len: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's bytes.
    let data = unsafe { bytes(at, len) };
    transmit(fd, data, flags, Ok(None))
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn sendto(
    _: User,
    fd: c_int,
    at: *const c_void,
    len: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_len: socklen_t,
) -> ssize_t {
    // SAFETY: the caller's bytes.
    let data = unsafe { bytes(at, len) };
    let to = if to.is_null() {
        Ok(None)
    } else {
        // SAFETY: the caller's address and its length.
        unsafe { address(to, to_len) }.map(Some)
    };
    transmit(fd, data, flags, to)
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn sendmsg(_: User, fd: c_int, at: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: null, or the caller's message.
    let result = unsafe { look(at) }.and_then(|header| {
        // SAFETY: the bytes the message points at.
        let data = unsafe { pieces(header.msg_iov, count_of(header)?) }?;
        let to = if header.msg_name.is_null() {
            None
        } else {
            // SAFETY: the address the message points at.
            Some(unsafe { address(header.msg_name.cast(), header.msg_namelen) }?)
        };
        // SAFETY: the control messages the message points at.
        let control = unsafe { bytes(header.msg_control, header.msg_controllen) }?;
        let control = posix::parse_control(control)?;
        posix::send_message(&mut sender(flags), fd, data, flags, to, &control)
    });
    report(result)
}

/// `fcntl` and `ioctl` are variadic in C. Their one further argument comes in the register where a fixed third one would, on
/// every system this runs on (System V on x86-64, AAPCS64 for Linux).
extern "C" fn fcntl(_: User, fd: c_int, command: c_int, argument: c_long) -> c_int {
    report_int(posix::fcntl(&mut set().call(), fd, command, argument))
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn ioctl(_: User, fd: c_int, request: c_ulong, at: *mut c_int) -> c_int {
    // SAFETY: null, or the int every request known here points at.
    let result = unsafe { place(at) }.and_then(|number| {
        let found = posix::ioctl(&mut set().call(), fd, request, *number)?;
        if request != libc::FIONBIO {
            *number = found;
        }
        Ok(0)
    });
    report_int(result)
}

extern "C" fn close(_: User, fd: c_int) -> c_int {
    if !set().owns(fd) {
        // SAFETY: closing a file of the script's.
        return unsafe { libc::syscall(libc::SYS_close, fd) } as c_int;
    }
    done(posix::close(&mut set().call(), fd))
}

extern "C" fn shutdown(_: User, fd: c_int, how: c_int) -> c_int {
    done(posix::shutdown(&mut set().call(), fd, how))
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn getsockopt(
    _: User,
    fd: c_int,
    level: c_int,
    name: c_int,
    at: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: the caller's value and its length.
    unsafe { read_option(fd, level, name, at, len) }
}

/// getsockopt on a descriptor of ours.
///
/// # Safety
/// `len` is null or points at how many bytes `at` points at.
pub(crate) unsafe fn read_option(
    fd: c_int,
    level: c_int,
    name: c_int,
    at: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: null, or the caller's length.
    let result = unsafe { place(len) }.and_then(|room| {
        if i32::try_from(*room).is_err() {
            return Err(Errno::INVAL);
        }
        let value = posix::getsockopt(&mut set().call(), fd, level, name)?;
        let lens = (value.len(), *room as usize);
        if let Err(error) = posix::handed_over(&mut set().call(), fd, (level, name), lens) {
            *room = value.len() as socklen_t;
            return Err(error);
        }
        let fits = value.len().min(*room as usize);
        // SAFETY: the caller's value.
        unsafe { bytes_mut(at, fits) }?.copy_from_slice(&value[..fits]);
        *room = fits as socklen_t;
        Ok(())
    });
    done(result)
}

/// The instructions that a `struct sock_fprog` points to.
///
/// # Safety
/// It is one, or of another size.
unsafe fn program<'a>(value: &[u8]) -> Result<&'a [u8], Errno> {
    if value.len() != size_of::<libc::sock_fprog>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: it has the size, and any bytes are one.
    let named = unsafe { value.as_ptr().cast::<libc::sock_fprog>().read_unaligned() };
    if named.len == 0 {
        return Err(Errno::INVAL);
    }
    let len = usize::from(named.len) * size_of::<libc::sock_filter>();
    // SAFETY: the caller's program.
    unsafe { bytes(named.filter.cast(), len) }
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn setsockopt(
    _: User,
    fd: c_int,
    level: c_int,
    name: c_int,
    at: *const c_void,
    len: socklen_t,
) -> c_int {
    let len = i32::try_from(len).map_err(|_| Errno::INVAL);
    // SAFETY: the caller's value.
    let mut value = len.and_then(|len| unsafe { bytes(at, len as usize) });
    if (level, name) == (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF) {
        // SAFETY: the caller's program.
        value = value.and_then(|value| unsafe { program(value) });
    }
    let mut call = set().call();
    if level == libc::IPPROTO_TCP && name == libc::TCP_FASTOPEN_CONNECT {
        call.mirror(); // whether there is Fast Open
    }
    done(value.and_then(|value| posix::setsockopt(&mut call, fd, level, name, value)))
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn poll(_: User, at: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    if count > 1024 {
        return done(Err(Errno::INVAL));
    }
    if at.is_null() && count > 0 {
        return done(Err(Errno::FAULT));
    }
    let entries = match count {
        0 => &mut [][..],
        // SAFETY: the caller's array, which is not null.
        _ => unsafe { core::slice::from_raw_parts_mut(at, count as usize) },
    };
    let mut fds: Vec<PollFd> = entries
        .iter()
        .map(|entry| PollFd {
            fd: entry.fd,
            events: entry.events,
            revents: 0,
        })
        .collect();
    let found = posix::poll(&mut set().call(), &mut fds, timeout);
    for (entry, polled) in entries.iter_mut().zip(&fds) {
        entry.revents = polled.revents;
    }
    report_int(found.map(|n| n as c_int))
}

/// A packet comes in.
///
/// # Safety
/// `at` points at a packet of `len` bytes.
unsafe extern "C" fn netdev_send(_: User, at: *const c_void, len: size_t) -> c_int {
    // SAFETY: packetdrill's packet.
    match unsafe { bytes(at, len) } {
        Ok(packet) if set().arrive(packet) => 0,
        _ => -1,
    }
}

/// The next packet that goes out, or one of no bytes.
///
/// # Safety
/// `at` points at `*len` bytes, `len` and `usec` at numbers.
unsafe extern "C" fn netdev_receive(
    _: User,
    at: *mut c_void,
    len: *mut size_t,
    usec: *mut i64,
) -> c_int {
    // SAFETY: packetdrill's length.
    let room = unsafe { &mut *len };
    let Some((packet, time)) = set().depart() else {
        // To packetdrill -1 means try again, for ever; a packet of no bytes ends the script.
        *room = 0;
        return 0;
    };
    if packet.len() > *room {
        *room = 0;
        return 0;
    }
    // SAFETY: packetdrill's buffer, of `room` bytes.
    if let Ok(out) = unsafe { bytes_mut(at, packet.len()) } {
        out.copy_from_slice(&packet);
    }
    *room = packet.len();
    // SAFETY: packetdrill's time.
    unsafe { *usec = time as i64 };
    0
}

extern "C" fn usleep(_: User, micros: libc::useconds_t) -> c_int {
    set().sleep(u64::from(micros));
    0
}

/// As its namesake in C.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn gettimeofday(_: User, at: *mut timeval, _zone: *mut c_void) -> c_int {
    let micros = set().look();
    // SAFETY: packetdrill's time, or null.
    if let Some(time) = unsafe { at.as_mut() } {
        time.tv_sec = (micros / 1_000_000) as i64;
        time.tv_usec = (micros % 1_000_000) as i64;
    }
    0
}

/// As its namesake in C: a pipe of the kernel's.
///
/// # Safety
/// `at` points at room for two descriptors.
unsafe extern "C" fn pipe(_: User, at: *mut c_int) -> c_int {
    // SAFETY: the kernel checks the caller's pointer.
    unsafe { libc::syscall(libc::SYS_pipe2, at, 0) as c_int }
}

/// As its namesake in C. Between two descriptors that are not ours it is the kernel's.
///
/// # Safety
/// Pointers are null, or good for what the call is told of them.
unsafe extern "C" fn splice(
    _: User,
    from: c_int,
    from_at: *mut off64_t,
    to: c_int,
    to_at: *mut off64_t,
    len: size_t,
    flags: libc::c_uint,
) -> c_int {
    let stage = set();
    // A script's NULL comes as a pointer to 0.
    // SAFETY: null, or the caller's places.
    let given = |at: *mut off64_t| unsafe { at.as_ref() }.is_some_and(|place| *place != 0);
    let placed = given(from_at) || given(to_at);
    let at = |at| if placed { at } else { core::ptr::null_mut() };
    if !stage.owns(from) && !stage.owns(to) {
        // SAFETY: the kernel checks the caller's own arguments.
        return unsafe {
            libc::syscall(
                libc::SYS_splice,
                from,
                at(from_at),
                to,
                at(to_at),
                len,
                flags,
            ) as c_int
        };
    }
    // Neither end has a place to seek to.
    let moved = if placed {
        Err(Errno::SPIPE)
    } else {
        posix::splice(&mut stage.call(), from, to, len, flags)
    };
    report_int(moved.map(|n| n as c_int))
}
