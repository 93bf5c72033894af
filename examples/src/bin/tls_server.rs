//! A TLS server: tokio-rustls over Millstream's sockets. It signs its certificate itself, for nobody but the visitor.

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use millstream::tokio::{TcpListener, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, Stream};

/// The name in the certificate.
const NAME: &str = "mill.example";

/// Says every line back in capitals, over TLS.
async fn shout(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            n => {
                buffer[..n].make_ascii_uppercase();
                stream.write_all(&buffer[..n]).await?;
                stream.flush().await?;
            }
        }
    }
    // The peer learns that nothing was cut off.
    stream.shutdown().await
}

/// A visitor with the kernel's TCP and rustls of its own, who trusts this one certificate.
fn visit(
    mut stream: std::net::TcpStream,
    certificate: CertificateDer<'static>,
) -> Result<String, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut session = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME)?)?;
    let mut tls = Stream::new(&mut session, &mut stream);
    tls.write_all(b"hello over tls")?;
    let mut answer = [0; 14];
    tls.read_exact(&mut answer)?;
    let version = session.protocol_version();
    Ok(format!(
        "{} ({version:?})",
        String::from_utf8_lossy(&answer)
    ))
}

async fn serve(stage: examples::Stage) -> Result<(), Box<dyn Error>> {
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = own.cert.der().clone();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der())?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("0.0.0.0:443").await?;
    stage.visit(443, |stream| {
        visit(stream, certificate).map_err(|error| io::Error::other(error.to_string()))
    });
    loop {
        let (stream, peer) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            if let Err(error) = shout(acceptor, stream).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

fn main() -> ExitCode {
    examples::run_async(serve)
}
