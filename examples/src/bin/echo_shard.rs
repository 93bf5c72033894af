//! An echo server that lives on the shard: no other thread, no queue, no wake-up between the stack and the application.

use std::error::Error;
use std::process::ExitCode;

use millstream::TcpOptions;
use millstream::shard::{App, Event, Ready, ShardCx, Shutdown, SocketError, SocketId};

/// The listener's token; connections have none.
const LISTENER: u64 = 1;

struct Echo {
    buffer: Vec<u8>,
}

impl Echo {
    /// Sends back what is there, as long as there is room to send; the rest stays in the stack, which closes the window.
    fn echo(&mut self, cx: &mut ShardCx<'_>, socket: SocketId) -> Result<(), SocketError> {
        loop {
            let n = cx.host.tcp_peek(socket, &mut self.buffer)?;
            if n == 0 {
                // The peer has said everything: so have we, once it is sent.
                return cx.host.tcp_shutdown(cx.now, socket, Shutdown::Write);
            }
            let sent = cx.host.tcp_send(cx.now, socket, &self.buffer[..n])?;
            cx.host.tcp_recv(cx.now, socket, &mut self.buffer[..sent])?;
        }
    }
}

impl App for Echo {
    type Command = ();

    fn on_start(&mut self, cx: &mut ShardCx<'_>) {
        let local = ([0, 0, 0, 0], 7).into();
        match cx
            .host
            .tcp_listen(cx.now, local, 1024, &TcpOptions::default())
        {
            Ok(listener) => {
                let _ = cx.host.set_token(listener, LISTENER);
            }
            Err(error) => {
                eprintln!("cannot listen: {error}");
                cx.stop();
            }
        }
    }

    fn on_event(&mut self, cx: &mut ShardCx<'_>, event: Event) {
        if event.token == LISTENER {
            while let Ok((socket, _peer)) = cx.host.tcp_accept(cx.now, event.socket) {
                let _ = cx.host.set_token(socket, 0);
            }
            return;
        }
        match self.echo(cx, event.socket) {
            Ok(()) | Err(SocketError::WouldBlock) if !event.ready.contains(Ready::HUP) => {}
            _ => {
                let _ = cx.host.close(cx.now, event.socket);
            }
        }
    }
}

fn main() -> ExitCode {
    examples::run(example)
}

fn example() -> Result<(), Box<dyn Error>> {
    let (stage, host) = examples::stage()?;
    let mut shard = host.build_with(Echo {
        buffer: vec![0; 64 * 1024],
    })?;
    stage.visit(7, examples::says("hello"));
    Ok(shard.run()?)
}
