//! A host of the BSD calls that tools ask, over its socket.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use control::Control;
use interop::alone::sockaddr;
use interop::epoll::{ADD, IN};
use posix::{EpollEvent, Live, accept, bind, connect, epoll_create1, epoll_ctl, listen, socket};
use serde_json::Value;
use tempfile::TempDir;

/// A host that speaks with itself, and its socket.
fn host(folder: &TempDir) -> (Live, PathBuf) {
    let control = Control::open_in(folder.path(), "calls").unwrap();
    let config = stack::Config {
        pool_blocks: 4096,
        ..Default::default()
    };
    let live = Live::start(config, 7, Default::default(), |shard| control.answer(shard));
    let path = folder
        .path()
        .join(format!("calls.{}.sock", std::process::id()));
    (live.unwrap(), path)
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder.path(), closed).unwrap();
    folder
}

struct Asker(BufReader<UnixStream>);

impl Asker {
    fn new(path: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(path).unwrap()))
    }

    /// The answer; nothing once the connection has ended.
    fn ask(&mut self, question: &str) -> Option<Value> {
        writeln!(self.0.get_mut(), "{question}").ok()?;
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(1..) => Some(serde_json::from_str(&line).unwrap()),
            _ => None,
        }
    }
}

#[test]
fn sockets_and_sets_of_a_host_that_runs_are_told() {
    let folder = folder();
    let (live, path) = host(&folder);
    let new = || socket(&mut live.call(), libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let (listener, client) = (new(), new());
    let at = sockaddr("127.0.0.1:80");
    bind(&mut live.call(), listener, &at).unwrap();
    listen(&mut live.call(), listener, 5).unwrap();
    connect(&mut live.call(), client, &at).unwrap();
    let set = epoll_create1(&mut live.call(), 0).unwrap();
    let event = EpollEvent {
        events: IN,
        data: 1,
    };
    epoll_ctl(&mut live.call(), set, ADD, listener, Some(event)).unwrap();

    let mut asker = Asker::new(&path);
    let census = &asker.ask("\"census\"").unwrap()["Ok"]["census"];
    let [one] = &census["listeners"].as_array().unwrap()[..] else {
        panic!("{census}");
    };
    assert_eq!(one["local"], "127.0.0.1:80");
    assert_eq!(
        (&one["queues"]["accept_queue"], &one["queues"]["backlog"]),
        (&1.into(), &5.into())
    );
    let objects = &asker.ask("\"objects\"").unwrap()["Ok"]["objects"];
    let sets = objects["sets"].as_array().unwrap();
    let ours = sets.iter().find(|row| row["number"] == set);
    let ours = ours.unwrap_or_else(|| panic!("{objects}"));
    assert_eq!(ours["kind"], "epoll");
    assert_eq!((&ours["watched"], &ours["ready"]), (&1.into(), &1.into()));
    // What is set is the host's from then on, and calls go on.
    let set = r#"{"set":{"name":"syncookies","value":"2"}}"#;
    assert_eq!(asker.ask(set).unwrap()["Ok"], "done");
    assert!(accept(&mut live.call(), listener, 0).is_ok());

    drop(live);
    assert_eq!(asker.ask("\"census\""), None);
    assert!(!path.exists(), "it goes with the host");
}

/// Nothing turns any more, but the program still has its host.
#[test]
fn after_a_panic_nobody_waits_for_an_answer() {
    let folder = folder();
    let control = Control::open_in(folder.path(), "calls").unwrap();
    let path = folder
        .path()
        .join(format!("calls.{}.sock", std::process::id()));
    let mut handle = None;
    let live = Live::start(stack::Config::default(), 7, Default::default(), |shard| {
        handle = Some(shard.handle());
        control.answer(shard)
    });
    let live = live.unwrap();
    let mut asker = Asker::new(&path);
    assert!(asker.ask("\"settings\"").is_some());
    let broken = handle
        .unwrap()
        .call(|_, _| -> () { panic!("as it was told") });
    assert_eq!(broken.wait(), None);
    assert_eq!(asker.ask("\"settings\""), None);
    let failed = socket(&mut live.call(), libc::AF_INET, libc::SOCK_STREAM, 0);
    assert_eq!(failed, Err(posix::Errno::NETDOWN));
    // What waits in vain would do so here.
    while path.exists() {
        std::thread::yield_now();
    }
}
