//! Tests that need a network of their own, run from the threaded test process cargo makes.
//!
//! A namespace can only be entered before the first thread, and cargo's test process has many. So the test starts its
//! own program again, in a new namespace, asking for itself by name; the second copy sees a mark in its environment
//! and runs the body, the first forwards its output and judges its exit.
//!
//! ```
//! // in any test:
//! fn the_loopback_is_up() {
//!     netns::in_private!(|| {
//!         assert!(netns::link::facts("lo").unwrap().up);
//!     });
//! }
//! ```
//!
//! Invariant: the child and what it started are gone when [`run`] returns: it leads a process group that is killed
//! before it is reaped, and it dies with the thread that waits for it.
//! Invariant: a body that was never reached is a failure, not a success.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::space::{Plan, refused};
use crate::{Error, link};

/// How long a test may take if it does not say.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Set in the environment by whoever wants a test without its namespace to fail rather than to be skipped (CI).
pub const REQUIRE: &str = "MILLSTREAM_REQUIRE_NETNS";

/// The mark by which the second copy knows itself: the name of its test.
const MARK: &str = "MILLSTREAM_PRIVATE_TEST";
/// Exit of a body that ran to its end.
const PASSED: i32 = 86;
/// Exit of a body that called [`skip`].
const SKIPPED: i32 = 87;
/// What stands before the reason of a skip in the child's output.
const SKIP_WORD: &str = "unavailable: ";
/// A grandchild may hold the output open; nobody waits for it longer than this after the child's end.
const OUTPUT_MAX: usize = 1 << 20;

/// How a test in a private namespace went. A failure panics instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The body ran to its end.
    Passed,
    /// The machine does not offer what the test needs; one line with a remedy.
    Unavailable(String),
}

/// Runs the body of the current `#[test]` function in a private namespace: `in_private!(|| { ... })`, or with a time
/// limit first: `in_private!(Duration::from_secs(300), || { ... })`. Panics if the body does. If the machine forbids
/// namespaces it says so on standard error and passes, unless [`harness::REQUIRE`](crate::harness::REQUIRE) is set.
#[macro_export]
macro_rules! in_private {
    ($limit:expr, $body:expr $(,)?) => {{
        fn here() {}
        let name = $crate::harness::enclosing_name(::core::any::type_name_of_val(&here));
        $crate::harness::settle(name, $crate::harness::run(name, $limit, $body))
    }};
    ($body:expr $(,)?) => {
        $crate::in_private!($crate::harness::LIMIT, $body)
    };
}

/// From the full name of a function inside a test function to the test's name as libtest has it: without the crate in
/// front and without the inner function behind.
#[doc(hidden)]
#[must_use]
pub fn enclosing_name(inner: &'static str) -> &'static str {
    let outer = inner.rsplit_once("::").map_or(inner, |(outer, _)| outer);
    let outer = outer.trim_end_matches("::{{closure}}");
    outer.split_once("::").map_or(outer, |(_, name)| name)
}

/// What [`in_private!`](crate::in_private) does with an outcome.
///
/// # Panics
/// When the test could not run, and the environment says that it must.
#[doc(hidden)]
pub fn settle(test: &str, outcome: Outcome) {
    if let Outcome::Unavailable(reason) = outcome {
        assert!(std::env::var_os(REQUIRE).is_none(), "{test}: {reason}");
        // Not eprintln: libtest would swallow it, and a skipped test must be seen.
        let _ = writeln!(std::io::stderr(), "skipped {test}: {reason}");
    }
}

/// Called by a body that finds something missing: ends the test as [`Outcome::Unavailable`] with this reason.
pub fn skip(reason: impl fmt::Display) -> ! {
    println!("\n{SKIP_WORD}{}", reason.to_string().replace('\n', " "));
    let _ = std::io::stdout().flush();
    std::process::exit(SKIPPED)
}

/// Runs `body` in a private namespace in a child process. `test` is the calling test's full name as libtest has it
/// (`module::function`); the call must be reached again when that test is run alone.
///
/// # Panics
/// When the body panics, exceeds `limit` (it is killed), or is not reached (the name is wrong).
pub fn run(test: &str, limit: Duration, body: impl FnOnce()) -> Outcome {
    if std::env::var_os(MARK).is_some_and(|name| name == *test) {
        in_child(body);
    }
    let mut output = Vec::new();
    match start(test).and_then(|child| child.wait(limit, &mut output)) {
        Ok(Exit::Code(PASSED)) => Outcome::Passed,
        Ok(Exit::Code(SKIPPED)) => Outcome::Unavailable(reason_of_skip(&output)),
        Ok(Exit::Code(0)) => panic!("{test}: the child ran no test of that name"),
        Ok(Exit::Code(code)) => panic!("{test}: failed in its private namespace (exit {code})"),
        Ok(Exit::Signal(signal)) => {
            panic!("{test}: ended by signal {signal} in its private namespace")
        }
        Ok(Exit::TooLong) => panic!("{test}: killed after {} s", limit.as_secs()),
        Err(e) if e.is_unavailable() => Outcome::Unavailable(e.to_string()),
        Err(e) => panic!("{test}: {e}"),
    }
}

/// The second copy: run the body and say by the exit that it was reached.
fn in_child(body: impl FnOnce()) -> ! {
    // Forgotten at exec when the credentials change, so once more; and the parent may be gone already.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(e) = link::set_up("lo") {
        panic!("{e}");
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    let _ = std::io::stdout().flush();
    std::process::exit(if result.is_ok() { PASSED } else { 101 })
}

fn reason_of_skip(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let reason = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(SKIP_WORD));
    reason.unwrap_or("the test gave no reason").to_owned()
}

enum Exit {
    Code(i32),
    Signal(i32),
    TooLong,
}

/// A started copy. Dropping it kills and reaps it.
struct Child {
    process: std::process::Child,
    pid: Pid,
    output: File,
}

fn start(test: &str) -> Result<Child, Error> {
    let failed = |what: &str, e: &std::io::Error| Error::failed(what, e);
    let program =
        std::env::current_exe().map_err(|e| failed("cannot find the test program", &e))?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| failed("cannot make a pipe", &e.into()))?;
    let nonblocking = rustix::fs::OFlags::NONBLOCK;
    rustix::fs::fcntl_setfl(&reader, nonblocking)
        .map_err(|e| failed("cannot set up a pipe", &e.into()))?;
    let second = writer
        .try_clone()
        .map_err(|e| failed("cannot copy a pipe", &e))?;
    let plan = Plan::new();
    let parent = rustix::process::getpid();
    let mut command = Command::new(program);
    command
        .args([
            test,
            "--exact",
            "--nocapture",
            "--include-ignored",
            "--test-threads=1",
        ])
        .env(MARK, OsString::from(test))
        .env("RUST_TEST_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(second)
        .process_group(0);
    // SAFETY: between fork and exec the closure only makes system calls; the plan's strings were made before.
    unsafe {
        command.pre_exec(move || {
            plan.carry_out()?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // A parent that died before the line above sends no signal.
            if rustix::process::getppid() != Some(parent) {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
    let process = command.spawn().map_err(|e| match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EINVAL | libc::EUSERS) => {
            refused(&e)
        }
        _ => failed("cannot start the test program again", &e),
    })?;
    let pid = Pid::from_child(&process);
    Ok(Child {
        process,
        pid,
        output: File::from(reader),
    })
}

impl Child {
    /// Forwards output until the child ends or the time is up.
    fn wait(mut self, limit: Duration, output: &mut Vec<u8>) -> Result<Exit, Error> {
        let failed = |what: &str, e: rustix::io::Errno| Error::failed(what, &e.into());
        let handle = rustix::process::pidfd_open(self.pid, PidfdFlags::empty())
            .map_err(|e| failed("cannot open a pidfd (Linux before 5.3?)", e))?;
        let deadline = Instant::now() + limit;
        let mut open = true;
        let ended = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break false;
            }
            let mut fds = [
                PollFd::new(&handle, PollFlags::IN),
                PollFd::from_borrowed_fd(self.output.as_fd(), PollFlags::IN),
            ];
            let watched = if open { &mut fds[..] } else { &mut fds[..1] };
            let timeout = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            match rustix::event::poll(watched, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(failed("cannot wait for the test", e)),
            }
            let ended = !fds[0].revents().is_empty();
            open = open && forward(&mut self.output, output);
            if ended {
                break true;
            }
        };
        self.end();
        forward(&mut self.output, output);
        let status = self
            .process
            .wait()
            .map_err(|e| Error::failed("cannot reap the test", &e))?;
        Ok(match (ended, status.code()) {
            (false, _) => Exit::TooLong,
            (true, Some(code)) => Exit::Code(code),
            (true, None) => {
                Exit::Signal(std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0))
            }
        })
    }

    /// Kills the child and all of its group that is left. Its number cannot have been given to another process: the
    /// child has not been reaped.
    fn end(&mut self) {
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        let gone = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) =
            rustix::process::waitid(WaitId::Pid(self.pid), gone)
        {}
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.end();
            let _ = self.process.wait();
        }
    }
}

/// Prints what there is to read (through libtest's capture), keeps the end of it; false when there will be no more.
fn forward(from: &mut File, kept: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => {
                print!("{}", String::from_utf8_lossy(&buffer[..n]));
                kept.extend_from_slice(&buffer[..n]);
                if kept.len() > OUTPUT_MAX {
                    kept.drain(..OUTPUT_MAX / 2);
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return e.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_libtest() {
        assert_eq!(
            enclosing_name("port::tap::tests::comes_up::here"),
            "tap::tests::comes_up"
        );
        assert_eq!(enclosing_name("interop::ping::here"), "ping");
        assert_eq!(enclosing_name("interop::ping::{{closure}}::here"), "ping");
    }
}
