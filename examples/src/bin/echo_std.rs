//! An echo server with threads, as one would write it with `std::net`.

use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::thread;

use millstream::TcpStream;

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 64 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
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
    stage.visit(7, examples::says("hello"));
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = echo(stream) {
                eprintln!("a connection ended: {error}");
            }
        });
    }
    Ok(())
}
