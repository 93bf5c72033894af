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
        /// A frame whose source is a group.
        EthernetSource => "ethernet-source",
        /// An IP packet shorter than its header says.
        IpTruncated => "ip-truncated",
        /// Neither IPv4 nor IPv6.
        IpVersion => "ip-version",
        /// An IPv4 header whose lengths contradict each other.
        IpHeaderLength => "ip-header-length",
        /// A wrong IPv4 header checksum (RFC 1122 3.2.1.2).
        IpChecksum => "ip-checksum",
        /// A source address no honest packet has (RFC 1122 3.2.1.3).
        IpSource => "ip-source",
        /// A packet from outside with an address of this host as its source.
        IpOwnSource => "ip-own-source",
        /// For another host; this one does not forward.
        IpNotForUs => "ip-not-for-us",
        /// For a group that nobody here has joined.
        IpNotMember => "ip-not-member",
        /// For an address that is not known to be unique yet (RFC 4862 5.4).
        IpTentative => "ip-tentative",
        /// A link broadcast that is for a single IPv4 address (RFC 1122 3.3.6).
        IpLinkGroup => "ip-link-group",
        /// An IPv4 source route (RFC 7126 4.3).
        IpSourceRoute => "ip-source-route",
        /// IPv4 options whose lengths make no sense.
        IpOptions => "ip-options",
        /// IPv6 extension headers that are cut short, out of order or too many.
        IpExtension => "ip-extension",
        /// An IPv6 option that is not known and asks for the packet to be dropped (RFC 8200 4.2).
        IpUnknownOption => "ip-unknown-option",
        /// An IPv6 routing header with segments left (RFC 5095).
        IpRoutingHeader => "ip-routing-header",
        /// A protocol nobody here speaks.
        IpProtocol => "ip-protocol",
        /// An IPv6 packet of headers only (RFC 8200 4.7).
        IpNoNextHeader => "ip-no-next-header",
        /// A fragment that is empty, not a multiple of eight bytes, or within a fragment.
        FragmentMalformed => "fragment-malformed",
        /// A fragment beyond what a datagram can be long.
        FragmentTooLong => "fragment-too-long",
        /// A first fragment that does not hold all headers (RFC 7112).
        FragmentHeaders => "fragment-headers",
        /// A fragment that overlaps others, and all others with it (RFC 5722).
        FragmentOverlap => "fragment-overlap",
        /// A fragment that is there already.
        FragmentDuplicate => "fragment-duplicate",
        /// Fragments of a datagram with too many holes.
        FragmentHoles => "fragment-holes",
        /// Fragments of which some met congestion and others cannot say so (RFC 3168 5.3).
        FragmentEcn => "fragment-ecn",
        /// Fragments that made room for others.
        ReassemblyFull => "reassembly-full",
        /// Fragments whose companions did not come in time.
        ReassemblyTimeout => "reassembly-timeout",
        /// A wrong ICMP checksum.
        IcmpChecksum => "icmp-checksum",
        /// An ICMP message shorter than its header.
        IcmpTruncated => "icmp-truncated",
        /// An ICMP message this host has no use for.
        IcmpIgnored => "icmp-ignored",
        /// An ICMPv4 echo request to a group.
        IcmpGroupEcho => "icmp-group-echo",
        /// An ICMP error whose quoted packet cannot be read.
        IcmpQuote => "icmp-quote",
        /// An ICMP error about a packet this host did not send.
        IcmpNotOurs => "icmp-not-ours",
        /// A redirect that is not to be believed.
        IcmpRedirect => "icmp-redirect",
        /// An answer to somebody to whom there is no route.
        IcmpUnroutable => "icmp-unroutable",
        /// Neighbour discovery in fragments (RFC 6980).
        NdpFragmented => "ndp-fragmented",
        /// A packet to be sent that exceeds its path and must not be cut, or any packet.
        OutTooBig => "out-too-big",
        /// A packet that may not leave this host: its TTL or hop limit is 0 (RFC 1122 3.2.1.7).
        OutTtl => "out-ttl",
        /// A packet for an interface that is not there.
        OutNoInterface => "out-no-interface",
        /// A super-frame for an interface whose device cannot cut it.
        GsoNotOffered => "gso-not-offered",
        /// The packet pool has no free block.
        PoolEmpty => "pool-empty",
        /// Received data refused because packet memory runs low: what is left is for sending, and for readers who keep up.
        PoolLow => "pool-low",
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
        /// A final ACK without data while the listener waits for data (TCP_DEFER_ACCEPT).
        TcpDeferAccept => "tcp-defer-accept",
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
        /// Data out of order in more pieces than are kept.
        TcpReceiveBufferFull => "tcp-receive-buffer-full",
        /// Data within a window that was offered before the buffer was made smaller, or before TCP held as much as it may (Linux's
        /// TCPRcvQDrop).
        TcpReceiveQueueFull => "tcp-receive-queue-full",
        /// Data out of order, while TCP holds as much as it may, or more than a buffer that was made smaller (Linux's TCPOFODrop).
        TcpOutOfOrderMemory => "tcp-out-of-order-memory",
        /// A segment that ends, or begins, beyond the window (Linux's BeyondWindow).
        TcpBeyondWindow => "tcp-beyond-window",
        /// Data for a window that is closed (Linux's TCPZeroWindowDrop).
        TcpZeroWindow => "tcp-zero-window",
        /// Data after the application closed or shut down reading.
        TcpAfterClose => "tcp-after-close",
        /// A segment for a connection in TIME-WAIT.
        TcpTimeWait => "tcp-time-wait",
        /// A segment that makes no sense in the connection's state.
        TcpUnexpected => "tcp-unexpected",
        /// An ICMP error about no live connection or with a sequence number out of flight (RFC 5927).
        TcpReportIgnored => "tcp-report-ignored",
        /// Too many packets wait for a neighbour's address; the oldest goes.
        NeighbourQueueFull => "neighbour-queue-full",
        /// A packet waiting for a neighbour that was evicted or removed.
        NeighbourEvicted => "neighbour-evicted",
        /// No room, or no time yet, to ask for one more neighbour (RFC 6583).
        NeighbourTableFull => "neighbour-table-full",
        /// The neighbour did not answer.
        NeighbourUnreachable => "neighbour-unreachable",
        /// An ARP packet with fields that make no sense.
        ArpInvalid => "arp-invalid",
        /// An ARP packet about somebody else.
        ArpNotForUs => "arp-not-for-us",
        /// A neighbour discovery message that fails a check of RFC 4861 6.1, 7.1 or 8.1, or came in fragments (RFC 6980).
        NdpInvalid => "ndp-invalid",
        /// A neighbour discovery message of no concern here.
        NdpIgnored => "ndp-ignored",
        /// A group query that fails a check of RFC 9776 or RFC 9777.
        MembershipInvalid => "membership-invalid",
        /// A group report of another host.
        MembershipIgnored => "membership-ignored",
        /// A UDP header that is truncated or whose length is wrong.
        UdpMalformed => "udp-malformed",
        /// A UDP checksum that does not verify.
        UdpChecksum => "udp-checksum",
        /// A UDP datagram over IPv6 without checksum (RFC 8200 8.1).
        UdpZeroChecksum => "udp-zero-checksum",
        /// A UDP datagram for no socket.
        UdpNoSocket => "udp-no-socket",
        /// A UDP socket holds as much as it may.
        UdpReceiveBufferFull => "udp-receive-buffer-full",
        /// The ring to the shard it is for is full.
        ShardRingFull => "shard-ring-full",
    }
}

counters! {
    /// Events that are not drops.
    pub enum Count("count") {
        /// IP packets handed to a transport.
        Delivered => "delivered",
        /// Datagrams put together from fragments.
        Reassembled => "reassembled",
        /// Packets cut into fragments.
        Fragmented => "fragmented",
        /// Echo requests answered.
        EchoAnswered => "echo-answered",
        /// ICMP errors sent.
        IcmpErrorsSent => "icmp-errors-sent",
        /// ICMP errors not sent because of the limits.
        IcmpErrorsLimited => "icmp-errors-limited",
        /// ICMP errors not sent because they may not be (RFC 1122 3.2.2).
        IcmpErrorsForbidden => "icmp-errors-forbidden",
        /// ICMP errors received about packets of this host.
        IcmpErrorsHeard => "icmp-errors-heard",
        /// A timer could not be armed: the wheel is full.
        TimerTableFull => "timer-table-full",
        /// Connections opened from here.
        TcpActiveOpens => "tcp-active-opens",
        /// Connections that went to another shard.
        TcpMovedOut => "tcp-moved-out",
        /// Connections that came from another shard.
        TcpMovedIn => "tcp-moved-in",
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
        /// Probes of the tail sent (RFC 8985 7).
        TcpLossProbes => "tcp-loss-probes",
        /// Probes of the path MTU sent (RFC 4821).
        TcpMtuProbes => "tcp-mtu-probes",
        /// Those that arrived.
        TcpMtuProbesArrived => "tcp-mtu-probes-arrived",
        /// Those that were lost for their length.
        TcpMtuProbesLost => "tcp-mtu-probes-lost",
        /// Timeouts that long segments seemed to be the reason of.
        TcpMtuBlackHoles => "tcp-mtu-black-holes",
        /// Repairs taken back because nothing was lost.
        TcpUndone => "tcp-undone",
        /// D-SACKs received (RFC 2883).
        TcpDuplicatesReported => "tcp-duplicates-reported",
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
        /// SYNs whose headers were to be saved, and found no room.
        TcpSynsNotSaved => "tcp-syns-not-saved",
        /// SYNs and final ACKs a listener did not take (Linux's ListenDrops).
        TcpListenDrops => "tcp-listen-drops",
        /// Those of them that found the accept queue full (Linux's ListenOverflows).
        TcpListenOverflows => "tcp-listen-overflows",
        /// What waited at a listener that was closed, and went to another that shares its address (Linux's TCPMigrateReqSuccess).
        TcpMigrateReqSuccess => "tcp-migrate-req-success",
        /// What did not, because none of them had room (TCPMigrateReqFailure).
        TcpMigrateReqFailure => "tcp-migrate-req-failure",
        /// SYNs answered with a cookie.
        TcpSynCookiesSent => "tcp-syncookies-sent",
        /// Cookies that came back and were good.
        TcpSynCookiesReceived => "tcp-syncookies-received",
        /// ACKs for no connection that carried no good cookie, while some could have.
        TcpSynCookiesFailed => "tcp-syncookies-failed",
        /// Connections from here whose data on the SYN was taken (Linux's TCPFastOpenActive).
        TcpFastOpenActive => "tcp-fast-open-active",
        /// Those whose data on the SYN was not, or not all (TCPFastOpenActiveFail).
        TcpFastOpenActiveFail => "tcp-fast-open-active-fail",
        /// Times Fast Open was given a rest because its data vanished (TCPFastOpenBlackhole).
        TcpFastOpenBlackHoles => "tcp-fast-open-black-holes",
        /// SYNs that asked for a Fast Open cookie.
        TcpFastOpenCookieRequests => "tcp-fast-open-cookie-requests",
        /// Connections that a SYN opened with its cookie or data (Linux's TCPFastOpenPassive).
        TcpFastOpenPassive => "tcp-fast-open-passive",
        /// SYNs whose Fast Open cookie was wrong, or found no room (TCPFastOpenPassiveFail).
        TcpFastOpenPassiveFail => "tcp-fast-open-passive-fail",
        /// SYNs whose Fast Open cookie was of the backup key (TCPFastOpenPassiveAltKey).
        TcpFastOpenBackupKey => "tcp-fast-open-backup-key",
        /// SYNs that found their listener's Fast Open queue full (TCPFastOpenListenOverflow).
        TcpFastOpenListenOverflows => "tcp-fast-open-listen-overflows",
        /// Times TCP came under memory pressure (Linux's TCPMemoryPressures).
        TcpMemoryPressures => "tcp-memory-pressures",
        /// Milliseconds it lasted, of those that are over (TCPMemoryPressuresChrono).
        TcpMemoryPressuresChrono => "tcp-memory-pressures-chrono",
        /// Times a connection had to make room for what came because TCP holds as much as it may (PruneCalled).
        TcpPruneCalled => "tcp-prune-called",
        /// Those of them in which data out of order were given up (OfoPruned).
        TcpOfoPruned => "tcp-ofo-pruned",
        /// Connections nobody owns that were reset because TCP holds more than it may (TCPAbortOnMemory).
        TcpAbortOnMemory => "tcp-abort-on-memory",
        /// Bytes moved from one connection to another within the host.
        TcpSplicedBytes => "tcp-spliced-bytes",
        /// TIME-WAIT records recycled early because the table was full.
        TcpTimeWaitRecycled => "tcp-time-wait-recycled",
        /// A neighbour could not be entered: the table is full of better ones.
        NeighbourTableFull => "neighbour-table-full",
        /// A neighbour was evicted to make room for another.
        NeighbourEvicted => "neighbour-evicted",
        /// Somebody else on the link uses one of this host's addresses.
        AddressConflict => "address-conflict",
        /// Frames and packets handed to the shard they are for.
        Steered => "steered",
        /// A router advertised more routers, prefixes or addresses than this host takes.
        AdvertisedTooMuch => "advertised-too-much",
        /// Redirects that were followed.
        Redirected => "redirected",
        /// UDP datagrams handed to sockets (a super-frame counts once).
        UdpDelivered => "udp-delivered",
        /// UDP datagrams sent.
        UdpSent => "udp-sent",
        /// ICMP errors about UDP that no socket is told of.
        UdpReportIgnored => "udp-report-ignored",
        /// ICMP errors that sockets asked for, lost because nobody took those before.
        ReportsLost => "reports-lost",
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
