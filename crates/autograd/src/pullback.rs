//! Reverse mode, one arm per operation: from the cotangent of a node to the cotangents of its operands.

use std::sync::Arc;

use cotangent_tensor::{
    Code, DType, Elementwise, Error, InputGradient, Node, Op, Partial, Reduce, RuleKind, Shape, Tensor,
    TracedRule, UserKernel,
};

use crate::enclosure::pull_enclosure;
use crate::guard::{Guarded, Literal, conjunction, own_number, shape_of};
use crate::looped::pull_loop;
use crate::reverse::{Found, Reached};
use crate::stamp::{cast_at, masked_at, source_at};
use crate::structure::{
    Factors, count, gathered, leaves_out, operands, placed, scattered, spread, spread_last,
};

/// What reaches one operand.
pub(crate) enum Flow {
    /// A cotangent.
    Value(Guarded),
    /// Structurally nothing: the operation is piecewise constant.
    Zero,
    /// Nothing, on purpose.
    Stopped(Arc<str>),
    /// Nothing, since the operand is a truth value or an integer.
    Discrete,
    /// Nothing, since this function declares that it has no derivative here.
    Undefined(Arc<str>),
    /// The derivative exists but is not implemented.
    Missing(Missing),
}

/// An operation whose derivative is missing.
#[derive(Clone)]
pub(crate) struct Missing {
    pub(crate) op: Arc<str>,
    pub(crate) error: Error,
}

impl Missing {
    pub(crate) fn partial(row: Elementwise, function: &str, node: &Node) -> Missing {
        let error = Error::new(
            Code::NoDerivative,
            row.name(),
            format!("its derivative needs `{function}`, which has no implementation"),
        );
        let error = error
            .at(node.location)
            .hint("cut the path with `detach`, or give the derivative with `custom_gradient`");
        Missing { op: row.name().into(), error }
    }
    pub(crate) fn rule(rule: &TracedRule, node: &Node) -> Missing {
        if rule.kind == RuleKind::FirstOrderOnly {
            let error = Error::new(
                Code::FirstOrderOnly,
                format!("custom gradient {:?}", rule.name),
                "its gradient is differentiated, but the rule declares that it knows the first order only",
            );
            let error = error
                .at(node.location)
                .hint("leave out `first_order_only` once every derivative of the rule is true, or `detach` the gradient");
            return Missing { op: rule.name.as_str().into(), error };
        }
        let error = Error::new(
            Code::NotDifferentiable,
            format!("custom function {:?}", rule.name),
            format!("no gradient rule for `{}`", rule.name),
        );
        let error = error.at(node.location).hint("define it with `custom_gradient`");
        Missing { op: rule.name.as_str().into(), error }
    }
    fn kernel(kernel: &UserKernel, node: &Node) -> Missing {
        let name = &kernel.name;
        let error = Error::new(
            Code::WgslKernel,
            format!("kernel {name:?}"),
            format!("the kernel `{name}` has no gradient rule: nobody differentiates its text"),
        );
        let error = error.at(node.location).hint(
            "give it one with `vjp_kernel` or `vjp` before it is called, or cut the path with `detach`",
        );
        Missing { op: name.as_str().into(), error }
    }
    fn of_input(rule: &TracedRule, input: &Node, why: &str, node: &Node) -> Missing {
        let error = Error::new(
            Code::NotDifferentiable,
            format!("rule {:?}", rule.name),
            format!("no gradient for `{}`: {why}", input.called()),
        );
        let error = error.at(node.location).hint("write it, or cut the path with `detach`");
        Missing { op: rule.name.as_str().into(), error }
    }
}

/// An invalid cotangent for every operand.
pub(crate) fn invalid(node: &Node, error: &Error) -> Vec<Flow> {
    let one = |_| Flow::Value(Guarded::plain(Tensor::invalid(error.clone())));
    node.operands.iter().map(one).collect()
}

/// The rule that declares its output `slot` to have no derivative.
pub(crate) fn undefined(projection: &Node, slot: usize) -> Option<Arc<str>> {
    match &projection.operands[0].op {
        Op::Rule(rule) if rule.without_derivative.contains(&slot) => Some(rule.name.as_str().into()),
        _ => None,
    }
}

/// Pulls `cotangent` of `node` back to its operands; what flows to those whose position is not `needed` is arbitrary.
/// Rules are pulled back by [`pull_rule`].
pub(crate) fn pull(node: &Arc<Node>, cotangent: &Guarded, needed: impl Fn(usize) -> bool) -> Vec<Flow> {
    use Flow::{Discrete, Value};
    let primals = operands(node);
    let shape = primals.first().map_or(Shape::SCALAR, shape_of);
    let moved = |movement: &dyn Fn(&Tensor) -> Tensor| vec![Value(cotangent.moved(movement))];
    match &node.op {
        Op::Leaf(_) | Op::Constant(_) | Op::Input(_) | Op::Variable(_) | Op::Placeholder(_) => vec![],
        Op::Iota { .. } | Op::RandomBits(_) | Op::Integer(_) | Op::ArgReduce { .. } => {
            primals.iter().map(|_| Discrete).collect()
        }
        Op::Elementwise(row) => pull_elementwise(*row, node, &primals, cotangent, needed),
        Op::Cast if node.operands[0].dtype.is_float() => vec![Value(cotangent.clone())],
        Op::Cast => vec![Discrete],
        Op::While(looped, output) => pull_loop(node, (looped, *output), cotangent, needed),
        Op::Reshape => moved(&|t| t.reshape(shape)),
        Op::Permute(axes) => {
            let inverse: Vec<usize> =
                (0..axes.len()).map(|a| axes.iter().position(|&x| x == a).unwrap_or(a)).collect();
            moved(&|t| t.permute_axes(&inverse))
        }
        Op::Broadcast => {
            let added = node.shape.rank() - shape.rank();
            let repeated = |a: &usize| *a < added || shape[a - added] != node.shape[*a];
            let axes: Vec<usize> = (0..node.shape.rank()).filter(repeated).collect();
            vec![Value(cotangent.summed(&axes).moved(|t| t.reshape(shape)))]
        }
        Op::Slice { starts, steps } => {
            let movement = |t: &Tensor| scattered(t, starts, steps, &shape);
            vec![Value(if leaves_out(&node.shape, &shape) {
                placed(cotangent, movement)
            } else {
                cotangent.moved(movement)
            })]
        }
        Op::Pad { low, .. } => moved(&|t| t.strided(low.clone(), vec![1; low.len()], shape)),
        Op::Concat(axis) => {
            let mut start = 0;
            let slices = primals.iter().map(|operand| {
                let (begin, part) = (start, shape_of(operand));
                start += part[*axis];
                let mut starts = vec![0; part.rank()];
                starts[*axis] = begin;
                Value(cotangent.moved(|t| t.strided(starts.clone(), vec![1; starts.len()], part)))
            });
            slices.collect()
        }
        Op::Reduce { kind: Reduce::Sum, axes } => moved(&|t| spread(t, &shape, axes)),
        Op::Reduce { kind: Reduce::Max | Reduce::Min, axes } => {
            // Only the extremes receive something; they share it evenly.
            let extreme = Tensor::from_node(node.clone());
            let mask = primals[0].eq(spread(&extreme, &shape, axes));
            let share = cotangent.times(&count(&mask, axes).recip(), None);
            vec![Value(share.moved(|t| spread(t, &shape, axes)).under(mask, true, true))]
        }
        Op::Reduce { kind: Reduce::Prod, axes } => {
            let value = pull_product(&primals[0], axes, &cotangent.value);
            vec![Value(cotangent.carried(value, |t| spread(t, &shape, axes)))]
        }
        Op::CumulativeSum { axis, reverse } => {
            let sums = |t: &Tensor| t.cumulative_sum(*axis as isize, !reverse);
            vec![Value(cotangent.mixed(&[*axis], false, sums, sums))]
        }
        Op::Matmul => pull_matmul(&primals[0], &primals[1], cotangent, needed),
        Op::Gather(axis) => vec![pull_gather(&primals[1], *axis, &shape, cotangent), Discrete],
        Op::ScatterAdd(axis) => {
            vec![Discrete, Value(cotangent.moved(|t| gathered(t, *axis, &primals[0])))]
        }
        Op::LogSumExp => vec![Value(pull_rows(cotangent, &primals[0].softmax(-1)))],
        Op::Softmax => vec![Value(pull_softmax(&Tensor::from_node(node.clone()), cotangent))],
        Op::CrossEntropy => {
            vec![Value(pull_rows(cotangent, &primals[0].softmax_residual(&primals[1]))), Discrete]
        }
        Op::SoftmaxResidual => vec![Value(pull_softmax(&primals[0].softmax(-1), cotangent)), Discrete],
        Op::Detach => vec![Flow::Stopped("detach".into())],
        Op::Project(slot) => vec![match undefined(node, *slot) {
            Some(name) => Flow::Undefined(name),
            None => Value(cotangent.clone()),
        }],
        Op::Inspect(_) | Op::After => vec![Value(cotangent.clone())],
        Op::Kernel(kernel) => {
            let missing = |o: &Arc<Node>| match o.dtype.is_float() {
                true => Flow::Missing(Missing::kernel(kernel, node)),
                false => Discrete,
            };
            node.operands.iter().map(missing).collect()
        }
        Op::Rule(_) => vec![],
    }
}

fn pull_elementwise(
    row: Elementwise,
    node: &Arc<Node>,
    primals: &[Tensor],
    cotangent: &Guarded,
    needed: impl Fn(usize) -> bool,
) -> Vec<Flow> {
    let result = Tensor::from_node(node.clone());
    let partials = row.partials(&primals.iter().collect::<Vec<_>>(), &result, needed);
    let flow = |partial| match partial {
        Partial::One => Flow::Value(cotangent.clone()),
        Partial::Product(factor) => Flow::Value(cotangent.times(&factor, own_number(&factor, node))),
        Partial::Pick { condition, holds, factor } => {
            let scaled = match factor {
                Some(factor) => cotangent.times(&factor, own_number(&factor, node)),
                None => cotangent.clone(),
            };
            Flow::Value(match row {
                Elementwise::Select => scaled.in_branch(condition, holds),
                _ => scaled.under(condition, holds, true),
            })
        }
        Partial::Zero => Flow::Zero,
        Partial::NotDifferentiable => Flow::Discrete,
        Partial::Missing(function) => Flow::Missing(Missing::partial(row, function, node)),
    };
    partials.into_iter().map(flow).collect()
}

/// One cotangent per row times a `factor` per element of the row.
fn pull_rows(cotangent: &Guarded, factor: &Tensor) -> Guarded {
    cotangent.moved(|t| spread_last(t, &shape_of(factor))).times(factor, None)
}

/// `p (u − Σ p u)` along the last axis.
fn pull_softmax(p: &Tensor, cotangent: &Guarded) -> Guarded {
    let shape = shape_of(p);
    let pulled = |upstream: &Tensor| p * (upstream - spread_last(&(p * upstream).sum(-1), &shape));
    cotangent.mixed(&[shape.rank() - 1], true, pulled, |live| spread_last(&live.sum(-1), &shape))
}

/// `dA = U Bᵀ` and `dB = Aᵀ U`.
///
/// Where a branch left out a whole row of the product, the row of `A` may be NaN; so may a column of `B`. They are
/// selected away, unless the guard of the other cotangent does that: a condition on rows stays in the guard of `dA`.
fn pull_matmul(a: &Tensor, b: &Tensor, cotangent: &Guarded, needed: impl Fn(usize) -> bool) -> Vec<Flow> {
    let (upstream, rank) = (cotangent.masked(), shape_of(a).rank());
    let (row, column) = (rank - 2, rank - 1);
    let pulled = |value: Tensor, operand: &Tensor, summed: usize, repeated: usize| {
        let mut pulled = Guarded::plain(value);
        for literal in cotangent.across(&[summed]) {
            let condition = spread(&literal.condition, &shape_of(operand), &[repeated]);
            // What was applied is exactly zero by now, unless it met a NaN.
            let pending = literal.pending && literal.hides;
            pulled = pulled.with(Literal { condition, pending, ..literal });
        }
        Flow::Value(pulled)
    };
    let clean = |operand: &Tensor, summed: usize, other: usize, repeated: usize| {
        let live = cotangent.hidden_along(other).across(&[summed]);
        match conjunction(&live) {
            Some(live) => spread(&live, &shape_of(operand), &[repeated]).select(operand, 0.0),
            None => operand.clone(),
        }
    };
    let left = || pulled(upstream.matmul(&clean(b, row, column, row).transpose()), a, column, column);
    let right = || pulled(clean(a, column, row, column).transpose().matmul(&upstream), b, row, row);
    vec![if needed(0) { left() } else { Flow::Zero }, if needed(1) { right() } else { Flow::Zero }]
}

/// What is gathered several times receives the sum; what is not gathered is structurally zero.
fn pull_gather(indices: &Tensor, axis: usize, shape: &Shape, cotangent: &Guarded) -> Flow {
    let size = shape[axis];
    let sums = |t: &Tensor| Tensor::scatter_add(indices, t, axis as isize, size);
    let scattered = cotangent.mixed(&[], false, sums, sums);
    if !cotangent.guard.is_empty() {
        return Flow::Value(scattered);
    }
    let ones = Tensor::ones(shape_of(indices));
    let hit = Tensor::scatter_add(indices, &ones, 0, size).gt(0.0);
    let others: Vec<usize> = (0..shape.rank()).filter(|&a| a != axis).collect();
    Flow::Value(scattered.under(spread(&hit, shape, &others), true, false))
}

/// The cotangent of each factor: upstream times the product of the *other* factors, exactly, never `y / x`.
///
/// Up a binary tree of products, down again with the partner at each step: O(n) multiplications.
fn pull_product(x: &Tensor, axes: &[usize], upstream: &Tensor) -> Tensor {
    let shape = shape_of(x);
    let factors = match Factors::new(&shape, axes) {
        Ok(Some(factors)) => factors,
        Ok(None) => return Tensor::zeros(shape),
        Err(error) => return Tensor::invalid(error),
    };
    let mut level = factors.rows(x, 1.0);
    let mut levels = Vec::new();
    while shape_of(&level)[1] > 1 {
        let pairs = factors.pairs(&level);
        level = factors.half(&pairs, 0) * factors.half(&pairs, 1);
        levels.push(pairs);
    }
    let mut cotangent = factors.column(upstream);
    for pairs in levels.iter().rev() {
        let partners = pairs.flip(2);
        cotangent = factors.flat(&(spread_last(&cotangent, &shape_of(pairs)) * partners));
    }
    factors.restore(&cotangent)
}

/// Pulls the cotangents of all outputs of a rule back to its operands; missing ones are zeros.
pub(crate) fn pull_rule(node: &Arc<Node>, rule: &TracedRule, outputs: Vec<Option<Guarded>>) -> Vec<Flow> {
    if let RuleKind::Checkpoint { results } = rule.kind {
        let arrived = outputs.into_iter().map(|cotangent| (cotangent, Reached::default())).collect();
        return match pull_enclosure(node, rule, results, arrived, &vec![true; node.operands.len()]) {
            Ok(found) => {
                let flow = |(found, to): (Found, &Arc<Node>)| found.flow(to).unwrap_or(Flow::Zero);
                found.into_iter().zip(&node.operands).map(flow).collect()
            }
            Err(error) => invalid(node, &error),
        };
    }
    let present: Vec<bool> = outputs.iter().map(Option::is_some).collect();
    let Some(pullback) = rule.pullback(&present) else {
        let missing = |o: &Arc<Node>| {
            if o.dtype.is_float() { Flow::Missing(Missing::rule(rule, node)) } else { Flow::Discrete }
        };
        return node.operands.iter().map(missing).collect();
    };
    let upstream: Result<Vec<Arc<Node>>, Error> = outputs
        .into_iter()
        .zip(&rule.upstream)
        .map(|(cotangent, slot)| {
            let zeros = || source_at(Guarded::number(slot.shape, 0.0), node);
            let tensor = masked_at(&cotangent.unwrap_or_else(zeros), node);
            cast_at(&tensor, slot.dtype, node).node().cloned()
        })
        .collect();
    let upstream = match upstream {
        Ok(upstream) => upstream,
        Err(error) => return invalid(node, &error),
    };
    let gradients = rule.pull_back(pullback, &node.operands, &upstream);
    let flow = |(gradient, operand): (InputGradient<Arc<Node>>, &Arc<Node>)| match gradient {
        InputGradient::Value(gradient) => {
            Flow::Value(Guarded::plain(cast_at(&Tensor::from_node(gradient), DType::F32, node)))
        }
        _ if !operand.dtype.is_float() => Flow::Discrete,
        InputGradient::Zero => Flow::Zero,
        InputGradient::Nothing => Flow::Stopped(rule.name.as_str().into()),
        InputGradient::Missing(why) => Flow::Missing(Missing::of_input(rule, operand, &why, node)),
    };
    gradients.into_iter().zip(&node.operands).map(flow).collect()
}
