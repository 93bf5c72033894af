//! What a program does that moves into a private namespace for good: `enter_private` first, then everything else.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};

use netns::{enter_private, link};

fn main() {
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .expect("a socket on the machine's own loopback");
    let address = outside.local_addr().expect("its address");
    match enter_private() {
        Ok(()) => {}
        Err(e) if e.is_unavailable() => {
            println!("skipped enter: {e}");
            return;
        }
        Err(e) => panic!("{e}"),
    }
    assert!(link::facts("lo").expect("lo").up);
    assert!(
        TcpStream::connect(address).is_err(),
        "the old listener cannot be reached from inside"
    );
    link::create_veth("a", "b").expect("root in here");
    link::add_addr("a", IpAddr::from([10, 0, 0, 1]), 24).expect("an address");

    let (started, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        started.send(()).expect("the main thread waits");
        std::thread::park();
    });
    wait.recv().expect("the thread says hello");
    let e = enter_private().expect_err("there are two threads now");
    assert!(e.to_string().contains("first thread"), "{e}");
    thread.thread().unpark();
    thread.join().expect("the thread");
    println!("enter: ok");
}
