//! One walk over the graph, operands first: what depends on an example gets a leading axis, all else stays.

use std::collections::HashMap;
use std::sync::Arc;

use cotangent_tensor::{AddressMap, Code, Error, Node, Op, Tensor, TracedRule, topological};

use super::led;
use super::operation::batched;
use super::rule::{Opened, applied};
use crate::stamp::relocated;

/// A node of the batched graph.
#[derive(Clone)]
pub(super) struct Image {
    pub(super) node: Arc<Node>,
    /// Whether it has the leading axis.
    pub(super) batched: bool,
}

impl Image {
    pub(super) fn tensor(&self) -> Tensor {
        Tensor::from_node(self.node.clone())
    }
    /// With the leading axis: repeated along it, if it has none.
    pub(super) fn spread(&self, size: usize) -> Result<Arc<Node>, Error> {
        if self.batched {
            return Ok(self.node.clone());
        }
        let repeated = self.tensor().broadcast_to(led(&self.node.shape, size)?);
        relocated(&repeated, [self.node.key()], self.node.location, &self.node.origin).node().cloned()
    }
}

/// What stands for which node, by [`Node::identity`].
pub(super) type Replacements = HashMap<*const (), Arc<Node>>;

/// Images of `roots`, with batched `replacements` for some nodes.
pub(super) fn sweep(
    roots: Vec<Arc<Node>>,
    replacements: Replacements,
    size: usize,
) -> Result<Vec<Image>, Error> {
    // The bodies of rules are graphs of their own: those that are open lie on a stack.
    let mut frames = vec![Frame::new(roots, replacements, None)];
    while let Some(mut frame) = frames.pop() {
        match frame.advance(size) {
            Ok(Some(opened)) => {
                frames.push(frame);
                frames.push(Frame::new(opened.roots(), opened.replacements(), Some(opened)));
            }
            Ok(None) => {
                let images = frame.roots.iter().map(|root| frame.images[&root.key()].clone()).collect();
                match (frame.opened, frames.last_mut()) {
                    (Some(opened), Some(outer)) => outer.closed = Some(opened.close(images, size)?),
                    (_, _) => return Ok(images),
                }
            }
            Err(error) => return Err(frames.iter().chain([&frame]).rev().fold(error, Frame::context)),
        }
    }
    Err(Error::new(Code::Internal, "batch", "the walk lost its graph"))
}

/// A graph that is being batched: the function, or the body of a rule in it.
struct Frame {
    roots: Vec<Arc<Node>>,
    order: Vec<Arc<Node>>,
    next: usize,
    images: AddressMap<Node, Image>,
    replacements: Replacements,
    /// The rule whose body this is.
    opened: Option<Opened>,
    /// The rule that the next node waits for.
    closed: Option<TracedRule>,
}

impl Frame {
    fn new(roots: Vec<Arc<Node>>, replacements: Replacements, opened: Option<Opened>) -> Frame {
        let order = topological(&roots);
        let images = AddressMap::default();
        Frame { roots, order, next: 0, images, replacements, opened, closed: None }
    }
    /// Goes on to the end, or to a rule whose body comes first.
    fn advance(&mut self, size: usize) -> Result<Option<Opened>, Error> {
        while let Some(node) = self.order.get(self.next) {
            let operands: Vec<Image> = node.operands.iter().map(|o| self.images[&o.key()].clone()).collect();
            let image = if let Some(replacement) = self.replacements.get(&node.identity()) {
                Image { node: replacement.clone(), batched: true }
            } else if !operands.iter().any(|operand| operand.batched) {
                Image { node: node.clone(), batched: false }
            } else if let Op::After = node.op {
                // What is waited for does not make a value one of each example.
                let of = operands.iter().map(|operand| operand.node.clone()).collect();
                Image { node: Node::after(of, node.location), batched: operands[0].batched }
            } else if let Op::Rule(rule) = &node.op {
                let Some(closed) = self.closed.take() else {
                    return Opened::new(rule, &operands, size).map(Some);
                };
                Image { node: applied(closed, node, operands, size)?, batched: true }
            } else {
                Image {
                    node: batched(node, &operands, size).map_err(|e| e.at(node.location))?,
                    batched: true,
                }
            };
            self.images.insert(node.key(), image);
            self.next += 1;
        }
        Ok(None)
    }
    /// Says in which rule an error happened.
    fn context(error: Error, frame: &Frame) -> Error {
        match &frame.opened {
            Some(opened) => error.within(format!("in rule `{}`", opened.name())),
            None => error,
        }
    }
}
