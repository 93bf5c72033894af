//! What completion queues have.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use millstream::completion::{Buffer, BufferGroup, Completion, CompletionQueue};
use millstream::completion::{Handle, Op, Shutdown, SubmitError, Worker};
use millstream::datagram::{Ecn, RecvMeta};
use millstream::{TcpOptions, UdpOptions};

/// Compiles a table of methods, named as docs/api.md names them.
macro_rules! surface {
    ($($type:ident::$name:ident: $signature:ty,)*) => {
        pub(crate) const NAMES: &[&str] = &[$(concat!(stringify!($type), "::", stringify!($name))),*];
        $(const _: $signature = $type::$name;)*
    };
}

type Bytes = Vec<u8>;
type About = fn(Handle) -> Op;
type Taken = io::Result<usize>;
type Done<'a> = &'a mut Vec<Completion>;

surface! {
    Op::listen: fn(SocketAddr, usize, u64) -> Op,
    Op::bind: fn(SocketAddr, u64) -> Op,
    Op::connect: fn(SocketAddr, u64) -> Op,
    Op::bound_to: fn(Op, SocketAddr) -> Op,
    Op::tcp_options: fn(Op, TcpOptions) -> Op,
    Op::udp_options: fn(Op, UdpOptions) -> Op,
    Op::accept: fn(Handle, u64) -> Op,
    Op::accept_multishot: fn(Handle, u64) -> Op,
    Op::first_bytes: fn(Op, Bytes) -> Op,
    Op::first_bytes_in: fn(Op, &BufferGroup) -> Op,
    Op::receive: fn(Handle, Bytes) -> Op,
    Op::receive_all: fn(Handle, Bytes) -> Op,
    Op::receive_in: fn(Handle, &BufferGroup) -> Op,
    Op::receive_multishot: fn(Handle, &BufferGroup) -> Op,
    Op::send: fn(Handle, Bytes) -> Op,
    Op::first: fn(Op, usize) -> Op,
    Op::send_to: fn(Handle, Bytes, SocketAddr) -> Op,
    Op::source: fn(Op, IpAddr) -> Op,
    Op::ecn: fn(Op, Ecn) -> Op,
    Op::segment: fn(Op, u16) -> Op,
    Op::send_file: fn(Handle, Arc<File>, u64, u64) -> Op,
    Op::splice: fn(Handle, Handle, u64) -> Op,
    Op::poll: fn(Handle, u32) -> Op,
    Op::timeout: fn(Duration) -> Op,
    Op::shutdown: fn(Handle, Shutdown) -> Op,
    Op::close: About,
    Op::reset: About,
    Op::cancel: fn(Handle, u64) -> Op,
    Op::cancel_all: About,
    Op::cancel_token: fn(u64) -> Op,
    Op::token: fn(Op, u64) -> Op,
    Op::then: fn(Op, Op) -> Op,
    CompletionQueue::submit: fn(&CompletionQueue, Op) -> Result<(), SubmitError>,
    CompletionQueue::submit_all: fn(&CompletionQueue, &mut Vec<Op>) -> Result<(), SubmitError>,
    CompletionQueue::post: fn(&CompletionQueue, u64, u64, usize) -> io::Result<()>,
    CompletionQueue::wait: fn(&CompletionQueue, Done<'_>, usize, Option<Duration>) -> Taken,
    CompletionQueue::worker: fn(&CompletionQueue) -> Worker,
    Worker::wait: fn(&mut Worker, Done<'_>, usize, Option<Duration>) -> Taken,
    BufferGroup::new: fn(usize, usize) -> BufferGroup,
    BufferGroup::available: fn(&BufferGroup) -> usize,
    Buffer::into_vec: fn(Buffer) -> Vec<u8>,
    Completion::bytes: fn(&Completion) -> &[u8],
    Completion::meta: fn(&Completion) -> Option<RecvMeta>,
}
