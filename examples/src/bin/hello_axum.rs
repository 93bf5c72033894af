//! A web server: axum, unmodified, on Millstream's sockets with tokio's face.

use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::routing::{get, post};
use millstream::tokio::TcpListener;

/// Bytes that differ from place to place.
async fn bytes(Path(count): Path<usize>) -> Vec<u8> {
    let all = 0..count.min(1 << 30);
    all.map(|n| ((n / 7) ^ n) as u8).collect()
}

async fn serve(stage: examples::Stage) -> Result<(), Box<dyn Error>> {
    let pages = Router::new()
        .route("/", get(|| async { "hello from user space\n" }))
        .route("/bytes/{count}", get(bytes))
        // What is sent comes back while it is being sent.
        .route("/echo", post(|body: Body| async { body }));
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    stage.visit(80, |mut stream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: millstream\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().last().unwrap_or_default().to_owned())
    });
    axum::serve(listener, pages).await?;
    Ok(())
}

fn main() -> ExitCode {
    examples::run_async(serve)
}
