//! One arm per operation: the same for every example along a new leading axis.

use std::sync::Arc;

use cotangent_tensor::{Code, DType, Error, Label, Node, Op, Shape, Tensor};

use super::led;
use super::random::random_bits;
use super::sweep::Image;
use crate::guard::shape_of;
use crate::stamp::relocated;

/// The node on operands of which at least one has the leading axis, with new nodes at its line.
pub(super) fn batched(node: &Arc<Node>, operands: &[Image], size: usize) -> Result<Arc<Node>, Error> {
    let made = operation(node, operands, size)?;
    let known = operands.iter().map(|operand| operand.node.key());
    let mut image = relocated(&made, known, node.location, &node.origin).node()?.clone();
    drop(made);
    if let (Some(label), Some(own)) = (&node.label, Arc::get_mut(&mut image)) {
        own.label = Some(Label::detached(label));
    }
    Ok(image)
}

fn operation(node: &Arc<Node>, operands: &[Image], size: usize) -> Result<Tensor, Error> {
    let shape = led(&node.shape, size)?;
    // Axes, lengths and steps of one example come after those of the leading axis.
    let after = |axes: &[usize]| axes.iter().map(|axis| axis + 1).collect::<Vec<_>>();
    let with = |op: Op| {
        let operands = operands.iter().map(|operand| operand.spread(size)).collect::<Result<_, _>>()?;
        let Node { dtype, location, .. } = **node;
        let origin = node.origin.clone();
        Ok(Tensor::from_node(Arc::new(Node { op, operands, shape, dtype, location, label: None, origin })))
    };
    match &node.op {
        // Without operands, the same for every example.
        Op::Leaf(_)
        | Op::Constant(_)
        | Op::Input(_)
        | Op::Variable(_)
        | Op::Placeholder(_)
        | Op::Iota { .. } => {
            let shared = Image { node: node.clone(), batched: false };
            Ok(Tensor::from_node(shared.spread(size)?))
        }
        Op::RandomBits(key) => Ok(random_bits(*key, &operands[0].tensor(), shape)),
        Op::Elementwise(_) | Op::Integer(_) | Op::Cast | Op::While(..) | Op::Reshape => with(node.op.clone()),
        Op::Detach | Op::Inspect(_) | Op::After | Op::Project(_) => with(node.op.clone()),
        // Rows lie along the last axis.
        Op::LogSumExp | Op::Softmax | Op::CrossEntropy | Op::SoftmaxResidual => with(node.op.clone()),
        Op::Permute(axes) => with(Op::Permute(led_by(0, &after(axes)))),
        Op::Broadcast => {
            // Axes that broadcasting adds come after the leading one.
            let operand = operands[0].tensor();
            let own = &shape_of(&operand)[1..];
            let ones = vec![1; node.shape.rank() - own.len()];
            Ok(reshaped(&operand, &[&[size], &ones[..], own].concat()).broadcast_to(shape))
        }
        Op::Slice { starts, steps } => with(Op::Slice { starts: led_by(0, starts), steps: led_by(1, steps) }),
        Op::Pad { low, high } => with(Op::Pad { low: led_by(0, low), high: led_by(0, high) }),
        Op::Concat(axis) => with(Op::Concat(axis + 1)),
        Op::Reduce { kind, axes } => with(Op::Reduce { kind: *kind, axes: after(axes) }),
        Op::ArgReduce { maximum, axis } => with(Op::ArgReduce { maximum: *maximum, axis: axis + 1 }),
        Op::CumulativeSum { axis, reverse } => with(Op::CumulativeSum { axis: axis + 1, reverse: *reverse }),
        Op::Matmul => Ok(matmul(&operands[0], &operands[1], &node.shape, size)),
        Op::Gather(axis) => gather(*axis, &operands[0], &operands[1], size),
        Op::ScatterAdd(axis) => scatter_add(*axis, &operands[0], &operands[1], node.shape[*axis], size),
        Op::Kernel(kernel) => {
            let name = &kernel.name;
            let message = format!(
                "the kernel `{name}` computes one example, and nobody knows how its text would compute many"
            );
            Err(Error::new(Code::NoBatchRule, "batch", message)
                .hint("write a kernel that takes all examples at once, and call it outside of `batch`"))
        }
        Op::Rule(_) => Err(Error::new(Code::Internal, "batch", "a rule is batched with its body")),
    }
}

fn led_by<T: Clone>(first: T, rest: &[T]) -> Vec<T> {
    [&[first], rest].concat()
}

/// `shape` is that of one product. A factor that all examples share makes one larger product of all of
/// theirs.
fn matmul(lhs: &Image, rhs: &Image, shape: &Shape, size: usize) -> Tensor {
    let (row, column) = (shape.rank() - 2, shape.rank() - 1);
    let (a, b) = (lhs.tensor(), rhs.tensor());
    match (lhs.batched, rhs.batched) {
        // Examples below each other.
        (true, false) => {
            let product = merged(&moved(&a, 0, row), row).matmul(&b);
            moved(&split(&product, row, [size, shape[row]]), row, 0)
        }
        // Examples beside each other.
        (false, true) => {
            let product = a.matmul(&merged(&moved(&b, 0, column), column));
            moved(&split(&product, column, [size, shape[column]]), column, 0)
        }
        (_, _) => a.matmul(&b),
    }
}

fn gather(axis: usize, data: &Image, indices: &Image, size: usize) -> Result<Tensor, Error> {
    let (slices, at) = (data.tensor(), indices.tensor());
    Ok(match (data.batched, indices.batched) {
        (_, false) => slices.gather(axis as isize + 1, &at),
        (false, true) => moved(&slices.gather(axis as isize, &at), axis, 0),
        (true, true) => {
            let (length, count) = (data.node.shape[axis + 1], indices.node.shape[1]);
            let all = merged(&moved(&slices, axis + 1, 1), 0);
            let found = all.gather(0, &positions(&at, length, size));
            moved(&split(&found, 0, [size, count]), 1, axis + 1)
        }
    })
}

fn scatter_add(
    axis: usize,
    indices: &Image,
    updates: &Image,
    length: usize,
    size: usize,
) -> Result<Tensor, Error> {
    if !indices.batched {
        return Ok(Tensor::scatter_add(&indices.tensor(), &updates.tensor(), axis as isize + 1, length));
    }
    let updates = merged(&moved(&Tensor::from_node(updates.spread(size)?), axis + 1, 1), 0);
    // The result holds `size · length` slices, and its shape fits.
    let sums = Tensor::scatter_add(&positions(&indices.tensor(), length, size), &updates, 0, size * length);
    Ok(moved(&split(&sums, 0, [size, length]), 1, axis + 1))
}

/// Indices `[examples, …]` into axes of a `length` as indices into these axes one after the other. What is
/// outside its own axis stays outside, or it would find its way to another example.
fn positions(indices: &Tensor, length: usize, size: usize) -> Tensor {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let shape = shape_of(indices);
    let words = indices.cast(DType::U32);
    let inside = indices.ge(0).and(words.lt(length));
    let start = Tensor::iota(shape, 0).cast(DType::U32) * length;
    reshaped(&inside.select(start + words, u32::MAX), &[size * shape[1]])
}

fn reshaped(tensor: &Tensor, dims: &[usize]) -> Tensor {
    match Shape::new(dims) {
        Ok(shape) => tensor.reshape(shape),
        Err(error) => Tensor::invalid(error),
    }
}

/// Axis `from` becomes axis `to`; the others keep their order.
fn moved(tensor: &Tensor, from: usize, to: usize) -> Tensor {
    let mut axes: Vec<usize> = (0..shape_of(tensor).rank()).filter(|&axis| axis != from).collect();
    axes.insert(to.min(axes.len()), from);
    tensor.permute_axes(&axes)
}

/// `axis` and the next become one. Both are of one shape, so their product fits.
fn merged(tensor: &Tensor, axis: usize) -> Tensor {
    let shape = shape_of(tensor);
    reshaped(tensor, &[&shape[..axis], &[shape[axis] * shape[axis + 1]], &shape[axis + 2..]].concat())
}

/// `axis` becomes two.
fn split(tensor: &Tensor, axis: usize, lengths: [usize; 2]) -> Tensor {
    let Ok(node) = tensor.node() else { return tensor.clone() };
    reshaped(tensor, &[&node.shape[..axis], &lengths, &node.shape[axis + 1..]].concat())
}
