//! Kernels written by hand, against an oracle that follows the definition of a loop one element at a time, in f64.

mod chains;
mod loops;
mod numbers;
mod oracle;
mod others;
mod products;
mod rows;
mod sketch;

use cotangent_shaders::{Access, Body, Loop, Plan};
use cotangent_tensor::{Array, DType, Error, Shape, Values};

use super::calculation::Calculation;
use super::loops::Loops;
use super::program::Action;
use super::{Buffers, Executable};
use oracle::Oracle;
use sketch::Sketch;

/// How many operations on elements of a sketch are these.
fn count(k: &Sketch, which: impl Fn(&Action) -> bool) -> usize {
    Loops::new(&k.body, &k.bindings, &k.elements).unwrap().count(which)
}

/// How far a result may be from the oracle.
#[derive(Clone, Copy)]
enum Bound {
    /// The same bits.
    Exact,
    /// In units of the last place of the result, f32.
    Ulps(f64),
}

/// Words that vary: small numbers, of which sums and products are exact.
fn words(dtype: DType, n: usize, seed: u32) -> Vec<u32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    let word = |random: u32| match dtype {
        DType::F32 | DType::F16 => ((random % 17) as f32 - 8.0).to_bits(),
        DType::I32 => (random as i32 % 17 - 8).cast_unsigned(),
        DType::U32 => random % 17,
        DType::Bool => random % 2,
    };
    (0..n).map(|_| word(next())).collect()
}

fn array(words: Vec<u32>, dtype: DType) -> Array {
    let shape = Shape::new(&[words.len()]).unwrap();
    Array::from_words(words, shape, dtype).unwrap()
}

/// So many threads run on the baseline instruction set.
const BASELINE: usize = 3;

/// Runs a plan on these words (by buffer) in a pool of so many threads; gives the words of all buffers.
fn run(plan: &Plan, given: &[Vec<u32>], threads: usize) -> Result<Vec<Vec<u32>>, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut executable = Executable::compile(plan)?;
        if threads == BASELINE {
            executable.arch = pulp::Arch::Scalar;
        }
        let mut buffers = Buffers::for_inputs(plan)?;
        let mut last = None;
        // twice, because what stays from one run must not change the next
        for _ in 0..2 {
            for (b, buffer) in plan.buffers.iter().enumerate() {
                buffers.write(b, &array(given[b].clone(), buffer.dtype))?;
            }
            executable.run(&mut buffers)?;
            let read = |(b, buffer): (usize, &cotangent_shaders::Buffer)| {
                let shape = Shape::new(&[buffer.elements]).unwrap();
                let words = buffers.read(b, 0, shape).map(|array| array.to_words());
                // one NaN is as good as another: IEEE 754 leaves sign and payload open
                let one_nan =
                    |word: u32| if f32::from_bits(word).is_nan() { f32::NAN.to_bits() } else { word };
                words.map(|words| match buffer.dtype {
                    DType::F32 | DType::F16 => words.into_iter().map(one_nan).collect(),
                    DType::I32 | DType::U32 | DType::Bool => words,
                })
            };
            let words: Result<Vec<Vec<u32>>, _> = plan.buffers.iter().enumerate().map(read).collect();
            let words = words?;
            assert!(last.is_none_or(|last| last == words), "two runs differ");
            last = Some(words);
        }
        Ok(last.unwrap_or_default())
    })
}

/// Words for every buffer: what is given by binding, else words that vary.
fn fill(plan: &Plan, given: &[(usize, Vec<u32>)]) -> Vec<Vec<u32>> {
    let varied = |(b, buffer): (usize, &cotangent_shaders::Buffer)| {
        let given = given.iter().find(|(binding, _)| *binding == b).map(|(_, words)| words.clone());
        given.unwrap_or_else(|| words(buffer.dtype, buffer.elements, b as u32 + 1))
    };
    plan.buffers.iter().enumerate().map(varied).collect()
}

/// Runs a sketch with one, two and three threads, and compares everything with the oracle.
#[track_caller]
fn check(sketch: Sketch, given: &[(usize, Vec<u32>)], bound: Bound) {
    let plan = sketch.plan();
    let before = fill(&plan, given);
    let Body::Loop(body) = &plan.kernels[0].body else { panic!("a sketch is a loop") };
    let expected = Oracle::new(body, &plan.kernels[0].bindings, &before).run();
    compare(&plan, body, &before, &expected, bound);
}

#[track_caller]
fn compare(plan: &Plan, body: &Loop, before: &[Vec<u32>], expected: &[Vec<f64>], bound: Bound) {
    let found = run(plan, before, 1).unwrap();
    for threads in [2, BASELINE] {
        assert!(
            run(plan, before, threads).unwrap() == found,
            "{threads} threads or their instruction set give other bits: {}",
            plan.kernels[0]
        );
    }
    let mut compared = 0;
    for (b, binding) in plan.kernels[0].bindings.iter().enumerate() {
        for (i, (&found, &expected)) in found[b].iter().zip(&expected[b]).enumerate() {
            let is_right = match binding.dtype {
                DType::F32 | DType::F16 => is_within(f32::from_bits(found), expected, bound),
                DType::I32 | DType::U32 | DType::Bool => f64::from(found) == expected,
            };
            let shown = f32::from_bits(found);
            assert!(
                is_right,
                "element {i} of binding {b} is {shown} ({found}), not {expected}: {}",
                plan.kernels[0]
            );
            compared += usize::from(binding.access != Access::Read);
        }
    }
    assert!(compared > 0, "nothing was stored");
    assert!(!body.stores.is_empty());
}

fn is_within(found: f32, expected: f64, bound: Bound) -> bool {
    let right = expected as f32;
    if found.to_bits() == right.to_bits() || (found.is_nan() && right.is_nan()) {
        return true;
    }
    match bound {
        Bound::Exact => false,
        Bound::Ulps(ulps) => {
            let unit = f64::from(f32::EPSILON) * expected.abs().max(f64::from(f32::MIN_POSITIVE));
            (f64::from(found) - expected).abs() <= ulps * unit
        }
    }
}

fn floats(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn halves_survive_packing() {
    let values = [0.0, -0.0, 1.0, 65504.0, 1e-7, f32::INFINITY, -2.5];
    let array = Array::from(&values[..]).with_dtype(DType::F16);
    let words = super::pack(&array);
    assert_eq!(words.len(), 4);
    let back = super::unpack(&words, DType::F16, 1..7);
    let expected: Vec<u32> = values[1..].iter().map(|&x| half::f16::from_f32(x).to_f32().to_bits()).collect();
    assert_eq!(back, expected);
    assert!(matches!(array.values(), Values::Single(_)));
}
