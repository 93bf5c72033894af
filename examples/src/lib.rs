//! Small servers and clients on a Millstream host.
//!
//! Each example serves on a TAP device. Without arguments it makes itself a private network namespace (no root needed) with
//! a new device in it, the kernel at 10.77.0.1 and Millstream at 10.77.0.2, pays itself one visit from the kernel's side,
//! and serves until it is interrupted. A user who may not open TAP devices gets a packet socket on a veth pair instead. `--once` ends
//! after the visit; `--tap NAME` uses a device that is there already; `--shards N` runs the host in N threads, each with a queue of the
//! TAP; with `--ask NAME` `millstream ss --host NAME` and `millstream sysctl` look into it meanwhile.
//!
//! What does not live here: anything a program of your own would need; that is all in `src/bin`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;

use millstream::port::packet::{PacketOptions, PacketSocket};
use millstream::port::tap::{Tap, TapOptions};
use millstream::{Builder, Config, Host};
use netns::{Namespace, link};

/// Where the kernel is in a namespace of the example's own, and where Millstream is.
pub const KERNEL: &str = "10.77.0.1";
/// See [`KERNEL`].
pub const MILLSTREAM: &str = "10.77.0.2";

/// What the command line asked for.
#[derive(Debug)]
pub struct Stage {
    once: bool,
    own: bool,
    /// The namespace came with a user namespace of its own.
    own_user: bool,
    /// By which name tools may ask the host.
    asked: Option<String>,
    /// Which of the example's own flags were given.
    flags: Vec<String>,
}

/// Reads the command line and prepares a host on a TAP device. Call it first in `main`: a namespace can only be entered
/// while there is one thread.
///
/// # Errors
/// A command line that cannot be read; no TAP device, or no namespaces, to be had. One line, with a remedy.
pub fn stage() -> Result<(Stage, Builder), Box<dyn Error>> {
    stage_with(&[])
}

fn stage_with(flags: &[&str]) -> Result<(Stage, Builder), Box<dyn Error>> {
    let mut stage = Stage {
        once: false,
        own: true,
        own_user: false,
        asked: None,
        flags: Vec::new(),
    };
    let mut device = "mill0".to_owned();
    let mut shards = 1;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--once" => stage.once = true,
            "--tap" => {
                device = arguments.next().ok_or("--tap needs the name of a device")?;
                stage.own = false;
            }
            "--shards" => {
                let number = arguments.next().and_then(|n| n.parse().ok());
                shards = number.ok_or("--shards needs a number")?;
            }
            "--ask" => {
                let name = arguments.next().ok_or("--ask needs a name for the host")?;
                stage.asked = Some(name);
            }
            other if flags.contains(&other) => stage.flags.push(argument),
            other => {
                return Err(format!(
                    "'{other}' is not an argument: there are --once, --tap NAME, --shards N and --ask NAME"
                )
                .into());
            }
        }
    }
    let mut host = Host::builder().shards(usize::from(shards));
    if let Some(name) = &stage.asked {
        // Before the process enters a namespace, where it may be somebody else.
        host = host.control(name);
    }
    if stage.own {
        let user = || std::fs::read_link("/proc/self/ns/user").ok();
        let before = user();
        netns::enter_private()?;
        stage.own_user = user() != before;
    }
    let host = match Tap::queues(&device, shards, &TapOptions::default()) {
        Ok(taps) => host.queues(taps),
        Err(error) if stage.own && error.is_unavailable() => {
            eprintln!("a packet socket instead of a TAP device: {error}");
            host.port(packet_socket(&device)?)
        }
        Err(error) => return Err(error.into()),
    };
    if stage.own {
        link::add_addr(&device, KERNEL.parse()?, 24)?;
        link::set_up(&device)?;
    }
    // Nobody else is on this cable: no need to ask it whether the address is free.
    let config = Config {
        duplicate_detection: false,
        // What each connection has done, for who asks: 132 bytes of it.
        tcp_account: stage.asked.is_some(),
        ..Config::default()
    };
    Ok((
        stage,
        host.config(config).address(format!("{MILLSTREAM}/24")),
    ))
}

/// A packet socket at the far end of a new cable to the kernel's `device`. That end has a namespace of its own, where the kernel does not
/// answer as well; the socket keeps it.
fn packet_socket(device: &str) -> Result<PacketSocket, Box<dyn Error>> {
    const FAR: &str = "mill1";
    let far = Namespace::new()?;
    link::Veth::new(device, FAR).far(&far).create()?;
    let options = PacketOptions {
        promiscuous: true,
        ..PacketOptions::default()
    };
    far.run(|| link::set_up(FAR))??;
    Ok(far.run(|| PacketSocket::new(FAR, &options))??)
}

/// Runs an example; what goes wrong is one line on standard error.
pub fn run(example: impl FnOnce() -> Result<(), Box<dyn Error>>) -> ExitCode {
    match example() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs an example on tokio, with its host as the default one: `bind` and `connect` are on that.
pub fn run_async(serve: impl AsyncFnOnce(Stage) -> Result<(), Box<dyn Error>>) -> ExitCode {
    run_async_with(&[], serve)
}

/// As [`run_async`], for an example that knows these flags besides.
pub fn run_async_with(
    flags: &[&str],
    serve: impl AsyncFnOnce(Stage) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    run(|| {
        let (stage, host) = stage_with(flags)?;
        // Threads, and with them tokio's runtime, only after the stage is set.
        let host = host.start()?;
        host.make_default();
        tokio::runtime::Runtime::new()?.block_on(serve(stage))
    })
}

/// A visitor who says this, and hears what is said until the server ends.
pub fn says(what: &'static str) -> impl FnOnce(TcpStream) -> io::Result<String> {
    move |mut stream| {
        stream.write_all(what.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Stage {
    /// Whether a flag of the example's own was given.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    /// Whether the kernel's side is a namespace of the example's own, in which it may do as it likes.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// Pays the server a visit by TCP from the kernel's side in a thread of its own, says how others can come, and with `--once`
    /// ends the process afterwards.
    pub fn visit(
        self,
        port: u16,
        visit: impl FnOnce(TcpStream) -> io::Result<String> + Send + 'static,
    ) {
        self.call(port, move || {
            TcpStream::connect((MILLSTREAM, port)).and_then(visit)
        });
    }

    /// As [`Stage::visit`], by any protocol.
    pub fn call(self, port: u16, call: impl FnOnce() -> io::Result<String> + Send + 'static) {
        println!("serving on {MILLSTREAM}:{port}; Ctrl-C ends it");
        if let Some(name) = &self.asked {
            println!("look into it with: millstream ss --host {name} -tia (or --explain)");
        }
        if !self.own {
            return;
        }
        let pid = std::process::id();
        let user = if self.own_user {
            "--user --preserve-credentials "
        } else {
            ""
        };
        println!("come in with: nsenter --target {pid} {user}--net COMMAND");
        std::thread::spawn(move || {
            let seen = call();
            match &seen {
                Ok(answer) => println!("a visitor from the kernel's side was told: {answer}"),
                Err(error) => eprintln!("a visitor from the kernel's side failed: {error}"),
            }
            if self.once {
                std::process::exit(i32::from(seen.is_err()));
            }
        });
    }
}
