//! Builders of structural operations: reductions, rows, products of matrices, indexing.

use std::panic::Location;
use std::sync::Arc;

use crate::shape::resolve_axis;
use crate::tensor::{At, elementwise};
use crate::{
    Axes, Code, DType, Detail, Elementwise, Error, Node, Op, Operand, Reduce, Scalar, Shape, Tensor, Values,
};

impl Tensor {
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
            Ok(elementwise(at, Elementwise::Div, &[total.into(), (count as f64).into()]))
        })
    }
    /// Euclidean norm `(Σ x²)^½` over axes, which disappear; 0 over an empty axis.
    ///
    /// Squares are taken after division by the largest magnitude, so that none over- or underflows. The gradient is `x / ‖x‖`, and 0
    /// where the norm is 0. Invalid with `E_AXIS`, and with `E_DTYPE` for anything but floats.
    #[track_caller]
    pub fn norm(&self, axes: impl Axes) -> Tensor {
        let at = Location::caller();
        Tensor::attempt(at, || {
            let x = self.float_at(at, "norm")?;
            let node = x.node()?;
            let axes = axes.resolve("norm", node.shape.rank())?;
            if axes.iter().any(|&a| node.shape[a] == 0) {
                return x.reduce_at(at, Reduce::Sum, axes);
            }
            let row = |row: Elementwise, operands: &[Operand]| elementwise(at, row, operands);
            // Any divisor gives the same norm, so no gradient is lost; an infinite or missing one would spoil it.
            let held = Tensor::build(at, Op::Detach, vec![node.clone()], node.shape, node.dtype);
            let magnitudes = row(Elementwise::Abs, &[(&held).into()]);
            let largest = magnitudes.reduce_at(at, Reduce::Max, axes.clone())?;
            let positive = row(Elementwise::Gt, &[(&largest).into(), 0.0.into()]);
            let finite = row(Elementwise::Le, &[(&largest).into(), f64::from(f32::MAX).into()]);
            let usable = row(Elementwise::And, &[(&positive).into(), (&finite).into()]);
            let scale = row(Elementwise::Select, &[(&usable).into(), (&largest).into(), 1.0.into()]);
            let mut kept = node.shape.to_vec();
            axes.iter().for_each(|&axis| kept[axis] = 1);
            let beside = scale.reshape_at(at, Shape::derived(&kept));
            let scaled = row(Elementwise::Div, &[(&x).into(), (&beside).into()]);
            let squares = row(Elementwise::Mul, &[(&scaled).into(), (&scaled).into()]);
            let sum = squares.reduce_at(at, Reduce::Sum, axes)?;
            let is_zero = row(Elementwise::Eq, &[(&sum).into(), 0.0.into()]);
            let root = row(Elementwise::Sqrt, &[(&sum).into()]);
            let norm = row(Elementwise::Mul, &[(&root).into(), (&scale).into()]);
            Ok(row(Elementwise::Select, &[(&is_zero).into(), 0.0.into(), (&norm).into()]))
        })
    }
    /// `log Σ exp` over axes, which disappear; −inf where all elements are −inf.
    ///
    /// Invalid with `E_AXIS`, `E_EMPTY_REDUCTION` over an empty axis, `E_DTYPE` for anything but floats.
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
            if axes.is_empty() {
                return self.float_at(at, "logsumexp");
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
    ///
    /// Invalid with `E_AXIS`, and with `E_DTYPE` for anything but floats.
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
        if let Ok(node) = self.node()
            && node.shape.elements() == 0
        {
            // Nothing to normalize: the same (empty) tensor, or the error of an axis or type that does not fit.
            return self.softmax(axis);
        }
        let normalizer = self.logsumexp(axis).unsqueeze(axis);
        // A row of −inf has −inf everywhere, not −inf − (−inf), and passes no gradient. A row with a NaN stays NaN.
        normalizer.eq(f64::NEG_INFINITY).select(f64::NEG_INFINITY, self - &normalizer)
    }
    /// Cross entropy of logits `[…, classes]` against integer labels `[…]`: `logsumexp(logits) − logits[label]`, per row.
    #[track_caller]
    pub fn cross_entropy(&self, labels: &Tensor) -> Tensor {
        self.labelled(labels, "cross_entropy", Op::CrossEntropy)
    }
    /// `softmax(self) − onehot(labels)`: the cotangent of the logits at which loss-free training of a categorical family
    /// starts; accurate at the label too.
    #[track_caller]
    pub fn softmax_residual(&self, labels: &Tensor) -> Tensor {
        self.labelled(labels, "softmax_residual", Op::SoftmaxResidual)
    }
    #[track_caller]
    fn labelled(&self, labels: &Tensor, name: &str, op: Op) -> Tensor {
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
    ///
    /// Invalid with `E_MATMUL_DIM` if the inner dimensions differ or an operand is a scalar, `E_BROADCAST` if the leading
    /// axes do not fit, `E_DTYPE` for anything but floats, `E_TOO_LARGE`.
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
    ///
    /// Invalid with `E_AXIS`, `E_DTYPE` for indices that are no integers, `E_INDEX` for host indices outside the axis
    /// (what a device computes is checked there), `E_RANK` and `E_TOO_LARGE` of the result.
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
    ///
    /// Invalid as [`Tensor::gather`], and with `E_BROADCAST` unless there is one index per slice.
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
            let axis = node.shape.rank();
            let class =
                Tensor::build(at, Op::Iota { axis }, vec![], shape, DType::I32).cast_at(at, node.dtype);
            let index = self.unsqueeze_at(at, -1)?;
            Ok(elementwise(at, Elementwise::Eq, &[index.into(), class.into()]).cast_at(at, DType::F32))
        })
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
#[expect(clippy::wildcard_enum_match_arm, reason = "everything else is computed")]
fn check_indices(name: &str, indices: &Arc<Node>, size: usize) -> Result<(), Error> {
    let outside = |value: i64| usize::try_from(value).map_or(true, |v| v >= size);
    let bad = match &indices.op {
        Op::Leaf(array) => match array.values() {
            Values::Int(values) => {
                values.iter().position(|&v| outside(v.into())).map(|at| (at, values[at].into()))
            }
            Values::Uint(values) => {
                values.iter().position(|&v| outside(v.into())).map(|at| (at, values[at].into()))
            }
            Values::Float(_) | Values::Single(_) | Values::Bool(_) => None,
        },
        Op::Constant(Scalar::Int(value)) if indices.shape.elements() > 0 => {
            outside((*value).into()).then_some((0, f64::from(*value)))
        }
        Op::Constant(Scalar::Uint(value)) if indices.shape.elements() > 0 => {
            outside((*value).into()).then_some((0, f64::from(*value)))
        }
        _ => None,
    };
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

/// The error of an element of a loop that goes on after its last round. An adapter may have stopped it before.
#[expect(clippy::cast_possible_wrap, reason = "elements are counted in 32 bits")]
pub fn endless_error(name: &str, rounds: u32, element: usize) -> Error {
    Error::new(Code::LoopRounds, name, format!("element {element} does not end within {rounds} rounds"))
        .with("element", Detail::Integer(element as i64))
        .with("rounds", Detail::Integer(rounds.into()))
}

/// The error of reading an argument of a function while it is traced, or after that outside of it.
pub fn placeholder_error(node: &Node) -> Error {
    let Node { dtype, shape, location, .. } = node;
    let message =
        format!("`{}` ({dtype} {shape}) has no value: it is an argument of a traced function", node.name());
    Error::new(Code::Unbound, "read", message).at(location).hint(
        "such a function runs once, whatever the values: compute with tensors in it, and read outside of it",
    )
}
