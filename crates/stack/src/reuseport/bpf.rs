//! Classic BPF, as SO_ATTACH_REUSEPORT_CBPF takes it: what is checked of a program before it runs, and running it.
//!
//! The machine is McCanne's and Jacobson's: accumulator, index register, sixteen words of scratch, jumps forward only. Checks and
//! values are Linux's. A load beyond the data, and a division by nought, end the run with 0.
//!
//! What does not live here: what the answer is used for (`reuseport`).
//!
//! Invariant: a run takes no more steps than the program has instructions: jumps go forward, and the last one returns.

use core::cell::Cell;

/// Linux's BPF_MAXINSNS and BPF_MEMWORDS.
const LONGEST: usize = 4096;
const SCRATCH: usize = 16;

/// Offsets from here on name facts about the packet (SKF_AD_OFF), of which these are known.
const FACTS: u32 = -0x1000_i32 as u32;
/// And those from here on are bytes of headers (SKF_LL_OFF, SKF_NET_OFF), of which no program is told.
const HEADERS: u32 = -0x20_0000_i32 as u32;
const FACT_MARK: u32 = 20;
const FACT_RXHASH: u32 = 32;
const FACT_CPU: u32 = 36;
const FACT_XOR_X: u32 = 40;
const FACT_RANDOM: u32 = 56;

/// One instruction (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Class, size and mode, or class, operation and source.
    pub code: u16,
    /// Instructions to skip if the condition holds.
    pub jt: u8,
    /// Instructions to skip if not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

impl Instruction {
    /// From the eight bytes of a `struct sock_filter` of this machine.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = bytes;
        Self {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        }
    }
}

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    LoadAt(Size),
    LoadIndexed(Size),
    LoadLen,
    LoadIndexLen,
    LoadHeaderLen,
    LoadConst,
    LoadIndexConst,
    LoadScratch,
    LoadIndexScratch,
    Store,
    StoreIndex,
    Alu(Alu, Source),
    Negate,
    Jump,
    Branch(Test, Source),
    ReturnConst,
    Return,
    ToIndex,
    FromIndex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Word,
    Half,
    Byte,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Const,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Mod,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Eq,
    Gt,
    Ge,
    Set,
}

impl Op {
    /// `None` for a code that there is not.
    fn of(code: u16) -> Option<Self> {
        let size = |code: u16| match code & 0x18 {
            0x00 => Some(Size::Word),
            0x08 => Some(Size::Half),
            0x10 => Some(Size::Byte),
            _ => None,
        };
        let source = if code & 0x08 == 0 {
            Source::Const
        } else {
            Source::Index
        };
        Some(match code {
            0x20 | 0x28 | 0x30 => Self::LoadAt(size(code)?),
            0x40 | 0x48 | 0x50 => Self::LoadIndexed(size(code)?),
            0x80 => Self::LoadLen,
            0x81 => Self::LoadIndexLen,
            0xb1 => Self::LoadHeaderLen,
            0x00 => Self::LoadConst,
            0x01 => Self::LoadIndexConst,
            0x60 => Self::LoadScratch,
            0x61 => Self::LoadIndexScratch,
            0x02 => Self::Store,
            0x03 => Self::StoreIndex,
            0x84 => Self::Negate,
            0x05 => Self::Jump,
            0x06 => Self::ReturnConst,
            0x16 => Self::Return,
            0x07 => Self::ToIndex,
            0x87 => Self::FromIndex,
            _ if code & !0xf8 == 0x04 => Self::Alu(
                match code & 0xf0 {
                    0x00 => Alu::Add,
                    0x10 => Alu::Sub,
                    0x20 => Alu::Mul,
                    0x30 => Alu::Div,
                    0x40 => Alu::Or,
                    0x50 => Alu::And,
                    0x60 => Alu::Lsh,
                    0x70 => Alu::Rsh,
                    0x90 => Alu::Mod,
                    0xa0 => Alu::Xor,
                    _ => return None,
                },
                source,
            ),
            _ if code & !0xf8 == 0x05 => Self::Branch(
                match code & 0xf0 {
                    0x10 => Test::Eq,
                    0x20 => Test::Gt,
                    0x30 => Test::Ge,
                    0x40 => Test::Set,
                    _ => return None,
                },
                source,
            ),
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Step {
    op: Op,
    jt: u8,
    jf: u8,
    k: u32,
}

/// What a program is told besides the data.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// Bytes of all of the data, of which the first ones are at hand.
    pub(super) len: u32,
    pub(super) cpu: u32,
    pub(super) hash: u32,
}

/// A program that was found good.
#[derive(Debug, Clone)]
pub struct Filter {
    steps: Vec<Step>,
    random: Cell<u64>,
}

/// The program is none: unknown instructions or facts, jumps or scratch out of bounds, no end (Linux's EINVAL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadFilter;

impl core::fmt::Display for BadFilter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "not a classic BPF program that ends")
    }
}

impl core::error::Error for BadFilter {}

impl Filter {
    /// Checks a program, of 1 to 4096 instructions.
    ///
    /// # Errors
    /// What Linux refuses with EINVAL; and what a program asks of the packet beside its data other than mark, hash, CPU and a random
    /// number.
    pub fn new(program: &[Instruction]) -> Result<Self, BadFilter> {
        if program.len() > LONGEST {
            return Err(BadFilter);
        }
        let mut steps = Vec::with_capacity(program.len());
        for (at, one) in program.iter().enumerate() {
            let op = Op::of(one.code).ok_or(BadFilter)?;
            let step = Step {
                op,
                jt: one.jt,
                jf: one.jf,
                k: one.k,
            };
            if !step.fits(program.len() - at - 1) {
                return Err(BadFilter);
            }
            steps.push(step);
        }
        let ends = steps
            .last()
            .is_some_and(|s| matches!(s.op, Op::Return | Op::ReturnConst));
        if !ends || !stores_before_loads(&steps) {
            return Err(BadFilter);
        }
        Ok(Self {
            steps,
            random: Cell::new(0),
        })
    }

    /// What it says of a packet.
    pub(super) fn run(&self, data: &[u8], facts: &Facts) -> u32 {
        self.outcome(data, facts).unwrap_or(0)
    }

    fn outcome(&self, data: &[u8], facts: &Facts) -> Option<u32> {
        let (mut a, mut x, mut scratch) = (0_u32, 0_u32, [0_u32; SCRATCH]);
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            let k = step.k;
            at += 1;
            match step.op {
                Op::LoadAt(_) if k >= FACTS => a = self.fact(k - FACTS, (a, x), facts),
                Op::LoadAt(size) => a = load(data, k, size)?,
                Op::LoadIndexed(size) => a = load(data, x.wrapping_add(k), size)?,
                Op::LoadLen => a = facts.len,
                Op::LoadIndexLen => x = facts.len,
                Op::LoadHeaderLen => x = (load(data, k, Size::Byte)? & 0xf) * 4,
                Op::LoadConst => a = k,
                Op::LoadIndexConst => x = k,
                Op::LoadScratch => a = *scratch.get(k as usize)?,
                Op::LoadIndexScratch => x = *scratch.get(k as usize)?,
                Op::Store => *scratch.get_mut(k as usize)? = a,
                Op::StoreIndex => *scratch.get_mut(k as usize)? = x,
                Op::Alu(op, source) => a = compute(op, a, source.of(k, x))?,
                Op::Negate => a = a.wrapping_neg(),
                Op::Jump => at += k as usize,
                Op::Branch(test, source) => {
                    let holds = test.holds(a, source.of(k, x));
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
                Op::ReturnConst => return Some(k),
                Op::Return => return Some(a),
                Op::ToIndex => x = a,
                Op::FromIndex => a = x,
            }
        }
        None
    }

    fn fact(&self, which: u32, (a, x): (u32, u32), facts: &Facts) -> u32 {
        match which {
            FACT_RXHASH => facts.hash,
            FACT_CPU => facts.cpu,
            FACT_XOR_X => a ^ x,
            FACT_RANDOM => {
                // A counter, mixed (splitmix64), with what no peer can know: the keyed hash of its tuple.
                let count = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
                self.random.set(count);
                let z = count ^ u64::from(facts.hash) << 16;
                let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                (z ^ z >> 31) as u32
            }
            _ => 0, // no mark is ever set here
        }
    }
}

impl Source {
    fn of(self, k: u32, x: u32) -> u32 {
        match self {
            Self::Const => k,
            Self::Index => x,
        }
    }
}

impl Test {
    fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Eq => a == b,
            Self::Gt => a > b,
            Self::Ge => a >= b,
            Self::Set => a & b != 0,
        }
    }
}

impl Step {
    /// Whether its constants are in bounds, when `after` instructions come after it.
    fn fits(&self, after: usize) -> bool {
        let k = self.k as usize;
        match self.op {
            Op::LoadAt(_) if self.k >= FACTS => matches!(
                self.k - FACTS,
                FACT_MARK | FACT_RXHASH | FACT_CPU | FACT_XOR_X | FACT_RANDOM
            ),
            Op::LoadAt(_) | Op::LoadHeaderLen => !(HEADERS..FACTS).contains(&self.k),
            Op::LoadScratch | Op::LoadIndexScratch | Op::Store | Op::StoreIndex => k < SCRATCH,
            Op::Alu(Alu::Div | Alu::Mod, Source::Const) => k != 0,
            Op::Alu(Alu::Lsh | Alu::Rsh, Source::Const) => k < 32,
            Op::Jump => k < after,
            Op::Branch(..) => usize::from(self.jt.max(self.jf)) < after,
            _ => true,
        }
    }
}

/// Whether every word of scratch that is loaded was stored on each way there.
fn stores_before_loads(steps: &[Step]) -> bool {
    let mut on_all_ways = vec![u16::MAX; steps.len()];
    let mut stored = 0_u16;
    for (at, step) in steps.iter().enumerate() {
        stored &= on_all_ways[at];
        let mut leads = |skip: usize| {
            if let Some(there) = on_all_ways.get_mut(at + 1 + skip) {
                *there &= stored;
            }
        };
        match step.op {
            Op::Store | Op::StoreIndex => stored |= 1 << step.k,
            Op::LoadScratch | Op::LoadIndexScratch if stored & 1 << step.k == 0 => return false,
            Op::Jump => {
                leads(step.k as usize);
                stored = u16::MAX;
            }
            Op::Branch(..) => {
                leads(usize::from(step.jt));
                leads(usize::from(step.jf));
                stored = u16::MAX;
            }
            _ => {}
        }
    }
    true
}

/// A number of the data, in network order. `None` beyond it.
fn load(data: &[u8], at: u32, size: Size) -> Option<u32> {
    let rest = data.get(at as usize..)?;
    Some(match size {
        Size::Word => u32::from_be_bytes(*rest.first_chunk()?),
        Size::Half => u16::from_be_bytes(*rest.first_chunk()?).into(),
        Size::Byte => u32::from(*rest.first()?),
    })
}

/// `None` for a division by nought.
fn compute(op: Alu, a: u32, b: u32) -> Option<u32> {
    Some(match op {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::Div => a.checked_div(b)?,
        Alu::Or => a | b,
        Alu::And => a & b,
        Alu::Lsh => a.wrapping_shl(b),
        Alu::Rsh => a.wrapping_shr(b),
        Alu::Mod => a.checked_rem(b)?,
        Alu::Xor => a ^ b,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn op(code: u16, k: u32) -> Instruction {
        Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        }
    }

    fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    fn run(program: &[Instruction], data: &[u8]) -> u32 {
        let facts = Facts {
            len: data.len() as u32,
            cpu: 3,
            hash: 0xabcd,
        };
        Filter::new(program).unwrap().run(data, &facts)
    }

    const RET_A: u16 = 0x16;
    const RET_K: u16 = 0x06;

    #[test]
    fn programs_compute() {
        let data = [1, 2, 3, 4, 5];
        assert_eq!(run(&[op(0x30, 1), op(RET_A, 0)], &data), 2, "a byte");
        assert_eq!(run(&[op(0x28, 1), op(RET_A, 0)], &data), 0x0203);
        assert_eq!(run(&[op(0x20, 1), op(RET_A, 0)], &data), 0x0203_0405);
        assert_eq!(
            run(&[op(0x20, 2), op(RET_A, 0)], &data),
            0,
            "beyond the data"
        );
        assert_eq!(run(&[op(0x80, 0), op(RET_A, 0)], &data), 5, "its length");
        // X = 4 * (data[1] & 15) - then a byte at X - 5.
        let indexed = [op(0xb1, 1), op(0x50, (-5_i32) as u32), op(RET_A, 0)];
        assert_eq!(run(&indexed, &data), 4);
        let modulo = [op(0x00, 17), op(0x94, 5), op(RET_A, 0)];
        assert_eq!(run(&modulo, &data), 2);
        let by_nought = [op(0x00, 17), op(0x3c, 0), op(RET_A, 0)];
        assert_eq!(run(&by_nought, &data), 0, "A / X, and X is 0");
        let scratch = [
            op(0x00, 9),
            op(0x02, 15),
            op(0x00, 0),
            op(0x60, 15),
            op(RET_A, 0),
        ];
        assert_eq!(run(&scratch, &data), 9);
        let choose = [
            op(0x30, 0),
            branch(0x15, 1, 0, 1),
            op(RET_K, 7),
            op(RET_K, 8),
        ];
        assert_eq!(run(&choose, &[1]), 7);
        assert_eq!(run(&choose, &[2]), 8);
        assert_eq!(run(&[op(0x20, FACTS + FACT_CPU), op(RET_A, 0)], &data), 3);
        let random = Filter::new(&[op(0x20, FACTS + FACT_RANDOM), op(RET_A, 0)]).unwrap();
        let facts = Facts::default();
        assert_ne!(random.run(&[], &facts), random.run(&[], &facts));
    }

    /// What Linux answers with EINVAL.
    #[test]
    fn bad_programs_are_refused() {
        let bad: [&[Instruction]; 16] = [
            &[],
            &[op(0x00, 1)],                                        // no end
            &[op(0x0e, 0)],                      // returns X: there is no such thing
            &[op(0xffff, 0), op(RET_A, 0)],      // unknown
            &[op(0x34, 0), op(RET_A, 0)],        // / 0
            &[op(0x94, 0), op(RET_A, 0)],        // % 0
            &[op(0x64, 32), op(RET_A, 0)],       // << 32
            &[op(0x02, 16), op(RET_A, 0)],       // M[16] =
            &[op(0x60, 3), op(RET_A, 0)],        // M[3], never stored
            &[op(0x05, 1), op(RET_A, 0)],        // jumps out
            &[op(0x05, u32::MAX), op(RET_A, 0)], // back
            &[branch(0x15, 0, 0, 1), op(RET_A, 0)], // branches out
            &[op(0x20, FACTS + 4), op(RET_A, 0)], // not known here: the packet's type
            &[op(0x20, -0x10_0000_i32 as u32 + 12), op(RET_A, 0)], // nor its sender (SKF_NET_OFF)
            &[op(0xb1, -0x10_0000_i32 as u32), op(RET_A, 0)],
            &[
                branch(0x15, 0, 0, 1),
                op(0x02, 0),
                op(0x60, 0),
                op(RET_A, 0),
            ], // stored on one way
        ];
        for program in bad {
            assert!(Filter::new(program).is_err(), "{program:?}");
        }
        let long = vec![op(0x00, 1); LONGEST];
        assert!(Filter::new(&[&long[..], &[op(RET_A, 0)]].concat()).is_err());
        assert!(Filter::new(&[&long[1..], &[op(RET_A, 0)]].concat()).is_ok());
    }

    proptest! {
        /// Whatever was found good runs to its end on any data.
        #[test]
        fn good_programs_end(
            codes in prop::collection::vec((any::<u8>(), 0..4_u8, 0..4_u8, prop_oneof![0..20_u32, any::<u32>()]), 0..40),
            data in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut program: Vec<Instruction> = Vec::new();
            for (code, jt, jf, k) in codes {
                let one = Instruction { code: code.into(), jt, jf, k };
                let mut whole = program.clone();
                whole.push(one);
                whole.extend([op(RET_A, 0); 5]);
                if Filter::new(&whole).is_ok() {
                    program.push(one);
                }
            }
            program.extend([op(RET_A, 0); 5]);
            let filter = Filter::new(&program).unwrap();
            filter.run(&data, &Facts::default());
        }
    }
}
