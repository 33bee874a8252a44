//! Operations that run together: an operation on registers costs a pass over the first cache, and two that follow each other
//! cost less as one.

use cotangent_tensor::Elementwise;

use super::super::calculation::Calculation;
use super::super::program::{Action, Op, Row};
use super::emit::is_temporary;

/// One row per pair: the first operation, the second, and which of its operands the result of the first is.
macro_rules! pairs {
    ($( $Name:ident = $First:ident, $Second:ident, $place:pat, |$a:ident, $b:ident, $c:ident| $result:expr; )*) => {
        /// An operation and another one on its result and a third operand. Both round, as they do one after the other.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(in super::super) enum Pair { $($Name),* }

        impl Pair {
            fn of(first: Elementwise, second: Elementwise, place: usize) -> Option<Pair> {
                match (first, second, place) {
                    $((Elementwise::$First, Elementwise::$Second, $place) => Some(Pair::$Name),)*
                    _ => None,
                }
            }
            /// Applies the pair to lanes.
            #[inline(always)]
            pub(in super::super) fn lanes(self, out: &mut [f32], [a, b, c]: [&[f32]; 3]) {
                match self { $(
                    Pair::$Name => for (((o, &$a), &$b), &$c) in out.iter_mut().zip(a).zip(b).zip(c) {
                        *o = $result;
                    },
                )* }
            }
        }
    };
}

pairs! {
    MulMul = Mul, Mul, _, |a, b, c| a * b * c;
    MulAdd = Mul, Add, _, |a, b, c| a * b + c;
    MulSub = Mul, Sub, 0, |a, b, c| a * b - c;
    MulFrom = Mul, Sub, _, |a, b, c| c - a * b;
    AddMul = Add, Mul, _, |a, b, c| (a + b) * c;
    AddAdd = Add, Add, _, |a, b, c| a + b + c;
    AddSub = Add, Sub, 0, |a, b, c| a + b - c;
    AddFrom = Add, Sub, _, |a, b, c| c - (a + b);
    SubMul = Sub, Mul, _, |a, b, c| (a - b) * c;
    SubAdd = Sub, Add, _, |a, b, c| a - b + c;
    SubSub = Sub, Sub, 0, |a, b, c| a - b - c;
    SubFrom = Sub, Sub, _, |a, b, c| c - (a - b);
}

/// Joins operations of a segment whose result nothing else needs with the one that needs it.
pub(super) fn join(ops: &mut Vec<Op>) {
    for second in 0..ops.len() {
        let Action::Calculate(Calculation::Elementwise(row)) = ops[second].action else { continue };
        let found = (0..row.arity().min(2)).find_map(|place| {
            let first = first_of(ops, second, place)?;
            let Action::Calculate(Calculation::Elementwise(before)) = ops[first].action else { return None };
            Pair::of(before, row, place).map(|pair| (pair, first, place))
        });
        if let Some((pair, first, place)) = found {
            let [a, b] = [ops[first].from[0], ops[first].from[1]];
            let other = ops[second].from[1 - place];
            ops[second].action = Action::Calculate(Calculation::Pair(pair));
            ops[second].from[..3].copy_from_slice(&[a, b, other]);
            // nothing asks for its result any more
            ops[first].into = Row::None;
        }
    }
    ops.retain(|op| !(op.into == Row::None && matches!(op.action, Action::Calculate(_))));
}

/// The operation that makes an operand, if nothing else needs it and it handles as many lanes.
fn first_of(ops: &[Op], user: usize, place: usize) -> Option<usize> {
    let row = ops[user].from[place];
    if !is_temporary(row) || ops.iter().flat_map(|op| &op.from).filter(|from| **from == row).count() != 1 {
        return None;
    }
    let first = ops.iter().position(|op| op.into == row)?;
    (ops[first].lanes == ops[user].lanes).then_some(first)
}
