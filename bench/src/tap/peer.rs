//! The kernel's ends: plain sockets of the standard library that send, receive, ask and answer.
//!
//! What does not live here: what they talk to.
//!
//! Invariant: nothing waits for ever; a connection that stalls ends the run with a line that says so.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::measure::wall;

use super::gauge::{Gauge, Meter, Window};
use super::{PORT, REQUEST};

/// How long a connection may stand still.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a read and of a write.
const READ: usize = 1 << 20;
const WRITE: usize = 256 << 10;

/// What a peer saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// `None` if it stood still all the time.
    pub(crate) window: Option<Window>,
    /// Round-trip times, microseconds, in no order; empty for bulk.
    pub(crate) times: Vec<f64>,
}

/// Sends as fast as it can.
pub(crate) fn send(to: Ipv4Addr, gauge: &Gauge) -> Result<Seen, String> {
    let stream = connect(to)?;
    pump(stream, gauge)
}

/// Receives as fast as it can.
pub(crate) fn receive(from: Ipv4Addr, gauge: &Gauge) -> Result<Seen, String> {
    let stream = connect(from)?;
    drain(stream, gauge)
}

/// Asks with 64 bytes, waits for as many, asks again.
pub(crate) fn ask(whom: Ipv4Addr, busy_poll: bool, gauge: &Gauge) -> Result<Seen, String> {
    let mut stream = connect(whom)?;
    let mut times = Vec::with_capacity(1 << 22);
    let mut meter = Meter::new(gauge);
    let mut buffer = [0; REQUEST];
    let mut asked = 0;
    spin(&stream, busy_poll)?;
    let mut before = wall();
    while meter.goes_on(asked) {
        stream
            .write_all(&[b'q'; REQUEST])
            .and_then(|()| fill(&mut stream, &mut buffer, busy_poll))
            .map_err(|e| stalled("got answers to", asked, &e))?;
        let after = wall();
        if meter.counts() && times.len() < times.capacity() {
            times.push((after - before) * 1e6);
        }
        before = after;
        asked += 1;
        if asked == 10 {
            gauge.set_going();
        }
    }
    let seen = finish(&meter, &stream);
    Ok(Seen { times, ..seen })
}

/// Accepts one connection and receives from it.
pub(crate) fn serve_sink(gauge: &Gauge) -> Result<Option<Window>, String> {
    let stream = accept(gauge)?;
    let seen = drain(stream, gauge)?;
    Ok(seen.window)
}

/// Accepts one connection and sends to it.
pub(crate) fn serve_source(gauge: &Gauge) -> Result<Option<Window>, String> {
    let stream = accept(gauge)?;
    let seen = pump(stream, gauge)?;
    Ok(seen.window)
}

/// Accepts one connection and answers what is asked.
pub(crate) fn serve_answers(busy_poll: bool, gauge: &Gauge) -> Result<Option<Window>, String> {
    let mut stream = accept(gauge)?;
    spin(&stream, busy_poll)?;
    let mut meter = Meter::new(gauge);
    let mut buffer = [0; REQUEST];
    let mut answered = 0;
    loop {
        meter.goes_on(answered);
        match fill(&mut stream, &mut buffer, busy_poll)
            .and_then(|()| stream.write_all(&[b'r'; REQUEST]))
        {
            Ok(()) => answered += 1,
            // The peer resets the connection when it is done.
            Err(_) if !meter.goes_on(answered) => break,
            Err(e) => return Err(stalled("answered", answered, &e)),
        }
    }
    Ok(meter.window())
}

fn pump(mut stream: TcpStream, gauge: &Gauge) -> Result<Seen, String> {
    let chunk = vec![7; WRITE];
    let mut meter = Meter::new(gauge);
    let mut bytes = 0;
    while meter.goes_on(bytes) {
        match stream.write(&chunk) {
            Ok(n) => bytes += n as u64,
            Err(_) if !meter.goes_on(bytes) => break,
            Err(e) => return Err(stalled("sent", bytes, &e)),
        }
        gauge.set_going();
    }
    Ok(finish(&meter, &stream))
}

fn drain(mut stream: TcpStream, gauge: &Gauge) -> Result<Seen, String> {
    let mut buffer = vec![0; READ];
    let mut meter = Meter::new(gauge);
    let mut bytes = 0;
    while meter.goes_on(bytes) {
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => bytes += n as u64,
            _ if !meter.goes_on(bytes) => break,
            Ok(_) => return Err(format!("the connection ended after {bytes} bytes")),
            Err(e) => return Err(stalled("received", bytes, &e)),
        }
        gauge.set_going();
    }
    Ok(finish(&meter, &stream))
}

/// Reads a whole message; a spinning reader asks the socket again and again.
fn fill(stream: &mut TcpStream, buffer: &mut [u8], busy_poll: bool) -> io::Result<()> {
    if !busy_poll {
        return stream.read_exact(buffer);
    }
    let (mut got, mut empty) = (0, 0u32);
    while got < buffer.len() {
        match stream.read(&mut buffer[got..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && empty < 50_000_000 => empty += 1,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn spin(stream: &TcpStream, busy_poll: bool) -> Result<(), String> {
    stream
        .set_nonblocking(busy_poll)
        .map_err(|e| format!("cannot set up a socket: {e}"))
}

/// Linux's own default, and Millstream's. A machine tuned to another would compare algorithms, not stacks.
const CONTROL: &str = "cubic";

/// The congestion control the kernel's sockets here will have.
pub(crate) fn control() -> String {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string());
    let name = probe.and_then(|socket| {
        choose_control(&socket);
        sockopt::tcp_congestion(&socket).map_err(|e| e.to_string())
    });
    name.unwrap_or_else(|_| "an unknown congestion control".into())
}

/// Before a connection is made: a congestion control leaves its pacing behind when it is changed later.
fn choose_control(socket: impl AsFd) {
    // A kernel without it keeps its own; the table says which.
    let _ = sockopt::set_tcp_congestion(socket, CONTROL);
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn connect(to: Ipv4Addr) -> Result<TcpStream, String> {
    let address = SocketAddr::from((to, PORT));
    let connected = || {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        choose_control(&socket);
        let stream = TcpStream::from(socket);
        // Bounds the connecting too.
        set_up(&stream)?;
        rustix::net::connect(&stream, &address)?;
        Ok(stream)
    };
    connected().map_err(|e: io::Error| format!("cannot connect to {address}: {e}"))
}

fn accept(gauge: &Gauge) -> Result<TcpStream, String> {
    let failed = |e: io::Error| format!("cannot listen on port {PORT}: {e}");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).map_err(failed)?;
    choose_control(&listener);
    gauge.set_ready();
    let (stream, _) = listener.accept().map_err(failed)?;
    set_up(&stream).map_err(failed)?;
    Ok(stream)
}

/// The figures; the connection is reset, so that nothing of it is left when the device goes.
fn finish(meter: &Meter<'_>, stream: &TcpStream) -> Seen {
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    Seen {
        window: meter.window(),
        times: Vec::new(),
    }
}

fn stalled(what: &str, count: u64, why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the connection stalled: {what} {count} and nothing more for {PATIENCE:?}")
        }
        _ => format!("the connection broke: {what} {count}, then {why}"),
    }
}
