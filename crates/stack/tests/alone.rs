//! A host without an interface: what it says to itself passes when the loopback is polled.
#![allow(clippy::unwrap_used)]

use core::net::SocketAddr;

use base::{Batch, Instant};
use stack::{Config, Host, InterfaceId, TcpOptions};

const NOW: Instant = Instant::from_secs(100);

/// No time goes by: whoever polls is told as long as there is more.
#[test]
fn what_a_host_says_to_itself_passes_while_the_loopback_is_polled() {
    let mut host = Host::new(Config::default(), 7, NOW).unwrap();
    let (mut frames, mut polls) = (Batch::new(), 0);
    let mut poll = |host: &mut Host| {
        while host.poll_transmit(NOW, InterfaceId::LOOPBACK, &mut frames) {
            polls += 1;
            assert!(polls < 1_000, "it ends");
        }
        assert!(frames.is_empty(), "there is no network");
    };
    for local in ["127.0.0.1:80", "[::1]:80"] {
        let local: SocketAddr = local.parse().unwrap();
        let options = TcpOptions::default();
        let listener = host.tcp_listen(NOW, local, 8, &options).unwrap();
        let client = host.tcp_connect(NOW, local, None, &options).unwrap();
        poll(&mut host);
        let (server, _) = host.tcp_accept(NOW, listener).unwrap();
        for _ in 0..3 {
            host.tcp_send(NOW, client, b"hello").unwrap();
            poll(&mut host);
            let mut buffer = [0; 64];
            assert_eq!(host.tcp_recv(NOW, server, &mut buffer), Ok(5));
            host.tcp_send(NOW, server, b"hello").unwrap();
            poll(&mut host);
            assert_eq!(host.tcp_recv(NOW, client, &mut buffer), Ok(5));
        }
    }
}
