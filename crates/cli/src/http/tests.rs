//! The endpoints over kernel sockets.

use super::*;
use crate::view::Stats;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server on loopback with figures that count how often they were looked at.
pub(crate) async fn start() -> SocketAddr {
    let looks = std::sync::atomic::AtomicU64::new(0);
    let source = Arc::new(move || Stats {
        uptime_ms: looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        ..Stats::default()
    });
    let live = Live::new(source, None);
    tokio::spawn(Arc::clone(&live).run());
    start_router(demo(live)).await
}

async fn start_router(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router));
    address
}

/// Head and body of the answer to a request written out.
async fn ask(to: SocketAddr, request: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    (
        String::from_utf8(answer[..end].to_vec()).unwrap(),
        answer[end + 4..].to_vec(),
    )
}

async fn get(to: SocketAddr, path: &str) -> (String, Vec<u8>) {
    ask(to, &format!("GET {path} HTTP/1.1"), b"").await
}

#[tokio::test]
async fn downloads_have_their_length_and_their_digest() {
    let to = start().await;
    for n in [0, 1, 1_000_000, pattern::PERIOD as u64, 3_000_001] {
        let (head, body) = get(to, &format!("/bytes/{n}")).await;
        assert!(head.contains(&format!("content-length: {n}")), "{head}");
        assert_eq!(body.len() as u64, n);
        let (_, said) = get(to, &format!("/digest/{n}")).await;
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        assert_eq!(said["sha256"], pattern::hex(Sha256::new_with_prefix(&body)));
        assert_eq!(said["length"], n);
    }
    let (head, body) = ask(to, "HEAD /bytes/123456789012345 HTTP/1.1", b"").await;
    assert!(head.contains("content-length: 123456789012345") && body.is_empty());
}

#[tokio::test]
async fn uploads_are_hashed_and_counted() {
    let to = start().await;
    let bytes = pattern::slice_at(5, 200_000);
    let request = format!("POST /upload HTTP/1.1\r\nContent-Length: {}", bytes.len());
    let (head, said) = ask(to, &request, &bytes).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(
        said["sha256"],
        pattern::hex(Sha256::new_with_prefix(&bytes))
    );
    assert_eq!(said["length"], 200_000);
    let (_, said) = ask(
        to,
        "POST /discard HTTP/1.1\r\nTransfer-Encoding: chunked",
        b"3\r\nabc\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&said).unwrap()["length"],
        3
    );
}

#[tokio::test]
async fn what_is_not_there_or_not_right_is_said() {
    let to = start().await;
    for (request, status, words) in [
        ("GET /nothing HTTP/1.1", 404, "there are / /events"),
        ("GET /bytes/ten HTTP/1.1", 400, "not a length"),
        ("GET /bytes/+1 HTTP/1.1", 400, "not a length"),
        (
            "GET /bytes/18446744073709551616 HTTP/1.1",
            400,
            "not a length",
        ),
        ("GET /digest/99999999999999 HTTP/1.1", 400, "too long"),
        ("DELETE / HTTP/1.1", 405, ""),
        ("GET /upload HTTP/1.1", 405, ""),
        ("nonsense", 400, ""),
    ] {
        let (head, body) = ask(to, request, b"").await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {head}"
        );
        assert!(String::from_utf8_lossy(&body).contains(words), "{request}");
    }
    assert_eq!(get(to, "/health").await.1, b"ok\n");
}

#[tokio::test]
async fn the_page_is_whole_and_needs_nothing_else() {
    let to = start().await;
    let (head, body) = get(to, "/").await;
    assert!(
        head.contains("content-security-policy: default-src 'none'"),
        "{head}"
    );
    assert_eq!(body, PAGE.as_bytes());
    let own = PAGE.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http://", "https://", "//cdn", "@import", "src=\"", "<img"] {
        assert!(!own.contains(foreign), "the page names {foreign}");
    }
    assert_eq!(
        own.matches("<link ").count(),
        own.matches("<link rel=\"icon\" href=\"data:").count()
    );
}

#[tokio::test]
async fn events_begin_with_the_past_and_go_on() {
    let to = start().await;
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream
        .write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    while text.matches("\ndata: {").count() < 2 {
        let mut buf = [0; 4096];
        let len = stream.read(&mut buf).await.unwrap();
        assert!(len > 0);
        text.push_str(&String::from_utf8_lossy(&buf[..len]));
    }
    assert!(text.contains("content-type: text/event-stream"));
    assert!(text.find("event: history\ndata: [").unwrap() < text.find("\ndata: {").unwrap());
    assert!(text.contains("\"uptime_ms\":"));
    let (_, now) = get(to, "/stats.json").await;
    assert!(serde_json::from_slice::<serde_json::Value>(&now).unwrap()["ports"].is_array());
}

#[tokio::test]
async fn files_are_served_and_nothing_outside() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("www");
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    std::fs::write(root.join("index.html"), "<p>home").unwrap();
    std::fs::write(root.join("a b.txt"), "blank").unwrap();
    std::fs::write(root.join("big.bin"), vec![7; 300_000]).unwrap();
    std::fs::write(root.join("sub/index.html"), "<p>sub").unwrap();
    std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
    std::os::unix::fs::symlink("index.html", root.join("in")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let to = start_router(files::router(&root).unwrap()).await;
    for (path, status, expected) in [
        ("/", 200, &b"<p>home"[..]),
        ("/index.html?x=1", 200, b"<p>home"),
        ("/a%20b.txt", 200, b"blank"),
        ("/in", 200, b"<p>home"),
        ("/sub/", 200, b"<p>sub"),
        ("/sub", 308, b""),
        ("/none", 404, b"not found\n"),
        ("/pipe", 404, b"not found\n"),
        ("/out", 404, b"not found\n"),
        ("/../secret", 404, b"not found\n"),
        ("/%2e%2e/secret", 404, b"not found\n"),
        ("/sub/..%2f..%2fsecret", 404, b"not found\n"),
        ("//etc/passwd", 404, b"not found\n"),
        ("/%00", 400, b"bad path\n"),
        ("/%zz", 400, b"bad path\n"),
    ] {
        let (head, body) = get(to, path).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {head}"
        );
        assert_eq!(body, expected, "{path}");
    }
    assert!(get(to, "/sub").await.0.contains("location: /sub/"));
    assert!(
        get(to, "/")
            .await
            .0
            .contains("content-type: text/html; charset=utf-8")
    );
    assert_eq!(get(to, "/big.bin").await.1, vec![7; 300_000]);
    assert!(
        ask(to, "HEAD /big.bin HTTP/1.1", b"")
            .await
            .0
            .contains("content-length: 300000")
    );
    let refused = files::router(&root.join("nowhere"))
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("give `root` an existing folder"),
        "{refused}"
    );
}
