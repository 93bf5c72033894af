//! Datagrams and ICMP reports on their way to a socket.

use base::{Chain, Instant};
use wire::checksum;

use super::Udp;
use super::ports::Tuple;
use super::queue::Note;
use crate::SocketError;
use crate::context::Core;
use crate::net::{Datagram, ErrorKind, InterfaceId, Net, Report, ReportKind, chain};
use crate::socket::{Ready, SocketId, SocketKind};
use crate::stats::{Count, Drop};

const HEADER_LEN: usize = wire::udp::HEADER_LEN;
const PROTOCOL: u8 = 17;

impl Udp {
    /// Takes in one datagram, or a super-frame of several.
    pub(crate) fn input(&mut self, core: &mut Core, net: &mut Net, mut datagram: Datagram) {
        let (remote_port, local_port) = match check(core, &mut datagram) {
            Ok(ports) => ports,
            Err(reason) => return core.drop_packet(datagram.chain, reason),
        };
        let tuple = Tuple {
            local: datagram.dst,
            remote: datagram.src,
            local_port,
            remote_port,
        };
        if datagram.group && !net.is_local(&datagram.dst) {
            return self.deliver_group(core, datagram, &tuple);
        }
        let first = core.pool.first(&datagram.chain);
        let header = usize::from(datagram.l4) + HEADER_LEN;
        let data = (
            first.get(header..).unwrap_or_default(),
            datagram.chain.len() - header,
        );
        let came_by = Some(net.came_by(datagram.interface, &datagram.dst));
        let Some(at) = self
            .ports
            .lookup(&self.sockets, (&tuple, came_by), Some(data))
        else {
            // RFC 1122 4.1.3.1; never for what came by broadcast (3.2.2).
            if !datagram.group {
                net.send_error(core, ErrorKind::PortUnreachable, &datagram);
            }
            return core.drop_packet(datagram.chain, Drop::UdpNoSocket);
        };
        let mut chain = core::mem::take(&mut datagram.chain);
        core.pool
            .pull_front(&mut chain, usize::from(datagram.l4) + HEADER_LEN);
        self.deliver(
            core,
            at,
            &note(core.now, &datagram, &tuple),
            chain,
            usize::from(datagram.gso_size),
        );
    }

    /// Every socket that wants a broadcast or multicast gets it (RFC 1122 4.1.3.6, Linux's `__udp4_lib_mcast_deliver`).
    #[cold]
    fn deliver_group(&mut self, core: &mut Core, mut datagram: Datagram, tuple: &Tuple) {
        let mut chain = core::mem::take(&mut datagram.chain);
        core.pool
            .pull_front(&mut chain, usize::from(datagram.l4) + HEADER_LEN);
        let note = note(core.now, &datagram, tuple);
        let (len, size) = (chain.len(), usize::from(datagram.gso_size));
        // Collected first because delivery changes them; the scratch has room for every socket there can be.
        let mut targets = core::mem::take(&mut self.targets);
        let wants = |at| {
            let socket = self.sockets.at(at);
            socket.is_some_and(|socket| socket.wants(note.interface, &tuple.local))
        };
        // What this host says itself comes by no link.
        let came_by = Some(datagram.interface).filter(|by| *by != InterfaceId::LOOPBACK);
        self.ports.each(&self.sockets, (tuple, came_by), |at| {
            if wants(at) {
                targets.push(at);
            }
        });
        let last = targets.pop();
        for at in targets.drain(..) {
            match core.pool.share(&chain, 0, len) {
                Some(copy) => self.deliver(core, at, &note, copy, size),
                None => core.stats.drops.add(Drop::PoolEmpty),
            }
        }
        self.targets = targets;
        match last {
            Some(at) => self.deliver(core, at, &note, chain, size),
            None => core.drop_packet(chain, Drop::UdpNoSocket),
        }
    }

    fn deliver(&mut self, core: &mut Core, at: u32, note: &Note, payload: Chain, size: usize) {
        let Some(socket) = self.sockets.at_mut(at) else {
            return core.drop_packet(payload, Drop::UdpNoSocket);
        };
        if socket.connected()
            && socket.scope.is_some_and(|scope| scope != note.interface)
            && note.from.is_link_local()
        {
            return core.drop_packet(payload, Drop::UdpNoSocket);
        }
        let datagrams = if size == 0 {
            1
        } else {
            payload.len().div_ceil(size).max(1) as u64
        };
        let refused = u64::from(
            socket
                .queue
                .push(core, &mut self.nodes, note, payload, size),
        );
        socket.overflowed += refused;
        if refused < datagrams {
            core.stats
                .counts
                .add_n(Count::UdpDelivered, datagrams - refused);
            self.ready.raise(&mut self.sockets, at, Ready::READABLE);
        }
    }

    /// An ICMP error about something sent from here, with Linux's choice of who hears of it.
    pub(crate) fn report(&mut self, core: &mut Core, net: &mut Net, report: &Report) {
        let port = |at: usize| u16::from_be_bytes([report.l4[at], report.l4[at + 1]]);
        let tuple = Tuple {
            local: report.local,
            remote: report.remote,
            local_port: port(0),
            remote_port: port(2),
        };
        let Some(at) = self.ports.lookup(&self.sockets, (&tuple, None), None) else {
            return core.count(Count::UdpReportIgnored);
        };
        let Some(socket) = self.sockets.at_mut(at) else {
            return;
        };
        if let ReportKind::TooBig { mtu } = report.kind {
            let discover = socket.options.discover(&report.remote);
            if discover.learns() {
                net.pmtu_update(core, report.remote, mtu);
                socket.path = None;
            }
            if !discover.hears(report.remote.is_v4(), socket.options.receive_errors) {
                return core.count(Count::UdpReportIgnored);
            }
        }
        let (error, hard) = verdict(report);
        if !(socket.options.receive_errors || (hard && socket.connected())) {
            return core.count(Count::UdpReportIgnored);
        }
        socket.error = Some(error);
        if socket.options.receive_errors
            && let Some(key) = self.sockets.key_of(at)
        {
            let id = SocketId::new(SocketKind::Udp, key);
            net.keep_report(core, id, error, (&report.remote, port(2)), report);
        }
        self.ready.raise(&mut self.sockets, at, Ready::ERROR);
    }
}

/// What an ICMP error means to a socket, and whether a connected one is told without asking (Linux's `icmp_err_convert`).
fn verdict(report: &Report) -> (SocketError, bool) {
    match report.kind {
        ReportKind::PortUnreachable => (SocketError::ConnectionRefused, true),
        ReportKind::ProtocolUnreachable => (SocketError::NotSupported, true),
        ReportKind::ParameterProblem => (SocketError::NotSupported, true),
        ReportKind::TooBig { .. } => (SocketError::MessageTooLong, true),
        ReportKind::AdminProhibited if report.remote.is_v4() => {
            (SocketError::HostUnreachable, true)
        }
        ReportKind::AdminProhibited => (SocketError::PermissionDenied, true),
        ReportKind::NetUnreachable => (SocketError::NetworkUnreachable, false),
        ReportKind::SourceRouteFailed => (SocketError::NotSupported, false),
        ReportKind::HostUnreachable
        | ReportKind::TimeExceeded
        | ReportKind::ReassemblyTimeExceeded => (SocketError::HostUnreachable, false),
    }
}

fn note(now: Instant, datagram: &Datagram, tuple: &Tuple) -> Note {
    Note {
        from: datagram.src,
        to: datagram.dst,
        from_port: tuple.remote_port,
        interface: datagram.interface,
        ttl: datagram.ttl,
        tos: datagram.tos,
        segment: 0,
        at: now,
    }
}

/// Length and checksum by RFC 768 and RFC 8200 8.1; trims padding. Gives source and destination port.
fn check(core: &mut Core, datagram: &mut Datagram) -> Result<(u16, u16), Drop> {
    let l4 = usize::from(datagram.l4);
    if datagram.chain.len() < l4 + HEADER_LEN {
        return Err(Drop::UdpMalformed);
    }
    if core.pool.first(&datagram.chain).len() < l4 + HEADER_LEN
        && !core
            .pool
            .make_contiguous(&mut datagram.chain, l4 + HEADER_LEN)
    {
        return Err(Drop::PoolEmpty);
    }
    let Ok(header) = wire::udp::Packet::new(&core.pool.first(&datagram.chain)[l4..]) else {
        return Err(Drop::UdpMalformed);
    };
    let (ports, len, field) = (
        (header.src_port(), header.dst_port()),
        usize::from(header.len()),
        header.checksum(),
    );
    if len < HEADER_LEN || l4 + len > datagram.chain.len() {
        return Err(Drop::UdpMalformed);
    }
    if l4 + len < datagram.chain.len() {
        core.pool.truncate(&mut datagram.chain, l4 + len);
    }
    if field == 0 {
        // RFC 768: none was computed. RFC 8200 8.1: not so over IPv6.
        return if datagram.src.is_v4() {
            Ok(ports)
        } else {
            Err(Drop::UdpZeroChecksum)
        };
    }
    if !datagram.checksum_good && !verify(core, datagram, len) {
        return Err(Drop::UdpChecksum);
    }
    Ok(ports)
}

fn verify(core: &Core, datagram: &Datagram, len: usize) -> bool {
    checksum::pseudo(&datagram.src, &datagram.dst, PROTOCOL, len as u32)
        .add_sum(chain::sum(
            &core.pool,
            &datagram.chain,
            usize::from(datagram.l4),
        ))
        .is_valid()
}
