//! A Millstream host and programs everybody knows, which use the kernel's stack: ping, curl, iperf3, wrk, and tcpdump
//! on what was captured.
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use interop::http::{BODY, Http};
use interop::program::{self, Scratch, program, succeed};
use interop::{Cable, Family, Machine, PATIENCE, Plan, Relay, Setup, Streams, all_ended, kernel};
use netns::in_private;

const LIMIT: Duration = Duration::from_secs(180);

/// `http://10.77.0.2/path`, or the same for IPv6.
fn url(family: Family, path: &str) -> String {
    match family {
        Family::V4 => format!("http://{}/{path}", family.host()),
        Family::V6 => format!("http://[{}]/{path}", family.host()),
    }
}

fn serve_http(machine: &Machine) {
    let listener = machine.listen(80, 512);
    machine.run(Http::new(listener));
}

#[test]
fn ping_gets_every_reply() {
    in_private!(LIMIT, || {
        let ping = program("ping", "iputils-ping");
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            for family in Family::BOTH {
                let to = family.host().to_string();
                for size in ["0", "56", "1472", "9000", "65507"] {
                    // One at a time: once it has seen replies, ping waits for the last not much longer than for those.
                    let text = succeed(&ping, &["-n", "-c", "1", "-W", "30", "-s", size, &to]);
                    assert!(text.contains(" 0% packet loss"), "{size} bytes: {text}");
                }
                // As fast as replies come back.
                let flood = ["-n", "-q", "-f", "-c", "1000", "-w", "30", &to];
                let text = succeed(&ping, &flood);
                assert!(text.contains(" 1000 received"), "{text}");
            }
            drop(machine);
        }
    });
}

#[test]
fn curl_gets_and_puts() {
    in_private!(LIMIT, || {
        let curl = program("curl", "curl");
        let scratch = Scratch::new("curl");
        let (down, up) = (scratch.file("down"), scratch.file("up"));
        let wanted = BODY.bytes(50_000_000);
        std::fs::write(&up, &wanted).unwrap();
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            serve_http(&machine);
            for family in Family::BOTH {
                let text = succeed(&curl, &["-sS", &url(family, "")]);
                assert!(text.starts_with("Hello"));
                for n in ["0", "1", "100000", "50000000"] {
                    let from = url(family, &format!("bytes/{n}"));
                    succeed(&curl, &["-sS", "--fail", "-o", &down, &from]);
                    let got = std::fs::read(&down).unwrap_or_default();
                    assert!(got == wanted[..n.parse().unwrap()], "{n} bytes are others");
                }
                let to = url(family, "up");
                let text = succeed(&curl, &["-sS", "--fail", "-T", &up, &to]);
                assert_eq!(text, "as expected\n");
                // Several on one connection, then many connections at once.
                let from = url(family, "bytes/10000");
                let text = succeed(
                    &curl,
                    &[
                        "-sS",
                        "-o",
                        &down,
                        "-o",
                        &down,
                        "-w",
                        "%{num_connects} ",
                        &from,
                        &from,
                    ],
                );
                assert_eq!(text, "1 0 ");
                let many = url(family, "bytes/[10000-10049]");
                let each = scratch.file("part-#1");
                succeed(
                    &curl,
                    &[
                        "-sS",
                        "--fail",
                        "-Z",
                        "--parallel-max",
                        "50",
                        "-o",
                        &each,
                        &many,
                    ],
                );
                for n in 10_000..10_050 {
                    let got = std::fs::read(scratch.file(&format!("part-{n}"))).unwrap();
                    assert!(got == wanted[..n], "part {n} is wrong");
                }
            }
        }
    });
}

#[test]
fn wrk_meets_no_errors() {
    in_private!(LIMIT, || {
        let wrk = program("wrk", "wrk");
        let machine = Setup::on(Cable::usual()).start();
        serve_http(&machine);
        for family in Family::BOTH {
            for path in ["", "bytes/100000"] {
                program::wrk(&wrk, "50", &url(family, path));
            }
        }
    });
}

/// Whether the kernel has a listener at this port, found out without disturbing it.
fn is_listening(port: u16) -> bool {
    // Local address and port, remote ones, state (0A is TCP_LISTEN).
    let local = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        text.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 3 && words[1].ends_with(&local) && words[3] == "0A"
        })
    })
}

/// An iperf3 server, killed at the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server for one test, once it listens.
fn serve(iperf3: &Path, address: &str) -> Server {
    let server = Command::new(iperf3)
        .args(["-s", "-1", "-B", address, "-p", "5201"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(server);
    let deadline = Instant::now() + PATIENCE;
    while !is_listening(5201) {
        assert!(Instant::now() < deadline, "the server does not come up");
        std::thread::sleep(Duration::from_millis(10));
    }
    server
}

#[test]
fn iperf3_runs_through_a_relay() {
    in_private!(LIMIT, || {
        let iperf3 = program("iperf3", "iperf3");
        for family in Family::BOTH {
            // The kernel's client, the host's relay, the kernel's server: the cable is crossed twice.
            let machine = Setup::on(Cable::usual()).start();
            let own = family.kernel().to_string();
            let listener = machine.listen(5201, 64);
            machine.run(Relay::new(listener, family.kernel_port(5201)));
            let to = family.host().to_string();
            let common = [
                "-c",
                &to,
                "-p",
                "5201",
                "-t",
                "1",
                "--connect-timeout",
                "5000",
            ];
            for more in [&[][..], &["-R"], &["-P", "8"], &["-n", "32M", "-l", "1000"]] {
                // A server for one test only: one that goes on is still busy with a test whose client is gone.
                let mut server = serve(&iperf3, &own);
                let arguments: Vec<&str> = if more.contains(&"-n") {
                    [&common[..4], &common[6..], more].concat()
                } else {
                    [&common[..], more].concat()
                };
                let text = succeed(&iperf3, &arguments);
                assert!(text.contains("receiver"), "{text}");
                assert!(server.0.wait().unwrap().success());
            }
        }
    });
}

/// Traffic of all kinds, captured; one file for each kind of cable.
fn capture(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for (n, cable) in Cable::all().into_iter().enumerate() {
        let file = File::create(folder.join(format!("{n}.pcapng"))).unwrap();
        let machine = Setup::on(cable).capture(file).start();
        let listener = machine.listen(7, 16);
        let (app, ended) = Streams::serve(listener, Plan::Echo);
        machine.run(app);
        for family in Family::BOTH {
            kernel::Pinger::new(family).ping(family.host(), &[7; 3000]);
            let socket = kernel::connect(family.host_port(7));
            kernel::echo(&socket, interop::Pattern(1), 1 << 20);
            all_ended(&ended, 1);
            let socket = kernel::udp(family);
            socket.connect(family.host_port(9)).unwrap();
            socket.send(b"nobody").unwrap();
            socket.recv(&mut [0; 10]).unwrap_err();
        }
        machine.drain();
        let _ = machine.stop();
    }
}

#[test]
fn tcpdump_reads_what_was_captured() {
    // tcpdump reads outside of the namespace: where it is root it insists on becoming another user, and there is none.
    let folder = |pid| std::env::temp_dir().join(format!("millstream-tcpdump-{pid}"));
    in_private!(LIMIT, || {
        program("tcpdump", "tcpdump");
        let outside = rustix::process::getppid().unwrap().as_raw_nonzero();
        capture(&folder(outside.get() as u32));
    });
    let scratch = Scratch::of(folder(std::process::id()));
    let Ok(files) = std::fs::read_dir(scratch.folder()) else {
        return; // Skipped.
    };
    let tcpdump = program("tcpdump", "tcpdump");
    for file in files {
        let file = file.unwrap().path().to_string_lossy().into_owned();
        let text = succeed(&tcpdump, &["-nn", "-e", "-v", "-r", &file]);
        for wanted in [
            "ethertype ARP",
            "ICMP echo request",
            "ICMP6, echo reply",
            "neighbor solicitation",
            "Flags [S]",
            "Flags [S.]",
            "Flags [F",
            "udp port 9 unreachable",
        ] {
            assert!(text.contains(wanted), "no line with {wanted:?}");
        }
        for unwanted in ["incorrect", "bad cksum", "bad udp cksum", "truncated", "[|"] {
            let line = text.lines().find(|line| line.contains(unwanted));
            assert!(line.is_none(), "{}", line.unwrap_or_default());
        }
        // A filter needs the frames to be what they say they are.
        let filter = "tcp port 7 and host 10.77.0.2";
        let text = succeed(&tcpdump, &["-nn", "-r", &file, filter]);
        let from_host = text.lines().filter(|l| l.contains("10.77.0.2.7 >"));
        assert!(from_host.count() >= 10, "hardly a segment of the host's");
    }
}
