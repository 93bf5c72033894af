//! What the wire may say: lengths, checksums, super-frames.

use super::*;

/// RFC 768, RFC 8200 8.1, RFC 1122 4.1.3.4: checksums are verified; zero is none over IPv4, an error over IPv6.
#[test]
fn checksums() {
    let mut p = Pair::new();
    let server = p.plain(1, "[::]:7");
    let v4 = (Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2));
    let v6 = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
    for ((src, dst), l4) in [(v4, 34), (v6, 54)] {
        let good = datagram(src, dst, (5, 7), b"odd");
        p.frame(1, &good, |_| {});
        assert_eq!(p.recv(1, server).unwrap().0, b"odd");
        for at in [l4, l4 + 2, l4 + 6, l4 + 8, l4 + 10] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            p.frame(1, &bad, |_| {});
        }
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        p.frame(1, &bad, |packet| packet.facts.checksum = Checksum::Good);
        assert_eq!(p.recv(1, server).unwrap().0, b"ode", "the device vouches");
        let mut none = good.clone();
        none[l4 + 6..l4 + 8].fill(0);
        p.frame(1, &none, |_| {});
        let got = p.recv(1, server).map(|(bytes, _)| bytes);
        let without = src.is_v4().then(|| b"odd".to_vec());
        assert_eq!(got, without.ok_or(SocketError::WouldBlock));
    }
    assert_eq!(p.drops(1, Drop::UdpChecksum), 10);
    assert_eq!(p.drops(1, Drop::UdpZeroChecksum), 1);
    p.empty();
}

/// RFC 768: a checksum that comes out as zero is sent as all ones.
#[test]
fn zero_checksum_is_sent_as_ones() {
    for (a, b, _) in ENDS {
        let mut p = Pair::new();
        let client = p.plain(0, &format!("{a}:1000"));
        let server = p.plain(1, &format!("{b}:7"));
        let to = at(&format!("{b}:7"));
        let (src, dst) = (Addr::from(at(&format!("{a}:1")).ip()), Addr::from(to.ip()));
        let with_zeros = datagram(src, dst, (1000, 7), &[0, 0]);
        let l4 = if src.is_v4() { 34 } else { 54 };
        // Adding what is missing to all ones.
        let payload = [with_zeros[l4 + 6], with_zeros[l4 + 7]];
        p.send(0, client, &payload, &to.to_string()).unwrap();
        assert_eq!(
            p.seen.last().unwrap()[l4 + 6..l4 + 10],
            [0xff, 0xff, payload[0], payload[1]]
        );
        assert_eq!(p.recv(1, server).unwrap().0, payload);
    }
}

/// RFC 768: a length that does not fit is malformed; what lies beyond it is padding.
#[test]
fn lengths() {
    let mut p = Pair::new();
    let server = p.plain(1, "0.0.0.0:7");
    let (src, dst) = (Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2));
    let good = datagram(src, dst, (5, 7), b"abcdef");
    for len in [0, 7, 15] {
        let mut bad = good.clone();
        bad[34 + 4..34 + 6].copy_from_slice(&(len as u16).to_be_bytes());
        p.frame(1, &bad, |_| {});
    }
    assert_eq!(p.drops(1, Drop::UdpMalformed), 3);
    let mut short = good.clone();
    short[34 + 4..34 + 6].copy_from_slice(&11_u16.to_be_bytes());
    short[34 + 6..34 + 8].fill(0);
    p.frame(1, &short, |_| {});
    assert_eq!(p.recv(1, server).unwrap().0, b"abc");
    p.empty();
}

/// A super-frame from the device is as many datagrams as its sender sent.
#[test]
fn super_frames_are_split() {
    for (src, dst) in [
        (Addr::v4(10, 0, 0, 1), Addr::v4(10, 0, 0, 2)),
        ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()),
    ] {
        let mut p = Pair::new();
        let server = p.plain(1, "[::]:7");
        let payload: Vec<u8> = (0..10_500u32).map(|i| (i / 1000) as u8).collect();
        let frame = datagram(src, dst, (5, 7), &payload);
        let l4 = if src.is_v4() { 34 } else { 54 };
        p.frame(1, &frame, |packet| {
            packet.facts.checksum = Checksum::Partial {
                start: l4,
                offset: 6,
            };
            packet.facts.gso = Gso {
                kind: GsoKind::Udp,
                size: 1000,
                header_len: l4 + 8,
            };
        });
        for n in 0..11 {
            let len = if n < 10 { 1000 } else { 500 };
            assert_eq!(p.recv(1, server).unwrap().0, vec![n; len]);
        }
        assert_eq!(p.recv(1, server), Err(SocketError::WouldBlock));
        p.empty();
    }
}
