//! The laboratory: bad networks, in the simulator and between real devices.
//!
//! One model of a link ([`sim::Direction`]: rate, queue, delay, faults), two clocks. [`Joint`] puts it between two ports, and
//! [`wire::run`] turns that by the machine's clock, so that Linux and Millstream can be tried over the same bad link.
//!
//! A [`Scenario`] is flows over such a link in the simulator; [`play()`] looks at them now and then, and [`plot`] draws what it saw.
//!
//! What does not live here: the model (`sim`), the command line and the files (`cli`), what is compared (`bench`).
#![forbid(unsafe_code)]

pub mod joint;
pub mod play;
pub mod plot;
pub mod scenario;
pub mod wire;

pub use joint::{Counts, Joint};
pub use play::play;
pub use scenario::Scenario;
