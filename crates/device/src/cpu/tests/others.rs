//! Products, scans, storage, and what is refused.

use std::sync::{Arc, Mutex};

use cotangent_shaders::{Access, Affine, Code, Matrix, Scan, Schedule, Source, Value};
use cotangent_tensor::{Array, Code as ErrorCode, DType, Elementwise as E, Shape, Token};

use super::super::pack;
use super::sketch::{Sketch, scan_plan};
use super::{Buffers, Executable, floats, words};

mod storage;

use super::run;

/// A product with operands as they come, and what the epilogue makes of it.
struct Case {
    batch: Vec<usize>,
    extents: [usize; 3],
    /// Whether the columns of lhs and rhs are contiguous, instead of the rows.
    transposed: [bool; 2],
    /// Whether rhs is shared by all batches.
    shared: bool,
}

fn operand(case: &Case, which: usize) -> (Matrix, usize) {
    let [m, n, k] = case.extents;
    let (rows, columns) = if which == 0 { (m, k) } else { (k, n) };
    let (row, column) = if case.transposed[which] { (1, rows) } else { (columns, 1) };
    let size = rows * columns;
    let shared = which == 1 && case.shared;
    let strides = Affine::row_major(&case.batch).strides;
    let batch = strides.iter().map(|&s| if shared { 0 } else { s as usize * size }).collect();
    let batches = if shared { 1 } else { case.batch.iter().product() };
    (Matrix { binding: which, offset: 2, batch, row, column }, 2 + size * batches)
}

/// The product of one element.
fn product(case: &Case, operands: [&Matrix; 2], data: &[Vec<u32>], at: usize) -> f64 {
    let [m, n, k] = case.extents;
    let (batch, row, column) = (at / (m * n), at / n % m, at % n);
    let mut coordinate = vec![0; case.batch.len()];
    super::super::geometry::unravel(batch, &case.batch, &mut coordinate);
    let element = |matrix: &Matrix, r: usize, c: usize| {
        let along: usize = matrix.batch.iter().zip(&coordinate).map(|(s, c)| s * c).sum();
        let at = matrix.offset + along + r * matrix.row + c * matrix.column;
        f64::from(f32::from_bits(data[matrix.binding][at]))
    };
    (0..k).map(|l| element(operands[0], row, l) * element(operands[1], l, column)).sum()
}

/// Checks a case under an epilogue, which gets the sketch, the accumulator and the strides of the result, and a function
/// of product, position and the words of all bindings.
fn check_product(
    case: &Case,
    epilogue: impl Fn(&mut Sketch, Value, &[i64]) -> usize,
    expected: impl Fn(f64, usize, &[Vec<u32>]) -> f64,
) {
    let [m, n, _] = case.extents;
    let kept = [case.batch.clone(), vec![m, n]].concat();
    let own = Affine::row_major(&kept).strides;
    let mut k = Sketch::new(Schedule::Map, &kept, &[]);
    let (lhs, rhs) = (operand(case, 0), operand(case, 1));
    k.bind(Access::Read, DType::F32, lhs.1);
    k.bind(Access::Read, DType::F32, rhs.1);
    let accumulator = k.kept(Code::Accumulator, DType::F32);
    let out = epilogue(&mut k, accumulator, &own);
    let store = k.body.stores[0].at.clone();
    let plan = k.product(&case.batch, case.extents, lhs.0.clone(), rhs.0.clone());
    let before = super::fill(&plan, &[]);
    let found = run(&plan, &before, 1).unwrap();
    assert!(run(&plan, &before, 2).unwrap() == found);
    let total: usize = kept.iter().product();
    assert!(total > 0);
    for at in 0..total {
        let mut coordinate = vec![0; kept.len()];
        super::super::geometry::unravel(at, &kept, &mut coordinate);
        let place = usize::try_from(store.at(&coordinate)).unwrap();
        // small integers: every product and sum is exact
        let right = expected(product(case, [&lhs.0, &rhs.0], &before, at), at, &before);
        assert_eq!(f64::from(f32::from_bits(found[out][place])), right, "element {at}");
    }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for extents in [[1, 1, 1], [5, 7, 3], [33, 17, 65], [1, 40, 9], [40, 1, 9], [4, 6, 0], [70, 130, 150]] {
        for transposed in [[false, false], [true, false], [false, true], [true, true]] {
            cases.push(Case { batch: vec![], extents, transposed, shared: false });
        }
    }
    for (batch, extents) in
        [(vec![3], [4, 5, 6]), (vec![2, 3], [5, 5, 2]), (vec![300], [16, 16, 16]), (vec![2], [130, 130, 130])]
    {
        for shared in [false, true] {
            cases.push(Case { batch: batch.clone(), extents, transposed: [false, true], shared });
        }
    }
    cases
}

#[test]
fn products_of_every_layout() {
    for case in cases() {
        check_product(&case, |k, product, own| k.output(product, 1, own), |product, _, _| product);
    }
}

#[test]
fn products_with_bias_and_relu() {
    for case in cases() {
        let n = case.extents[1];
        check_product(
            &case,
            |k, product, own| {
                let bias: Vec<i64> = (0..own.len()).map(|d| i64::from(d + 1 == own.len())).collect();
                let bias = k.input(DType::F32, 0, &bias);
                let sum = k.apply(E::Add, &[product, bias]);
                let relu = k.apply(E::Relu, &[sum]);
                k.output(relu, 3, own)
            },
            |product, at, words| (product + f64::from(f32::from_bits(words[2][at % n]))).max(0.0),
        );
    }
}

#[test]
fn products_into_other_layouts_and_types() {
    for case in cases().into_iter().filter(|case| case.batch.is_empty()) {
        let [m, n, _] = case.extents;
        // transposed
        check_product(&case, |k, product, _| k.output(product, 0, &[1, m as i64]), |product, _, _| product);
        // a truth value
        let mut k = Sketch::new(Schedule::Map, &[m, n], &[]);
        let (lhs, rhs) = (operand(&case, 0), operand(&case, 1));
        k.bind(Access::Read, DType::F32, lhs.1);
        k.bind(Access::Read, DType::F32, rhs.1);
        let (product_value, zero) = (k.kept(Code::Accumulator, DType::F32), k.constant(0.0));
        let positive = k.apply(E::Gt, &[product_value, zero]);
        let out = k.output(positive, 0, &[n as i64, 1]);
        let plan = k.product(&[], case.extents, lhs.0.clone(), rhs.0.clone());
        let before = super::fill(&plan, &[]);
        let found = run(&plan, &before, 2).unwrap();
        for (at, &found) in found[out].iter().enumerate() {
            let right = product(&case, [&lhs.0, &rhs.0], &before, at) > 0.0;
            assert_eq!(found, u32::from(right));
        }
    }
}

#[test]
fn products_accumulate_into_a_buffer() {
    let case = Case { batch: vec![], extents: [9, 11, 4], transposed: [false; 2], shared: false };
    check_product(
        &case,
        |k, product, own| {
            let at = k.bind(Access::ReadWrite, DType::F32, 9 * 11);
            let old = k.load(at, 0, own);
            let sum = k.apply(E::Add, &[old, product]);
            k.store(at, sum, 0, own);
            at
        },
        |product, at, words| product + f64::from(f32::from_bits(words[2][at])),
    );
}

#[test]
fn scans() {
    for (outer, length, inner) in [(1, 1, 1), (1, 1000, 1), (3, 50, 7), (200, 300, 1), (40, 30, 50)] {
        for reverse in [false, true] {
            let scan = Scan {
                outer,
                length,
                inner,
                reverse,
                input: 0,
                input_offset: 2,
                output: 1,
                output_offset: 1,
            };
            let plan = scan_plan(scan);
            let before = super::fill(&plan, &[]);
            let found = run(&plan, &before, 2).unwrap();
            for o in 0..outer {
                for i in 0..inner {
                    let mut sum = 0.0;
                    for step in 0..length {
                        let l = if reverse { length - 1 - step } else { step };
                        let at = (o * length + l) * inner + i;
                        sum += f64::from(f32::from_bits(before[0][2 + at]));
                        assert_eq!(f64::from(f32::from_bits(found[1][1 + at])), sum);
                    }
                }
            }
        }
    }
}

#[test]
fn what_breaks_the_contract_is_refused() {
    let internal = |sketch: Sketch| {
        let error = Executable::compile(&sketch.plan()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Internal, "{error}");
    };
    let sketch = || Sketch::new(Schedule::Map, &[10], &[]);
    // a load and a store beyond their buffers
    let mut k = sketch();
    let short = k.bind(Access::Read, DType::F32, 9);
    let x = k.load(short, 0, &[1]);
    k.output(x, 0, &[1]);
    internal(k);
    let mut k = sketch();
    let x = k.input(DType::F32, 0, &[1]);
    let short = k.bind(Access::Write, DType::F32, 10);
    k.store(short, x, 1, &[1]);
    internal(k);
    // a load below
    let mut k = sketch();
    let at = k.bind(Access::Read, DType::F32, 20);
    let x = k.load(at, 8, &[-1]);
    k.output(x, 0, &[1]);
    internal(k);
    // in place, but another element
    let mut k = sketch();
    let at = k.bind(Access::ReadWrite, DType::F32, 20);
    let x = k.load(at, 3, &[1]);
    k.store(at, x, 0, &[1]);
    internal(k);
    // read and written under two bindings
    let mut k = sketch();
    let x = k.input(DType::F32, 0, &[1]);
    let out = k.output(x, 0, &[1]);
    k.bindings[out].buffer = 0;
    let mut plan = k.plan();
    plan.buffers[out].source = plan.buffers[0].source.clone();
    assert_eq!(Executable::compile(&plan).unwrap_err().code(), ErrorCode::Internal);
}

#[test]
fn products_have_the_same_bits_with_any_number_of_threads() {
    for (batch, extents) in [
        (vec![], [300, 500, 700]),
        (vec![], [1, 3000, 400]),
        (vec![], [700, 10, 2000]),
        (vec![20], [40, 60, 80]),
    ] {
        let case = Case { batch: batch.clone(), extents, transposed: [false, true], shared: false };
        let [m, n, _] = extents;
        let kept = [batch, vec![m, n]].concat();
        let mut k = Sketch::new(Schedule::Map, &kept, &[]);
        let (lhs, rhs) = (operand(&case, 0), operand(&case, 1));
        k.bind(Access::Read, DType::F32, lhs.1);
        k.bind(Access::Read, DType::F32, rhs.1);
        let accumulator = k.kept(Code::Accumulator, DType::F32);
        let out = k.output(accumulator, 0, &Affine::row_major(&kept).strides);
        let plan = k.product(&case.batch, extents, lhs.0, rhs.0);
        let mut before = super::fill(&plan, &[]);
        for (words, factor) in before.iter_mut().zip([0.1f32, 0.7]) {
            words.iter_mut().for_each(|word| *word = (f32::from_bits(*word) * factor).to_bits());
        }
        let found = run(&plan, &before, 1).unwrap();
        for threads in [2, 3, 5] {
            assert!(
                run(&plan, &before, threads).unwrap()[out] == found[out],
                "{threads} threads: {extents:?}"
            );
        }
    }
}
