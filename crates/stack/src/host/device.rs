//! Sockets that are bound to one interface (SO_BINDTODEVICE): its name, and whether they may be.
//!
//! What does not live here: what is for them (`tcp`, `udp`), and the way of what they send (`net`).

use core::net::{IpAddr, SocketAddr};
use std::borrow::Cow;

use wire::Addr;

use super::Host;
use crate::error::SocketError;
use crate::net::InterfaceId;
use crate::tcp::TcpOptions;
use crate::udp::scope;

/// By which the loopback is named; other interfaces are named as was said when they were added.
const LOOPBACK: &str = "lo";

impl Host {
    /// The interface with this name; "lo" is the loopback. Looks at each.
    pub fn interface_named(&self, name: &str) -> Option<InterfaceId> {
        let mut interfaces = self.interfaces();
        match interfaces.find(|interface| interface.name == name) {
            Some(interface) => Some(interface.id),
            None => (name == LOOPBACK).then_some(InterfaceId::LOOPBACK),
        }
    }

    /// The name of an interface, if there is such.
    pub fn interface_name(&self, id: InterfaceId) -> Option<&str> {
        match self.net.interfaces.get(usize::from(id.0)) {
            Some(interface) => Some(&interface.name),
            None => (id == InterfaceId::LOOPBACK).then_some(LOOPBACK),
        }
    }

    /// The interface that has an address of this host's.
    pub fn interface_with(&self, addr: IpAddr) -> Option<InterfaceId> {
        let addr = Addr::from(addr);
        let local = self.net.is_local(&addr);
        local.then(|| self.net.came_by(InterfaceId::LOOPBACK, &addr))
    }

    /// Whether an address is one that a socket may have that is bound to a device or, by a link-local address, to a link.
    pub(super) fn is_on(&self, addr: &SocketAddr, device: Option<InterfaceId>) -> bool {
        let near = Addr::from(addr.ip()).is_link_local() && addr.is_ipv6();
        let link = scope(addr).or(device).filter(|_| near);
        link.is_none_or(|link| self.interface_with(addr.ip()) == Some(link))
    }

    /// Whether a socket may be bound to a device.
    ///
    /// # Errors
    /// `NoSuchDevice`.
    pub(super) fn device_there(&self, device: Option<InterfaceId>) -> Result<(), SocketError> {
        match device {
            Some(device) if !self.net.is_interface(device) => Err(SocketError::NoSuchDevice),
            _ => Ok(()),
        }
    }

    /// The options of a TCP socket with these addresses: a link-local one that names its link binds the socket to it, as on Linux.
    ///
    /// # Errors
    /// `NoSuchDevice`; `InvalidInput` when two of them name different ones.
    pub(super) fn on_device<'a>(
        &self,
        addresses: impl Iterator<Item = SocketAddr>,
        options: &'a TcpOptions,
    ) -> Result<Cow<'a, TcpOptions>, SocketError> {
        let mut device = options.device;
        for addr in addresses.filter(|addr| Addr::from(addr.ip()).is_link_local()) {
            let Some(link) = scope(&addr) else { continue };
            if *device.get_or_insert(link) != link {
                return Err(SocketError::InvalidInput);
            }
        }
        self.device_there(device)?;
        if device == options.device {
            return Ok(Cow::Borrowed(options));
        }
        Ok(Cow::Owned(TcpOptions {
            device,
            ..options.clone()
        }))
    }
}
