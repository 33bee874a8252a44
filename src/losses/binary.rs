//! Losses of yes and no, from logits or probabilities.

use std::panic::Location;

use cotangent_tensor::Tensor;

use super::{At, Reduction, build, hyperparameter, invalid};

/// Binary cross entropy with logits: `y·softplus(−x) + (1 − y)·softplus(x)` for targets `0 ≤ y ≤ 1`.
///
/// Derivative: `(1 − y)·σ(x) − y·σ(−x)`: both terms keep their relative accuracy, `σ(x) − y` would not. Finite for every
/// finite logit. Error: that of `softplus` and 3 roundings.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (x, y) = (Tensor::new([1e9, 1e9, 0.0]), Tensor::new([0.0, 1.0, 1.0]));
/// let loss = losses::bce_with_logits(&x, &y, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [1e9, 0.0, 2f64.ln()]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn bce_with_logits(logits: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    binary(Location::caller(), "bce_with_logits", logits, target, reduction, || {
        target * (-logits).softplus() + (1.0 - target) * logits.softplus()
    })
}

/// Binary cross entropy with logits and weighted positives: `w·y·softplus(−x) + (1 − y)·softplus(x)` for targets `0 ≤ y ≤ 1` and
/// weights `w`, one per label or for all.
///
/// Derivative: `(1 − y)·σ(x) − w·y·σ(−x)`. Domain: `w ≥ 0`. The mean divides by the number of elements. Error: that of `softplus`
/// and 4 roundings. Source: King & Zeng, Political Analysis 9 (2001).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (x, y, w) = (Tensor::new([0.0, 0.0]), Tensor::new([1.0, 0.0]), Tensor::new(3.0));
/// let loss = losses::bce_with_pos_weight(&x, &y, &w, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [3.0 * 2f64.ln(), 2f64.ln()]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn bce_with_pos_weight(
    logits: &Tensor,
    target: &Tensor,
    pos_weight: &Tensor,
    reduction: Reduction,
) -> Tensor {
    let operands = [("logits", logits), ("target", target), ("pos_weight", pos_weight)];
    build(Location::caller(), "bce_with_pos_weight", &operands, reduction, || {
        pos_weight * target * (-logits).softplus() + (1.0 - target) * logits.softplus()
    })
}

/// Binary cross entropy of probabilities: `−y·log p − (1 − y)·log(1 − p)` for targets `0 ≤ y ≤ 1`, where `0·log 0 = 0`.
///
/// Derivative: `(1 − y)/(1 − p) − y/p`. Domain: `0 ≤ p ≤ 1`; infinite where a probability of 0 happens. For probabilities that are
/// given as such: those of `σ(x)` have lost the digits of `1 − σ(x)`, which [`bce_with_logits`] keeps. Error: that of `log` or
/// `log1p` and 3 roundings; the logarithm of `1 − p` is taken as `log1p(−p)` below `p = ½`, where the difference would lose digits.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (p, y) = (Tensor::new([0.5, 1.0, 0.0, 1.0]), Tensor::new([1.0, 1.0, 0.0, 0.0]));
/// let loss = losses::bce(&p, &y, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [2f64.ln(), 0.0, 0.0, f64::INFINITY]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn bce(probability: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    let operands = [("probability", probability), ("target", target)];
    build(Location::caller(), "bce", &operands, reduction, || {
        let (other, rest) = (1.0 - target, 1.0 - probability);
        let of_rest = probability.lt(0.5).select(&other * (-probability).log1p(), share(&other, &rest));
        -(share(target, probability) + of_rest)
    })
}

/// `y·log p`, which is 0 where both are 0. Beside `p = 0` it has all derivatives of the product, also at `y = 0`.
fn share(y: &Tensor, p: &Tensor) -> Tensor {
    p.eq(0.0).select(y.xlogy(p), y * p.log())
}

/// Focal loss: `σ(−x)^γ·softplus(−x)` for targets 1, mirrored for targets 0, weighted by `y` and `1 − y` between.
///
/// Derivative for `y = 1`: `−σ(−x)^γ·(γ·σ(x)·softplus(−x) + σ(−x))`. Domain: finite `γ ≥ 0`. With `γ = 0` it is
/// [`bce_with_logits`]. Computed with `exp(−γ·softplus(x))` for the power, so that it never is `0^γ`. Error: that of `softplus`,
/// once more for each unit of `γ·softplus(x)`, that of `exp` and 5 roundings. Source: Lin et al., ICCV (2017).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::focal(&Tensor::new(0.0), &Tensor::new(1.0), 0.0, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 2f64.ln());
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn focal(logits: &Tensor, target: &Tensor, gamma: f64, reduction: Reduction) -> Tensor {
    let (at, name) = (Location::caller(), "focal");
    let holds = gamma >= 0.0 && gamma.is_finite();
    if let Err(error) = hyperparameter(name, "gamma", gamma, "a finite number from 0", holds) {
        return invalid(at, error);
    }
    binary(at, name, logits, target, reduction, || {
        let (miss, hit) = (logits.softplus(), (-logits).softplus());
        target * (-gamma * &miss).exp() * &hit + (1.0 - target) * (-gamma * &hit).exp() * &miss
    })
}

fn binary(
    at: At,
    name: &str,
    logits: &Tensor,
    target: &Tensor,
    reduction: Reduction,
    loss: impl FnOnce() -> Tensor,
) -> Tensor {
    build(at, name, &[("logits", logits), ("target", target)], reduction, loss)
}
