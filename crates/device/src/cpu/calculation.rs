//! What is computed lane by lane.

use cotangent_tensor::{Elementwise, math32};

use super::compile::Pair;
use super::values::Logistic;

/// An operation whose result in a lane needs that lane of its operands only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Calculation {
    Elementwise(Elementwise),
    /// From: the operands of the first operation, then the other one of the second.
    Pair(Pair),
    /// `e^−|x|`. From: x or −x.
    Decay,
    /// `ln(1 + decay)`. From: decay.
    DecayTail,
    /// From: x, and what it shares with others.
    Logistic(Logistic),
}

impl Calculation {
    /// Number of operands.
    pub(super) fn arity(self) -> usize {
        match self {
            Calculation::Elementwise(row) => row.arity(),
            Calculation::Pair(_) => 3,
            Calculation::Decay | Calculation::DecayTail => 1,
            Calculation::Logistic(_) => 2,
        }
    }
    /// Computes lanes. Operands that there are not may be empty.
    #[inline(always)]
    pub(super) fn lanes(self, out: &mut [f32], args: [&[f32]; 3]) {
        match self {
            Calculation::Elementwise(row) => row.lanes(out, args),
            Calculation::Pair(pair) => pair.lanes(out, args),
            Calculation::Decay => {
                for (o, &x) in out.iter_mut().zip(args[0]) {
                    *o = math32::decay(x);
                }
            }
            Calculation::DecayTail => {
                for (o, &decay) in out.iter_mut().zip(args[0]) {
                    *o = math32::decay_tail(decay);
                }
            }
            Calculation::Logistic(logistic) => logistic.lanes(out, args[0], args[1]),
        }
    }
}
