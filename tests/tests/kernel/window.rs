//! Windows that close and open again, and peers that say nothing.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base::Facts;
use interop::{
    Cable, Family, Fate, Pattern, Plan, Recorder, Setup, Streams, Way, all_ended, frames, kernel,
};
use netns::in_private;
use netns::socket::tcp_info;
use rustix::net::sockopt;
use stack::{Count, Keepalive, SocketError};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_kernel_that_stops_reading_is_waited_for() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            let listener = machine.listen(7, 16);
            for family in Family::BOTH {
                let peer = kernel::connect(family.host_port(7));
                let socket = machine.accept(listener);
                let total = 16 << 20;
                let plan = Plan::Exchange {
                    send: (Pattern(1), total),
                    expect: (Pattern(2), 0),
                };
                let probes =
                    machine.call(|turn| turn.host.stats().counts.get(Count::TcpWindowProbes));
                let (app, ended) = Streams::of(&[socket], plan);
                machine.run(app);
                // The first probe of a closed window comes after a retransmission timeout.
                machine.wait("a closed window and two probes", move |turn| {
                    let window = turn.host.tcp_info(socket).unwrap().send_window;
                    let now = turn.host.stats().counts.get(Count::TcpWindowProbes);
                    (window == 0 && now >= probes + 2).then_some(())
                });
                let resumed = Instant::now();
                peer.shutdown(std::net::Shutdown::Write).unwrap();
                kernel::expect(&peer, Pattern(1), total);
                all_ended(&ended, 1);
                assert!(resumed.elapsed() < Duration::from_secs(10));
            }
            machine.drain();
        }
    });
}

#[test]
fn a_host_that_stops_reading_is_waited_for() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            let listener = machine.listen(7, 16);
            for family in Family::BOTH {
                let peer = kernel::connect(family.host_port(7));
                let socket = machine.accept(listener);
                let total = 16 << 20;
                let twin = peer.try_clone().unwrap();
                let sender = std::thread::spawn(move || {
                    kernel::send(&twin, Pattern(1), total);
                    twin.shutdown(std::net::Shutdown::Write).unwrap();
                });
                let full = machine.wait("a full buffer", move |turn| {
                    let info = turn.host.tcp_info(socket).unwrap();
                    (info.receive_window < info.mss).then_some(info.unread)
                });
                // It stays so, while the kernel probes.
                std::thread::sleep(Duration::from_millis(1200));
                let later = machine.call(move |turn| turn.host.tcp_info(socket).unwrap());
                assert!(later.receive_window < later.mss);
                let limit = machine.call(move |turn| turn.host.tcp_receive_limit(socket).unwrap());
                // Windows are rounded up to the unit of their scale, a sixteenth of the buffer in all at most.
                let most = limit + limit / 16;
                assert!(
                    full <= later.unread && later.unread <= most,
                    "{full} bytes, then {} of {most}",
                    later.unread
                );
                // Reading opens the window at once: no probe is waited for.
                let resumed = Instant::now();
                let plan = Plan::Exchange {
                    send: (Pattern(2), 0),
                    expect: (Pattern(1), total),
                };
                let (app, ended) = Streams::of(&[socket], plan);
                machine.run(app);
                all_ended(&ended, 1);
                sender.join().unwrap();
                assert!(resumed.elapsed() < Duration::from_secs(10));
                assert_eq!((&peer).read(&mut [0; 1]).unwrap(), 0);
            }
            machine.drain();
            let host = machine.stop();
            assert_eq!(host.pool().in_use(), 0, "blocks are left over");
        }
    });
}

#[test]
fn a_reader_in_small_steps_gets_no_silly_windows() {
    in_private!(LIMIT, || {
        let recorder = Recorder::default();
        let machine = Setup::on(Cable::plain()).policy(recorder.policy()).start();
        let listener = machine.listen(7, 16);
        for family in Family::BOTH {
            let peer = kernel::connect(family.host_port(7));
            let socket = machine.accept(listener);
            let total = 4 << 20;
            let twin = peer.try_clone().unwrap();
            let sender = std::thread::spawn(move || kernel::send(&twin, Pattern(1), total));
            machine.wait("a full buffer", move |turn| {
                let info = turn.host.tcp_info(socket).unwrap();
                (info.receive_window < info.mss).then_some(())
            });
            std::thread::sleep(Duration::from_millis(50));
            let _ = recorder.take();
            // A hundred bytes at a time, but the right edge of the window moves by whole segments (RFC 9293 3.8.6.2.2).
            for n in 0..200 {
                let got = machine.receive(socket, 100).unwrap();
                Pattern(1).check(n * 100, &got).unwrap();
            }
            std::thread::sleep(Duration::from_millis(50));
            let ours = machine.call(move |turn| turn.host.tcp_info(socket).unwrap());
            let scale = ours.window_scales.1;
            let edges: Vec<u32> = recorder
                .take()
                .iter()
                .filter(|(way, _)| *way == Way::Out)
                .filter_map(|(_, f)| frames::tcp(f))
                .map(|s| s.ack.wrapping_add(u32::from(s.window) << scale))
                .collect();
            let mut moves = 0;
            for pair in edges.windows(2) {
                let step = pair[1].wrapping_sub(pair[0]);
                assert!(
                    step < 1 << scale || step >= ours.mss,
                    "the window opened by {step} bytes over {family:?}"
                );
                moves += u32::from(step >= ours.mss);
            }
            assert!(
                (10..=15).contains(&moves),
                "{moves} openings for 20,000 bytes"
            );
            machine.call(move |turn| turn.host.abort(turn.now, socket).unwrap());
            // Reset: the sender's panic is as it should be.
            sender.join().unwrap_err();
            drop(peer);
        }
        machine.drain();
    });
}

#[test]
fn the_kernels_keepalive_is_answered() {
    in_private!(|| {
        for family in Family::BOTH {
            let recorder = Recorder::default();
            let machine = Setup::on(Cable::usual()).policy(recorder.policy()).start();
            let listener = machine.listen(7, 16);
            let peer = kernel::connect(family.host_port(7));
            let socket = machine.accept(listener);
            sockopt::set_tcp_keepidle(&peer, Duration::from_secs(1)).unwrap();
            sockopt::set_tcp_keepintvl(&peer, Duration::from_secs(1)).unwrap();
            sockopt::set_tcp_keepcnt(&peer, 2).unwrap();
            sockopt::set_socket_keepalive(&peer, true).unwrap();
            let _ = recorder.take();
            // Unanswered, this would end it after three.
            std::thread::sleep(Duration::from_millis(4500));
            let segments: Vec<_> = recorder.take();
            let of = |wanted: Way| {
                let these = segments.iter().filter(|(way, _)| *way == wanted);
                these.filter_map(|(_, f)| frames::tcp(f)).count()
            };
            assert!(of(Way::In) >= 3 && of(Way::Out) >= 3);
            let (app, ended) = Streams::of(&[socket], Plan::Echo);
            machine.run(app);
            kernel::echo(&peer, Pattern(1), 1000);
            all_ended(&ended, 1);
        }
    });
}

#[test]
fn the_hosts_keepalive_is_answered_and_notices_a_dead_peer() {
    in_private!(|| {
        for family in Family::BOTH {
            let cut = Arc::new(AtomicBool::new(false));
            let switch = Arc::clone(&cut);
            let machine = Setup::on(Cable::usual())
                .policy(move |way, _: &[u8], _: &Facts| {
                    if way == Way::Out && switch.load(Ordering::Relaxed) {
                        Fate::Drop
                    } else {
                        Fate::Pass
                    }
                })
                .start();
            let listener = TcpListener::bind(family.kernel_port(0)).unwrap();
            let mut options = machine.call(|turn| turn.host.tcp_defaults());
            options.keepalive = Some(Keepalive {
                idle: Duration::from_secs(1),
                interval: Duration::from_millis(500),
                probes: 3,
            });
            let socket = machine
                .connect(listener.local_addr().unwrap(), Some(options))
                .unwrap();
            let (peer, _) = listener.accept().unwrap();
            std::thread::sleep(Duration::from_millis(3500));
            let probes =
                machine.call(|turn| turn.host.stats().counts.get(Count::TcpKeepaliveProbes));
            assert!((2..=4).contains(&probes), "{probes} probes in 3.5 s");
            assert_eq!(tcp_info(&peer).unwrap().state, 1);

            cut.store(true, Ordering::Relaxed);
            let start = Instant::now();
            let error = machine.receive(socket, 1).unwrap_err();
            assert_eq!(error, SocketError::TimedOut, "{family:?}");
            assert!(start.elapsed() < Duration::from_secs(6));
            machine.close(socket);
            machine.drain();
        }
    });
}

#[test]
fn unanswered_data_end_a_connection_after_the_user_timeout() {
    in_private!(|| {
        for family in Family::BOTH {
            let cut = Arc::new(AtomicBool::new(false));
            let switch = Arc::clone(&cut);
            let machine = Setup::on(Cable::usual())
                .policy(move |_, _: &[u8], _: &Facts| {
                    if switch.load(Ordering::Relaxed) {
                        Fate::Drop
                    } else {
                        Fate::Pass
                    }
                })
                .start();
            let listener = TcpListener::bind(family.kernel_port(0)).unwrap();
            let mut options = machine.call(|turn| turn.host.tcp_defaults());
            options.user_timeout = Some(Duration::from_secs(2));
            let socket = machine
                .connect(listener.local_addr().unwrap(), Some(options))
                .unwrap();
            cut.store(true, Ordering::Relaxed);
            let start = Instant::now();
            machine.send_all(socket, vec![1; 1000]);
            let error = machine.receive(socket, 1).unwrap_err();
            assert_eq!(error, SocketError::TimedOut, "{family:?}");
            let took = start.elapsed();
            assert!(
                took > Duration::from_millis(1800) && took < Duration::from_secs(6),
                "{took:?}"
            );
            machine.close(socket);
            machine.drain();
            let host = machine.stop();
            assert_eq!(host.pool().in_use(), 0, "blocks are left over");
        }
    });
}
