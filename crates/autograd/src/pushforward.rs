//! Forward mode, one arm per operation: from the tangents of the operands of a node to the tangent of its result.
//!
//! Written on its own, not derived from the arms of reverse mode: each checks the other. The one exception is a custom
//! rule, of which only a pullback exists: it is transposed.

use std::sync::Arc;

use cotangent_tensor::{Code, Elementwise, Error, Node, Op, Partial, Reduce, Tensor};

use crate::guard::{Guarded, Literal, conjunction, own_number, shape_of};
use crate::join::join;
use crate::looped::Pushed;
use crate::pullback::{Missing, undefined};
use crate::structure::{Factors, count, gathered, leaves_out, operands, placed, spread, spread_last};

/// Tangent of an operand, or nothing where it is structurally zero.
pub(crate) type Tangent = Option<Guarded>;

/// Pushes tangents of the operands through `node`. Rules are pushed by [`push_rule`](crate::transpose::push_rule).
pub(crate) fn push(node: &Arc<Node>, tangents: &[&Tangent], loops: &mut Pushed) -> Result<Tangent, Error> {
    let primals = operands(node);
    let result = || Tensor::from_node(node.clone());
    // Most operations have one operand that can have a tangent.
    let first = tangents.first().copied().and_then(Option::as_ref);
    let moved = |movement: &dyn Fn(&Tensor) -> Tensor| Ok(first.map(|t| t.moved(movement)));
    match &node.op {
        Op::Leaf(_) | Op::Constant(_) | Op::Input(_) | Op::Variable(_) | Op::Placeholder(_) => Ok(None),
        Op::Iota { .. } | Op::RandomBits(_) | Op::Integer(_) | Op::ArgReduce { .. } => Ok(None),
        Op::Detach | Op::Rule(_) => Ok(None),
        Op::Elementwise(row) => push_elementwise(*row, node, &primals, tangents),
        Op::Cast => Ok(first.filter(|_| node.dtype.is_float()).cloned()),
        Op::While(looped, output) => loops.push(node, (looped, *output), tangents),
        Op::Project(slot) if undefined(node, *slot).is_some() => Ok(None),
        Op::Inspect(_) | Op::After | Op::Project(_) => Ok(first.cloned()),
        Op::Reshape => moved(&|t| t.reshape(node.shape)),
        Op::Permute(axes) => moved(&|t| t.permute_axes(axes)),
        Op::Broadcast => moved(&|t| t.broadcast_to(node.shape)),
        Op::Slice { starts, steps } => moved(&|t| t.strided(starts.clone(), steps.clone(), node.shape)),
        Op::Pad { low, high } => {
            let movement = |t: &Tensor| t.pad_all(low.clone(), high.clone());
            let fills = leaves_out(&node.operands[0].shape, &node.shape);
            Ok(first.map(|t| if fills { placed(t, movement) } else { t.moved(movement) }))
        }
        Op::Concat(axis) => Ok(push_concat(*axis, &primals, tangents)),
        Op::Reduce { kind: Reduce::Sum, axes } => Ok(first.map(|t| t.summed(axes))),
        Op::Reduce { kind: Reduce::Prod, axes } => {
            Ok(first.map(|t| t.reduced(axes, |t| push_product(node, &primals[0], axes, t))))
        }
        Op::Reduce { kind: Reduce::Max | Reduce::Min, axes } => Ok(first.map(|t| {
            let mask = primals[0].eq(spread(&result(), &node.operands[0].shape, axes));
            let mut total = t.clone().under(mask.clone(), true, true).summed(axes);
            total.value = total.value / count(&mask, axes);
            if t.guard.is_empty() { Guarded::plain(total.value) } else { total }
        })),
        Op::CumulativeSum { axis, reverse } => {
            let sums = |t: &Tensor| t.cumulative_sum(*axis as isize, *reverse);
            Ok(first.map(|t| t.mixed(&[*axis], false, sums, sums)))
        }
        Op::Matmul => {
            let left = tangents[0].as_ref().map(|t| push_matmul(t, node, 1, |t| t.matmul(&primals[1])));
            let right = tangents[1].as_ref().map(|t| push_matmul(t, node, 2, |t| primals[0].matmul(t)));
            Ok(join(left.into_iter().chain(right).collect()))
        }
        Op::Gather(axis) => moved(&|t| gathered(t, *axis, &primals[1])),
        Op::ScatterAdd(axis) => Ok(tangents[1].as_ref().map(|t| {
            let sums = |t: &Tensor| Tensor::scatter_add(&primals[0], t, *axis as isize, node.shape[*axis]);
            t.mixed(&[], false, sums, sums)
        })),
        Op::Kernel(_) if tangents.iter().all(|tangent| tangent.is_none()) => Ok(None),
        Op::Kernel(kernel) => {
            let message = "no forward mode: nobody differentiates the text of a kernel";
            let error = Error::new(Code::NoJvp, format!("kernel {:?}", kernel.name), message);
            Err(error.at(node.location).hint("use reverse mode, with a rule from `vjp_kernel` or `vjp`"))
        }
        Op::LogSumExp => Ok(first.map(|t| push_rows(t, &primals[0].softmax(-1)))),
        Op::Softmax => Ok(first.map(|t| push_softmax(&result(), t))),
        Op::CrossEntropy => Ok(first.map(|t| push_rows(t, &primals[0].softmax_residual(&primals[1])))),
        Op::SoftmaxResidual => Ok(first.map(|t| push_softmax(&primals[0].softmax(-1), t))),
    }
}

fn push_elementwise(
    row: Elementwise,
    node: &Arc<Node>,
    primals: &[Tensor],
    tangents: &[&Tangent],
) -> Result<Tangent, Error> {
    let result = Tensor::from_node(node.clone());
    let partials = row.partials(&primals.iter().collect::<Vec<_>>(), &result, |at| tangents[at].is_some());
    let mut contributions = Vec::new();
    for (partial, tangent) in partials.into_iter().zip(tangents) {
        let Some(tangent) = tangent else { continue };
        match partial {
            Partial::One => contributions.push(tangent.clone()),
            Partial::Product(factor) => contributions.push(tangent.times(&factor, own_number(&factor, node))),
            Partial::Pick { condition, holds, factor } => {
                let scaled = match factor {
                    Some(factor) => tangent.times(&factor, own_number(&factor, node)),
                    None => tangent.clone(),
                };
                contributions.push(match row {
                    Elementwise::Select => scaled.in_branch(condition, holds),
                    _ => scaled.under(condition, holds, true),
                });
            }
            Partial::Zero | Partial::NotDifferentiable => {}
            Partial::Missing(function) => return Err(Missing::partial(row, function, node).error),
        }
    }
    Ok(join(contributions))
}

/// Tangents one after the other. Guards of the parts become one, false where a part has no tangent at all.
fn push_concat(axis: usize, primals: &[Tensor], tangents: &[&Tangent]) -> Tangent {
    if tangents.iter().all(|t| t.is_none()) {
        return None;
    }
    let zeros: Vec<Tensor> = primals.iter().map(|p| Tensor::zeros(shape_of(p))).collect();
    let parts: Vec<&Tensor> =
        tangents.iter().zip(&zeros).map(|(t, zero)| t.as_ref().map_or(zero, |t| &t.value)).collect();
    let value = Guarded::plain(Tensor::concat(&parts, axis as isize));
    if tangents.iter().all(|t| t.as_ref().is_some_and(|t| t.guard.is_empty())) {
        return Some(value);
    }
    let inside = tangents.iter().zip(primals).map(|(t, primal)| {
        let all = t.as_ref().and_then(|t| conjunction(&t.guard));
        all.unwrap_or_else(|| Tensor::full(shape_of(primal), t.is_some()))
    });
    let inside: Vec<Tensor> = inside.collect();
    let condition = Tensor::concat(&inside.iter().collect::<Vec<_>>(), axis as isize);
    let parts = || tangents.iter().filter_map(|t| t.as_ref()).flat_map(|t| &t.guard);
    let (pending, hides) = (parts().any(|l| l.pending), parts().any(|l| l.hides));
    Some(value.with(Literal { condition, holds: true, pending, hides }))
}

/// A product with a matrix, which sums over the columns (`axis` 1 from the end) or rows (2) of the tangent.
fn push_matmul(
    tangent: &Guarded,
    node: &Node,
    axis: usize,
    product: impl FnOnce(&Tensor) -> Tensor,
) -> Guarded {
    let axis = node.shape.rank() - axis;
    let mut pushed = Guarded::plain(product(&tangent.masked()));
    for literal in tangent.across(&[axis]) {
        let condition = spread(&literal.condition, &node.shape, &[axis]);
        pushed = pushed.with(Literal { condition, pending: false, ..literal });
    }
    pushed
}

/// The sum over each row of the tangent times a `factor`.
fn push_rows(tangent: &Guarded, factor: &Tensor) -> Guarded {
    tangent.reduced(&[shape_of(factor).rank() - 1], |t| (factor * t).sum(-1))
}

/// `p (t − Σ p t)`: the Jacobian of softmax is symmetric.
fn push_softmax(p: &Tensor, tangent: &Guarded) -> Guarded {
    let shape = shape_of(p);
    let pushed = |t: &Tensor| p * (t - spread_last(&(p * t).sum(-1), &shape));
    tangent.mixed(&[shape.rank() - 1], true, pushed, |live| spread_last(&live.sum(-1), &shape))
}

/// Product rule up a binary tree of products.
fn push_product(node: &Node, x: &Tensor, axes: &[usize], tangent: &Tensor) -> Tensor {
    let factors = match Factors::new(&shape_of(x), axes) {
        Ok(Some(factors)) => factors,
        Ok(None) => return Tensor::zeros(node.shape),
        Err(error) => return Tensor::invalid(error),
    };
    let (mut level, mut change) = (factors.rows(x, 1.0), factors.rows(tangent, 0.0));
    while shape_of(&level)[1] > 1 {
        let (pairs, changes) = (factors.pairs(&level), factors.pairs(&change));
        let (even, odd) = (factors.half(&pairs, 0), factors.half(&pairs, 1));
        change = factors.half(&changes, 0) * &odd + &even * factors.half(&changes, 1);
        level = even * odd;
    }
    change.reshape(node.shape)
}
