//! What it takes to play a script: the trace of one that is being played, and what stacks have in common.

use std::time::Duration;

use crate::author::Author;
use crate::peer::{Peer, Seen};
use crate::script::{Act, Script, Step};

/// After the last step timers may still have something to say.
const END_MS: u64 = 300;
/// How late a step may be.
const LATE: Duration = Duration::from_millis(10);

/// What a call returned: a number, or `errno`; `None` when there was no such socket.
pub(crate) type Reply = Option<Result<i64, i32>>;

/// What came of a step.
#[derive(Clone, Default)]
pub(crate) struct Outcome {
    /// When it was taken, since the script began.
    pub(crate) at: Duration,
    pub(crate) reply: Option<Reply>,
    pub(crate) seen: Vec<Seen>,
}

/// What came of a script.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    pub(crate) steps: Vec<Outcome>,
    /// When it was over.
    pub(crate) end: Duration,
    /// A step came so much later than the script says, or took so long, that it is hardly the same script.
    pub(crate) disturbed: bool,
}

/// A script while it is played, and written if it is new.
pub(crate) struct Play {
    pub(crate) script: Script,
    author: Option<Author>,
    pub(crate) peer: Peer,
    pub(crate) trace: Trace,
    next: usize,
    pub(crate) due: Duration,
    pub(crate) over: bool,
    ending: bool,
    begun: Option<Duration>,
}

impl Play {
    /// A script that is there already.
    pub(crate) fn again(script: Script, peer: Peer) -> Self {
        Self {
            script,
            author: None,
            peer,
            trace: Trace::default(),
            next: 0,
            due: Duration::ZERO,
            over: false,
            ending: false,
            begun: None,
        }
    }

    /// One that is made up as it goes.
    pub(crate) fn new(script: Script, author: Author, peer: Peer) -> Self {
        Self {
            author: Some(author),
            ..Self::again(script, peer)
        }
    }

    /// The next step, taken at `now`.
    pub(crate) fn step(&mut self, now: Duration) -> Option<Act> {
        self.trace.disturbed |= self.begun.is_some() && now > self.due + LATE;
        let begun = *self.begun.get_or_insert(now);
        if self.next == self.script.steps.len()
            && let Some(author) = &mut self.author
            && let Some(step) = author.next(&self.script, &self.peer)
        {
            self.script.steps.push(step);
        }
        let Some(Step { act, rest_ms }) = self.script.steps.get(self.next).cloned() else {
            self.over = std::mem::replace(&mut self.ending, true);
            self.due = now + Duration::from_millis(END_MS);
            self.trace.end = now - begun;
            return None;
        };
        self.next += 1;
        self.due = now + Duration::from_millis(rest_ms.into());
        self.trace.steps.push(Outcome {
            at: now - begun,
            ..Outcome::default()
        });
        if let Act::Poke(poke) = &act
            && poke.seq <= self.peer.sent.max(1)
        {
            let len = poke.len as i32 + i32::from(poke.flags.contains(wire::tcp::Flags::SYN));
            let len = len + i32::from(poke.flags.contains(wire::tcp::Flags::FIN));
            self.peer.sent = self.peer.sent.max(poke.seq + len);
        }
        Some(act)
    }

    /// A segment of the stack's.
    pub(crate) fn see(&mut self, segment: &interop::frames::Tcp, now: Duration) {
        let at = now - self.begun.unwrap_or(now);
        let seen = self.peer.see(segment, at);
        if let Some(step) = self.trace.steps.last_mut() {
            step.seen.push(seen);
        }
    }

    pub(crate) fn replied(&mut self, reply: Reply) {
        if let Some(step) = self.trace.steps.last_mut() {
            step.reply = Some(reply);
        }
    }
}
