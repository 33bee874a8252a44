//! Sums of products, and loops over one matrix that take turns.

use std::sync::Arc;

use cotangent_shaders::{PlanOptions, Schedule, plan};
use cotangent_tensor::{Array, DType, Elementwise as E, Node, Reduce, Tensor};

use super::super::Executable;
use super::super::buffers::{Buffers, pack};
use super::super::loops::Loops;
use super::super::products::Along;
use super::sketch::Sketch;
use super::{BASELINE, Bound, check};

/// `Σ a·b` and what follows from it, each summed with these strides of `a` and `b`.
fn sums(schedule: Schedule, [kept, reduced]: [usize; 2], a: [i64; 2], b: [i64; 2], swapped: bool) -> Sketch {
    let mut k = Sketch::new(schedule, &[kept], &[reduced]);
    let (a, b) = (k.input(DType::F32, 2, &a), k.input(DType::F32, 1, &b));
    let product = k.apply(E::Mul, &if swapped { [b, a] } else { [a, b] });
    let sum = k.reduce(Reduce::Sum, product);
    let bias = k.input(DType::F32, 0, &[1, 0]);
    let shifted = k.apply(E::Add, &[sum, bias]);
    k.output(shifted, 3, &[1, 0]);
    k.output(sum, 0, &[2, 0]);
    k
}

/// Which sums of products a sketch is run as.
fn along(k: &Sketch) -> Option<Along> {
    Loops::new(&k.body, &k.bindings, &k.elements).unwrap().along()
}

#[test]
fn inner_products_of_rows() {
    for (rows, columns) in [(16, 33), (100, 128), (2000, 131), (17, 1024), (40, 2100), (4099, 65)] {
        let c = columns as i64;
        for (a, b) in [([c, 1], [0, 1]), ([c + 3, 1], [c, 1])] {
            for swapped in [false, true] {
                let k = sums(Schedule::Row, [rows, columns], a, b, swapped);
                assert_eq!(along(&k), Some(Along::Rows));
                check(k, &[], Bound::Exact);
            }
        }
    }
    // Rows in which elements do not lie side by side, and few long ones.
    for ([rows, columns], a) in [([100, 40], [40 * 2, 2]), ([16, 100_000], [100_000, 1])] {
        let k = sums(Schedule::Row, [rows, columns], a, [0, 1], false);
        assert_eq!(along(&k), None);
        check(k, &[], Bound::Exact);
    }
}

#[test]
fn combinations_of_rows() {
    for (columns, rows) in [(16, 5), (128, 3000), (40, 1001), (1500, 300), (8200, 70)] {
        let c = columns as i64;
        for (a, b) in [([1, c], [0, 1]), ([1, c + 5], [0, 3])] {
            for swapped in [false, true] {
                let k = sums(Schedule::Column, [columns, rows], a, b, swapped);
                assert_eq!(along(&k), Some(Along::Columns));
                check(k, &[], Bound::Exact);
            }
        }
    }
}

/// Logits of `rows` × `columns` data, the residuals of a logistic model with weights, and gradients.
struct Model {
    data: [Tensor; 4],
    outputs: Vec<Arc<Node>>,
}

fn model(rows: usize, columns: usize, several: bool) -> Model {
    let counts = |shape: &[usize], by: i32, scale: f64| {
        let elements = i32::try_from(shape.iter().product::<usize>()).unwrap();
        let values: Vec<f32> =
            (0..elements).map(|i| (f64::from(i.wrapping_mul(by) % 19) * scale) as f32).collect();
        Tensor::new(values).reshape(shape.iter().map(|&e| e as isize).collect::<Vec<_>>().as_slice())
    };
    let x = counts(&[rows, columns], 7, 0.125);
    let (w, y, weight) =
        (counts(&[columns, 1], 5, 0.03125), counts(&[rows], 3, 0.0625), counts(&[rows], 11, 0.25));
    let eta = x.matmul(&w).squeeze(-1);
    let residual = (eta.sigmoid() - &y) * &weight;
    let loss = ((eta.softplus() - &y * &eta) * &weight).sum(..);
    let transposed = x.transpose();
    let mut outputs = vec![loss, transposed.matmul(&residual.unsqueeze(-1))];
    if several {
        outputs.push(transposed.matmul(&weight.unsqueeze(-1)));
    }
    let outputs = outputs.iter().map(|output| output.node().unwrap().clone()).collect();
    Model { data: [x, w, y, weight], outputs }
}

impl Model {
    /// The words of all outputs of a run, of the whole plan or of each kernel for itself.
    fn run(&self, threads: usize, whole: bool) -> (Vec<Array>, Vec<usize>) {
        let plan = plan(&self.outputs, &[], &PlanOptions::cpu()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut executable = Executable::compile(&plan).unwrap();
            if threads == BASELINE {
                executable.arch = pulp::Arch::Scalar;
            }
            let mut buffers = Buffers::new(&plan, |leaf| Arc::new(pack(leaf)), |_| unreachable!()).unwrap();
            for _ in 0..2 {
                if whole {
                    executable.run(&mut buffers).unwrap();
                } else {
                    let mut open = buffers.open();
                    for kernel in 0..executable.len() {
                        executable.run_kernels(kernel..kernel + 1, &mut open.words).unwrap();
                    }
                }
            }
            let read = |place: &cotangent_shaders::Place| {
                buffers.read(place.buffer, place.offset, place.node.shape).unwrap()
            };
            let pairs = (0..executable.len()).filter(|&kernel| executable.along(kernel).is_some());
            (plan.outputs.iter().map(read).collect(), pairs.collect())
        })
    }
    /// Loss and gradient in f64, and the sizes of what is added.
    fn exact(&self) -> (Vec<f64>, Vec<f64>) {
        let host = |t: &Tensor| {
            let nodes = [t.node().unwrap().clone()];
            let given = std::collections::HashMap::new();
            cotangent_tensor::bounded(&nodes, &given, &cotangent_tensor::Arithmetic::default())
                .unwrap()
                .remove(0)
                .value
        };
        let [x, w, y, weight] = self.data.each_ref().map(host);
        let columns = w.len();
        let (mut values, mut sizes) = (vec![0.0; columns + 1], vec![0.0; columns + 1]);
        for ((row, y), weight) in x.chunks_exact(columns).zip(&y).zip(&weight) {
            let eta: f64 = row.iter().zip(&w).map(|(x, w)| x * w).sum();
            let mut add = |at: usize, value: f64, size: f64| {
                values[at] += value;
                sizes[at] += size;
            };
            let softplus = eta.max(0.0) + (-eta.abs()).exp().ln_1p();
            add(0, (softplus - y * eta) * weight, (softplus + y * eta) * weight);
            let mean = 1.0 / (1.0 + (-eta).exp());
            for (at, x) in row.iter().enumerate() {
                // A residual rounds with its parts, of which the mean moves with the predictor by a quarter at most.
                add(at + 1, (mean - y) * weight * x, (mean + y + 0.25 * eta) * weight * x);
            }
        }
        (values, sizes)
    }
}

#[test]
fn gradients_of_linear_models_take_turns() {
    for (rows, columns) in [(20_000, 128), (9001, 37), (70_001, 33), (3000, 1000)] {
        for several in [false, true] {
            let model = model(rows, columns, several);
            let (found, pairs) = model.run(1, true);
            assert_eq!(pairs.len(), 1, "{rows} × {columns}");
            for (threads, whole) in [(1, false), (2, true), (2, false), (BASELINE, true), (BASELINE, false)] {
                let (other, _) = model.run(threads, whole);
                let same = other.iter().zip(&found).all(|(a, b)| a.to_words() == b.to_words());
                assert!(same, "{rows} × {columns}, {threads} threads, together: {whole}");
            }
            let (exact, sizes) = model.exact();
            let results = found[0].to_f64().into_iter().chain(found[1].to_f64());
            for (at, ((found, exact), size)) in results.zip(&exact).zip(&sizes).enumerate() {
                // The predictor, four operations on it and the sum: two chains, and the promises of sigmoid and softplus.
                let roundings = 2.0 * super::super::CHAIN as f64 + 16.0;
                let bound = roundings * f64::from(f32::EPSILON) * size;
                assert!(
                    (found - exact).abs() <= bound,
                    "{rows} × {columns}, {at}: {found}, not {exact} ± {bound}"
                );
            }
        }
    }
}

#[test]
fn loops_that_do_not_belong_together_run_for_themselves() {
    let pairs = |outputs: &[Tensor]| {
        let nodes: Vec<_> = outputs.iter().map(|output| output.node().unwrap().clone()).collect();
        let plan = plan(&nodes, &[], &PlanOptions::cpu()).unwrap();
        let executable = Executable::compile(&plan).unwrap();
        assert!(executable.len() >= 2);
        (0..executable.len()).filter(|&kernel| executable.along(kernel).is_some()).count()
    };
    let (rows, columns) = (20_000, 64);
    let x = Tensor::new(vec![0.5f32; rows * columns]).reshape([-1, columns as isize]);
    let other = Tensor::new(vec![0.25f32; rows * columns]).reshape([-1, columns as isize]);
    let w = Tensor::new(vec![1f32; columns]).unsqueeze(-1);
    let y = Tensor::new(vec![1f32; rows]).unsqueeze(-1);
    let made = x.matmul(&w).tanh();
    assert_eq!(pairs(&[made.clone(), x.transpose().matmul(&made)]), 1);
    // Another matrix; a vector that was there before; a vector that another kernel makes of the products.
    assert_eq!(pairs(&[made.clone(), other.transpose().matmul(&made)]), 0);
    assert_eq!(pairs(&[made.clone(), x.transpose().matmul(&y)]), 0);
    assert_eq!(pairs(&[made.clone(), x.transpose().matmul(&made.cumulative_sum(0, false))]), 0);
    // A factor that is known when all rows are.
    assert_eq!(pairs(&[x.transpose().matmul(&(&made / made.sum(..)))]), 0);
}
