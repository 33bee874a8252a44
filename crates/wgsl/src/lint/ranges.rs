//! How large numbers may be, whatever the parameters are.

use cotangent_tensor::{DType, Elementwise as E};

use super::Graph;
use crate::lower::{Made, Outside, Value};

/// Stands for what is above 0 by however little.
const TINY: f64 = f64::MIN_POSITIVE;

/// From the smallest to the largest number. Both are reached, or come as near as one likes; what cannot be 0 begins or ends at ±[`TINY`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) high: f64,
}

const ALL: Range = Range { low: f64::NEG_INFINITY, high: f64::INFINITY };
const POSITIVE: Range = Range { low: TINY, high: f64::INFINITY };
const UNSIGNED: Range = Range { low: 0.0, high: f64::INFINITY };

impl Range {
    fn new(low: f64, high: f64) -> Range {
        // inf − inf and the like: nothing is known on that side
        let low = if low.is_nan() { f64::NEG_INFINITY } else { low };
        Range { low, high: if high.is_nan() { f64::INFINITY } else { high } }
    }
    pub(super) fn holds_zero(self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }
    /// Whether 0 is the least or the largest of its numbers, as that of a distance is.
    pub(super) fn ends_at_zero(self) -> bool {
        (self.low == 0.0) != (self.high == 0.0)
    }
    fn hull(self, other: Range) -> Range {
        Range::new(self.low.min(other.low), self.high.max(other.high))
    }
    /// By a function that does not fall.
    fn rising(self, of: impl Fn(f64) -> f64) -> Range {
        Range::new(of(self.low), of(self.high))
    }
    fn negated(self) -> Range {
        Range { low: -self.high, high: -self.low }
    }
    fn size(self) -> Range {
        match (self.low >= 0.0, self.high <= 0.0) {
            (true, _) => self,
            (_, true) => self.negated(),
            _ => Range::new(0.0, self.high.max(-self.low)),
        }
    }
    fn times(self, other: Range) -> Range {
        // 0 · inf is 0 between bounds, and what is above 0 stays so however small it gets
        let product = |a: f64, b: f64| match (a == 0.0 || b == 0.0, a * b) {
            (true, _) => 0.0,
            (_, 0.0) => TINY.copysign(a * b),
            (_, product) => product,
        };
        let ends =
            [(self.low, other.low), (self.low, other.high), (self.high, other.low), (self.high, other.high)];
        let ends = ends.map(|(a, b)| product(a, b));
        Range::new(
            ends.into_iter().fold(f64::INFINITY, f64::min),
            ends.into_iter().fold(f64::NEG_INFINITY, f64::max),
        )
    }
    fn reciprocal(self) -> Range {
        if self.holds_zero() {
            return ALL;
        }
        let of = |x: f64| if x.is_infinite() { TINY.copysign(x) } else { 1.0 / x };
        Range::new(of(self.high), of(self.low))
    }
}

impl Graph<'_> {
    /// The range of a value; none where anything is unknown that it depends on.
    pub(super) fn range(&self, value: Value) -> Option<Range> {
        match value {
            Value::Float(bits) => Some(Range::new(f64::from_bits(bits), f64::from_bits(bits))),
            Value::Node(node) => self.ranges[node],
            Value::Int(_) | Value::Uint(_) | Value::Bool(_) => None,
        }
    }
    /// The range of a node, from those of its operands.
    pub(super) fn range_of(&self, node: usize) -> Option<Range> {
        let dtype = self.scalars.dtype(Value::Node(node));
        if !dtype.is_float() {
            return None;
        }
        match (self.scalars.made(node), self.scalars.outside(node)) {
            (Some(Made::Row(row, operands)), _) => self.of_row(row, operands),
            (Some(Made::Cast(value, _)), _) if self.scalars.dtype(value) == DType::Bool => {
                Some(Range::new(0.0, 1.0))
            }
            (None, Some(Outside::Input(_))) => Some(ALL),
            _ => None,
        }
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing is known of other rows")]
    fn of_row(&self, row: E, [a, b, c]: [Value; 3]) -> Option<Range> {
        // what has a range of its own, whatever its operands are
        let own = match row {
            E::Exp | E::Exp2 | E::Softplus | E::Rsqrt => Some(POSITIVE),
            E::LogSigmoid => Some(POSITIVE.negated()),
            E::Sigmoid => Some(Range::new(TINY, 1.0f64.next_down())),
            E::Cosh => Some(Range::new(1.0, f64::INFINITY)),
            E::Sign | E::Sin | E::Cos | E::Tanh | E::Erf => Some(Range::new(-1.0, 1.0)),
            E::Erfc => Some(Range::new(TINY, 2.0)),
            E::I0e => Some(Range::new(TINY, 1.0)),
            E::I1e => Some(Range::new(-1.0, 1.0)),
            E::Fract => Some(Range::new(0.0, 1.0)),
            _ => None,
        };
        if own.is_some() {
            return own;
        }
        if row == E::Select {
            return Some(self.range(b)?.hull(self.range(c)?));
        }
        let x = self.range(a)?;
        Some(match row {
            E::Neg => x.negated(),
            E::Abs => x.size(),
            E::Relu => x.rising(|x| x.max(0.0)),
            E::Sqrt => x.rising(|x| x.max(0.0).sqrt()),
            E::Expm1 => x.rising(f64::exp_m1),
            E::Log1p => x.rising(|x| x.max(-1.0).ln_1p()),
            E::Sinh | E::Asinh | E::Atan => x,
            E::Recip => x.reciprocal(),
            E::Mul if a == b => x.size().times(x.size()),
            E::Pow => match b.as_float() {
                Some(power) if power % 2.0 == 0.0 && power > 0.0 => {
                    x.size().rising(|x| x.powf(power).max(x.min(TINY)))
                }
                _ if x.low > 0.0 => POSITIVE,
                _ if x.low >= 0.0 => UNSIGNED,
                _ => return None,
            },
            E::Add | E::Sub | E::Mul | E::Div | E::Min | E::Max | E::Clamp => {
                let y = self.range(b)?;
                match row {
                    E::Add => Range::new(x.low + y.low, x.high + y.high),
                    E::Sub => Range::new(x.low - y.high, x.high - y.low),
                    E::Mul => x.times(y),
                    E::Div => x.times(y.reciprocal()),
                    E::Min => Range::new(x.low.min(y.low), x.high.min(y.high)),
                    E::Max => Range::new(x.low.max(y.low), x.high.max(y.high)),
                    _ => {
                        let z = self.range(c)?;
                        Range::new(x.low.max(y.low).min(z.low), x.high.max(y.high).min(z.high))
                    }
                }
            }
            E::Log | E::Log2 | E::Tan => ALL,
            _ => return None,
        })
    }
}
