//! Running sums, in f64: long runs then lose nothing that the result could show.

use cotangent_shaders::Scan;
use rayon::prelude::*;

/// Elements below which waking another thread costs more than it brings.
const SERIAL: usize = 1 << 14;

/// Whether several threads take part.
pub(super) fn is_parallel(scan: &Scan) -> bool {
    scan.outer > 1 && scan.outer * scan.length * scan.inner >= SERIAL
}

/// Computes the running sums of `input` into `output`.
pub(super) fn run(scan: &Scan, input: &[u32], output: &mut [u32]) {
    let total = scan.outer * scan.length * scan.inner;
    let input: &[f32] = bytemuck::cast_slice(&input[scan.input_offset..scan.input_offset + total]);
    let output: &mut [f32] =
        bytemuck::cast_slice_mut(&mut output[scan.output_offset..scan.output_offset + total]);
    let size = scan.length * scan.inner;
    if size == 0 {
        return;
    }
    let one = |(input, output): (&[f32], &mut [f32])| run_one(input, output, scan.inner, scan.reverse);
    if !is_parallel(scan) {
        input.chunks(size).zip(output.chunks_mut(size)).for_each(one);
    } else {
        let least = (SERIAL / size).max(1);
        input.par_chunks(size).zip(output.par_chunks_mut(size)).with_min_len(least).for_each(one);
    }
}

/// Scans of one outer element: `inner` of them side by side.
#[expect(clippy::cast_possible_truncation, reason = "rounding once, at the end")]
fn run_one(input: &[f32], output: &mut [f32], inner: usize, reverse: bool) {
    if inner == 1 {
        let mut sum = 0.0;
        let step = |(out, &x): (&mut f32, &f32)| {
            sum += f64::from(x);
            *out = sum as f32;
        };
        let pairs = output.iter_mut().zip(input);
        if reverse {
            pairs.rev().for_each(step);
        } else {
            pairs.for_each(step);
        }
        return;
    }
    let mut sums = vec![0.0; inner];
    let step = |(out, x): (&mut [f32], &[f32])| {
        for ((out, &x), sum) in out.iter_mut().zip(x).zip(&mut sums) {
            *sum += f64::from(x);
            *out = *sum as f32;
        }
    };
    let pairs = output.chunks_mut(inner).zip(input.chunks(inner));
    if reverse {
        pairs.rev().for_each(step);
    } else {
        pairs.for_each(step);
    }
}
