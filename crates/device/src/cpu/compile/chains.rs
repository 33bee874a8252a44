//! Joins operations on elements into chains, whose values stay in the first cache.

use super::super::chain::{Calculation, Chain, PIECE, Slot, Step};
use super::super::program::{Action, From, Lanes, OPERANDS, Op, Program, Row, Segment};
use super::emit::is_temporary;
use super::{Cell, Compiler, Pattern};

/// Operations from which on a chain is worth copying what it takes and gives.
const SHORTEST: usize = 6;

/// Lanes of a block that is cut into pieces: the last piece is computed as a whole.
const LONG_BLOCK: usize = 2 * PIECE;

/// A row whose lanes are all the same.
#[derive(Clone, Copy, Debug)]
pub(super) enum Same {
    Word(u32),
    /// Copied from here.
    Lane(Row),
}

impl Compiler<'_> {
    /// Joins operations of a segment into chains. Operations that a chain does not contain come before it or, if they need
    /// what it gives, after it; among themselves they keep their order.
    pub(super) fn chain(&mut self, ops: Vec<Op>) -> Vec<Op> {
        if self.program.in_pieces || self.program.tiling.lanes < LONG_BLOCK {
            return ops;
        }
        let (mut done, mut rest) = (Vec::new(), ops);
        while !rest.is_empty() {
            let (before, joined, after) = part(rest);
            rest = after;
            done.extend(before);
            if joined.len() < SHORTEST {
                done.extend(joined);
            } else {
                done.push(self.join(&joined, &mut rest));
            }
        }
        done
    }
    /// Makes a chain of operations. Stores of its values among those that come after it become its own.
    fn join(&mut self, joined: &[Op], after: &mut Vec<Op>) -> Op {
        let mut chain = Chain::default();
        let mut slots = Slots::default();
        let mut from = Vec::new();
        let made = |row: Row| joined.iter().any(|op| op.into == row);
        let outside = joined.iter().flat_map(|op| &op.from).filter(|row| **row != Row::None && !made(**row));
        for &row in outside {
            if slots.of(row).is_some() {
                continue;
            }
            let slot = slots.take(row);
            match self.same_of(row) {
                Some(Same::Word(word)) => chain.constants.push((word, slot)),
                Some(Same::Lane(lane)) => {
                    from.insert(chain.same.len(), lane);
                    chain.same.push(slot);
                }
                None => {
                    from.push(row);
                    chain.taken.push(slot);
                }
            }
        }
        let mut given: Vec<(Row, Row)> = Vec::new();
        if !after.iter().any(loads_before_storing) {
            after.retain(|op| match op.action {
                Action::Store(store) if made(op.from[0]) && self.is_plain(store) => {
                    given.push((op.from[0], Row::Output(store)));
                    false
                }
                _ => true,
            });
        }
        for op in joined {
            if !is_temporary(op.into) || after.iter().any(|later| later.from.contains(&op.into)) {
                given.push((op.into, op.into));
            }
        }
        for (number, op) in joined.iter().enumerate() {
            let Some(what) = Calculation::of(&op.action) else { continue };
            // the first operand stands for those that there are not
            let first = slots.of(op.from[0]).unwrap_or(0);
            let operand = |o: usize| slots.of(op.from[o]).unwrap_or(first);
            let operands = [first, operand(1), operand(2)];
            let into = slots.take(op.into);
            chain.steps.push(Step { what, into, from: operands });
            let is_wanted = |row: Row| {
                self.same_of(row).is_some()
                    || given.iter().any(|(of, _)| *of == row)
                    || joined[number + 1..].iter().any(|later| later.from.contains(&row))
            };
            slots.keep(is_wanted);
        }
        chain.given = given.iter().filter_map(|&(of, to)| Some((slots.of(of)?, to))).collect();
        chain.slots = slots.count;
        from.resize(from.len().max(OPERANDS), Row::None);
        self.program.chains.push(chain);
        let action = Action::Chain(self.program.chains.len() - 1);
        Op { action, lanes: Lanes::Block, into: Row::None, from }
    }
    fn same_of(&self, row: Row) -> Option<Same> {
        self.same.iter().find(|(known, _)| *known == row).map(|(_, same)| *same)
    }
    /// Whether a store puts words one after the other.
    fn is_plain(&self, store: usize) -> bool {
        let to = &self.program.destinations[store];
        to.cell == Cell::Word && matches!(self.program.accesses[to.access].pattern, Pattern::Step(1))
    }
    /// Takes out what fills registers that nothing reads.
    pub(super) fn prune(&mut self) {
        let Program { prologue, between, sweeps, registers, .. } = &mut self.program;
        let mut segments: Vec<&mut Segment> = [prologue].into_iter().chain(between).chain(sweeps).collect();
        let read: Vec<Row> = segments.iter().flat_map(|s| &s.ops).flat_map(|op| op.from.clone()).collect();
        for segment in &mut segments {
            segment.ops.retain(|op| {
                let fills = matches!(op.action, Action::Fill(_) | Action::Splat);
                let Row::Register(register) = op.into else { return true };
                let is_idle = fills && !read.contains(&op.into);
                if is_idle {
                    registers[register] = 1;
                }
                !is_idle
            });
        }
    }
}

/// What comes before a chain, the chain, and what comes after it.
fn part(ops: Vec<Op>) -> (Vec<Op>, Vec<Op>, Vec<Op>) {
    let (mut before, mut joined, mut after): (Vec<Op>, Vec<Op>, Vec<Op>) = Default::default();
    let makes = |ops: &[Op], op: &Op| {
        ops.iter().any(|earlier| earlier.into != Row::None && op.from.contains(&earlier.into))
    };
    let mut is_closed = false;
    for op in ops {
        let follows =
            is_closed || makes(&after, &op) || runs_in(&after) && matches!(op.action, Action::Part { .. });
        if follows {
            after.push(op);
        } else if op.lanes == Lanes::Block && Calculation::of(&op.action).is_some() {
            joined.push(op);
        } else if makes(&joined, &op) {
            is_closed = loads_before_storing(&op);
            after.push(op);
        } else {
            before.push(op);
        }
    }
    (before, joined, after)
}

/// Whether it loads what something stored overwrites: it comes first.
fn loads_before_storing(op: &Op) -> bool {
    matches!(op.action, Action::Load { source: From::Store(_), .. })
}

fn runs_in(ops: &[Op]) -> bool {
    ops.iter().any(|op| matches!(op.action, Action::Run(_)))
}

/// Which slot holds the lanes of which row.
#[derive(Default)]
struct Slots {
    held: Vec<(Row, Slot)>,
    free: Vec<Slot>,
    count: usize,
}

impl Slots {
    fn of(&self, row: Row) -> Option<Slot> {
        self.held.iter().find(|(held, _)| *held == row).map(|(_, slot)| *slot)
    }
    fn take(&mut self, row: Row) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            Slot::try_from(self.count - 1).unwrap_or(Slot::MAX)
        });
        self.held.push((row, slot));
        slot
    }
    /// Frees the slots of other rows.
    fn keep(&mut self, is_wanted: impl Fn(Row) -> bool) {
        let free = self.held.extract_if(.., |(row, _)| !is_wanted(*row));
        self.free.extend(free.map(|(_, slot)| slot));
    }
}
