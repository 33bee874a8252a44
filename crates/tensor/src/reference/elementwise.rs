//! Meanings of one value per element: rows of both tables, and casts.

use super::value::{from_word, stored, to_word};
use crate::{DType, Elementwise, Integer};

/// Largest number of operands of a row.
pub(super) const MAX_ARITY: usize = 3;

/// Calls `f` with the operands of each element; `columns` have equal lengths and are at most three.
pub(super) fn per_element(columns: &[&[f64]], mut f: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let mut args = [0.0; MAX_ARITY];
    let length = columns.first().map_or(0, |c| c.len());
    (0..length)
        .map(|i| {
            for (arg, column) in args.iter_mut().zip(columns) {
                *arg = column[i];
            }
            f(&args[..columns.len()])
        })
        .collect()
}

/// A row of the float table on every element.
pub(super) fn row(row: Elementwise, operands: &[&[f64]]) -> Vec<f64> {
    per_element(operands, |args| row.eval(args))
}

/// A row of the integer table on every element; `dtype` is that of the last operand.
pub(super) fn integer(row: Integer, dtype: DType, operands: &[&[f64]]) -> Vec<f64> {
    per_element(operands, |args| integer_value(row, dtype, args))
}

/// A row of the integer table on one element.
pub(super) fn integer_value(row: Integer, dtype: DType, args: &[f64]) -> f64 {
    let is_condition = |position: usize| row == Integer::Select && position == 0;
    let mut words = [0; MAX_ARITY];
    for (position, (word, &arg)) in words.iter_mut().zip(args).enumerate() {
        *word = to_word(arg, if is_condition(position) { DType::Bool } else { dtype });
    }
    let result = if row.is_test() { DType::Bool } else { dtype };
    from_word(row.eval(dtype, words[0], words[1], words[2]), result)
}

/// Conversion of one element. Float to integer truncates and saturates, NaN gives 0; integers keep their words.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` truncates toward zero, saturates and maps NaN to 0: the meaning of a cast to integer"
)]
pub(super) fn cast(x: f64, from: DType, to: DType) -> f64 {
    match to {
        DType::F32 | DType::F16 => stored(x, to, false),
        DType::Bool => f64::from(u8::from(x != 0.0)),
        DType::I32 | DType::U32 if from.is_integer() => from_word(to_word(x, from), to),
        DType::I32 => f64::from(x as i32),
        DType::U32 => f64::from(x as u32),
    }
}
