//! Meanings of operations between elements: reductions, products of matrices, softmax and its relatives.
//!
//! Reductions act on rows: the reduced axes are first moved to the end.

use super::structure::{Along, permuted};
use super::value::{from_word, to_word};
use crate::{DType, Node, Reduce, Shape, special};

/// Equal contiguous rows of a row-major array; there may be many of length 0.
pub(super) struct Rows<'a> {
    data: &'a [f64],
    pub(super) count: usize,
    pub(super) length: usize,
}

impl<'a> Rows<'a> {
    /// Rows along the last axis.
    pub(super) fn last(data: &'a [f64], shape: &Shape) -> Rows<'a> {
        let (length, outer) = shape.split_last().map_or((1, &[][..]), |(&length, outer)| (length, outer));
        Rows { data, count: outer.iter().product(), length }
    }
    /// Rows of data in which the reduced axes are last.
    pub(super) fn of(data: &'a [f64], count: usize) -> Rows<'a> {
        Rows { data, count, length: data.len().checked_div(count).unwrap_or(0) }
    }
    pub(super) fn get(&self, row: usize) -> &'a [f64] {
        &self.data[row * self.length..(row + 1) * self.length]
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a [f64]> + '_ {
        (0..self.count).map(|row| self.get(row))
    }
}

/// The operand of a reduction with the reduced axes moved to the end.
pub(super) fn reduced_last(data: &[f64], shape: &Shape, axes: &[usize]) -> Vec<f64> {
    let kept = (0..shape.rank()).filter(|a| !axes.contains(a));
    permuted(data, shape, &kept.chain(axes.iter().copied()).collect::<Vec<_>>())
}

/// A sum in which rounding errors do not grow with every term; +0 for none (the sum of an empty iterator is −0).
pub(super) fn sum(terms: &[f64]) -> f64 {
    0.0 + terms.chunks(256).map(|chunk| chunk.iter().sum::<f64>()).sum::<f64>()
}

/// A reduction over axes.
pub(super) fn reduce(kind: Reduce, axes: &[usize], node: &Node, data: &[f64]) -> Vec<f64> {
    let operand = &node.operands[0];
    let moved = reduced_last(data, &operand.shape, axes);
    let rows = Rows::of(&moved, node.shape.elements());
    if operand.dtype.is_integer() {
        return rows.iter().map(|row| reduce_words(kind, operand.dtype, row)).collect();
    }
    rows.iter().map(|row| reduce_row(kind, row)).collect()
}

/// A reduction of floats. Extremes need at least one element.
pub(super) fn reduce_row(kind: Reduce, row: &[f64]) -> f64 {
    match kind {
        Reduce::Sum => sum(row),
        Reduce::Prod => row.iter().product(),
        Reduce::Max => row.iter().copied().reduce(special::max).unwrap_or(f64::NAN),
        Reduce::Min => row.iter().copied().reduce(special::min).unwrap_or(f64::NAN),
    }
}

fn reduce_words(kind: Reduce, dtype: DType, row: &[f64]) -> f64 {
    let words = row.iter().map(|&x| to_word(x, dtype));
    match kind {
        Reduce::Sum => from_word(words.fold(0, u32::wrapping_add), dtype),
        Reduce::Prod => from_word(words.fold(1, u32::wrapping_mul), dtype),
        Reduce::Max | Reduce::Min => reduce_row(kind, row),
    }
}

/// Index of the first extreme element along an axis; the first NaN if there is one.
#[expect(clippy::cast_precision_loss, reason = "indices are below 2³²")]
pub(super) fn arg_reduce(data: &[f64], shape: &Shape, axis: usize, maximum: bool) -> Vec<f64> {
    let moved = reduced_last(data, shape, &[axis]);
    let rows = Rows::of(&moved, shape.without(&[axis]).elements());
    rows.iter().map(|row| first_extreme(row, maximum) as f64).collect()
}

/// Index of the first largest (or smallest) element of a row, or of its first NaN.
pub(super) fn first_extreme(row: &[f64], maximum: bool) -> usize {
    if let Some(nan) = row.iter().position(|x| x.is_nan()) {
        return nan;
    }
    let better = |a: f64, b: f64| if maximum { a > b } else { a < b };
    (1..row.len()).fold(0, |best, i| if better(row[i], row[best]) { i } else { best })
}

/// Running sums along an axis.
pub(super) fn cumulative_sum(data: &[f64], shape: &Shape, axis: usize, reverse: bool) -> Vec<f64> {
    let along = Along::new(shape, axis);
    let mut result = vec![0.0; data.len()];
    for outer in 0..along.outer {
        for inner in 0..along.inner {
            let mut total = 0.0;
            for step in 0..along.length {
                let index = if reverse { along.length - 1 - step } else { step };
                let position = along.position(outer, index, inner);
                total += data[position];
                result[position] = total;
            }
        }
    }
    result
}

/// Batched matrix product.
pub(super) fn matmul(node: &Node, lhs: &[f64], rhs: &[f64]) -> Vec<f64> {
    let rank = node.shape.rank();
    let (m, n) = (node.shape[rank - 2], node.shape[rank - 1]);
    let k = node.operands[0].shape[rank - 1];
    let batches: usize = node.shape[..rank - 2].iter().product();
    let mut result = vec![0.0; batches * m * n];
    for batch in 0..batches {
        for row in 0..m {
            let out = &mut result[(batch * m + row) * n..][..n];
            for inner in 0..k {
                let a = lhs[(batch * m + row) * k + inner];
                for (o, b) in out.iter_mut().zip(&rhs[(batch * k + inner) * n..][..n]) {
                    *o += a * b;
                }
            }
        }
    }
    result
}

/// What softmax, log-sum-exp and cross entropy need of a row of logits.
pub(super) struct Normalized {
    /// The largest logit; NaN if the row holds a NaN or +inf; −inf for a row of −inf.
    pub(super) largest: f64,
    /// Index of the first largest logit.
    pub(super) first: usize,
    /// `Σ exp(x_j − largest)` over all but the first largest.
    pub(super) rest: f64,
}

/// Stable pieces of a row: the first largest logit is kept out of the sum, so that confident rows stay accurate.
pub(super) fn normalize(row: &[f64]) -> Normalized {
    let first = first_extreme(row, true);
    let largest = row.get(first).copied().filter(|&x| x < f64::INFINITY).unwrap_or(f64::NAN);
    let others = row.iter().enumerate().filter(|&(j, _)| j != first);
    let rest = sum(&others.map(|(_, &x)| special::exp(x - largest)).collect::<Vec<_>>());
    Normalized { largest, first, rest }
}

/// `log Σ exp` of a row; −inf for a row of −inf, NaN if it holds NaN or +inf.
pub(super) fn logsumexp(row: &[f64]) -> f64 {
    let Normalized { largest, rest, .. } = normalize(row);
    if largest == f64::NEG_INFINITY { largest } else { largest + special::log1p(rest) }
}

/// Softmax of a row; zeros for a row of −inf, NaN if it holds NaN or +inf.
pub(super) fn softmax(row: &[f64]) -> Vec<f64> {
    let Normalized { largest, rest, .. } = normalize(row);
    if largest == f64::NEG_INFINITY {
        return vec![0.0; row.len()];
    }
    row.iter().map(|x| special::exp(x - largest) / (1.0 + rest)).collect()
}

/// `logsumexp − x_label`; +inf where the label's logit is −inf, NaN if the row holds NaN or +inf.
pub(super) fn cross_entropy(row: &[f64], label: usize) -> f64 {
    let Normalized { largest, rest, .. } = normalize(row);
    if row[label] == f64::NEG_INFINITY && !largest.is_nan() {
        return f64::INFINITY;
    }
    special::log1p(rest) + (largest - row[label])
}

/// `softmax − onehot(label)`, at the label as `−Σ` of the other probabilities; zeros for a row of −inf.
pub(super) fn softmax_residual(row: &[f64], label: usize) -> Vec<f64> {
    let mut residual = softmax(row);
    residual[label] = 0.0;
    // Zero minus the sum, so that nothing becomes −0.
    residual[label] = 0.0 - sum(&residual);
    residual
}
