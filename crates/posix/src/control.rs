//! Control messages: `cmsghdr` and its data as bytes, to Rust and back.
//!
//! What does not live here: what they mean (`call`), pointers.

use crate::errno::{Errno, Result};

/// One control message; see [`send_message`](crate::send_message) and [`receive`](crate::receive()).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// SOL_SOCKET or a protocol.
    pub level: i32,
    /// Of that level.
    pub kind: i32,
    /// What it says.
    pub data: Vec<u8>,
}

/// `struct cmsghdr`: length, level, type.
const HEADER: usize = 16;
/// Each begins at a multiple of this.
const ALIGNMENT: usize = 8;

impl Control {
    /// A message of one int.
    pub(crate) fn int(level: i32, kind: i32, value: i32) -> Self {
        let data = value.to_ne_bytes().to_vec();
        Self { level, kind, data }
    }

    /// Its int, if that is what it holds.
    pub(crate) fn number(&self) -> Result<i32> {
        let bytes = self.data.first_chunk().ok_or(Errno::INVAL)?;
        Ok(i32::from_ne_bytes(*bytes))
    }
}

/// Reads the control messages of a `msghdr`.
///
/// ```
/// use posix::{Control, parse_control, write_control};
///
/// let data = 7_i32.to_ne_bytes().to_vec();
/// let all = [Control { level: libc::SOL_IP, kind: libc::IP_TTL, data }];
/// let mut buffer = [0; 64]; // `msg_control` of a `msghdr`
/// let (len, all_fit) = write_control(&all, &mut buffer);
/// assert!(all_fit);
/// assert_eq!(parse_control(&buffer[..len])?, all);
/// # Ok::<(), posix::Errno>(())
/// ```
///
/// # Errors
/// EINVAL for a length that makes no sense.
pub fn parse_control(mut bytes: &[u8]) -> Result<Vec<Control>> {
    let mut found = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let [a, b, c, d, e, f, g, h, level @ .., i, j, k, l] = *header;
        let len = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let len = usize::try_from(len).map_err(|_| Errno::INVAL)?;
        let data = bytes.get(HEADER..len).ok_or(Errno::INVAL)?;
        found.push(Control {
            level: i32::from_ne_bytes(level),
            kind: i32::from_ne_bytes([i, j, k, l]),
            data: data.to_vec(),
        });
        bytes = bytes.get(len.next_multiple_of(ALIGNMENT)..).unwrap_or(&[]);
    }
    Ok(found)
}

/// Writes control messages into the buffer of a `msghdr`: how much of it is used, and whether all of them fit (else
/// MSG_CTRUNC). As on Linux the first that does not fit is cut off, and the last. For an example see [`parse_control`].
pub fn write_control(messages: &[Control], out: &mut [u8]) -> (usize, bool) {
    let mut at = 0;
    for message in messages {
        let room = out.get_mut(at..).unwrap_or(&mut []);
        if room.len() < HEADER {
            return (at, false);
        }
        let len = (HEADER + message.data.len()).min(room.len());
        room[..8].copy_from_slice(&(len as u64).to_ne_bytes());
        room[8..12].copy_from_slice(&message.level.to_ne_bytes());
        room[12..HEADER].copy_from_slice(&message.kind.to_ne_bytes());
        room[HEADER..len].copy_from_slice(&message.data[..len - HEADER]);
        let whole = len == HEADER + message.data.len();
        let space = len.next_multiple_of(ALIGNMENT).min(room.len());
        room[len..space].fill(0);
        at += space;
        if !whole {
            return (at, false);
        }
    }
    (at, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let short = Control::int(6, 36, 7);
        let long = Control {
            level: 1,
            kind: 37,
            data: (0..48).collect(),
        };
        let both = [short, long];
        let mut out = [0xff; 128];
        assert_eq!(write_control(&both, &mut out), (24 + 64, true));
        assert_eq!(parse_control(&out[..88]), Ok(both.to_vec()));
        let cut = write_control(&both, &mut out[..60]);
        assert_eq!(cut, (60, false));
        assert_eq!(out[24..32], 36_u64.to_ne_bytes());
        assert_eq!(write_control(&both, &mut out[..30]), (24, false));
    }

    #[test]
    fn lengths_are_not_believed() {
        assert_eq!(parse_control(&[]), Ok(vec![]));
        assert_eq!(parse_control(&[1; 15]), Ok(vec![]), "less than a header");
        let mut bytes = [0; 16];
        for len in [0_u64, 15, 17, u64::MAX] {
            bytes[..8].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(parse_control(&bytes), Err(Errno::INVAL), "{len}");
        }
    }
}
