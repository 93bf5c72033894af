//! A chat: whatever one says, all others hear. Lines by tokio-util's codec, one task for each who is there.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use futures_util::{SinkExt, StreamExt};
use millstream::tokio::{TcpListener, TcpStream};
use tokio::sync::broadcast::{Sender, channel, error::RecvError};
use tokio_util::codec::{Framed, LinesCodec};

/// Lines that may wait for a guest who is slow to read; beyond, the oldest are lost to that guest only.
const BACKLOG: usize = 256;

/// The longest line, bytes: nobody may fill memory by never ending one.
const LINE_MAX: usize = 4096;

async fn guest(
    stream: TcpStream,
    name: SocketAddr,
    room: Sender<(SocketAddr, String)>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut heard = room.subscribe();
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(LINE_MAX));
    lines.send(format!("you are {name}")).await?;
    loop {
        tokio::select! {
            line = lines.next() => match line {
                Some(line) => room.send((name, line?))?,
                None => return Ok(()),
            },
            said = heard.recv() => {
                match said {
                    Ok((who, line)) if who != name => lines.send(format!("{who}: {line}")).await?,
                    Err(RecvError::Lagged(n)) => lines.send(format!("you missed {n} lines")).await?,
                    _ => {}
                }
                continue;
            }
        };
    }
}

async fn serve(stage: examples::Stage) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("0.0.0.0:7000").await?;
    let (room, _) = channel(BACKLOG);
    stage.visit(7000, |alice| {
        let bob = std::net::TcpStream::connect((examples::MILLSTREAM, 7000))?;
        let mut hears = BufReader::new(bob);
        let mut line = String::new();
        // Bob is there when he has been told his name.
        hears.read_line(&mut line)?;
        (&alice).write_all(b"hello, Bob\n")?;
        line.clear();
        hears.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    });
    loop {
        let (stream, name) = listener.accept().await?;
        let room = room.clone();
        tokio::spawn(async move {
            if let Err(error) = guest(stream, name, room).await {
                eprintln!("{name} left: {error}");
            }
        });
    }
}

fn main() -> ExitCode {
    examples::run_async(serve)
}
