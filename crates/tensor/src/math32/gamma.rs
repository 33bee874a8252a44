//! Gamma family, for positive arguments.

use super::logarithm::{log, log_join, log_split};

/// `lnΓ(x) / ((x − 1)(x − 2))` for `1 ≤ x ≤ 3` in `d = x − 2`, relative error 2e-8.
#[inline(always)]
fn lgamma_poly(d: f32) -> f32 {
    let p = 0.000_131_251_81 + d * (-5.276_513_5e-5 + d * (7.795_092e-5 + d * -3.862_093e-5));
    let p =
        0.004_991_831_3 + d * (-0.002_102_270_3 + d * (0.000_943_676_74 + d * (-0.000_425_175_44 + d * p)));
    0.422_784_33 + d * (-0.100_317_28 + d * (0.032_965_58 + d * (-0.012_384_926 + d * p)))
}

/// `ln Γ(x)`. Error: [`LGAMMA`](super::promise::LGAMMA) ULP, relative at its roots 1 and 2 as well; NaN for `x ≤ 0`.
#[inline(always)]
pub fn lgamma(x: f32) -> f32 {
    // down to [1, 3]: Γ(x) = (x−1) Γ(x−1); up from (0, 1): Γ(x) = Γ(x+1) / x, where x + 1 must not be rounded
    let is_small = x < 1.0;
    let steps = if x > 3.0 { 1.0 } else { 0.0 };
    let steps = if x > 4.0 { 2.0 } else { steps };
    let y = x - steps;
    let factor = if x > 3.0 { x - 1.0 } else { 1.0 };
    let factor = if x > 4.0 { factor * (x - 2.0) } else { factor };
    let (less_one, less_two) = if is_small { (x, x - 1.0) } else { (y - 1.0, y - 2.0) };
    let core = less_one * less_two * lgamma_poly(less_two);
    // one logarithm: of x below 1 and above 5 (Stirling, Abramowitz & Stegun 6.1.41, last terms fitted), else of the factor
    let is_large = x > 5.0;
    let (f, k) = log_split(if is_small || is_large { x } else { factor });
    let l = log_join(f, k);
    let near = core + if is_small { -l } else { l };
    let w = 1.0 / x;
    let series = w * (0.083_332_71 + w * w * -0.002_732_114_4);
    let far = ((x - 0.5) * (l - 1.0) + 0.418_938_55) + series;
    let y = if is_large { far } else { near };
    let y = if x > 0.0 { y } else { f32::NAN };
    if x == f32::INFINITY { x } else { y }
}

/// Digamma `ψ(x) = d ln Γ(x) / dx`. Error: [`DIGAMMA`](super::promise::DIGAMMA) ULP, relative at its root
/// 1.4616… as well; NaN for `x ≤ 0`.
#[inline(always)]
pub fn digamma(x: f32) -> f32 {
    let is_small = x < 1.0;
    let y = if is_small { x + 1.0 } else { x };
    // 1 ≤ y ≤ 2: ψ(y) = (y − root) P(y − 1.5), with the root in two parts
    let d = y - 1.5;
    let p = 0.039_417_036 + d * (-0.025_906_39 + d * (0.023_825_418 + d * -0.016_162_902));
    let p = -0.148_400_47 + d * (0.095_107_175 + d * (-0.062_033_292 + d * p));
    let p = 0.951_055_9 + d * (-0.423_627_47 + d * (0.240_539_09 + d * p));
    let near = ((y - 1.461_632_1) - 1.243_815e-8) * p;
    // y > 2: Abramowitz & Stegun 6.3.18, last terms fitted
    let w = 1.0 / y;
    let z = w * w;
    let series = z * (0.083_332_39 + z * (-0.008_300_075 + z * (0.003_561_081_6 + z * -0.001_828_114_6)));
    let far = log(y) - (0.5 * w + series);
    let value = if y > 2.0 { far } else { near };
    let value = if is_small { value - 1.0 / x } else { value };
    if x > 0.0 { value } else { f32::NAN }
}

/// Trigamma `ψ′(x)`. Error: [`TRIGAMMA`](super::promise::TRIGAMMA) ULP; NaN for `x ≤ 0`.
#[inline(always)]
pub fn trigamma(x: f32) -> f32 {
    // ψ′(x) = 1/x² + ψ′(x + 1), and ψ′(1/t) = t + t²/2 + t³ H(t) with H fitted for 0 ≤ t ≤ 1
    let t = 1.0 / (x + 1.0);
    let h = 0.036_066_666 + t * (-0.036_106_396 + t * (0.016_655_054 + t * -0.003_142_502_6));
    let h = 0.166_664_35 + t * (2.909_637_8e-5 + t * (-0.033_310_782 + t * (-0.001_921_420_2 + t * h)));
    let w = 1.0 / x;
    let y = w * w + (t + t * t * (0.5 + t * h));
    if x > 0.0 { y } else { f32::NAN }
}
