//! The bridge between two worlds: a listener on the machine's own network, relayed to the host in the private one.
//!
//! What does not live here: anything of HTTP; bytes pass as they are.
//!
//! A socket belongs to the network namespace it was made in for as long as it lives. So a listener made before the
//! process moved keeps accepting from the machine's own network, while every new socket is made in the private one:
//! each byte a browser gets has crossed the device and the user-space stack.
//!
//! Invariant: as many relays as [`RELAYS_MAX`] and no more; the kernel's backlog holds the others back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::failure::Failure;

/// Connections relayed at the same time.
const RELAYS_MAX: usize = 4_096;

/// Bytes a relay holds in each direction: enough that a fast download is not made of small writes.
const BUFFER: usize = 128 * 1024;

/// How long to wait after accepting failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens the listener, in the namespace the process is in now.
///
/// # Errors
/// When the address is taken, not this machine's, or not allowed to this user.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another program has this port: choose another with --publish PORT, or 0 for any free one"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address: use --publish 127.0.0.1:PORT"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root: use --publish 127.0.0.1:8080"
            }
            _ => "try --publish 127.0.0.1:0",
        };
        Failure::new(format_args!("cannot publish on {address}: {error}"), remedy)
    })?;
    let nonblocking = listener.set_nonblocking(true);
    nonblocking.map_err(|error| {
        Failure::new(
            format_args!("cannot publish on {address}: {error}"),
            "report this",
        )
    })?;
    Ok(listener)
}

/// Where a browser on this machine finds the listener: one of every address is reached through the loopback.
pub(crate) fn url(published: SocketAddr) -> String {
    let ip = match published.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, published.port()))
}

/// Relays every connection of `listener` to `target`, for ever.
pub(crate) async fn relay_all(listener: TcpListener, target: SocketAddr) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let relays = Arc::new(Semaphore::new(RELAYS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&relays).acquire_owned().await else {
            return Ok(());
        };
        match listener.accept().await {
            Ok((outside, _)) => drop(tokio::spawn(async move {
                // Either side may break off at any time; the other then sees its connection end.
                let _ = relay(outside, target).await;
                drop(permit);
            })),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn relay(mut outside: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut inside = TcpStream::connect(target).await?;
    outside.set_nodelay(true)?;
    inside.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut outside, &mut inside, BUFFER, BUFFER).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{Service, serve_streams};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_and_ends_pass_both_ways() {
        let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = echo.local_addr().unwrap();
        tokio::spawn(serve_streams(echo, Service::Echo));
        let published = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = published.local_addr().unwrap();
        tokio::spawn(relay_all(published, target));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"over the bridge").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"over the bridge");
    }

    #[test]
    fn the_address_shown_is_one_a_browser_can_open() {
        for (published, shown) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:8080", "http://[::1]:8080"),
            ("192.0.2.7:8080", "http://192.0.2.7:8080"),
        ] {
            assert_eq!(url(published.parse().unwrap()), shown);
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = bind(taken.local_addr().unwrap()).unwrap_err().to_string();
        assert!(refused.contains("--publish"), "{refused}");
        let refused = bind("192.0.2.1:8080".parse().unwrap())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("does not have that address"), "{refused}");
    }
}
