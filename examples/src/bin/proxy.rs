//! A proxy: whoever connects is joined to a server on the kernel's side, both ways, until both have ended. With `--splice` the host
//! moves what comes in at one connection to the other, and nobody here touches a byte.

use std::error::Error;
use std::process::ExitCode;
use std::thread;

use millstream::Host;
use millstream::tokio::{TcpListener, TcpStream};
use tokio::io::copy_bidirectional;

/// The host's packet memory: what goes through by splices leaves nothing there.
fn memory() -> std::io::Result<String> {
    let pool = tokio::task::block_in_place(|| Host::current()?.snapshot_with(0))?.pool;
    let (now, most) = (pool.in_use * 2, pool.high_water * 2);
    Ok(format!(
        "{now} KiB of packet memory in use, {most} KiB at most"
    ))
}

/// The server behind the proxy.
const BEHIND: (&str, u16) = (examples::KERNEL, 7);

async fn join(mut client: TcpStream, splice: bool) -> std::io::Result<(u64, u64)> {
    let mut server = TcpStream::connect(BEHIND).await?;
    // Ends are passed on, too; a side that does not read holds back the other by the windows.
    if splice {
        // The host moves bytes between connections of one shard.
        server.move_to(client.shard()).await?;
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
            let joined = async || {
                let (there, back) = join(client, splice).await?;
                println!("{from}: {there} bytes there, {back} back; {}", memory()?);
                Ok::<_, std::io::Error>(())
            };
            if let Err(error) = joined().await {
                eprintln!("{from}: {error}");
            }
        });
    }
}

fn main() -> ExitCode {
    examples::run_async_with(&["--splice"], serve)
}
