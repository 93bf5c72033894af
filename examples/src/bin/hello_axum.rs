//! A web server: axum, unmodified, on Millstream's sockets with tokio's face.

use std::error::Error;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use millstream::Host;
use millstream::tokio::{TcpListener, TcpStream};

/// What axum accepts connections from.
struct Front(TcpListener);

impl axum::serve::Listener for Front {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        self.0.accept_forever().await
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

async fn serve(host: Host, stage: examples::Stage) -> Result<(), Box<dyn Error>> {
    let pages = Router::new()
        .route("/", get(|| async { "hello from user space\n" }))
        .route(
            "/bytes/{count}",
            get(|Path(count): Path<usize>| async move { vec![b'm'; count.min(1 << 30)] }),
        );
    let listener = TcpListener::bind_on(&host, "0.0.0.0:80").await?;
    stage.visit(80, |mut stream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: millstream\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().last().unwrap_or_default().to_owned())
    });
    axum::serve(Front(listener), pages).await?;
    Ok(())
}

fn main() -> ExitCode {
    examples::run(example)
}

fn example() -> Result<(), Box<dyn Error>> {
    let (stage, host) = examples::stage()?;
    // Threads, and with them tokio's runtime, only after the stage is set.
    let host = host.start()?;
    tokio::runtime::Runtime::new()?.block_on(serve(host, stage))
}
