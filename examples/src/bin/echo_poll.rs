//! An echo server in one thread that waits for all its connections at once, as one would write it with mio.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

use millstream::{Events, Interest, Poll, TcpStream, Token};

const LISTENER: Token = Token(0);

/// A connection, and what was read of it and finds no room to be sent.
struct Client {
    stream: TcpStream,
    waiting: Vec<u8>,
}

impl Client {
    /// Sends back what is there, until nothing is or there is no room. Whether the connection goes on.
    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            while !self.waiting.is_empty() {
                let sent = self.stream.write(&self.waiting)?;
                self.waiting.drain(..sent);
            }
            match self.stream.read(buffer)? {
                0 => return Ok(false),
                n => self.waiting.extend_from_slice(&buffer[..n]),
            }
        }
    }
}

fn main() -> ExitCode {
    examples::run(example)
}

fn example() -> Result<(), Box<dyn Error>> {
    let (stage, host) = examples::stage()?;
    let host = host.start()?;
    let listener = host.tcp_listen("0.0.0.0:7")?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&listener, LISTENER, Interest::READABLE)?;
    stage.visit(7, examples::says("hello"));
    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; 64 * 1024];
    let mut tokens = 1..;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                // An edge is told once: all who wait are let in.
                while let Some((stream, _peer)) = unless_it_blocks(listener.accept())? {
                    let token = Token(tokens.next().ok_or("no tokens are left")?);
                    let both = Interest::READABLE | Interest::WRITABLE;
                    stream.set_nonblocking(true)?;
                    poll.registry().register(&stream, token, both)?;
                    let waiting = Vec::new();
                    clients.insert(token, Client { stream, waiting });
                }
            } else if let Some(client) = clients.get_mut(&event.token()) {
                let goes_on = match unless_it_blocks(client.echo(&mut buffer)) {
                    Ok(ended) => ended.unwrap_or(true),
                    Err(error) => {
                        eprintln!("a connection ended: {error}");
                        false
                    }
                };
                if !goes_on {
                    // Dropping it takes it out of the poll, too.
                    clients.remove(&event.token());
                }
            }
        }
    }
}

/// `None` when it would block.
fn unless_it_blocks<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
