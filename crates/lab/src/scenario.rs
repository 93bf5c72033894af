//! What is played: a link, flows over it, and what changes while they run.
//!
//! What does not live here: the file it is written in (`cli`), playing it ([`play`](crate::play())).

use core::time::Duration;

use sim::LinkConfig;
use stack::Congestion;

/// A whole scenario. All flows go from one host to another, over one link.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it is to show, in a line.
    pub about: String,
    /// Everything random comes from it.
    pub seed: u64,
    /// How long it is played, virtual time.
    pub duration: Duration,
    /// Time between two looks at the flows.
    pub sample: Duration,
    /// The link at first.
    pub link: LinkConfig,
    /// At least one.
    pub flows: Vec<Flow>,
    /// What the link becomes, and when; in order of time.
    pub changes: Vec<(Duration, LinkConfig)>,
}

/// One flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// What it is called.
    pub name: String,
    /// Congestion control of its sender.
    pub congestion: Congestion,
    /// When it connects.
    pub start: Duration,
    /// When it has nothing more to send.
    pub stop: Option<Duration>,
    /// Bytes it sends at most.
    pub bytes: Option<u64>,
    /// Bytes its sender may hold.
    pub send_buffer: u32,
    /// Bytes its receiver may hold.
    pub receive_buffer: u32,
}
