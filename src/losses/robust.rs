//! Losses of a difference or a margin that grow slower than its square.

use std::panic::Location;

use cotangent_tensor::Tensor;

use super::{At, Reduction, build, hyperparameter, invalid};

/// As [`build`], for a loss of two operands with a hyper-parameter that must satisfy `holds`.
fn build_with(
    (at, name): (At, &str),
    operands: [(&str, &Tensor); 2],
    (parameter, value, domain, holds): (&'static str, f64, &str, bool),
    reduction: Reduction,
    loss: impl FnOnce() -> Tensor,
) -> Tensor {
    match hyperparameter(name, parameter, value, domain, holds) {
        Err(error) => invalid(at, error),
        Ok(()) => build(at, name, &operands, reduction, loss),
    }
}

/// Absolute error `|d|`.
///
/// Derivative: `sign d`, 0 at `d = 0`. Error: one rounding.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::mae(&Tensor::new([1.0, 4.0]), &Tensor::new([2.0, 2.0]), Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 1.5);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn mae(prediction: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    build(Location::caller(), "mae", &[("prediction", prediction), ("target", target)], reduction, || {
        (prediction - target).abs()
    })
}

/// Huber's loss: `d²/2` for `|d| ≤ δ`, else `δ(|d| − δ/2)`; computed as `q(|d| − q/2)` with `q = min(|d|, δ)`.
///
/// Derivative: `clamp(d, −δ, δ)`. Domain: finite `δ > 0`. Error: 4 roundings. Source: Huber, Ann. Math. Statist. 35 (1964).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::huber(&Tensor::new([0.5, 3.0]), &Tensor::new([0.0, 0.0]), 1.0, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [0.125, 2.5]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn huber(prediction: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Tensor {
    let operands = [("prediction", prediction), ("target", target)];
    let domain = ("delta", delta, "a finite positive number", delta > 0.0 && delta.is_finite());
    build_with((Location::caller(), "huber"), operands, domain, reduction, || {
        let size = (prediction - target).abs();
        let quadratic = size.min(delta);
        &quadratic * (size - 0.5 * &quadratic)
    })
}

/// Smooth variant of Huber's loss: `δ²(√(1 + (d/δ)²) − 1)`, computed as `d²/(1 + √(1 + (d/δ)²))` without cancellation.
///
/// Derivative: `d/√(1 + (d/δ)²)`. Domain: finite `δ > 0`; `|d/δ|` and `|d|` up to 1.8e19 in f32. Error: 8 roundings.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::pseudo_huber(&Tensor::new(0.75), &Tensor::new(0.0), 1.0, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 0.25);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn pseudo_huber(prediction: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Tensor {
    let operands = [("prediction", prediction), ("target", target)];
    let domain = ("delta", delta, "a finite positive number", delta > 0.0 && delta.is_finite());
    build_with((Location::caller(), "pseudo_huber"), operands, domain, reduction, || {
        let d = prediction - target;
        d.pow(2) / (1.0 + (1.0 + (&d / delta).pow(2)).sqrt())
    })
}

/// `log cosh d`: as `log1p(2 sinh²(d/2))` for `|d| < 1`, else as `|d| + log1p(exp(−2|d|)) − log 2`.
///
/// Derivative: `tanh d`. Error: about 10 ULP everywhere; the usual form loses all digits near 0 and overflows at 89.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::log_cosh(&Tensor::new([0.0, 1000.0]), &Tensor::new([0.0, 0.0]), Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [0.0, 1000.0 - 2f64.ln()]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn log_cosh(prediction: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    build(
        Location::caller(),
        "log_cosh",
        &[("prediction", prediction), ("target", target)],
        reduction,
        || {
            let d = prediction - target;
            let size = d.abs();
            let near = (2.0 * (0.5 * &d).sinh().pow(2)).log1p();
            let far = &size + (-2.0 * &size).exp().log1p() - std::f64::consts::LN_2;
            size.lt(1.0).select(near, far)
        },
    )
}

/// Quantile loss `max(τ·e, (τ − 1)·e)` with `e = target − prediction`: its minimum is the `τ`-quantile of the targets.
///
/// Derivative: `−τ` where the target is above, `1 − τ` where it is below, their mean at 0. Domain: `0 < τ < 1`. Error:
/// 2 roundings. Source: Koenker & Bassett, Econometrica 46 (1978).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::quantile(&Tensor::new([0.0, 0.0]), &Tensor::new([2.0, -2.0]), 0.75, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [1.5, 0.5]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn quantile(prediction: &Tensor, target: &Tensor, tau: f64, reduction: Reduction) -> Tensor {
    let operands = [("prediction", prediction), ("target", target)];
    let domain = ("tau", tau, "between 0 and 1", tau > 0.0 && tau < 1.0);
    build_with((Location::caller(), "quantile"), operands, domain, reduction, || {
        let e = target - prediction;
        (tau * &e).max((tau - 1.0) * &e)
    })
}

/// Hinge with margin: `max(0, 1 − y·s + m)` for scores `s` and targets `y = ±1`.
///
/// Derivative in the score: `−y` where positive, 0 where negative, `−y/2` at the kink. Domain: `m` finite. Error: 3
/// roundings. Source: Cortes & Vapnik, Machine Learning 20 (1995).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (score, y) = (Tensor::new([2.0, 1.0, 1.5]), Tensor::new([1.0, 1.0, 1.0]));
/// let loss = losses::hinge(&score, &y, 0.5, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [0.0, 0.5, 0.0]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn hinge(score: &Tensor, target: &Tensor, margin: f64, reduction: Reduction) -> Tensor {
    let operands = [("score", score), ("target", target)];
    let domain = ("margin", margin, "a finite number", margin.is_finite());
    build_with((Location::caller(), "hinge"), operands, domain, reduction, || {
        (1.0 - target * score + margin).max(0.0)
    })
}

/// Squared hinge `max(0, 1 − y·s)²` for scores `s` and targets `y = ±1`.
///
/// Derivative in the score: `−2y·max(0, 1 − y·s)`, without a kink. Error: 5 roundings.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::squared_hinge(&Tensor::new([2.0, -1.0]), &Tensor::new([1.0, 1.0]), Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [0.0, 4.0]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn squared_hinge(score: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    build(Location::caller(), "squared_hinge", &[("score", score), ("target", target)], reduction, || {
        (1.0 - target * score).max(0.0).pow(2)
    })
}

/// Sigmoid-weighted absolute error `σ(|d|)·|d|`.
///
/// Derivative: `sign(d)·σ(|d|)·(1 + |d|·σ(−|d|))`, 0 at `d = 0`. Error: that of `sigmoid` and 2 roundings.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::sigmoid_l1(&Tensor::new([0.0, 1000.0]), &Tensor::new([0.0, 0.0]), Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [0.0, 1000.0]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn sigmoid_l1(prediction: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    build(
        Location::caller(),
        "sigmoid_l1",
        &[("prediction", prediction), ("target", target)],
        reduction,
        || {
            let size = (prediction - target).abs();
            &size * size.sigmoid()
        },
    )
}
