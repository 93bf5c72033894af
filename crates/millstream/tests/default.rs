//! A program written for `std::net`, with its imports changed: the host is the default one. A test program of its own, for
//! the default is the whole process's.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use common::{A, B, hosts};
use millstream::Host;

/// The program: nothing in it is of Millstream but what it is given.
macro_rules! program {
    ($net:path) => {{
        use $net::{TcpListener, TcpStream, UdpSocket};
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let target = listener.local_addr()?;
        let server = thread::spawn(move || -> io::Result<String> {
            let mut said = String::new();
            listener.accept()?.0.read_to_string(&mut said)?;
            Ok(said)
        });
        // Of several addresses the first that answers is taken.
        let nobody = "127.0.0.1:1".parse().unwrap();
        let mut stream = TcpStream::connect(&[nobody, target][..])?;
        stream.write_all(b"hello ")?;
        stream.write_all(b"world")?;
        stream.shutdown(Shutdown::Write)?;
        let said = server.join().unwrap()?;
        let late = TcpStream::connect_timeout(&nobody, Duration::from_secs(5));
        let socket = UdpSocket::bind(&["203.0.113.1:9".parse().unwrap(), target][..])?;
        socket.send_to(b"a datagram", socket.local_addr()?)?;
        let mut buffer = [0; 100];
        let (n, from) = socket.recv_from(&mut buffer)?;
        let taken = TcpListener::bind(&["203.0.113.1:9".parse().unwrap(), target][..])?;
        Ok::<_, io::Error>((
            said,
            late.map(drop).unwrap_err().kind(),
            (n, from == target),
            taken.local_addr()? == target,
        ))
    }};
}

fn kernels() -> io::Result<(String, ErrorKind, (usize, bool), bool)> {
    program!(std::net)
}

fn ours() -> io::Result<(String, ErrorKind, (usize, bool), bool)> {
    program!(millstream)
}

#[test]
fn a_program_changes_its_imports() {
    netns::in_private!(|| {
        netns::link::set_up("lo").unwrap();
        let none = ours().unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NetworkDown);
        assert!(none.to_string().contains("make_default"), "{none}");
        let (a, b) = hosts();
        a.make_default();
        assert_eq!(ours().unwrap(), kernels().unwrap());
        // The default may change; what is there stays where it is.
        let on_a = millstream::TcpListener::bind((A, 80)).unwrap();
        b.make_default();
        let on_b = millstream::TcpListener::bind((B, 80)).unwrap();
        let mut stream = millstream::TcpStream::connect((A, 80)).unwrap();
        assert_eq!(on_a.accept().unwrap().1, stream.local_addr().unwrap());
        assert_eq!(on_b.local_addr().unwrap().to_string(), "10.77.0.2:80");
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        // It does not keep its host: nobody but the program does.
        drop(b);
        let gone = Host::current().unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NetworkDown);
    });
}
