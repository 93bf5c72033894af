//! The ACK loop (RFC 5961 1.2, Abramov 2011): somebody slips data into a connection, and from then on each side holds the other's
//! acknowledgments for wrong and says so. Two hosts that answer every such segment would talk at the speed of the link.

use core::time::Duration;

use sim::{LinkConfig, World};
use stack::{Config, State, TcpOptions};
use wire::tcp::{Flags, Options, Packet, Repr};
use wire::{Addr, checksum, ipv4};

#[test]
fn two_hosts_at_odds_do_not_talk_for_ever() {
    let config = Config {
        duplicate_detection: false,
        accept_router_advertisements: false,
        ..Config::default()
    };
    let (mut world, a, b) = World::pair(1, config, LinkConfig::default());
    let to = "10.1.0.2:80".parse().expect("an address");
    let (now, options) = (world.now(), TcpOptions::default());
    world
        .host(b)
        .tcp_listen(now, to, 1, &options)
        .expect("the listener opens");
    let socket = world
        .host(a)
        .tcp_connect(now, to, None, &options)
        .expect("the connection starts");
    world.keep_trace();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.host(a).tcp_state(socket), Ok(State::Established));

    // What the attacker has overheard: the server's SYN-ACK.
    let trace = world.take_trace();
    let overheard = trace.iter().find_map(|frame| {
        let tcp = Packet::new(frame.bytes.get(34..)?).ok()?;
        let answers = tcp.src_port() == 80 && tcp.flags().contains(Flags::SYN | Flags::ACK);
        answers.then(|| (frame.bytes[..14].to_vec(), Repr::parse(&tcp)))
    });
    let (mut frame, answer) = overheard.expect("a SYN-ACK");
    let answer = answer.expect("a sound header");
    let forged = Repr {
        seq: answer.seq.wrapping_add(1),
        flags: Flags::PSH,
        options: Options {
            timestamps: answer.options.timestamps,
            ..Options::default()
        },
        ..answer
    };
    let (src, dst) = (Addr::v4(10, 1, 0, 2), Addr::v4(10, 1, 0, 1));
    let mut segment = vec![0; forged.header_len()];
    forged.emit(&mut segment);
    segment.extend([b'!'; 100]);
    let sum = checksum::pseudo(&src, &dst, 6, segment.len() as u32)
        .add_bytes(&segment)
        .finish();
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut ip = [0; 20];
    ipv4::Repr::new(src, dst, 6, 64, segment.len()).emit(&mut ip);
    frame.extend(ip);
    frame.extend(segment);
    world.inject(a, World::CABLE, frame);

    world.run_for(Duration::from_secs(60));
    let said = world.take_trace().len();
    assert!(said > 1, "the forgery was not taken, this shows nothing");
    assert!(said < 300, "{said} frames in a minute");
}
