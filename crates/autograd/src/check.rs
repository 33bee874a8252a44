//! Independent witnesses of a derivative: differences of values, and forward mode against reverse mode.
//!
//! Nothing here uses a tolerance. A difference quotient comes with an estimate of its own error, found by watching
//! it settle as the step shrinks; a pairing comes with the size of what was added up.

use cotangent_tensor::{Array, Code, Error, Evaluate, Tensor};

use crate::{jvp, vjp};

/// A derivative found by differences, and how far it may be off.
#[derive(Clone, Copy, Debug)]
pub struct Slope {
    /// The difference quotient.
    pub value: f64,
    /// Estimate of truncation and rounding together.
    pub error: f64,
}

/// Steps tried, each half of the one before; the first is a sixteenth of the distance scale.
const STEPS: usize = 11;
/// An estimate is trusted up to this factor: it is the difference of neighboring steps, not a bound.
const SAFETY: f64 = 8.0;
/// Rounding of the derivative under test, in units of its own size: a few dozen operations of f64.
const ROUNDING: f64 = 64.0 * f64::EPSILON;

impl Slope {
    /// Whether a derivative is the same within the error of the difference.
    pub fn agrees(&self, derivative: f64) -> bool {
        (derivative - self.value).abs()
            <= SAFETY * self.error + ROUNDING * (derivative.abs() + self.value.abs())
    }
}

fn tensors(inputs: &[Array]) -> Vec<Tensor> {
    inputs.iter().map(|array| Tensor::new(array.clone())).collect()
}

/// Five-point central differences of a scalar function with respect to every element of every float input.
///
/// `None` for inputs that are no floats. The step is chosen for each element where neighboring steps agree best.
/// Errors: those of the tensor that `function` builds and of the evaluator; `E_NOT_SCALAR`.
pub fn finite_differences(
    function: &dyn Fn(&[Tensor]) -> Tensor,
    inputs: &[Array],
    evaluator: &dyn Evaluate,
) -> Result<Vec<Option<Vec<Slope>>>, Error> {
    let mut slopes = Vec::new();
    for (position, input) in inputs.iter().enumerate() {
        if !input.dtype().is_float() {
            slopes.push(None);
            continue;
        }
        let elements = 0..input.shape().elements();
        let of = |element| slope(function, inputs, position, element, evaluator);
        slopes.push(Some(elements.map(of).collect::<Result<_, _>>()?));
    }
    Ok(slopes)
}

fn slope(
    function: &dyn Fn(&[Tensor]) -> Tensor,
    inputs: &[Array],
    position: usize,
    element: usize,
    evaluator: &dyn Evaluate,
) -> Result<Slope, Error> {
    let base = inputs[position].to_f64();
    let x = base[element];
    // Stay well on one side of zero, where many functions end, unless the point itself is zero.
    let widest = if x == 0.0 { 0.125 } else { (x.abs() / 4.0).min(0.125) };
    let step = |k: usize| widest * 0.5f64.powi(i32::try_from(k).unwrap_or(i32::MAX));
    let mut points = Vec::new();
    for k in 0..=STEPS {
        for sign in [-1.0, 1.0] {
            let mut moved = base.clone();
            moved[element] = x + sign * step(k);
            let mut all = tensors(inputs);
            all[position] = Tensor::new(Array::new(moved, inputs[position].shape())?);
            points.push(function(&all));
        }
    }
    let values = evaluator.evaluate(&points.iter().collect::<Vec<_>>())?;
    let values = values.iter().map(Array::scalar).collect::<Result<Vec<f64>, _>>()?;
    // At step k the outer points of the formula are those of the step before.
    let quotient = |k: usize| {
        let (far, near) = (&values[2 * k..2 * k + 2], &values[2 * k + 2..2 * k + 4]);
        // Steps as they were taken: x ± h rounds.
        let h = 0.5 * ((x + step(k + 1)) - (x - step(k + 1)));
        (8.0 * (near[1] - near[0]) - (far[1] - far[0])) / (12.0 * h)
    };
    let quotients: Vec<f64> = (0..STEPS).map(quotient).collect();
    let size = values.iter().fold(0.0f64, |size, v| size.max(v.abs()));
    let candidates = (1..STEPS - 1).map(|k| {
        let spread = (quotients[k] - quotients[k - 1]).abs().max((quotients[k + 1] - quotients[k]).abs());
        Slope { value: quotients[k], error: spread + f64::EPSILON * size / step(k + 1) }
    });
    Ok(candidates
        .filter(|slope| slope.error.is_finite())
        .min_by(|a, b| a.error.total_cmp(&b.error))
        .unwrap_or(Slope { value: f64::NAN, error: f64::NAN }))
}

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
        (self.forward - self.reverse).abs() <= ROUNDING * self.size
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
