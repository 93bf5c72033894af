//! The BSD socket calls with Linux's errors, flags, option values and order of checks, over a Millstream host.
//!
//! Calls are written once, against [`World`]: a host one may call into, a table of descriptors, and a way to wait until
//! something has changed. Whether time is virtual or the machine's, and whether the host lives behind a lock or on the
//! caller's own thread, is the world's affair. Arguments are slices and addresses; a call that fails says which [`Errno`].
//!
//! What does not live here: C symbols, pointers and `errno` (the shared objects made of this), signals (who wants SIGPIPE
//! raises it on EPIPE), protocols.
//!
//! Invariant: a descriptor handed out is one of the kernel's as long as it is ours, so none of the kernel's can be equal.
//! Invariant: unsafe code lives only where descriptors of the program's, which are numbers, meet the kernel (`foreign`).
//! Invariant: a call that may not wait never calls [`World::wait`].
#![deny(unsafe_code)]

mod address;
mod call;
mod control;
mod errno;
mod fast_open;
#[allow(unsafe_code)]
mod foreign;
mod joined;
mod live;
mod notice;
mod option;
mod socket;
mod table;
mod tcp_info;
mod waiters;
mod world;

pub use address::{Destination, FAMILY_V4, FAMILY_V6, parse, write};
pub use base::epoll::EpollEvent;
pub use call::{FdSet, poll, ppoll, pselect, select};
pub use call::{Message, PollFd, accept, bind, close, connect, fcntl, getpeername, getsockname};
pub use call::{epoll_create, epoll_create1, epoll_ctl, epoll_pwait2, epoll_wait};
pub use call::{ioctl, listen, receive, send, send_message, shutdown, socket, splice};
pub use control::{Control, parse_control, write_control};
pub use errno::Errno;
pub use foreign::SignalMask;
pub use live::{Call, Live, Sockets};
pub use option::{getsockopt, handed_over, setsockopt};
pub use table::Table;
pub use tcp_info::tcp_info;
pub use world::{Wait, World};
