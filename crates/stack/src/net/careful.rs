//! The careful way in for IP packets: every rule, every option, every extension header.
//!
//! What does not live here: the quick way for plain packets (`input`).

use base::Chain;
use wire::ipv6::ext;
use wire::{Addr, ipv4, ipv6, protocol};

use super::input::{Arrival, TRANSPORT_HEADER};
use super::reassembly::{Fragment, Header, Name, Outcome};
use super::{Datagram, ErrorKind, Input, InterfaceId, Net};
use crate::context::Core;
use crate::stats::{Count, Drop};

/// What the headers of a packet said.
#[derive(Debug, Clone, Copy)]
struct Heads {
    src: Addr,
    dst: Addr,
    /// The first protocol that is no extension header.
    protocol: u8,
    ttl: u8,
    tos: u8,
    /// Bytes of headers.
    l4: usize,
    /// Bytes in all.
    len: usize,
    /// Where the number of the protocol stands.
    named_at: u32,
    group: bool,
    /// It has the router alert option of multicast listener discovery (RFC 2711).
    alert: bool,
}

/// What a fragment's headers said beyond that.
#[derive(Debug, Clone, Copy)]
struct Piece {
    ident: u32,
    offset: u16,
    more: bool,
}

/// Why a packet goes no further, and what its sender is told.
struct Refusal {
    reason: Drop,
    tell: Option<ErrorKind>,
}

impl From<Drop> for Refusal {
    fn from(reason: Drop) -> Self {
        Self { reason, tell: None }
    }
}

fn problem(reason: Drop, code: u8, pointer: u32) -> Refusal {
    Refusal {
        reason,
        tell: Some(ErrorKind::ParameterProblem { code, pointer }),
    }
}

impl Net {
    /// An IPv4 packet (RFC 1122 3.2.1).
    pub(super) fn ipv4_input(
        &mut self,
        core: &mut Core,
        arrival: Arrival,
        mut chain: Chain,
    ) -> Input {
        let want = chain.len().min(ipv4::MAX_HEADER_LEN);
        if !core.pool.make_contiguous(&mut chain, want) {
            core.drop_packet(chain, Drop::PoolEmpty);
            return Input::Done;
        }
        let checked = self.check_ipv4(core, &arrival, &chain);
        self.checked_input(core, arrival, chain, checked)
    }

    fn check_ipv4(
        &self,
        core: &Core,
        arrival: &Arrival,
        chain: &Chain,
    ) -> Result<(Heads, Option<Piece>), (Refusal, Option<Heads>)> {
        let only = |reason: Drop| (Refusal::from(reason), None);
        let packet = match ipv4::Packet::new(core.pool.first(chain)) {
            Ok(packet) => packet,
            Err(wire::Error::Length) => return Err(only(Drop::IpHeaderLength)),
            Err(_) => return Err(only(Drop::IpTruncated)),
        };
        let len = usize::from(packet.total_len());
        if len < packet.header_len() {
            return Err(only(Drop::IpHeaderLength));
        }
        if len > chain.len() {
            return Err(only(Drop::IpTruncated));
        }
        // RFC 1122 3.2.1.2: a host MUST verify the header checksum and drop the packet silently.
        if !packet.verify_checksum() {
            return Err(only(Drop::IpChecksum));
        }
        let (src, dst) = (packet.src(), packet.dst());
        self.check_source(arrival.interface, &src).map_err(only)?;
        let group = self
            .check_destination(arrival.interface, &dst, arrival.link_group)
            .map_err(only)?;
        // RFC 1122 3.2.1.3: 0.0.0.0 is no address to answer to; it says "this host" on this link.
        if src.is_unspecified() && !group {
            return Err(only(Drop::IpSource));
        }
        // RFC 1122 3.2.1.7: a host does not look at the TTL of what is for itself.
        let heads = Heads {
            src,
            dst,
            protocol: packet.protocol(),
            ttl: packet.ttl(),
            tos: packet.tos(),
            l4: packet.header_len(),
            len,
            named_at: 9,
            group,
            alert: false,
        };
        let first = packet.fragment_offset() == 0;
        check_options(&packet).map_err(|refusal| (refusal, first.then_some(heads)))?;
        let piece = packet.is_fragment().then(|| Piece {
            ident: u32::from(packet.ident()),
            offset: packet.fragment_offset(),
            more: packet.more_fragments(),
        });
        Ok((heads, piece))
    }

    /// An IPv6 packet (RFC 8200).
    pub(super) fn ipv6_input(
        &mut self,
        core: &mut Core,
        arrival: Arrival,
        mut chain: Chain,
    ) -> Input {
        // Headers are read from one block; longer chains of them count as truncated.
        let want = chain.len().min(base::BLOCK);
        let first = core.pool.first(&chain);
        let plain = first.get(6).is_some_and(|next| !ext::is_extension(*next));
        let want = if plain {
            want.min(ipv6::HEADER_LEN + TRANSPORT_HEADER)
        } else {
            want
        };
        if !core.pool.make_contiguous(&mut chain, want) {
            core.drop_packet(chain, Drop::PoolEmpty);
            return Input::Done;
        }
        let checked = self.check_ipv6(core, &arrival, &chain);
        self.checked_input(core, arrival, chain, checked)
    }

    fn check_ipv6(
        &self,
        core: &Core,
        arrival: &Arrival,
        chain: &Chain,
    ) -> Result<(Heads, Option<Piece>), (Refusal, Option<Heads>)> {
        let only = |reason: Drop| (Refusal::from(reason), None);
        let packet =
            ipv6::Packet::new(core.pool.first(chain)).map_err(|_| only(Drop::IpTruncated))?;
        let len = ipv6::HEADER_LEN + usize::from(packet.payload_len());
        if len > chain.len() {
            return Err(only(Drop::IpTruncated));
        }
        let (src, dst) = (packet.src(), packet.dst());
        // On the wire a mapped address would pass for the other family (RFC 4942 2.2).
        if src.is_v4() || dst.is_v4() {
            return Err(only(Drop::IpSource));
        }
        self.check_source(arrival.interface, &src).map_err(only)?;
        let group = self
            .check_destination(arrival.interface, &dst, arrival.link_group)
            .map_err(only)?;
        let mut heads = Heads {
            src,
            dst,
            protocol: packet.next_header(),
            ttl: packet.hop_limit(),
            tos: packet.traffic_class(),
            l4: ipv6::HEADER_LEN,
            len,
            named_at: 6,
            group,
            alert: false,
        };
        let walked = ext::walk(packet.next_header(), packet.payload())
            .map_err(|error| (refuse(error, &dst), Some(heads)))?;
        heads.protocol = walked.transport;
        heads.l4 = ipv6::HEADER_LEN + walked.offset;
        heads.named_at = walked.named_at as u32;
        heads.alert = walked.router_alert == Some(0);
        // Only duplicate address detection and listener reports have no source (RFC 4291 2.5.2).
        if src.is_unspecified() && walked.transport != protocol::ICMPV6 {
            return Err(only(Drop::IpSource));
        }
        let Some(fragment) = walked.fragment else {
            return Ok((heads, None));
        };
        if fragment.is_atomic() {
            // RFC 6946 4: taken by itself, whatever else has its identification.
            return Ok((
                heads,
                Some(Piece {
                    ident: 0,
                    offset: 0,
                    more: false,
                }),
            ));
        }
        self.check_fragment(&packet, &fragment, heads)
    }

    fn check_fragment(
        &self,
        packet: &ipv6::Packet<'_>,
        fragment: &ext::Fragment,
        mut heads: Heads,
    ) -> Result<(Heads, Option<Piece>), (Refusal, Option<Heads>)> {
        let data = heads.len - heads.l4;
        let place = ipv6::HEADER_LEN + fragment.header_offset;
        // RFC 8200 4.5: pieces that do not fit each other, or would be too long together.
        if fragment.more && !data.is_multiple_of(8) {
            return Err((problem(Drop::FragmentMalformed, 0, 4), Some(heads)));
        }
        if fragment.header_offset + usize::from(fragment.offset) + data > ipv6::MAX_PAYLOAD {
            let refusal = problem(Drop::FragmentTooLong, 0, place as u32 + 2);
            return Err((refusal, Some(heads)));
        }
        let rest = packet
            .payload()
            .get(walk_end(heads.l4)..)
            .unwrap_or_default();
        if fragment.offset == 0 && !ext::first_fragment_is_complete(fragment.next_header, rest) {
            // RFC 7112 5: the first fragment MUST hold all headers.
            return Err((problem(Drop::FragmentHeaders, 3, 0), Some(heads)));
        }
        heads.named_at = fragment.named_at as u32;
        let piece = Piece {
            ident: fragment.ident,
            offset: fragment.offset,
            more: fragment.more,
        };
        Ok((heads, Some(piece)))
    }

    /// What both families do once the headers have been read.
    fn checked_input(
        &mut self,
        core: &mut Core,
        arrival: Arrival,
        mut chain: Chain,
        checked: Result<(Heads, Option<Piece>), (Refusal, Option<Heads>)>,
    ) -> Input {
        let (heads, piece) = match checked {
            Ok(checked) => checked,
            Err((refusal, heads)) => {
                let mut original = match (refusal.tell, heads) {
                    (Some(_), Some(heads)) => datagram(&arrival, &heads, chain),
                    _ => {
                        core.drop_packet(chain, refusal.reason);
                        return Input::Done;
                    }
                };
                if let Some(kind) = refusal.tell {
                    self.send_error(core, kind, &original);
                }
                core.drop_packet(original.chain.take(), refusal.reason);
                return Input::Done;
            }
        };
        core.pool.truncate(&mut chain, heads.len);
        match piece {
            Some(piece) if piece.offset != 0 || piece.more => {
                self.fragment_input(core, arrival, &heads, piece, chain)
            }
            // An atomic fragment counts as fragmented where that matters (RFC 6980).
            Some(_) => self.deliver(
                core,
                Arrival {
                    reassembled: true,
                    ..arrival
                },
                &heads,
                chain,
            ),
            None => self.deliver(core, arrival, &heads, chain),
        }
    }

    fn fragment_input(
        &mut self,
        core: &mut Core,
        arrival: Arrival,
        heads: &Heads,
        piece: Piece,
        chain: Chain,
    ) -> Input {
        // Fragments within fragments are of no use to anybody but an attacker.
        if arrival.reassembled {
            core.drop_packet(chain, Drop::FragmentMalformed);
            return Input::Done;
        }
        let v4 = heads.src.is_v4();
        let zone = if heads.src.is_link_local() || heads.dst.is_link_local() {
            arrival.interface.0
        } else {
            InterfaceId::LOOPBACK.0
        };
        let fragment = Fragment {
            name: Name {
                src: heads.src,
                dst: heads.dst,
                ident: piece.ident,
                protocol: if v4 { heads.protocol } else { 0 },
                zone,
            },
            interface: arrival.interface,
            offset: u32::from(piece.offset),
            more: piece.more,
            ecn: heads.tos & 3,
            group: heads.group,
            header: Header {
                len: heads.l4 as u16,
                named_at: if v4 { 0 } else { heads.named_at as u16 },
                protocol: heads.protocol,
            },
            chain,
        };
        match self.reassembly.add(core, fragment) {
            Outcome::Held => Input::Done,
            Outcome::Complete(chain) => {
                let arrival = Arrival {
                    reassembled: true,
                    joined: true,
                    checksum_good: false,
                    gso_size: 0,
                    ..arrival
                };
                if v4 {
                    self.ipv4_input(core, arrival, chain)
                } else {
                    self.ipv6_input(core, arrival, chain)
                }
            }
        }
    }

    /// A whole packet to whoever speaks its protocol.
    fn deliver(&mut self, core: &mut Core, arrival: Arrival, heads: &Heads, chain: Chain) -> Input {
        let mut datagram = datagram(&arrival, heads, chain);
        let want = datagram.chain.len().min(heads.l4 + TRANSPORT_HEADER);
        if !core.pool.make_contiguous(&mut datagram.chain, want) {
            core.drop_packet(datagram.chain, Drop::PoolEmpty);
            return Input::Done;
        }
        let v4 = heads.src.is_v4();
        match heads.protocol {
            protocol::TCP | protocol::UDP if arrival.joined && core.sharding.is_some() => {
                self.divert(core, arrival.interface, datagram.chain);
                Input::Done
            }
            protocol::TCP | protocol::UDP => {
                core.count(Count::Delivered);
                Input::Datagram(datagram)
            }
            protocol::ICMPV4 if v4 => self.icmpv4_input(core, datagram),
            protocol::ICMPV6 if !v4 => {
                self.icmpv6_input(core, datagram, arrival.reassembled, heads.alert)
            }
            protocol::IGMP if v4 => {
                self.igmp_input(core, datagram);
                Input::Done
            }
            protocol::NO_NEXT_HEADER if !v4 => {
                core.drop_packet(datagram.chain, Drop::IpNoNextHeader);
                Input::Done
            }
            // RFC 1122 3.2.2.1: protocol unreachable; RFC 8200 4: unrecognized next header.
            _ => {
                let kind = ErrorKind::ProtocolUnreachable {
                    pointer: heads.named_at,
                };
                self.send_error(core, kind, &datagram);
                core.drop_packet(datagram.chain, Drop::IpProtocol);
                Input::Done
            }
        }
    }
}

/// Where the part behind the headers begins in the payload.
fn walk_end(l4: usize) -> usize {
    l4 - ipv6::HEADER_LEN
}

fn datagram(arrival: &Arrival, heads: &Heads, chain: Chain) -> Datagram {
    Datagram {
        interface: arrival.interface,
        src: heads.src,
        dst: heads.dst,
        protocol: heads.protocol,
        ttl: heads.ttl,
        tos: heads.tos,
        group: heads.group,
        l4: heads.l4 as u16,
        checksum_good: arrival.checksum_good,
        gso_size: arrival.gso_size,
        chain,
    }
}

/// IPv4 options (RFC 1122 3.2.1.8): source routes are not for hosts that do not forward, and are dropped as RFC 7126 4.3 and 4.4
/// advise; all others are passed over, but must be well formed.
fn check_options(packet: &ipv4::Packet<'_>) -> Result<(), Refusal> {
    if packet.options_bytes().is_empty() {
        return Ok(());
    }
    let mut options = packet.options();
    if options.by_ref().any(|option| option.is_source_route()) {
        return Err(Drop::IpSourceRoute.into());
    }
    match options.malformed() {
        Some(at) => Err(problem(Drop::IpOptions, 0, u32::from(at))),
        None => Ok(()),
    }
}

fn refuse(error: ext::Error, dst: &Addr) -> Refusal {
    let reason = match error.kind {
        ext::Kind::RoutingType => Drop::IpRoutingHeader,
        ext::Kind::UnknownOption
        | ext::Kind::UnknownOptionTell
        | ext::Kind::UnknownOptionTellUnicast => Drop::IpUnknownOption,
        ext::Kind::Truncated
        | ext::Kind::TooMany
        | ext::Kind::Option
        | ext::Kind::HopByHopPosition => Drop::IpExtension,
    };
    match error.kind.parameter_problem(dst.is_multicast()) {
        Some(code) => problem(reason, code, error.pointer),
        None => reason.into(),
    }
}
