//! A capture of real traffic: two kernels talking through a TAP, a captured hop over memory, and another TAP.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base::{Offloads, Pool};
use netns::{Namespace, in_private};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, PcapError, PcapNGReader, traits::PcapReaderIterator};
use port::Port;
use port::pcapng::{Capture, SNAPLEN};
use port::ring::{RingOptions, pair};
use wire::{EtherType, Mac, checksum, ethernet, ipv4, ipv6, protocol};

use crate::common::*;

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
}

#[test]
fn every_frame_is_there_with_its_checksum() {
    in_private!(|| {
        let path =
            std::env::temp_dir().join(format!("millstream-capture-{}.pcapng", std::process::id()));
        let far = Namespace::new().unwrap();
        let mut near_tap = tap("mill0");
        let mut far_tap = far.run(|| tap("mill1")).unwrap();
        configure("mill0", 1);
        far.run(|| configure("mill1", 2)).unwrap();
        // near TAP - captured end of a ring - in another thread the other end - far TAP
        let options = RingOptions {
            offloads: Offloads::ALL,
            slots: 64,
            ..RingOptions::default()
        };
        let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
        let (ring_a, mut ring_b) = pair(macs, &options).unwrap();
        let mut captured = Capture::new(ring_a, File::create(&path).unwrap(), SNAPLEN, now);
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            let near = s.spawn(|| {
                let mut pool = Pool::new(4096).unwrap();
                bridge(&mut near_tap, &mut captured, &mut pool, &stop);
            });
            let distant = s.spawn(|| {
                let mut pool = Pool::new(4096).unwrap();
                bridge(&mut ring_b, &mut far_tap, &mut pool, &stop);
            });
            traffic(&far, 4);
            stop.store(true, Ordering::Relaxed);
            near.join().unwrap();
            distant.join().unwrap();
        });
        captured.finish().unwrap();
        let counters = captured.counters();
        assert_eq!(counters.drops.total(), 0);
        let frames = check(&path);
        assert_eq!(frames, [counters.rx_frames, counters.tx_frames]);
        if std::env::var_os("MILLSTREAM_KEEP_CAPTURE").is_none() {
            std::fs::remove_file(&path).unwrap();
        }
    });
}

/// Reads a capture, verifies every TCP and UDP checksum, and returns the frames in and out.
fn check(path: &std::path::Path) -> [u64; 2] {
    let mut reader = PcapNGReader::new(1 << 20, File::open(path).unwrap()).unwrap();
    let mut frames = [0, 0];
    let mut kinds = HashMap::new();
    let mut last = 0;
    loop {
        match reader.next() {
            Ok((size, PcapBlockOwned::NG(block))) => {
                if let Block::EnhancedPacket(b) = &block {
                    assert_eq!(b.caplen, b.origlen);
                    let flags = b.options.iter().find(|o| o.code.0 == 2).unwrap().value[0];
                    frames[usize::from(flags) - 1] += 1;
                    let time = u64::from(b.ts_high) << 32 | u64::from(b.ts_low);
                    assert!(time >= last && time <= now());
                    last = time;
                    if let Some(kind) = verify(&b.packet_data()[..b.caplen as usize]) {
                        *kinds.entry(kind).or_insert(0) += 1;
                    }
                }
                reader.consume(size);
            }
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
            Ok(_) => panic!("a block of the old format"),
            Err(e) => panic!("{e:?}"),
        }
    }
    for kind in [
        (4, protocol::TCP),
        (6, protocol::TCP),
        (4, protocol::UDP),
        (6, protocol::UDP),
    ] {
        assert!(kinds.contains_key(&kind), "{kinds:?}");
    }
    frames
}

/// IP version and protocol of a frame whose transport checksum was verified; fragments have none.
fn verify(frame: &[u8]) -> Option<(u8, u8)> {
    let frame = ethernet::Packet::new(frame).unwrap();
    let (src, dst, protocol, payload, version) = match frame.ethertype() {
        EtherType::IPV4 => {
            let p = ipv4::Packet::new(frame.payload()).unwrap();
            if p.more_fragments() || p.fragment_offset() > 0 {
                return None;
            }
            (p.src(), p.dst(), p.protocol(), p.payload(), 4)
        }
        EtherType::IPV6 => {
            let p = ipv6::Packet::new(frame.payload()).unwrap();
            (p.src(), p.dst(), p.next_header(), p.payload(), 6)
        }
        _ => return None,
    };
    if protocol != protocol::TCP && protocol != protocol::UDP {
        return None;
    }
    let sum = checksum::pseudo(&src, &dst, protocol, payload.len() as u32).add_bytes(payload);
    assert!(
        sum.is_valid(),
        "{src} -> {dst}, {} bytes of protocol {protocol}",
        payload.len()
    );
    Some((version, protocol))
}
