//! Programs everybody knows, run by tests.
//!
//! A program that is not installed is named on standard error and its test passes; with `MILLSTREAM_REQUIRE_PROGRAMS`
//! in the environment it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use netns::harness;

/// Makes a missing program a failure.
const REQUIRE: &str = "MILLSTREAM_REQUIRE_PROGRAMS";

/// Where a program is; ends the test as skipped if it is nowhere.
pub fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| {
        let line = format!("{name} is not installed: apt-get install {package}");
        assert!(std::env::var_os(REQUIRE).is_none(), "{line}");
        harness::skip(line)
    })
}

/// Runs a program to its end.
fn run(program: &Path, arguments: &[&str]) -> Output {
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = started.wait_with_output().unwrap();
    println!("{} {}", program.display(), arguments.join(" "));
    for stream in [&output.stdout, &output.stderr] {
        println!(
            "{}",
            String::from_utf8_lossy(&stream[..stream.len().min(4000)])
        );
    }
    output
}

/// Runs a program that must succeed; gives what it printed.
pub fn succeed(program: &Path, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Has wrk ask for a page over this many connections, which are kept: each is answered, and none fails.
pub fn wrk(wrk: &Path, connections: &str, url: &str) {
    let text = succeed(wrk, &["-t", "1", "-c", connections, "-d", "1s", url]);
    assert!(!text.contains("Socket errors"), "{text}");
    assert!(!text.contains("Non-2xx"), "{text}");
    let requests: u64 = text
        .lines()
        .find_map(|line| line.trim().split_once(" requests in"))
        .map(|(n, _)| n.parse().unwrap())
        .unwrap();
    assert!(requests > 100, "{text}");
}

/// A folder of a test's own, gone with it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let folder = format!("millstream-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// One that may be there already.
    #[must_use]
    pub fn of(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
