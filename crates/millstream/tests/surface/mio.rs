//! What mio 1 has for sockets.

use std::io;
use std::time::Duration;

use millstream::event::{Event, Iter};
use millstream::{Events, Interest, Poll, Registry, TcpStream, Token, Waker};

/// Compiles a table of methods, named as docs/api.md names them.
macro_rules! surface {
    ($($type:ident::$name:ident: $signature:ty,)*) => {
        pub(crate) const NAMES: &[&str] = &[$(concat!(stringify!($type), "::", stringify!($name))),*];
        $(const _: $signature = $type::$name;)*
    };
}

type Result<T> = io::Result<T>;
type Time = Option<Duration>;
type Is = fn(&Event) -> bool;
type Wants = fn(Interest) -> bool;

surface! {
    Poll::new: fn() -> Result<Poll>,
    Poll::registry: fn(&Poll) -> &Registry,
    Poll::poll: fn(&mut Poll, &mut Events, Time) -> Result<()>,
    // Mio's want `&mut S`, which does as well.
    Registry::register: fn(&Registry, &TcpStream, Token, Interest) -> Result<()>,
    Registry::reregister: fn(&Registry, &TcpStream, Token, Interest) -> Result<()>,
    Registry::deregister: fn(&Registry, &TcpStream) -> Result<()>,
    Registry::try_clone: fn(&Registry) -> Result<Registry>,
    Waker::new: fn(&Registry, Token) -> Result<Waker>,
    Waker::wake: fn(&Waker) -> Result<()>,
    Events::with_capacity: fn(usize) -> Events,
    Events::capacity: fn(&Events) -> usize,
    Events::is_empty: fn(&Events) -> bool,
    Events::iter: fn(&Events) -> Iter<'_>,
    Events::clear: fn(&mut Events),
    Event::token: fn(&Event) -> Token,
    Event::is_readable: Is,
    Event::is_writable: Is,
    Event::is_error: Is,
    Event::is_read_closed: Is,
    Event::is_write_closed: Is,
    Event::is_priority: Is,
    Interest::READABLE: Interest,
    Interest::WRITABLE: Interest,
    Interest::PRIORITY: Interest,
    Interest::add: fn(Interest, Interest) -> Interest,
    Interest::remove: fn(Interest, Interest) -> Option<Interest>,
    Interest::is_readable: Wants,
    Interest::is_writable: Wants,
    Interest::is_priority: Wants,
}
