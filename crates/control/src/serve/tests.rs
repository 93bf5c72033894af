//! Asking over a real socket, in a folder of the test's own.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::Error;

fn answer(question: Question) -> Result<Answer, String> {
    match question {
        Question::Set { name, .. } => Err(format!("{name}: there is no such setting")),
        Question::Settings => Ok(Answer::Settings(Vec::new())),
        _ => Ok(Answer::Done),
    }
}

/// A host of this name that answers, and where.
fn host(folder: &TempDir, name: &str) -> (Answering, std::path::PathBuf) {
    let control = Control::open_in(&folder.path().join("run"), name).unwrap();
    let file = crate::folder::file_name(name, std::process::id());
    let path = folder.path().join("run").join(file);
    (Answering::begin(control, answer).unwrap(), path)
}

struct Asker(BufReader<UnixStream>);

impl Asker {
    fn new(path: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(path).unwrap()))
    }

    /// What is said to this; nothing at the end.
    fn say(&mut self, text: &[u8]) -> String {
        self.0.get_mut().write_all(text).unwrap();
        self.hear()
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }
}

#[test]
fn questions_are_answered_and_refusals_told() {
    let folder = tempfile::tempdir().unwrap();
    let (answering, path) = host(&folder, "demo");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    let mut asker = Asker::new(&path);
    assert_eq!(asker.say(b"\"settings\"\n"), "{\"Ok\":{\"settings\":[]}}\n");
    let refused = asker.say(b"{\"set\":{\"name\":\"fly\",\"value\":\"1\"}}\n");
    assert_eq!(refused, "{\"Err\":\"fly: there is no such setting\"}\n");
    // Several at once, and the last without its end of line.
    asker
        .0
        .get_mut()
        .write_all(b"\"settings\"\n\"summary\"\n\"census\"")
        .unwrap();
    asker.0.get_mut().shutdown(Shutdown::Write).unwrap();
    let answers = [asker.hear(), asker.hear(), asker.hear(), asker.hear()];
    assert_eq!(answers[0], "{\"Ok\":{\"settings\":[]}}\n");
    assert_eq!(
        answers[1..3],
        ["{\"Ok\":\"done\"}\n", "{\"Ok\":\"done\"}\n"]
    );
    assert_eq!(answers[3], "");
    drop(answering);
    assert!(!path.exists(), "gone with the host");
}

#[test]
fn nonsense_and_length_are_answered_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (_answering, path) = host(&folder, "demo");
    let mut asker = Asker::new(&path);
    assert!(
        asker
            .say(b"hello\n")
            .contains("not a question this version knows")
    );
    assert!(asker.say(b"\"summary\"\n").contains("done"));
    // A question without end is cut, and is none.
    let long = vec![b'x'; QUESTION_MAX];
    assert!(asker.say(&long).contains("not a question"));
}

#[test]
fn when_the_host_ends_so_do_its_askers_and_those_who_wait_for_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let (answering, path) = host(&folder, "demo");
    let mut askers: Vec<_> = (0..ASKERS).map(|_| Asker::new(&path)).collect();
    for asker in &mut askers {
        assert!(asker.say(b"\"summary\"\n").contains("done"));
    }
    let mut waits = Asker::new(&path);
    waits.0.get_mut().write_all(b"\"summary\"\n").unwrap();
    // Who goes makes room.
    drop(askers.pop());
    assert!(waits.hear().contains("done"));
    drop(answering);
    for asker in askers.iter_mut().chain([&mut waits]) {
        assert_eq!(asker.hear(), "", "the connection has ended");
    }
    assert!(UnixStream::connect(&path).is_err());
}

#[test]
fn a_name_is_one_hosts_of_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (first, path) = host(&folder, "web");
    let refused = Control::open_in(&run, "web").unwrap_err();
    assert!(matches!(refused, Error::Taken(_)));
    let said = refused.to_string();
    assert!(
        said.contains("another host of this process") && said.lines().count() == 1,
        "{said}"
    );
    assert!(
        Asker::new(&path).say(b"\"summary\"\n").contains("done"),
        "the first is well"
    );
    let (_other, _) = host(&folder, "lan");
    drop(first);
    let (_again, path) = host(&folder, "web");
    assert!(path.exists());
    assert!(matches!(Control::open_in(&run, ""), Err(Error::NoName)));
}

#[test]
fn what_cannot_be_opened_is_told_in_one_line_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let said = |folder: &Path, name: &str| {
        let said = Control::open_in(folder, name).unwrap_err().to_string();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(crate::folder::VARIABLE), "{said}");
        said
    };
    assert!(said(folder.path(), "web").contains("is not safe: others may enter it"));
    assert!(said(&folder.path().join("no/such"), "web").contains("cannot make the folder"));
    let deep = folder.path().join("d".repeat(80));
    assert!(said(&deep, &"n".repeat(40)).contains("too long for a socket"));
    let left = std::fs::read_dir(&deep).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");
}
