//! Losses of distances and angles between embeddings.

use std::panic::Location;

use cotangent_tensor::{Code, DType, Error, Tensor};

use super::{Reduction, build, checked, hyperparameter, same_rows};

/// Rows of length 1. A row of zeros has no direction: it stays as it is and passes nothing back.
fn unit(x: &Tensor) -> Tensor {
    let norm = x.norm(-1).unsqueeze(-1);
    norm.eq(0.0).select(0.0, x / &norm)
}

/// Cosine loss of pairs of rows `[…, features]`: `1 − cos` for targets `y = 1`, `max(0, cos − m)` for `y = −1`, per row.
///
/// Derivative by `a`: `∓(b̂ − cos·â)/‖a‖` with `â = a/‖a‖`, half of it at the kink. A row of zeros has the cosine 0 and the derivative 0.
/// Domain: `−1 ≤ m < 1`. Computed from `½‖â − b̂‖²`, which keeps its digits at small angles, with norms that do not overflow. Error:
/// `log₂` of the number of features and 12 roundings. Source: Hadsell, Chopra & LeCun, CVPR (2006), with the cosine as similarity.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (a, b) = (Tensor::new([[3.0, 0.0], [3.0, 0.0]]), Tensor::new([[0.0, 2.0], [1.0, 0.0]]));
/// let loss = losses::cosine_embedding(&a, &b, &Tensor::new([1.0, -1.0]), 0.25, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [1.0, 0.75]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn cosine_embedding(
    a: &Tensor,
    b: &Tensor,
    target: &Tensor,
    margin: f64,
    reduction: Reduction,
) -> Tensor {
    let (at, name) = (Location::caller(), "cosine_embedding");
    checked(at, || {
        let holds = (-1.0..1.0).contains(&margin);
        hyperparameter(name, "margin", margin, "at least −1 and below 1", holds)?;
        same_rows(name, &[("a", a), ("b", b)])?;
        let (u, v) = (unit(a), unit(b));
        let no_direction = a.norm(-1).eq(0.0).or(b.norm(-1).eq(0.0));
        let away = no_direction.select(1.0, 0.5 * (u - v).pow(2).sum(-1));
        Ok(build(at, name, &[("pairs", &away), ("target", target)], reduction, || {
            let near = (1.0 - margin - &away).max(0.0);
            0.5 * (1.0 + target) * &away + 0.5 * (1.0 - target) * near
        }))
    })
}

/// Contrastive loss of pairs of rows `[…, features]` at the distance `D`: `½D²` for targets `y = 1` (similar), `½ max(0, m − D)²` for
/// `y = 0`, weighted by `y` and `1 − y` between, per row.
///
/// Derivative by `a`, with `d = a − b`: `y·d − (1 − y)·max(0, m − D)·d/D`, the second term 0 at `D = 0`. Domain: finite `m > 0`. Error:
/// `log₂` of the number of features and 8 roundings. Source: Hadsell, Chopra & LeCun, CVPR (2006).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (a, b) = (Tensor::new([[3.0, 4.0], [3.0, 4.0]]), Tensor::new([[0.0, 0.0], [0.0, 0.0]]));
/// let loss = losses::contrastive(&a, &b, &Tensor::new([1.0, 0.0]), 6.0, Reduction::None);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].to_f64(), [12.5, 0.5]);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn contrastive(a: &Tensor, b: &Tensor, target: &Tensor, margin: f64, reduction: Reduction) -> Tensor {
    let (at, name) = (Location::caller(), "contrastive");
    checked(at, || {
        let holds = margin > 0.0 && margin.is_finite();
        hyperparameter(name, "margin", margin, "a finite positive number", holds)?;
        same_rows(name, &[("a", a), ("b", b)])?;
        let difference = a - b;
        let distance = difference.norm(-1);
        Ok(build(at, name, &[("pairs", &distance), ("target", target)], reduction, || {
            // The target stands before the square, which may overflow where the pair is not similar.
            let target = target.broadcast_to(*distance.shape());
            let similar = (target.unsqueeze(-1) * &difference * &difference).sum(-1);
            0.5 * (similar + (1.0 - target) * (margin - &distance).max(0.0).pow(2))
        }))
    })
}

/// Triplet loss `max(0, ‖a − p‖ − ‖a − n‖ + m)` of rows `[…, features]`: an anchor, one of its kind, one of another, per row.
///
/// Derivative where positive: `(a − p)/‖a − p‖ − (a − n)/‖a − n‖` by the anchor, half of it at the kink; the direction of a distance of 0
/// is 0. Domain: finite `m ≥ 0`. Error: `log₂` of the number of features and 6 roundings of the larger distance. Source: Schroff,
/// Kalenichenko & Philbin, CVPR (2015).
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (a, p, n) = (Tensor::new([[0.0, 0.0]]), Tensor::new([[3.0, 4.0]]), Tensor::new([[0.0, 4.5]]));
/// let loss = losses::triplet(&a, &p, &n, 1.0, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 1.5);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn triplet(
    anchor: &Tensor,
    positive: &Tensor,
    negative: &Tensor,
    margin: f64,
    reduction: Reduction,
) -> Tensor {
    let name = "triplet";
    checked(Location::caller(), || {
        let holds = margin >= 0.0 && margin.is_finite();
        hyperparameter(name, "margin", margin, "a finite number from 0", holds)?;
        same_rows(name, &[("anchor", anchor), ("positive", positive), ("negative", negative)])?;
        let (near, far) = ((anchor - positive).norm(-1), (anchor - negative).norm(-1));
        Ok(reduction.apply(&(near - far + margin).max(0.0)))
    })
}

/// InfoNCE: cross entropy of the cosines of queries `[n, features]` to keys `[n, features]` over a temperature `τ`, where row `i`
/// of the keys belongs to row `i` of the queries, per row.
///
/// Derivative by the cosines: `(softmax − onehot)/τ`, and through the normalization of the rows; a row of zeros has cosines 0 and
/// the derivative 0. Domain: finite `τ > 0`. Error: that of [`cross_entropy`](super::cross_entropy) and of a product of matrices, over
/// `τ`. Source: van den Oord, Li & Vinyals, arXiv:1807.03748 (2018), eq. 4.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (queries, keys) = (Tensor::new([[1.0, 0.0], [0.0, 2.0]]), Tensor::new([[3.0, 0.0], [0.0, 1.0]]));
/// let loss = losses::info_nce(&queries, &keys, 0.5, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, (-2f64).exp().ln_1p());
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn info_nce(queries: &Tensor, keys: &Tensor, temperature: f64, reduction: Reduction) -> Tensor {
    let name = "info_nce";
    checked(Location::caller(), || {
        let rows = pairs(name, ("queries", queries), ("keys", keys), temperature)?;
        let similar = unit(queries).matmul(&unit(keys).transpose()) / temperature;
        Ok(reduction.apply(&similar.cross_entropy(&Tensor::iota([rows], 0))))
    })
}

/// NT-Xent: cross entropy of the cosines of each of `2n` rows to all others over a temperature `τ`, where row `i` of `a` and row `i`
/// of `b`, both `[n, features]`, belong together; `2n` values, those of `a` first.
///
/// Derivative by the cosines: `(softmax − onehot)/τ`, and through the normalization of the rows; a row of zeros has cosines 0 and
/// the derivative 0. Domain: finite `τ > 0`. Error: that of [`cross_entropy`](super::cross_entropy) and of a product of matrices, over
/// `τ`. Source: Chen, Kornblith, Norouzi & Hinton, ICML (2020), eq. 1.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (a, b) = (Tensor::new([[1.0, 0.0], [0.0, 2.0]]), Tensor::new([[3.0, 0.0], [0.0, 1.0]]));
/// let loss = losses::nt_xent(&a, &b, 0.5, Reduction::Mean);
/// let value = Reference::new().evaluate(&[&loss])?[0].scalar()?;
/// assert!((value - (2.0 * (-2f64).exp()).ln_1p()).abs() < 1e-15);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn nt_xent(a: &Tensor, b: &Tensor, temperature: f64, reduction: Reduction) -> Tensor {
    let name = "nt_xent";
    checked(Location::caller(), || {
        let rows = pairs(name, ("a", a), ("b", b), temperature)?;
        let all = unit(&Tensor::concat(&[a, b], 0));
        let square = [2 * rows, 2 * rows];
        let itself = Tensor::iota(square, 0).eq(Tensor::iota(square, 1));
        let similar = itself.select(f64::NEG_INFINITY, all.matmul(&all.transpose()) / temperature);
        let row = Tensor::iota([2 * rows], 0);
        let Ok(half) = i32::try_from(rows) else {
            return Err(Error::new(Code::TooLarge, name, format!("{rows} rows")));
        };
        let other = row.lt(half).select(&row + half, &row - half);
        Ok(reduction.apply(&similar.cross_entropy(&other.cast(DType::I32))))
    })
}

/// The number of rows of two matrices of one shape.
fn pairs(
    name: &str,
    a: (&'static str, &Tensor),
    b: (&str, &Tensor),
    temperature: f64,
) -> Result<usize, Error> {
    let holds = temperature > 0.0 && temperature.is_finite();
    hyperparameter(name, "temperature", temperature, "a finite positive number", holds)?;
    let shape = same_rows(name, &[a, b])?;
    match shape[..] {
        [rows, _] => Ok(rows),
        _ => {
            let message = format!("{} {shape} is not a matrix of rows and features", a.0);
            Err(Error::new(Code::Broadcast, name, message).shape(a.0, &shape))
        }
    }
}
