//! What a descriptor is ready for now, by the rules of Linux's tcp_poll and datagram_poll, and what its socket's events wake.
//!
//! What does not live here: sets and who watches what (`base::epoll`, `table`), waiting (`poll`, `epoll`).

use base::epoll::{
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, EPOLLRDNORM, EPOLLWRBAND,
    EPOLLWRNORM,
};
use stack::Ready;

use crate::notice;
use crate::socket::{Kind, State};
use crate::world::World;

const READ: u32 = EPOLLIN | EPOLLRDNORM;
const WRITE: u32 = EPOLLOUT | EPOLLWRNORM;

/// The bits of a socket, those of poll and of epoll being the same; `None` if there is none. Who finds no room to write in them
/// hears when there is.
pub(super) fn level<W: World>(world: &mut W, fd: i32) -> Option<u32> {
    let socket = world.table().get(fd).ok()?;
    let (kind, state) = (socket.kind, socket.state);
    let datagram = kind == Kind::Datagram;
    let mut shut = 0;
    if socket.shut_read {
        shut |= READ | EPOLLRDHUP;
        shut |= if socket.shut_write { EPOLLHUP } else { 0 };
    }
    let Some(id) = socket.id() else {
        return Some(match kind {
            // As Linux says of a stream that is neither connected nor listens.
            Kind::Stream if socket.looks_ended => WRITE | EPOLLHUP | READ | EPOLLRDHUP,
            Kind::Stream => WRITE | EPOLLHUP,
            Kind::Datagram => WRITE | EPOLLWRBAND | shut,
        });
    };
    let mut ready = world.host().watch_ready(id);
    if matches!(state, State::Listening(_)) {
        return Some(if ready.contains(Ready::READABLE) {
            READ
        } else {
            0
        });
    }
    let told = notice::waiting(world, fd);
    if ready.contains(Ready::PRIORITY) {
        ready = super::urgent::readiness(world, fd, id, ready);
    }
    let mut bits = ready.epoll() | if told { EPOLLERR } else { 0 };
    if datagram {
        bits |= EPOLLWRBAND | shut;
        let selects = world.table().get(fd).is_ok_and(|s| s.network.select_errors);
        if bits & EPOLLERR != 0 && selects {
            bits |= EPOLLPRI;
        }
    }
    Some(bits)
}
