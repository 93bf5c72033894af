//! Makes scripts up: mostly what ordinary peers do, and a good deal of what others might.
//!
//! It knows what a peer can see of the stack a script is first played to, so that its numbers hit where it matters.

use base::Rng;
use interop::Family;
use wire::tcp::Flags;

use crate::peer::Peer;
use crate::script::{Act, Call, Offer, Poke, Script, Step};

const SYN_ACK: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);
const FIN_ACK: Flags = Flags(Flags::FIN.0 | Flags::ACK.0);
const RST_ACK: Flags = Flags(Flags::RST.0 | Flags::ACK.0);

/// Beyond every window.
const FAR: i32 = 100_000_000;

/// The author of one script.
pub(crate) struct Author {
    rng: Rng,
    left: u32,
    /// What the peer acknowledges: not more than this.
    acked: i32,
    window: u16,
    stamp: i32,
    begun: u32,
    /// The peer has sent a FIN, and sends no data beyond it.
    finished: bool,
    /// The end of all the peer has sent, in order or not: no FIN comes before it.
    highest: i32,
    /// The latest time stamp sent.
    told: i32,
}

impl Author {
    /// A script with nothing in it yet, and who writes it.
    pub(crate) fn begin(seed: u64) -> (Script, Self) {
        let mut rng = Rng::from_seed(seed);
        let offer = Offer {
            mss: [Some(1460), Some(1460), Some(1000), Some(536), None][rng.below(5) as usize],
            shift: [Some(7), Some(0), None][rng.below(3) as usize],
            sack: rng.below(4) > 0,
            stamps: rng.below(3) > 0,
        };
        let active = rng.below(3) == 0;
        let author = Self {
            left: 6 + rng.below(16),
            acked: 0,
            window: if offer.shift == Some(7) { 500 } else { 64_000 },
            stamp: 0,
            begun: 0,
            finished: false,
            highest: 1,
            told: 0,
            rng,
        };
        let script = Script {
            seed,
            family: Family::BOTH[usize::from(seed % 3 == 2)],
            active,
            offer,
            steps: Vec::new(),
        };
        (script, author)
    }

    /// What is done next; `None` at the end.
    pub(crate) fn next(&mut self, script: &Script, peer: &Peer) -> Option<Step> {
        self.left = self.left.checked_sub(1)?;
        self.stamp += 20;
        let act = match self.opening(script, peer) {
            Some(act) => act,
            None if self.rng.below(100) < 40 => Act::Call(self.call()),
            None => Act::Poke(self.poke(script, peer)),
        };
        let mut rest_ms = match self.rng.below(100) {
            0..72 => 2,
            72..88 => 12,
            88..96 => 75,
            _ => 330,
        };
        if let Act::Poke(poke) = &act {
            let plain = poke.flags.intersects(Flags::SYN | Flags::ACK);
            if plain
                && !poke.flags.contains(Flags::RST)
                && poke.seq <= peer.sent.max(1)
                && poke.ack <= peer.out
            {
                self.told = self.told.max(poke.stamp.unwrap_or(0));
            }
            if poke.seq < FAR {
                self.highest = self.highest.max(poke.seq + poke.len as i32);
            }
            if poke.flags.contains(Flags::FIN) {
                rest_ms = rest_ms.max(16); // if nothing came before, the kernel acknowledges it at its next tick
            }
        }
        Some(Step { act, rest_ms })
    }

    fn plain(&self, script: &Script, flags: Flags, seq: i32, ack: i32) -> Poke {
        Poke {
            flags,
            seq,
            len: 0,
            ack,
            window: self.window,
            stamp: script.offer.stamps.then_some(self.stamp),
            sack: Vec::new(),
        }
    }

    /// The handshake, as it should be most of the time.
    fn opening(&mut self, script: &Script, peer: &Peer) -> Option<Act> {
        if self.begun >= 3 || (self.begun > 0 && self.rng.below(12) == 0) {
            return None;
        }
        self.begun += 1;
        let step = (script.active, self.begun);
        let act = match step {
            (true, 1) => Act::Call(Call::Connect),
            (true, 2) => {
                let mut poke = self.plain(script, SYN_ACK, 0, 1);
                poke.window = 64_000;
                self.acked = 1;
                Act::Poke(poke)
            }
            (true, _) => return None,
            (false, 1) => {
                let mut poke = self.plain(script, Flags::SYN, 0, 0);
                poke.window = 64_000;
                Act::Poke(poke)
            }
            (false, 2) => {
                self.acked = 1;
                let mut poke = self.plain(script, Flags::ACK, 1, 1);
                if self.rng.below(6) == 0 {
                    poke.len = 1 + self.rng.below(1000) as usize;
                }
                Act::Poke(poke)
            }
            (false, _) => Act::Call(Call::Accept),
        };
        let _ = peer;
        Some(act)
    }

    fn size(&mut self) -> usize {
        match self.rng.below(6) {
            0 => 1,
            1 => 1460,
            2 => 1461 + self.rng.below(1400) as usize,
            _ => 1 + self.rng.below(1400) as usize,
        }
    }

    fn call(&mut self) -> Call {
        let size = self.size();
        match self.rng.below(40) {
            0..14 => Call::Send(size),
            14..22 => Call::Receive(2 * size),
            22 => Call::Peek(size),
            23 => Call::Shutdown(0),
            24 | 25 => Call::Shutdown(1),
            26 => Call::Shutdown(2),
            27 | 28 => Call::Close,
            29 => Call::NoDelay(true),
            30 => Call::NoDelay(false),
            31 => Call::Cork(true),
            32 => Call::Cork(false),
            33 | 34 => Call::Error,
            35 => Call::Unread,
            36 => Call::Accept,
            _ => Call::Poll,
        }
    }

    /// A segment for a connection that is, or was, or will be.
    fn poke(&mut self, script: &Script, peer: &Peer) -> Poke {
        let (sent, out) = (peer.sent.max(1), peer.out);
        let size = self.size().min(1400);
        let far = self.rng.below(3000) as i32;
        let open = if script.offer.shift == Some(7) {
            500
        } else {
            64_000
        };
        let ends = peer.acked >= sent && self.acked > 0 && sent >= self.highest;
        let mut poke = self.plain(script, Flags::ACK, sent, self.acked);
        match self.rng.below(100) {
            // What is in order.
            0..26 => {
                self.acked = out;
                (poke.ack, poke.len) = (out, size);
            }
            26..42 => {
                self.acked = out;
                poke.ack = out;
            }
            42..50 if self.window > 0 => {
                self.advance(peer);
                poke.ack = self.acked;
            }
            // What lost or late segments bring about.
            50..58 => poke.sack = self.blocks(script, peer),
            58..66 => (poke.seq, poke.len) = (sent + 1 + far, size),
            66..70 => (poke.seq, poke.len) = ((sent - far).max(1), size),
            70..72 => (poke.seq, poke.len) = (sent + 1, 1),
            // How connections end.
            72..77 if ends => {
                self.acked = out;
                (poke.flags, poke.ack) = (FIN_ACK, out);
            }
            77 => (poke.flags, poke.ack) = (RST_ACK, out),
            78 => poke.flags = Flags::RST,
            79 => (poke.flags, poke.seq) = (Flags::RST, sent + 1 + far),
            80 => (poke.flags, poke.seq) = (Flags::RST, sent - 1 - far),
            // What should not be.
            81 | 82 => (poke.flags, poke.seq) = (Flags::SYN, sent + far),
            83 => (poke.flags, poke.seq) = (SYN_ACK, 0),
            84 => (poke.flags, poke.seq) = (Flags::SYN, 0),
            85 | 86 => poke.ack = out + 1 + far,
            // Numbers that were never sent are another matter: Linux tells them from old ones for a while.
            // Nor is the stamp of an old one new: Linux passes over it, RFC 7323 4.3 does not.
            87 | 88 => {
                poke.ack = (self.acked - 1 - far).max(1);
                poke.stamp = poke.stamp.map(|_| self.told);
            }
            89 => (poke.flags, poke.len) = (Flags::NONE, size),
            90 => (poke.seq, poke.len) = (sent + FAR, size),
            91 => poke.seq = sent - 1,
            92 | 93 if script.offer.stamps => {
                (poke.stamp, poke.len) = (Some(self.stamp - 5000 - far), size);
            }
            94 if script.offer.stamps => (poke.stamp, poke.len) = (None, size),
            95 if ends => (poke.flags, poke.len) = (FIN_ACK, size),
            // Windows.
            96 | 97 => self.window = 0,
            _ => self.window = open,
        }
        poke.window = self.window;
        if self.finished {
            // A FIN that comes again is the same.
            let again = i32::from(poke.flags.contains(Flags::FIN));
            (poke.seq, poke.len) = (sent - again, 0);
            if again > 0 {
                poke.stamp = poke.stamp.map(|_| self.told); // in TIME-WAIT Linux passes over a newer one
            }
        }
        self.finished |= poke.flags.contains(Flags::FIN);
        poke
    }

    /// Acknowledges some whole segments more.
    fn advance(&mut self, peer: &Peer) {
        let range = self.acked..=peer.out;
        let later: Vec<i32> = peer
            .edges
            .iter()
            .copied()
            .filter(|edge| range.contains(edge))
            .collect();
        if !later.is_empty() {
            self.acked = later[self.rng.below(later.len() as u32) as usize];
        }
    }

    /// Some of what is not acknowledged, newest first.
    fn blocks(&mut self, script: &Script, peer: &Peer) -> Vec<(i32, i32)> {
        let mut blocks = Vec::new();
        let mut low = self.acked + 1;
        if !script.offer.sack {
            return blocks;
        }
        // Segments as they were sent: Linux counts them, and what is between.
        while blocks.len() < 3 {
            let later: Vec<i32> = peer.edges.range(low..).copied().collect();
            let Some(most) = later.len().checked_sub(1).filter(|most| *most > 0) else {
                break;
            };
            let start = self.rng.below(most as u32) as usize;
            let end = start + 1 + self.rng.below((most - start) as u32) as usize;
            blocks.insert(0, (later[start], later[end]));
            low = later[end] + 1;
        }
        blocks
    }
}
