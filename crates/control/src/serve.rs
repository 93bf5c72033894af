//! Answering whoever asks: one thread that lets askers in, and one for each of them while he is there.
//!
//! What does not live here: the answers (`desk`).
//!
//! Invariant: when the host ends, so does every asker's connection: nobody waits for an answer that cannot come.
//! Invariant: whoever ends it waits for no thread, because it is a shard's thread, of which an answer may be expected.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::open::Control;
use crate::words::{Answer, Question};

/// Askers at the same time; more wait.
const ASKERS: usize = 16;

/// The longest question, bytes.
pub(crate) const QUESTION_MAX: usize = 4_096;

/// How long an asker may take to ask, or to take the answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is being answered.
#[derive(Debug, Default)]
struct Askers {
    next: u64,
    there: Vec<(u64, UnixStream)>,
    over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    askers: Mutex<Askers>,
    /// One has gone, or all are to go.
    fewer: Condvar,
}

impl Shared {
    fn askers(&self) -> MutexGuard<'_, Askers> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for one more; whether there will be.
    fn room(&self) -> bool {
        let full = |askers: &mut Askers| askers.there.len() >= ASKERS && !askers.over;
        let waited = self.fewer.wait_while(self.askers(), full);
        !waited.unwrap_or_else(PoisonError::into_inner).over
    }

    /// Lets one in, unless all are to go.
    fn enter(&self, stream: &UnixStream) -> io::Result<u64> {
        let stream = stream.try_clone()?;
        let mut askers = self.askers();
        if askers.over {
            return Err(ErrorKind::NotConnected.into());
        }
        askers.next += 1;
        let number = askers.next;
        askers.there.push((number, stream));
        Ok(number)
    }
}

/// An asker's place, until he goes.
struct Place(Arc<Shared>, u64);

impl Drop for Place {
    fn drop(&mut self) {
        let mut askers = self.0.askers();
        askers.there.retain(|(number, _)| *number != self.1);
        drop(askers);
        self.0.fewer.notify_one();
    }
}

/// A host that is asked. Dropping it ends that, at once.
#[derive(Debug)]
pub(crate) struct Answering {
    control: Control,
    shared: Arc<Shared>,
}

impl Answering {
    /// Answers by `answer`, in threads.
    pub(crate) fn begin<F>(control: Control, answer: F) -> io::Result<Self>
    where
        F: Fn(Question) -> Result<Answer, String> + Send + Sync + 'static,
    {
        let (listener, name) = (control.listener().try_clone()?, control.name().to_owned());
        let shared = Arc::new(Shared::default());
        let this = Self {
            control,
            shared: shared.clone(),
        };
        let (answer, thread) = (Arc::new(answer), thread_of(&name));
        thread.spawn(move || let_in(&listener, &shared, &name, &answer))?;
        Ok(this)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut askers = self.shared.askers();
        askers.over = true;
        for (_, stream) in &askers.there {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(askers);
        self.shared.fewer.notify_all();
        // Whoever waits in accept(2) hears of it.
        let _ = rustix::net::shutdown(self.control.listener(), rustix::net::Shutdown::Both);
    }
}

fn thread_of(name: &str) -> thread::Builder {
    // A name with a nought in it is none for a thread.
    thread::Builder::new().name(format!("ask {}", name.replace('\0', "")))
}

/// Lets askers in until the end.
fn let_in<F>(listener: &UnixListener, shared: &Arc<Shared>, name: &str, answer: &Arc<F>)
where
    F: Fn(Question) -> Result<Answer, String> + Send + Sync + 'static,
{
    while shared.room() {
        let entered = listener.accept().and_then(|(stream, _)| {
            let place = Place(shared.clone(), shared.enter(&stream)?);
            let answer = answer.clone();
            let attend = move || {
                let _place = place;
                // An asker that goes away has asked enough.
                let _ = attend(stream, &*answer);
            };
            thread_of(name).spawn(attend)
        });
        if entered.is_err() && !shared.askers().over {
            // Out of descriptors or threads, perhaps; the next may have more luck.
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Answers one asker until he has no more questions.
fn attend(
    mut stream: UnixStream,
    answer: &impl Fn(Question) -> Result<Answer, String>,
) -> io::Result<()> {
    let mut heard = Vec::new();
    while let Some(line) = question(&mut stream, &mut heard)? {
        let reply = match serde_json::from_slice(&line) {
            Ok(question) => answer(question),
            Err(error) => Err(format!("not a question this version knows: {error}")),
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        tell(&mut stream, &text)?;
    }
    Ok(())
}

/// What is left of an asker's time.
fn left(until: Instant) -> io::Result<Option<Duration>> {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(ErrorKind::TimedOut.into()),
        false => Ok(Some(left)),
    }
}

/// The next line, or as much of it as a question may be long; what was read beyond it stays in `heard`. `None` at the end.
fn question(stream: &mut UnixStream, heard: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; QUESTION_MAX];
    loop {
        let end = heard.iter().position(|byte| *byte == b'\n');
        let len = match end {
            Some(at) => (at + 1).min(QUESTION_MAX),
            None if heard.len() >= QUESTION_MAX => QUESTION_MAX,
            None => 0,
        };
        if len > 0 {
            return Ok(Some(heard.drain(..len).collect()));
        }
        stream.set_read_timeout(left(until)?)?;
        match stream.read(&mut buffer) {
            Ok(0) if heard.is_empty() => return Ok(None),
            Ok(0) => return Ok(Some(std::mem::take(heard))),
            Ok(n) => heard.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn tell(stream: &mut UnixStream, mut text: &[u8]) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !text.is_empty() {
        stream.set_write_timeout(left(until)?)?;
        match stream.write(text) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => text = &text[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
