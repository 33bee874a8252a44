//! How the reference holds values: every element type in f64, which represents each of them exactly.

use crate::{Array, DType, Error, Shape, Values};

/// The largest finite number of an element type.
pub(crate) fn largest(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 65504.0,
        DType::F32 | DType::I32 | DType::U32 | DType::Bool => f64::from(f32::MAX),
    }
}

/// Nearest f32, ties to even; beyond the range, infinity.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
pub(crate) fn round_to_f32(x: f64) -> f64 {
    f64::from(x as f32)
}

/// Nearest f16, ties to even; beyond the range, infinity. Through f32, as devices round host data.
pub(crate) fn round_to_f16(x: f64) -> f64 {
    let x = round_to_f32(x);
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let spacing = f16_spacing(x);
    // Scaling by a power of two is exact, and the quotient has at most 24 bits.
    let rounded = (x / spacing).round_ties_even() * spacing;
    if rounded.abs() > largest(DType::F16) { f64::INFINITY.copysign(x) } else { rounded }
}

/// Distance of the f16 numbers in the binade of `x`.
pub(crate) fn f16_spacing(x: f64) -> f64 {
    2f64.powi(exponent(x).clamp(-14, 15) - 10)
}

/// Distance of the f32 numbers in the binade of `x` (2⁻¹⁴⁹ below the normal range).
pub(crate) fn f32_spacing(x: f64) -> f64 {
    2f64.powi(exponent(x).clamp(-126, 127) - 23)
}

/// `⌊log₂ |x|⌋` of a finite number that is zero or normal in f64.
fn exponent(x: f64) -> i32 {
    let biased = (x.to_bits() >> 52) & 0x7ff;
    i32::try_from(biased).unwrap_or(0) - 1023
}

/// What storing a number under an element type does to it. Without `round`, F32 keeps f64 digits.
pub(crate) fn stored(x: f64, dtype: DType, round: bool) -> f64 {
    match dtype {
        DType::F16 => round_to_f16(x),
        DType::F32 if round => round_to_f32(x),
        DType::F32 | DType::I32 | DType::U32 | DType::Bool => x,
    }
}

/// Elements of an array under the element type of a node.
pub(crate) fn from_array(array: &Array, dtype: DType, round: bool) -> Vec<f64> {
    array.to_f64().into_iter().map(|x| stored(x, dtype, round)).collect()
}

/// The array of these elements.
pub(crate) fn to_array(elements: &[f64], shape: Shape, dtype: DType) -> Result<Array, Error> {
    let words = || elements.iter().map(|&x| to_word(x, dtype));
    let values = match dtype {
        DType::F32 | DType::F16 => Values::Float(elements.to_vec()),
        DType::I32 => Values::Int(words().map(|w| w as i32).collect()),
        DType::U32 => Values::Uint(words().collect()),
        DType::Bool => Values::Bool(words().map(|w| w != 0).collect()),
    };
    Ok(Array::new(values, shape)?.with_dtype(dtype))
}

/// The word of an integer or truth value held in f64.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole numbers of 32 bits")]
pub(crate) fn to_word(x: f64, dtype: DType) -> u32 {
    if dtype == DType::I32 { x as i32 as u32 } else { x as u32 }
}

/// The integer or truth value of a word, in f64.
pub(crate) fn from_word(word: u32, dtype: DType) -> f64 {
    if dtype == DType::I32 { f64::from(word as i32) } else { f64::from(word) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_rounds_to_nearest_even_at_every_scale() {
        let cases = [
            (1.0, 1.0),
            (1.0 + 2f64.powi(-11), 1.0),
            (1.0 + 3.0 * 2f64.powi(-11), 1.0 + 2f64.powi(-9)),
            (65504.0, 65504.0),
            (65519.9, 65504.0),
            (65520.0, f64::INFINITY),
            (-1e9, f64::NEG_INFINITY),
            (2f64.powi(-24), 2f64.powi(-24)),
            (2f64.powi(-25), 0.0),
            (1.5 * 2f64.powi(-25), 2f64.powi(-24)),
            (0.1, 0.099_975_585_937_5),
        ];
        for (x, rounded) in cases {
            assert_eq!(round_to_f16(x), rounded, "{x}");
        }
        assert!(round_to_f16(f64::NAN).is_nan());
        assert!(round_to_f16(-0.0).is_sign_negative());
    }

    #[test]
    fn spacing_is_that_of_the_neighbors() {
        for x in [1.0f32, 1.5, 0.75, 1e-30, 3e38, f32::MIN_POSITIVE, 1e-40, 0.0] {
            let neighbor = f64::from(f32::from_bits(x.to_bits() + 1));
            assert_eq!(f32_spacing(f64::from(x)), neighbor - f64::from(x), "{x}");
        }
    }
}
