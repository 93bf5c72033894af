//! smoltcp with itself over two queues in memory: a device without checksums, as the rings.
//!
//! What does not live here: counting.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

const SIZE: usize = 64;
const PORT: u16 = 7000;

type Queue = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of the cable.
struct Cable {
    inbox: Queue,
    outbox: Queue,
}

struct Frame(Vec<u8>);
struct Space(Queue);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Space {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let out = f(&mut frame);
        self.0.borrow_mut().push_back(frame);
        out
    }
}

impl Device for Cable {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Space;

    fn receive(&mut self, _: Instant) -> Option<(Frame, Space)> {
        let frame = self.inbox.borrow_mut().pop_front()?;
        Some((Frame(frame), Space(Rc::clone(&self.outbox))))
    }

    fn transmit(&mut self, _: Instant) -> Option<Space> {
        Some(Space(Rc::clone(&self.outbox)))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut facts = DeviceCapabilities::default();
        facts.medium = Medium::Ethernet;
        facts.max_transmission_unit = 1514;
        facts.checksum = ChecksumCapabilities::ignored();
        facts
    }
}

struct End {
    device: Cable,
    interface: Interface,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
}

impl End {
    fn new(mut device: Cable, host: u8, sockets: usize) -> Result<Self, String> {
        let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 2, host]).into());
        config.random_seed = host.into();
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        let own = IpCidr::new(IpAddress::v4(10, 0, 0, host), 24);
        let mut full = false;
        interface.update_ip_addrs(|list| full = list.push(own).is_err());
        if full {
            return Err("smoltcp takes no address".into());
        }
        let mut set = SocketSet::new(vec![]);
        let queue = || tcp::SocketBuffer::new(vec![0; 4096]);
        let handles = (0..sockets)
            .map(|_| {
                let mut socket = tcp::Socket::new(queue(), queue());
                socket.set_nagle_enabled(false);
                set.add(socket)
            })
            .collect();
        Ok(Self {
            device,
            interface,
            sockets: set,
            handles,
        })
    }

    fn poll(&mut self, now: Instant) {
        self.interface
            .poll(now, &mut self.device, &mut self.sockets);
    }

    fn socket(&mut self, at: usize) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handles[at])
    }
}

/// Requests and answers on one connection, beside so many that are idle.
pub(super) fn requests(times: u32, idle: usize) -> Result<(), String> {
    let (a, b) = (Queue::default(), Queue::default());
    let cables = [(&a, &b), (&b, &a)].map(|(inbox, outbox)| Cable {
        inbox: Rc::clone(inbox),
        outbox: Rc::clone(outbox),
    });
    let [near, far] = cables;
    let mut client = End::new(near, 2, idle + 1)?;
    let mut server = End::new(far, 1, idle + 1)?;
    let mut now = Instant::ZERO;
    let mut turn = |first: &mut End, second: &mut End| {
        first.poll(now);
        now += Duration::from_micros(10);
        second.poll(now);
        now += Duration::from_micros(10);
    };
    let failed = |e: &dyn std::fmt::Display| format!("smoltcp's socket: {e}");
    for at in 0..=idle {
        server.socket(at).listen(PORT).map_err(|e| failed(&e))?;
        let remote = (IpAddress::v4(10, 0, 0, 1), PORT);
        let socket = client
            .sockets
            .get_mut::<tcp::Socket<'_>>(client.handles[at]);
        socket
            .connect(client.interface.context(), remote, 2000 + at as u16)
            .map_err(|e| failed(&e))?;
        for _ in 0..8 {
            turn(&mut client, &mut server);
        }
        if !client.socket(at).may_send() || !server.socket(at).may_send() {
            return Err("smoltcp did not connect".into());
        }
    }
    let mut buffer = [0; 4096];
    for _ in 0..times {
        let asked = client.socket(idle).send_slice(&[b'q'; SIZE]);
        asked.map_err(|e| failed(&e))?;
        turn(&mut client, &mut server);
        let n = server.socket(idle).recv_slice(&mut buffer);
        let n = n.map_err(|e| failed(&e))?;
        server
            .socket(idle)
            .send_slice(&buffer[..n])
            .map_err(|e| failed(&e))?;
        turn(&mut server, &mut client);
        let n = client.socket(idle).recv_slice(&mut buffer);
        if n.map_err(|e| failed(&e))? != SIZE {
            return Err("smoltcp lost an answer".into());
        }
    }
    Ok(())
}
