//! Counters of a host: every drop with its reason, and the events worth watching.
//!
//! What does not live here: counters of devices (they are the ports') and of single connections (see `TcpInfo`).

use base::{Tally, counters};

counters! {
    /// Why a packet went no further. Every drop has exactly one reason.
    pub enum Drop("drop") {
        /// The frame is shorter than its headers say.
        EthernetTruncated => "ethernet-truncated",
        /// The frame is for another station.
        EthernetOtherHost => "ethernet-other-host",
        /// No protocol here speaks this EtherType.
        EthernetUnknownType => "ethernet-unknown-type",
        /// The packet pool has no free block.
        PoolEmpty => "pool-empty",
        /// The interface's transmit queue is full.
        TransmitQueueFull => "transmit-queue-full",
        /// A TCP header that is truncated or whose length is wrong.
        TcpMalformed => "tcp-malformed",
        /// A TCP checksum that does not verify.
        TcpChecksum => "tcp-checksum",
        /// A TCP segment to or from a broadcast or multicast address (RFC 9293 MUST-57, MUST-63).
        TcpGroup => "tcp-group-address",
        /// A TCP segment for no connection and no listener; answered by a reset.
        TcpNoSocket => "tcp-no-socket",
        /// A segment a listener may not accept (RFC 9293 3.10.7.2).
        TcpListenRefused => "tcp-listen-refused",
        /// A SYN when the SYN queue is full.
        TcpSynQueueFull => "tcp-syn-queue-full",
        /// A final ACK or SYN when the accept queue is full.
        TcpAcceptQueueFull => "tcp-accept-queue-full",
        /// The connection table is full.
        TcpTableFull => "tcp-table-full",
        /// A segment outside the receive window.
        TcpOutOfWindow => "tcp-out-of-window",
        /// A timestamp older than one already seen (RFC 7323 5).
        TcpPaws => "tcp-paws",
        /// A segment without ACK where one is required (RFC 9293 3.10.7.4).
        TcpNoAck => "tcp-no-ack",
        /// An ACK for data never sent or too old (RFC 5961 5.2).
        TcpBadAck => "tcp-bad-ack",
        /// A RST or SYN that is answered by a challenge ACK (RFC 5961).
        TcpChallenged => "tcp-challenged",
        /// Data already received.
        TcpDuplicate => "tcp-duplicate",
        /// Data beyond what the receive buffer may hold.
        TcpReceiveBufferFull => "tcp-receive-buffer-full",
        /// Data after the application closed or shut down reading.
        TcpAfterClose => "tcp-after-close",
        /// A segment for a connection in TIME-WAIT.
        TcpTimeWait => "tcp-time-wait",
        /// A segment that makes no sense in the connection's state.
        TcpUnexpected => "tcp-unexpected",
        /// An ICMP error about no live connection or with a sequence number out of flight (RFC 5927).
        TcpReportIgnored => "tcp-report-ignored",
    }
}

counters! {
    /// Events that are not drops.
    pub enum Count("count") {
        /// IP packets handed to a transport.
        Delivered => "delivered",
        /// A timer could not be armed: the wheel is full.
        TimerTableFull => "timer-table-full",
        /// Connections opened from here.
        TcpActiveOpens => "tcp-active-opens",
        /// Connections accepted here.
        TcpPassiveOpens => "tcp-passive-opens",
        /// Segments received.
        TcpSegmentsIn => "tcp-segments-in",
        /// Segments sent (a super-frame counts once).
        TcpSegmentsOut => "tcp-segments-out",
        /// Segments sent again.
        TcpRetransmits => "tcp-retransmits",
        /// Retransmission timeouts.
        TcpTimeouts => "tcp-timeouts",
        /// Fast retransmits entered.
        TcpFastRetransmits => "tcp-fast-retransmits",
        /// Resets sent.
        TcpResetsOut => "tcp-resets-out",
        /// Resets received and accepted.
        TcpResetsIn => "tcp-resets-in",
        /// Challenge ACKs sent (RFC 5961).
        TcpChallengeAcks => "tcp-challenge-acks",
        /// Challenge ACKs withheld by the limit.
        TcpChallengeAcksLimited => "tcp-challenge-acks-limited",
        /// Connections given up after too many retransmissions.
        TcpGivenUp => "tcp-given-up",
        /// Zero-window probes sent.
        TcpWindowProbes => "tcp-window-probes",
        /// Keepalive probes sent.
        TcpKeepaliveProbes => "tcp-keepalive-probes",
        /// TIME-WAIT records recycled early because the table was full.
        TcpTimeWaitRecycled => "tcp-time-wait-recycled",
    }
}

/// All counters of one host.
#[derive(Debug, Default)]
pub struct Stats {
    /// Drops by reason.
    pub drops: Tally<Drop>,
    /// Events by kind.
    pub counts: Tally<Count>,
}
