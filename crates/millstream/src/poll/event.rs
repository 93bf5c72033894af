//! What is told of sources, and what can be one.

use std::fmt;

use base::epoll::{EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, EpollEvent};
use engine::WatchedSocket;

use super::Token;
use super::sealed::Watched;
use crate::{TcpListener, TcpStream, UdpSocket};

/// What can be registered with a [`Poll`](crate::Poll): [`TcpListener`], [`TcpStream`] and [`UdpSocket`], and those of the faces for
/// async runtimes. Nothing else can.
///
/// ```
/// use millstream::event::Source;
/// use millstream::{Interest, Poll, Token};
///
/// fn watch(poll: &Poll, source: &impl Source) -> std::io::Result<()> {
///     poll.registry().register(source, Token(0), Interest::READABLE)
/// }
/// ```
pub trait Source: Watched {}

macro_rules! sources {
    ($($source:ty),+) => {$(
        impl Watched for $source {
            fn watched(&self) -> WatchedSocket {
                self.socket().watched()
            }
        }

        impl Source for $source {}
    )+};
}

sources!(TcpListener, TcpStream, UdpSocket);
#[cfg(feature = "tokio")]
sources!(
    crate::tokio::TcpListener,
    crate::tokio::TcpStream,
    crate::tokio::UdpSocket
);
#[cfg(feature = "futures")]
sources!(
    crate::futures::TcpListener,
    crate::futures::TcpStream,
    crate::futures::UdpSocket
);

impl<S: Source + ?Sized> Watched for Box<S> {
    fn watched(&self) -> WatchedSocket {
        (**self).watched()
    }
}

impl<S: Source + ?Sized> Source for Box<S> {}

/// What a source is ready for, as [`Poll::poll`](crate::Poll::poll) tells it.
///
/// It says what may be worth trying. A socket that is ready may turn out not to be; one that has failed is readable and writable,
/// and the call says why.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event {
    told: EpollEvent,
}

impl Event {
    fn has(&self, bits: u32) -> bool {
        self.told.events & bits != 0
    }

    /// The source's token.
    pub fn token(&self) -> Token {
        // It was one when the source was registered.
        Token(self.told.data as usize)
    }

    /// There may be something to read: data, a connection to accept, an end.
    pub fn is_readable(&self) -> bool {
        self.has(EPOLLIN | EPOLLPRI)
    }

    /// There may be room to write, or the attempt to connect has ended.
    pub fn is_writable(&self) -> bool {
        self.has(EPOLLOUT)
    }

    /// An error waits to be taken.
    pub fn is_error(&self) -> bool {
        self.has(EPOLLERR)
    }

    /// Nothing will come any more but what has come already.
    pub fn is_read_closed(&self) -> bool {
        self.has(EPOLLHUP) || (self.has(EPOLLIN) && self.has(EPOLLRDHUP))
    }

    /// Nothing can be written any more.
    pub fn is_write_closed(&self) -> bool {
        let failed = self.has(EPOLLOUT) && self.has(EPOLLERR);
        self.has(EPOLLHUP) || failed || self.told.events == EPOLLERR
    }

    /// Urgent data can be read.
    pub fn is_priority(&self) -> bool {
        self.has(EPOLLPRI)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("token", &self.token())
            .field("readable", &self.is_readable())
            .field("writable", &self.is_writable())
            .field("error", &self.is_error())
            .field("read_closed", &self.is_read_closed())
            .field("write_closed", &self.is_write_closed())
            .field("priority", &self.is_priority())
            .finish()
    }
}

/// Room for events, filled by [`Poll::poll`](crate::Poll::poll).
///
/// ```
/// use millstream::event::Iter;
/// use millstream::{Events, Poll, Token, Waker};
///
/// let mut poll = Poll::new()?;
/// let waker = Waker::new(poll.registry(), Token(3))?;
/// waker.wake()?;
/// let mut events = Events::with_capacity(16);
/// poll.poll(&mut events, None)?;
/// let told: Iter<'_> = events.iter();
/// assert_eq!(told.map(|event| event.token()).collect::<Vec<_>>(), [Token(3)]);
/// events.clear();
/// assert!(events.is_empty() && events.capacity() == 16);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Events {
    events: Vec<Event>,
    capacity: usize,
}

impl Events {
    /// Room for `capacity` events at a time. Fewer than are ready is no loss: the others come first the next time.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            events: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// Events there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events, oldest first.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            events: self.events.iter(),
        }
    }

    /// Forgets them. [`Poll::poll`](crate::Poll::poll) does so first, too.
    pub fn clear(&mut self) {
        self.events.clear();
    }

    pub(super) fn push(&mut self, told: EpollEvent) {
        self.events.push(Event { told });
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The events of an [`Events`]: made by [`Events::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    events: std::slice::Iter<'a, Event>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Event;

    fn next(&mut self) -> Option<&'a Event> {
        self.events.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.events.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(events: u32) -> Event {
        Event {
            told: EpollEvent { events, data: 3 },
        }
    }

    /// As mio maps epoll's bits.
    #[test]
    fn bits_have_mios_meanings() {
        assert_eq!(event(0).token(), Token(3));
        assert!(event(EPOLLIN).is_readable() && !event(EPOLLIN).is_writable());
        assert!(event(EPOLLPRI).is_readable() && event(EPOLLPRI).is_priority());
        assert!(event(EPOLLOUT).is_writable() && !event(EPOLLOUT).is_priority());
        assert!(event(EPOLLIN | EPOLLRDHUP).is_read_closed());
        assert!(!event(EPOLLRDHUP).is_read_closed() && !event(EPOLLIN).is_read_closed());
        assert!(event(EPOLLHUP).is_read_closed() && event(EPOLLHUP).is_write_closed());
        assert!(event(EPOLLOUT | EPOLLERR).is_write_closed());
        assert!(event(EPOLLERR).is_write_closed() && event(EPOLLERR).is_error());
        assert!(!event(EPOLLIN | EPOLLERR).is_write_closed());
    }

    #[test]
    fn events_know_their_room() {
        let mut events = Events::with_capacity(2);
        assert!(events.is_empty() && events.capacity() == 2);
        events.push(event(EPOLLIN).told);
        assert_eq!(events.iter().len(), 1);
        assert!(format!("{events:?}").contains("Token(3)"));
        events.clear();
        assert!(events.is_empty());
    }
}
