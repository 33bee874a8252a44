//! What loops that stay loops hide from the other lints: a parameter that they compare with and compute nothing from, such as the target of
//! a bisection.

use cotangent_autograd::{State, check::unchecked, grad};
use cotangent_tensor::{Op, Tensor, topological};

use super::{Finding, Graph, Wanted};
use crate::lower::{Outside, Value};

pub(super) fn flat_parameters(graph: &Graph<'_>, wanted: &[Wanted], found: &mut Vec<Finding>) {
    let results: Vec<Tensor> = graph.results.iter().map(|&result| graph.scalars.tensor(result)).collect();
    let nodes = topological(results.iter().filter_map(|result| result.node().ok()));
    if !nodes.iter().any(|node| matches!(node.op, Op::While(..))) {
        return;
    }
    let Some(total) = results.into_iter().filter(|result| result.dtype().is_float()).reduce(|a, b| a + b)
    else {
        return;
    };
    for Wanted { name, span, scalars } in wanted {
        let is_input = |node: &usize| matches!(graph.scalars.outside(*node), Some(Outside::Input(position)) if scalars.contains(position));
        let inputs: Vec<Tensor> = (0..graph.scalars.len())
            .filter(is_input)
            .map(|node| graph.scalars.tensor(Value::Node(node)))
            .filter(|input| {
                input.node().is_ok_and(|input| nodes.iter().any(|node| node.identity() == input.identity()))
            })
            .collect();
        let Ok(gradients) = unchecked(|| grad(&total, &inputs)) else { continue };
        let is_flat = |state: &State| matches!(state, State::Zero | State::Unconnected);
        if !gradients.is_empty() && gradients.iter().all(|gradient| is_flat(gradient.state())) {
            let message = format!(
                "the gradient of `{name}` is zero everywhere: loops compare with it, and compute nothing from it"
            );
            let help = "differentiate what the loop solves: one Newton step from the detached result, or a rule for the function";
            found.push(Finding::new("LN1", message, help).at(*span, "this parameter"));
        }
    }
}
