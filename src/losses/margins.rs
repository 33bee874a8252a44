//! Losses of scores, which have margins to classes.

use std::panic::Location;

use cotangent_tensor::{Code, Detail, Error, Tensor};

use super::{Reduction, build, build_with, checked, class_labels, hyperparameter};

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

/// Perceptron loss `max(0, −y·s)` for scores `s` and targets `y = ±1`: a hinge without a margin.
///
/// Derivative in the score: `−y` where positive, 0 where negative, `−y/2` at `s = 0`. Error: one rounding. Source:
/// Rosenblatt, Psychological Review 65 (1958).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::perceptron(&Tensor::new([2.0, -0.5]), &Tensor::new([1.0, 1.0]), Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [0.0, 0.5]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn perceptron(score: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    build(Location::caller(), "perceptron", &[("score", score), ("target", target)], reduction, || {
        (-(target * score)).max(0.0)
    })
}

/// Ranking loss `max(0, m − y·(a − b))` of two scores: with `y = 1` the first should be larger by the margin `m`, with `y = −1`
/// the second.
///
/// Derivative in `a`: `−y` where positive, 0 where negative, `−y/2` at the kink; in `b` the opposite. Domain: `m` finite. Error: 3
/// roundings. Source: Herbrich, Graepel & Obermayer, Advances in Large Margin Classifiers (2000).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (a, b, y) = (Tensor::new([2.0, 2.0]), Tensor::new([1.0, 1.0]), Tensor::new([1.0, -1.0]));
/// let loss = losses::margin_ranking(&a, &b, &y, 0.5, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [0.0, 1.5]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn margin_ranking(a: &Tensor, b: &Tensor, target: &Tensor, margin: f64, reduction: Reduction) -> Tensor {
    let operands = [("a", a), ("b", b), ("target", target)];
    let domain = ("margin", margin, "a finite number", margin.is_finite());
    build_with((Location::caller(), "margin_ranking"), operands, domain, reduction, || {
        (margin - target * (a - b)).max(0.0)
    })
}

/// Multi-class hinge `Σ_{j ≠ y} max(0, m − s_y + s_j)^p / K` of scores `[…, classes]` against integer labels `[…]`, per row.
///
/// Derivative in a score `s_j` beside the label, for `p = 1`: `1/K` where its term is positive, `1/(2K)` at the kink, else 0; for
/// `p = 2`: `2·max(0, m − s_y + s_j)/K`. At the label it is `−Σ` of the others. Domain: `m` finite, `p` 1 or 2. Labels outside the
/// classes are `E_INDEX`. Error: 3 roundings per term, `log₂ K` more. Source: Crammer & Singer, J. Mach. Learn. Res. 2 (2001).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (scores, label) = (Tensor::new([[2.0, 1.5, 3.0, 0.0]]), Tensor::new([0]));
/// let loss = losses::multi_margin(&scores, &label, 1.0, 1, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, (0.5 + 2.0) / 4.0);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn multi_margin(
    scores: &Tensor,
    labels: &Tensor,
    margin: f64,
    power: u32,
    reduction: Reduction,
) -> Tensor {
    let name = "multi_margin";
    checked(Location::caller(), || {
        hyperparameter(name, "margin", margin, "a finite number", margin.is_finite())?;
        if !matches!(power, 1 | 2) {
            let error = Error::new(Code::Hyperparameter, name, format!("power = {power} is neither 1 nor 2"));
            return Err(error.with("power", Detail::Integer(power.into())));
        }
        let (labels, classes) = class_labels(name, scores, labels)?;
        let is_label = labels.unsqueeze(-1).eq(Tensor::iota([classes], 0));
        let own = is_label.select(scores, 0.0).sum(-1).unsqueeze(-1);
        let excess = (margin - (own - scores)).max(0.0);
        let term = if power == 1 { excess } else { excess.pow(2) };
        #[expect(clippy::cast_precision_loss, reason = "counts are below 2³²")]
        Ok(reduction.apply(&(is_label.select(0.0, term).sum(-1) / classes as f64)))
    })
}
