//! Maps and reductions over every layout.

use cotangent_shaders::{Access, Affine, Code, Level, Schedule};
use cotangent_tensor::{Class, DType, Elementwise as E, Integer, Reduce};

use super::super::loops::Loops;
use super::sketch::Sketch;
use super::{Action, Bound, Calculation, check, count, floats};

#[test]
fn maps_of_every_length() {
    for n in [1, 2, 15, 16, 17, 255, 257, 1000, 1023, 1025, 70_000, 200_001] {
        let mut k = Sketch::new(Schedule::Map, &[n], &[]);
        let (a, b) = (k.input(DType::F32, 0, &[1]), k.input(DType::F32, 3, &[1]));
        let two = k.constant(2.0);
        let twice = k.apply(E::Mul, &[a, two]);
        let sum = k.apply(E::Add, &[twice, b]);
        k.output(sum, 5, &[1]);
        check(k, &[], Bound::Exact);
    }
}

#[test]
fn maps_with_every_kind_of_stride() {
    let extents: [&[usize]; 6] = [&[7, 5], &[3, 4, 5], &[300, 3], &[2, 1500], &[40, 50, 60], &[1, 9, 1]];
    for extents in extents {
        let rank = extents.len();
        let own = Affine::row_major(extents).strides;
        let reversed: Vec<usize> = extents.iter().rev().copied().collect();
        let transposed: Vec<i64> = Affine::row_major(&reversed).strides.into_iter().rev().collect();
        let last: Vec<i64> = (0..rank).map(|d| i64::from(d + 1 == rank)).collect();
        let first: Vec<i64> = (0..rank).map(|d| i64::from(d == 0)).collect();
        let wide: Vec<i64> = own.iter().map(|s| 3 * s).collect();
        let backwards: Vec<i64> = own.iter().map(|s| -s).collect();
        let elements: i64 = extents.iter().map(|&e| e as i64).product();
        for store in [own.clone(), transposed.clone(), wide.clone()] {
            let mut k = Sketch::new(Schedule::Map, extents, &[]);
            let mut sum = k.input(DType::F32, 0, &own);
            for (offset, strides) in
                [(0, &transposed), (2, &last), (0, &first), (1, &wide), (elements - 1, &backwards)]
            {
                let next = k.input(DType::F32, offset, strides);
                sum = k.apply(E::Add, &[sum, next]);
            }
            let scalar = k.input(DType::F32, 0, &vec![0; rank]);
            let sum = k.apply(E::Add, &[sum, scalar]);
            k.output(sum, 4, &store);
            check(k, &[], Bound::Exact);
        }
    }
}

#[test]
fn guarded_loads_stay_inside() {
    // pad by 3 and 4, and a concatenation of two parts, over rows
    for (rows, columns) in [(1, 10), (5, 700), (300, 6)] {
        let (r, c) = (rows as i64, columns as i64);
        let mut k = Sketch::new(Schedule::Map, &[rows, columns + 7], &[]);
        let inside = Affine { offset: -3, strides: vec![0, 1] };
        let guard = k.kept(Code::InRange { at: inside, size: columns }, DType::Bool);
        let part = k.bind(Access::Read, DType::F32, rows * columns);
        let at = Affine { offset: -3, strides: vec![c, 1] };
        let padded = k.load_at(Level::Kept, part, at, Some(guard));
        let other = k.bind(Access::Read, DType::F16, rows * 3);
        let left =
            k.kept(Code::InRange { at: Affine { offset: 0, strides: vec![0, 1] }, size: 3 }, DType::Bool);
        let beside = k.load_at(Level::Kept, other, Affine { offset: 0, strides: vec![3, 1] }, Some(left));
        let both = k.apply(E::Select, &[left, beside, padded]);
        k.output(both, 0, &[c + 7, 1]);
        // a guard over rows, backwards
        let above = Affine { offset: -1, strides: vec![1, 0] };
        let below_first = k.kept(Code::InRange { at: above, size: rows }, DType::Bool);
        let shifted = Affine { offset: (r - 1) * c - 1 + c, strides: vec![-c, 0] };
        let value = k.load_at(Level::Kept, part, shifted, Some(below_first));
        k.output(value, 0, &[c + 7, 1]);
        check(k, &[], Bound::Exact);
    }
}

#[test]
fn every_row_of_the_table() {
    // the larger one goes past the caches
    for (n, &row) in [533, 1533].into_iter().flat_map(|n| E::ALL.iter().map(move |row| (n, row))) {
        let mut k = Sketch::new(Schedule::Map, &[n], &[]);
        let is_logic = row.class() == Class::Logic;
        let mut given = vec![];
        let operands: Vec<usize> = (0..row.arity())
            .map(|o| {
                let truth = is_logic || (row.class() == Class::Select && o == 0);
                if !truth {
                    // eighths between 0.125 and 1
                    let values: Vec<f32> = (0..n).map(|i| ((i * (2 * o + 3)) % 8 + 1) as f32 / 8.0).collect();
                    given.push((o, floats(&values)));
                }
                k.input(if truth { DType::Bool } else { DType::F32 }, 0, &[1])
            })
            .collect();
        let value = k.apply(row, &operands);
        k.output(value, 0, &[1]);
        // half a unit is the rounding of the oracle; results near a zero of the function are relative to 2⁻²⁴
        check(k, &given, Bound::Ulps(row.ulp() + 0.5));
    }
}

/// Operations that run as one: each pair of them in every order, alone and in a chain, with results that others need too.
#[test]
fn pairs_of_operations() {
    let (rows, n) = ([E::Mul, E::Add, E::Sub], 300);
    for (first, second, place) in
        rows.iter().flat_map(|&a| rows.iter().flat_map(move |&b| [0, 1].map(|place| (a, b, place))))
    {
        for needed in [false, true] {
            let mut k = Sketch::new(Schedule::Map, &[n], &[]);
            // eighths, so that nothing rounds and every mistake shows
            let eighths =
                |step: usize| floats(&(0..n).map(|i| ((i * step) % 9 + 1) as f32 / 8.0).collect::<Vec<_>>());
            let [a, b, c] = [0, 1, 2].map(|_| k.input(DType::F32, 0, &[1]));
            let inner = k.apply(first, &[a, b]);
            let outer = k.apply(second, &if place == 0 { [inner, c] } else { [c, inner] });
            let square = k.apply(second, &[outer, outer]);
            let last = k.apply(first, &[square, inner]);
            k.output(if needed { last } else { outer }, 0, &[1]);
            // the square and what follows it are a pair too, and take the place of one whose first result is needed again
            let pairs = count(&k, |action| matches!(action, Action::Calculate(Calculation::Pair(_))));
            assert_eq!(pairs, 1, "{first:?} and {second:?} as operand {place}");
            check(k, &[(0, eighths(5)), (1, eighths(4)), (2, eighths(7))], Bound::Exact);
        }
    }
}

#[test]
fn large_outer_products() {
    // rows that are blocks and rows that are not, aligned and not; one lane on either side, on both, and in between
    for (batch, rows, columns) in [(3, 5, 300), (2, 3, 1024), (1, 2, 2500), (5, 40, 7), (4, 3, 257)] {
        let (r, c) = (rows as i64, columns as i64);
        for offset in [0, 1] {
            let mut k = Sketch::new(Schedule::Map, &[batch, rows, columns], &[]);
            let (left, right) = (k.input(DType::F32, offset, &[r, 1, 0]), k.input(DType::F32, 0, &[c, 0, 1]));
            let product = k.apply(E::Mul, &[left, right]);
            k.output(product, offset, &[r * c, c, 1]);
            check(k, &[], Bound::Exact);

            let mut k = Sketch::new(Schedule::Map, &[batch, rows, columns], &[]);
            let (left, whole) = (k.input(DType::F32, 0, &[0, 1, 0]), k.input(DType::F32, 0, &[r * c, c, 1]));
            let difference = k.apply(E::Sub, &[whole, left]);
            let ratio = k.apply(E::Max, &[left, difference]);
            k.output(ratio, offset, &[r * c, c, 1]);
            check(k, &[], Bound::Exact);

            let mut k = Sketch::new(Schedule::Map, &[batch, rows, columns], &[]);
            let (left, other) = (k.input(DType::F32, 0, &[r, 1, 0]), k.input(DType::F32, 0, &[0, 1, 0]));
            let sum = k.apply(E::Add, &[left, other]);
            k.output(sum, offset, &[r * c, c, 1]);
            k.output(left, 0, &[r * c, c, 1]);
            check(k, &[], Bound::Exact);
        }
    }
}

#[test]
fn every_integer_row() {
    for &row in Integer::ALL {
        for dtype in [DType::I32, DType::U32] {
            let mut k = Sketch::new(Schedule::Map, &[700], &[]);
            let operands: Vec<usize> = (0..row.arity())
                .map(|o| {
                    let truth = row == Integer::Select && o == 0;
                    k.input(if truth { DType::Bool } else { dtype }, 0, &[1])
                })
                .collect();
            let value = k.integer(row, dtype, &operands);
            k.output(value, 0, &[1]);
            check(k, &[], Bound::Exact);
        }
    }
}

#[test]
fn every_cast() {
    let special = [0.0, -0.0, 1.5, -1.5, 3e9, -3e9, 5e9, f32::NAN, f32::INFINITY, -0.4, 70_000.0, 1e-7];
    for from in DType::ALL {
        for &to in DType::ALL {
            let mut k = Sketch::new(Schedule::Map, &[12 * 30], &[]);
            let x = k.input(*from, 0, &[1]);
            let y = k.cast(x, to);
            k.output(y, 0, &[1]);
            let given = if from.is_float() { vec![(0, floats(&special.repeat(30)))] } else { vec![] };
            check(k, &given, Bound::Exact);
        }
    }
}

/// Reductions of all kinds, with a kept-level epilogue and, where the schedule allows it, an element-level result.
fn reductions(
    schedule: Schedule,
    kept: &[usize],
    reduced: &[usize],
    kept_strides: &[i64],
    reduced_strides: &[i64],
) {
    let strides = [kept_strides, reduced_strides].concat();
    let kept_only = [Affine::row_major(kept).strides, vec![0; reduced.len()]].concat();
    for dtype in [DType::F32, DType::I32, DType::U32] {
        for kind in Reduce::ALL {
            let mut k = Sketch::new(schedule, kept, reduced);
            let x = k.input(dtype, 1, &strides);
            let total = k.reduce(*kind, x);
            k.output(total, 2, &kept_only);
            let elements = k.elements[0];
            // products of ±1 and a few 2 stay exact
            let signs: Vec<f32> = (0..elements)
                .map(|i| {
                    if i % 997 == 5 {
                        2.0
                    } else if i % 3 == 0 {
                        -1.0
                    } else {
                        1.0
                    }
                })
                .collect();
            let given =
                if dtype == DType::F32 && *kind == Reduce::Prod { vec![(0, floats(&signs))] } else { vec![] };
            check(k, &given, Bound::Exact);
        }
    }
    let mut k = Sketch::new(schedule, kept, reduced);
    let x = k.input(DType::F32, 0, &strides);
    let three = k.constant(3.0);
    let scaled = k.apply(E::Mul, &[x, three]);
    let square = k.apply(E::Mul, &[x, x]);
    let (sum, squares) = (k.reduce(Reduce::Sum, scaled), k.reduce(Reduce::Sum, square));
    for maximum in [true, false] {
        let arg = k.kept(Code::ArgReduce { maximum, value: x }, DType::I32);
        k.output(arg, 0, &kept_only);
    }
    let both = k.apply(E::Sub, &[squares, sum]);
    k.output(both, 0, &kept_only);
    // an element-level result beside them, as it lies in memory
    k.output(scaled, 0, &strides);
    check(k, &[], Bound::Exact);
}

#[test]
fn totals() {
    for n in [1, 2, 15, 17, 1000, 1025, 66_000, 300_007] {
        reductions(Schedule::Total, &[], &[n], &[], &[1]);
    }
    reductions(Schedule::Total, &[3], &[70_001], &[70_001], &[1]);
    reductions(Schedule::Total, &[2], &[300, 301], &[1], &[602, 2]);
}

#[test]
fn rows_of_every_length() {
    for (rows, columns) in [
        (1, 1),
        (5, 3),
        (40, 3),
        (16, 32),
        (300, 10),
        (7, 33),
        (100, 257),
        (3, 5000),
        (20, 20_000),
        (2, 140_000),
    ] {
        reductions(Schedule::Row, &[rows], &[columns], &[columns as i64], &[1]);
    }
    // rows of two dimensions, with gaps; and rows that lie backwards
    reductions(Schedule::Row, &[9], &[5, 7], &[200], &[20, 1]);
    reductions(Schedule::Row, &[20], &[4, 5], &[200], &[20, 1]);
    reductions(Schedule::Row, &[4, 6], &[50], &[1000, 51], &[1]);
}

#[test]
fn columns_of_every_length() {
    for (columns, rows) in [(1, 40), (10, 7), (100, 100), (1025, 65), (512, 3000), (10_000, 20), (9000, 1)] {
        reductions(Schedule::Column, &[columns], &[rows], &[1], &[columns as i64]);
    }
    reductions(Schedule::Column, &[3, 50], &[4, 10], &[50, 1], &[1500, 150]);
    // rows of the buffer are kept: lanes run across the rows
    reductions(Schedule::Column, &[100], &[30], &[30], &[1]);
}

#[test]
fn totals_of_ones_are_exact() {
    let n = 1 << 24;
    let mut k = Sketch::new(Schedule::Total, &[], &[n]);
    let x = k.input(DType::F32, 0, &[1]);
    let sum = k.reduce(Reduce::Sum, x);
    let out = k.output(sum, 0, &[0]);
    let plan = k.plan();
    let found = super::run(&plan, &[vec![1f32.to_bits(); n], vec![0]], 2).unwrap();
    assert_eq!(f32::from_bits(found[out][0]), 16_777_216.0);
}

#[test]
fn long_column_sums_lose_nothing() {
    let rows = 1 << 20;
    let mut k = Sketch::new(Schedule::Column, &[3], &[rows]);
    let x = k.input(DType::F32, 0, &[1, 3]);
    let sum = k.reduce(Reduce::Sum, x);
    let out = k.output(sum, 0, &[1, 0]);
    let data: Vec<f32> = (0..3 * rows).map(|i| if i % 3 == 1 { 0.1 } else { 1.0 }).collect();
    let found = super::run(&k.plan(), &[floats(&data), vec![0; 3]], 2).unwrap();
    assert_eq!(f32::from_bits(found[out][0]), 1_048_576.0);
    // 63 additions in f32, the rest in f64
    let right = f64::from(0.1f32) * rows as f64;
    assert!(
        (f64::from(f32::from_bits(found[out][1])) - right).abs() < 64.0 * f64::from(f32::EPSILON) * right
    );
}

#[test]
fn updates_in_place() {
    for n in [1, 700, 150_000] {
        let mut k = Sketch::new(Schedule::Map, &[n], &[]);
        let (p_at, m_at) =
            (k.bind(Access::ReadWrite, DType::F32, n), k.bind(Access::ReadWrite, DType::F32, n + 3));
        let g = k.input(DType::F32, 0, &[1]);
        let (p, m) = (k.load(p_at, 0, &[1]), k.load(m_at, 3, &[1]));
        let half = k.constant(0.5);
        let kept = k.apply(E::Mul, &[m, half]);
        let m = k.apply(E::Add, &[kept, g]);
        let p = k.apply(E::Sub, &[p, m]);
        k.store(p_at, p, 0, &[1]);
        k.store(m_at, m, 3, &[1]);
        check(k, &[], Bound::Exact);
    }
}

#[test]
fn totals_accumulate_in_place() {
    for n in [100, 400_000] {
        let mut k = Sketch::new(Schedule::Total, &[], &[n]);
        let count_at = k.bind(Access::ReadWrite, DType::F32, 1);
        let x = k.input(DType::F32, 0, &[1]);
        let count = k.load(count_at, 0, &[0]);
        let sum = k.reduce(Reduce::Sum, x);
        let sum = k.apply(E::Add, &[count, sum]);
        k.store(count_at, sum, 0, &[0]);
        check(k, &[], Bound::Exact);
    }
}

#[test]
fn rows_are_updated_in_place_after_their_last_load() {
    for columns in [10, 1000, 20_000] {
        let mut k = Sketch::new(Schedule::Row, &[20], &[columns]);
        let at = k.bind(Access::ReadWrite, DType::F32, 20 * columns);
        let x = k.load(at, 0, &[columns as i64, 1]);
        let two = k.constant(2.0);
        let double = k.apply(E::Mul, &[x, two]);
        let max = k.reduce(Reduce::Max, x);
        let difference = k.apply(E::Sub, &[x, max]);
        let min = k.reduce(Reduce::Min, difference);
        k.output(min, 0, &[1, 0]);
        k.store(at, double, 0, &[columns as i64, 1]);
        check(k, &[], Bound::Exact);
    }
}

#[test]
fn stores_share_a_buffer() {
    // one after the other
    let n = 90_000;
    let mut k = Sketch::new(Schedule::Map, &[n], &[]);
    let x = k.input(DType::F32, 0, &[1]);
    let y = k.apply(E::Neg, &[x]);
    let at = k.bind(Access::Write, DType::F32, 2 * n + 5);
    k.store(at, y, n as i64 + 5, &[1]);
    k.store(at, x, 0, &[1]);
    check(k, &[], Bound::Exact);
    // side by side in rows, and element by element
    for (strides, offset) in [([14, 1], 7), ([14, 2], 1)] {
        let mut k = Sketch::new(Schedule::Map, &[20_000, 7], &[]);
        let x = k.input(DType::F32, 0, &[7, 1]);
        let y = k.apply(E::Neg, &[x]);
        let at = k.bind(Access::Write, DType::F32, 20_000 * 14);
        k.store(at, x, 0, &strides);
        k.store(at, y, offset, &strides);
        check(k, &[], Bound::Exact);
    }
}

#[test]
fn halves_and_truths_in_buffers() {
    for n in [1, 2, 7, 1025, 150_001] {
        let mut k = Sketch::new(Schedule::Map, &[n], &[]);
        let (half, truth) = (k.input(DType::F16, 1, &[1]), k.input(DType::Bool, 0, &[1]));
        let zero = k.constant(0.0);
        let chosen = k.apply(E::Select, &[truth, half, zero]);
        let big = k.apply(E::Gt, &[chosen, zero]);
        k.output(big, 0, &[1]);
        let word = k.integer(Integer::Select, DType::I32, &[truth, truth, truth]);
        k.body.code[word].code = Code::Cast(truth);
        k.output(word, 0, &[1]);
        let third = k.constant(1.0 / 3.0);
        let product = k.apply(E::Mul, &[chosen, third]);
        let at = k.bind(Access::Write, DType::F16, 2 * n + 3);
        k.store(at, product, 3, &[1]);
        let strided = k.bind(Access::Write, DType::F16, 2 * n);
        k.store(strided, half, 1, &[2]);
        check(k, &[], Bound::Ulps(8192.0));
    }
}

/// Rows of these lie side by side where their number has a suitable divisor.
#[test]
fn narrow_columns() {
    for (rows, columns) in [(400, 20), (397, 20), (1024, 1), (12, 3), (96, 255), (64, 257), (30_000, 7)] {
        let (r, c) = (rows as i64, columns as i64);
        let mut k = Sketch::new(Schedule::Column, &[columns], &[rows]);
        let (x, weight) = (k.input(DType::F32, 0, &[1, c]), k.input(DType::F32, 1, &[0, 1]));
        let scale = k.input(DType::F32, 0, &[1, 0]);
        let weighted = k.apply(E::Mul, &[x, weight]);
        let scaled = k.apply(E::Add, &[weighted, scale]);
        k.output(scaled, 0, &[1, c]);
        for (reduce, value) in
            [(Reduce::Sum, scaled), (Reduce::Max, x), (Reduce::Min, scaled), (Reduce::Sum, x)]
        {
            let total = k.reduce(reduce, value);
            let twice = k.apply(E::Add, &[total, scale]);
            k.output(twice, 2, &[1, 0]);
        }
        // a transposed operand
        let turned = k.input(DType::F32, 0, &[r, 1]);
        let total = k.reduce(Reduce::Sum, turned);
        k.output(total, 0, &[1, 0]);
        check(k, &[], Bound::Ulps(8192.0));
    }
    let mut k = Sketch::new(Schedule::Column, &[5], &[60]);
    let x = k.input(DType::I32, 0, &[1, 5]);
    for reduce in [Reduce::Sum, Reduce::Prod, Reduce::Max, Reduce::Min] {
        let total = k.reduce(reduce, x);
        k.output(total, 0, &[1, 0]);
    }
    check(k, &[], Bound::Exact);
}

/// Independence of threads is worth testing only where there are tasks to share.
#[test]
fn large_kernels_are_cut_into_tasks() {
    let tasks = |schedule, kept: &[usize], reduced: &[usize], strides: &[i64], element: bool| {
        let mut k = Sketch::new(schedule, kept, reduced);
        let x = k.input(DType::F32, 0, strides);
        if reduced.is_empty() || element {
            let y = k.apply(E::Neg, &[x]);
            k.output(y, 0, strides);
        }
        if !reduced.is_empty() {
            let sum = k.reduce(Reduce::Sum, x);
            let own = [Affine::row_major(kept).strides, vec![0; reduced.len()]].concat();
            k.output(sum, 0, &own);
        }
        Loops::new(&k.body, &k.bindings, &k.elements).unwrap().tasks()
    };
    assert_eq!(tasks(Schedule::Map, &[1000], &[], &[1], false), 1);
    assert!(tasks(Schedule::Map, &[200_001], &[], &[1], false) > 2);
    assert!(tasks(Schedule::Map, &[400, 500], &[], &[500, 1], false) > 2);
    for element in [false, true] {
        assert!(tasks(Schedule::Total, &[], &[300_007], &[1], element) > 2);
        assert!(tasks(Schedule::Total, &[3], &[70_001], &[70_001, 1], element) > 1);
        assert!(tasks(Schedule::Row, &[100], &[5000], &[5000, 1], element) > 2);
        assert!(tasks(Schedule::Row, &[30_000], &[10], &[10, 1], element) > 2);
        assert!(tasks(Schedule::Row, &[1], &[400_000], &[400_000, 1], element) > 2);
        assert!(tasks(Schedule::Column, &[512], &[3000], &[1, 512], element) > 2);
        assert!(tasks(Schedule::Column, &[20_000], &[40], &[1, 20_000], element) > 2);
        // per channel, over images and pixels
        assert!(tasks(Schedule::Row, &[64], &[32, 5000], &[5000, 320_000, 1], element) > 2);
    }
}
