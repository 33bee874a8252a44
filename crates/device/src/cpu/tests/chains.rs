//! Operations whose values stay in the first cache.

use cotangent_shaders::{Access, Affine, Level, Schedule};
use cotangent_tensor::{DType, Elementwise as E, Integer, Reduce};

use super::super::loops::Loops;
use super::sketch::Sketch;
use super::{Bound, check, floats};

/// Long blocks run through chains piece by piece: with pieces that are cut short, values that leave in all ways, loads that
/// depend on what a chain gives, an update in place, and what comes before and after.
#[test]
fn chains_of_operations() {
    let eighths = |n: usize, step: usize| {
        floats(&(0..n).map(|i| ((i * step) % 9 + 1) as f32 / 8.0).collect::<Vec<_>>())
    };
    for (n, early) in [511, 512, 513, 767, 1024, 1300, 5000].into_iter().flat_map(|n| [(n, false), (n, true)])
    {
        let mut k = Sketch::new(Schedule::Map, &[n], &[]);
        let [a, b] = [0, 1].map(|_| k.input(DType::F32, 0, &[1]));
        let truth = k.input(DType::Bool, 0, &[1]);
        let (one, less) = (k.input(DType::F32, 0, &[0]), k.constant(-1.0));
        let sum = k.apply(E::Add, &[a, b]);
        let difference = k.apply(E::Sub, &[a, less]);
        let product = k.apply(E::Mul, &[sum, difference]);
        let larger = k.apply(E::Max, &[product, one]);
        let chosen = k.apply(E::Select, &[truth, larger, sum]);
        let is_less = k.apply(E::Lt, &[chosen, product]);
        let turned = k.apply(E::Neg, &[chosen]);
        // a word of the result, and what is made of it
        let whole = k.cast(turned, DType::I32);
        let back = k.cast(whole, DType::F32);
        let mut last = k.apply(E::Add, &[back, turned]);
        for operand in [less, a, one, b, less, difference] {
            last = k.apply(E::Max, &[last, operand]);
            last = k.apply(E::Neg, &[last]);
        }
        // in place, where a chain decides whether something is loaded
        let kept = k.bind(Access::ReadWrite, DType::F32, n);
        let at = Affine { offset: 0, strides: vec![1] };
        let guarded = k.load_at(Level::Kept, kept, at, Some(is_less));
        let updated = k.apply(E::Sub, &[guarded, last]);
        k.store(kept, if early { chosen } else { updated }, 0, &[1]);
        if early {
            k.output(updated, 0, &[1]);
        }
        k.output(last, 0, &[1]);
        k.output(chosen, 3, &[2]);
        k.output(is_less, 0, &[1]);
        k.output(larger, 1, &[1]);
        k.output(larger, n as i64 - 1, &[-1]);
        let steps: Vec<usize> = {
            let loops = Loops::new(&k.body, &k.bindings, &k.elements).unwrap();
            loops.chains().iter().map(|chain| chain.steps.len()).collect()
        };
        assert_eq!(steps, if n < 512 { vec![] } else { vec![7, 14] }, "{n}");
        check(k, &[(0, eighths(n, 5)), (1, eighths(n, 4))], Bound::Exact);
    }
}

/// A load that depends on what comes after a chain comes before whatever overwrites what it loads: values of chains, values that
/// are computed in place, and loads from elsewhere.
#[test]
fn loads_in_place_come_before_stores() {
    for (n, form) in [300, 1024].into_iter().flat_map(|n| [0, 1].map(|form| (n, form))) {
        let mut k = Sketch::new(Schedule::Map, &[n], &[]);
        let [a, b] = [0, 1].map(|_| k.input(DType::F32, 0, &[1]));
        let half = k.input(DType::F16, 0, &[1]);
        let mut x = a;
        for row in [E::Max, E::Min, E::Max] {
            x = k.apply(row, &[x, b]);
            x = k.apply(E::Neg, &[x]);
            x = k.apply(E::Min, &[x, a]);
        }
        let (whole, zero) = (k.cast(x, DType::I32), k.word(0, DType::I32));
        let guard = k.integer(Integer::Lt, DType::I32, &[whole, zero]);
        let kept = k.bind(Access::ReadWrite, DType::F32, n);
        let at = Affine { offset: 0, strides: vec![1] };
        let loaded = k.load_at(Level::Kept, kept, at, Some(guard));
        k.output(loaded, 0, &[1]);
        let difference = k.apply(E::Sub, &[a, b]);
        k.store(kept, if form == 0 { difference } else { half }, 0, &[1]);
        check(k, &[], Bound::Exact);
    }
}

/// Compiling takes as long as there are operations, and values that are too many for a chain stay in rows.
#[test]
fn long_programs_with_many_values() {
    for (count, expected) in [(200, 1), (2000, 0)] {
        let n = 1024;
        let mut k = Sketch::new(Schedule::Map, &[n], &[]);
        let x = k.input(DType::F32, 0, &[1]);
        let mut values = vec![x];
        for _ in 0..count {
            let last = values[values.len() - 1];
            values.push(k.apply(E::Neg, &[last]));
        }
        // in the order in which they were made, so that all of them wait
        let largest = values.iter().skip(1).fold(x, |largest, &value| k.apply(E::Max, &[value, largest]));
        k.output(largest, 0, &[1]);
        let chains = Loops::new(&k.body, &k.bindings, &k.elements).unwrap().chains().len();
        assert_eq!(chains, expected, "{count} values");
        check(k, &[], Bound::Exact);
    }
}

/// The same inside of reductions, of rows and of columns, with exponentials that are shared, and of two sweeps.
#[test]
fn chains_inside_reductions() {
    for (schedule, kept, reduced) in [
        (Schedule::Row, 3, 1300),
        (Schedule::Total, 1, 9000),
        (Schedule::Column, 1300, 40),
        (Schedule::Row, 1024, 20),
    ] {
        let mut k = Sketch::new(schedule, &[kept], &[reduced]);
        let strides = if schedule == Schedule::Column { [1, kept as i64] } else { [reduced as i64, 1] };
        let (x, y) = (k.input(DType::F32, 0, &strides), k.input(DType::F16, 0, &strides));
        let each = k.input(DType::F32, 0, &[1, 0]);
        let half = k.constant(0.5);
        let mut value = x;
        for operand in [half, each, y, half, each, x, y] {
            value = k.apply(E::Max, &[value, operand]);
            value = k.apply(E::Neg, &[value]);
        }
        let largest = k.reduce(Reduce::Max, value);
        let mut rest = k.apply(E::Sub, &[value, largest]);
        for operand in [half, each, y, half, each] {
            rest = k.apply(E::Min, &[rest, operand]);
            rest = k.apply(E::Neg, &[rest]);
        }
        let sum = k.reduce(Reduce::Sum, rest);
        k.output(sum, 0, &[1, 0]);
        k.output(rest, 0, &strides);
        assert!(!Loops::new(&k.body, &k.bindings, &k.elements).unwrap().chains().is_empty(), "{schedule:?}");
        check(k, &[], Bound::Exact);
    }
}
