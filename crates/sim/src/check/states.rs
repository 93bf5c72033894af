//! How connections move from state to state (RFC 9293 figure 5), and how their timeouts grow.
//!
//! What does not live here: why they do.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;

use stack::{Host, State};

/// No timeout is longer (RFC 6298 2.5, Linux's 120 s).
const TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// States of RFC 9293 that follow a state, at once or by way of others, within one moment.
fn followers(state: State) -> &'static [State] {
    use State::*;
    match state {
        // A SYN cookie leaves no SYN-RECEIVED to be seen, and data or a FIN may come with it.
        Closed | Listen => &[SynSent, SynReceived, Established, CloseWait],
        SynSent => &[
            SynReceived,
            Established,
            FinWait1,
            FinWait2,
            CloseWait,
            Closing,
            LastAck,
        ],
        SynReceived => &[
            Established,
            FinWait1,
            FinWait2,
            CloseWait,
            Closing,
            LastAck,
            TimeWait,
        ],
        Established => &[FinWait1, FinWait2, CloseWait, Closing, LastAck, TimeWait],
        FinWait1 => &[FinWait2, Closing, TimeWait],
        FinWait2 | Closing => &[TimeWait],
        CloseWait => &[LastAck],
        LastAck => &[],
        TimeWait => &[SynReceived],
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    state: State,
    backoff: u8,
}

type Name = (usize, SocketAddr, SocketAddr);

/// The connections of all hosts, as last seen.
#[derive(Debug, Default)]
pub(super) struct States(HashMap<Name, Seen>);

impl States {
    /// Looks at the connections of one host.
    pub(super) fn look(&mut self, node: usize, host: &Host) -> Result<(), String> {
        let mut gone: Vec<Name> = self.0.keys().filter(|n| n.0 == node).copied().collect();
        for c in host.connections() {
            if matches!(c.state, State::Listen | State::Closed) {
                continue; // what is CLOSED may stand beside its TIME-WAIT
            }
            let name = (node, c.local, c.remote);
            gone.retain(|n| *n != name);
            let before = self.0.get(&name).map_or(State::Closed, |seen| seen.state);
            if c.state != before && !followers(before).contains(&c.state) {
                return Err(format!("{} after {}", c.state.name(), before.name()));
            }
            let info = c.socket.and_then(|socket| host.tcp_info(socket).ok());
            let backoff = info.as_ref().map_or(0, |info| info.backoff);
            let grown = self.0.get(&name).map_or(0, |seen| seen.backoff);
            if backoff != 0 && backoff < grown {
                return Err(format!(
                    "the timeout's backoff shrinks from {grown} to {backoff}"
                ));
            }
            if info.is_some_and(|info| info.rto > TIMEOUT_MAX) {
                return Err("a timeout longer than the longest".into());
            }
            let state = c.state;
            self.0.insert(name, Seen { state, backoff });
        }
        for name in gone {
            self.0.remove(&name);
        }
        Ok(())
    }
}
