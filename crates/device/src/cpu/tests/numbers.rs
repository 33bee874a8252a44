//! Special values, random bits, coordinates.

use cotangent_shaders::{Affine, Code, Level, Schedule};
use cotangent_tensor::{DType, Elementwise as E, Key, Reduce};

use super::sketch::Sketch;
use super::{Bound, check, floats};

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

/// Extremes and their positions of rows of these values, in every direction of lanes.
#[test]
fn extremes_of_special_values() {
    let patterns: [&[f32]; 8] = [
        &[1.0, NAN, 3.0, NAN],
        &[-INF, -INF, -INF, -INF],
        &[INF, -INF, 0.0, INF],
        &[-0.0, 0.0, -0.0, 0.0],
        &[-0.0, -0.0, -0.0, -0.0],
        &[1e-40, 1e-45, 0.0, -1e-40],
        &[2.0, 2.0, -7.0, -7.0],
        &[0.0, 0.0, 0.0, 0.0],
    ];
    for repeats in [1, 30, 700] {
        let columns = 4 * repeats;
        for (schedule, strides, rows) in [
            (Schedule::Row, [columns as i64, 1], 24),
            (Schedule::Column, [1, 24], 24),
            (Schedule::Total, [4, 1], 1),
        ] {
            for shift in 0..8 {
                let row = |r: usize| patterns[(r + shift) % 8].repeat(repeats);
                let by_rows: Vec<f32> = (0..24).flat_map(row).collect();
                let data: Vec<f32> = match schedule {
                    Schedule::Column => {
                        (0..columns * 24).map(|i| by_rows[(i % 24) * columns + i / 24]).collect()
                    }
                    Schedule::Map | Schedule::Total | Schedule::Row => by_rows[..rows * columns].to_vec(),
                };
                let mut k = Sketch::new(schedule, &[rows], &[columns]);
                let x = k.input(DType::F32, 0, &strides);
                for value in [Reduce::Max, Reduce::Min].map(|kind| k.reduce(kind, x)) {
                    k.output(value, 0, &[1, 0]);
                }
                for maximum in [true, false] {
                    let at = k.kept(Code::ArgReduce { maximum, value: x }, DType::I32);
                    k.output(at, 0, &[1, 0]);
                }
                check(k, &[(0, floats(&data))], Bound::Exact);
            }
        }
    }
}

#[test]
fn special_values_pass_through() {
    let values = [NAN, INF, -INF, -0.0, 0.0, 1e-45, -1e-40, f32::MAX, f32::MIN_POSITIVE];
    let mut k = Sketch::new(Schedule::Map, &[9 * 40], &[]);
    let x = k.input(DType::F32, 0, &[1]);
    k.output(x, 0, &[1]);
    for row in [E::Neg, E::Abs, E::Relu, E::Sign, E::Floor] {
        let y = k.apply(row, &[x]);
        k.output(y, 0, &[1]);
    }
    let (one, zero) = (k.constant(1.0), k.constant(0.0));
    for row in [E::Mul, E::Add, E::Max, E::Min] {
        let y = k.apply(row, &[x, one]);
        k.output(y, 0, &[1]);
        let y = k.apply(row, &[zero, x]);
        k.output(y, 0, &[1]);
    }
    let is_nan = k.apply(E::IsNan, &[x]);
    let chosen = k.apply(E::Select, &[is_nan, zero, x]);
    k.output(chosen, 0, &[1]);
    check(k, &[(0, floats(&values.repeat(40)))], Bound::Exact);
}

#[test]
fn sums_of_infinities() {
    for (values, schedule) in [
        ([INF, 1.0, 2.0], Schedule::Row),
        ([INF, -INF, 2.0], Schedule::Total),
        ([NAN, 1.0, 2.0], Schedule::Column),
    ] {
        let mut k = Sketch::new(schedule, &[2], &[300]);
        let x = k.input(DType::F32, 0, &[300, 1]);
        for kind in [Reduce::Sum, Reduce::Prod] {
            let total = k.reduce(kind, x);
            k.output(total, 0, &[1, 0]);
        }
        check(k, &[(0, floats(&values.repeat(200)))], Bound::Exact);
    }
}

#[test]
fn random_bits_are_those_of_the_generator() {
    let key = Key { seed: 0x0123_4567_89ab_cdef, stream: 42 };
    for (extents, strides, offset) in [
        (vec![1], vec![1], 0),
        (vec![1000], vec![1], 3),
        (vec![70_001], vec![1], 0),
        (vec![30, 50], vec![1, 30], 5),
        (vec![400], vec![-2], 900),
    ] {
        let mut k = Sketch::new(Schedule::Map, &extents, &[]);
        let step = k.input(DType::U32, 0, &vec![0; extents.len()]);
        let at = Affine { offset, strides: strides.clone() };
        let bits = k.kept(Code::RandomBits { key, step, at }, DType::U32);
        let own = Affine::row_major(&extents).strides;
        k.output(bits, 0, &own);
        // a step per element
        let steps = k.input(DType::U32, 0, &own);
        let at = Affine { offset, strides };
        let bits = k.kept(Code::RandomBits { key, step: steps, at }, DType::U32);
        k.output(bits, 0, &own);
        check(k, &[], Bound::Exact);
    }
    // in rows, so that a dropout mask can be fused with a reduction
    let mut k = Sketch::new(Schedule::Row, &[3], &[77]);
    let step = k.word(7, DType::U32);
    let at = Affine { offset: 0, strides: vec![77, 1] };
    let bits = k.push(Code::RandomBits { key, step, at }, DType::U32, Level::Element);
    let largest = k.reduce(Reduce::Max, bits);
    k.output(largest, 0, &[1, 0]);
    check(k, &[], Bound::Exact);
}

#[test]
fn known_random_words() {
    // DEShawResearch/random123, tests/kat_vectors: counter and key zero
    let mut k = Sketch::new(Schedule::Map, &[4], &[]);
    let step = k.word(0, DType::U32);
    let at = Affine { offset: 0, strides: vec![1] };
    let bits = k.kept(Code::RandomBits { key: Key::new(0), step, at }, DType::U32);
    let out = k.output(bits, 0, &[1]);
    let found = super::run(&k.plan(), &[vec![0; 4]], 1).unwrap();
    assert_eq!(found[out], [0x9c6c_a96a, 0xe17e_ae66, 0xfc10_ecd4, 0x5256_a7d8]);
}

#[test]
fn coordinates_and_ranges() {
    for extents in [vec![5], vec![3, 7], vec![400, 3], vec![2, 1500]] {
        let own = Affine::row_major(&extents).strides;
        let mut k = Sketch::new(Schedule::Map, &extents, &[]);
        for (offset, factor) in [(0, 1), (-4, 3), (100, -1)] {
            let strides: Vec<i64> = own.iter().rev().map(|s| s * factor).collect();
            let at = Affine { offset, strides };
            let coordinate = k.kept(Code::Coordinate(at.clone()), DType::I32);
            k.output(coordinate, 0, &own);
            let inside = k.kept(Code::InRange { at, size: 50 }, DType::Bool);
            k.output(inside, 0, &own);
        }
        check(k, &[], Bound::Exact);
    }
}

#[test]
fn uniform_code_runs_for_every_lane() {
    // nothing here depends on a coordinate, but the stores
    let mut k = Sketch::new(Schedule::Map, &[3000], &[]);
    let x = k.input(DType::F32, 2, &[0]);
    let two = k.constant(2.0);
    let y = k.apply(E::Mul, &[x, two]);
    let z = k.apply(E::Add, &[y, x]);
    let truth = k.apply(E::Gt, &[z, two]);
    k.output(z, 0, &[1]);
    k.output(two, 0, &[1]);
    k.output(truth, 0, &[1]);
    check(k, &[], Bound::Exact);
    let mut k = Sketch::new(Schedule::Row, &[50], &[100]);
    let two = k.constant(2.0);
    let sum = k.reduce(Reduce::Sum, two);
    k.output(sum, 0, &[1, 0]);
    k.output(two, 0, &[1, 0]);
    check(k, &[], Bound::Exact);
}
