//! Times kernels of the CPU device: `cargo bench -p cotangent-device --bench cpu [-- NAME]`. Every result is checked
//! before it is timed.

#[path = "../src/cpu/tests/sketch.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "shared with the tests"
)]
mod sketch;

use std::time::Instant;

use cotangent_device::cpu::{Buffers, Executable};
use cotangent_shaders::{Access, Code, Matrix, Plan, Schedule};
use cotangent_tensor::{Array, DType, Elementwise as E, Error, Reduce, Shape};
use sketch::Sketch;

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let tasks: [(&str, Make); 10] = [
        ("sigmoid_l1_2p22", || sigmoid_l1(1 << 22)),
        ("sigmoid_l1_2p24", || sigmoid_l1(1 << 24)),
        ("softmax_ce_4096x8192", || softmax_ce(4096, 8192)),
        ("softmax_ce_256x10", || softmax_ce(256, 10)),
        ("matmul_512", || matmul(512)),
        ("matmul_1024", || matmul(1024)),
        ("adam_670k", || adam(669_706)),
        ("map_30", || bias(1, 30)),
        ("bias_relu_400x30", || bias(400, 30)),
        ("column_sum_65536x512", || column_sum(65_536, 512)),
    ];
    for (name, task) in tasks {
        if only.as_ref().is_none_or(|only| name.contains(only.as_str()))
            && let Err(error) = time(name, &task())
        {
            eprintln!("{name}: {error}");
            std::process::exit(1);
        }
    }
}

type Make = fn() -> Task;

/// A plan, values for its inputs, and what must come out.
struct Task {
    plan: Plan,
    inputs: Vec<(usize, Array)>,
    /// Buffer, element, expected value, bound.
    expected: Vec<(usize, usize, f64, f64)>,
    /// What is counted, in units of 10⁹, and its name.
    work: (f64, &'static str),
}

fn time(name: &str, task: &Task) -> Result<(), Error> {
    let executable = Executable::compile(&task.plan)?;
    let mut buffers = Buffers::for_inputs(&task.plan)?;
    for (buffer, array) in &task.inputs {
        buffers.write(*buffer, array)?;
    }
    executable.run(&mut buffers)?;
    for &(buffer, element, expected, bound) in &task.expected {
        let value = buffers.read(buffer, element, Shape::SCALAR)?.scalar()?;
        if (value - expected).abs() > bound || value.is_nan() {
            eprintln!("{name}: element {element} of buffer {buffer} is {value}, not {expected}");
            std::process::exit(1);
        }
    }
    let start = Instant::now();
    let mut seconds: Vec<f64> = Vec::new();
    while seconds.len() < 5 || (seconds.len() < 200 && start.elapsed().as_secs_f64() < 1.0) {
        let start = Instant::now();
        executable.run(&mut buffers)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let (median, (work, unit)) = (seconds[seconds.len() / 2], task.work);
    println!(
        "{name:24} median {:10.4} ms  min {:10.4} ms  {:8.2} {unit}",
        median * 1e3,
        seconds[0] * 1e3,
        work / median
    );
    Ok(())
}

/// Numbers that vary, in `[low, high)`.
fn uniform(n: usize, seed: u32, low: f32, high: f32) -> Vec<f32> {
    let unit = |i: u32| {
        let mut x = i.wrapping_mul(0x9E37_79B1).wrapping_add(seed.wrapping_mul(0x85EB_CA6B));
        x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
        x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
        ((x ^ (x >> 16)) >> 8) as f32 / 16_777_216.0
    };
    (0..n as u32).map(|i| low + (high - low) * unit(i)).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Value and gradient of `mean(σ(|x − y|) · |x − y|)`, as the graph has them: σ of both signs.
fn sigmoid_l1(n: usize) -> Task {
    let mut k = Sketch::new(Schedule::Total, &[], &[n]);
    let (x, y) = (k.input(DType::F32, 0, &[1]), k.input(DType::F32, 0, &[1]));
    let weight = k.constant(1.0 / n as f32);
    let zero = k.constant(0.0);
    let d = k.apply(E::Sub, &[x, y]);
    let a = k.apply(E::Abs, &[d]);
    let s = k.apply(E::Sigmoid, &[a]);
    let loss = k.apply(E::Mul, &[a, s]);
    let sum = k.reduce(Reduce::Sum, loss);
    let mean = k.apply(E::Mul, &[sum, weight]);
    let minus = k.apply(E::Neg, &[a]);
    let t = k.apply(E::Sigmoid, &[minus]);
    let st = k.apply(E::Mul, &[s, t]);
    let ast = k.apply(E::Mul, &[a, st]);
    let both = k.apply(E::Add, &[ast, s]);
    let scaled = k.apply(E::Mul, &[both, weight]);
    let sign = k.apply(E::Sign, &[d]);
    let product = k.apply(E::Mul, &[scaled, sign]);
    let is_zero = k.apply(E::Ne, &[d, zero]);
    let gradient = k.apply(E::Select, &[is_zero, product, zero]);
    let loss_at = k.output(mean, 0, &[0]);
    let gradient_at = k.output(gradient, 0, &[1]);
    let (p, q) = (uniform(n, 3, -3.0, 3.0), uniform(n, 4, -3.0, 3.0));
    let term = |(&p, &q): (&f32, &f32)| {
        let a = f64::from(p - q).abs();
        a * sigmoid(a)
    };
    let expected = p.iter().zip(&q).map(term).sum::<f64>() / n as f64;
    let d = f64::from(p[1000] - q[1000]);
    let slope = d.signum() * sigmoid(d.abs()) * (1.0 + d.abs() * sigmoid(-d.abs())) / n as f64;
    Task {
        plan: k.plan(),
        inputs: vec![(0, p.into()), (1, q.into())],
        expected: vec![(loss_at, 0, expected, 1e-5), (gradient_at, 1000, slope, 1e-5 / n as f64)],
        work: (12e-9 * n as f64, "GB/s"),
    }
}

/// Loss per row and gradient of the mean loss.
fn softmax_ce(rows: usize, columns: usize) -> Task {
    let (r, c) = (rows as i64, columns as i64);
    let mut k = Sketch::new(Schedule::Row, &[rows], &[columns]);
    let x = k.input(DType::F32, 0, &[c, 1]);
    let label = k.input(DType::I32, 0, &[1, 0]);
    let weight = k.constant(1.0 / r as f32);
    let max = k.kept(Code::LogSumExpMax(x), DType::F32);
    let rest = k.kept(Code::LogSumExpRest(max), DType::F32);
    let picked = k.kept(Code::Pick { value: x, index: label }, DType::F32);
    let log = k.apply(E::Log1p, &[rest]);
    let below = k.apply(E::Sub, &[max, picked]);
    let loss = k.apply(E::Add, &[log, below]);
    let residual = k.element(Code::SoftmaxResidual { value: x, max, rest, label });
    let gradient = k.apply(E::Mul, &[residual, weight]);
    let loss_at = k.output(loss, 0, &[1, 0]);
    let gradient_at = k.output(gradient, 0, &[c, 1]);
    let logits = uniform(rows * columns, 5, -4.0, 4.0);
    let labels: Vec<i32> =
        uniform(rows, 6, 0.0, columns as f32).iter().map(|&l| (l as i32).min(columns as i32 - 1)).collect();
    let mut expected = vec![];
    for row in [0, 7, rows - 1] {
        let x = &logits[row * columns..][..columns];
        let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
        let label = labels[row] as usize;
        expected.push((loss_at, row, sum.ln() - f64::from(x[label]), 1e-5));
        for class in [0, label, columns - 1] {
            let p = f64::from(x[class]).exp() / sum - if class == label { 1.0 } else { 0.0 };
            expected.push((gradient_at, row * columns + class, p / rows as f64, 2e-6 / rows as f64));
        }
    }
    Task {
        plan: k.plan(),
        inputs: vec![(0, logits.into()), (1, labels.into())],
        expected,
        work: (8e-9 * (rows * columns) as f64, "GB/s"),
    }
}

fn matmul(n: usize) -> Task {
    let size = n as i64;
    let mut k = Sketch::new(Schedule::Map, &[n, n], &[]);
    let lhs = k.bind(Access::Read, DType::F32, n * n);
    let rhs = k.bind(Access::Read, DType::F32, n * n);
    let product = k.kept(Code::Accumulator, DType::F32);
    let out = k.output(product, 0, &[size, 1]);
    let matrix = |binding| Matrix { binding, offset: 0, batch: vec![], row: n, column: 1 };
    let (a, b) = (uniform(n * n, 1, -1.0, 1.0), uniform(n * n, 2, -1.0, 1.0));
    let at = |row: usize, column: usize| -> f64 {
        (0..n).map(|l| f64::from(a[row * n + l]) * f64::from(b[l * n + column])).sum()
    };
    let expected = vec![(out, 3 * n + 5, at(3, 5), 1e-3), (out, n * n - 1, at(n - 1, n - 1), 1e-3)];
    Task {
        plan: k.product(&[], [n, n, n], matrix(lhs), matrix(rhs)),
        inputs: vec![(lhs, a.into()), (rhs, b.into())],
        expected,
        work: (2e-9 * (n as f64).powi(3), "GFLOP/s"),
    }
}

/// One Adam step; the bias corrections come from a step counter on the device.
fn adam(n: usize) -> Task {
    let mut k = Sketch::new(Schedule::Map, &[n], &[]);
    let g = k.input(DType::F32, 0, &[1]);
    let p_at = k.bind(Access::ReadWrite, DType::F32, n);
    let m_at = k.bind(Access::ReadWrite, DType::F32, n);
    let v_at = k.bind(Access::ReadWrite, DType::F32, n);
    let t = k.input(DType::U32, 0, &[0]);
    let (p, m, v) = (k.load(p_at, 0, &[1]), k.load(m_at, 0, &[1]), k.load(v_at, 0, &[1]));
    let t = k.cast(t, DType::F32);
    let mut correction = |beta: f64| {
        let log = k.constant(beta.ln() as f32);
        let power = k.apply(E::Mul, &[t, log]);
        let minus = k.apply(E::Expm1, &[power]);
        k.apply(E::Neg, &[minus])
    };
    let (first, second) = (correction(0.9), correction(0.999));
    let mut mix = |beta: f64, old, new| {
        let (keep, take) = (k.constant(beta as f32), k.constant((1.0 - beta) as f32));
        let (kept, taken) = (k.apply(E::Mul, &[old, keep]), k.apply(E::Mul, &[new, take]));
        k.apply(E::Add, &[kept, taken])
    };
    let m = mix(0.9, m, g);
    let square = k.apply(E::Mul, &[g, g]);
    let mut mix = |beta: f64, old, new| {
        let (keep, take) = (k.constant(beta as f32), k.constant((1.0 - beta) as f32));
        let (kept, taken) = (k.apply(E::Mul, &[old, keep]), k.apply(E::Mul, &[new, take]));
        k.apply(E::Add, &[kept, taken])
    };
    let v = mix(0.999, v, square);
    let (m_hat, v_hat) = (k.apply(E::Div, &[m, first]), k.apply(E::Div, &[v, second]));
    let root = k.apply(E::Sqrt, &[v_hat]);
    let epsilon = k.constant(1e-8);
    let below = k.apply(E::Add, &[root, epsilon]);
    let direction = k.apply(E::Div, &[m_hat, below]);
    let rate = k.constant(1e-3);
    let step = k.apply(E::Mul, &[direction, rate]);
    let p = k.apply(E::Sub, &[p, step]);
    for (at, value) in [(p_at, p), (m_at, m), (v_at, v)] {
        k.store(at, value, 0, &[1]);
    }
    let gradients = uniform(n, 9, -1.0, 1.0);
    let expected = [0, n - 1].map(|i| (p_at, i, -1e-3 * f64::from(gradients[i]).signum(), 1e-6)).to_vec();
    Task {
        plan: k.plan(),
        inputs: vec![(0, gradients.into()), (4, Array::from(1u32))],
        expected,
        work: (28e-9 * n as f64, "GB/s"),
    }
}

/// A small kernel, whose time is that of getting to work.
fn bias(rows: usize, columns: usize) -> Task {
    let mut k = Sketch::new(Schedule::Map, &[rows, columns], &[]);
    let c = columns as i64;
    let (x, b) = (k.input(DType::F32, 0, &[c, 1]), k.input(DType::F32, 0, &[0, 1]));
    let sum = k.apply(E::Add, &[x, b]);
    let relu = k.apply(E::Relu, &[sum]);
    let out = k.output(relu, 0, &[c, 1]);
    let (x, b) = (uniform(rows * columns, 1, -1.0, 1.0), uniform(columns, 2, -1.0, 1.0));
    let expected = vec![(out, 3, f64::from(x[3] + b[3]).max(0.0), 1e-6)];
    let work = (8e-9 * (rows * columns) as f64, "GB/s");
    Task { plan: k.plan(), inputs: vec![(0, x.into()), (1, b.into())], expected, work }
}

fn column_sum(rows: usize, columns: usize) -> Task {
    let mut k = Sketch::new(Schedule::Column, &[columns], &[rows]);
    let x = k.input(DType::F32, 0, &[1, columns as i64]);
    let sum = k.reduce(Reduce::Sum, x);
    let out = k.output(sum, 0, &[1, 0]);
    let data = uniform(rows * columns, 8, -1.0, 1.0);
    let at = |column: usize| data.iter().skip(column).step_by(columns).map(|&x| f64::from(x)).sum();
    let expected = [0, 3, columns - 1].map(|column| (out, column, at(column), 1e-3)).to_vec();
    let work = (4e-9 * (rows * columns) as f64, "GB/s");
    Task { plan: k.plan(), inputs: vec![(0, data.into())], expected, work }
}
