//! Asking and answering over a real socket, in a folder of the test's own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::ask::Asked;
use super::*;

fn open(folder: &Path, name: &str, process: u32) -> Control {
    let path = folder.join(folder::file_name(name, process));
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    Control { listener, path }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

async fn answer(question: Question) -> Result<Answer, String> {
    match question {
        Question::Set { name, .. } => Err(format!("{name}: there is no such setting")),
        Question::Settings => Ok(Answer::Settings(Vec::new())),
        _ => Ok(Answer::Done),
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let only_owner = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(folder.path(), only_owner).unwrap();
    folder
}

#[test]
fn questions_are_answered_and_refusals_told() {
    let folder = folder();
    let control = open(folder.path(), "demo", 1);
    let runtime = runtime();
    let _inside = runtime.enter();
    control.answer_with(answer).unwrap();
    let mut asked = Asked::find_in(folder.path(), None).unwrap();
    assert_eq!(asked.name, "demo");
    assert_eq!(
        asked.ask(&Question::Settings).unwrap(),
        Answer::Settings(Vec::new())
    );
    let name = "fly".to_owned();
    let refused = asked
        .ask(&Question::Set {
            name,
            value: "1".into(),
        })
        .unwrap_err();
    assert_eq!(refused.to_string(), "fly: there is no such setting");
    assert_eq!(asked.ask(&Question::Summary).unwrap(), Answer::Done);
    let path = control.path.clone();
    drop(control);
    assert!(!path.exists(), "gone with the host");
}

#[test]
fn nonsense_and_length_are_answered_and_bounded() {
    let folder = folder();
    let control = open(folder.path(), "demo", 1);
    let runtime = runtime();
    let _inside = runtime.enter();
    control.answer_with(answer).unwrap();
    let mut stream = BufReader::new(UnixStream::connect(&control.path).unwrap());
    let mut say = |text: &[u8]| {
        stream.get_mut().write_all(text).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line
    };
    assert!(say(b"hello\n").contains("not a question this version knows"));
    assert!(say(b"\"summary\"\n").contains("done"));
    // A question without end is cut, and is none.
    let long = vec![b'x'; QUESTION_MAX as usize];
    assert!(say(&long).contains("not a question"));
}

#[test]
fn a_host_that_stops_in_the_middle_of_an_answer_is_said_to_have_stopped() {
    let folder = folder();
    let path = folder.path().join(folder::file_name("demo", 1));
    let listener = UnixListener::bind(&path).unwrap();
    for part in ["", "{\"Ok\":{\"setti"] {
        let host = std::thread::spawn({
            let listener = listener.try_clone().unwrap();
            move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut question = String::new();
                BufReader::new(&stream).read_line(&mut question).unwrap();
                stream.write_all(part.as_bytes()).unwrap();
            }
        });
        let mut asked = Asked::find_in(folder.path(), None).unwrap();
        let failed = asked.ask(&Question::Settings).unwrap_err().to_string();
        assert!(failed.contains("it has stopped"), "{failed}");
        host.join().unwrap();
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
    assert!(said(Some("lan")).contains("by its process"));
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
