//! Independent witnesses of a derivative: dual numbers, differences of values, and forward mode against reverse mode.
//!
//! [`gradcheck`] compares every gradient of a function with all of them and explains what it finds; the witnesses are
//! there on their own as well. Nothing here uses a tolerance. A difference quotient comes with an estimate of its own
//! error, found by watching it settle as the step shrinks; a pairing comes with the size of what was added up; dual
//! numbers come with the running error bound of the reference, scaled to double precision.

mod decisions;
mod differences;
mod first;
mod gradcheck;
mod lab;
mod linear;
mod local;
mod plain;
mod points;
mod program;
mod repeat;
mod report;
mod transposition;
mod verdict;
mod widen;

pub use differences::{Slope, finite_differences};
pub use first::unchecked;
pub(crate) use first::{Mode, first_use};
pub use gradcheck::{GradCheck, gradcheck};
pub use report::{Compared, Distance, Kink, Report, Undefined};
pub use transposition::{Pairing, transposition};

use cotangent_tensor::{Array, Tensor};

/// Rounding of the derivative under test, in units of its own size: a few dozen operations of f64.
const ROUNDING: f64 = 64.0 * f64::EPSILON;

fn tensors(inputs: &[Array]) -> Vec<Tensor> {
    inputs.iter().map(|array| Tensor::new(array.clone())).collect()
}
