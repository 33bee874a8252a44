//! How tensors become numbers, whoever computes them.

use crate::{Array, Error, Inspected, Tensor, marks};

/// Something that computes tensors: the reference, or a device.
pub trait Evaluate {
    /// A name for messages, such as `reference` or `cpu`.
    fn name(&self) -> String;
    /// The values of `tensors`, computed together. The first error of an invalid tensor comes back as `Err`.
    fn evaluate(&self, tensors: &[&Tensor]) -> Result<Vec<Array>, Error>;
    /// What [`Tensor::inspect`] has marked in the graphs of `tensors`, forward or backward and inside of custom rules too, in
    /// an order in which it can be computed. A mark in a rule comes once for every use of the rule's graphs: where the gradient
    /// of a rule uses a marked value of its forward graph, for the outputs and for the gradients.
    ///
    /// ```
    /// use cotangent_tensor::{Evaluate, Reference, Tensor};
    ///
    /// let x = Tensor::new([1.0, 2.0]);
    /// let y = (&x * &x).inspect("square").sum(..);
    /// let seen = Reference::new().inspect(&[&y])?;
    /// assert_eq!((&*seen[0].label, seen[0].value.to_f64()), ("square", vec![1.0, 4.0]));
    /// # Ok::<(), cotangent_tensor::Error>(())
    /// ```
    fn inspect(&self, tensors: &[&Tensor]) -> Result<Vec<Inspected>, Error> {
        let marks = marks(tensors)?;
        let values = self.evaluate(&marks.iter().map(|mark| &mark.tensor).collect::<Vec<_>>())?;
        Ok(marks.iter().zip(values).map(|(mark, value)| mark.inspected(value)).collect())
    }
}
