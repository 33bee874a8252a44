//! Losses: plain tensor expressions in their stable forms, one value per element or row, with a [`Reduction`].
//!
//! A loss knows no derivative: automatic differentiation of the forms chosen here *is* the stable gradient, and the
//! planner fuses value and gradient into one kernel. [`ALL`] lists every loss with sample inputs; tests of gradients iterate
//! over it, and `docs/losses.md` in the repository shows each with its derivative.
//!
//! [`weighted`] takes weights of samples, [`masked`] leaves samples out, whatever they hold. A mean that divides by the number of
//! samples, not by the sum of their weights, is `(losses::mae(&p, &y, Reduction::None) * w).mean(..)`.
//!
//! Every loss refuses *mutual* broadcasting: a prediction of shape `[n, 1]` against a target or weight of shape `[n]`
//! would silently become `[n, n]` numbers. One operand may be repeated to the shape of another (a scalar, missing leading
//! axes, axes of length 1). The error is `E_BROADCAST`. Hyper-parameters outside their domain are `E_HYPERPARAMETER`.
//! Both make the result an invalid tensor.
//!
//! Below, `d = prediction − target`; at kinks the derivative is the mean of both sides.

mod binary;
mod classes;
mod embeddings;
mod likelihoods;
mod margins;
mod masks;
mod overlap;
mod regression;
mod sequences;
mod table;
mod vocabulary;

use std::panic::Location;

pub use binary::{bce, bce_with_logits, bce_with_pos_weight, focal};
pub use classes::{
    CrossEntropy, cross_entropy, jensen_shannon, kl_divergence, label_smoothing, soft_cross_entropy,
};
use cotangent_tensor::{Code, DType, Detail, Error, Op, Shape, Tensor, Values, index_error};
pub use embeddings::{contrastive, cosine_embedding, info_nce, nt_xent, triplet};
pub use likelihoods::{
    Constant, gamma_nll, gaussian_nll, gaussian_nll_with_variance, poisson_nll, poisson_nll_with,
};
pub use margins::{hinge, margin_ranking, multi_margin, perceptron, squared_hinge};
pub use masks::{masked, weighted};
pub use overlap::{dice, tversky};
pub use regression::{
    expectile, huber, log_cosh, mae, mse, pseudo_huber, quantile, sigmoid_l1, smooth_l1, weighted_mse,
};
pub use sequences::ctc;
pub use table::{ALL, Loss};
pub use vocabulary::linear_cross_entropy;

type At = &'static Location<'static>;

/// What becomes of the values of a loss, one per element or row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// They stay as they are.
    None,
    /// Their sum.
    Sum,
    /// Their sum divided by their number; of [`weighted`] and class weights by the sum of the weights, of [`masked`] and ignored
    /// labels by the number of those that count.
    #[default]
    Mean,
}

impl Reduction {
    /// Applies the reduction.
    #[track_caller]
    pub fn apply(self, loss: &Tensor) -> Tensor {
        match self {
            Reduction::None => loss.clone(),
            Reduction::Sum => loss.sum(..),
            Reduction::Mean => loss.mean(..),
        }
    }
}

/// A loss of one's own with the checks of those here: `loss` is built only if all operands are floats, and of any two of them one has
/// the shape of both together. So `[n, 1]` against `[n]` is `E_BROADCAST`, not the mean of an `[n, n]` matrix.
///
/// ```
/// use cotangent::{Code, Reduction, Tensor, losses};
///
/// let quantile = |prediction: &Tensor, target: &Tensor| {
///     losses::custom("quantile", &[("prediction", prediction), ("target", target)], Reduction::Mean, || {
///         let error = target - prediction;
///         (0.9 * &error).max(-0.1 * &error)
///     })
/// };
/// let target = Tensor::new([1.0, 2.0, 3.0]);
/// assert!(quantile(&Tensor::zeros([3]), &target).error().is_none());
/// let wrong = quantile(&Tensor::zeros([3, 1]), &target);
/// assert_eq!(wrong.error().unwrap().code(), Code::Broadcast);
/// ```
#[track_caller]
pub fn custom(
    name: &str,
    operands: &[(&str, &Tensor)],
    reduction: Reduction,
    loss: impl FnOnce() -> Tensor,
) -> Tensor {
    build(Location::caller(), name, operands, reduction, loss)
}

/// Checks operands, builds the loss per element, reduces it. Errors name the loss and the user's line.
pub(crate) fn build(
    at: At,
    name: &str,
    operands: &[(&str, &Tensor)],
    reduction: Reduction,
    loss: impl FnOnce() -> Tensor,
) -> Tensor {
    match one_sided(name, operands) {
        Err(error) => invalid(at, error),
        Ok(()) => reduction.apply(&loss()),
    }
}

/// As [`build`], for a loss with a hyper-parameter that must satisfy `holds`.
fn build_with<const N: usize>(
    (at, name): (At, &str),
    operands: [(&str, &Tensor); N],
    (parameter, value, domain, holds): (&'static str, f64, &str, bool),
    reduction: Reduction,
    loss: impl FnOnce() -> Tensor,
) -> Tensor {
    checked(at, || {
        hyperparameter(name, parameter, value, domain, holds)?;
        Ok(build(at, name, &operands, reduction, loss))
    })
}

/// A loss whose checks and formula are one function; an error without a line gets this one.
fn checked(at: At, loss: impl FnOnce() -> Result<Tensor, Error>) -> Tensor {
    loss().unwrap_or_else(|error| invalid(at, error))
}

/// An invalid tensor; an error without a line gets this one.
fn invalid(at: At, error: Error) -> Tensor {
    Tensor::invalid(if error.location().is_some() { error } else { error.at(at) })
}

/// Of any two operands one must have the shape of the two together, and all must be floats.
fn one_sided(name: &str, operands: &[(&str, &Tensor)]) -> Result<(), Error> {
    for (role, operand) in operands {
        let node = operand.node()?;
        if !node.dtype.is_float() {
            return Err(not_float(name, role, node.dtype));
        }
    }
    for (position, (role, operand)) in operands.iter().enumerate() {
        for (other_role, other) in &operands[..position] {
            let (a, b) = (&other.node()?.shape, &operand.node()?.shape);
            let message = match a.broadcast(b) {
                Ok(both) if both == *a || both == *b => continue,
                Ok(both) => {
                    format!("{other_role} {a} and {role} {b} would broadcast to {both}")
                }
                Err(_) => format!("{other_role} {a} and {role} {b} do not fit"),
            };
            return Err(Error::new(Code::Broadcast, name, message)
                .shape("lhs", a)
                .shape("rhs", b)
                .hint(format!("give both the same shape, for example `{role}.reshape(..)`")));
        }
    }
    Ok(())
}

fn not_float(name: &str, role: &str, dtype: DType) -> Error {
    let message = format!("{role} is {dtype}, a loss needs floats");
    Error::new(Code::Dtype, name, message).hint("write `.cast(DType::F32)`")
}

/// A hyper-parameter must satisfy `holds`; NaN satisfies nothing.
fn hyperparameter(
    name: &str,
    parameter: &'static str,
    value: f64,
    domain: &str,
    holds: bool,
) -> Result<(), Error> {
    if holds && !value.is_nan() {
        return Ok(());
    }
    let message = format!("{parameter} = {value} is not {domain}");
    Err(Error::new(Code::Hyperparameter, name, message).with(parameter, Detail::Number(value)))
}

/// Labels are whole numbers of an integer type.
fn integer_labels(name: &str, labels: &Tensor) -> Result<(), Error> {
    let dtype: DType = labels.node()?.dtype;
    if dtype.is_integer() {
        return Ok(());
    }
    let message = format!("labels are {dtype}, class labels are integers");
    Err(Error::new(Code::Dtype, name, message).hint("write `.cast(DType::I32)`, or use `soft_cross_entropy`"))
}

/// The numbers of integer labels that lie on the host; those of others are looked at where they are computed.
fn on_host(labels: &Tensor) -> Option<Vec<i64>> {
    match &labels.node().ok()?.op {
        Op::Leaf(array) => match array.values() {
            Values::Int(values) => Some(values.iter().map(|&v| v.into()).collect()),
            Values::Uint(values) => Some(values.iter().map(|&v| v.into()).collect()),
            _ => None,
        },
        _ => None,
    }
}

/// The first label outside of `0 .. size`, as an error.
fn outside(name: &str, labels: &[i64], size: usize) -> Result<(), Error> {
    let is_outside = |&label: &i64| usize::try_from(label).map_or(true, |label| label >= size);
    match labels.iter().position(is_outside) {
        None => Ok(()),
        #[expect(clippy::cast_precision_loss, reason = "labels have 32 bits")]
        Some(position) => Err(index_error(name, position, labels[position] as f64, size)),
    }
}

/// Integers below `size` as I32, checked wherever they are computed: now, or as the index of a row that a device looks up.
fn indices(name: &str, labels: &Tensor, size: usize) -> Result<Tensor, Error> {
    match on_host(labels) {
        Some(found) => outside(name, &found, size).map(|()| labels.cast(DType::I32)),
        None => Ok(Tensor::iota([size], 0).gather(0, labels)),
    }
}

/// Integer labels `[…]` of rows `[…, classes]` as I32, checked, and the number of classes.
fn class_labels(name: &str, rows: &Tensor, labels: &Tensor) -> Result<(Tensor, usize), Error> {
    integer_labels(name, labels)?;
    let (shape, found) = (rows.node()?.shape, labels.node()?.shape);
    let Some((&classes, outer)) = shape.split_last() else {
        return Err(Error::new(Code::Broadcast, name, "a scalar has no axis of classes"));
    };
    if *outer != found[..] {
        let message = format!("rows {shape} need labels of the shape without the last axis, not {found}");
        return Err(Error::new(Code::Broadcast, name, message).shape("rows", &shape).shape("labels", &found));
    }
    Ok((indices(name, labels, classes)?, classes))
}

/// The common shape of operands whose last axis is that of a row.
fn same_rows(name: &str, operands: &[(&str, &Tensor)]) -> Result<Shape, Error> {
    let mut common: Option<(&str, Shape)> = None;
    for (role, operand) in operands {
        let node = operand.node()?;
        if !node.dtype.is_float() {
            return Err(not_float(name, role, node.dtype));
        }
        match &common {
            Some((first, shape)) if *shape != node.shape => {
                let message = format!("{first} {shape} and {role} {} must have the same shape", node.shape);
                return Err(Error::new(Code::Broadcast, name, message)
                    .shape("lhs", shape)
                    .shape("rhs", &node.shape));
            }
            None if node.shape.rank() == 0 => {
                return Err(Error::new(Code::Broadcast, name, format!("{role} is a scalar, not a row")));
            }
            _ => common = Some((role, node.shape)),
        }
    }
    common.map(|(_, shape)| shape).ok_or_else(|| Error::new(Code::Internal, name, "a loss without operands"))
}

#[cfg(test)]
mod tests;
