//! smoltcp on a TAP of its own, as its own examples set it up: whole frames of 1500 bytes, one system call each.
//!
//! What does not live here: the kernel's end of it.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Medium, TunTapInterface, wait};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr};

use super::gauge::{Gauge, Meter, Window};
use super::{Act, Job, PORT, Place, kernel_end};

/// Bytes of each of the socket's two buffers.
const BUFFER: usize = 256 << 10;
/// Longest sleep, milliseconds: how soon the gauge is looked at.
const NAP: u64 = 20;

/// Runs until the gauge stops; the kernel's end of the device gets `kernel`, smoltcp `own`.
pub(crate) fn run(
    job: Job,
    name: &str,
    kernel: Ipv4Addr,
    own: Ipv4Addr,
    place: &Place<'_>,
    gauge: &Gauge,
) -> Result<Option<Window>, String> {
    place.settle()?;
    let mut device = TunTapInterface::new(name, Medium::Ethernet)
        .map_err(|e| format!("smoltcp cannot open TAP {name}: {e}"))?;
    kernel_end(name, kernel)?;
    let fd = device.as_raw_fd();
    let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 2, 2]).into());
    config.random_seed = 42;
    let mut interface = Interface::new(config, &mut device, Instant::now());
    let mut full = false;
    interface.update_ip_addrs(|list| full = list.push(IpCidr::new(own.into(), 24)).is_err());
    if full {
        return Err("smoltcp takes no address".into());
    }
    let mut sockets = SocketSet::new(vec![]);
    let queue = || tcp::SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = tcp::Socket::new(queue(), queue());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    let handle = sockets.add(socket);
    let mut meter = Meter::new(gauge);
    let mut done = 0;
    let mut buffer = vec![7; 64 << 10];
    gauge.set_ready();
    while meter.is_needed(done) {
        let now = Instant::now();
        interface.poll(now, &mut device, &mut sockets);
        done += act(job, &mut sockets, handle, &mut buffer)?;
        if job.busy_poll() {
            continue;
        }
        let delay = match interface.poll_at(now, &sockets) {
            Some(at) if at <= Instant::now() => continue,
            Some(at) => (at - Instant::now()).min(Duration::from_millis(NAP)),
            None => Duration::from_millis(NAP),
        };
        wait(fd, Some(delay)).map_err(|e| format!("smoltcp cannot wait for TAP {name}: {e}"))?;
    }
    Ok(meter.window())
}

/// The application; returns how much it did.
fn act(
    job: Job,
    sockets: &mut SocketSet<'_>,
    handle: SocketHandle,
    buffer: &mut [u8],
) -> Result<u64, String> {
    let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
    let refused = |e: &dyn std::fmt::Display| format!("smoltcp's socket: {e}");
    if !socket.is_open() {
        socket.listen(PORT).map_err(|e| refused(&e))?;
    }
    let mut done = 0;
    match job.act() {
        Act::Receive => {
            while socket.can_recv() {
                done += socket.recv_slice(buffer).map_err(|e| refused(&e))? as u64;
            }
        }
        Act::ReceiveInPlace => {
            while socket.can_recv() {
                let n = socket.recv(|b| (b.len(), b.len()));
                done += n.map_err(|e| refused(&e))? as u64;
            }
        }
        Act::Send => {
            while socket.can_send() {
                done += socket.send_slice(buffer).map_err(|e| refused(&e))? as u64;
            }
        }
        Act::Answer => {
            while socket.can_recv() {
                let mut data = [0; 4096];
                let n = socket.recv_slice(&mut data).map_err(|e| refused(&e))?;
                socket.send_slice(&data[..n]).map_err(|e| refused(&e))?;
                done += 1;
            }
        }
    }
    if socket.state() == tcp::State::CloseWait {
        socket.close();
    }
    Ok(done)
}
