//! Meanings in f64 of the elementwise functions: the reference side of every comparison.
//!
//! Nothing here is fast, and nothing here shares an algorithm or a coefficient with [`crate::math32`] or with the WGSL
//! library: the exponential, logarithmic, trigonometric and error functions are those of the crate `libm` (ports of
//! musl and FreeBSD, below 1 ULP of f64 for most arguments), so results do not depend on the platform's C library; the
//! polygamma functions use the recurrence and a long asymptotic series, the lower normal tail a continued fraction, the
//! Bessel functions their power series and a long asymptotic one.
//! Relative error is about 1e-14 or better everywhere, the roots of lgamma and digamma included.
//!
//! Values at ties, zeros and other special points are those of NUMERICS.md, section 3.1.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// `½ ln 2π`.
const HALF_LN_TWO_PI: f64 = 0.918_938_533_204_672_8;

/// `e^x`.
pub fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// `e^x` for `x ≤ 0`; the reference does not need the restriction.
pub fn exp_nonpositive(x: f64) -> f64 {
    libm::exp(x)
}

/// `2^x`.
pub fn exp2(x: f64) -> f64 {
    libm::exp2(x)
}

/// `e^x − 1`.
pub fn expm1(x: f64) -> f64 {
    libm::expm1(x)
}

/// `1 / (e^x − 1)`.
pub fn recip_expm1(x: f64) -> f64 {
    1.0 / expm1(x)
}

/// `ln(1 − e^−x)`; −inf at 0, NaN for `x < 0`.
pub fn log1mexp(x: f64) -> f64 {
    if x < std::f64::consts::LN_2 { log(-expm1(-x)) } else { log1p(-exp(-x)) }
}

/// `ln x`; −inf at 0, NaN for `x < 0`.
pub fn log(x: f64) -> f64 {
    libm::log(x)
}

/// `log₂ x`; −inf at 0, NaN for `x < 0`.
pub fn log2(x: f64) -> f64 {
    libm::log2(x)
}

/// `ln(1 + x)`; −inf at −1, NaN for `x < −1`.
pub fn log1p(x: f64) -> f64 {
    libm::log1p(x)
}

/// Logistic function `1 / (1 + e^−x)`.
pub fn sigmoid(x: f64) -> f64 {
    let e = exp(-x.abs());
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// `ln(1 + e^x)`, formed as `max(x, 0) + ln(1 + e^−|x|)`.
pub fn softplus(x: f64) -> f64 {
    let positive_part = if x > 0.0 { x } else { 0.0 };
    positive_part + log1p(exp(-x.abs()))
}

/// `ln σ(x) = −softplus(−x)`.
pub fn log_sigmoid(x: f64) -> f64 {
    -softplus(-x)
}

/// Hyperbolic tangent.
pub fn tanh(x: f64) -> f64 {
    libm::tanh(x)
}

/// Hyperbolic sine.
pub fn sinh(x: f64) -> f64 {
    libm::sinh(x)
}

/// Hyperbolic cosine.
pub fn cosh(x: f64) -> f64 {
    libm::cosh(x)
}

/// Inverse hyperbolic sine.
pub fn asinh(x: f64) -> f64 {
    libm::asinh(x)
}

/// Inverse hyperbolic cosine; NaN for `x < 1`.
pub fn acosh(x: f64) -> f64 {
    if x < 1.0 { f64::NAN } else { libm::acosh(x) }
}

/// Inverse hyperbolic tangent; ±inf at ±1, NaN outside.
pub fn atanh(x: f64) -> f64 {
    libm::atanh(x)
}

/// Sine.
pub fn sin(x: f64) -> f64 {
    libm::sin(x)
}

/// Cosine.
pub fn cos(x: f64) -> f64 {
    libm::cos(x)
}

/// Tangent.
pub fn tan(x: f64) -> f64 {
    libm::tan(x)
}

/// Inverse sine; NaN for `|x| > 1`.
pub fn asin(x: f64) -> f64 {
    libm::asin(x)
}

/// Inverse cosine; NaN for `|x| > 1`.
pub fn acos(x: f64) -> f64 {
    libm::acos(x)
}

/// Inverse tangent.
pub fn atan(x: f64) -> f64 {
    libm::atan(x)
}

/// Angle of the point `(x, y)` in `[−π, π]`, with the signed zeros and infinities of IEEE 754.
pub fn atan2(y: f64, x: f64) -> f64 {
    libm::atan2(y, x)
}

/// IEEE 754 `x^y`: `pow(x, 0) = pow(1, y) = 1` for every operand, NaN included.
pub fn pow(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
}

/// `x · ln y`, and 0 where `x = 0` unless `y` is NaN.
pub fn xlogy(x: f64, y: f64) -> f64 {
    if x == 0.0 && !y.is_nan() { 0.0 } else { x * log(y) }
}

/// `x · ln(1 + y)`, and 0 where `x = 0` unless `y` is NaN.
pub fn xlog1py(x: f64, y: f64) -> f64 {
    if x == 0.0 && !y.is_nan() { 0.0 } else { x * log1p(y) }
}

/// Error function `2/√π ∫₀ˣ e^−t² dt`.
pub fn erf(x: f64) -> f64 {
    libm::erf(x)
}

/// Complementary error function `1 − erf x`.
pub fn erfc(x: f64) -> f64 {
    libm::erfc(x)
}

/// `x · Φ(x)` with the normal distribution function `Φ`; −0 at −inf.
pub fn gelu(x: f64) -> f64 {
    if x == f64::NEG_INFINITY {
        return -0.0;
    }
    x * (0.5 * erfc(-x * FRAC_1_SQRT_2))
}

/// `ln Φ(z)` with the normal distribution function `Φ`.
pub fn log_ndtr(z: f64) -> f64 {
    if z > 0.0 {
        return log1p(-0.5 * erfc(z * FRAC_1_SQRT_2));
    }
    if z > -5.0 || z.is_nan() {
        return log(0.5 * erfc(-z * FRAC_1_SQRT_2));
    }
    if z == f64::NEG_INFINITY {
        return z;
    }
    let a = -z;
    -0.5 * a * a - HALF_LN_TWO_PI - log(upper_mills(a))
}

/// Inverse Mills ratio `φ(a)/Φ(−a)` for `a ≥ 5`: Laplace's continued fraction `a + 1/(a + 2/(a + 3/(a + …)))`, from the
/// far end; 120 levels leave less than 1e-17 at 5, and 24 at 20.
fn upper_mills(a: f64) -> f64 {
    let levels: u32 = if a < 20.0 { 120 } else { 24 };
    (1..=levels).rev().fold(a, |ratio, level| a + f64::from(level) / ratio)
}

/// Inverse Mills ratio `φ(z)/Φ(z)` of the normal law, the slope of `ln Φ`.
pub fn inverse_mills(z: f64) -> f64 {
    if z < -5.0 {
        return upper_mills(-z);
    }
    // the square of the upper half is exact: its rounding error would be multiplied by z²/2
    let high = f64::from(z.clamp(-40.0, 40.0) as f32);
    let density = exp(-0.5 * high * high - HALF_LN_TWO_PI) * exp(-0.5 * (z - high) * (z + high));
    if z > 40.0 { 0.0 } else { density / (0.5 * erfc(-z * FRAC_1_SQRT_2)) }
}

/// `e^−|x| I_n(x)`, modified Bessel functions of whole order: the power series (Abramowitz & Stegun 9.6.10), whose terms
/// have one sign, up to 30, and the asymptotic series (9.7.1) beyond, whose smallest term is below 1e-25 there.
fn scaled_bessel(order: u32, x: f64) -> f64 {
    let a = x.abs();
    if a <= 30.0 {
        let quarter = 0.25 * a * a;
        let (mut term, mut sum) = (1.0, 1.0);
        for k in 1..=100_u32 {
            term *= quarter / (f64::from(k) * f64::from(k + order));
            sum += term;
            if term < 1e-18 * sum {
                break;
            }
        }
        let power = if order == 0 { 1.0 } else { 0.5 * a };
        return power * sum * exp(-a);
    }
    let square = f64::from(4 * order * order);
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..=30_u32 {
        let odd = f64::from(2 * k - 1);
        term *= (odd * odd - square) / (8.0 * f64::from(k) * a);
        sum += term;
        if term.abs() < 1e-18 {
            break;
        }
    }
    if a.is_nan() { a } else { sum / (2.0 * PI).sqrt() / a.sqrt() }
}

/// `e^−|x| I₀(x)` with the modified Bessel function `I₀`.
pub fn i0e(x: f64) -> f64 {
    scaled_bessel(0, x)
}

/// `e^−|x| I₁(x)` with the modified Bessel function `I₁`.
pub fn i1e(x: f64) -> f64 {
    scaled_bessel(1, x).copysign(x)
}

/// `ln Γ(x)` for `x > 0`; NaN for `x ≤ 0`.
pub fn lgamma(x: f64) -> f64 {
    if x > 0.0 { libm::lgamma(x) } else { f64::NAN }
}

/// Digamma `ψ(x) = d ln Γ(x) / dx` for `x > 0`; NaN for `x ≤ 0`.
pub fn digamma(x: f64) -> f64 {
    /// The root of ψ as an unevaluated sum.
    const ROOT: f64 = 1.461_632_144_968_362_2;
    const ROOT_LOW: f64 = 9.549_995_429_965_697e-17;
    /// Taylor coefficients of ψ at its root, from mpmath at 40 digits.
    const TAYLOR: [f64; 15] = [
        0.967_672_245_447_621_2,
        -0.442_763_168_983_592_1,
        0.258_499_760_955_651,
        -0.163_942_705_442_406_52,
        0.107_824_050_691_262_37,
        -0.072_199_561_256_454_71,
        0.048_804_288_164_143_11,
        -0.033_161_126_474_847_36,
        0.022_597_648_232_218_104,
        -0.015_424_765_904_948_96,
        0.010_538_791_616_612_175,
        -0.007_204_534_386_356_869,
        0.004_926_781_395_729_853,
        -0.003_369_801_655_439_328,
        0.002_305_126_326_734_928,
    ];
    if x <= 0.0 || x.is_nan() {
        return f64::NAN;
    }
    if x.is_infinite() {
        return x;
    }
    // the recurrence cancels near the root: a relative error there needs the series
    let d = (x - ROOT) - ROOT_LOW;
    if d.abs() < 0.1 {
        return d * TAYLOR.iter().rev().fold(0.0, |p, c| p * d + c);
    }
    /// `B_2k / 2k`, k = 1, 2, … (Abramowitz & Stegun 6.3.18).
    const SERIES: [f64; 10] = [
        1.0 / 12.0,
        -1.0 / 120.0,
        1.0 / 252.0,
        -1.0 / 240.0,
        1.0 / 132.0,
        -691.0 / 32_760.0,
        1.0 / 12.0,
        -3617.0 / 8160.0,
        43_867.0 / 14_364.0,
        -174_611.0 / 6600.0,
    ];
    let mut y = x;
    let mut shift = 0.0;
    while y < 15.0 {
        shift += 1.0 / y;
        y += 1.0;
    }
    let z = 1.0 / (y * y);
    log(y) - 0.5 / y - z * SERIES.iter().rev().fold(0.0, |p, c| p * z + c) - shift
}

/// Trigamma `ψ′(x)` for `x > 0`; NaN for `x ≤ 0`.
pub fn trigamma(x: f64) -> f64 {
    /// `B_2k`, k = 1, 2, … (Abramowitz & Stegun 6.4.12).
    const BERNOULLI: [f64; 10] = [
        1.0 / 6.0,
        -1.0 / 30.0,
        1.0 / 42.0,
        -1.0 / 30.0,
        5.0 / 66.0,
        -691.0 / 2730.0,
        7.0 / 6.0,
        -3617.0 / 510.0,
        43_867.0 / 798.0,
        -174_611.0 / 330.0,
    ];
    if x <= 0.0 || x.is_nan() {
        return f64::NAN;
    }
    let mut y = x;
    let mut shift = 0.0;
    while y < 15.0 {
        shift += 1.0 / (y * y);
        y += 1.0;
    }
    let w = 1.0 / y;
    let z = w * w;
    shift + w + 0.5 * z + w * z * BERNOULLI.iter().rev().fold(0.0, |p, c| p * z + c)
}

/// IEEE 754-2019 maximum: NaN propagates, `max(+0, −0) = +0`.
pub fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    if a == b {
        return if a.is_sign_negative() { b } else { a };
    }
    if a > b { a } else { b }
}

/// IEEE 754-2019 minimum: NaN propagates, `min(+0, −0) = −0`.
pub fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    if a == b {
        return if a.is_sign_negative() { a } else { b };
    }
    if a < b { a } else { b }
}

/// Sign: −1, 0 or 1; 0 at 0, NaN at NaN.
pub fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { 1.0_f64.copysign(x) }
}

/// Nearest integer, halves to the even one.
pub fn round(x: f64) -> f64 {
    x.round_ties_even()
}

/// Integer part, toward zero.
pub fn trunc(x: f64) -> f64 {
    x.trunc()
}

/// Remainder `x − trunc(x/y)·y` with the sign of `x`, exact (C's `fmod`).
pub fn rem(x: f64, y: f64) -> f64 {
    x % y
}

/// `1/√x`; +inf at +0, NaN for `x < 0`.
pub fn rsqrt(x: f64) -> f64 {
    1.0 / x.sqrt()
}

/// `1/x`.
pub fn recip(x: f64) -> f64 {
    1.0 / x
}

/// Uniform number in [0, 1) from the upper 24 bits of a random word.
pub fn uniform(word: u32) -> f64 {
    f64::from(word >> 8) / 16_777_216.0
}

/// Two independent standard normal numbers from two random words (Box and Muller 1958):
/// `√(−2 ln u₁) · (cos 2πu₂, sin 2πu₂)` with `u₁ ∈ (0, 1]`, `u₂ ∈ [0, 1)`.
pub fn normal(word0: u32, word1: u32) -> [f64; 2] {
    let radius = (-2.0 * log(uniform(word0) + 1.0 / 16_777_216.0)).sqrt();
    // whole eighths of a turn are removed in integers: sin and cos of π/2 are then exactly 1 and 0
    let quarter = (word1 >> 8).wrapping_add(1 << 21) >> 22;
    let turns = uniform(word1) - 0.25 * f64::from(quarter);
    let (s, c) = (sin(2.0 * PI * turns), cos(2.0 * PI * turns));
    let (c, s) = match quarter & 3 {
        0 => (c, s),
        1 => (-s, c),
        2 => (-c, -s),
        _ => (s, -c),
    };
    [radius * c, radius * s]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::excessive_precision, reason = "the digits of mpmath are kept as printed")]
    use super::*;

    /// `got` equals `digits` to all digits given.
    fn assert_digits(name: &str, got: f64, digits: &str) {
        let places = digits.split('.').nth(1).map_or(0, str::len);
        assert_eq!(format!("{got:.places$}"), digits, "{name}");
    }

    #[test]
    fn known_digits_are_met() {
        assert_digits("lgamma(0.1)", lgamma(0.1), "2.25271265173");
        assert_digits("lgamma(0.5)", lgamma(0.5), "0.572364942925");
        assert_digits("lgamma(10)", lgamma(10.0), "12.8018274801");
        assert_digits("digamma(0.1)", digamma(0.1), "-10.4237549404");
        assert_digits("digamma(1)", digamma(1.0), "-0.577215664902");
        assert_digits("digamma(10)", digamma(10.0), "2.25175258907");
        assert_digits("trigamma(1)", trigamma(1.0), "1.64493406684823");
        assert_digits("log_ndtr(-10)", log_ndtr(-10.0), "-53.2312851505");
        assert_digits("log_ndtr(-40)", log_ndtr(-40.0), "-804.6084420138");
        assert_digits("gelu(1)", gelu(1.0), "0.841344746068543");
        assert_digits("erf(0.5)", erf(0.5), "0.520499877813047");
    }

    /// Reference digits of f64 from mpmath at 40 digits, at seams between forms.
    #[test]
    fn gamma_and_normal_functions_are_accurate_to_f64() {
        let table: &[(&str, f64, f64)] = &[
            ("digamma(0.001)", digamma(0.001), -1000.57557193181028),
            ("digamma(1.4)", digamma(1.4), -0.0613845445851162368),
            ("digamma(1.4616321449)", digamma(1.4616321449), -6.61523006236453693e-11),
            ("digamma(1.4616)", digamma(1.4616), -0.0000311062512303416497),
            ("digamma(1.37)", digamma(1.37), -0.0925987081878611464),
            ("digamma(1.55)", digamma(1.55), 0.0822225675396443835),
            ("digamma(1.57)", digamma(1.57), 0.0999728024444446767),
            ("digamma(14.5)", digamma(14.5), 2.63926972534898612),
            ("digamma(1000000.0)", digamma(1000000.0), 13.8155100579641908),
            ("trigamma(0.001)", trigamma(0.001), 1000001.64253319583),
            ("trigamma(0.7)", trigamma(0.7), 2.83404915669461091),
            ("trigamma(3.0)", trigamma(3.0), 0.394934066848226436),
            ("trigamma(14.99)", trigamma(14.99), 0.0689857666213864535),
            ("trigamma(15.01)", trigamma(15.01), 0.0688907545219900057),
            ("trigamma(1000000.0)", trigamma(1000000.0), 1.00000050000016667e-6),
            ("log_ndtr(-100.0)", log_ndtr(-100.0), -5005.52420869420509),
            ("log_ndtr(-5.0)", log_ndtr(-5.0), -15.0649983939887257),
            ("log_ndtr(-4.99)", log_ndtr(-4.99), -15.013181717689321),
            ("log_ndtr(-1.0)", log_ndtr(-1.0), -1.84102164500926351),
            ("log_ndtr(0.5)", log_ndtr(0.5), -0.368946415288656393),
            ("log_ndtr(8.0)", log_ndtr(8.0), -6.22096057427178606e-16),
            ("inverse_mills(-100.0)", inverse_mills(-100.0), 100.009998000999261),
            ("inverse_mills(-5.01)", inverse_mills(-5.01), 5.1961775432211784),
            ("inverse_mills(-4.99)", inverse_mills(-4.99), 5.17683147360947024),
            ("inverse_mills(-1.0)", inverse_mills(-1.0), 1.52513527616098121),
            ("inverse_mills(0.5)", inverse_mills(0.5), 0.509160433837033486),
            ("inverse_mills(8.0)", inverse_mills(8.0), 5.05227108353689543e-15),
            ("inverse_mills(37.0)", inverse_mills(37.0), 2.12000655152460563e-298),
            ("i0e(0.001)", i0e(0.001), 0.999000749583515559),
            ("i0e(3.0)", i0e(3.0), 0.243000354161825398),
            ("i0e(29.9)", i0e(29.9), 0.0732692190460019077),
            ("i0e(30.1)", i0e(30.1), 0.0730232941310609419),
            ("i0e(500.0)", i0e(500.0), 0.0178457065001531672),
            ("i1e(0.001)", i1e(0.001), 0.000499500312354221347),
            ("i1e(-3.0)", i1e(-3.0), -0.196826713297300854),
            ("i1e(29.9)", i1e(29.9), 0.0720333749118687878),
            ("i1e(30.1)", i1e(30.1), 0.0717998543510143332),
            ("i1e(500.0)", i1e(500.0), 0.0178278518528980565),
            ("gelu(-13.0)", gelu(-13.0), -7.95231371941484359e-38),
            ("gelu(-3.0)", gelu(-3.0), -0.00404969409489028358),
            ("gelu(0.1)", gelu(0.1), 0.0539827837277029014),
            ("lgamma(0.001)", lgamma(0.001), 6.90717888538385366),
            ("lgamma(0.999)", lgamma(0.999), 0.000578038532891380238),
            ("lgamma(1.001)", lgamma(1.001), -0.000576393598283306152),
            ("lgamma(1.9999)", lgamma(1.9999), -0.000042275208772153458),
            ("lgamma(2.5)", lgamma(2.5), 0.28468287047291916),
            ("lgamma(7.9)", lgamma(7.9), 8.32426586800880963),
            ("lgamma(100000.0)", lgamma(100000.0), 1051287.70897365689),
        ];
        for &(name, got, exact) in table {
            let error = ((got - exact) / exact).abs();
            // a few hundred units of f64: the accuracy this module states
            assert!(error < 256.0 * f64::EPSILON, "{name}: {got} against {exact}, {error:e}");
        }
    }

    #[test]
    fn nonpositive_arguments_of_the_gamma_functions_give_nan() {
        for x in [0.0, -0.0, -1.0, -0.5, f64::NEG_INFINITY, f64::NAN] {
            assert!(lgamma(x).is_nan() && digamma(x).is_nan() && trigamma(x).is_nan(), "{x}");
        }
    }

    #[test]
    fn extremes_propagate_nan_and_order_zeros() {
        assert!(max(f64::NAN, 1.0).is_nan() && max(1.0, f64::NAN).is_nan());
        assert!(min(f64::NAN, 1.0).is_nan() && min(1.0, f64::NAN).is_nan());
        for (a, b) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert!(max(a, b).is_sign_positive() && min(a, b).is_sign_negative());
        }
        assert_eq!((max(2.0, -3.0), min(2.0, -3.0)), (2.0, -3.0));
    }
}
