//! A narrow place on a cable: what a router says of a packet that is longer than it can pass on (RFC 1191, RFC 8201).
//!
//! What does not live here: which packets those are.

use wire::{Addr, ethernet, icmpv4, icmpv6, ipv4, ipv6, protocol};

/// The most of a packet that an error quotes: over IPv4 (RFC 1812 4.3.2.3), and within the least MTU of IPv6 (RFC 4443 3.2).
const QUOTED_V4: usize = 576 - ipv4::HEADER_LEN - icmpv4::HEADER_LEN;
const QUOTED_V6: usize = 1280 - ipv6::HEADER_LEN - icmpv6::HEADER_LEN;

/// The error a router answers `frame` with, whose packet is longer than `mtu`. `None` when it may be passed on in fragments.
pub(crate) fn too_big(frame: &[u8], mtu: usize) -> Option<Vec<u8>> {
    let outer = ethernet::Packet::new(frame).ok()?;
    let packet = outer.payload();
    let error = match outer.ethertype() {
        ethernet::EtherType::IPV4 => {
            let ip = ipv4::Packet::new(packet)
                .ok()
                .filter(|ip| ip.dont_fragment())?;
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            let mut message = vec![0; icmpv4::HEADER_LEN];
            icmpv4::Repr::FragmentationNeeded { mtu }.emit(&mut message);
            message.extend(&packet[..packet.len().min(QUOTED_V4)]);
            icmpv4::fill_checksum(&mut message);
            let router = Addr::v4(10, 1, 0, 254);
            let mut error = vec![0; ipv4::HEADER_LEN];
            ipv4::Repr::new(router, ip.src(), protocol::ICMPV4, 64, message.len()).emit(&mut error);
            error.extend(message);
            error
        }
        ethernet::EtherType::IPV6 => {
            let ip = ipv6::Packet::new(packet).ok()?;
            let mtu = u32::try_from(mtu).unwrap_or(u32::MAX);
            let mut message = vec![0; icmpv6::HEADER_LEN];
            icmpv6::Repr::PacketTooBig { mtu }.emit(&mut message);
            message.extend(&packet[..packet.len().min(QUOTED_V6)]);
            let router = Addr::from(core::net::Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 0xfe));
            icmpv6::fill_checksum(&mut message, &router, &ip.src());
            let mut error = vec![0; ipv6::HEADER_LEN];
            ipv6::Repr::new(router, ip.src(), protocol::ICMPV6, 64, message.len()).emit(&mut error);
            error.extend(message);
            error
        }
        _ => return None,
    };
    let mut answer = vec![0; ethernet::HEADER_LEN];
    ethernet::Repr {
        src: outer.dst(),
        dst: outer.src(),
        ethertype: outer.ethertype(),
    }
    .emit(&mut answer);
    answer.extend(error);
    Some(answer)
}
