//! Fast Open of connections from here (RFC 7413 4.2.1).
//!
//! What does not live here: what is known of destinations (`cache`), how the SYN is sent (`syn`).
//!
//! Invariant: data goes with the first SYN only, and stays in the queue until the SYN-ACK tells what became of it.

use base::Seq;
use wire::tcp::{FastOpen, Flags, MAX_OPTIONS_LEN};

use crate::context::Core;
use crate::error::SocketError;
use crate::socket::Ready;
use crate::stats::Count;
use crate::tcp::Tcp;
use crate::tcp::conn::Conn;
use crate::tcp::output::payload_for_mtu;
use crate::tcp::record::{State, Tcb, flag, more};
use crate::tcp::segment::Segment;
use crate::tcp::sent::Tail;
use crate::tcp::timer::arm_no_later;

use super::cache::Lesson;
use super::{Client, Fast, allow};

/// Timeouts in a row after which data on a SYN, or behind it, is held to vanish (as Linux: at the third).
const VANISHES: u8 = 2;

/// Why Fast Open failed (Linux's tcpi_fastopen_client_fail).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FastOpenFail {
    /// It did not, as far as is known.
    #[default]
    None,
    /// There was no cookie.
    NoCookie,
    /// The peer took none of the data, or not all.
    DataNotAcked,
    /// The SYN had to be sent again.
    SynRetransmitted,
}

impl Tcb {
    fn set_fast_fail(&mut self, why: FastOpenFail) {
        self.more = self.more & !more::FAST_FAIL | (why as u16) << more::FAST_FAIL_SHIFT;
    }

    pub(crate) fn fast_fail(&self) -> FastOpenFail {
        match (self.more & more::FAST_FAIL) >> more::FAST_FAIL_SHIFT {
            1 => FastOpenFail::NoCookie,
            2 => FastOpenFail::DataNotAcked,
            3 => FastOpenFail::SynRetransmitted,
            _ => FastOpenFail::None,
        }
    }

    /// Its SYN waits for the first data.
    #[inline]
    pub(crate) fn deferred(&self) -> bool {
        self.state == State::SynSent && self.more & more::DEFERRED != 0
    }

    /// Whether our SYN asked for Fast Open, and no data has come since it was answered.
    #[inline]
    pub(crate) fn hears_nothing(&self) -> bool {
        let asked = self.more & (more::FAST_SYN | more::HEARD) == more::FAST_SYN;
        asked && self.state != State::SynSent
    }

    /// The number of the first byte that is not sent.
    #[inline]
    pub(crate) fn unsent_edge(&self) -> Seq {
        let syn = self.state == State::SynSent && self.snd_nxt == self.snd_una;
        self.snd_nxt + u32::from(syn)
    }
}

impl Tcp {
    /// A connection that asks for Fast Open begins: with a cookie its SYN waits for data (true), without one it asks for one.
    pub(in crate::tcp) fn prepare_fast(&mut self, core: &Core, index: u32, mtu: u16) -> bool {
        let Some(tcb) = self.conns.at(index) else {
            return false;
        };
        let (remote, options) = (tcb.remote, &self.profiles.get(tcb.profile).options);
        let settings = core.tcp.fastopen;
        let timeout = core.tcp.fastopen_blackhole_timeout_sec;
        if settings & allow::CLIENT == 0 || self.black_hole.rests(core.now, timeout) {
            return false;
        }
        let known = self.fast_cache.get(core.now, &remote);
        let without = settings & allow::CLIENT_WITHOUT_COOKIE != 0 || options.fast_open_no_cookie;
        let option = known.option.filter(|_| !without);
        if option.is_none() && !without {
            return false;
        }
        let data = option.is_none_or(|option| !option.is_request());
        // Room is left for all options a SYN may have, ours or a middlebox's (as Linux).
        let most = payload_for_mtu(mtu, remote.is_v4(), 0);
        let most = most.min(known.mss.unwrap_or(u16::MAX));
        let most = most.min(options.max_segment.unwrap_or(u16::MAX));
        let record = Fast::Client(Client {
            option,
            room: if data {
                most.saturating_sub(MAX_OPTIONS_LEN as u16)
            } else {
                0
            },
            sent: 0,
            retries: 0,
            acked: 0,
        });
        let Some(key) = self.fasts.insert(record) else {
            return false;
        };
        let Some(conn) = self.conn(index) else {
            self.fasts.remove_at(key.index);
            return false;
        };
        conn.act.set_fast(key.index);
        if data {
            conn.tcb.more |= more::DEFERRED;
            conn.tcb.flags &= !flag::RETRANSMIT;
            self.raise(index, Ready::WRITABLE);
        } else {
            conn.tcb.set_fast_fail(FastOpenFail::NoCookie);
        }
        data
    }

    /// A SYN that waited for data goes out, with what there is.
    pub(in crate::tcp) fn start_deferred(&mut self, core: &mut Core, index: u32) {
        let Some(tcb) = self.conns.at_mut(index).filter(|tcb| tcb.deferred()) else {
            return;
        };
        tcb.flags |= flag::RETRANSMIT;
        let again = core.now + tcb.rto();
        arm_no_later(core, tcb, again, index);
        self.queue_send(index);
    }

    /// A connection from here is established; `seg` may be its SYN-ACK.
    pub(super) fn learn_from(
        &mut self,
        core: &mut Core,
        index: u32,
        client: &Client,
        seg: &Segment,
    ) {
        let Some(tcb) = self.conns.at_mut(index) else {
            return;
        };
        if tcb.more & more::FAST_SYN == 0 {
            return;
        }
        let (sent, all) = (client.sent > 0, client.acked == client.sent);
        if sent && all {
            tcb.more |= more::SYN_DATA;
            core.count(Count::TcpFastOpenActive);
        } else if sent {
            tcb.set_fast_fail(if client.retries > 0 {
                FastOpenFail::SynRetransmitted
            } else {
                FastOpenFail::DataNotAcked
            });
            core.count(Count::TcpFastOpenActiveFail);
        }
        if !seg.has(Flags::SYN) {
            return;
        }
        // A cookie nobody asked for is none.
        let told = seg.options.as_ref().and_then(|options| options.fast_open);
        let cookie = told.filter(|c| client.option.is_some() && !c.is_request());
        let in_vain = client.option.filter(|_| !sent && client.retries == 0);
        let lesson = Lesson {
            mss: tcb.peer_mss,
            cookie,
            lost: client.retries > 0 && cookie.is_none() && sent && !all,
            in_vain: in_vain.map(|option| option.experimental),
        };
        self.fast_cache.learn(core.now, &tcb.remote, lesson);
    }

    /// Data on SYNs vanishes, or their connections go astray: none is sent for a while, if the host has it so.
    #[cold]
    pub(in crate::tcp) fn found_black_hole(&mut self, core: &mut Core) {
        if core.tcp.fastopen_blackhole_timeout_sec > 0 {
            self.black_hole.found(core.now);
            core.count(Count::TcpFastOpenBlackHoles);
        }
    }

    /// A connection ends that our SYN had asked Fast Open for: whether all it ever heard is a FIN behind a hole, which is a sign of
    /// a middlebox that forgets what it let through (as Linux).
    pub(super) fn fast_open_astray(&self, index: u32) -> bool {
        let Some(tcb) = self.conns.at(index).filter(|tcb| tcb.hears_nothing()) else {
            return false;
        };
        self.actives
            .at(tcb.active)
            .is_some_and(|act| act.fin.is_some())
    }

    /// A connection whose SYN had data ends well, and has had an answer: what it sent does not vanish.
    pub(super) fn fast_open_ended(&mut self, index: u32, error: Option<SocketError>) {
        let went_well = self.conns.at(index).is_some_and(|tcb| {
            let fast = more::FAST_SYN | more::SYN_DATA | more::HEARD;
            error.is_none() && tcb.more & fast == fast && !tcb.remote.is_loopback()
        });
        if went_well {
            self.black_hole.gone();
        }
    }

    /// Timeouts in a row of a connection whose SYN had data, for [`Tcp::look_for_black_hole`].
    #[inline]
    pub(in crate::tcp) fn fast_timeouts(&self, index: u32) -> Option<u8> {
        let tcb = self.conns.at(index)?;
        let opening = tcb.more & more::FAST_SYN != 0 && tcb.state != State::Closed;
        opening.then(|| match tcb.state {
            State::SynSent => tcb.backoff,
            _ => self.actives.at(tcb.active).map_or(0, |act| act.timeouts),
        })
    }

    /// After a timeout: whether there was one too many, or the connection `ended` by it (as Linux).
    #[cold]
    pub(in crate::tcp) fn look_for_black_hole(
        &mut self,
        core: &mut Core,
        index: u32,
        before: u8,
        ended: bool,
    ) {
        let Some(after) = self.fast_timeouts(index) else {
            return;
        };
        let fast = self.fast_of(index);
        let data = match self.fasts.at(fast) {
            Some(Fast::Client(client)) => client.sent > 0,
            _ => {
                let taken = |tcb: &Tcb| tcb.more & more::SYN_DATA != 0;
                self.conns.at(index).is_some_and(taken)
            }
        };
        let reached = before < VANISHES && (after >= VANISHES || ended);
        if data && reached {
            self.found_black_hole(core);
        }
    }
}

impl Conn<'_> {
    /// A segment was processed: Fast Open remembers that there was one with data.
    #[inline]
    pub(in crate::tcp) fn note_fast_input(&mut self, seg: &Segment) {
        let fast = self.tcb.more & more::FAST_SYN != 0;
        if fast && seg.len > 0 && self.tcb.state != State::SynSent {
            self.tcb.more |= more::HEARD;
        }
    }

    fn client(&mut self) -> Option<&mut Client> {
        match self.fasts.at_mut(self.act.fast())? {
            Fast::Client(client) => Some(client),
            Fast::Server(_) => None,
        }
    }

    /// Bytes a SYN that waits for data may still take.
    pub(in crate::tcp) fn syn_room(&mut self) -> usize {
        let queued = self.act.unsent.len();
        let room = self.client().map_or(0, |client| usize::from(client.room));
        room.saturating_sub(queued)
    }

    /// What goes with the first SYN: the option, and how many of the bytes queued.
    pub(in crate::tcp) fn fast_syn(&mut self) -> (Option<FastOpen>, usize) {
        // No more than a record: what follows shares no segment with it.
        let queued = self.first_record().0 as usize;
        match self.client() {
            Some(client) => (client.option, queued.min(usize::from(client.room))),
            None => (None, 0),
        }
    }

    /// The first SYN has left, with so many bytes.
    pub(in crate::tcp) fn fast_syn_sent(&mut self, option: bool, len: usize) {
        self.tcb.more &= !more::DEFERRED;
        if option || len > 0 {
            self.tcb.more |= more::FAST_SYN;
        }
        if let Some(client) = self.client() {
            client.sent = len as u16;
        }
    }

    /// The highest number our SYN may be acknowledged with.
    pub(in crate::tcp) fn syn_edge(&mut self) -> Seq {
        let sent = self.client().map_or(0, |client| u32::from(client.sent));
        self.tcb.snd_nxt + sent
    }

    /// The SYN is acknowledged up to `ack`: what it took of the data is done; the rest was sent in vain. Returns how many bytes
    /// that is.
    pub(in crate::tcp) fn syn_data_acknowledged(&mut self, core: &mut Core, ack: Seq) -> u32 {
        let retries = self.tcb.backoff;
        let edge = self.tcb.snd_nxt;
        let Some(client) = self.client() else {
            return 0;
        };
        let acked = ack.dist(edge).min(u32::from(client.sent));
        client.acked = acked as u16;
        client.retries = retries;
        let rest = u32::from(client.sent) - acked;
        core.queued(|pool| pool.pull_front(&mut self.act.unsent, acked as usize));
        self.tcb.snd_nxt = edge + acked;
        if rest == 0 {
            self.ends_record(edge + acked);
        }
        rest
    }

    /// The first `rest` bytes of the queue were sent with the SYN in vain: they are sent again at once, which says nothing of
    /// congestion (RFC 7413 4.2.1, as Linux).
    pub(in crate::tcp) fn resend_syn_data(&mut self, core: &mut Core, rest: u32) {
        let (unsent, sent) = (&mut self.act.unsent, &mut self.act.sent);
        let Some(place) = core.queued(|pool| pool.move_front(unsent, sent, rest as usize)) else {
            return; // no memory to tell them apart: they go out as if new
        };
        let end = self.tcb.snd_nxt + rest;
        let tail = Tail {
            pushed: true,
            record: self.ends_record(end),
        };
        self.note_in_flight(core.now, end, (Some(place), tail));
        self.tcb.snd_nxt = end;
        self.act.stuck_since = core.now;
        self.timeout_without_reduction();
    }
}
