//! SO_REUSEPORT and its programs: errors and choices are those a kernel was seen to give to the same calls.
#![allow(clippy::unwrap_used)]

use posix::{Errno, accept, bind, close, connect, listen, setsockopt, socket};

use interop::alone::{Alone, DATAGRAM, STREAM, V4, get, put, set, sockaddr};

const ATTACH: i32 = libc::SO_ATTACH_REUSEPORT_CBPF;
const DETACH: i32 = libc::SO_DETACH_REUSEPORT_BPF;
const RET_A: (u16, u32) = (0x16, 0);

fn program(steps: &[(u16, u32)]) -> Vec<u8> {
    let step = |(code, k): &(u16, u32)| {
        let [c0, c1] = code.to_ne_bytes();
        let [k0, k1, k2, k3] = k.to_ne_bytes();
        [c0, c1, 0, 0, k0, k1, k2, k3]
    };
    steps.iter().flat_map(step).collect()
}

fn ret(k: u32) -> Vec<u8> {
    program(&[(0x06, k)])
}

fn attach(world: &mut Alone, fd: i32, program: &[u8]) -> Result<(), Errno> {
    setsockopt(world, fd, libc::SOL_SOCKET, ATTACH, program)
}

fn detach(world: &mut Alone, fd: i32) -> Result<(), Errno> {
    set(world, fd, libc::SOL_SOCKET, DETACH, 0)
}

/// A socket that shares by these options (1: SO_REUSEADDR, 2: SO_REUSEPORT).
fn fresh(world: &mut Alone, kind: i32, shares: usize) -> i32 {
    let fd = socket(world, V4, kind | libc::SOCK_NONBLOCK, 0).unwrap();
    for (bit, name) in [(1, libc::SO_REUSEADDR), (2, libc::SO_REUSEPORT)] {
        if shares & bit != 0 {
            set(world, fd, libc::SOL_SOCKET, name, 1).unwrap();
        }
    }
    fd
}

/// Bound and, if it can, listening.
fn served(world: &mut Alone, kind: i32, shares: usize, at: &str) -> i32 {
    let fd = fresh(world, kind, shares);
    bind(world, fd, &sockaddr(at)).unwrap();
    if kind == STREAM {
        listen(world, fd, 5).unwrap();
    }
    fd
}

/// Who may (+) have the address of whom: old and new with nothing, SO_REUSEADDR, SO_REUSEPORT, both.
#[test]
fn who_may_share_is_linuxs() {
    for (kind, listens, seen) in [
        (STREAM, false, "-----+-+--++-+++"),
        (STREAM, true, "----------++--++"),
        (DATAGRAM, false, "-----+-+--++-+++"),
    ] {
        let mut fits = String::new();
        for (old, new) in (0..16).map(|n| (n / 4, n % 4)) {
            let world = &mut Alone::new();
            let (a, b) = (fresh(world, kind, old), fresh(world, kind, new));
            let at = sockaddr("127.0.0.1:6000");
            bind(world, a, &at).unwrap();
            if listens {
                listen(world, a, 5).unwrap();
            }
            let mut shared = bind(world, b, &at);
            if listens && shared.is_ok() {
                shared = listen(world, b, 5);
            }
            assert!(matches!(shared, Ok(()) | Err(Errno::ADDRINUSE)));
            fits.push(if shared.is_ok() { '+' } else { '-' });
        }
        assert_eq!(fits, seen, "kind {kind}, listening: {listens}");
    }
}

#[test]
fn programs_are_given_and_taken_as_on_linux() {
    for kind in [STREAM, DATAGRAM] {
        let world = &mut Alone::new();
        let plain = fresh(world, kind, 0);
        assert_eq!(attach(world, plain, &ret(0)), Err(Errno::INVAL));
        assert_eq!(detach(world, plain), Err(Errno::INVAL));
        let alone = fresh(world, kind, 2);
        assert_eq!(detach(world, alone), Err(Errno::NOENT));
        assert_eq!(attach(world, alone, &ret(0)), Ok(()));
        assert_eq!(detach(world, alone), Ok(()));
        assert_eq!(detach(world, alone), Err(Errno::NOENT));
        let bound = served(world, kind, 0, "127.0.0.1:5001");
        assert_eq!(attach(world, bound, &ret(0)), Err(Errno::INVAL));
        assert_eq!(detach(world, bound), Err(Errno::INVAL));
        set(world, bound, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1).unwrap();
        assert_eq!(attach(world, bound, &ret(0)), Err(Errno::INVAL));
        assert_eq!(detach(world, bound), Err(Errno::NOENT), "too late");
        let [a, b] = [0, 1].map(|_| served(world, kind, 2, "127.0.0.1:5002"));
        assert_eq!(detach(world, a), Err(Errno::NOENT));
        assert_eq!(attach(world, b, &ret(1)), Ok(()));
        assert_eq!(detach(world, a), Ok(()), "it is the group's");
        assert_eq!(detach(world, a), Err(Errno::NOENT));
        for bad in [
            program(&[]),
            program(&[(0x00, 1)]),
            program(&[(0x0e, 0)]),
            program(&[(0x34, 0), RET_A]),
            program(&[(0x60, 3), RET_A]),
            program(&[(0x05, 1), RET_A]),
            vec![0; 15],
        ] {
            assert_eq!(attach(world, a, &bad), Err(Errno::INVAL), "{bad:?}");
        }
    }
}

/// A datagram's first byte says whose it is; beyond the group, and of what is connected, it does not.
#[test]
fn a_program_sees_the_payload_of_datagrams() {
    let world = &mut Alone::new();
    let group = [0, 1, 2].map(|_| served(world, DATAGRAM, 2, "127.0.0.1:5002"));
    let client = fresh(world, DATAGRAM, 0);
    bind(world, client, &sockaddr("127.0.0.1:5009")).unwrap();
    connect(world, client, &sockaddr("127.0.0.1:5002")).unwrap();
    attach(world, group[0], &program(&[(0x30, 0), RET_A])).unwrap();
    let takers = |world: &mut Alone, payload: &[u8]| -> Vec<usize> {
        put(world, client, payload, 0).unwrap();
        let took = |n: &usize| get(world, group[*n], 9, 0).is_ok();
        (0..3).filter(took).collect()
    };
    assert_eq!(takers(world, &[0]), [0]);
    assert_eq!(takers(world, &[1]), [1]);
    assert_eq!(takers(world, &[2]), [2]);
    assert_eq!(takers(world, &[3]).len(), 1, "by the tuple");
    assert_eq!(takers(world, &[]), [0], "a load beyond the payload is 0");
    connect(world, group[2], &sockaddr("127.0.0.1:5009")).unwrap();
    assert_eq!(takers(world, &[0]), [2], "connected to the sender");
}

/// A program may be there before the group is, and its connections outlive who was to accept them.
#[test]
fn a_program_waits_for_its_group_and_connections_migrate() {
    let world = &mut Alone::new();
    let first = fresh(world, STREAM, 2);
    attach(world, first, &ret(0)).unwrap();
    bind(world, first, &sockaddr("127.0.0.1:80")).unwrap();
    listen(world, first, 5).unwrap();
    let second = served(world, STREAM, 2, "127.0.0.1:80");
    let client = socket(world, V4, STREAM, 0).unwrap();
    connect(world, client, &sockaddr("127.0.0.1:80")).unwrap();
    assert_eq!(accept(world, second, 0), Err(Errno::AGAIN));
    put(world, client, b"hello", 0).unwrap();
    close(world, first).unwrap();
    let (server, _) = accept(world, second, 0).unwrap();
    assert_eq!(get(world, server, 9, 0).unwrap(), b"hello");
}
