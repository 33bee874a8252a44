//! Derivatives from values alone: difference quotients that say how far they may be off.

use cotangent_tensor::{Array, Error, Evaluate, Tensor};

use super::first::unchecked;
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

    /// Whether a derivative is the same within the error of the difference. Infinity is the same as itself only.
    pub fn agrees(&self, derivative: f64) -> bool {
        let sizes = derivative.abs() + self.value.abs();
        if sizes.is_infinite() {
            return derivative.to_bits() == self.value.to_bits();
        }
        (derivative - self.value).abs() <= self.margin() + ROUNDING * sizes
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
        let sum = Slope { value: self.value, error: self.error + other.error };
        sum.agrees(other.value)
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
        // The function may take derivatives itself.
        let of = |element| unchecked(|| slope(function, inputs, position, element, evaluator));
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
pub(super) struct Difference {
    pub(super) slopes: Slopes,
    /// Whether the program decides at the point as it does on neither or only one side of it, such as a tie. Then its
    /// derivative there is a convention, and the convention of a composition need not be that of its parts:
    /// `min(max(m + x, m), m)` is constant, but its parts give it a slope of ¼ where x = 0.
    pub(super) tie: bool,
}

/// The slopes on both sides of a point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slopes {
    /// The same.
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
    /// Decisions at the point itself.
    pub(super) here: Vec<u64>,
}

impl Samples {
    /// Only values with the same decisions enter a quotient, since only between them the function is one formula. Where
    /// both sides of the point do not share theirs, they are looked at one by one.
    pub(super) fn difference(&self, step: &dyn Fn(usize) -> f64, noise: f64) -> Difference {
        let tie = self.decisions.iter().any(|side| side.last() != Some(&self.here));
        Difference { slopes: self.slopes(step, noise), tie }
    }

    fn slopes(&self, step: &dyn Fn(usize) -> f64, noise: f64) -> Slopes {
        let [below, above] = &self.decisions;
        let size = self.values.iter().flatten().fold(0.0f64, |size, v| size.max(v.abs()));
        let noise = noise.max(f64::EPSILON * size);
        if below.last() == above.last() {
            let start = shared(below).max(shared(above));
            let slope =
                central(&self.values[0][start..], &self.values[1][start..], &|k| step(start + k), noise);
            if slope.is_known() {
                return Slopes::Smooth(slope);
            }
        }
        let side = |side: usize, sign| {
            let start = shared(&self.decisions[side]);
            one_sided(&self.values[side][start..], sign, &|k| step(start + k), noise)
        };
        let (left, right) = (side(0, -1.0), side(1, 1.0));
        if left.meets(&right) {
            let better = if left.error < right.error { left } else { right };
            return Slopes::Smooth(better);
        }
        Slopes::Kink { left, right }
    }
}

/// From which position on all decisions are those of the last.
fn shared(decisions: &[Vec<u64>]) -> usize {
    decisions.iter().rposition(|d| Some(d) != decisions.last()).map_or(0, |different| different + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of a function around 0 with a largest step, and what they say.
    fn around(function: impl Fn(f64) -> (f64, u64), widest: f64) -> Difference {
        let mut samples = Samples { here: vec![function(0.0).1], ..Samples::default() };
        for (side, sign) in [-1.0, 1.0].into_iter().enumerate() {
            for k in 0..=STEPS {
                let (value, decision) = function(sign * halved(widest, k));
                samples.values[side].push(value);
                samples.decisions[side].push(vec![decision]);
            }
        }
        samples.difference(&|k| halved(widest, k), 0.0)
    }

    fn smooth(difference: Difference) -> f64 {
        match difference.slopes {
            Slopes::Smooth(slope) => slope.value,
            Slopes::Kink { left, right } => panic!("{left:?}, {right:?}"),
        }
    }

    fn kink(difference: Difference) -> [f64; 2] {
        match difference.slopes {
            Slopes::Smooth(slope) => panic!("{slope:?}"),
            Slopes::Kink { left, right } => [left.value, right.value],
        }
    }

    #[test]
    fn smooth_functions_have_one_slope() {
        for (function, slope) in
            [(f64::sin as fn(f64) -> f64, 1.0), (f64::exp, 1.0), (f64::cos, 0.0), (|x| 3.0 * x, 3.0)]
        {
            let found = around(|x| (function(x), 0), 0.125);
            let Slopes::Smooth(found_slope) = found.slopes else { panic!("{found:?}") };
            assert!(found_slope.agrees(slope) && !found.tie, "{found:?}");
            assert!(!found_slope.agrees(slope + 1e-8), "{found:?}");
        }
    }

    #[test]
    fn a_kink_at_the_point_has_two_slopes() {
        let decided = |x: f64| u64::from(x > 0.0);
        let found = around(|x| (x.abs() + 2.0 * x, decided(x)), 0.125);
        assert!(found.tie, "at 0 it decides as on the left, not as on the right");
        assert_eq!(kink(found), [1.0, 3.0]);
        // Jumps do not enter: the point itself may lie on either side of one.
        let [left, right] = kink(around(|x| (if x > 0.0 { 1.0 + x } else { -x }, decided(x)), 0.125));
        assert_eq!([left, right], [-1.0, 1.0]);
        assert_eq!(smooth(around(|x| (x + x.floor(), u64::from(x >= 0.0)), 0.125)), 1.0);
    }

    #[test]
    fn a_kink_beside_the_point_is_kept_out_by_its_decision() {
        for distance in [0.1, 0.01, 0.001] {
            let function = |x: f64| if x > distance { 5.0 * (x - distance) } else { 0.0 } + x;
            let found = around(|x| (function(x), u64::from(x > distance)), 0.125);
            assert_eq!(smooth(found), 1.0, "{distance}");
            assert!(!found.tie);
        }
    }

    #[test]
    fn at_the_edge_of_a_domain_one_side_is_unknown() {
        let Slopes::Kink { left, right } = around(|x| (x.powf(1.5), 0), 0.125).slopes else { panic!() };
        assert!(!left.is_known() && right.agrees(0.0), "{left:?}, {right:?}");
        let [left, right] = kink(around(|x| (x.sqrt(), 0), 0.125));
        assert!(left.is_nan() && right == f64::INFINITY);
    }
}
