//! The option area of an IPv4 header (RFC 791 section 3.1).

use core::fmt;

/// Option kinds (IANA "IP Option Numbers"), copied flag included.
pub mod kind {
    /// End of the list, one byte.
    pub const END: u8 = 0;
    /// Padding, one byte.
    pub const NOP: u8 = 1;
    /// Record route (RFC 791).
    pub const RECORD_ROUTE: u8 = 7;
    /// Internet timestamp (RFC 791).
    pub const TIMESTAMP: u8 = 68;
    /// Loose source route (RFC 791).
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    /// Strict source route (RFC 791).
    pub const STRICT_SOURCE_ROUTE: u8 = 137;
    /// Router alert (RFC 2113).
    pub const ROUTER_ALERT: u8 = 148;
}

/// One option other than padding and the end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Opt<'a> {
    /// See [`kind`].
    pub kind: u8,
    /// What follows kind and length.
    pub data: &'a [u8],
    /// Where the option begins, counted from the start of the header: what an ICMP parameter problem points at.
    pub offset: u8,
}

impl Opt<'_> {
    /// Goes into every fragment, not only the first (RFC 791 section 3.1).
    #[inline]
    pub const fn copied(&self) -> bool {
        self.kind & 0x80 != 0
    }

    /// Tells routers where to send the packet; hosts drop such packets by default (RFC 7126 section 4.3).
    #[inline]
    pub const fn is_source_route(&self) -> bool {
        matches!(
            self.kind,
            kind::LOOSE_SOURCE_ROUTE | kind::STRICT_SOURCE_ROUTE
        )
    }
}

/// The options of a header one after another; ends at the end marker, or at an option that does not fit.
#[derive(Copy, Clone, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
    offset: u8,
    malformed: Option<u8>,
}

impl<'a> Options<'a> {
    /// Options from an option area, at most 40 bytes of which are looked at.
    #[inline]
    pub(super) fn new(area: &'a [u8]) -> Options<'a> {
        Options {
            rest: area.get(..40).unwrap_or(area),
            offset: super::HEADER_LEN as u8,
            malformed: None,
        }
    }

    /// Once the iterator has ended: where in the header the option begins whose length made no sense, if one did.
    #[inline]
    pub const fn malformed(&self) -> Option<u8> {
        self.malformed
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Opt<'a>;

    fn next(&mut self) -> Option<Opt<'a>> {
        loop {
            let (&kind, after) = self.rest.split_first()?;
            match kind {
                kind::END => {
                    self.rest = &[];
                    return None;
                }
                kind::NOP => {
                    self.rest = after;
                    self.offset += 1;
                }
                _ => {
                    let len = after.first().map_or(0, |&len| usize::from(len));
                    let Some((option, rest)) = self.rest.split_at_checked(len).filter(|_| len >= 2)
                    else {
                        self.malformed = Some(self.offset);
                        self.rest = &[];
                        return None;
                    };
                    let option = Opt {
                        kind,
                        data: &option[2..],
                        offset: self.offset,
                    };
                    self.rest = rest;
                    self.offset += len as u8;
                    return Some(option);
                }
            }
        }
    }
}

impl fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        let mut options = *self;
        let mut separator = "";
        for option in options.by_ref() {
            f.write_str(separator)?;
            separator = " ";
            match option.kind {
                kind::RECORD_ROUTE => f.write_str("record-route")?,
                kind::TIMESTAMP => f.write_str("timestamp")?,
                kind::LOOSE_SOURCE_ROUTE => f.write_str("loose-source-route")?,
                kind::STRICT_SOURCE_ROUTE => f.write_str("strict-source-route")?,
                kind::ROUTER_ALERT => f.write_str("router-alert")?,
                other => write!(f, "{other}")?,
            }
        }
        if options.malformed.is_some() {
            write!(f, "{separator}malformed")?;
        }
        f.write_str("]")
    }
}
