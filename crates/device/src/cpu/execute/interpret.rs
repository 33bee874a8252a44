//! The loop over the operations of a segment, compiled for each instruction set: operations on registers, of which most programs
//! consist, run inside it. A call per operation would cost as much as a hundred lanes of it.
//!
//! Everything here is inlined into one function, closures included: what stays behind a call runs as baseline code.

use pulp::{Arch, Simd, WithSimd};

use super::super::geometry::signed;
use super::super::memory::Target;
use super::super::program::{Action, From, Lanes, Program, Row, Segment, Stream};
use super::Machine;
use super::place::Place;
use crate::raw::{LINE, prefetch};

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
                (Action::Elementwise(row), Row::Register(into)) if !program.in_pieces => {
                    let mut out = std::mem::take(&mut machine.registers[into]);
                    let place = Place { machine, program, inputs, outputs };
                    row.lanes(&mut out[..lanes], place.first_rows(op, lanes));
                    machine.registers[into] = out;
                }
                (Action::Pair(pair), Row::Register(into)) => {
                    let mut out = std::mem::take(&mut machine.registers[into]);
                    let place = Place { machine, program, inputs, outputs };
                    pair.lanes(&mut out[..lanes], place.first_rows(op, lanes));
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
