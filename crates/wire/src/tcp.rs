//! TCP headers (RFC 9293 section 3.1).
//!
//! Options live in `tcp::options`. What a segment does to a connection lives in `stack`.

use core::{
    fmt,
    ops::{BitAnd, BitOr, BitOrAssign},
};

use crate::{
    Addr, Error, Result,
    bytes::{array, be16, be32, head_mut, put32, put64},
    checksum, protocol,
};

mod options;
#[cfg(test)]
mod tests;

pub use options::{
    AccEcn, FastOpen, MAX_OPTIONS_LEN, MAX_WINDOW_SCALE, Opt, OptIter, Options, Sack, kind,
};

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = HEADER_LEN + MAX_OPTIONS_LEN;
/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 16;

/// The control bits, with the bit each has in the 13th and 14th byte of the header.
#[derive(Copy, Clone, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u16);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// No more data from the sender.
    pub const FIN: Flags = Flags(1);
    /// Synchronize sequence numbers.
    pub const SYN: Flags = Flags(1 << 1);
    /// Reset the connection.
    pub const RST: Flags = Flags(1 << 2);
    /// Push.
    pub const PSH: Flags = Flags(1 << 3);
    /// The acknowledgment number counts.
    pub const ACK: Flags = Flags(1 << 4);
    /// The urgent pointer counts.
    pub const URG: Flags = Flags(1 << 5);
    /// ECN echo (RFC 3168).
    pub const ECE: Flags = Flags(1 << 6);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Flags = Flags(1 << 7);
    /// Accurate ECN (RFC 9768).
    pub const AE: Flags = Flags(1 << 8);

    const MASK: u16 = 0x01ff;

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any of `flags` is set.
    #[inline]
    pub const fn intersects(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }

    /// These flags and those.
    #[inline]
    #[must_use]
    pub const fn union(self, flags: Flags) -> Flags {
        Flags(self.0 | flags.0)
    }

    /// These flags but not those.
    #[inline]
    #[must_use]
    pub const fn without(self, flags: Flags) -> Flags {
        Flags(self.0 & !flags.0)
    }

    /// Whether no flag is set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Flags {
    type Output = Flags;
    #[inline]
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl BitAnd for Flags {
    type Output = Flags;
    #[inline]
    fn bitand(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }
}

impl fmt::Display for Flags {
    /// The names of the flags that are set, between bars; `none` when none is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 9] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE"];
        if self.0 & Flags::MASK == 0 {
            return f.write_str("none");
        }
        let mut separator = "";
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & 1 << bit != 0 {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A view of a segment.
#[derive(Copy, Clone, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at the payload of an IP packet.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the header with its options does not fit; [`Error::Length`] when it claims to be
    /// shorter than [`HEADER_LEN`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>> {
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Error::Truncated)?;
        let options_len = usize::from(header[12] >> 4 << 2)
            .checked_sub(HEADER_LEN)
            .ok_or(Error::Length)?;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(Error::Truncated)?;
        Ok(Packet {
            header,
            options,
            payload,
        })
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        be16(self.header, 0)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        be16(self.header, 2)
    }

    /// Source and destination port as they stand on the wire, for hashing.
    #[inline]
    pub fn port_bytes(&self) -> [u8; 4] {
        array(self.header, 0)
    }

    /// Sequence number of the first byte, or of the SYN.
    #[inline]
    pub fn seq(&self) -> u32 {
        be32(self.header, 4)
    }

    /// Acknowledgment number; counts only with [`Flags::ACK`].
    #[inline]
    pub fn ack(&self) -> u32 {
        be32(self.header, 8)
    }

    /// Bytes of the header with its options, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Control bits. The three reserved ones are left out (RFC 9293 section 3.1: they must be ignored).
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(be16(self.header, 12) & Flags::MASK)
    }

    /// Window as it stands, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        be16(self.header, 14)
    }

    /// Checksum field.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16(self.header, CHECKSUM_OFFSET)
    }

    /// Urgent pointer; counts only with [`Flags::URG`].
    #[inline]
    pub fn urgent(&self) -> u16 {
        be16(self.header, 18)
    }

    /// The option area as it stands: 0 to 40 bytes.
    #[inline]
    pub fn options_bytes(&self) -> &'a [u8] {
        self.options
    }

    /// The options TCP itself acts on.
    #[inline]
    pub fn options(&self) -> Options {
        match self.only_timestamps() {
            Some(timestamps) => Options {
                timestamps: Some(timestamps),
                ..Options::default()
            },
            None if self.options.is_empty() => Options::default(),
            None => Options::parse(self.options),
        }
    }

    /// Every option one after another, unknown ones too.
    #[inline]
    pub fn options_iter(&self) -> OptIter<'a> {
        OptIter::new(self.options)
    }

    /// TSval and TSecr when the options are exactly NOP, NOP, timestamps: the layout nearly every segment of a
    /// connection has (RFC 7323 appendix A).
    #[inline]
    pub fn only_timestamps(&self) -> Option<(u32, u32)> {
        let area: &[u8; 12] = self.options.try_into().ok()?;
        (be32(area, 0) == options::TIMESTAMPS_PADDED).then(|| (be32(area, 4), be32(area, 8)))
    }

    /// The data.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Sequence numbers the segment takes: its data, and one each for SYN and FIN.
    #[inline]
    pub fn segment_len(&self) -> u32 {
        let flags = self.flags();
        self.payload.len() as u32
            + u32::from(flags.contains(Flags::SYN))
            + u32::from(flags.contains(Flags::FIN))
    }

    /// Whether the checksum is right.
    #[inline]
    pub fn verify_checksum(&self, src: &Addr, dst: &Addr) -> bool {
        let len = self.header_len() + self.payload.len();
        checksum::pseudo(src, dst, protocol::TCP, len as u32)
            .add_bytes(self.header)
            .add_bytes(self.options)
            .add_bytes(self.payload)
            .is_valid()
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TCP {} > {} {} seq {}",
            self.src_port(),
            self.dst_port(),
            self.flags(),
            self.seq()
        )?;
        if self.flags().contains(Flags::ACK) {
            write!(f, " ack {}", self.ack())?;
        }
        write!(f, " win {}", self.window())?;
        if self.flags().contains(Flags::URG) {
            write!(f, " urg {}", self.urgent())?;
        }
        write!(f, " len {}", self.payload.len())?;
        if self.options.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.options_iter())
        }
    }
}

/// A TCP header.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number; the ACK flag goes with it.
    pub ack: Option<u32>,
    /// Control bits other than ACK, which is sent when there is an acknowledgment number and only then.
    pub flags: Flags,
    /// Window as it goes on the wire, already scaled.
    pub window: u16,
    /// Urgent pointer; zero without [`Flags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: Options,
}

impl Repr {
    /// Reads a header. The checksum is not looked at: a device may have done so. Malformed options do not make a
    /// segment invalid (RFC 9293 section 3.1, MUST-7).
    ///
    /// # Errors
    /// None today; a result like that of every other protocol.
    #[inline]
    pub fn parse(packet: &Packet<'_>) -> Result<Repr> {
        let flags = packet.flags();
        Ok(Repr {
            src_port: packet.src_port(),
            dst_port: packet.dst_port(),
            seq: packet.seq(),
            ack: flags.contains(Flags::ACK).then(|| packet.ack()),
            flags: flags.without(Flags::ACK),
            window: packet.window(),
            urgent: if flags.contains(Flags::URG) {
                packet.urgent()
            } else {
                0
            },
            options: packet.options(),
        })
    }

    /// Bytes [`Repr::emit`] writes: header and options, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.buffer_len()
    }

    /// Writes the header with its options into the first [`Repr::header_len`] bytes, checksum zero.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        let (ack, flags) = match self.ack {
            Some(ack) => (ack, self.flags | Flags::ACK),
            None => (0, self.flags.without(Flags::ACK)),
        };
        let first =
            u64::from(self.src_port) << 48 | u64::from(self.dst_port) << 32 | u64::from(self.seq);
        let second =
            u64::from(ack) << 32 | u64::from(flags.0 & Flags::MASK) << 16 | u64::from(self.window);
        // In front of the urgent pointer the checksum, which is the caller's, or the device's.
        let third = if flags.contains(Flags::URG) {
            u32::from(self.urgent)
        } else {
            0
        };
        if let Some((val, ecr)) = self.options.only_timestamps() {
            const LEN: usize = HEADER_LEN + 12;
            let bytes = head_mut::<LEN>(buffer);
            put64(bytes, 0, first);
            put64(bytes, 8, second | data_offset(LEN));
            put64(
                bytes,
                16,
                u64::from(third) << 32 | u64::from(options::TIMESTAMPS_PADDED),
            );
            put64(bytes, 24, u64::from(val) << 32 | u64::from(ecr));
        } else {
            let options_len = self
                .options
                .emit(buffer.get_mut(HEADER_LEN..).unwrap_or_default());
            let bytes = head_mut::<HEADER_LEN>(buffer);
            put64(bytes, 0, first);
            put64(bytes, 8, second | data_offset(HEADER_LEN + options_len));
            put32(bytes, CHECKSUM_OFFSET, third);
        }
    }
}

/// The data offset field for a header of this many bytes, where it stands in the second 8-byte word.
#[inline(always)]
const fn data_offset(header_len: usize) -> u64 {
    ((header_len / 4) as u64) << 28
}
