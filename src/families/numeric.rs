//! Functions that families and links need in forms that keep their digits.

use std::f64::consts::{LN_2, TAU};

use cotangent_tensor::{Tensor, where_};

/// Below this predictor `e^z` is so small that the first terms of a series are exact in f64.
const SMALL: f64 = -12.0;

/// `log(1 − e⁻ᵗ)` for `t ≥ 0`. Source: Mächler, Accurately computing log(1 − exp(−|a|)) (2012).
#[track_caller]
pub(super) fn log1mexp(t: &Tensor) -> Tensor {
    where_(&t.lt(LN_2), (-(-t).expm1()).log(), (-(-t).exp()).log1p())
}

/// `log(1 − e^(−eᶻ))`.
#[track_caller]
pub(super) fn log1mexp_exp(z: &Tensor) -> Tensor {
    let t = z.min(SMALL).exp();
    let small = z - &t * (0.5 - &t / 24.0);
    // From e⁷ on the result is 0; an infinite exponential would make its derivative NaN.
    where_(&z.lt(SMALL), small, log1mexp(&z.clamp(SMALL, 7.0).exp()))
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
fn polynomial(t: &Tensor, coefficients: impl DoubleEndedIterator<Item = f64>) -> Tensor {
    let mut terms = coefficients.rev();
    let first = terms.next().unwrap_or_default();
    terms.fold(t * 0.0 + first, |sum, coefficient| sum * t + coefficient)
}

/// Where the series are used (their first term left out is below 1e-14 there), `x` for the series and `|x|` for the other forms:
/// neither is at a bound of its own where it is used.
#[track_caller]
fn near_zero(x: &Tensor) -> (Tensor, Tensor, Tensor) {
    (x.abs().lt(1.0), x.clamp(-2.0, 2.0), x.abs().max(0.5))
}

/// The log-partition of the continuous Bernoulli family: `log(expm1(x)/x)`, 0 at 0.
#[track_caller]
pub(super) fn continuous_log_partition(x: &Tensor) -> Tensor {
    let (near, small, size) = near_zero(x);
    let series = COTH.iter().enumerate().map(|(n, c)| c / (2 * n + 2) as f64);
    let square = small.pow(2);
    let far = x.max(0.0) + log1mexp(&size) - size.log();
    where_(&near, 0.5 * &small + &square * polynomial(&square, series), far)
}
/// Its mean: `1/(1 − e⁻ˣ) − 1/x`, ½ at 0.
#[track_caller]
pub(super) fn continuous_mean(x: &Tensor) -> Tensor {
    let (near, small, _) = near_zero(x);
    let series = 0.5 + &small * polynomial(&small.pow(2), COTH.into_iter());
    where_(&near, series, -(-x).expm1().recip() - x.recip())
}
/// Its variance: `1/x² − 1/(4·sinh²(x/2))`, 1/12 at 0.
#[track_caller]
pub(super) fn continuous_variance(x: &Tensor) -> Tensor {
    let (near, small, size) = near_zero(x);
    let series = COTH.iter().enumerate().map(|(n, c)| c * (2 * n + 1) as f64);
    let half = (-0.5 * &size).exp() / -(-&size).expm1();
    where_(&near, polynomial(&small.pow(2), series), size.pow(2).recip() - half.pow(2))
}
