//! Losses of the difference between prediction and target.

use std::panic::Location;

use cotangent_tensor::Tensor;

use super::{Reduction, build, build_with};

/// Squared error `d²`.
///
/// Shapes: equal, or one operand repeated to the other. Derivative: `2d`. Error: 3 roundings. `d` beyond 1.8e19
/// overflows f32.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::mse(&Tensor::new([1.0, 4.0]), &Tensor::new([2.0, 2.0]), Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 2.5);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn mse(prediction: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    build(Location::caller(), "mse", &[("prediction", prediction), ("target", target)], reduction, || {
        (prediction - target).pow(2)
    })
}

/// Weighted squared error `w · d²`. The mean divides by the number of elements, not by `Σ w`.
///
/// Derivative: `2w·d`. Error: 4 roundings.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (p, y) = (Tensor::new([1.0, 2.0, 3.0, 4.0, 5.0]), Tensor::new([1.5, 1.0, 3.0, 2.0, 6.0]));
/// let w = Tensor::new([1.0, 2.0, 1.0, 1.0, 3.0]);
/// let loss = losses::weighted_mse(&p, &y, &w, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 1.85);
///
/// let column = Tensor::ones([5, 1]);
/// let wrong = losses::weighted_mse(&column, &column, &w, Reduction::Mean);
/// assert!(wrong.error().unwrap().message().contains("would broadcast to [5, 5]"));
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn weighted_mse(prediction: &Tensor, target: &Tensor, weight: &Tensor, reduction: Reduction) -> Tensor {
    let operands = [("prediction", prediction), ("target", target), ("weight", weight)];
    build(Location::caller(), "weighted_mse", &operands, reduction, || weight * (prediction - target).pow(2))
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

/// Huber's loss divided by its threshold: `d²/(2β)` for `|d| ≤ β`, else `|d| − β/2`; computed as `(q/β)(|d| − q/2)` with
/// `q = min(|d|, β)`.
///
/// Derivative: `clamp(d/β, −1, 1)`. Domain: finite `β > 0`. Error: 7 roundings. Source: Girshick, ICCV (2015).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::smooth_l1(&Tensor::new([0.5, 3.0]), &Tensor::new([0.0, 0.0]), 2.0, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [0.0625, 2.0]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn smooth_l1(prediction: &Tensor, target: &Tensor, beta: f64, reduction: Reduction) -> Tensor {
    let operands = [("prediction", prediction), ("target", target)];
    let domain = ("beta", beta, "a finite positive number", beta > 0.0 && beta.is_finite());
    build_with((Location::caller(), "smooth_l1"), operands, domain, reduction, || {
        let size = (prediction - target).abs();
        let quadratic = size.min(beta);
        (&quadratic / beta) * (size - 0.5 * &quadratic)
    })
}

/// Smooth variant of Huber's loss: `δ²(√(1 + (d/δ)²) − 1)`, computed as `d²/(1 + √(1 + (d/δ)²))` without cancellation.
///
/// Derivative: `d/√(1 + (d/δ)²)`. Domain: finite `δ > 0`; every finite `d` with a finite `d/δ`. Error: 8 roundings.
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
        let ratio = &d / delta;
        // From here on, and long before the square overflows, the 1 under the root is lost.
        let root = ratio.abs().lt(1e9).select((1.0 + ratio.pow(2)).sqrt(), ratio.abs());
        &d * (&d / (1.0 + root))
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

/// Expectile loss `|τ − [e < 0]|·e²` with `e = target − prediction`: its minimum is the `τ`-expectile of the targets.
///
/// Derivative: `−2|τ − [e < 0]|·e`, 0 at `e = 0`. Domain: `0 < τ < 1`. Error: 4 roundings. Source: Newey & Powell,
/// Econometrica 55 (1987).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::expectile(&Tensor::new([0.0, 0.0]), &Tensor::new([2.0, -2.0]), 0.75, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [3.0, 1.0]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn expectile(prediction: &Tensor, target: &Tensor, tau: f64, reduction: Reduction) -> Tensor {
    let operands = [("prediction", prediction), ("target", target)];
    let domain = ("tau", tau, "between 0 and 1", tau > 0.0 && tau < 1.0);
    build_with((Location::caller(), "expectile"), operands, domain, reduction, || {
        let e = target - prediction;
        e.lt(0.0).select((1.0 - tau) * &e, tau * &e) * e
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
