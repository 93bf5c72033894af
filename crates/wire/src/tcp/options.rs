//! TCP options (RFC 9293 section 3.2, RFC 7323, RFC 2018, RFC 7413, RFC 9768).
//!
//! [`Options`] holds those that TCP itself acts on; [`OptIter`] shows every option there is. Which of them count on
//! which segment is `stack`'s matter.

use core::fmt;

use crate::bytes::be32;

/// Room for options in a header.
pub const MAX_OPTIONS_LEN: usize = 40;
/// The largest window scale (RFC 7323 section 2.3: a larger one counts as this).
pub const MAX_WINDOW_SCALE: u8 = 14;

/// NOP, NOP, and kind and length of the timestamps option.
pub(super) const TIMESTAMPS_PADDED: u32 =
    u32::from_be_bytes([kind::NOP, kind::NOP, kind::TIMESTAMPS, 10]);

/// Option kinds (IANA "TCP Option Kind Numbers").
pub mod kind {
    /// End of the list, one byte.
    pub const END: u8 = 0;
    /// Padding, one byte.
    pub const NOP: u8 = 1;
    /// Maximum segment size (RFC 9293 section 3.7.1).
    pub const MSS: u8 = 2;
    /// Window scale (RFC 7323).
    pub const WINDOW_SCALE: u8 = 3;
    /// Selective acknowledgment is permitted (RFC 2018).
    pub const SACK_PERMITTED: u8 = 4;
    /// Selective acknowledgment (RFC 2018).
    pub const SACK: u8 = 5;
    /// Timestamps (RFC 7323).
    pub const TIMESTAMPS: u8 = 8;
    /// MD5 signature (RFC 2385).
    pub const MD5: u8 = 19;
    /// User timeout (RFC 5482).
    pub const USER_TIMEOUT: u8 = 28;
    /// Authentication (RFC 5925).
    pub const AUTHENTICATION: u8 = 29;
    /// Multipath TCP (RFC 8684).
    pub const MPTCP: u8 = 30;
    /// Fast Open cookie (RFC 7413).
    pub const FAST_OPEN: u8 = 34;
    /// Counters of accurate ECN, ECT(0) first (RFC 9768).
    pub const ACC_ECN_0: u8 = 172;
    /// The same, ECT(1) first.
    pub const ACC_ECN_1: u8 = 174;
    /// Experiments, told apart by a number of their own (RFC 6994).
    pub const EXPERIMENT: u8 = 254;
}

/// Selective acknowledgment blocks: first sequence number, and the one after the last.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub struct Sack {
    /// How many of the blocks count, 0 to 4.
    pub len: u8,
    /// The blocks; those beyond `len` are zero.
    pub blocks: [(u32, u32); 4],
}

impl Sack {
    /// No block.
    pub const EMPTY: Sack = Sack {
        len: 0,
        blocks: [(0, 0); 4],
    };

    /// The blocks that count.
    #[inline]
    pub fn as_slice(&self) -> &[(u32, u32)] {
        self.blocks
            .get(..usize::from(self.len))
            .unwrap_or(&self.blocks)
    }

    /// Adds a block; `false` when there are four already.
    #[inline]
    pub fn push(&mut self, block: (u32, u32)) -> bool {
        match self.blocks.get_mut(usize::from(self.len)) {
            Some(free) => {
                *free = block;
                self.len += 1;
                true
            }
            None => false,
        }
    }
}

impl Sack {
    /// The blocks of one option; `None` if it is not one to four blocks long.
    #[inline]
    fn parse(data: &[u8]) -> Option<Sack> {
        let (blocks @ ([_] | [_, _] | [_, _, _] | [_, _, _, _]), []) = data.as_chunks::<8>() else {
            return None;
        };
        let mut sack = Sack {
            len: blocks.len() as u8,
            ..Sack::EMPTY
        };
        for (to, from) in sack.blocks.iter_mut().zip(blocks) {
            *to = (be32(from, 0), be32(from, 4));
        }
        Some(sack)
    }
}

/// Two numbers, if that is what the option holds.
#[inline]
fn pair(data: &[u8]) -> Option<(u32, u32)> {
    let data: &[u8; 8] = data.try_into().ok()?;
    Some((be32(data, 0), be32(data, 4)))
}

/// A Fast Open option (RFC 7413 section 4.1.1): a cookie, or with none the request for one. It means something on SYN
/// segments only.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct FastOpen {
    /// As kind 254 with a number of its own, the form from before the option had a kind (RFC 6994).
    pub experimental: bool,
    len: u8,
    bytes: [u8; FastOpen::MOST],
}

impl FastOpen {
    /// Bytes a cookie may have, an even number of them.
    const LEAST: usize = 4;
    const MOST: usize = 16;
    /// The experiment's number.
    const MAGIC: [u8; 2] = [0xf9, 0x89];
    /// The request for a cookie.
    pub const REQUEST: FastOpen = FastOpen {
        experimental: false,
        len: 0,
        bytes: [0; FastOpen::MOST],
    };

    /// An option with this cookie; empty for a request. `None` for what is neither (RFC 7413 section 4.1.1: 4 to 16
    /// bytes, an even number).
    pub fn new(cookie: &[u8], experimental: bool) -> Option<FastOpen> {
        let len = cookie.len();
        if len != 0 && (!(Self::LEAST..=Self::MOST).contains(&len) || !len.is_multiple_of(2)) {
            return None;
        }
        let mut bytes = [0; Self::MOST];
        bytes[..len].copy_from_slice(cookie);
        Some(FastOpen {
            experimental,
            len: len as u8,
            bytes,
        })
    }

    /// The cookie; empty for a request.
    pub fn cookie(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.len))
            .unwrap_or(&self.bytes)
    }

    /// Whether it asks for a cookie.
    pub fn is_request(&self) -> bool {
        self.len == 0
    }

    /// What follows kind and length of kind 254, if it is this experiment.
    fn parse_experiment(data: &[u8]) -> Option<FastOpen> {
        FastOpen::new(data.strip_prefix(&Self::MAGIC)?, true)
    }

    /// Bytes of the option, padded to a multiple of four.
    fn padded_len(&self) -> usize {
        let head = if self.experimental { 4 } else { 2 };
        (head + usize::from(self.len)).next_multiple_of(4)
    }

    fn emit(&self, out: &mut [u8]) {
        out.fill(kind::NOP);
        let head = if self.experimental { 4 } else { 2 };
        let end = head + usize::from(self.len);
        out[1] = end as u8;
        if self.experimental {
            out[0] = kind::EXPERIMENT;
            out[2..4].copy_from_slice(&Self::MAGIC);
        } else {
            out[0] = kind::FAST_OPEN;
        }
        out[head..end].copy_from_slice(self.cookie());
    }
}

impl fmt::Debug for FastOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.experimental { "exp:" } else { "" })?;
        self.cookie()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// Bytes received by their ECN codepoint, as accurate ECN echoes them (RFC 9768 section 3.2.3): up to three numbers of 24 bits.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub struct AccEcn {
    /// Order 1: ECT(1), CE, ECT(0). Else order 0: ECT(0), CE, ECT(1).
    pub ect_1_first: bool,
    /// How many of the fields count, 0 to 3.
    len: u8,
    /// The fields in their order; those beyond `len` are zero.
    fields: [[u8; 3]; 3],
}

impl AccEcn {
    /// From these fields, up to three, of which the 24 least bits count.
    pub fn new(ect_1_first: bool, fields: &[u32]) -> AccEcn {
        let mut option = AccEcn {
            ect_1_first,
            ..AccEcn::default()
        };
        for (to, from) in option.fields.iter_mut().zip(fields) {
            let [_, a, b, c] = from.to_be_bytes();
            *to = [a, b, c];
            option.len += 1;
        }
        option
    }

    /// Any length is taken: the whole fields that fit count (RFC 9768 section 3.2.3).
    fn parse(kind: u8, data: &[u8]) -> AccEcn {
        let mut option = AccEcn {
            ect_1_first: kind == kind::ACC_ECN_1,
            ..AccEcn::default()
        };
        for (to, from) in option.fields.iter_mut().zip(data.as_chunks::<3>().0) {
            *to = *from;
            option.len += 1;
        }
        option
    }

    fn field(&self, at: u8) -> Option<u32> {
        let &[a, b, c] = self.fields.get(usize::from(at)).filter(|_| at < self.len)?;
        Some(u32::from_be_bytes([0, a, b, c]))
    }

    /// How many fields there are, 0 to 3.
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that came with ECT(0).
    pub fn e0b(&self) -> Option<u32> {
        self.field(if self.ect_1_first { 2 } else { 0 })
    }

    /// Bytes that came with CE.
    pub fn ceb(&self) -> Option<u32> {
        self.field(1)
    }

    /// Bytes that came with ECT(1).
    pub fn e1b(&self) -> Option<u32> {
        self.field(if self.ect_1_first { 0 } else { 2 })
    }

    /// Bytes an option of so many fields takes, padded to a multiple of four.
    #[inline]
    pub const fn padded_len(fields: u8) -> usize {
        (2 + 3 * fields as usize).next_multiple_of(4)
    }

    /// The most fields that find room in so many bytes; `None`: not even the option without any does.
    #[inline]
    pub fn fitting(room: usize) -> Option<u8> {
        (0..=3)
            .rev()
            .find(|&fields| Self::padded_len(fields) <= room)
    }

    fn emit(&self, out: &mut [u8]) {
        out.fill(kind::NOP);
        let end = 2 + 3 * usize::from(self.len);
        out[0] = if self.ect_1_first {
            kind::ACC_ECN_1
        } else {
            kind::ACC_ECN_0
        };
        out[1] = end as u8;
        out[2..end].copy_from_slice(&self.fields.as_flattened()[..end - 2]);
    }
}

impl fmt::Debug for AccEcn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.ect_1_first {
            ["e1b", "ceb", "e0b"]
        } else {
            ["e0b", "ceb", "e1b"]
        };
        f.write_str("ECN")?;
        (0..self.len)
            .zip(names)
            .try_for_each(|(at, name)| write!(f, " {name} {}", self.field(at).unwrap_or_default()))
    }
}

/// The options TCP itself acts on.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale, at most [`MAX_WINDOW_SCALE`].
    pub window_scale: Option<u8>,
    /// Selective acknowledgment is permitted.
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// Selective acknowledgment blocks.
    pub sack: Sack,
    /// A Fast Open cookie, or the request for one.
    pub fast_open: Option<FastOpen>,
    /// Counters of accurate ECN. When sent they are cut to the room there is beside the other options but SACK.
    pub acc_ecn: Option<AccEcn>,
    /// An option did not fit; those before it are there. Never sent.
    pub malformed: bool,
}

impl Options {
    /// Reads an option area. Unknown options, and known ones of the wrong length, are passed over (RFC 9293 section
    /// 3.1, MUST-6); of one that comes twice the last counts.
    pub fn parse(area: &[u8]) -> Options {
        let mut options = Options::default();
        let mut rest = area;
        loop {
            let (kind, data) = match next(&mut rest) {
                Next::Option(kind, data) => (kind, data),
                Next::End => break,
                Next::Malformed => {
                    options.malformed = true;
                    break;
                }
            };
            match (kind, data) {
                (kind::MSS, &[high, low]) => options.mss = Some(u16::from_be_bytes([high, low])),
                // RFC 7323 section 2.3: a shift over 14 MUST be taken as 14.
                (kind::WINDOW_SCALE, &[scale]) => {
                    options.window_scale = Some(scale.min(MAX_WINDOW_SCALE))
                }
                (kind::SACK_PERMITTED, []) => options.sack_permitted = true,
                (kind::TIMESTAMPS, data) => options.timestamps = pair(data).or(options.timestamps),
                (kind::SACK, data) => options.sack = Sack::parse(data).unwrap_or(options.sack),
                (kind::FAST_OPEN, data) => {
                    options.fast_open = FastOpen::new(data, false).or(options.fast_open)
                }
                (kind::EXPERIMENT, data) => {
                    options.fast_open = FastOpen::parse_experiment(data).or(options.fast_open)
                }
                (kind @ (kind::ACC_ECN_0 | kind::ACC_ECN_1), data) => {
                    options.acc_ecn = Some(AccEcn::parse(kind, data))
                }
                _ => {}
            }
        }
        options
    }

    /// TSval and TSecr if there is no other option.
    #[inline]
    pub fn only_timestamps(&self) -> Option<(u32, u32)> {
        let nothing_else = self.mss.is_none()
            & self.window_scale.is_none()
            & !self.sack_permitted
            & (self.sack.len == 0)
            & self.fast_open.is_none()
            & self.acc_ecn.is_none();
        if nothing_else { self.timestamps } else { None }
    }

    /// How many blocks of selective acknowledgment find room beside the other options: at most 3 with timestamps,
    /// 4 without (RFC 2018 section 3).
    #[inline]
    pub fn sack_room(&self) -> usize {
        (MAX_OPTIONS_LEN - self.len_without_sack()).saturating_sub(4) / 8
    }

    /// Bytes the options other than the blocks take, padding included; at most 40.
    #[inline]
    fn len_without_sack(&self) -> usize {
        self.len_of_others() + self.acc_ecn_sent().map_or(0, |o| AccEcn::padded_len(o.len))
    }

    /// The counters that will be sent.
    #[inline]
    fn acc_ecn_sent(&self) -> Option<AccEcn> {
        let mut option = self.acc_ecn?;
        option.len = option
            .len
            .min(AccEcn::fitting(MAX_OPTIONS_LEN - self.len_of_others())?);
        Some(option)
    }

    /// Bytes the options other than the blocks and the counters take, padding included; at most 40.
    #[inline]
    fn len_of_others(&self) -> usize {
        let mss = if self.mss.is_some() { 4 } else { 0 };
        // "Permitted" takes the place of the two NOPs in front of the timestamps, as Linux sends them.
        let sack_permitted = if self.sack_permitted && self.timestamps.is_none() {
            4
        } else {
            0
        };
        let timestamps = if self.timestamps.is_some() { 12 } else { 0 };
        let window_scale = if self.window_scale.is_some() { 4 } else { 0 };
        let fast_open = self.fast_open.map_or(0, |option| option.padded_len());
        mss + sack_permitted + timestamps + window_scale + fast_open
    }

    /// The blocks that will be sent.
    #[inline]
    fn sack_sent(&self) -> &[(u32, u32)] {
        let blocks = self.sack.as_slice();
        &blocks[..blocks.len().min(self.sack_room())]
    }

    /// Bytes [`Options::emit`] writes, a multiple of 4, at most [`MAX_OPTIONS_LEN`].
    #[inline]
    pub fn buffer_len(&self) -> usize {
        let sack = if self.sack.len == 0 {
            0
        } else {
            match self.sack_sent().len() {
                0 => 0,
                blocks => 4 + 8 * blocks,
            }
        };
        self.len_without_sack() + sack
    }

    /// Writes the options in the order Linux uses (MSS, SACK permitted, timestamps, accurate ECN, window scale, Fast
    /// Open, SACK; accurate ECN before SACK permitted without timestamps), each aligned to four bytes; returns how many bytes. Blocks that find no room are left out, the last ones first.
    ///
    /// # Panics
    /// When the buffer is shorter than [`Options::buffer_len`].
    pub fn emit(&self, buffer: &mut [u8]) -> usize {
        let mut out = Writer { buffer, at: 0 };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            out.word([kind::MSS, 4, high, low]);
        }
        if let Some((val, ecr)) = self.timestamps {
            if self.sack_permitted {
                out.word([kind::SACK_PERMITTED, 2, kind::TIMESTAMPS, 10]);
            } else {
                out.word(TIMESTAMPS_PADDED.to_be_bytes());
            }
            out.word(val.to_be_bytes());
            out.word(ecr.to_be_bytes());
        }
        if let Some(option) = self.acc_ecn_sent() {
            option.emit(out.take(AccEcn::padded_len(option.len)));
        }
        if self.sack_permitted && self.timestamps.is_none() {
            out.word([kind::NOP, kind::NOP, kind::SACK_PERMITTED, 2]);
        }
        if let Some(scale) = self.window_scale {
            out.word([
                kind::NOP,
                kind::WINDOW_SCALE,
                3,
                scale.min(MAX_WINDOW_SCALE),
            ]);
        }
        if let Some(option) = self.fast_open {
            option.emit(out.take(option.padded_len()));
        }
        let blocks = self.sack_sent();
        if !blocks.is_empty() {
            out.word([
                kind::NOP,
                kind::NOP,
                kind::SACK,
                (2 + 8 * blocks.len()) as u8,
            ]);
            for (left, right) in blocks {
                out.word(left.to_be_bytes());
                out.word(right.to_be_bytes());
            }
        }
        out.at
    }
}

struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[inline]
    fn word(&mut self, word: [u8; 4]) {
        self.take(4).copy_from_slice(&word);
    }

    #[inline]
    fn take(&mut self, len: usize) -> &mut [u8] {
        self.at += len;
        &mut self.buffer[self.at - len..self.at]
    }
}

/// One option other than padding and the end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Opt<'a> {
    /// Maximum segment size.
    Mss(u16),
    /// Window scale as it stands.
    WindowScale(u8),
    /// Selective acknowledgment is permitted.
    SackPermitted,
    /// Selective acknowledgment blocks.
    Sack(Sack),
    /// TSval and TSecr.
    Timestamps(u32, u32),
    /// A Fast Open cookie, or the request for one.
    FastOpen(FastOpen),
    /// Counters of accurate ECN.
    AccEcn(AccEcn),
    /// Any other kind, or one of the above with a length that is not its own.
    Other {
        /// See [`kind`].
        kind: u8,
        /// What follows kind and length.
        data: &'a [u8],
    },
}

impl<'a> Opt<'a> {
    fn parse(kind: u8, data: &'a [u8]) -> Opt<'a> {
        match (kind, data) {
            (kind::MSS, &[high, low]) => Some(Opt::Mss(u16::from_be_bytes([high, low]))),
            (kind::WINDOW_SCALE, &[scale]) => Some(Opt::WindowScale(scale)),
            (kind::SACK_PERMITTED, []) => Some(Opt::SackPermitted),
            (kind::SACK, data) => Sack::parse(data).map(Opt::Sack),
            (kind::TIMESTAMPS, data) => pair(data).map(|(val, ecr)| Opt::Timestamps(val, ecr)),
            (kind::FAST_OPEN, data) => FastOpen::new(data, false).map(Opt::FastOpen),
            (kind::EXPERIMENT, data) => FastOpen::parse_experiment(data).map(Opt::FastOpen),
            (kind::ACC_ECN_0 | kind::ACC_ECN_1, data) => {
                Some(Opt::AccEcn(AccEcn::parse(kind, data)))
            }
            _ => None,
        }
        .unwrap_or(Opt::Other { kind, data })
    }
}

/// What stands next in an option area.
enum Next<'a> {
    /// An option: its kind, and what follows kind and length.
    Option(u8, &'a [u8]),
    /// The end.
    End,
    /// An option that does not fit, or has no room for its own length.
    Malformed,
}

/// Takes the next option off the area, and the padding in front of it.
#[inline(always)]
fn next<'a>(rest: &mut &'a [u8]) -> Next<'a> {
    loop {
        match **rest {
            [] | [kind::END, ..] => return Next::End,
            [kind::NOP, ref after @ ..] => *rest = after,
            [kind, len, ref after @ ..] if len >= 2 && usize::from(len) - 2 <= after.len() => {
                let (data, after) = after.split_at(usize::from(len) - 2);
                *rest = after;
                return Next::Option(kind, data);
            }
            _ => return Next::Malformed,
        }
    }
}

/// Every option one after another; ends at the end marker, or at an option that does not fit.
#[derive(Copy, Clone, Debug)]
pub struct OptIter<'a> {
    rest: &'a [u8],
    malformed: bool,
}

impl<'a> OptIter<'a> {
    /// Options from an option area.
    #[inline]
    pub fn new(area: &'a [u8]) -> OptIter<'a> {
        OptIter {
            rest: area,
            malformed: false,
        }
    }

    /// Once the iterator has ended: whether it ended at an option that does not fit.
    #[inline]
    pub const fn malformed(&self) -> bool {
        self.malformed
    }
}

impl<'a> Iterator for OptIter<'a> {
    type Item = Opt<'a>;

    fn next(&mut self) -> Option<Opt<'a>> {
        match next(&mut self.rest) {
            Next::Option(kind, data) => return Some(Opt::parse(kind, data)),
            Next::End => {}
            Next::Malformed => self.malformed = true,
        }
        self.rest = &[];
        None
    }
}

impl fmt::Display for OptIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        let mut options = *self;
        let mut separator = "";
        for option in options.by_ref() {
            f.write_str(separator)?;
            separator = " ";
            match option {
                Opt::Mss(mss) => write!(f, "mss {mss}")?,
                Opt::WindowScale(scale) => write!(f, "wscale {scale}")?,
                Opt::SackPermitted => f.write_str("sackOK")?,
                Opt::Timestamps(val, ecr) => write!(f, "TS {val} ecr {ecr}")?,
                Opt::Sack(sack) => {
                    f.write_str("sack")?;
                    for (left, right) in sack.as_slice() {
                        write!(f, " {left}-{right}")?;
                    }
                }
                Opt::FastOpen(option) => write!(f, "fastopen {option:?}")?,
                Opt::AccEcn(option) => write!(f, "{option:?}")?,
                Opt::Other { kind, data } => write!(f, "option {kind} len {}", data.len() + 2)?,
            }
        }
        if options.malformed {
            write!(f, "{separator}malformed")?;
        }
        f.write_str("]")
    }
}
