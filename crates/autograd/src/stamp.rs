//! Where derivative nodes say they come from: the primal's line, and `d_eta` for the cotangent of `eta`.
//!
//! `#[track_caller]` inside tables and rules would name our own code. So the nodes that one rule application made are
//! rebuilt with the location of the node that was differentiated.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{DType, Node, Tensor};

use crate::guard::{Guarded, address};

/// Gives all nodes between `results` and the `known` ones the location `at`. Linear in the number of such nodes.
pub(crate) fn stamp(
    results: &mut [&mut Guarded],
    known: impl IntoIterator<Item = *const Node>,
    at: &'static Location<'static>,
) {
    let mut image: HashMap<*const Node, Option<Arc<Node>>> = known.into_iter().map(|k| (k, None)).collect();
    for result in results {
        result.value = stamped(&result.value, &mut image, at);
        for literal in &mut result.guard {
            literal.condition = stamped(&literal.condition, &mut image, at);
        }
    }
}

/// The value with its guard applied, at the line of `primal`.
pub(crate) fn masked_at(contribution: &Guarded, primal: &Node) -> Tensor {
    let mut masked = Guarded::plain(contribution.masked());
    stamp(&mut [&mut masked], brought(contribution), primal.location);
    masked.value
}

/// A tensor without operands, at the line of `primal`.
pub(crate) fn source_at(mut source: Guarded, primal: &Node) -> Guarded {
    stamp(&mut [&mut source], [], primal.location);
    source
}

/// Conversion to an element type, at the line of `primal`.
pub(crate) fn cast_at(tensor: &Tensor, dtype: DType, primal: &Node) -> Tensor {
    let mut cast = Guarded::plain(tensor.cast(dtype));
    stamp(&mut [&mut cast], [address(tensor)], primal.location);
    cast.value
}

/// `image` maps a node to its rebuilt form, or to nothing if it stays.
fn stamped(
    tensor: &Tensor,
    image: &mut HashMap<*const Node, Option<Arc<Node>>>,
    at: &'static Location<'static>,
) -> Tensor {
    let Ok(root) = tensor.node() else { return tensor.clone() };
    let mut stack = vec![(root.clone(), false)];
    while let Some((node, operands_done)) = stack.pop() {
        if image.contains_key(&node.key()) {
            continue;
        }
        if !operands_done {
            stack.push((node.clone(), true));
            let fresh = node.operands.iter().filter(|o| !image.contains_key(&o.key()));
            stack.extend(fresh.map(|o| (o.clone(), false)));
            continue;
        }
        let of = |o: &Arc<Node>| image.get(&o.key()).cloned().flatten().unwrap_or_else(|| o.clone());
        let rebuilt = Node {
            op: node.op.clone(),
            operands: node.operands.iter().map(of).collect(),
            shape: node.shape,
            dtype: node.dtype,
            location: at,
            label: node.label.clone(),
        };
        image.insert(node.key(), Some(Arc::new(rebuilt)));
    }
    match image.get(&root.key()) {
        Some(Some(rebuilt)) => Tensor::from_node(rebuilt.clone()),
        _ => tensor.clone(),
    }
}

/// The nodes that a contribution brought along.
pub(crate) fn brought(contribution: &Guarded) -> impl Iterator<Item = *const Node> {
    let conditions = contribution.guard.iter().map(|l| address(&l.condition));
    std::iter::once(address(&contribution.value)).chain(conditions)
}

/// Names `tensor` as the derivative of `primal`, unless somebody else can see the node already.
pub(crate) fn labelled(tensor: Tensor, primal: &Node) -> Tensor {
    let (Some(label), Ok(node)) = (&primal.label, tensor.node()) else { return tensor };
    let mut node = node.clone();
    drop(tensor);
    if let Some(own) = Arc::get_mut(&mut node)
        && own.label.is_none()
    {
        own.label = Some(format!("d_{label}").into());
    }
    Tensor::from_node(node)
}
