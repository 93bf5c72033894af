//! The TAP port against the kernel on its other end.

use std::net::{SocketAddr, UdpSocket};

use crate::common::*;
use base::{Batch, Chain, Checksum, GsoKind, Packet, Pool};
use netns::{Namespace, in_private, link};
use port::tap::{Tap, TapOptions};
use port::{Drop, Port};
use wire::{Addr, Mac, checksum, protocol};

#[test]
fn the_kernel_answers() {
    in_private!(|| {
        let options = TapOptions {
            mtu: Some(9000),
            ..TapOptions::default()
        };
        let mut tap = or_skip(Tap::new("mill%d", &options));
        assert_eq!(tap.facts().name, "mill0");
        assert_eq!(tap.facts().mtu, 9000);
        assert_eq!(link::facts("mill0").unwrap().mtu, 9000);
        assert!(
            tap.facts().offloads.tso4
                && tap.facts().offloads.tso6
                && tap.facts().max_frame > 65_535
        );
        assert_ne!(tap.facts().mac, kernel_mac("mill0"));
        assert!(tap.facts().mac.is_locally_administered() && !tap.facts().mac.is_multicast());
        let mut pool = Pool::new(256).unwrap();
        configure("mill0", 1);
        kernel_answers(
            &mut tap,
            &mut pool,
            kernel_mac("mill0"),
            &[0, 1, 56, 2006, 2007, 4054, 8972],
        );
        let counters = tap.counters();
        assert_eq!((counters.tx_frames, counters.drops.total()), (8, 0));
        assert!(counters.rx_frames >= 8 && counters.rx_bytes > 17_000);
        tap.release(&mut pool);
        assert_eq!((pool.in_use(), pool.segments_in_use()), (0, 0));
        drop(tap);
        assert!(
            link::facts("mill0").is_err(),
            "the device goes with its port"
        );
    });
}

#[test]
fn udp_from_the_kernel_has_a_partial_checksum_that_completes() {
    in_private!(|| {
        let mut tap = tap("mill0");
        let mut pool = Pool::new(256).unwrap();
        configure("mill0", 1);
        link::add_neighbour("mill0", v4(2), tap.facts().mac.0).unwrap();
        link::add_neighbour("mill0", v6(2), tap.facts().mac.0).unwrap();
        for (own, peer, header) in [(v4(1), v4(2), 34u16), (v6(1), v6(2), 54)] {
            let socket = UdpSocket::bind((own, 0)).unwrap();
            socket.send_to(b"some words", (peer, 9)).unwrap();
            let (mut frame, facts) =
                receive(&mut tap, &mut pool, |f, _| f.ends_with(b"some words"));
            assert_eq!(
                facts.checksum,
                Checksum::Partial {
                    start: header,
                    offset: 6
                }
            );
            assert_eq!(facts.gso.kind, GsoKind::None);
            // What the device was spared: the sum from `start` to the end, which includes the pseudo-header's.
            let at = usize::from(header);
            let sum = checksum::Sum::new().add_bytes(&frame[at..]).finish();
            frame[at + 6..at + 8].copy_from_slice(&sum.to_be_bytes());
            let len = (frame.len() - at) as u32;
            let all = checksum::pseudo(&Addr::from(own), &Addr::from(peer), protocol::UDP, len);
            assert_eq!(all.add_bytes(&frame[at..]).finish(), 0);

            // 20 datagrams of 1000 bytes as one frame.
            if tap.facts().offloads.uso && set_udp_segment(&socket, 1000) {
                socket.send_to(&[7; 20_000], (peer, 9)).unwrap();
                let (frame, facts) = receive(&mut tap, &mut pool, |f, _| f.len() > 10_000);
                assert_eq!(frame.len(), at + 8 + 20_000);
                assert_eq!((facts.gso.kind, facts.gso.size), (GsoKind::Udp, 1000));
                assert_eq!(facts.gso.header_len, header + 8);
            }
        }
    });
}

#[test]
fn the_kernel_completes_a_partial_checksum_and_cuts_a_super_frame() {
    in_private!(|| {
        let mut tap = tap("mill0");
        let mut pool = Pool::new(256).unwrap();
        configure("mill0", 1);
        let (host, kernel) = (tap.facts().mac, kernel_mac("mill0"));
        let socket = UdpSocket::bind((v4(1), 9)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let data: Vec<u8> = (0..5000).map(|i| (i % 251) as u8).collect();
        for (len, gso) in [(10, 0), (1400, 0), (5000, 1250)] {
            let total = 8 + len;
            let mut datagram = [0, 5, 0, 9, (total >> 8) as u8, total as u8, 0, 0].to_vec();
            let (src, dst) = (Addr::from_v4(HOST), Addr::from_v4(KERNEL));
            let pseudo = checksum::pseudo(&src, &dst, protocol::UDP, total as u32).fold();
            datagram[6..8].copy_from_slice(&pseudo.to_be_bytes());
            datagram.extend_from_slice(&data[..len]);
            let mut packet = Packet::default();
            pool.append_bytes(
                &mut packet.chain,
                &ipv4_frame(host, kernel, protocol::UDP, &datagram),
            );
            packet.facts.checksum = Checksum::Partial {
                start: 34,
                offset: 6,
            };
            if gso > 0 {
                if !tap.facts().offloads.uso {
                    pool.free(packet.chain);
                    continue;
                }
                packet.facts.gso = base::Gso {
                    kind: GsoKind::Udp,
                    size: gso as u16,
                    header_len: 42,
                };
            }
            send_packet(&mut tap, &mut pool, packet);
            let mut buffer = [0; 9000];
            let size = if gso > 0 { gso } else { len };
            for at in (0..len).step_by(size) {
                let (n, from) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!((n, from), (size, SocketAddr::new(v4(2), 5)));
                assert_eq!(buffer[..n], data[at..at + size]);
            }
        }
    });
}

#[test]
fn two_kernels_talk_through_two_taps_in_super_frames() {
    in_private!(|| talk_in_super_frames(&TapOptions::default()));
}

#[test]
fn two_kernels_that_poll_their_ends_talk_in_super_frames() {
    in_private!(|| talk_in_super_frames(&TapOptions::busy_poll()));
}

fn talk_in_super_frames(options: &TapOptions) {
    let far = Namespace::new().unwrap();
    let mut a = or_skip(Tap::new("mill0", options));
    let mut b = far.run(|| or_skip(Tap::new("mill1", options))).unwrap();
    configure("mill0", 1);
    far.run(|| configure("mill1", 2)).unwrap();
    let mut pool = Pool::new(8192).unwrap();
    traffic_by((&mut a, &mut b), &mut pool, &far, 16);
    for port in [&mut a, &mut b] {
        let c = port.counters();
        assert!(c.rx_bytes / c.rx_frames > 4000, "super-frames: {c:?}");
        assert_eq!(c.drops.total(), 0, "{c:?}");
        port.release(&mut pool);
    }
    assert_eq!((pool.in_use(), pool.segments_in_use()), (0, 0));
}

#[test]
fn without_offloads_every_frame_fits_the_mtu_and_is_complete() {
    in_private!(|| {
        let far = Namespace::new().unwrap();
        let plain = TapOptions {
            offloads: false,
            ..TapOptions::default()
        };
        let mut a = or_skip(Tap::new("mill0", &plain));
        let mut b = far.run(|| or_skip(Tap::new("mill1", &plain))).unwrap();
        assert_eq!(a.facts().offloads, base::Offloads::NONE);
        assert_eq!(a.facts().max_frame, 1518);
        configure("mill0", 1);
        far.run(|| configure("mill1", 2)).unwrap();
        let mut pool = Pool::new(2048).unwrap();
        traffic_by((&mut a, &mut b), &mut pool, &far, 2);
        let c = a.counters();
        assert!(c.rx_bytes / c.rx_frames <= 1514);
        assert_eq!(c.drops.total(), 0, "{c:?}");
    });
}

#[test]
fn a_frame_of_hundreds_of_pieces_is_sent_whole() {
    in_private!(|| {
        let options = TapOptions {
            mtu: Some(9000),
            ..TapOptions::default()
        };
        let mut tap = or_skip(Tap::new("mill0", &options));
        let mut pool = Pool::new(1024).unwrap();
        configure("mill0", 1);
        let (host, kernel) = (tap.facts().mac, kernel_mac("mill0"));
        kernel_answers(&mut tap, &mut pool, kernel, &[]);
        for (seq, pieces) in [(1, 2), (2, 200), (3, 600)] {
            let data: Vec<u8> = (0..7 * pieces).map(|i| i as u8).collect();
            let mut packet = Packet::default();
            for piece in ping(host, kernel, seq, &data).chunks(7) {
                let mut one = pool.alloc(3).unwrap();
                pool.append_bytes(&mut one, piece);
                pool.append(&mut packet.chain, one);
            }
            send_packet(&mut tap, &mut pool, packet);
            let (reply, _) = receive(&mut tap, &mut pool, |f, _| pong(f, seq).is_some());
            assert_eq!(pong(&reply, seq).unwrap(), data);
        }
    });
}

#[test]
fn flows_spread_over_the_queues_of_one_device() {
    in_private!(|| {
        let mut queues = or_skip(Tap::queues("mill0", 2, &TapOptions::default()));
        assert_eq!(queues.len(), 2);
        assert_eq!(queues[1].facts().name, "mill0");
        assert_eq!((queues[1].facts().queue, queues[1].facts().queues), (1, 2));
        assert_eq!(queues[0].facts().mac, queues[1].facts().mac);
        configure_quiet("mill0", 1);
        link::add_neighbour("mill0", v4(2), queues[0].facts().mac.0).unwrap();
        for _ in 0..64 {
            UdpSocket::bind((v4(1), 0))
                .unwrap()
                .send_to(b"x", (v4(2), 9))
                .unwrap();
        }
        let mut pool = Pool::new(256).unwrap();
        let mut batch = Batch::new();
        let got: Vec<usize> = queues
            .iter_mut()
            .map(|q| q.receive(&mut pool, &mut batch))
            .collect();
        assert_eq!(got.iter().sum::<usize>(), 64, "{got:?}");
        assert!(got.iter().all(|&n| n > 8), "{got:?}");
        batch.clear(&mut pool);
        // A third program may not take it as a device of one queue.
        let e = Tap::new("mill0", &TapOptions::default()).err().unwrap();
        assert!(
            e.to_string()
                .contains("mill0 exists and is not a TAP with one queue"),
            "{e}"
        );
    });
}

#[test]
fn what_cannot_be_sent_is_counted_and_freed() {
    in_private!(|| {
        let mut tap = tap("mill0");
        let mut pool = Pool::new(256).unwrap();
        let host = tap.facts().mac;
        send(&mut tap, &mut pool, &arp_request(host));
        assert_eq!(
            tap.counters().drops.get(Drop::TxDown),
            1,
            "it was never switched on"
        );
        configure_quiet("mill0", 1);
        send_packet(&mut tap, &mut pool, Packet::new(Chain::EMPTY));
        send(&mut tap, &mut pool, &[0; 70_000]);
        assert_eq!(tap.counters().drops.get(Drop::TxLength), 2);
        let mut packet = Packet::default();
        pool.append_bytes(&mut packet.chain, &arp_request(host));
        packet.facts.checksum = Checksum::Partial {
            start: 40,
            offset: 1,
        };
        send_packet(&mut tap, &mut pool, packet);
        assert_eq!(tap.counters().drops.get(Drop::TxDescription), 1);
        send(&mut tap, &mut pool, &[0; 5]);
        assert_eq!(
            tap.counters().drops.get(Drop::TxRefused),
            1,
            "shorter than an Ethernet header"
        );
        assert_eq!(tap.counters().tx_frames, 0);
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn an_empty_pool_leaves_frames_in_the_kernel() {
    in_private!(|| {
        let mut tap = tap("mill0");
        let mut pool = Pool::new(3).unwrap();
        configure_quiet("mill0", 1);
        link::add_neighbour("mill0", v4(2), tap.facts().mac.0).unwrap();
        let socket = UdpSocket::bind((v4(1), 0)).unwrap();
        let mut batch = Batch::new();
        for i in 0..5u8 {
            socket.send_to(&[i; 10], (v4(2), 9)).unwrap();
        }
        assert_eq!(tap.receive(&mut pool, &mut batch), 3);
        assert_eq!(
            (tap.counters().rx_stalls, tap.counters().drops.total()),
            (1, 0)
        );
        assert_eq!(tap.receive(&mut pool, &mut batch), 0);
        batch.clear(&mut pool);
        assert_eq!(tap.receive(&mut pool, &mut batch), 2, "they were not lost");
        assert_eq!(bytes(&pool, batch.get(1).unwrap())[42..], [4; 10]);
        // A frame longer than all there is cannot be had in part.
        socket.send_to(&[9; 1400], (v4(2), 9)).unwrap();
        socket.send_to(&[1; 5], (v4(2), 9)).unwrap();
        assert_eq!(tap.receive(&mut pool, &mut batch), 1);
        batch.clear(&mut pool);
        assert_eq!(tap.receive(&mut pool, &mut batch), 1);
        batch.clear(&mut pool);
        if tap.facts().offloads.uso && set_udp_segment(&socket, 1000) {
            socket.send_to(&[7; 20_000], (v4(2), 9)).unwrap();
            assert_eq!(tap.receive(&mut pool, &mut batch), 0);
            assert_eq!(tap.counters().drops.get(Drop::RxNoMemory), 1);
        }
        tap.release(&mut pool);
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn a_removed_device_is_noticed() {
    in_private!(|| {
        let mut tap = tap("mill0");
        let mut pool = Pool::new(64).unwrap();
        let mut batch = Batch::new();
        configure("mill0", 1);
        assert!(tap.failure().is_none() && tap.sleep_fd().is_some());
        link::delete("mill0").unwrap();
        assert_eq!(tap.receive(&mut pool, &mut batch), 0);
        let why = tap.failure().expect("it is gone").to_string();
        assert!(why.contains("mill0 is gone"), "{why}");
        assert!(tap.sleep_fd().is_none());
    });
}

#[test]
fn refusals_say_what_to_do() {
    in_private!(|| {
        let first = tap("mill0");
        let e = Tap::new("mill0", &TapOptions::default()).err().unwrap();
        assert!(e.to_string().contains("TAP mill0 is in use"), "{e}");
        for bad in ["", "a name that is too long", "a/b", "a b"] {
            let e = Tap::new(bad, &TapOptions::default()).err().unwrap();
            assert!(e.to_string().contains("cannot name an interface"), "{e}");
        }
        let e = Tap::new("lo", &TapOptions::default()).err().unwrap();
        assert!(!e.is_unavailable() && e.to_string().contains("lo"), "{e}");
        let options = TapOptions {
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            mtu: Some(7),
            ..TapOptions::default()
        };
        let e = Tap::new("mill1", &options).err().unwrap();
        assert!(e.to_string().contains("MTU 7"), "{e}");
        assert!(link::facts("mill1").is_err());
        drop(first);
    });
}
