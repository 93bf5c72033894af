//! ARP and NDP against the kernel's: both resolve, notice changes, and defend their addresses.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use base::Facts;
use interop::kernel::Pinger;
use interop::{Cable, Family, Fate, PATIENCE, Recorder, Setup, Way, frames, kernel};
use netns::{in_private, link, sysctl};
use stack::{Count, NeighbourState};
use wire::{Addr, Cidr, EtherType, Mac, arp};

/// linux/neighbour.h
const NUD_REACHABLE: u16 = 2;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Calls `f` until it gives something.
fn eventually<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = f() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kernels_entry(link: &str, address: IpAddr) -> Option<link::Neighbour> {
    let all = link::neighbours(link).unwrap();
    all.into_iter().find(|n| n.address == address)
}

#[test]
fn the_kernel_resolves_the_host() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            for family in Family::BOTH {
                Pinger::new(family).ping(family.host(), b"who has?");
                let entry = kernels_entry(machine.link(), family.host()).unwrap();
                assert_eq!(entry.mac, Some([2, 0x77, 0, 0, 0, 2]));
                assert_eq!(entry.state, NUD_REACHABLE, "{family:?}");
            }
        }
    });
}

#[test]
fn the_host_resolves_the_kernel() {
    in_private!(|| {
        for cable in Cable::all() {
            let recorder = Recorder::default();
            let machine = Setup::on(cable).policy(recorder.policy()).start();
            let own = Mac(link::facts(machine.link()).unwrap().mac);
            for family in Family::BOTH {
                let listener = std::net::TcpListener::bind(family.kernel_port(80)).unwrap();
                let _ = machine.connect(family.kernel_port(80), None).unwrap();
                // No more of this connection than is asked for here: its end would reach into the next cable's test.
                let (accepted, _) = listener.accept().unwrap();
                kernel::reset_on_close(&accepted);
                let known = machine.call(move |turn| {
                    let mut all = turn.host.neighbours(turn.now);
                    all.find(|n| n.addr == Addr::from(family.kernel()))
                });
                let known = known.unwrap();
                assert_eq!(known.mac, Some(own));
                assert_eq!(known.state, NeighbourState::Reachable, "{family:?}");
                let asked = recorder.take().into_iter().any(|(way, frame)| {
                    way == Way::Out
                        && match family {
                            Family::V4 => frames::arp(&frame).is_some_and(|a| {
                                a.op == arp::Operation::Request
                                    && Addr::from_v4(a.target_ip) == Addr::from(family.kernel())
                            }),
                            Family::V6 => frames::icmpv6(&frame)
                                .is_some_and(|(kind, _)| kind == NEIGHBOUR_SOLICITATION),
                        }
                });
                assert!(asked, "the host sent no question for {family:?}");
            }
        }
    });
}

#[test]
fn a_change_of_the_kernels_address_is_noticed() {
    in_private!(|| {
        let machine = Setup::on(Cable::usual())
            .prepare(|link| {
                // Announce the new address as soon as it is there.
                sysctl(&format!("ipv4/conf/{link}/arp_notify"), "1").unwrap();
                sysctl(&format!("ipv6/conf/{link}/ndisc_notify"), "1").unwrap();
            })
            .start();
        for family in Family::BOTH {
            Pinger::new(family).ping(family.host(), b"first");
        }
        let new = [2, 0, 0, 0xaa, 0xbb, 0xcc];
        link::set_mac(machine.link(), new).unwrap();
        for family in Family::BOTH {
            let seen = machine.wait("the host to hear of the new address", move |turn| {
                let mut all = turn.host.neighbours(turn.now);
                let entry = all.find(|n| n.addr == Addr::from(family.kernel()))?;
                (entry.mac == Some(Mac(new))).then_some(entry.state)
            });
            // RFC 4861 7.2.5: what was not asked for proves nothing of the way back.
            assert_eq!(seen, NeighbourState::Stale, "{family:?}");
            Pinger::new(family).ping(family.host(), b"second");
        }
    });
}

#[test]
fn the_host_announces_and_claims_its_addresses() {
    in_private!(Duration::from_secs(90), || {
        let recorder = Recorder::default();
        let _machine = Setup::on(Cable::usual())
            .config(|c| c.duplicate_detection = true)
            .policy(recorder.policy())
            .start();
        let own: [u8; 4] = [10, 77, 0, 2];
        eventually("ARP probes, then announcements", || {
            let out = recorder.frames(Way::Out);
            let arps: Vec<_> = out.iter().filter_map(|f| frames::arp(f)).collect();
            let probes = arps
                .iter()
                .filter(|a| a.sender_ip == [0; 4] && a.target_ip == own)
                .count();
            let announcements = arps
                .iter()
                .filter(|a| a.sender_ip == own && a.target_ip == own)
                .count();
            (probes >= 3 && announcements >= 2).then_some(())
        });
        // RFC 4862 5.4.2: a solicitation from the unspecified address for the address itself.
        let wanted = Addr::from(Family::V6.host());
        let probed = recorder.frames(Way::Out).iter().any(|f| {
            frames::ip(f).is_some_and(|ip| ip.src == Addr::UNSPECIFIED_V6)
                && frames::icmpv6(f)
                    .is_some_and(|(kind, m)| kind == NEIGHBOUR_SOLICITATION && m[8..24] == wanted.0)
        });
        assert!(probed, "no duplicate address detection for {wanted}");
        for family in Family::BOTH {
            Pinger::new(family).ping(family.host(), b"claimed");
        }
    });
}

#[test]
fn the_host_defends_its_addresses() {
    in_private!(|| {
        let recorder = Recorder::default();
        let machine = Setup::on(Cable::usual()).policy(recorder.policy()).start();
        // IPv6: the kernel itself looks for a duplicate, and finds one.
        sysctl(&format!("ipv6/conf/{}/accept_dad", machine.link()), "1").unwrap();
        sysctl(&format!("ipv6/conf/{}/dad_transmits", machine.link()), "1").unwrap();
        link::claim_addr(machine.link(), Family::V6.host(), 64).unwrap();
        eventually("the kernel to find the duplicate", || {
            let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap();
            let line = table
                .lines()
                .find(|l| l.starts_with("fd770000000000000000000000000002"))?;
            // index, prefix, scope, flags: IFA_F_DADFAILED is 8.
            let flags = line.split_whitespace().nth(4)?;
            (u8::from_str_radix(flags, 16).unwrap() & 8 != 0).then_some(())
        });
        // IPv4: the kernel does not probe, so a frame does it (RFC 5227 2.1.1).
        let stranger = Mac([2, 0, 0, 0, 0, 0x55]);
        let probe = arp::Repr {
            op: arp::Operation::Request,
            sender_mac: stranger,
            sender_ip: [0; 4],
            target_mac: Mac::ZERO,
            target_ip: [10, 77, 0, 2],
        };
        let mut bytes = vec![0; probe.buffer_len()];
        probe.emit(&mut bytes);
        let frame = frames::ethernet(stranger, Mac::BROADCAST, EtherType::ARP, &bytes);
        let _ = recorder.take();
        machine.call(move |turn| turn.inject(&frame));
        eventually("the host to answer the probe", || {
            let out = recorder.frames(Way::Out);
            let mut arps = out.iter().filter_map(|f| frames::arp(f));
            arps.find(|a| {
                a.op == arp::Operation::Reply
                    && a.sender_ip == [10, 77, 0, 2]
                    && a.target_mac == stranger
            })
        });
    });
}

#[test]
fn the_host_gives_up_an_address_the_kernel_has() {
    in_private!(Duration::from_secs(90), || {
        let recorder = Recorder::default();
        let machine = Setup::on(Cable::usual())
            .config(|c| c.duplicate_detection = true)
            .policy(recorder.policy())
            .start();
        machine.call(|turn| {
            for family in Family::BOTH {
                // The same addresses, on a longer prefix so that the routes differ.
                let taken = Cidr::new(Addr::from(family.kernel()), family.prefix()).unwrap();
                turn.host
                    .add_address(turn.now, turn.interface, taken)
                    .unwrap();
            }
        });
        machine.wait("two conflicts", |turn| {
            let conflicts = turn.host.stats().counts.get(Count::AddressConflict);
            (conflicts >= 2).then_some(())
        });
        // It has not answered for them.
        let answered = recorder.frames(Way::Out).iter().any(|f| {
            frames::arp(f).is_some_and(|a| a.sender_ip == [10, 77, 0, 1])
                || frames::icmpv6(f).is_some_and(|(kind, m)| {
                    kind == NEIGHBOUR_ADVERTISEMENT && m[8..24] == Addr::from(Family::V6.kernel()).0
                })
        });
        assert!(!answered);
        let socket = std::net::TcpListener::bind(Family::V4.kernel_port(80)).unwrap();
        drop(socket);
    });
}

#[test]
fn a_neighbour_that_is_silent_is_given_up_and_found_again() {
    in_private!(Duration::from_secs(90), || {
        let silent = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let switch = silent.clone();
        let machine = Setup::on(Cable::usual())
            .policy(move |way, _: &[u8], _: &Facts| {
                if way == Way::In && switch.load(std::sync::atomic::Ordering::Relaxed) {
                    Fate::Drop
                } else {
                    Fate::Pass
                }
            })
            .start();
        for family in Family::BOTH {
            let error = machine.connect(family.kernel_port(80), None).unwrap_err();
            assert_eq!(error, stack::SocketError::HostUnreachable, "{family:?}");
        }
        silent.store(false, std::sync::atomic::Ordering::Relaxed);
        for family in Family::BOTH {
            let listener = std::net::TcpListener::bind(family.kernel_port(80)).unwrap();
            let socket = machine.connect(family.kernel_port(80), None).unwrap();
            listener.accept().unwrap();
            machine.close(socket);
            kernel::Pinger::new(family).ping(family.host(), b"back again");
        }
    });
}
