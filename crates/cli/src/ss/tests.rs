//! The table as it is printed: without a terminal plain, one line for what is below a connection.

use super::*;
use clap::Parser;
use control::words::socket::{Account, PathModel, Tcp, TcpMemory};

fn args(options: &[&str]) -> args::Ss {
    let line = ["millstream", "ss"].iter().chain(options);
    match args::Cli::parse_from(line).command {
        args::Command::Ss(args) => args,
        _ => unreachable!("not ss"),
    }
}

fn plain() -> Style {
    Style {
        moving: false,
        colour: false,
        width: 80,
    }
}

fn socket(netid: &str, state: &str, local: &str, peer: &str) -> Socket {
    Socket {
        netid: netid.into(),
        state: state.into(),
        recv_q: 0,
        send_q: 0,
        local: local.parse().unwrap(),
        device: None,
        peer: peer.parse().unwrap(),
        receive_buffer: 131_072,
        send_buffer: 65_536,
        drops: 0,
        tcp: None,
        listener: None,
    }
}

fn connection() -> Socket {
    let tcp = Tcp {
        congestion: "cubic".into(),
        timestamps: true,
        sack: true,
        wscale: Some((7, 4)),
        ca_state: "open".into(),
        rto_us: 204_000,
        rtt_us: 50,
        rttvar_us: 25,
        ato_us: 40_000,
        mss: 1448,
        cwnd: 10,
        reordering: 3,
        snd_wnd: 65_536,
        accecn: true,
        ecnseen: true,
        rcv_rtt_us: 1_500,
        rcv_space: 14_480,
        rcv_ssthresh: 64_088,
        model: Some(PathModel::Bbr {
            bw: 1_250_000,
            mrtt_us: 40,
            pacing_gain_percent: 277,
            cwnd_gain_percent: 200,
        }),
        pacing_rate: Some(347_520_000),
        account: Some(Account {
            bytes_acked: 4711,
            total_retrans: 2,
            busy_us: 10_000,
            rwnd_limited_us: 2_500,
            delivery_rate: 1_250_000,
            app_limited: true,
            ..Account::default()
        }),
        ..Tcp::default()
    };
    Socket {
        send_q: 12_345,
        tcp: Some(Box::new(tcp)),
        ..socket("tcp", "ESTAB", "10.77.0.2:80", "10.77.0.1:53422")
    }
}

fn list(sockets: Vec<Socket>) -> List {
    List {
        host: "demo".into(),
        total: sockets.len() as u32,
        cut: false,
        sockets,
    }
}

fn printed(list: &List, options: &[&str], style: Style) -> String {
    let mut out = Vec::new();
    table::write(&mut out, list, &args(options), style).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn columns_are_as_wide_as_what_is_in_them() {
    let list = list(vec![
        socket("tcp", "LISTEN", "[::]:80", "[::]:0"),
        connection(),
        Socket {
            device: Some("mill0".into()),
            ..socket("udp", "UNCONN", "0.0.0.0:7", "0.0.0.0:0")
        },
    ]);
    assert_eq!(
        printed(&list, &["-a"], plain()),
        "Netid  State   Recv-Q  Send-Q  Local Address:Port  Peer Address:Port\n\
         tcp    LISTEN       0       0  [::]:80             [::]:*\n\
         tcp    ESTAB        0   12345  10.77.0.2:80        10.77.0.1:53422\n\
         udp    UNCONN       0       0  0.0.0.0%mill0:7     0.0.0.0:*\n"
    );
    let one = printed(&list, &["-taH"], plain());
    assert!(one.starts_with("LISTEN       0"), "{one}");
}

#[test]
fn what_is_known_stands_below_in_the_words_of_ss() {
    let list = list(vec![connection()]);
    let text = printed(&list, &["-tim"], plain());
    let below = text.lines().nth(2).unwrap();
    assert_eq!(
        below,
        "    skmem:(r0,rb131072,t12345,tb65536,d0) ts sack accecn ecnseen cubic wscale:7,4 rto:204 rtt:0.05/0.025 ato:40 \
         mss:1448 cwnd:10 bytes_acked:4711 bbr:(bw:10Mbps,mrtt:0.04,pacing_gain:2.77,cwnd_gain:2) \
         send 2.32Gbps pacing_rate 2.78Gbps delivery_rate 10Mbps app_limited busy:10ms rwnd_limited:2ms(25.0%) \
         retrans:0/2 rcv_rtt:1.5 rcv_space:14480 rcv_ssthresh:64088 snd_wnd:65536"
    );
    let terminal = Style {
        moving: true,
        colour: true,
        width: 60,
    };
    let text = printed(&list, &["-ti"], terminal);
    assert!(text.contains("\x1b[32mESTAB"), "{text:?}");
    let lines: Vec<&str> = text.lines().skip(2).collect();
    assert!(lines.len() > 2, "it is wrapped: {text}");
    for line in lines {
        let bare = line.replace("\x1b[2m", "").replace("\x1b[0m", "");
        assert!(bare.len() <= 60 && bare.starts_with("    "), "{bare}");
    }
}

#[test]
fn a_list_that_was_cut_says_so() {
    let mut list = list(vec![connection()]);
    list.cut = true;
    list.total = 1_000_000;
    let text = printed(&list, &["-t"], plain());
    assert!(
        text.ends_with(
            "The first 1 of demo's 1,000,000 sockets that are wanted; --limit 0 shows all.\n"
        ),
        "{text}"
    );
}

#[test]
fn options_choose_as_those_of_ss() {
    let chosen = |options: &[&str]| filter(&args(options));
    let all = chosen(&[]);
    assert!(all.tcp && all.udp && all.v4 && all.v6);
    assert_eq!(all.states, states("default").unwrap());
    let tcp = chosen(&["-tln4"]);
    assert!(tcp.tcp && !tcp.udp && tcp.v4 && !tcp.v6);
    assert_eq!(tcp.states, states("listening").unwrap());
    assert_eq!(chosen(&["-a"]).states, states("all").unwrap());
    let two = chosen(&["--state", "established", "--state", "time-wait"]);
    let expected = states("established").unwrap() | states("time-wait").unwrap();
    assert_eq!(two.states, expected);
    let ports = chosen(&["--sport", "80", "--dport", "53422"]);
    assert_eq!((ports.sport, ports.dport), (Some(80), Some(53422)));
}

#[test]
fn a_summary_counts_and_tells_what_happened() {
    let summary = Summary {
        uptime_ms: 61_000,
        tcp_v4: 1200,
        tcp_v6: 34,
        udp_v4: 1,
        tcp_memory: TcpMemory {
            bytes: 45 << 20,
            pressure: true,
            levels: [30 << 20, 40 << 20, 60 << 20],
        },
        states: vec![("ESTAB".into(), 1234)],
        events: vec![("tcp_retransmits".into(), "segments sent again".into(), 7)],
        ..Summary::default()
    };
    let mut out = Vec::new();
    summarise(&mut out, &summary, "demo", plain()).unwrap();
    let text = String::from_utf8(out).unwrap();
    for line in [
        "demo  1,235 sockets, up 61.0 s",
        "TCP              1,234       1,200          34",
        "TCP memory 45 MiB, under pressure; low 30 MiB, pressure 40 MiB, max 60 MiB",
        "  ESTAB            1,234",
        "  tcp_retransmits             7  segments sent again",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} in\n{text}");
    }
    assert!(!text.contains("Drops"), "none happened");
}
