//! An HTTP client: hyper-util's, with its pool of connections, and a connector of Millstream's. It asks a server on the kernel's
//! side, four times.

use std::error::Error;
use std::io::{self, BufRead, BufReader, IoSlice, Write as _};
use std::net::TcpListener;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};

use axum::body::{Body, to_bytes};
use axum::http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use millstream::tokio::TcpStream;
use tower_service::Service;

/// How the client gets connections: by Millstream. With this, whatever is built on hyper-util's client runs over it.
#[derive(Debug, Clone)]
struct Connector;

impl Service<Uri> for Connector {
    type Response = Io;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Io>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let host = uri.host().ok_or(io::ErrorKind::InvalidInput)?;
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
            stream.set_nodelay(true)?;
            Ok(Io(TokioIo::new(stream)))
        })
    }
}

/// A stream that tells the client about its connection; everything else is the stream's.
struct Io(TokioIo<TcpStream>);

impl Connection for Io {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A server with the kernel's sockets: says which connection it was asked by, and how often.
fn kernels_server() -> io::Result<()> {
    let listener = TcpListener::bind((examples::KERNEL, 80))?;
    std::thread::spawn(move || -> io::Result<()> {
        for (connection, stream) in listener.incoming().enumerate() {
            let stream = stream?;
            std::thread::spawn(move || answer(stream, connection + 1));
        }
        Ok(())
    });
    Ok(())
}

/// The pool may open a connection before it has got the last one back: each is answered, whatever the others do.
fn answer(mut stream: std::net::TcpStream, connection: usize) -> io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    // The empty line ends a request.
    let asked = lines.take_while(Result::is_ok).flatten();
    for (request, _) in asked.filter(String::is_empty).enumerate() {
        let body = format!("connection {connection}, request {}", request + 1);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes())?;
    }
    Ok(())
}

async fn ask(stage: examples::Stage) -> Result<(), Box<dyn Error>> {
    if stage.is_own() {
        kernels_server()?;
    }
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(Connector);
    let page: Uri = format!("http://{}/", examples::KERNEL).parse()?;
    for _ in 0..4 {
        let answer = client.get(page.clone()).await?;
        let status = answer.status();
        let body = to_bytes(Body::new(answer.into_body()), 1 << 20).await?;
        println!(
            "the kernel's side was asked: {status}, {}",
            String::from_utf8_lossy(&body)
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    examples::run_async(ask)
}
