//! Joins operations on elements into chains, whose values stay in the first cache.

use std::collections::{HashMap, HashSet};

use super::super::chain::{Chain, PIECE, Slot, Step};
use super::super::program::{Action, From, Lanes, OPERANDS, Op, Program, Row, Segment};
use super::emit::is_temporary;
use super::{Cell, Compiler, Pattern};

/// Operations from which on a chain is worth copying what it takes and gives.
const SHORTEST: usize = 6;

/// Lanes of a block that is cut into pieces: the last piece is computed as a whole.
const LONG_BLOCK: usize = 2 * PIECE;

/// Values that a chain holds at a time, at most: they should not leave the second cache.
const MOST_SLOTS: usize = 256;

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
            match if joined.len() < SHORTEST { None } else { self.chained(&joined, &mut rest) } {
                Some(chain) => done.push(chain),
                None => done.extend(joined),
            }
        }
        done
    }
    /// Makes a chain of operations. Stores of its values among those that come after it become its own. Nothing if it had too
    /// many values at a time.
    fn chained(&mut self, joined: &[Op], after: &mut Vec<Op>) -> Option<Op> {
        let mut chain = Chain::default();
        let mut slots = Slots::default();
        let mut from = Vec::new();
        let made: HashSet<Row> = joined.iter().map(|op| op.into).collect();
        let mut last: HashMap<Row, usize> = HashMap::new();
        for (number, op) in joined.iter().enumerate() {
            last.extend(op.from.iter().map(|&row| (row, number)));
        }
        // What comes from outside is there from the beginning, and what is the same for all pieces to the end.
        let outside = joined.iter().flat_map(|op| &op.from).filter(|row| **row != Row::None);
        for &row in outside.filter(|row| !made.contains(row)) {
            if slots.held.contains_key(&row) {
                continue;
            }
            let slot = slots.take(row)?;
            match self.same.get(&row) {
                Some(Same::Word(word)) => chain.constants.push((*word, slot)),
                Some(Same::Lane(lane)) => {
                    from.insert(chain.same.len(), *lane);
                    chain.same.push(slot);
                }
                None => {
                    from.push(row);
                    chain.taken.push(slot);
                }
            }
        }
        let is_own = |op: &Op| match op.action {
            Action::Store(store) if made.contains(&op.from[0]) && self.is_plain(store) => Some(store),
            _ => None,
        };
        // Where something stored is to be loaded first, no store may overtake it.
        let own: Vec<Option<usize>> = match after.iter().any(is_loaded_in_place) {
            true => vec![None; after.len()],
            false => after.iter().map(is_own).collect(),
        };
        let stores = after.iter().zip(&own).filter_map(|(op, own)| own.map(|s| (op.from[0], Row::Output(s))));
        let mut given: Vec<(Row, Row)> = stores.collect();
        let others = after.iter().zip(&own).filter(|(_, own)| own.is_none());
        let needed: HashSet<Row> = others.flat_map(|(op, _)| op.from.iter().copied()).collect();
        let leaves = |row: &Row| !is_temporary(*row) || needed.contains(row);
        given.extend(joined.iter().map(|op| op.into).filter(leaves).map(|row| (row, row)));
        let stays: HashSet<Row> = given.iter().map(|(row, _)| *row).collect();
        for (number, op) in joined.iter().enumerate() {
            let Action::Calculate(what) = op.action else { return None };
            // the first operand stands for those that there are not
            let first = *slots.held.get(&op.from[0])?;
            let operand = |o: usize| slots.held.get(&op.from[o]).copied().unwrap_or(first);
            let operands = [first, operand(1), operand(2)];
            let into = slots.take(op.into)?;
            chain.steps.push(Step { what, into, from: operands });
            for row in op.from.iter().chain([&op.into]) {
                let ends = last.get(row).is_none_or(|&last| last == number);
                if ends && !stays.contains(row) && !self.same.contains_key(row) {
                    slots.give_back(*row);
                }
            }
        }
        chain.given =
            given.iter().map(|(row, to)| Some((*slots.held.get(row)?, *to))).collect::<Option<_>>()?;
        chain.slots = slots.count;
        let mut kept = own.iter().map(Option::is_none);
        after.retain(|_| kept.next().unwrap_or(true));
        from.resize(from.len().max(OPERANDS), Row::None);
        self.program.chains.push(chain);
        let action = Action::Chain(self.program.chains.len() - 1);
        Some(Op { action, lanes: Lanes::Block, into: Row::None, from })
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
    // what the chain makes, and what is made after it
    let (mut made, mut made_after): (HashSet<Row>, HashSet<Row>) = Default::default();
    let (mut runs_after, mut is_closed) = (false, false);
    for op in ops {
        let needs = |rows: &HashSet<Row>| op.from.iter().any(|row| rows.contains(row));
        let is_chained = op.lanes == Lanes::Block && matches!(op.action, Action::Calculate(_));
        let follows = is_closed
            || needs(&made_after)
            || runs_after && matches!(op.action, Action::Part { .. })
            || !is_chained && needs(&made);
        let (rows, place) = match (follows, is_chained) {
            (true, _) => (Some(&mut made_after), &mut after),
            (false, true) => (Some(&mut made), &mut joined),
            (false, false) => (None, &mut before),
        };
        if let Some(rows) = rows
            && op.into != Row::None
        {
            rows.insert(op.into);
        }
        if follows {
            runs_after |= matches!(op.action, Action::Run(_));
            // nothing that comes later may overwrite what it loads, so that all comes after it
            is_closed |= is_loaded_in_place(&op);
        }
        place.push(op);
    }
    (before, joined, after)
}

/// Whether it loads what is overwritten by a store.
fn is_loaded_in_place(op: &Op) -> bool {
    matches!(op.action, Action::Load { source: From::Store(_), .. })
}

/// Which slot holds the lanes of which row.
#[derive(Default)]
struct Slots {
    held: HashMap<Row, Slot>,
    free: Vec<Slot>,
    count: usize,
}

impl Slots {
    /// A slot for a row; none if there are too many.
    fn take(&mut self, row: Row) -> Option<Slot> {
        if self.free.is_empty() && self.count < MOST_SLOTS {
            self.free.push(Slot::try_from(self.count).ok()?);
            self.count += 1;
        }
        let slot = self.free.pop()?;
        self.held.insert(row, slot);
        Some(slot)
    }
    fn give_back(&mut self, row: Row) {
        self.free.extend(self.held.remove(&row));
    }
}
