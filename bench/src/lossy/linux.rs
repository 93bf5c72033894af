//! The kernel's ends: a TAP in a namespace, plain sockets that send and receive.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use netns::{Namespace, link};
use port::tap::{Tap, TapOptions};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::course::{PORT, RECEIVER, Shared};

/// How soon a thread sees that the transfer is over.
const GLANCE: Duration = Duration::from_millis(100);
const DEVICE: &str = "bad0";

/// Whether the kernel has the algorithm.
pub(super) fn may_use(control: &str) -> Result<(), String> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
    let socket = socket.map_err(|e| e.to_string())?;
    sockopt::set_tcp_congestion(&socket, control)
        .map_err(|e| format!("the kernel has no {control}, or does not allow it: {e}"))
}

/// A namespace with a TAP in it; frames cross it as a wire carries them.
pub(super) fn plug(address: [u8; 4]) -> Result<(Namespace, Tap), String> {
    let namespace = Namespace::new().map_err(|e| e.to_string())?;
    let inside = namespace.run(|| {
        let options = TapOptions {
            offloads: false,
            ..TapOptions::default()
        };
        let tap = Tap::new(DEVICE, &options).map_err(|e| e.to_string())?;
        // Only so that nothing else is on the wire.
        let _ = link::disable_ipv6(DEVICE);
        // A device this fast is no bottleneck: the link's queue is.
        let queue = link::set_txqueuelen(DEVICE, 10_000);
        let address = IpAddr::from(address);
        queue
            .and_then(|()| link::add_addr(DEVICE, address, 24))
            .and_then(|()| link::set_up(DEVICE))
            .and_then(|()| link::wait_running(DEVICE))
            .map_err(|e| e.to_string())?;
        Ok::<_, String>(tap)
    });
    let tap = inside.map_err(|e| e.to_string())??;
    Ok((namespace, tap))
}

/// Connects and sends until it is over.
pub(super) fn send(shared: &Shared, flows: usize) -> Result<(), String> {
    thread::scope(|scope| {
        let all: Vec<_> = (0..flows)
            .map(|_| scope.spawn(|| send_one(shared)))
            .collect();
        let mut result = Ok(());
        for one in all {
            result = result.and(
                one.join()
                    .unwrap_or_else(|_| Err("a thread panicked".into())),
            );
        }
        result
    })
}

fn send_one(shared: &Shared) -> Result<(), String> {
    let failed = |what: &str, e: std::io::Error| format!("{what}: {e}");
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
    let socket = socket.map_err(|e| failed("socket", e.into()))?;
    // Before it is connected: an algorithm leaves its pacing behind when it is changed later.
    sockopt::set_tcp_congestion(&socket, &shared.control)
        .map_err(|e| failed("congestion control", e.into()))?;
    let to = SocketAddr::from((RECEIVER, PORT));
    rustix::net::connect(&socket, &to).map_err(|e| failed("connect", e.into()))?;
    let mut stream = TcpStream::from(socket);
    stream
        .set_write_timeout(Some(GLANCE))
        .map_err(|e| failed("timeout", e))?;
    let chunk = vec![7; 64 << 10];
    while !shared.is_over() {
        match stream.write(&chunk) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            // The receiver has seen the end first.
            Err(_) if shared.is_over() => break,
            Err(e) => return Err(failed("write", e)),
        }
    }
    // What is queued is not waited for.
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    Ok(())
}

/// Accepts and reads until it is over.
pub(super) fn receive(shared: &Shared, flows: usize) -> Result<(), String> {
    let failed = |what: &str, e: std::io::Error| format!("{what}: {e}");
    let listener = TcpListener::bind(SocketAddr::from((RECEIVER, PORT)));
    let listener = listener.map_err(|e| failed("listen", e))?;
    listener
        .set_nonblocking(true)
        .map_err(|e| failed("listen", e))?;
    shared.ready.store(true, Ordering::Release);
    thread::scope(|scope| {
        let mut accepted = 0;
        while accepted < flows && !shared.is_over() {
            match listener.accept() {
                Ok((stream, _)) => {
                    let flow = accepted;
                    accepted += 1;
                    scope.spawn(move || receive_one(shared, flow, stream));
                }
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    });
    note_counters(shared)
}

/// With a trace: what the kernel counted in this namespace, for what the sender's own words do not explain.
fn note_counters(shared: &Shared) -> Result<(), String> {
    let Some(path) = &shared.trace else {
        return Ok(());
    };
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let all = read("/proc/thread-self/net/netstat") + &read("/proc/thread-self/net/snmp");
    let mut text = String::new();
    let lines: Vec<&str> = all.lines().collect();
    for pair in lines.chunks_exact(2) {
        let names = pair[0].split_whitespace().skip(1);
        for (name, value) in names.zip(pair[1].split_whitespace().skip(1)) {
            if value != "0" {
                text += &format!("{name} {value}\n");
            }
        }
    }
    let path = path.with_extension("receiver.txt");
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn receive_one(shared: &Shared, flow: usize, mut stream: TcpStream) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(GLANCE));
    let mut buffer = vec![0; 256 << 10];
    while !shared.is_over() {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                shared.read[flow].fetch_add(n as u64, Ordering::AcqRel);
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
