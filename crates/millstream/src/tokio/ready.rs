//! Readiness in tokio's words.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use ::tokio::io::{Interest, Ready};
use ::tokio::task::coop;
use stack::Ready as Bits;

/// The engine's bits for what a task is interested in.
pub(super) fn wanted(interest: Interest) -> Bits {
    let mut bits = Bits::NONE;
    if interest.is_readable() {
        bits |= Bits::READABLE | Bits::READ_CLOSED;
    }
    if interest.is_writable() {
        bits |= Bits::WRITABLE | Bits::HUP;
    }
    if interest.is_error() {
        bits |= Bits::ERROR;
    }
    if interest.is_priority() {
        bits |= Bits::PRIORITY;
    }
    bits
}

/// What of `interest` the engine's bits say.
pub(super) fn told(bits: Bits, interest: Interest) -> Ready {
    let pairs = [
        (Bits::READABLE, interest.is_readable(), Ready::READABLE),
        (
            Bits::READ_CLOSED,
            interest.is_readable(),
            Ready::READ_CLOSED,
        ),
        (Bits::WRITABLE, interest.is_writable(), Ready::WRITABLE),
        // As tokio's: our own end alone is not told, for who ended it knows.
        (Bits::HUP, interest.is_writable(), Ready::WRITE_CLOSED),
        (Bits::ERROR, interest.is_error(), Ready::ERROR),
        (Bits::PRIORITY, interest.is_priority(), Ready::PRIORITY),
    ];
    let mut ready = Ready::EMPTY;
    for (bit, asked, is) in pairs {
        if asked && bits.contains(bit) {
            ready |= is;
        }
    }
    ready
}

/// Calls `call` when `poll` is ready, until it gives anything but `WouldBlock`.
///
/// A call that would block on a socket that is ready lets other tasks run before it is tried again.
pub(super) async fn retry<T>(
    mut call: impl FnMut() -> io::Result<T>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Bits>,
) -> io::Result<T> {
    poll_fn(|cx| {
        let budget = ready!(coop::poll_proceed(cx));
        ready!(poll(cx));
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            done => {
                budget.made_progress();
                Poll::Ready(done)
            }
        }
    })
    .await
}

/// Readiness of a socket that is there as `socket()`, in tokio's words.
macro_rules! readiness {
    ($type:ty) => {
        impl $type {
            /// Waits until the socket is ready for any of `interest`; what of it. Readiness is a level: it is told again as long as
            /// it lasts, and may be over when it is acted on.
            ///
            /// # Errors
            /// None; the result is that of tokio's method.
            pub async fn ready(
                &self,
                interest: ::tokio::io::Interest,
            ) -> io::Result<::tokio::io::Ready> {
                let wanted = super::ready::wanted(interest);
                let ready = poll_fn(|cx| self.socket().poll_ready(cx, wanted)).await;
                Ok(super::ready::told(ready, interest))
            }

            /// Calls `f` if the socket is ready for any of `interest`. `f` gives `WouldBlock` when it finds that it was not.
            ///
            /// # Errors
            /// `WouldBlock`; as `f`.
            pub fn try_io<R>(
                &self,
                interest: ::tokio::io::Interest,
                f: impl FnOnce() -> io::Result<R>,
            ) -> io::Result<R> {
                let ready = self.socket().readiness() & super::ready::wanted(interest);
                if ready.is_empty() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                f()
            }

            /// Calls `f` whenever the socket is ready for any of `interest`, until it gives anything but `WouldBlock`.
            ///
            /// # Errors
            /// As `f`.
            pub async fn async_io<R>(
                &self,
                interest: ::tokio::io::Interest,
                f: impl FnMut() -> io::Result<R>,
            ) -> io::Result<R> {
                let wanted = super::ready::wanted(interest);
                super::ready::retry(f, |cx| self.socket().poll_ready(cx, wanted)).await
            }
        }
    };
}
pub(super) use readiness;
