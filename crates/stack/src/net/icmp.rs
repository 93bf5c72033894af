//! ICMP for both families (RFC 792, RFC 1122 3.2.2, RFC 4443): echoes answered, errors sent, errors heard.
//!
//! What does not live here: neighbour discovery (`ndp`), listener discovery (`membership`), and what a transport makes of an
//! error.
//!
//! Invariant: no error is ever sent about an error, a group, a source that is no single host, or a later fragment.

use base::{Chain, Checksum, Facts};
use wire::checksum;
use wire::{Addr, Family, Quote, icmpv4, icmpv6, ipv4, ipv6, protocol};

use super::chain::{make_writable, sum};
use super::output::header_len;
use super::{Datagram, ErrorKind, HEADROOM, Input, InterfaceId, IpMeta, Net, Report, ReportKind};
use crate::context::Core;
use crate::stats::{Count, Drop};

/// Every ICMP header spoken here.
const HEADER: usize = icmpv4::HEADER_LEN;
/// Internetwork control: the precedence of ICMPv4 errors (RFC 1812 4.3.2.5).
const ERROR_TOS: u8 = 0xc0;
/// MTUs in use, to guess from when an old router names none (RFC 1191 7).
const PLATEAUS: [u16; 10] = [
    32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68,
];

/// Type, code and second word of a message.
#[derive(Debug, Clone, Copy)]
struct Head {
    kind: u8,
    code: u8,
    word: u32,
}

impl Net {
    /// An ICMPv4 message.
    pub(super) fn icmpv4_input(&mut self, core: &mut Core, datagram: Datagram) -> Input {
        let sum = || sum(&core.pool, &datagram.chain, usize::from(datagram.l4));
        if !datagram.checksum_good && !sum().is_valid() {
            return dropped(core, datagram, Drop::IcmpChecksum);
        }
        let Some(head) = head(core, &datagram) else {
            return dropped(core, datagram, Drop::IcmpTruncated);
        };
        match head.kind {
            // RFC 1122 3.2.2.6: echoes to groups MAY be dropped; as on Linux they are, or everybody could be made to shout.
            icmpv4::kind::ECHO_REQUEST if datagram.group => {
                dropped(core, datagram, Drop::IcmpGroupEcho)
            }
            icmpv4::kind::ECHO_REQUEST => self.echo(core, datagram, icmpv4::kind::ECHO_REPLY),
            icmpv4::kind::UNREACHABLE
            | icmpv4::kind::TIME_EXCEEDED
            | icmpv4::kind::PARAMETER_PROBLEM => self.error_input(core, datagram, head),
            icmpv4::kind::REDIRECT => self.redirect_v4(core, datagram, head),
            // RFC 6633 3: source quench is not to be reacted to. RFC 1122 3.2.2: unknown types are dropped silently.
            _ => dropped(core, datagram, Drop::IcmpIgnored),
        }
    }

    /// An ICMPv6 message.
    pub(super) fn icmpv6_input(
        &mut self,
        core: &mut Core,
        mut datagram: Datagram,
        fragmented: bool,
        alert: bool,
    ) -> Input {
        let l4 = usize::from(datagram.l4);
        let len = (datagram.chain.len() - l4) as u32;
        let pseudo = checksum::pseudo(&datagram.src, &datagram.dst, protocol::ICMPV6, len);
        let valid = || {
            sum(&core.pool, &datagram.chain, l4)
                .add_sum(pseudo)
                .is_valid()
        };
        if !datagram.checksum_good && !valid() {
            return dropped(core, datagram, Drop::IcmpChecksum);
        }
        let Some(head) = head(core, &datagram) else {
            return dropped(core, datagram, Drop::IcmpTruncated);
        };
        use icmpv6::kind;
        match head.kind {
            // RFC 4443 4.2: a request to a multicast address SHOULD be answered, from a unicast one.
            kind::ECHO_REQUEST => self.echo(core, datagram, kind::ECHO_REPLY),
            // RFC 6980 5: no neighbour discovery in fragments.
            kind::ROUTER_SOLICIT..=kind::REDIRECT if fragmented => {
                dropped(core, datagram, Drop::NdpFragmented)
            }
            kind::ROUTER_SOLICIT..=kind::REDIRECT
            | kind::MLD_QUERY..=kind::MLD_DONE_V1
            | kind::MLD_REPORT_V2 => {
                let all = datagram.chain.len();
                if !core.pool.make_contiguous(&mut datagram.chain, all) {
                    return dropped(core, datagram, Drop::IcmpTruncated);
                }
                if matches!(head.kind, kind::ROUTER_SOLICIT..=kind::REDIRECT) {
                    self.ndp_input(core, datagram);
                } else {
                    self.mld_input(core, datagram, alert);
                }
                Input::Done
            }
            // RFC 4443 2.4 a: unknown errors MUST be passed to the upper layer.
            0..128 => self.error_input(core, datagram, head),
            // RFC 4443 2.4 b: unknown informational messages MUST be dropped silently.
            _ => dropped(core, datagram, Drop::IcmpIgnored),
        }
    }

    /// Answers an echo request with what it brought, in the same memory.
    fn echo(&mut self, core: &mut Core, datagram: Datagram, reply: u8) -> Input {
        let Datagram {
            interface,
            src: to,
            dst,
            l4,
            tos,
            mut chain,
            ..
        } = datagram;
        core.pool.pull_front(&mut chain, usize::from(l4));
        if to.is_unspecified() || !make_writable(&mut core.pool, &mut chain, HEADER) {
            core.drop_packet(chain, Drop::IcmpIgnored);
            return Input::Done;
        }
        if let Some([kind, _, check @ ..]) = core.pool.first_mut(&chain).first_chunk_mut::<4>() {
            *kind = reply;
            *check = [0; 2];
        }
        // RFC 1122 3.2.2.6: from the address the request was for, with its type of service; but no mark of congestion.
        let from = Some(dst).filter(|dst| self.is_local(dst));
        core.count(Count::EchoAnswered);
        self.send_icmp(core, interface, from, to, tos & !3, chain);
        Input::Done
    }

    /// Sends a message whose checksum is to be made: from `src`, or the best source.
    fn send_icmp(
        &mut self,
        core: &mut Core,
        interface: InterfaceId,
        src: Option<Addr>,
        dst: Addr,
        tos: u8,
        chain: Chain,
    ) {
        // An address of this link only must be answered on this link.
        let by = (dst.is_link_local() && interface != InterfaceId::LOOPBACK).then_some(interface);
        let Ok(path) = self.route(core, dst, src, by) else {
            return core.drop_packet(chain, Drop::IcmpUnroutable);
        };
        let v4 = dst.is_v4();
        let mut total = sum(&core.pool, &chain, 0);
        if !v4 {
            let len = chain.len() as u32;
            total = total.add_sum(checksum::pseudo(&path.src, &dst, protocol::ICMPV6, len));
        }
        core.pool.copy_in(
            &chain,
            icmpv4::CHECKSUM_OFFSET,
            &total.finish().to_be_bytes(),
        );
        let meta = IpMeta {
            src: path.src,
            dst,
            protocol: if v4 {
                protocol::ICMPV4
            } else {
                protocol::ICMPV6
            },
            ttl: path.hop_limit,
            tos,
            dont_fragment: false,
            ident: None,
        };
        let facts = Facts {
            checksum: Checksum::Unknown,
            ..Facts::NONE
        };
        self.send(core, &path, &meta, chain, facts);
    }

    /// Tells the sender of `original` of an error, unless the RFCs or the limits forbid it.
    #[cold]
    pub(crate) fn send_error(&mut self, core: &mut Core, kind: ErrorKind, original: &Datagram) {
        if !self.may_tell(core, kind, original) {
            return core.count(Count::IcmpErrorsForbidden);
        }
        if !self.limits.allow(core.now, &mut core.rng, &original.src) {
            return core.count(Count::IcmpErrorsLimited);
        }
        let v4 = original.src.is_v4();
        let Some(mut chain) = core.pool.alloc(HEADROOM) else {
            return core.stats.drops.add(Drop::PoolEmpty);
        };
        if let Some(bytes) = core.pool.push_back(&mut chain, HEADER) {
            if v4 {
                repr_v4(kind).emit(bytes);
            } else {
                repr_v6(kind).emit(bytes);
            }
        }
        // As much as fits what every host takes (RFC 1812 4.3.2.3: 576; RFC 4443 2.4 c: 1280).
        let longest = if v4 {
            ipv4::MIN_REASSEMBLY
        } else {
            ipv6::MIN_MTU
        };
        let quote = longest - header_len(v4) - HEADER;
        core.pool.append_copy(&mut chain, &original.chain, 0, quote);
        let from = Some(original.dst).filter(|dst| self.is_local(dst));
        let tos = if v4 { ERROR_TOS } else { 0 };
        core.count(Count::IcmpErrorsSent);
        self.send_icmp(core, original.interface, from, original.src, tos, chain);
    }

    /// RFC 1122 3.2.2 and RFC 4443 2.4 e: about what no error may be sent.
    fn may_tell(&self, core: &Core, kind: ErrorKind, original: &Datagram) -> bool {
        let src = &original.src;
        let loopback = original.interface == InterfaceId::LOOPBACK;
        let single = src.is_unicast()
            && !src.is_reserved()
            && !self.is_broadcast(src)
            && (loopback || !src.is_loopback());
        // An unknown IPv6 option may ask for an answer even from a group (RFC 4443 2.4 e.3).
        let asked = matches!(kind, ErrorKind::ParameterProblem { code: 2, .. }) && !src.is_v4();
        if !single || (original.group && !asked) {
            return false;
        }
        let l4 = usize::from(original.l4);
        let mut first = [0; 1];
        let about = core.pool.copy_out(&original.chain, l4, &mut first) == 1;
        match original.protocol {
            protocol::ICMPV4 => about && !is_error_v4(first[0]),
            protocol::ICMPV6 => about && first[0] >= 128 && first[0] != icmpv6::kind::REDIRECT,
            _ => true,
        }
    }

    /// An error about something this host is said to have sent.
    fn error_input(&mut self, core: &mut Core, mut datagram: Datagram, head: Head) -> Input {
        let v4 = datagram.src.is_v4();
        let want = datagram.chain.len().min(base::BLOCK);
        if !core.pool.make_contiguous(&mut datagram.chain, want) {
            return dropped(core, datagram, Drop::PoolEmpty);
        }
        let message = core
            .pool
            .first(&datagram.chain)
            .get(usize::from(datagram.l4)..);
        let Some((quote, kind)) = message.and_then(|message| read_error(v4, message, head)) else {
            return dropped(core, datagram, Drop::IcmpQuote);
        };
        // RFC 8201 4: a report of less than the minimum link MTU MUST be discarded.
        if !v4 && matches!(kind, ReportKind::TooBig { mtu } if mtu < ipv6::MIN_MTU as u32) {
            return dropped(core, datagram, Drop::IcmpIgnored);
        }
        // Only the host it was sent from is told, at the address it was sent from.
        if datagram.group || quote.src != datagram.dst || !self.is_local(&quote.src) {
            return dropped(core, datagram, Drop::IcmpNotOurs);
        }
        let Some(l4) = quote.transport.first_chunk::<8>() else {
            return dropped(core, datagram, Drop::IcmpQuote);
        };
        let report = Report {
            kind,
            icmp: (head.kind, head.code),
            protocol: quote.protocol,
            local: quote.src,
            remote: quote.dst,
            l4: *l4,
            from: datagram.src,
        };
        core.pool.free(datagram.chain);
        core.count(Count::IcmpErrorsHeard);
        match (report.protocol, kind) {
            (protocol::TCP | protocol::UDP, _) => Input::Report(report),
            // Nobody above sends echoes: what was too big is an answer of ours. Those over IPv4 may be fragmented on their way, so
            // that no honest router complains of one.
            (protocol::ICMPV6, ReportKind::TooBig { mtu })
                if report.l4[0] == icmpv6::kind::ECHO_REPLY =>
            {
                self.pmtu_update(core, report.remote, mtu);
                Input::Done
            }
            _ => Input::Done,
        }
    }

    /// A redirect (RFC 1122 3.2.2.2): honoured when it comes from the gateway in use and names another one on the same link.
    fn redirect_v4(&mut self, core: &mut Core, mut datagram: Datagram, head: Head) -> Input {
        let want = datagram.chain.len().min(base::BLOCK);
        if !core.pool.make_contiguous(&mut datagram.chain, want) {
            return dropped(core, datagram, Drop::PoolEmpty);
        }
        let gateway = Addr::from_v4(head.word.to_be_bytes());
        let message = core
            .pool
            .first(&datagram.chain)
            .get(usize::from(datagram.l4)..);
        let quote = message
            .and_then(|message| icmpv4::Packet::new(message).ok())
            .and_then(|packet| Quote::parse(Family::V4, packet.payload()).ok());
        let Some((src, dst)) = quote.map(|quote| (quote.src, quote.dst)) else {
            return dropped(core, datagram, Drop::IcmpQuote);
        };
        let ours = !datagram.group && head.code < 4 && src == datagram.dst && self.is_local(&src);
        // RFC 1122 3.2.2.2: the new gateway MUST be on the same connected network.
        let neighbour = gateway.is_unicast()
            && !self.is_broadcast(&gateway)
            && self.routes.is_on_link(datagram.interface, &gateway);
        let sound = ours && neighbour && dst.is_unicast() && !self.is_local(&dst);
        if !sound || !self.redirect(core, datagram.interface, &datagram.src, &dst, &gateway) {
            return dropped(core, datagram, Drop::IcmpRedirect);
        }
        core.pool.free(datagram.chain);
        Input::Done
    }
}

fn dropped(core: &mut Core, datagram: Datagram, reason: Drop) -> Input {
    core.drop_packet(datagram.chain, reason);
    Input::Done
}

fn head(core: &Core, datagram: &Datagram) -> Option<Head> {
    let mut bytes = [0; HEADER];
    let there = core
        .pool
        .copy_out(&datagram.chain, usize::from(datagram.l4), &mut bytes);
    let [kind, code, _, _, a, b, c, d] = bytes;
    (there == HEADER).then_some(Head {
        kind,
        code,
        word: u32::from_be_bytes([a, b, c, d]),
    })
}

fn is_error_v4(kind: u8) -> bool {
    matches!(
        kind,
        icmpv4::kind::UNREACHABLE
            | icmpv4::kind::SOURCE_QUENCH
            | icmpv4::kind::REDIRECT
            | icmpv4::kind::TIME_EXCEEDED
            | icmpv4::kind::PARAMETER_PROBLEM
    ) || kind > 18
}

fn repr_v4(kind: ErrorKind) -> icmpv4::Repr {
    match kind {
        ErrorKind::PortUnreachable => icmpv4::Repr::Unreachable {
            code: icmpv4::unreachable::PORT,
        },
        ErrorKind::ProtocolUnreachable { .. } => icmpv4::Repr::Unreachable {
            code: icmpv4::unreachable::PROTOCOL,
        },
        ErrorKind::ReassemblyTimeExceeded => icmpv4::Repr::TimeExceeded {
            code: icmpv4::time_exceeded::REASSEMBLY,
        },
        ErrorKind::ParameterProblem { code, pointer } => icmpv4::Repr::ParameterProblem {
            code,
            pointer: pointer as u8,
        },
    }
}

fn repr_v6(kind: ErrorKind) -> icmpv6::Repr {
    match kind {
        ErrorKind::PortUnreachable => icmpv6::Repr::Unreachable {
            code: icmpv6::unreachable::PORT,
        },
        ErrorKind::ProtocolUnreachable { pointer } => icmpv6::Repr::ParameterProblem {
            code: icmpv6::parameter_problem::NEXT_HEADER,
            pointer,
        },
        ErrorKind::ReassemblyTimeExceeded => icmpv6::Repr::TimeExceeded {
            code: icmpv6::time_exceeded::REASSEMBLY,
        },
        ErrorKind::ParameterProblem { code, pointer } => {
            icmpv6::Repr::ParameterProblem { code, pointer }
        }
    }
}

/// What an error message says, and about which packet.
fn read_error(v4: bool, message: &[u8], head: Head) -> Option<(Quote<'_>, ReportKind)> {
    if v4 {
        let packet = icmpv4::Packet::new(message).ok()?;
        let quote = Quote::parse(Family::V4, packet.quoted()?).ok()?;
        let kind = kind_v4(&icmpv4::Repr::parse(&packet).ok()?, quote.packet_len)?;
        Some((quote, kind))
    } else {
        let packet = icmpv6::Packet::new(message).ok()?;
        let quote = Quote::parse(Family::V6, packet.quoted()?).ok()?;
        Some((quote, kind_v6(head)))
    }
}

fn kind_v4(repr: &icmpv4::Repr, packet_len: usize) -> Option<ReportKind> {
    use icmpv4::unreachable as code;
    Some(match *repr {
        icmpv4::Repr::FragmentationNeeded { mtu: 0 } => {
            let lower = PLATEAUS.iter().find(|&&mtu| usize::from(mtu) < packet_len);
            ReportKind::TooBig {
                mtu: u32::from(*lower.unwrap_or(&68)),
            }
        }
        icmpv4::Repr::FragmentationNeeded { mtu } => ReportKind::TooBig {
            mtu: u32::from(mtu),
        },
        icmpv4::Repr::Unreachable { code } => match code {
            code::NET | code::NET_UNKNOWN | code::NET_TOS => ReportKind::NetUnreachable,
            code::PROTOCOL => ReportKind::ProtocolUnreachable,
            code::PORT => ReportKind::PortUnreachable,
            code::SOURCE_ROUTE_FAILED => ReportKind::SourceRouteFailed,
            code::HOST | code::HOST_UNKNOWN | code::HOST_ISOLATED | code::HOST_TOS => {
                ReportKind::HostUnreachable
            }
            _ => ReportKind::AdminProhibited,
        },
        icmpv4::Repr::TimeExceeded {
            code: icmpv4::time_exceeded::REASSEMBLY,
        } => ReportKind::ReassemblyTimeExceeded,
        icmpv4::Repr::TimeExceeded { .. } => ReportKind::TimeExceeded,
        icmpv4::Repr::ParameterProblem { .. } => ReportKind::ParameterProblem,
        _ => return None,
    })
}

fn kind_v6(head: Head) -> ReportKind {
    use icmpv6::unreachable as code;
    match head.kind {
        icmpv6::kind::PACKET_TOO_BIG => ReportKind::TooBig { mtu: head.word },
        icmpv6::kind::UNREACHABLE => match head.code {
            code::NO_ROUTE => ReportKind::NetUnreachable,
            code::SCOPE | code::ADDRESS => ReportKind::HostUnreachable,
            code::PORT => ReportKind::PortUnreachable,
            _ => ReportKind::AdminProhibited,
        },
        icmpv6::kind::TIME_EXCEEDED if head.code == icmpv6::time_exceeded::REASSEMBLY => {
            ReportKind::ReassemblyTimeExceeded
        }
        icmpv6::kind::TIME_EXCEEDED => ReportKind::TimeExceeded,
        // An unrecognized next header is how IPv6 says that nobody speaks the protocol.
        icmpv6::kind::PARAMETER_PROBLEM if head.code == icmpv6::parameter_problem::NEXT_HEADER => {
            ReportKind::ProtocolUnreachable
        }
        // An unknown error says no more than that something could not be made sense of; Linux has EPROTO for both.
        _ => ReportKind::ParameterProblem,
    }
}
