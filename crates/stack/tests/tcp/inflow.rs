//! The receive buffer grows with what is read in a round trip, and the window with it.

use stack::{Config, Ready, SocketId, TcpOptions, TcpTunables};
use wire::tcp::Options;

use crate::rig::{ACK, Open, Rig, SYN, config, scaled_without_sack};

const MSS: u32 = 1460;
/// What 128 KiB hold of segments that fill 162 of 256 parts of their memory.
const FIRST: u32 = 131_072 / 256 * 162;

fn tuned(change: impl FnOnce(&mut TcpTunables)) -> Rig {
    let mut tcp = TcpTunables::default();
    change(&mut tcp);
    let mut rig = Rig::with(Config { tcp, ..config() });
    rig.handshake_ms = 100;
    rig
}

fn limit(rig: &Rig, socket: SocketId) -> u32 {
    rig.host.tcp_receive_limit(socket).unwrap()
}

/// A peer that fills the window it is offered, and how far it got.
struct Sender {
    open: Open,
    at: u32,
    edge: u32,
    scale: u8,
}

impl Sender {
    fn new(open: Open) -> Self {
        let (at, edge) = (open.peer, open.peer + 64_240);
        let scale = 7;
        Self {
            open,
            at,
            edge,
            scale,
        }
    }

    fn hear(&mut self, rig: &mut Rig) {
        while let Some(ack) = rig.next() {
            self.edge = ack.ack.wrapping_add(u32::from(ack.window) << self.scale);
        }
    }

    /// One round trip of 100 ms: the window is filled, at most `most` bytes, and read or not. Returns what was sent.
    fn round(&mut self, rig: &mut Rig, most: u32, reads: bool) -> u32 {
        let (from, edge) = (self.at, self.edge.min(self.at.saturating_add(most)));
        while self.at + MSS <= edge {
            rig.send(self.at, self.open.host, ACK, &[0; MSS as usize]);
            self.at += MSS;
            if reads {
                rig.read(self.open.socket).unwrap();
            }
            self.hear(rig);
        }
        rig.ms(100);
        self.hear(rig);
        self.at - from
    }
}

/// Linux's rules: the first window is whole segments of at most half of the second number of `tcp_rmem`, 64 KiB at most; the
/// scale covers the third. A buffer that is set is offered, and scaled for, as it is.
#[test]
fn the_first_window_is_64_kib_at_most() {
    let fixed = |bytes| TcpOptions {
        receive_buffer: Some(bytes),
        ..TcpOptions::default()
    };
    let clamped = TcpOptions {
        window_clamp: Some(30_000),
        ..TcpOptions::default()
    };
    let cases = [
        (TcpOptions::default(), 44 * 1460, 7),
        (fixed(20_000), 13 * 1460, 0),
        (fixed(1_000_000), 65_535, 4),
        (fixed(1000), 1000, 0),
        (clamped, 20 * 1460, 0),
    ];
    for (options, window, scale) in cases {
        let mut rig = Rig::new();
        rig.listen(1, &options);
        rig.send_with(999, 0, SYN, &[], scaled_without_sack());
        let answer = rig.expect();
        assert_eq!(answer.window, window);
        assert_eq!(answer.options.window_scale, Some(scale));
        let (_, syn) = Rig::new().connect(&options);
        assert_eq!(
            (syn.window, syn.options.window_scale),
            (window, Some(scale))
        );
    }
}

#[test]
fn the_buffer_of_a_reader_who_keeps_up_grows_with_the_round_trip() {
    let mut rig = tuned(|_| {});
    let open = rig.accepted_with(&TcpOptions::default(), scaled_without_sack());
    let mut sender = Sender::new(open);
    let mut sent: Vec<u32> = (0..8)
        .map(|_| sender.round(&mut rig, u32::MAX, true))
        .collect();
    assert!(sent[0] <= 65_536, "{sent:?}");
    assert!(sent[7] >= 4 << 20, "{sent:?}");
    let most = rig.host.tcp_tunables().rmem_max;
    assert!(limit(&rig, sender.open.socket) <= most);
    // Nothing is lost while nothing comes, and nothing waits.
    rig.ms(3_600_000);
    assert_eq!(rig.host.tcp_occupancy().active, 0);
    sent.push(sender.round(&mut rig, u32::MAX, true));
    assert!(sent[8] >= 4 << 20, "{sent:?}");
}

#[test]
fn the_buffer_grows_no_further_than_what_is_read_in_a_round_trip_asks_for() {
    let mut rig = tuned(|_| {});
    let open = rig.accepted_with(&TcpOptions::default(), scaled_without_sack());
    let mut sender = Sender::new(open);
    for _ in 0..50 {
        sender.round(&mut rig, 60_000, true);
    }
    let grown = limit(&rig, sender.open.socket);
    assert!(grown <= 60_000 * 16, "{grown}");
}

#[test]
fn the_buffer_of_one_who_does_not_read_stays() {
    let mut rig = tuned(|_| {});
    let open = rig.accepted_with(&TcpOptions::default(), scaled_without_sack());
    let mut sender = Sender::new(open);
    let sent: u32 = (0..20)
        .map(|_| sender.round(&mut rig, u32::MAX, false))
        .sum();
    assert_eq!(limit(&rig, sender.open.socket), FIRST);
    assert!(sent <= FIRST + FIRST / 16, "{sent}");
}

#[test]
fn a_buffer_that_is_set_or_not_to_be_moderated_stays() {
    let fixed = TcpOptions {
        receive_buffer: Some(100_000),
        ..TcpOptions::default()
    };
    for (moderate, options, size) in [(1, fixed, 100_000), (0, TcpOptions::default(), FIRST)] {
        let mut rig = tuned(|tcp| tcp.moderate_rcvbuf = moderate);
        let open = rig.accepted_with(&options, scaled_without_sack());
        let mut sender = Sender::new(open);
        for _ in 0..8 {
            sender.round(&mut rig, u32::MAX, true);
        }
        assert_eq!(limit(&rig, sender.open.socket), size);
    }
}

/// Linux's scaling ratio: the first buffer holds the more of a stream the better its segments fill their memory, and half of
/// it at least.
#[test]
fn the_first_buffer_holds_as_much_as_segments_leave_room_for() {
    for (len, size) in [(1460, FIRST), (1200, 131_072 / 256 * 133), (600, 65_536)] {
        let mut rig = tuned(|_| {});
        let syn = Options {
            mss: Some(len),
            ..scaled_without_sack()
        };
        let open = rig.accepted_with(&TcpOptions::default(), syn);
        let data = vec![0; usize::from(len)];
        rig.send(open.peer, open.host, ACK, &data);
        assert_eq!(limit(&rig, open.socket), size, "{len}");
        let memory = rig.host.tcp_receive_memory(open.socket);
        assert_eq!(memory, Ok(131_072), "the memory is the same");
    }
}

/// Shorter segments fill their memory worse, but what was offered for the sake of long ones is not taken back.
#[test]
fn a_buffer_stays_when_segments_become_shorter() {
    let mut rig = tuned(|tcp| tcp.moderate_rcvbuf = 0);
    let open = rig.accepted_with(&TcpOptions::default(), scaled_without_sack());
    let mut sender = Sender::new(open);
    sender.round(&mut rig, u32::MAX, true);
    let socket = sender.open.socket;
    assert_eq!(limit(&rig, socket), FIRST);
    for _ in 0..100 {
        rig.send(sender.at, sender.open.host, ACK, &[0; 1201]);
        sender.at += 1201;
        rig.read(socket).unwrap();
        sender.hear(&mut rig);
    }
    let info = rig.host.tcp_info(socket).unwrap();
    assert_eq!(limit(&rig, socket), FIRST);
    assert!(info.unread + info.receive_window <= FIRST + FIRST / 16);
}

/// What waits is charged for its memory: short segments, and what waits behind a gap, leave less of the buffer to be offered.
#[test]
fn what_waits_takes_its_memory_of_the_window() {
    let mut rig = tuned(|tcp| {
        (tcp.moderate_rcvbuf, tcp.shrink_window, tcp.rmem_default) = (0, 1, 32_768);
    });
    let open = rig.accepted_with(&TcpOptions::default(), scaled_without_sack());
    let mut sender = Sender::new(open);
    let said = |rig: &mut Rig| {
        rig.ms(300);
        let mut window = None;
        while let Some(ack) = rig.next() {
            window = Some(u32::from(ack.window) << 7);
        }
        window.unwrap()
    };
    let send = |rig: &mut Rig, sender: &mut Sender, len: u32| {
        rig.send(sender.at, sender.open.host, ACK, &vec![0; len as usize]);
        sender.at += len;
    };
    // A frame is reckoned to take 2304 bytes, whether it has 1460 of payload or 1100; 162 of 256 parts hold payload at best.
    let room = |frames: u32| ((32_768 - frames * 2304) * 162 / 256) & !127;
    send(&mut rig, &mut sender, 1460);
    assert_eq!(said(&mut rig), room(1));
    for _ in 0..3 {
        send(&mut rig, &mut sender, 1100);
    }
    assert_eq!(said(&mut rig), room(4));
    sender.at += 1460; // and that is lost
    send(&mut rig, &mut sender, 1460);
    assert_eq!(said(&mut rig), room(5));
    sender.at -= 2920;
    send(&mut rig, &mut sender, 1460);
    rig.read(sender.open.socket).unwrap();
    sender.at += 1460;
    send(&mut rig, &mut sender, 1460);
    assert_eq!(said(&mut rig), room(1), "what was read takes none");
}

/// A buffer set as the memory for frames (SO_RCVBUF) holds what frames leave room for; one set in bytes holds those.
#[test]
fn a_buffer_that_is_set_as_memory_holds_what_frames_leave_room_for() {
    for (charge_frames, mss, bytes) in [
        (true, MSS, 200_000 * 162 / 256),
        (true, 536, 200_000 * 107 / 256), // less than half
        (false, MSS, 100_000),
    ] {
        let mut rig = tuned(|_| {});
        let options = TcpOptions {
            receive_buffer: Some(100_000),
            charge_frames,
            ..TcpOptions::default()
        };
        let syn = Options {
            mss: Some(mss as u16),
            ..scaled_without_sack()
        };
        let open = rig.accepted_with(&options, syn);
        rig.send(open.peer, open.host, ACK, &vec![0; mss as usize]);
        assert_eq!(limit(&rig, open.socket), bytes);
    }
}

/// What waits behind a gap has room beside what is read (as Linux), but gaps alone let nothing grow on and on.
#[test]
fn what_waits_behind_a_gap_has_room_of_its_own() {
    let mut rig = tuned(|_| {});
    let open = rig.accepted_with(&TcpOptions::default(), scaled_without_sack());
    let mut sender = Sender::new(open);
    sender.at += MSS; // and never sends it
    let mut before = 0;
    for _ in 0..100 {
        before = limit(&rig, sender.open.socket);
        sender.round(&mut rig, u32::MAX, false);
    }
    let after = limit(&rig, sender.open.socket);
    assert_eq!(before, after, "it comes to an end");
    assert!(after > FIRST && after <= 131_072 + 36 * MSS, "{after}");
    let memory = rig.host.tcp_receive_memory(sender.open.socket).unwrap();
    assert!(memory > 131_072, "{memory}");
}

/// Before the application has the connection its buffer stays as it is, whatever waits.
#[test]
fn a_connection_that_nobody_accepted_does_not_grow() {
    let mut rig = tuned(|_| {});
    let listener = rig.listen(1, &TcpOptions::default());
    rig.send_with(999, 0, SYN, &[], scaled_without_sack());
    let answer = rig.expect();
    rig.send(1000, answer.seq + 1, ACK, &[]);
    for at in 1..40 {
        rig.send(1000 + at * MSS, answer.seq + 1, ACK, &[0; MSS as usize]);
    }
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    assert_eq!(rig.host.tcp_receive_memory(socket), Ok(131_072));
    let at = 1000 + 40 * MSS;
    rig.send(at, answer.seq + 1, ACK, &[0; MSS as usize]);
    assert!(limit(&rig, socket) > FIRST);
}

/// Records of streams are bounded: a busy one keeps its own, a silent one gives it up to the next, and goes on all the same.
#[test]
fn a_silent_stream_gives_its_record_to_a_busy_one() {
    let mut rig = Rig::with(Config {
        tcp_active: 1,
        ..config()
    });
    rig.handshake_ms = 100;
    let first = rig.accepted_with(&TcpOptions::default(), scaled_without_sack());
    let mut first = Sender::new(first);
    for _ in 0..6 {
        first.round(&mut rig, u32::MAX, true);
    }
    assert!(limit(&rig, first.open.socket) > 1 << 20);
    let grow = |rig: &mut Rig, sender: &mut Sender| {
        for _ in 0..6 {
            sender.round(rig, u32::MAX, true);
        }
        limit(rig, sender.open.socket)
    };
    rig.ms(2000);
    rig.peer_port = 5001;
    let syn = scaled_without_sack();
    rig.send_with(999, 0, SYN, &[], syn);
    let answer = rig.expect();
    rig.ms(100);
    rig.send(1000, answer.seq + 1, ACK, &[]);
    let listener = rig.events.pop_back().expect("an event").socket;
    let (socket, _) = rig.host.tcp_accept(rig.now, listener).unwrap();
    let open = Open {
        socket,
        host: answer.seq + 1,
        peer: 1000,
    };
    let mut second = Sender::new(open);
    assert!(grow(&mut rig, &mut second) > 1 << 20);
    assert_eq!(limit(&rig, first.open.socket), 65_536);
    rig.peer_port = 5000;
    let edge = first.edge;
    assert!(first.round(&mut rig, u32::MAX, true) > 1 << 20);
    assert!(
        first.edge.wrapping_sub(edge) < 1 << 31,
        "no edge moves back"
    );
}

/// SO_RCVLOWAT: a reader is not called for less than it wants, unless no more can come, and a buffer that is not set has room.
#[test]
fn a_low_water_mark_is_waited_for_and_makes_room() {
    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_low_water: 100_000,
        ..TcpOptions::default()
    };
    let open = rig.accepted_with(&options, scaled_without_sack());
    assert_eq!(limit(&rig, open.socket), 100_000);
    for n in 0..70 {
        assert!(!rig.host.ready(open.socket).contains(Ready::READABLE));
        rig.send(open.peer + n * MSS, open.host, ACK, &[0; MSS as usize]);
        if n == 68 {
            break;
        }
    }
    assert!(rig.host.ready(open.socket).contains(Ready::READABLE));

    let mut rig = Rig::new();
    let options = TcpOptions {
        receive_buffer: Some(2 * MSS),
        ..options
    };
    let open = rig.accepted(&options);
    rig.send(open.peer, open.host, ACK, &[0; MSS as usize]);
    assert!(
        rig.host.ready(open.socket).contains(Ready::READABLE),
        "no more than that fits"
    );
}

/// TCP_WINDOW_CLAMP bounds what is offered, whatever the buffer.
#[test]
fn a_clamped_window_stays_below_its_clamp() {
    let mut rig = tuned(|_| {});
    let options = TcpOptions {
        window_clamp: Some(100_000),
        ..TcpOptions::default()
    };
    let open = rig.accepted_with(&options, scaled_without_sack());
    let mut sender = Sender {
        scale: 1,
        ..Sender::new(open)
    };
    let sent: Vec<u32> = (0..8)
        .map(|_| sender.round(&mut rig, u32::MAX, true))
        .collect();
    assert!(sent.iter().all(|n| *n <= 8 * 100_000), "{sent:?}");
    assert!(sender.edge - sender.at <= 100_000, "{sent:?}");
}
