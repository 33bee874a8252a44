//! The walk over a graph that both evaluators share: iterative, each node once, values freed after their last use.
//!
//! A custom rule is evaluated as a graph of its own, on an explicit stack of frames: neither a deep graph nor deeply
//! nested rules recurse.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::node::topological_until;
use crate::{Code, Error, Node, Op, Token, placeholder_error};

/// What a node computes, in some domain of values.
pub(crate) trait Meaning {
    /// The domain.
    type Value;
    /// The value of a node from those of its operands. Rules, projections, identities and tokens never arrive here.
    fn compute(&self, node: &Node, operands: &[&Self::Value]) -> Result<Self::Value, Error>;
    /// The value given to an input, a variable or a placeholder.
    fn bound(&self, node: &Node, token: &Token) -> Result<Self::Value, Error>;
}

/// The error of a token without a value.
pub(crate) fn unbound(node: &Node, token: &Token) -> Error {
    if matches!(node.op, Op::Placeholder(_)) {
        return placeholder_error(node);
    }
    let kind = if matches!(node.op, Op::Variable(_)) { "variable" } else { "input" };
    Error::new(
        Code::Unbound,
        "reference",
        format!("{kind} `{}` ({} {}) has no value", token.name, node.dtype, node.shape),
    )
    .at(node.location)
    .hint(format!("give it one with `.bind(&{}, …)`", token.name))
}

/// One value, or the outputs of a rule.
enum Slot<V> {
    One(Rc<V>),
    Tuple(Vec<Rc<V>>),
}

/// A graph under evaluation: the user's, or the body of a rule.
struct Frame<V> {
    order: Vec<Arc<Node>>,
    next: usize,
    position: HashMap<*const Node, usize>,
    slots: Vec<Option<Slot<V>>>,
    /// Users of each node that are still to come; outputs count as one more.
    pending: Vec<usize>,
    outputs: Vec<Arc<Node>>,
    /// Values of the rule's parameters, by token.
    parameters: HashMap<u64, Rc<V>>,
}

impl<V> Frame<V> {
    fn new(
        outputs: &[Arc<Node>],
        parameters: HashMap<u64, Rc<V>>,
        given: &HashMap<*const Node, Rc<V>>,
    ) -> Self {
        let order = topological_until(outputs, |node| given.contains_key(&node.key()));
        let position: HashMap<_, _> = order.iter().enumerate().map(|(i, node)| (node.key(), i)).collect();
        let mut pending = vec![0; order.len()];
        let operands = order
            .iter()
            .filter(|node| !given.contains_key(&node.key()))
            .flat_map(|node| &node.operands)
            .chain(outputs);
        for node in operands {
            pending[position[&node.key()]] += 1;
        }
        let slots = order.iter().map(|_| None).collect();
        Frame { order, next: 0, position, slots, pending, outputs: outputs.to_vec(), parameters }
    }
    fn one(&self, node: &Arc<Node>) -> Result<&Rc<V>, Error> {
        match &self.slots[self.position[&node.key()]] {
            Some(Slot::One(value)) => Ok(value),
            Some(Slot::Tuple(_)) | None => Err(internal(node, "is used as one value")),
        }
    }
    /// Stores the value of the current node without using its operands.
    fn give(&mut self, slot: Slot<V>) {
        self.slots[self.next] = Some(slot);
        self.next += 1;
    }
    /// Stores the value of the current node and frees operands that it was the last to use.
    fn finish(&mut self, slot: Slot<V>) {
        let node = self.order[self.next].clone();
        self.give(slot);
        for operand in &node.operands {
            let position = self.position[&operand.key()];
            self.pending[position] -= 1;
            if self.pending[position] == 0 {
                self.slots[position] = None;
            }
        }
    }
}

fn internal(node: &Node, what: &str) -> Error {
    Error::new(Code::Internal, "reference", format!("`{}` {what}", node.name())).at(node.location)
}

/// Values of `outputs`, starting from `given` nodes, tokens and constants.
pub(crate) fn walk<M: Meaning>(
    meaning: &M,
    outputs: &[Arc<Node>],
    given: &HashMap<*const Node, Rc<M::Value>>,
) -> Result<Vec<Rc<M::Value>>, Error> {
    let mut frames = vec![Frame::new(outputs, HashMap::new(), given)];
    loop {
        let Some(frame) = frames.last_mut() else {
            return Err(Error::new(Code::Internal, "reference", "the walk lost its graph"));
        };
        let Some(node) = frame.order.get(frame.next).cloned() else {
            let values: Vec<_> =
                frame.outputs.iter().map(|o| frame.one(o).cloned()).collect::<Result<_, _>>()?;
            frames.pop();
            match frames.last_mut() {
                Some(outer) => outer.finish(Slot::Tuple(values)),
                None => return Ok(values),
            }
            continue;
        };
        match enter(meaning, frame, &node, given) {
            Ok(Entered::Given(value)) => frame.give(Slot::One(value)),
            Ok(Entered::Value(value)) => frame.finish(Slot::One(value)),
            Ok(Entered::Body(body)) => frames.push(body),
            Err(error) => return Err(in_rules(error, &frames)),
        }
    }
}

/// What the walk finds at a node.
enum Entered<V> {
    Given(Rc<V>),
    Value(Rc<V>),
    Body(Frame<V>),
}

/// Looks at a node: gives its value, or the body of a rule to be evaluated first.
#[expect(clippy::wildcard_enum_match_arm, reason = "a `Meaning` lists every operation")]
fn enter<M: Meaning>(
    meaning: &M,
    frame: &Frame<M::Value>,
    node: &Arc<Node>,
    given: &HashMap<*const Node, Rc<M::Value>>,
) -> Result<Entered<M::Value>, Error> {
    if let Some(value) = given.get(&node.key()) {
        return Ok(Entered::Given(value.clone()));
    }
    let value = match &node.op {
        Op::Rule(rule) => {
            let mut parameters = HashMap::new();
            for (parameter, operand) in rule.parameters.iter().zip(&node.operands) {
                if let Op::Placeholder(token) = &parameter.op {
                    parameters.insert(token.id, frame.one(operand)?.clone());
                }
            }
            return Ok(Entered::Body(Frame::new(&rule.outputs, parameters, given)));
        }
        Op::Project(index) => match &frame.slots[frame.position[&node.operands[0].key()]] {
            Some(Slot::Tuple(values)) => {
                values.get(*index).ok_or_else(|| internal(node, "names an output its rule lacks"))?.clone()
            }
            Some(Slot::One(_)) | None => return Err(internal(node, "needs a rule as operand")),
        },
        Op::Detach | Op::Inspect(_) | Op::After | Op::Reshape => frame.one(&node.operands[0])?.clone(),
        Op::Input(token) | Op::Variable(token) | Op::Placeholder(token) => {
            match frame.parameters.get(&token.id) {
                Some(value) => value.clone(),
                None => Rc::new(meaning.bound(node, token)?),
            }
        }
        _ => {
            let operands: Vec<&M::Value> =
                node.operands.iter().map(|o| frame.one(o).map(Rc::as_ref)).collect::<Result<_, _>>()?;
            Rc::new(meaning.compute(node, &operands)?)
        }
    };
    Ok(Entered::Value(value))
}

/// Says in which rules, from the inside out, an error happened.
fn in_rules<V>(error: Error, frames: &[Frame<V>]) -> Error {
    let Some((_, outer)) = frames.split_last() else { return error };
    outer.iter().rev().fold(error, |error, frame| {
        let node = &frame.order[frame.next];
        let at = node.location;
        error.within(format!(
            "in rule `{}`, applied at {}:{}:{}",
            node.name(),
            at.file(),
            at.line(),
            at.column()
        ))
    })
}
