//! Applications that live on a shard: run to completion, no crossing of threads, no copy beyond their own.
//!
//! What does not live here: sockets for other threads ([`crate::Sockets`]), which are such an application themselves.

use std::time::Duration;

use base::Instant;
use stack::{Event, Host};

/// What an application may use while the shard calls it.
#[derive(Debug)]
pub struct ShardCx<'a> {
    /// The host of the shard: every command of the stack is at hand.
    pub host: &'a mut Host,
    /// The time of this turn.
    pub now: Instant,
    /// The turn goes on from then.
    pub(crate) not_before: Instant,
    pub(crate) again: bool,
    pub(crate) within: Option<Duration>,
    pub(crate) stop: bool,
}

impl ShardCx<'_> {
    /// Asks for another turn at once instead of sleep: there is more to do that no event will announce.
    pub fn again(&mut self) {
        self.again = true;
    }

    /// Asks for another turn within this time, whatever happens: there is something to try again.
    pub fn again_within(&mut self, time: Duration) {
        self.within = Some(self.within.map_or(time, |within| within.min(time)));
    }

    /// Ends the shard, as if it were asked to from outside.
    pub fn stop(&mut self) {
        self.stop = true;
    }
}

/// An application on the shard. Every call must return soon: nothing else happens meanwhile.
///
/// ```
/// use engine::{App, ShardCx};
/// use stack::{Event, Ready, TcpOptions};
///
/// /// Sends back whatever connections send.
/// struct Echo;
///
/// impl App for Echo {
///     type Command = ();
///
///     fn on_start(&mut self, cx: &mut ShardCx<'_>) {
///         let local = "0.0.0.0:7".parse().expect("an address");
///         let listener = cx.host.tcp_listen(cx.now, local, 128, &TcpOptions::default()).expect("nobody else listens");
///         let _ = cx.host.set_token(listener, 1);
///     }
///
///     fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
///         if event.token == 1 {
///             while cx.host.tcp_accept(cx.now, event.socket).is_ok() {}
///             return;
///         }
///         let mut buffer = [0; 4096];
///         while let Ok(n) = cx.host.tcp_recv(cx.now, event.socket, &mut buffer) {
///             if n == 0 || cx.host.tcp_send(cx.now, event.socket, &buffer[..n]) != Ok(n) {
///                 let _ = cx.host.close(cx.now, event.socket);
///                 return;
///             }
///         }
///         if event.ready.intersects(Ready::HUP | Ready::ERROR) {
///             let _ = cx.host.close(cx.now, event.socket);
///         }
///     }
/// }
/// ```
pub trait App {
    /// What other threads may send it ([`crate::ShardHandle::post`]).
    type Command: Send + 'static;

    /// The shard runs: listen, connect.
    fn on_start(&mut self, cx: &mut ShardCx<'_>) {
        let _ = cx;
    }

    /// A socket's readiness has changed.
    fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event);

    /// Another thread says something.
    fn on_command(&mut self, cx: &mut ShardCx<'_>, command: Self::Command) {
        let _ = (cx, command);
    }

    /// Once a turn, after its events and before frames are sent.
    fn on_turn(&mut self, cx: &mut ShardCx<'_>) {
        let _ = cx;
    }

    /// The last events of a turn, or of a [`Shard::settle`](crate::Shard::settle), were given: whoever sleeps on them must have been
    /// told before the shard may sleep.
    fn on_settled(&mut self) {}

    /// The shard is about to end: close what is open. Turns go on until [`App::is_drained`] or the time is up.
    fn on_stop(&mut self, cx: &mut ShardCx<'_>) {
        let _ = cx;
    }

    /// Whether the application has nothing left to send.
    fn is_drained(&self) -> bool {
        true
    }
}

impl<A: App + ?Sized> App for Box<A> {
    type Command = A::Command;

    fn on_start(&mut self, cx: &mut ShardCx<'_>) {
        (**self).on_start(cx);
    }
    fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
        (**self).on_event(cx, event);
    }
    fn on_command(&mut self, cx: &mut ShardCx<'_>, command: Self::Command) {
        (**self).on_command(cx, command);
    }
    fn on_turn(&mut self, cx: &mut ShardCx<'_>) {
        (**self).on_turn(cx);
    }
    fn on_settled(&mut self) {
        (**self).on_settled();
    }
    fn on_stop(&mut self, cx: &mut ShardCx<'_>) {
        (**self).on_stop(cx);
    }
    fn is_drained(&self) -> bool {
        (**self).is_drained()
    }
}
