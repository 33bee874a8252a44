//! Where a rule is tried: at the values that its operands have, if these are made of data, else at drawn ones.
//!
//! What a user knows about operands nobody tells: that a row adds up to one, that bounds are in order, that a matrix is
//! symmetric. A rule may rely on it, so numbers of several kinds are drawn, and a rule that is right for one of them is right.

use std::cell::Cell;
use std::sync::Arc;

use cotangent_tensor::random::random_words;
use cotangent_tensor::{
    Array, DType, Error, Evaluate, InputGradient, Key, Node, Op, Reference, Shape, Tensor, topological_until,
};

/// Numbers that are computed in one evaluation of the graphs of a rule, with the products that a matrix product adds up: so
/// many take about a millisecond to check.
const MOST_WORK: usize = 4096;

/// What is drawn for floats of which nothing is known. Operands that a rule passes nothing to are data; the others vary.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Both signs, none of them small.
    Signed,
    /// Between 0.1 and 1.
    Fraction,
    /// Data are rows with a single one, as targets and masks are; the others are signed.
    OneHot,
    /// The same, the others fractions.
    OneHotFraction,
    /// Between 1.1 and 2.
    AboveOne,
    /// Each operand above those before it, as bounds are.
    Rising,
    /// Rows that add up to one.
    Probability,
    /// Symmetric matrices with a heavy diagonal.
    Symmetric,
    /// Rows of length one.
    Unit,
    /// Data are −1 and 1; the others are signed.
    Sign,
    /// Rows in order, as knots and times are.
    Sorted,
}

const KINDS: [Kind; 11] = [
    Kind::Signed,
    Kind::Fraction,
    Kind::OneHot,
    Kind::OneHotFraction,
    Kind::AboveOne,
    Kind::Rising,
    Kind::Probability,
    Kind::Symmetric,
    Kind::Unit,
    Kind::Sign,
    Kind::Sorted,
];

/// Nodes that `roots` need, with those inside of rules; none where they are too much work. A walk ends early there.
pub(super) fn small(roots: Vec<Arc<Node>>) -> Option<Vec<Arc<Node>>> {
    let work = Cell::new(0usize);
    let is_beyond = |node: &Arc<Node>| {
        work.set(work.get().saturating_add(effort(node)));
        work.get() > MOST_WORK
    };
    let (mut nodes, mut pending) = (Vec::new(), vec![roots]);
    while let Some(roots) = pending.pop() {
        let order = topological_until(&roots, is_beyond);
        if work.get() > MOST_WORK {
            return None;
        }
        let inside = |node: &Arc<Node>| match &node.op {
            Op::Rule(rule) => Some(rule.outputs.clone()),
            _ => None,
        };
        pending.extend(order.iter().filter_map(inside));
        nodes.extend(order);
    }
    Some(nodes)
}

/// How many numbers a node computes, or multiplies.
fn effort(node: &Node) -> usize {
    let products = match (&node.op, &node.operands[..]) {
        (Op::Matmul, [lhs, _]) => lhs.shape.last().copied().unwrap_or(1),
        _ => 1,
    };
    node.shape.elements().saturating_mul(products).max(1)
}

/// The operands of a rule: their values as far as they are known.
pub(super) struct Operands {
    nodes: Vec<Arc<Node>>,
    known: Vec<Option<Array>>,
    /// Which are data: the rule passes nothing to them.
    is_data: Vec<bool>,
}

impl Operands {
    /// The operands of a node that is a rule.
    pub(super) fn of(node: &Arc<Node>) -> Operands {
        let passes_nothing =
            |g: &InputGradient<_>| matches!(g, InputGradient::Nothing | InputGradient::Missing(_));
        let gradients = match &node.op {
            Op::Rule(rule) => rule.pullbacks.first().map_or(&[][..], |pullback| &pullback.gradients),
            _ => &[],
        };
        Operands {
            nodes: node.operands.clone(),
            known: node.operands.iter().map(known).collect(),
            is_data: gradients.iter().map(passes_nothing).collect(),
        }
    }
    /// The values of all operands; none if one is not known.
    pub(super) fn values(&self) -> Option<Vec<Array>> {
        self.known.iter().cloned().collect()
    }
    /// Values of all operands: those that are known, where not all of them are, and drawn ones.
    pub(super) fn drawn(&self) -> impl Iterator<Item = Result<Vec<Array>, Error>> {
        let all = self.known.iter().all(Option::is_some);
        (0..KINDS.len()).map(move |kind| {
            let value = |(position, node): (usize, &Arc<Node>)| match &self.known[position] {
                Some(value) if !all => Ok(value.clone()),
                _ => drawn(kind, position, self.is_data.get(position) == Some(&true), node),
            };
            self.nodes.iter().enumerate().map(value).collect()
        })
    }
}

/// The value of what is made of data, where it is cheap to compute.
fn known(operand: &Arc<Node>) -> Option<Array> {
    let nodes = small(vec![operand.clone()])?;
    let given = |node: &Arc<Node>| matches!(node.op, Op::Input(_) | Op::Variable(_));
    // Placeholders inside of rules are no sources; others have no value, which the reference says.
    if nodes.iter().any(given) {
        return None;
    }
    Reference::new().evaluate(&[&Tensor::from_node(operand.clone())]).ok()?.pop()
}

/// Drawn values for an operand. Integers count along the last axis, or are zeros: most often they are places.
fn drawn(number: usize, position: usize, is_data: bool, node: &Node) -> Result<Array, Error> {
    let (shape, count, width) = (&node.shape, node.shape.elements(), width(&node.shape));
    let step = u32::try_from(number * 64 + position).unwrap_or_default();
    let words = random_words(Key::new(0).stream("first use"), step, count);
    let uniform: Vec<f64> = words.into_iter().map(|word| f64::from(word) / f64::from(u32::MAX)).collect();
    let places = (0..count).map(|at| if number % 2 == 1 { at % width } else { 0 });
    let kind = KINDS[number];
    match node.dtype {
        DType::F32 | DType::F16 => {
            let numbers = floats(kind, position, is_data, shape, &uniform);
            Ok(Array::new(numbers, shape)?.with_dtype(node.dtype))
        }
        DType::I32 => {
            let places = places.map(|place| i32::try_from(place).unwrap_or_default());
            Array::new(places.collect::<Vec<_>>(), shape)
        }
        DType::U32 => {
            let places = places.map(|place| u32::try_from(place).unwrap_or_default());
            Array::new(places.collect::<Vec<_>>(), shape)
        }
        DType::Bool => {
            let holds = match kind {
                Kind::Signed | Kind::Sign => uniform.iter().map(|u| *u < 0.5).collect(),
                Kind::OneHot | Kind::OneHotFraction => {
                    one_hot(width, &uniform).iter().map(|v| *v > 0.0).collect()
                }
                _ => vec![true; count],
            };
            Array::new(holds, shape)
        }
    }
}

fn floats(kind: Kind, position: usize, is_data: bool, shape: &Shape, uniform: &[f64]) -> Vec<f64> {
    let width = width(shape);
    let each = |number: &dyn Fn(f64) -> f64| uniform.iter().map(|&u| number(u)).collect::<Vec<f64>>();
    let signed = || each(&|u| if u < 0.5 { -0.5 - 2.0 * u } else { 2.0 * u - 0.5 });
    let fraction = || each(&|u| 0.1 + 0.9 * u);
    match kind {
        Kind::OneHot | Kind::OneHotFraction if is_data => one_hot(width, uniform),
        Kind::Sign if is_data => each(&|u| if u < 0.5 { -1.0 } else { 1.0 }),
        Kind::Signed | Kind::OneHot | Kind::Sign => signed(),
        Kind::Fraction | Kind::OneHotFraction => fraction(),
        Kind::AboveOne => each(&|u| 1.1 + 0.9 * u),
        Kind::Rising => each(&|u| position as f64 + 0.1 + 0.8 * u),
        Kind::Probability => scaled(fraction(), width, |row| row.iter().sum()),
        Kind::Unit => scaled(signed(), width, |row| row.iter().map(|v| v * v).sum::<f64>().sqrt()),
        Kind::Symmetric => symmetric(signed(), shape),
        Kind::Sorted => {
            let mut numbers = signed();
            numbers.chunks_mut(width).for_each(|row| row.sort_by(f64::total_cmp));
            numbers
        }
    }
}

/// Elements along the last axis.
fn width(shape: &Shape) -> usize {
    shape.last().copied().unwrap_or(1).max(1)
}

fn one_hot(width: usize, uniform: &[f64]) -> Vec<f64> {
    let row = |row: &[f64]| {
        let largest = row.iter().copied().fold(0.0, f64::max);
        row.iter().map(|u| if *u >= largest { 1.0 } else { 0.0 }).collect::<Vec<f64>>()
    };
    uniform.chunks(width).flat_map(row).collect()
}

fn scaled(mut numbers: Vec<f64>, width: usize, size: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    for row in numbers.chunks_mut(width) {
        let size = size(row);
        row.iter_mut().for_each(|v| *v /= size);
    }
    numbers
}

fn symmetric(numbers: Vec<f64>, shape: &Shape) -> Vec<f64> {
    let [.., rows, columns] = shape[..] else { return numbers };
    if rows != columns || rows == 0 {
        return numbers;
    }
    let of = |matrix: &[f64]| {
        let at = |k: usize| {
            let (i, j) = (k / rows, k % rows);
            let diagonal = if i == j { 2.0 * rows as f64 } else { 0.0 };
            diagonal + 0.5 * (matrix[k] + matrix[j * rows + i])
        };
        (0..matrix.len()).map(at).collect::<Vec<f64>>()
    };
    numbers.chunks(rows * rows).flat_map(of).collect()
}
