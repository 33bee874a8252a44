//! Meanings of movement and indexing: every element is a copy of one operand element, or zero.
//!
//! They act on values and on error bounds alike, so each is written once over plain numbers.

use super::value::to_word;
use crate::build::index_error;
use crate::{DType, Error, Node, Op, Shape};

/// Row-major walk over `shape` that yields `offset + Σ index · stride`.
pub(super) struct Positions<'a> {
    shape: &'a [usize],
    strides: &'a [isize],
    index: [usize; crate::MAX_RANK],
    at: isize,
    left: usize,
}

/// All strided positions of a shape. Strides may be negative or 0; positions are never negative.
pub(super) fn positions<'a>(shape: &'a [usize], offset: usize, strides: &'a [isize]) -> Positions<'a> {
    Positions {
        shape,
        strides,
        index: [0; crate::MAX_RANK],
        at: signed(offset),
        left: shape.iter().product(),
    }
}

impl Iterator for Positions<'_> {
    type Item = usize;
    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let position = self.at;
        for axis in (0..self.shape.len()).rev() {
            self.index[axis] += 1;
            self.at += self.strides[axis];
            if self.index[axis] < self.shape[axis] {
                break;
            }
            self.at -= self.strides[axis] * signed(self.shape[axis]);
            self.index[axis] = 0;
        }
        usize::try_from(position).ok()
    }
}

/// Sizes are below 2³² (checked by [`Shape::new`]).
fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

fn strides(shape: &Shape) -> Vec<isize> {
    shape.strides()[..shape.rank()].iter().map(|&s| signed(s)).collect()
}

/// The operand with axes in another order, row-major.
pub(super) fn permuted(data: &[f64], shape: &Shape, axes: &[usize]) -> Vec<f64> {
    let strides = strides(shape);
    let (dims, steps): (Vec<_>, Vec<_>) = axes.iter().map(|&a| (shape[a], strides[a])).unzip();
    positions(&dims, 0, &steps).map(|p| data[p]).collect()
}

/// The value (or bound) of a movement node from those of its operands; nothing for other operations.
#[expect(clippy::wildcard_enum_match_arm, reason = "`compute` lists every operation")]
pub(super) fn moved(node: &Node, operands: &[&[f64]]) -> Option<Vec<f64>> {
    let first = || (operands[0], &node.operands[0].shape);
    Some(match &node.op {
        Op::Permute(axes) => {
            let (data, shape) = first();
            permuted(data, shape, axes)
        }
        Op::Broadcast => {
            let (data, shape) = first();
            let mut steps = vec![0; node.shape.rank() - shape.rank()];
            steps.extend(strides(shape).iter().zip(shape.iter()).map(|(&s, &d)| if d == 1 { 0 } else { s }));
            positions(&node.shape, 0, &steps).map(|p| data[p]).collect()
        }
        Op::Slice { starts, steps } => {
            let (data, shape) = first();
            if node.shape.elements() == 0 {
                return Some(Vec::new());
            }
            let strides = strides(shape);
            let offset: usize = starts.iter().zip(&shape.strides()).map(|(a, b)| a * b).sum();
            let steps: Vec<_> = steps.iter().zip(strides).map(|(a, b)| a * b).collect();
            positions(&node.shape, offset, &steps).map(|p| data[p]).collect()
        }
        Op::Pad { low, .. } => {
            let (data, shape) = first();
            let mut result = vec![0.0; node.shape.elements()];
            let offset = low.iter().zip(&node.shape.strides()).map(|(a, b)| a * b).sum();
            for (position, &x) in positions(shape, offset, &strides(&node.shape)).zip(data) {
                result[position] = x;
            }
            result
        }
        Op::Concat(axis) => {
            let mut result = vec![0.0; node.shape.elements()];
            let mut offset = 0;
            for (data, operand) in operands.iter().zip(&node.operands) {
                for (position, &x) in positions(&operand.shape, offset, &strides(&node.shape)).zip(*data) {
                    result[position] = x;
                }
                offset += operand.shape[*axis] * node.shape.strides()[*axis];
            }
            result
        }
        Op::Reshape | Op::Detach | Op::Inspect(_) | Op::After => operands[0].to_vec(),
        _ => return None,
    })
}

/// The coordinate along an axis.
#[expect(clippy::cast_precision_loss, reason = "coordinates are below 2³²")]
pub(super) fn iota(shape: &Shape, axis: usize) -> Vec<f64> {
    let mut steps = vec![0; shape.rank()];
    steps[axis] = 1;
    positions(shape, 0, &steps).map(|p| p as f64).collect()
}

/// A shape seen along one axis: `outer × length × inner`.
#[derive(Clone, Copy)]
pub(super) struct Along {
    pub(super) outer: usize,
    pub(super) length: usize,
    pub(super) inner: usize,
}

impl Along {
    pub(super) fn new(shape: &Shape, axis: usize) -> Along {
        let product = |dims: &[usize]| dims.iter().product();
        Along { outer: product(&shape[..axis]), length: shape[axis], inner: product(&shape[axis + 1..]) }
    }
    pub(super) fn position(self, outer: usize, along: usize, inner: usize) -> usize {
        (outer * self.length + along) * self.inner + inner
    }
}

/// Indices as numbers below `size`. Error: [`Code::Index`](crate::Code::Index) at the node.
pub(super) fn indices(node: &Node, values: &[f64], dtype: DType, size: usize) -> Result<Vec<usize>, Error> {
    let index = |(position, &value): (usize, &f64)| {
        let word = to_word(value.max(0.0), dtype) as usize;
        if value < 0.0 || word >= size {
            return Err(index_error(node.name(), position, value, size).at(node.location));
        }
        Ok(word)
    };
    values.iter().enumerate().map(index).collect()
}

/// Slices of the data along an axis, one per index.
pub(super) fn gathered(data: &[f64], shape: &Shape, axis: usize, indices: &[usize]) -> Vec<f64> {
    let along = Along::new(shape, axis);
    let mut result = Vec::with_capacity(along.outer * indices.len() * along.inner);
    for outer in 0..along.outer {
        for &index in indices {
            let start = along.position(outer, index, 0);
            result.extend_from_slice(&data[start..start + along.inner]);
        }
    }
    result
}

/// Sums of the slices of `updates` with each index, along an axis of length `size`.
pub(super) fn scattered(
    updates: &[f64],
    shape: &Shape,
    axis: usize,
    indices: &[usize],
    size: usize,
) -> Vec<f64> {
    let from = Along::new(shape, axis);
    let to = Along { length: size, ..from };
    let mut result = vec![0.0; to.outer * to.length * to.inner];
    for outer in 0..from.outer {
        for (slice, &index) in indices.iter().enumerate() {
            for inner in 0..from.inner {
                result[to.position(outer, index, inner)] += updates[from.position(outer, slice, inner)];
            }
        }
    }
    result
}
