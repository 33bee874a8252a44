//! Hyperbolic functions and their inverses.

use super::exponential::{exp_nonpositive, exp_parts, scale};
use super::logarithm::{log_join, log1p_split};

/// Hyperbolic tangent. Error: [`TANH`](super::promise::TANH) ULP, relative near 0 as well.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let z = a * a;
    let p =
        -0.333_332_96 + z * (0.133_318_48 + z * (-0.053_776_62 + z * (0.020_769_373 + z * -0.005_861_745_7)));
    let small = a + a * (z * p);
    let e = exp_nonpositive(-2.0 * a);
    let large = 1.0 - (e + e) / (1.0 + e);
    (if a < 0.6 { small } else { large }).copysign(x)
}

/// `½ e^a` for `a ≥ 0`, which overflows only where it must.
#[inline(always)]
fn half_exp(a: f32) -> f32 {
    let (y, k) = exp_parts(a);
    scale(y, k.wrapping_sub(1))
}

/// Hyperbolic sine. Error: [`SINH`](super::promise::SINH) ULP, relative near 0 as well.
#[inline(always)]
pub fn sinh(x: f32) -> f32 {
    let a = x.abs();
    let z = a * a;
    let p = 0.166_666_67 + z * (0.008_333_310_5 + z * (0.000_198_428_94 + z * 2.782_230_2e-6));
    let small = a + a * (z * p);
    let h = half_exp(a);
    let large = h - 0.25 / h;
    (if a < 1.0 { small } else { large }).copysign(x)
}

/// Hyperbolic cosine. Error: [`COSH`](super::promise::COSH) ULP.
#[inline(always)]
pub fn cosh(x: f32) -> f32 {
    let h = half_exp(x.abs());
    h + 0.25 / h
}

/// From here on `1 + x²` is `x²`, and the logarithm of the sum that of `2x`.
const LARGE: f32 = 33_554_432.0;

/// `ln(1 + t)` for `x < LARGE`, else `ln 2x`; for `t ≥ 0` and `x ≥ 0`.
#[inline(always)]
fn log1p_or_double(t: f32, x: f32) -> f32 {
    let is_large = x >= LARGE;
    let (f, k) = log1p_split(if is_large { x } else { t });
    let y = log_join(f, if is_large { k + 1.0 } else { k });
    // inf and NaN
    if x < f32::INFINITY { y } else { x }
}

/// Inverse hyperbolic sine. Error: [`ASINH`](super::promise::ASINH) ULP, relative near 0 as well.
#[inline(always)]
pub fn asinh(x: f32) -> f32 {
    let a = x.abs();
    let square = a * a;
    log1p_or_double(a + square / (1.0 + (1.0 + square).sqrt()), a).copysign(x)
}

/// Inverse hyperbolic cosine. Error: [`ACOSH`](super::promise::ACOSH) ULP; NaN for `x < 1`.
#[inline(always)]
pub fn acosh(x: f32) -> f32 {
    let t = x - 1.0;
    let y = log1p_or_double(t + (t * (t + 2.0)).sqrt(), x);
    if x >= 1.0 { y } else { f32::NAN }
}

/// Inverse hyperbolic tangent. Error: [`ATANH`](super::promise::ATANH) ULP; ±inf at ±1, NaN outside.
#[inline(always)]
pub fn atanh(x: f32) -> f32 {
    let a = x.abs();
    let (f, k) = log1p_split((a + a) / (1.0 - a));
    let y = if a < 1.0 { 0.5 * log_join(f, k) } else { f32::NAN };
    (if a == 1.0 { f32::INFINITY } else { y }).copysign(x)
}
