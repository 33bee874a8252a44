//! How a check is made: who computes, how far values may be off, and what is drawn by chance.

use std::cell::Cell;
use std::collections::HashMap;

use cotangent_tensor::random::random_words;
use cotangent_tensor::{Arithmetic, Array, Error, Evaluate, Key, Op, Shape, Tensor, bounded, topological};

use super::ROUNDING;

/// The reference's functions are good to 2⁻⁴⁴ where a device promises units of 2⁻²³, and its arithmetic to 2⁻⁵³ instead
/// of 2⁻²⁴: so much smaller is its own error than the bound for devices, to first order.
const REFERENCE: f64 = 1.0 / (1u64 << 21) as f64;

/// An output, the coordinates of an element of it, and two values of that.
pub(super) type Differing = (usize, Vec<usize>, f64, f64);

/// How a check is made.
pub(super) struct Lab<'a> {
    pub(super) evaluator: &'a dyn Evaluate,
    pub(super) key: Key,
    /// Random directions instead of one per element.
    pub(super) directions: Option<usize>,
    pub(super) forward: bool,
    /// What was allowed for nondeterminism.
    pub(super) slack: f64,
    pub(super) draws: Cell<u32>,
    pub(super) witnesses: Witnesses,
}

/// Who says whether a derivative is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Witnesses {
    /// Dual numbers and differences, each of which may refute it.
    Either,
    /// Dual numbers alone, of what is not zero. They are cheap, and know nothing of kinks.
    Dual,
    /// Dual numbers and differences, which must both refute it, away from kinks, by more than F32 can hide.
    Both,
}

impl Lab<'_> {
    /// Numbers of both signs, none of them small.
    pub(super) fn draw(&self, shape: &Shape) -> Result<Array, Error> {
        let step = self.draws.replace(self.draws.get().wrapping_add(1));
        let number = |word: u32| {
            let size = 0.5 + f64::from(word >> 1) / f64::from(1u32 << 31);
            if word & 1 == 0 { size } else { -size }
        };
        let words = random_words(self.key, step, shape.elements());
        Array::new(words.into_iter().map(number).collect::<Vec<f64>>(), shape)
    }
    pub(super) fn values(&self, tensors: &[Tensor]) -> Result<Vec<Vec<f64>>, Error> {
        let arrays = self.evaluator.evaluate(&tensors.iter().collect::<Vec<_>>())?;
        Ok(arrays.iter().map(Array::to_f64).collect())
    }
    /// How far each value may be off for rounding alone; infinite where nothing is known.
    pub(super) fn rounding(&self, tensors: &[Tensor]) -> Result<Vec<Vec<f64>>, Error> {
        let nodes = tensors.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        let sources: Vec<Tensor> = topological(&nodes)
            .into_iter()
            .filter(|node| matches!(node.op, Op::Input(_) | Op::Variable(_)))
            .map(Tensor::from_node)
            .collect();
        let mut given = HashMap::new();
        for (source, value) in
            sources.iter().zip(self.evaluator.evaluate(&sources.iter().collect::<Vec<_>>())?)
        {
            given.insert(source.node()?.key(), value);
        }
        Ok(match bounded(&nodes, &given, &Arithmetic::default()) {
            Ok(all) => all.iter().map(|b| b.bound.iter().map(|e| e * REFERENCE).collect()).collect(),
            // A value of its own may be refused where the rounded point leaves a domain.
            Err(_) => nodes.iter().map(|n| vec![f64::INFINITY; n.shape.elements()]).collect(),
        })
    }
    /// Whether two numbers are the same up to an error and what is allowed.
    pub(super) fn same(&self, a: f64, b: f64, error: f64) -> bool {
        let error = if error.is_finite() { error } else { 0.0 };
        let sizes = a.abs() + b.abs();
        if !sizes.is_finite() {
            return a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        }
        (a - b).abs() <= error + ROUNDING * sizes + self.slack
    }
    /// Where values of the same shapes differ by more than rounding, first.
    pub(super) fn first_difference(&self, a: &[Tensor], b: &[Tensor]) -> Result<Option<Differing>, Error> {
        let (left, right) = (self.values(a)?, self.values(b)?);
        let (left_error, right_error) = (self.rounding(a)?, self.rounding(b)?);
        for (output, tensor) in a.iter().enumerate() {
            for (element, (x, y)) in left[output].iter().zip(&right[output]).enumerate() {
                let error = left_error[output][element] + right_error[output][element];
                if !self.same(*x, *y, error) {
                    let place = coordinates(&tensor.node()?.shape, element);
                    return Ok(Some((output, place, *x, *y)));
                }
            }
        }
        Ok(None)
    }
}

/// The coordinates of an element.
pub(super) fn coordinates(shape: &Shape, element: usize) -> Vec<usize> {
    let strides = shape.strides();
    shape.iter().zip(strides).map(|(&extent, stride)| element / stride.max(1) % extent).collect()
}
