//! The error bound is honest: an adversary that computes in f32 and errs as far as every promise allows stays inside.
//! And it says something: the adversary comes close to it.

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::Random;
use cotangent_tensor::{
    Arithmetic, Array, Bounded, Class, DType, Elementwise, Evaluate, Node, Op, Reduce, Reference, Tensor,
    bounded, special, topological, where_,
};

/// How the simulated device errs.
#[derive(Clone, Copy)]
enum Malice {
    Up,
    Down,
    Random,
}

/// A device that evaluates node by node in f32.
struct Adversary {
    random: Random,
    malice: Malice,
    arithmetic: Arithmetic,
    values: HashMap<*const Node, Array>,
}

fn nearest(x: f64) -> f64 {
    f64::from(x as f32)
}

/// Distance of the f32 numbers in the binade of `x`.
fn ulp(x: f64) -> f64 {
    let exponent = (x.abs().to_bits() >> 52) as i32 - 1023;
    2f64.powi(exponent.clamp(-126, 127) - 23)
}

impl Adversary {
    fn direction(&mut self) -> f64 {
        match self.malice {
            Malice::Up => 1.0,
            Malice::Down => -1.0,
            Malice::Random => self.random.uniform(-1.0, 1.0),
        }
    }
    fn flush(&mut self, x: f64) -> f64 {
        let flushes =
            self.arithmetic.eta >= f64::from(f32::MIN_POSITIVE) && x.abs() < f64::from(f32::MIN_POSITIVE);
        if flushes && x != 0.0 && self.random.below(2) == 0 { 0.0f64.copysign(x) } else { x }
    }
    /// The rounding of the device: to nearest, or to either neighbor.
    fn round(&mut self, exact: f64) -> f64 {
        let mut got = nearest(exact);
        if self.arithmetic.unit > 2f64.powi(-24) && got != exact && exact.is_finite() {
            let other = nearest(exact + self.direction().signum() * 0.5 * ulp(exact));
            got = if (other - exact).abs() <= ulp(exact) { other } else { got };
        }
        self.flush(got)
    }
    /// An f32 at most `promise` ULP away from `exact`; the rounded one for a promise of 1 or less.
    fn within(&mut self, exact: f64, promise: f64) -> f64 {
        if promise <= 1.0 || !exact.is_finite() || exact == 0.0 {
            return self.round(exact);
        }
        // Half an ULP is left for the rounding to f32, which is coarser beyond a power of two.
        let got = nearest(exact + self.direction() * (promise - 0.5) * ulp(exact));
        let got = if (got - exact).abs() <= promise * ulp(exact) { got } else { nearest(exact) };
        self.flush(got)
    }
    fn row(&mut self, row: Elementwise, args: &[f64]) -> f64 {
        let exact = row.eval(args);
        let far = |x: f64| x.abs() > 8192.0;
        if matches!(row, Elementwise::Sin | Elementwise::Cos | Elementwise::Tan) && far(args[0]) {
            return self.round(exact);
        }
        if row.ulp() == 0.0 {
            return nearest(exact);
        }
        self.within(exact, row.ulp())
    }
    /// A sum in f32, in an order of its own.
    fn sum(&mut self, terms: &[f64]) -> f64 {
        let order = self.random.order(terms.len());
        order.iter().fold(0.0, |total, &i| self.round(total + terms[i]))
    }
    fn dot(&mut self, a: &[f64], b: &[f64]) -> f64 {
        let products: Vec<f64> = a.iter().zip(b).map(|(a, b)| self.round(a * b)).collect();
        self.sum(&products)
    }
    /// Largest element, powers of the others (0 in place of the first largest), and their sum.
    fn powers(&mut self, row: &[f64]) -> (f64, usize, Vec<f64>, f64) {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, special::max);
        let first = row.iter().position(|&x| x == largest).unwrap_or(0);
        let mut powers = Vec::new();
        for (j, x) in row.iter().enumerate() {
            let difference = self.round(x - largest);
            let power = self.row(Elementwise::Exp, &[difference]);
            powers.push(if j == first { 0.0 } else { power });
        }
        let rest = self.sum(&powers);
        (largest, first, powers, rest)
    }
    fn softmax(&mut self, row: &[f64]) -> Vec<f64> {
        let (largest, first, mut powers, rest) = self.powers(row);
        if !largest.is_finite() {
            let value = if largest == f64::NEG_INFINITY { 0.0 } else { f64::NAN };
            return vec![value; row.len()];
        }
        powers[first] = 1.0;
        let total = self.round(1.0 + rest);
        powers.iter().map(|&p| self.row(Elementwise::Div, &[p, total])).collect()
    }
    fn log_total(&mut self, row: &[f64]) -> (f64, f64) {
        let (largest, _, _, rest) = self.powers(row);
        let tail = self.row(Elementwise::Log1p, &[rest]);
        (if largest == f64::INFINITY { f64::NAN } else { largest }, tail)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are exact")]
    fn evaluate(&mut self, node: &Arc<Node>) -> Vec<f64> {
        let mut columns: Vec<Vec<f64>> =
            node.operands.iter().map(|o| self.values[&o.key()].to_f64()).collect();
        for (column, operand) in columns.iter_mut().zip(&node.operands) {
            if operand.dtype == DType::F32 {
                column.iter_mut().for_each(|x| *x = self.flush(*x));
            }
        }
        let width = |operand: usize| *node.operands[operand].shape.last().unwrap_or(&1);
        match &node.op {
            Op::Elementwise(row) => (0..node.shape.elements())
                .map(|i| {
                    let args: Vec<f64> = columns.iter().map(|c| c[i]).collect();
                    self.row(*row, &args)
                })
                .collect(),
            Op::Reduce { kind: kind @ (Reduce::Sum | Reduce::Prod), axes } => {
                // Rows of the reduced axes, by the reference's own movement.
                let rank = node.operands[0].shape.rank();
                let order: Vec<usize> =
                    (0..rank).filter(|a| !axes.contains(a)).chain(axes.iter().copied()).collect();
                let moved = Tensor::new(self.values[&node.operands[0].key()].clone()).permute_axes(&order);
                let moved = common::elements(&moved);
                let rows = moved.chunks(moved.len() / node.shape.elements());
                rows.map(|row| match kind {
                    Reduce::Prod => {
                        let order = self.random.order(row.len());
                        order.iter().fold(1.0, |product, &i| self.round(product * row[i]))
                    }
                    Reduce::Sum | Reduce::Max | Reduce::Min => self.sum(row),
                })
                .collect()
            }
            Op::CumulativeSum { .. } => {
                // Along the last axis of rank 2, as the tests below build it.
                let mut result = Vec::new();
                for row in columns[0].chunks(width(0)) {
                    let mut total = 0.0;
                    for x in row {
                        total = self.round(total + x);
                        result.push(total);
                    }
                }
                result
            }
            Op::Matmul => {
                let (k, n) = (width(0), width(1));
                let mut result = Vec::new();
                for row in columns[0].chunks(k) {
                    for j in 0..n {
                        let column: Vec<f64> = (0..k).map(|l| columns[1][l * n + j]).collect();
                        result.push(self.dot(row, &column));
                    }
                }
                result
            }
            Op::ScatterAdd(0) => {
                let width = node.shape[1];
                let mut result = vec![0.0; node.shape.elements()];
                for (slice, index) in columns[0].iter().enumerate() {
                    for j in 0..width {
                        let at = *index as usize * width + j;
                        result[at] = self.round(result[at] + columns[1][slice * width + j]);
                    }
                }
                result
            }
            Op::Softmax => columns[0].chunks(width(0)).flat_map(|row| self.softmax(row)).collect(),
            Op::LogSumExp => columns[0]
                .chunks(width(0))
                .map(|row| {
                    let (largest, tail) = self.log_total(row);
                    if largest == f64::NEG_INFINITY { largest } else { self.round(largest + tail) }
                })
                .collect(),
            Op::CrossEntropy => columns[0]
                .chunks(width(0))
                .zip(&columns[1])
                .map(|(row, &label)| {
                    let (largest, tail) = self.log_total(row);
                    if row[label as usize] == f64::NEG_INFINITY && !largest.is_nan() {
                        return f64::INFINITY;
                    }
                    let difference = self.round(largest - row[label as usize]);
                    self.round(tail + difference)
                })
                .collect(),
            Op::SoftmaxResidual => columns[0]
                .chunks(width(0))
                .zip(&columns[1])
                .flat_map(|(row, &label)| {
                    let mut p = self.softmax(row);
                    p[label as usize] = 0.0;
                    p[label as usize] = 0.0 - self.sum(&p);
                    p
                })
                .collect(),
            // Copies, extremes, integers, sources: the reference is exact on a device's own operands.
            _ => {
                let mut reference = Reference::rounded();
                let mut operands = Vec::new();
                for operand in &node.operands {
                    let stand_in = Tensor::placeholder("operand", operand.shape, operand.dtype);
                    let value = self.values[&operand.key()].clone();
                    reference = reference.bind(&stand_in, value).expect("shapes agree");
                    operands.push(stand_in.node().expect("valid").clone());
                }
                let alone = Tensor::from_node(node.with_operands(operands));
                let exact = reference.evaluate(&[&alone]).expect("indices are inside").remove(0).to_f64();
                if node.dtype == DType::F32 { exact.into_iter().map(nearest).collect() } else { exact }
            }
        }
    }
    fn run(
        random: Random,
        malice: Malice,
        arithmetic: Arithmetic,
        output: &Arc<Node>,
    ) -> HashMap<*const Node, Array> {
        let mut adversary = Adversary { random, malice, arithmetic, values: HashMap::new() };
        for node in topological([output]) {
            let value = adversary.evaluate(&node);
            let array = array(&value, &node);
            adversary.values.insert(node.key(), array);
        }
        adversary.values
    }
}

fn array(values: &[f64], node: &Node) -> Array {
    let whole = || values.iter().map(|&x| x as i64);
    match node.dtype {
        DType::F32 | DType::F16 => Array::new(values.to_vec(), node.shape).map(|a| a.with_dtype(node.dtype)),
        DType::I32 => Array::new(whole().map(|x| x as i32).collect::<Vec<_>>(), node.shape),
        DType::U32 => Array::new(whole().map(|x| x as u32).collect::<Vec<_>>(), node.shape),
        DType::Bool => Array::new(values.iter().map(|&x| x != 0.0).collect::<Vec<_>>(), node.shape),
    }
    .expect("as many values as elements")
}

const ROWS: usize = 3;
const COLUMNS: usize = 5;

/// A random graph on matrices of one shape, every float operation among its nodes.
fn random_graph(random: &mut Random, nodes: usize) -> Tensor {
    let leaf = |random: &mut Random| {
        let scale = random.pick(&[1e-39, 1e-3, 0.5, 1.0, 3.0, 20.0, 1e30]);
        let values: Vec<f64> = (0..ROWS * COLUMNS).map(|_| random.uniform(-scale, scale)).collect();
        Tensor::from_values(values, [ROWS, COLUMNS])
    };
    let mut pool: Vec<Tensor> = (0..3).map(|_| leaf(random)).collect();
    let real: Vec<Elementwise> =
        Elementwise::ALL.iter().copied().filter(|row| row.class() == Class::Real).collect();
    for _ in 0..nodes {
        let recent = pool.len() - 1;
        let a = pool[random.range(recent.saturating_sub(1), recent)].clone();
        let b = pool[random.below(pool.len())].clone();
        let c = pool[random.below(pool.len())].clone();
        let next = match random.below(20) {
            0..=8 => {
                let row = random.pick(&real);
                let operands = [&a, &b, &c].map(|t| t.node().expect("valid").clone());
                let like = operands[0].clone();
                let operands = operands[..row.arity()].to_vec();
                let (shape, dtype, location) = (like.shape, DType::F32, like.location);
                let op = Op::Elementwise(row);
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
            9 => where_(&a.lt(&b), &c, &a),
            10 => where_(&a.eq(&b).or(b.ge(&c)), &a * 2.0, &c),
            11 => a.softmax(1),
            12 => &b - a.logsumexp(1).unsqueeze(1),
            13 => a.matmul(&b.transpose()).matmul(&c),
            14 => a.mean(0) + &b,
            15 => a.prod(1).unsqueeze(1) * &b,
            16 => a.cumulative_sum(1, false),
            17 => a.max_over(0).max(b.min_over(1).unsqueeze(1)),
            18 => {
                let labels = Tensor::new([0, 4, 2]);
                a.softmax_residual(&labels) + a.cross_entropy(&labels).unsqueeze(1)
            }
            _ => {
                let moved = Tensor::concat(&[&a.slice(0, 1, 3, 1), &b.slice(0, 0, 1, 1)], 0).flip(1);
                let summed = Tensor::scatter_add(&Tensor::new([2, 0, 2]), &moved, 0, ROWS);
                summed.gather(0, &a.argmax(1).min(2)).cast(DType::F16) + 0.0
            }
        };
        pool.push(next);
    }
    pool.pop().expect("not empty")
}

/// Runs adversaries on random graphs; every node on the way is compared, so that a failure names the first one.
fn attack(seeds: std::ops::Range<u64>, arithmetic: Arithmetic) {
    let count = seeds.end - seeds.start;
    let (mut compared, mut finite, mut close, mut worst) = (0, 0, 0, 0.0f64);
    for seed in seeds {
        let mut random = Random::new(seed);
        let nodes = 1 + random.below(7);
        let output = random_graph(&mut random, nodes).node().expect("valid").clone();
        let order = topological([&output]);
        let results = bounded(&order, &HashMap::new(), &arithmetic).expect("nothing is unbound");
        for malice in [Malice::Up, Malice::Down, Malice::Random] {
            let device = Adversary::run(Random::new(!seed), malice, arithmetic, &output);
            for (node, result) in order.iter().zip(&results) {
                let got = &device[&node.key()];
                let violation = result.first_violation(got);
                assert!(
                    violation.is_none(),
                    "seed {seed}: {node:?} {violation:?} of {:#?}",
                    operands(node, violation.map_or(0, |v| v.element), &order, &results, &device)
                );
                compared += got.values().len();
                if node.operands.is_empty() || node.dtype != DType::F32 {
                    continue;
                }
                for (i, x) in got.to_f64().into_iter().enumerate() {
                    if result.bound[i].is_finite() && result.value[i].is_finite() {
                        finite += 1;
                        worst = worst.max(result.ratio(i, x));
                        close += usize::from(result.ratio(i, x) > 0.05);
                    }
                }
            }
        }
    }
    // At least one matrix per graph; most values have a bound, and the adversary comes close to many of them.
    assert!(compared as u64 > count * 15 * 3, "{compared} compared");
    assert!(finite > compared / 3, "{finite} bounded of {compared}");
    assert!(worst > 0.5 && close > finite / 4, "worst {worst}, {close} close of {finite}");
}

/// What an element was computed from.
fn operands(
    node: &Node,
    element: usize,
    order: &[Arc<Node>],
    results: &[Bounded],
    device: &HashMap<*const Node, Array>,
) -> Vec<String> {
    let show = |operand: &Arc<Node>| {
        let at = order.iter().position(|n| Arc::ptr_eq(n, operand)).expect("operands come first");
        let got = device[&operand.key()].to_f64();
        let Bounded { value, bound, .. } = &results[at];
        format!(
            "{operand:?}: {:?} ± {:?}, got {:?}",
            value.get(element),
            bound.get(element),
            got.get(element)
        )
    };
    node.operands.iter().map(show).collect()
}

#[test]
fn an_adversary_that_rounds_to_nearest_stays_inside() {
    attack(0..6000, Arithmetic::default());
}

#[test]
fn an_adversary_with_no_more_than_the_specification_stays_inside() {
    attack(1_000_000..1_006_000, Arithmetic::specification());
}
