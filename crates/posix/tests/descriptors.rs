//! What happens when the process has no descriptors left: a test by itself, for that is so for all of it.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use posix::{Errno, accept, bind, close, connect, listen, socket};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use interop::alone::{Alone, DATAGRAM, STREAM, V4, get, put, sockaddr};

/// Does something while the process can have no further descriptor.
fn without<T>(act: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..before
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let done = act();
    setrlimit(Resource::Nofile, before).unwrap();
    done
}

#[test]
fn whoever_has_no_descriptor_left_is_told_so() {
    a_connection_for_which_there_is_none_waits();
    it_is_taken_before_anybody_looks_for_a_connection();
}

fn a_connection_for_which_there_is_none_waits() {
    let world = &mut Alone::new();
    let listener = socket(world, V4, STREAM, 0).unwrap();
    bind(world, listener, &sockaddr("127.0.0.1:80")).unwrap();
    listen(world, listener, 8).unwrap();
    let client = socket(world, V4, STREAM, 0).unwrap();
    connect(world, client, &sockaddr("127.0.0.1:80")).unwrap();
    let (full, made) = without(|| {
        let full = [0; 2].map(|_| accept(world, listener, 0));
        (full, socket(world, V4, STREAM, 0))
    });
    assert_eq!((full, made), ([Err(Errno::MFILE); 2], Err(Errno::MFILE)));
    let (server, _) = accept(world, listener, 0).unwrap();
    assert_eq!(put(world, client, b"still here", 0), Ok(10));
    assert_eq!(get(world, server, 100, 0).unwrap(), b"still here");
    for fd in [server, client, listener] {
        close(world, fd).unwrap();
    }
}

/// A listener for whom nobody waits, a stream and a datagram socket that do not listen, and a file: what accept says of each,
/// with flags as they are and unknown. The kernel's own are of a kind that needs no network.
fn it_is_taken_before_anybody_looks_for_a_connection() {
    let world = &mut Alone::new();
    let new = |world: &mut Alone, kind| socket(world, V4, kind | libc::SOCK_NONBLOCK, 0).unwrap();
    let (listener, fresh) = (new(world, STREAM), new(world, STREAM));
    let datagrams = new(world, DATAGRAM);
    bind(world, listener, &sockaddr("127.0.0.1:80")).unwrap();
    listen(world, listener, 8).unwrap();
    let kernel = |kind| {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        net::socket_with(AddressFamily::UNIX, kind, flags, None).unwrap()
    };
    let kinds = [SocketType::STREAM, SocketType::STREAM, SocketType::DGRAM];
    let [theirs, idle, messages] = kinds.map(kernel);
    net::bind(&theirs, &SocketAddrUnix::new_unnamed()).unwrap();
    net::listen(&theirs, 8).unwrap();
    let file = OwnedFd::from(File::open("/proc/self/exe").unwrap());
    let ours = [listener, fresh, datagrams, file.as_raw_fd()];
    let theirs = [theirs, idle, messages, file];
    let mut play = |flags: u32| {
        let kernels = theirs.each_ref().map(|fd| {
            let told = net::accept_with(fd, SocketFlags::from_bits_retain(flags));
            told.map(drop).map_err(|error| Errno(error.raw_os_error()))
        });
        let ours = ours.map(|fd| accept(world, fd, flags as i32).map(drop));
        (ours, kernels)
    };
    for flags in [0, 1 << 20] {
        let (ours, kernels) = play(flags);
        assert_eq!(ours, kernels, "{flags}");
        let (ours, kernels) = without(|| play(flags));
        assert_eq!(ours, kernels, "{flags}, no descriptor left");
        let first = [Errno::MFILE, Errno::INVAL][usize::from(flags != 0)];
        assert_eq!(ours, [Err(first); 4]);
    }
}
