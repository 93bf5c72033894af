//! Control messages of sendmsg: what one call wants otherwise than the socket's options say.
//!
//! What does not live here: their form (`control`).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::control::Control;
use crate::errno::{Errno, Result};
use crate::notice::{SO_TIMESTAMPING, stamp};
use crate::socket::Kind;

/// What a call says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ancillary {
    /// Stamps asked for, instead of the socket's (SO_TIMESTAMPING).
    pub(crate) stamping: Option<u32>,
    /// From where a datagram is sent (IP_PKTINFO, IPV6_PKTINFO).
    pub(crate) from: Option<IpAddr>,
    /// IP_TTL, IPV6_HOPLIMIT.
    pub(crate) ttl: Option<u8>,
    /// IP_TOS, IPV6_TCLASS.
    pub(crate) tos: Option<u8>,
    /// UDP_SEGMENT.
    pub(crate) segment: Option<u16>,
}

impl Ancillary {
    /// Reads the control messages of a call on a socket of this kind and family.
    ///
    /// # Errors
    /// EINVAL for one that is not known, or whose value is out of range.
    pub(crate) fn new(control: &[Control], kind: Kind, v6: bool) -> Result<Self> {
        let mut all = Self::default();
        for message in control {
            match (message.level, message.kind) {
                (libc::SOL_SOCKET, SO_TIMESTAMPING) => {
                    let bits = message.number()? as u32;
                    if bits & !stamp::TX != 0 {
                        return Err(Errno::INVAL);
                    }
                    all.stamping = Some(bits);
                }
                // Nobody reads marks here, and nobody passes descriptors on.
                (libc::SOL_SOCKET, libc::SO_MARK | libc::SO_PRIORITY) => {
                    message.number()?;
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS | libc::SCM_CREDENTIALS) => {}
                (libc::SOL_SOCKET, _) => return Err(Errno::INVAL),
                // A stream has no packets of its own: other levels are passed over, as on Linux.
                _ if kind == Kind::Stream => {}
                (libc::SOL_IPV6, _) if v6 => all.take_v6(message)?,
                (libc::SOL_IP, _) => all.take_v4(message)?,
                (libc::SOL_UDP, _) => all.take_udp(message)?,
                _ => {}
            }
        }
        Ok(all)
    }

    fn take_udp(&mut self, message: &Control) -> Result<()> {
        match (message.kind, &message.data[..]) {
            (libc::UDP_SEGMENT, &[low, high]) => {
                self.segment = Some(u16::from_ne_bytes([low, high]));
                Ok(())
            }
            _ => Err(Errno::INVAL),
        }
    }

    fn take_v4(&mut self, message: &Control) -> Result<()> {
        match message.kind {
            libc::IP_PKTINFO => {
                // The interface, the address to send from, and one that only receivers fill.
                let info: [u8; 12] = message.data[..].try_into().map_err(|_| Errno::INVAL)?;
                let [_, _, _, _, from @ .., _, _, _, _] = info;
                self.from =
                    Some(Ipv4Addr::from(from).into()).filter(|ip: &IpAddr| !ip.is_unspecified());
            }
            libc::IP_TTL => self.ttl = Some(byte(message.number()?, 1)?),
            libc::IP_TOS => {
                let tos = match message.data[..] {
                    [tos] => i32::from(tos),
                    _ => message.number()?,
                };
                self.tos = Some(byte(tos, 0)?);
            }
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    fn take_v6(&mut self, message: &Control) -> Result<()> {
        match message.kind {
            libc::IPV6_PKTINFO => {
                let info: [u8; 20] = message.data[..].try_into().map_err(|_| Errno::INVAL)?;
                let [from @ .., _, _, _, _] = info;
                self.from =
                    Some(Ipv6Addr::from(from).to_canonical()).filter(|ip| !ip.is_unspecified());
            }
            libc::IPV6_HOPLIMIT => match message.number()? {
                -1 => self.ttl = None,
                ttl => self.ttl = Some(byte(ttl, 0)?),
            },
            libc::IPV6_TCLASS => match message.number()? {
                -1 => self.tos = None,
                tos => self.tos = Some(byte(tos, 0)?),
            },
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }
}

fn byte(value: i32, least: i32) -> Result<u8> {
    let fits = u8::try_from(value).ok();
    fits.filter(|_| value >= least).ok_or(Errno::INVAL)
}
