//! The laboratory as a user meets it: a link between two namespaces, and scenarios from files.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use netns::{Namespace, harness, in_private, link};
use port::tap::{Tap, TapOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 9, 8, last])
}

/// What `DEVICE@NAMESPACE` says of a namespace this process has a handle of.
fn name_of(namespace: &Namespace) -> String {
    let fd = namespace.as_fd().as_raw_fd();
    format!("/proc/{}/fd/{fd}", std::process::id())
}

/// A link at work; it is ended with the test.
struct Running(Child);

impl Running {
    /// Starts it, and waits until the two are joined.
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        let command = command.args(["lab", "link"]).args(args).arg("--json");
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Self(command.spawn().expect("the program starts"));
        let mut said = String::new();
        let err = running.0.stderr.as_mut().expect("piped");
        let mut err = BufReader::new(err);
        err.read_line(&mut said).expect("readable");
        assert!(said.contains(" are joined until Ctrl-C: "), "{said}");
        running
    }

    /// Ends it as Ctrl-C does; what it says went through.
    fn end(mut self) -> Value {
        // Not SIGINT: who runs tests in the background has them ignore it.
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("it runs");
        let mut out = String::new();
        let stdout = self.0.stdout.as_mut().expect("piped");
        stdout.read_to_string(&mut out).expect("readable");
        assert_eq!(self.0.wait().expect("a child").code(), Some(0));
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn needs_taps() {
    match Tap::new("probe%d", &TapOptions::default()) {
        Err(error) if error.is_unavailable() => harness::skip(error),
        other => drop(other.expect("a TAP can be made")),
    }
}

/// Neither end asks for the other's hardware address, and no IPv6 says anything: what crosses is what the test sends.
fn introduce(spaces: [&Namespace; 2], device: &str) {
    let mac = |space: &Namespace| {
        space
            .run(|| link::facts(device).expect("the namespace is ours").mac)
            .expect("the namespace is ours")
    };
    let macs = [mac(spaces[1]), mac(spaces[0])];
    for (at, space) in spaces.into_iter().enumerate() {
        let other = address(2 - at as u8);
        let told = space.run(|| {
            link::disable_ipv6(device).expect("the namespace is ours");
            link::add_neighbour(device, other, macs[at]).expect("the namespace is ours");
            link::wait_running(device).expect("the namespace is ours");
        });
        told.expect("the namespace is ours");
    }
}

/// Few enough that a socket holds them all.
const SENT: u64 = 300;

#[test]
fn a_link_loses_and_doubles_what_it_says_and_delays_the_rest() {
    in_private!(|| {
        needs_taps();
        let [a, b] = [(); 2].map(|()| Namespace::new().unwrap());
        let delay = Duration::from_millis(20);
        let running = Running::start(&[
            &format!("lab0@{}", name_of(&a)),
            &format!("lab0@{}", name_of(&b)),
            "--address-a=10.9.8.1/24",
            "--address-b=10.9.8.2/24",
            "--delay=20ms",
            "--loss=10%",
            "--duplicate=5%",
            "--faults=a-to-b",
            "--seed=3",
        ]);
        introduce([&a, &b], "lab0");
        let socket = |space: &Namespace, last| {
            let bound = space.run(|| UdpSocket::bind((address(last), 9)).unwrap());
            let socket = bound.unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            socket
        };
        let (from, to) = (socket(&a, 1), socket(&b, 2));
        let started = Instant::now();
        let mut buffer = [0; 64];
        let (mut arrived, mut first) = (Vec::new(), None);
        for number in 0..SENT as u16 {
            let bytes = number.to_be_bytes();
            from.send_to(&bytes, (address(2), 9)).unwrap();
        }
        while let Ok(n) = to.recv(&mut buffer) {
            first.get_or_insert_with(|| started.elapsed());
            assert_eq!(n, 2);
            arrived.push(u16::from_be_bytes([buffer[0], buffer[1]]));
        }
        // Back nothing is lost.
        for number in 0..100u16 {
            let bytes = number.to_be_bytes();
            to.send_to(&bytes, (address(1), 9)).unwrap();
        }
        let back = (0..).map_while(|_| from.recv(&mut buffer).ok()).count();
        assert_eq!(back, 100);
        let report = running.end();
        let there = |what: &str| report["a_to_b"][what].as_u64().unwrap();
        // What the kernel said before IPv6 was switched off is on the link's account, too.
        let others = there("frames") - SENT;
        let (lost, doubled) = (there("lost"), there("duplicated"));
        assert!((10..60).contains(&lost) && (3..40).contains(&doubled));
        assert_eq!(there("delivered"), there("frames") - lost + doubled);
        let heard = arrived.len() as u64;
        assert!(heard.abs_diff(SENT - lost + doubled) <= others, "{heard}");
        assert_eq!(report["b_to_a"]["lost"], 0);
        assert!(first.is_some_and(|first| first >= delay), "{first:?}");
    });
}

#[test]
fn super_frames_of_other_devices_cross_as_segments() {
    in_private!(|| {
        let [a, b] = [(); 2].map(|()| Namespace::new().unwrap());
        for (space, near, last) in [(&a, "near1", 1), (&b, "near2", 2)] {
            let veth = link::Veth::new(near, "lab0").far(space);
            if let Err(error) = veth.create() {
                harness::skip(error);
            }
            link::disable_ipv6(near).unwrap();
            link::set_up(near).unwrap();
            let inside = space.run(|| {
                link::add_addr("lab0", address(last), 24).unwrap();
                link::set_up("lab0").unwrap();
            });
            inside.unwrap();
            link::wait_running(near).unwrap();
        }
        let running = Running::start(&["near1", "near2", "--rate=200mbit", "--reorder=1%"]);
        introduce([&a, &b], "lab0");
        let to = SocketAddr::from((address(2), 80));
        let listener = b.run(|| TcpListener::bind(to).unwrap()).unwrap();
        let data: Vec<u8> = (0..2_000_000u32).map(|n| ((n / 251) ^ n) as u8).collect();
        let received = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = Vec::new();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.read_to_end(&mut bytes).unwrap();
                bytes
            });
            let connected = a.run(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap());
            connected.unwrap().write_all(&data).unwrap();
            reader.join().unwrap()
        });
        assert!(received == data, "what arrives is what was sent");
        let report = running.end();
        let there = |what: &str| report["a_to_b"][what].as_u64().unwrap();
        assert!(
            there("bytes") > 2_000_000 && there("held_back") > 0,
            "{report}"
        );
        assert!(
            there("frames") > 1_300,
            "no frame is longer than the MTU: {report}"
        );
    });
}

fn millstream(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(args).output().expect("the program starts")
}

/// A refusal: status 2, one line on standard error.
fn refusal(args: &[&str]) -> String {
    let output = millstream(args);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(
        (output.status.code(), said.lines().count()),
        (Some(2), 1),
        "{said}"
    );
    said.trim_end().to_owned()
}

#[test]
fn an_end_that_is_not_there_is_told_in_one_line() {
    let said = refusal(&["lab", "link", "ms0@no-such-space", "ms1"]);
    assert!(
        said.contains("ms0@no-such-space: cannot open the network namespace")
            && said.contains("`ip netns` lists"),
        "{said}"
    );
    let said = refusal(&["lab", "link", "ms0", "ms0"]);
    assert!(said.contains("give two"), "{said}");
    in_private!(|| {
        let said = refusal(&["lab", "link", "lo", "ms0", "--address-a=10.9.8.1/24"]);
        assert!(said.contains("lo is there already"), "{said}");
    });
}

const SMALL: &str = "\
name = \"small\"\nduration = \"3s\"\n\
[link]\nrate = \"10mbit\"\nrtt = \"20ms\"\nloss = \"1%\"\nreorder = \"2%\"\n\
[[flow]]\nname = \"first & <best>\"\n[[flow]]\nalgorithm = \"reno\"\nstart = \"500ms\"\nbytes = \"100kB\"\n";

#[test]
fn one_seed_is_one_run_to_the_last_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(path("small.toml"), SMALL).expect("the file can be written");
    let run = |output: &str, seed: &str| -> (Value, Vec<(String, Vec<u8>)>) {
        let (file, output) = (path("small.toml"), path(output));
        let args = ["lab", "run", &file, "-o", &output, "--seed", seed, "--json"];
        let done = millstream(&args);
        assert_eq!(
            (done.status.code(), done.stderr.as_slice()),
            (Some(0), &b""[..])
        );
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&output).expect("the folder was made") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            files.push((name, std::fs::read(entry.path()).expect("readable")));
        }
        files.sort();
        (serde_json::from_slice(&done.stdout).expect("JSON"), files)
    };
    let (report, files) = run("one", "7");
    let (again, same) = run("two", "7");
    assert_eq!(report["fingerprint"], again["fingerprint"]);
    assert!(files == same, "the files differ");
    let (other, others) = run("three", "8");
    assert_ne!(report["fingerprint"], other["fingerprint"]);
    assert!(files != others, "another seed, other plots");

    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "cwnd.svg",
        "goodput.svg",
        "in-flight.svg",
        "overview.svg",
        "queue.svg",
        "rtt.svg",
        "samples.csv",
    ];
    assert_eq!(names, expected);
    let overview = String::from_utf8(files[3].1.clone()).expect("UTF-8");
    for words in [
        "first &amp; &lt;best&gt; (cubic)",
        "flow 2 (reno)",
        "congestion window, KiB",
        "in flight, KiB",
        "smoothed round-trip time, ms",
        "goodput (over 30.0 ms), Mbit/s",
        "queue before the link, KiB",
        "time, s",
        "10.0 Mbit/s, queue 64 KiB, round trip 20.0 ms, seed 7",
    ] {
        assert!(overview.contains(&format!("{words}</text>")), "{words}");
    }
    // Two flows in each of four panels, and the queue.
    assert_eq!(overview.matches("<polyline").count(), 9);
    assert_eq!(report["flows"][1]["delivered_bytes"], 100_000);
    assert!(report["flows"][1]["finished_seconds"].is_f64());
}

#[test]
fn a_scenario_is_a_table_on_a_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("small.toml");
    std::fs::write(&file, SMALL).expect("the file can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    let command = command.args(["lab", "run", "./small.toml"]);
    let done = command.current_dir(&folder).output().expect("it starts");
    let out = String::from_utf8(done.stdout).expect("UTF-8");
    assert_eq!(done.status.code(), Some(0), "{out}");
    assert!(out.starts_with("small: 10.0 Mbit/s, queue 64 KiB, round trip 20.0 ms, seed 1\n"));
    for words in [
        "goodput   RTT min / mean / max  mean cwnd",
        "first & <best>  cubic",
        "flow 2          reno",
        " segments sent again\n",
        "Jain's index of fairness 0.",
        "\n7 files in lab-small\n",
    ] {
        assert!(out.contains(words), "{words} is not in {out}");
    }
    assert!(folder.path().join("lab-small/overview.svg").is_file());
}

#[test]
fn a_scenario_that_is_wrong_is_told_to_the_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bad.toml");
    let path = path.to_str().expect("UTF-8");
    std::fs::write(path, "[link]\nrate = \"quick\"\n[[flow]]\n").expect("the file can be written");
    let said = refusal(&["lab", "run", path]);
    assert_eq!(
        said,
        format!(
            "millstream: {path}:2:8: give a rate from 1kbit to 1000gbit, such as 100mbit or 1.5gbit"
        )
    );
    let said = refusal(&["lab", "run", "no-such"]);
    assert!(said.contains("one of two-algorithms, loss,"), "{said}");
    let said = refusal(&["lab", "run", "no/such.toml"]);
    assert!(said.contains("cannot read no/such.toml"), "{said}");
    let said = refusal(&["lab", "run", "loss", "-o", "/proc/nowhere"]);
    assert!(said.contains("cannot write /proc/nowhere"), "{said}");
}

#[test]
fn the_scenarios_there_are_are_told() {
    let done = millstream(&["lab", "run", "--list"]);
    let out = String::from_utf8(done.stdout).expect("UTF-8");
    assert_eq!(out.lines().count(), 7);
    assert!(
        out.contains("reordering        5 % of the frames held back"),
        "{out}"
    );
}
