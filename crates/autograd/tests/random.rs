//! Random programs with movement, reductions, branches and functions that are NaN or infinite in the branch not taken:
//! reverse mode, forward mode and differences must agree, at first and second order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use cotangent_autograd::check::{Slope, finite_differences};
use cotangent_autograd::{GradCheck, batch, grad, jvp};
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
    /// A branch by rows around something that mixes elements of such a function.
    Rows(Elementwise, usize, usize, usize, f64),
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
            match noise.below(10) {
                0 | 1 => Step::Unary(pick(noise, SMOOTH), a),
                2 | 3 => Step::Binary(pick(noise, BINARY), a, b),
                4 => Step::Constant(noise.uniform(-2.0, 2.0), a),
                5 | 6 => Step::Branch(pick(noise, RISKY), a, b, [0.0, 0.5, -0.5][noise.below(3)]),
                7 | 8 => {
                    let row = pick(noise, RISKY);
                    Step::Rows(row, noise.below(STRUCTURES), a, b, [0.0, 0.5, -0.5][noise.below(3)])
                }
                _ => Step::Structure(noise.below(STRUCTURES), a),
            }
        })
        .collect()
}

/// The scalar that a program computes from its two inputs.
fn run(steps: &[Step], inputs: &[Tensor]) -> Tensor {
    run_with(steps, inputs, |_, _, value| value)
}

/// [`run`] with something done to each function of a branch, which gets the row, its operand and its value.
fn run_with(
    steps: &[Step],
    inputs: &[Tensor],
    change: impl Fn(Elementwise, &Tensor, Tensor) -> Tensor,
) -> Tensor {
    let mut pool = inputs.to_vec();
    for step in steps {
        let next = match step {
            Step::Unary(row, a) => Tensor::apply(*row, &[&pool[*a]]),
            Step::Binary(row, a, b) => Tensor::apply(*row, &[&pool[*a], &pool[*b]]),
            Step::Constant(c, a) => &pool[*a] * *c + 0.25,
            Step::Branch(row, a, b, c) => {
                let value = change(*row, &pool[*a], Tensor::apply(*row, &[&pool[*a]]));
                where_(&pool[*a].gt(*c), value, &pool[*b])
            }
            Step::Rows(row, kind, a, b, c) => {
                let value = change(*row, &pool[*a], Tensor::apply(*row, &[&pool[*a]]));
                let taken = pool[*a].min_over(1).unsqueeze(1).gt(*c);
                where_(&taken, structure(*kind, &value), &pool[*b])
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
    ties: usize,
    without_value: usize,
    infinite: usize,
    unsettled: usize,
    large: usize,
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
    let name = || format!("seed {seed}: {steps:?} at {:?}", inputs.each_ref().map(Array::to_f64));
    if !scalar(0).is_finite() {
        count.without_value += 1;
        return;
    }
    // An infinite slope on the path taken is legitimate, if forward mode finds no finite one. Where no infinite slope
    // is taken, not even differences may find one.
    if all[6..].iter().flatten().any(|v| !v.is_finite()) {
        let taken = takes_an_infinite_slope(&steps, &points, scalar(0));
        finite_nowhere(&function, &inputs, &all[6..], taken, &name);
        count.infinite += usize::from(taken);
        count.unsettled += usize::from(!taken);
        return;
    }
    if !tame(scalar(0)) || !all[6..].iter().flatten().all(|v| tame(*v)) {
        count.large += 1;
        return;
    }
    count.programs += 1;
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
    for (input, (gradient, slopes)) in all[6..].iter().zip(slopes.iter().flatten()).enumerate() {
        for (element, (got, slope)) in gradient.iter().zip(slopes).enumerate() {
            // Where the quotient does not settle there is a kink within reach of the smallest step.
            if !settled(slope) {
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
            let at_a_tie = decides_at_a_tie(&function, &inputs, input, element);
            assert!(at_a_tie, "{}\ninput {input}, element {element}: got {got}, {slope:?}", name());
            count.ties += 1;
        }
    }
}

/// Whether a difference quotient says something: where it does not settle there is a kink within reach of the step.
fn settled(slope: &Slope) -> bool {
    !slope.error.is_nan() && slope.error <= 1e-6 * (1.0 + slope.value.abs())
}

/// An element whose gradient is not finite must have no finite derivative by forward mode or by differences.
fn finite_nowhere(
    function: &dyn Fn(&[Tensor]) -> Tensor,
    inputs: &[Array],
    gradients: &[Vec<f64>],
    taken: bool,
    name: &dyn Fn() -> String,
) {
    let points: Vec<Tensor> = inputs.iter().cloned().map(Tensor::new).collect();
    let loss = function(&points);
    for (input, gradient) in gradients.iter().enumerate() {
        for (element, got) in gradient.iter().enumerate() {
            if got.is_finite() {
                continue;
            }
            let mut unit = vec![0.0; gradient.len()];
            unit[element] = 1.0;
            let unit = Tensor::new(Array::new(unit, inputs[input].shape()).unwrap());
            let pushed = jvp(&[&loss], &[(&points[input], &unit)]).unwrap().remove(0);
            let pushed = numbers(&[&pushed])[0][0];
            let slope = if taken { None } else { one_sided(function, inputs, input, element) };
            assert!(
                !pushed.is_finite() && slope.is_none(),
                "{}\ninput {input}, element {element}: got {got}, forward {pushed}, differences {slope:?}",
                name()
            );
        }
    }
}

/// Whether a function with an infinite slope at its operand lies on a path taken: whether the loss sees another value
/// there, or a NaN, which is not hidden by a product with zero either.
fn takes_an_infinite_slope(steps: &[Step], points: &[Tensor], loss: f64) -> bool {
    [0.3, f64::NAN].into_iter().any(|replacement| {
        let other = run_with(steps, points, |row, operand, value| {
            let end = if row == Elementwise::Atanh { operand.abs().eq(1.0) } else { operand.eq(0.0) };
            end.select(replacement, value)
        });
        support::value(&other).to_bits() != loss.to_bits()
    })
}

/// The slope that differences to both sides find, for two steps far apart. Central differences would take a cusp for
/// a flat point.
fn one_sided(
    function: &dyn Fn(&[Tensor]) -> Tensor,
    inputs: &[Array],
    input: usize,
    element: usize,
) -> Option<f64> {
    let at = |step: f64| {
        let mut points = inputs.to_vec();
        let mut moved = points[input].to_f64();
        moved[element] += step;
        points[input] = Array::new(moved, inputs[input].shape()).unwrap();
        support::value(&function(&points.into_iter().map(Tensor::new).collect::<Vec<_>>()))
    };
    let quotients = [-14, -22].map(|e| 2f64.powi(e)).map(|h| [(at(h) - at(0.0)) / h, (at(0.0) - at(-h)) / h]);
    let quotients = quotients.concat();
    let near = |q: &f64| (q - quotients[0]).abs() <= 1e-3 * (1.0 + quotients[0].abs());
    quotients.iter().all(near).then(|| quotients[0])
}

/// Whether some maximum, minimum, magnitude, step or comparison of the graph is exactly at its point of decision, and
/// leaves it as this element of this input moves.
fn decides_at_a_tie(
    function: &dyn Fn(&[Tensor]) -> Tensor,
    inputs: &[Array],
    input: usize,
    element: usize,
) -> bool {
    let distances = |step: f64| -> Vec<Vec<f64>> {
        let mut points = inputs.to_vec();
        let mut moved = points[input].to_f64();
        moved[element] += step;
        points[input] = Array::new(moved, inputs[input].shape()).unwrap();
        let points: Vec<Tensor> = points.into_iter().map(Tensor::new).collect();
        let graph = topological([function(&points).node().unwrap()]);
        graph.iter().filter_map(distance).map(|d| support::values(&d)).collect()
    };
    let (here, there) = (distances(0.0), distances(1e-3));
    assert_eq!(here.len(), there.len(), "the graph does not depend on the values");
    here.iter().flatten().zip(there.iter().flatten()).any(|(here, there)| *here == 0.0 && *there != 0.0)
}

/// How far a decision is from turning: zero at a tie.
fn distance(node: &Arc<Node>) -> Option<Tensor> {
    let operands: Vec<Tensor> = node.operands.iter().map(|o| Tensor::from_node(o.clone())).collect();
    if let Op::Elementwise(Elementwise::Max | Elementwise::Min | Elementwise::Gt) = node.op {
        return Some(&operands[0] - &operands[1]);
    }
    if let Op::Elementwise(Elementwise::Abs | Elementwise::Relu | Elementwise::Sign) = node.op {
        return Some(operands[0].clone());
    }
    if let Op::Elementwise(Elementwise::Floor) = node.op {
        return Some(&operands[0] - Tensor::from_node(node.clone()));
    }
    if let Op::Reduce { kind: Reduce::Max | Reduce::Min, .. } = node.op {
        // All pairs of elements: an extreme that two share is among them.
        let n = operands[0].shape().elements();
        let (column, row) = (operands[0].reshape([n as isize, 1]), operands[0].reshape([1, n as isize]));
        let same = Tensor::iota([n, n], 0).eq(Tensor::iota([n, n], 1));
        return Some(same.select(1.0, column - row));
    }
    None
}

#[test]
fn random_programs_have_one_derivative() {
    let mut count = Count::default();
    for seed in 0..1500 {
        compare(seed, &mut count);
    }
    println!("{count:?}");
    assert!(count.programs > 1000 && count.modes > 2 * count.programs, "{count:?}");
    assert!(count.differences > 10_000 && count.kinks < count.differences / 20, "{count:?}");
    // What is excused must stay rare, or the test says nothing.
    assert!(count.ties < count.differences / 200 && count.infinite + count.unsettled < 60, "{count:?}");
}

#[test]
fn batches_of_random_programs_are_those_of_each_example() {
    let nan = f64::is_nan;
    let (mut compared, mut summed, mut infinite) = (0, 0, 0);
    for seed in 0..600 {
        let mut noise = Noise(seed);
        let steps = program(&mut noise);
        let mut draw = |examples: usize| {
            let values: Vec<f64> = (0..examples * ROWS * COLUMNS)
                .map(|_| if noise.below(5) == 0 { 0.0 } else { noise.uniform(-1.5, 1.5) })
                .collect();
            Tensor::new(Array::new(values, [examples, ROWS, COLUMNS]).unwrap())
        };
        let (x, w) = (draw(3), draw(1).reshape([ROWS as isize, COLUMNS as isize]));
        let with_gradients = |x: Tensor| {
            let points = [x, w.clone()];
            let loss = run(&steps, &points);
            let [dx, dw] = grad(&loss, &points).unwrap().map(|g| g.or_zero());
            [loss, dx, dw]
        };
        let inside = batch([&x], |[x]| with_gradients(x));
        let total = batch([&x], |[x]| run(&steps, &[x, w.clone()])).sum(..);
        let outside = grad(&total, [&x, &w]).unwrap().map(|g| g.or_zero());
        let all = numbers(&[&inside[0], &inside[1], &inside[2], &outside[0], &outside[1]]);
        let example = |i| x.slice(0, i, i + 1, 1).reshape([ROWS as isize, COLUMNS as isize]);
        let each: Vec<Vec<Vec<f64>>> =
            (0..3).map(|i| numbers(&with_gradients(example(i)).each_ref())).collect();
        for part in 0..3 {
            let expected: Vec<f64> = each.iter().flat_map(|e| e[part].clone()).collect();
            assert_eq!(all[part].len(), expected.len());
            for (got, expected) in all[part].iter().zip(&expected) {
                assert!(
                    got.to_bits() == expected.to_bits() || nan(*got) && nan(*expected),
                    "seed {seed}, part {part}: {got} instead of {expected}: {steps:?}"
                );
                compared += 1;
            }
        }
        let dx: Vec<f64> = each.iter().flat_map(|e| e[1].clone()).collect();
        let dw: Vec<f64> = (0..ROWS * COLUMNS).map(|i| each.iter().map(|e| e[2][i]).sum()).collect();
        let finite = each.iter().flat_map(|e| e[1].iter().chain(&e[2])).filter(|v| v.is_finite());
        let size = finite.fold(1.0, |s, v| s + v.abs());
        for (got, expected) in all[3].iter().chain(&all[4]).zip(dx.iter().chain(&dw)) {
            // An infinite slope of one example stays there, and in what all examples share.
            let fits = if expected.is_finite() { same(*got, *expected, size) } else { !got.is_finite() };
            assert!(fits, "seed {seed}: {got} instead of {expected}: {steps:?}");
            summed += usize::from(expected.is_finite());
            infinite += usize::from(!expected.is_finite());
        }
    }
    println!("{compared} numbers of examples, {summed} of sums, {infinite} infinite slopes");
    assert!(compared > 20_000 && summed > 10_000 && infinite < summed / 10);
}

#[test]
fn random_programs_pass_the_check() {
    let (mut passed, mut kinks, mut compared, mut excused, mut wrong) = (0, 0, 0, 0, Vec::new());
    for seed in 0..300 {
        let mut noise = Noise(seed);
        let steps = program(&mut noise);
        // Half of them at points where functions end and extremes tie.
        let zeros = if seed % 2 == 0 { 0 } else { 5 };
        let mut draw = || match zeros > 0 && noise.below(zeros) == 0 {
            true => 0.0,
            false => noise.uniform(-1.5, 1.5),
        };
        let mut array = || Array::new((0..6).map(|_| draw()).collect::<Vec<_>>(), [ROWS, COLUMNS]).unwrap();
        let inputs = [array(), array()];
        let points = inputs.clone().map(Tensor::new);
        let loss = run(&steps, &points);
        let gradients = grad(&loss, &points).unwrap().map(|g| g.or_zero());
        // Where there is no value, or a slope is infinite, there is nothing to compare.
        let finite = |all: &[Vec<f64>]| all.iter().flatten().all(|v| v.is_finite());
        if !finite(&numbers(&[&loss, &gradients[0], &gradients[1]])) {
            excused += 1;
            continue;
        }
        let check = GradCheck::new().order(1 + usize::from(seed % 8 < 2));
        let report = check.run(|x| run(&steps, &x), &points, &Reference::new());
        let report = report.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        kinks += report.kinks.len();
        compared += report.compared.total();
        match report.is_ok() {
            true => passed += 1,
            false => wrong.push(format!("seed {seed}: {steps:?}\n{report}")),
        }
    }
    println!("{passed} passed, {excused} excused, {compared} compared, {kinks} kinks");
    assert!(wrong.is_empty(), "{} wrong: {}", wrong.len(), wrong.join("\n"));
    assert!(passed > 180 && compared > 4000 && kinks < compared / 10);
}
