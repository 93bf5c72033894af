//! Connections that go from this shard to another, and come from one.
//!
//! Whoever lets one go packs it, leaves it in the lobby of the other shard, says in the table that all read where it is, and leaves a
//! notice with the record. What comes for it finds it there (`steer::Moved`).
//!
//! What does not live here: what a connection consists of (`stack`), what the application may do meanwhile (`sockets/moving.rs`).
//!
//! Invariant: an order ends in one answer; a connection for which there is no room comes back, and if there is none any more where it
//! was, it ends with ENOBUFS.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use stack::{Ready, SocketError, TcpParcel};

use super::tcp::TcpEntry;
use super::{Driver, Entry, key_of};
use crate::app::ShardCx;
use crate::mailbox::Mailbox;
use crate::shard::{Call, Message};
use crate::sockets::error::{io_error, stopped};
use crate::sockets::moving::{Fellows, MoveOrder};
use crate::sockets::tcp::TcpShared;
use crate::sockets::{Answer, Door, Notice, Subject, TOKEN_GONE};
use crate::steer::{Ends, Luggage};

/// A connection that has come from another shard: its record, and whoever waits for it to arrive.
#[derive(Debug)]
pub(crate) struct Newcomer {
    entry: Box<TcpEntry>,
    luggage: Arc<Luggage>,
    answer: Option<Answer>,
    /// The shard it came from; none when it comes back from one that had no room.
    from: Option<usize>,
    /// Why it comes back.
    why: Option<SocketError>,
    ends: Ends,
}

impl Newcomer {
    pub(crate) fn shared(&self) -> &Arc<TcpShared> {
        self.entry.shared()
    }
}

/// Has a shard do something with its host.
fn tell(door: &Door, errand: impl FnOnce(&mut stack::Host) + Send + 'static) {
    let mailbox: &Arc<Mailbox<Message<Notice>>> = &door.mailbox;
    let call = Call(Box::new(move |host, _| errand(host)));
    let _ = mailbox.post_unbounded(Message::Call(call));
}

impl Driver {
    /// Carries out an order, if one was given.
    pub(super) fn move_out(&mut self, cx: &mut ShardCx<'_>, token: u64, (to, answer): MoveOrder) {
        let Some(Entry::Tcp(entry)) = self.entries.get(key_of(token)) else {
            return answer.send(Err(io_error(SocketError::NotConnected)));
        };
        let shared = entry.shared().clone();
        match self.pack(cx, token, to) {
            Ok(arrival) => self.send_away(to, *arrival, answer),
            Err(error) => {
                shared.arrived();
                answer.send(Err(error));
            }
        }
    }

    /// Packs a connection, and sends its frames where it goes.
    fn pack(&mut self, cx: &mut ShardCx<'_>, token: u64, to: usize) -> io::Result<Box<Newcomer>> {
        let door = self.door.clone();
        let fellows = door.fellows.get().ok_or(Errno::INVAL)?;
        let Some(Entry::Tcp(entry)) = self.entries.get(key_of(token)) else {
            return Err(io_error(SocketError::NotConnected));
        };
        if !entry.may_move() {
            return Err(io_error(SocketError::NotConnected));
        }
        let id = entry.id();
        let (local, remote) = (cx.host.local_addr(id), cx.host.peer_addr(id));
        let (local, remote) = (local.map_err(io_error)?, remote.map_err(io_error)?);
        let ends = (
            (local.ip().into(), local.port()),
            (remote.ip().into(), remote.port()),
        );
        let room = fellows.moved.room(&ends).ok_or(Errno::NOBUFS)?;
        let parcel = cx.host.tcp_take(cx.now, id).map_err(io_error)?;
        if fellows.home(&ends) == fellows.shard {
            cx.host.tcp_lend(ends.0, ends.1, true);
        }
        let luggage = Luggage::new(parcel);
        room.send(to, luggage.clone());
        let Some(Entry::Tcp(entry)) = self.entries.remove(key_of(token)) else {
            return Err(io_error(SocketError::NotConnected)); // it was there
        };
        self.connections -= 1;
        Ok(Box::new(Newcomer {
            entry: Box::new(entry),
            luggage,
            answer: None,
            from: Some(fellows.shard),
            why: None,
            ends,
        }))
    }

    fn send_away(&self, to: usize, mut arrival: Newcomer, answer: Answer) {
        let shared = arrival.shared().clone();
        let door = self.door.fellows.get().and_then(|fellows| fellows.door(to));
        let Some(door) = door else {
            // The host is about to end.
            shared.fail_stopped();
            return answer.send(Err(stopped()));
        };
        // What was noticed before is looked at there.
        shared.token.store(TOKEN_GONE, Ordering::Relaxed);
        shared.go_to(door.clone());
        arrival.answer = Some(answer);
        let notice = Notice(Some(Subject::Arrival(Box::new(arrival))));
        let _ = door.mailbox.post_unbounded(Message::App(notice));
    }

    /// A connection has come.
    pub(super) fn arrive(&mut self, cx: &mut ShardCx<'_>, mut arrival: Newcomer) {
        let door = self.door.clone();
        let Some(fellows) = door.fellows.get() else {
            return;
        };
        let shared = arrival.shared().clone();
        let claimed = arrival.luggage.claim(cx.host, &mut cx.now);
        cx.not_before = cx.now;
        let id = match claimed {
            Ok(id) => id,
            Err(refused) => return self.turn_away(cx, fellows, arrival, refused),
        };
        if fellows.home(&arrival.ends) == fellows.shard {
            let (local, remote) = arrival.ends;
            cx.host.tcp_lend(local, remote, false);
        }
        arrival.entry.settle_as(id);
        let answer = arrival.answer.take();
        match self.insert(cx, id, Entry::Tcp(*arrival.entry)) {
            Some(token) => {
                shared.token.store(token, Ordering::Relaxed);
                shared.arrived();
                if self.stopping {
                    shared.stop();
                }
                if let Some(answer) = answer {
                    let why = arrival.why.map(io_error);
                    answer.send(why.map_or(Ok(()), Err));
                }
                self.look(cx, token, Ready::READABLE);
            }
            None => {
                // Its table is as large as that of connections, and sockets of all kinds.
                let _ = cx.host.abort(cx.now, id);
                shared.fail(Some(SocketError::NoBuffers));
            }
        }
    }

    /// There is no room for it here: it goes back; or, if it comes back, it is over.
    fn turn_away(
        &mut self,
        cx: &mut ShardCx<'_>,
        fellows: &Fellows,
        mut arrival: Newcomer,
        refused: Option<(TcpParcel, SocketError)>,
    ) {
        let shared = arrival.shared().clone();
        let back = arrival.from.take().zip(refused);
        let room = fellows.moved.room(&arrival.ends);
        if let (Some((from, (parcel, why))), Some(room), Some(answer)) =
            (back, room, arrival.answer.take())
        {
            arrival.luggage = Luggage::new(parcel);
            arrival.why = Some(why);
            room.send(from, arrival.luggage.clone());
            return self.send_away(from, arrival, answer);
        }
        let (local, remote) = arrival.ends;
        fellows.moved.forget(&arrival.ends, fellows.shard);
        let home = fellows.home(&arrival.ends);
        if home == fellows.shard {
            cx.host.tcp_lend(local, remote, false);
        } else if let Some(door) = fellows.door(home) {
            tell(&door, move |host| host.tcp_lend(local, remote, false));
        }
        shared.fail(Some(SocketError::NoBuffers));
    }
}

impl Fellows {
    /// The shard a connection would be on.
    fn home(&self, (local, remote): &Ends) -> usize {
        self.sharding.home(&remote.0, remote.1, local.1)
    }
}
