//! Asking over a real socket, in a folder of the test's own; who answers is played.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::*;

fn open(folder: &Path, name: &str, process: u32) -> UnixListener {
    UnixListener::bind(folder.join(format!("{name}.{process}.sock"))).unwrap()
}

/// Answers the next question by this.
fn answers(listener: &UnixListener, answer: &'static str) -> std::thread::JoinHandle<String> {
    let listener = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = String::new();
        BufReader::new(&stream).read_line(&mut question).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        question
    })
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let only_owner = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(folder.path(), only_owner).unwrap();
    folder
}

#[test]
fn what_is_asked_and_answered_is_a_line_each_way() {
    let folder = folder();
    let listener = open(folder.path(), "demo", 1);
    let ask = |answer| {
        let host = answers(&listener, answer);
        let mut asked = Asked::find_in(folder.path(), None).unwrap();
        assert_eq!(asked.name, "demo");
        let answered = asked.ask(&Question::Settings);
        assert_eq!(host.join().unwrap(), "\"settings\"\n");
        answered.map_err(|failure| failure.to_string())
    };
    let settings = ask("{\"Ok\":{\"settings\":[]}}\n");
    assert_eq!(settings, Ok(Answer::Settings(Vec::new())));
    assert_eq!(ask("{\"Err\":\"no\"}\n"), Err("no".into()));
    let strange = ask("{\"Ok\":\"fine\"}\n").unwrap_err();
    assert!(strange.contains("this version does not know"), "{strange}");
    for part in ["", "{\"Ok\":{\"setti"] {
        let stopped = ask(part).unwrap_err();
        assert!(stopped.contains("it has stopped"), "{stopped}");
    }
}

#[test]
fn the_host_is_found_or_the_choice_is_told() {
    let folder = folder();
    let find = |wanted| Asked::find_in(folder.path(), wanted);
    let said = |wanted| find(wanted).unwrap_err().to_string();
    assert!(said(None).contains("`millstream demo`"), "{}", said(None));
    let _demo = open(folder.path(), "demo", 1);
    assert_eq!(find(None).unwrap().name, "demo");
    let _lan = open(folder.path(), "lan", 2);
    let _other = open(folder.path(), "lan", 3);
    assert!(said(None).contains("several hosts run: demo (1), lan (2), lan (3)"));
    assert_eq!(find(Some("demo")).unwrap().name, "demo");
    assert_eq!(find(Some("3")).unwrap().name, "lan");
    let choice = "several hosts are called lan: lan (2), lan (3); choose one by its name and its process, as in --host lan.3";
    assert_eq!(said(Some("lan")), choice);
    assert_eq!(find(Some("lan.2")).unwrap().name, "lan");
    // Those of a program of several hosts have one process.
    let _two = [open(folder.path(), "web", 4), open(folder.path(), "dns", 4)];
    assert!(said(Some("4")).contains("several hosts are called 4: dns (4), web (4)"));
    assert_eq!(find(Some("dns")).unwrap().name, "dns");
    assert!(said(Some("wan")).contains("no host called wan runs; there are demo (1)"));
    // What a process that died has left is swept away.
    let dead = folder.path().join("gone.9.sock");
    drop(UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    assert_eq!(find(Some("demo")).unwrap().name, "demo");
    assert!(!dead.exists());
    // A folder others may enter is not believed.
    let open_to_all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open_to_all).unwrap();
    assert!(said(None).contains("is not safe"));
}
