//! A scalar function of data as a graph, its gradient, and the comparison of the two.

use std::sync::Arc;

use cotangent_tensor::{Array, Code, DType, Error, Node, Op, Tensor, expand, substitute, topological};

use super::ROUNDING;
use super::decisions::decisions;
use super::differences::{Difference, STEPS, Samples, distance_scale, halved};
use super::lab::{Lab, Witnesses, coordinates};
use super::plain::{Images, cuts, plain};
use super::report::Compared;
use super::verdict::{Verdict, judge};
use crate::pullback::undefined;
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

/// An output of a surrogate that counts as what it says. Where points move, it moves as far as its forward mode says.
struct Given {
    projection: Tensor,
    /// Its value, which stands for it.
    leaf: Tensor,
    base: Array,
}

/// How far a program and the outputs of its surrogates move along a probe, by forward mode.
struct Change {
    value: f64,
    /// Rounding of the value.
    error: f64,
    given: Vec<Array>,
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
    /// zero. Whatever surrogates made it, from here on it is a program like any other; those that it applies are what they
    /// say they are.
    pub(super) fn slope(&self) -> Result<Option<Program<'a>>, Error> {
        let mut terms = Vec::new();
        let points: Vec<&Tensor> = self.points.iter().map(|p| &p.tensor).collect();
        for (gradient, point) in grad(&self.scalar, &points)?.iter().zip(&self.points) {
            if let Some(gradient) = gradient.value() {
                let direction = Tensor::new(self.lab.draw(point.base.shape())?);
                terms.push((gradient.cast(DType::F32) * direction).sum(..));
            }
        }
        let Some(scalar) = terms.into_iter().reduce(|a, b| a + b) else { return Ok(None) };
        // What the user cut stays cut; what a gradient cuts is what higher orders are checked for.
        let (points, cuts) = (self.points.clone(), self.cuts.clone());
        let output = scalar.clone();
        Ok(Some(Program { lab: self.lab, output, scalar, points, cuts, keeps_surrogates: true }))
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
        }
        let (got, rounding) = (self.lab.values(&tensors)?, self.lab.rounding(&tensors)?);
        outcome.infinite = got.iter().flatten().any(|g| !g.is_finite());
        let fixed = self.fixed()?;
        let bare = if self.keeps_surrogates { plain(&fixed) } else { expand(fixed).roots };
        let line = match self.lab.witnesses {
            Witnesses::Dual => None,
            Witnesses::Either | Witnesses::Both => Some(Line::new(self, &bare)?),
        };
        let mut moving = vec![Tensor::from_node(bare[0].clone())];
        moving.extend(line.iter().flat_map(|line| &line.given).map(|given| given.projection.clone()));

        let total: usize = self.points.iter().map(|p| p.base.shape().elements()).sum();
        let count = if total == 0 { 0 } else { self.lab.directions.unwrap_or(total) };
        for start in (0..count).step_by(BATCH) {
            let probes: Vec<Probe> =
                (start..count.min(start + BATCH)).map(|n| self.probe(n)).collect::<Result<_, _>>()?;
            let changes = self.pushed(&moving, &probes)?;
            for (probe, change) in probes.iter().zip(changes) {
                let (slope, error) = along(&got, &rounding, &probe.tangents);
                let difference = match &line {
                    Some(line) => line.difference(probe, &got, change.as_ref())?,
                    None => None,
                };
                let dual = change.map(|change| (change.value, change.error));
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
            let moving = std::slice::from_ref(&self.scalar);
            let Some(change) = &self.pushed(moving, std::slice::from_ref(&probe))?[0] else {
                outcome.compared.without_forward += 1;
                return Ok(());
            };
            let (forward, bound) = (change.value, change.error);
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

    /// How far the first of `moving`, a number, and the others move along probes; none where there is no forward mode.
    fn pushed(&self, moving: &[Tensor], probes: &[Probe]) -> Result<Vec<Option<Change>>, Error> {
        let moving: Vec<&Tensor> = moving.iter().collect();
        let mut pushed = Vec::new();
        for probe in probes {
            let tangents: Vec<Tensor> = probe.tangents.iter().map(|t| Tensor::new(t.clone())).collect();
            let moved: Vec<(&Tensor, &Tensor)> =
                self.points.iter().map(|p| &p.tensor).zip(&tangents).collect();
            match jvp(&moving, &moved) {
                Ok(change) => pushed.push(change),
                Err(error) => match error.code() {
                    // the second is the first, of a rule with a text of its own
                    Code::NoJvp
                    | Code::WgslLinear
                    | Code::FirstOrderOnly
                    | Code::NotDifferentiable
                    | Code::NoDerivative => {
                        return Ok(probes.iter().map(|_| None).collect());
                    }
                    _ => return Err(error),
                },
            }
        }
        let numbers: Vec<Tensor> = pushed.iter().map(|change| change[0].clone()).collect();
        let errors = self.lab.rounding(&numbers)?;
        let arrays = self.lab.evaluator.evaluate(&pushed.iter().flatten().collect::<Vec<_>>())?;
        let change = |(arrays, error): (&[Array], &Vec<f64>)| {
            let value = arrays[0].scalar()?;
            Ok(Some(Change { value, error: error[0], given: arrays[1..].to_vec() }))
        };
        arrays.chunks_exact(moving.len()).zip(&errors).map(change).collect()
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

/// What moves along a line: a leaf, its value at the point, and how far it moves.
struct Moved<'a> {
    tensor: &'a Tensor,
    base: &'a Array,
    tangent: &'a Array,
}

/// A program as a function on lines through its points.
struct Line<'a> {
    program: &'a Program<'a>,
    /// The value, then what is decided on the way.
    roots: Vec<Arc<Node>>,
    /// Rounding of the value.
    noise: f64,
    given: Vec<Given>,
}

impl<'a> Line<'a> {
    /// `bare` applies surrogates only.
    fn new(program: &'a Program<'a>, bare: &[Arc<Node>]) -> Result<Line<'a>, Error> {
        let is_output = |node: &Arc<Node>| matches!(node.op, Op::Project(_));
        let outputs: Vec<Tensor> =
            topological(bare).into_iter().filter(is_output).map(Tensor::from_node).collect();
        let bases = program.lab.evaluator.evaluate(&outputs.iter().collect::<Vec<_>>())?;
        let (mut images, mut given) = (Images::new(), Vec::new());
        for (projection, base) in outputs.into_iter().zip(bases) {
            let (node, leaf) = (projection.node()?, Tensor::new(base.clone()));
            images.insert(node.identity(), leaf.node()?.clone());
            // What has no derivative is a constant to derivatives.
            let moves = node.dtype.is_float()
                && !matches!(node.op, Op::Project(slot) if undefined(node, slot).is_some());
            if moves {
                given.push(Given { projection, leaf, base });
            }
        }
        let bare = substitute(bare, &images);
        let noise = program.lab.rounding(&[Tensor::from_node(bare[0].clone())])?[0][0];
        let noise = if noise.is_finite() { noise } else { 0.0 };
        let decided = decisions(&bare)?;
        let decided = decided.iter().map(|d| d.node().cloned()).collect::<Result<Vec<_>, _>>()?;
        Ok(Line { program, roots: bare.into_iter().chain(decided).collect(), noise, given })
    }

    /// What moves along a probe, where it is, and how far it moves. None where no forward mode says so.
    fn moved(&self, probe: &'a Probe, change: Option<&'a Change>) -> Option<Vec<Moved<'_>>> {
        let points = self.program.points.iter().zip(&probe.tangents);
        let points =
            points.map(|(point, tangent)| Moved { tensor: &point.tensor, base: &point.base, tangent });
        if self.given.is_empty() {
            return Some(points.collect());
        }
        let given = self.given.iter().zip(&change?.given);
        let given = given.map(|(given, tangent)| Moved { tensor: &given.leaf, base: &given.base, tangent });
        Some(points.chain(given).collect())
    }

    fn difference(
        &self,
        probe: &Probe,
        gradient: &[Vec<f64>],
        change: Option<&Change>,
    ) -> Result<Option<Difference>, Error> {
        let Some(moved) = self.moved(probe, change) else { return Ok(None) };
        let (mut widest, mut inexact) = (f64::INFINITY, 0.0);
        for Moved { base, tangent, .. } in &moved {
            for (x, t) in base.to_f64().into_iter().zip(tangent.to_f64()).filter(|(_, t)| *t != 0.0) {
                widest = f64::min(widest, distance_scale(x) / t.abs());
            }
        }
        // `x + h t` is rounded, which moves the value.
        for (Moved { base, tangent, .. }, gradient) in moved.iter().zip(gradient) {
            for ((x, t), g) in base.to_f64().into_iter().zip(tangent.to_f64()).zip(gradient) {
                inexact += if t != 0.0 && g.is_finite() { f64::EPSILON * (g * x).abs() } else { 0.0 };
            }
        }
        let mut samples = Samples::default();
        for (side, sign) in [-1.0, 1.0].into_iter().enumerate() {
            for k in 0..=STEPS {
                let (value, decided) = self.at(&moved, sign * halved(widest, k))?;
                samples.values[side].push(value);
                samples.decisions[side].push(decided);
            }
        }
        samples.here = self.at(&moved, 0.0)?.1;
        Ok(Some(samples.difference(&|k| halved(widest, k), self.noise + inexact)))
    }

    /// Value and decisions at a distance from the point.
    fn at(&self, moved: &[Moved<'_>], distance: f64) -> Result<(f64, Vec<u64>), Error> {
        let mut images = Images::new();
        for Moved { tensor, base, tangent } in moved {
            let (mut there, tangent) = (base.to_f64(), tangent.to_f64());
            there.iter_mut().zip(&tangent).for_each(|(x, t)| *x += distance * t);
            let there = Array::new(there, base.shape())?;
            images.insert(tensor.node()?.identity(), Tensor::new(there).node()?.clone());
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
