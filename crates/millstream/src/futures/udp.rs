//! A UDP socket for tasks of any runtime.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};

use engine::{UdpHandle, Via, answered};
use stack::UdpOptions;

use super::{addresses, attempt};
use crate::Host;
use crate::tasks::datagram_calls;
use crate::udp::udp_options;

/// A UDP socket for tasks of any runtime. The last clone that is dropped closes it.
///
/// ```no_run
/// # async fn example(host: millstream::Host) -> std::io::Result<()> {
/// let socket = millstream::futures::UdpSocket::bind_on(&host, "0.0.0.0:7").await?;
/// let mut buffer = [0; 2048];
/// loop {
///     let (n, peer) = socket.recv_from(&mut buffer).await?;
///     socket.send_to(&buffer[..n], peer).await?;
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct UdpSocket {
    socket: Arc<UdpHandle>,
}

datagram_calls!(UdpSocket);
udp_options!(UdpSocket, Ipv4Addr);

/// The same socket; clones of the one with std's face go on beside it.
impl From<crate::UdpSocket> for UdpSocket {
    fn from(socket: crate::UdpSocket) -> Self {
        Self {
            socket: socket.shared().clone(),
        }
    }
}

/// The same socket with std's face, which blocks.
impl From<UdpSocket> for crate::UdpSocket {
    fn from(socket: UdpSocket) -> Self {
        Self::from_shared(socket.socket)
    }
}
