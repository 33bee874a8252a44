//! A scalar function of data as a graph, its gradient, and the comparison of the two.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use cotangent_tensor::random::random_words;
use cotangent_tensor::{
    Arithmetic, Array, Code, DType, Error, Evaluate, Key, Node, Op, RuleKind, Shape, Tensor, bounded, expand,
    substitute, topological,
};

use super::ROUNDING;
use super::decisions::decisions;
use super::differences::{Difference, STEPS, Samples, Slope, Slopes, distance_scale, halved};
use super::plain::{Images, cuts, plain};
use super::report::Compared;
use crate::{State, grad, jvp};

/// The reference's functions are good to 2⁻⁴⁴ where a device promises units of 2⁻²³, and its arithmetic to 2⁻⁵³ instead
/// of 2⁻²⁴: so much smaller is its own error than the bound for devices, to first order.
const REFERENCE: f64 = 1.0 / (1u64 << 21) as f64;
/// Derivatives evaluated together.
const BATCH: usize = 32;
/// Random tangents on which forward mode and reverse mode are compared.
const PAIRINGS: usize = 2;

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
}

/// An output, the coordinates of an element of it, and two values of that.
pub(super) type Differing = (usize, Vec<usize>, f64, f64);

impl Lab<'_> {
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

/// Something to differentiate with respect to.
#[derive(Clone)]
pub(super) struct Point {
    /// Its position among all inputs.
    pub(super) input: usize,
    pub(super) tensor: Tensor,
    pub(super) base: Array,
}

/// A function of some points to one number.
pub(super) struct Program<'a> {
    lab: &'a Lab<'a>,
    pub(super) scalar: Tensor,
    points: Vec<Point>,
    cuts: Images,
    /// Whether surrogates count as what they say they are. Otherwise they count as what they compute.
    keeps_surrogates: bool,
}

/// One derivative to be compared.
struct Probe {
    /// The point and its element; none for a random direction.
    place: Option<(usize, usize)>,
    number: usize,
    tangents: Vec<Array>,
}

/// A derivative that is not what it should be.
#[derive(Clone, Debug)]
pub(super) struct Mismatch {
    /// Input and element in row-major order and in coordinates; none for a random direction.
    pub(super) place: Option<(usize, usize, Vec<usize>)>,
    /// The number of the random direction.
    pub(super) direction: usize,
    pub(super) got: f64,
    pub(super) expected: f64,
    pub(super) witness: &'static str,
}

impl Mismatch {
    pub(super) fn error(&self) -> f64 {
        let error = (self.got - self.expected).abs();
        if error.is_nan() { f64::INFINITY } else { error }
    }
}

/// Left and right slope at a place where they differ; NaN where there is none.
#[derive(Clone, Debug)]
pub(super) struct Bend {
    pub(super) place: Option<(usize, usize, Vec<usize>)>,
    pub(super) direction: usize,
    pub(super) gradient: f64,
    pub(super) left: f64,
    pub(super) right: f64,
}

/// What a comparison found.
#[derive(Default)]
pub(super) struct Outcome {
    /// The largest error.
    pub(super) worst: Option<Mismatch>,
    /// Forward mode that is not the transpose of reverse mode.
    pub(super) forward: Option<Mismatch>,
    pub(super) bends: Vec<Bend>,
    pub(super) compared: Compared,
    /// Whether some gradient is infinite or NaN.
    pub(super) infinite: bool,
    /// The gradients, for the next order; none where there is nothing.
    gradients: Vec<Option<Tensor>>,
}

enum Verdict {
    Same,
    Unknown,
    Bend(f64, f64),
    Wrong(f64, &'static str),
}

impl<'a> Program<'a> {
    /// The weighted sum of the elements of `output`.
    pub(super) fn new(
        lab: &'a Lab<'a>,
        output: &Tensor,
        weights: Array,
        points: Vec<Point>,
        keeps_surrogates: bool,
    ) -> Result<Program<'a>, Error> {
        let scalar = (output.cast(DType::F32) * Tensor::new(weights)).sum(..);
        let cuts = cuts(&[scalar.node()?.clone()], lab.evaluator)?;
        Ok(Program { lab, scalar, points, cuts, keeps_surrogates })
    }

    /// The gradient along a random direction as a function of its own, one order higher. `None` if it is structurally
    /// zero.
    pub(super) fn slope(&self, outcome: &Outcome) -> Result<Option<Program<'a>>, Error> {
        let mut terms = Vec::new();
        for (gradient, point) in outcome.gradients.iter().zip(&self.points) {
            if let Some(gradient) = gradient {
                let direction = Tensor::new(self.lab.draw(point.base.shape())?);
                terms.push((gradient.cast(DType::F32) * direction).sum(..));
            }
        }
        let Some(scalar) = terms.into_iter().reduce(|a, b| a + b) else { return Ok(None) };
        // What the user cut stays cut; what a gradient cuts is what higher orders are checked for.
        let (points, cuts) = (self.points.clone(), self.cuts.clone());
        Ok(Some(Program { scalar, points, cuts, ..*self }))
    }

    /// Whether a surrogate stands between a point and the result.
    pub(super) fn has_surrogates(&self) -> Result<bool, Error> {
        let mut moves: HashMap<*const Node, bool> = HashMap::new();
        let starts = self.points.iter().map(|p| Ok(p.tensor.node()?.identity()));
        let starts = starts.collect::<Result<Vec<_>, Error>>()?;
        for node in topological(&self.fixed()?) {
            let moved = starts.contains(&node.identity()) || node.operands.iter().any(|o| moves[&o.key()]);
            if let Op::Rule(rule) = &node.op
                && let (RuleKind::Surrogate(_), true) = (&rule.kind, moved)
            {
                return Ok(true);
            }
            moves.insert(node.key(), moved);
        }
        Ok(false)
    }

    /// The graph with what the user cut as data.
    fn fixed(&self) -> Result<Vec<Arc<Node>>, Error> {
        Ok(substitute(&[self.scalar.node()?.clone()], &self.cuts))
    }

    /// Compares the gradient with dual numbers, with differences, and with forward mode.
    pub(super) fn compare(&self) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        let points: Vec<&Tensor> = self.points.iter().map(|p| &p.tensor).collect();
        let gradients = grad(&self.scalar, &points)?;
        let mut tensors = Vec::new();
        for gradient in &gradients {
            if let State::NotDifferentiable { .. } = gradient.state() {
                gradient.or_error()?;
            }
            tensors.push(gradient.or_zero());
            outcome.gradients.push(gradient.value().cloned());
        }
        let (got, rounding) = (self.lab.values(&tensors)?, self.lab.rounding(&tensors)?);
        outcome.infinite = got.iter().flatten().any(|g| !g.is_finite());
        let fixed = self.fixed()?;
        let bare = expand(fixed.clone()).roots;
        let opaque = self.keeps_surrogates && self.has_surrogates()?;
        let dual = if self.keeps_surrogates { plain(&fixed) } else { bare.clone() };
        let dual = Tensor::from_node(dual[0].clone());
        let line = if opaque { None } else { Some(Line::new(self, bare)?) };

        let total: usize = self.points.iter().map(|p| p.base.shape().elements()).sum();
        let count = if total == 0 { 0 } else { self.lab.directions.unwrap_or(total) };
        for start in (0..count).step_by(BATCH) {
            let probes: Vec<Probe> =
                (start..count.min(start + BATCH)).map(|n| self.probe(n)).collect::<Result<_, _>>()?;
            let duals = self.pushed(&dual, &probes)?;
            for (probe, dual) in probes.iter().zip(duals) {
                let (slope, error) = along(&got, &rounding, &probe.tangents);
                let difference = line.as_ref().map(|line| line.difference(probe, &got)).transpose()?;
                outcome.compared.dual += usize::from(dual.is_some());
                outcome.compared.differences += usize::from(difference.is_some());
                let place = probe.place.map(|(point, element)| self.place(point, element));
                let direction = probe.number;
                match judge(self.lab, (slope, error), dual, difference) {
                    Verdict::Same => {}
                    Verdict::Unknown => outcome.compared.unknown += 1,
                    Verdict::Bend(left, right) => {
                        outcome.bends.push(Bend { place, direction, gradient: slope, left, right });
                    }
                    Verdict::Wrong(expected, witness) => {
                        let found = Mismatch { place, direction, got: slope, expected, witness };
                        if outcome.worst.as_ref().is_none_or(|worst| found.error() > worst.error()) {
                            outcome.worst = Some(found);
                        }
                    }
                }
            }
        }
        if self.lab.forward && total > 0 {
            self.pairings(&got, &rounding, &mut outcome)?;
        }
        Ok(outcome)
    }

    /// `⟨u, J t⟩ = ⟨Jᵀ u, t⟩`, with the rules as they are on both sides.
    fn pairings(&self, got: &[Vec<f64>], rounding: &[Vec<f64>], outcome: &mut Outcome) -> Result<(), Error> {
        for number in 0..PAIRINGS {
            let tangents = self.random_tangents()?;
            let probe = Probe { place: None, number, tangents };
            let (reverse, error) = along(got, rounding, &probe.tangents);
            let Some((forward, bound)) = self.pushed(&self.scalar, std::slice::from_ref(&probe))?[0] else {
                outcome.compared.without_forward += 1;
                return Ok(());
            };
            let same = self.lab.same(forward, reverse, error + bound);
            // An unbounded error can confirm, not refute.
            let known = same || (error + bound).is_finite();
            outcome.compared.forward += usize::from(known);
            outcome.compared.unknown += usize::from(!known);
            if known && !same {
                outcome.forward = Some(Mismatch {
                    place: None,
                    direction: number,
                    got: forward,
                    expected: reverse,
                    witness: "reverse mode",
                });
            }
        }
        Ok(())
    }

    /// Derivatives along probes by forward mode, with their rounding; none where there is no forward mode.
    fn pushed(&self, of: &Tensor, probes: &[Probe]) -> Result<Vec<Option<(f64, f64)>>, Error> {
        let mut pushed = Vec::new();
        for probe in probes {
            let tangents: Vec<Tensor> = probe.tangents.iter().map(|t| Tensor::new(t.clone())).collect();
            let moved: Vec<(&Tensor, &Tensor)> =
                self.points.iter().map(|p| &p.tensor).zip(&tangents).collect();
            match jvp(&[of], &moved) {
                Ok(mut change) => pushed.push(change.pop()),
                Err(error) => match error.code() {
                    Code::NoJvp | Code::FirstOrderOnly | Code::NotDifferentiable | Code::NoDerivative => {
                        return Ok(probes.iter().map(|_| None).collect());
                    }
                    _ => return Err(error),
                },
            }
        }
        let pushed: Vec<Tensor> = pushed.into_iter().flatten().collect();
        let (values, errors) = (self.lab.values(&pushed)?, self.lab.rounding(&pushed)?);
        Ok(values.iter().zip(&errors).map(|(value, error)| Some((value[0], error[0]))).collect())
    }

    fn probe(&self, number: usize) -> Result<Probe, Error> {
        if self.lab.directions.is_some() {
            return Ok(Probe { place: None, number, tangents: self.random_tangents()? });
        }
        let (mut element, mut tangents, mut place) = (number, Vec::new(), None);
        for (at, point) in self.points.iter().enumerate() {
            let count = point.base.shape().elements();
            let mut tangent = vec![0.0; count];
            if place.is_none() && element < count {
                tangent[element] = 1.0;
                place = Some((at, element));
            } else if place.is_none() {
                element -= count;
            }
            tangents.push(Array::new(tangent, point.base.shape())?);
        }
        Ok(Probe { place, number, tangents })
    }

    fn random_tangents(&self) -> Result<Vec<Array>, Error> {
        self.points.iter().map(|p| self.lab.draw(p.base.shape())).collect()
    }

    fn place(&self, point: usize, element: usize) -> (usize, usize, Vec<usize>) {
        let Point { input, base, .. } = &self.points[point];
        (*input, element, coordinates(base.shape(), element))
    }
}

/// The coordinates of an element.
pub(super) fn coordinates(shape: &Shape, element: usize) -> Vec<usize> {
    let strides = shape.strides();
    shape.iter().zip(strides).map(|(&extent, stride)| element / stride.max(1) % extent).collect()
}

/// `⟨gradient, tangent⟩` and how far it may be off. What does not move does not count, whatever its gradient.
fn along(gradient: &[Vec<f64>], rounding: &[Vec<f64>], tangents: &[Array]) -> (f64, f64) {
    let (mut sum, mut error) = (0.0, 0.0);
    for ((gradient, rounding), tangent) in gradient.iter().zip(rounding).zip(tangents) {
        for ((g, e), t) in gradient.iter().zip(rounding).zip(tangent.to_f64()) {
            if t != 0.0 {
                sum += g * t;
                error += (e + ROUNDING * g.abs()) * t.abs();
            }
        }
    }
    (sum, error)
}

/// A program as a function on lines through its points.
struct Line<'a> {
    program: &'a Program<'a>,
    /// The value, then what is decided on the way.
    roots: Vec<Arc<Node>>,
    /// Rounding of the value.
    noise: f64,
}

impl<'a> Line<'a> {
    fn new(program: &'a Program<'a>, bare: Vec<Arc<Node>>) -> Result<Line<'a>, Error> {
        let noise = program.lab.rounding(&[Tensor::from_node(bare[0].clone())])?[0][0];
        let noise = if noise.is_finite() { noise } else { 0.0 };
        let decided = decisions(&bare)?;
        let decided = decided.iter().map(|d| d.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        Ok(Line { program, roots: bare.into_iter().chain(decided).collect(), noise })
    }

    fn difference(&self, probe: &Probe, gradient: &[Vec<f64>]) -> Result<Difference, Error> {
        let (mut widest, mut inexact) = (f64::INFINITY, 0.0);
        for ((point, tangent), gradient) in self.program.points.iter().zip(&probe.tangents).zip(gradient) {
            for ((x, t), g) in point.base.to_f64().into_iter().zip(tangent.to_f64()).zip(gradient) {
                if t != 0.0 {
                    widest = f64::min(widest, distance_scale(x) / t.abs());
                    // `x + h t` is rounded, which moves the value.
                    inexact += if g.is_finite() { f64::EPSILON * (g * x).abs() } else { 0.0 };
                }
            }
        }
        let mut samples = Samples::default();
        for (side, sign) in [-1.0, 1.0].into_iter().enumerate() {
            for k in 0..=STEPS {
                let (value, decided) = self.at(probe, sign * halved(widest, k))?;
                samples.values[side].push(value);
                samples.decisions[side].push(decided);
            }
        }
        samples.here = self.at(probe, 0.0)?.1;
        Ok(samples.difference(&|k| halved(widest, k), self.noise + inexact))
    }

    /// Value and decisions at a distance from the point.
    fn at(&self, probe: &Probe, distance: f64) -> Result<(f64, Vec<u64>), Error> {
        let mut images = Images::new();
        for (point, tangent) in self.program.points.iter().zip(&probe.tangents) {
            let (mut moved, tangent) = (point.base.to_f64(), tangent.to_f64());
            moved.iter_mut().zip(&tangent).for_each(|(x, t)| *x += distance * t);
            let moved = Array::new(moved, point.base.shape())?;
            images.insert(point.tensor.node()?.identity(), Tensor::new(moved).node()?.clone());
        }
        let there: Vec<Tensor> =
            substitute(&self.roots, &images).into_iter().map(Tensor::from_node).collect();
        // Outside a domain an index may be refused: there is no value then.
        let values = match self.program.lab.values(&there) {
            Ok(values) => values,
            Err(error) if error.code() == Code::Index => return Ok((f64::NAN, Vec::new())),
            Err(error) => return Err(error),
        };
        let decided = values[1..].iter().flatten().map(|v| v.to_bits()).collect();
        Ok((values[0][0], decided))
    }
}

/// What the witnesses say about a derivative; the second number of a pair is its rounding.
fn judge(
    lab: &Lab<'_>,
    (got, rounding): (f64, f64),
    dual: Option<(f64, f64)>,
    difference: Option<Difference>,
) -> Verdict {
    const DUAL: &str = "dual numbers";
    const DIFFERENCES: &str = "differences";
    let margin = lab.slack + if rounding.is_finite() { rounding } else { 0.0 };
    // Here as well an unbounded error can confirm, not refute.
    let by_dual = dual.and_then(|(value, error)| {
        let same = !value.is_nan() && lab.same(got, value, rounding + error);
        let certain = value.is_finite() && rounding.is_finite() && error.is_finite();
        (same || certain).then_some((same, value))
    });
    let near = |slope: &Slope| slope.agrees(got) || (slope.value - got).abs() <= slope.margin() + margin;
    let Some(Difference { slopes, tie }) = difference else {
        return match by_dual {
            Some((true, _)) => Verdict::Same,
            Some((false, expected)) => Verdict::Wrong(expected, DUAL),
            None => Verdict::Unknown,
        };
    };
    let conventional = tie && matches!(by_dual, Some((true, _)));
    match slopes {
        Slopes::Smooth(slope) => match by_dual {
            Some((false, expected)) if !(tie && near(&slope)) => Verdict::Wrong(expected, DUAL),
            _ if near(&slope) => Verdict::Same,
            _ if conventional => Verdict::Bend(slope.value, slope.value),
            _ => Verdict::Wrong(slope.value, DIFFERENCES),
        },
        Slopes::Kink { left, right } => {
            let bend = Verdict::Bend(left.value, right.value);
            match (left.is_known(), right.is_known()) {
                _ if conventional => bend,
                (true, true) => {
                    let (low, high) = if left.value < right.value { (left, right) } else { (right, left) };
                    let above = got >= low.value - low.margin() - margin;
                    let below = got <= high.value + high.margin() + margin;
                    let nearer = if got < low.value { low.value } else { high.value };
                    if above && below {
                        bend
                    } else {
                        Verdict::Wrong(nearer, "differences on both sides of a kink")
                    }
                }
                (false, false) => match by_dual {
                    Some((true, _)) => Verdict::Same,
                    Some((false, expected)) => Verdict::Wrong(expected, DUAL),
                    None => bend,
                },
                (known, _) => {
                    let side = if known { left } else { right };
                    if near(&side) {
                        bend
                    } else {
                        Verdict::Wrong(side.value, "differences at the edge of the domain")
                    }
                }
            }
        }
    }
}
