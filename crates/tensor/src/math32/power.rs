//! Powers and reciprocals.

use super::exponential::{exp_parts, scale};
use super::logarithm::log_split;
use super::{LN2_HIGH, LN2_LOW, high_half};

/// `1/√x`. Error: [`RSQRT`](super::promise::RSQRT) ULP; +inf at +0, NaN for `x < 0`.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    1.0 / x.sqrt()
}

/// `1/x`. Error: [`RECIP`](super::promise::RECIP) ULP.
#[inline(always)]
pub fn recip(x: f32) -> f32 {
    1.0 / x
}

/// `(ln((1+s)/(1−s)) − 2s) / s` in `z = s²`, for `|s| ≤ 0.1716`.
#[inline(always)]
fn atanh_tail(z: f32) -> f32 {
    z * (0.666_666_7 + z * (0.4 + z * (0.285_717_74 + z * (0.221_901_77 + z * 0.193_862_1))))
}

/// `x^y` for finite `x > 0` and finite `|y| ≤ 1e10`: `exp(y ln x)` with `ln x` and the product carried as unevaluated sums.
#[inline(always)]
fn pow_positive(x: f32, y: f32) -> f32 {
    // ln(1+f) = 2 atanh(s), s = f/(2+f) = s + s_low: the quotient's own error is recovered from its remainder
    let (f, k) = log_split(x);
    let g = 2.0 + f;
    let g_low = f - (g - 2.0);
    let s = f / g;
    let (s_high, g_high) = (high_half(s), high_half(g));
    let g_rest = (g - g_high) + g_low;
    let s_low = ((f - s_high * g_high) - s_high * g_rest) / g;
    let tail = 2.0 * s_low + s * atanh_tail(s * s);
    // k ln 2 + 2s, exactly (two-sum)
    let (a, b) = (k * LN2_HIGH, 2.0 * s_high);
    let sum = a + b;
    let b_part = sum - a;
    let rest = (a - (sum - b_part)) + (b - b_part);
    let low = rest + (tail + k * LN2_LOW);
    let l = sum + low;
    let l_low = low - (l - sum);
    // y ln x = e + e_low
    let l_high = high_half(l);
    let l_rest = (l - l_high) + l_low;
    let y_high = high_half(y);
    let p = y_high * l_high;
    let q = (y - y_high) * l_high + y * l_rest;
    let e = p + q;
    let e_low = (p - e) + q;
    // far outside the range of f32 the low part may itself exceed 1
    let e_low = if e.abs() < 110.0 { e_low } else { 0.0 };
    let (v, n) = exp_parts(e);
    scale(v + v * e_low, n)
}

/// IEEE 754 `x^y`: `pow(x, 0) = pow(1, y) = 1` for every operand, NaN included; a negative base needs an integer exponent.
///
/// Error: [`POW`](super::promise::POW) ULP.
#[inline(always)]
pub fn pow(x: f32, y: f32) -> f32 {
    let (ax, ay) = (x.abs(), y.abs());
    let half = 0.5 * ay;
    let is_integer = ay.floor() == ay;
    let is_odd = is_integer && half.floor() != half;
    let y_is_negative = y.is_sign_negative();
    // beyond 1e10 every base but 1 has overflowed or vanished
    let bounded = if ay > 1.0e10 { 1.0e10_f32.copysign(y) } else { y };
    let value = pow_positive(ax, bounded);
    let base_is_edge = ax == 0.0 || ax == f32::INFINITY;
    let edge = if (ax == 0.0) == y_is_negative { f32::INFINITY } else { 0.0 };
    let value = if base_is_edge { edge } else { value };
    let limit = if (ax > 1.0) == y_is_negative { 0.0 } else { f32::INFINITY };
    let limit = if ax == 1.0 { 1.0 } else { limit };
    let value = if ay == f32::INFINITY { limit } else { value };
    let value = if x.is_sign_negative() && is_odd { -value } else { value };
    let value = if x < 0.0 && !is_integer && ax != f32::INFINITY { f32::NAN } else { value };
    let value = if x.is_nan() || y.is_nan() { f32::NAN } else { value };
    if y == 0.0 || x == 1.0 { 1.0 } else { value }
}
