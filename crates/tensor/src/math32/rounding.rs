//! Maximum, minimum, sign, rounding and remainder: exact operations.

use super::high_half;

/// IEEE 754-2019 maximum: NaN propagates, `max(+0, −0) = +0`.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    let m = if a > b { a } else { b };
    let m = if a == b { f32::from_bits(a.to_bits() & b.to_bits()) } else { m };
    if a.is_nan() { a } else { m }
}

/// IEEE 754-2019 minimum: NaN propagates, `min(+0, −0) = −0`.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    let m = if a < b { a } else { b };
    let m = if a == b { f32::from_bits(a.to_bits() | b.to_bits()) } else { m };
    if a.is_nan() { a } else { m }
}

/// Sign: −1, 0 or 1; 0 at 0, NaN at NaN.
#[inline(always)]
pub fn sign(x: f32) -> f32 {
    let one = 1.0_f32.copysign(x);
    if x == 0.0 || x.is_nan() { x } else { one }
}

/// Nearest integer, halves to the even one.
#[inline(always)]
pub fn round(x: f32) -> f32 {
    x.round_ties_even()
}

/// Integer part, toward zero.
#[inline(always)]
pub fn trunc(x: f32) -> f32 {
    x.trunc()
}

/// `r − q·y` without rounding, `q` the integer nearest to the quotient `r/y` from below or one off; `|r|` falls by 2^23 or
/// more, or below `|y|`.
#[inline(always)]
fn rem_step(r: f32, y: f32) -> f32 {
    let q = (r / y).trunc();
    let p = q * y;
    let (q_high, y_high) = (high_half(q), high_half(y));
    let (q_low, y_low) = (q - q_high, y - y_high);
    let p_low = ((q_high * y_high - p) + q_high * y_low + q_low * y_high) + q_low * y_low;
    (r - p) - p_low
}

/// Remainder `x − trunc(x/y)·y`, with the sign of `x`; NaN for `y = 0` and for infinite `x`.
///
/// Exact (C's `fmod`) for `|x/y| < 2^24` and `|y| ≥ 2^−100`; a quotient up to 2^45 is reduced as well, a larger one only in
/// part.
#[inline(always)]
pub fn rem(x: f32, y: f32) -> f32 {
    let (ax, ay) = (x.abs(), y.abs());
    // the product q·y may round up past the largest float
    let is_huge = ax > 1.0e38;
    let (u, v) = if is_huge { (0.25 * ax, 0.25 * ay) } else { (ax, ay) };
    let r = rem_step(rem_step(u, v), v);
    // a quotient that was rounded up to an integer leaves a negative remainder
    let r = if r < 0.0 { r + v } else { r };
    let r = if r >= v { r - v } else { r };
    let r = if is_huge { 4.0 * r } else { r };
    let r = if ax < ay { ax } else { r };
    r.copysign(x)
}
