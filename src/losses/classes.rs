//! Losses of logits against classes.

use std::panic::Location;

use cotangent_tensor::{Code, Error, Tensor};

use super::{At, Reduction, build, hyperparameter, integer_labels, invalid};

/// Cross entropy `logsumexp(x) − x[label]` of logits `[…, classes]` against integer labels `[…]`, per row.
///
/// Derivative: `softmax(x) − onehot(label)`, at the label as `−Σ` of the other probabilities. The value is accurate
/// relative to itself (also where it is tiny). Labels outside the classes are `E_INDEX`. Source: Blanchard, D. J. Higham &
/// N. J. Higham, IMA J. Numer. Anal. 41 (2021).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::cross_entropy(&Tensor::new([[0.0, 0.0], [100.0, 0.0]]), &Tensor::new([1, 0]), Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [2f64.ln(), (-100f64).exp()]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
    let at = Location::caller();
    if let Err(error) = logits.node().and_then(|_| integer_labels("cross_entropy", labels)) {
        return invalid(at, error);
    }
    reduction.apply(&logits.cross_entropy(labels))
}

/// Cross entropy with label smoothing: `(1 − α)·CE + α·mean_j(logsumexp(x) − x_j)`, per row.
///
/// Derivative: `softmax(x) − (1 − α)·onehot(label) − α/K`. Domain: `0 ≤ α < 1`. Source: Szegedy et al., CVPR (2016).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (logits, label) = (Tensor::new([[0.0, 0.0]]), Tensor::new([1]));
/// let loss = losses::label_smoothing(&logits, &label, 0.5, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 2f64.ln());
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn label_smoothing(logits: &Tensor, labels: &Tensor, smoothing: f64, reduction: Reduction) -> Tensor {
    let (at, name) = (Location::caller(), "label_smoothing");
    let checked = logits.node().and_then(|_| integer_labels(name, labels)).and_then(|()| {
        let holds = (0.0..1.0).contains(&smoothing);
        hyperparameter(name, "smoothing", smoothing, "at least 0 and below 1", holds)
    });
    if let Err(error) = checked {
        return invalid(at, error);
    }
    let others = logits.logsumexp(-1) - logits.mean(-1);
    reduction.apply(&((1.0 - smoothing) * logits.cross_entropy(labels) + smoothing * others))
}

/// Cross entropy `Σ_j q_j·(logsumexp(x) − x_j)` against a distribution `q` of the shape of the logits, per row. Classes
/// with `q_j = 0` are skipped: their logits may be −inf.
///
/// Derivative in the logits: `softmax(x)·Σq − q`. Error: that of `logsumexp`, `log₂ K` roundings more.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let logits = Tensor::new([[f64::NEG_INFINITY, 0.0, 0.0]]);
/// let loss = losses::soft_cross_entropy(&logits, &Tensor::new([[0.0, 0.5, 0.5]]), Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 2f64.ln());
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn soft_cross_entropy(logits: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    let (at, name) = (Location::caller(), "soft_cross_entropy");
    if let Err(error) = same_rows(name, logits, target) {
        return invalid(at, error);
    }
    build(at, name, &[("logits", logits), ("target", target)], reduction, || {
        target.eq(0.0).select(0.0, target * (logits.logsumexp(-1).unsqueeze(-1) - logits)).sum(-1)
    })
}

fn same_rows(name: &str, logits: &Tensor, target: &Tensor) -> Result<(), Error> {
    let (a, b) = (logits.node()?.shape, target.node()?.shape);
    if a == b && a.rank() > 0 {
        return Ok(());
    }
    let message = format!("logits {a} and target {b} must have the same shape, with the classes last");
    Err(Error::new(Code::Broadcast, name, message).shape("logits", &a).shape("target", &b))
}

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

/// Focal loss: `σ(−x)^γ·softplus(−x)` for targets 1, mirrored for targets 0, weighted by `y` and `1 − y` between.
///
/// Derivative for `y = 1`: `−σ(−x)^γ·(γ·σ(x)·softplus(−x) + σ(−x))`. Domain: finite `γ ≥ 0`. With `γ = 0` it is
/// [`bce_with_logits`]. Computed with `exp(−γ·softplus(x))` for the power, so that it never is `0^γ`. Source: Lin et al.,
/// ICCV (2017).
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
