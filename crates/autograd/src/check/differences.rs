//! Derivatives from values alone: difference quotients that say how far they may be off.

use cotangent_tensor::{Array, Error, Evaluate, Tensor};

use super::{ROUNDING, tensors};

/// A derivative found by differences, and how far it may be off.
#[derive(Clone, Copy, Debug)]
pub struct Slope {
    /// The difference quotient; infinite where it grows without end as the step shrinks.
    pub value: f64,
    /// Estimate of truncation and rounding together.
    pub error: f64,
}

/// Steps tried, each half of the one before; the first is a sixteenth of the distance scale.
pub(super) const STEPS: usize = 11;
/// An estimate is trusted up to this factor: it is the difference of neighboring steps, not a bound.
const SAFETY: f64 = 8.0;
/// Quotients in a row that must grow before they are said to grow without end, and by which factor: a jump doubles
/// them, a square root multiplies them by its own of two.
const GROWING: (usize, f64) = (5, 1.2);

impl Slope {
    /// No step at which the quotient is known.
    pub(super) const UNKNOWN: Slope = Slope { value: f64::NAN, error: f64::NAN };

    /// Whether a derivative is the same within the error of the difference.
    pub fn agrees(&self, derivative: f64) -> bool {
        (derivative - self.value).abs() <= self.margin() + ROUNDING * (derivative.abs() + self.value.abs())
            || derivative.is_infinite() && derivative.to_bits() == self.value.to_bits()
    }
    /// Whether there is a quotient at all.
    pub(super) fn is_known(&self) -> bool {
        !self.value.is_nan()
    }
    /// How far the derivative may be from the quotient.
    pub(super) fn margin(&self) -> f64 {
        SAFETY * self.error
    }
    /// Whether two slopes cannot be told apart.
    fn meets(&self, other: &Slope) -> bool {
        let slack = other.margin() + ROUNDING * (self.value.abs() + other.value.abs());
        (self.value - other.value).abs() <= self.margin() + slack
    }
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
    let step = |k: usize| halved(distance_scale(x), k);
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
    let side = |sign: usize| values.iter().skip(sign).step_by(2).copied().collect::<Vec<f64>>();
    let size = values.iter().fold(0.0f64, |size, v| size.max(v.abs()));
    // Steps as they were taken: x ± h rounds.
    let taken = |k: usize| 0.5 * ((x + step(k)) - (x - step(k)));
    Ok(central(&side(0), &side(1), &taken, f64::EPSILON * size))
}

/// The largest step at `x`: it stays well on one side of zero, where many functions end, unless `x` itself is zero.
pub(super) fn distance_scale(x: f64) -> f64 {
    if x == 0.0 { 0.125 } else { (x.abs() / 4.0).min(0.125) }
}

pub(super) fn halved(step: f64, times: usize) -> f64 {
    step * 0.5f64.powi(i32::try_from(times).unwrap_or(i32::MAX))
}

/// Five-point differences from values below and above the point; `step(k)` is the distance of the `k`-th of them, and
/// `noise` the error of one value.
fn central(below: &[f64], above: &[f64], step: &dyn Fn(usize) -> f64, noise: f64) -> Slope {
    let far_and_near = below.windows(2).zip(above.windows(2)).enumerate();
    // At step k the outer points of the formula are those of the step before.
    let quotients = far_and_near.map(|(k, (below, above))| {
        let h = step(k + 1);
        let value = (8.0 * (above[1] - below[1]) - (above[0] - below[0])) / (12.0 * h);
        Slope { value, error: noise / h }
    });
    settled(&quotients.collect::<Vec<_>>())
}

/// The slope on one side, from values at distances 4h, 2h and h; the point itself does not enter, as it may lie on
/// either side of a jump. `sign` says on which side the values lie.
fn one_sided(values: &[f64], sign: f64, step: &dyn Fn(usize) -> f64, noise: f64) -> Slope {
    let quotients = values.windows(3).enumerate().map(|(k, values)| {
        let h = step(k + 2);
        let value = sign * (2.5 * values[1] - 2.0 * values[2] - 0.5 * values[0]) / h;
        Slope { value, error: 5.0 * noise / h }
    });
    settled(&quotients.collect::<Vec<_>>())
}

/// The quotient at which neighboring steps agree best. Each comes with its rounding error.
fn settled(quotients: &[Slope]) -> Slope {
    let (count, factor) = GROWING;
    let last = &quotients[quotients.len().saturating_sub(count)..];
    let grows = |pair: &[Slope]| pair[1].value.abs() > factor * pair[0].value.abs();
    if let (true, Some(end)) = (last.len() == count, last.last())
        && last.windows(2).all(grows)
        && end.value.is_finite()
        && end.value.abs() > SAFETY * end.error
        && last.iter().all(|q| q.value.signum().total_cmp(&end.value.signum()).is_eq())
    {
        return Slope { value: f64::INFINITY.copysign(end.value), error: 0.0 };
    }
    let candidates = quotients.windows(3).map(|near| {
        let spread = (near[1].value - near[0].value).abs().max((near[2].value - near[1].value).abs());
        Slope { value: near[1].value, error: spread + near[1].error }
    });
    candidates
        .filter(|slope| slope.error.is_finite())
        .min_by(|a, b| a.error.total_cmp(&b.error))
        .unwrap_or(Slope::UNKNOWN)
}

/// What differences say about a point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Difference {
    /// One slope.
    Smooth(Slope),
    /// Two slopes that differ, or of which one is unknown.
    Kink { left: Slope, right: Slope },
}

/// A function on a line through a point: values and decisions below and above it, nearest last.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) values: [Vec<f64>; 2],
    /// Everything that was decided on the way to a value, such as the outcomes of comparisons.
    pub(super) decisions: [Vec<Vec<u64>>; 2],
}

impl Samples {
    /// Only values with the same decisions enter a quotient, since only between them the function is one formula. Where
    /// both sides of the point do not share theirs, they are looked at one by one.
    pub(super) fn difference(&self, step: &dyn Fn(usize) -> f64, noise: f64) -> Difference {
        let [below, above] = &self.decisions;
        let size = self.values.iter().flatten().fold(0.0f64, |size, v| size.max(v.abs()));
        let noise = noise.max(f64::EPSILON * size);
        if below.last() == above.last() {
            let start = shared(below).max(shared(above));
            let slope =
                central(&self.values[0][start..], &self.values[1][start..], &|k| step(start + k), noise);
            if slope.is_known() {
                return Difference::Smooth(slope);
            }
        }
        let side = |side: usize, sign| {
            let start = shared(&self.decisions[side]);
            one_sided(&self.values[side][start..], sign, &|k| step(start + k), noise)
        };
        let (left, right) = (side(0, -1.0), side(1, 1.0));
        if left.meets(&right) {
            let better = if left.error < right.error { left } else { right };
            return Difference::Smooth(better);
        }
        Difference::Kink { left, right }
    }
}

/// From which position on all decisions are those of the last.
fn shared(decisions: &[Vec<u64>]) -> usize {
    decisions.iter().rposition(|d| Some(d) != decisions.last()).map_or(0, |different| different + 1)
}
