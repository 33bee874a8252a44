//! Chains: operations on elements whose values live in slots that fit the first cache. A block runs through a chain piece by piece.
//! A step has operands of a length known to the compiler and costs a nanosecond beside its lanes, an operation on rows ten.

use super::calculation::Calculation;
use super::program::Row;

/// Lanes of a slot. With fewer, what a step costs beside them shows; with more, slots leave the cache.
pub(super) const PIECE: usize = 256;

/// The number of a slot.
pub(super) type Slot = u16;

/// Lanes of a value, from the start of a cache line on.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Held(pub(super) [f32; PIECE]);

/// One operation of a chain. It never writes what it reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) what: Calculation,
    pub(super) into: Slot,
    pub(super) from: [Slot; 3],
}

/// Operations on elements, one after the other.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) constants: Vec<(u32, Slot)>,
    /// Slots of what is the same for all lanes of a block: the first rows it takes.
    pub(super) same: Vec<Slot>,
    /// Slots of the other rows it takes.
    pub(super) taken: Vec<Slot>,
    pub(super) steps: Vec<Step>,
    /// What others need.
    pub(super) given: Vec<(Slot, Row)>,
    pub(super) slots: usize,
}

impl Chain {
    /// Room for its values.
    pub(super) fn room(&self) -> Vec<Held> {
        let mut room = vec![Held([0.0; PIECE]); self.slots];
        for &(word, slot) in &self.constants {
            room[usize::from(slot)].0.fill(f32::from_bits(word));
        }
        room
    }
}

impl Step {
    /// Computes its lanes.
    #[inline(always)]
    pub(super) fn compute(&self, room: &mut [Held]) {
        let (below, rest) = room.split_at_mut(usize::from(self.into));
        let Some((Held(out), above)) = rest.split_first_mut() else { return };
        let [a, b, c] = self.from;
        let (a, b, c) = (beside(below, above, a), beside(below, above, b), beside(below, above, c));
        self.what.lanes(out, [a, b, c]);
    }
}

/// A slot below or above the one that is written.
#[inline(always)]
fn beside<'a>(below: &'a [Held], above: &'a [Held], slot: Slot) -> &'a [f32; PIECE] {
    let slot = usize::from(slot);
    if slot < below.len() { &below[slot].0 } else { &above[slot - below.len() - 1].0 }
}
