//! Builders of structural operations: movement, reductions, products, indexing, random numbers.

use std::panic::Location;
use std::sync::Arc;

use crate::shape::resolve_axis;
use crate::tensor::At;
use crate::{
    Axes, Code, DType, Detail, Dims, Error, IntoShape, Key, Node, Op, Operand, Reduce, Shape, Tensor,
};

impl Tensor {
    // ------------------------------------------------------------------------------------------------ movement

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
                .ok_or_else(|| fail(format!("the product of {dims:?} overflows")))?;
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
            Ok(node) if node.shape != shape => match node.op {
                Op::Constant(scalar) => Tensor::build(at, Op::Constant(scalar), vec![], shape, node.dtype),
                _ => Tensor::build(at, Op::Reshape, vec![node.clone()], shape, node.dtype),
            },
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
    fn permute_at(&self, at: At, axes: Vec<usize>) -> Result<Tensor, Error> {
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
        Tensor::attempt(at, || {
            let node = self.node()?;
            let axis = resolve_axis("unsqueeze", axis, node.shape.rank() + 1)?;
            let mut dims = node.shape.to_vec();
            dims.insert(axis, 1);
            Ok(self.reshape_at(at, Shape::new(&dims)?))
        })
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
        Tensor::attempt(at, || self.broadcast_at(at, &shape.into_shape()?))
    }
    /// Elements `start .. end` along an axis, every `step`-th. Negative steps walk from `end − 1` down to `start`.
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
        let widened: Vec<Tensor> = tensors.iter().map(|t| t.unsqueeze(axis)).collect();
        Tensor::concat(&widened.iter().collect::<Vec<_>>(), axis)
    }
    /// This matrix (or batch of matrices) on and below diagonal `offset`, zeros above.
    #[track_caller]
    pub fn tril(&self, offset: i32) -> Tensor {
        self.triangle("tril", |row, column| column.le(row + offset))
    }
    /// This matrix (or batch of matrices) on and above diagonal `offset`, zeros below.
    #[track_caller]
    pub fn triu(&self, offset: i32) -> Tensor {
        self.triangle("triu", |row, column| column.ge(row + offset))
    }
    #[track_caller]
    fn triangle(&self, name: &str, keep: impl FnOnce(&Tensor, &Tensor) -> Tensor) -> Tensor {
        let Ok(node) = self.node() else { return self.clone() };
        if node.shape.rank() < 2 {
            let message = format!("needs two axes, the tensor has rank {}", node.shape.rank());
            return Tensor::invalid(Error::new(Code::Axis, name, message).at(Location::caller()));
        }
        let (row, column) = (Tensor::iota(node.shape, -2), Tensor::iota(node.shape, -1));
        let zero = Tensor::constant_of(Location::caller(), node.shape, 0.0, node.dtype);
        keep(&row, &column).select(self, zero)
    }

    // ---------------------------------------------------------------------------------------------- reductions

    #[track_caller]
    fn reduce(&self, kind: Reduce, axes: impl Axes) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let node = self.node()?;
            let axes = axes.resolve(kind.name(), node.shape.rank())?;
            let empty = axes.iter().any(|&a| node.shape[a] == 0);
            if empty && matches!(kind, Reduce::Max | Reduce::Min) && node.shape.without(&axes).elements() > 0
            {
                return Err(empty_reduction(kind.name(), &node.shape));
            }
            if node.dtype == DType::Bool {
                return Err(Error::new(Code::Dtype, kind.name(), "not defined for bool")
                    .hint("count with `.cast(DType::I32)` first"));
            }
            self.reduce_at(at, kind, axes)
        })
    }
    fn reduce_at(&self, at: At, kind: Reduce, axes: Vec<usize>) -> Result<Tensor, Error> {
        let widened =
            if self.node()?.dtype == DType::F16 { self.cast_at(at, DType::F32) } else { self.clone() };
        let node = widened.node()?;
        if axes.is_empty() {
            return Ok(widened);
        }
        let shape = node.shape.without(&axes);
        Ok(Tensor::build(at, Op::Reduce { kind, axes }, vec![node.clone()], shape, node.dtype))
    }
    /// Sum over axes, which disappear; 0 over an empty axis.
    #[track_caller]
    pub fn sum(&self, axes: impl Axes) -> Tensor {
        self.reduce(Reduce::Sum, axes)
    }
    /// Product over axes, which disappear; 1 over an empty axis. Its gradient holds exact products of the other factors.
    #[track_caller]
    pub fn prod(&self, axes: impl Axes) -> Tensor {
        self.reduce(Reduce::Prod, axes)
    }
    /// Largest element over axes, which disappear. Equal extremes share the cotangent evenly.
    #[track_caller]
    pub fn max_over(&self, axes: impl Axes) -> Tensor {
        self.reduce(Reduce::Max, axes)
    }
    /// Smallest element over axes, which disappear. Equal extremes share the cotangent evenly.
    #[track_caller]
    pub fn min_over(&self, axes: impl Axes) -> Tensor {
        self.reduce(Reduce::Min, axes)
    }
    /// Mean over axes, which disappear. Invalid with `E_EMPTY_REDUCTION` over an empty axis.
    #[track_caller]
    pub fn mean(&self, axes: impl Axes) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let node = self.node()?;
            let axes = axes.resolve("mean", node.shape.rank())?;
            let count: usize = axes.iter().map(|&a| node.shape[a]).product();
            if count == 0 {
                return Err(empty_reduction("mean", &node.shape));
            }
            if !node.dtype.is_float() {
                return Err(Error::new(Code::Dtype, "mean", format!("not defined for {}", node.dtype))
                    .hint("write `.cast(DType::F32)`"));
            }
            let total = self.reduce_at(at, Reduce::Sum, axes)?;
            #[expect(clippy::cast_precision_loss, reason = "counts are below 2³²")]
            Ok(crate::tensor::elementwise(
                at,
                crate::Elementwise::Div,
                &[total.into(), (count as f64).into()],
            ))
        })
    }
    /// `log Σ exp` over axes, which disappear; −inf where all elements are −inf.
    #[track_caller]
    pub fn logsumexp(&self, axes: impl Axes) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let node = self.node()?;
            let rank = node.shape.rank();
            let axes = axes.resolve("logsumexp", rank)?;
            if axes.iter().any(|&a| node.shape[a] == 0) {
                return Err(empty_reduction("logsumexp", &node.shape));
            }
            let kept: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).collect();
            let order: Vec<usize> = kept.iter().chain(&axes).copied().collect();
            let mut dims: Vec<usize> = kept.iter().map(|&a| node.shape[a]).collect();
            let result = Shape::derived(&dims);
            dims.push(axes.iter().map(|&a| node.shape[a]).product());
            let rows =
                self.float_at(at, "logsumexp")?.permute_at(at, order)?.reshape_at(at, Shape::new(&dims)?);
            Ok(Tensor::build(at, Op::LogSumExp, vec![rows.node()?.clone()], result, DType::F32))
        })
    }
    /// Index (I32) of the first largest element along an axis, which disappears; the first NaN if there is one.
    #[track_caller]
    pub fn argmax(&self, axis: isize) -> Tensor {
        self.arg_reduce(axis, true)
    }
    /// Index (I32) of the first smallest element along an axis, which disappears; the first NaN if there is one.
    #[track_caller]
    pub fn argmin(&self, axis: isize) -> Tensor {
        self.arg_reduce(axis, false)
    }
    #[track_caller]
    fn arg_reduce(&self, axis: isize, maximum: bool) -> Tensor {
        let (at, name) = (Location::caller(), if maximum { "argmax" } else { "argmin" });
        Tensor::attempt(at, || {
            let shape = self.node()?.shape;
            let axis = resolve_axis(name, axis, shape.rank())?;
            if shape[axis] == 0 {
                return Err(empty_reduction(name, &shape));
            }
            let operand = self.float_at(at, name)?;
            Ok(Tensor::build(
                at,
                Op::ArgReduce { maximum, axis },
                vec![operand.node()?.clone()],
                shape.without(&[axis]),
                DType::I32,
            ))
        })
    }
    /// Running sum along an axis, the element itself included; from the end if `reverse`.
    #[track_caller]
    pub fn cumulative_sum(&self, axis: isize, reverse: bool) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let shape = self.node()?.shape;
            let axis = resolve_axis("cumulative_sum", axis, shape.rank())?;
            let operand = self.float_at(at, "cumulative_sum")?;
            Ok(Tensor::build(
                at,
                Op::CumulativeSum { axis, reverse },
                vec![operand.node()?.clone()],
                shape,
                DType::F32,
            ))
        })
    }
    /// Softmax along an axis; zeros for a row of −inf.
    #[track_caller]
    pub fn softmax(&self, axis: isize) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let shape = self.node()?.shape;
            let axis = resolve_axis("softmax", axis, shape.rank())?;
            let mut order: Vec<usize> = (0..shape.rank()).filter(|&a| a != axis).collect();
            order.push(axis);
            let rows = self.float_at(at, "softmax")?.permute_at(at, order.clone())?;
            let node = rows.node()?.clone();
            let (shape, dtype) = (node.shape, node.dtype);
            let inverse = (0..order.len()).map(|a| order.iter().position(|&o| o == a).unwrap_or(a)).collect();
            Tensor::build(at, Op::Softmax, vec![node], shape, dtype).permute_at(at, inverse)
        })
    }
    /// `log softmax` along an axis: `x − logsumexp(x)`; −inf for a row of −inf.
    #[track_caller]
    pub fn log_softmax(&self, axis: isize) -> Tensor {
        let normalizer = self.logsumexp(axis).unsqueeze(axis);
        // A row of −inf has −inf everywhere, not −inf − (−inf).
        let finite = normalizer.gt(f64::NEG_INFINITY);
        finite.select(self - &normalizer, self)
    }
    /// Cross entropy of logits `[…, classes]` against integer labels `[…]`: `logsumexp(logits) − logits[label]`, per row.
    #[track_caller]
    pub fn cross_entropy(&self, labels: &Tensor) -> Tensor {
        self.labelled(labels, "cross_entropy", |_| Op::CrossEntropy)
    }
    /// `softmax(self) − onehot(labels)`: the cotangent of the logits at which loss-free training of a categorical family
    /// starts; accurate at the label too.
    #[track_caller]
    pub fn softmax_residual(&self, labels: &Tensor) -> Tensor {
        self.labelled(labels, "softmax_residual", |_| Op::SoftmaxResidual)
    }
    #[track_caller]
    fn labelled(&self, labels: &Tensor, name: &str, op: impl FnOnce(()) -> Op) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let logits = self.float_at(at, name)?.node()?.clone();
            let labels = labels.node()?.clone();
            let rank = logits.shape.rank();
            if rank == 0 || logits.shape.without(&[rank - 1]) != labels.shape {
                let message = format!(
                    "logits {} need labels of the shape without the last axis, not {}",
                    logits.shape, labels.shape
                );
                return Err(Error::new(Code::Broadcast, name, message)
                    .shape("logits", &logits.shape)
                    .shape("labels", &labels.shape));
            }
            integer_indices(name, &labels)?;
            check_indices(name, &labels, logits.shape[rank - 1])?;
            let op = op(());
            let shape = if matches!(op, Op::CrossEntropy) { labels.shape } else { logits.shape };
            Ok(Tensor::build(at, op, vec![logits, labels], shape, DType::F32))
        })
    }
    fn float_at(&self, at: At, name: &str) -> Result<Tensor, Error> {
        let node = self.node()?;
        if !node.dtype.is_float() {
            return Err(Error::new(Code::Dtype, name, format!("not defined for {}", node.dtype))
                .hint("write `.cast(DType::F32)`"));
        }
        Ok(self.cast_at(at, DType::F32))
    }

    // ------------------------------------------------------------------------------------- products and indexing

    /// Matrix product over the last two axes, leading axes broadcast. One-dimensional operands act as a row on the left
    /// and a column on the right.
    #[track_caller]
    pub fn matmul(&self, rhs: &Tensor) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let (lhs, rhs) = (self.float_at(at, "matmul")?, rhs.float_at(at, "matmul")?);
            let (a, b) = (lhs.node()?.shape, rhs.node()?.shape);
            if a.rank() == 0 || b.rank() == 0 {
                return Err(Error::new(
                    Code::MatmulDim,
                    "matmul",
                    format!("lhs {a} and rhs {b}: scalars have no inner dimension"),
                )
                .hint("use `*`"));
            }
            let (row, column) = (a.rank() == 1, b.rank() == 1);
            let lhs = if row { lhs.reshape_at(at, Shape::derived(&[1, a[0]])) } else { lhs };
            let rhs = if column { rhs.reshape_at(at, Shape::derived(&[b[0], 1])) } else { rhs };
            let (p, q) = (lhs.node()?.shape, rhs.node()?.shape);
            let ([.., m, k], [.., l, n]) = (&p[..], &q[..]) else {
                return Err(Error::new(Code::Internal, "matmul", "operands of rank below two"));
            };
            if k != l {
                let error = Error::new(
                    Code::MatmulDim,
                    "matmul",
                    format!("inner dimensions differ: lhs {a}, rhs {b} ({k} ≠ {l})"),
                );
                return Err(error.shape("lhs", &a).shape("rhs", &b).hint(match q.rank() {
                    2 if n == k => format!("`rhs.transpose()` is [{n}, {l}] and fits"),
                    _ => "transpose one operand, or check the width of the layer before it".to_string(),
                }));
            }
            let (batch_a, batch_b) = (Shape::derived(&p[..p.rank() - 2]), Shape::derived(&q[..q.rank() - 2]));
            let batch = batch_a
                .broadcast(&batch_b)
                .map_err(|axis| crate::tensor::broadcast_error("matmul", &a, &b, axis))?;
            let of = |rows: usize, columns: usize| Shape::new(&[&batch[..], &[rows, columns]].concat());
            let lhs = lhs.broadcast_at(at, &of(*m, *k)?)?.node()?.clone();
            let rhs = rhs.broadcast_at(at, &of(*k, *n)?)?.node()?.clone();
            let product = Tensor::build(at, Op::Matmul, vec![lhs, rhs], of(*m, *n)?, DType::F32);
            let mut dims = batch.to_vec();
            dims.extend((!row).then_some(*m).into_iter().chain((!column).then_some(*n)));
            Ok(product.reshape_at(at, Shape::derived(&dims)))
        })
    }
    /// Slices along an axis, one per index: the axis is replaced by the shape of `indices` (integers).
    #[track_caller]
    pub fn gather(&self, axis: isize, indices: &Tensor) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let (data, flat) = (self.node()?.clone(), indices.node()?.clone());
            let axis = resolve_axis("gather", axis, data.shape.rank())?;
            integer_indices("gather", &flat)?;
            check_indices("gather", &flat, data.shape[axis])?;
            let index_shape = flat.shape;
            let flat = indices.reshape_at(at, Shape::derived(&[index_shape.elements()])).node()?.clone();
            let around = |middle: &[usize]| {
                Shape::new(&[&data.shape[..axis], middle, &data.shape[axis + 1..]].concat())
            };
            let (one, full) = (around(&flat.shape)?, around(&index_shape)?);
            let dtype = data.dtype;
            Ok(Tensor::build(at, Op::Gather(axis), vec![data.clone(), flat], one, dtype).reshape_at(at, full))
        })
    }
    /// Adds slices of `updates` into zeros: slice `indices[i]` along `axis` of the result (of length `size`) receives
    /// slice `i` of `updates`. Sums in a fixed order; `indices` is one-dimensional.
    #[track_caller]
    pub fn scatter_add(indices: &Tensor, updates: &Tensor, axis: isize, size: usize) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let (indices, updates) =
                (indices.node()?.clone(), updates.float_at(at, "scatter_add")?.node()?.clone());
            let axis = resolve_axis("scatter_add", axis, updates.shape.rank())?;
            integer_indices("scatter_add", &indices)?;
            check_indices("scatter_add", &indices, size)?;
            if indices.shape.rank() != 1 || indices.shape[0] != updates.shape[axis] {
                let message = format!(
                    "indices {} must be one-dimensional, one per slice of axis {axis} of {}",
                    indices.shape, updates.shape
                );
                return Err(Error::new(Code::Broadcast, "scatter_add", message));
            }
            let mut dims = updates.shape.to_vec();
            dims[axis] = size;
            Ok(Tensor::build(
                at,
                Op::ScatterAdd(axis),
                vec![indices, updates],
                Shape::new(&dims)?,
                DType::F32,
            ))
        })
    }
    /// F32 vectors of length `classes` with a 1 at each (integer) index, along a new last axis.
    #[track_caller]
    pub fn one_hot(&self, classes: usize) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let node = self.node()?;
            integer_indices("one_hot", node)?;
            check_indices("one_hot", node, classes)?;
            let shape = Shape::new(&[&node.shape[..], &[classes]].concat())?;
            let class = Tensor::iota(shape, -1).cast_at(at, node.dtype);
            Ok(self.unsqueeze(-1).eq(class).cast_at(at, DType::F32))
        })
    }

    // ------------------------------------------------------------------------------------------- random numbers

    /// Uniform on `[0, 1)`: multiples of 2⁻²⁴, the same on every device.
    #[track_caller]
    pub fn uniform(key: Key, step: impl Into<Operand>, shape: impl IntoShape) -> Tensor {
        let words = Tensor::random_bits(key, step, shape);
        words.shr(8u32).cast(DType::F32) * 2f64.powi(-24)
    }
    /// Standard normal by Box and Muller from two draws; within 8 ULP on every device.
    #[track_caller]
    pub fn normal(key: Key, step: impl Into<Operand>, shape: impl IntoShape) -> Tensor {
        let (step, shape) = (step.into(), shape.into_shape());
        let shape = match shape {
            Ok(shape) => shape,
            Err(error) => return Tensor::invalid(error.at(Location::caller())),
        };
        let first = Tensor::random_bits(key.stream("radius"), step.clone(), shape);
        let second = Tensor::random_bits(key.stream("angle"), step, shape);
        let radius = ((first.shr(8u32).cast(DType::F32) + 1.0) * 2f64.powi(-24)).log();
        // The angle in turns is exact; one quarter turn of the circle is folded by sine and cosine themselves.
        let turns = second.shr(8u32).cast(DType::F32) * 2f64.powi(-24) - 0.5;
        (radius * -2.0).sqrt() * (turns * std::f64::consts::TAU).cos()
    }
    /// Mask that is true with probability `p`, the same on every device. Invalid unless `0 ≤ p ≤ 1`.
    #[track_caller]
    pub fn bernoulli(key: Key, step: impl Into<Operand>, p: f64, shape: impl IntoShape) -> Tensor {
        if !(0.0..=1.0).contains(&p) {
            let error =
                Error::new(Code::Hyperparameter, "bernoulli", format!("p = {p} is not a probability"))
                    .with("p", Detail::Number(p));
            return Tensor::invalid(error.at(Location::caller()));
        }
        let words = Tensor::random_bits(key, step, shape);
        if p >= 1.0 {
            return words.ge(0u32);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "⌊p·2³²⌋ fits for p < 1")]
        words.lt((p * 4_294_967_296.0).floor() as u32)
    }
    /// Elements kept with probability `1 − p` and scaled by `1 / (1 − p)`, the others 0. Invalid unless `0 ≤ p < 1`.
    #[track_caller]
    pub fn dropout(&self, key: Key, step: impl Into<Operand>, p: f64) -> Tensor {
        let Ok(node) = self.node() else { return self.clone() };
        if !(0.0..1.0).contains(&p) {
            let error = Error::new(Code::Hyperparameter, "dropout", format!("p = {p} is not in [0, 1)"))
                .with("p", Detail::Number(p));
            return Tensor::invalid(error.at(Location::caller()));
        }
        Tensor::bernoulli(key, step, 1.0 - p, node.shape).select(self * (1.0 / (1.0 - p)), 0.0)
    }
}

fn empty_reduction(name: &str, shape: &Shape) -> Error {
    Error::new(Code::EmptyReduction, name, format!("an empty axis of {shape} has no {name}"))
        .shape("shape", shape)
}

fn integer_indices(name: &str, indices: &Node) -> Result<(), Error> {
    if indices.dtype.is_integer() {
        return Ok(());
    }
    Err(Error::new(Code::Dtype, name, format!("indices must be integers, not {}", indices.dtype))
        .hint("write `.cast(DType::I32)`"))
}

/// Host data is checked at once; what is computed on a device is checked there.
fn check_indices(name: &str, indices: &Arc<Node>, size: usize) -> Result<(), Error> {
    let Op::Leaf(array) = &indices.op else { return Ok(()) };
    #[expect(clippy::cast_precision_loss, reason = "dimensions are below 2³²")]
    let bad = array.to_f64().into_iter().enumerate().find(|&(_, v)| v < 0.0 || v >= size as f64);
    bad.map_or(Ok(()), |(position, value)| Err(index_error(name, position, value, size)))
}

/// The error of an index outside `0 .. size`.
#[expect(clippy::cast_possible_truncation, reason = "indices are 32-bit integers")]
pub fn index_error(name: &str, position: usize, value: f64, size: usize) -> Error {
    Error::new(Code::Index, name, format!("index {value} at position {position} is outside 0..{size}"))
        .with("position", Detail::Integer(position as i64))
        .with("index", Detail::Integer(value as i64))
        .with("size", Detail::Integer(size as i64))
}
