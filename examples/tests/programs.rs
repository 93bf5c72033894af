//! Examples as their users meet them: asked by curl, wrk and openssl over the kernel's stack, and by streams longer than any buffer.
//!
//! The first visit to each example, its own, does not live here: that is `once`.
#![allow(clippy::unwrap_used)]

use std::io::{self, BufRead, BufReader, Lines, PipeReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use interop::program::{self, Scratch, program, succeed};
use interop::{Pattern, kernel};
use netns::{Namespace, harness, in_private};
use sha2::{Digest, Sha256};

const LIMIT: Duration = Duration::from_secs(180);

/// An example that serves, in a namespace of its own, until it is dropped.
struct Example {
    process: Child,
    says: Lines<BufReader<PipeReader>>,
    /// The kernel's side.
    kernel: Namespace,
}

impl Example {
    /// Starts it and waits until its own visitor was there. Where it gets no namespace or no device the test is skipped.
    fn start(program: &str, flags: &[&str]) -> Self {
        println!("{program} {}", flags.join(" "));
        let (reader, writer) = io::pipe().unwrap();
        let process = Command::new(program)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .spawn()
            .unwrap();
        let mut says = BufReader::new(reader).lines();
        let mut first = says.by_ref().map(Result::unwrap);
        if !first.any(|line| {
            println!("{line}");
            line.starts_with("serving on")
        }) {
            harness::skip("the example found no namespace or no device; why is above");
        }
        let mut example = Self {
            kernel: Namespace::open(&process.id().to_string()).unwrap(),
            process,
            says,
        };
        example.says("was told: ");
        example
    }

    /// Waits for a line with these words; one that tells of an error comes before it only where something went wrong.
    fn says(&mut self, words: &str) -> String {
        for line in self.says.by_ref().map(Result::unwrap) {
            println!("{line}");
            assert!(!line.contains("os error"), "instead of {words:?}: {line}");
            if line.contains(words) {
                return line;
            }
        }
        panic!("it ended without saying {words:?}")
    }

    /// Does something on the kernel's side.
    fn visit<T: Send>(&self, visit: impl FnOnce() -> T + Send) -> T {
        self.kernel.run(visit).unwrap()
    }

    /// A connection of the kernel's to it.
    fn connect(&self, port: u16) -> TcpStream {
        let to = SocketAddr::new(examples::MILLSTREAM.parse().unwrap(), port);
        self.visit(|| kernel::connect(to))
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `/bytes/{len}` of the example.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| ((n / 7) ^ n) as u8).collect()
}

fn url(path: &str) -> String {
    format!("http://{}/{path}", examples::MILLSTREAM)
}

/// Whole bodies both ways: long ones, many at once, several on one connection.
fn curl_asks(curl: &Path, scratch: &Scratch) {
    let curl = |more: &[&str]| succeed(curl, &[&["-sS", "--fail"], more].concat());
    let (up, down) = (scratch.file("up"), scratch.file("down"));
    assert_eq!(curl(&[&url("")]), "hello from user space\n");
    for len in [0, 1, 100_000, 100_000_000] {
        curl(&["-o", &down, &url(&format!("bytes/{len}"))]);
        assert!(
            std::fs::read(&down).unwrap() == bytes(len),
            "{len} bytes are others"
        );
    }
    let body = Pattern(80).bytes(20_000_000);
    std::fs::write(&up, &body).unwrap();
    let digest = Sha256::digest(&body);
    let file = format!("@{up}");
    // Without asking first: what comes back does so before all is sent.
    let post = ["-H", "Expect:", "--data-binary", &file];
    curl(&[&post[..], &["-o", &down, &url("echo")]].concat());
    assert!(Sha256::digest(std::fs::read(&down).unwrap()) == digest);
    let each = scratch.file("part-#1");
    let many = ["-Z", "--parallel-max", "50", "-o", &each];
    curl(&[&many[..], &[&url("bytes/[10000-10049]")]].concat());
    for n in 10_000..10_050 {
        let got = std::fs::read(scratch.file(&format!("part-{n}"))).unwrap();
        assert!(got == bytes(n), "part {n} is wrong");
    }
    std::fs::write(&up, &body[..200_000]).unwrap();
    curl(&[&many[..], &post, &[&url("echo?[1-50]")]].concat());
    for n in 1..=50 {
        let got = std::fs::read(scratch.file(&format!("part-{n}"))).unwrap();
        assert!(got == body[..200_000], "echo {n} is wrong");
    }
    let one = url("bytes/10000");
    let connects = ["-o", &down, "-o", &down, "-w", "%{num_connects} "];
    assert_eq!(curl(&[&connects[..], &[&one, &one]].concat()), "1 0 ");
}

#[test]
fn axum_serves_curl_and_wrk() {
    in_private!(LIMIT, || {
        let (curl, wrk) = (program("curl", "curl"), program("wrk", "wrk"));
        let scratch = Scratch::new("axum");
        for flags in [&[][..], &["--shards", "2"]] {
            let axum = Example::start(env!("CARGO_BIN_EXE_hello_axum"), flags);
            axum.visit(|| {
                curl_asks(&curl, &scratch);
                for path in ["", "bytes/100000"] {
                    program::wrk(&wrk, "100", &url(path));
                }
            });
        }
    });
}

#[test]
fn rustls_serves_openssl() {
    in_private!(LIMIT, || {
        let openssl = program("openssl", "openssl");
        let said = b"hello from the other library\n".repeat(100_000);
        let server = Example::start(env!("CARGO_BIN_EXE_tls_server"), &[]);
        let to = format!("{}:443", examples::MILLSTREAM);
        for version in ["-tls1_2", "-tls1_3"] {
            let arguments = ["s_client", "-quiet", version, "-connect", &to];
            let start = || {
                Command::new(&openssl)
                    .args(arguments)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
            };
            let mut client = server.visit(start).unwrap();
            let mut input = client.stdin.take().unwrap();
            let mut heard = vec![0; said.len()];
            thread::scope(|s| {
                s.spawn(|| input.write_all(&said).unwrap());
                let mut output = client.stdout.take().unwrap();
                output.read_exact(&mut heard).unwrap();
            });
            assert!(heard == said.to_ascii_uppercase(), "{version}");
            client.kill().unwrap();
            client.wait().unwrap();
        }
    });
}

/// Sends so many bytes, which come back: their digests.
fn there_and_back(stream: &TcpStream, len: u64) {
    const PART: usize = 1 << 16;
    let mut sent = Sha256::new();
    let mut came = Sha256::new();
    thread::scope(|s| {
        s.spawn(|| {
            let mut part = vec![0; PART];
            let mut at = 0;
            while at < len {
                let n = PART.min((len - at) as usize);
                Pattern(7).fill(at, &mut part[..n]);
                (&*stream).write_all(&part[..n]).unwrap();
                sent.update(&part[..n]);
                at += n as u64;
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut part = vec![0; PART];
        let mut n = 0;
        loop {
            match (&*stream).read(&mut part).unwrap() {
                0 => break,
                got => {
                    came.update(&part[..got]);
                    n += got as u64;
                }
            }
        }
        assert_eq!(n, len);
    });
    let digests = [sent, came].map(Sha256::finalize);
    assert!(digests[0] == digests[1]);
}

/// The number in front of these words.
fn number(line: &str, words: &str) -> u64 {
    let before = line.split(words).next().unwrap();
    before.split_whitespace().last().unwrap().parse().unwrap()
}

/// A line of /proc/PID/status, KiB.
fn status(example: &Example, name: &str) -> u64 {
    let status = format!("/proc/{}/status", example.process.id());
    let text = std::fs::read_to_string(status).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let mut words = line.unwrap().split_whitespace().skip(1);
    words.next().unwrap().parse().unwrap()
}

/// 64 MiB in every run; as many as wanted by `SPLICE_MIB`.
#[test]
fn a_long_stream_goes_through_the_proxy_and_back() {
    let wanted = std::env::var("SPLICE_MIB").ok();
    let mib: u64 = wanted.map_or(64, |n| n.parse().expect("SPLICE_MIB is a number"));
    in_private!(LIMIT + Duration::from_secs(mib), || {
        for flags in [&["--splice"][..], &["--splice", "--shards", "2"]] {
            let mut proxy = Example::start(env!("CARGO_BIN_EXE_proxy"), flags);
            for mib in [64, mib] {
                let stream = proxy.connect(8000);
                there_and_back(&stream, mib << 20);
                let line = proxy.says(&format!(" {} bytes there, {0} back", mib << 20));
                let program = ["VmHWM", "VmRSS"].map(|name| status(&proxy, name));
                println!("{mib} MiB: {line}; all of the program, KiB: {program:?}");
                // What the connections' windows and buffers hold at most, whatever goes through.
                assert!(number(&line, " KiB of packet memory in use") < 4 << 10);
                assert!(number(&line, " KiB at most") < 48 << 10);
                assert!(program[0] < 96 << 10);
            }
        }
    });
}

/// Of connections of several shards, most have to be moved before they can be joined.
#[test]
fn a_proxy_of_several_shards_joins_all_who_come() {
    in_private!(LIMIT, || {
        let flags = ["--splice", "--shards", "3"];
        let proxy = Example::start(env!("CARGO_BIN_EXE_proxy"), &flags);
        let streams: Vec<_> = (0..32).map(|_| proxy.connect(8000)).collect();
        for stream in &streams {
            there_and_back(stream, 100_000);
        }
    });
}
