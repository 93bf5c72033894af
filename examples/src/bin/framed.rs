//! Messages over a stream in three ways: with their length in front, with a mark at their end, all of one size. Each port of this
//! server speaks one of them and sends every message back, last byte first.

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use millstream::tokio::{TcpListener, TcpStream};
use tokio_util::codec::{
    AnyDelimiterCodec, AnyDelimiterCodecError, Decoder, Encoder, Framed, LengthDelimitedCodec,
};

/// The longest message, bytes: a length is a stranger's word.
const MESSAGE_MAX: usize = 64 * 1024;

/// Messages of `SIZE` bytes, with nothing in between.
struct FixedSize<const SIZE: usize>;

impl<const SIZE: usize> Decoder for FixedSize<SIZE> {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<Bytes>> {
        if from.len() < SIZE {
            from.reserve(SIZE - from.len());
            return Ok(None);
        }
        Ok(Some(from.split_to(SIZE).freeze()))
    }
}

impl<const SIZE: usize> Encoder<Bytes> for FixedSize<SIZE> {
    type Error = io::Error;

    fn encode(&mut self, message: Bytes, into: &mut BytesMut) -> io::Result<()> {
        if message.remaining() != SIZE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        into.put(message);
        Ok(())
    }
}

fn reversed(message: &[u8]) -> Bytes {
    message.iter().rev().copied().collect()
}

async fn by_length(stream: TcpStream) -> io::Result<()> {
    let codec = LengthDelimitedCodec::builder()
        .length_field_type::<u16>()
        .max_frame_length(MESSAGE_MAX)
        .new_codec();
    let mut messages = Framed::new(stream, codec);
    while let Some(message) = messages.next().await {
        messages.send(reversed(&message?)).await?;
    }
    Ok(())
}

async fn by_mark(stream: TcpStream) -> Result<(), AnyDelimiterCodecError> {
    let codec = AnyDelimiterCodec::new_with_max_length(b";".into(), b";".into(), MESSAGE_MAX);
    let mut messages = Framed::new(stream, codec);
    while let Some(message) = messages.next().await {
        let message = String::from_utf8_lossy(&reversed(&message?)).into_owned();
        messages.send(message).await?;
    }
    Ok(())
}

async fn by_size(stream: TcpStream) -> io::Result<()> {
    let mut messages = Framed::new(stream, FixedSize::<8>);
    while let Some(message) = messages.next().await {
        messages.send(reversed(&message?)).await?;
    }
    Ok(())
}

/// Gives each connection to `speak`.
async fn speaks<S: Future<Output = Result<(), E>> + Send + 'static, E: Error>(
    listener: TcpListener,
    speak: impl Fn(TcpStream) -> S,
) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let speaking = speak(stream);
        tokio::spawn(async move {
            if let Err(error) = speaking.await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

/// Says `question` to `port` and reads as many bytes as were said.
fn ask(port: u16, question: &[u8]) -> io::Result<String> {
    let mut stream = std::net::TcpStream::connect((examples::MILLSTREAM, port))?;
    // In two pieces: where a write ends says nothing about where a message does.
    stream.write_all(&question[..3])?;
    stream.write_all(&question[3..])?;
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn serve(stage: examples::Stage) -> Result<(), Box<dyn Error>> {
    let length = TcpListener::bind("0.0.0.0:7001").await?;
    let mark = TcpListener::bind("0.0.0.0:7002").await?;
    let size = TcpListener::bind("0.0.0.0:7003").await?;
    stage.visit(7001, |_| {
        let length = ask(7001, b"\x00\x05hello\x00\x02hi")?;
        let mark = ask(7002, b"hello;hi;")?;
        let size = ask(7003, b"hello...world!!!")?;
        let length = length.replace('\0', "").replace(['\x05', '\x02'], " ");
        Ok(format!("{} | {mark} | {size}", length.trim_start()))
    });
    tokio::try_join!(
        speaks(length, by_length),
        speaks(mark, by_mark),
        speaks(size, by_size)
    )?;
    Ok(())
}

fn main() -> ExitCode {
    examples::run_async(serve)
}
