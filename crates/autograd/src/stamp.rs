//! Where derivative nodes say they come from: the primal's line, and `d_eta` for the cotangent of `eta`.
//!
//! `#[track_caller]` inside tables and rules would name our own code. So the nodes that one rule application made are
//! rebuilt with the location of the node that was differentiated.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use cotangent_tensor::{DType, Label, Node, Origin, Shape, Tensor};

use crate::guard::{Guarded, address};

/// Gives all nodes between `results` and the `known` ones the location of `primal`, and its origin, differentiated. Linear in
/// the number of such nodes.
pub(crate) fn stamp(
    results: &mut [&mut Guarded],
    known: impl IntoIterator<Item = *const Node>,
    primal: &Node,
) {
    let origin = primal.origin.differentiated();
    let mut image = Images::default();
    known.into_iter().for_each(|node| image.insert(node, None));
    for result in results {
        result.value = stamped(&result.value, &mut image, primal.location, &origin);
        for literal in &mut result.guard {
            literal.condition = stamped(&literal.condition, &mut image, primal.location, &origin);
        }
    }
}

/// A tensor with all nodes between it and the `known` ones at another line, of another origin.
pub(crate) fn relocated(
    tensor: &Tensor,
    known: impl IntoIterator<Item = *const Node>,
    at: &'static Location<'static>,
    origin: &Origin,
) -> Tensor {
    let mut image = Images::default();
    known.into_iter().for_each(|node| image.insert(node, None));
    stamped(tensor, &mut image, at, origin)
}

/// The value with its guard applied, at the line of `primal`.
pub(crate) fn masked_at(contribution: &Guarded, primal: &Node) -> Tensor {
    relocated(&contribution.masked(), brought(contribution), primal.location, &primal.origin.differentiated())
}

/// A tensor without operands, at the line of `primal`.
pub(crate) fn source_at(mut source: Guarded, primal: &Node) -> Guarded {
    stamp(&mut [&mut source], [], primal);
    source
}

/// Zeros of an element type, at a line.
pub(crate) fn zeros_at(shape: Shape, dtype: DType, at: &'static Location<'static>) -> Tensor {
    relocated(&Tensor::zeros(shape).cast(dtype), [], at, &Origin::default().differentiated())
}

/// Conversion to an element type, at the line of `primal`.
pub(crate) fn cast_at(tensor: &Tensor, dtype: DType, primal: &Node) -> Tensor {
    relocated(&tensor.cast(dtype), [address(tensor)], primal.location, &primal.origin.differentiated())
}

/// Nodes and their rebuilt forms; nothing for nodes that stay. One rule makes a handful of nodes, so they are searched
/// in order before they are hashed.
#[derive(Default)]
struct Images {
    few: Vec<(*const Node, Option<Arc<Node>>)>,
    many: HashMap<*const Node, Option<Arc<Node>>>,
}

impl Images {
    fn get(&self, node: *const Node) -> Option<&Option<Arc<Node>>> {
        self.few
            .iter()
            .find(|(key, _)| *key == node)
            .map(|(_, image)| image)
            .or_else(|| if self.many.is_empty() { None } else { self.many.get(&node) })
    }
    fn insert(&mut self, node: *const Node, image: Option<Arc<Node>>) {
        if self.few.len() < 24 {
            self.few.push((node, image));
        } else {
            self.many.insert(node, image);
        }
    }
}

fn stamped(tensor: &Tensor, images: &mut Images, at: &'static Location<'static>, origin: &Origin) -> Tensor {
    let Ok(root) = tensor.node() else { return tensor.clone() };
    let mut stack = vec![(root, false)];
    while let Some((node, operands_done)) = stack.pop() {
        if images.get(node.key()).is_some() {
            continue;
        }
        if !operands_done {
            stack.push((node, true));
            stack.extend(node.operands.iter().map(|o| (o, false)));
            continue;
        }
        let of = |o: &Arc<Node>| images.get(o.key()).cloned().flatten().unwrap_or_else(|| o.clone());
        let operands: Vec<Arc<Node>> = node.operands.iter().map(of).collect();
        let Origin { order, again, .. } = Origin::of(&operands);
        let order = origin.order.max(order);
        let rebuilt = Node {
            op: node.op.clone(),
            operands,
            shape: node.shape,
            dtype: node.dtype,
            location: at,
            label: node.label.as_ref().map(Label::detached),
            origin: Origin { order, rule: origin.rule.clone(), again },
        };
        images.insert(node.key(), Some(Arc::new(rebuilt)));
    }
    match images.get(root.key()) {
        Some(Some(rebuilt)) => Tensor::from_node(rebuilt.clone()),
        Some(None) | None => tensor.clone(),
    }
}

/// The nodes that a contribution brought along: its value and its conditions, and what the conditions are made of, since
/// a sum looks through a broadcast.
pub(crate) fn brought(contribution: &Guarded) -> impl Iterator<Item = *const Node> {
    let conditions = contribution.guard.iter().filter_map(|l| l.condition.node().ok());
    let with_operands = |node: &Arc<Node>| {
        std::iter::once(node.key()).chain(node.operands.iter().map(Node::key)).collect::<Vec<_>>()
    };
    std::iter::once(address(&contribution.value))
        .chain(conditions.flat_map(with_operands).collect::<Vec<_>>())
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
