//! Loops that every lane runs by itself: rounds over a piece of lanes until none of them goes on, those that have left kept as they are.

use cotangent_shaders::{Code, Recurrence};
use cotangent_tensor::{DType, Elementwise, Integer};
use pulp::Arch;

use super::calculation::Calculation;
use super::lanes;

/// Lanes that run together: as long as the longest of them takes.
pub(super) const PIECE: usize = 128;

/// A loop, ready to run. Values lie in registers of a piece each; the carried ones first, then the captured ones.
#[derive(Debug)]
pub(super) struct Rounds {
    /// What the condition needs, then the rest.
    tests: Vec<Step>,
    steps: Vec<Step>,
    condition: usize,
    /// For each carried value that changes, where its next value lies.
    next: Vec<(usize, usize)>,
    pub(super) carried: usize,
    pub(super) parameters: usize,
    registers: usize,
    limit: u32,
    inner: Vec<Rounds>,
}

#[derive(Debug)]
enum Step {
    Elementwise(Elementwise, Vec<usize>, usize),
    Integer(Integer, DType, Vec<usize>, usize),
    Cast(DType, DType, usize, usize),
    /// Which of the inner loops, its operands, and the first register of its last state.
    Run(usize, Vec<usize>, usize),
}

/// The registers of a loop and of those inside of it.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) registers: Vec<Vec<f32>>,
    staged: Vec<Vec<f32>>,
    /// Lanes that go on: all bits, or none.
    inside: Vec<u32>,
    /// Rounds that each lane has run, those of loops inside included.
    turns: Vec<u32>,
    /// Rounds of the longest loop inside: a loop and its derivatives are one.
    longest: Vec<u32>,
    inner: Vec<Scratch>,
}

impl Rounds {
    pub(super) fn new(looped: &Recurrence) -> Rounds {
        let parameters = looped.code.iter().take_while(|i| matches!(i.code, Code::Parameter(_))).count();
        let (mut places, mut registers) = ((0..parameters).collect::<Vec<usize>>(), parameters);
        let (mut tests, mut steps, mut inner) = (Vec::new(), Vec::new(), Vec::new());
        let tested = looped.tests();
        for (value, instruction) in looped.code.iter().enumerate().skip(parameters) {
            let of = |values: &[usize]| values.iter().map(|&value| places[value]).collect::<Vec<_>>();
            let into = registers;
            let step = match &instruction.code {
                Code::Elementwise(row, operands) => Step::Elementwise(*row, of(operands), into),
                Code::Integer(row, dtype, operands) => Step::Integer(*row, *dtype, of(operands), into),
                Code::Cast(from) => {
                    Step::Cast(looped.code[*from].dtype, instruction.dtype, places[*from], into)
                }
                Code::While(within, operands) => {
                    inner.push(Rounds::new(within));
                    registers += within.carried.saturating_sub(1);
                    Step::Run(inner.len() - 1, of(operands), into)
                }
                // The values of a run lie one after the other; nothing else is in a loop.
                Code::Part(tuple, part) => {
                    places.push(places[*tuple] + part);
                    continue;
                }
                _ => continue,
            };
            registers += 1;
            places.push(into);
            if tested[value] { tests.push(step) } else { steps.push(step) }
        }
        let changed = (0..looped.carried).filter(|&value| looped.next[value] != value);
        Rounds {
            next: changed.map(|value| (value, places[looped.next[value]])).collect(),
            condition: places[looped.condition],
            carried: looped.carried,
            limit: looped.rounds,
            tests,
            steps,
            parameters,
            registers,
            inner,
        }
    }
    pub(super) fn scratch(&self) -> Scratch {
        let rows = |count: usize| vec![vec![0.0; PIECE]; count];
        Scratch {
            registers: rows(self.registers),
            staged: rows(self.next.len()),
            inside: vec![0; PIECE],
            turns: vec![0; PIECE],
            longest: vec![0; PIECE],
            inner: self.inner.iter().map(Rounds::scratch).collect(),
        }
    }
    /// Runs the loop on the first lanes of its registers, as far as they take part. Gives the first lane that has not ended.
    pub(super) fn run(&self, arch: Arch, scratch: &mut Scratch, lanes: usize, part: &[u32]) -> Option<usize> {
        scratch.inside[..lanes].copy_from_slice(&part[..lanes]);
        scratch.turns.fill(0);
        let mut endless = None;
        loop {
            self.steps(arch, &self.tests, scratch, lanes, &mut endless);
            let Scratch { registers, inside, turns, .. } = &mut *scratch;
            let inside = &mut inside[..lanes];
            let mut over = 0;
            for ((inside, condition), turns) in inside.iter_mut().zip(&registers[self.condition]).zip(&*turns)
            {
                *inside &= mask(*condition != 0.0);
                over |= *inside & mask(*turns >= self.limit);
            }
            if over != 0 {
                let is_over = |lane: usize| inside[lane] != 0 && turns[lane] >= self.limit;
                let over: Vec<usize> = (0..lanes).filter(|&lane| is_over(lane)).collect();
                endless = earlier(endless, over.first().copied());
                over.into_iter().for_each(|lane| inside[lane] = 0);
            }
            let (mut some, mut all) = (0, u32::MAX);
            for (inside, turns) in inside.iter().zip(turns) {
                *turns += inside & 1;
                some |= inside;
                all &= inside;
            }
            if some == 0 {
                break;
            }
            self.steps(arch, &self.steps, scratch, lanes, &mut endless);
            self.advance(scratch, lanes, all != 0);
        }
        endless
    }
    /// The state after a round, in the lanes that took part in it.
    fn advance(&self, scratch: &mut Scratch, lanes: usize, all: bool) {
        let Scratch { registers, staged, inside, turns, longest, .. } = scratch;
        if !self.inner.is_empty() {
            for (turns, longest) in turns.iter_mut().zip(longest) {
                *turns = turns.saturating_add(std::mem::take(longest));
            }
        }
        // Values may change places: those that are carried themselves are read before one is overwritten.
        for ((_, next), staged) in
            self.next.iter().zip(staged.iter_mut()).filter(|((_, next), _)| *next < self.carried)
        {
            staged[..lanes].copy_from_slice(&registers[*next][..lanes]);
        }
        for ((value, next), staged) in self.next.iter().zip(staged) {
            let mut row = std::mem::take(&mut registers[*value]);
            let new = if *next < self.carried { &*staged } else { &registers[*next] };
            if all {
                row[..lanes].copy_from_slice(&new[..lanes]);
            } else {
                for ((old, new), inside) in row[..lanes].iter_mut().zip(new).zip(&*inside) {
                    *old = f32::from_bits(old.to_bits() & !inside | new.to_bits() & inside);
                }
            }
            registers[*value] = row;
        }
    }
    fn steps(
        &self,
        arch: Arch,
        steps: &[Step],
        scratch: &mut Scratch,
        lanes: usize,
        endless: &mut Option<usize>,
    ) {
        let Scratch { registers, inside, longest, inner, .. } = scratch;
        for step in steps {
            match step {
                Step::Elementwise(row, from, into) => {
                    let mut out = std::mem::take(&mut registers[*into]);
                    let what = Calculation::Elementwise(*row);
                    lanes::calculate(arch, what, &mut out[..lanes], operands(registers, from, lanes));
                    registers[*into] = out;
                }
                Step::Integer(row, dtype, from, into) => {
                    let mut out = std::mem::take(&mut registers[*into]);
                    let words = operands(registers, from, lanes).map(bytemuck::cast_slice);
                    lanes::integer(arch, *row, *dtype, bytemuck::cast_slice_mut(&mut out[..lanes]), words);
                    registers[*into] = out;
                }
                Step::Cast(of, to, from, into) => {
                    let mut out = std::mem::take(&mut registers[*into]);
                    lanes::cast(arch, *of, *to, &mut out[..lanes], &registers[*from][..lanes]);
                    registers[*into] = out;
                }
                Step::Run(number, from, into) => {
                    let (within, own) = (&self.inner[*number], &mut inner[*number]);
                    for (to, from) in own.registers.iter_mut().zip(from) {
                        to[..lanes].copy_from_slice(&registers[*from][..lanes]);
                    }
                    let found = within.run(arch, own, lanes, &inside[..]);
                    *endless = earlier(*endless, found);
                    for (longest, turns) in longest.iter_mut().zip(&own.turns) {
                        *longest = (*longest).max(*turns);
                    }
                    for value in 0..within.carried {
                        registers[into + value][..lanes].copy_from_slice(&own.registers[value][..lanes]);
                    }
                }
            }
        }
    }
}

/// All bits, or none.
fn mask(holds: bool) -> u32 {
    u32::from(holds).wrapping_neg()
}

fn earlier(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    a.into_iter().chain(b).min()
}

/// The rows of up to three operands.
fn operands<'a>(registers: &'a [Vec<f32>], from: &[usize], lanes: usize) -> [&'a [f32]; 3] {
    std::array::from_fn(|o| from.get(o).map_or(&[][..], |&from| &registers[from][..lanes]))
}
