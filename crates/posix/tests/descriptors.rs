//! What happens when the process has no descriptors left: a test by itself, for that is so for all of it.
#![allow(clippy::unwrap_used)]

use posix::{Errno, accept, bind, close, connect, listen, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use interop::alone::{Alone, STREAM, V4, get, put, sockaddr};

#[test]
fn a_connection_for_which_there_is_no_descriptor_waits() {
    let world = &mut Alone::new();
    let listener = socket(world, V4, STREAM, 0).unwrap();
    bind(world, listener, &sockaddr("127.0.0.1:80")).unwrap();
    listen(world, listener, 8).unwrap();
    let client = socket(world, V4, STREAM, 0).unwrap();
    connect(world, client, &sockaddr("127.0.0.1:80")).unwrap();
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(client as u64),
        ..before
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let full = [0; 2].map(|_| accept(world, listener, 0));
    let made = socket(world, V4, STREAM, 0);
    setrlimit(Resource::Nofile, before).unwrap();
    assert_eq!((full, made), ([Err(Errno::MFILE); 2], Err(Errno::MFILE)));
    let (server, _) = accept(world, listener, 0).unwrap();
    assert_eq!(put(world, client, b"still here", 0), Ok(10));
    assert_eq!(get(world, server, 100, 0).unwrap(), b"still here");
    for fd in [server, client, listener] {
        close(world, fd).unwrap();
    }
}
