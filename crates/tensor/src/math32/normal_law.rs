//! Error function and normal law.

use super::exponential::exp_nonpositive;
use super::logarithm::{log_join, log_split};
use super::{high_half, power_of_two};
use std::f32::consts::FRAC_1_SQRT_2;

/// `√(2/π)`.
const TWO_OVER_PI_ROOT: f32 = 0.797_884_6;

/// `a²` as an unevaluated sum, exact unless it overflows.
#[inline(always)]
pub(super) fn square_parts(a: f32) -> (f32, f32) {
    let square = a * a;
    let high = high_half(a);
    (square, (high * high - square) + (a - high) * (a + high))
}

/// `e^(a²) erfc a` for `a ≥ 0`: `(1 + 2a)` times it is a polynomial in `(a − 2)/(a + 2)`, relative error 1.2e-8 on the
/// whole half-line.
#[inline(always)]
fn scaled_erfc(a: f32) -> f32 {
    let q = (a - 2.0) / (a + 2.0);
    let p = -0.001_401_684_8 + q * (-0.000_350_491_38 + q * (0.000_163_023_72 + q * 6.050_531_4e-5));
    let p = -0.054_214_39 + q * (-0.008_016_471 + q * (0.008_694_965 + q * (0.001_210_644_4 + q * p)));
    let p = 1.276_978_4 + q * (-0.092_763_77 + q * (-0.166_030_69 + q * (0.164_049_16 + q * p)));
    p / (1.0 + 2.0 * a)
}

/// Error function. Error: [`ERF`](super::promise::ERF) ULP, relative near 0 as well.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let z = a * a;
    let p = -0.026_853_347 + z * (0.005_187_162 + z * (-0.000_799_785_3 + z * 7.806_904e-5));
    let p = 0.128_379_17 + z * (-0.376_126_26 + z * (0.112_835_79 + z * p));
    let small = a + a * p;
    // 1 − e^P(a) with P = ln erfc, fitted for 1 ≤ a ≤ 4; beyond, the result rounds to 1
    let b = if a > 4.0 { 4.0 } else { a };
    let p = -0.103_106_75 + b * (0.021_838_062 + b * (-0.002_947_662_5 + b * 0.000_186_380_7));
    let p = -0.000_341_490_11 + b * (-1.127_089_3 + b * (-0.638_144_8 + b * p));
    let large = 1.0 - exp_nonpositive(p);
    (if a < 1.0 { small } else { large }).copysign(x)
}

/// Complementary error function `1 − erf x`. Error: [`ERFC`](super::promise::ERFC) ULP, relative in the right tail as well.
#[inline(always)]
pub fn erfc(x: f32) -> f32 {
    let a = x.abs();
    let a = if a > 11.0 { 11.0 } else { a };
    let (square, low) = square_parts(a);
    let e = exp_nonpositive(-square);
    let y = (e - e * low) * scaled_erfc(a);
    if x < 0.0 { 2.0 - y } else { y }
}

/// `Φ(−a) = e · t` for `a ≥ 0`: `(e, t)` with `e = e^(−a²/2)`.
#[inline(always)]
fn upper_tail_parts(a: f32) -> (f32, f32) {
    let a = if a > 15.0 { 15.0 } else { a };
    let (square, low) = square_parts(a);
    let e = exp_nonpositive(-0.5 * square);
    (e - e * (0.5 * low), 0.5 * scaled_erfc(a * FRAC_1_SQRT_2))
}

/// `x · Φ(x)` with the normal distribution function `Φ`. Error: [`GELU`](super::promise::GELU) ULP, relative in the left
/// tail as well; −0 at −inf.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let (e, t) = upper_tail_parts(x.abs());
    // in this order, because e · t is denormal where the result is not
    let tail = (x * e) * t;
    let y = if x < 0.0 { tail } else { x - tail };
    let y = if x < -15.0 { -0.0 } else { y };
    if x == f32::INFINITY || x == 0.0 { x } else { y }
}

/// `ln Φ(z)` with the normal distribution function `Φ`. Error: [`LOG_NDTR`](super::promise::LOG_NDTR) ULP, relative in
/// both tails.
#[inline(always)]
pub fn log_ndtr(z: f32) -> f32 {
    let a = z.abs();
    let is_left = z < 0.0;
    // left: −a²/2 + ln(e^(a²/2) Φ(−a)); right: ln(1 − Φ(−a)); one logarithm serves both
    let (left_f, left_k) = log_split(0.5 * scaled_erfc(a * FRAC_1_SQRT_2));
    let (e, t) = upper_tail_parts(a);
    let tail = e * t;
    let halve = tail > 1.0 - FRAC_1_SQRT_2;
    let s = power_of_two(if halve { 1 } else { 0 });
    let right_f = (s - 1.0) - tail * s;
    let (f, k) = if is_left { (left_f, left_k) } else { (right_f, if halve { -1.0 } else { 0.0 }) };
    let y = log_join(f, k);
    let (square, low) = square_parts(a);
    let left = (y - 0.5 * low) - 0.5 * square;
    // the square overflows, or its parts are infinite
    let left = if a > 1.8e19 { -0.5 * a * a } else { left };
    let y = if is_left { left } else { y };
    if z.is_nan() { z } else { y }
}

/// Inverse Mills ratio `φ(z)/Φ(z)` of the normal law, the slope of `ln Φ`. Error:
/// [`INVERSE_MILLS`](super::promise::INVERSE_MILLS) ULP, relative in both tails.
#[inline(always)]
pub fn inverse_mills(z: f32) -> f32 {
    // beyond, the ratio is −z or 0
    let a = if z.abs() > 1.0e4 { 1.0e4 } else { z.abs() };
    let left = TWO_OVER_PI_ROOT / scaled_erfc(a * FRAC_1_SQRT_2);
    let (e, t) = upper_tail_parts(a);
    let right = (0.398_942_3 * e) / (1.0 - e * t);
    let left = if z < -1.0e4 { -z } else { left };
    if z < 0.0 { left } else { right }
}
