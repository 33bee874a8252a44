//! Pieces of tensor code that both modes share: no derivative rule stands here.

use cotangent_tensor::{DType, Error, Node, Shape, Tensor};

use crate::guard::{Guarded, shape_of, signed};

/// The operands as handles.
pub(crate) fn operands(node: &Node) -> Vec<Tensor> {
    node.operands.iter().map(|o| Tensor::from_node(o.clone())).collect()
}

/// Repeats what a reduction over `axes` of `shape` gave along these axes.
pub(crate) fn spread(reduced: &Tensor, shape: &Shape, axes: &[usize]) -> Tensor {
    let mut dims = shape.to_vec();
    for &axis in axes {
        dims[axis] = 1;
    }
    match Shape::new(&dims) {
        Ok(kept) => reduced.reshape(kept).broadcast_to(shape),
        Err(error) => Tensor::invalid(error),
    }
}

/// One value per row, repeated along the last axis of `shape`.
pub(crate) fn spread_last(rows: &Tensor, shape: &Shape) -> Tensor {
    spread(rows, shape, &[shape.rank() - 1])
}

/// Slices along an axis; truth values travel as numbers, since devices gather words.
pub(crate) fn gathered(tensor: &Tensor, axis: usize, indices: &Tensor) -> Tensor {
    match tensor.node() {
        Ok(node) if node.dtype == DType::Bool => {
            tensor.cast(DType::F32).gather(axis as isize, indices).gt(0.0)
        }
        _ => tensor.gather(axis as isize, indices),
    }
}

/// How many elements along `axes` satisfy `mask`, as F32, in the shape without the axes.
pub(crate) fn count(mask: &Tensor, axes: &[usize]) -> Tensor {
    mask.cast(DType::F32).sum(signed(axes))
}

/// The adjoint of a strided slice: the elements at `start + step · i` of zeros of shape `whole`.
///
/// Strides are undone by movement alone: zeros go between the elements through a padded axis of their own.
pub(crate) fn scattered(part: &Tensor, starts: &[usize], steps: &[isize], whole: &Shape) -> Tensor {
    let shape = shape_of(part);
    if shape.elements() == 0 {
        let condition = part.node().is_ok_and(|node| node.dtype == DType::Bool);
        return if condition { Tensor::full(whole, false) } else { Tensor::zeros(whole) };
    }
    let mut spaced = part.clone();
    let (mut low, mut high) = (vec![0; whole.rank()], vec![0; whole.rank()]);
    for axis in 0..whole.rank() {
        let (n, stride) = (shape[axis], steps[axis].unsigned_abs());
        let span = (n - 1) * stride + 1;
        low[axis] = starts[axis];
        if steps[axis] < 0 && n > 1 {
            spaced = spaced.flip(axis as isize);
            low[axis] = starts[axis] - (span - 1);
        }
        if n > 1 && stride > 1 {
            spaced = dilated(&spaced, axis, stride, span);
        }
        high[axis] = whole[axis] - low[axis] - span;
    }
    spaced.pad_all(low, high)
}

/// `stride − 1` zeros between neighbors along `axis`; `span` is the new length.
fn dilated(tensor: &Tensor, axis: usize, stride: usize, span: usize) -> Tensor {
    // Another axis may have been too long already.
    let Ok(shape) = tensor.node().map(|node| node.shape) else { return tensor.clone() };
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let mut dims = shape.to_vec();
    dims[axis] = span;
    let both = Shape::new(&[outer, shape[axis], 1, inner]).and_then(|four| Ok((four, Shape::new(&dims)?)));
    let long = Shape::new(&[outer, shape[axis] * stride, inner]);
    match (both, long) {
        (Ok((four, result)), Ok(long)) => {
            tensor.reshape(four).pad(2, 0, stride - 1).reshape(long).slice(1, 0, span, 1).reshape(result)
        }
        (Err(error), _) | (_, Err(error)) => Tensor::invalid(error),
    }
}

/// Whether a slice leaves out elements of `whole`.
pub(crate) fn leaves_out(part: &Shape, whole: &Shape) -> bool {
    part.elements() < whole.elements()
}

/// Through a movement that puts zeros where nothing comes from: their adjoint is structurally zero, not a zero that
/// an infinite partial could turn into NaN.
pub(crate) fn placed(contribution: &Guarded, movement: impl Fn(&Tensor) -> Tensor) -> Guarded {
    let inside = movement(&Tensor::full(shape_of(&contribution.value), true));
    contribution.filled(movement).under(inside, true, false)
}

/// The factors of a product over axes as rows of a matrix whose width is a power of two, filled with ones, and the
/// way back.
pub(crate) struct Factors {
    whole: Shape,
    order: Vec<usize>,
    /// Elements per row, without the ones.
    count: usize,
    rows: usize,
}

impl Factors {
    /// `None` without elements. Error: `E_TOO_LARGE` where the filled rows are.
    pub(crate) fn new(whole: &Shape, axes: &[usize]) -> Result<Option<Factors>, Error> {
        let kept: Vec<usize> = (0..whole.rank()).filter(|a| !axes.contains(a)).collect();
        let rows = kept.iter().map(|&a| whole[a]).product();
        let count: usize = axes.iter().map(|&a| whole[a]).product();
        if rows * count == 0 {
            return Ok(None);
        }
        Shape::new(&[rows, count.next_power_of_two()])?;
        let order = kept.into_iter().chain(axes.iter().copied()).collect();
        Ok(Some(Factors { whole: *whole, order, count, rows }))
    }
    fn matrix(&self, tensor: &Tensor, width: usize) -> Tensor {
        match Shape::new(&[self.rows, width]) {
            Ok(shape) => tensor.reshape(shape),
            Err(error) => Tensor::invalid(error),
        }
    }
    /// The rows; missing elements are `fill`.
    pub(crate) fn rows(&self, tensor: &Tensor, fill: f64) -> Tensor {
        let matrix = self.matrix(&tensor.permute_axes(&self.order), self.count);
        match self.count.next_power_of_two() - self.count {
            0 => matrix,
            missing => Tensor::concat(&[&matrix, &Tensor::full([self.rows, missing], fill)], 1),
        }
    }
    /// One value per row as a column.
    pub(crate) fn column(&self, reduced: &Tensor) -> Tensor {
        self.matrix(reduced, 1)
    }
    /// From rows to the shape of the operand.
    pub(crate) fn restore(&self, rows: &Tensor) -> Tensor {
        let dims: Vec<usize> = self.order.iter().map(|&a| self.whole[a]).collect();
        let inverse: Vec<usize> =
            (0..self.order.len()).map(|a| self.order.iter().position(|&o| o == a).unwrap_or(a)).collect();
        match Shape::new(&dims) {
            Ok(shape) => rows.slice(1, 0, self.count, 1).reshape(shape).permute_axes(&inverse),
            Err(error) => Tensor::invalid(error),
        }
    }
    /// `[rows, width]` as `[rows, width / 2, 2]`.
    pub(crate) fn pairs(&self, rows: &Tensor) -> Tensor {
        let width = shape_of(rows)[1];
        match Shape::new(&[self.rows, width / 2, 2]) {
            Ok(shape) => rows.reshape(shape),
            Err(error) => Tensor::invalid(error),
        }
    }
    /// First or second of each pair, as `[rows, width / 2]`.
    pub(crate) fn half(&self, pairs: &Tensor, which: usize) -> Tensor {
        self.matrix(&pairs.slice(2, which, which + 1, 1), shape_of(pairs)[1])
    }
    /// Pairs back as `[rows, width]`.
    pub(crate) fn flat(&self, pairs: &Tensor) -> Tensor {
        self.matrix(pairs, 2 * shape_of(pairs)[1])
    }
}
