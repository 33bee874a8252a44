//! Batched functions: what they give for every operation is what they give for each example, in values and
//! derivatives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeSet, HashSet};
use std::panic::Location;
use std::sync::Arc;

use cotangent_autograd::{batch, grad, jvp};
use cotangent_tensor::{
    Array, Code, DType, Elementwise, Error, Evaluate, Integer, Key, MAX_RANK, Node, Op, Reduce, Reference,
    Tensor, Values, topological,
};
use support::cases::{Case, arguments, case, cases};
use support::{Noise, along, same, values};

const EXAMPLES: usize = 3;

/// Another array of the same shape and type, with values from the same range.
fn variant(array: &Array, example: usize, noise: &mut Noise) -> Array {
    let shape = *array.shape();
    match array.values() {
        Values::Float(_) | Values::Single(_) => noise.array(&shape, 0.3, 1.7),
        Values::Int(v) => {
            let n = v.iter().max().map_or(1, |m| m + 1);
            Array::new(v.iter().map(|v| (v + example as i32) % n).collect::<Vec<_>>(), shape).unwrap()
        }
        Values::Uint(v) => {
            let n = v.iter().max().map_or(1, |m| m + 1);
            Array::new(v.iter().map(|v| (v + example as u32) % n).collect::<Vec<_>>(), shape).unwrap()
        }
        Values::Bool(v) => {
            Array::new(v.iter().map(|v| v ^ (example % 2 == 1)).collect::<Vec<_>>(), shape).unwrap()
        }
    }
}

/// Arrays of one shape and type along a new first axis.
fn stacked(arrays: &[&Array]) -> Array {
    let shape = [&[arrays.len()], &arrays[0].shape()[..]].concat();
    let words = arrays.iter().flat_map(|a| a.to_words()).collect();
    match arrays[0].dtype() {
        DType::F32 | DType::F16 => {
            Array::new(arrays.iter().flat_map(|a| a.to_f64()).collect::<Vec<f64>>(), &shape).unwrap()
        }
        dtype => Array::from_words(words, *Tensor::zeros(&shape).shape(), dtype).unwrap(),
    }
}

fn integer(row: Integer, operands: &[Tensor]) -> Tensor {
    let operands: Vec<Arc<Node>> = operands.iter().map(|t| t.node().unwrap().clone()).collect();
    let last = &operands[operands.len() - 1];
    let (shape, dtype) = (last.shape, if row.is_test() { DType::Bool } else { last.dtype });
    let (op, location) = (Op::Integer(row), Location::caller());
    Tensor::from_node(Arc::new(Node {
        op,
        operands,
        shape,
        dtype,
        location,
        label: None,
        origin: Default::default(),
    }))
}

/// Every case and row there is, and what no float passes through.
fn everything(noise: &mut Noise) -> Vec<Case> {
    let mut all = cases(noise);
    for &row in Elementwise::ALL {
        all.push(case(row.name(), arguments(row, &[2, 2], noise), move |x| {
            <Tensor as cotangent_tensor::Real>::apply(row, &x.iter().collect::<Vec<_>>())
        }));
    }
    for &row in Integer::ALL {
        let (a, b) = (Array::from([-7, 3, 5, 2]), Array::from([2, -3, 4, 7]));
        let truth = Array::from([true, false, false, true]);
        let inputs = match row.arity() {
            1 => vec![a],
            2 => vec![a, b],
            _ => vec![truth, a, b],
        };
        all.push(case(row.name(), inputs, move |x| integer(row, x)));
    }
    let steps = vec![Array::new(vec![5u32], []).unwrap()];
    for count in [0, 1, 4, 6] {
        let key = Key::new(7).stream("test");
        all.push(case("random", steps.clone(), move |x| Tensor::random_bits(key, &x[0], [2, count])));
    }
    let table = || Array::from([[4, 1, 3], [2, 5, 0]]);
    all.extend([
        case("argmax", vec![noise.array(&[3, 4], 0.3, 1.7)], |x| x[0].argmax(1)),
        case("argmin", vec![noise.array(&[3, 4], 0.3, 1.7)], |x| x[0].argmin(0)),
        case("sum of integers", vec![table()], |x| x[0].sum(1)),
        case("largest integer", vec![table()], |x| x[0].max_over(0)),
        case("gather of integers", vec![table(), Array::from([0, 1, 1])], |x| x[0].gather(1, &x[1])),
        case("one hot", vec![Array::from([0, 2, 1])], |x| x[0].one_hot(3)),
        case("normal", steps, |x| Tensor::normal(Key::new(3), &x[0], [5])),
        case("cast to integers", vec![noise.array(&[3], -5.0, 5.0)], |x| x[0].cast(DType::I32)),
        case("half", vec![noise.array(&[3], -5.0, 5.0)], |x| x[0].cast(DType::F16).exp()),
        case("gather in the middle", vec![noise.array(&[2, 3, 2], 0.0, 1.0), Array::from([2, 0])], |x| {
            x[0].gather(1, &x[1])
        }),
        case("scatter in the middle", vec![noise.array(&[2, 3, 2], 0.0, 1.0), Array::from([2, 0, 2])], |x| {
            Tensor::scatter_add(&x[1], &x[0], 1, 4)
        }),
        case(
            "matmul rank 5",
            vec![noise.array(&[2, 1, 3, 2, 2], 0., 1.), noise.array(&[2, 2, 1, 2, 3], 0., 1.)],
            |x| x[0].matmul(&x[1]),
        ),
    ]);
    all
}

/// The operations that can depend on an example, by an exhaustive match: a new one must be listed.
fn dependent(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::Leaf(_) | Op::Constant(_) | Op::Input(_) | Op::Variable(_) | Op::Placeholder(_) => return None,
        Op::Iota { .. } => return None,
        Op::RandomBits(_) => "random_bits",
        Op::Elementwise(_) => "elementwise",
        Op::Integer(_) => "integer",
        Op::Cast => "cast",
        Op::While(..) => "while",
        Op::Reshape => "reshape",
        Op::Permute(_) => "permute",
        Op::Broadcast => "broadcast",
        Op::Slice { .. } => "slice",
        Op::Pad { .. } => "pad",
        Op::Concat(_) => "concat",
        Op::Reduce { kind: Reduce::Sum, .. } => "sum",
        Op::Reduce { kind: Reduce::Prod, .. } => "prod",
        Op::Reduce { kind: Reduce::Max, .. } => "max",
        Op::Reduce { kind: Reduce::Min, .. } => "min",
        Op::ArgReduce { .. } => "arg_reduce",
        Op::CumulativeSum { .. } => "cumulative_sum",
        Op::Matmul => "matmul",
        Op::Gather(_) => "gather",
        Op::ScatterAdd(_) => "scatter_add",
        Op::LogSumExp => "logsumexp",
        Op::Softmax => "softmax",
        Op::CrossEntropy => "cross_entropy",
        Op::SoftmaxResidual => "softmax_residual",
        Op::Detach => "detach",
        Op::Inspect(_) => "inspect",
        Op::After => "after",
        // Nobody differentiates or batches the text of a kernel.
        Op::Kernel(_) => return None,
        Op::Rule(_) => "rule",
        Op::Project(_) => "project",
    })
}
const DEPENDENT: usize = 29;

/// Names of the operations between `inputs` and `output`.
fn between(inputs: &[Tensor], output: &Tensor) -> BTreeSet<&'static str> {
    let mut reached: HashSet<*const ()> = inputs.iter().map(|t| t.node().unwrap().identity()).collect();
    let mut names = BTreeSet::new();
    for node in topological([output.node().unwrap()]) {
        if node.operands.iter().any(|o| reached.contains(&o.identity())) {
            reached.insert(node.identity());
            names.extend(dependent(&node.op));
        }
    }
    names
}

/// Examples of some of the inputs of a case; the others are the same for all.
struct Sample {
    /// By example, all inputs.
    examples: Vec<Vec<Array>>,
    moved: Vec<bool>,
}

impl Sample {
    fn new(inputs: &[Array], moved: Vec<bool>, count: usize, noise: &mut Noise) -> Sample {
        let one = |example, noise: &mut Noise| -> Vec<Array> {
            let of = |(array, &moved): (&Array, &bool)| match moved {
                true => variant(array, example, noise),
                false => array.clone(),
            };
            inputs.iter().zip(&moved).map(of).collect()
        };
        Sample { examples: (0..count).map(|example| one(example, noise)).collect(), moved }
    }
    /// One tensor per input: with the leading axis where examples differ.
    fn tensors(&self) -> Vec<Tensor> {
        let of = |(position, moved): (usize, &bool)| match moved {
            true => stacked(&self.examples.iter().map(|e| &e[position]).collect::<Vec<_>>()),
            false => self.examples[0][position].clone(),
        };
        self.moved.iter().enumerate().map(of).map(Tensor::new).collect()
    }
    /// `function` of all examples, by `batch`.
    fn batched(&self, points: &[Tensor], function: impl FnOnce(&[Tensor]) -> Tensor) -> Tensor {
        let chosen = points.iter().zip(&self.moved).filter(|(_, moved)| **moved).map(|(point, _)| point);
        batch(chosen.collect::<Vec<_>>(), |traced| {
            let mut traced = traced.into_iter();
            let all = points.iter().zip(&self.moved);
            let all = all.map(|(point, moved)| if *moved { traced.next().unwrap() } else { point.clone() });
            function(&all.collect::<Vec<_>>())
        })
    }
}

/// Every way to choose at least one of `n` inputs.
fn choices(n: usize) -> impl Iterator<Item = Vec<bool>> {
    (1..1usize << n).map(move |bits| (0..n).map(|i| bits >> i & 1 == 1).collect())
}

fn evaluated(name: &str, tensors: &[&Tensor]) -> Vec<Array> {
    Reference::new().evaluate(tensors).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn points(arrays: &[Array]) -> Vec<Tensor> {
    arrays.iter().map(|a| Tensor::new(a.clone())).collect()
}

/// How many numbers of `all` are those of `each`, one after the other, bit for bit; or the first that is not.
fn holds(all: &Tensor, each: &[Tensor]) -> Result<usize, String> {
    let roots: Vec<&Tensor> = std::iter::once(all).chain(each).collect();
    let arrays = Reference::new().evaluate(&roots).map_err(|e| e.to_string())?;
    let expected = stacked(&arrays[1..].iter().collect::<Vec<_>>());
    if (arrays[0].shape(), arrays[0].dtype()) != (expected.shape(), expected.dtype()) {
        return Err(format!("{:?} instead of {:?}", arrays[0], expected));
    }
    let (got, expected) = (arrays[0].to_f64(), expected.to_f64());
    match got.iter().zip(&expected).find(|(got, expected)| got.to_bits() != expected.to_bits()) {
        Some((got, expected)) => Err(format!("{got} instead of {expected}")),
        None => Ok(got.len()),
    }
}

fn assert_stacked(name: &str, all: &Tensor, each: &[Tensor]) -> usize {
    holds(all, each).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Whether no axis of examples fits. What `batch` says then has a test of its own.
fn too_deep(inputs: &[Array]) -> bool {
    inputs.iter().any(|a| a.shape().rank() == MAX_RANK)
}

#[test]
fn every_operation_gives_what_it_gives_for_each_example() {
    let mut noise = Noise(17);
    let (mut seen, mut functions, mut numbers, mut refused) = (BTreeSet::new(), 0, 0, 0);
    for (name, inputs, function) in &everything(&mut noise) {
        if too_deep(inputs) {
            refused += 1;
            continue;
        }
        for moved in choices(inputs.len()) {
            let sample = Sample::new(inputs, moved, EXAMPLES, &mut noise);
            let all = sample.batched(&sample.tensors(), |x| {
                let output = function(x);
                let inputs = x.iter().zip(&sample.moved).filter(|(_, moved)| **moved);
                seen.append(&mut between(&inputs.map(|(t, _)| t.clone()).collect::<Vec<_>>(), &output));
                output
            });
            let each: Vec<Tensor> = sample.examples.iter().map(|e| function(&points(e))).collect();
            numbers += assert_stacked(name, &all, &each);
            functions += 1;
        }
    }
    println!("{functions} functions, {numbers} numbers, {refused} of too high rank");
    assert_eq!(seen.len(), DEPENDENT, "{seen:?}");
    assert!(functions > 250 && numbers > 3000 && refused == 1);
}

/// `Σ weight · f`, a scalar.
fn weighted(value: &Tensor, weights: &Tensor) -> Tensor {
    (value * weights).sum(..)
}

/// Gradients of the loss, and of its slope along `directions`, with respect to the floats among `points`.
/// `None` where a derivative is missing.
fn orders(loss: &Tensor, points: &[Tensor], directions: &[Tensor]) -> Option<[Vec<Tensor>; 2]> {
    let floats: Vec<&Tensor> = points.iter().filter(|p| p.dtype().is_float()).collect();
    let of = |loss: &Tensor| -> Result<Vec<Tensor>, Error> {
        grad(loss, &floats)?.iter().map(|g| g.or_zero()).map(|t| t.node().map(|_| t.clone())).collect()
    };
    let known = |result: Result<_, Error>| match result {
        Ok(gradients) => Some(gradients),
        Err(error) if error.code() == Code::NoDerivative => None,
        Err(error) => panic!("{error}"),
    };
    let first = known(of(loss))?;
    let slope = along(loss, points, directions);
    let second =
        known(if slope.error().is_some() { Err(slope.error().unwrap().clone()) } else { of(&slope) });
    Some([first, second.unwrap_or_default()])
}

#[test]
fn gradients_of_batches_are_those_of_examples_and_their_sums() {
    let mut noise = Noise(23);
    let (mut first, mut second) = (0, 0);
    for (name, inputs, function) in &everything(&mut noise) {
        let output = function(&points(inputs));
        let float = inputs.iter().any(|a| a.dtype().is_float());
        if too_deep(inputs) || !float || output.dtype() != DType::F32 {
            continue;
        }
        for moved in choices(inputs.len()) {
            let sample = Sample::new(inputs, moved, EXAMPLES, &mut noise);
            let all = sample.tensors();
            let draw = |shape: &[usize], noise: &mut Noise| noise.array(shape, 0.5, 1.5);
            let weights: Vec<Array> = (0..EXAMPLES).map(|_| draw(output.shape(), &mut noise)).collect();
            let directions = Sample::new(inputs, sample.moved.clone(), EXAMPLES, &mut noise);
            let upstream = Tensor::new(stacked(&weights.iter().collect::<Vec<_>>()));
            let loss = weighted(&sample.batched(&all, |x| function(x)), &upstream);
            let Some(got) = orders(&loss, &all, &directions.tensors()) else { continue };
            let expected: Vec<[Vec<Tensor>; 2]> = (0..EXAMPLES)
                .map(|e| {
                    let x = points(&sample.examples[e]);
                    let loss = weighted(&function(&x), &Tensor::new(weights[e].clone()));
                    orders(&loss, &x, &points(&directions.examples[e])).unwrap()
                })
                .collect();
            let floats = sample.moved.iter().zip(inputs).filter(|(_, a)| a.dtype().is_float());
            for (position, (moved, _)) in floats.enumerate() {
                for (order, compared) in [&mut first, &mut second].into_iter().enumerate() {
                    let Some(got) = got[order].get(position) else { continue };
                    let each: Vec<Tensor> = expected.iter().map(|e| e[order][position].clone()).collect();
                    *compared += assert_gradient(&format!("{name}, order {order}"), got, &each, *moved);
                }
            }
        }
    }
    println!("{first} numbers of first order, {second} of second");
    assert!(first > 3000 && second > 3000);
}

/// Asserts that `got` holds `each`, or their sum, up to rounding.
fn assert_gradient(name: &str, got: &Tensor, each: &[Tensor], moved: bool) -> usize {
    let each: Vec<Vec<f64>> =
        evaluated(name, &each.iter().collect::<Vec<_>>()).iter().map(Array::to_f64).collect();
    let got = values(got);
    let size = each.iter().flatten().fold(1.0f64, |size, v| size.max(v.abs()));
    let expected: Vec<f64> = match moved {
        true => each.concat(),
        false => (0..got.len()).map(|i| each.iter().map(|e| e[i]).sum()).collect(),
    };
    assert_eq!(got.len(), expected.len(), "{name}");
    for (got, expected) in got.iter().zip(&expected) {
        assert!(same(*got, *expected, size), "{name}: {got} instead of {expected}");
    }
    got.len()
}

#[test]
fn batches_of_gradients_are_the_gradients_of_examples() {
    let mut noise = Noise(29);
    let (mut reverse, mut forward, mut second) = (0, 0, 0);
    for (name, inputs, function) in &everything(&mut noise) {
        let output = function(&points(inputs));
        let float = inputs.iter().any(|a| a.dtype().is_float());
        if too_deep(inputs) || !float || output.dtype() != DType::F32 {
            continue;
        }
        let sample = Sample::new(inputs, vec![true; inputs.len()], EXAMPLES, &mut noise);
        let weights = Tensor::new(noise.array(output.shape(), 0.5, 1.5));
        let directions = points(&Sample::new(inputs, vec![true; inputs.len()], 1, &mut noise).examples[0]);
        let at = inputs.iter().position(|a| a.dtype().is_float()).unwrap();
        let gradient = |order: usize| {
            let (weights, directions) = (&weights, &directions);
            move |x: &[Tensor]| match orders(&weighted(&function(x), weights), x, directions) {
                Some(gradients) => gradients[order].first().cloned(),
                None => None,
            }
        };
        let pushed = |x: &[Tensor]| jvp(&[&function(x)], &[(&x[at], &directions[at])]).unwrap().remove(0);
        let each: Vec<Vec<Tensor>> = sample.examples.iter().map(|e| points(e)).collect();
        for (order, compared) in [&mut reverse, &mut second].into_iter().enumerate() {
            let of = gradient(order);
            if of(&each[0]).is_none() {
                continue;
            }
            let all = sample.batched(&sample.tensors(), |x| of(x).unwrap());
            let each: Vec<Tensor> = each.iter().map(|x| of(x).unwrap()).collect();
            *compared += assert_stacked(name, &all, &each);
        }
        if gradient(0)(&each[0]).is_some() {
            let all = sample.batched(&sample.tensors(), pushed);
            forward += assert_stacked(name, &all, &each.iter().map(|x| pushed(x)).collect::<Vec<_>>());
        }
    }
    println!("{reverse} numbers in reverse mode, {forward} in forward mode, {second} of second order");
    assert!(reverse > 1000 && forward > 1000 && second > 1000);
}

#[test]
fn the_comparison_finds_planted_faults() {
    let x = Tensor::new(Noise(3).array(&[3, 2, 2], 0.3, 1.7));
    let each: Vec<Tensor> = (0..3).map(|i| x.slice(0, i, i + 1, 1).reshape([2, 2]).softmax(-1)).collect();
    let all = batch([&x], |[x]| x.softmax(-1));
    assert_eq!(holds(&all, &each), Ok(12));
    let last = Tensor::iota([3, 2, 2], 0).eq(2);
    let faults = [
        ("another axis", batch([&x], |[x]| x.softmax(0))),
        ("across examples", x.reshape([6, 2]).softmax(0).reshape([3, 2, 2])),
        ("order of examples", all.flip(0)),
        ("first example for all", all.slice(0, 0, 1, 1).broadcast_to([3, 2, 2])),
        ("one in 10¹⁵", last.select(&all * (1.0 + 4.0 * f64::EPSILON), &all)),
        ("sign of zero", last.select(&all * 0.0 * -1.0, &all)),
        ("a missing example", all.slice(0, 0, 2, 1)),
        ("shape", all.reshape([3, 4])),
    ];
    for (fault, tensor) in faults {
        assert!(holds(&tensor, &each).is_err(), "{fault}");
    }
}

/// A shape as `reshape` takes it.
fn dims(parts: [&[usize]; 2]) -> Vec<isize> {
    parts.concat().iter().map(|&d| d as isize).collect()
}

#[test]
fn batches_nest() {
    let mut noise = Noise(31);
    let (mut twice, mut crossed) = (0, 0);
    for (name, inputs, function) in &everything(&mut noise) {
        if inputs.iter().any(|a| a.shape().rank() + 1 >= MAX_RANK) {
            continue;
        }
        // Both axes on every input.
        let sample = Sample::new(inputs, vec![true; inputs.len()], 6, &mut noise);
        let square = |t: &Tensor| t.reshape(dims([&[2, 3], &t.shape()[1..]]));
        let points_of = sample.tensors().iter().map(square).collect::<Vec<_>>();
        let all = batch(&points_of, |rows| batch(rows, |x| function(&x)));
        let each: Vec<Tensor> = sample.examples.iter().map(|e| function(&points(e))).collect();
        assert_eq!(all.shape()[..2], [2, 3], "{name}");
        let flat =
            all.reshape([&[6], &all.shape()[2..]].concat().iter().map(|&d| d as isize).collect::<Vec<_>>());
        twice += assert_stacked(name, &flat, &each);
        // The first input along the outer axis, the others along the inner one.
        if inputs.len() < 2 {
            continue;
        }
        let all = sample.tensors();
        let (outer, inner) = (all[0].slice(0, 0, 2, 1), all[1..].iter().map(|t| t.slice(0, 2, 5, 1)));
        let inner: Vec<Tensor> = inner.collect();
        let all =
            batch([&outer], |[first]| batch(&inner, |rest| function(&[vec![first.clone()], rest].concat())));
        for (row, a) in sample.examples[..2].iter().enumerate() {
            let of = |b: &Vec<Array>| function(&points(&[&a[..1], &b[1..]].concat()));
            let each: Vec<Tensor> = sample.examples[2..5].iter().map(of).collect();
            let taken = all.slice(0, row, row + 1, 1).reshape(dims([&[], &all.shape()[1..]]));
            crossed += assert_stacked(name, &taken, &each);
        }
    }
    println!("{twice} numbers along two axes, {crossed} of all pairs");
    assert!(twice > 3000 && crossed > 1000);
}
