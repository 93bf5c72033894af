//! The object, loaded and called as packetdrill does: a handshake, a transfer, a timeout, a call that waits.
#![allow(clippy::unwrap_used)]

use core::ffi::{CStr, c_int, c_void};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use libc::{sockaddr, socklen_t, ssize_t};
use wire::tcp::{Flags, Options, Repr};
use wire::{Addr, checksum, ipv4, ipv6, protocol};

type User = *mut c_void;
/// A function this test does not call.
type Unused = *const c_void;

/// packetdrill's table, in its order.
#[repr(C)]
#[derive(Clone, Copy)]
struct Interface {
    userdata: User,
    free: Unused,
    socket: extern "C" fn(User, c_int, c_int, c_int) -> c_int,
    bind: extern "C" fn(User, c_int, *const sockaddr, socklen_t) -> c_int,
    listen: extern "C" fn(User, c_int, c_int) -> c_int,
    accept: extern "C" fn(User, c_int, *mut sockaddr, *mut socklen_t) -> c_int,
    connect: Unused,
    read: extern "C" fn(User, c_int, *mut c_void, usize) -> ssize_t,
    unused: [Unused; 4],
    write: extern "C" fn(User, c_int, *const c_void, usize) -> ssize_t,
    unused2: [Unused; 4],
    fcntl: extern "C" fn(User, c_int, c_int, ...) -> c_int,
    ioctl: Unused,
    close: extern "C" fn(User, c_int) -> c_int,
    shutdown: Unused,
    getsockopt: extern "C" fn(User, c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    setsockopt: Unused,
    poll: Unused,
    netdev_send: extern "C" fn(User, *const c_void, usize) -> c_int,
    netdev_receive: extern "C" fn(User, *mut c_void, *mut usize, *mut i64) -> c_int,
    usleep: extern "C" fn(User, u32) -> c_int,
    gettimeofday: extern "C" fn(User, *mut libc::timeval, *mut c_void) -> c_int,
    unused3: [Unused; 5],
}

// SAFETY: the functions may be called from any thread, and there is no user data.
unsafe impl Send for Interface {}
// SAFETY: as above.
unsafe impl Sync for Interface {}

/// The shared object. Cargo does not build one for a test, which cannot link it; so this asks for it.
fn object() -> &'static Path {
    static OBJECT: OnceLock<PathBuf> = OnceLock::new();
    OBJECT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "packetdrill",
                "--target-dir",
            ])
            .arg(target)
            .status();
        assert!(built.unwrap().success(), "the object is built");
        target.join("debug/libmillstream_packetdrill.so")
    })
}

fn load() -> Interface {
    let path = CString::new(object().to_str().unwrap()).unwrap();
    let flags = libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE | libc::RTLD_DEEPBIND;
    // SAFETY: a C string; what the object runs when it is loaded is our own.
    let handle = unsafe { libc::dlopen(path.as_ptr(), flags) };
    assert!(!handle.is_null(), "{}", failure());
    let name = c"packetdrill_interface_init";
    // SAFETY: a handle that was opened, and a C string.
    let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
    assert!(!symbol.is_null(), "{}", failure());
    type Init = unsafe extern "C" fn(*const core::ffi::c_char, *mut Interface);
    // SAFETY: the symbol's type, as packetdrill declares it.
    let init: Init = unsafe { core::mem::transmute(symbol) };
    let mut table = core::mem::MaybeUninit::uninit();
    let flags = c"mtu=1500,address=192.168.0.1/16,address=fd3d:0a0b:17d6::1/64";
    // SAFETY: a C string, and a place for the table.
    unsafe { init(flags.as_ptr(), table.as_mut_ptr()) };
    // SAFETY: the object has filled it.
    unsafe { table.assume_init() }
}

fn failure() -> String {
    // SAFETY: asked right after a failure, in the thread that had it.
    let text = unsafe { libc::dlerror() };
    // SAFETY: the message is a C string until the next failure.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// One stage for all tests of this process, one test at a time.
fn stage() -> (Interface, std::sync::MutexGuard<'static, ()>) {
    static TABLE: OnceLock<Interface> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    (*TABLE.get_or_init(load), turn)
}

const NONE: User = core::ptr::null_mut();

/// The ends of a script's connection.
#[derive(Clone, Copy)]
struct Ends {
    own: Addr,
    peer: Addr,
    port: u16,
}

fn v4(port: u16) -> Ends {
    Ends {
        own: Addr::v4(192, 168, 0, 1),
        peer: Addr::v4(192, 0, 2, 1),
        port,
    }
}

fn v6(port: u16) -> Ends {
    Ends {
        own: "fd3d:0a0b:17d6::1".parse().unwrap(),
        peer: "fd3d:fa7b:d17d::1".parse().unwrap(),
        port,
    }
}

impl Interface {
    fn arrive(&self, ends: Ends, seq: u32, ack: Option<u32>, flags: Flags, data: &[u8]) {
        let repr = Repr {
            src_port: 5000,
            dst_port: ends.port,
            seq,
            ack,
            flags,
            window: 65_535,
            urgent: 0,
            options: Options::default(),
        };
        let (src, dst) = (ends.peer, ends.own);
        let mut tcp = vec![0; repr.header_len()];
        repr.emit(&mut tcp);
        tcp.extend_from_slice(data);
        let sum = checksum::pseudo(&src, &dst, protocol::TCP, tcp.len() as u32)
            .add_bytes(&tcp)
            .finish();
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0; if src.is_v4() { 20 } else { 40 }];
        if src.is_v4() {
            ipv4::Repr::new(src, dst, protocol::TCP, 64, tcp.len()).emit(&mut packet);
        } else {
            ipv6::Repr::new(src, dst, protocol::TCP, 64, tcp.len()).emit(&mut packet);
        }
        packet.extend_from_slice(&tcp);
        assert_eq!(
            (self.netdev_send)(NONE, packet.as_ptr().cast(), packet.len()),
            0
        );
    }

    /// The next packet out: sequence, acknowledgment, flags, payload, and when.
    fn depart(&self) -> Option<(u32, u32, Flags, Vec<u8>, i64)> {
        let (mut buffer, mut len, mut at) = (vec![0_u8; 65_536], 65_536, 0);
        let result = (self.netdev_receive)(NONE, buffer.as_mut_ptr().cast(), &mut len, &mut at);
        assert_eq!(result, 0);
        if len == 0 {
            return None;
        }
        let packet = &buffer[..len];
        let segment = if packet[0] >> 4 == 4 {
            ipv4::Packet::new(packet).unwrap().payload()
        } else {
            ipv6::Packet::new(packet).unwrap().payload()
        };
        let tcp = wire::tcp::Packet::new(segment).unwrap();
        let data = tcp.payload().to_vec();
        Some((tcp.seq(), tcp.ack(), tcp.flags(), data, at))
    }

    fn now(&self) -> i64 {
        let mut time = libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        };
        assert_eq!((self.gettimeofday)(NONE, &mut time, NONE), 0);
        time.tv_sec * 1_000_000 + time.tv_usec
    }

    fn listen(&self, ends: Ends) -> c_int {
        let domain = if ends.own.is_v4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let fd = (self.socket)(NONE, domain, libc::SOCK_STREAM, 0);
        assert!(fd >= 0);
        let mut bytes = [0_u8; 28];
        bytes[..2].copy_from_slice(&(domain as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&ends.port.to_be_bytes());
        let len = if ends.own.is_v4() { 16 } else { 28 };
        assert_eq!((self.bind)(NONE, fd, bytes.as_ptr().cast(), len), 0);
        assert_eq!((self.listen)(NONE, fd, 1), 0);
        fd
    }

    /// The peer connects: our initial sequence number.
    fn handshake(&self, ends: Ends) -> u32 {
        self.arrive(ends, 0, None, Flags::SYN, &[]);
        let (iss, ack, flags, _, _) = self.depart().expect("a SYN-ACK");
        assert_eq!((ack, flags), (1, Flags(0x12)));
        self.arrive(ends, 1, Some(iss + 1), Flags(0), &[]);
        iss
    }

    fn read(&self, fd: c_int) -> Vec<u8> {
        let mut buffer = vec![0_u8; 4096];
        let n = (self.read)(NONE, fd, buffer.as_mut_ptr().cast(), buffer.len());
        buffer.truncate(usize::try_from(n).expect("no error"));
        buffer
    }

    fn write(&self, fd: c_int, data: &[u8]) {
        let n = (self.write)(NONE, fd, data.as_ptr().cast(), data.len());
        assert_eq!(usize::try_from(n), Ok(data.len()));
    }

    fn accept(&self, fd: c_int) -> c_int {
        (self.accept)(NONE, fd, core::ptr::null_mut(), core::ptr::null_mut())
    }
}

#[test]
fn a_handshake_and_a_transfer_in_both_families() {
    let (pd, _turn) = stage();
    for ends in [v4(8080), v6(8081)] {
        let listener = pd.listen(ends);
        let iss = pd.handshake(ends);
        let fd = pd.accept(listener);
        assert!(fd > listener);
        pd.arrive(ends, 1, Some(iss + 1), Flags::PSH, b"question");
        assert_eq!(pd.read(fd), b"question");
        let (_, ack, _, data, _) = pd.depart().expect("an ACK");
        assert_eq!((ack, data.len()), (9, 0));
        pd.write(fd, b"answer");
        let (seq, _, _, data, at) = pd.depart().unwrap();
        assert_eq!((seq, &data[..]), (iss + 1, &b"answer"[..]));
        assert!(pd.now() - at < 100, "it left when it was written");
        pd.arrive(ends, 9, Some(iss + 7), Flags(0), &[]);
        let mut info = [0_u8; 280];
        let mut len = info.len() as socklen_t;
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        (pd.getsockopt)(NONE, fd, level, name, info.as_mut_ptr().cast(), &mut len);
        assert_eq!((info[0], len), (1, 280), "established");
        for fd in [fd, listener] {
            assert_eq!((pd.close)(NONE, fd), 0);
        }
        let (_, _, flags, _, _) = pd.depart().expect("a FIN");
        assert!(flags.contains(Flags::FIN));
        pd.arrive(ends, 9, Some(iss + 8), Flags::RST, &[]);
    }
}

#[test]
fn what_is_not_acknowledged_comes_again_later_and_later() {
    let (pd, _turn) = stage();
    let ends = v4(8082);
    let listener = pd.listen(ends);
    let iss = pd.handshake(ends);
    let fd = pd.accept(listener);
    pd.write(fd, b"lost");
    let times: Vec<i64> = (0..4)
        .map(|_| {
            let (seq, _, _, data, at) = pd.depart().expect("it comes again");
            assert_eq!((seq, &data[..]), (iss + 1, &b"lost"[..]));
            at
        })
        .collect();
    let gaps: Vec<i64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(
        gaps[0] >= 200_000,
        "never sooner than the least timeout: {gaps:?}"
    );
    for pair in gaps.windows(2) {
        assert!((pair[1] - 2 * pair[0]).abs() < 10_000, "doubled: {gaps:?}");
    }
    pd.arrive(ends, 1, Some(iss + 1), Flags::RST, &[]);
    for fd in [fd, listener] {
        assert_eq!((pd.close)(NONE, fd), 0);
    }
    assert_eq!(
        pd.depart(),
        None,
        "nothing more will ever come, which is said at once"
    );
}

/// Scripts are written in the super-frames of Linux: at most half the congestion window in each, and each pushed.
#[test]
fn a_long_write_leaves_in_super_frames() {
    let (pd, _turn) = stage();
    let ends = v4(8084);
    let listener = pd.listen(ends);
    let iss = pd.handshake(ends);
    let fd = pd.accept(listener);
    pd.write(fd, &[7; 10_000]);
    for half in 0..2 {
        let (seq, _, flags, data, _) = pd.depart().unwrap();
        assert_eq!((seq, data.len()), (iss + 1 + half * 5 * 536, 5 * 536));
        assert!(flags.contains(Flags::PSH));
    }
    pd.arrive(ends, 1, Some(iss + 1), Flags::RST, &[]);
    for fd in [fd, listener] {
        assert_eq!((pd.close)(NONE, fd), 0);
    }
}

/// What `nstat` would read of one counter.
fn counter(name: &str) -> u64 {
    let ours = |path: &std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|at| at.to_string_lossy().contains("netstat"))
    };
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let path = open.map(|entry| entry.unwrap().path()).find(ours);
    let text = std::fs::read_to_string(path.expect("the counters' file")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split(' ').collect()).collect();
    let [names, numbers] = &lines[..] else {
        panic!("two lines: {text}");
    };
    assert_eq!((names[0], numbers[0]), ("TcpExt:", "TcpExt:"));
    assert_eq!(names.len(), numbers.len());
    let at = names.iter().position(|n| *n == name).unwrap();
    numbers[at].parse().unwrap()
}

/// Scripts ask `nstat` for what was counted: it is shown a file like /proc/net/netstat.
#[test]
fn commands_of_a_script_see_the_counters() {
    let (pd, _turn) = stage();
    let ends = v4(8086);
    let listener = pd.listen(ends);
    let before = counter("TCPTimeouts");
    let iss = pd.handshake(ends);
    let fd = pd.accept(listener);
    pd.write(fd, &[7; 100]);
    for sent in 0..3 {
        assert_eq!(pd.depart().unwrap().0, iss + 1);
        assert_eq!(counter("TCPTimeouts"), before + sent);
    }
    pd.arrive(ends, 1, Some(iss + 1), Flags::RST, &[]);
    for fd in [fd, listener] {
        assert_eq!((pd.close)(NONE, fd), 0);
    }
}

#[test]
fn a_call_that_waits_ends_at_the_moment_it_was_waiting_for() {
    let (pd, _turn) = stage();
    let ends = v4(8083);
    let listener = pd.listen(ends);
    let waiter = std::thread::spawn(move || {
        let fd = pd.accept(listener);
        (fd, pd.now())
    });
    // packetdrill looks into /proc for this; a look at the clock does not disturb.
    std::thread::sleep(core::time::Duration::from_millis(50));
    (pd.usleep)(NONE, 30_000);
    let before = pd.now();
    let iss = pd.handshake(ends);
    // However long this thread sleeps, the other finds the clock where it was woken.
    (pd.usleep)(NONE, 10_000_000);
    let (fd, ended) = waiter.join().unwrap();
    assert!(fd >= 0);
    assert!((0..1_000).contains(&(ended - before)), "{before} {ended}");
    assert_eq!((pd.fcntl)(NONE, fd, libc::F_SETFL, libc::O_NONBLOCK), 0);
    let mut byte = 0_u8;
    assert_eq!((pd.read)(NONE, fd, (&raw mut byte).cast(), 1), -1);
    assert_eq!(
        std::io::Error::last_os_error().raw_os_error(),
        Some(libc::EAGAIN)
    );
    pd.arrive(ends, 1, Some(iss + 1), Flags::RST, &[]);
    for fd in [fd, listener] {
        assert_eq!((pd.close)(NONE, fd), 0);
    }
}

#[test]
fn descriptors_are_real_ones() {
    let (pd, _turn) = stage();
    let fd = (pd.socket)(NONE, libc::AF_INET, libc::SOCK_STREAM, 0);
    let path = format!("/proc/self/fd/{fd}");
    let target = std::fs::read_link(path).unwrap();
    assert!(target.to_string_lossy().contains("eventfd"), "{target:?}");
    assert_eq!((pd.close)(NONE, fd), 0);
    assert_eq!((pd.close)(NONE, fd), -1);
}

/// Whoever accepts to a place that is none loses the connection, and nothing else.
#[test]
fn who_accepts_to_nowhere_keeps_no_descriptor() {
    let (pd, _turn) = stage();
    let ends = v4(8098);
    let listener = pd.listen(ends);
    pd.handshake(ends);
    let lowest = || {
        let fd = (pd.socket)(NONE, libc::AF_INET, libc::SOCK_STREAM, 0);
        (pd.close)(NONE, fd);
        fd
    };
    let before = lowest();
    let (wild, mut len) = (16 as *mut sockaddr, 16);
    assert_eq!((pd.accept)(NONE, listener, wild, &raw mut len), -1);
    let error = std::io::Error::last_os_error().raw_os_error();
    assert_eq!(error, Some(libc::EFAULT));
    let (_, _, flags, _, _) = pd.depart().unwrap();
    assert!(flags.contains(Flags::FIN), "{flags:?}");
    assert_eq!(lowest(), before);
    (pd.close)(NONE, listener);
    while pd.depart().is_some() {}
}

/// A descriptor closed by another way than the script's calls is given again: what it stood for ends then.
#[test]
fn what_was_closed_behind_our_back_ends_when_its_number_is_given_again() {
    let (pd, _turn) = stage();
    let ends = v4(8097);
    let listener = pd.listen(ends);
    pd.handshake(ends);
    let fd = pd.accept(listener);
    // SAFETY: a descriptor of this process, which nobody else uses.
    assert_eq!(unsafe { libc::close(fd) }, 0);
    let next = (pd.socket)(NONE, libc::AF_INET, libc::SOCK_STREAM, 0);
    assert_eq!(next, fd);
    let (_, _, flags, _, _) = pd.depart().unwrap();
    assert!(flags.contains(Flags::FIN), "{flags:?}");
    (pd.close)(NONE, next);
    (pd.close)(NONE, listener);
    while pd.depart().is_some() {}
}

/// Wild pointers are errors of the call, not the end of the process; what is wrong with the socket is told first.
#[test]
fn wild_pointers_are_faults() {
    let (pd, _turn) = stage();
    let ends = v4(8099);
    let listener = pd.listen(ends);
    let wild = 16 as *mut c_void;
    let failed = |result: ssize_t| {
        assert_eq!(result, -1);
        std::io::Error::last_os_error().raw_os_error().unwrap()
    };
    assert_eq!(failed((pd.read)(NONE, 9999, wild, 5)), libc::EBADF);
    assert_eq!(failed((pd.write)(NONE, 9999, wild, 5)), libc::EBADF);
    assert_eq!(failed((pd.write)(NONE, listener, wild, 5)), libc::EPIPE);
    let bound = (pd.bind)(NONE, listener, wild.cast(), 16);
    assert_eq!(failed(bound as ssize_t), libc::EFAULT);
    let iss = pd.handshake(ends);
    let fd = pd.accept(listener);
    const LEN: usize = 1 << 21;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: pages of our own, that can be read only.
    let pages = unsafe { libc::mmap(core::ptr::null_mut(), LEN, libc::PROT_READ, flags, -1, 0) };
    assert_ne!(pages, libc::MAP_FAILED);
    let last = pages.wrapping_byte_add(LEN - 4096);
    // SAFETY: the last of them is taken away.
    assert_eq!(unsafe { libc::munmap(last, 4096) }, 0);
    assert_eq!(failed((pd.write)(NONE, fd, pages, LEN)), libc::EFAULT);
    assert_eq!((pd.write)(NONE, fd, pages, 100), 100);
    assert_eq!(pd.depart().unwrap().3.len(), 100);
    pd.arrive(ends, 1, Some(iss + 101), Flags::PSH, b"data");
    assert_eq!(failed((pd.read)(NONE, fd, pages, 10)), libc::EFAULT);
    assert_eq!(pd.read(fd), b"data", "it is still there");
    (pd.close)(NONE, fd);
    (pd.close)(NONE, listener);
    while pd.depart().is_some() {}
}
