//! Small services over any byte stream or datagram socket: echo (RFC 862), discard (RFC 863), chargen (RFC 864).
//!
//! What does not live here: HTTP (`http`), and which stack the sockets belong to (`serve`): everything is generic, so
//! the same code runs on Millstream's sockets and, in tests, on the kernel's.
//!
//! Invariant: a datagram service never sends more than it received, and never to another such service: a forged source
//! gains nothing and two services cannot keep each other busy.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes read at once from a stream.
const STREAM_BUFFER: usize = 16 * 1024;

/// The largest UDP payload there is.
const DATAGRAM_BUFFER: usize = 65_535;

/// How long to wait after accepting failed (out of memory or handles), as a tight loop would help nobody.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener of any stack.
pub(crate) trait Accept: Send + 'static {
    /// What it accepts.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and the peer's address.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

/// A bound datagram socket of any stack.
pub(crate) trait Datagrams: Send + 'static {
    /// The next datagram: its length (cut to the buffer) and its source.
    fn recv_from(
        &mut self,
        buf: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send;

    /// Sends one datagram.
    fn send_to(
        &mut self,
        buf: &[u8],
        to: SocketAddr,
    ) -> impl Future<Output = io::Result<usize>> + Send;
}

/// What a plain service does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Sends back what it reads.
    Echo,
    /// Reads and forgets.
    Discard,
    /// Sends printable characters for as long as the peer reads them.
    Chargen,
}

/// Accepts for ever and gives each connection to `handle` in a task of its own.
pub(crate) async fn accept_all<A, H, F>(mut listener: A, handle: H)
where
    A: Accept,
    H: Fn(A::Stream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(handle(stream))),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return, // The host is gone.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves every connection of `listener`.
pub(crate) async fn serve_streams<A: Accept>(listener: A, service: Service) {
    accept_all(listener, move |stream| async move {
        // A peer that resets or vanishes ends its own connection and nothing else.
        let _ = match service {
            Service::Echo => echo(stream).await,
            Service::Discard => discard(stream).await,
            Service::Chargen => chargen(stream).await,
        };
    })
    .await;
}

/// Answers or swallows every datagram of `socket`.
pub(crate) async fn serve_datagrams<D: Datagrams>(mut socket: D, service: Service) {
    let mut buf = vec![0; DATAGRAM_BUFFER];
    loop {
        match socket.recv_from(&mut buf).await {
            Ok((len, from)) if service == Service::Echo && !reflects(from.port()) => {
                // Lost is lost: UDP promises nothing, and the peer may not listen any more.
                let _ = socket.send_to(&buf[..len], from).await;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Whether a service that answers any datagram lives on this port: echo, daytime, qotd, chargen, time.
fn reflects(port: u16) -> bool {
    matches!(port, 0 | 7 | 13 | 17 | 19 | 37)
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut buf = vec![0; STREAM_BUFFER];
    loop {
        let len = stream.read(&mut buf).await?;
        if len == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buf[..len]).await?;
    }
}

async fn discard<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut buf = vec![0; STREAM_BUFFER];
    while stream.read(&mut buf).await? > 0 {}
    stream.shutdown().await
}

async fn chargen<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let lines = chargen_lines();
    loop {
        stream.write_all(&lines).await?;
    }
}

/// One turn of the 95 lines RFC 864 suggests: 72 printable characters each, every line shifted by one.
fn chargen_lines() -> Vec<u8> {
    let mut lines = Vec::with_capacity(95 * 74);
    for first in 0..95_u8 {
        lines.extend((0..72).map(|at| b' ' + (first + at) % 95));
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

#[cfg(test)]
pub(crate) mod kernel {
    //! The kernel's sockets under the same traits, for tests.
    use super::*;

    impl Accept for tokio::net::TcpListener {
        type Stream = tokio::net::TcpStream;

        async fn accept(&mut self) -> io::Result<(Self::Stream, SocketAddr)> {
            tokio::net::TcpListener::accept(self).await
        }
    }

    impl Datagrams for tokio::net::UdpSocket {
        async fn recv_from(&mut self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
            tokio::net::UdpSocket::recv_from(self, buf).await
        }

        async fn send_to(&mut self, buf: &[u8], to: SocketAddr) -> io::Result<usize> {
            tokio::net::UdpSocket::send_to(self, buf, to).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream, UdpSocket};

    async fn start(service: Service) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_streams(listener, service));
        TcpStream::connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn echo_returns_every_byte_and_then_the_end() {
        let mut stream = start(Service::Echo).await;
        let sent: Vec<u8> = (0..50_000).map(|n| n as u8).collect();
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, sent);
    }

    #[tokio::test]
    async fn discard_sends_nothing_but_the_end() {
        let mut stream = start(Service::Discard).await;
        stream.write_all(&[1; 50_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn chargen_sends_shifted_lines() {
        let mut stream = start(Service::Chargen).await;
        let mut lines = vec![0; 95 * 74 * 2];
        stream.read_exact(&mut lines).await.unwrap();
        assert!(lines.starts_with(b" !\"#$%&'()"));
        assert_eq!(&lines[72..76], b"\r\n!\"");
        assert!(
            lines
                .iter()
                .all(|b| matches!(b, b' '..=b'~' | b'\r' | b'\n'))
        );
        assert_eq!(lines[..95 * 74], lines[95 * 74..]);
    }

    #[tokio::test]
    async fn datagrams_come_back_but_not_to_reflecting_ports() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(serve_datagrams(server, Service::Echo));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"hello", address).await.unwrap();
        let mut buf = [0; 16];
        let (len, from) = client.recv_from(&mut buf).await.unwrap();
        assert_eq!((&buf[..len], from), (&b"hello"[..], address));
        assert!(reflects(19) && reflects(7) && !reflects(40_000));
    }
}
