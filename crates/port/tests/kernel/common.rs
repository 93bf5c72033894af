//! What every test against the kernel needs: frames made by hand, two kernels joined by ports, sockets to talk with.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base::{Batch, Packet, Pool};
use netns::{Namespace, harness, link};
use port::packet::{PacketOptions, PacketSocket};
use port::tap::{Tap, TapOptions};
use port::{Port, PortError};
use rustix::event::{PollFd, PollFlags, Timespec};
use wire::{Addr, EtherType, Mac, arp, ethernet, icmpv4, ipv4, protocol};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The address the kernel has, and the one played by the test.
pub(crate) const KERNEL: [u8; 4] = [10, 77, 0, 1];
pub(crate) const HOST: [u8; 4] = [10, 77, 0, 2];

pub(crate) fn v4(d: u8) -> IpAddr {
    IpAddr::from([10, 77, 0, d])
}

pub(crate) fn v6(d: u16) -> IpAddr {
    IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, d])
}

/// The port, or the end of the test if this machine has no such thing.
pub(crate) fn or_skip<T>(result: Result<T, PortError>) -> T {
    match result {
        Ok(port) => port,
        Err(e) if e.is_unavailable() => harness::skip(e),
        Err(e) => panic!("{e}"),
    }
}

pub(crate) fn tap(name: &str) -> Tap {
    or_skip(Tap::new(name, &TapOptions::default()))
}

/// Gives a link its addresses and switches it on, without any chatter of its own.
pub(crate) fn configure(name: &str, d: u8) {
    link::set_link_local(name, false).unwrap();
    let _ = link::disable_ipv6_autoconf(name);
    let _ = link::disable_ipv6_dad(name);
    link::add_addr(name, v4(d), 24).unwrap();
    link::add_addr(name, v6(d.into()), 64).unwrap();
    link::set_up(name).unwrap();
}

/// The same with IPv4 only, which says nothing unasked: for tests that count frames.
pub(crate) fn configure_quiet(name: &str, d: u8) {
    link::disable_ipv6(name).unwrap();
    link::add_addr(name, v4(d), 24).unwrap();
    link::set_up(name).unwrap();
}

/// A veth pair: `kernel` end with addresses, the other with a packet port on it and nothing of the kernel's.
pub(crate) fn veth(kernel: &str, ours: &str, d: u8, options: &PacketOptions) -> PacketSocket {
    link::create_veth(kernel, ours).unwrap();
    for name in [kernel, ours] {
        link::set_link_local(name, false).unwrap();
        let _ = link::disable_ipv6_autoconf(name);
    }
    let _ = link::disable_ipv6(ours);
    link::set_up(ours).unwrap();
    let port = or_skip(PacketSocket::new(ours, options));
    configure(kernel, d);
    link::wait_running(ours).unwrap();
    link::wait_running(kernel).unwrap();
    port
}

pub(crate) fn kernel_mac(name: &str) -> Mac {
    Mac(link::facts(name).unwrap().mac)
}

/// Sleeps until one of the ports has something, a moment at most.
pub(crate) fn sleep(ports: &[&dyn Port]) {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: 2_000_000,
    };
    let fds = ports.iter().filter_map(|p| p.sleep_fd());
    let mut fds: Vec<_> = fds
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    let _ = rustix::event::poll(&mut fds, Some(&timeout));
}

/// Sends one frame with nothing to say about it.
pub(crate) fn send(port: &mut dyn Port, pool: &mut Pool, bytes: &[u8]) {
    let mut packet = Packet::default();
    assert_eq!(pool.append_bytes(&mut packet.chain, bytes), bytes.len());
    send_packet(port, pool, packet);
}

pub(crate) fn send_packet(port: &mut dyn Port, pool: &mut Pool, packet: Packet) {
    let mut batch = Batch::new();
    batch.push(packet).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while port.transmit(pool, &mut batch) == 0 {
        assert!(Instant::now() < deadline, "the port takes nothing");
    }
    port.flush(pool);
}

/// Everything in a chain.
pub(crate) fn bytes(pool: &Pool, packet: &Packet) -> Vec<u8> {
    let mut bytes = vec![0; packet.chain.len()];
    assert_eq!(pool.copy_out(&packet.chain, 0, &mut bytes), bytes.len());
    bytes
}

/// Receives until a frame satisfies `wanted`; others are thrown away.
pub(crate) fn receive(
    port: &mut dyn Port,
    pool: &mut Pool,
    mut wanted: impl FnMut(&[u8], &Packet) -> bool,
) -> (Vec<u8>, base::Facts) {
    let deadline = Instant::now() + PATIENCE;
    let mut batch = Batch::new();
    loop {
        port.receive(pool, &mut batch);
        while let Some(packet) = batch.pop_front() {
            let frame = bytes(pool, &packet);
            let hit = wanted(&frame, &packet);
            pool.free(packet.chain);
            if hit {
                batch.clear(pool);
                return (frame, packet.facts);
            }
        }
        assert!(
            Instant::now() < deadline,
            "the frame never came; {:?}",
            port.counters()
        );
        sleep(&[port]);
    }
}

pub(crate) fn ethernet(src: Mac, dst: Mac, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN];
    ethernet::Repr {
        src,
        dst,
        ethertype,
    }
    .emit(&mut frame);
    frame.extend_from_slice(payload);
    frame
}

/// "Who has the kernel's address? Tell the host."
pub(crate) fn arp_request(host: Mac) -> Vec<u8> {
    let repr = arp::Repr {
        op: arp::Operation::Request,
        sender_mac: host,
        sender_ip: HOST,
        target_mac: Mac::ZERO,
        target_ip: KERNEL,
    };
    let mut message = vec![0; repr.buffer_len()];
    repr.emit(&mut message);
    ethernet(host, Mac::BROADCAST, EtherType::ARP, &message)
}

pub(crate) fn ipv4_frame(src: Mac, dst: Mac, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let repr = ipv4::Repr::new(
        Addr::from_v4(HOST),
        Addr::from_v4(KERNEL),
        protocol,
        64,
        payload.len(),
    );
    let mut packet = vec![0; repr.header_len()];
    repr.emit(&mut packet);
    packet.extend_from_slice(payload);
    ethernet(src, dst, EtherType::IPV4, &packet)
}

/// An echo request from the host to the kernel.
pub(crate) fn ping(src: Mac, dst: Mac, seq: u16, data: &[u8]) -> Vec<u8> {
    let repr = icmpv4::Repr::EchoRequest { ident: 77, seq };
    let mut message = vec![0; repr.header_len()];
    repr.emit(&mut message);
    message.extend_from_slice(data);
    icmpv4::fill_checksum(&mut message);
    ipv4_frame(src, dst, protocol::ICMPV4, &message)
}

/// The payload of an echo reply of that number, if the frame is one.
pub(crate) fn pong(frame: &[u8], seq: u16) -> Option<Vec<u8>> {
    let ip = ethernet::Packet::new(frame)
        .ok()
        .filter(|e| e.ethertype() == EtherType::IPV4)?
        .payload();
    let ip = ipv4::Packet::new(ip)
        .ok()
        .filter(|p| p.protocol() == protocol::ICMPV4)?;
    let icmp = icmpv4::Packet::new(ip.payload()).ok()?;
    let hit =
        icmp.kind() == icmpv4::kind::ECHO_REPLY && icmp.seq() == seq && icmp.verify_checksum();
    hit.then(|| icmp.payload().to_vec())
}

/// Makes the kernel on the other end know the host, then checks that it answers pings of several sizes.
pub(crate) fn kernel_answers(port: &mut dyn Port, pool: &mut Pool, kernel: Mac, sizes: &[usize]) {
    let host = port.facts().mac;
    send(port, pool, &arp_request(host));
    let (reply, _) = receive(port, pool, |f, _| {
        f[12..14] == [8, 6] && f[20..22] == [0, 2]
    });
    let repr = arp::Repr::parse(&arp::Packet::new(&reply[14..]).unwrap()).unwrap();
    assert_eq!((repr.sender_mac, repr.sender_ip), (kernel, KERNEL));
    for (seq, &size) in sizes.iter().enumerate() {
        let data: Vec<u8> = (0..size).map(|i| (i * 7 + seq) as u8).collect();
        send(port, pool, &ping(host, kernel, seq as u16, &data));
        let (reply, _) = receive(port, pool, |f, _| pong(f, seq as u16).is_some());
        assert_eq!(pong(&reply, seq as u16).unwrap(), data);
    }
}

/// Carries frames between two ports in this thread until told to stop, several rounds without anything moving.
pub(crate) fn bridge(a: &mut dyn Port, b: &mut dyn Port, pool: &mut Pool, stop: &AtomicBool) {
    let (mut to_a, mut to_b) = (Batch::new(), Batch::new());
    while !stop.load(Ordering::Relaxed) {
        let got = a.receive(pool, &mut to_b) + b.receive(pool, &mut to_a);
        b.transmit(pool, &mut to_b);
        a.transmit(pool, &mut to_a);
        a.flush(pool);
        b.flush(pool);
        if got == 0 && to_a.is_empty() && to_b.is_empty() {
            sleep(&[a, b]);
        }
    }
    to_a.clear(pool);
    to_b.clear(pool);
}

/// Has the kernel of this namespace (address .1) and that of `far` (.2) exchange TCP and UDP traffic of all kinds
/// through whatever joins them, over both families, and checks every byte.
pub(crate) fn traffic(far: &Namespace, megabytes: usize) {
    for (own, peer) in [(v4(1), v4(2)), (v6(1), v6(2))] {
        stream(far, own, peer, megabytes);
        datagrams(far, own, peer);
    }
}

/// As [`traffic`], through two ports between which another thread carries frames.
pub(crate) fn traffic_by(
    (a, b): (&mut (dyn Port + Send), &mut (dyn Port + Send)),
    pool: &mut Pool,
    far: &Namespace,
    megabytes: usize,
) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        let carrier = s.spawn(|| bridge(a, b, pool, &stop));
        traffic(far, megabytes);
        stop.store(true, Ordering::Relaxed);
        carrier.join().unwrap();
    });
}

fn pattern(i: usize) -> u8 {
    (i.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// `megabytes` each way over one connection, at once.
fn stream(far: &Namespace, own: IpAddr, peer: IpAddr, megabytes: usize) {
    let total = megabytes << 20;
    let listener = far
        .run(|| TcpListener::bind((peer, 7777)).unwrap())
        .unwrap();
    let exchange = move |socket: TcpStream| {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let (mut reader, mut writer) = (&socket, &socket);
        std::thread::scope(|s| {
            s.spawn(move || {
                let chunk: Vec<u8> = (0..1 << 20).map(pattern).collect();
                for _ in 0..megabytes {
                    writer.write_all(&chunk).unwrap();
                }
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut buffer = vec![0; 1 << 16];
            let mut at = 0;
            loop {
                let n = reader.read(&mut buffer).unwrap();
                if n == 0 {
                    break;
                }
                let wrong = buffer[..n]
                    .iter()
                    .enumerate()
                    .find(|&(i, &b)| b != pattern((at + i) % (1 << 20)));
                assert!(wrong.is_none(), "byte {} is wrong", at + wrong.unwrap().0);
                at += n;
            }
            assert_eq!(at, total);
        });
    };
    std::thread::scope(|s| {
        let server = s.spawn(move || exchange(listener.accept().unwrap().0));
        exchange(TcpStream::connect((peer, 7777)).unwrap());
        server.join().unwrap();
        let _ = own;
    });
}

/// One super-datagram, cut by whoever has to (UDP_SEGMENT), and one that arrives in fragments.
fn datagrams(far: &Namespace, own: IpAddr, peer: IpAddr) {
    let server = far.run(|| UdpSocket::bind((peer, 7778)).unwrap()).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = UdpSocket::bind((own, 0)).unwrap();
    let to = SocketAddr::new(peer, 7778);
    let data: Vec<u8> = (0..20_000).map(pattern).collect();
    let mut buffer = vec![0; 65_536];

    client.send_to(&data[..9000], to).unwrap();
    let (n, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!((n, from.ip()), (9000, own));
    assert_eq!(buffer[..n], data[..9000]);

    if set_udp_segment(&client, 1000) {
        client.send_to(&data, to).unwrap();
        for i in 0..20 {
            let n = server.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..n], data[i * 1000..(i + 1) * 1000], "datagram {i}");
        }
    }
}

/// Asks the kernel to cut what the socket sends into datagrams of `size`.
pub(crate) fn set_udp_segment(socket: &UdpSocket, size: libc::c_int) -> bool {
    // SAFETY: the option is one int, which `size` is.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    };
    result == 0
}
