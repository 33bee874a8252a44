//! Weights of samples, and samples that are left out.

use std::panic::Location;

use cotangent_tensor::{Code, DType, Error, Tensor};

use super::{Reduction, checked, not_float};

/// Values of a loss times the weights of their samples. The mean is `Σ w·loss / Σ w`, and 0 where all weights are.
///
/// Shapes: one weight per value, or weights that are repeated to the shape of the loss. Domain: finite `w ≥ 0`. Derivatives are those
/// of the formula, also by the weights, at 0 too: a weight of 0 hides no NaN. [`masked`] does. Error: that of the loss, and
/// `log₂ n` roundings.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let loss = losses::mae(&Tensor::new([1.0, 4.0]), &Tensor::new([2.0, 2.0]), Reduction::None);
/// let mean = losses::weighted(&loss, &Tensor::new([3.0, 1.0]), Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&mean])?[0].scalar()?, 1.25); // (3·1 + 1·2) / (3 + 1)
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn weighted(loss: &Tensor, weight: &Tensor, reduction: Reduction) -> Tensor {
    let name = "weighted";
    checked(Location::caller(), || {
        for (role, tensor) in [("loss", loss), ("weight", weight)] {
            let dtype = tensor.node()?.dtype;
            if !dtype.is_float() {
                return Err(not_float(name, role, dtype));
            }
        }
        repeats(name, "weight", weight, loss)?;
        let values = loss * weight;
        Ok(match reduction {
            Reduction::None | Reduction::Sum => reduction.apply(&values),
            Reduction::Mean => {
                let weight = repeated(weight, loss);
                normalized(&values.sum(..), &weight.sum(..), &weight.abs().sum(..))
            }
        })
    })
}

/// Values of a loss where the mask (a truth value) holds, and exactly 0 elsewhere. The mean divides by the number of values that
/// count; of none it is 0.
///
/// A sample that is left out changes neither value nor gradient, even if it holds NaN: what the loss would send back to it is
/// selected away, not multiplied by 0. That ends where samples meet outside of the loss: a row of NaN that goes through a matrix
/// product must be replaced before it.
///
/// Shapes: one truth value per value, or a mask that is repeated to the shape of the loss. Error: that of the loss.
///
/// ```
/// use cotangent::{Evaluate, Reduction, Reference, Tensor, losses};
/// let target = Tensor::new([2.0, f64::NAN, 2.0]);
/// let loss = losses::mae(&Tensor::new([1.0, 7.0, 4.0]), &target, Reduction::None);
/// let mean = losses::masked(&loss, &!&target.is_nan(), Reduction::Mean);
/// assert_eq!(Reference::new().evaluate(&[&mean])?[0].scalar()?, 1.5);
/// # Ok::<(), cotangent::Error>(())
/// ```
#[track_caller]
pub fn masked(loss: &Tensor, mask: &Tensor, reduction: Reduction) -> Tensor {
    let name = "masked";
    checked(Location::caller(), || {
        let (dtype, mask_dtype) = (loss.node()?.dtype, mask.node()?.dtype);
        if !dtype.is_float() {
            return Err(not_float(name, "loss", dtype));
        }
        if mask_dtype != DType::Bool {
            let error = Error::new(Code::Dtype, name, format!("mask is {mask_dtype}, not bool"));
            return Err(error.hint("compare, as in `weight.gt(0.0)`; weights go to `weighted`"));
        }
        repeats(name, "mask", mask, loss)?;
        let values = mask.select(loss, 0.0);
        Ok(match reduction {
            Reduction::None | Reduction::Sum => reduction.apply(&values),
            Reduction::Mean => {
                let count = repeated(&mask.cast(DType::F32), loss).sum(..);
                normalized(&values.sum(..), &count, &count)
            }
        })
    })
}

/// The mean where anything counts; the mean of nothing is 0, and passes nothing back. What counts is known before the loss is, so that
/// its gradient does not wait for the total.
pub(super) fn normalized(total: &Tensor, divisor: &Tensor, counted: &Tensor) -> Tensor {
    counted.eq(0.0).select(0.0, total / divisor)
}

fn repeated(small: &Tensor, loss: &Tensor) -> Tensor {
    small.broadcast_to(*loss.shape())
}

/// Only what stands beside the loss may be repeated: otherwise values would count more than once.
fn repeats(name: &str, role: &'static str, small: &Tensor, loss: &Tensor) -> Result<(), Error> {
    let (part, whole) = (small.node()?.shape, loss.node()?.shape);
    if part.broadcast(&whole) == Ok(whole) {
        return Ok(());
    }
    let message = format!("{role} {part} does not repeat to the shape {whole} of the loss");
    let error = Error::new(Code::Broadcast, name, message).shape("loss", &whole).shape(role, &part);
    Err(error.hint(format!("give one {role} per value of the loss, for example `{role}.reshape(..)`")))
}
