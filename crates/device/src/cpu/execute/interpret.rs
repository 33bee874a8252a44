//! The loop over the operations of a segment, compiled for each instruction set: operations on registers, of which most programs
//! consist, run inside it. A call per operation would cost as much as a hundred lanes of it.
//!
//! Everything here is inlined into one function, closures included: what stays behind a call runs as baseline code.

use pulp::{Arch, Simd, WithSimd};

use super::super::chain::PIECE;
use super::super::geometry::signed;
use super::super::memory::Target;
use super::super::program::{Action, From, Lanes, Op, Program, Row, Segment, Stream};
use super::Machine;
use super::place::Place;
use crate::raw::{LINE, copy_past_caches, prefetch};

/// A segment and where it is executed.
pub(super) struct Interpreter<'a, 'b> {
    pub(super) machine: &'a mut Machine,
    pub(super) arch: Arch,
    pub(super) program: &'a Program,
    pub(super) segment: &'a Segment,
    pub(super) inputs: &'a [&'a [u32]],
    pub(super) outputs: &'a mut [Target<'b>],
}

impl WithSimd for Interpreter<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Interpreter { machine, arch, program, segment, inputs, outputs } = self;
        let lines = machine.block / LINE;
        let mut ahead = Ahead { streams: &segment.streams, line: 0, lines, at_once: segment.fetched };
        for op in &segment.ops {
            if let Action::Chain(chain) = op.action {
                machine.run_chain(program, op, chain, &mut ahead, inputs, outputs);
                continue;
            }
            if !ahead.streams.is_empty() {
                machine.fetch(program, &mut ahead, inputs, outputs);
            }
            let lanes = match op.lanes {
                Lanes::One => 1,
                Lanes::Block => machine.block,
                Lanes::Full => program.tiling.lanes,
            };
            // the destination is taken out, so that the operands can be borrowed beside it
            match (&op.action, op.into) {
                (Action::Calculate(what), Row::Register(into)) if !program.in_pieces => {
                    let mut out = std::mem::take(&mut machine.registers[into]);
                    let place = Place { machine, program, inputs, outputs };
                    what.lanes(&mut out[..lanes], place.first_rows(op, lanes));
                    machine.registers[into] = out;
                }
                _ => machine.step(arch, program, op, lanes, inputs, outputs),
            }
        }
    }
}

/// What is still to be fetched of the next block.
struct Ahead<'a> {
    streams: &'a [Stream],
    /// Lines of the first stream that have been fetched, and that the block has.
    line: usize,
    lines: usize,
    /// Lines per operation.
    at_once: usize,
}

impl Machine {
    /// Executes a chain, piece after piece. Lanes beyond the last one of a block are computed from what a slot held before, and
    /// not given.
    #[inline(always)]
    fn run_chain(
        &mut self,
        program: &Program,
        op: &Op,
        number: usize,
        ahead: &mut Ahead<'_>,
        inputs: &[&[u32]],
        outputs: &mut [Target<'_>],
    ) {
        let (chain, lanes) = (&program.chains[number], self.block);
        // taken out, so that rows can be borrowed beside it
        let mut room = std::mem::take(&mut self.rooms[number]);
        let (same, taken) = op.from.split_at(chain.same.len());
        let place = Place { machine: self, program, inputs, outputs };
        for (&row, &slot) in same.iter().zip(&chain.same) {
            room[usize::from(slot)].0.fill(place.row(row, 1)[0]);
        }
        for first in (0..lanes).step_by(PIECE) {
            let count = (lanes - first).min(PIECE);
            let place = Place { machine: self, program, inputs, outputs };
            for (&row, &slot) in taken.iter().zip(&chain.taken) {
                let room = &mut room[usize::from(slot)].0;
                let row = &place.row(row, lanes)[first..first + count];
                if let Ok(row) = <&[f32; PIECE]>::try_from(row) {
                    *room = *row;
                } else {
                    room[..count].copy_from_slice(row);
                }
            }
            for step in &chain.steps {
                if !ahead.streams.is_empty() {
                    self.fetch(program, ahead, inputs, outputs);
                }
                step.compute(&mut room);
            }
            for &(slot, row) in &chain.given {
                self.give(program, row, first, &room[usize::from(slot)].0[..count], outputs);
            }
        }
        self.rooms[number] = room;
    }
    /// Copies lanes of a block, from the first one on, to where they are wanted.
    #[inline(always)]
    fn give(
        &mut self,
        program: &Program,
        row: Row,
        first: usize,
        values: &[f32],
        outputs: &mut [Target<'_>],
    ) {
        let lanes = first..first + values.len();
        match row {
            Row::Register(r) => self.registers[r][lanes].copy_from_slice(values),
            Row::Long(r) => {
                let start = self.long_first(program);
                self.registers[r][start..][lanes].copy_from_slice(values);
            }
            Row::Output(store) => {
                let to = &program.destinations[store];
                let out = outputs[to.region].row(self.bases[to.access] + signed(first), values.len());
                if to.past_caches {
                    copy_past_caches(out, values);
                } else {
                    out.copy_from_slice(values);
                }
            }
            Row::None | Row::Input(_) => {}
        }
    }
    /// Fetches some lines of the next block: a processor can wait for few at a time.
    #[inline(always)]
    fn fetch(&self, program: &Program, ahead: &mut Ahead<'_>, inputs: &[&[u32]], outputs: &[Target<'_>]) {
        let Some((stream, others)) = ahead.streams.split_first() else { return };
        let (words, start) = match stream.source {
            From::Binding(binding) => (inputs[binding], 0),
            From::Store(store) => {
                let target = &outputs[program.destinations[store].region];
                (&*target.words, target.start)
            }
        };
        let line = ahead.line;
        ahead.line += ahead.at_once;
        if ahead.line >= ahead.lines {
            (ahead.streams, ahead.line) = (others, 0);
        }
        // A guarded load may start below zero.
        if let Ok(next) = usize::try_from(self.bases[stream.access] + signed(self.block) - signed(start))
            && let Some(words) =
                words.get(next + line * LINE..next + (line + ahead.at_once).min(ahead.lines) * LINE)
        {
            prefetch(words);
        }
    }
}
