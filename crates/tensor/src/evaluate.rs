//! How tensors become numbers, whoever computes them.

use crate::{Array, Error, Tensor};

/// Something that computes tensors: the reference, or a device.
pub trait Evaluate {
    /// A name for messages, such as `reference` or `cpu`.
    fn name(&self) -> String;
    /// The values of `tensors`, computed together. The first error of an invalid tensor comes back as `Err`.
    fn evaluate(&self, tensors: &[&Tensor]) -> Result<Vec<Array>, Error>;
}
