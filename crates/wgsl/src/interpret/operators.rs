//! Operators and conversions of single numbers.

use cotangent_tensor::DType;
use naga::{BinaryOperator as B, UnaryOperator as U};

use super::Precision;
use super::shape::{Cell, float, word};
use super::witness::Trace;

/// A binary operator on two numbers of one type; none if there is no such operator.
pub(super) fn binary(
    operator: B,
    dtype: DType,
    (x, y): (Cell, Cell),
    precision: Precision,
    trace: &mut Trace,
) -> Option<Cell> {
    match dtype {
        DType::F32 | DType::F16 => floats(operator, float(x), float(y), precision, trace),
        DType::I32 => signed(operator, word(x).cast_signed(), word(y)),
        DType::U32 => unsigned(operator, word(x), word(y)),
        DType::Bool => {
            let (x, y) = (x != 0, y != 0);
            Some(Cell::from(match operator {
                B::Equal => x == y,
                B::NotEqual => x != y,
                B::And | B::LogicalAnd => x && y,
                B::InclusiveOr | B::LogicalOr => x || y,
                _ => return None,
            }))
        }
    }
}

#[expect(clippy::float_cmp, reason = "exact comparison is the meaning")]
fn floats(operator: B, x: f64, y: f64, precision: Precision, trace: &mut Trace) -> Option<Cell> {
    let number = match operator {
        B::Add => x + y,
        B::Subtract => x - y,
        B::Multiply => x * y,
        B::Divide => x / y,
        B::Modulo => {
            trace.truncate(x / y);
            x % y
        }
        _ => {
            trace.compare(x, y);
            return Some(Cell::from(match operator {
                B::Equal => x == y,
                B::NotEqual => x != y,
                B::Less => x < y,
                B::LessEqual => x <= y,
                B::Greater => x > y,
                B::GreaterEqual => x >= y,
                _ => return None,
            }));
        }
    };
    Some(precision.round(number).to_bits())
}

/// `bits` is `y` as it stands, for shifts.
fn signed(operator: B, x: i32, bits: u32) -> Option<Cell> {
    let y = bits.cast_signed();
    let number = match operator {
        B::Add => x.wrapping_add(y),
        B::Subtract => x.wrapping_sub(y),
        B::Multiply => x.wrapping_mul(y),
        B::Divide if y == 0 => x,
        B::Divide => x.wrapping_div(y),
        B::Modulo if y == 0 => 0,
        B::Modulo => x.wrapping_rem(y),
        B::ShiftRight => x.wrapping_shr(bits),
        B::Less => return Some((x < y).into()),
        B::LessEqual => return Some((x <= y).into()),
        B::Greater => return Some((x > y).into()),
        B::GreaterEqual => return Some((x >= y).into()),
        _ => return unsigned(operator, x.cast_unsigned(), bits),
    };
    Some(number.cast_unsigned().into())
}

fn unsigned(operator: B, x: u32, y: u32) -> Option<Cell> {
    let number = match operator {
        B::Add => x.wrapping_add(y),
        B::Subtract => x.wrapping_sub(y),
        B::Multiply => x.wrapping_mul(y),
        B::Divide => x.checked_div(y).unwrap_or(x),
        B::Modulo => x.checked_rem(y).unwrap_or(0),
        B::And => x & y,
        B::InclusiveOr => x | y,
        B::ExclusiveOr => x ^ y,
        B::ShiftLeft => x.wrapping_shl(y),
        B::ShiftRight => x.wrapping_shr(y),
        B::Equal => (x == y).into(),
        B::NotEqual => (x != y).into(),
        B::Less => (x < y).into(),
        B::LessEqual => (x <= y).into(),
        B::Greater => (x > y).into(),
        B::GreaterEqual => (x >= y).into(),
        B::LogicalAnd | B::LogicalOr => return None,
    };
    Some(number.into())
}

/// A unary operator; none if there is no such operator on the type.
pub(super) fn unary(operator: U, dtype: DType, x: Cell) -> Option<Cell> {
    match (operator, dtype) {
        (U::Negate, DType::F32 | DType::F16) => Some((-float(x)).to_bits()),
        (U::Negate, DType::I32) => Some(word(x).wrapping_neg().into()),
        (U::LogicalNot, DType::Bool) => Some((x == 0).into()),
        (U::BitwiseNot, DType::I32 | DType::U32) => Some((!word(x)).into()),
        (U::Negate | U::LogicalNot | U::BitwiseNot, _) => None,
    }
}

/// A conversion by value: what does not fit saturates, and NaN becomes 0.
pub(super) fn convert(x: Cell, from: DType, to: DType, precision: Precision, trace: &mut Trace) -> Cell {
    let number = match from {
        DType::F32 | DType::F16 => float(x),
        DType::I32 => word(x).cast_signed().into(),
        DType::U32 | DType::Bool => word(x).into(),
    };
    match to {
        DType::F32 | DType::F16 => precision.round(number).to_bits(),
        DType::Bool => {
            if from.is_float() {
                trace.compare(number, 0.0);
            }
            (number != 0.0).into()
        }
        DType::I32 | DType::U32 if from.is_float() => {
            let whole = trace.truncate(number);
            // too large becomes the largest float below 2³¹ or 2³²; the cast takes NaN to 0 and saturates below
            match to {
                DType::I32 if whole >= 2_147_483_648.0 => 2_147_483_520,
                DType::I32 => (whole as i32).cast_unsigned().into(),
                _ if whole >= 4_294_967_296.0 => 4_294_967_040,
                _ => (whole as u32).into(),
            }
        }
        DType::I32 | DType::U32 => word(x).into(),
    }
}

/// The bits of a number as one of another type. In f64 too, a float has the bits of its nearest f32.
pub(super) fn bitcast(x: Cell, from: DType, to: DType) -> Cell {
    let bits = word_of(x, from);
    if to.is_float() { f64::from(f32::from_bits(bits)).to_bits() } else { bits.into() }
}

/// The 32 bits of a number.
pub(super) fn word_of(x: Cell, dtype: DType) -> u32 {
    if dtype.is_float() { (float(x) as f32).to_bits() } else { word(x) }
}
