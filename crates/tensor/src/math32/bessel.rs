//! Modified Bessel functions of orders 0 and 1, scaled by `e^−|x|`.

use super::exponential::exp_nonpositive_parts;
use super::normal_law::square_parts;

/// Up to here a power series in `x²` times an exponential, from here on `1/√x` times a polynomial in `1/x`.
const SEAM: f32 = 6.0;

/// `1/√(2π)` as an unevaluated sum.
const ROOT: f32 = 0.398_942_3;
const ROOT_LOW: f32 = -1.133_517e-8;

/// `(1/√(2π) + w·p) / √a`, as both functions are beyond the seam, with `w = 1/a`.
#[inline(always)]
fn far(a: f32, w: f32, p: f32) -> f32 {
    (ROOT + (ROOT_LOW + w * p)) / a.sqrt()
}

/// `e^−a · p`, where `p` is a polynomial in the rounded `a²`; `drift` is what the rounding lacks, relative to `p`.
#[inline(always)]
fn near(a: f32, p: f32, drift: f32) -> f32 {
    let (t, power) = exp_nonpositive_parts(-a);
    (p + p * (t + drift)) * power
}

/// `(a, 1/a)` on either side of the seam: the first not above it, the second not below it.
#[inline(always)]
fn sides(a: f32) -> (f32, f32) {
    let below = if a > SEAM { SEAM } else { a };
    let above = if a < SEAM { SEAM } else { a };
    (below, 1.0 / above)
}

/// `e^−|x| I₀(x)`. Error: [`I0E`](super::promise::I0E) ULP.
#[inline(always)]
pub fn i0e(x: f32) -> f32 {
    let a = x.abs();
    let (b, w) = sides(a);
    let (u, low) = square_parts(b);
    let p = 6.763_927e-8 + u * (4.810_715_7e-10 + u * (2.082_449_7e-12 + u * 1.453_008_8e-14));
    let p = 0.249_999_99 + u * (0.015_625_02 + u * (0.000_434_018_9 + u * (6.783_418_5e-6 + u * p)));
    let q = 0.032_669_082 + w * (0.016_018_312 + w * (0.093_154_885 + w * 0.978_829_2));
    let q = 0.049_869_534 + w * (0.027_908_789 + w * q);
    // d ln I₀ / d a² falls from ¼ about as this line does
    let small = near(b, 1.0 + u * p, low * (0.25 - 0.03 * b));
    if a > SEAM { far(a, w, q) } else { small }
}

/// `e^−|x| I₁(x)`. Error: [`I1E`](super::promise::I1E) ULP, relative near 0 as well.
#[inline(always)]
pub fn i1e(x: f32) -> f32 {
    let a = x.abs();
    let (b, w) = sides(a);
    let (u, low) = square_parts(b);
    let p = 5.643_201_5e-9 + u * (3.412_095_6e-11 + u * (1.346_810_4e-13 + u * 7.731_301e-16));
    let p = 0.0625 + u * (0.002_604_167_2 + u * (5.425_313_4e-5 + u * (6.782_438_5e-7 + u * p)));
    let q = -0.044_288_44 + w * (-0.032_846_134 + w * (-0.062_075_365 + w * -1.243_078_4));
    let q = -0.149_605_21 + w * (-0.046_605_06 + w * q);
    // d ln(I₁/a) / d a² falls from ⅛ about as this line does
    let small = near(b, 0.5 + u * p, low * (0.125 - 0.009 * b)) * b;
    (if a > SEAM { far(a, w, q) } else { small }).copysign(x)
}
