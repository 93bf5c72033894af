//! Eventfds, which are the kernel's wherever a program runs.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

use crate::program::{COUNTS, Outcome, Step};

#[derive(Default)]
pub(crate) struct Counts([Option<OwnedFd>; COUNTS as usize]);

impl Counts {
    pub(crate) fn get(&self, at: u32) -> Option<&OwnedFd> {
        self.0[at as usize].as_ref()
    }

    pub(crate) fn play(&mut self, step: Step) -> Outcome {
        match step {
            Step::Count { at } => {
                let made = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
                self.0[at as usize] = Some(made.unwrap());
                Outcome::Done(0)
            }
            Step::Signal { at } => match self.get(at) {
                Some(fd) => Outcome::Done(write(fd, &1_u64.to_ne_bytes()).unwrap()),
                None => Outcome::Absent,
            },
            Step::Read { at } => match self.get(at).map(|fd| read(fd, &mut [0; 8])) {
                Some(Ok(len)) => Outcome::Done(len),
                Some(Err(error)) => Outcome::Failed(error.raw_os_error()),
                None => Outcome::Absent,
            },
            Step::CloseCount { at } => match self.0[at as usize].take() {
                Some(_) => Outcome::Done(0),
                None => Outcome::Absent,
            },
            _ => Outcome::Absent,
        }
    }
}

/// Their words in events begin here.
pub(crate) const WORD: u64 = 1 << 33;
