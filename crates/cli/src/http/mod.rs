//! HTTP/1.1 on any stack's streams: the live page, its figures, and bytes to move.
//!
//! What does not live here: sockets (`serve`), the figures themselves (`view`), the page's look (`assets/index.html`).
//!
//! Invariant: no answer is built in memory as a whole; a download of any length costs one shared block.

pub(crate) mod files;
pub(crate) mod live;
pub(crate) mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::body::Body as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::services::{Accept, accept_all};
use live::Live;

/// The download the page announces, with its digest.
pub(crate) const ANNOUNCED: u64 = 1_000_000_000;

/// The longest pattern whose digest is computed on request: a few seconds of one core.
const DIGEST_MAX: u64 = 16 << 30;

/// Digests up to this length do not wait for others: milliseconds.
const DIGEST_SMALL: u64 = 64 << 20;

/// Digests kept at a time.
const DIGESTS_KEPT: usize = 64;

/// A connection that sends no request for so long is closed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Upload bytes hashed before other connections get a turn.
const HASH_TURN: usize = 1 << 20;

pub(crate) const PAGE: &str = include_str!("../../assets/index.html");

/// The page needs nothing from anywhere else, and says so to the browser.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const NOT_FOUND: &str = "not found; there are / /events /stats.json /bytes/N /digest/N /health, \
     and POST /upload and /discard\n";

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    live: Arc<Live>,
    digests: Arc<Digests>,
}

/// The router of the demo: page, figures, downloads, uploads. Starts computing the announced digest.
pub(crate) fn demo(live: Arc<Live>) -> Router {
    let shared = Shared {
        live,
        digests: Arc::default(),
    };
    let digests = Arc::clone(&shared.digests);
    tokio::spawn(async move { digests.of(ANNOUNCED).await });
    Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/stats.json", get(stats))
        .route("/bytes/{n}", get(bytes))
        .route("/digest/{n}", get(digest))
        .route("/upload", post(upload))
        .route("/discard", post(discard))
        .route("/health", get(async || "ok\n"))
        .fallback(async || (StatusCode::NOT_FOUND, NOT_FOUND))
        .with_state(shared)
}

/// Serves every connection of `listener` with `router`.
pub(crate) async fn serve<A: Accept>(listener: A, router: Router) {
    accept_all(listener, move |stream| connection(stream, router.clone())).await;
}

async fn connection<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    // With writev a body's bytes go straight from its blocks to the socket instead of through a joining buffer.
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .writev(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // A peer that breaks off or speaks something else ends its own connection and nothing else.
    drop(served);
}

async fn page() -> Response {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(PAGE_POLICY),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (headers, PAGE).into_response()
}

async fn events(State(shared): State<Shared>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Body::new(shared.live.subscribe())).into_response()
}

async fn stats(State(shared): State<Shared>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, shared.live.now().await).into_response()
}

/// A length from a path; digits only, so that what is not a length is refused with a reason.
fn length(text: &str) -> Result<u64, Box<Response>> {
    let refused = "not a length: give a number of bytes in decimal, at most 18446744073709551615\n";
    match text.parse() {
        Ok(n) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
        _ => Err(Box::new((StatusCode::BAD_REQUEST, refused).into_response())),
    }
}

async fn bytes(Path(n): Path<String>) -> Response {
    let n = match length(&n) {
        Ok(n) => n,
        Err(refused) => return *refused,
    };
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (header::CONTENT_LENGTH, HeaderValue::from(n)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::new(pattern::Pattern::new(n))).into_response()
}

/// What was hashed or counted.
#[derive(Debug, Serialize)]
struct Received {
    length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// From the first to the last byte of the body.
    milliseconds: u64,
}

async fn digest(State(shared): State<Shared>, Path(n): Path<String>) -> Response {
    let n = match length(&n) {
        Ok(n) if n > DIGEST_MAX => {
            let refused = format!("too long: digests are computed up to {DIGEST_MAX} bytes\n");
            return (StatusCode::BAD_REQUEST, refused).into_response();
        }
        Ok(n) => n,
        Err(refused) => return *refused,
    };
    let start = Instant::now();
    let sha256 = Some(shared.digests.of(n).await);
    let milliseconds = start.elapsed().as_millis() as u64;
    axum::Json(Received {
        length: n,
        sha256,
        milliseconds,
    })
    .into_response()
}

async fn upload(request: Request) -> Response {
    let mut hasher = Sha256::new();
    match receive(request, |piece| hasher.update(piece)).await {
        Ok((length, milliseconds)) => axum::Json(Received {
            length,
            sha256: Some(pattern::hex(hasher)),
            milliseconds,
        })
        .into_response(),
        Err(error) => broken_off(&error),
    }
}

async fn discard(request: Request) -> Response {
    match receive(request, |_| ()).await {
        Ok((length, milliseconds)) => axum::Json(Received {
            length,
            sha256: None,
            milliseconds,
        })
        .into_response(),
        Err(error) => broken_off(&error),
    }
}

fn broken_off(error: &axum::Error) -> Response {
    (
        StatusCode::BAD_REQUEST,
        format!("the body broke off: {error}\n"),
    )
        .into_response()
}

/// Takes a body piece by piece; its length and the milliseconds it took.
async fn receive(
    request: Request,
    mut take: impl FnMut(&Bytes),
) -> Result<(u64, u64), axum::Error> {
    let mut body = pin!(request.into_body());
    let (start, mut len, mut turn) = (Instant::now(), 0, 0);
    while let Some(frame) = std::future::poll_fn(|cx| Pin::as_mut(&mut body).poll_frame(cx)).await {
        let frame = frame?;
        let Some(piece) = frame.data_ref() else {
            continue;
        };
        take(piece);
        len += piece.len() as u64;
        turn += piece.len();
        if turn >= HASH_TURN {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok((len, start.elapsed().as_millis() as u64))
}

/// Digests of the pattern by length: each computed once, long ones one at a time, off the runtime's own threads, and from the
/// longest shorter one on, as every pattern is a prefix of the longer ones.
#[derive(Default)]
struct Digests {
    kept: Mutex<BTreeMap<u64, Sha256>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Digests {
    async fn of(&self, len: u64) -> String {
        if let Some(hasher) = self.kept().get(&len) {
            return pattern::hex(hasher.clone());
        }
        let _turn = match len {
            0..=DIGEST_SMALL => None,
            _ => Some(self.one_at_a_time.lock().await),
        };
        let known = self
            .kept()
            .range(..=len)
            .next_back()
            .map(|(at, hasher)| (*at, hasher.clone()));
        let (at, hasher) = known.unwrap_or_default();
        match tokio::task::spawn_blocking(move || pattern::extend(hasher, at, len)).await {
            Ok(hasher) => {
                self.keep(len, hasher.clone());
                pattern::hex(hasher)
            }
            Err(_) => String::from("unknown"),
        }
    }

    fn keep(&self, len: u64, hasher: Sha256) {
        let mut kept = self.kept();
        if kept.len() >= DIGESTS_KEPT {
            // Any will do, but the announced one is asked for by every page.
            let victim = kept.keys().copied().find(|n| *n != ANNOUNCED);
            victim.map(|n| kept.remove(&n));
        }
        kept.insert(len, hasher);
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u64, Sha256>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
