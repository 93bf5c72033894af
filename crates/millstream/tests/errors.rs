//! What a network does to a call: one program on a kernel and on a host, each behind the same router, sees the same errors.
#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use millstream::port::tap::{Tap, TapOptions};
use millstream::{Config, Host, TcpTunables};
use netns::{Namespace, link};

/// SYNs sent again, so that a connection is given up after seven seconds: later than a router gives up a neighbour.
const SYN_RETRIES: u32 = 2;

/// How long a datagram's error is waited for: longer than a router looks for a neighbour.
const WAIT: Duration = Duration::from_secs(6);

/// The network 77 is the host's, 78 that of the kernel that is compared with it; beyond the router is 88.
fn at(family: u8, network: u8, host: u8) -> IpAddr {
    match family {
        4 => IpAddr::from([10, network, 0, host]),
        _ => format!("fd{network}::{host}").parse().unwrap(),
    }
}

fn prefix(family: u8) -> u8 {
    if family == 4 { 24 } else { 64 }
}

fn told<T: std::fmt::Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?} {:?}", error.kind(), error.raw_os_error()),
    }
}

/// The program, in the network `$network`: macros, because std's types have no trait in common. All calls wait at once.
macro_rules! program {
    ($family:expr, $network:expr, $connect:expr, $connect_timeout:expr, $bind:expr) => {{
        let (family, network) = ($family, $network);
        let (connect, connect_timeout, bind) = ($connect, $connect_timeout, $bind);
        let router = at(family, network, 1);
        let no_route = at(family, 99, 9);
        let nobody_near = at(family, network, 99);
        let nobody_far = at(family, 88, 99);
        let silence = at(family, 88, 77);
        thread::scope(|scope| {
            let tcp = |what: &'static str, to: IpAddr, port: u16| {
                scope
                    .spawn(move || vec![(what, told(connect(SocketAddr::new(to, port)).map(drop)))])
            };
            let brief = scope.spawn(move || {
                let late = connect_timeout(SocketAddr::new(silence, 80), Duration::from_millis(50));
                vec![("brief", told(late.map(drop)))]
            });
            let udp = |what: &'static str, to: IpAddr, port: u16| {
                scope.spawn(move || {
                    let any = SocketAddr::new(at(family, network, 2), 0);
                    let socket = bind(any).unwrap();
                    socket.connect(SocketAddr::new(to, port)).unwrap();
                    socket.set_read_timeout(Some(WAIT)).unwrap();
                    let sent = told(socket.send(b"anybody?"));
                    let answer = told(socket.recv(&mut [0; 8]));
                    socket
                        .set_read_timeout(Some(Duration::from_millis(1)))
                        .unwrap();
                    let then = told(socket.recv(&mut [0; 8]));
                    vec![(what, format!("{sent}, {answer}, {then}"))]
                })
            };
            let ends = scope.spawn(move || {
                // The router closes with a reset, then with bytes unread, then in order.
                let to = SocketAddr::new(router, 7);
                let mut log = Vec::new();
                for what in ["reset", "reset while writing"] {
                    let mut stream = connect(to).unwrap();
                    stream.write_all(b"reset").unwrap();
                    if what == "reset" {
                        log.push((what, told(stream.read(&mut [0; 8]))));
                    } else {
                        thread::sleep(Duration::from_millis(100));
                        log.push((what, told(stream.write(b"x"))));
                    }
                    log.push(("then", told(stream.write(b"x"))));
                    log.push(("at last", told(stream.read(&mut [0; 8]))));
                    log.push(("error", told(stream.take_error().map(|e| e.is_some()))));
                }
                let mut stream = connect(to).unwrap();
                stream.write_all(b"close").unwrap();
                log.push(("closed", told(stream.read(&mut [0; 8]))));
                log.push(("write", told(stream.write(b"x"))));
                thread::sleep(Duration::from_millis(100));
                log.push(("write again", told(stream.write(b"x"))));
                log.push(("read again", told(stream.read(&mut [0; 8]))));
                log
            });
            let all = [
                tcp("refused", router, 1),
                tcp("no route at the router", no_route, 80),
                tcp("no neighbour", nobody_near, 80),
                tcp("no neighbour of the router", nobody_far, 80),
                tcp("silence", silence, 80),
                brief,
                udp("datagram refused", router, 1),
                udp("datagram, no route at the router", no_route, 80),
                udp("datagram, no neighbour", nobody_near, 80),
                udp("datagram, no neighbour of the router", nobody_far, 80),
                ends,
            ];
            let logs = all.into_iter().map(|log| log.join().unwrap());
            logs.collect::<Vec<_>>().concat()
        })
    }};
}

/// The router: between a TAP with our host, a veth with another kernel, and a network in which nobody answers.
fn route(device: &str, kernel: &Namespace, void: &Namespace) {
    link::Veth::new("kernel0", "up0")
        .far(kernel)
        .create()
        .unwrap();
    link::Veth::new("far0", "void0").far(void).create().unwrap();
    void.run(|| link::set_up("void0").unwrap()).unwrap();
    for (name, network) in [(device, 77), ("kernel0", 78), ("far0", 88)] {
        link::disable_ipv6_dad(name).unwrap();
        link::set_up(name).unwrap();
        for family in [4, 6] {
            link::add_addr(name, at(family, network, 1), prefix(family)).unwrap();
        }
    }
    for family in [4, 6] {
        // Frames for this one leave, and are never seen again.
        link::add_neighbour("far0", at(family, 88, 77), [2, 0, 0, 0, 0, 77]).unwrap();
    }
    kernel
        .run(|| {
            link::disable_ipv6_dad("up0").unwrap();
            link::set_up("up0").unwrap();
            for family in [4, 6] {
                link::add_addr("up0", at(family, 78, 2), prefix(family)).unwrap();
                let all = if family == 4 { "0.0.0.0" } else { "::" };
                let via = Some(at(family, 78, 1));
                link::add_route("up0", all.parse().unwrap(), 0, via).unwrap();
            }
            netns::sysctl("ipv4/tcp_syn_retries", &SYN_RETRIES.to_string()).unwrap();
        })
        .unwrap();
    netns::sysctl("ipv4/ip_forward", "1").unwrap();
    netns::sysctl("ipv6/conf/all/forwarding", "1").unwrap();
    netns::sysctl("ipv4/icmp_ratelimit", "0").unwrap();
    netns::sysctl("ipv6/icmp/ratelimit", "0").unwrap();
}

/// Closes what comes as it is told to: with data unread, which is a reset, or in order.
fn serve() {
    let listener = std::net::TcpListener::bind("[::]:7").unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut told = [0; 5];
                stream.peek(&mut told).unwrap();
                if &told == b"close" {
                    stream.read_exact(&mut told).unwrap();
                }
            });
        }
    });
}

/// Our host, behind the router.
fn host(tap: Tap) -> Host {
    let config = Config {
        duplicate_detection: false,
        accept_router_advertisements: false,
        tcp: TcpTunables {
            syn_retries: SYN_RETRIES,
            ..TcpTunables::default()
        },
        ..Config::default()
    };
    let mut builder = Host::builder().port(tap).config(config);
    for family in [4, 6] {
        builder = builder
            .address(format!("{}/{}", at(family, 77, 2), prefix(family)))
            .gateway(at(family, 77, 1));
    }
    builder.start().unwrap()
}

#[test]
fn a_networks_errors_are_the_kernels() {
    netns::in_private!(Duration::from_secs(120), || {
        let tap = match Tap::new("mill0", &TapOptions::default()) {
            Ok(tap) => tap,
            Err(error) => netns::harness::skip(error),
        };
        let (kernel, void) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        route("mill0", &kernel, &void);
        serve();
        let host = &host(tap);
        let kernel = &kernel;
        let compare = |family| {
            let (ours, kernels) = thread::scope(|scope| {
                let kernels = || {
                    program!(
                        family,
                        78,
                        |to: SocketAddr| std::net::TcpStream::connect(to),
                        |to: SocketAddr, time| std::net::TcpStream::connect_timeout(&to, time),
                        |to: SocketAddr| std::net::UdpSocket::bind(to)
                    )
                };
                let kernels = scope.spawn(move || kernel.run(kernels).unwrap());
                let ours = program!(
                    family,
                    77,
                    |to: SocketAddr| host.tcp_connect(to),
                    |to: SocketAddr, time| host.tcp_connect_timeout(&to, time),
                    |to: SocketAddr| host.udp_bind(to)
                );
                (ours, kernels.join().unwrap())
            });
            let different: Vec<String> = ours
                .iter()
                .zip(&kernels)
                .filter(|(ours, kernels)| ours != kernels)
                .map(|((what, ours), (_, kernels))| {
                    format!("{what}: {ours}; the kernel: {kernels}")
                })
                .collect();
            assert!(
                different.is_empty(),
                "IPv{family}\n{}",
                different.join("\n")
            );
            assert!(
                ours.iter()
                    .any(|(_, told)| told.contains("HostUnreachable"))
            );
            assert!(
                ours.iter()
                    .any(|(_, told)| told.contains("NetworkUnreachable"))
            );
        };
        thread::scope(|scope| {
            scope.spawn(|| compare(4));
            scope.spawn(|| compare(6));
        });
    });
}
