//! Functions that families and links need in forms that keep their digits.

use std::f64::consts::TAU;

use cotangent_tensor::{Tensor, where_};

/// Below this predictor `e^z` is so small that the first terms of a series are exact in f64.
const SMALL: f64 = -12.0;

/// `log(1 − e^(−eᶻ))`.
#[track_caller]
pub(super) fn log1mexp_exp(z: &Tensor) -> Tensor {
    let is_small = z.lt(SMALL);
    let t = is_small.select(z, SMALL).exp();
    let small = z - &t * (0.5 - &t / 24.0);
    // From e⁷ on the result is 0; an infinite exponential would make its derivative NaN.
    where_(&is_small, small, z.clamp(SMALL, 7.0).exp().log1mexp())
}

/// `Φ⁻¹(p)`: a rational approximation (Abramowitz & Stegun 26.2.23) of the nearer tail, then Newton steps on its logarithm.
#[track_caller]
pub(super) fn probit(p: &Tensor) -> Tensor {
    let lower = p.le(0.5);
    let log_tail = where_(&lower, p.log(), (-p).log1p());
    let t = (-2.0 * &log_tail).sqrt();
    let over = 2.515_517 + &t * (0.802_853 + &t * 0.010_328);
    let under = 1.0 + &t * (1.432_788 + &t * (0.189_269 + &t * 0.001_308));
    let mut z = over / under - t;
    for _ in 0..3 {
        let log_value = z.log_ndtr();
        let log_density = -0.5 * z.pow(2) - 0.5 * TAU.ln();
        z = &z - (&log_value - &log_tail) * (&log_value - log_density).exp();
    }
    let z = where_(&log_tail.eq(f64::NEG_INFINITY), f64::NEG_INFINITY, z);
    where_(&lower, &z, -&z)
}

/// Coefficients of `½·coth(x/2) − 1/x = Σ B₂ₙ·x²ⁿ⁻¹/(2n)!`, from `x` on.
const COTH: [f64; 8] = [
    1.0 / 12.0,
    -1.0 / 720.0,
    1.0 / 30_240.0,
    -1.0 / 1_209_600.0,
    1.0 / 47_900_160.0,
    -691.0 / 1_307_674_368_000.0,
    1.0 / 74_724_249_600.0,
    -3617.0 / 10_670_622_842_880_000.0,
];

/// `Σ coefficients[n]·tⁿ`.
#[track_caller]
pub(super) fn polynomial(t: &Tensor, coefficients: impl DoubleEndedIterator<Item = f64>) -> Tensor {
    let mut terms = coefficients.rev();
    let first = terms.next().unwrap_or_default();
    terms.fold(t * 0.0 + first, |sum, coefficient| sum * t + coefficient)
}

/// Where the series are used (their first term left out is below 1e-14 there), `x` for the series and `|x|` for the other forms; where it is
/// not used, 0 for the former and 1 for the latter.
#[track_caller]
fn near_zero(x: &Tensor) -> (Tensor, Tensor, Tensor) {
    let (near, size) = (x.abs().lt(1.0), x.abs());
    (near.clone(), near.select(x, 0.0), near.select(1.0, size))
}

/// The log-partition of the continuous Bernoulli family: `log(expm1(x)/x)`, 0 at 0.
#[track_caller]
pub(super) fn continuous_log_partition(x: &Tensor) -> Tensor {
    let (near, small, size) = near_zero(x);
    let series = COTH.iter().enumerate().map(|(n, c)| c / (2 * n + 2) as f64);
    let square = small.pow(2);
    let far = x.max(0.0) + size.log1mexp() - size.log();
    where_(&near, 0.5 * &small + &square * polynomial(&square, series), far)
}
/// Its mean: `1/(1 − e⁻ˣ) − 1/x`, ½ at 0.
#[track_caller]
pub(super) fn continuous_mean(x: &Tensor) -> Tensor {
    let (near, small, _) = near_zero(x);
    let series = 0.5 + &small * polynomial(&small.pow(2), COTH.into_iter());
    where_(&near, series, -(-x).recip_expm1() - x.recip())
}
/// Its variance: `1/x² − 1/(4·sinh²(x/2))`, 1/12 at 0.
#[track_caller]
pub(super) fn continuous_variance(x: &Tensor) -> Tensor {
    let (near, small, size) = near_zero(x);
    let series = COTH.iter().enumerate().map(|(n, c)| c * (2 * n + 1) as f64);
    let half = (-0.5 * &size).exp() / -(-&size).expm1();
    where_(&near, polynomial(&small.pow(2), series), size.pow(2).recip() - half.pow(2))
}

/// Coefficients of `(atanh(v)/v − 1)/v² = Σ v²ⁿ/(2n + 3)`; the first one left out is below 1e-17 of the sum at `v = 0.1`.
const ATANH: [f64; 8] =
    [1.0 / 3.0, 1.0 / 5.0, 1.0 / 7.0, 1.0 / 9.0, 1.0 / 11.0, 1.0 / 13.0, 1.0 / 15.0, 1.0 / 17.0];

/// `atanh(v) − v` for `|v| ≤ 0.1`.
#[track_caller]
fn atanh_rest(v: &Tensor) -> Tensor {
    let square = v.pow(2);
    v * &square * polynomial(&square, ATANH.into_iter())
}

/// Whether two numbers are so near that deviances are computed by series in `v = (y − μ)/(y + μ)`, below 0.1; and `v`. Where the first
/// is 0, which `some` knows exactly, they are not.
#[track_caller]
fn nearness(y: &Tensor, mean: &Tensor, some: &Tensor) -> (Tensor, Tensor) {
    let (difference, sum) = (y - mean, y + mean);
    (some.and(difference.abs().lt(0.1 * &sum)), difference / sum)
}

/// `y·log(y/μ) − (y − μ)`, which is `μ` where `some` does not hold, which says that `y ≠ 0`: a `y` that is itself a difference may be
/// 0 by rounding.
#[track_caller]
pub(super) fn count_divergence(y: &Tensor, mean: &Tensor, some: &Tensor) -> Tensor {
    let (near, v) = nearness(y, mean, some);
    let difference = y - mean;
    let far = where_(some, y * (y / mean).log(), 0.0) - &difference;
    where_(&near, difference * &v + 2.0 * y * atanh_rest(&v), far)
}

/// `(y − μ)/μ − log(y/μ)`.
#[track_caller]
pub(super) fn ratio_divergence(y: &Tensor, mean: &Tensor) -> Tensor {
    let (near, v) = nearness(y, mean, &y.ne(0.0));
    let relative = (y - mean) / mean;
    where_(&near, &relative * &v - 2.0 * atanh_rest(&v), &relative - (y / mean).log())
}

/// `y·log(y·(μ + r)/(μ·(y + r))) − r·log((y + r)/(μ + r))`.
#[track_caller]
pub(super) fn overdispersed_divergence(y: &Tensor, mean: &Tensor, r: f64) -> Tensor {
    let (near, _) = nearness(y, mean, &y.ne(0.0));
    let difference = y - mean;
    let above = r * &difference / (2.0 * y * mean + r * (y + mean));
    let below = &difference / (y + mean + 2.0 * r);
    let rest = y * atanh_rest(&above) - r * atanh_rest(&below);
    let close = 2.0 * (&above * &below * (y + r) + rest);
    let (up, down) = (y + r, mean + r);
    let hit = y * log_ratio(&(r * &difference / (mean * &up)), &(y / mean * &down / &up));
    let rest = r * log_ratio(&(&difference / &down), &(&up / &down));
    where_(&near, close, where_(&y.ne(0.0), hit, 0.0) - rest)
}

/// `log(ratio)` where `ratio = 1 + excess`, and each is known in all its digits.
#[track_caller]
pub(super) fn log_ratio(excess: &Tensor, ratio: &Tensor) -> Tensor {
    where_(&excess.abs().lt(0.5), excess.log1p(), ratio.log())
}

/// `y^a/(a·b) − y·μ^b/b + μ^a/a` with `a = 2 − p` and `b = 1 − p` for `1 < p < 2`, in forms that have their digits for `y` near `μ` and
/// for powers near 1 and 2.
#[track_caller]
pub(super) fn power_divergence(y: &Tensor, mean: &Tensor, power: f64) -> Tensor {
    let (a, b) = (2.0 - power, 1.0 - power);
    let (near, v) = nearness(y, mean, &y.ne(0.0));
    let small = near.select(&v, 0.0);
    // μ^a·Σ (1 + a + … + a^(n − 2))·dⁿ/n! with d = log(y/μ).
    let d = 2.0 * (&small + atanh_rest(&small));
    let (mut sum, mut top, mut factorial) = (0.0, 1.0, 1.0);
    let series: Vec<f64> = (2..15)
        .map(|n| {
            sum += top;
            top *= a;
            factorial *= f64::from(n);
            sum / factorial
        })
        .collect();
    let close = mean.pow(a) * d.pow(2) * polynomial(&d, series.into_iter());
    let is_zero = y.eq(0.0);
    let target = is_zero.select(1.0, y);
    let d = (&target / mean).log();
    let slope = mean.pow(b) * (y - mean);
    let far = match power < 1.5 {
        true => mean.pow(b) * (y * ((b * &d).expm1() / b) - (y - mean)) / a,
        false => (target.pow(a) * (-(-a * &d).expm1()) / a - slope) / b,
    };
    is_zero.select(mean.pow(a) / a, where_(&near, close, far))
}

/// `log Γ(r + y) − log Γ(r)` for `y ≥ 0`: for large `r` without the difference of two large numbers, by Stirling's series.
#[track_caller]
pub(super) fn log_rising(r: f64, y: &Tensor) -> Tensor {
    if r < 16.0 {
        return (y + r).lgamma() - Tensor::new(r).lgamma();
    }
    const STIRLING: [f64; 6] =
        [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0];
    let rest = |t: &Tensor| t * polynomial(&t.pow(2), STIRLING.into_iter());
    let sum = y + r;
    let change = rest(&sum.recip()) - rest(&Tensor::new(1.0 / r));
    y * (sum.log() - 1.0) + (r - 0.5) * (y / r).log1p() + change
}
