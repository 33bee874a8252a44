//! The graph of a loss as a picture, with values and gradients, in the language of Graphviz.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use cotangent_tensor::{AddressSet, Array, Error, Evaluate, Node, Op, Tensor, topological};

use crate::explain::flows;
use crate::pullback::Flow;
use crate::reverse::captures;
use crate::trace::numbers;
use crate::{Gradient, State, grad};

/// The graph behind a scalar `loss` in the language of Graphviz, every tensor with its shape, value and gradient: `dot -Tsvg`
/// draws it.
///
/// Tensors that the user named have their names; a rule is one box, whatever it consists of; what only broadcasts is left out; a
/// dashed edge passes no gradient on. At most some hundred nodes are readable.
///
/// Errors: those of [`grad`] and of the evaluator.
///
/// ```
/// use cotangent_autograd::to_dot;
/// use cotangent_tensor::{Reference, Tensor};
///
/// let w = Tensor::new([1.0, 2.0]).named("w");
/// let picture = to_dot(&(&w * &w).sum(..), &Reference::new())?;
/// assert!(picture.starts_with("digraph") && picture.contains("gradient [2, 4]"), "{picture}");
/// # Ok::<(), cotangent_tensor::Error>(())
/// ```
#[track_caller]
pub fn to_dot(loss: &Tensor, evaluator: &dyn Evaluate) -> Result<String, Error> {
    let root = loss.node()?;
    let order: Vec<Arc<Node>> = topological([root]).into_iter().filter(is_drawn).collect();
    let tensors: Vec<Tensor> = order.iter().map(|node| Tensor::from_node(node.clone())).collect();
    // A constant that a rule has captured has no gradient that could be asked for.
    let whole = topological([root]);
    let mut wanted: AddressSet<()> =
        order.iter().filter(|node| node.dtype.is_float()).map(Node::identity).collect();
    loop {
        let captured = captures(&whole, &wanted);
        if captured.is_empty() {
            break;
        }
        for node in captured.values() {
            wanted.remove(&node.1.identity());
        }
    }
    let is_wanted = |node: &Arc<Node>| wanted.contains(&node.identity());
    let asked = order.iter().zip(&tensors).filter(|(node, _)| is_wanted(node));
    let floats: Vec<&Tensor> = asked.map(|(_, tensor)| tensor).collect();
    let gradients: Vec<Gradient> = grad(loss, &floats)?;
    let asked: Vec<&Tensor> = tensors.iter().chain(gradients.iter().filter_map(Gradient::value)).collect();
    let mut arrays = evaluator.evaluate(&asked)?.into_iter();
    let values: Vec<Array> = arrays.by_ref().take(tensors.len()).collect();
    let mut found = gradients.iter();
    let mut picture = "digraph gradient {\n  rankdir = LR;\n  node [shape = box, style = rounded, fontname = \"monospace\"];\n"
        .to_owned();
    let number: HashMap<*const Node, usize> = order.iter().enumerate().map(|(i, n)| (n.key(), i)).collect();
    let mut open = vec![false; order.len()];
    for (position, (node, value)) in order.iter().zip(&values).enumerate() {
        let gradient = is_wanted(node).then(|| found.next()).flatten();
        let told = match gradient.map(Gradient::state) {
            Some(State::Value(_)) => {
                open[position] = true;
                arrays.next().map(|array| format!("gradient {}", numbers(&array)))
            }
            Some(state) => Some(format!("gradient: {}", state.name())),
            None => None,
        };
        let mut lines = vec![heading(node), format!("{} {}", node.dtype, node.shape), numbers(value)];
        lines.extend(told);
        let style = if node.operands.is_empty() { ", style = filled, fillcolor = \"#eef3f8\"" } else { "" };
        let text = lines.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("\\n");
        // Writing to a string does not fail.
        let _ = writeln!(picture, "  n{position} [label = \"{text}\"{style}];");
    }
    for (position, node) in order.iter().enumerate() {
        for (operand, passes) in operands(node) {
            let Some(&from) = number.get(&operand.key()) else { continue };
            let style = if passes && open[position] { "" } else { " [style = dashed, color = gray]" };
            let _ = writeln!(picture, "  n{from} -> n{position}{style};");
        }
    }
    picture.push_str("}\n");
    Ok(picture)
}

/// Whether a node has a box of its own.
fn is_drawn(node: &Arc<Node>) -> bool {
    !matches!(node.op, Op::Broadcast | Op::Rule(_) | Op::Inspect(_))
}

/// What a node is drawn to depend on, and whether it passes a gradient there. What is left out stands for its operands.
fn operands(node: &Arc<Node>) -> Vec<(Arc<Node>, bool)> {
    let mut drawn = Vec::new();
    let mut stack = vec![(node.clone(), true)];
    while let Some((node, open)) = stack.pop() {
        let mut found = Vec::new();
        for (operand, flow) in node.operands.iter().zip(flows(&node)) {
            let passes = open && matches!(flow, Flow::Value(_));
            match is_drawn(operand) {
                true => drawn.push((operand.clone(), passes)),
                false => found.push((operand.clone(), passes)),
            }
        }
        stack.extend(found.into_iter().rev());
    }
    drawn
}

fn heading(node: &Node) -> String {
    let operation = match &node.op {
        Op::Project(_) => format!("rule {}", node.operands[0].name()),
        _ => node.name().to_owned(),
    };
    match node.given_name() {
        Some(name) if name == operation || node.operands.is_empty() => name.to_owned(),
        Some(name) => format!("{name} = {operation}"),
        None => operation,
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
