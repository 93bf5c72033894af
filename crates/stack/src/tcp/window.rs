//! The window we offer: how much a connection may hold to be read, how far the peer may send, and when it is told
//! (RFC 9293 3.8.6, RFC 7323 2).
//!
//! What is counted are bytes of payload. Data lie in blocks of 2 KiB, and pieces of up to half a block are copied together
//! (`receive`), so that the blocks of a queue are little more than twice its bytes. That is why a buffer by Linux's names
//! (SO_RCVBUF, the first two numbers of `tcp_rmem`) counts twice the bytes: half of it is for what blocks leave empty. Where a
//! stream is seen to leave less empty, `tcp_rmem` holds more of it.
//!
//! What does not live here: how the buffer grows (`inflow`), refusing data (`receive`).
//!
//! Invariant: the right edge that was offered is never taken back from what is accepted, whatever the field says, but when the
//! buffer is made smaller than what waits in it (`outgrown`), or TCP holds too much (`memory`).

use base::Seq;

use crate::context::Core;

use super::Tcp;
use super::conn::Conn;
use super::inflow::{Inflow, most};
use super::profile::TcpOptions;
use super::record::{Active, Tcb};
use super::tunables::TcpTunables;

/// The largest window a header can say without a scale, and the most a SYN offers (RFC 7323 2.2).
const UNSCALED: u32 = 65_535;
/// What the unit of [`TcpOptions::lacks`] is.
const LACK_UNIT: u32 = 100;

impl TcpOptions {
    /// Bytes that may wait to be read when a connection begins.
    pub(crate) fn first_buffer(&self, tcp: &TcpTunables) -> u32 {
        self.buffer_of(tcp.rmem_default)
    }

    fn buffer_of(&self, rmem_default: u32) -> u32 {
        self.receive_buffer
            .unwrap_or_else(|| (rmem_default / 2).max(self.receive_low_water))
    }

    /// Bytes that may wait to be read on a connection that receives `inflow`.
    pub(crate) fn receive_limit(&self, tcp: &TcpTunables, inflow: Option<&Inflow>) -> u32 {
        let first = self.first_buffer(tcp);
        match inflow {
            Some(inflow) if self.receive_buffer.is_none() => {
                let held = inflow.holds(tcp.rmem_default).min(most(tcp));
                first.max(inflow.limit).max(held)
            }
            // Who sets the memory for frames gets what it holds of them.
            Some(inflow) if self.charge_frames && inflow.knows_fill() => {
                inflow.holds(first.saturating_mul(2))
            }
            _ => first,
        }
    }

    /// The memory for what may wait to be read, as Linux reckons (SO_RCVBUF): with what blocks leave empty.
    pub(crate) fn receive_memory(&self, tcp: &TcpTunables, inflow: Option<&Inflow>) -> u32 {
        let first = self.first_buffer(tcp).saturating_mul(2);
        match inflow {
            Some(inflow) if self.receive_buffer.is_none() => {
                first.max(inflow.memory().min(most(tcp)))
            }
            _ => first,
        }
    }

    /// Bytes that may ever wait to be read, as far as is known when a connection begins.
    fn last_buffer(&self, tcp: &TcpTunables) -> u32 {
        let most = self
            .receive_buffer
            .unwrap_or_else(|| tcp.rmem_max.max(self.first_buffer(tcp)));
        most.min(self.window_clamp.unwrap_or(u32::MAX))
    }

    /// The shift that lets a header say the largest window this connection may come to offer.
    pub(crate) fn window_shift(&self, tcp: &TcpTunables) -> u8 {
        window_shift(self.last_buffer(tcp))
    }

    /// What there is room for before data come, and may be offered.
    fn first_space(&self, rmem_default: u32) -> u32 {
        let clamp = self.window_clamp.unwrap_or(u32::MAX);
        self.buffer_of(rmem_default).min(clamp)
    }

    /// What SYN-ACKs say of our window: the shift, and the bytes at most.
    pub(crate) fn window_terms(&self, tcp: &TcpTunables) -> (u8, u32) {
        let bytes = self.first_space(tcp.rmem_default).min(UNSCALED);
        (self.window_shift(tcp), bytes)
    }

    /// What a SYN-ACK's window of so many bytes lacks of that, in units of which a nibble counts as many as it can. A link that
    /// carries less when the handshake ends would make whole segments of another length, and less of a window.
    pub(crate) fn lacks(&self, tcp: &TcpTunables, window: u32) -> u8 {
        let space = self.first_space(tcp.rmem_default).min(UNSCALED);
        (space.saturating_sub(window) / LACK_UNIT).min(0xf) as u8
    }

    /// The window that lacks so much, when that was the host's first buffer: no less than what was offered.
    pub(crate) fn granted_window(&self, rmem_default: u32, lacks: u8) -> u32 {
        let space = self.first_space(rmem_default).min(UNSCALED);
        let said = self.first_segments(self.advertised_mss.unwrap_or(u16::MAX).into());
        space.saturating_sub(u32::from(lacks) * LACK_UNIT).min(said)
    }

    /// What is offered with a SYN, and until data come: whole segments of `mss`, 64 KiB at most (as Linux).
    pub(crate) fn first_window(&self, tcp: &TcpTunables, mss: u16) -> u32 {
        let space = self.first_space(tcp.rmem_default);
        let mss = u32::from(mss).max(1);
        let whole = if space > mss {
            space - space % mss
        } else {
            space
        };
        whole.min(self.first_segments(mss)).min(UNSCALED)
    }

    /// Bytes of the segments of `mss` that are offered at first, if that was said.
    fn first_segments(&self, mss: u32) -> u32 {
        let said = self.initial_rwnd;
        said.map_or(u32::MAX, |segments| mss * u32::from(segments))
    }
}

/// The smallest shift that lets a 16-bit window cover `buffer` (RFC 7323 2.3: at most 14).
pub(crate) fn window_shift(buffer: u32) -> u8 {
    (0..14)
        .find(|shift| UNSCALED << shift >= buffer)
        .unwrap_or(14)
}

impl Conn<'_> {
    /// Bytes that may wait to be read now.
    #[inline]
    pub(crate) fn receive_limit(&self, tcp: &TcpTunables) -> u32 {
        let inflow = self.inflow.as_deref();
        self.profile.options.receive_limit(tcp, inflow)
    }

    /// Bytes for which there is room at most: a sixteenth more than the buffer, for what rounding adds.
    pub(crate) fn receive_room(&self, tcp: &TcpTunables) -> u32 {
        let buffer = self.receive_limit(tcp);
        let most = buffer.saturating_add(buffer / 16);
        most.saturating_sub(self.act.recv.len() as u32)
    }

    /// The window to offer now (RFC 9293 3.8.6.2.2, receiver's SWS avoidance): the right edge moves only by a full segment or
    /// half the buffer at least, and never left, unless `shrink_window` is set.
    pub(crate) fn window_to_offer(&self, core: &Core) -> Seq {
        let tcp = &core.tcp;
        let limit = self.receive_limit(tcp);
        let options = &self.profile.options;
        let scale = self.tcb.rcv_scale();
        let waits = self.act.recv.len() as u32;
        let waits = match self.inflow.as_deref() {
            Some(inflow) => inflow.occupied().max(waits),
            None => waits,
        };
        let mut room = limit
            .saturating_sub(waits)
            .min(options.window_clamp.unwrap_or(u32::MAX))
            .min(UNSCALED << scale);
        if options.initial_rwnd.is_some() && self.tcb.ato == 0 {
            let mss = options.advertised_mss.unwrap_or(self.tcb.mss);
            room = room.min(options.first_segments(mss.into())); // until data come
        }
        room = self.easy(core, room, limit);
        if tcp.shrink_window != 0 {
            room = room >> scale << scale;
        }
        let (edge, offered) = (self.tcb.rcv_nxt + room, self.offered_edge());
        if tcp.shrink_window != 0 && edge.lt(offered) {
            return edge;
        }
        let unit = u32::from(self.act.rcv_mss).max(536).min(limit / 2);
        if edge.gt(offered) && edge.dist(offered) >= unit {
            edge
        } else if scale == 0 {
            self.whole_segments(room, offered).max(offered)
        } else {
            offered
        }
    }

    /// Where a window without a scale ends, once less room is left than was offered: with the last whole segment that fits, as
    /// Linux has it.
    fn whole_segments(&self, room: u32, offered: Seq) -> Seq {
        let said = match offered.gt(self.tcb.last_ack_sent) {
            true => offered.dist(self.tcb.last_ack_sent),
            false => 0,
        };
        if said <= room {
            return offered;
        }
        self.tcb.rcv_nxt + (room - room % u32::from(self.act.rcv_mss).max(536))
    }

    /// The window field for a right edge, and up to where data will be accepted: rounded up to the scale's unit, so that rounding
    /// does not take back what was granted (RFC 7323 2.4). Since every ACK rounds up anew, tiny segments could push the edge on
    /// for ever: that ends a sixteenth above the buffer, where the field takes back less than a unit.
    #[inline]
    pub(crate) fn window_field(&self, tcp: &TcpTunables, edge: Seq) -> (u16, Seq) {
        let scale = self.tcb.rcv_scale();
        let window = if edge.gt(self.tcb.rcv_nxt) {
            edge.dist(self.tcb.rcv_nxt)
        } else {
            0
        };
        let room = self.receive_room(tcp);
        let mut field = window.div_ceil(1 << scale);
        if field << scale > room {
            field = window >> scale;
        }
        let field = field.min(UNSCALED);
        let said = self.tcb.rcv_nxt + (field << scale);
        (field as u16, self.tcb.rcv_adv.max(said))
    }

    /// Whether what waits has no room in a buffer that was made smaller since it was offered (SO_RCVBUF).
    #[inline]
    pub(crate) fn outgrown(&self, tcp: &TcpTunables) -> bool {
        let set = self.profile.options.receive_buffer;
        set.is_some_and(|bytes| self.act.recv.len() as u32 > bytes) && self.receive_room(tcp) == 0
    }

    /// Whether reading has opened the window enough to be worth telling the peer at once, as on Linux: it is at least doubled,
    /// and was no more than half of what it can be. Where no stream is known to come in, the window of the handshake is as much
    /// as need be; more is offered with the ACKs of what comes.
    pub(crate) fn window_update_due(&self, core: &Core) -> bool {
        // While it opens the handshake tells of the window.
        if !self.tcb.state.receives() || self.tcb.opening() {
            return false;
        }
        let left = self.tcb.ahead(self.offered_edge());
        let most = match self.inflow {
            Some(_) => u32::MAX,
            None => UNSCALED,
        };
        let clamp = self.profile.options.window_clamp.unwrap_or(u32::MAX);
        let whole = self.receive_limit(&core.tcp).min(clamp).min(most);
        if left > whole / 2 {
            return false;
        }
        let edge = self.window_to_offer(core);
        let opened = self.tcb.ahead(edge).saturating_sub(left);
        opened > 0 && opened >= left
    }
}

impl Tcp {
    /// Whether there is as much to read as the application wants at once, or no room for more (SO_RCVLOWAT).
    #[inline]
    pub(super) fn worth_reading(&self, tcb: &Tcb, act: &Active) -> bool {
        let least = self.profiles.get(tcb.profile).options.receive_low_water;
        let unread = act.recv.len() as u32;
        unread > 0 && (unread >= least || tcb.rcv_wnd() <= u32::from(act.rcv_mss))
    }
}
