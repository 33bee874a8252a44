//! Random graphs: every device agrees with the reference within the derived bound, fused and unfused alike, values and
//! gradients.

#[path = "common/mod.rs"]
mod common;

use std::cell::Cell;

use common::{
    Array, DType, Error, Evaluate, Evaluator, Step, StepOptions, Tensor, adapter_present, bounds, evaluators,
    grad,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Of the generator of programs; printed with every failure.
const SEED: [u8; 32] = *b"random graphs on every device, 1";

/// Programs on a device that compiles nothing, and on one that compiles each kernel.
const ON_CPU: u32 = 64;
const ON_ADAPTERS: u32 = 24;

/// Elements of a tensor of a program, at most.
const MAX_ELEMENTS: usize = 4096;

/// One instruction: which operation, and three choices that it reads modulo what is possible.
type Instruction = (u8, u8, u8, u8);

/// A random program: a first shape and instructions on a pool of tensors.
fn programs() -> impl Strategy<Value = (Vec<usize>, Vec<Instruction>)> {
    (prop::collection::vec(1usize..7, 1..4), prop::collection::vec(any::<Instruction>(), 2..12))
}

/// Numbers of a leaf: distinct, of both signs, not round.
fn leaf(shape: &[usize], salt: u8) -> Tensor {
    let count: usize = shape.iter().product();
    let number = |i: usize| {
        let word =
            (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ u64::from(salt) << 32).rotate_left(29) >> 40;
        word as f64 / f64::from(1 << 23) - 1.0
    };
    Tensor::from_values((0..count).map(|i| f64::from((1.75 * number(i)) as f32)).collect::<Vec<_>>(), shape)
}

/// Adds what an instruction makes to the pool.
fn apply(pool: &mut Vec<Tensor>, (operation, a, b, c): Instruction) {
    let x = pool[usize::from(a) % pool.len()].clone();
    let shape = x.shape().to_vec();
    let rank = shape.len();
    let axis = if rank == 0 { 0 } else { usize::from(b) % rank };
    let signed = axis as isize;
    let other = |salt: u8| {
        // Broadcast along some axes, and sometimes with fewer of them.
        let kept: Vec<usize> =
            shape.iter().enumerate().map(|(i, &n)| if c >> (i % 8) & 1 == 1 { 1 } else { n }).collect();
        leaf(&kept[usize::from(b) % (rank + 1)..], salt)
    };
    let same = pool.iter().rev().find(|t| t.shape() == x.shape()).cloned().unwrap_or_else(|| x.clone());
    let made = match operation % 32 {
        0 => &x + other(c),
        1 => &x * other(c),
        2 => other(c) - &x,
        3 => &x / (other(c).abs() + 0.5),
        4 => &x * &same,
        5 => x.max(&same),
        6 => x.gt(other(c)).select(&x * 0.5, &same),
        7 => x.tanh(),
        8 => (-&x).sigmoid() + x.softplus(),
        9 => x.clamp(-2.0, 2.0).exp(),
        10 => (x.abs() + 0.25).sqrt(),
        11 => (x.abs() + 0.25).log(),
        12 => x.clamp(-8.0, 8.0).sin() + x.relu(),
        13 => x.pow(2) - x.abs(),
        14 => x.reshape([-1]),
        15 if rank > 1 => {
            let axes: Vec<usize> = (0..rank).map(|i| (i + 1 + axis) % rank).collect();
            x.permute_axes(&axes)
        }
        16 if rank > 0 => {
            let n = shape[axis];
            let start = usize::from(c) % n;
            x.slice(signed, start, n, 1 + isize::from(c % 2))
        }
        17 if rank > 0 => x.flip(signed),
        18 if rank > 0 => x.pad(signed, usize::from(c % 3), usize::from(c % 2)),
        19 if rank > 0 => Tensor::concat(&[&x, &same], signed),
        20 if rank < 4 => x.unsqueeze(0).broadcast_to([&[2 + usize::from(c % 3)], &shape[..]].concat()),
        21 if rank > 0 => x.sum(signed),
        22 if rank > 0 => x.mean(signed),
        23 if rank > 0 => x.max_over(signed),
        24 if rank > 0 => x.sum(..) + &x,
        25 if rank > 0 => x.clamp(-1.25, 1.25).prod(signed),
        26 if rank > 0 => x.matmul(&leaf(&[shape[rank - 1], 1 + usize::from(c % 5)], c)),
        27 if rank > 1 => leaf(&[1 + usize::from(c % 5), shape[rank - 2]], c).matmul(&x),
        28 if rank > 0 => x.softmax(signed),
        29 if rank > 0 => x.logsumexp(signed),
        30 if rank > 0 => x.cumulative_sum(signed, c % 2 == 1),
        31 if rank > 0 => {
            let indices: Vec<i32> =
                (0..1 + i32::from(c % 4)).map(|i| (i + i32::from(c)) % shape[axis] as i32).collect();
            x.gather(signed, &Tensor::new(indices))
        }
        _ => &x * 1.5 - 0.25,
    };
    if made.shape().elements() <= MAX_ELEMENTS {
        pool.push(made);
    }
}

/// The last tensors of a program, and gradients of a weighted sum of the last one.
fn outputs((shape, instructions): &(Vec<usize>, Vec<Instruction>)) -> Result<Vec<Tensor>, Error> {
    let first = leaf(shape, 0).named("first");
    let mut pool = vec![first.clone()];
    for &instruction in instructions {
        apply(&mut pool, instruction);
    }
    let last = pool[pool.len() - 1].clone();
    let loss = (&last * leaf(last.shape(), 77)).sum(..);
    let middle = pool[pool.len() / 2].clone();
    let mut outputs = vec![last, middle.clone()];
    for gradient in grad(&loss, [&first, &middle])? {
        outputs.push(gradient.or_zero());
    }
    Ok(outputs)
}

/// Elements compared, and how many of them had a finite bound.
#[derive(Default)]
struct Count {
    compared: Cell<usize>,
    bounded: Cell<usize>,
}

fn agrees(
    evaluator: &Evaluator,
    tensors: &[&Tensor],
    got: &[Array],
    count: &Count,
) -> Result<(), TestCaseError> {
    let fail = |text: String| TestCaseError::fail(text);
    let expected = bounds(tensors, &evaluator.arithmetic()).map_err(|error| fail(error.to_string()))?;
    for (place, (expected, got)) in expected.iter().zip(got).enumerate() {
        if got.shape() != &expected.shape {
            return Err(fail(format!("output {place} has shape {}, not {}", got.shape(), expected.shape)));
        }
        if let Some(violation) = expected.first_violation(got) {
            return Err(fail(format!("output {place} on {}: {violation:?}", evaluator.slug)));
        }
        count.compared.set(count.compared.get() + expected.value.len());
        count.bounded.set(count.bounded.get() + expected.bound.iter().filter(|b| b.is_finite()).count());
    }
    Ok(())
}

/// Runs `property` on random programs on every device, and says how much was compared.
fn on_every_device(property: impl Fn(&Evaluator, &[&Tensor], &Count) -> Result<(), TestCaseError>) {
    let evaluators = evaluators();
    assert_eq!(adapter_present(&evaluators), Ok(()));
    for evaluator in evaluators.iter().filter(|e| !e.is_reference()) {
        let cases = if evaluator.is_adapter() { ON_ADAPTERS } else { ON_CPU };
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
        let count = Count::default();
        let result = TestRunner::new_with_rng(config, rng).run(&programs(), |program| {
            let outputs = outputs(&program).map_err(|error| TestCaseError::fail(error.to_string()))?;
            property(evaluator, &outputs.iter().collect::<Vec<_>>(), &count)
        });
        let (compared, bounded) = (count.compared.get(), count.bounded.get());
        let failure = result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(failure.is_empty(), "{}, seed {SEED:?}: {failure}", evaluator.slug);
        println!("{}: {cases} programs, {compared} elements, {bounded} with a finite bound", evaluator.slug);
        assert!(2 * bounded > compared && compared > 0, "{}: too little was compared", evaluator.slug);
    }
}

#[test]
fn random_graphs_agree_with_the_reference_within_their_bound() {
    on_every_device(|evaluator, tensors, count| {
        let got = evaluator.evaluate(tensors).map_err(|error| TestCaseError::fail(error.to_string()))?;
        agrees(evaluator, tensors, &got, count)
    });
}

#[test]
fn unfused_graphs_agree_with_the_reference_within_their_bound() {
    on_every_device(|evaluator, tensors, count| {
        let Some(device) = &evaluator.device else { return Ok(()) };
        let options = StepOptions { fuse: false, ..StepOptions::default() };
        let run = || {
            let run = Step::with_options(device, &[], tensors, &[], options)?.run(&[])?;
            (0..tensors.len()).map(|i| run.read(i)).collect::<Result<Vec<_>, Error>>()
        };
        agrees(evaluator, tensors, &run().map_err(|error| TestCaseError::fail(error.to_string()))?, count)
    });
}

/// Found by the random graphs: the planner made groups that needed each other.
#[test]
fn a_concatenation_beside_its_gradient_can_be_planned() -> Result<(), Error> {
    let x = Tensor::new([0.5]);
    let joined = Tensor::concat(&[&x, &(&x + Tensor::new([1.25]))], 0);
    let scaled = &joined * Tensor::new(3.0);
    let loss = (&scaled * Tensor::new([2.0, -1.0])).sum(..);
    let [dx, dj] = grad(&loss, [&x, &joined])?;
    let tensors = [scaled, joined, dx.or_error()?, dj.or_error()?];
    for evaluator in evaluators() {
        let got = evaluator.evaluate(&tensors.each_ref())?;
        let got: Vec<f64> = got.iter().flat_map(Array::to_f64).collect();
        assert_eq!(got, [1.5, 5.25, 0.5, 1.75, 3.0, 6.0, -3.0], "{}", evaluator.slug);
    }
    Ok(())
}

#[test]
fn random_graphs_reach_most_operations() {
    let mut seen = std::collections::BTreeSet::new();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let config = Config { cases: ON_CPU, failure_persistence: None, ..Config::default() };
    let names = std::cell::RefCell::new(&mut seen);
    let result = TestRunner::new_with_rng(config, rng).run(&programs(), |program| {
        let outputs = outputs(&program).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let nodes = outputs.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>();
        let nodes = nodes.map_err(|error| TestCaseError::fail(error.to_string()))?;
        for node in cotangent::topological(&nodes) {
            names.borrow_mut().insert(format!("{} {:?}", node.name(), node.dtype == DType::F32));
        }
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
    assert!(seen.len() > 40, "only {} kinds of nodes: {seen:?}", seen.len());
}
