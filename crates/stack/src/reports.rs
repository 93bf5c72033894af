//! ICMP errors that sockets asked to hear of in full (IP_RECVERR), on their way to whoever asked.
//!
//! What does not live here: which socket an error is about, and what it does to it (`tcp`, `udp`).
//!
//! Invariant: the queue has the room it was made with; what finds it full is counted and lost, as ICMP may be on its way.

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;

use wire::Addr;

use crate::context::Core;
use crate::error::SocketError;
use crate::net::{Net, Report, ReportKind};
use crate::socket::SocketId;
use crate::stats::Count;

/// Errors that may wait.
const ROOM: usize = 256;

/// An ICMP error about something a socket sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReport {
    /// The socket; it may be gone by now.
    pub socket: SocketId,
    /// What it means.
    pub error: SocketError,
    /// Type and code of the ICMP message, in the numbers of its family: that of `to`.
    pub icmp: (u8, u8),
    /// The MTU told, if the message tells one.
    pub mtu: Option<u32>,
    /// Who says so.
    pub from: IpAddr,
    /// To where the socket had sent.
    pub to: SocketAddr,
}

/// The errors that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Reports(VecDeque<ErrorReport>);

impl Reports {
    pub(crate) fn new() -> Self {
        Self(VecDeque::with_capacity(ROOM))
    }

    /// The oldest.
    pub(crate) fn pop(&mut self) -> Option<ErrorReport> {
        self.0.pop_front()
    }
}

impl Net {
    /// Keeps an error for the socket it is about, which asked for it.
    #[cold]
    pub(crate) fn keep_report(
        &mut self,
        core: &mut Core,
        socket: SocketId,
        error: SocketError,
        (to, port): (&Addr, u16),
        report: &Report,
    ) {
        if self.socket_errors.0.len() >= ROOM {
            return core.count(Count::ReportsLost);
        }
        let mtu = match report.kind {
            ReportKind::TooBig { mtu } => Some(mtu),
            _ => None,
        };
        self.socket_errors.0.push_back(ErrorReport {
            socket,
            error,
            icmp: report.icmp,
            mtu,
            from: report.from.to_ip(),
            to: SocketAddr::new(to.to_ip(), port),
        });
    }
}
