//! A proxy: whoever connects is joined to a server on the kernel's side, both ways, until both have ended. With `--splice` the host
//! moves what comes in at one connection to the other, and nobody here touches a byte.

use std::error::Error;
use std::process::ExitCode;
use std::thread;

use millstream::tokio::{TcpListener, TcpStream};
use tokio::io::copy_bidirectional;

/// The server behind the proxy.
const BEHIND: (&str, u16) = (examples::KERNEL, 7);

async fn join(mut client: TcpStream, splice: bool) -> std::io::Result<(u64, u64)> {
    let mut server = TcpStream::connect(BEHIND).await?;
    // Ends are passed on, too; a side that does not read holds back the other by the windows.
    if splice {
        let (there, back) = (client.splice(&server)?, server.splice(&client)?);
        tokio::try_join!(there, back)
    } else {
        copy_bidirectional(&mut client, &mut server).await
    }
}

async fn serve(stage: examples::Stage) -> Result<(), Box<dyn Error>> {
    if stage.is_own() {
        let behind = std::net::TcpListener::bind(BEHIND)?;
        thread::spawn(move || {
            for stream in behind.incoming().flatten() {
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
    }
    let splice = stage.has("--splice");
    let listener = TcpListener::bind("0.0.0.0:8000").await?;
    stage.visit(8000, examples::says("hello, through the proxy"));
    loop {
        let (client, from) = listener.accept().await?;
        tokio::spawn(async move {
            match join(client, splice).await {
                Ok((there, back)) => println!("{from}: {there} bytes there, {back} back"),
                Err(error) => eprintln!("{from}: {error}"),
            }
        });
    }
}

fn main() -> ExitCode {
    examples::run_async_with(&["--splice"], serve)
}
