//! Signals that come while a call sleeps: they end poll and epoll, unless they are blocked meanwhile.
#![allow(clippy::unwrap_used)]

use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::time::Duration;

use engine::ShardOptions;
use engine::port::ring;
use posix::{EpollEvent, Errno, Live, PollFd, epoll_create1, epoll_ctl, epoll_pwait2, ppoll};
use rustix::event::{EventfdFlags, eventfd};
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

fn event_is_due(event: &std::os::fd::OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(
        event,
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::time::Timespec::default();
    rustix::event::poll(&mut fds, Some(&now)) == Ok(1)
}
