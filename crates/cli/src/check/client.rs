//! A client of HTTP/1.1 on a kernel socket, as small as the self-check needs: one request, one answer with a length.
//!
//! What does not live here: redirects, chunked answers, reuse of connections; the server under test is known.
//!
//! Invariant: reading is the measured thing, so body bytes go from the socket into one buffer and nowhere else.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest head of an answer.
const HEAD_MAX: usize = 16 * 1024;

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// One connection with one request on it.
pub(crate) struct Client {
    stream: TcpStream,
    buf: Vec<u8>,
    /// Body bytes that came with the head: `buf[start..end]`.
    start: usize,
    end: usize,
    left: u64,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(to: SocketAddr) -> io::Result<Self> {
        Self::with_buffer(to, BUFFER).await
    }

    /// Connects, with less memory: for many connections with short answers.
    pub(crate) async fn connect_small(to: SocketAddr) -> io::Result<Self> {
        Self::with_buffer(to, HEAD_MAX).await
    }

    async fn with_buffer(to: SocketAddr, size: usize) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buf: vec![0; size],
            start: 0,
            end: 0,
            left: 0,
        })
    }

    /// Sends a GET and reads the head; the length of the body.
    pub(crate) async fn get(&mut self, path: &str) -> io::Result<u64> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: millstream\r\nConnection: close\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        self.head().await
    }

    /// Sends the head of a POST; its body is chunked when no length is given.
    pub(crate) async fn post(&mut self, path: &str, len: Option<u64>) -> io::Result<()> {
        let framing = match len {
            Some(len) => format!("Content-Length: {len}"),
            None => String::from("Transfer-Encoding: chunked"),
        };
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: millstream\r\n{framing}\r\nConnection: close\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await
    }

    /// Sends raw bytes of the request's body.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads the head of the answer; the length of the body.
    pub(crate) async fn head(&mut self) -> io::Result<u64> {
        let mut filled = 0;
        loop {
            let len = self.stream.read(&mut self.buf[filled..HEAD_MAX]).await?;
            if len == 0 {
                return Err(bad("the connection ended before the answer's head"));
            }
            filled += len;
            let head = &self.buf[..filled];
            if let Some(body) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&head[..body]);
                (self.left, self.start, self.end) = (parse_head(&head)?, body + 4, filled);
                return Ok(self.left);
            }
            if filled == HEAD_MAX {
                return Err(bad("the answer's head is too long"));
            }
        }
    }

    /// The next bytes of the body; empty at its end.
    pub(crate) async fn piece(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        if self.start == self.end {
            let most = self
                .buf
                .len()
                .min(usize::try_from(self.left).unwrap_or(usize::MAX));
            (self.start, self.end) = (0, self.stream.read(&mut self.buf[..most]).await?);
            if self.end == 0 {
                return Err(bad("the connection ended before the answer did"));
            }
        }
        let piece = self.start..self.end;
        self.start = self.end;
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok(&self.buf[piece])
    }

    /// The whole rest of a short body, and then the server's end of the connection.
    pub(crate) async fn finish(mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while self.left > 0 {
            body.extend_from_slice(self.piece().await?);
        }
        match self.stream.read(&mut self.buf).await? {
            0 => Ok(body),
            _ => Err(bad("more bytes than the answer's length")),
        }
    }
}

/// The body's length, from the head of an answer that says 200.
fn parse_head(head: &str) -> io::Result<u64> {
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(bad(format!("the answer is {status:?}")));
    }
    lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, len)| len.trim().parse().ok())
        .ok_or_else(|| bad("the answer has no length"))
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_strictly() {
        assert_eq!(
            parse_head("HTTP/1.1 200 OK\r\ncontent-LENGTH:  12").unwrap(),
            12
        );
        assert!(parse_head("HTTP/1.1 404 Not Found\r\ncontent-length: 12").is_err());
        assert!(parse_head("HTTP/1.1 200 OK\r\ncontent-length: -1").is_err());
        assert!(parse_head("").is_err());
    }
}
