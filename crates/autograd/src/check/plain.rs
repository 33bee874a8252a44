//! The program that rules claim to be: their forward graphs, without what they say about gradients.

use std::collections::HashMap;
use std::sync::Arc;

use cotangent_tensor::{
    Error, Evaluate, InputGradient, Node, Op, RuleKind, Tensor, TracedRule, expand, substitute, topological,
};

/// Nodes by identity, and what stands for them.
pub(super) type Images = HashMap<*const (), Arc<Node>>;

/// Whether a rule claims to be the derivative of its function, so that its graph may stand for it.
pub(super) fn is_exact(rule: &TracedRule) -> bool {
    matches!(rule.kind, RuleKind::Exact | RuleKind::Checkpoint { .. })
}

/// Whether a rule passes nothing to anything: a cut, which can only be made by declaring it.
pub(super) fn is_cut(rule: &TracedRule) -> bool {
    let nothing = |gradient: &InputGradient<Arc<Node>>| matches!(gradient, InputGradient::Nothing);
    rule.pullbacks.first().is_some_and(|pullback| pullback.gradients.iter().all(nothing))
}

/// What the user cut from the derivative of `roots` with `detach`, or with a rule that passes nothing, as data: so it
/// stays what it is when inputs move. Cuts inside of rules are not the user's word about the derivative, but part of a
/// claim, and are not looked at.
pub(super) fn cuts(roots: &[Arc<Node>], evaluator: &dyn Evaluate) -> Result<Images, Error> {
    let is_user_cut = |node: &Arc<Node>| match (&node.op, &node.operands[..]) {
        (Op::Detach, _) => true,
        (Op::Project(_), [tuple]) => matches!(&tuple.op, Op::Rule(rule) if is_cut(rule)),
        _ => false,
    };
    let cuts: Vec<Tensor> =
        topological(roots).into_iter().filter(is_user_cut).map(Tensor::from_node).collect();
    let values = evaluator.evaluate(&cuts.iter().collect::<Vec<_>>())?;
    let mut images = Images::new();
    for (cut, value) in cuts.iter().zip(values) {
        images.insert(cut.node()?.identity(), Tensor::new(value).node()?.clone());
    }
    Ok(images)
}

/// `roots` with exact rules replaced by their graphs and without cuts and marks; surrogates stay what they are.
pub(super) fn plain(roots: &[Arc<Node>]) -> Vec<Arc<Node>> {
    let mut image: HashMap<*const Node, Arc<Node>> = HashMap::new();
    let mut outputs: HashMap<*const Node, Vec<Arc<Node>>> = HashMap::new();
    for node in topological(roots) {
        let operands: Vec<Arc<Node>> = node.operands.iter().map(|o| image[&o.key()].clone()).collect();
        let new = match &node.op {
            Op::Rule(rule) if is_exact(rule) => {
                outputs.insert(node.key(), applied(rule, &operands));
                node.clone()
            }
            Op::Project(slot) => match outputs.get(&node.operands[0].key()) {
                Some(outputs) => outputs[*slot].clone(),
                None => on(&node, operands),
            },
            Op::Detach | Op::Inspect(_) => operands[0].clone(),
            _ => on(&node, operands),
        };
        image.insert(node.key(), new);
    }
    roots.iter().map(|root| image[&root.key()].clone()).collect()
}

/// The outputs of a rule on operands, with no rule inside.
pub(super) fn applied(rule: &TracedRule, operands: &[Arc<Node>]) -> Vec<Arc<Node>> {
    let bare = expand(rule.outputs.clone()).roots;
    let map = rule.parameters.iter().map(Node::identity).zip(operands.iter().cloned()).collect();
    substitute(&bare, &map)
}

fn on(node: &Arc<Node>, operands: Vec<Arc<Node>>) -> Arc<Node> {
    if operands.iter().zip(&node.operands).all(|(a, b)| Arc::ptr_eq(a, b)) {
        node.clone()
    } else {
        node.with_operands(operands)
    }
}
