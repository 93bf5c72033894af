//! A UDP socket for tasks of any runtime.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};

use engine::{UdpHandle, answered};
use stack::{UdpOptions, Via};

use super::{addresses, attempt};
use crate::Host;
use crate::tasks::datagram_calls;
use crate::udp::udp_options;

/// A UDP socket for tasks of any runtime. The last clone that is dropped closes it.
///
/// ```
/// use millstream::futures::UdpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let host = millstream::Host::builder().start()?;
/// let server = UdpSocket::bind_on(&host, "127.0.0.1:7").await?;
/// let client = UdpSocket::bind_on(&host, "127.0.0.1:0").await?;
/// client.send_to(b"hello", "127.0.0.1:7").await?;
///
/// let mut buffer = [0; 2048];
/// let (n, peer) = server.recv_from(&mut buffer).await?;
/// server.send_to(&buffer[..n], peer).await?;
/// assert_eq!(client.recv(&mut buffer).await?, 5);
/// # Ok(())
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
