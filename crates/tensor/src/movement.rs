//! Builders of movement: the same elements under other shapes, in another order, or with zeros around them.

use std::panic::Location;

use crate::shape::resolve_axis;
use crate::tensor::{At, elementwise};
use crate::{Axes, Code, Detail, Dims, Elementwise, Error, IntoShape, Op, Shape, Tensor};

impl Tensor {
    /// The same elements, row-major, under another shape; one dimension may be −1.
    #[track_caller]
    pub fn reshape(&self, dims: impl Dims) -> Tensor {
        let (at, dims) = (Location::caller(), dims.dims());
        Tensor::attempt(at, || {
            let node = self.node()?;
            let fail = |why: String| {
                let error = Error::new(Code::Reshape, "reshape", why).shape("from", &node.shape);
                error.hint(format!("the new shape must hold {} elements", node.shape.elements()))
            };
            let unknown = dims.iter().filter(|&&d| d < 0).count();
            if unknown > 1 || dims.iter().any(|&d| d < -1) {
                return Err(fail(format!("{dims:?}: at most one dimension may be -1, and none below")));
            }
            let known: usize = dims
                .iter()
                .filter_map(|&d| usize::try_from(d).ok())
                .try_fold(1usize, usize::checked_mul)
                .ok_or_else(|| {
                    Error::new(Code::TooLarge, "reshape", format!("the product of {dims:?} overflows"))
                })?;
            let elements = node.shape.elements();
            if unknown == 1 && (known == 0 || elements % known != 0) {
                return Err(fail(format!(
                    "{elements} elements of {} do not divide into {dims:?}",
                    node.shape
                )));
            }
            let filled: Vec<usize> = dims
                .iter()
                .map(|&d| usize::try_from(d).unwrap_or_else(|_| elements / known.max(1)))
                .collect();
            let shape = Shape::new(&filled)?;
            if shape.elements() != elements {
                return Err(fail(format!(
                    "{} has {elements} elements, {shape} has {}",
                    node.shape,
                    shape.elements()
                )));
            }
            Ok(self.reshape_at(at, shape))
        })
    }
    pub(crate) fn reshape_at(&self, at: At, shape: Shape) -> Tensor {
        match self.node() {
            Ok(node) if node.shape != shape => {
                // A float constant stays itself: it may be differentiated with respect to.
                if let (Op::Constant(scalar), false) = (&node.op, node.dtype.is_float()) {
                    return Tensor::build(at, Op::Constant(*scalar), vec![], shape, node.dtype);
                }
                Tensor::build(at, Op::Reshape, vec![node.clone()], shape, node.dtype)
            }
            _ => self.clone(),
        }
    }
    /// Result axis `i` is axis `axes[i]` of this tensor.
    #[track_caller]
    pub fn permute<const N: usize>(&self, axes: [isize; N]) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let node = self.node()?;
            let rank = node.shape.rank();
            axes.resolve("permute", rank)?; // distinct and in range
            if N != rank {
                return Err(Error::new(
                    Code::Axis,
                    "permute",
                    format!("{N} axes for a tensor of rank {rank}"),
                ));
            }
            let axes =
                axes.iter().map(|&a| resolve_axis("permute", a, rank)).collect::<Result<Vec<_>, _>>()?;
            self.permute_at(at, axes)
        })
    }
    /// [`Tensor::permute`] with axes known to be a permutation.
    #[track_caller]
    pub fn permute_axes(&self, axes: &[usize]) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let rank = self.node()?.shape.rank();
            let mut sorted = axes.to_vec();
            sorted.sort_unstable();
            if sorted != (0..rank).collect::<Vec<_>>() {
                return Err(Error::new(
                    Code::Axis,
                    "permute",
                    format!("{axes:?} is no permutation of {rank} axes"),
                ));
            }
            self.permute_at(at, axes.to_vec())
        })
    }
    pub(crate) fn permute_at(&self, at: At, axes: Vec<usize>) -> Result<Tensor, Error> {
        let node = self.node()?;
        if axes.iter().enumerate().all(|(i, &a)| i == a) {
            return Ok(self.clone());
        }
        let dims: Vec<usize> = axes.iter().map(|&a| node.shape[a]).collect();
        Ok(Tensor::build(at, Op::Permute(axes), vec![node.clone()], Shape::derived(&dims), node.dtype))
    }
    /// The last two axes exchanged.
    #[track_caller]
    pub fn transpose(&self) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let rank = self.node()?.shape.rank();
            if rank < 2 {
                return Err(Error::new(
                    Code::Axis,
                    "transpose",
                    format!("needs two axes, the tensor has rank {rank}"),
                ));
            }
            let mut axes: Vec<usize> = (0..rank).collect();
            axes.swap(rank - 2, rank - 1);
            self.permute_at(at, axes)
        })
    }
    /// A new axis of length 1 before position `axis` of the result.
    #[track_caller]
    pub fn unsqueeze(&self, axis: isize) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || self.unsqueeze_at(at, axis))
    }
    pub(crate) fn unsqueeze_at(&self, at: At, axis: isize) -> Result<Tensor, Error> {
        let node = self.node()?;
        let axis = resolve_axis("unsqueeze", axis, node.shape.rank() + 1)?;
        let mut dims = node.shape.to_vec();
        dims.insert(axis, 1);
        Ok(self.reshape_at(at, Shape::new(&dims)?))
    }
    /// Without an axis of length 1.
    #[track_caller]
    pub fn squeeze(&self, axis: isize) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let node = self.node()?;
            let axis = resolve_axis("squeeze", axis, node.shape.rank())?;
            if node.shape[axis] != 1 {
                return Err(Error::new(
                    Code::Reshape,
                    "squeeze",
                    format!("axis {axis} of {} is not of length 1", node.shape),
                ));
            }
            Ok(self.reshape_at(at, node.shape.without(&[axis])))
        })
    }
    /// Repeated along axes of length 1 and new leading axes, as NumPy broadcasts.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl IntoShape) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            self.node()?;
            self.broadcast_at(at, &shape.into_shape()?)
        })
    }
    /// Elements `start .. end` along an axis, every `step`-th. Negative steps walk from `end − 1` down to `start`.
    ///
    /// Invalid with `E_AXIS`, and with `E_SLICE` for a step of 0 or a range that is not inside the axis.
    #[track_caller]
    pub fn slice(&self, axis: isize, start: usize, end: usize, step: isize) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let node = self.node()?;
            let axis = resolve_axis("slice", axis, node.shape.rank())?;
            let length = node.shape[axis];
            if step == 0 || start > end || end > length {
                let why = if step == 0 { "step is 0" } else { "start must not exceed end, nor end the axis" };
                return Err(Error::new(
                    Code::Slice,
                    "slice",
                    format!("{start}..{end} step {step} of axis {axis} of length {length}: {why}"),
                )
                .with("start", Detail::Integer(start as i64))
                .with("end", Detail::Integer(end as i64)));
            }
            let mut dims = node.shape.to_vec();
            dims[axis] = (end - start).div_ceil(step.unsigned_abs());
            let (mut starts, mut steps) = (vec![0; dims.len()], vec![1; dims.len()]);
            starts[axis] = if step > 0 { start } else { end.saturating_sub(1) };
            steps[axis] = step;
            Ok(self.slice_at(at, starts, steps, Shape::derived(&dims)))
        })
    }
    /// The general strided slice: element `i` along each axis is `start + step · i`; all must lie inside.
    #[track_caller]
    pub fn strided(&self, starts: Vec<usize>, steps: Vec<isize>, shape: Shape) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let node = self.node()?;
            let rank = node.shape.rank();
            let inside = starts.len() == rank
                && steps.len() == rank
                && shape.rank() == rank
                && (0..rank).all(|a| {
                    let last = |n: usize| isize::try_from(n - 1).ok().and_then(|n| n.checked_mul(steps[a]));
                    shape[a] == 0
                        || starts[a] < node.shape[a]
                            && last(shape[a])
                                .and_then(|l| starts[a].checked_add_signed(l))
                                .is_some_and(|e| e < node.shape[a])
                });
            if !inside || steps.contains(&0) {
                return Err(Error::new(
                    Code::Slice,
                    "strided",
                    format!("starts {starts:?}, steps {steps:?}, shape {shape} of {}", node.shape),
                ));
            }
            Ok(self.slice_at(at, starts, steps, shape))
        })
    }
    fn slice_at(&self, at: At, starts: Vec<usize>, steps: Vec<isize>, shape: Shape) -> Tensor {
        match self.node() {
            Ok(node) if node.shape == shape && steps.iter().all(|&s| s == 1) => self.clone(),
            Ok(node) => Tensor::build(at, Op::Slice { starts, steps }, vec![node.clone()], shape, node.dtype),
            Err(_) => self.clone(),
        }
    }
    /// In reverse order along an axis.
    #[track_caller]
    pub fn flip(&self, axis: isize) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let shape = self.node()?.shape;
            let axis = resolve_axis("flip", axis, shape.rank())?;
            let (mut starts, mut steps) = (vec![0; shape.rank()], vec![1; shape.rank()]);
            (starts[axis], steps[axis]) = (shape[axis].saturating_sub(1), -1);
            Ok(self.slice_at(at, starts, steps, shape))
        })
    }
    /// Zeros (false) before and after along an axis.
    #[track_caller]
    pub fn pad(&self, axis: isize, before: usize, after: usize) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let node = self.node()?;
            let axis = resolve_axis("pad", axis, node.shape.rank())?;
            let (mut low, mut high) = (vec![0; node.shape.rank()], vec![0; node.shape.rank()]);
            (low[axis], high[axis]) = (before, after);
            self.pad_at(at, low, high)
        })
    }
    /// Zeros before and after along every axis.
    #[track_caller]
    pub fn pad_all(&self, low: Vec<usize>, high: Vec<usize>) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || self.pad_at(at, low, high))
    }
    fn pad_at(&self, at: At, low: Vec<usize>, high: Vec<usize>) -> Result<Tensor, Error> {
        let node = self.node()?;
        let rank = node.shape.rank();
        if low.len() != rank || high.len() != rank {
            return Err(Error::new(
                Code::Axis,
                "pad",
                format!("{} and {} paddings for rank {rank}", low.len(), high.len()),
            ));
        }
        if low.iter().chain(&high).all(|&p| p == 0) {
            return Ok(self.clone());
        }
        let dims: Option<Vec<usize>> =
            (0..rank).map(|a| node.shape[a].checked_add(low[a])?.checked_add(high[a])).collect();
        let shape = Shape::new(
            &dims.ok_or_else(|| Error::new(Code::TooLarge, "pad", "a padded dimension overflows"))?,
        )?;
        Ok(Tensor::build(at, Op::Pad { low, high }, vec![node.clone()], shape, node.dtype))
    }
    /// Tensors one after the other along an axis; the other dimensions and the element types must agree.
    ///
    /// Invalid with `E_CONCAT` if they do not or there is none, `E_AXIS`, `E_TOO_LARGE`.
    #[track_caller]
    pub fn concat(tensors: &[&Tensor], axis: isize) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let nodes = tensors.iter().map(|t| t.node().cloned()).collect::<Result<Vec<_>, _>>()?;
            let [first, ..] = &nodes[..] else {
                return Err(Error::new(Code::Concat, "concat", "nothing to concatenate"));
            };
            let axis = resolve_axis("concat", axis, first.shape.rank())?;
            let mut dims = first.shape.to_vec();
            for (position, node) in nodes.iter().enumerate().skip(1) {
                let fits = node.dtype == first.dtype
                    && node.shape.rank() == dims.len()
                    && (0..dims.len()).all(|a| a == axis || node.shape[a] == dims[a]);
                if !fits {
                    let message = format!(
                        "operand {position} is {} {}, operand 0 is {} {}; they may differ along axis {axis} only",
                        node.dtype, node.shape, first.dtype, first.shape
                    );
                    return Err(Error::new(Code::Concat, "concat", message)
                        .shape("first", &first.shape)
                        .shape("other", &node.shape));
                }
                dims[axis] = dims[axis]
                    .checked_add(node.shape[axis])
                    .ok_or_else(|| Error::new(Code::TooLarge, "concat", "length overflows"))?;
            }
            if let [_] = tensors {
                return Ok(tensors[0].clone());
            }
            let (shape, dtype) = (Shape::new(&dims)?, first.dtype);
            Ok(Tensor::build(at, Op::Concat(axis), nodes, shape, dtype))
        })
    }
    /// Tensors of equal shape along a new axis.
    #[track_caller]
    pub fn stack(tensors: &[&Tensor], axis: isize) -> Tensor {
        let at = Location::caller();
        let widen = |t: &&Tensor| Tensor::attempt(at, || t.unsqueeze_at(at, axis));
        let widened: Vec<Tensor> = tensors.iter().map(widen).collect();
        Tensor::concat(&widened.iter().collect::<Vec<_>>(), axis)
    }
    /// This matrix (or batch of matrices) on and below diagonal `offset`, zeros above.
    #[track_caller]
    pub fn tril(&self, offset: i32) -> Tensor {
        self.triangle("tril", Elementwise::Le, offset)
    }
    /// This matrix (or batch of matrices) on and above diagonal `offset`, zeros below.
    #[track_caller]
    pub fn triu(&self, offset: i32) -> Tensor {
        self.triangle("triu", Elementwise::Ge, offset)
    }
    #[track_caller]
    fn triangle(&self, name: &str, keep: Elementwise, offset: i32) -> Tensor {
        let Ok(node) = self.node() else { return self.clone() };
        if node.shape.rank() < 2 {
            let message = format!("needs two axes, the tensor has rank {}", node.shape.rank());
            return Tensor::invalid(Error::new(Code::Axis, name, message).at(Location::caller()));
        }
        let (row, column) = (Tensor::iota(node.shape, -2), Tensor::iota(node.shape, -1));
        let zero = Tensor::constant_of(Location::caller(), node.shape, 0.0, node.dtype);
        // The difference of coordinates fits where their sum with an offset may not.
        elementwise(Location::caller(), keep, &[(column - row).into(), offset.into()]).select(self, zero)
    }
}
