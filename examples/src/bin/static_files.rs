//! A static file server: the folder it is started in, by axum, in pieces as they are read.

use std::error::Error;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use millstream::tokio::TcpListener;
use tokio_util::io::ReaderStream;

/// The file a path asks for: below the folder, whatever the path says.
fn below(folder: &Path, path: &str) -> Option<PathBuf> {
    let wanted = Path::new(path.trim_start_matches('/'));
    // Neither out of the folder nor to what is hidden.
    let plain = wanted.components().all(|part| match part {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
        _ => false,
    });
    plain.then(|| folder.join(wanted))
}

async fn file(State(folder): State<PathBuf>, uri: Uri) -> Response {
    let Some(path) = below(&folder, uri.path()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(file) = tokio::fs::File::open(&path).await else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let length = match file.metadata().await {
        Ok(facts) if facts.is_file() => facts.len(),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let kind = match path.extension().and_then(|end| end.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("md" | "rs" | "toml" | "txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    (headers, Body::from_stream(ReaderStream::new(file))).into_response()
}

async fn serve(stage: examples::Stage) -> Result<(), Box<dyn Error>> {
    let folder = std::env::current_dir()?;
    let pages = Router::new().fallback(file).with_state(folder);
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    stage.visit(80, |mut stream| {
        stream.write_all(b"GET /Cargo.toml HTTP/1.1\r\nHost: mill\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.lines().next().unwrap_or_default();
        Ok(format!(
            "{status}, {}",
            body.lines().next().unwrap_or_default()
        ))
    });
    axum::serve(listener, pages).await?;
    Ok(())
}

fn main() -> ExitCode {
    examples::run_async(serve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_above_the_folder_and_nothing_hidden() {
        let folder = Path::new("/srv");
        assert_eq!(below(folder, "/a/b.txt"), Some("/srv/a/b.txt".into()));
        for path in [
            "/../etc/passwd",
            "/a/../../b",
            "/.git/config",
            "/a/.b",
            "//../x",
        ] {
            assert_eq!(below(folder, path), None, "{path}");
        }
    }
}
