//! What the processor can do at most, measured with the means that kernels have: vectors, fused products, all threads.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};

use super::Roof;
use crate::raw::{self, View};

/// Words that no cache holds, per thread.
const WORDS: usize = 8 << 20;
/// Rows, terms and columns of a matrix product that a cache holds.
const SIDE: usize = 384;
/// How often everything is measured; the best counts.
const REPEATS: usize = 5;

/// Reads and copies 32 MiB per thread, multiplies and adds in registers, and multiplies matrices.
pub(super) fn host(threads: usize) -> Roof {
    let bytes = on_all(threads, &copy).max(on_all(threads, &read));
    let flops = on_all(threads, &arithmetic).max(on_all(threads, &product));
    Roof { bytes_per_second: bytes, flops_per_second: flops }
}

/// The rates of all threads together.
fn on_all(threads: usize, work: &(dyn Fn() -> f64 + Sync)) -> f64 {
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        // A thread that panicked measured nothing.
        handles.into_iter().map(|handle| handle.join().unwrap_or(0.0)).sum()
    })
}

/// Units per second, at best.
#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(units: usize, mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64());
    }
    units as f64 / best.max(1e-9)
}

fn copy() -> f64 {
    let source = vec![1u32; WORDS];
    let mut target = vec![2u32; WORDS];
    rate(8 * WORDS, || {
        target.copy_from_slice(black_box(&source));
        black_box(&mut target);
    })
}

fn read() -> f64 {
    let source = vec![1u32; WORDS];
    rate(4 * WORDS, || {
        black_box(black_box(&source).iter().fold(0u32, |sum, &word| sum.wrapping_add(word)));
    })
}

/// Chains of fused products, as many as it takes to hide their latency.
struct Chains {
    rounds: usize,
}

const CHAINS: usize = 12;

impl WithSimd for Chains {
    type Output = usize;
    /// Operations done.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let (factor, term) = black_box((simd.splat_f32s(0.999), simd.splat_f32s(0.001)));
        let mut chains = [simd.splat_f32s(1.0); CHAINS];
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = simd.mul_add_f32s(*chain, factor, term);
            }
        }
        black_box(chains);
        2 * CHAINS * S::F32_LANES * self.rounds
    }
}

fn arithmetic() -> f64 {
    const ROUNDS: usize = 100_000;
    let arch = Arch::new();
    let operations = arch.dispatch(Chains { rounds: 1000 }) / 1000 * ROUNDS;
    rate(operations, || {
        black_box(arch.dispatch(Chains { rounds: ROUNDS }));
    })
}

fn product() -> f64 {
    let data = vec![0.5f32; SIDE * SIDE];
    let mut output = vec![0f32; SIDE * SIDE];
    rate(2 * SIDE * SIDE * SIDE, || {
        let view = |data| View { data, row_stride: SIDE, column_stride: 1 };
        let data = black_box(&data[..]);
        raw::matmul([SIDE; 3], view(data), view(data), &mut output, false);
        black_box(&mut output);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_stays_below_the_roof() {
        // Other work on the machine may disturb a measurement, not ten of them.
        let holds = |_: &i32| {
            let roof = host(1);
            product() <= 1.1 * roof.flops_per_second && copy() <= 1.1 * roof.bytes_per_second
        };
        assert!((0..10).any(|attempt| holds(&attempt)));
    }
}
