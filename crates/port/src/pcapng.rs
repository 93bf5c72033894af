//! Writing what passes a port to a pcapng file, which Wireshark and tcpdump open (draft-ietf-opsawg-pcapng).
//!
//! The clock does not live here: the caller gives a function that returns nanoseconds since 1970.
//!
//! The file has one interface with nanosecond times; each frame is marked inbound (received by this host) or
//! outbound. Checksums that a device was to complete are completed in the file. A super-frame is written whole, with a
//! comment that says what it stands for.
//!
//! Invariant: a capture never disturbs its port: when the file cannot be written any more, frames pass as before.
//! Invariant: memory is bounded: what is buffered is written out before it exceeds [`BUFFER`] and one frame.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use base::{Batch, Checksum, Facts, Gso, Packet, Pool};
use wire::checksum::Sum;
use wire::ethernet::HEADER_LEN as ETHERNET;

use crate::{FRAME_MAX, Port, PortCounters, PortError, PortFacts};

/// Bytes gathered before they are written out, unless the port is flushed earlier.
pub const BUFFER: usize = 256 << 10;
/// A whole frame of any size.
pub const SNAPLEN: u32 = 262_144;

/// More than a block has besides its frame.
const OVERHEAD: usize = 1024;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_MACADDR: u16 = 6;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const ISB_STARTTIME: u16 = 2;
const ISB_ENDTIME: u16 = 3;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;

/// Which way a frame went, seen from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Received.
    Inbound,
    /// Sent.
    Outbound,
}

/// A pcapng file with one Ethernet interface, all numbers little-endian.
pub struct Writer<W: Write> {
    out: W,
    buffer: Vec<u8>,
    snaplen: u32,
    /// When the first and the latest frame passed.
    times: Option<(u64, u64)>,
    received: u64,
    finished: bool,
    failure: Option<io::Error>,
}

impl<W: Write> Writer<W> {
    /// Begins the file: section header and the description of an interface like `facts`. Frames are cut to `snaplen`
    /// bytes ([`SNAPLEN`] cuts none).
    pub fn new(out: W, facts: &PortFacts, snaplen: u32) -> Self {
        let mut this = Self {
            out,
            buffer: Vec::with_capacity(BUFFER + FRAME_MAX + OVERHEAD),
            snaplen: snaplen.max(1),
            times: None,
            received: 0,
            finished: false,
            failure: None,
        };
        this.block(SECTION_HEADER, |b| {
            b.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
            b.extend_from_slice(&1u16.to_le_bytes());
            b.extend_from_slice(&0u16.to_le_bytes());
            b.extend_from_slice(&u64::MAX.to_le_bytes()); // section length: not known
            option(
                b,
                SHB_USERAPPL,
                concat!("Millstream ", env!("CARGO_PKG_VERSION")).as_bytes(),
            );
            option(b, OPT_END, &[]);
        });
        this.block(INTERFACE_DESCRIPTION, |b| {
            b.extend_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
            b.extend_from_slice(&0u16.to_le_bytes());
            b.extend_from_slice(&snaplen.max(1).to_le_bytes());
            option(b, IF_NAME, facts.name.as_bytes());
            option(b, IF_DESCRIPTION, b"the host's side of the port");
            option(b, IF_MACADDR, &facts.mac.0);
            option(b, IF_TSRESOL, &[9]); // 10^-9 s
            option(b, OPT_END, &[]);
        });
        this
    }

    /// Adds a frame that passed at `now` (nanoseconds since 1970).
    pub fn packet(&mut self, now: u64, direction: Direction, pool: &Pool, packet: &Packet) {
        if self.failure.is_some() || self.finished {
            return;
        }
        let len = packet.chain.len();
        let kept = len.min(self.snaplen as usize);
        let flags: u32 = match direction {
            Direction::Inbound => {
                self.received += 1;
                1
            }
            Direction::Outbound => 2,
        };
        self.times = Some((self.times.map_or(now, |(first, _)| first), now));
        self.block(ENHANCED_PACKET, |b| {
            b.extend_from_slice(&0u32.to_le_bytes()); // interface
            b.extend_from_slice(&time(now));
            b.extend_from_slice(&(kept as u32).to_le_bytes());
            b.extend_from_slice(&(len as u32).to_le_bytes());
            let start = b.len();
            for piece in pool.slices(&packet.chain) {
                let room = kept - (b.len() - start);
                b.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            complete(&mut b[start..], pool, packet);
            pad(b);
            option(b, EPB_FLAGS, &flags.to_le_bytes());
            comment(b, &packet.facts, len);
            option(b, OPT_END, &[]);
        });
        if self.buffer.len() >= BUFFER {
            self.write_out();
        }
    }

    /// Forgets the latest packet, if it has not been written out.
    fn undo(&mut self, mark: usize) {
        self.buffer.truncate(mark);
    }

    /// Writes what is buffered, so that a reader of the file sees it.
    ///
    /// # Errors
    /// The first error of the file, again and again.
    pub fn flush(&mut self) -> io::Result<()> {
        self.write_out();
        if self.failure.is_none()
            && let Err(e) = self.out.flush()
        {
            self.failure = Some(e);
        }
        match &self.failure {
            Some(e) => Err(io::Error::new(e.kind(), e.to_string())),
            None => Ok(()),
        }
    }

    /// Ends the file with the statistics of the interface: `dropped` frames were not received. Frames that come later
    /// are not written. Without this call the file is complete but for the statistics.
    ///
    /// # Errors
    /// The first error of the file.
    pub fn finish(&mut self, dropped: u64) -> io::Result<()> {
        if !self.finished {
            self.finished = true;
            let (first, last) = self.times.unwrap_or((0, 0));
            let received = self.received;
            self.block(INTERFACE_STATISTICS, |b| {
                b.extend_from_slice(&0u32.to_le_bytes()); // interface
                b.extend_from_slice(&time(last));
                option(b, ISB_STARTTIME, &time(first));
                option(b, ISB_ENDTIME, &time(last));
                option(b, ISB_IFRECV, &received.to_le_bytes());
                option(b, ISB_IFDROP, &dropped.to_le_bytes());
                option(b, OPT_END, &[]);
            });
        }
        self.flush()
    }

    /// A block: type, length, body, length again.
    fn block(&mut self, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
        let b = &mut self.buffer;
        let start = b.len();
        b.extend_from_slice(&kind.to_le_bytes());
        b.extend_from_slice(&[0; 4]);
        body(b);
        let len = (b.len() - start + 4) as u32;
        b[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
        b.extend_from_slice(&len.to_le_bytes());
    }

    fn write_out(&mut self) {
        if self.failure.is_none()
            && !self.buffer.is_empty()
            && let Err(e) = self.out.write_all(&self.buffer)
        {
            self.failure = Some(e);
        }
        self.buffer.clear();
    }
}

/// A 64-bit time as the format has it: upper half first.
fn time(nanos: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&((nanos >> 32) as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&(nanos as u32).to_le_bytes());
    bytes
}

fn pad(b: &mut Vec<u8>) {
    // Every block begins at a multiple of four in the buffer.
    b.resize(b.len().next_multiple_of(4), 0);
}

fn option(b: &mut Vec<u8>, code: u16, value: &[u8]) {
    b.extend_from_slice(&code.to_le_bytes());
    b.extend_from_slice(&(value.len() as u16).to_le_bytes());
    b.extend_from_slice(value);
    pad(b);
}

/// Says what a super-frame stands for, in words.
fn comment(b: &mut Vec<u8>, facts: &Facts, len: usize) {
    let Gso {
        size, header_len, ..
    } = facts.gso;
    if facts.gso.is_none() || size == 0 {
        return;
    }
    let payload = len.saturating_sub(header_len.into());
    let segments = payload.div_ceil(size.into());
    b.extend_from_slice(&OPT_COMMENT.to_le_bytes());
    let at = b.len();
    b.extend_from_slice(&[0; 2]);
    // A vector takes everything.
    let _ = write!(
        b,
        "super-frame: {segments} segments of up to {size} bytes, cut or put together by the device"
    );
    let written = (b.len() - at - 2) as u16;
    b[at..at + 2].copy_from_slice(&written.to_le_bytes());
    pad(b);
}

/// Fills in the checksum a device was to fill in, in the copy `frame` (which may be cut short).
fn complete(frame: &mut [u8], pool: &Pool, packet: &Packet) {
    let Checksum::Partial { start, offset } = packet.facts.checksum else {
        return;
    };
    let (start, offset) = (usize::from(start), usize::from(offset));
    let at = start + offset;
    let Some(field) = frame.get_mut(at..at + 2) else {
        return;
    };
    // The field itself holds the pseudo-header's sum, so the sum over everything from `start` includes it.
    let (mut sum, mut skip, mut odd) = (Sum::new(), start, false);
    for piece in pool.slices(&packet.chain) {
        let bytes = piece.get(skip..).unwrap_or(&[]);
        skip = skip.saturating_sub(piece.len());
        sum = sum.add_bytes_at(bytes, odd);
        odd ^= bytes.len() % 2 == 1;
    }
    // Zero would mean "no checksum" to UDP (RFC 768); its other form means the same to everybody else.
    field.copy_from_slice(&sum.finish_nonzero().to_be_bytes());
}

/// A port that writes what passes it to a file, and is the inner port otherwise.
///
/// `clock` returns nanoseconds since 1970 and is asked once for each batch that brings frames.
pub struct Capture<P: Port, W: Write, C: FnMut() -> u64> {
    port: P,
    writer: Writer<W>,
    clock: C,
    /// Frames are handed on one at a time, so that only what was taken is in the file.
    one: Batch,
}

impl<P: Port, W: Write, C: FnMut() -> u64> Capture<P, W, C> {
    /// Wraps `port`; frames are cut to `snaplen` bytes in the file.
    pub fn new(port: P, out: W, snaplen: u32, clock: C) -> Self {
        let writer = Writer::new(out, port.facts(), snaplen);
        Self {
            port,
            writer,
            clock,
            one: Batch::new(),
        }
    }

    /// Why nothing is written any more (the disk is full, for example).
    pub fn error(&self) -> Option<&io::Error> {
        self.writer.failure.as_ref()
    }

    /// The port inside.
    pub fn inner(&self) -> &P {
        &self.port
    }

    /// Ends the file. The port goes on as if it were not wrapped. Dropping the capture ends it as well, but cannot
    /// report an error.
    ///
    /// # Errors
    /// The first error of the file.
    pub fn finish(&mut self) -> io::Result<()> {
        use crate::Drop::{RxDescription, RxNoMemory, RxOverrun, RxTruncated};
        let drops = self.port.counters().drops;
        let missed = [RxDescription, RxNoMemory, RxOverrun, RxTruncated];
        self.writer
            .finish(missed.iter().map(|&why| drops.get(why)).sum())
    }
}

impl<P: Port, W: Write, C: FnMut() -> u64> Drop for Capture<P, W, C> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

impl<P: Port, W: Write, C: FnMut() -> u64> Port for Capture<P, W, C> {
    fn facts(&self) -> &PortFacts {
        self.port.facts()
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let before = batch.len();
        let received = self.port.receive(pool, batch);
        if received > 0 {
            let now = (self.clock)();
            for packet in batch.iter().skip(before) {
                self.writer.packet(now, Direction::Inbound, pool, packet);
            }
        }
        received
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let mut taken = 0;
        let now = if batch.is_empty() { 0 } else { (self.clock)() };
        while let Some(packet) = batch.pop_front() {
            // Before it is sent: the port frees what it takes. Written out first, so that it can be taken back.
            if self.writer.buffer.len() + packet.chain.len() + OVERHEAD > BUFFER {
                self.writer.write_out();
            }
            let mark = self.writer.buffer.len();
            if packet.chain.len() >= ETHERNET {
                self.writer.packet(now, Direction::Outbound, pool, &packet);
            }
            if let Err(packet) = self.one.push(packet) {
                pool.free(packet.chain);
            }
            if self.port.transmit(pool, &mut self.one) == 0 {
                self.writer.undo(mark);
                if let Some(packet) = self.one.pop_front()
                    && let Err(packet) = batch.push_front(packet)
                {
                    pool.free(packet.chain);
                }
                break;
            }
            taken += 1;
        }
        taken
    }

    fn flush(&mut self, pool: &mut Pool) {
        self.port.flush(pool);
        self.writer.write_out();
    }

    fn sleep_fd(&self) -> Option<BorrowedFd<'_>> {
        self.port.sleep_fd()
    }

    fn counters(&self) -> PortCounters {
        self.port.counters()
    }

    fn failure(&self) -> Option<&PortError> {
        self.port.failure()
    }

    fn release(&mut self, pool: &mut Pool) {
        self.one.clear(pool);
        self.port.release(pool);
    }
}

#[cfg(test)]
#[path = "pcapng/tests.rs"]
mod tests;
