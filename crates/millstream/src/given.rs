//! Buffers and files that are handed over to be sent: what the faces have in common.
//!
//! What does not live here: how the shard takes them (`engine`), waiting for room.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use engine::{Reply, TcpSocket};

/// Bytes of a file read at once, and how many parts may be under way.
const FILE_PART: usize = 256 * 1024;
pub(crate) const FILE_PARTS: usize = 2;

/// How a buffer is handed over.
pub(crate) type Give<T> = fn(&TcpSocket, T) -> Result<Reply<T>, (T, io::Error)>;

/// How a part of a file is handed over behind so many bytes: of an error the next call hears.
pub(crate) fn give_part(sent: u64) -> Give<Vec<u8>> {
    match sent {
        0 => TcpSocket::try_give,
        _ => TcpSocket::try_give_on,
    }
}

/// Hands over the buffer in `bytes`, where it is again when it was refused.
pub(crate) fn give<T>(
    socket: &TcpSocket,
    bytes: &mut Option<T>,
    with: Give<T>,
) -> io::Result<Reply<T>> {
    let given = bytes.take().map(|bytes| with(socket, bytes));
    given
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?
        .map_err(|(back, error)| {
            *bytes = Some(back);
            error
        })
}

/// Reads the next part of a file into a buffer that is free again: at most `most` bytes from `at` on, none at its end.
pub(crate) fn read_part(
    file: &File,
    mut spare: Vec<u8>,
    at: u64,
    most: u64,
) -> io::Result<Vec<u8>> {
    let want = usize::try_from(most).map_or(FILE_PART, |most| most.min(FILE_PART));
    spare.resize(want, 0);
    loop {
        match file.read_at(&mut spare, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => {
                spare.truncate(read?);
                return Ok(spare);
            }
        }
    }
}

/// Handing over, of a `TcpStream` for tasks. What it names beside `crate` and `std` is of the module it stands in: `attempt`, and
/// `part_of`, which reads a part of a file as the runtime has it.
#[cfg(any(feature = "futures", feature = "tokio"))]
macro_rules! stream_gives {
    ($stream:ty) => {
        impl $stream {
            /// As [`crate::TcpStream::send_owned`]: hands a whole buffer over to be sent, whose bytes are copied once, by the shard
            /// into packet memory, and waits while there is no room at all. The answer, which can be awaited, gives it back then.
            ///
            /// # Errors
            /// As writing; the buffer is dropped.
            pub async fn send_owned<T>(&self, bytes: T) -> io::Result<engine::Reply<T>>
            where
                T: AsRef<[u8]> + Send + Sync + 'static,
            {
                self.give(bytes, engine::TcpSocket::try_give).await
            }

            async fn give<T>(
                &self,
                bytes: T,
                with: crate::given::Give<T>,
            ) -> io::Result<engine::Reply<T>> {
                let socket = self.socket();
                let mut bytes = Some(bytes);
                poll_fn(|cx| {
                    attempt(
                        cx,
                        || crate::given::give(socket, &mut bytes, with),
                        |cx| socket.poll_writable(cx),
                    )
                })
                .await
            }

            /// As [`crate::TcpStream::send_file`]: sends `len` bytes of a file from `offset` on, and tells how many were handed over.
            /// tokio's blocking threads read it; futures-io knows none: there the task's own thread does. When it is dropped
            /// before it is done, what was handed over is sent all the same.
            ///
            /// # Errors
            /// Of reading the file, and of writing; when some was sent before, how much is told, and the error to the next call.
            pub async fn send_file(
                &self,
                file: &std::fs::File,
                offset: u64,
                len: u64,
            ) -> io::Result<u64> {
                let mut under_way: std::collections::VecDeque<engine::Reply<Vec<u8>>> =
                    std::collections::VecDeque::new();
                let mut sent = 0;
                while sent < len {
                    let oldest = (under_way.len() >= crate::given::FILE_PARTS)
                        .then(|| under_way.pop_front())
                        .flatten();
                    let spare = match oldest {
                        Some(reply) => reply.await,
                        None => None,
                    };
                    let at = offset.saturating_add(sent);
                    let part = part_of(file, spare.unwrap_or_default(), at, len - sent).await;
                    let n = part.as_ref().map_or(0, Vec::len) as u64;
                    let given = match part {
                        Ok(bytes) if bytes.is_empty() => break,
                        Ok(bytes) => self.give(bytes, crate::given::give_part(sent)).await,
                        Err(error) => Err(error),
                    };
                    match given {
                        Ok(reply) => {
                            under_way.push_back(reply);
                            sent += n;
                        }
                        Err(_) if sent > 0 => break,
                        Err(error) => return Err(error),
                    }
                }
                Ok(sent)
            }
        }
    };
}
#[cfg(any(feature = "futures", feature = "tokio"))]
pub(crate) use stream_gives;
