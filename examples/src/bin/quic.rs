//! QUIC: quinn over Millstream's UDP sockets. What a visitor with quinn over the kernel's sends comes back to it.

use std::error::Error;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use millstream::MtuDiscover;
use millstream::datagram::{Ecn, RecvMeta, Transmit};
use millstream::tokio::UdpSocket;
use quinn::udp::{self, BATCH_SIZE, EcnCodepoint};
use quinn::{
    AsyncUdpSocket, ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    UdpPoller,
};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name in the certificate.
const NAME: &str = "mill.example";

/// What the visitor sends, and gets back.
const BYTES: usize = 4 << 20;

/// A UDP socket of Millstream's, as quinn sees it.
#[derive(Debug)]
struct Datagrams(UdpSocket);

impl Datagrams {
    fn new(socket: UdpSocket) -> io::Result<Self> {
        // quinn finds the path's MTU itself, by datagrams that must not be fragmented.
        socket.set_options(|options| {
            options.mtu_discover = MtuDiscover::Probe;
            options.mtu_discover_v6 = MtuDiscover::Probe;
        })?;
        Ok(Self(socket))
    }
}

impl AsyncUdpSocket for Datagrams {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room(self))
    }

    fn try_send(&self, transmit: &udp::Transmit<'_>) -> io::Result<()> {
        let ecn = |ecn| match ecn {
            EcnCodepoint::Ect0 => Ecn::Ect0,
            EcnCodepoint::Ect1 => Ecn::Ect1,
            EcnCodepoint::Ce => Ecn::Ce,
        };
        let datagrams = Transmit {
            from: transmit.src_ip,
            ecn: transmit.ecn.map(ecn),
            segment: transmit.segment_size.map(|size| size as u16),
            ..Transmit::to(transmit.contents, transmit.destination)
        };
        // Why an earlier datagram could not be sent, such as a probe that is too long for the path, is told once, and no reason not to
        // send this one. What is lost all the same QUIC makes good.
        for _ in 0..2 {
            match self.0.try_send_batch(&[datagrams]) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [udp::RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut known = [RecvMeta::default(); BATCH_SIZE];
        let most = meta.len().min(BATCH_SIZE);
        let n = ready!(self.0.poll_recv_batch(cx, bufs, &mut known[..most]))?;
        for (meta, known) in meta.iter_mut().zip(&known[..n]) {
            meta.addr = known.from;
            meta.len = known.len;
            meta.stride = known.stride;
            meta.ecn = EcnCodepoint::from_bits(known.tos);
            meta.dst_ip = Some(known.to);
        }
        Poll::Ready(Ok(n))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        32
    }

    fn max_receive_segments(&self) -> usize {
        32
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Somebody who waits for room to send.
#[derive(Debug)]
struct Room(Arc<Datagrams>);

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.0.poll_send_ready(cx)
    }
}

/// Sends back what comes, stream by stream.
async fn echo(connection: Connection) -> Result<(), Box<dyn Error + Send + Sync>> {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        tokio::io::copy(&mut receive, &mut send).await?;
        send.finish()?;
    }
    Ok(())
}

/// A visitor with the kernel's UDP, who trusts this one certificate.
async fn visit(certificate: CertificateDer<'static>) -> Result<String, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut endpoint = Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into())?;
    endpoint.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
    let server = SocketAddr::new(examples::MILLSTREAM.parse()?, 443);
    let connection = endpoint.connect(server, NAME)?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let data: Vec<u8> = (0..BYTES).map(|n| ((n / 7) ^ n) as u8).collect();
    let sent = data.clone();
    let sending = tokio::spawn(async move {
        send.write_all(&sent).await?;
        Ok::<_, quinn::WriteError>(send.finish())
    });
    let back = receive.read_to_end(BYTES + 1).await?;
    sending.await??.map_err(io::Error::other)?;
    connection.close(0_u8.into(), b"thank you");
    endpoint.wait_idle().await;
    if back != data {
        return Err("what came back is not what was sent".into());
    }
    Ok(format!("{} bytes there and back over QUIC", back.len()))
}

async fn serve(stage: examples::Stage) -> Result<(), Box<dyn Error>> {
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = own.cert.der().clone();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der())?;
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], key)?;
    let socket = Datagrams::new(UdpSocket::bind("0.0.0.0:443").await?)?;
    let endpoint = Endpoint::new_with_abstract_socket(
        EndpointConfig::default(),
        Some(config),
        Arc::new(socket),
        Arc::new(TokioRuntime),
    )?;
    stage.call(443, || {
        let runtime = tokio::runtime::Runtime::new()?;
        let seen = runtime.block_on(visit(certificate));
        seen.map_err(|error| io::Error::other(error.to_string()))
    });
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let echoed = match incoming.await {
                Ok(connection) => echo(connection).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = echoed {
                eprintln!("a connection ended: {error}");
            }
        });
    }
    Ok(())
}

fn main() -> ExitCode {
    examples::run_async(serve)
}
