//! Random programs with movement, reductions, branches and functions that are NaN or infinite in the branch not taken:
//! reverse mode, forward mode and differences must agree, at first and second order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use cotangent_autograd::check::finite_differences;
use cotangent_autograd::{grad, jvp};
use cotangent_tensor::{
    Array, Elementwise, Evaluate, Node, Op, Real, Reduce, Reference, Tensor, topological, where_,
};
use support::{Noise, along, same};

/// One instruction on a pool of matrices of one shape; operands are positions in the pool.
#[derive(Clone, Debug)]
enum Step {
    Unary(Elementwise, usize),
    Binary(Elementwise, usize, usize),
    Constant(f64, usize),
    /// `where(a > c, f(a), b)` with a function that may be infinite or NaN where it is not taken.
    Branch(Elementwise, usize, usize, f64),
    Structure(usize, usize),
}

const SMOOTH: &[Elementwise] = &[
    Elementwise::Sin,
    Elementwise::Tanh,
    Elementwise::Sigmoid,
    Elementwise::Softplus,
    Elementwise::Abs,
    Elementwise::Relu,
    Elementwise::Neg,
    Elementwise::Floor,
    Elementwise::Sign,
    Elementwise::Atan,
];
const BINARY: &[Elementwise] =
    &[Elementwise::Add, Elementwise::Sub, Elementwise::Mul, Elementwise::Max, Elementwise::Min];
const RISKY: &[Elementwise] =
    &[Elementwise::Sqrt, Elementwise::Log, Elementwise::Rsqrt, Elementwise::Recip, Elementwise::Atanh];
const STRUCTURES: usize = 14;
const ROWS: usize = 2;
const COLUMNS: usize = 3;

fn structure(kind: usize, t: &Tensor) -> Tensor {
    let shape = [ROWS, COLUMNS];
    match kind {
        0 => t.flip(1),
        1 => t.transpose().reshape([2, 3]),
        2 => t.sum(1).unsqueeze(1).broadcast_to(shape),
        3 => t.max_over(0).broadcast_to(shape),
        4 => t.min_over(1).unsqueeze(1).broadcast_to(shape),
        5 => t.softmax(-1),
        6 => t.logsumexp(0).broadcast_to(shape),
        7 => t.cumulative_sum(1, true),
        8 => t.slice(1, 0, 2, 1).pad(1, 0, 1),
        9 => Tensor::concat(&[&t.slice(0, 1, 2, 1), &t.slice(0, 0, 1, 1)], 0),
        10 => t.tanh().prod(1).unsqueeze(1).broadcast_to(shape),
        11 => t.matmul(&t.transpose()).slice(1, 0, 1, 1).tanh().broadcast_to(shape),
        12 => t.gather(1, &Tensor::new([2, 0, 2])),
        _ => t.mean(..).broadcast_to(shape),
    }
}

fn program(noise: &mut Noise) -> Vec<Step> {
    let length = 4 + noise.below(12);
    let pick = |noise: &mut Noise, rows: &[Elementwise]| rows[noise.below(rows.len())];
    (0..length)
        .map(|step| {
            // The last few values are the likely operands, so that programs are deep as well as wide.
            let operand = |noise: &mut Noise| (step + 1).saturating_sub(noise.below(4).min(step + 1));
            let (a, b) = (operand(noise), operand(noise));
            match noise.below(8) {
                0 | 1 => Step::Unary(pick(noise, SMOOTH), a),
                2 | 3 => Step::Binary(pick(noise, BINARY), a, b),
                4 => Step::Constant(noise.uniform(-2.0, 2.0), a),
                5 | 6 => Step::Branch(pick(noise, RISKY), a, b, [0.0, 0.5, -0.5][noise.below(3)]),
                _ => Step::Structure(noise.below(STRUCTURES), a),
            }
        })
        .collect()
}

/// The scalar that a program computes from its two inputs.
fn run(steps: &[Step], inputs: &[Tensor]) -> Tensor {
    let mut pool = inputs.to_vec();
    for step in steps {
        let next = match step {
            Step::Unary(row, a) => Tensor::apply(*row, &[&pool[*a]]),
            Step::Binary(row, a, b) => Tensor::apply(*row, &[&pool[*a], &pool[*b]]),
            Step::Constant(c, a) => &pool[*a] * *c + 0.25,
            Step::Branch(row, a, b, c) => {
                where_(&pool[*a].gt(*c), Tensor::apply(*row, &[&pool[*a]]), &pool[*b])
            }
            Step::Structure(kind, a) => structure(*kind, &pool[*a]),
        };
        pool.push(next);
    }
    let last = &pool[pool.len() - 1];
    (last * 0.5 + last.tanh()).sum(..)
}

#[derive(Debug, Default)]
struct Count {
    programs: usize,
    modes: usize,
    differences: usize,
    kinks: usize,
}

fn numbers(tensors: &[&Tensor]) -> Vec<Vec<f64>> {
    Reference::new().evaluate(tensors).unwrap().iter().map(Array::to_f64).collect()
}

fn compare(seed: u64, count: &mut Count) {
    let mut noise = Noise(seed);
    let steps = program(&mut noise);
    // Zeros are where square roots, logarithms and reciprocals end.
    let mut draw = || {
        let values: Vec<f64> = (0..ROWS * COLUMNS)
            .map(|_| if noise.below(5) == 0 { 0.0 } else { noise.uniform(-1.5, 1.5) })
            .collect();
        Array::new(values, [ROWS, COLUMNS]).unwrap()
    };
    let inputs = [draw(), draw()];
    let directions = [Tensor::new(draw()), Tensor::new(draw())];
    let function = |points: &[Tensor]| run(&steps, points);
    let points = inputs.clone().map(Tensor::new);
    let loss = function(&points);
    let moved = [(&points[0], &directions[0]), (&points[1], &directions[1])];
    let gradients = grad(&loss, &points).unwrap();
    let slope = along(&loss, &points, &directions);
    let pushed = jvp(&[&loss], &moved).unwrap().remove(0);
    let second_reverse = along(&slope, &points, &directions);
    let second_mixed = jvp(&[&slope], &moved).unwrap().remove(0);
    let second_forward = jvp(&[&pushed], &moved).unwrap().remove(0);
    let dense = gradients.each_ref().map(|g| g.or_zero());
    let all = numbers(&[
        &loss,
        &pushed,
        &slope,
        &second_reverse,
        &second_mixed,
        &second_forward,
        &dense[0],
        &dense[1],
    ]);
    let scalar = |i: usize| all[i][0];
    let tame = |v: f64| v.is_finite() && v.abs() < 1e4;
    // An infinite slope on the path taken is legitimate; then the pairings of the modes say nothing.
    if !tame(scalar(0)) || !all[6..].iter().flatten().all(|v| tame(*v)) {
        return;
    }
    count.programs += 1;
    let name = || format!("seed {seed}: {steps:?} at {:?}", inputs.each_ref().map(Array::to_f64));
    let size = all[6..].iter().flatten().fold(1.0, |s, v| s + v.abs()) + scalar(0).abs();
    assert!(
        same(scalar(1), scalar(2), 64.0 * size),
        "{}\nforward {} reverse {}",
        name(),
        scalar(1),
        scalar(2)
    );
    count.modes += 1;
    if tame(scalar(3)) {
        let size = 64.0 * (size + scalar(3).abs()) * size;
        for other in [scalar(4), scalar(5)] {
            assert!(same(scalar(3), other, size), "{}\nsecond order {:?}", name(), &all[3..6]);
            count.modes += 1;
        }
    }
    let slopes = finite_differences(&function, &inputs, &Reference::new()).unwrap();
    for (gradient, slopes) in all[6..].iter().zip(slopes.iter().flatten()) {
        for (element, (got, slope)) in gradient.iter().zip(slopes).enumerate() {
            // Where the quotient does not settle there is a kink within reach of the smallest step.
            if slope.error.is_nan() || slope.error > 1e-6 * (1.0 + slope.value.abs()) {
                count.kinks += 1;
                continue;
            }
            // Terms inside may cancel, so rounding is measured against the size of all slopes together.
            if slope.agrees(*got) || same(*got, slope.value, size) {
                count.differences += 1;
                continue;
            }
            // A tie exactly at the point has the derivative of the table. Composed ties need not give the slope of the
            // composition: min(max(m + x, m), m) is constant, its derivative at x = 0 is not 0.
            assert!(decides_at_a_tie(&loss), "{}\nelement {element}: got {got}, {slope:?}", name());
            count.kinks += 1;
        }
    }
}

/// Whether some maximum, minimum, magnitude, step or comparison of the graph is exactly at its point of decision.
fn decides_at_a_tie(loss: &Tensor) -> bool {
    let at_tie = |node: &std::sync::Arc<Node>| {
        let operands: Vec<Tensor> = node.operands.iter().map(|o| Tensor::from_node(o.clone())).collect();
        if let Op::Elementwise(Elementwise::Max | Elementwise::Min | Elementwise::Gt) = node.op {
            return Some(operands[0].eq(&operands[1]));
        }
        if let Op::Elementwise(Elementwise::Abs | Elementwise::Relu | Elementwise::Sign) = node.op {
            return Some(operands[0].eq(0.0));
        }
        if let Op::Elementwise(Elementwise::Floor) = node.op {
            return Some(operands[0].eq(Tensor::from_node(node.clone())));
        }
        if let Op::Reduce { kind: Reduce::Max | Reduce::Min, .. } = node.op {
            let all = support::values(&operands[0]);
            return Some(Tensor::new((0..all.len()).any(|i| all[..i].contains(&all[i]))));
        }
        None
    };
    let graph = topological([loss.node().unwrap()]);
    graph.iter().filter_map(at_tie).any(|ties| support::values(&ties).contains(&1.0))
}

#[test]
fn random_programs_have_one_derivative() {
    let mut count = Count::default();
    for seed in 0..1500 {
        compare(seed, &mut count);
    }
    println!("{count:?}");
    assert!(count.programs > 1000 && count.modes > 2 * count.programs, "{count:?}");
    assert!(count.differences > 10_000 && count.kinks < count.differences / 4, "{count:?}");
}
