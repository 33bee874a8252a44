//! What operands are read from.

use super::super::geometry::{Access, Pattern, unravel};
use super::super::lanes;
use super::super::memory::Target;
use super::super::program::{Check, Op, Program, Row};
use super::{Fault, Machine, Wrong};

/// What operands are read from.
pub(super) struct Place<'a> {
    pub(super) machine: &'a Machine,
    pub(super) program: &'a Program,
    pub(super) inputs: &'a [&'a [u32]],
    pub(super) outputs: &'a [Target<'a>],
}

impl<'a> Place<'a> {
    /// The rows of the first operands.
    #[inline(always)]
    pub(super) fn first_rows(&self, op: &Op, lanes: usize) -> [&'a [f32]; 3] {
        [self.row(op.from[0], lanes), self.row(op.from[1], lanes), self.row(op.from[2], lanes)]
    }
    /// The lanes of a row; one lane if there is only one for the whole block.
    #[inline(always)]
    pub(super) fn row(&self, row: Row, lanes: usize) -> &'a [f32] {
        match row {
            Row::Register(r) => self.machine.registers[r].first(lanes),
            Row::None => &[],
            _ => self.elsewhere(row, lanes),
        }
    }
    #[inline(never)]
    fn elsewhere(&self, row: Row, lanes: usize) -> &'a [f32] {
        let Place { machine, program, .. } = *self;
        match row {
            Row::None | Row::Register(_) => &[],
            Row::Long(r) => {
                let first = machine.long_first(program);
                &machine.registers[r][first..first + lanes]
            }
            Row::Input(access) => {
                let Access { pattern, binding, .. } = &program.accesses[access];
                let lanes = if let Pattern::Step(0) = pattern { 1 } else { lanes };
                let first = usize::try_from(machine.bases[access]).unwrap_or(usize::MAX);
                bytemuck::cast_slice(&self.inputs[*binding][first..][..lanes])
            }
            Row::Output(store) => {
                let to = &program.destinations[store];
                self.outputs[to.region].peek(machine.bases[to.access], lanes)
            }
        }
    }
    /// The words that the next unit reads where this one reads a row of lanes: nothing if there are none.
    pub(super) fn of_next_unit(&self, row: Row, lanes: usize) -> &'a [u32] {
        let Row::Input(access) = row else { return &[] };
        let Access { at, binding, .. } = &self.program.accesses[access];
        let walk = self.program.kept.len().checked_sub(1).map_or(0, |last| at.strides[last]);
        let next = usize::try_from(self.machine.bases[access] + walk).unwrap_or(usize::MAX);
        let words = self.inputs[*binding].get(next..).unwrap_or(&[]);
        &words[..lanes.min(words.len())]
    }
    /// Turns a softmax times a scale into its residual times that scale, at the labels only: the residual is `−s / (1 + s)`
    /// where the label is the maximum.
    pub(super) fn at_labels(&self, out: &mut [f32], x: &[f32], operands: [&[f32]; 6]) {
        let [exponential, factor, max, label, rest, scale] = operands;
        let first = self.machine.reduced_first;
        let of = lanes::one_of;
        let mut residual = |lane: usize| {
            let (factor, max) = (of(factor, lane), of(max, lane));
            let residual = if max == f32::NEG_INFINITY {
                0.0
            } else if x[lane] == max {
                -of(rest, lane) * factor
            } else {
                exponential[lane] * factor - 1.0
            };
            out[lane] = residual * of(scale, lane);
        };
        if self.program.vertical {
            (0..label.len()).filter(|&lane| label[lane].to_bits() as usize == first).for_each(residual);
        } else if let Some(lane) = (label[0].to_bits() as usize).checked_sub(first).filter(|&l| l < x.len()) {
            residual(lane);
        }
    }
    /// The kept and the reduced element of a lane.
    pub(super) fn coordinates(&self, lane: usize) -> (usize, usize) {
        let machine = self.machine;
        match self.program.vertical {
            true => (machine.kept_first + lane, machine.reduced_first),
            false => (machine.kept_first, machine.reduced_first + lane),
        }
    }
    /// The report of an index that is out of range.
    pub(super) fn fault(&self, check: &Check, size: usize, lane: usize, index: f32) -> Fault {
        let program = self.program;
        let (kept, reduced) = self.coordinates(lane);
        let position = match &check.origin {
            None => kept * program.reduced_elements() + reduced,
            Some(at) => {
                let mut coordinate = vec![0; program.kept.len() + program.reduced.len()];
                let (of_kept, of_reduced) = coordinate.split_at_mut(program.kept.len());
                unravel(kept, &program.kept, of_kept);
                unravel(reduced, &program.reduced, of_reduced);
                usize::try_from(at.at(&coordinate) - at.offset).unwrap_or(kept)
            }
        };
        let word = index.to_bits();
        let index = if check.signed { f64::from(word.cast_signed()) } else { f64::from(word) };
        Fault { what: Wrong::Index { name: check.name, index, size }, position }
    }
}
