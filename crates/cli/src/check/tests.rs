//! The checks themselves, against the same services on kernel sockets over loopback.

use super::*;
use crate::check::board::{Standing, standing};
use crate::http;
use crate::http::live::Live;
use crate::services::{Service, serve_datagrams, serve_streams};
use std::net::{Ipv4Addr, Ipv6Addr};

const TINY: Sizes = Sizes {
    pings: 2,
    transfer: 3 << 20,
    parallel: 20,
    parallel_bytes: 64 << 10,
    cycles: 40,
    cycles_at_once: 4,
    datagrams: 10,
    throughput: Duration::from_millis(50),
    limit: Duration::from_secs(20),
};

/// Services on loopback, both families with the same ports.
async fn services() -> Option<Target> {
    let live = Live::new(Arc::new(crate::view::Stats::default), None);
    let router = http::demo(live);
    let mut ports = [0, 0];
    for ip in [
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
    ] {
        let listen = async |port| {
            tokio::net::TcpListener::bind(SocketAddr::new(ip, port))
                .await
                .ok()
        };
        let web = listen(ports[0]).await?;
        let echo = listen(ports[1]).await?;
        ports = [
            web.local_addr().ok()?.port(),
            echo.local_addr().ok()?.port(),
        ];
        let datagrams = tokio::net::UdpSocket::bind(SocketAddr::new(ip, ports[1]))
            .await
            .ok()?;
        tokio::spawn(http::serve(web, router.clone()));
        tokio::spawn(serve_streams(echo, Service::Echo));
        tokio::spawn(serve_datagrams(datagrams, Service::Echo));
    }
    Some(Target {
        v4: Ipv4Addr::LOCALHOST.into(),
        v6: Ipv6Addr::LOCALHOST.into(),
        http: ports[0],
        echo: ports[1],
    })
}

async fn run(check: Check) -> Vec<Row> {
    let board = check.board();
    check.start().unwrap();
    while !standing(&board.rows()).is_final() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    board.rows()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_passes_against_the_kernel() {
    let Some(target) = services().await else {
        eprintln!("skipped: no IPv6 loopback here");
        return;
    };
    for row in run(Check::new(target, TINY)).await {
        // Without root and without ping_group_range there is no ICMP socket: EACCES, or EPERM for a raw one.
        let refused = ["denied", "not permitted"];
        let excused =
            row.id.starts_with("ping") && refused.iter().any(|word| row.detail.contains(word));
        let fine = row.standing == Standing::Passed || excused;
        assert!(fine, "{}: {}", row.name, row.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_services_fails_every_row_and_ends() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let target = Target {
        v4: loopback,
        v6: loopback,
        http: port,
        echo: port,
    };
    let rows = run(Check::new(
        target,
        Sizes {
            limit: Duration::from_secs(5),
            ..TINY
        },
    ))
    .await;
    for row in rows.iter().filter(|row| !row.id.starts_with("ping")) {
        assert_eq!(row.standing, Standing::Failed, "{}", row.name);
        assert!(!row.detail.is_empty());
    }
}

#[tokio::test]
async fn other_bytes_are_noticed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buf = vec![0; 100_000];
            let len = stream.read(&mut buf).await.unwrap();
            buf[len - 1] ^= 1;
            stream.write_all(&buf[..len]).await.unwrap();
        }
    });
    let gauge = Gauge::default();
    let wrong = load::parallel(to, 2, 1_000, &gauge)
        .await
        .unwrap_err()
        .to_string();
    assert!(wrong.contains("2 times: other bytes came back"), "{wrong}");
}

#[test]
fn quantiles_of_few() {
    let times: Vec<Duration> = (1..=4).map(Duration::from_millis).collect();
    assert_eq!(quantile(&times, 0.5), Duration::from_millis(3));
    assert_eq!(quantile(&times, 0.99), Duration::from_millis(4));
    assert_eq!(quantile(&[], 0.5), Duration::ZERO);
}
