//! Signals that come while a call sleeps: they end poll and epoll, unless they are blocked meanwhile. And signals as what is waited
//! for: a signalfd in a set.
#![allow(clippy::unwrap_used)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::time::Duration;

use engine::ShardOptions;
use engine::port::ring;
use interop::alone::sockaddr;
use posix::{EpollEvent, Errno, Live, PollFd, epoll_create1, epoll_ctl, epoll_pwait2, epoll_wait};
use posix::{bind, ppoll, receive, send, socket};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use stack::Config;
use wire::Mac;

extern "C" fn nothing(_: libc::c_int) {}

fn alone() -> (Live, ring::RingPort) {
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let (port, other) = ring::pair(macs, &ring::RingOptions::default()).unwrap();
    let config = Config {
        pool_blocks: 1024,
        ..Config::default()
    };
    let live = Live::start(config, 7, ShardOptions::default(), |shard| {
        shard.add_port(Box::new(port)).map(|_| ())
    });
    (live.unwrap(), other)
}

#[test]
fn signals_end_waits_unless_they_are_blocked() {
    // SAFETY: all zeroes is a valid one: no flags, so that nothing is begun again.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: the handler touches nothing.
    let set = unsafe { libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()) };
    assert_eq!(set, 0);
    let (live, _other) = alone();
    let live = std::sync::Arc::new(live);
    let sets = epoll_create1(&mut live.call(), 0).unwrap();
    let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let wanted = EpollEvent {
        events: libc::EPOLLIN as u32,
        data: 5,
    };
    let number = event.as_raw_fd();
    epoll_ctl(
        &mut live.call(),
        sets,
        libc::EPOLL_CTL_ADD,
        number,
        Some(wanted),
    )
    .unwrap();
    let blocked = Some(1_u64 << (libc::SIGUSR1 - 1));
    for polls in [false, true] {
        for mask in [None, Some(0), blocked] {
            let world = live.clone();
            let waiter = std::thread::spawn(move || {
                let mut room = [EpollEvent::default(); 2];
                let mut fds = [PollFd {
                    fd: sets,
                    events: libc::POLLIN,
                    revents: 0,
                }];
                match polls {
                    true => ppoll(&mut world.call(), &mut fds, None, mask),
                    false => epoll_pwait2(&mut world.call(), sets, &mut room, None, mask),
                }
            });
            // Again and again: it may not sleep yet when the first comes.
            for _ in 0..500 {
                if waiter.is_finished() || (mask == blocked && event_is_due(&event)) {
                    break;
                }
                // SAFETY: the thread is not joined yet.
                unsafe { libc::pthread_kill(waiter.as_pthread_t(), libc::SIGUSR1) };
                std::thread::sleep(Duration::from_millis(2));
                if mask == blocked {
                    rustix::io::write(&event, &1_u64.to_ne_bytes()).unwrap();
                }
            }
            let expected = match mask == blocked {
                true => Ok(1),
                false => Err(Errno::INTR),
            };
            assert_eq!(waiter.join().unwrap(), expected, "{polls} {mask:?}");
            if mask == blocked {
                rustix::io::read(&event, &mut [0; 8]).unwrap();
            }
        }
    }
}

/// A signalfd of one signal, which is blocked in the calling thread alone: whoever is sent it there finds it by the descriptor.
fn signal_descriptor(signal: libc::c_int) -> OwnedFd {
    // SAFETY: all zeroes is a valid set.
    let mut set: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: the set is this function's.
    let added = unsafe { libc::sigaddset(&mut set, signal) };
    // SAFETY: nobody asks for the mask there was.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) };
    let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
    // SAFETY: the set outlives the call.
    let fd = unsafe { libc::signalfd(-1, &set, flags) };
    assert!(added == 0 && blocked == 0 && fd >= 0);
    // SAFETY: it was made now, and is nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A set of a socket, a timer and a signalfd: each is told, one sleep is for all of them.
#[test]
fn a_set_hears_of_signals_beside_sockets() {
    let (live, _other) = alone();
    let sets = epoll_create1(&mut live.call(), 0).unwrap();
    let datagrams = socket(&mut live.call(), libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    let at = sockaddr("127.0.0.1:53");
    bind(&mut live.call(), datagrams, &at).unwrap();
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK);
    let timer = timer.unwrap();
    let signal = libc::SIGRTMIN() + 5;
    let signals = signal_descriptor(signal);
    let (s, t) = (signals.as_raw_fd(), timer.as_raw_fd());
    for fd in [datagrams, t, s] {
        let wanted = Some(EpollEvent {
            events: libc::EPOLLIN as u32,
            data: fd as u64,
        });
        epoll_ctl(&mut live.call(), sets, libc::EPOLL_CTL_ADD, fd, wanted).unwrap();
    }
    let wait = |timeout: i32| {
        let mut room = [EpollEvent::default(); 4];
        let told = epoll_wait(&mut live.call(), sets, &mut room, timeout).unwrap();
        let mut told: Vec<i32> = room[..told].iter().map(|event| event.data as i32).collect();
        told.sort_unstable();
        told
    };
    assert_eq!(wait(0), []);
    // SAFETY: the thread is this one, which lives until the test ends.
    let own = unsafe { libc::pthread_self() };
    let raise = || {
        // SAFETY: the thread whose number it is waits for whoever calls this.
        assert_eq!(unsafe { libc::pthread_kill(own, signal) }, 0);
    };
    // It comes while the set sleeps, mostly.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            raise();
        });
        assert_eq!(wait(-1), [s]);
    });
    let data = [std::io::IoSlice::new(b"data")];
    send(&mut live.call(), datagrams, &data, 0, Some(&at)).unwrap();
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: 0,
            tv_nsec: 1,
        },
    };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once).unwrap();
    while wait(-1).len() < 3 {}
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    assert_eq!(rustix::io::read(&signals, &mut info), Ok(info.len()));
    assert_eq!(info[..4], signal.to_ne_bytes(), "ssi_signo");
    rustix::io::read(&timer, &mut [0; 8]).unwrap();
    assert_eq!(wait(-1), [datagrams]);
    let mut buffer = [0; 9];
    let pieces = &mut [std::io::IoSliceMut::new(&mut buffer)];
    assert_eq!(
        receive(&mut live.call(), datagrams, pieces, 0).unwrap().len,
        4
    );
    assert_eq!(wait(0), []);
}

fn event_is_due(event: &std::os::fd::OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(
        event,
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::time::Timespec::default();
    rustix::event::poll(&mut fds, Some(&now)) == Ok(1)
}
