//! Kernels of users: nobody has read the text, so their bound is no theorem but an estimate.
//!
//! The text is evaluated several times, with every inexact operation a few units of f32 off, and every uncertain operand off by
//! its bound, each time in other directions. How far the results lie from the f64 ones says how far those of a device may,
//! which rounds in directions of its own and whose functions promise a few units (CESTAC: Vignes, *Mathematics and
//! Computers in Simulation* 35, 1993, with a factor for the few samples). An element that is off by more is a finding; one of
//! which the samples themselves disagree, as past a branch, has a wide bound, and none where a sample fails.

use super::{Arithmetic, Ranged, distance, settled};
use crate::{DType, Rounding, UserKernel};

/// Evaluations: the chance that all of them miss the sign of an error by half its size is small, and each costs as much as the value.
const SAMPLES: u32 = 4;
/// By how much errors may exceed the largest that was seen.
const FACTOR: f64 = 4.0;

pub(super) fn estimate(
    kernel: &UserKernel,
    operands: &[Ranged],
    value: &[f64],
    dtype: DType,
    arithmetic: &Arithmetic,
) -> Vec<f64> {
    let anything = || vec![f64::INFINITY; value.len()];
    if operands.iter().flat_map(|operand| &operand.bound).any(|bound| bound.is_infinite()) {
        return anything();
    }
    let mut spread = vec![0.0f64; value.len()];
    for sample in 0..SAMPLES {
        let moved: Vec<Vec<f64>> = operands
            .iter()
            .enumerate()
            .map(|(number, operand)| {
                let off = |(element, (v, e)): (usize, (&f64, &f64))| {
                    v + if mixed(sample, number, element) & 1 == 0 { *e } else { -e }
                };
                operand.value.iter().zip(&operand.bound).enumerate().map(off).collect()
            })
            .collect();
        let moved: Vec<&[f64]> = moved.iter().map(Vec::as_slice).collect();
        let Ok(run) = kernel.meaning.run(kernel, &moved, Rounding::Perturbed(sample)) else {
            return anything();
        };
        for ((spread, run), value) in spread.iter_mut().zip(run).zip(value) {
            *spread = spread.max(distance(run, *value));
        }
    }
    let bound = |(spread, value): (f64, &f64)| match dtype {
        DType::F32 | DType::F16 if value.is_finite() => {
            settled(FACTOR * spread + 2.0 * arithmetic.unit * value.abs() + arithmetic.eta)
        }
        DType::F32 | DType::F16 => settled(spread),
        DType::I32 | DType::U32 | DType::Bool => {
            if spread == 0.0 {
                0.0
            } else {
                f64::INFINITY
            }
        }
    };
    spread.into_iter().zip(value).map(bound).collect()
}

/// A number without pattern for each element (SplitMix64: Steele, Lea & Flood, OOPSLA 2014).
fn mixed(sample: u32, operand: usize, element: usize) -> u64 {
    let seed = (u64::from(sample) << 48) ^ ((operand as u64) << 40) ^ element as u64;
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
