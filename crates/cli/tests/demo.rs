//! The main job, whole: the demo in its own namespaces, and a host from a file, each with real clients.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    fn start(args: &[&str]) -> Self {
        Self::start_with(args, |command| command)
    }

    fn start_with(args: &[&str], set: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        let command = set(command.args(args))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(command.spawn().expect("the program starts"))
    }

    /// The lines of standard output up to the first that contains `word`; what was said instead when there is none.
    fn read_to(&mut self, out: &mut impl BufRead, word: &str) -> Result<String, String> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if out.read_line(&mut line).expect("readable") == 0 {
                let mut said = String::new();
                self.0
                    .stderr
                    .take()
                    .expect("piped")
                    .read_to_string(&mut said)
                    .expect("readable");
                return Err(said);
            }
            text.push_str(&line);
            if line.contains(word) {
                return Ok(text);
            }
        }
    }

    fn ask_to_end(&self) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::TERM).expect("it runs");
    }

    fn exit_within(&mut self, limit: Duration) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a refusal is the machine's: then the test is skipped, unless it must not be.
fn is_unavailable(said: &str) -> bool {
    let unavailable = said.contains("cannot make a private network namespace");
    if unavailable {
        assert!(
            std::env::var_os(netns::harness::REQUIRE).is_none(),
            "{said}"
        );
        // Not eprintln: libtest would swallow it, and a skipped test must be seen.
        let _ = writeln!(std::io::stderr(), "skipped: {}", said.trim_end());
    }
    unavailable
}

/// Runs the quick demo once with these arguments; the report.
fn report(args: &[&str]) -> Option<serde_json::Value> {
    let common = [
        "demo",
        "--once",
        "--quick",
        "--json",
        "--publish",
        "127.0.0.1:0",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    let output = command
        .args(common)
        .args(args)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    if is_unavailable(&said) {
        return None;
    }
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    for row in report["check"]["rows"].as_array().expect("rows") {
        assert_eq!(
            row["standing"], "passed",
            "{}: {}",
            row["name"], row["detail"]
        );
    }
    assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""));
    assert_eq!(report["passed"], true);
    Some(report)
}

#[test]
fn the_demo_passes_its_own_check_and_captures() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("demo.pcapng");
    let Some(report) = report(&["--pcap", file.to_str().expect("UTF-8")]) else {
        return;
    };
    assert_eq!(report["check"]["rows"].as_array().expect("rows").len(), 14);
    assert_eq!(report["host"][0], "10.77.0.2/24");
    assert!(
        report["stats"]["ports"][0]["rx_frames"]
            .as_u64()
            .expect("a count")
            > 1_000
    );
    let mut capture = std::fs::File::open(&file).expect("the capture");
    let mut begin = [0; 4];
    capture.read_exact(&mut begin).expect("a section header");
    assert_eq!(begin, [0x0a, 0x0d, 0x0d, 0x0a]);
    assert!(capture.metadata().expect("a file").len() > 64 << 20);
}

#[test]
fn the_demo_passes_its_own_check_without_a_tap() {
    let Some(report) = report(&["--port", "packet"]) else {
        return;
    };
    assert_eq!(report["port_kind"], "packet");
}

#[test]
fn the_published_page_comes_through_the_stack_and_the_end_is_clean() {
    let mut demo = Running::start(&["demo", "--quick", "--publish", "127.0.0.1:0"]);
    let mut out = BufReader::new(demo.0.stdout.take().expect("piped"));
    let text = match demo.read_to(&mut out, "live page") {
        Ok(text) => text,
        Err(said) if is_unavailable(&said) => return,
        Err(said) => panic!("{said}"),
    };
    let address: SocketAddr = text
        .rsplit("http://")
        .next()
        .expect("an address")
        .trim()
        .parse()
        .expect("an address");
    let page = get(address, "/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<title>Millstream</title>"));
    let stats = get(address, "/stats.json");
    let stats = stats.split("\r\n\r\n").nth(1).expect("a body");
    let stats: serde_json::Value = serde_json::from_str(stats).expect("JSON");
    assert_eq!(stats["host"]["addresses"][0], "10.77.0.2/24");
    assert!(
        stats["ports"][0]["rx_frames"].as_u64().expect("a count") > 0,
        "the page came some other way"
    );

    demo.read_to(&mut out, "is up until Ctrl-C")
        .expect("the check ends");
    let enter = format!("nsenter -t {} ", demo.0.id());
    let way_in = demo.read_to(&mut out, &enter).expect("the way in");
    assert!(way_in.ends_with("-n ping 10.77.0.2\n"), "{way_in}");
    let idle = TcpStream::connect(address).expect("still published");
    demo.ask_to_end();
    assert_eq!(
        demo.exit_within(Duration::from_secs(10)),
        Some(0),
        "with a connection open"
    );
    drop(idle);
    TcpListener::bind(address).expect("the port is free again");
}

/// The folder of running hosts, as the program is told of it.
const RUNTIME: &str = "MILLSTREAM_RUNTIME_DIR";

#[test]
fn a_running_host_tells_of_its_sockets_and_is_tuned() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("run");
    let ask = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        let output = command.env(RUNTIME, &folder).args(args).output();
        let output = output.expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let status = output.status.code().expect("a status");
        (status, text(output.stdout), text(output.stderr))
    };
    let none = "millstream: no Millstream host of this user runs that can be asked; start one with";
    let (status, _, said) = ask(&["ss"]);
    assert!(status == 2 && said.starts_with(none), "{said}");

    let args = ["demo", "--quick", "--publish", "127.0.0.1:0"];
    let mut demo = Running::start_with(&args, |command| command.env(RUNTIME, &folder));
    let mut out = BufReader::new(demo.0.stdout.take().expect("piped"));
    match demo.read_to(&mut out, "is up until Ctrl-C") {
        Err(said) if is_unavailable(&said) => return,
        Err(said) => panic!("{said}"),
        Ok(_) => {}
    }
    let (status, list, said) = ask(&["ss", "-ltun"]);
    assert_eq!((status, said.as_str()), (0, ""));
    for row in [
        "tcp    LISTEN       0    4096  10.77.0.2:80        0.0.0.0:*",
        "tcp    LISTEN       0    4096  [fd77::2]:7         [::]:*",
        "udp    UNCONN       0       0  10.77.0.2:7         0.0.0.0:*",
    ] {
        assert!(list.lines().any(|line| line == row), "{row:?} in\n{list}");
    }
    let (_, json, _) = ask(&["ss", "-a", "--state", "listening", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(list["host"], "demo");
    assert_eq!(list["sockets"].as_array().expect("rows").len(), 6);
    let (_, few, _) = ask(&["ss", "-a", "--limit", "3"]);
    assert!(few.contains("The first 3 of demo's "), "{few}");
    let (_, summary, _) = ask(&["ss", "-s"]);
    assert!(summary.contains("tcp-passive-opens"), "{summary}");
    assert!(summary.contains("\nTCP memory "), "{summary}");
    tells_what_else_there_is(&ask);
    let set = "net.ipv4.tcp_mem = 30 40 60\n".to_owned();
    assert_eq!(ask(&["sysctl", "tcp_mem=30 40 60"]).1, set);
    let set = "net.ipv4.tcp_syncookies = 2\n".to_owned();
    assert_eq!(
        ask(&["sysctl", "syncookies=2"]),
        (0, set.clone(), String::new())
    );
    assert_eq!(ask(&["sysctl", "tcp_syncookies"]).1, set);
    let (status, _, said) = ask(&["sysctl", "syncookies=3"]);
    let refused = "millstream: syncookies = 3: must be from 0 to 2\n";
    assert_eq!((status, said.as_str()), (2, refused));
    demo.ask_to_end();
    assert_eq!(demo.exit_within(Duration::from_secs(10)), Some(0));
    let left = std::fs::read_dir(&folder).expect("the folder").count();
    assert_eq!(left, 0, "the socket is gone");
}

/// Runs the program: its status, and what it says.
type Ask<'a> = dyn Fn(&[&str]) -> (i32, String, String) + 'a;

/// Listeners, buffers, sets and queues, and what is amiss: nothing.
fn tells_what_else_there_is(ask: &Ask<'_>) {
    let (_, listeners, _) = ask(&["ss", "-lti"]);
    assert!(listeners.contains("\n    syn_queue:0\n"), "{listeners}");
    let (status, told, said) = ask(&["ss", "--explain"]);
    assert_eq!((status, said.as_str()), (0, ""));
    let well = "demo: nothing to explain; of ";
    assert!(
        told.starts_with(well) && told.lines().count() == 1,
        "{told}"
    );
    let (_, json, _) = ask(&["ss", "--explain", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(told["findings"].as_array().expect("a list").len(), 0);
    let (_, objects, _) = ask(&["ss", "--buffers", "--epoll", "--completion"]);
    for line in [
        "No sets of sockets (Poll, epoll).",
        "No completion queues.",
        "No groups of buffers.",
    ] {
        assert!(objects.lines().any(|l| l == line), "{line:?} in\n{objects}");
    }
    assert!(objects.starts_with("Packet memory "), "{objects}");
    let lent = |l: &str| l.starts_with("lent to other threads ") && l.trim_end().ends_with("0 B");
    assert!(objects.lines().any(lent), "{objects}");
    let (_, json, _) = ask(&["ss", "--buffers", "--json"]);
    let objects: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(objects["buffers"]["block_bytes"], 2048);
    assert_eq!(objects["buffers"]["lent_blocks"], 0);
}

fn get(to: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(to).expect("published");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("settable");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_host_tells_what_becomes_of_its_device() {
    netns::in_private!(|| {
        netns::link::create_veth("near", "far").expect("a cable");
        for end in ["near", "far"] {
            netns::link::disable_ipv6(end).expect("the kernel keeps out");
            netns::link::set_up(end).expect("on");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("host.toml");
        let port = "[[port]]\nname = \"lan\"\nkind = \"packet\"\ndevice = \"far\"\naddresses = [\"fd78::2/64\"]\n";
        std::fs::write(&file, port).expect("the file can be written");
        // A folder of its own: the usual one may be somebody else's, of which a line would tell.
        let runtime = folder.path().join("run");
        let args = ["up", "-c", file.to_str().expect("UTF-8")];
        let mut up = Running::start_with(&args, |command| command.env(RUNTIME, &runtime));
        let mut out = BufReader::new(up.0.stdout.take().expect("piped"));
        up.read_to(&mut out, "is up until Ctrl-C")
            .expect("it starts");
        let mut err = BufReader::new(up.0.stderr.take().expect("piped")).lines();
        let mut told = || err.next().expect("a line").expect("readable");

        netns::link::set_down("far").expect("off");
        let line = told();
        assert!(
            line.starts_with("millstream: port \"lan\": far is switched off"),
            "{line}"
        );
        netns::link::set_up("far").expect("on");
        assert_eq!(told(), "millstream: port \"lan\": far is up again");
        netns::link::delete("far").expect("removed");
        let line = told();
        assert!(
            line.contains("interface far is gone") && line.contains("; start the host again"),
            "{line}"
        );
        assert_eq!(up.exit_within(Duration::from_secs(10)), Some(2));
    });
}

#[test]
fn a_device_of_no_use_is_refused_by_name() {
    netns::in_private!(|| {
        netns::link::create_veth("near", "far").expect("a cable");
        netns::link::set_mtu("far", 100).expect("a small MTU");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("host.toml");
        for (device, said) in [
            (
                "far",
                "far has an MTU of 100, and a host needs 576 to 65535; `ip link set far mtu",
            ),
            ("lo", "lo has an MTU of 65536"),
            (
                "none",
                "there is no interface none: `ip link` shows those there are",
            ),
        ] {
            let port =
                format!("[[port]]\nname = \"lan\"\nkind = \"packet\"\ndevice = \"{device}\"\n");
            std::fs::write(&file, port).expect("the file can be written");
            let mut up = Command::new(env!("CARGO_BIN_EXE_millstream"));
            let up = up.args(["up", "-c", file.to_str().expect("UTF-8")]);
            let output = up.output().expect("the program starts");
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{err}");
            assert!(
                err.starts_with(&format!("millstream: port \"lan\": {said}")),
                "{err}"
            );
            assert_eq!((err.lines().count(), output.stdout.len()), (1, 0), "{err}");
        }
    });
}

#[test]
fn a_host_from_the_example_file_serves_the_kernel() {
    netns::in_private!(|| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tap.toml");
        let mut up = Running::start(&["up", "-c", file.to_str().expect("UTF-8")]);
        let mut out = BufReader::new(up.0.stdout.take().expect("piped"));
        if let Err(said) = up.read_to(&mut out, "is up until Ctrl-C") {
            if said.contains("/dev/net/tun") {
                netns::harness::skip(said);
            }
            panic!("{said}");
        }
        for host in ["10.78.0.2", "[fd78::2]"] {
            let at =
                |port: u16| -> SocketAddr { format!("{host}:{port}").parse().expect("an address") };
            assert!(get(at(80), "/").contains("<h1>It works</h1>"));
            assert!(get(at(80), "/../tap.toml").starts_with("HTTP/1.1 404"));
            assert!(get(at(8080), "/stats.json").contains("\"tap-example\""));
            let udp = UdpSocket::bind(if host.starts_with('[') {
                "[::]:0"
            } else {
                "0.0.0.0:0"
            })
            .expect("a socket");
            udp.set_read_timeout(Some(Duration::from_secs(5)))
                .expect("settable");
            udp.send_to(b"echo", at(7)).expect("sent");
            let mut buf = [0; 16];
            assert_eq!(udp.recv_from(&mut buf).expect("an echo").0, 4);
            let mut lines = [0; 74];
            TcpStream::connect(at(19))
                .expect("chargen")
                .read_exact(&mut lines)
                .expect("a line");
            assert!(lines.starts_with(b" !\"#$%&"));
        }
        up.ask_to_end();
        assert_eq!(up.exit_within(Duration::from_secs(10)), Some(0));
        assert!(netns::link::facts("ms0").is_err(), "the device is gone");
    });
}
