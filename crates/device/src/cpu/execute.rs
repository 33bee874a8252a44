//! Executes segments of a program: one operation at a time, on the lanes of one block.

mod interpret;
mod place;

use std::sync::Arc;

use cotangent_shaders::Recurrence;
use pulp::Arch;

use crate::raw::copy_past_caches;

use interpret::Interpreter;
use place::Place;

use super::chain::{self, Chain};
use super::geometry::{Pattern, unravel};
use super::lanes::{self, LONGEST};
use super::memory::{self, Source, Target};
use super::products::Products;
use super::program::{Action, From, Lanes, OPERANDS, Op, Program, Row, Run, Segment};
use super::recurrence::{PIECE, Scratch};
use super::reduction::{Kind, Running, State};
use super::registers::Register;

/// Something wrong that a run has found.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) what: Wrong,
    /// Position of the index or of the element, row-major.
    pub(super) position: usize,
}

/// What is wrong.
#[derive(Clone, Debug)]
pub(super) enum Wrong {
    /// An index that is out of range.
    Index { name: &'static str, index: f64, size: usize },
    /// A loop that goes on.
    Endless(Arc<Recurrence>),
}

impl Fault {
    /// Indices come before loops, as on an adapter; then the one with the lower position.
    pub(super) fn first(a: Option<Fault>, b: Option<Fault>) -> Option<Fault> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.rank() < a.rank() { b } else { a }),
            (a, b) => a.or(b),
        }
    }
    fn rank(&self) -> (bool, usize) {
        (matches!(self.what, Wrong::Endless(_)), self.position)
    }
}

/// What a thread needs to execute a program, and where it is.
#[derive(Debug)]
pub(super) struct Machine {
    registers: Vec<Register>,
    /// What is about to go past the caches.
    staged: Register,
    running: Vec<Running>,
    /// Results of reductions so far, one per kept lane.
    pub(super) states: Vec<Vec<State>>,
    /// What the runs of loops have left.
    runs: Vec<Last>,
    /// Values of chains.
    rooms: Vec<Vec<chain::Held>>,
    bases: Vec<i64>,
    origin: Vec<usize>,
    /// Operands that are the same for all lanes.
    same: Vec<lanes::Piece>,
    /// Position of the first kept element.
    pub(super) kept_first: usize,
    /// Position of the first reduced element.
    reduced_first: usize,
    /// Lanes of kept-level code, and of the current block.
    pub(super) kept_lanes: usize,
    block: usize,
    pub(super) fault: Option<Fault>,
}

impl Machine {
    pub(super) fn new(program: &Program) -> Machine {
        let reduced = program.reduced_elements();
        let long = if program.vertical { program.tiling.lanes * reduced } else { reduced };
        let row = |&lanes: &usize| Register::new(if lanes == 0 { long } else { lanes });
        let past_caches = program.goes_past_caches();
        Machine {
            registers: program.registers.iter().map(row).collect(),
            staged: Register::new(if past_caches { program.tiling.lanes } else { 0 }),
            running: program.reductions.iter().map(|_| Running::default()).collect(),
            states: program.reductions.iter().map(|_| Vec::new()).collect(),
            runs: program.runs.iter().map(|run| Last::new(run, program.tiling.lanes)).collect(),
            rooms: program.chains.iter().map(Chain::room).collect(),
            bases: vec![0; program.accesses.len()],
            origin: vec![0; program.kept.len() + program.reduced.len()],
            kept_first: 0,
            reduced_first: 0,
            kept_lanes: 1,
            block: 1,
            same: vec![[0.0; _]; 3],
            fault: None,
        }
    }
    /// Goes to a block of kept elements, or to one of them.
    pub(super) fn enter_unit(&mut self, program: &Program, unit: usize) {
        let kept = &mut self.origin[..program.kept.len()];
        if program.vertical {
            (self.kept_first, self.kept_lanes) = program.tiling.enter(unit, kept);
        } else {
            unravel(unit, &program.kept, kept);
            (self.kept_first, self.kept_lanes) = (unit, 1);
        }
        self.origin[program.kept.len()..].fill(0);
        (self.reduced_first, self.block) = (0, self.kept_lanes);
    }
    /// Goes to a block of reduced elements, or to one of them.
    pub(super) fn enter_step(&mut self, program: &Program, step: usize) {
        let reduced = &mut self.origin[program.kept.len()..];
        if program.vertical {
            unravel(step, &program.reduced, reduced);
            (self.reduced_first, self.block) = (step, self.kept_lanes);
        } else {
            (self.reduced_first, self.block) = program.tiling.enter(step, reduced);
        }
    }
    /// Executes steps of a sweep that adds up products.
    pub(super) fn add(
        &mut self,
        arch: Arch,
        program: &Program,
        products: &Products,
        steps: std::ops::Range<usize>,
        inputs: &[&[u32]],
    ) {
        let Machine { origin, running, states, .. } = self;
        products.add(arch, program, origin, steps, inputs, running, states);
    }
    /// Back to kept-level code.
    pub(super) fn leave_steps(&mut self, program: &Program) {
        self.origin[program.kept.len()..].fill(0);
        (self.reduced_first, self.block) = (0, self.kept_lanes);
    }
    /// Starts the reductions of a sweep.
    pub(super) fn start(&mut self, program: &Program, sweep: usize) {
        for (k, &(kind, _)) in program.reductions.iter().enumerate().filter(|(_, r)| r.1 == sweep) {
            let state = &mut self.states[k];
            if program.vertical {
                self.running[k].start(kind, self.kept_lanes, state);
            } else {
                state.clear();
                state.push(kind.identity());
            }
        }
    }
    /// Ends the reductions of a sweep: their results lie in `states`.
    pub(super) fn finish(&mut self, arch: Arch, program: &Program, sweep: usize) {
        for (k, &(kind, _)) in program.reductions.iter().enumerate().filter(|(_, r)| r.1 == sweep) {
            if program.vertical {
                self.running[k].finish(arch, kind, &mut self.states[k]);
            }
        }
    }

    /// Takes up the results of an earlier sweep, found elsewhere; `first` is the place of the unit among them.
    pub(super) fn resume(&mut self, program: &Program, sweep: usize, first: usize, totals: &[Vec<State>]) {
        for k in (0..totals.len()).filter(|&k| program.reductions[k].1 == sweep) {
            self.states[k].clear();
            self.states[k].extend_from_slice(&totals[k][first..first + self.kept_lanes]);
        }
    }
    /// Back to the beginning.
    pub(super) fn rewind(&mut self) {
        self.origin.fill(0);
        (self.kept_first, self.reduced_first, self.kept_lanes, self.block) = (0, 0, 1, 1);
    }

    /// Executes a segment where the machine is.
    pub(super) fn run(
        &mut self,
        arch: Arch,
        program: &Program,
        segment: &Segment,
        inputs: &[&[u32]],
        outputs: &mut [Target<'_>],
    ) {
        for &access in &segment.accesses {
            self.bases[access] = program.accesses[access].base(&self.origin);
        }
        arch.dispatch(Interpreter { machine: self, arch, program, segment, inputs, outputs });
    }
    /// Where the current elements begin in a register that holds all reduced ones.
    #[inline(always)]
    fn long_first(&self, program: &Program) -> usize {
        self.reduced_first * if program.vertical { program.tiling.lanes } else { 1 }
    }
    /// Executes one operation on so many lanes.
    #[inline(never)]
    fn step(
        &mut self,
        arch: Arch,
        program: &Program,
        op: &Op,
        lanes: usize,
        inputs: &[&[u32]],
        outputs: &mut [Target<'_>],
    ) {
        // the destination is taken out, so that the operands can be borrowed beside it
        let position = self.long_first(program);
        match op.into {
            Row::Register(r) => {
                let mut row = std::mem::take(&mut self.registers[r]);
                self.compute(arch, program, op, &mut row[..lanes], inputs, outputs);
                self.registers[r] = row;
            }
            Row::Long(r) => {
                let mut row = std::mem::take(&mut self.registers[r]);
                self.compute(arch, program, op, &mut row[position..position + lanes], inputs, outputs);
                self.registers[r] = row;
            }
            Row::Output(store) => {
                let to = &program.destinations[store];
                if to.past_caches && !program.in_pieces {
                    let mut row = std::mem::take(&mut self.staged);
                    self.compute(arch, program, op, &mut row[..lanes], inputs, outputs);
                    copy_past_caches(outputs[to.region].row(self.bases[to.access], lanes), &row[..lanes]);
                    self.staged = row;
                } else {
                    let mut target = std::mem::take(&mut outputs[to.region]);
                    let row = target.row(self.bases[to.access], lanes);
                    self.compute(arch, program, op, row, inputs, outputs);
                    outputs[to.region] = target;
                }
            }
            Row::None | Row::Input(_) => {
                if let Action::Store(store) = op.action {
                    let to = &program.destinations[store];
                    let mut target = std::mem::take(&mut outputs[to.region]);
                    let place = Place { machine: self, program, inputs, outputs };
                    let (base, pattern) = (self.bases[to.access], &program.accesses[to.access].pattern);
                    let row = place.row(op.from[0], lanes);
                    if to.past_caches {
                        copy_past_caches(target.row(base, lanes), row);
                    } else {
                        target.store(arch, row, base, pattern, to.cell);
                    }
                    outputs[to.region] = target;
                } else if let Action::Run(run) = op.action {
                    self.run_loop(arch, program, op, run, lanes, inputs, outputs);
                } else if let Action::Reduce(k) = op.action {
                    self.reduce(arch, program, op, k, lanes, inputs, outputs);
                } else {
                    self.compute(arch, program, op, &mut [], inputs, outputs);
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the place of execution")]
    fn run_loop(
        &mut self,
        arch: Arch,
        program: &Program,
        op: &Op,
        number: usize,
        lanes: usize,
        inputs: &[&[u32]],
        outputs: &[Target<'_>],
    ) {
        let mut last = std::mem::take(&mut self.runs[number]);
        let Run { rounds, of, element } = &program.runs[number];
        let place = Place { machine: self, program, inputs, outputs };
        let mut endless = None;
        for first in (0..lanes).step_by(PIECE) {
            let count = (lanes - first).min(PIECE);
            for (register, &from) in last.scratch.registers.iter_mut().zip(&op.from[..rounds.parameters]) {
                match place.row(from, lanes) {
                    &[one] => register[..count].fill(one),
                    row => register[..count].copy_from_slice(&row[first..first + count]),
                }
            }
            let found = rounds.run(arch, &mut last.scratch, count, &[u32::MAX; PIECE]);
            endless = endless.or(found.map(|lane| first + lane));
            for (value, register) in last.values.iter_mut().zip(&last.scratch.registers) {
                value[first..first + count].copy_from_slice(&register[..count]);
            }
        }
        let fault = endless.map(|lane| {
            let (kept, reduced) = place.coordinates(lane);
            let position = if *element { kept * program.reduced_elements() + reduced } else { kept };
            Fault { what: Wrong::Endless(of.clone()), position }
        });
        self.fault = Fault::first(self.fault.take(), fault);
        self.runs[number] = last;
    }

    #[expect(clippy::too_many_arguments, reason = "the place of execution")]
    fn reduce(
        &mut self,
        arch: Arch,
        program: &Program,
        op: &Op,
        k: usize,
        lanes: usize,
        inputs: &[&[u32]],
        outputs: &[Target<'_>],
    ) {
        let kind = program.reductions[k].0;
        let mut running = std::mem::take(&mut self.running[k]);
        let mut state = std::mem::take(&mut self.states[k]);
        let place = Place { machine: self, program, inputs, outputs };
        let rows = place.first_rows(op, lanes);
        if program.vertical {
            running.step(arch, kind, rows, self.reduced_first, &mut state);
        } else if let [state] = &mut state[..] {
            *state = kind.combine(*state, kind.row(arch, rows, self.reduced_first));
        }
        (self.running[k], self.states[k]) = (running, state);
    }

    fn compute(
        &mut self,
        arch: Arch,
        program: &Program,
        op: &Op,
        out: &mut [f32],
        inputs: &[&[u32]],
        outputs: &[Target<'_>],
    ) {
        // taken out like the destination
        let mut same = std::mem::take(&mut self.same);
        let place = Place { machine: self, program, inputs, outputs };
        let lanes = out.len();
        let row = |o: usize| place.row(op.from[o], lanes);
        let guard = |o: usize| (op.from[o] != Row::None).then(|| place.row(op.from[o], lanes));
        let at = |access: usize| (self.bases[access], &program.accesses[access].pattern);
        match &op.action {
            Action::Fill(word) => out.fill(f32::from_bits(*word)),
            Action::Splat => out.fill(place.row(op.from[0], 1)[0]),
            Action::Calculate(what) => {
                let operands = place.first_rows(op, lanes);
                if program.in_pieces {
                    let stored = matches!(op.into, Row::Output(to) if program.destinations[to].past_caches);
                    lanes::calculate_in_pieces(arch, *what, out, operands, &mut same, stored);
                } else {
                    lanes::calculate(arch, *what, out, operands);
                }
            }
            Action::Integer(operation, dtype) => {
                let words = |o: usize| bytemuck::cast_slice(row(o));
                let out = bytemuck::cast_slice_mut(out);
                lanes::integer(arch, *operation, *dtype, out, [words(0), words(1), words(2)]);
            }
            Action::Cast(from, to) => lanes::cast(arch, *from, *to, out, row(0)),
            Action::Load { access, source, cell } => {
                let (base, pattern) = at(*access);
                let source = match *source {
                    From::Binding(binding) => Source::new(inputs[binding], *cell),
                    From::Store(store) => outputs[program.destinations[store].region].source(*cell),
                };
                memory::load(arch, out, source, base, pattern, guard(0));
            }
            Action::Indexed { access, binding, cell, stride, size, check } => {
                let (base, pattern) = at(*access);
                let source = Source::new(inputs[*binding], *cell);
                let (indices, mut wrong) = (row(0), None);
                let fault = |lane: usize| wrong = wrong.or(Some(lane));
                memory::load_indexed(out, source, base, pattern, indices, guard(1), (*stride, *size), fault);
                let fault = wrong.map(|lane| place.fault(check, *size, lane, indices[lane]));
                self.fault = Fault::first(self.fault.take(), fault);
            }
            Action::Coordinate { access } => match at(*access) {
                (base, Pattern::Step(step)) => lanes::coordinate(arch, out, low_word(base), low_word(*step)),
                (base, Pattern::Table(table, _)) => {
                    for (out, offset) in out.iter_mut().zip(table) {
                        *out = f32::from_bits(low_word(base + offset).cast_unsigned());
                    }
                }
            },
            Action::InRange { access, size } => match (at(*access), u32::try_from(*size)) {
                ((base, Pattern::Step(step)), Ok(size)) => {
                    lanes::in_range(arch, out, low_word(base), low_word(*step), size);
                }
                ((base, pattern), _) => {
                    for (lane, out) in out.iter_mut().enumerate() {
                        let at = usize::try_from(base + pattern.offset(lane));
                        *out = f32::from(u8::from(at.is_ok_and(|at| at < *size)));
                    }
                }
            },
            Action::Random { access, key } => {
                random(arch, bytemuck::cast_slice_mut(out), *key, row(0), at(*access));
            }
            Action::Exponential => lanes::exponential(arch, out, row(0), row(1)),
            Action::ExponentialRest(k) => {
                let (x, max) = (row(0), row(1)[0]);
                let mut next = place.of_next_unit(op.from[0], lanes).chunks(LONGEST);
                let mut part = Kind::Rest.identity();
                for (out, x) in out.chunks_mut(LONGEST).zip(x.chunks(LONGEST)) {
                    let next = next.next().unwrap_or(&[]);
                    part = Kind::Rest.combine(part, lanes::exponential_rest(arch, out, x, max, next));
                }
                if let [state] = &mut self.states[*k][..] {
                    *state = Kind::Rest.combine(*state, part);
                }
            }
            Action::Factor => {
                for (out, s) in out.iter_mut().zip(row(0)) {
                    *out = 1.0 / (1.0 + s);
                }
            }
            Action::Softmax => lanes::scale(arch, out, row(0), row(1)),
            Action::SoftmaxResidual => {
                let scale: &[f32] = if op.from.len() > OPERANDS { row(OPERANDS) } else { &[1.0] };
                lanes::scale_twice(arch, out, row(0), [row(1), scale]);
                place.at_labels(out, row(2), [row(0), row(1), row(3), row(4), row(5), scale]);
            }
            Action::Finish(k) => {
                let kind = program.reductions[*k].0;
                let max: &[f32] = if kind == Kind::Rest { row(0) } else { &[] };
                for (lane, (out, state)) in out.iter_mut().zip(&self.states[*k]).enumerate() {
                    *out = kind.finish(*state, max.get(lane).copied().unwrap_or(0.0));
                }
            }
            Action::CheckLabels { size, check } => {
                let lanes = if op.lanes == Lanes::One { 1 } else { self.block };
                let labels = place.row(op.from[0], lanes);
                if let Some(lane) = labels.iter().position(|label| label.to_bits() as usize >= *size) {
                    let fault = place.fault(check, *size, lane, labels[lane]);
                    self.fault = Fault::first(self.fault.take(), Some(fault));
                }
            }
            Action::Part { run, value } => out.copy_from_slice(&self.runs[*run].values[*value][..lanes]),
            Action::Store(_) | Action::Reduce(_) | Action::Run(_) | Action::Chain(_) => {}
        }
        self.same = same;
    }
}

/// What the run of a loop has left, lane by lane.
#[derive(Debug, Default)]
struct Last {
    scratch: Scratch,
    values: Vec<Vec<f32>>,
}

impl Last {
    fn new(run: &Run, lanes: usize) -> Last {
        let values = vec![vec![0.0; lanes.max(1)]; run.rounds.carried];
        Last { scratch: run.rounds.scratch(), values }
    }
}

/// Random words at the elements of an access; one step counter, or one per lane.
fn random(arch: Arch, out: &mut [u32], key: [u32; 4], steps: &[f32], (base, pattern): (i64, &Pattern)) {
    let at = |lane: usize| u64::try_from(base + pattern.offset(lane)).unwrap_or(0);
    if let (Pattern::Step(1), &[step]) = (pattern, steps) {
        lanes::random(arch, out, key, step.to_bits(), at(0));
        return;
    }
    for (lane, out) in out.iter_mut().enumerate() {
        let step = steps.get(lane).or(steps.first()).map_or(0, |step| step.to_bits());
        *out = lanes::random_word(key, step, at(lane));
    }
}

/// The lower half of an index: coordinates wrap around like all integers.
#[expect(clippy::cast_possible_truncation, reason = "wrapping is meant")]
fn low_word(x: i64) -> i32 {
    x as i32
}
