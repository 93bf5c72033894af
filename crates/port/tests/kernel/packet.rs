//! The packet socket on one end of a veth pair, against the kernel on the other.

use std::net::UdpSocket;

use base::{Batch, Checksum, GsoKind, Packet, Pool};
use netns::{Namespace, in_private, link};
use port::packet::{PacketOptions, PacketSocket};
use port::{Drop, Port};
use wire::{Addr, EtherType, Mac, checksum, protocol};

use crate::common::*;

const OTHER: Mac = Mac([2, 0, 0, 0, 0, 99]);

fn default() -> PacketOptions {
    PacketOptions::default()
}

#[test]
fn the_kernel_answers() {
    in_private!(|| {
        let mut port = veth("kern0", "mill0", 1, &default());
        assert_eq!(port.facts().name, "mill0");
        assert_eq!(port.facts().mac, kernel_mac("mill0"));
        assert_eq!(port.facts().mtu, 1500);
        let mut pool = Pool::new(256).unwrap();
        kernel_answers(&mut port, &mut pool, kernel_mac("kern0"), &[0, 1, 56, 1472]);
        let counters = port.counters();
        assert_eq!((counters.tx_frames, counters.drops.total()), (5, 0));
        port.release(&mut pool);
        assert_eq!((pool.in_use(), pool.segments_in_use()), (0, 0));
    });
}

#[test]
fn jumbo_frames_pass() {
    in_private!(|| {
        let pair = veth("kern0", "mill0", 1, &default());
        drop(pair);
        link::set_mtu("kern0", 9000).unwrap();
        link::set_mtu("mill0", 9000).unwrap();
        let mut port = PacketSocket::new("mill0", &default()).unwrap();
        assert_eq!(port.facts().mtu, 9000);
        let mut pool = Pool::new(256).unwrap();
        kernel_answers(&mut port, &mut pool, kernel_mac("kern0"), &[2034, 8972]);
    });
}

#[test]
fn a_host_may_have_an_address_of_its_own() {
    in_private!(|| {
        let mut port = veth(
            "kern0",
            "mill0",
            1,
            &PacketOptions {
                mac: Some(OTHER),
                ..default()
            },
        );
        let mut pool = Pool::new(256).unwrap();
        assert_eq!(port.facts().mac, OTHER);
        kernel_answers(&mut port, &mut pool, kernel_mac("kern0"), &[56]);
    });
}

#[test]
fn udp_super_frames_and_partial_checksums_pass_both_ways() {
    in_private!(|| {
        let mut port = veth("kern0", "mill0", 1, &default());
        let mut pool = Pool::new(256).unwrap();
        let (host, kernel) = (port.facts().mac, kernel_mac("kern0"));
        link::add_neighbour("kern0", v4(2), host.0).unwrap();
        let socket = UdpSocket::bind((v4(1), 9)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(b"some words", (v4(2), 5)).unwrap();
        let (frame, facts) = receive(&mut port, &mut pool, |f, _| f.ends_with(b"some words"));
        assert_eq!(frame.len(), 14 + 20 + 8 + 10);
        assert_eq!(
            facts.checksum,
            Checksum::Partial {
                start: 34,
                offset: 6
            }
        );
        if port.facts().offloads.uso && set_udp_segment(&socket, 1000) {
            socket.send_to(&[7; 20_000], (v4(2), 5)).unwrap();
            let (frame, facts) = receive(&mut port, &mut pool, |f, _| f.len() > 10_000);
            assert_eq!(frame.len(), 42 + 20_000);
            assert_eq!(
                (facts.gso.kind, facts.gso.size, facts.gso.header_len),
                (GsoKind::Udp, 1000, 42)
            );
        }

        let data: Vec<u8> = (0..5000).map(|i| (i % 251) as u8).collect();
        let total = 8 + data.len();
        let mut datagram = [0, 5, 0, 9, (total >> 8) as u8, total as u8, 0, 0].to_vec();
        let (src, dst) = (Addr::from_v4(HOST), Addr::from_v4(KERNEL));
        let pseudo = checksum::pseudo(&src, &dst, protocol::UDP, total as u32).fold();
        datagram[6..8].copy_from_slice(&pseudo.to_be_bytes());
        datagram.extend_from_slice(&data);
        if port.facts().offloads.uso {
            let mut packet = Packet::default();
            pool.append_bytes(
                &mut packet.chain,
                &ipv4_frame(host, kernel, protocol::UDP, &datagram),
            );
            packet.facts.checksum = Checksum::Partial {
                start: 34,
                offset: 6,
            };
            packet.facts.gso = base::Gso {
                kind: GsoKind::Udp,
                size: 1250,
                header_len: 42,
            };
            send_packet(&mut port, &mut pool, packet);
            let mut buffer = [0; 9000];
            for i in 0..4 {
                let n = socket.recv(&mut buffer).unwrap();
                assert_eq!(buffer[..n], data[i * 1250..(i + 1) * 1250]);
            }
        }
    });
}

#[test]
fn two_kernels_talk_through_two_packet_ports_in_super_frames() {
    in_private!(|| {
        let far = Namespace::new().unwrap();
        let mut a = veth("kern0", "mill0", 1, &default());
        let mut b = far.run(|| veth("kern1", "mill1", 2, &default())).unwrap();
        let mut pool = Pool::new(8192).unwrap();
        traffic_by((&mut a, &mut b), &mut pool, &far, 16);
        for port in [&mut a, &mut b] {
            let c = port.counters();
            assert!(c.rx_bytes / c.rx_frames > 4000, "super-frames: {c:?}");
            // A user without privileges has too small a buffer to be sure that none is lost.
            assert_eq!(c.drops.total(), c.drops.get(Drop::RxOverrun), "{c:?}");
            port.release(&mut pool);
        }
        assert_eq!((pool.in_use(), pool.segments_in_use()), (0, 0));
    });
}

#[test]
fn a_tap_and_a_packet_port_understand_each_other() {
    in_private!(|| {
        let far = Namespace::new().unwrap();
        let mut a = tap("mill0");
        configure("mill0", 1);
        let mut b = far.run(|| veth("kern1", "mill1", 2, &default())).unwrap();
        let mut pool = Pool::new(8192).unwrap();
        traffic_by((&mut a, &mut b), &mut pool, &far, 8);
        assert_eq!(a.counters().drops.total(), 0);
    });
}

#[test]
fn a_vlan_tag_arrives_where_it_was() {
    in_private!(|| {
        let mut near = veth("kern0", "mill0", 1, &default());
        let mut far = PacketSocket::new("kern0", &default()).unwrap();
        let mut pool = Pool::new(256).unwrap();
        // The kernel allows a frame of full length four bytes more for the first kind of tag only.
        for (ethertype, len) in [(EtherType::VLAN, 1500), (EtherType::QINQ, 1496)] {
            let mut payload = vec![0x60, 0x07, 0x88, 0xb5];
            payload.extend_from_slice(&vec![7; len]);
            let sent = ethernet(OTHER, near.facts().mac, ethertype, &payload);
            send(&mut far, &mut pool, &sent);
            let (got, facts) = receive(&mut near, &mut pool, |f, _| f[6..12] == OTHER.0);
            assert_eq!(got, sent);
            assert_eq!(facts.gso.kind, GsoKind::None);
        }
        assert_eq!(far.counters().drops.total(), 0);
        near.release(&mut pool);
        far.release(&mut pool);
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn own_frames_are_not_received_again() {
    in_private!(|| {
        let mut near = veth("kern0", "mill0", 1, &default());
        let mut second = PacketSocket::new(
            "mill0",
            &PacketOptions {
                promiscuous: true,
                ..default()
            },
        )
        .unwrap();
        let mut pool = Pool::new(256).unwrap();
        let mut batch = Batch::new();
        let frame = ethernet(near.facts().mac, OTHER, EtherType(0x88b5), &[1; 50]);
        send(&mut near, &mut pool, &frame);
        near.receive(&mut pool, &mut batch);
        second.receive(&mut pool, &mut batch);
        let own = batch.iter().filter(|p| bytes(&pool, p) == frame).count();
        assert_eq!(own, 0);
        batch.clear(&mut pool);
    });
}

#[test]
fn what_cannot_be_sent_is_counted_and_freed() {
    in_private!(|| {
        let mut port = veth("kern0", "mill0", 1, &default());
        let mut pool = Pool::new(256).unwrap();
        let host = port.facts().mac;
        send(
            &mut port,
            &mut pool,
            &ethernet(host, OTHER, EtherType(0x88b5), &[1; 1600]),
        );
        send(&mut port, &mut pool, &[0; 70_000]);
        assert_eq!(port.counters().drops.get(Drop::TxLength), 2);
        send(&mut port, &mut pool, &[0; 5]);
        assert_eq!(port.counters().drops.get(Drop::TxRefused), 1);
        link::set_down("mill0").unwrap();
        send(&mut port, &mut pool, &arp_request(host));
        assert_eq!(port.counters().drops.get(Drop::TxDown), 1);
        assert_eq!((port.counters().tx_frames, pool.in_use()), (0, 0));

        // Off is not gone.
        let mut batch = Batch::new();
        assert_eq!(port.receive(&mut pool, &mut batch), 0);
        assert!(port.failure().is_none() && port.sleep_fd().is_some());
        link::set_up("mill0").unwrap();
        link::wait_running("mill0").unwrap();
        kernel_answers(&mut port, &mut pool, kernel_mac("kern0"), &[10]);
        link::delete("kern0").unwrap();
        batch.clear(&mut pool);
        port.receive(&mut pool, &mut batch);
        let why = port.failure().expect("gone").to_string();
        assert!(why.contains("interface mill0 is gone"), "{why}");
        assert!(port.sleep_fd().is_none());
        batch.clear(&mut pool);
        port.release(&mut pool);
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn a_slow_reader_learns_what_it_missed() {
    in_private!(|| {
        let mut port = veth(
            "kern0",
            "mill0",
            1,
            &PacketOptions {
                buffer: 4096,
                ..default()
            },
        );
        let mut pool = Pool::new(256).unwrap();
        link::add_neighbour("kern0", v4(2), port.facts().mac.0).unwrap();
        let socket = UdpSocket::bind((v4(1), 0)).unwrap();
        for _ in 0..40 {
            socket.send_to(&[1; 1000], (v4(2), 9)).unwrap();
        }
        let mut batch = Batch::new();
        let got = port.receive(&mut pool, &mut batch) as u64;
        let missed = port.counters().drops.get(Drop::RxOverrun);
        assert!(missed > 0, "{got} got");
        // The kernel may have had something to say of its own.
        assert!(got + missed >= 40);
        let again = port.counters().drops.get(Drop::RxOverrun);
        assert!(again >= missed, "asking does not forget");
        batch.clear(&mut pool);
    });
}

#[test]
fn refusals_say_what_to_do() {
    in_private!(|| {
        let e = PacketSocket::new("mill0", &default()).err().unwrap();
        assert!(
            e.to_string().contains("there is no interface mill0") && !e.is_unavailable(),
            "{e}"
        );
        let e = PacketSocket::new("", &default()).err().unwrap();
        assert!(e.to_string().contains("cannot name an interface"), "{e}");
    });
}
