//! Loops over lanes, compiled for AVX-512, AVX2, NEON and the baseline; `pulp` picks one at run time.
//!
//! Everything below a [`WithSimd`] must inline into it: a function or closure that stays behind a call runs as baseline
//! code. Hence structs instead of closures, and `#[inline(always)]` throughout. All instruction sets give the same bits,
//! because the order of operations is written out.

use cotangent_tensor::{DType, Integer, Key, math32};
use pulp::{Arch, Simd, WithSimd};

use super::calculation::Calculation;
use crate::raw::{LINE, copy_past_caches, prefetch};

/// Running values of one reduction over a row.
const RUNNING: usize = 16;

/// Declares a function whose body is compiled for each instruction set.
macro_rules! simd {
    ($( $(#[$doc:meta])* fn $name:ident($($arg:ident: $T:ty),*) -> $R:ty $body:block )*) => { $(
        $(#[$doc])*
        pub(super) fn $name<'a>(arch: Arch, $($arg: $T),*) -> $R {
            struct Body<'a> { $($arg: $T,)* of: std::marker::PhantomData<&'a ()> }
            impl<'a> WithSimd for Body<'a> {
                type Output = $R;
                #[inline(always)]
                fn with_simd<S: Simd>(self, _: S) -> $R {
                    let Body { $($arg,)* of: _ } = self;
                    $body
                }
            }
            arch.dispatch(Body { $($arg,)* of: std::marker::PhantomData })
        }
    )* };
}

/// One loop per row of the integer table and signedness, so that the choice is made outside the loop.
macro_rules! integer_loops {
    ($row:ident, $dtype:ident, $out:ident, $args:ident; $($Row:ident)*) => {{
        let [a, b, c] = $args;
        let signed = $dtype == DType::I32;
        match ($row, signed) { $(
            (Integer::$Row, true) => integer_loop($out, a, b, c, Integer::$Row, DType::I32),
            (Integer::$Row, false) => integer_loop($out, a, b, c, Integer::$Row, DType::U32),
        )* }
    }};
}

#[inline(always)]
fn integer_loop(out: &mut [u32], a: &[u32], b: &[u32], c: &[u32], row: Integer, dtype: DType) {
    let truth = |word: u32| if row.is_test() { (word as f32).to_bits() } else { word };
    match row.arity() {
        1 => {
            for (o, &a) in out.iter_mut().zip(a) {
                *o = truth(row.eval(dtype, a, 0, 0));
            }
        }
        2 => {
            for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *o = truth(row.eval(dtype, a, b, 0));
            }
        }
        _ => {
            for (((o, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
                *o = truth(row.eval(dtype, a, b, c));
            }
        }
    }
}

/// `exp(x − shift)` of some lanes; adds up those of lanes below the maximum, and counts the others.
#[inline(always)]
fn exponentials(
    x: &[f32; RUNNING],
    max: f32,
    shift: f32,
    sums: &mut [f32; RUNNING],
    counts: &mut [u32; RUNNING],
) -> [f32; RUNNING] {
    let mut out = [0.0; RUNNING];
    for (((sum, count), e), &x) in sums.iter_mut().zip(counts).zip(&mut out).zip(x) {
        *e = math32::exp_nonpositive(x - shift);
        *sum += below(x, max, *e);
        *count += u32::from(x == max);
    }
    out
}

/// Combines running values as a fixed tree.
#[inline(always)]
fn tree<T: Copy>(mut running: [T; RUNNING], combine: impl Fn(T, T) -> T) -> T {
    let mut width = RUNNING / 2;
    while width > 0 {
        for j in 0..width {
            running[j] = combine(running[j], running[j + width]);
        }
        width /= 2;
    }
    running[0]
}

/// The maximum that stands for nothing: the exponent is shifted by it, and −inf − −inf is no number.
#[inline(always)]
fn shift(max: f32) -> f32 {
    if max == f32::NEG_INFINITY { 0.0 } else { max }
}

/// `e` where `x` is not the maximum, else 0. By bits: a choice between values invites the compiler to masked stores.
#[inline(always)]
fn below(x: f32, max: f32, e: f32) -> f32 {
    f32::from_bits(e.to_bits() & u32::from(x == max).wrapping_sub(1))
}

/// One number for all lanes, or one per lane.
#[inline(always)]
pub(super) fn one_of(row: &[f32], lane: usize) -> f32 {
    if let &[one] = row { one } else { row[lane] }
}

#[inline(always)]
fn one_if(condition: bool) -> f32 {
    f32::from_bits(1f32.to_bits() & u32::from(condition).wrapping_neg())
}

/// Elements of a row that are added in f32: [`RUNNING`] sums of 64.
pub(super) const LONGEST: usize = 64 * RUNNING;

/// A part of a row, rows being so many elements apart.
#[inline(always)]
fn row<'a>(of: &'a [f32], number: usize, step: usize, part: &std::ops::Range<usize>) -> &'a [f32] {
    &of[number * step + part.start..number * step + part.end]
}

/// The inner product of two rows of the same length. What is left over is added in one piece: places that are known when the
/// code is compiled keep the running sums in vectors.
#[inline(always)]
fn inner(x: &[f32], w: &[f32]) -> f64 {
    let mut running = [0f32; RUNNING];
    let ((x, x_tail), (w, w_tail)) = (x.as_chunks::<RUNNING>(), w.as_chunks::<RUNNING>());
    for (x, w) in x.iter().zip(w) {
        for ((sum, x), w) in running.iter_mut().zip(x).zip(w) {
            *sum += x * w;
        }
    }
    if !x_tail.is_empty() {
        let mut last = [0f32; RUNNING];
        for ((last, x), w) in last.iter_mut().zip(x_tail).zip(w_tail) {
            *last = x * w;
        }
        for (sum, last) in running.iter_mut().zip(last) {
            *sum += last;
        }
    }
    f64::from(tree(
        running,
        #[inline(always)]
        |a, b| a + b,
    ))
}

/// Lanes of a piece: few enough to stay in the first cache while they are copied, many enough to choose the row for.
const PIECE: usize = 128;

/// A piece.
pub(super) type Piece = [f32; PIECE];

simd! {
    /// What is computed lane by lane.
    fn calculate(what: Calculation, out: &'a mut [f32], args: [&'a [f32]; 3]) -> () {
        what.lanes(out, args);
    }
    /// [`calculate`], and if so wanted the results go past the caches. Operands of one lane are the same for all; `same`
    /// has room for them.
    fn calculate_in_pieces(
        what: Calculation, out: &'a mut [f32], args: [&'a [f32]; 3], same: &'a mut [Piece], past_caches: bool
    ) -> () {
        for (same, arg) in same.iter_mut().zip(args).take(what.arity()) {
            if let [one] = arg {
                same.fill(*one);
            }
        }
        let mut results = [0f32; PIECE];
        for first in (0..out.len()).step_by(PIECE) {
            let piece = first..(first + PIECE).min(out.len());
            let mut here = [&[][..]; 3];
            for ((here, arg), same) in here.iter_mut().zip(args).zip(same.iter()).take(what.arity()) {
                *here = if arg.len() == 1 { &same[..piece.len()] } else { &arg[piece.clone()] };
            }
            let results = &mut results[..piece.len()];
            what.lanes(results, here);
            if past_caches {
                copy_past_caches(&mut out[piece], results);
            } else {
                out[piece].copy_from_slice(results);
            }
        }
    }
    /// A row of the integer table; truth values become 1.0 and 0.0.
    fn integer(row: Integer, dtype: DType, out: &'a mut [u32], args: [&'a [u32]; 3]) -> () {
        integer_loops!(row, dtype, out, args;
            Add Sub Mul Div Rem Neg Abs Min Max And Or Xor Not Shl Shr Eq Ne Lt Le Gt Ge Select);
    }
    /// Conversion between element types; truth values are 1.0 and 0.0.
    #[expect(clippy::cast_precision_loss, reason = "rounding is the meaning of the conversion")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, as the conversion does")]
    fn cast(from: DType, to: DType, out: &'a mut [f32], x: &'a [f32]) -> () {
        #[inline(always)]
        fn each(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = f(x);
            }
        }
        let word = f32::from_bits;
        match (from, to) {
            (DType::F32 | DType::F16, DType::F16) => each(out, x, |x| half::f16::from_f32(x).to_f32()),
            (DType::F32 | DType::F16, DType::I32) => each(out, x, |x| word((x as i32) as u32)),
            (DType::F32 | DType::F16, DType::U32) => each(out, x, |x| word(x as u32)),
            (DType::F32 | DType::F16, DType::Bool) => each(out, x, |x| if x == 0.0 { 0.0 } else { 1.0 }),
            (DType::I32, DType::F32) => each(out, x, |x| x.to_bits() as i32 as f32),
            (DType::U32, DType::F32) => each(out, x, |x| x.to_bits() as f32),
            (DType::I32, DType::F16) => each(out, x, |x| half::f16::from_f32(x.to_bits() as i32 as f32).to_f32()),
            (DType::U32, DType::F16) => each(out, x, |x| half::f16::from_f32(x.to_bits() as f32).to_f32()),
            (DType::I32 | DType::U32, DType::Bool) => each(out, x, |x| if x.to_bits() == 0 { 0.0 } else { 1.0 }),
            (DType::Bool, DType::I32 | DType::U32) => each(out, x, |x| word(u32::from(x != 0.0))),
            (DType::F32 | DType::F16 | DType::Bool, DType::F32)
            | (DType::I32 | DType::U32, DType::I32 | DType::U32)
            | (DType::Bool, DType::F16 | DType::Bool) => out.copy_from_slice(x),
        }
    }
    /// Words 0 and 1 of a buffer as 1.0 and 0.0.
    fn truth_from_words(out: &'a mut [f32], words: &'a [u32]) -> () {
        for (o, &word) in out.iter_mut().zip(words) {
            *o = if word == 0 { 0.0 } else { 1.0 };
        }
    }
    /// The words 0 and 1 of truth values.
    fn words_from_truth(out: &'a mut [u32], x: &'a [f32]) -> () {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = u32::from(x != 0.0);
        }
    }
    /// `0 ≤ first + offset < size`, where offsets are lane numbers times `step`.
    fn in_range(out: &'a mut [f32], first: i32, step: i32, size: u32) -> () {
        for (o, lane) in out.iter_mut().zip(0i32..) {
            let at = first.wrapping_add(lane.wrapping_mul(step));
            *o = if at.cast_unsigned() < size { 1.0 } else { 0.0 };
        }
    }
    /// `first + lane · step`, as words.
    fn coordinate(out: &'a mut [f32], first: i32, step: i32) -> () {
        for (o, lane) in out.iter_mut().zip(0i32..) {
            *o = f32::from_bits(first.wrapping_add(lane.wrapping_mul(step)).cast_unsigned());
        }
    }
    /// Random words `first, first + 1, …` of a key.
    fn random(out: &'a mut [u32], key: [u32; 4], step: u32, first: u64) -> () {
        const BLOCKS: usize = 16;
        let mut words = [[0u32; 4]; BLOCKS];
        let (mut block, mut skip) = (first / 4, (first % 4) as usize);
        let mut rest = out;
        while !rest.is_empty() {
            for (j, words) in words.iter_mut().enumerate() {
                *words = math32::threefry([(block as u32).wrapping_add(j as u32), 0, step, 0], key);
            }
            let ready = &words.as_flattened()[skip..];
            let (now, later) = rest.split_at_mut(ready.len().min(rest.len()));
            now.copy_from_slice(&ready[..now.len()]);
            (rest, block, skip) = (later, block + BLOCKS as u64, 0);
        }
    }
    /// `exp(x − max)`, zero where the maximum is −inf. One maximum, or one per lane.
    fn exponential(out: &'a mut [f32], x: &'a [f32], max: &'a [f32]) -> () {
        if let &[max] = max {
            let max = shift(max);
            for (o, &x) in out.iter_mut().zip(x) {
                *o = math32::exp_nonpositive(x - max);
            }
        } else {
            for ((o, &x), &max) in out.iter_mut().zip(x).zip(max) {
                *o = math32::exp_nonpositive(x - shift(max));
            }
        }
    }
    /// `x · factor`. One factor, or one per lane.
    fn scale(out: &'a mut [f32], x: &'a [f32], factor: &'a [f32]) -> () {
        if let &[factor] = factor {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = x * factor;
            }
        } else {
            for ((o, &x), &factor) in out.iter_mut().zip(x).zip(factor) {
                *o = x * factor;
            }
        }
    }
    /// `x · a · b`. One factor each, or one per lane.
    fn scale_twice(out: &'a mut [f32], x: &'a [f32], factors: [&'a [f32]; 2]) -> () {
        if let [&[a], &[b]] = factors {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = x * a * b;
            }
        } else {
            for (lane, (o, &x)) in out.iter_mut().zip(x).enumerate() {
                *o = x * one_of(factors[0], lane) * one_of(factors[1], lane);
            }
        }
    }
    /// `exp(x − max)` as [`exponential`] gives it, and of these what [`rest`] finds. Fetches `next` meanwhile.
    fn exponential_rest(out: &'a mut [f32], x: &'a [f32], max: f32, next: &'a [u32]) -> [f64; 2] {
        let (mut sums, mut counts) = ([0f32; RUNNING], [0u32; RUNNING]);
        let (out, out_tail) = out.as_chunks_mut::<RUNNING>();
        let (x, x_tail) = x.as_chunks::<RUNNING>();
        let shift = shift(max);
        let mut next = next.chunks(LINE);
        if !x_tail.is_empty() {
            // below every maximum
            let mut x = [f32::NEG_INFINITY; RUNNING];
            x[..x_tail.len()].copy_from_slice(x_tail);
            let last = exponentials(&x, max, shift, &mut sums, &mut counts);
            out_tail.copy_from_slice(&last[..out_tail.len()]);
        }
        for (out, x) in out.iter_mut().zip(x) {
            prefetch(next.next().unwrap_or(&[]));
            *out = exponentials(x, max, shift, &mut sums, &mut counts);
        }
        let sum = tree(sums, #[inline(always)] |a, b| a + b);
        [f64::from(sum), f64::from(tree(counts, #[inline(always)] |a, b| a + b))]
    }
    /// Sum of a row: 16 running sums, a fixed tree.
    fn sum(x: &'a [f32]) -> f64 {
        let mut running = [0f32; RUNNING];
        let (whole, tail) = x.as_chunks::<RUNNING>();
        for (s, x) in running.iter_mut().zip(tail) {
            *s += x;
        }
        for x in whole {
            for (s, x) in running.iter_mut().zip(x) {
                *s += x;
            }
        }
        f64::from(tree(running, #[inline(always)] |a, b| a + b))
    }
    /// Product of a row, in f64 so that no order overflows early.
    fn product(x: &'a [f32]) -> f64 {
        let mut running = [1f64; RUNNING];
        let (whole, tail) = x.as_chunks::<RUNNING>();
        for (p, &x) in running.iter_mut().zip(tail) {
            *p *= f64::from(x);
        }
        for x in whole {
            for (p, &x) in running.iter_mut().zip(x) {
                *p *= f64::from(x);
            }
        }
        tree(running, #[inline(always)] |a, b| a * b)
    }
    /// Largest element, NaN if any is; −inf of nothing.
    fn maximum(x: &'a [f32]) -> f32 {
        let (mut running, mut strange) = ([f32::NEG_INFINITY; RUNNING], [0u32; RUNNING]);
        let (whole, tail) = x.as_chunks::<RUNNING>();
        for ((m, strange), &x) in running.iter_mut().zip(&mut strange).zip(tail) {
            *m = if x > *m { x } else { *m };
            *strange |= u32::from(x.is_nan());
        }
        for x in whole {
            for ((m, strange), &x) in running.iter_mut().zip(&mut strange).zip(x) {
                *m = if x > *m { x } else { *m };
                *strange |= u32::from(x.is_nan());
            }
        }
        let largest = tree(running, #[inline(always)] |a, b| if b > a { b } else { a });
        if strange != [0; RUNNING] {
            f32::NAN
        } else if largest == 0.0 {
            // zeros compare equal; +0 is the larger one
            if x.iter().any(|x| x.to_bits() == 0) { 0.0 } else { -0.0 }
        } else {
            largest
        }
    }
    /// Smallest element, NaN if any is; +inf of nothing.
    fn minimum(x: &'a [f32]) -> f32 {
        let (mut running, mut strange) = ([f32::INFINITY; RUNNING], [0u32; RUNNING]);
        let (whole, tail) = x.as_chunks::<RUNNING>();
        for ((m, strange), &x) in running.iter_mut().zip(&mut strange).zip(tail) {
            *m = if x < *m { x } else { *m };
            *strange |= u32::from(x.is_nan());
        }
        for x in whole {
            for ((m, strange), &x) in running.iter_mut().zip(&mut strange).zip(x) {
                *m = if x < *m { x } else { *m };
                *strange |= u32::from(x.is_nan());
            }
        }
        let smallest = tree(running, #[inline(always)] |a, b| if b < a { b } else { a });
        if strange != [0; RUNNING] {
            f32::NAN
        } else if smallest == 0.0 {
            if x.iter().any(|x| x.to_bits() == (-0f32).to_bits()) { -0.0 } else { 0.0 }
        } else {
            smallest
        }
    }
    /// Sum of the exponentials of elements below the maximum, and how many equal it.
    fn rest(x: &'a [f32], exponentials: &'a [f32], max: f32) -> [f64; 2] {
        let (mut sums, mut counts) = ([0f32; RUNNING], [0u32; RUNNING]);
        let (x_whole, x_tail) = x.as_chunks::<RUNNING>();
        let (e_whole, e_tail) = exponentials.as_chunks::<RUNNING>();
        for (((s, n), &x), &e) in sums.iter_mut().zip(&mut counts).zip(x_tail).zip(e_tail) {
            *s += below(x, max, e);
            *n += u32::from(x == max);
        }
        for (x, e) in x_whole.iter().zip(e_whole) {
            for (((s, n), &x), &e) in sums.iter_mut().zip(&mut counts).zip(x).zip(e) {
                *s += below(x, max, e);
                *n += u32::from(x == max);
            }
        }
        let sum = tree(sums, #[inline(always)] |a, b| a + b);
        [f64::from(sum), f64::from(tree(counts, #[inline(always)] |a, b| a + b))]
    }

    /// Adds to total `i` the inner product of row `i` of `x` with row `i` of `w`, rows being so many steps apart. One row after
    /// the other: several at a time are streams that no processor fetches as well as memory in order.
    fn inner_products(totals: &'a mut [[f64; 2]], x: &'a [f32], w: &'a [f32], steps: [usize; 2], length: usize) -> () {
        for from in (0..length).step_by(LONGEST) {
            let part = from..(from + LONGEST).min(length);
            for (number, total) in totals.iter_mut().enumerate() {
                total[0] += inner(row(x, number, steps[0], &part), row(w, number, steps[1], &part));
            }
        }
    }
    /// Adds rows of `x`, each times its factor, one after the other.
    fn add_scaled_rows(
        running: &'a mut [f32], x: &'a [f32], walk: usize, factors: &'a [f32], step: usize, count: usize
    ) -> () {
        let all = 0..running.len();
        for number in 0..count {
            let factor = factors[number * step];
            for (sum, x) in running.iter_mut().zip(row(x, number, walk, &all)) {
                *sum += x * factor;
            }
        }
    }

    /// Adds lane by lane.
    fn add_rows(running: &'a mut [f32], x: &'a [f32]) -> () {
        for (s, &x) in running.iter_mut().zip(x) {
            *s += x;
        }
    }
    /// Moves running sums into f64 totals.
    fn flush(totals: &'a mut [[f64; 2]], which: usize, running: &'a mut [f32]) -> () {
        for (total, s) in totals.iter_mut().zip(running) {
            total[which] += f64::from(std::mem::take(s));
        }
    }
    /// Multiplies lane by lane.
    fn multiply_rows(totals: &'a mut [[f64; 2]], x: &'a [f32]) -> () {
        for (total, &x) in totals.iter_mut().zip(x) {
            total[0] *= f64::from(x);
        }
    }
    /// Larger or smaller lane by lane; NaN stays.
    fn extreme_rows(running: &'a mut [f32], x: &'a [f32], maximum: bool) -> () {
        if maximum {
            for (m, &x) in running.iter_mut().zip(x) {
                *m = math32::max(*m, x);
            }
        } else {
            for (m, &x) in running.iter_mut().zip(x) {
                *m = math32::min(*m, x);
            }
        }
    }
    /// [`rest`] lane by lane.
    fn rest_rows(sums: &'a mut [f32], counts: &'a mut [f32], x: &'a [f32], exponentials: &'a [f32], max: &'a [f32]) -> () {
        let lanes = sums.len().min(counts.len()).min(x.len()).min(exponentials.len()).min(max.len());
        let (sums, counts, x) = (&mut sums[..lanes], &mut counts[..lanes], &x[..lanes]);
        let (exponentials, max) = (&exponentials[..lanes], &max[..lanes]);
        for j in 0..lanes {
            sums[j] += below(x[j], max[j], exponentials[j]);
            counts[j] += one_if(x[j] == max[j]);
        }
    }
    /// Keeps, lane by lane, the first extreme element and its position.
    fn arg_rows(best: &'a mut [f32], at: &'a mut [f32], x: &'a [f32], position: u32, maximum: bool) -> () {
        let position = f32::from_bits(position);
        for ((best, at), &x) in best.iter_mut().zip(at).zip(x) {
            let better = if maximum { x > *best } else { x < *best };
            let better = (better || x.is_nan()) && !best.is_nan();
            *at = if better { position } else { *at };
            *best = if better { x } else { *best };
        }
    }
    /// Keeps the lanes whose index is this position.
    fn pick_rows(kept: &'a mut [f32], x: &'a [f32], index: &'a [f32], position: u32) -> () {
        for ((kept, &x), &index) in kept.iter_mut().zip(x).zip(index) {
            *kept = if index.to_bits() == position { x } else { *kept };
        }
    }
    /// Integer reductions of a row.
    fn integer_total(row: Integer, dtype: DType, start: u32, x: &'a [u32]) -> u32 {
        let mut running = [start; RUNNING];
        let (whole, tail) = x.as_chunks::<RUNNING>();
        for (a, &x) in running.iter_mut().zip(tail) {
            *a = row.eval(dtype, *a, x, 0);
        }
        for x in whole {
            for (a, &x) in running.iter_mut().zip(x) {
                *a = row.eval(dtype, *a, x, 0);
            }
        }
        tree(running, #[inline(always)] |a, b| row.eval(dtype, a, b, 0))
    }
    /// Integer reductions lane by lane.
    fn integer_rows(row: Integer, dtype: DType, running: &'a mut [u32], x: &'a [u32]) -> () {
        for (a, &x) in running.iter_mut().zip(x) {
            *a = row.eval(dtype, *a, x, 0);
        }
    }
}

/// The words of a key in the order of the generator.
#[expect(clippy::cast_possible_truncation, reason = "low and high halves")]
pub(super) fn key_words(key: Key) -> [u32; 4] {
    [key.seed as u32, (key.seed >> 32) as u32, key.stream as u32, (key.stream >> 32) as u32]
}

/// Random word `at` of a key.
#[expect(clippy::cast_possible_truncation, reason = "element counts fit 32 bits")]
pub(super) fn random_word(key: [u32; 4], step: u32, at: u64) -> u32 {
    math32::threefry([(at / 4) as u32, 0, step, 0], key)[(at % 4) as usize]
}
