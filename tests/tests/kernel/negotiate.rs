//! What the two ends agree on: MSS, window scaling, timestamps, SACK, and the path's MTU.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::Facts;
use interop::{
    Cable, Family, Fate, Pattern, Plan, Policy, Recorder, Setup, Streams, Way, all_ended, frames,
    kernel,
};
use netns::socket::tcp_info;
use netns::{in_private, link, sysctl};
use stack::{MtuDiscover, SocketError, UdpOptions};
use wire::tcp::Flags;

const LIMIT: Duration = Duration::from_secs(120);

/// Payload of each segment a frame stands for, and their number of bytes of IP.
fn segment_of(frame: &[u8], facts: &Facts) -> Option<(usize, usize)> {
    let segment = frames::tcp(frame)?;
    let headers = segment.ip.len - segment.payload.len();
    let payload = if facts.gso.is_none() {
        segment.payload.len()
    } else {
        segment.payload.len().min(facts.gso.size.into())
    };
    Some((payload, headers + payload))
}

#[test]
fn options_of_today_are_agreed_on() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            let listener = machine.listen(7, 16);
            for family in Family::BOTH {
                let mss = (1500 - family.header() - 20) as u32;
                for host_opens in [false, true] {
                    let (socket, peer) = machine.join((listener, 7), family, host_opens);
                    let theirs = tcp_info(&peer).unwrap();
                    let ours = machine.call(move |turn| turn.host.tcp_info(socket).unwrap());
                    assert!(theirs.timestamps && theirs.sack && theirs.window_scaling);
                    assert!(ours.timestamps && ours.sack);
                    let shifts = ours.window_scales;
                    assert_eq!(shifts, (theirs.rcv_wscale, theirs.snd_wscale));
                    // 12 bytes are the timestamps'.
                    assert_eq!((theirs.advmss, theirs.snd_mss), (mss - 12, mss - 12));
                    assert_eq!(ours.mss, mss - 12);
                    // A window that only scaling can announce.
                    assert!(ours.receive_window > 65_535 || ours.window_scales.1 > 0);
                    machine.close(socket);
                    drop(peer);
                }
            }
            machine.drain();
        }
    });
}

#[test]
fn a_kernel_without_them_is_served_as_well() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            for family in Family::BOTH {
                for off in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling", ""] {
                    for setting in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"] {
                        let on = if off.is_empty() || off == setting {
                            "0"
                        } else {
                            "1"
                        };
                        sysctl(&format!("ipv4/{setting}"), on).unwrap();
                    }
                    let machine = Setup::on(cable).start();
                    let listener = machine.listen(7, 16);
                    let peer = kernel::connect(family.host_port(7));
                    let socket = machine.accept(listener);
                    let ours = machine.call(move |turn| turn.host.tcp_info(socket).unwrap());
                    let without = |setting: &str| off.is_empty() || off == setting;
                    assert_eq!(ours.timestamps, !without("tcp_timestamps"));
                    assert_eq!(ours.sack, !without("tcp_sack"));
                    if without("tcp_window_scaling") {
                        assert_eq!(ours.window_scales, (0, 0));
                    }
                    let (app, ended) = Streams::of(&[socket], Plan::Echo);
                    machine.run(app);
                    kernel::echo(&peer, Pattern(1), 1 << 20);
                    all_ended(&ended, 1);
                    machine.drain();
                }
            }
        }
    });
}

#[test]
fn no_segment_exceeds_the_peers_mss() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            // To the kernel, the way to this host is a link of 1300 bytes.
            let (seen, longest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (announced, sent) = (seen.clone(), longest.clone());
            let machine = Setup::on(cable)
                .policy(move |way, frame: &[u8], facts: &Facts| {
                    if let (Some(segment), Some((payload, _))) =
                        (frames::tcp(frame), segment_of(frame, facts))
                    {
                        match way {
                            Way::In if segment.flags.contains(Flags::SYN) => {
                                let mss = segment.options.mss.unwrap_or(536);
                                announced.store(mss.into(), Ordering::Relaxed);
                            }
                            Way::Out => {
                                let with_timestamps = payload as u64 + 12;
                                sent.fetch_max(with_timestamps, Ordering::Relaxed);
                            }
                            Way::In => {}
                        }
                    }
                    Fate::Pass
                })
                .start();
            let listener = machine.listen(7, 16);
            let (app, ended) = Streams::serve(listener, Plan::Echo);
            machine.run(app);
            for family in Family::BOTH {
                let prefix = if family == Family::V4 { 32 } else { 128 };
                link::add_route_with_mtu(machine.link(), family.host(), prefix, 1300).unwrap();
                longest.store(0, Ordering::Relaxed);
                let socket = kernel::connect(family.host_port(7));
                kernel::echo(&socket, Pattern(1), 2 << 20);
                all_ended(&ended, 1);
                let mss = seen.load(Ordering::Relaxed);
                assert_eq!(mss as usize, 1300 - family.header() - 20);
                assert_eq!(longest.load(Ordering::Relaxed), mss, "{family:?}");
            }
            machine.drain();
        }
    });
}

#[test]
fn the_kernel_honours_the_hosts_mss() {
    in_private!(|| {
        let machine = Setup::on(Cable::usual()).start();
        for family in Family::BOTH {
            let listener = TcpListener::bind(family.kernel_port(0)).unwrap();
            let to = listener.local_addr().unwrap();
            let mut options = machine.call(|turn| turn.host.tcp_defaults());
            options.max_segment = Some(700);
            let socket = machine.connect(to, Some(options)).unwrap();
            let (peer, _) = listener.accept().unwrap();
            assert_eq!(tcp_info(&peer).unwrap().snd_mss, 700 - 12);
            assert_eq!(
                machine.call(move |turn| turn.host.tcp_info(socket).unwrap().mss),
                700 - 12
            );
            let (app, ended) = Streams::of(&[socket], Plan::Echo);
            machine.run(app);
            kernel::echo(&peer, Pattern(1), 500_000);
            all_ended(&ended, 1);
        }
        machine.drain();
    });
}

#[test]
fn jumbo_frames_pass() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            for mtu in [1280, 9000, 65_521] {
                let machine = Setup::on(cable).mtu(mtu).start();
                let listener = machine.listen(7, 16);
                let (app, ended) = Streams::serve(listener, Plan::Echo);
                machine.run(app);
                for family in Family::BOTH {
                    kernel::Pinger::new(family).ping(family.host(), &Pattern(1).bytes(20_000));
                    let socket = kernel::connect(family.host_port(7));
                    kernel::echo(&socket, Pattern(1), 3 << 20);
                    all_ended(&ended, 1);
                }
                machine.drain();
                let host = machine.stop();
                assert_eq!(host.pool().in_use(), 0, "blocks are left over");
            }
        }
    });
}

/// A router in the middle whose next link, either way, carries `mtu` bytes once `narrow` is set.
fn narrow_link(mtu: u16, narrow: Arc<AtomicBool>, bounced: Arc<AtomicU64>) -> impl Policy {
    move |_, frame: &[u8], facts: &Facts| {
        let Some(ip) = frames::ip(frame) else {
            return Fate::Pass;
        };
        let len = segment_of(frame, facts).map_or(ip.len, |(_, len)| len);
        if len <= mtu.into() || !ip.dont_fragment || !narrow.load(Ordering::Relaxed) {
            return Fate::Pass;
        }
        bounced.fetch_add(1, Ordering::Relaxed);
        Fate::Bounce(frames::too_big(frame, mtu).unwrap())
    }
}

#[test]
fn a_path_that_narrows_is_noticed_by_both() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            for family in Family::BOTH {
                let (narrow, bounced) = (Arc::default(), Arc::default());
                let policy = narrow_link(1300, Arc::clone(&narrow), Arc::clone(&bounced));
                let machine = Setup::on(cable).policy(policy).start();
                let listener = machine.listen(7, 16);
                let peer = kernel::connect(family.host_port(7));
                let socket = machine.accept(listener);
                let total = 2 << 20;
                let plan = Plan::Exchange {
                    send: (Pattern(1), total),
                    expect: (Pattern(2), total),
                };
                // Half of it before the path narrows.
                kernel::send(&peer, Pattern(2), 0);
                narrow.store(true, Ordering::Relaxed);
                let (app, ended) = Streams::of(&[socket], plan);
                machine.run(app);
                kernel::exchange(&peer, (Pattern(2), total), (Pattern(1), total));
                all_ended(&ended, 1);
                assert!(bounced.load(Ordering::Relaxed) >= 2, "nothing was too big");
                let theirs = tcp_info(peer.as_fd()).unwrap();
                assert_eq!(theirs.pmtu, 1300);
                // What was learnt is used from the start by the next one.
                bounced.store(0, Ordering::Relaxed);
                let peer = kernel::connect(family.host_port(7));
                let socket = machine.accept(listener);
                let ours = machine.call(move |turn| turn.host.tcp_info(socket).unwrap());
                assert_eq!(ours.mss as usize, 1300 - family.header() - 20 - 12);
                let (app, ended) = Streams::of(&[socket], Plan::Echo);
                machine.run(app);
                kernel::echo(&peer, Pattern(3), 300_000);
                all_ended(&ended, 1);
                assert_eq!(bounced.load(Ordering::Relaxed), 0);
                machine.drain();
            }
        }
    });
}

#[test]
fn datagrams_learn_the_paths_mtu() {
    in_private!(|| {
        for family in Family::BOTH {
            let (narrow, bounced) = (Arc::new(AtomicBool::new(true)), Arc::default());
            let policy = narrow_link(1300, narrow, Arc::clone(&bounced));
            let machine = Setup::on(Cable::plain()).policy(policy).start();
            let peer = kernel::udp(family);
            let to = peer.local_addr().unwrap();
            let options = UdpOptions {
                mtu_discover: MtuDiscover::Do,
                mtu_discover_v6: MtuDiscover::Do,
                ..UdpOptions::default()
            };
            let socket = machine.call(move |turn| {
                let local = family.host_port(0);
                turn.host.udp_bind(turn.now, local, &options).unwrap()
            });
            let data = Pattern(1).bytes(1400);
            let copy = data.clone();
            let first =
                machine.call(move |turn| turn.host.udp_send_to(turn.now, socket, &copy, Some(to)));
            assert_eq!(first, Ok(1400));
            let copy = data.clone();
            let refused = machine.wait("the path's MTU to be learnt", move |turn| {
                turn.host
                    .udp_send_to(turn.now, socket, &copy, Some(to))
                    .err()
            });
            assert_eq!(refused, SocketError::MessageTooLong);
            assert!(bounced.load(Ordering::Relaxed) > 0);
            // With leave to fragment it goes through.
            let copy = data.clone();
            machine.call(move |turn| {
                turn.host
                    .udp_set_options(socket, |o| {
                        (o.mtu_discover, o.mtu_discover_v6) =
                            (MtuDiscover::Want, MtuDiscover::Want);
                    })
                    .unwrap();
                turn.host
                    .udp_send_to(turn.now, socket, &copy, Some(to))
                    .unwrap();
            });
            let mut buffer = [0; 2000];
            let (n, from) = peer.recv_from(&mut buffer).unwrap();
            assert!(buffer[..n] == data);

            // The kernel learns it as well: its first datagram is lost, the next comes in fragments.
            peer.send_to(&data, from).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            peer.send_to(&data, from).unwrap();
            let got = machine.wait("the kernel's datagram", move |turn| {
                let mut buffer = [0; 2000];
                let (n, _) = turn.host.udp_recv_from(socket, &mut buffer).ok()?;
                Some(buffer[..n].to_vec())
            });
            assert!(got == data);
        }
    });
}

#[test]
fn fragments_for_a_narrow_route_are_put_together() {
    in_private!(|| {
        for cable in Cable::all() {
            let recorder = Recorder::default();
            let machine = Setup::on(cable).policy(recorder.policy()).start();
            for family in Family::BOTH {
                let prefix = if family == Family::V4 { 32 } else { 128 };
                link::add_route_with_mtu(machine.link(), family.host(), prefix, 1280).unwrap();
                let mut pinger = kernel::Pinger::new(family);
                pinger.ping(family.host(), &Pattern(2).bytes(5000));
                let pieces = recorder
                    .take()
                    .iter()
                    .filter(|(way, f)| {
                        *way == Way::In && frames::ip(f).is_some_and(|ip| ip.fragment)
                    })
                    .count();
                // 5008 bytes in pieces of 1256, or of 1232 where each has a header more.
                let wanted = if family == Family::V4 { 4 } else { 5 };
                assert_eq!(pieces, wanted, "{family:?}");
            }
        }
    });
}
