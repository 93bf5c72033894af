//! `millstream up`: a host as a configuration file says, until it is told to end.
//!
//! What does not live here: reading the file (`config`), devices (`network`), the stack (`serve`).
//!
//! Invariant: everything that can be checked without changing anything is checked before anything is changed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::args;
use crate::ask;
use crate::config::{self, Config, PortKind, Serve, ServeKind};
use crate::failure::Failure;
use crate::http::{self, files, live::Live};
use crate::network;
use crate::serve::{Plan, PlannedPort, Stack};
use crate::services::{serve_datagrams, serve_streams};
use crate::stop::Stop;
use crate::watch::Watch;

/// How long connections may take to end when the host does.
const FAREWELL: Duration = Duration::from_millis(500);

/// How often the devices are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Runs the host, or only checks its file.
///
/// # Errors
/// What is wrong with the file, or what the machine refuses.
pub(crate) fn run(args: &args::Up) -> Result<ExitCode, Failure> {
    let config = read(&args.config)?;
    let routers = folders(&config)?;
    captures(&config)?;
    if args.check {
        print!("{}", describe(&args.config, &config));
        return Ok(ExitCode::SUCCESS);
    }
    let mut ports = Vec::new();
    for port in &config.ports {
        let link = network::configured(port, config.shards)?;
        ports.push(PlannedPort {
            port: link.port,
            queues: link.queues,
            kind: link.kind,
            addresses: port.addresses.clone(),
            gateways: port.gateways.clone(),
            routes: port.routes.clone(),
        });
    }
    print!("{}", describe(&args.config, &config));
    println!("Looking whether the addresses are free on the link, some seconds.");
    let services = config.serves.iter().map(service_line).collect();
    let control = ask::open_or_tell(&config.name);
    let stack = Stack::start(Plan {
        name: config.name.clone(),
        control,
        alone: false,
        tcp: config.tcp,
        shards: config.shards,
        ports,
        services,
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("serve")
        .build();
    let runtime =
        runtime.map_err(|error| Failure::told(format_args!("cannot start threads: {error}")))?;
    let stop = runtime.block_on(async {
        serve_all(&stack, &config, routers)?;
        Stop::listen()
            .map_err(|error| Failure::told(format_args!("cannot listen for signals: {error}")))
    })?;
    println!("{} is up until Ctrl-C.", config.name);
    watch(&config, &stack, &stop);
    runtime.shutdown_timeout(FAREWELL);
    let again = "start the host again when the device is back";
    stack.stop().map_err(|error| Failure::new(error, again))?;
    println!("Stopped.");
    Ok(ExitCode::SUCCESS)
}

/// Waits for the end, and tells meanwhile what becomes of the devices.
fn watch(config: &Config, stack: &Stack, stop: &Stop) {
    let mut watch = Watch::new(&config.ports);
    while !stop.wait_for(LOOK) && !stack.is_over() {
        for line in watch.look(stack) {
            eprintln!("millstream: {line}");
        }
    }
}

/// Reads and checks the file.
fn read(path: &Path) -> Result<Config, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "give the path of a TOML file; `millstream up --help` shows a small one"
            }
            std::io::ErrorKind::InvalidData => "a configuration file is text in UTF-8",
            _ => "give a file this user may read",
        };
        Failure::new(
            format_args!("cannot read {}: {error}", path.display()),
            remedy,
        )
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let placed = |error| Failure::told(format_args!("{}:{error}", path.display()));
    config::parse(&text, folder).map_err(placed)
}

/// A router for each service that serves files, which also finds out whether their folders are there.
fn folders(config: &Config) -> Result<Vec<Option<axum::Router>>, Failure> {
    let router = |serve: &Serve| match &serve.kind {
        ServeKind::Http { root } => files::router(root).map(Some),
        _ => Ok(None),
    };
    config.serves.iter().map(router).collect()
}

/// Whether the folders captures are to be written to are there.
fn captures(config: &Config) -> Result<(), Failure> {
    for file in config.ports.iter().filter_map(|port| port.pcap.as_deref()) {
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if !folder.is_none_or(Path::is_dir) {
            let what = format_args!("cannot write {}: there is no such folder", file.display());
            return Err(Failure::new(
                what,
                "give `pcap` a file in a folder there is",
            ));
        }
    }
    Ok(())
}

fn serve_all(
    stack: &Stack,
    config: &Config,
    routers: Vec<Option<axum::Router>>,
) -> Result<(), Failure> {
    let live = Live::new(stack.source(), None);
    for (serve, router) in config.serves.iter().zip(routers) {
        let router = match (&serve.kind, router) {
            (ServeKind::Live, _) => Some(http::demo(Arc::clone(&live))),
            (_, router) => router,
        };
        for address in &serve.listen {
            open(stack, serve, router.as_ref(), *address)?;
        }
    }
    if config
        .serves
        .iter()
        .any(|serve| serve.kind == ServeKind::Live)
    {
        tokio::spawn(live.run());
    }
    Ok(())
}

fn open(
    stack: &Stack,
    serve: &Serve,
    router: Option<&axum::Router>,
    address: SocketAddr,
) -> Result<(), Failure> {
    let listener = stack.listen(address)?;
    match (&serve.kind, router) {
        (ServeKind::Plain(service), _) => {
            tokio::spawn(serve_streams(listener, *service));
            if serve.kind.datagrams() {
                tokio::spawn(serve_datagrams(stack.bind(address)?, *service));
            }
        }
        (_, Some(router)) => drop(tokio::spawn(http::serve(listener, router.clone()))),
        (_, None) => {}
    }
    Ok(())
}

fn service_line(serve: &Serve) -> String {
    let listen: Vec<String> = serve.listen.iter().map(ToString::to_string).collect();
    format!("{} on {}", serve.kind.name(), listen.join(", "))
}

/// What the file means, a line each.
fn describe(path: &Path, config: &Config) -> String {
    use std::fmt::Write;
    let mut text = format!("{}: {} is right\n", path.display(), config.name);
    if config.shards > 1 {
        let _ = writeln!(text, "  {} shards", config.shards);
    }
    for port in &config.ports {
        let kind = match port.kind {
            PortKind::Tap => "tap",
            PortKind::Packet => "packet",
        };
        let _ = write!(text, "  port {}: {kind} on {}", port.name, port.device);
        for address in &port.addresses {
            let _ = write!(text, ", {address}");
        }
        for gateway in &port.gateways {
            let _ = write!(text, ", gateway {gateway}");
        }
        text.push('\n');
        for route in &port.routes {
            let _ = writeln!(
                text,
                "    route {} via {}{}",
                route.to, route.via, route.metrics
            );
        }
    }
    for serve in &config.serves {
        let _ = writeln!(text, "  serve {}", service_line(serve));
    }
    text
}
