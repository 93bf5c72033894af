//! An echo server on a completion queue: operations with their buffers go in, what is done comes out, and a buffer that was
//! filled is sent as it is.

use std::error::Error;
use std::process::ExitCode;

use millstream::completion::{BufferGroup, Completion, Op, QueueOptions};

/// What an operation is, told by its token.
const LISTEN: u64 = 0;
const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const CLOSE: u64 = 4;

/// What is to be done next.
fn next(completion: Completion, buffers: &BufferGroup) -> std::io::Result<Option<Op>> {
    let Some(socket) = completion.socket else {
        return Ok(None);
    };
    let receive = || Op::receive_in(socket, buffers).token(RECEIVE);
    Ok(match (completion.token, completion.result) {
        (LISTEN, listening) => {
            listening?;
            Some(Op::accept_multishot(socket, 0).token(ACCEPT))
        }
        (ACCEPT, Ok(_)) | (SEND, Ok(_)) => Some(receive()),
        (RECEIVE, Ok(n @ 1..)) => {
            let received = completion.buffer;
            received.map(|buffer| Op::send(socket, buffer).first(n).token(SEND))
        }
        // The end of the stream, or of the connection.
        (RECEIVE | SEND, _) => Some(Op::close(socket).token(CLOSE)),
        _ => None,
    })
}

fn main() -> ExitCode {
    examples::run(example)
}

fn example() -> Result<(), Box<dyn Error>> {
    let (stage, host) = examples::stage()?;
    let host = host.start()?;
    let queue = host.completion_queue(QueueOptions::default())?;
    let buffers = BufferGroup::new(64, 64 * 1024);
    queue.submit(Op::listen(([0, 0, 0, 0], 7).into(), 1024, 0).token(LISTEN))?;
    let mut done = Vec::new();
    queue.wait(&mut done, 1, None)?;
    stage.visit(7, examples::says("hello"));
    loop {
        let mut ops = Vec::new();
        for completion in done.drain(..) {
            ops.extend(next(completion, &buffers)?);
        }
        queue.submit_all(&mut ops)?;
        queue.wait(&mut done, 64, None)?;
    }
}
