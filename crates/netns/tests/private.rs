//! The private world as the kernel shows it, from inside.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use netns::harness::{self, Outcome};
use netns::link::{self, Offload, Veth};
use netns::{Namespace, in_private};

fn v4(d: u8) -> IpAddr {
    IpAddr::from([10, 9, 8, d])
}

fn v6(d: u16) -> IpAddr {
    IpAddr::from([0xfd09, 0, 0, 0, 0, 0, 0, d])
}

#[test]
fn only_loopback_is_there_and_it_is_up() {
    in_private!(|| {
        let lo = link::facts("lo").unwrap();
        assert!(lo.up && lo.carrier);
        assert!(link::facts("eth0").is_err());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 80)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"in here").unwrap();
        let mut got = [0; 7];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"in here");
        let info = netns::socket::tcp_info(&client).unwrap();
        assert_eq!(info.state, 1);
        assert!(info.timestamps && info.sack && info.window_scaling);
        assert!(info.snd_mss > 1000 && info.pmtu >= info.snd_mss && info.rtt > 0);
        assert_eq!(info.total_retrans, 0);
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(netns::socket::tcp_info(&udp).is_err());
    });
}

#[test]
fn a_veth_pair_carries_both_families_at_once() {
    in_private!(|| {
        let far = Namespace::new().unwrap();
        Veth::new("near0", "far0")
            .far(&far)
            .queues(2)
            .create()
            .unwrap();
        link::set_mac("near0", [2, 0, 0, 0, 9, 1]).unwrap();
        link::set_mtu("near0", 9000).unwrap();
        link::set_txqueuelen("near0", 777).unwrap();
        link::add_addr("near0", v4(1), 24).unwrap();
        link::add_addr("near0", v6(1), 64).unwrap();
        link::set_up("near0").unwrap();
        let facts = link::facts("near0").unwrap();
        assert_eq!(facts.mac, [2, 0, 0, 0, 9, 1]);
        assert_eq!((facts.mtu, facts.txqueuelen, facts.up), (9000, 777, true));

        let sockets = far
            .run(|| {
                link::set_mtu("far0", 9000).unwrap();
                link::set_up("far0").unwrap();
                link::add_addr("far0", v4(2), 24).unwrap();
                link::add_addr("far0", v6(2), 64).unwrap();
                [v4(2), v6(2)].map(|a| UdpSocket::bind((a, 53)).unwrap())
            })
            .unwrap();
        link::wait_running("near0").unwrap();
        for (socket, own) in sockets.iter().zip([v4(1), v6(1)]) {
            let sender = UdpSocket::bind((own, 0)).unwrap();
            sender
                .send_to(&[7; 8000], socket.local_addr().unwrap())
                .unwrap();
            let mut buffer = [0; 9000];
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((n, from.ip()), (8000, own));
        }
        assert!(link::facts("near0").unwrap().stats.tx_bytes > 16_000);
        link::delete("near0").unwrap();
        assert!(far.run(|| link::index("far0").is_err()).unwrap());
    });
}

#[test]
fn routes_and_neighbours_are_believed() {
    in_private!(|| {
        link::create_veth("a", "b").unwrap();
        link::add_addr("a", v4(1), 24).unwrap();
        link::add_addr("a", v6(1), 64).unwrap();
        link::set_up("b").unwrap();
        assert!(!link::facts("b").unwrap().running);
        link::set_up("a").unwrap();
        link::wait_running("b").unwrap();
        link::wait_running("a").unwrap();
        link::add_neighbour("a", v4(9), [2, 0, 0, 0, 0, 9]).unwrap();
        link::add_neighbour("a", v6(9), [2, 0, 0, 0, 0, 9]).unwrap();
        let known = link::neighbours("a").unwrap();
        for address in [v4(9), v6(9)] {
            let line = known.iter().find(|n| n.address == address).unwrap();
            assert_eq!(line.mac, Some([2, 0, 0, 0, 0, 9]));
            assert_eq!(line.state, libc::NUD_PERMANENT);
        }
        assert!(
            link::neighbours("b")
                .unwrap()
                .iter()
                .all(|n| n.address != v4(9))
        );
        link::add_route("a", IpAddr::from([198, 51, 100, 0]), 24, Some(v4(9))).unwrap();
        link::add_route("a", IpAddr::from([203, 0, 113, 0]), 24, None).unwrap();
        link::add_route("a", IpAddr::from([0u16; 8]), 0, Some(v6(9))).unwrap();
        let before = link::facts("b").unwrap().stats.rx_packets;
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"x", "198.51.100.7:9").unwrap();
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.send_to(b"x", "[2001:db8::1]:9").unwrap();
        assert!(link::facts("b").unwrap().stats.rx_packets >= before + 2);

        let e = link::add_route("a", IpAddr::from([192, 0, 2, 0]), 24, Some(v4(77))).err();
        assert!(
            e.is_none(),
            "a gateway on the network is fine before it answers: {e:?}"
        );
        let e = link::add_route(
            "a",
            IpAddr::from([10, 1, 0, 0]),
            16,
            Some(IpAddr::from([172, 16, 0, 1])),
        )
        .unwrap_err();
        assert!(e.to_string().contains("route 10.1.0.0/16 out of a"), "{e}");
    });
}

#[test]
fn offloads_and_settings_can_be_switched() {
    in_private!(|| {
        link::create_veth("a", "b").unwrap();
        for offload in [
            Offload::Gro,
            Offload::Gso,
            Offload::Tso,
            Offload::Uso,
            Offload::TxChecksum,
        ] {
            for on in [true, false] {
                link::set_offload("a", offload, on).unwrap();
                assert_eq!(link::offload("a", offload).unwrap(), on, "{offload:?}");
            }
        }
        link::set_link_local("a", false).unwrap();
        link::disable_ipv6_autoconf("a").unwrap();
        link::disable_ipv6_dad("a").unwrap();
        netns::sysctl("ipv4/ip_forward", "1").unwrap();
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
                .unwrap()
                .trim(),
            "1"
        );
        let e = netns::sysctl("ipv4/no_such_setting", "1").unwrap_err();
        assert!(e.to_string().contains("no such setting"), "{e}");
    });
}

#[test]
fn errors_are_one_line_and_say_what_to_do() {
    in_private!(|| {
        let e = link::set_up("nothing0").unwrap_err();
        assert!(
            e.to_string().contains("nothing0") && !e.is_unavailable(),
            "{e}"
        );
        link::create_veth("a", "b").unwrap();
        let e = link::create_veth("a", "c").unwrap_err();
        assert!(e.to_string().contains("veth pair a - c"), "{e}");
        assert_eq!(e.raw_os_error(), Some(libc::EEXIST));
        let e = link::set_mtu("a", 10).unwrap_err();
        assert!(
            !e.to_string().contains('\n') && e.to_string().contains("MTU 10"),
            "{e}"
        );
        let e = netns::enter_private().unwrap_err();
        assert!(e.to_string().contains("first thread"), "{e}");
    });
}

#[test]
#[should_panic(expected = "failed in its private namespace")]
fn a_failing_body_fails_the_test() {
    match harness::run("a_failing_body_fails_the_test", harness::LIMIT, || {
        panic!("as it should")
    }) {
        Outcome::Passed => {}
        Outcome::Unavailable(reason) => panic!("failed in its private namespace, not: {reason}"),
    }
}

#[test]
#[should_panic(expected = "killed after")]
fn a_body_that_hangs_is_killed_with_what_it_started() {
    let limit = Duration::from_millis(300);
    let start = Instant::now();
    let name = "a_body_that_hangs_is_killed_with_what_it_started";
    let outcome = harness::run(name, limit, || {
        let _ = std::process::Command::new("sleep").arg("1000").spawn();
        std::thread::sleep(Duration::from_secs(1000));
    });
    assert!(start.elapsed() < Duration::from_secs(20));
    if let Outcome::Unavailable(reason) = outcome {
        panic!("killed after all: {reason}");
    }
}

#[test]
#[should_panic(expected = "ran no test of that name")]
fn a_wrong_name_is_noticed() {
    if let Outcome::Unavailable(reason) = harness::run("no_such_test", harness::LIMIT, || {}) {
        panic!("ran no test of that name: {reason}");
    }
}

#[test]
fn a_body_may_report_what_is_missing() {
    let name = "a_body_may_report_what_is_missing";
    match harness::run(name, harness::LIMIT, || {
        harness::skip("no such device: load the module")
    }) {
        Outcome::Unavailable(reason) => assert!(!reason.is_empty()),
        Outcome::Passed => panic!("was told to skip"),
    }
}
