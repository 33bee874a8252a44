//! Losses of logits against classes and distributions.

use std::f64::consts::LN_2;
use std::panic::Location;

use cotangent_tensor::{Code, DType, Error, Tensor};

use super::{
    Reduction, build, checked, hyperparameter, integer_labels, invalid, masks, not_float, on_host, outside,
};

/// Cross entropy `logsumexp(x) − x[label]` of logits `[…, classes]` against integer labels `[…]`, per row.
///
/// Derivative: `softmax(x) − onehot(label)`, at the label as `−Σ` of the other probabilities. Labels outside the classes are
/// `E_INDEX`. Error: small relative to the value, also where that is tiny. Source: Blanchard, D. J. Higham & N. J. Higham,
/// IMA J. Numer. Anal. 41 (2021).
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

/// [`cross_entropy`] with options: weights of classes, a label that is ignored, label smoothing.
///
/// Per row `(1 − α)·w_y·(logsumexp(x) − x_y) + (α/K)·Σ_j w_j·(logsumexp(x) − x_j)`, 0 where the label is ignored: the logits of such a row
/// change neither value nor gradient, even if they hold NaN. The mean divides by `Σ w_y` over the rows that count, their number
/// without weights; of none it is 0.
///
/// Derivative: `((1 − α)·w_y + (α/K)·Σw)·softmax(x) − (1 − α)·w_y·onehot(y) − (α/K)·w`. Domain: finite `w ≥ 0`, one per class;
/// `0 ≤ α < 1`. Labels that are neither a class nor ignored are `E_INDEX`. Error: that of [`cross_entropy`] and 4 roundings, with
/// smoothing `log₂ K` more. Source: Szegedy et al., CVPR (2016); King & Zeng, Political Analysis 9 (2001).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (logits, labels) = (Tensor::new([[0.0, 0.0], [0.0, f64::NAN], [0.0, 0.0]]), Tensor::new([0, -100, 1]));
/// let loss = losses::CrossEntropy::new().ignore_index(-100).class_weights(&Tensor::new([1.0, 3.0]));
/// let rows = loss.apply(&logits, &labels, Reduction::None);
/// let mean = loss.apply(&logits, &labels, Reduction::Mean);
/// let values = Reference::new().evaluate(&[&rows, &mean])?;
/// assert_eq!(values[0].to_f64(), [2f64.ln(), 0.0, 3.0 * 2f64.ln()]);
/// assert_eq!(values[1].scalar()?, 2f64.ln()); // divided by 1 + 3
/// # Ok::<(), cotangent::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct CrossEntropy {
    weights: Option<Tensor>,
    ignored: Option<i32>,
    smoothing: f64,
}

impl CrossEntropy {
    /// Without options: [`cross_entropy`].
    pub fn new() -> CrossEntropy {
        CrossEntropy::default()
    }
    /// One weight for each class, of shape `[classes]`.
    pub fn class_weights(mut self, weights: &Tensor) -> CrossEntropy {
        self.weights = Some(weights.clone());
        self
    }
    /// Rows with this label do not count.
    pub fn ignore_index(mut self, label: i32) -> CrossEntropy {
        self.ignored = Some(label);
        self
    }
    /// The share of the target that all classes have in common.
    pub fn smoothing(mut self, smoothing: f64) -> CrossEntropy {
        self.smoothing = smoothing;
        self
    }
    /// The loss of logits `[…, classes]` against integer labels `[…]`.
    #[track_caller]
    pub fn apply(&self, logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
        checked(Location::caller(), || self.rows(logits, labels, reduction))
    }

    fn rows(&self, logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Result<Tensor, Error> {
        let (name, alpha) = ("cross_entropy", self.smoothing);
        let logits_dtype = logits.node()?.dtype;
        if !logits_dtype.is_float() {
            return Err(not_float(name, "logits", logits_dtype));
        }
        hyperparameter(name, "smoothing", alpha, "at least 0 and below 1", (0.0..1.0).contains(&alpha))?;
        integer_labels(name, labels)?;
        // A negative number is none of U32.
        let ignored = self.ignored.filter(|&label| label >= 0 || labels.dtype() == DType::I32);
        let counted = ignored.map(|label| labels.ne(label));
        // What replaces an ignored label is a class, if there is one.
        let replaced = counted.as_ref().map_or(labels.clone(), |counted| counted.select(labels, 0));
        let mut rows = logits.cross_entropy(&replaced);
        rows.node()?;
        let classes = logits.shape().last().copied().unwrap_or(0);
        if let (Some(found), Some(ignored)) = (on_host(labels), ignored) {
            let found = found.into_iter().map(|label| if label == i64::from(ignored) { 0 } else { label });
            outside(name, &found.collect::<Vec<_>>(), classes)?;
        }
        let mut weight = None;
        if let Some(weights) = &self.weights {
            let node = weights.node()?;
            if !node.dtype.is_float() {
                return Err(not_float(name, "weights", node.dtype));
            }
            if node.shape[..] != [classes] {
                let message =
                    format!("{classes} classes need weights of shape [{classes}], not {}", node.shape);
                return Err(Error::new(Code::Broadcast, name, message).shape("weights", &node.shape));
            }
            let own = weights.gather(0, &replaced);
            rows = &own * rows;
            weight = Some(own);
        }
        if alpha > 0.0 {
            let normalizer = logits.logsumexp(-1);
            let all = match &self.weights {
                None => normalizer - logits.mean(-1),
                #[expect(clippy::cast_precision_loss, reason = "counts are below 2³²")]
                Some(weights) => (weights * (normalizer.unsqueeze(-1) - logits)).sum(-1) / classes as f64,
            };
            rows = (1.0 - alpha) * rows + alpha * all;
        }
        let weight = match (&counted, weight) {
            (None, weight) => weight,
            (Some(counted), None) => Some(counted.cast(DType::F32)),
            (Some(counted), Some(weight)) => Some(counted.select(weight, 0.0)),
        };
        if let Some(counted) = &counted {
            rows = counted.select(rows, 0.0);
        }
        Ok(match (weight, reduction) {
            (Some(weight), Reduction::Mean) => {
                let divisor = weight.sum(..);
                masks::normalized(&rows.sum(..), &divisor, &divisor)
            }
            _ => reduction.apply(&rows),
        })
    }
}

/// Cross entropy with label smoothing: `(1 − α)·CE + α·mean_j(logsumexp(x) − x_j)`, per row.
///
/// Derivative: `softmax(x) − (1 − α)·onehot(label) − α/K`. Domain: `0 ≤ α < 1`. Error: that of `logsumexp`, `log₂ K` roundings
/// more. Source: Szegedy et al., CVPR (2016).
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
    if let Err(error) = distribution(name, logits, target) {
        return invalid(at, error);
    }
    build(at, name, &[("logits", logits), ("target", target)], reduction, || {
        target.eq(0.0).select(0.0, target * (logits.logsumexp(-1).unsqueeze(-1) - logits)).sum(-1)
    })
}

/// Relative entropy `KL(q‖p) = Σ_j q_j·(ln q_j − log_softmax(x)_j)` of a distribution `q` of the shape of the logits to that of the
/// logits, per row. Classes with `q_j = 0` are skipped: their logits may be −inf.
///
/// Derivative in the logits: `softmax(x)·Σq − q`; in `q_j`: `ln q_j + 1 − log_softmax(x)_j`, 0 at `q_j = 0`. Domain: `q ≥ 0`; infinite
/// where a class has no probability that `q` gives some. Error: that of `logsumexp`, `log₂ K` roundings more of the largest
/// term. Source: Kullback & Leibler, Ann. Math. Statist. 22 (1951).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let logits = Tensor::new([[0.0, 0.0, f64::NEG_INFINITY]]);
/// let loss = losses::kl_divergence(&logits, &Tensor::new([[1.0, 0.0, 0.0]]), Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 2f64.ln());
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn kl_divergence(logits: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    let (at, name) = (Location::caller(), "kl_divergence");
    if let Err(error) = distribution(name, logits, target) {
        return invalid(at, error);
    }
    build(at, name, &[("logits", logits), ("target", target)], reduction, || {
        let surprise = logits.logsumexp(-1).unsqueeze(-1) - logits;
        target.eq(0.0).select(0.0, target.xlogy(target) + target * surprise).sum(-1)
    })
}

/// Jensen–Shannon divergence `½KL(p‖m) + ½KL(q‖m)` with `m = (p + q)/2` of `p = softmax(x)` and a distribution `q` of the shape of
/// the logits, per row; between 0 and `ln 2`.
///
/// Derivative in the logits: `½p_j·(ln(p_j/m_j) − Σ_k p_k ln(p_k/m_k))`; in `q_j`: `½ ln(q_j/m_j)`, 0 at `q_j = 0`. Domain: `q ≥ 0` with the
/// sum 1. Computed as `½Σ(p + q)·h(ln q − ln p)`, where `h(δ)` is `ln 2` less the entropy of `σ(δ)` and never negative: it keeps its
/// digits where `p` is near `q`. Error: about 20 ULP and `log₂ K` roundings. Source: Lin, IEEE Trans. Inf. Theory 37 (1991).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let logits = Tensor::new([[0.0, f64::NEG_INFINITY], [1.0, 1.0]]);
/// let loss = losses::jensen_shannon(&logits, &Tensor::new([[0.0, 1.0], [0.5, 0.5]]), Reduction::None);
/// let values = Reference::new().evaluate(&[&loss])?[0].to_f64();
/// assert_eq!(values[0], 2f64.ln()); // nothing in common
/// assert!(values[1] < 1e-31); // the same, but for the rounding of logarithms, squared
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn jensen_shannon(logits: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    let (at, name) = (Location::caller(), "jensen_shannon");
    if let Err(error) = distribution(name, logits, target) {
        return invalid(at, error);
    }
    build(at, name, &[("logits", logits), ("target", target)], reduction, || {
        let log_p = logits.log_softmax(-1);
        let (p, gap) = (log_p.exp(), target.log() - &log_p);
        let (half, size) = (0.5 * &gap, gap.abs());
        let near = &half * half.tanh() - (2.0 * (0.5 * &half).sinh().pow(2)).log1p();
        let far = LN_2 - (-&size).softplus() - &size * (-&size).sigmoid();
        // Where one of the two is 0, the gap is infinite and the entropy 0.
        let apart = p.eq(0.0).or(target.eq(0.0));
        let information = apart.select(LN_2, size.lt(2.0).select(near, far));
        0.5 * ((p + target) * information).sum(-1)
    })
}

fn distribution(name: &str, logits: &Tensor, target: &Tensor) -> Result<(), Error> {
    let (a, b) = (logits.node()?.shape, target.node()?.shape);
    if a == b && a.rank() > 0 {
        return Ok(());
    }
    let message = format!("logits {a} and target {b} must have the same shape, with the classes last");
    Err(Error::new(Code::Broadcast, name, message).shape("logits", &a).shape("target", &b))
}
