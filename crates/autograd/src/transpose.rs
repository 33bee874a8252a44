//! Forward mode of custom rules, of which only a pullback exists: it is transposed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cotangent_tensor::{
    Code, DType, Elementwise, Error, InputGradient, Node, Op, Reduce, Tensor, TracedRule, substitute,
    topological,
};

use crate::State;
use crate::guard::Guarded;
use crate::pushforward::Tangent;
use crate::reverse::sweep;
use crate::stamp::{cast_at, masked_at, source_at};

/// Tangents of all outputs of a rule, by transposing its pullback.
///
/// The pullback `G(x, u)` is linear in `u`, so its own pullback with respect to `u`, started with the tangents of the
/// inputs, is the pushforward. A pullback that is not linear has none. An output that no moved input reaches has no
/// tangent.
pub(crate) fn push_rule(
    node: &Arc<Node>,
    rule: &TracedRule,
    tangents: &[&Tangent],
) -> Result<Vec<Tangent>, Error> {
    let nothing = || rule.outputs.iter().map(|_| None).collect();
    if tangents.iter().all(|t| t.is_none()) {
        return Ok(nothing());
    }
    let no_jvp = |why: &str| {
        Error::new(Code::NoJvp, format!("custom gradient {:?}", rule.name), format!("no forward mode: {why}"))
            .at(node.location)
    };
    let not_linear = || match &rule.unless_linear {
        Some(error) => error.clone(),
        None => no_jvp("its gradients are not linear in the upstream cotangent"),
    };
    if rule.pushforward.is_some() {
        return push_given(node, rule, tangents);
    }
    let Some(pullback) = rule.pullbacks.first() else {
        return Err(no_jvp("it has no gradient rule").hint("define it with `custom_gradient`"));
    };
    let (mut seeds, mut slots, mut images) = (Vec::new(), Vec::new(), Vec::new());
    for (gradient, tangent) in pullback.gradients.iter().zip(tangents) {
        if let (InputGradient::Missing(why), Some(_)) = (gradient, tangent) {
            return Err(no_jvp(why));
        }
        if let (InputGradient::Value(gradient), Some(tangent)) = (gradient, tangent) {
            let slot = Tensor::placeholder("tangent", gradient.shape, DType::F32);
            slots.push(slot.node()?.clone());
            images.push(masked_at(tangent, node).node()?.clone());
            seeds.push((gradient.clone(), Guarded::plain(slot)));
        }
    }
    if seeds.is_empty() {
        return Ok(nothing());
    }
    let pulled: Vec<Arc<Node>> = seeds.iter().map(|(gradient, _)| gradient.clone()).collect();
    if passes_kernel(&pulled, &rule.upstream) {
        return Err(
            no_jvp("its gradient is computed by a kernel, which has no transpose").hint("use reverse mode")
        );
    }
    if !vanish_without(&pulled, &rule.upstream) {
        return Err(not_linear());
    }
    let mut transposed = Vec::new();
    let mut reached = Vec::new();
    for (output, gradient) in rule.outputs.iter().zip(sweep(seeds, &rule.upstream)?) {
        reached.push(match gradient.state() {
            // A truth value or integer has no tangent.
            _ if !output.dtype.is_float() => false,
            State::Value(_) if gradient.is_partial() => {
                return Err(not_linear());
            }
            State::Value(tensor) => {
                transposed.push(tensor.node()?.clone());
                true
            }
            State::Unconnected => false,
            State::NotDifferentiable { .. } => {
                gradient.or_error()?;
                false
            }
            State::Zero | State::Stopped { .. } => {
                return Err(not_linear());
            }
        });
    }
    if transposed.is_empty() {
        return Err(no_jvp("its gradients do not depend on any upstream cotangent"));
    }
    let depends = topological(&transposed);
    if depends.iter().any(|n| rule.upstream.iter().any(|u| u.identity() == n.identity())) {
        return Err(not_linear());
    }
    let from = rule.parameters.iter().chain(&slots).map(Node::identity);
    let to = node.operands.iter().cloned().chain(images);
    let mut pushed = substitute(&transposed, &from.zip(to).collect()).into_iter();
    let of = |reached: bool| {
        let tangent = reached.then(|| pushed.next()).flatten();
        tangent.map(|t| Guarded::plain(cast_at(&Tensor::from_node(t), DType::F32, node)))
    };
    Ok(reached.into_iter().map(of).collect())
}

/// Whether a kernel of the user's lies between `upstream` and `gradients`.
fn passes_kernel(gradients: &[Arc<Node>], upstream: &[Arc<Node>]) -> bool {
    let mut depends: HashSet<*const ()> = upstream.iter().map(Node::identity).collect();
    topological(gradients).iter().any(|node| {
        let is_made = node.operands.iter().any(|operand| depends.contains(&operand.identity()));
        if is_made {
            depends.insert(node.identity());
        }
        is_made && matches!(node.op, Op::Kernel(_))
    })
}

/// Tangents of all outputs of a rule by the forward mode that the user gave. What does not move has zeros.
fn push_given(node: &Arc<Node>, rule: &TracedRule, tangents: &[&Tangent]) -> Result<Vec<Tangent>, Error> {
    let Some(pushforward) = &rule.pushforward else { return Ok(Vec::new()) };
    let mut images = Vec::new();
    for (tangent, slot) in tangents.iter().zip(&pushforward.tangents) {
        let tensor = match tangent {
            Some(tangent) => masked_at(tangent, node),
            None => source_at(Guarded::number(slot.shape, 0.0), node).value,
        };
        images.push(cast_at(&tensor, slot.dtype, node).node()?.clone());
    }
    let pushed = rule.push_forward(pushforward, &node.operands, &images).into_iter();
    let of = |tangent: Arc<Node>| Guarded::plain(cast_at(&Tensor::from_node(tangent), DType::F32, node));
    Ok(pushed.map(|tangent| tangent.map(of)).collect())
}

/// Whether all `gradients` are zero where all of `upstream` is, as can be seen from the graph: linear, not affine.
pub(crate) fn vanish_without(gradients: &[Arc<Node>], upstream: &[Arc<Node>]) -> bool {
    let zero: HashSet<*const ()> = upstream.iter().map(Node::identity).collect();
    let mut vanishes: HashMap<*const Node, bool> = HashMap::new();
    // Outputs of rules inside the rule, on their operands.
    let mut expanded: HashMap<*const Node, Vec<Arc<Node>>> = HashMap::new();
    let mut stack: Vec<(Arc<Node>, bool)> = gradients.iter().map(|g| (g.clone(), false)).collect();
    while let Some((node, operands_done)) = stack.pop() {
        if vanishes.contains_key(&node.key()) {
            continue;
        }
        if zero.contains(&node.identity()) {
            vanishes.insert(node.key(), true);
            continue;
        }
        let operands = match (&node.op, &node.operands[..]) {
            (Op::Project(slot), [tuple]) => match &tuple.op {
                Op::Rule(rule) => {
                    let outputs =
                        expanded.entry(tuple.key()).or_insert_with(|| rule.instantiate(&tuple.operands));
                    vec![outputs[*slot].clone()]
                }
                _ => vec![tuple.clone()],
            },
            (_, operands) => operands.to_vec(),
        };
        if operands_done {
            let of: Vec<bool> = operands.iter().map(|o| vanishes[&o.key()]).collect();
            vanishes.insert(node.key(), is_zero(&node, &of));
        } else {
            stack.push((node, true));
            stack.extend(operands.into_iter().map(|o| (o, false)));
        }
    }
    gradients.iter().all(|g| vanishes[&g.key()])
}

/// Whether `node` is zero everywhere if these of its operands are.
fn is_zero(node: &Node, operands: &[bool]) -> bool {
    let all = !operands.is_empty() && operands.iter().all(|&zero| zero);
    match &node.op {
        Op::Constant(scalar) => scalar.as_f64() == 0.0,
        Op::Leaf(array) => array.to_f64().iter().all(|&v| v == 0.0),
        Op::Elementwise(Elementwise::Mul) => operands.contains(&true),
        Op::Elementwise(Elementwise::Div | Elementwise::Xlogy | Elementwise::Xlog1py) => operands[0],
        Op::Elementwise(Elementwise::Select) => operands[1] && operands[2],
        Op::Elementwise(row) => all && row.eval(&vec![0.0; row.arity()]) == 0.0,
        Op::Matmul => operands.contains(&true),
        Op::Gather(_) | Op::After => operands[0],
        Op::ScatterAdd(_) => operands[1],
        Op::Cast | Op::Reshape | Op::Permute(_) | Op::Broadcast | Op::Slice { .. } | Op::Pad { .. } => all,
        Op::Concat(_) | Op::CumulativeSum { .. } | Op::Detach | Op::Inspect(_) | Op::Project(_) => all,
        Op::Reduce { kind: Reduce::Sum | Reduce::Max | Reduce::Min, .. } => all,
        Op::Reduce { kind: Reduce::Prod, axes } => all && axes.iter().all(|&a| node.operands[0].shape[a] > 0),
        Op::Input(_) | Op::Variable(_) | Op::Placeholder(_) | Op::Iota { .. } | Op::RandomBits(_) => false,
        Op::Integer(_) | Op::ArgReduce { .. } | Op::LogSumExp | Op::Softmax | Op::CrossEntropy => false,
        Op::SoftmaxResidual | Op::While(..) | Op::Kernel(_) | Op::Rule(_) => false,
    }
}
