//! Captures read back by an independent parser.

use base::{GsoKind, Offloads};
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, Linktype, OptionCode, PcapBlockOwned, PcapError, PcapNGReader};
use wire::{Addr, Mac, protocol};

use super::*;
use crate::ring::{RingOptions, RingPort, pair};

const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
const START: u64 = 1_700_000_000_123_456_789;

/// One captured frame, as the parser saw it.
#[derive(Debug, PartialEq)]
struct Seen {
    time: u64,
    flags: u32,
    data: Vec<u8>,
    original: usize,
    comment: Option<String>,
}

#[derive(Debug, Default)]
struct Contents {
    name: String,
    mac: Vec<u8>,
    resolution: u8,
    snaplen: u32,
    frames: Vec<Seen>,
    received_and_dropped: Option<(u64, u64)>,
}

impl Contents {
    fn read(file: &[u8]) -> Contents {
        let mut contents = Contents::default();
        let mut reader = PcapNGReader::new(1 << 20, file).unwrap();
        loop {
            match reader.next() {
                Ok((size, PcapBlockOwned::NG(block))) => {
                    contents.add(block);
                    reader.consume(size);
                }
                Err(PcapError::Eof) => return contents,
                Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
                Ok(_) => panic!("a block of the old format"),
                Err(e) => panic!("{e:?}"),
            }
        }
    }

    fn add(&mut self, block: Block<'_>) {
        match block {
            Block::SectionHeader(b) => {
                assert_eq!(
                    (b.major_version, b.minor_version, b.section_len),
                    (1, 0, -1)
                );
            }
            Block::InterfaceDescription(b) => {
                assert_eq!(b.linktype, Linktype::ETHERNET);
                self.snaplen = b.snaplen;
                for o in &b.options {
                    let value = &o.value[..o.len.into()];
                    match o.code {
                        OptionCode::IfName => {
                            self.name = String::from_utf8(value.to_vec()).unwrap()
                        }
                        OptionCode::IfMacAddr => self.mac = value.to_vec(),
                        OptionCode::IfTsresol => self.resolution = value[0],
                        _ => {}
                    }
                }
            }
            Block::EnhancedPacket(b) => {
                let option = |code| {
                    b.options
                        .iter()
                        .find(|o| o.code == code)
                        .map(|o| &o.value[..o.len.into()])
                };
                let flags = option(OptionCode(EPB_FLAGS)).unwrap();
                let comment = option(OptionCode::Comment);
                self.frames.push(Seen {
                    time: u64::from(b.ts_high) << 32 | u64::from(b.ts_low),
                    flags: u32::from_le_bytes(flags.try_into().unwrap()),
                    data: b.packet_data()[..b.caplen as usize].to_vec(),
                    original: b.origlen as usize,
                    comment: comment.map(|c| String::from_utf8(c.to_vec()).unwrap()),
                });
            }
            Block::InterfaceStatistics(b) => {
                let number = |code| {
                    let o = b
                        .options
                        .iter()
                        .find(|o| o.code == OptionCode(code))
                        .unwrap();
                    u64::from_le_bytes(o.value[..8].try_into().unwrap())
                };
                self.received_and_dropped = Some((number(ISB_IFRECV), number(ISB_IFDROP)));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn clock() -> impl FnMut() -> u64 {
    let mut now = START;
    move || {
        now += 1;
        now
    }
}

type Captured<'a, C> = Capture<RingPort, &'a mut Vec<u8>, C>;

/// A capture around one end of a ring of eight slots, and the other end.
fn captured(file: &mut Vec<u8>, snaplen: u32) -> (Captured<'_, impl FnMut() -> u64>, RingPort) {
    let options = RingOptions {
        offloads: Offloads::ALL,
        slots: 8,
        ..RingOptions::default()
    };
    let (a, b) = pair(MACS, &options).unwrap();
    (Capture::new(a, file, snaplen, clock()), b)
}

fn push(pool: &mut Pool, batch: &mut Batch, bytes: &[u8], facts: Facts) {
    let mut packet = Packet {
        facts,
        ..Packet::default()
    };
    assert_eq!(pool.append_bytes(&mut packet.chain, bytes), bytes.len());
    batch.push(packet).unwrap();
}

#[test]
fn both_directions_are_read_back() {
    let mut pool = Pool::new(256).unwrap();
    let mut batch = Batch::new();
    let mut file = Vec::new();
    let (mut a, mut b) = captured(&mut file, SNAPLEN);
    push(&mut pool, &mut batch, &[1; 61], Facts::NONE);
    push(&mut pool, &mut batch, &[2; 3000], Facts::NONE);
    assert_eq!(a.transmit(&mut pool, &mut batch), 2);
    a.flush(&mut pool);
    b.receive(&mut pool, &mut batch);
    batch.clear(&mut pool);
    push(&mut pool, &mut batch, &[3; 64], Facts::NONE);
    b.transmit(&mut pool, &mut batch);
    b.flush(&mut pool);
    assert_eq!(a.receive(&mut pool, &mut batch), 1);
    batch.clear(&mut pool);
    a.finish().unwrap();
    a.finish().unwrap();
    drop(a);
    assert_eq!(pool.in_use(), 0);

    let contents = Contents::read(&file);
    assert_eq!(
        (contents.name.as_str(), contents.mac.as_slice()),
        ("ring-a", &MACS[0].0[..])
    );
    assert_eq!((contents.resolution, contents.snaplen), (9, SNAPLEN));
    assert_eq!(contents.received_and_dropped, Some((1, 0)));
    let plain = |time, flags, data: Vec<u8>| Seen {
        time,
        flags,
        original: data.len(),
        data,
        comment: None,
    };
    let expected = [
        plain(START + 1, 2, vec![1; 61]),
        plain(START + 1, 2, vec![2; 3000]),
        plain(START + 2, 1, vec![3; 64]),
    ];
    assert_eq!(contents.frames, expected);
}

#[test]
fn only_what_was_taken_is_in_the_file() {
    let mut pool = Pool::new(256).unwrap();
    let mut batch = Batch::new();
    let mut file = Vec::new();
    let (mut a, mut b) = captured(&mut file, SNAPLEN);
    for i in 0..10u8 {
        push(&mut pool, &mut batch, &[i; 60], Facts::NONE);
    }
    assert_eq!(
        a.transmit(&mut pool, &mut batch),
        8,
        "the ring has eight slots"
    );
    assert_eq!(a.transmit(&mut pool, &mut batch), 0);
    assert_eq!(batch.len(), 2);
    let mut there = Batch::new();
    b.receive(&mut pool, &mut there);
    there.clear(&mut pool);
    assert_eq!(a.transmit(&mut pool, &mut batch), 2);
    drop(a);
    let numbers: Vec<u8> = Contents::read(&file)
        .frames
        .iter()
        .map(|f| f.data[0])
        .collect();
    assert_eq!(numbers, (0..10).collect::<Vec<u8>>());
}

#[test]
fn unfinished_checksums_are_finished_in_the_file_only() {
    let mut pool = Pool::new(256).unwrap();
    let mut batch = Batch::new();
    let mut file = Vec::new();
    let (mut a, mut b) = captured(&mut file, SNAPLEN);
    let (src, dst) = (Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2));
    for (len, gso) in [(9usize, false), (20_001, true)] {
        let mut frame = vec![0x55; 34 + 8 + len];
        let pseudo = wire::checksum::pseudo(&src, &dst, protocol::UDP, (8 + len) as u32).fold();
        frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
        let mut facts = Facts {
            checksum: Checksum::Partial {
                start: 34,
                offset: 6,
            },
            ..Facts::NONE
        };
        if gso {
            facts.gso = Gso {
                kind: GsoKind::Udp,
                size: 1000,
                header_len: 42,
            };
        }
        // In odd pieces, so that sums of odd lengths meet.
        let mut packet = Packet {
            facts,
            ..Packet::default()
        };
        for piece in frame.chunks(333) {
            let mut one = pool.alloc(1).unwrap();
            pool.append_bytes(&mut one, piece);
            pool.append(&mut packet.chain, one);
        }
        batch.push(packet).unwrap();
        assert_eq!(a.transmit(&mut pool, &mut batch), 1);
        a.flush(&mut pool);
        b.receive(&mut pool, &mut batch);
        let mut got = vec![0; frame.len()];
        pool.copy_out(&batch.get(0).unwrap().chain, 0, &mut got);
        assert_eq!(got, frame, "the frame itself is untouched");
        batch.clear(&mut pool);
    }
    drop(a);
    let frames = Contents::read(&file).frames;
    for frame in &frames {
        let datagram = &frame.data[34..];
        let sum = wire::checksum::pseudo(&src, &dst, protocol::UDP, datagram.len() as u32);
        assert_eq!(sum.add_bytes(datagram).finish(), 0);
    }
    assert_eq!(frames[0].comment, None);
    let comment = frames[1].comment.as_deref().unwrap();
    assert!(
        comment.contains("21 segments of up to 1000 bytes"),
        "{comment}"
    );
}

#[test]
fn a_short_snapshot_keeps_the_length() {
    let mut pool = Pool::new(256).unwrap();
    let mut batch = Batch::new();
    let mut file = Vec::new();
    let (mut a, _b) = captured(&mut file, 100);
    // The checksum lies beyond what is kept: nothing to complete, nothing to break.
    let facts = Facts {
        checksum: Checksum::Partial {
            start: 90,
            offset: 16,
        },
        ..Facts::NONE
    };
    push(&mut pool, &mut batch, &[9; 5000], facts);
    a.transmit(&mut pool, &mut batch);
    drop(a);
    let contents = Contents::read(&file);
    assert_eq!(contents.snaplen, 100);
    assert_eq!(
        (
            contents.frames[0].data.as_slice(),
            contents.frames[0].original
        ),
        (&[9; 100][..], 5000)
    );
}

#[test]
fn more_than_the_buffer_holds_is_written_on_the_way() {
    let mut pool = Pool::new(256).unwrap();
    let mut batch = Batch::new();
    let mut file = Vec::new();
    let (mut a, mut b) = captured(&mut file, SNAPLEN);
    let gso = Gso {
        kind: GsoKind::Udp,
        size: 1000,
        header_len: 42,
    };
    let facts = Facts {
        checksum: Checksum::Partial {
            start: 34,
            offset: 6,
        },
        gso,
    };
    let capacity = a.writer.buffer.capacity();
    for i in 0..20u8 {
        push(&mut pool, &mut batch, &vec![i; 60_000], facts);
        assert_eq!(a.transmit(&mut pool, &mut batch), 1);
        a.port.flush(&mut pool);
        b.receive(&mut pool, &mut batch);
        assert_eq!(b.transmit(&mut pool, &mut batch), 1);
        b.flush(&mut pool);
        assert_eq!(a.receive(&mut pool, &mut batch), 1);
        batch.clear(&mut pool);
    }
    assert_eq!(a.writer.buffer.capacity(), capacity, "memory does not grow");
    drop(a);
    let frames = Contents::read(&file).frames;
    assert_eq!(frames.len(), 40);
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!(
            (usize::from(frame.data[100]), frame.data.len()),
            (i / 2, 60_000)
        );
    }
}

/// Takes so many bytes, then is full.
struct Disk(usize);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_stops_the_capture_and_not_the_port() {
    let mut pool = Pool::new(64).unwrap();
    let mut batch = Batch::new();
    let (a, mut b) = pair(MACS, &RingOptions::default()).unwrap();
    let mut a = Capture::new(a, Disk(300), SNAPLEN, clock());
    for _ in 0..10 {
        push(&mut pool, &mut batch, &[1; 100], Facts::NONE);
        assert_eq!(a.transmit(&mut pool, &mut batch), 1);
        a.flush(&mut pool);
        assert_eq!(b.receive(&mut pool, &mut batch), 1);
        batch.clear(&mut pool);
    }
    assert_eq!(a.error().unwrap().kind(), io::ErrorKind::StorageFull);
    assert!(a.finish().is_err());
    assert!(a.writer.buffer.is_empty());
}
