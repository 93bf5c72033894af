//! Random programs: what is done to sockets and sets of them, by number.
//!
//! What does not live here: who does it (`kernel`, `ours`).

use base::Rng;

/// Sockets and sets a program has places for.
pub(crate) const SOCKETS: u32 = 6;
pub(crate) const SETS: u32 = 3;
pub(crate) const COUNTS: u32 = 3;
const STEPS: u32 = 60;

/// One step. Numbers are places, ports count from the program's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Socket {
        at: u32,
        stream: bool,
    },
    /// bind, and for a stream listen.
    Bind {
        at: u32,
        port: u16,
    },
    Connect {
        at: u32,
        port: u16,
    },
    Accept {
        at: u32,
        into: u32,
    },
    /// With MSG_OOB the last byte is urgent.
    Send {
        at: u32,
        len: usize,
        urgent: bool,
    },
    /// With MSG_OOB the urgent byte alone.
    Receive {
        at: u32,
        len: usize,
        urgent: bool,
    },
    /// SO_OOBINLINE: urgent bytes stay in the stream.
    InLine {
        at: u32,
        on: bool,
    },
    Shutdown {
        at: u32,
        how: i32,
    },
    Close {
        at: u32,
    },
    /// SO_LINGER of no time: closing is a reset.
    Abort {
        at: u32,
    },
    TakeError {
        at: u32,
    },
    Create {
        set: u32,
    },
    CloseSet {
        set: u32,
    },
    /// EPOLL_CTL_ADD, _MOD and _DEL of a socket, or of the set of this number.
    Control {
        set: u32,
        how: i32,
        nests: bool,
        at: u32,
        events: u32,
    },
    Wait {
        set: u32,
        most: usize,
    },
    Poll {
        at: u32,
    },
    /// An eventfd: it is made, signalled, read, closed; added to a set, modified, deleted.
    Count {
        at: u32,
    },
    Signal {
        at: u32,
    },
    Read {
        at: u32,
    },
    CloseCount {
        at: u32,
    },
    ControlCount {
        set: u32,
        how: i32,
        at: u32,
        events: u32,
    },
}

impl Step {
    /// The place of the socket it is a call on.
    pub(crate) fn socket(self) -> Option<u32> {
        match self {
            Self::Bind { at, .. }
            | Self::Connect { at, .. }
            | Self::Accept { at, .. }
            | Self::Send { at, .. }
            | Self::Receive { at, .. }
            | Self::InLine { at, .. }
            | Self::Shutdown { at, .. }
            | Self::Close { at }
            | Self::Abort { at }
            | Self::TakeError { at }
            | Self::Poll { at } => Some(at),
            _ => None,
        }
    }

    /// Whether it is about an eventfd alone.
    pub(crate) fn counts(self) -> bool {
        matches!(
            self,
            Self::Count { .. } | Self::Signal { .. } | Self::Read { .. } | Self::CloseCount { .. }
        )
    }

    /// Whether it ends something, which may take the time of a delayed ACK.
    pub(crate) fn ends(self) -> bool {
        matches!(
            self,
            Self::Shutdown { .. } | Self::Close { .. } | Self::Abort { .. }
        )
    }
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is at this place.
    Absent,
    Done(usize),
    Failed(i32),
    /// Words and bits, in order.
    Events(Vec<(u64, u32)>),
}

/// A program of its own for each seed.
pub(crate) fn write(seed: u64) -> Vec<Step> {
    let mut rng = Rng::from_seed(seed);
    let mut program = vec![
        Step::Create { set: 0 },
        Step::Socket {
            at: 0,
            stream: true,
        },
        Step::Bind { at: 0, port: 0 },
    ];
    for _ in 0..STEPS {
        step(&mut rng, &mut program);
    }
    leave_out(&mut program, seed % 2 == 1);
    program
}

/// What docs/linux-differences.md tells of urgent data: a socket sends them once, none says where they are while connections may wait
/// in it, and where any are sent reading is not shut.
fn leave_out(program: &mut [Step], urgent_data: bool) {
    let (mut spoke, mut listens) = ([false; SOCKETS as usize], [false; SOCKETS as usize]);
    for step in program {
        match step {
            Step::Socket { at, .. } => {
                (spoke[*at as usize], listens[*at as usize]) = (false, false)
            }
            Step::Bind { at, .. } => listens[*at as usize] = true,
            Step::InLine { at, .. } if listens[*at as usize] => *step = Step::Poll { at: *at },
            Step::Send { at, urgent, .. } if *urgent => {
                *urgent = urgent_data && !core::mem::replace(&mut spoke[*at as usize], true);
            }
            Step::Shutdown { how, .. } if urgent_data => *how = libc::SHUT_WR,
            _ => {}
        }
    }
}

/// A program with eventfds besides. What is ready is always told as a whole, for the order of both kinds is not the same.
pub(crate) fn write_mixed(seed: u64) -> Vec<Step> {
    let mut rng = Rng::from_seed(!seed);
    let mut program = Vec::new();
    for mut step in write(seed) {
        match &mut step {
            Step::Wait { most, .. } => *most = 64,
            // docs/linux-differences.md: edges of sets within.
            Step::Control {
                nests: true,
                events,
                ..
            } => *events = *events & !(libc::EPOLLET as u32) | libc::EPOLLIN as u32,
            _ => {}
        }
        program.push(step);
        let at = rng.below(COUNTS);
        program.push(match rng.below(12) {
            0 => Step::Count { at },
            1..=3 => Step::Signal { at },
            4 => Step::Read { at },
            5 if rng.below(4) == 0 => Step::CloseCount { at },
            6..=9 => match control(&mut rng, 0, at) {
                Step::Control { how, events, .. } => Step::ControlCount {
                    set: rng.below(SETS),
                    how,
                    at,
                    events,
                },
                step => step,
            },
            _ => Step::Wait {
                set: rng.below(SETS),
                most: 64,
            },
        });
    }
    program
}

fn step(rng: &mut Rng, program: &mut Vec<Step>) {
    let (at, set) = (rng.below(SOCKETS), rng.below(SETS));
    let port = rng.below(2) as u16;
    let step = match rng.below(40) {
        0 | 1 => Step::Socket {
            at,
            stream: rng.below(4) > 0,
        },
        2 => {
            program.push(Step::Socket {
                at,
                stream: rng.below(3) > 0,
            });
            Step::Bind { at, port }
        }
        3 | 4 => {
            program.push(Step::Socket { at, stream: true });
            Step::Connect { at, port: 0 }
        }
        5 => {
            program.push(Step::Socket {
                at,
                stream: rng.below(2) > 0,
            });
            Step::Connect { at, port }
        }
        6..=8 => Step::Accept {
            at: if rng.below(3) == 0 { at } else { 0 },
            into: rng.below(SOCKETS),
        },
        9..=12 => Step::Send {
            at,
            len: 1 + rng.below(500) as usize,
            urgent: false,
        },
        13 | 14 => Step::Receive {
            at,
            len: 1 + rng.below(1000) as usize,
            urgent: false,
        },
        15 => Step::Shutdown {
            at,
            how: rng.below(3) as i32,
        },
        16 if rng.below(2) == 0 => Step::Close { at },
        17 if rng.below(3) == 0 => Step::Abort { at },
        18 | 19 => Step::TakeError { at },
        20 => Step::Create { set },
        21 if rng.below(6) == 0 => Step::CloseSet { set },
        22..=26 => control(rng, set, at),
        27 => Step::Poll { at },
        which @ 28..=31 => urgent(rng, which, at),
        32 if rng.below(3) == 0 => Step::InLine {
            at,
            on: rng.below(2) == 0,
        },
        _ => Step::Wait {
            set,
            most: 1 + rng.below(8) as usize,
        },
    };
    program.push(step);
}

/// Urgent data are sent, and received; what is read besides is little, so that the urgent byte is met.
fn urgent(rng: &mut Rng, which: u32, at: u32) -> Step {
    match which {
        28 | 29 => Step::Send {
            at,
            len: 1 + rng.below(3) as usize,
            urgent: true,
        },
        30 => Step::Receive {
            at,
            len: 1,
            urgent: true,
        },
        _ => Step::Receive {
            at,
            len: 1 + rng.below(4) as usize,
            urgent: false,
        },
    }
}

fn control(rng: &mut Rng, set: u32, at: u32) -> Step {
    const HOW: [i32; 5] = [
        libc::EPOLL_CTL_ADD,
        libc::EPOLL_CTL_ADD,
        libc::EPOLL_CTL_ADD,
        libc::EPOLL_CTL_MOD,
        libc::EPOLL_CTL_DEL,
    ];
    let mut events = 0;
    for bit in [
        libc::EPOLLIN,
        libc::EPOLLIN,
        libc::EPOLLOUT,
        libc::EPOLLRDHUP,
        libc::EPOLLPRI,
        libc::EPOLLRDNORM,
        libc::EPOLLWRBAND,
    ] {
        events |= bit as u32 * rng.below(2);
    }
    events |= match rng.below(12) {
        0..=4 => libc::EPOLLET as u32,
        5 | 6 => libc::EPOLLONESHOT as u32,
        7 => (libc::EPOLLONESHOT | libc::EPOLLET) as u32,
        8 => libc::EPOLLEXCLUSIVE as u32,
        _ => 0,
    };
    let nests = rng.below(6) == 0;
    Step::Control {
        set,
        how: HOW[rng.below(5) as usize],
        nests,
        at: if nests { rng.below(SETS) } else { at },
        events,
    }
}
