//! Forward mode against reverse mode.

use cotangent_tensor::{Array, Code, Error, Evaluate, Tensor};

use super::first::unchecked;
use super::{ROUNDING, tensors};
use crate::{jvp, vjp};

/// The two sides of `⟨v, J t⟩ = ⟨Jᵀ v, t⟩`.
#[derive(Clone, Copy, Debug)]
pub struct Pairing {
    /// `⟨v, J t⟩`, by forward mode.
    pub forward: f64,
    /// `⟨Jᵀ v, t⟩`, by reverse mode.
    pub reverse: f64,
    /// Sum of the magnitudes of all products that were added up.
    pub size: f64,
}

impl Pairing {
    /// Whether the two sides are the same up to rounding.
    pub fn agrees(&self) -> bool {
        let distance = (self.forward - self.reverse).abs();
        distance.is_finite() && distance <= ROUNDING * self.size
            || self.forward.to_bits() == self.reverse.to_bits()
    }
}

/// Compares forward with reverse mode along one tangent per float input and one cotangent of the output.
///
/// Tangents of integer inputs are ignored. Errors: those of [`vjp`], [`jvp`] and the evaluator.
pub fn transposition(
    function: &dyn Fn(&[Tensor]) -> Tensor,
    inputs: &[Array],
    tangents: &[Array],
    cotangent: &Array,
    evaluator: &dyn Evaluate,
) -> Result<Pairing, Error> {
    unchecked(|| paired(function, inputs, tangents, cotangent, evaluator))
}

fn paired(
    function: &dyn Fn(&[Tensor]) -> Tensor,
    inputs: &[Array],
    tangents: &[Array],
    cotangent: &Array,
    evaluator: &dyn Evaluate,
) -> Result<Pairing, Error> {
    let (points, directions) = (tensors(inputs), tensors(tangents));
    if points.len() != directions.len() {
        let message = format!("{} tangents for {} inputs", directions.len(), points.len());
        return Err(Error::new(Code::Cotangent, "transposition", message));
    }
    let output = function(&points);
    let upstream = Tensor::new(cotangent.clone());
    let moved: Vec<(&Tensor, &Tensor)> =
        points.iter().zip(&directions).filter(|(point, _)| point.dtype().is_float()).collect();
    let pushed = jvp(&[&output], &moved)?;
    let floats: Vec<&Tensor> = moved.iter().map(|(point, _)| *point).collect();
    let mut pairs: Vec<(Tensor, Tensor)> = vec![(upstream.clone(), pushed[0].clone())];
    for (gradient, (_, tangent)) in vjp(&[(&output, &upstream)], floats)?.iter().zip(&moved) {
        pairs.push((gradient.or_zero(), (*tangent).clone()));
    }
    let flat: Vec<&Tensor> = pairs.iter().flat_map(|(a, b)| [a, b]).collect();
    let values: Vec<Vec<f64>> = evaluator.evaluate(&flat)?.iter().map(Array::to_f64).collect();
    let (mut sums, mut size) = ([0.0, 0.0], 0.0);
    for (pair, factors) in values.chunks_exact(2).enumerate() {
        for (a, b) in factors[0].iter().zip(&factors[1]) {
            sums[pair.min(1)] += a * b;
            size += (a * b).abs();
        }
    }
    Ok(Pairing { forward: sums[0], reverse: sums[1], size })
}
