//! A program in full precision: half precision rounds away the digits that are to be compared.

use std::sync::Arc;

use cotangent_tensor::{
    AddressMap, AddressSet, Array, DType, Error, InputGradient, Node, Op, Pullback, Pushforward, Tensor,
    TracedRule,
};

/// Nodes by address, and what stands for them.
type Images = AddressMap<Node, Arc<Node>>;

/// The graphs of `roots` with F32 for every F16, inside of rules too, and whether there was any. Conversions between the
/// two are gone, and with them all rounding to F16.
pub(super) fn widened(roots: &[Arc<Node>]) -> Result<(Vec<Arc<Node>>, bool), Error> {
    let order = with_rules(roots);
    let mut images = Images::default();
    // A node and its copies under other names stay one value.
    let mut values: AddressMap<(), Arc<Node>> = AddressMap::default();
    for node in &order {
        let image = match values.get(&node.identity()).cloned().or_else(|| wide(node, &images)) {
            None => node.clone(),
            Some(value) => {
                values.insert(node.identity(), value.clone());
                match &node.label {
                    Some(label) => Tensor::from_node(value).named(label).node()?.clone(),
                    None => value,
                }
            }
        };
        images.insert(node.key(), image);
    }
    let half = order.iter().any(|node| node.dtype == DType::F16);
    Ok((roots.iter().map(|root| images[&root.key()].clone()).collect(), half))
}

/// What stands for a node, without its name; none where it stays as it is.
fn wide(node: &Arc<Node>, images: &Images) -> Option<Arc<Node>> {
    let half = node.dtype == DType::F16;
    let dtype = if half { DType::F32 } else { node.dtype };
    let operands: Vec<Arc<Node>> = node.operands.iter().map(|o| images[&o.key()].clone()).collect();
    let same = operands.iter().zip(&node.operands).all(|(a, b)| Arc::ptr_eq(a, b));
    let (op, operands) = match &node.op {
        Op::Leaf(array) if half => (Op::Leaf(Arc::new(Array::clone(array).with_dtype(dtype))), operands),
        // What a run gives is what it is.
        Op::Input(_) | Op::Variable(_) if half => (Op::Cast, vec![node.clone()]),
        Op::Cast if (half || !same) && operands[0].dtype == dtype => return operands.into_iter().next(),
        Op::Rule(rule) if parts(rule).any(|part| !Arc::ptr_eq(part, &images[&part.key()])) => {
            (Op::Rule(Arc::new(rule_of(rule, images))), operands)
        }
        _ if half || !same => (node.op.clone(), operands),
        _ => return None,
    };
    let Node { shape, location, .. } = **node;
    Some(Arc::new(Node { op, operands, shape, dtype, location, label: None, origin: node.origin.clone() }))
}

/// A rule made of the images of its parts.
fn rule_of(rule: &TracedRule, images: &Images) -> TracedRule {
    let image = |node: &Arc<Node>| images[&node.key()].clone();
    let all = |nodes: &[Arc<Node>]| nodes.iter().map(image).collect::<Vec<_>>();
    let pullback = |pullback: &Pullback| Pullback {
        present: pullback.present.clone(),
        gradients: pullback.gradients.iter().map(|gradient| gradient.with(image)).collect(),
    };
    let pushforward = |pushforward: &Pushforward| Pushforward {
        tangents: all(&pushforward.tangents),
        outputs: pushforward.outputs.iter().map(|output| output.as_ref().map(image)).collect(),
    };
    TracedRule {
        name: rule.name.clone(),
        kind: rule.kind.clone(),
        parameters: all(&rule.parameters),
        outputs: all(&rule.outputs),
        without_derivative: rule.without_derivative.clone(),
        plain: rule.plain.as_deref().map(all),
        upstream: all(&rule.upstream),
        pullbacks: rule.pullbacks.iter().map(pullback).collect(),
        pushforward: rule.pushforward.as_ref().map(pushforward),
        unless_linear: rule.unless_linear.clone(),
        absorbed: rule.absorbed.clone(),
    }
}

/// The nodes that a rule holds.
pub(super) fn parts(rule: &TracedRule) -> impl Iterator<Item = &Arc<Node>> {
    let pulled = rule.pullbacks.iter().flat_map(|p| p.gradients.iter().filter_map(InputGradient::value));
    let pushed = rule.pushforward.iter().flat_map(|p| p.tangents.iter().chain(p.outputs.iter().flatten()));
    let own = rule.parameters.iter().chain(&rule.outputs).chain(&rule.upstream);
    own.chain(rule.plain.iter().flatten()).chain(pulled).chain(pushed)
}

/// Nodes reachable from `roots`, also through rules, each once, after what it is made of.
fn with_rules(roots: &[Arc<Node>]) -> Vec<Arc<Node>> {
    let mut seen: AddressSet<Node> = AddressSet::default();
    let mut order = Vec::new();
    // A node is pushed twice: once to visit what it is made of, once to be emitted after that.
    let mut stack: Vec<(Arc<Node>, bool)> = roots.iter().map(|node| (node.clone(), false)).collect();
    while let Some((node, done)) = stack.pop() {
        if done {
            order.push(node);
            continue;
        }
        if !seen.insert(node.key()) {
            continue;
        }
        stack.push((node.clone(), true));
        stack.extend(node.operands.iter().map(|operand| (operand.clone(), false)));
        if let Op::Rule(rule) = &node.op {
            stack.extend(parts(rule).map(|part| (part.clone(), false)));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custom_gradient;

    #[test]
    fn no_pass_recurses_and_what_is_no_half_stays() {
        let x = Tensor::new([1.0, 2.0]);
        let long = (0..300_000).fold(x.cast(DType::F16), |y, _| -y);
        let rules = (0..3_000)
            .fold(long, |y, _| custom_gradient("negated", [&y], |[y]| (-y, |upstream: Tensor| -upstream)));
        let kept = x.exp();
        let roots = [rules.node().unwrap().clone(), kept.node().unwrap().clone()];
        let (images, half) = widened(&roots).unwrap();
        assert!(half && Arc::ptr_eq(&images[1], &roots[1]));
        let all = with_rules(&images);
        assert!(all.iter().all(|node| node.dtype == DType::F32));
        // Each rule has its tuple, its output, two placeholders and two negations.
        assert_eq!(all.len(), 1 + 300_000 + 6 * 3_000 + 1);
        assert!(!widened(&images).unwrap().1);
    }
}
