//! An echo server without a runtime: futures-io's traits, all connections in one thread, and an executor of a dozen lines.

use std::error::Error;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use futures_util::StreamExt;
use futures_util::io::copy;
use millstream::futures::TcpListener;

/// Wakes the thread that runs the tasks.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future in this thread, which sleeps while there is nothing to do.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

fn main() -> ExitCode {
    examples::run(example)
}

fn example() -> Result<(), Box<dyn Error>> {
    let (stage, host) = examples::stage()?;
    let host = host.start()?;
    let listener = block_on(TcpListener::bind_on(&host, "0.0.0.0:7"))?;
    stage.visit(7, examples::says("hello"));
    block_on(
        listener
            .incoming()
            .for_each_concurrent(None, async |stream| {
                let echoed = match stream {
                    Ok(stream) => copy(&stream, &mut &stream).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = echoed {
                    eprintln!("a connection ended: {error}");
                }
            }),
    );
    Ok(())
}
