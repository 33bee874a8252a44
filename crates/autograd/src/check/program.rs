//! A scalar function of data as a graph, its gradient, and the comparison of the two.

use std::collections::HashMap;
use std::sync::Arc;

use cotangent_tensor::{
    Array, Code, DType, Error, Node, Op, RuleKind, Tensor, expand, substitute, topological,
};

use super::ROUNDING;
use super::decisions::decisions;
use super::differences::{Difference, STEPS, Samples, distance_scale, halved};
use super::lab::{Lab, coordinates};
use super::plain::{Images, cuts, plain};
use super::report::Compared;
use super::verdict::{Verdict, judge};
use crate::{State, grad, jvp};

/// Derivatives evaluated together.
const BATCH: usize = 32;
/// Numbers of both signs.
const RANDOM: &str = "random numbers";
/// Random tangents on which forward mode and reverse mode are compared.
const PAIRINGS: usize = 2;

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
    /// What is added up to the number.
    output: Tensor,
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
    /// What the outputs were multiplied with before they were added up.
    pub(super) cotangent: &'static str,
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
        Ok(Program { lab, output: output.clone(), scalar, points, cuts, keeps_surrogates })
    }

    /// The same with a cotangent of ones. Random ones find what ones do not, where errors cancel; but people want to read
    /// the derivative itself.
    fn with_ones(&self) -> Result<Program<'a>, Error> {
        let shape = self.output.node()?.shape;
        let ones = Array::new(vec![1.0; shape.elements()], shape)?;
        Program::new(self.lab, &self.output, ones, self.points.clone(), self.keeps_surrogates)
    }

    /// [`compare`](Program::compare), with the numbers for a cotangent of ones where those show the same.
    pub(super) fn compare_for_reading(&self) -> Result<Outcome, Error> {
        let mut outcome = self.compare()?;
        if outcome.worst.is_some() || !outcome.bends.is_empty() {
            let ones = self.with_ones()?.compare()?;
            if let (Some(_), Some(worst)) = (&outcome.worst, ones.worst) {
                outcome.worst = Some(Mismatch { cotangent: "ones", ..worst });
            }
            let places = |bends: &[Bend]| bends.iter().map(|bend| bend.place.clone()).collect::<Vec<_>>();
            if places(&outcome.bends) == places(&ones.bends) {
                outcome.bends = ones.bends;
            }
        }
        Ok(outcome)
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
        Ok(Some(Program { output: scalar.clone(), scalar, points, cuts, ..*self }))
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
                let place = probe.place.map(|(point, element)| self.place(point, element));
                let direction = probe.number;
                let verdict = judge(self.lab, (slope, error), dual, difference);
                if !matches!(verdict, Verdict::Unknown) {
                    outcome.compared.dual += usize::from(dual.is_some());
                    outcome.compared.differences += usize::from(difference.is_some());
                }
                match verdict {
                    Verdict::Same => {}
                    Verdict::Unknown => outcome.compared.unknown += 1,
                    Verdict::Bend(left, right) => {
                        outcome.bends.push(Bend { place, direction, gradient: slope, left, right });
                    }
                    Verdict::Wrong(expected, witness) => {
                        let found =
                            Mismatch { place, direction, got: slope, expected, witness, cotangent: RANDOM };
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
                    cotangent: RANDOM,
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
