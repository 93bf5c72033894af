//! Hosts of programs that are written on the library, looked into from another process: by `millstream ss` and `millstream sysctl`.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::port::ring::{RingOptions, pair};
use millstream::completion::{BufferGroup, Op, QueueOptions};
use millstream::control::Control;
use millstream::{Config, Host, Interest, Poll, TcpStream, Token};
use tempfile::TempDir;

/// The folder of running hosts, as the program is told of it.
const RUNTIME: &str = "MILLSTREAM_RUNTIME_DIR";

/// Runs the program: its status, and what it says.
fn ask(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    for name in ["COLUMNS", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    let output = command.env(RUNTIME, folder).args(args).output();
    let output = output.expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let status = output.status.code().expect("a status");
    (status, text(output.stdout), text(output.stderr))
}

/// What it answers.
fn told(folder: &Path, args: &[&str]) -> String {
    let (status, out, said) = ask(folder, args);
    assert_eq!((status, said.as_str()), (0, ""), "{args:?}");
    out
}

/// Its one line why it does not.
fn refused(folder: &Path, args: &[&str]) -> String {
    let (status, out, said) = ask(folder, args);
    assert_eq!(
        (status, out.as_str(), said.lines().count()),
        (2, "", 1),
        "{args:?}: {said}"
    );
    said
}

/// Asks until the answer is as it will be.
fn until(folder: &Path, args: &[&str], is: impl Fn(&str) -> bool) -> String {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = told(folder, args);
        if is(&answer) {
            return answer;
        }
        assert!(Instant::now() < patience, "{args:?}: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn config() -> Config {
    Config {
        pool_blocks: 4_096,
        tcp_account: true,
        duplicate_detection: false,
        ..Config::default()
    }
}

/// A host of a client's, 10.77.0.1, and a server's, 10.77.0.2, which may be asked.
fn hosts(run: &Path) -> (Host, Host) {
    let macs = [1, 2].map(|n| wire::Mac([2, 0, 0, 0, 0, n]));
    let (near, far) = pair(macs, &RingOptions::default()).expect("memory");
    let client = Host::builder()
        .port(near)
        .address("10.77.0.1/24")
        .config(config());
    let control = Control::open_in(run, "shop").expect("a folder of its own");
    let server = Host::builder()
        .port(far)
        .address("10.77.0.2/24")
        .config(config());
    let server = server.control_with(control).start().expect("a host");
    (client.start().expect("a host"), server)
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    (folder, run)
}

/// A row of a table, by its first words, without the blanks between its cells.
fn row<'a>(table: &'a str, begin: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.starts_with(begin));
    let line = line.unwrap_or_else(|| panic!("{begin:?} in\n{table}"));
    line.split_whitespace().collect()
}

/// Peers of a listener that does not accept, one more than there is room for; the first is taken out before anybody asks.
fn overflowing(client: &Host, run: &Path) -> Vec<TcpStream> {
    let at: SocketAddr = "10.77.0.2:80".parse().expect("an address");
    let connect = || client.tcp_begin_connect(at).expect("begun");
    let there = |n: usize, waiting: &str| {
        until(run, &["ss", "-ta"], |table| {
            let there = table.lines().filter(|line| line.starts_with("ESTAB"));
            there.count() == n && row(table, "LISTEN")[1] == waiting
        });
    };
    let mut peers = vec![connect()];
    there(1, "0");
    peers.extend([connect(), connect()]);
    there(3, "2");
    peers.push(connect());
    peers
}

#[test]
fn a_program_with_a_poll_and_a_completion_queue_is_looked_into() {
    let (_folder, run) = folder();
    let (client, server) = hosts(&run);
    let listener = server
        .tcp_listen_backlog("10.77.0.2:80", 1)
        .expect("nobody else");
    let poll = Poll::new().expect("a set");
    let registry = poll.registry();
    registry
        .register(&listener, Token(0), Interest::READABLE)
        .expect("registered");
    let options = QueueOptions {
        capacity: 16,
        workers: 2,
    };
    let queue = server.completion_queue(options).expect("a queue");
    queue
        .submit(Op::timeout(Duration::from_secs(3600)))
        .expect("submitted");
    let _group = BufferGroup::new(4, 512);

    let well = told(&run, &["ss", "--explain"]);
    assert!(well.starts_with("shop: nothing to explain; of "), "{well}");
    let _peers = overflowing(&client, &run);

    let full = |table: &str| table.contains("\n    syn_queue:0 overflows:");
    let table = until(&run, &["ss", "-lti"], full);
    assert_eq!(
        row(&table, "LISTEN"),
        ["LISTEN", "2", "1", "10.77.0.2:80", "0.0.0.0:*"]
    );
    let ready = |table: &str| {
        table
            .lines()
            .nth(1)
            .is_some_and(|row| row.split_whitespace().nth(3) == Some("1"))
    };
    let sets = until(&run, &["ss", "--epoll"], ready);
    assert_eq!(row(&sets, "poll")[2..], ["1", "1", "0"], "{sets}");
    let queues = told(&run, &["ss", "--completion"]);
    assert_eq!(
        row(&queues, "queue 1")[2..],
        ["1", "0", "16", "0", "0/2"],
        "{queues}"
    );
    assert_eq!(
        row(&queues, "group 1")[2..],
        ["4", "4", "512", "B"],
        "{queues}"
    );
    let buffers = told(&run, &["ss", "--buffers"]);
    assert_eq!(
        row(&buffers, "blocks")[1..],
        ["4,096", "8", "MiB"],
        "{buffers}"
    );

    says_what_is_amiss(&run);
    let set = "net.ipv4.tcp_syncookies = 2\n";
    let tune = ["sysctl", "--host", "shop", "syncookies=2"];
    assert_eq!(told(&run, &tune), set);
    assert!(refused(&run, &["sysctl", "syncookies=3"]).contains("must be from 0 to 2"));

    server.stop().expect("it ran");
    let none = "no Millstream host of this user runs that can be asked";
    assert!(refused(&run, &["ss"]).contains(none));
    assert_eq!(std::fs::read_dir(&run).expect("the folder").count(), 0);
}

/// Which program, which of its applications, what, and what to do.
fn says_what_is_amiss(run: &Path) {
    let amiss = told(run, &["ss", "--explain"]);
    let begins = amiss.starts_with("shop  ") && amiss.contains(": one thing to look at\n");
    assert!(begins, "{amiss}");
    for part in [
        "\n!! accept queue  10.77.0.2:80  2 of 2 wait",
        "   do     Call accept until it would block",
    ] {
        assert!(amiss.contains(part), "{part:?} in\n{amiss}");
    }
    let list = told(run, &["ss", "-ta", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["host"], "shop");
}

#[test]
fn a_program_of_bsd_calls_is_looked_into() {
    use posix::{EpollEvent, Live, bind, connect, epoll_create1, epoll_ctl, listen, socket};
    let (_folder, run) = folder();
    let control = Control::open_in(&run, "calls").expect("a folder of its own");
    let options = Default::default();
    let live = Live::start(config(), 7, options, |shard| control.answer(shard)).expect("a host");
    let mut at = [0; 16];
    posix::write(&"127.0.0.1:80".parse().expect("an address"), false, &mut at);
    const INET_STREAM: (i32, i32) = (2, 1); // AF_INET, SOCK_STREAM
    let new = || socket(&mut live.call(), INET_STREAM.0, INET_STREAM.1, 0).expect("a socket");
    let (listener, client) = (new(), new());
    bind(&mut live.call(), listener, &at).expect("bound");
    listen(&mut live.call(), listener, 0).expect("listens");
    connect(&mut live.call(), client, &at).expect("connected");
    let set = epoll_create1(&mut live.call(), 0).expect("a set");
    let event = EpollEvent { events: 1, data: 7 }; // EPOLLIN
    epoll_ctl(&mut live.call(), set, 1, listener, Some(event)).expect("added"); // EPOLL_CTL_ADD

    let table = told(&run, &["ss", "-lt"]);
    assert_eq!(
        row(&table, "LISTEN"),
        ["LISTEN", "1", "0", "127.0.0.1:80", "0.0.0.0:*"]
    );
    let sets = told(&run, &["ss", "--epoll"]);
    assert_eq!(
        row(&sets, &format!("epoll {set}"))[2..],
        ["1", "1", "0"],
        "{sets}"
    );
    let amiss = told(&run, &["ss", "--explain"]);
    assert!(
        amiss.contains("\n!! accept queue  127.0.0.1:80  1 of 1 wait"),
        "{amiss}"
    );
    drop(live);
    assert!(refused(&run, &["ss"]).contains("no Millstream host"));
}

/// What the other process of the next test does: a host by one call, in the folder that the environment names.
#[test]
fn as_another_process() {
    if std::env::var_os("MILLSTREAM_TEST_HOST").is_none() {
        return;
    }
    let host = Host::builder().control("web").start().expect("a host");
    let _listener = host.tcp_listen("0.0.0.0:80").expect("nobody else");
    println!("it runs");
    let _ = std::io::stdin().read(&mut [0]);
}

/// A process with a host, which is killed if it is still there.
struct Other(Child);

impl Other {
    fn start(run: &Path) -> Self {
        let itself = std::env::current_exe().expect("this test");
        let mut command = Command::new(itself);
        command.args(["--exact", "as_another_process", "--nocapture"]);
        command.env("MILLSTREAM_TEST_HOST", "1").env(RUNTIME, run);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut this = Self(command.spawn().expect("it starts"));
        let out = this.0.stdout.take().expect("piped");
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        assert!(
            lines.any(|line| line.contains("it runs")),
            "the host starts"
        );
        this
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn two_hosts_of_one_name_and_one_that_was_killed() {
    let (_folder, run) = folder();
    let (first, mut second) = (Other::start(&run), Other::start(&run));
    let (one, two) = (first.0.id(), second.0.id());
    let said = refused(&run, &["ss", "--host", "web"]);
    assert!(
        said.contains("several hosts are called web: web ("),
        "{said}"
    );
    assert!(
        said.contains("; choose one by its name and its process, as in --host web."),
        "{said}"
    );
    for host in [format!("web.{one}"), two.to_string()] {
        let list = told(&run, &["ss", "-lt", "--host", &host]);
        assert!(list.contains("0.0.0.0:80"), "{list}");
    }
    second.kill();
    // What it left is in nobody's way, and swept away.
    assert!(told(&run, &["ss", "-lt", "--host", "web"]).contains("0.0.0.0:80"));
    assert_eq!(std::fs::read_dir(&run).expect("the folder").count(), 1);
}

#[test]
fn a_folder_that_others_may_enter_is_used_by_nobody() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, run) = folder();
    std::fs::create_dir(&run).expect("made");
    std::fs::set_permissions(&run, PermissionsExt::from_mode(0o750)).expect("opened");
    let why = "is not safe: others may enter it; `chmod 700` closes it; remove it, or set MILLSTREAM_RUNTIME_DIR";
    let said = Control::open_in(&run, "shop")
        .expect_err("not safe")
        .to_string();
    assert!(said.contains(why), "{said}");
    let said = refused(&run, &["ss"]);
    assert!(said.contains(why), "{said}");
}
