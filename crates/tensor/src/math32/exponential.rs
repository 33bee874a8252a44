//! Exponential and logistic functions.

use super::logarithm::log1p_unit;
use super::{LN2_HIGH, LN2_LOW, MAGIC, power_of_two};

/// `(e^r − 1 − r) / r²` for `|r| ≤ ½ ln 2` and `z = r²`, relative error 1.5e-8 of `e^r − 1`.
///
/// In pairs (Estrin): a chain of dependent additions, not their number, is what limits the loop.
#[inline(always)]
fn exp_tail(r: f32, z: f32) -> f32 {
    (0.499_999_97 + r * 0.166_665_42) + z * ((0.041_667_43 + r * 0.008_366_876) + z * 0.001_387_186_9)
}

/// `x = k ln 2 + r`: `(r, k)` for `|x| < 128`; NaN gives a NaN `r` and any `k`.
#[inline(always)]
fn reduce(x: f32) -> (f32, i32) {
    let t = x * std::f32::consts::LOG2_E + MAGIC;
    let n = t - MAGIC;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    (r, t.to_bits().wrapping_sub(MAGIC.to_bits()) as i32)
}

/// `x` pulled into `[low, high]`; NaN stays.
#[inline(always)]
fn pull(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// `y · 2^k` in two factors, because `2^k` itself may overflow or be denormal.
#[inline(always)]
pub(super) fn scale(y: f32, k: i32) -> f32 {
    let h = k >> 1;
    y * power_of_two(h) * power_of_two(k.wrapping_sub(h))
}

/// `e^x = y · 2^k`: `(y, k)` with `y` in [0.7, 1.42], for any `x`; arguments beyond ±104 are pulled in.
#[inline(always)]
pub(super) fn exp_parts(x: f32) -> (f32, i32) {
    let (r, k) = reduce(pull(x, -104.0, 104.0));
    let z = r * r;
    (exp_tail(r, z) * z + r + 1.0, k)
}

/// `e^x`. Error: [`EXP`](super::promise::EXP) ULP; inf above 88.72, denormal results are kept.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let (y, k) = exp_parts(x);
    scale(y, k)
}

/// `e^x = (1 + t) · 2^k` for `−88 ≤ x ≤ 0` or NaN: `(t, 2^k)`.
#[inline(always)]
pub(super) fn exp_nonpositive_parts(x: f32) -> (f32, f32) {
    let t = x * std::f32::consts::LOG2_E + MAGIC;
    let n = t - MAGIC;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let z = r * r;
    let power = f32::from_bits((t.to_bits() << 23).wrapping_add(0x3f80_0000));
    (exp_tail(r, z) * z + r, power)
}

/// `e^x` for `x ≤ 0` or NaN, the short form for softmax and the logistic functions.
///
/// Error: [`EXP_NONPOSITIVE`](super::promise::EXP_NONPOSITIVE) ULP. Results below 2⁻¹²⁶ may be flushed to 0.
#[inline(always)]
pub fn exp_nonpositive(x: f32) -> f32 {
    let (t, power) = exp_nonpositive_parts(x);
    // a product, not an addition to the exponent bits: the sum would turn some NaN patterns into numbers
    if x < -88.0 { 0.0 } else { (t + 1.0) * power }
}

/// `2^x`. Error: [`EXP2`](super::promise::EXP2) ULP; exact at integers.
#[inline(always)]
pub fn exp2(x: f32) -> f32 {
    let x = pull(x, -151.0, 129.0);
    let t = x + MAGIC;
    let r = x - (t - MAGIC);
    let k = t.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    let p = 0.055_503_58 + r * (0.009_618_504 + r * (0.001_339_189_6 + r * 0.000_153_288_83));
    let p = r * (std::f32::consts::LN_2 + r * (0.240_226_48 + r * p));
    scale(1.0 + p, k)
}

/// `e^x − 1`. Error: [`EXPM1`](super::promise::EXPM1) ULP, relative near 0 as well; denormals and −0 are kept.
#[inline(always)]
pub fn expm1(x: f32) -> f32 {
    let (r, k) = reduce(pull(x, -18.0, 104.0));
    let z = r * r;
    let e = exp_tail(r, z) * z + r;
    // half of the result first: 2^k alone would overflow where the result does not
    let s = power_of_two(k.wrapping_sub(1));
    let y = (e * s + (s - 0.5)) * 2.0;
    let y = if x > 89.0 { f32::INFINITY } else { y };
    if x.abs() < 1.0e-8 { x } else { y }
}

/// `1 / (e^x − 1)`. Error: [`RECIP_EXPM1`](super::promise::RECIP_EXPM1) ULP; ±inf at ±0, −1 at −inf, 0 at inf.
#[inline(always)]
pub fn recip_expm1(x: f32) -> f32 {
    1.0 / expm1(x)
}

/// Logistic function `1 / (1 + e^−x)`. Error: [`SIGMOID`](super::promise::SIGMOID) ULP, relative in the left tail as well.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    sigmoid_of(x, decay(x))
}

/// `ln(1 + e^x)`, formed as `max(x, 0) + ln(1 + e^−|x|)`. Error: [`SOFTPLUS`](super::promise::SOFTPLUS) ULP.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    softplus_of(x, decay_tail(decay(x)))
}

/// `ln σ(x) = −softplus(−x)`. Error: [`LOG_SIGMOID`](super::promise::LOG_SIGMOID) ULP.
#[inline(always)]
pub fn log_sigmoid(x: f32) -> f32 {
    log_sigmoid_of(x, decay_tail(decay(x)))
}

/// `e^−|x|`, the exponential that the logistic functions of `x` and of `−x` share.
#[inline(always)]
pub fn decay(x: f32) -> f32 {
    exp_nonpositive(-x.abs())
}

/// [`sigmoid`], given [`decay`] of `x`: the same bits.
#[inline(always)]
pub fn sigmoid_of(x: f32, decay: f32) -> f32 {
    let numerator = if x < 0.0 { decay } else { 1.0 };
    numerator / (1.0 + decay)
}

/// `ln(1 + decay)`, the logarithm that [`softplus`] and [`log_sigmoid`] of `x` and of `−x` share.
#[inline(always)]
pub fn decay_tail(decay: f32) -> f32 {
    log1p_unit(decay)
}

/// [`softplus`], given [`decay_tail`]: the same bits.
#[inline(always)]
pub fn softplus_of(x: f32, tail: f32) -> f32 {
    let positive_part = if x > 0.0 { x } else { 0.0 };
    positive_part + tail
}

/// [`log_sigmoid`], given [`decay_tail`]: the same bits.
#[inline(always)]
pub fn log_sigmoid_of(x: f32, tail: f32) -> f32 {
    let negative_part = if x < 0.0 { x } else { 0.0 };
    negative_part - tail
}
