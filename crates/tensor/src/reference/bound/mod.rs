//! The running error bound (Higham, *Accuracy and Stability of Numerical Algorithms*, §3.3): how far a correct device
//! may be from the reference, element by element.
//!
//! Each element carries a value `v` in f64 and a bound `E`; a device that computes in f32 as promised has a value in
//! `[v − E, v + E]`. A bound of infinity stands for "anything, NaN included": it arises where an uncertain operand meets
//! a pole, the edge of a domain, or an overflow that the value itself does not have. Nothing here is a typed tolerance:
//! promises come from the rows of the elementwise table, everything else from [`Arithmetic`]. Kernels of users are
//! the exception: their bound is estimated, by evaluating their text with other roundings.

mod elementwise;
mod kernel;
mod rows;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::looped::{Column, looped};
use super::structure;
use super::value::{from_array, largest};
use super::walk::{Meaning, unbound, walk};
use crate::node::topological_until;
use crate::{Array, Code, DType, Error, Node, Op, Reduce, Shape, Token};

/// Longest chain of additions that a term of a sum passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Any order of summation: `n − 1` for `n` terms.
    Serial,
    /// Passes of a fixed tree, each of which combines up to `terms` terms by a chain of `depth` additions; never more
    /// than [`Chain::Serial`].
    Passes {
        /// Terms that one pass combines into one; above 1.
        terms: usize,
        /// Additions on the longest path of one pass.
        depth: usize,
    },
}

impl Chain {
    /// The number for a sum of `n` terms.
    pub fn length(self, n: usize) -> usize {
        let serial = n.saturating_sub(1);
        match self {
            Chain::Serial => serial,
            Chain::Passes { terms, depth } => {
                let (mut left, mut length) = (n, 0usize);
                while left > 1 && length < serial {
                    left = left.div_ceil(terms.max(2));
                    length = length.saturating_add(depth);
                }
                length.min(serial)
            }
        }
    }
}

/// What the arithmetic of a device promises, in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arithmetic {
    /// The order of sums.
    pub chain: Chain,
    /// Relative error of one addition, subtraction or multiplication: 2⁻²⁴ where results are rounded to nearest, 2⁻²³
    /// where only "either neighbor" is promised.
    pub unit: f64,
    /// Absolute error below the normal range: 2⁻¹⁴⁹ where denormals are kept, 2⁻¹²⁶ where they may be flushed to zero.
    pub eta: f64,
}

impl Default for Arithmetic {
    /// IEEE 754 single precision, rounded to nearest, with denormals, and sums in any order.
    fn default() -> Arithmetic {
        Arithmetic { chain: Chain::Serial, unit: 2f64.powi(-24), eta: 2f64.powi(-149) }
    }
}

impl Arithmetic {
    /// No more than WGSL promises: either neighbor, denormals flushed, sums in any order.
    pub fn specification() -> Arithmetic {
        Arithmetic { chain: Chain::Serial, unit: 2f64.powi(-23), eta: f64::from(f32::MIN_POSITIVE) }
    }
    /// `γ_d = d·u / (1 − d·u)`: relative error after a chain of `d` roundings.
    fn gamma(&self, roundings: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "chains are shorter than 2³²")]
        let product = roundings as f64 * self.unit;
        if product < 1.0 { product / (1.0 - product) } else { f64::INFINITY }
    }
    /// Relative error of a function that promises this many ULP.
    fn relative(promise: f64) -> f64 {
        promise * f64::from(f32::EPSILON)
    }
    /// Absolute error that a promised function may add near zero: below the normal range no ULP are promised.
    fn underflow(&self, value: f64) -> f64 {
        if value.abs() < f64::from(f32::MIN_POSITIVE) {
            self.eta.max(f64::from(f32::MIN_POSITIVE))
        } else {
            self.eta
        }
    }
    fn flushes(&self) -> bool {
        self.eta >= f64::from(f32::MIN_POSITIVE)
    }
}

/// Values with the error a correct device may have.
#[derive(Clone, Debug)]
pub struct Bounded {
    /// The shape.
    pub shape: Shape,
    /// The element type.
    pub dtype: DType,
    /// Values in f64, row-major.
    pub value: Vec<f64>,
    /// Largest accepted distance from each value; infinity accepts anything.
    pub bound: Vec<f64>,
    /// Whether a device may replace a denormal result by zero.
    pub flushes: bool,
}

/// An element outside its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Violation {
    /// Row-major index.
    pub element: usize,
    /// What the device computed.
    pub got: f64,
    /// What the reference computed.
    pub expected: f64,
    /// Largest accepted distance.
    pub bound: f64,
}

impl Bounded {
    /// Whether a device may have computed `got` as element `i`.
    ///
    /// NaN meets NaN; infinity meets infinity of the same sign, or a value that may lie beyond the largest number; ±0
    /// are equal, and denormals may be flushed to them where [`Arithmetic::eta`] says so.
    pub fn accepts(&self, i: usize, got: f64) -> bool {
        let (value, bound) = (self.value[i], self.bound[i]);
        if bound == f64::INFINITY {
            return true;
        }
        if got.is_nan() || value.is_nan() {
            return got.is_nan() && value.is_nan();
        }
        if got.is_infinite() || value.is_infinite() {
            let reach = value * got.signum() + bound;
            return got == value || got.is_infinite() && reach > largest(self.dtype);
        }
        let flushed = self.flushes && got == 0.0 && value.abs() < f64::from(f32::MIN_POSITIVE);
        flushed || (got - value).abs() <= bound
    }
    /// Distance of `got` from element `i` in units of its bound: at most 1 exactly if it is accepted.
    pub fn ratio(&self, i: usize, got: f64) -> f64 {
        let ratio = (got - self.value[i]).abs() / self.bound[i];
        match (self.accepts(i, got), ratio <= 1.0) {
            (true, true) | (false, false) if !ratio.is_nan() => ratio,
            (true, _) => 0.0,
            (false, _) => f64::INFINITY,
        }
    }
    /// The first element that is not accepted. A missing element counts as NaN that is not accepted.
    pub fn first_violation(&self, got: &Array) -> Option<Violation> {
        let values = got.to_f64();
        let outside = |i: usize| values.get(i).is_none_or(|&x| !self.accepts(i, x));
        let element = (0..self.value.len()).find(|&i| outside(i))?;
        Some(Violation {
            element,
            got: values.get(element).copied().unwrap_or(f64::NAN),
            expected: self.value[element],
            bound: self.bound[element],
        })
    }
    /// The largest [`Bounded::ratio`] of all elements; 0 for none.
    pub fn worst_ratio(&self, got: &Array) -> f64 {
        let values = got.to_f64();
        let ratio = |i: usize| values.get(i).map_or(f64::INFINITY, |&x| self.ratio(i, x));
        (0..self.value.len()).map(ratio).fold(0.0, f64::max)
    }
}

/// Values and error bounds of `outputs`, starting from the values a device had at the `given` nodes (without error) and
/// from host data and constants as the device holds them, rounded to f32.
///
/// Errors: [`Code::Unbound`] for an input, variable or placeholder that is not given; [`Code::DataLength`] for a given
/// value of another shape; [`Code::Index`] as in [`Reference`](super::Reference).
pub fn bounded(
    outputs: &[Arc<Node>],
    given: &HashMap<*const Node, Array>,
    arithmetic: &Arithmetic,
) -> Result<Vec<Bounded>, Error> {
    let mut values = HashMap::new();
    for node in topological_until(outputs, |node| given.contains_key(&node.key())) {
        let Some(array) = given.get(&node.key()) else { continue };
        if *array.shape() != node.shape {
            let message = format!("a value of shape {} is given for `{node:?}`", array.shape());
            return Err(Error::new(Code::DataLength, "bounded", message).at(node.location));
        }
        values.insert(node.key(), Rc::new(Ranged::exact(from_array(array, node.dtype, true))));
    }
    let results = walk(&Bounding(*arithmetic), outputs, &values)?;
    let mut bounded = Vec::new();
    for (node, result) in outputs.iter().zip(results) {
        let Ranged { value, bound } = Rc::unwrap_or_clone(result);
        let flushes = arithmetic.flushes() && node.dtype.is_float();
        bounded.push(Bounded { shape: node.shape, dtype: node.dtype, value, bound, flushes });
    }
    Ok(bounded)
}

/// Values with bounds, element by element.
#[derive(Clone)]
struct Ranged {
    value: Vec<f64>,
    bound: Vec<f64>,
}

impl Ranged {
    fn exact(value: Vec<f64>) -> Ranged {
        let bound = vec![0.0; value.len()];
        Ranged { value, bound }
    }
    fn is_exact(&self) -> bool {
        self.bound.iter().all(|&e| e == 0.0)
    }
    /// As arithmetic sees it: where denormals are flushed, a denormal operand may count as zero.
    fn read(&self, dtype: DType, arithmetic: &Arithmetic) -> Ranged {
        if !dtype.is_float() || !arithmetic.flushes() {
            return self.clone();
        }
        let tiny = |v: f64| if v.abs() < f64::from(f32::MIN_POSITIVE) { v.abs() } else { 0.0 };
        let bound = self.value.iter().zip(&self.bound).map(|(&v, e)| e.max(tiny(v))).collect();
        Ranged { value: self.value.clone(), bound }
    }
    /// As operations between elements see it: an uncertain operand that may be infinite spoils what it meets.
    fn mixed(mut self) -> Ranged {
        for (v, e) in self.value.iter().zip(&mut self.bound) {
            if *e > 0.0 && v.abs() + *e > largest(DType::F32) {
                *e = f64::INFINITY;
            }
        }
        self
    }
}

impl Column for Ranged {
    fn count(&self) -> usize {
        self.value.len()
    }
    fn repeated(&self, count: usize) -> Ranged {
        Ranged { value: self.value.repeated(count), bound: self.bound.repeated(count) }
    }
    fn taken(&self, elements: &[usize]) -> Ranged {
        Ranged { value: self.value.taken(elements), bound: self.bound.taken(elements) }
    }
    fn put(&mut self, elements: &[usize], values: &Ranged) {
        self.value.put(elements, &values.value);
        self.bound.put(elements, &values.bound);
    }
    fn holds(&self, element: usize) -> bool {
        self.value.holds(element)
    }
    fn doubtful(&self) -> Vec<usize> {
        (0..self.bound.len()).filter(|&i| self.bound[i] > 0.0).collect()
    }
    fn spoil(&mut self, element: usize) {
        self.bound[element] = f64::INFINITY;
    }
}

/// Distance of two results: 0 for equal infinities and for two NaNs, infinity where only one is finite. Zeros of
/// opposite sign are a denormal apart, so that a sign that is uncertain is not forgotten.
fn distance(a: f64, b: f64) -> f64 {
    if a == 0.0 && b == 0.0 && a.is_sign_negative() != b.is_sign_negative() {
        return f64::from(f32::from_bits(1));
    }
    if a == b || a.is_nan() && b.is_nan() {
        return 0.0;
    }
    let distance = (a - b).abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

/// A bound that came out as NaN promises nothing.
fn settled(bound: f64) -> f64 {
    if bound.is_nan() { f64::INFINITY } else { bound }
}

struct Bounding(Arithmetic);

impl Meaning for Bounding {
    type Value = Ranged;

    fn bound(&self, node: &Node, token: &Token) -> Result<Ranged, Error> {
        Err(unbound(node, token))
    }
    fn compute(&self, node: &Node, operands: &[&Ranged]) -> Result<Ranged, Error> {
        if let Op::While(inner, output) = &node.op {
            let result = looped(self, inner, *output, operands);
            return result.map_err(|e| if e.location().is_some() { e } else { e.at(node.location) });
        }
        let values: Vec<&[f64]> = operands.iter().map(|o| o.value.as_slice()).collect();
        let value = super::compute(node, &values, true)?;
        let bounds: Vec<&[f64]> = operands.iter().map(|o| o.bound.as_slice()).collect();
        if let Some(bound) = structure::moved(node, &bounds) {
            return Ok(Ranged { value, bound });
        }
        let mixes = matches!(
            node.op,
            Op::Kernel(_)
                | Op::Reduce { .. }
                | Op::CumulativeSum { .. }
                | Op::Matmul
                | Op::ScatterAdd(_)
                | Op::LogSumExp
                | Op::Softmax
                | Op::CrossEntropy
                | Op::SoftmaxResidual
        );
        let read = |(operand, of): (&&Ranged, &Arc<Node>)| {
            let read = operand.read(of.dtype, &self.0);
            if mixes { read.mixed() } else { read }
        };
        let operands: Vec<Ranged> = operands.iter().zip(&node.operands).map(read).collect();
        let bound = bound(node, &operands, &value, &self.0)?;
        Ok(Ranged { value, bound })
    }
}

/// The bound of a node that computes.
fn bound(
    node: &Node,
    operands: &[Ranged],
    value: &[f64],
    arithmetic: &Arithmetic,
) -> Result<Vec<f64>, Error> {
    let shape = |operand: usize| &node.operands[operand].shape;
    let dtype = |operand: usize| node.operands[operand].dtype;
    let anything = || vec![f64::INFINITY; value.len()];
    Ok(match &node.op {
        Op::Leaf(_) | Op::Constant(_) | Op::Iota { .. } | Op::RandomBits(_) => vec![0.0; value.len()],
        Op::Elementwise(row) => elementwise::row(*row, operands, value, arithmetic),
        Op::Integer(row) => elementwise::integer(*row, dtype(operands.len() - 1), operands, value),
        Op::Cast => elementwise::cast(&operands[0], value, dtype(0), node.dtype, arithmetic),
        Op::Reduce { kind, axes } => rows::reduce(*kind, axes, node, &operands[0], value, arithmetic),
        Op::ArgReduce { maximum, axis } => rows::arg_reduce(&operands[0], shape(0), *axis, *maximum),
        Op::CumulativeSum { axis, reverse } => {
            rows::cumulative_sum(&operands[0], shape(0), *axis, *reverse, arithmetic)
        }
        Op::Matmul => rows::matmul(node, &operands[0], &operands[1], value, arithmetic),
        Op::Gather(axis) => gather(node, operands, value, *axis)?,
        Op::ScatterAdd(_) if !operands[0].is_exact() => anything(),
        Op::ScatterAdd(axis) => {
            let size = node.shape[*axis];
            let indices = structure::indices(node, &operands[0].value, dtype(0), size)?;
            rows::scatter_add(&operands[1], shape(1), *axis, &indices, size, arithmetic)
        }
        Op::LogSumExp => rows::each_row(&operands[0], shape(0), |row| vec![row.logsumexp(arithmetic)]),
        Op::Softmax => rows::each_row(&operands[0], shape(0), |row| row.softmax(arithmetic)),
        Op::CrossEntropy | Op::SoftmaxResidual if !operands[1].is_exact() => anything(),
        Op::CrossEntropy | Op::SoftmaxResidual => {
            let classes = shape(0)[shape(0).rank() - 1];
            let labels = structure::indices(node, &operands[1].value, dtype(1), classes)?;
            let mut labels = labels.into_iter();
            rows::each_row(&operands[0], shape(0), |row| {
                let label = labels.next().unwrap_or(0);
                if matches!(node.op, Op::CrossEntropy) {
                    vec![row.cross_entropy(label, arithmetic)]
                } else {
                    row.softmax_residual(label, arithmetic)
                }
            })
        }
        Op::Kernel(of) => kernel::estimate(of, operands, value, node.dtype, arithmetic),
        Op::Reshape
        | Op::Permute(_)
        | Op::Broadcast
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Concat(_)
        | Op::Detach
        | Op::After
        | Op::Inspect(_)
        | Op::Input(_)
        | Op::Variable(_)
        | Op::Placeholder(_)
        | Op::Rule(_)
        | Op::While(..)
        | Op::Project(_) => {
            let message = format!("`{}` has no bound of its own", node.name());
            return Err(Error::new(Code::Internal, "bounded", message).at(node.location));
        }
    })
}

/// The bound of a gather; an uncertain index may name any slice in its interval.
fn gather(node: &Node, operands: &[Ranged], value: &[f64], axis: usize) -> Result<Vec<f64>, Error> {
    let ([data, indices], shape) = (operands, node.operands[0].shape) else {
        return Err(Error::new(Code::Internal, "gather", "needs two operands"));
    };
    let chosen = structure::indices(node, &indices.value, node.operands[1].dtype, shape[axis])?;
    let mut bound = structure::gathered(&data.bound, &shape, axis, &chosen);
    let along = structure::Along::new(&node.shape, axis);
    let from = structure::Along::new(&shape, axis);
    for (slice, (&index, &uncertainty)) in chosen.iter().zip(&indices.bound).enumerate() {
        if uncertainty == 0.0 {
            continue;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates: any index")]
        let reach = uncertainty as usize;
        for candidate in index.saturating_sub(reach)..=index.saturating_add(reach).min(shape[axis] - 1) {
            for outer in 0..along.outer {
                for inner in 0..along.inner {
                    let (to, at) =
                        (along.position(outer, slice, inner), from.position(outer, candidate, inner));
                    bound[to] = bound[to].max(distance(data.value[at], value[to]) + data.bound[at]);
                }
            }
        }
    }
    Ok(bound)
}

/// Whether a reduction of integers with uncertain operands keeps a usable bound, and which.
fn integer_reduction(kind: Reduce, bounds: &[f64]) -> f64 {
    let uncertain = bounds.iter().any(|&e| e > 0.0);
    match kind {
        Reduce::Sum => bounds.iter().sum(),
        Reduce::Prod if uncertain => f64::INFINITY,
        Reduce::Prod => 0.0,
        Reduce::Max | Reduce::Min => bounds.iter().copied().fold(0.0, f64::max),
    }
}
