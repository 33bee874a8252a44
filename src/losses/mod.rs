//! Losses: plain tensor expressions in their stable forms, one value per element or row, with a [`Reduction`].
//!
//! A loss knows no derivative: automatic differentiation of the forms chosen here *is* the stable gradient, and the
//! planner fuses value and gradient into one kernel. Sample weights are factors: `(losses::mae(&p, &y, Reduction::None) *
//! w).mean(..)`. [`ALL`] lists every loss with sample inputs; tests of gradients iterate over it.
//!
//! Every loss refuses *mutual* broadcasting: a prediction of shape `[n, 1]` against a target or weight of shape `[n]`
//! would silently become `[n, n]` numbers. One operand may be repeated to the shape of another (a scalar, missing leading
//! axes, axes of length 1). The error is `E_BROADCAST`. Hyper-parameters outside their domain are `E_HYPERPARAMETER`.
//! Both make the result an invalid tensor.
//!
//! Below, `d = prediction − target`; at kinks the derivative is the mean of both sides.

mod classes;
mod robust;
mod table;

use std::panic::Location;

pub use classes::{bce_with_logits, cross_entropy, focal, label_smoothing, soft_cross_entropy};
use cotangent_tensor::{Code, DType, Detail, Error, Tensor};
pub use robust::{hinge, huber, log_cosh, mae, pseudo_huber, quantile, sigmoid_l1, squared_hinge};
pub use table::{ALL, Loss};

type At = &'static Location<'static>;

/// What becomes of the values of a loss, one per element or row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// They stay as they are.
    None,
    /// Their sum.
    Sum,
    /// Their sum divided by their number (also with weights: not by the sum of the weights).
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

/// Poisson negative log-likelihood `exp(η) − y·η`, without the constant `ln y!`.
///
/// Derivative in `eta`: `exp(η) − y`. Domain: `y ≥ 0`; infinite for `η > 88.7` in f32. Error: 2 ULP of `exp`, one
/// rounding more. Source: McCullagh & Nelder, Generalized Linear Models, 2nd ed., §2.2.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::poisson_nll(&Tensor::new([0.0, 0.0]), &Tensor::new([2.0, 1.0]), Reduction::Sum);
/// let value = Reference::new().evaluate(&[&loss])?[0].scalar()?;
/// assert_eq!(value, 2.0); // e⁰ − 2·0 + e⁰ − 1·0
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn poisson_nll(eta: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    build(Location::caller(), "poisson_nll", &[("eta", eta), ("target", target)], reduction, || {
        eta.exp() - target * eta
    })
}

/// Gaussian negative log-likelihood `½(ℓ + d²·exp(−ℓ))` for a predicted mean and log-variance `ℓ`, without `½ ln 2π`.
///
/// Derivatives: `d·exp(−ℓ)` by the mean, `½(1 − d²·exp(−ℓ))` by `ℓ`. No division by a tiny variance. Error: 2 ULP of
/// `exp` and 4 roundings of the larger term.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let (mean, y, log_variance) = (Tensor::new(1.0), Tensor::new(3.0), Tensor::new(0.0));
/// let loss = losses::gaussian_nll(&mean, &y, &log_variance, Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&loss])?[0].scalar()?, 2.0);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn gaussian_nll(mean: &Tensor, target: &Tensor, log_variance: &Tensor, reduction: Reduction) -> Tensor {
    let operands = [("mean", mean), ("target", target), ("log_variance", log_variance)];
    build(Location::caller(), "gaussian_nll", &operands, reduction, || {
        0.5 * (log_variance + (mean - target).pow(2) * (-log_variance).exp())
    })
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

/// An invalid tensor; an error without a line gets this one.
fn invalid(at: At, error: Error) -> Tensor {
    Tensor::invalid(if error.location().is_some() { error } else { error.at(at) })
}

/// Of any two operands one must have the shape of the two together, and all must be floats.
fn one_sided(name: &str, operands: &[(&str, &Tensor)]) -> Result<(), Error> {
    for (role, operand) in operands {
        let node = operand.node()?;
        if !node.dtype.is_float() {
            let message = format!("{role} is {}, a loss needs floats", node.dtype);
            return Err(Error::new(Code::Dtype, name, message).hint("write `.cast(DType::F32)`"));
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

#[cfg(test)]
mod tests;
