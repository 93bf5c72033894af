//! Static files below one folder.
//!
//! What does not live here: listings, ranges, compression, caching; a real web server has them.
//!
//! Invariant: the kernel resolves every path beneath the root (openat2 with RESOLVE_BENEATH), links included, so no
//! path, encoding or race leads out of it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::{Frame, SizeHint};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::io::{AsyncRead, ReadBuf};

use crate::failure::Failure;

/// Bytes read from a file at once.
const SLICE: usize = 128 * 1024;

/// A router that serves what lies below `root`.
///
/// # Errors
/// When `root` is not a folder that can be opened.
pub(crate) fn router(root: &Path) -> Result<Router, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| {
        Failure::new(
            format_args!("cannot serve {}: {error}", root.display()),
            "give `root` an existing folder this user may enter",
        )
    })?;
    Ok(Router::new().fallback_service(get(serve).with_state(Arc::new(root))))
}

async fn serve(State(root): State<Arc<OwnedFd>>, uri: Uri) -> Response {
    let Some(path) = decode(uri.path()) else {
        return (StatusCode::BAD_REQUEST, "bad path\n").into_response();
    };
    let opened = tokio::task::spawn_blocking(move || find(&root, &path)).await;
    match opened.unwrap_or(Err(Errno::IO)) {
        Ok(Found::File { file, len, kind }) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
                (header::CONTENT_LENGTH, HeaderValue::from(len)),
                (
                    header::X_CONTENT_TYPE_OPTIONS,
                    HeaderValue::from_static("nosniff"),
                ),
            ];
            let file = tokio::fs::File::from_std(file);
            (
                headers,
                Body::new(FileBody {
                    file,
                    left: len,
                    buf: vec![0; SLICE],
                }),
            )
                .into_response()
        }
        // Relative links in the folder's page only work below the slash.
        Ok(Found::Folder) => match HeaderValue::try_from(format!("{}/", uri.path())) {
            Ok(location) if !uri.path().starts_with("//") => (
                StatusCode::PERMANENT_REDIRECT,
                [(header::LOCATION, location)],
            )
                .into_response(),
            _ => (StatusCode::NOT_FOUND, "not found\n").into_response(),
        },
        Err(Errno::ACCESS | Errno::PERM) => (StatusCode::FORBIDDEN, "forbidden\n").into_response(),
        Err(Errno::NOSYS) => {
            let refused =
                "this kernel has no openat2 (Linux 5.6), without which no file is safe to serve\n";
            (StatusCode::INTERNAL_SERVER_ERROR, refused).into_response()
        }
        Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO) => {
            (StatusCode::SERVICE_UNAVAILABLE, "busy\n").into_response()
        }
        // RESOLVE_BENEATH answers an escape with EXDEV: to the outside there is nothing there.
        Err(_) => (StatusCode::NOT_FOUND, "not found\n").into_response(),
    }
}

enum Found {
    File {
        file: File,
        len: u64,
        kind: &'static str,
    },
    /// A folder asked for without its slash.
    Folder,
}

fn find(root: &OwnedFd, path: &[u8]) -> Result<Found, Errno> {
    let asked = path.strip_prefix(b"/").unwrap_or(path);
    let mut name = asked.to_vec();
    if name.is_empty() || name.ends_with(b"/") {
        name.extend_from_slice(b"index.html");
    }
    // NONBLOCK: opening a pipe somebody left there must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(root.as_fd(), name.as_slice(), flags, Mode::empty(), resolve)?;
    let file = File::from(opened);
    let about = file.metadata().map_err(|_| Errno::IO)?;
    if about.is_dir() {
        return Ok(Found::Folder);
    }
    if !about.is_file() {
        return Err(Errno::NOENT);
    }
    Ok(Found::File {
        file,
        len: about.len(),
        kind: kind_of(&name),
    })
}

/// Percent-decoding; None for a broken escape or a NUL.
fn decode(path: &str) -> Option<Vec<u8>> {
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            hex(bytes.next()?)? << 4 | hex(bytes.next()?)?
        } else {
            byte
        };
        if byte == 0 {
            return None;
        }
        decoded.push(byte);
    }
    Some(decoded)
}

/// The media type by the name's ending.
fn kind_of(name: &[u8]) -> &'static str {
    let ending = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    match ending.to_ascii_lowercase().as_slice() {
        b"html" | b"htm" => "text/html; charset=utf-8",
        b"css" => "text/css; charset=utf-8",
        b"js" | b"mjs" => "text/javascript; charset=utf-8",
        b"json" => "application/json",
        b"txt" | b"md" | b"toml" | b"log" => "text/plain; charset=utf-8",
        b"svg" => "image/svg+xml",
        b"png" => "image/png",
        b"jpg" | b"jpeg" => "image/jpeg",
        b"gif" => "image/gif",
        b"webp" => "image/webp",
        b"ico" => "image/x-icon",
        b"woff2" => "font/woff2",
        b"pdf" => "application/pdf",
        b"wasm" => "application/wasm",
        b"mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

/// A file's bytes as a body. One that shrinks while it is sent breaks the connection: the length was promised.
struct FileBody {
    file: tokio::fs::File,
    left: u64,
    buf: Vec<u8>,
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let most = this
            .buf
            .len()
            .min(usize::try_from(this.left).unwrap_or(usize::MAX));
        let mut buf = ReadBuf::new(&mut this.buf[..most]);
        match Pin::new(&mut this.file).poll_read(cx, &mut buf) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())))
            }
            Poll::Ready(Ok(())) => {
                let piece = Bytes::copy_from_slice(buf.filled());
                this.left -= piece.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
