//! Logarithms.

use super::exponential::exp_nonpositive_parts;
use super::{LN2_HIGH, LN2_LOW, power_of_two};

/// Bits of 1 minus bits of `√½`: adding them carries into the exponent exactly where a significand passes `√2`.
const CARRY: u32 = 0x3f80_0000 - SQRT_HALF;
/// Bits of `√½`.
const SQRT_HALF: u32 = 0x3f35_04f3;

/// `(ln(1 + f) − f + f²/2) / f³` for `√½ ≤ 1 + f ≤ √2` and `z = f²`, relative error 6e-9 of `ln(1 + f)`.
///
/// No division, because WGSL grants one only to 2.5 ULP; in pairs (Estrin), because a chain of dependent additions is what
/// limits the loop.
#[inline(always)]
fn log_tail(f: f32, z: f32) -> f32 {
    let low = (0.333_333_3 + f * -0.250_008_2) + z * (0.200_012_42 + f * -0.166_234_08);
    let high = (0.142_015_77 + f * -0.131_596_31) + z * (0.127_622_63 + f * -0.076_364_35);
    low + (z * z) * high
}

/// `x = 2^k (1 + f)`: `(f, k)` with `√½ ≤ 1 + f < √2`, for finite `x > 0`, denormals included.
#[inline(always)]
pub(super) fn log_split(x: f32) -> (f32, f32) {
    let bits = x.to_bits();
    // a denormal is its bit pattern times 2^−149, and the conversion of an integer normalizes it
    let denormal = bits < 0x0080_0000;
    let bits = if denormal { (bits as i32 as f32).to_bits() } else { bits };
    let bias = if denormal { 127 + 149 } else { 127 };
    let shifted = bits.wrapping_add(CARRY);
    let k = (shifted >> 23) as i32 - bias;
    (f32::from_bits((shifted & 0x007f_ffff).wrapping_add(SQRT_HALF)) - 1.0, k as f32)
}

/// `1 + x = 2^k (1 + f)`: `(f, k)` for finite `x > −1`, without the rounding error of `1 + x`.
#[inline(always)]
pub(super) fn log1p_split(x: f32) -> (f32, f32) {
    let shifted = (1.0 + x).to_bits().wrapping_add(CARRY);
    let k = (shifted >> 23) as i32 - 127;
    // f = (1 + x) / 2^k − 1 = x / 2^k + (2^−k − 1) is rounded once; beyond 2^24 the 1 is lost anyway
    let s = power_of_two(k.wrapping_neg());
    let large = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(SQRT_HALF)) - 1.0;
    (if k > 24 { large } else { x * s + (s - 1.0) }, k as f32)
}

/// Below it `ln(1 + f)` is `f`.
const TINY: f32 = 1.0e-8;

/// `ln(1 + f) + k ln 2`.
#[inline(always)]
pub(super) fn log_join(f: f32, k: f32) -> f32 {
    log_join_of(f, f, k)
}

/// The same, given 0 in place of a tiny `f` for its powers: they would be denormal, which takes a processor twice as long.
#[inline(always)]
fn log_join_of(f: f32, base: f32, k: f32) -> f32 {
    let square = base * base;
    let tail = square * base * log_tail(base, square) + k * LN2_LOW;
    k * LN2_HIGH + (f - (0.5 * square - tail))
}

/// `ln(1 + e)` for `0 ≤ e ≤ 1` or NaN.
#[inline(always)]
pub(super) fn log1p_unit(e: f32) -> f32 {
    let halve = e > std::f32::consts::SQRT_2 - 1.0;
    let f = if halve { 0.5 * e - 0.5 } else { e };
    log_join(f, if halve { 1.0 } else { 0.0 })
}

/// `ln x`. Error: [`LOG`](super::promise::LOG) ULP, denormal operands included; −inf at 0, NaN for `x < 0`.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    let (f, k) = log_split(x);
    log_edge(x, log_join(f, k))
}

/// `y`, but −inf, inf or NaN where the logarithm of `x` is.
#[inline(always)]
fn log_edge(x: f32, y: f32) -> f32 {
    let y = if x > 0.0 { y } else { f32::NAN };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x == f32::INFINITY { x } else { y }
}

/// `log₂ x`. Error: [`LOG2`](super::promise::LOG2) ULP; exact at powers of two; −inf at 0, NaN for `x < 0`.
#[inline(always)]
pub fn log2(x: f32) -> f32 {
    let (f, k) = log_split(x);
    log_edge(x, k + log_join(f, 0.0) * std::f32::consts::LOG2_E)
}

/// `ln(1 + x)`. Error: [`LOG1P`](super::promise::LOG1P) ULP; −inf at −1, NaN below; denormals and −0 are kept.
#[inline(always)]
pub fn log1p(x: f32) -> f32 {
    let (f, k) = log1p_split(x);
    let tiny = x.abs() < TINY;
    let y = log_join_of(f, if tiny { 0.0 } else { f }, k);
    let y = if x > -1.0 { y } else { f32::NAN };
    let y = if x == -1.0 { f32::NEG_INFINITY } else { y };
    if tiny || x == f32::INFINITY { x } else { y }
}

/// `ln(1 − e^−x)` for `x ≥ 0`. Error: [`LOG1MEXP`](super::promise::LOG1MEXP) ULP; −inf at 0, NaN for `x < 0`, −0 at inf.
///
/// Of the logarithms of `1 − e^−x`, which loses no digit for small `x`, and of 1 less a known `e^−x` for others, only the one is
/// computed whose argument is chosen (Mächler, Accurately computing log(1 − exp(−|a|)), 2012).
#[inline(always)]
pub fn log1mexp(x: f32) -> f32 {
    let near = x < std::f32::consts::LN_2;
    let (t, power) = exp_nonpositive_parts(if x > 88.0 { -88.0 } else { -x });
    let (f, k) = log_split(if x < TINY { x } else { (1.0 - power) - t * power });
    let e = if x > 88.0 { 0.0 } else { (t + 1.0) * power };
    let halve = e > 0.292_893_2;
    let (f_far, k_far) = (if halve { 1.0 - 2.0 * e } else { -e }, if halve { -1.0 } else { -0.0 });
    let (f, k) = (if near { f } else { f_far }, if near { k } else { k_far });
    let y = log_join_of(f, if e < TINY { 0.0 } else { f }, k);
    let y = if x > 0.0 { y } else { f32::NAN };
    if x == 0.0 { f32::NEG_INFINITY } else { y }
}

/// `x · ln y`, and 0 where `x = 0` unless `y` is NaN. Error: [`XLOGY`](super::promise::XLOGY) ULP.
#[inline(always)]
pub fn xlogy(x: f32, y: f32) -> f32 {
    let product = x * log(y);
    if x == 0.0 && !y.is_nan() { 0.0 } else { product }
}

/// `x · ln(1 + y)`, and 0 where `x = 0` unless `y` is NaN. Error: [`XLOG1PY`](super::promise::XLOG1PY) ULP.
#[inline(always)]
pub fn xlog1py(x: f32, y: f32) -> f32 {
    let product = x * log1p(y);
    if x == 0.0 && !y.is_nan() { 0.0 } else { product }
}
