//! What BBR's model of a path hears of a connection, and what it makes of it; the account's delivery rate hears the same.
//!
//! What does not live here: the model (`congestion::bbr`).
//!
//! Invariant: a connection with another congestion control pays a comparison for each of these.

use base::Slab;

use crate::context::Core;

use super::congestion::{Bbr, Congestion, Control, Model, Signals};
use super::conn::Conn;
use super::record::{NONE, flag};
use super::sent::Delivery;

/// Gives a congestion control record back, and the model it may name.
pub(super) fn release(controls: &mut Slab<Control>, models: &mut Slab<Bbr>, control: u32) {
    if let Some(Control::Bbr(Model(model))) = controls.remove_at(control) {
        models.remove_at(model);
    }
}

/// Bytes a second that the model asks for which a congestion control record names.
pub(super) fn rate(controls: &Slab<Control>, models: &Slab<Bbr>, control: u32) -> Option<u64> {
    match controls.at(control) {
        Some(Control::Bbr(Model(model))) => models.at(*model).map(Bbr::pacing_rate),
        _ => None,
    }
}

impl Conn<'_> {
    /// Whether a model sets the window.
    #[inline]
    pub(crate) fn has_model(&self) -> bool {
        self.profile.options.algorithm() == Congestion::Bbr
    }

    /// The model, if there is one.
    pub(crate) fn model(&mut self) -> Option<&mut Bbr> {
        match self.controls.at(self.act.control) {
            Some(Control::Bbr(Model(model))) => self.models.at_mut(*model),
            _ => None,
        }
    }

    /// Bytes a second the model asks for.
    pub(crate) fn model_rate(&self) -> Option<u64> {
        rate(self.controls, self.models, self.act.control)
    }

    /// Bytes leave, new or again, with `in_flight` before them. Makes the model with the first.
    pub(crate) fn note_rate(&mut self, core: &Core, bytes: u32, in_flight: u32) {
        let rtt = self.tcb.srtt >> 3;
        if let Some(ledger) = &mut self.ledger {
            ledger.rate_sent(core.now, bytes, in_flight, rtt);
        }
        if !self.has_model() {
            return;
        }
        let now = core.now.micros();
        if self.act.control == NONE {
            let model = Bbr::new(now, self.tcb.cwnd, rtt);
            if let Some(model) = self.models.insert(model) {
                let control = self.controls.insert(Control::Bbr(Model(model.index)));
                match control {
                    Some(key) => self.act.control = key.index,
                    None => {
                        self.models.remove_at(model.index);
                    }
                }
            }
        }
        if let Some(model) = self.model() {
            model.rates.sent(now, bytes, in_flight, rtt);
        }
    }

    /// Nothing more is there to be sent, and the window has room: what is delivered now says little of the path.
    pub(crate) fn note_app_limited(&mut self) {
        if self.ledger.is_none() && !self.has_model() {
            return;
        }
        let (pipe, lost) = (self.pipe(), self.act.flight.lost);
        if !self.act.unsent.is_empty() || lost > 0 || pipe >= self.tcb.cwnd {
            return;
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.rate_limit(pipe);
        }
        if self.has_model()
            && let Some(model) = self.model()
        {
            model.rates.limit(pipe);
        }
    }

    /// So many bytes are newly held lost.
    pub(crate) fn note_lost(&mut self, bytes: u32) {
        if self.has_model()
            && bytes > 0
            && let Some(model) = self.model()
        {
            model.on_lost(bytes);
        }
    }

    /// An ACK was taken in: the model sets the window.
    pub(crate) fn follow_model(&mut self, core: &mut Core, delivery: &Delivery, marked: bool) {
        let signals = Signals {
            now: core.now.micros(),
            acked: delivery.bytes,
            sent_at: delivery.latest.map(|(at, _)| at),
            rtt: delivery.sample(),
            marked,
            pipe: self.pipe(),
            cwnd: self.tcb.cwnd,
            mss: u32::from(self.tcb.mss).max(1),
            limited: self.tcb.has(flag::CWND_LIMITED),
            repairing: self.repairing(),
        };
        if let Some(model) = self.model() {
            self.tcb.cwnd = model.on_ack(&signals, &mut core.rng);
        }
    }
}
