//! Row kernels of several sweeps: softmax, cross entropy, layer norm; and indices.

use cotangent_shaders::{Access, Affine, Code, Schedule, Value};
use cotangent_tensor::{Code as ErrorCode, DType, Detail, Elementwise as E, Reduce, math32::promise};

use super::sketch::Sketch;
use super::{Action, Bound, Calculation, check, count, floats};

/// Roundings of a softmax beside its exponential: x − m, the sum (64 terms per block, 4 levels), reciprocal, product.
fn softmax_bound(columns: usize) -> Bound {
    Bound::Ulps(2.0 * promise::EXP_NONPOSITIVE + 4.0 + 68.0f64.min(columns as f64))
}

/// Values whose differences are exact, and labels.
fn logits(rows: usize, columns: usize) -> (Vec<f32>, Vec<u32>) {
    let x = (0..rows * columns).map(|i| ((i * i + 7 * i) % 61) as f32 / 4.0 - 8.0).collect();
    (x, (0..rows).map(|row| ((row * 31 + 5) % columns) as u32).collect())
}

struct CrossEntropy {
    k: Sketch,
    x: Value,
    max: Value,
    rest: Value,
    label: Value,
}

fn cross_entropy(schedule: Schedule, rows: usize, columns: usize, strides: [i64; 2]) -> CrossEntropy {
    let mut k = Sketch::new(schedule, &[rows], &[columns]);
    let x = k.input(DType::F32, 0, &strides);
    let label = k.input(DType::I32, 0, &[1, 0]);
    let max = k.kept(Code::LogSumExpMax(x), DType::F32);
    let rest = k.kept(Code::LogSumExpRest(max), DType::F32);
    CrossEntropy { k, x, max, rest, label }
}

fn with_results(mut c: CrossEntropy, strides: [i64; 2], of_rows: bool) -> Sketch {
    let CrossEntropy { k, x, max, rest, label } = &mut c;
    let (x, max, rest, label) = (*x, *max, *rest, *label);
    let picked = k.kept(Code::Pick { value: x, index: label }, DType::F32);
    let log = k.apply(E::Log1p, &[rest]);
    let below = k.apply(E::Sub, &[max, picked]);
    let loss = k.apply(E::Add, &[log, below]);
    k.output(max, 0, &[1, 0]);
    k.output(rest, 0, &[1, 0]);
    k.output(picked, 0, &[1, 0]);
    k.output(loss, 0, &[1, 0]);
    let softmax = k.element(Code::Softmax { value: x, max, rest });
    k.output(softmax, 0, &strides);
    let residual = k.element(Code::SoftmaxResidual { value: x, max, rest, label });
    // of each row, or one for all
    let weight = if of_rows { k.input(DType::F32, 0, &[1, 0]) } else { k.constant(2.0) };
    let scaled = k.apply(E::Mul, &[weight, residual]);
    k.output(scaled, 0, &strides);
    c.k
}

#[test]
fn softmax_rows() {
    for (rows, columns) in
        [(1, 1), (3, 2), (256, 10), (5, 33), (9, 1000), (70, 4100), (3, 40_000), (1, 150_000)]
    {
        let c = columns as i64;
        let (x, labels) = logits(rows, columns);
        for of_rows in [false, true] {
            let sketch = with_results(cross_entropy(Schedule::Row, rows, columns, [c, 1]), [c, 1], of_rows);
            if columns > 100 {
                // each row adds up its exponentials where it makes them, and scales its residual once
                assert_eq!(count(&sketch, |action| matches!(action, Action::ExponentialRest(_))), 1);
                assert_eq!(
                    count(&sketch, |action| matches!(
                        action,
                        Action::Calculate(Calculation::Elementwise(E::Mul))
                    )),
                    0
                );
            }
            check(sketch, &[(0, floats(&x)), (1, labels.clone())], softmax_bound(columns));
        }
    }
}

/// Each running sum starts at 1, to which half of its unit is added again and again.
#[test]
fn sums_of_long_rows_leave_f32_soon_enough() {
    for columns in [2048i64, 1800, 5000] {
        let mut k = Sketch::new(Schedule::Row, &[20], &[columns as usize]);
        let x = k.input(DType::F32, 0, &[columns, 1]);
        let sum = k.reduce(Reduce::Sum, x);
        k.output(sum, 0, &[1, 0]);
        let value = |i: i64| if i % columns < 16 { 1.0 } else { 2f32.powi(-24) };
        let data: Vec<f32> = (0..20 * columns).map(value).collect();
        let bound = super::super::CHAIN as f64 / 2.0;
        check(k, &[(0, floats(&data))], Bound::Ulps(bound));
    }
}

#[test]
fn softmax_columns() {
    for (columns, rows) in [(10, 50), (300, 20), (20, 20_000)] {
        let (x, labels) = logits(columns, rows);
        let strides = [1, columns as i64];
        for of_rows in [false, true] {
            let sketch =
                with_results(cross_entropy(Schedule::Column, columns, rows, strides), strides, of_rows);
            check(sketch, &[(0, floats(&x)), (1, labels.clone())], softmax_bound(rows));
        }
    }
}

#[test]
fn softmax_of_special_rows() {
    let inf = f32::INFINITY;
    let rows: [[f32; 4]; 8] = [
        [-inf; 4],
        [1.0, inf, 0.0, 0.0],
        [f32::NAN, 1.0, 2.0, 3.0],
        [5.0, 5.0, 5.0, 5.0],
        [100.0, -100.0, -inf, -120.0],
        [0.0, -0.0, -30.0, -inf],
        [3e38, -3e38, 0.0, 3e38],
        [inf, -inf, inf, 0.0],
    ];
    for columns in [4, 40] {
        // short rows lie side by side, long rows one after the other
        let data: Vec<f32> = rows.iter().flat_map(|row| row.repeat(columns / 4)).collect();
        let data: Vec<f32> = [data.clone(), data.clone(), data].concat();
        for label in [0, 1, 3] {
            let sketch = with_results(
                cross_entropy(Schedule::Row, 24, columns, [columns as i64, 1]),
                [columns as i64, 1],
                true,
            );
            check(sketch, &[(0, floats(&data)), (1, vec![label; 24])], softmax_bound(columns));
        }
    }
}

#[test]
fn layer_norm_and_its_gradient() {
    for (rows, columns) in [(40, 8), (6, 100), (3, 5000), (2, 20_000)] {
        let c = columns as i64;
        let mut k = Sketch::new(Schedule::Row, &[rows], &[columns]);
        let (x, g) = (k.input(DType::F32, 0, &[c, 1]), k.input(DType::F32, 0, &[c, 1]));
        let gamma = k.input(DType::F32, 0, &[0, 1]);
        let n = k.constant(1.0 / columns as f32);
        let sum = k.reduce(Reduce::Sum, x);
        let mean = k.apply(E::Mul, &[sum, n]);
        let d = k.apply(E::Sub, &[x, mean]);
        let square = k.apply(E::Mul, &[d, d]);
        let squares = k.reduce(Reduce::Sum, square);
        let variance = k.apply(E::Mul, &[squares, n]);
        let epsilon = k.constant(1e-5);
        let shifted = k.apply(E::Add, &[variance, epsilon]);
        let rstd = k.apply(E::Rsqrt, &[shifted]);
        let normal = k.apply(E::Mul, &[d, rstd]);
        let y = k.apply(E::Mul, &[normal, gamma]);
        k.output(y, 0, &[c, 1]);
        let product = k.apply(E::Mul, &[g, normal]);
        let (first, second) = (k.reduce(Reduce::Sum, g), k.reduce(Reduce::Sum, product));
        let (first, second) = (k.apply(E::Mul, &[first, n]), k.apply(E::Mul, &[second, n]));
        let along = k.apply(E::Mul, &[normal, second]);
        let centered = k.apply(E::Sub, &[g, first]);
        let rest = k.apply(E::Sub, &[centered, along]);
        let dx = k.apply(E::Mul, &[rest, rstd]);
        // the squared length of dx, exact to first order in its own errors
        let length = k.apply(E::Mul, &[dx, dx]);
        let total = k.reduce(Reduce::Sum, length);
        k.output(total, 0, &[1, 0]);
        let x: Vec<f32> = (0..rows * columns).map(|i| ((i * 13) % 32) as f32).collect();
        // roundings of four nested sums and of cancellations against values up to 8 times as large
        check(k, &[(0, floats(&x))], Bound::Ulps(8.0 * 4.0 * 72.0));
    }
}

#[test]
fn gathers() {
    for (rows, columns) in [(1, 1), (50, 7), (300, 300)] {
        let c = columns as i64;
        let mut k = Sketch::new(Schedule::Map, &[rows, columns], &[]);
        let index = k.input(DType::U32, 0, &[1, 0]);
        let table = k.bind(Access::Read, DType::F32, 20 * columns);
        let at = Affine { offset: 0, strides: vec![0, 1] };
        let code = Code::LoadIndexed {
            binding: table,
            at,
            index,
            stride: columns,
            size: 20,
            guard: None,
            operation: "gather",
        };
        let found = k.kept(code, DType::F32);
        let one = k.input(DType::I32, 0, &[0, 0]);
        let inside = Affine { offset: -2, strides: vec![0, 1] };
        let guard = k.kept(Code::InRange { at: inside, size: 3 }, DType::Bool);
        let at = Affine { offset: -2, strides: vec![0, 1] };
        let code = Code::LoadIndexed {
            binding: table,
            at,
            index: one,
            stride: columns,
            size: 19,
            guard: Some(guard),
            operation: "gather",
        };
        let guarded = k.kept(code, DType::F32);
        let sum = k.apply(E::Add, &[found, guarded]);
        k.output(sum, 0, &[c, 1]);
        check(k, &[(2, vec![3])], Bound::Exact);
    }
}

#[test]
fn scatter_adds_as_masked_sums() {
    let (slots, updates) = (37, 500);
    let mut k = Sketch::new(Schedule::Column, &[slots], &[updates]);
    let index = k.input(DType::I32, 0, &[0, 1]);
    let value = k.input(DType::F32, 0, &[0, 1]);
    let slot = k.kept(Code::Coordinate(Affine { offset: 0, strides: vec![1, 0] }), DType::I32);
    let hit = k.integer(cotangent_tensor::Integer::Eq, DType::I32, &[index, slot]);
    let zero = k.constant(0.0);
    let chosen = k.apply(E::Select, &[hit, value, zero]);
    let sum = k.reduce(Reduce::Sum, chosen);
    k.output(sum, 0, &[1, 0]);
    let indices = (0..updates).map(|i| (i * 7 % (slots + 2)) as u32).collect();
    check(k, &[(0, indices)], Bound::Exact);
}

fn position_of(sketch: Sketch, given: &[(usize, Vec<u32>)]) -> (i64, i64, i64) {
    let plan = sketch.plan();
    let before = super::fill(&plan, given);
    let errors: Vec<_> = [1, 2, 3].map(|threads| super::run(&plan, &before, threads).unwrap_err()).to_vec();
    for error in &errors {
        assert_eq!(error.code(), ErrorCode::Index, "{error}");
        assert_eq!(error.message(), errors[0].message());
        assert_eq!(error.location().map(|l| l.line()), Some(plan.kernels[0].location.line()));
    }
    let detail = |name| match errors[0].details().iter().find(|(n, _)| *n == name) {
        Some((_, Detail::Integer(n))) => *n,
        other => panic!("{name} is {other:?}"),
    };
    (detail("position"), detail("index"), detail("size"))
}

#[test]
fn indices_out_of_range_are_reported_first_position_first() {
    let (rows, columns) = (30_000, 7);
    let mut k = Sketch::new(Schedule::Map, &[rows, columns], &[]);
    let index = k.input(DType::I32, 2, &[1, 0]);
    let table = k.bind(Access::Read, DType::F32, 20 * columns);
    let at = Affine { offset: 0, strides: vec![0, 1] };
    let code = Code::LoadIndexed {
        binding: table,
        at,
        index,
        stride: columns,
        size: 20,
        guard: None,
        operation: "gather",
    };
    let found = k.kept(code, DType::F32);
    k.output(found, 0, &[columns as i64, 1]);
    let mut indices = vec![0u32; rows + 2];
    indices[2 + 29_000] = 20;
    indices[2 + 12_345] = (-1i32).cast_unsigned();
    indices[2 + 20_000] = 99;
    assert_eq!(position_of(k, &[(0, indices)]), (12_345, -1, 20));
}

#[test]
fn labels_out_of_range_are_reported() {
    for (rows, columns) in [(300, 10), (4000, 100)] {
        let c = columns as i64;
        let (x, mut labels) = logits(rows, columns);
        labels[rows - 3] = columns as u32;
        labels[rows - 1] = 1000;
        let sketch = with_results(cross_entropy(Schedule::Row, rows, columns, [c, 1]), [c, 1], true);
        let found = position_of(sketch, &[(0, floats(&x)), (1, labels)]);
        assert_eq!(found, (rows as i64 - 3, c, c));
    }
}

#[test]
fn nothing_is_poisoned_by_an_error() {
    let (x, labels) = logits(20, 40);
    let plan = with_results(cross_entropy(Schedule::Row, 20, 40, [40, 1]), [40, 1], true).plan();
    let executable = super::Executable::compile(&plan).unwrap();
    let mut buffers = super::Buffers::for_inputs(&plan).unwrap();
    buffers.write(0, &super::array(floats(&x), DType::F32)).unwrap();
    for (label, is_good) in [(40, false), (0, true), (77, false), (39, true)] {
        let mut labels = labels.clone();
        labels[3] = label;
        buffers.write(1, &super::array(labels, DType::I32)).unwrap();
        assert_eq!(executable.run(&mut buffers).is_ok(), is_good);
    }
}
