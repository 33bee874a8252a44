//! Trigonometric functions and their inverses.

use super::MAGIC;
use std::f32::consts::{FRAC_2_PI, FRAC_PI_2, PI};

/// `π/2 = FRAC_PI_2 + HALF_PI_LOW`, `π = PI + 2 · HALF_PI_LOW`, beyond f32.
const HALF_PI_LOW: f32 = -4.371_139e-8;

/// `x = q π/2 + r + low` with `|r| ≤ π/4`: `(r, low, q mod 4)`, for `|x| ≤ 8192`.
///
/// Cody and Waite's reduction. The first three parts of `π/2` have at most 11 significant bits, so their products with
/// `q < 2^13` are exact, and so are the differences wherever `r` is small: `r + low` is accurate in relative terms at
/// every multiple of `π/2`. Larger arguments lose digits; `r` then stays bounded, nothing more.
#[inline(always)]
fn reduce(x: f32) -> (f32, f32, u32) {
    let t = x * FRAC_2_PI + MAGIC;
    let n = t - MAGIC;
    let exact = (x - n * 1.570_312_5) - n * 0.000_483_751_3;
    let part = n * 7.549_533_6e-8;
    let r = exact - part;
    let low = ((exact - r) - part) - n * 2.563_344e-12;
    let r = if r > 0.8 { 0.8 } else { r };
    (if r < -0.8 { -0.8 } else { r }, low, t.to_bits())
}

/// `sin(r + low)` for `|r| ≤ π/4`, relative error of the polynomial 4e-9.
#[inline(always)]
fn sin_poly(r: f32, low: f32) -> f32 {
    let z = r * r;
    r + (r * (z * (-0.166_666_55 + z * (0.008_332_187 + z * -0.000_195_178_99))) + low)
}

/// `cos(r + low)` for `|r| ≤ π/4`, relative error of the polynomial 2e-10.
#[inline(always)]
fn cos_poly(r: f32, low: f32) -> f32 {
    let z = r * r;
    1.0 - ((0.5 * z + r * low) - z * z * (0.041_666_646 + z * (-0.001_388_731 + z * 2.443_233e-5)))
}

/// `sin(r + low + q π/2)`.
#[inline(always)]
fn sin_quadrant(r: f32, low: f32, q: u32) -> f32 {
    let y = if q & 1 == 0 { sin_poly(r, low) } else { cos_poly(r, low) };
    f32::from_bits(y.to_bits() ^ ((q & 2) << 30))
}

/// Below this magnitude `sin x` and `tan x` round to `x`, within a third of an ULP; −0 and denormals pass through.
const TINY: f32 = 0.000_122;

/// Sine of `x` radians. Error: [`SIN`](super::promise::SIN) ULP for `|x| ≤ 8192`, none promised beyond.
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    let (r, low, q) = reduce(x);
    if x.abs() < TINY { x } else { sin_quadrant(r, low, q) }
}

/// Cosine of `x` radians. Error: [`COS`](super::promise::COS) ULP for `|x| ≤ 8192`, none promised beyond.
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    let (r, low, q) = reduce(x);
    sin_quadrant(r, low, q.wrapping_add(1))
}

/// Tangent of `x` radians. Error: [`TAN`](super::promise::TAN) ULP for `|x| ≤ 8192`, none promised beyond.
#[inline(always)]
pub fn tan(x: f32) -> f32 {
    let (r, low, q) = reduce(x);
    let (s, c) = (sin_poly(r, low), cos_poly(r, low));
    let (numerator, denominator) = if q & 1 == 0 { (s, c) } else { (-c, s) };
    if x.abs() < TINY { x } else { numerator / denominator }
}

/// `asin s` given `z = s²`, for `0 ≤ s ≤ ½`, relative error 5e-9.
#[inline(always)]
fn asin_poly(s: f32, z: f32) -> f32 {
    let p = 0.074_953_094 + z * (0.045_469_154 + z * (0.024_184_737 + z * 0.042_158_414));
    s + s * (z * (0.166_667_52 + z * p))
}

/// `(p, is_large)` with `asin a = p`, or `π/2 − 2p` where `is_large`.
#[inline(always)]
fn asin_parts(a: f32) -> (f32, bool) {
    let is_large = a > 0.5;
    let z = if is_large { 0.5 * (1.0 - a) } else { a * a };
    let s = if is_large { z.sqrt() } else { a };
    (asin_poly(s, z), is_large)
}

/// Inverse sine. Error: [`ASIN`](super::promise::ASIN) ULP, relative near 0 as well; NaN for `|x| > 1`.
#[inline(always)]
pub fn asin(x: f32) -> f32 {
    let (p, is_large) = asin_parts(x.abs());
    (if is_large { FRAC_PI_2 - (2.0 * p - HALF_PI_LOW) } else { p }).copysign(x)
}

/// Inverse cosine. Error: [`ACOS`](super::promise::ACOS) ULP, relative near 1 as well; NaN for `|x| > 1`.
#[inline(always)]
pub fn acos(x: f32) -> f32 {
    let (p, is_large) = asin_parts(x.abs());
    let twice = 2.0 * p;
    let large = if x < 0.0 { PI - (twice - 2.0 * HALF_PI_LOW) } else { twice };
    let signed = p.copysign(x);
    if is_large { large } else { FRAC_PI_2 - (signed - HALF_PI_LOW) }
}

/// `atan t` for `0 ≤ t ≤ 1`, relative error 2e-8.
#[inline(always)]
fn atan_poly(t: f32) -> f32 {
    let z = t * t;
    let p = -0.075_516_66 + z * (0.043_204_89 + z * (-0.016_363_36 + z * 0.002_919_486_3));
    let p = -0.333_331_53 + z * (0.199_937_67 + z * (-0.142_110_02 + z * (0.106_657_7 + z * p)));
    t + t * (z * p)
}

/// Inverse tangent. Error: [`ATAN`](super::promise::ATAN) ULP, relative near 0 as well.
#[inline(always)]
pub fn atan(x: f32) -> f32 {
    let a = x.abs();
    let is_large = a > 1.0;
    let p = atan_poly(if is_large { 1.0 / a } else { a });
    (if is_large { FRAC_PI_2 - (p - HALF_PI_LOW) } else { p }).copysign(x)
}

/// Angle of the point `(x, y)` in `[−π, π]`, with IEEE 754's signed zeros and infinities. Error:
/// [`ATAN2`](super::promise::ATAN2) ULP.
#[inline(always)]
pub fn atan2(y: f32, x: f32) -> f32 {
    let (ax, ay) = (x.abs(), y.abs());
    let steep = ay > ax;
    let (numerator, denominator) = if steep { (ax, ay) } else { (ay, ax) };
    let t = numerator / denominator;
    // 0/0 and inf/inf: the angle is that of the axis, or of the diagonal
    let t = if denominator == 0.0 { 0.0 } else { t };
    let t = if numerator == f32::INFINITY { 1.0 } else { t };
    let p = atan_poly(t);
    let p = if steep { FRAC_PI_2 - (p - HALF_PI_LOW) } else { p };
    let p = if x.is_sign_negative() { PI - (p - 2.0 * HALF_PI_LOW) } else { p };
    let p = if x.is_nan() || y.is_nan() { f32::NAN } else { p };
    p.copysign(y)
}
